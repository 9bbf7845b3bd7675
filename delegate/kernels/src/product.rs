//! Packed weights of a product, and the loop over its tiles. A product multiplies runs of pixels (rows) with columns of
//! weights; each set of inner loops has a micro-kernel for a tile of a few pixels and one block of columns. Here is what all
//! products share; how the weights of each type are packed is in a file of its own.

mod float32;
mod hybrid;
mod int16;
mod int8;

pub(crate) use float32::PackedF32;
pub(crate) use hybrid::{HybridColumns, PackedHybrid, PixelScales};
pub(crate) use int8::{PackedI8, SumsI8};
pub(crate) use int16::{PackedI16, SAFE_MAGNITUDE};

use std::ops::{Deref, Range};

use crate::aligned::Aligned;
use crate::geometry::{ConvGeometry, Run, Window};
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

/// The columns of `output` that vector `vector` of `width` columns holds; fewer, or none, at its end.
///
/// For loops over all vectors of a tile: one over the chunks of `output` would be of a length that the compiler does not know,
/// which keeps accumulators out of registers.
#[inline(always)]
pub(crate) fn columns_of<T>(output: &mut [T], width: usize, vector: usize) -> &mut [T] {
    let len = output.len();
    &mut output[(vector * width).min(len)..((vector + 1) * width).min(len)]
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

/// Tile for products of int16 with `n` columns of int8.
fn tile_i16(isa: Isa, n: usize) -> Tile {
    match isa {
        Isa::Portable => portable::TILE_I8,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => avx2::TILE_I8,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => avx512::tile_i16(n),
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

/// In which order packed weights are: block of `tile.width` columns, segment, group, position, element of the group. Zeros fill
/// up segments and blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub isa: Isa,
    pub tile: Tile,
    pub segments: Segments,
    /// Elements of the depth that are summed at a time.
    pub group: usize,
    /// Columns.
    pub n: usize,
    /// Whether columns are ordered so that narrowing vectors of sums to int8 undoes it.
    pub interleaved: bool,
}

impl Layout {
    /// Groups in a segment.
    pub fn groups(&self) -> usize {
        self.segments.len.div_ceil(self.group)
    }

    /// Number of blocks of columns.
    pub fn blocks(&self) -> usize {
        self.n.div_ceil(self.tile.width)
    }

    /// Columns of all blocks, those that only fill up included.
    pub fn columns(&self) -> usize {
        self.blocks() * self.tile.width
    }

    /// Columns that exist in a block.
    pub fn block_columns(&self, block: usize) -> usize {
        self.tile.width.min(self.n - block * self.tile.width)
    }

    /// Weights of a block.
    pub fn block_len(&self) -> usize {
        self.segments.rows * self.segments.columns * self.groups() * self.tile.width * self.group
    }

    /// Where column `column` of a block is in it.
    pub fn position(&self, column: usize) -> usize {
        match self.isa {
            _ if !self.interleaved => column,
            Isa::Portable => column,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => interleaved_position(2, self.tile.width / 8, column),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) if self.tile.width == 64 => interleaved_position(4, 4, column),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => column,
        }
    }

    /// The place of column `column` among those of all blocks.
    pub fn place(&self, column: usize) -> usize {
        let width = self.tile.width;
        column / width * width + self.position(column % width)
    }

    /// One entry for each place: that of its column, or the default where there is none.
    pub fn arrange<T: Clone + Default>(&self, entry: impl Fn(usize) -> T) -> Vec<T> {
        let mut entries = vec![T::default(); self.columns()];
        (0..self.n).for_each(|column| entries[self.place(column)] = entry(column));
        entries
    }

    /// The stage with its columns in their places.
    fn stage(&self, stage: &OutputStage) -> OutputStage {
        let order = self.arrange(Some);
        stage.select(order.len(), |place| order[place])
    }

    /// Packs `weights` into `target`, which has the length of all blocks.
    pub fn pack<T: Copy + Default>(&self, weights: &Columns<'_, T>, target: &mut [T]) {
        let (width, group, groups) = (self.tile.width, self.group, self.groups());
        target.fill(T::default());
        for (block, target) in target.chunks_exact_mut(self.block_len()).enumerate() {
            for column in 0..self.block_columns(block) {
                let position = self.position(column);
                for segment in 0..self.segments.rows * self.segments.columns {
                    let first = segment * self.segments.len;
                    for element in 0..self.segments.len {
                        let step = segment * groups + element / group;
                        target[(step * width + position) * group + element % group] =
                            weights.get(block * width + column, first + element);
                    }
                }
            }
        }
    }

    /// A new vector of packed weights.
    fn packed<T: Copy + Default>(&self, weights: &Columns<'_, T>) -> Aligned<T> {
        let mut target = vec![T::default(); self.blocks() * self.block_len()];
        self.pack(weights, &mut target);
        target.into()
    }

    /// # Panics
    /// If the number of weights or of entries of a bias is another.
    fn check(&self, weights: usize, bias: Option<usize>) {
        assert_eq!(
            weights,
            self.n * self.segments.depth(),
            "weights do not match the shapes"
        );
        assert!(
            bias.is_none_or(|len| len == self.n),
            "bias does not match the columns"
        );
    }
}

/// Columns of weights as they are stored: element `i` of column `j` is at `j * column + i * element`.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a, T> {
    pub data: &'a [T],
    pub column: usize,
    pub element: usize,
}

