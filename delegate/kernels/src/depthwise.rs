//! Depthwise convolutions of any filter size, stride, dilation and depth multiplier. A multiplier above 1 is resolved when the
//! input is copied: each channel is repeated, and the rest is a convolution with multiplier 1.

use std::ops::Range;

use crate::aligned::Aligned;
#[cfg(target_arch = "x86_64")]
use crate::avx2;
#[cfg(target_arch = "x86_64")]
use crate::avx512;
use crate::geometry::{ConvGeometry, Run, Window};
use crate::product::SAFE_MAGNITUDE;
use crate::requantize::WideMultiplier;
use crate::{Isa, OutputStage, parallel, portable};

/// Pixels of a run, so that its input stays in cache from one block of channels to the next.
const RUN_PIXELS: usize = 32;

/// Int8 weights of a depthwise convolution with multiplier 1, the input's zero point folded into the bias.
pub(crate) struct PackedDepthwiseI8 {
    pub filter_h: usize,
    pub filter_w: usize,
    /// Channels.
    pub depth: usize,
    /// Tap, channel; or the order of the set's `pack_depthwise_i8`.
    pub weights: Aligned<i8>,
    /// In the order that the set accumulates channels in.
    pub bias: Vec<i32>,
    /// In the order of `bias`.
    pub stage: OutputStage,
}

/// Int8 weights of a depthwise convolution of int16 with multiplier 1.
pub(crate) struct PackedDepthwiseI16 {
    pub filter_h: usize,
    pub filter_w: usize,
    /// Channels.
    pub depth: usize,
    /// Tap, channel; or the order of the set's `pack_depthwise_i16`.
    pub weights: Aligned<i8>,
    /// In the order that the set accumulates channels in.
    pub bias: Vec<i64>,
    /// In the order of `bias`.
    pub stage: OutputStage,
    /// The stage for vectors, if it is a [`Requantize::Wide`].
    pub wide: Option<WideMultiplier>,
}

/// Float32 weights of a depthwise convolution with multiplier 1.
pub(crate) struct PackedDepthwiseF32 {
    pub filter_h: usize,
    pub filter_w: usize,
    /// Channels.
    pub depth: usize,
    /// Tap, channel.
    pub weights: Aligned<f32>,
    /// One for each channel.
    pub bias: Vec<f32>,
    /// Smallest and largest output.
    pub clamp: (f32, f32),
}

/// # Panics
/// If a size is 0 or the multiplier is not whole.
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
        geometry.in_depth,
        geometry.out_depth,
        geometry.out_w,
    ];
    assert!(
        sizes.iter().chain(&more).all(|&size| size > 0),
        "a size is 0: {geometry:?}"
    );
    assert!(
        geometry.out_depth.is_multiple_of(geometry.in_depth),
        "depth multiplier is not whole: {geometry:?}"
    );
}

/// Copies pixels with each of their channels `multiplier` times.
fn repeat_channels<T: Copy>(multiplier: usize, source: &[T], target: &mut [T]) {
    if multiplier == 1 {
        return target.copy_from_slice(source);
    }
    for (target, &x) in target.chunks_exact_mut(multiplier).zip(source) {
        target.fill(x);
    }
}

/// An int8 depthwise convolution with packed weights.
pub struct DepthwiseI8 {
    isa: Isa,
    geometry: ConvGeometry,
    packed: PackedDepthwiseI8,
    input_zero_point: i8,
}

