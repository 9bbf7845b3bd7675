//! Products (FULLY_CONNECTED, 1x1 convolutions) and convolutions of any filter size. A run of output pixels of one row is a
//! product whose rows overlap in memory: the micro-kernel walks over the filter's rows in place, so nothing is unfolded. Int8
//! activations and padded edges are copied to scratch first; float32 and int16 are read where they are.

use std::ops::Range;

use crate::geometry::{ConvGeometry, Run};
use crate::hybrid::{RowScales, Scaling};
use crate::product::{Packed, PackedF32, PackedHybrid, PackedI8, PackedI16, PixelScales, Segments};
use crate::{Isa, OutputStage, parallel};

/// Scratch that stays in the first-level cache beside a block of weights, in bytes.
const SCRATCH_BYTES: usize = 16 << 10;

/// Elements that a micro-kernel may read past a segment.
const SLACK: usize = 4;

/// A convolution with packed weights, one for each group.
struct Conv<P> {
    geometry: ConvGeometry,
    groups: Vec<P>,
}

/// Segments of a filter: whole rows where the input has them in one piece.
fn segments(geometry: &ConvGeometry) -> Segments {
    let depth = geometry.in_depth / geometry.groups;
    if geometry.groups == 1 && geometry.dilation_w == 1 {
        Segments {
            rows: geometry.filter_h,
            columns: 1,
            len: geometry.filter_w * depth,
        }
    } else {
        Segments {
            rows: geometry.filter_h,
            columns: geometry.filter_w,
            len: depth,
        }
    }
}

impl<P: Packed> Conv<P> {
    /// Packs each group with `pack(columns, weights, segments)`, `columns` being those of the group.
    ///
    /// # Panics
    /// If lengths do not match the geometry, a size is 0, or `groups` does not divide both depths.
    fn new<W>(
        geometry: ConvGeometry,
        weights: &[W],
        pack: impl Fn(Range<usize>, &[W], Segments) -> P,
    ) -> Self {
        check(&geometry);
        let geometry = geometry.flattened();
        let segments = segments(&geometry);
        let n = geometry.out_depth / geometry.groups;
        assert_eq!(
            weights.len(),
            geometry.out_depth * segments.depth(),
            "weights do not match the shapes"
        );
        let groups = weights
            .chunks_exact(n * segments.depth())
            .enumerate()
            .map(|(group, weights)| pack(group * n..(group + 1) * n, weights, segments))
            .collect();
        Self { geometry, groups }
    }

    fn scratch_len(&self, threads: usize) -> usize {
        let limit = self.run_limit().min(self.geometry.out_w);
        threads.max(1) * (self.geometry.window_len(limit, self.groups[0].stored()) + SLACK)
    }

    /// The largest multiple of a tile's pixels whose window fits the scratch that is meant to stay in cache; at least one tile.
    fn run_limit(&self) -> usize {
        let (geometry, packed) = (&self.geometry, &self.groups[0]);
        let element = packed.stored() * size_of::<P::Stored>();
        let columns = SCRATCH_BYTES / (geometry.filter_h * geometry.in_depth * element).max(1);
        let extent = (geometry.filter_w - 1) * geometry.dilation_w;
        let pixels = columns.saturating_sub(extent) / geometry.stride_w;
        let tile = packed.layout().tile.rows;
        (pixels / tile).max(1) * tile
    }