impl<'a, T: Copy> Columns<'a, T> {
    /// Columns of `depth` neighbouring elements.
    pub fn contiguous(data: &'a [T], depth: usize) -> Self {
        Self {
            data,
            column: depth,
            element: 1,
        }
    }

    pub fn get(&self, column: usize, element: usize) -> T {
        self.data[column * self.column + element * self.element]
    }
}

/// Packed data: its own, or in memory that is lent for one run.
pub(crate) enum Store<'a, T> {
    Owned(Aligned<T>),
    Lent(&'a [T]),
}

impl<T> Deref for Store<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Owned(data) => data,
            Self::Lent(data) => data,
        }
    }
}

/// Packed weights, and what becomes of the sums.
pub(crate) trait Packed: Sync {
    /// An element of the activations.
    type Input: Copy + Sync;
    /// An element of the window that the micro-kernel reads.
    type Stored: Copy + Send;
    /// An element of the result.
    type Output: Send;
    /// What is known of the activations only when they are there.
    type Rows<'r>: Copy + Sync;

    /// Multiply-adds that take as long as one of int8, relative to one of these.
    const WORK: usize;
    /// Whether pixels that read padding are better apart from those that do not.
    const SPLIT_EDGES: bool;

    /// The order of the weights.
    fn layout(&self) -> &Layout;

    /// Stored elements for an element of the activations.
    fn stored(&self) -> usize {
        1
    }

    /// The window of `run`: in place, or copied to `scratch`.
    fn window<'a>(
        &self,
        geometry: &ConvGeometry,
        run: Run,
        input: &'a [Self::Input],
        rows: Self::Rows<'_>,
        scratch: &'a mut [Self::Stored],
    ) -> Window<'a, Self::Stored>;

    /// Multiplies the pixels `pixels` (counted over the whole result) of `window` with the columns of `blocks`. `output` starts
    /// at the first pixel's first such column; the next pixel's is `pitch` further.
    fn multiply(
        &self,
        window: &Window<'_, Self::Stored>,
        pixels: Range<usize>,
        rows: Self::Rows<'_>,
        blocks: Range<usize>,
        output: &mut [Self::Output],
        pitch: usize,
    );
}

/// Calls `tile(window, rows, block, output)` for all tiles of a product.
fn for_tiles<S, O>(
    layout: &Layout,
    window: &Window<'_, S>,
    pixels: usize,
    blocks: Range<usize>,
    output: &mut [O],
    pitch: usize,
    tile: impl Fn(&Window<'_, S>, usize, usize, &mut [O]),
) {
    for block in blocks.clone() {
        let output = &mut output[(block - blocks.start) * layout.tile.width..];
        for (first, rows) in tiles(pixels, layout.tile.rows) {
            tile(
                &window.skip(first),
                rows,
                block,
                &mut output[first * pitch..],
            );
        }
    }
}

/// The window of `run` where it is, if it `may_stay` there and reads no padding, which is 0; else copied.
fn plain_window<'a, T: Copy + Default>(
    geometry: &ConvGeometry,
    run: Run,
    input: &'a [T],
    may_stay: bool,
    scratch: &'a mut [T],
) -> Window<'a, T> {
    let in_place = geometry.window_in_place(run, input);
    in_place.filter(|_| may_stay).unwrap_or_else(|| {
        geometry.copy_window(
            run,
            input,
            1,
            scratch,
            |source, target| target.copy_from_slice(source),
            |target| target.fill(T::default()),
        )
    })
}

/// Position of column `column` among the int32 of `vectors` vectors of `lanes` 128-bit lanes, so that narrowing them with
/// `packs` leaves the columns in order.
pub(crate) fn interleaved_position(lanes: usize, vectors: usize, column: usize) -> usize {
    let per_lane = 4 * vectors;
    let (lane, vector, element) = (column / per_lane, column % per_lane / 4, column % 4);
    (vector * lanes + lane) * 4 + element
}

/// Divides `pixels` into as few tiles of at most `limit` as possible, of nearly equal size: first pixel and count of each.
fn tiles(pixels: usize, limit: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = pixels.div_ceil(limit);
    (0..count).map(move |tile| {
        let first = tile * pixels / count;
        (first, (tile + 1) * pixels / count - first)
    })
}
