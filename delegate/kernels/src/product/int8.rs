//! Int8 weights for int8 activations.

use std::ops::Range;

use super::{Columns, Form, Layout, Packed, Segments, Store, for_tiles, tile_i8};
use crate::geometry::{ConvGeometry, Run, Window};
use crate::{Isa, OutputStage, portable};
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

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
    pub(super) fn new(
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

    pub(super) fn window<'a>(
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
pub(super) fn column_sums(weights: &[i8], depth: usize) -> Vec<i32> {
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