    /// # Panics
    /// If a length does not match the geometry, or `scratch` is shorter than [`Self::scratch_len`].
    fn run(
        &self,
        geometry: &ConvGeometry,
        input: &[P::Input],
        rows: P::Rows<'_>,
        output: &mut [P::Output],
        scratch: &mut [P::Stored],
        threads: usize,
    ) {
        assert_eq!(
            input.len(),
            geometry.input_len(),
            "input does not match the geometry"
        );
        assert_eq!(
            output.len(),
            geometry.output_len(),
            "output does not match the geometry"
        );
        assert!(
            scratch.len() >= self.scratch_len(threads),
            "scratch is too short"
        );
        let layout = self.groups[0].layout();
        let (pixels, depth) = (geometry.pixels(), geometry.out_depth);
        let work = output.len() * layout.segments.depth() * P::WORK;
        let part = |pixels: Range<usize>,
                    blocks: Option<Range<usize>>,
                    output: &mut [P::Output],
                    scratch: &mut [P::Stored]| {
            let mut output = output;
            for run in geometry.runs(pixels, self.run_limit(), P::SPLIT_EDGES) {
                let (these, rest) = output.split_at_mut((run.len * depth).min(output.len()));
                self.run_pixels(geometry, run, blocks.clone(), input, rows, these, scratch);
                output = rest;
            }
        };
        if pixels == 1 && self.groups.len() == 1 {
            let blocks = 0..layout.blocks();
            let parts = parallel::parts(layout.isa, threads, blocks.len(), work);
            parallel::split_rows(
                parts,
                blocks,
                layout.tile.width,
                output,
                scratch,
                &|blocks, output, scratch| {
                    part(0..1, Some(blocks), output, scratch);
                },
            );
        } else {
            let parts = parallel::parts(layout.isa, threads, pixels, work);
            parallel::split_rows(
                parts,
                0..pixels,
                depth,
                output,
                scratch,
                &|pixels, output, scratch| {
                    part(pixels, None, output, scratch);
                },
            );
        }
    }

    #[allow(clippy::too_many_arguments, reason = "what a run is made of")]
    fn run_pixels(
        &self,
        geometry: &ConvGeometry,
        run: Run,
        blocks: Option<Range<usize>>,
        input: &[P::Input],
        rows: P::Rows<'_>,
        output: &mut [P::Output],
        scratch: &mut [P::Stored],
    ) {
        let first = geometry.pixel(run);
        let mut window = self.groups[0].window(geometry, run, input, rows, scratch);
        for (group, packed) in self.groups.iter().enumerate() {
            let layout = packed.layout();
            let read = layout.groups() * layout.group * packed.stored();
            window.check(run.len, layout.segments.taps(), read);
            let blocks = blocks.clone().unwrap_or(0..layout.blocks());
            packed.multiply(
                &window,
                first..first + run.len,
                rows,
                blocks,
                &mut output[group * layout.n..],
                geometry.out_depth,
            );
            window.offset += geometry.in_depth / geometry.groups * packed.stored();
        }
    }

    /// The geometry of a product with `rows` rows.
    fn product(&self, rows: usize) -> ConvGeometry {
        ConvGeometry {
            in_w: rows,
            out_w: rows,
            ..self.geometry
        }
    }
}

/// # Panics
/// If a size is 0 or `groups` does not divide both depths.
fn check(geometry: &ConvGeometry) {
    let sizes = [
        geometry.filter_h,
        geometry.filter_w,
        geometry.stride_h,
        geometry.stride_w,
        geometry.dilation_h,
    ];
    let more = [
        geometry.dilation_w,
        geometry.groups,
        geometry.in_depth,
        geometry.out_depth,
        geometry.out_w,
    ];
    assert!(
        sizes.iter().chain(&more).all(|&size| size > 0),
        "a size is 0: {geometry:?}"
    );
    let divides = geometry.in_depth.is_multiple_of(geometry.groups)
        && geometry.out_depth.is_multiple_of(geometry.groups);
    assert!(divides, "groups do not divide the depths: {geometry:?}");
}

/// An int8 convolution with packed weights.
pub struct ConvI8(Conv<PackedI8>);

impl ConvI8 {
    /// Packs `weights` (`OHWI`, symmetric) and `bias` (one for each output channel).
    ///
    /// # Panics
    /// If lengths do not match the geometry, a size is 0, or `groups` does not divide both depths.
    pub fn new(
        isa: Isa,
        geometry: ConvGeometry,
        weights: &[i8],
        bias: Option<&[i32]>,
        input_zero_point: i8,
        stage: OutputStage,
    ) -> Self {
        let stage = stage.for_i8().broadcast(geometry.out_depth);
        Self(Conv::new(
            geometry,
            weights,
            |columns, weights, segments| {
                let bias = bias.map(|bias| &bias[columns.clone()]);
                let n = columns.len();
                let stage = stage.select(n, |column| Some(columns.start + column));
                PackedI8::new(isa, weights, segments, bias, input_zero_point, &stage, n)
            },
        ))
    }

