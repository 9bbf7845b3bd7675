//! Packed weights of a product, and the loop over its tiles. A product multiplies runs of pixels (rows) with columns of
//! weights; each set of inner loops has a micro-kernel for a tile of a few pixels and one block of columns.

use std::ops::{Deref, Range};

use crate::aligned::Aligned;
use crate::geometry::{ConvGeometry, Run, Window};
use crate::hybrid::{RowScale, RowScales, Scaling};
use crate::requantize::{Requantize, WideMultiplier};
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

/// Int8 weights, and what int32 sums start from.
pub(crate) struct SumsI8<'w> {
    pub layout: Layout,
    pub form: Form,
    pub weights: Store<'w, i8>,
    /// By place.
    pub bias: Store<'w, i32>,
}

impl<'w> SumsI8<'w> {
    /// The order of weights for `n` columns, and the form of activations.
    pub fn layout(isa: Isa, segments: Segments, n: usize, interleaved: bool) -> (Layout, Form) {
        let (tile, form) = tile_i8(isa, n);
        let layout = Layout {
            isa,
            tile,
            segments,
            group: form.group(),
            n,
            interleaved,
        };
        (layout, form)
    }

    /// Packs `weights` and `bias` (by column) so that stored activations are multiplied as they are: `input_zero_point`, and what
    /// is added to store them, are subtracted beforehand.
    fn new(
        (layout, form): (Layout, Form),
        weights: &[i8],
        bias: Option<&[i32]>,
        input_zero_point: i32,
    ) -> Self {
        layout.check(weights.len(), bias.map(<[i32]>::len));
        let sums = column_sums(weights, layout.segments.depth());
        let bias = layout.arrange(|column| {
            let bias = bias.map_or(0, |bias| bias[column]);
            bias.wrapping_sub(sums[column].wrapping_mul(input_zero_point + form.shift()))
        });
        let columns = Columns::contiguous(weights, layout.segments.depth());
        Self {
            layout,
            form,
            weights: Store::Owned(layout.packed(&columns)),
            bias: Store::Owned(bias.into()),
        }
    }

    /// Weights of a block.
    pub fn block(&self, block: usize) -> &[i8] {
        let len = self.layout.block_len();
        &self.weights[block * len..][..len]
    }

    fn window<'a>(
        &self,
        geometry: &ConvGeometry,
        run: Run,
        input: &[i8],
        zero_point: i8,
        scratch: &'a mut [u8],
    ) -> Window<'a, u8> {
        geometry.copy_window(
            run,
            input,
            self.form.bytes(),
            scratch,
            |source, target| self.form.convert(self.layout.isa, source, target),
            |target| self.form.fill(zero_point, target),
        )
    }

    /// As [`Packed::multiply`]: the sums themselves, which are the bits of the floats in `output`. The layout is not interleaved.
    pub fn accumulate(
        &self,
        window: &Window<'_, u8>,
        pixels: usize,
        blocks: Range<usize>,
        output: &mut [f32],
        pitch: usize,
    ) {
        let layout = &self.layout;
        for_tiles(
            layout,
            window,
            pixels,
            blocks,
            output,
            pitch,
            |window, rows, block, output| match layout.isa {
                Isa::Portable => portable::sums_i8(self, window, rows, block, output, pitch),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2(token) => avx2::sums_i8(token, self, window, rows, block, output, pitch),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512(token) => {
                    avx512::sums_i8(token, self, window, rows, block, output, pitch)
                }
            },
        );
    }
}

/// The sum of each column of `depth` neighbouring weights.
fn column_sums(weights: &[i8], depth: usize) -> Vec<i32> {
    let sum = |column: &[i8]| {
        column
            .iter()
            .fold(0i32, |sum, &weight| sum.wrapping_add(i32::from(weight)))
    };
    weights.chunks_exact(depth).map(sum).collect()
}

/// Int8 weights for int8 activations and results.
pub(crate) struct PackedI8 {
    pub sums: SumsI8<'static>,
    /// By place.
    pub stage: OutputStage,
    input_zero_point: i8,
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
        let (layout, form) = SumsI8::layout(isa, segments, n, true);
        Self {
            stage: layout.stage(stage),
            sums: SumsI8::new((layout, form), weights, bias, input_zero_point.into()),
            input_zero_point,
        }
    }
}

impl Packed for PackedI8 {
    type Input = i8;
    type Stored = u8;
    type Output = i8;
    type Rows<'r> = ();

    const WORK: usize = 1;
    const SPLIT_EDGES: bool = false;

    fn layout(&self) -> &Layout {
        &self.sums.layout
    }

    fn stored(&self) -> usize {
        self.sums.form.bytes()
    }

