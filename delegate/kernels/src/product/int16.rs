//! Int8 weights for int16 activations.

use std::ops::Range;

use super::{Columns, Layout, Packed, Segments, for_tiles, plain_window, tile_i16};
use crate::aligned::Aligned;
use crate::geometry::{ConvGeometry, Run, Window};
use crate::requantize::{Requantize, WideMultiplier};
use crate::{Isa, OutputStage, portable};
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

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