    /// Bytes of scratch that [`Self::run`] needs for `threads` threads.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.0.scratch_len(threads)
    }

    /// Computes `output` from `input`, both NHWC.
    ///
    /// # Panics
    /// If a length does not match the geometry, or `scratch` is shorter than [`Self::scratch_len`].
    pub fn run(&self, input: &[i8], output: &mut [i8], scratch: &mut [u8], threads: usize) {
        self.0
            .run(&self.0.geometry, input, (), output, scratch, threads);
    }
}

/// A convolution of int16 activations, whose zero point is 0, with packed int8 weights.
pub struct ConvI16(Conv<PackedI16>);

impl ConvI16 {
    /// Packs `weights` (`OHWI`, symmetric) and `bias` (one for each output channel).
    ///
    /// # Panics
    /// As [`ConvI8::new`].
    pub fn new(
        isa: Isa,
        geometry: ConvGeometry,
        weights: &[i8],
        bias: Option<&[i64]>,
        stage: OutputStage,
    ) -> Self {
        let stage = stage.for_i16().broadcast(geometry.out_depth);
        Self(Conv::new(
            geometry,
            weights,
            |columns, weights, segments| {
                let bias = bias.map(|bias| &bias[columns.clone()]);
                let n = columns.len();
                let stage = stage.select(n, |column| Some(columns.start + column));
                PackedI16::new(isa, weights, segments, bias, &stage, n)
            },
        ))
    }

    /// Elements of scratch that [`Self::run`] needs for `threads` threads.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.0.scratch_len(threads)
    }

    /// Computes `output` from `input`, both NHWC.
    ///
    /// # Panics
    /// If a length does not match the geometry, or `scratch` is shorter than [`Self::scratch_len`].
    pub fn run(&self, input: &[i16], output: &mut [i16], scratch: &mut [i16], threads: usize) {
        self.0
            .run(&self.0.geometry, input, (), output, scratch, threads);
    }
}

/// A convolution with packed int8 weights, of activations that were quantized by [`crate::hybrid::quantize_rows`], to float32.
pub struct ConvHybrid(Conv<PackedHybrid>);

impl ConvHybrid {
    /// Packs `weights` (`OHWI`, symmetric), their `scale` and `bias` (one for each output channel). Outputs are clamped to
    /// `clamp`; a NaN stays.
    ///
    /// # Panics
    /// As [`ConvF32::new`].
    pub fn new(
        isa: Isa,
        geometry: ConvGeometry,
        weights: &[i8],
        scale: &[f32],
        bias: Option<&[f32]>,
        scaling: Scaling,
        clamp: (f32, f32),
    ) -> Self {
        Self(Conv::new(
            geometry,
            weights,
            |columns, weights, segments| {
                let bias = bias.map(|bias| &bias[columns.clone()]);
                let scale = &scale[columns];
                PackedHybrid::new(isa, weights, segments, scale, bias, scaling, clamp)
            },
        ))
    }

    /// Bytes of scratch that [`Self::run`] needs for `threads` threads.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.0.scratch_len(threads)
    }

    /// Computes `output` from `input`, both NHWC; `rows` are the scales of as many equal parts of the input, each a whole number
    /// of images, or of rows of a product.
    ///
    /// # Panics
    /// If a length does not match the geometry, or `scratch` is shorter than [`Self::scratch_len`].
    pub fn run(
        &self,
        input: &[i8],
        rows: RowScales<'_>,
        output: &mut [f32],
        scratch: &mut [u8],
        threads: usize,
    ) {
        let geometry = &self.0.geometry;
        let count = rows.scale.len();
        assert!(
            count > 0 && geometry.pixels().is_multiple_of(count),
            "{count} rows do not divide the pixels"
        );
        let rows = PixelScales {
            rows,
            pixels: geometry.pixels() / count,
        };
        self.0.run(geometry, input, rows, output, scratch, threads);
    }
}

