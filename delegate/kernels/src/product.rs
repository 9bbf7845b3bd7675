//! Packed weights of a product, and the loop over its tiles. A product multiplies runs of pixels (rows) with columns of
//! weights; each set of inner loops has a micro-kernel for a tile of a few pixels and one block of columns.

use std::ops::Range;

use crate::aligned::Aligned;
use crate::geometry::Window;
use crate::{Isa, OutputStage, portable};
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

/// How int8 activations are stored in scratch for the micro-kernel: always 4 bytes to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Four elements as `u8 = i8 ^ 0x80`.
    Biased,
    /// Two elements as little-endian i16.
    Wide,
}

impl Form {
    /// Bytes to an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::Biased => 1,
            Self::Wide => 2,
        }
    }

    /// Elements in a group.
    pub fn group(self) -> usize {
        4 / self.bytes()
    }

    /// What is added to an element to store it.
    pub fn shift(self) -> i32 {
        match self {
            Self::Biased => 128,
            Self::Wide => 0,
        }
    }

    /// Stores `source`, which has the length of `target` in elements.
    pub fn convert(self, isa: Isa, source: &[i8], target: &mut [u8]) {
        match (self, isa) {
            #[cfg(target_arch = "x86_64")]
            (Self::Biased, Isa::Avx512(token)) => avx512::store_biased(token, source, target),
            #[cfg(target_arch = "x86_64")]
            (Self::Wide, Isa::Avx2(token)) => avx2::store_wide(token, source, target),
            (Self::Biased, _) => portable::store_biased(source, target),
            (Self::Wide, _) => portable::store_wide(source, target),
        }
    }

    /// Stores `zero_point` everywhere.
    pub fn fill(self, zero_point: i8, target: &mut [u8]) {
        match self {
            Self::Biased => target.fill(zero_point as u8 ^ 0x80),
            Self::Wide => {
                target
                    .chunks_exact_mut(2)
                    .for_each(|pair| pair.copy_from_slice(&i16::from(zero_point).to_le_bytes()));
            }
        }
    }
}

/// The contiguous runs of elements that a pixel's depth of summation is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segments {
    /// Segments `Window::row` apart.
    pub rows: usize,
    /// Segments `Window::column` apart, in each row.
    pub columns: usize,
    /// Elements of each.
    pub len: usize,
}

impl Segments {
    /// Elements in all segments.
    pub fn depth(&self) -> usize {
        self.rows * self.columns * self.len
    }

    /// Rows and columns, for [`Window::check`].
    pub fn taps(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }
}

/// Tile of a micro-kernel: at most `rows` pixels by `width` columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub rows: usize,
    pub width: usize,
}

/// Tile for int8 products with `n` columns, and the form of activations.
fn tile_i8(isa: Isa, n: usize) -> (Tile, Form) {
    match isa {
        Isa::Portable => (portable::TILE_I8, Form::Wide),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => (avx2::TILE_I8, Form::Wide),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => (avx512::tile_i8(n), Form::Biased),
    }
}

/// Tile for float32 products with `n` columns.
fn tile_f32(isa: Isa, n: usize) -> Tile {
    match isa {
        Isa::Portable => portable::TILE_F32,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => avx2::TILE_F32,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => avx512::tile_f32(n),
    }
}

/// Int8 weights in the order that a set's micro-kernel reads them.
///
/// The input's zero point is folded into the bias, so that the micro-kernel multiplies stored activations as they are.
pub(crate) struct PackedI8 {
    pub isa: Isa,
    pub tile: Tile,
    pub form: Form,
    pub segments: Segments,
    /// Columns.
    pub n: usize,
    /// Block of `tile.width` columns, segment, group, position, element; zeros fill up segments and blocks.
    pub weights: Aligned<i8>,
    /// Block, position.
    pub bias: Vec<i32>,
    /// In the order of `bias`.
    pub stage: OutputStage,
}