    fn window<'a>(
        &self,
        geometry: &ConvGeometry,
        run: Run,
        input: &'a [i8],
        (): (),
        scratch: &'a mut [u8],
    ) -> Window<'a, u8> {
        self.sums
            .window(geometry, run, input, self.input_zero_point, scratch)
    }

    fn multiply(
        &self,
        window: &Window<'_, u8>,
        pixels: Range<usize>,
        (): (),
        blocks: Range<usize>,
        output: &mut [i8],
        pitch: usize,
    ) {
        for_tiles(
            self.layout(),
            window,
            pixels.len(),
            blocks,
            output,
            pitch,
            |window, rows, block, output| match self.layout().isa {
                Isa::Portable => portable::product_i8(self, window, rows, block, output, pitch),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2(token) => {
                    avx2::product_i8(token, self, window, rows, block, output, pitch)
                }
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512(token) => {
                    avx512::product_i8(token, self, window, rows, block, output, pitch)
                }
            },
        );
    }
}

/// Int8 weights for activations that are quantized when they are there, and float32 results.
pub(crate) struct PackedHybrid {
    sums: SumsI8<'static>,
    /// Of each column: the sum of its weights, their scale, and the bias.
    columns: HybridColumns,
    clamp: (f32, f32),
}

/// What turns sums into float32, by column.
pub(crate) struct HybridColumns {
    pub sum: Vec<i32>,
    pub scale: Vec<f32>,
    pub bias: Vec<f32>,
    pub scaling: Scaling,
}

/// The scales of all rows; `pixels` neighbouring pixels of the result share one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PixelScales<'r> {
    pub rows: RowScales<'r>,
    pub pixels: usize,
}

impl PixelScales<'_> {
    fn of(&self, pixel: usize) -> RowScale {
        self.rows.of(pixel / self.pixels)
    }
}

impl PackedHybrid {
    /// Packs `weights`, as many rows of `segments.depth()` as `scale` and `bias` have entries.
    pub fn new(
        isa: Isa,
        weights: &[i8],
        segments: Segments,
        scale: &[f32],
        bias: Option<&[f32]>,
        scaling: Scaling,
        clamp: (f32, f32),
    ) -> Self {
        let n = scale.len();
        assert!(clamp.0 <= clamp.1, "clamp from {} to {}", clamp.0, clamp.1);
        assert_eq!(
            weights.len(),
            n * segments.depth(),
            "scales do not match the columns"
        );
        assert!(
            bias.is_none_or(|bias| bias.len() == n),
            "bias does not match the columns"
        );
        Self {
            sums: SumsI8::new(SumsI8::layout(isa, segments, n, false), weights, None, 0),
            columns: HybridColumns {
                sum: column_sums(weights, segments.depth()),
                scale: scale.to_vec(),
                bias: bias.map_or_else(|| vec![0.0; n], <[f32]>::to_vec),
                scaling,
            },
            clamp,
        }
    }
}

impl Packed for PackedHybrid {
    type Input = i8;
    type Stored = u8;
    type Output = f32;
    type Rows<'r> = PixelScales<'r>;

    const WORK: usize = 1;
    const SPLIT_EDGES: bool = false;

    fn layout(&self) -> &Layout {
        &self.sums.layout
    }

    fn stored(&self) -> usize {
        self.sums.form.bytes()
    }

    fn window<'a>(
        &self,
        geometry: &ConvGeometry,
        run: Run,
        input: &'a [i8],
        rows: PixelScales<'_>,
        scratch: &'a mut [u8],
    ) -> Window<'a, u8> {
        let zero_point = rows.of(geometry.pixel(run)).zero_point as i8;
        self.sums.window(geometry, run, input, zero_point, scratch)
    }

    fn multiply(
        &self,
        window: &Window<'_, u8>,
        pixels: Range<usize>,
        rows: PixelScales<'_>,
        blocks: Range<usize>,
        output: &mut [f32],
        pitch: usize,
    ) {
        let layout = self.layout();
        self.sums
            .accumulate(window, pixels.len(), blocks.clone(), output, pitch);
        let first = blocks.start * layout.tile.width;
        let columns = first..(blocks.end * layout.tile.width).min(layout.n);
        for (pixel, output) in pixels.zip(output.chunks_mut(pitch)) {
            let output = &mut output[..columns.len()];
            let row = rows.of(pixel);
            match layout.isa {
                Isa::Portable => {
                    portable::scale_sums(&self.columns, first, row, self.clamp, output)
                }
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2(token) => {
                    avx2::scale_sums(token, &self.columns, first, row, self.clamp, output)
                }
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512(token) => {
                    avx512::scale_sums(token, &self.columns, first, row, self.clamp, output)
                }
            }
        }
    }
}

/// Int8 weights for int16 activations and results: partial sums in int32, the whole in int64.
pub(crate) struct PackedI16 {
    pub layout: Layout,
    pub weights: Aligned<i8>,
    /// By place.
    pub bias: Aligned<i64>,
    /// By place.
    pub stage: OutputStage,
    /// The stage for vectors, if it is a [`Requantize::Wide`].
    pub wide: Option<WideMultiplier>,
    /// Groups after which int32 sums might overflow.
    pub drain: usize,
}

/// Sums of so many products of an int16 and an int8, in pairs, fit int32.
const SAFE_GROUPS: usize = 255;

/// No sum of products with weights of at most this sum of magnitudes exceeds int32.
pub(crate) const SAFE_MAGNITUDE: u64 = (i32::MAX / 32768) as u64;