/// A float32 convolution with packed weights.
pub struct ConvF32(Conv<PackedF32<'static>>);

impl ConvF32 {
    /// Packs `weights` (`OHWI`) and `bias` (one for each output channel). Outputs are clamped to `clamp`; a NaN stays.
    ///
    /// # Panics
    /// As [`ConvI8::new`], or if `clamp` is empty.
    pub fn new(
        isa: Isa,
        geometry: ConvGeometry,
        weights: &[f32],
        bias: Option<&[f32]>,
        clamp: (f32, f32),
    ) -> Self {
        Self(Conv::new(
            geometry,
            weights,
            |columns, weights, segments| {
                let bias = bias.map(|bias| &bias[columns.clone()]);
                PackedF32::new(isa, weights, segments, bias, clamp, columns.len())
            },
        ))
    }

    /// Elements of scratch that [`Self::run`] needs for `threads` threads.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.0.scratch_len(threads)
    }

    /// Computes `output` from `input`, both NHWC.
    ///
    /// # Panics
    /// If a length does not match the geometry, or `scratch` is shorter than [`Self::scratch_len`].
    pub fn run(&self, input: &[f32], output: &mut [f32], scratch: &mut [f32], threads: usize) {
        self.0
            .run(&self.0.geometry, input, (), output, scratch, threads);
    }
}

/// An int8 product with packed weights: FULLY_CONNECTED.
pub struct ProductI8(ConvI8);

impl ProductI8 {
    /// Packs `weights` (`n` rows of `k`, symmetric) and `bias` (`n`).
    ///
    /// # Panics
    /// If lengths do not match, or `k` or `n` is 0.
    pub fn new(
        isa: Isa,
        (n, k): (usize, usize),
        weights: &[i8],
        bias: Option<&[i32]>,
        input_zero_point: i8,
        stage: OutputStage,
    ) -> Self {
        Self(ConvI8::new(
            isa,
            ConvGeometry::product(usize::MAX, k, n),
            weights,
            bias,
            input_zero_point,
            stage,
        ))
    }

    /// Bytes of scratch that [`Self::run`] needs for `threads` threads, for any number of rows.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.0.scratch_len(threads)
    }

    /// Computes `output` (`rows` rows of `n`) from `input` (`rows` rows of `k`).
    ///
    /// # Panics
    /// If a length does not match, or `scratch` is shorter than [`Self::scratch_len`].
    pub fn run(
        &self,
        rows: usize,
        input: &[i8],
        output: &mut [i8],
        scratch: &mut [u8],
        threads: usize,
    ) {
        let conv = &self.0.0;
        conv.run(&conv.product(rows), input, (), output, scratch, threads);
    }
}

/// A float32 product with packed weights: FULLY_CONNECTED.
pub struct ProductF32(ConvF32);

impl ProductF32 {
    /// Packs `weights` (`n` rows of `k`) and `bias` (`n`). Outputs are clamped to `clamp`; a NaN stays.
    ///
    /// # Panics
    /// If lengths do not match, `k` or `n` is 0, or `clamp` is empty.
    pub fn new(
        isa: Isa,
        (n, k): (usize, usize),
        weights: &[f32],
        bias: Option<&[f32]>,
        clamp: (f32, f32),
    ) -> Self {
        Self(ConvF32::new(
            isa,
            ConvGeometry::product(usize::MAX, k, n),
            weights,
            bias,
            clamp,
        ))
    }

