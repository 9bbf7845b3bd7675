//! Float weights.

use std::ops::Range;

use super::{Columns, Layout, Packed, Segments, Store, for_tiles, plain_window, tile_f32};
use crate::geometry::{ConvGeometry, Run, Window};
use crate::{Isa, portable};
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

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