impl PackedI16 {
    /// As [`PackedI8::new`], with a bias that starts from int64; the zero point is 0.
    pub fn new(
        isa: Isa,
        weights: &[i8],
        segments: Segments,
        bias: Option<&[i64]>,
        stage: &OutputStage,
        n: usize,
    ) -> Self {
        let layout = Layout {
            isa,
            tile: tile_i16(isa, n),
            segments,
            group: 2,
            n,
            interleaved: match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2(_) => true,
                _ => false,
            },
        };
        layout.check(weights.len(), bias.map(<[i64]>::len));
        let depth = segments.depth();
        let stage = layout.stage(stage);
        let magnitude = |column: &[i8]| column.iter().map(|&w| u64::from(w.unsigned_abs())).sum();
        let is_safe = weights
            .chunks_exact(depth)
            .map(magnitude)
            .all(|sum: u64| sum <= SAFE_MAGNITUDE);
        Self {
            layout,
            weights: layout.packed(&Columns::contiguous(weights, depth)),
            bias: layout
                .arrange(|column| bias.map_or(0, |bias| bias[column]))
                .into(),
            wide: match &stage.requantize {
                Requantize::Wide { multiplier } => WideMultiplier::new(multiplier),
                _ => None,
            },
            stage,
            drain: if is_safe { usize::MAX } else { SAFE_GROUPS },
        }
    }

    /// Weights of a block.
    pub fn block(&self, block: usize) -> &[i8] {
        let len = self.layout.block_len();
        &self.weights[block * len..][..len]
    }
}

impl Packed for PackedI16 {
    type Input = i16;
    type Stored = i16;
    type Output = i16;
    type Rows<'r> = ();

    const WORK: usize = 2;
    const SPLIT_EDGES: bool = true;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn window<'a>(
        &self,
        geometry: &ConvGeometry,
        run: Run,
        input: &'a [i16],
        (): (),
        scratch: &'a mut [i16],
    ) -> Window<'a, i16> {
        let is_whole = self.layout.segments.len.is_multiple_of(self.layout.group);
        plain_window(geometry, run, input, is_whole, scratch)
    }

    fn multiply(
        &self,
        window: &Window<'_, i16>,
        pixels: Range<usize>,
        (): (),
        blocks: Range<usize>,
        output: &mut [i16],
        pitch: usize,
    ) {
        for_tiles(
            &self.layout,
            window,
            pixels.len(),
            blocks,
            output,
            pitch,
            |window, rows, block, output| match self.layout.isa {
                Isa::Portable => portable::product_i16(self, window, rows, block, output, pitch),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2(token) => {
                    avx2::product_i16(token, self, window, rows, block, output, pitch)
                }
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512(token) => {
                    avx512::product_i16(token, self, window, rows, block, output, pitch)
                }
            },
        );
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

/// Float32 weights.
pub(crate) struct PackedF32<'w> {
    pub layout: Layout,
    pub weights: Store<'w, f32>,
    /// By place.
    pub bias: Store<'w, f32>,
    /// Smallest and largest output.
    pub clamp: (f32, f32),
}

impl PackedF32<'_> {
    /// The order of weights for `n` columns.
    pub fn layout(isa: Isa, segments: Segments, n: usize) -> Layout {
        Layout {
            isa,
            tile: tile_f32(isa, n),
            segments,
            group: 1,
            n,
            interleaved: false,
        }
    }

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
        let layout = Self::layout(isa, segments, n);
        layout.check(weights.len(), bias.map(<[f32]>::len));
        let bias = layout.arrange(|column| bias.map_or(0.0, |bias| bias[column]));
        let columns = Columns::contiguous(weights, segments.depth());
        Self {
            layout,
            weights: Store::Owned(layout.packed(&columns)),
            bias: Store::Owned(bias.into()),
            clamp,
        }
    }

    /// Weights of a block.
    pub fn block(&self, block: usize) -> &[f32] {
        let len = self.layout.block_len();
        &self.weights[block * len..][..len]
    }
}

impl Packed for PackedF32<'_> {
    type Input = f32;
    type Stored = f32;
    type Output = f32;
    type Rows<'r> = ();

    const WORK: usize = 4;
    const SPLIT_EDGES: bool = true;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn window<'a>(
        &self,
        geometry: &ConvGeometry,
        run: Run,
        input: &'a [f32],
        (): (),
        scratch: &'a mut [f32],
    ) -> Window<'a, f32> {
        plain_window(geometry, run, input, true, scratch)
    }

    fn multiply(
        &self,
        window: &Window<'_, f32>,
        pixels: Range<usize>,
        (): (),
        blocks: Range<usize>,
        output: &mut [f32],
        pitch: usize,
    ) {
        for_tiles(
            &self.layout,
            window,
            pixels.len(),
            blocks,
            output,
            pitch,
            |window, rows, block, output| match self.layout.isa {
                Isa::Portable => portable::product_f32(self, window, rows, block, output, pitch),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2(token) => {
                    avx2::product_f32(token, self, window, rows, block, output, pitch)
                }
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512(token) => {
                    avx512::product_f32(token, self, window, rows, block, output, pitch)
                }
            },
        );
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