impl PackedI8 {
    /// Packs `weights`, `n` rows of `segments.depth()`; `stage` is a broadcast one of `n` columns.
    pub fn new(
        isa: Isa,
        weights: &[i8],
        segments: Segments,
        bias: Option<&[i32]>,
        input_zero_point: i8,
        stage: &OutputStage,
        n: usize,
    ) -> Self {
        let (tile, form) = tile_i8(isa, n);
        let (depth, group) = (segments.depth(), form.group());
        assert_eq!(weights.len(), n * depth, "weights do not match the shapes");
        assert!(
            bias.is_none_or(|bias| bias.len() == n),
            "bias does not match the columns"
        );
        let padded = n.next_multiple_of(tile.width);
        let groups = segments.len.div_ceil(group);
        let block_len = segments.rows * segments.columns * groups * tile.width * group;
        let mut packed = vec![0; padded / tile.width * block_len];
        let mut packed_bias = vec![0; padded];
        for (column, weights) in weights.chunks_exact(depth).enumerate() {
            let (block, position) = (
                column / tile.width,
                position(isa, tile.width, column % tile.width),
            );
            for (index, &weight) in weights.iter().enumerate() {
                let (segment, element) = (index / segments.len, index % segments.len);
                let step = segment * groups + element / group;
                packed[block * block_len
                    + (step * tile.width + position) * group
                    + element % group] = weight;
            }
            let sum = weights
                .iter()
                .fold(0i32, |sum, &weight| sum.wrapping_add(i32::from(weight)));
            packed_bias[block * tile.width + position] = bias
                .map_or(0, |bias| bias[column])
                .wrapping_sub(sum.wrapping_mul(i32::from(input_zero_point) + form.shift()));
        }
        let mut order = vec![None; padded];
        for column in 0..n {
            order[column / tile.width * tile.width
                + position(isa, tile.width, column % tile.width)] = Some(column);
        }
        let stage = stage.select(padded, |i| order[i]);
        Self {
            isa,
            tile,
            form,
            segments,
            n,
            weights: packed.into(),
            bias: packed_bias,
            stage,
        }
    }

    /// Groups in a segment.
    pub fn groups(&self) -> usize {
        self.segments.len.div_ceil(self.form.group())
    }

    /// Weights of a block.
    pub fn block(&self, block: usize) -> &[i8] {
        let len = self.weights.len() / self.blocks();
        &self.weights[block * len..][..len]
    }

    /// Number of blocks of columns.
    pub fn blocks(&self) -> usize {
        self.bias.len() / self.tile.width
    }

    /// Columns that exist in a block.
    pub fn block_columns(&self, block: usize) -> usize {
        self.tile.width.min(self.n - block * self.tile.width)
    }

    /// Where column `column` of a block is in it.
    pub fn position(&self, column: usize) -> usize {
        position(self.isa, self.tile.width, column)
    }

    /// Multiplies `pixels` pixels of `window` with the columns of `blocks`. `output` starts at the first pixel's first such
    /// column; the next pixel's is `pitch` further.
    pub fn multiply(
        &self,
        window: &Window<u8>,
        pixels: usize,
        blocks: Range<usize>,
        output: &mut [i8],
        pitch: usize,
    ) {
        window.check(pixels, self.segments.taps(), self.groups() * 4);
        for block in blocks.clone() {
            let output = &mut output[(block - blocks.start) * self.tile.width..];
            for (first, rows) in tiles(pixels, self.tile.rows) {
                let (window, output) = (window.skip(first), &mut output[first * pitch..]);
                match self.isa {
                    Isa::Portable => {
                        portable::product_i8(self, &window, rows, block, output, pitch)
                    }
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2(token) => {
                        avx2::product_i8(token, self, &window, rows, block, output, pitch)
                    }
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512(token) => {
                        avx512::product_i8(token, self, &window, rows, block, output, pitch)
                    }
                }
            }
        }
    }
}

/// Where a block of `width` columns has its column `column`. Narrowing interleaves the lanes of vectors; the order undoes that
/// where all vectors of a block are narrowed into one.
fn position(isa: Isa, width: usize, column: usize) -> usize {
    match isa {
        Isa::Portable => column,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => interleaved_position(2, width / 8, column),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) if width == 64 => interleaved_position(4, 4, column),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => column,
    }
}