    /// Elements of scratch that [`Self::run`] needs for `threads` threads, for any number of rows.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.0.scratch_len(threads)
    }

    /// Computes `output` (`rows` rows of `n`) from `input` (`rows` rows of `k`).
    ///
    /// # Panics
    /// If a length does not match, or `scratch` is shorter than [`Self::scratch_len`].
    pub fn run(
        &self,
        rows: usize,
        input: &[f32],
        output: &mut [f32],
        scratch: &mut [f32],
        threads: usize,
    ) {
        let conv = &self.0.0;
        conv.run(&conv.product(rows), input, (), output, scratch, threads);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requantize::{Requantize, quantize_multiplier};
    use crate::testing::{Random, assert_close, direct, geometry, in_pool};

    fn geometries() -> Vec<ConvGeometry> {
        vec![
            geometry((1, 7, 7, 64), (1, 1, 64), (1, 1, 0, 1)),
            geometry((2, 5, 9, 17), (1, 1, 33), (1, 1, 0, 1)),
            geometry((1, 9, 7, 5), (1, 1, 130), (2, 1, 0, 1)),
            geometry((1, 11, 30, 3), (3, 3, 32), (2, 1, 1, 1)),
            geometry((2, 6, 40, 16), (3, 3, 48), (1, 1, 1, 1)),
            geometry((1, 9, 9, 6), (3, 2, 20), (1, 2, 2, 1)),
            geometry((1, 8, 8, 12), (3, 3, 18), (1, 1, 1, 3)),
            geometry((1, 5, 6, 1), (5, 5, 8), (1, 1, 2, 1)),
            geometry((1, 2, 2, 2), (5, 4, 3), (3, 1, 3, 1)),
            geometry((1, 1, 1, 301), (1, 1, 257), (1, 1, 0, 1)),
            geometry((1, 7, 3, 96), (1, 1, 24), (1, 1, 0, 1)),
            geometry((1, 1, 23, 40), (1, 1, 192), (1, 1, 0, 1)),
        ]
    }

    #[test]
    fn int8_convolutions_equal_the_direct_sum_in_every_set() {
        in_pool(|| {
            let mut random = Random(1);
            for geometry in geometries() {
                let depth =
                    geometry.filter_h * geometry.filter_w * geometry.in_depth / geometry.groups;
                let input = random.i8s(geometry.input_len());
                let weights = random.i8s(geometry.out_depth * depth);
                let bias = random.i32s(geometry.out_depth);
                let sums = direct(&geometry, false, 0i32, |sum, input_index, weight| {
                    *sum += (i32::from(input[input_index]) + 9) * i32::from(weights[weight]);
                });
                for stage in random.stages(depth, geometry.out_depth) {
                    let column = |i| i % geometry.out_depth;
                    let outputs = sums.iter().enumerate();
                    let expected: Vec<i8> = outputs
                        .map(|(i, &sum)| stage.apply(column(i), sum + bias[column(i)]))
                        .collect();
                    for (isa, threads) in Isa::all()
                        .into_iter()
                        .flat_map(|isa| [(isa, 1), (isa, 2), (isa, 3)])
                    {
                        let conv =
                            ConvI8::new(isa, geometry, &weights, Some(&bias), -9, stage.clone());
                        let mut output = vec![0; geometry.output_len()];
                        let mut scratch = vec![0xa5; conv.scratch_len(threads)];
                        conv.run(&input, &mut output, &mut scratch, threads);
                        assert!(
                            output == expected,
                            "{isa:?}, {threads} threads, {stage:?}, {geometry:?}"
                        );
                    }
                }
            }
        });
    }

    #[test]
    fn int16_convolutions_equal_the_direct_sum_in_every_set() {
        in_pool(|| {
            let mut random = Random(7);
            let deep = geometry((1, 3, 3, 700), (1, 1, 70), (1, 1, 0, 1));
            for geometry in geometries().into_iter().chain([deep]) {
                let depth =
                    geometry.filter_h * geometry.filter_w * geometry.in_depth / geometry.groups;
                // Every other column of weights is -128, with inputs of -32768: the sums that overflow soonest.
                let mut input = random.i16s(geometry.input_len());
                input[..geometry.in_depth].fill(i16::MIN);
                let mut weights = random.i8s(geometry.out_depth * depth);
                let columns = weights.chunks_exact_mut(depth).step_by(2);
                columns.for_each(|column| column.fill(i8::MIN));
                let bias = random.i64s(geometry.out_depth);
                let sums = direct(&geometry, false, 0i64, |sum, input_index, weight| {
                    *sum += i64::from(input[input_index]) * i64::from(weights[weight]);
                });
                for stage in random.stages_i16(depth, geometry.out_depth) {
                    let column = |i| i % geometry.out_depth;
                    let outputs = sums.iter().enumerate();
                    let expected: Vec<i16> = outputs
                        .map(|(i, &sum)| stage.apply_i16(column(i), sum + bias[column(i)]))
                        .collect();
                    for isa in Isa::all() {
                        let conv =
                            ConvI16::new(isa, geometry, &weights, Some(&bias), stage.clone());
                        for threads in [1, 3] {
                            let mut output = vec![0; geometry.output_len()];
                            let mut scratch = vec![0x5a5a; conv.scratch_len(threads)];
                            conv.run(&input, &mut output, &mut scratch, threads);
                            assert!(
                                output == expected,
                                "{isa:?}, {threads} threads, {stage:?}, {geometry:?}"
                            );
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn hybrid_convolutions_equal_the_direct_sum_in_every_set() {
        in_pool(|| {
            let mut random = Random(8);
            for geometry in geometries() {
                let depth =
                    geometry.filter_h * geometry.filter_w * geometry.in_depth / geometry.groups;
                let input = random.i8s(geometry.input_len());
                let weights = random.i8s(geometry.out_depth * depth);
                let (scale, bias) = (
                    random.f32s(geometry.out_depth),
                    random.f32s(geometry.out_depth),
                );
                let rows = RowScales {
                    scale: &[1e-4, 2e-4][..geometry.batch],
                    zero_point: &[7, -13][..geometry.batch],
                };
                let row = |i: usize| rows.of(i * geometry.batch / geometry.output_len());
                let per_image = geometry.input_len() / geometry.batch;
                let sums = direct(&geometry, false, 0i32, |sum, i, weight| {
                    let zero_point = rows.of(i / per_image).zero_point;
                    *sum += (i32::from(input[i]) - zero_point) * i32::from(weights[weight]);
                });
                let expected: Vec<f32> = sums
                    .iter()
                    .enumerate()
                    .map(|(i, &sum)| {
                        let column = i % geometry.out_depth;
                        Scaling::RowFirst
                            .apply(sum, row(i).scale, scale[column], bias[column])
                            .clamp(-1.5, 2.0)
                    })
                    .collect();
                for (isa, threads) in Isa::all().into_iter().flat_map(|isa| [(isa, 1), (isa, 3)]) {
                    let (bias, scaling) = (Some(&*bias), Scaling::RowFirst);
                    let clamp = (-1.5, 2.0);
                    let conv =
                        ConvHybrid::new(isa, geometry, &weights, &scale, bias, scaling, clamp);
                    let mut output = vec![f32::NAN; geometry.output_len()];
                    let mut scratch = vec![0xa5; conv.scratch_len(threads)];
                    conv.run(&input, rows, &mut output, &mut scratch, threads);
                    assert!(output == expected, "{isa:?}, {geometry:?}");
                }
            }
        });
    }

    #[test]
    fn float_convolutions_equal_the_direct_sum_in_every_set() {
        in_pool(|| {
            let mut random = Random(2);
            for geometry in geometries() {
                let depth =
                    geometry.filter_h * geometry.filter_w * geometry.in_depth / geometry.groups;
                let input = random.f32s(geometry.input_len());
                let weights = random.f32s(geometry.out_depth * depth);
                let bias = random.f32s(geometry.out_depth);
                let sums = direct(&geometry, false, 0f64, |sum, input_index, weight| {
                    *sum += f64::from(input[input_index]) * f64::from(weights[weight]);
                });
                let sums = sums.iter().zip(bias.iter().cycle());
                let expected: Vec<f32> = sums
                    .map(|(&sum, &bias)| (sum as f32 + bias).clamp(-1.5, 2.0))
                    .collect();
                for isa in Isa::all() {
                    let conv = ConvF32::new(isa, geometry, &weights, Some(&bias), (-1.5, 2.0));
                    let outputs = [1, 2, 3].map(|threads| {
                        let mut output = vec![f32::NAN; geometry.output_len()];
                        let mut scratch = vec![f32::NAN; conv.scratch_len(threads)];
                        conv.run(&input, &mut output, &mut scratch, threads);
                        output
                    });
                    assert_close(&outputs[0], &expected, &format!("{isa:?}, {geometry:?}"));
                    assert!(
                        outputs[1] == outputs[0] && outputs[2] == outputs[0],
                        "{isa:?}, {geometry:?}"
                    );
                }
            }
        });
    }

    #[test]
    fn products_take_any_number_of_rows() {
        in_pool(|| {
            let mut random = Random(3);
            let (n, k) = (1001, 516);
            let (weights, bias) = (random.i8s(n * k), random.i32s(n));
            let weights_f32 = random.f32s(n * k);
            let [stage, ..] = random.stages(k, 1);
            for rows in [0, 1, 2, 13, 40] {
                let input = random.i8s(rows * k);
                let input_f32 = random.f32s(rows * k);
                let mut outputs = Vec::new();
                for (isa, threads) in Isa::all().into_iter().flat_map(|isa| [(isa, 1), (isa, 3)]) {
                    let product =
                        ProductI8::new(isa, (n, k), &weights, Some(&bias), 3, stage.clone());
                    let mut output = vec![0; rows * n];
                    product.run(
                        rows,
                        &input,
                        &mut output,
                        &mut vec![0; product.scratch_len(threads)],
                        threads,
                    );
                    let product = ProductF32::new(
                        isa,
                        (n, k),
                        &weights_f32,
                        None,
                        (f32::NEG_INFINITY, f32::INFINITY),
                    );
                    let mut output_f32 = vec![0.0; rows * n];
                    let mut scratch = vec![0.0; product.scratch_len(threads)];
                    product.run(rows, &input_f32, &mut output_f32, &mut scratch, threads);
                    outputs.push((output, output_f32));
                }
                for (output, output_f32) in &outputs {
                    assert!(*output == outputs[0].0, "{rows} rows");
                    assert_close(output_f32, &outputs[0].1, "product");
                }
            }
        });
    }

    #[test]
    fn extreme_factors_and_accumulators_requantize_as_portable() {
        let n = 37;
        let bias: Vec<i32> = (0..n as i32)
            .map(|i| match i % 5 {
                0 => i32::MAX - i,
                1 => i32::MIN + i,
                2 => i - 18,
                3 => (i - 18) << 20,
                _ => (1 << 24) + i,
            })
            .collect();
        let weights = vec![0; n];
        for real in [0.0, 1e-10, 3e-9, 0.5, 0.999_999_99, 1.0, 1.5, 255.0, 1e6] {
            for requantize in [
                Requantize::Float {
                    scale: vec![real as f32],
                },
                Requantize::Fixed {
                    multiplier: vec![quantize_multiplier(real)],
                },
                Requantize::Double { scale: vec![real] },
            ] {
                for (zero_point, min, max) in [(127, -128, 127), (-128, -100, 3), (5, 5, 127)] {
                    let requantize = requantize.clone();
                    let stage = OutputStage {
                        requantize,
                        zero_point,
                        min,
                        max,
                    };
                    let expected: Vec<i8> = bias.iter().map(|&acc| stage.apply(0, acc)).collect();
                    for isa in Isa::all() {
                        let product =
                            ProductI8::new(isa, (n, 1), &weights, Some(&bias), 0, stage.clone());
                        let mut output = vec![0; n];
                        product.run(
                            1,
                            &[1],
                            &mut output,
                            &mut vec![0; product.scratch_len(1)],
                            1,
                        );
                        assert!(
                            output == expected,
                            "{isa:?}, {stage:?}: {output:?}, not {expected:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_float_nan_stays() {
        for isa in Isa::all() {
            let product = ProductF32::new(isa, (3, 2), &[1.0; 6], None, (0.0, 6.0));
            let mut output = [0.0; 3];
            product.run(
                1,
                &[f32::NAN, 1.0],
                &mut output,
                &mut vec![0.0; product.scratch_len(1)],
                1,
            );
            assert!(output.iter().all(|x| x.is_nan()), "{isa:?}");
        }
    }
}