impl DepthwiseI8 {
    /// Packs `weights` (`filter_h`, `filter_w`, `out_depth`; symmetric) and `bias` (`out_depth`). `geometry.groups` is not read.
    ///
    /// # Panics
    /// If lengths do not match the geometry, a size is 0, or `in_depth` does not divide `out_depth`.
    pub fn new(
        isa: Isa,
        geometry: ConvGeometry,
        weights: &[i8],
        bias: Option<&[i32]>,
        input_zero_point: i8,
        stage: OutputStage,
    ) -> Self {
        check_weights(&geometry, weights.len(), bias.map(<[i32]>::len));
        let depth = geometry.out_depth;
        let shift = match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => 128,
            _ => 0,
        };
        let mut folded = bias.map_or_else(|| vec![0; depth], <[i32]>::to_vec);
        for tap in weights.chunks_exact(depth) {
            for (bias, &weight) in folded.iter_mut().zip(tap) {
                *bias =
                    bias.wrapping_sub(i32::from(weight) * (i32::from(input_zero_point) + shift));
            }
        }
        let plain = PackedDepthwiseI8 {
            filter_h: geometry.filter_h,
            filter_w: geometry.filter_w,
            depth,
            weights: weights.to_vec().into(),
            bias: folded,
            stage: stage.for_i8().broadcast(depth),
        };
        let packed = match isa {
            Isa::Portable => plain,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => avx2::pack_depthwise_i8(&plain),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => avx512::pack_depthwise_i8(&plain),
        };
        Self {
            isa,
            geometry,
            packed,
            input_zero_point,
        }
    }

    /// Bytes of scratch that [`Self::run`] needs for `threads` threads.
    pub fn scratch_len(&self, threads: usize) -> usize {
        let columns = match self.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => {
                avx512::depthwise_columns_len(&self.packed, self.geometry.columns(RUN_PIXELS))
            }
            _ => 0,
        };
        threads.max(1) * (self.copy_len() + columns)
    }

    fn multiplier(&self) -> usize {
        self.geometry.out_depth / self.geometry.in_depth
    }

    /// Bytes for a copy of a run's input.
    fn copy_len(&self) -> usize {
        self.geometry.window_len(RUN_PIXELS, self.multiplier())
    }

    /// Computes `output` from `input`, both NHWC.
    ///
    /// # Panics
    /// If a length does not match the geometry, or `scratch` is shorter than [`Self::scratch_len`].
    pub fn run(&self, input: &[i8], output: &mut [i8], scratch: &mut [u8], threads: usize) {
        let geometry = &self.geometry;
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
        let depth = geometry.out_depth;
        let work = output.len() * geometry.filter_h * geometry.filter_w * 2;
        let parts = parallel::parts(self.isa, threads, geometry.pixels(), work);
        let part = |pixels: Range<usize>, mut output: &mut [i8], scratch: &mut [u8]| {
            for run in geometry.runs(pixels, RUN_PIXELS, self.splits_edges()) {
                let (these, rest) = output.split_at_mut(run.len * depth);
                self.run_pixels(run, input, these, scratch);
                output = rest;
            }
        };
        parallel::split_rows(parts, 0..geometry.pixels(), depth, output, scratch, &part);
    }

    /// Whether padding is copied, so that it pays to have it in few runs.
    fn splits_edges(&self) -> bool {
        match self.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => false,
            _ => self.multiplier() == 1,
        }
    }

    fn run_pixels(&self, run: Run, input: &[i8], output: &mut [i8], scratch: &mut [u8]) {
        let (copy, _columns) = scratch.split_at_mut(self.copy_len());
        #[cfg(target_arch = "x86_64")]
        if let Isa::Avx512(token) = self.isa {
            return self.run_interleaved(token, run, input, output, copy, _columns);
        }
        let in_place = if self.multiplier() == 1 {
            self.geometry.window_in_place(run, input)
        } else {
            None
        };
        let window = match in_place {
            Some(window) => window,
            None => self.copy(run, input, signed(copy)),
        };
        window.check(
            run.len,
            (self.packed.filter_h, self.packed.filter_w),
            self.packed.depth,
        );
        match self.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(token) => avx2::depthwise_i8(token, &self.packed, &window, run.len, output),
            _ => portable::depthwise_i8(&self.packed, &window, run.len, output),
        }
    }
}

impl DepthwiseI8 {
    /// Copies what a run reads, with repeated channels and padding.
    fn copy<'a>(&self, run: Run, input: &[i8], scratch: &'a mut [i8]) -> Window<'a, i8> {
        self.geometry.copy_window(
            run,
            input,
            self.multiplier(),
            scratch,
            |source, target| repeat_channels(self.multiplier(), source, target),
            |target| target.fill(self.input_zero_point),
        )
    }

    #[cfg(target_arch = "x86_64")]
    fn run_interleaved(
        &self,
        token: crate::Avx512,
        run: Run,
        input: &[i8],
        output: &mut [i8],
        copy: &mut [u8],
        columns: &mut [u8],
    ) {
        let geometry = &self.geometry;
        let shape = avx512::Steps {
            pixels: run.len,
            stride: geometry.stride_w,
            dilation: geometry.dilation_w,
            zero_point: self.input_zero_point,
        };
        if self.multiplier() == 1 {
            let clip = geometry.clip(run);
            let row = |filter_y| {
                geometry
                    .input_row(run, filter_y)
                    .map(|y| (y * geometry.in_w + clip.first) * geometry.in_depth)
            };
            let source = avx512::Source {
                data: input,
                row,
                clip,
            };
            avx512::depthwise_i8(token, &self.packed, &shape, &source, columns, output);
        } else {
            let window = self.copy(run, input, signed(copy));
            let columns_read = geometry.columns(run.len);
            let clip = crate::geometry::Clip {
                columns: columns_read,
                left: 0,
                first: 0,
                inside: columns_read,
            };
            let source = avx512::Source {
                data: window.data,
                row: |filter_y| Some(filter_y * window.row),
                clip,
            };
            avx512::depthwise_i8(token, &self.packed, &shape, &source, columns, output);
        }
    }
}