/// Position of column `column` among the int32 of `vectors` vectors of `lanes` 128-bit lanes, so that narrowing them with
/// `packs` leaves the columns in order.
pub(crate) fn interleaved_position(lanes: usize, vectors: usize, column: usize) -> usize {
    let per_lane = 4 * vectors;
    let (lane, vector, element) = (column / per_lane, column % per_lane / 4, column % 4);
    (vector * lanes + lane) * 4 + element
}

/// Float32 weights in the order that a set's micro-kernel reads them.
pub(crate) struct PackedF32 {
    pub isa: Isa,
    pub tile: Tile,
    pub segments: Segments,
    /// Columns.
    pub n: usize,
    /// Block of `tile.width` columns, depth, column.
    pub weights: Aligned<f32>,
    /// Block, column.
    pub bias: Vec<f32>,
    /// Smallest and largest output.
    pub clamp: (f32, f32),
}

impl PackedF32 {
    /// Packs `weights`, `n` rows of `segments.depth()`.
    pub fn new(
        isa: Isa,
        weights: &[f32],
        segments: Segments,
        bias: Option<&[f32]>,
        clamp: (f32, f32),
        n: usize,
    ) -> Self {
        assert!(clamp.0 <= clamp.1, "clamp from {} to {}", clamp.0, clamp.1);
        let tile = tile_f32(isa, n);
        let depth = segments.depth();
        assert_eq!(weights.len(), n * depth, "weights do not match the shapes");
        assert!(
            bias.is_none_or(|bias| bias.len() == n),
            "bias does not match the columns"
        );
        let padded = n.next_multiple_of(tile.width);
        let mut packed = vec![0.0; padded * depth];
        let mut packed_bias = vec![0.0; padded];
        for (column, weights) in weights.chunks_exact(depth).enumerate() {
            let (block, position) = (column / tile.width, column % tile.width);
            for (index, &weight) in weights.iter().enumerate() {
                packed[(block * depth + index) * tile.width + position] = weight;
            }
            packed_bias[column] = bias.map_or(0.0, |bias| bias[column]);
        }
        Self {
            isa,
            tile,
            segments,
            n,
            weights: packed.into(),
            bias: packed_bias,
            clamp,
        }
    }

    /// Weights of a block.
    pub fn block(&self, block: usize) -> &[f32] {
        let len = self.segments.depth() * self.tile.width;
        &self.weights[block * len..][..len]
    }

    /// Number of blocks of columns.
    pub fn blocks(&self) -> usize {
        self.bias.len() / self.tile.width
    }

    /// Columns that exist in a block.
    pub fn block_columns(&self, block: usize) -> usize {
        self.tile.width.min(self.n - block * self.tile.width)
    }

    /// As [`PackedI8::multiply`].
    pub fn multiply(
        &self,
        window: &Window<f32>,
        pixels: usize,
        blocks: Range<usize>,
        output: &mut [f32],
        pitch: usize,
    ) {
        window.check(pixels, self.segments.taps(), self.segments.len);
        for block in blocks.clone() {
            let output = &mut output[(block - blocks.start) * self.tile.width..];
            for (first, rows) in tiles(pixels, self.tile.rows) {
                let (window, output) = (window.skip(first), &mut output[first * pitch..]);
                match self.isa {
                    Isa::Portable => {
                        portable::product_f32(self, &window, rows, block, output, pitch)
                    }
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2(token) => {
                        avx2::product_f32(token, self, &window, rows, block, output, pitch)
                    }
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512(token) => {
                        avx512::product_f32(token, self, &window, rows, block, output, pitch)
                    }
                }
            }
        }
    }
}

/// Divides `pixels` into as few tiles of at most `limit` as possible, of nearly equal size: first pixel and count of each.
fn tiles(pixels: usize, limit: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = pixels.div_ceil(limit);
    (0..count).map(move |tile| {
        let first = tile * pixels / count;
        (first, (tile + 1) * pixels / count - first)
    })
}
