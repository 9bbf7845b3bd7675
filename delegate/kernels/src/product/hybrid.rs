//! Int8 weights for float activations that are quantized as they come.

use std::ops::Range;

use super::int8::column_sums;
use super::{Layout, Packed, Segments, SumsI8};
use crate::geometry::{ConvGeometry, Run, Window};
use crate::hybrid::{RowScale, RowScales, Scaling};
use crate::{Isa, portable};
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

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