/// The same bytes as signed ones.
fn signed(bytes: &mut [u8]) -> &mut [i8] {
    // SAFETY: i8 and u8 have the same size and alignment, every bit pattern is valid for both, and the borrow is passed on.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// Packed weights whose loops read activations where they are.
trait Loops: Sync {
    type Element: Copy + Default + Send + Sync;

    /// Multiply-adds of int8 that take as long as one of these.
    const WORK: usize;

    /// Computes `pixels` pixels of `window`, all channels.
    fn run(&self, window: &Window<'_, Self::Element>, pixels: usize, output: &mut [Self::Element]);
}

/// A depthwise convolution whose padding is 0.
struct Depthwise<L> {
    isa: Isa,
    geometry: ConvGeometry,
    loops: L,
}

impl<L: Loops> Depthwise<L> {
    fn multiplier(&self) -> usize {
        self.geometry.out_depth / self.geometry.in_depth
    }

    fn scratch_len(&self, threads: usize) -> usize {
        threads.max(1) * self.geometry.window_len(RUN_PIXELS, self.multiplier())
    }

    fn run(
        &self,
        input: &[L::Element],
        output: &mut [L::Element],
        scratch: &mut [L::Element],
        threads: usize,
    ) {
        let geometry = &self.geometry;
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
        let depth = geometry.out_depth;
        let work = output.len() * geometry.filter_h * geometry.filter_w * L::WORK;
        let parts = parallel::parts(self.isa, threads, geometry.pixels(), work);
        let part = |pixels: Range<usize>, mut output: &mut [L::Element], scratch: &mut [_]| {
            for run in geometry.runs(pixels, RUN_PIXELS, self.multiplier() == 1) {
                let (these, rest) = output.split_at_mut(run.len * depth);
                self.run_pixels(run, input, these, scratch);
                output = rest;
            }
        };
        parallel::split_rows(parts, 0..geometry.pixels(), depth, output, scratch, &part);
    }

    fn run_pixels(
        &self,
        run: Run,
        input: &[L::Element],
        output: &mut [L::Element],
        scratch: &mut [L::Element],
    ) {
        let geometry = &self.geometry;
        let in_place = if self.multiplier() == 1 {
            geometry.window_in_place(run, input)
        } else {
            None
        };
        let window = in_place.unwrap_or_else(|| {
            geometry.copy_window(
                run,
                input,
                self.multiplier(),
                scratch,
                |source, target| repeat_channels(self.multiplier(), source, target),
                |target| target.fill(L::Element::default()),
            )
        });
        let taps = (geometry.filter_h, geometry.filter_w);
        window.check(run.len, taps, geometry.out_depth);
        self.loops.run(&window, run.len, output);
    }
}

struct LoopsF32(Isa, PackedDepthwiseF32);

impl Loops for LoopsF32 {
    type Element = f32;

    const WORK: usize = 4;

    fn run(&self, window: &Window<'_, f32>, pixels: usize, output: &mut [f32]) {
        let Self(isa, packed) = self;
        match *isa {
            Isa::Portable => portable::depthwise_f32(packed, window, pixels, output),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(token) => avx2::depthwise_f32(token, packed, window, pixels, output),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(token) => avx512::depthwise_f32(token, packed, window, pixels, output),
        }
    }
}

/// A float32 depthwise convolution with packed weights.
pub struct DepthwiseF32(Depthwise<LoopsF32>);

impl DepthwiseF32 {
    /// Packs `weights` (`filter_h`, `filter_w`, `out_depth`) and `bias` (`out_depth`). Outputs are clamped to `clamp`; a NaN
    /// stays. `geometry.groups` is not read.
    ///
    /// # Panics
    /// As [`DepthwiseI8::new`], or if `clamp` is empty.
    pub fn new(
        isa: Isa,
        geometry: ConvGeometry,
        weights: &[f32],
        bias: Option<&[f32]>,
        clamp: (f32, f32),
    ) -> Self {
        assert!(clamp.0 <= clamp.1, "clamp from {} to {}", clamp.0, clamp.1);
        check_weights(&geometry, weights.len(), bias.map(<[f32]>::len));
        let packed = PackedDepthwiseF32 {
            filter_h: geometry.filter_h,
            filter_w: geometry.filter_w,
            depth: geometry.out_depth,
            weights: weights.to_vec().into(),
            bias: bias.map_or_else(|| vec![0.0; geometry.out_depth], <[f32]>::to_vec),
            clamp,
        };
        Self(Depthwise {
            isa,
            geometry,
            loops: LoopsF32(isa, packed),
        })
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
        self.0.run(input, output, scratch, threads);
    }
}

struct LoopsI16(Isa, PackedDepthwiseI16);

impl Loops for LoopsI16 {
    type Element = i16;

    const WORK: usize = 2;

    fn run(&self, window: &Window<'_, i16>, pixels: usize, output: &mut [i16]) {
        let Self(isa, packed) = self;
        match *isa {
            Isa::Portable => portable::depthwise_i16(packed, window, pixels, output),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(token) => avx2::depthwise_i16(token, packed, window, pixels, output),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(token) => avx2::depthwise_i16(token.into(), packed, window, pixels, output),
        }
    }
}

/// A depthwise convolution of int16 activations, whose zero point is 0, with packed int8 weights.
pub struct DepthwiseI16(Depthwise<LoopsI16>);

impl DepthwiseI16 {
    /// Packs `weights` (`filter_h`, `filter_w`, `out_depth`; symmetric) and `bias` (`out_depth`). `geometry.groups` is not read.
    ///
    /// # Panics
    /// As [`DepthwiseI8::new`].
    pub fn new(
        isa: Isa,
        geometry: ConvGeometry,
        weights: &[i8],
        bias: Option<&[i64]>,
        stage: OutputStage,
    ) -> Self {
        check_weights(&geometry, weights.len(), bias.map(<[i64]>::len));
        let depth = geometry.out_depth;
        let stage = stage.for_i16().broadcast(depth);
        let plain = PackedDepthwiseI16 {
            filter_h: geometry.filter_h,
            filter_w: geometry.filter_w,
            depth,
            weights: weights.to_vec().into(),
            bias: bias.map_or_else(|| vec![0; depth], <[i64]>::to_vec),
            stage,
            wide: None,
        };
        let mut magnitudes = vec![0u64; depth];
        for tap in weights.chunks_exact(depth) {
            for (magnitude, &weight) in magnitudes.iter_mut().zip(tap) {
                *magnitude += u64::from(weight.unsigned_abs());
            }
        }
        // Larger sums would overflow the vectors' int32.
        let is_safe = magnitudes.iter().all(|&sum| sum <= SAFE_MAGNITUDE);
        let isa = if is_safe { isa } else { Isa::Portable };
        let loops = match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) | Isa::Avx512(_) => LoopsI16(isa, avx2::pack_depthwise_i16(&plain)),
            Isa::Portable => LoopsI16(isa, plain),
        };
        Self(Depthwise {
            isa,
            geometry,
            loops,
        })
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
        self.0.run(input, output, scratch, threads);
    }
}

/// # Panics
/// If a size is 0, the multiplier is not whole, or a length is not that of the geometry.
fn check_weights(geometry: &ConvGeometry, weights: usize, bias: Option<usize>) {
    check(geometry);
    assert_eq!(
        weights,
        geometry.filter_h * geometry.filter_w * geometry.out_depth,
        "weights do not match the shapes"
    );
    assert!(
        bias.is_none_or(|len| len == geometry.out_depth),
        "bias does not match the depth"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, assert_close, direct, geometry, in_pool};

    fn geometries() -> Vec<ConvGeometry> {
        vec![
            geometry((1, 14, 14, 64), (3, 3, 64), (1, 1, 1, 1)),
            geometry((1, 30, 40, 96), (3, 3, 96), (1, 1, 1, 1)),
            geometry((2, 7, 40, 33), (3, 3, 33), (2, 1, 1, 1)),
            geometry((1, 9, 70, 16), (3, 3, 16), (1, 1, 1, 1)),
            geometry((1, 9, 8, 130), (5, 5, 130), (1, 1, 2, 1)),
            geometry((1, 12, 11, 7), (3, 4, 7), (1, 2, 2, 1)),
            geometry((1, 6, 5, 3), (3, 3, 12), (2, 1, 1, 1)),
            geometry((1, 2, 2, 96), (5, 5, 96), (1, 1, 2, 1)),
            geometry((1, 4, 4, 20), (1, 1, 20), (3, 1, 0, 1)),
            geometry((1, 1, 9, 40), (1, 9, 40), (1, 1, 4, 1)),
            geometry((1, 3, 40, 80), (1, 1, 80), (1, 1, 35, 1)),
        ]
    }

    #[test]
    fn int8_equals_the_direct_sum_in_every_set() {
        in_pool(|| {
            let mut random = Random(4);
            for geometry in geometries() {
                let (taps, depth) = (geometry.filter_h * geometry.filter_w, geometry.out_depth);
                let input = random.i8s(geometry.input_len());
                let weights = random.i8s(taps * depth);
                let bias = random.i32s(depth);
                let sums = direct(&geometry, true, 0i32, |sum, input_index, weight| {
                    *sum += (i32::from(input[input_index]) - 4) * i32::from(weights[weight]);
                });
                for stage in random.stages(taps, depth) {
                    let outputs = sums.iter().enumerate();
                    let expected: Vec<i8> = outputs
                        .map(|(i, &sum)| stage.apply(i % depth, sum + bias[i % depth]))
                        .collect();
                    for (isa, threads) in Isa::all()
                        .into_iter()
                        .flat_map(|isa| [(isa, 1), (isa, 2), (isa, 3)])
                    {
                        let depthwise = DepthwiseI8::new(
                            isa,
                            geometry,
                            &weights,
                            Some(&bias),
                            4,
                            stage.clone(),
                        );
                        let mut output = vec![0; geometry.output_len()];
                        let mut scratch = vec![0xa5; depthwise.scratch_len(threads)];
                        depthwise.run(&input, &mut output, &mut scratch, threads);
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
    fn int16_equals_the_direct_sum_in_every_set() {
        in_pool(|| {
            let mut random = Random(6);
            let large = geometry((1, 23, 24, 3), (23, 24, 3), (1, 1, 0, 1));
            for geometry in geometries().into_iter().chain([large]) {
                let (taps, depth) = (geometry.filter_h * geometry.filter_w, geometry.out_depth);
                let input = random.i16s(geometry.input_len());
                let weights = random.i8s(taps * depth);
                let bias = random.i64s(depth);
                let sums = direct(&geometry, true, 0i64, |sum, input_index, weight| {
                    *sum += i64::from(input[input_index]) * i64::from(weights[weight]);
                });
                for stage in random.stages_i16(taps, depth) {
                    let outputs = sums.iter().enumerate();
                    let expected: Vec<i16> = outputs
                        .map(|(i, &sum)| stage.apply_i16(i % depth, sum + bias[i % depth]))
                        .collect();
                    for isa in Isa::all() {
                        let depthwise =
                            DepthwiseI16::new(isa, geometry, &weights, Some(&bias), stage.clone());
                        for threads in [1, 3] {
                            let mut output = vec![0; geometry.output_len()];
                            let mut scratch = vec![0x5a5a; depthwise.scratch_len(threads)];
                            depthwise.run(&input, &mut output, &mut scratch, threads);
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
    fn float_equals_the_direct_sum_in_every_set() {
        in_pool(|| {
            let mut random = Random(5);
            for geometry in geometries() {
                let (taps, depth) = (geometry.filter_h * geometry.filter_w, geometry.out_depth);
                let input = random.f32s(geometry.input_len());
                let weights = random.f32s(taps * depth);
                let bias = random.f32s(depth);
                let sums = direct(&geometry, true, 0f64, |sum, input_index, weight| {
                    *sum += f64::from(input[input_index]) * f64::from(weights[weight]);
                });
                let sums = sums.iter().zip(bias.iter().cycle());
                let expected: Vec<f32> = sums
                    .map(|(&sum, &bias)| (sum as f32 + bias).clamp(0.0, 6.0))
                    .collect();
                for isa in Isa::all() {
                    let depthwise =
                        DepthwiseF32::new(isa, geometry, &weights, Some(&bias), (0.0, 6.0));
                    let outputs = [1, 2, 3].map(|threads| {
                        let mut output = vec![f32::NAN; geometry.output_len()];
                        let mut scratch = vec![f32::NAN; depthwise.scratch_len(threads)];
                        depthwise.run(&input, &mut output, &mut scratch, threads);
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
}
