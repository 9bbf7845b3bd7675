//! Float32 activations with int8 weights ("dynamic range"): the activations are quantized when they
//! are there, in rows that have a scale each, and the sums become float32 again.

use std::ops::Range;

use bantam_kernels::hybrid::quantize_rows;
use bantam_kernels::{ConvGeometry, ConvHybrid, DepthwiseF32, Isa, Quantizer, RowScales, Scaling};

use super::Numerics;

/// How an operator computes with quantized activations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Into how many parts with a scale each it divides them: images, or rows of a product.
    pub parts: usize,
    /// How they are quantized.
    pub quantizer: Quantizer,
    /// How sums become real.
    pub scaling: Scaling,
}

impl Rule {
    /// What LiteRT's own kernels do, but for CONV_2D.
    pub fn litert(parts: usize, quantizer: Quantizer) -> Self {
        Self {
            parts,
            quantizer,
            scaling: Scaling::Together,
        }
    }

    /// What XNNPACK does.
    pub fn xnnpack(parts: usize) -> Self {
        Self {
            parts,
            quantizer: Quantizer::Xnnpack,
            scaling: Scaling::RowFirst,
        }
    }
}

/// The rules of an operator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hybrid {
    /// That of LiteRT's own kernels.
    pub reference: Rule,
    /// That of what runs by default: XNNPACK, unless it leaves the operator to LiteRT's kernels.
    pub fast: Rule,
}

impl Hybrid {
    /// The same `parts` for LiteRT, which quantizes them so, and XNNPACK.
    pub fn new(parts: usize, reference: Quantizer) -> Self {
        Self {
            reference: Rule::litert(parts, reference),
            fast: Rule::xnnpack(parts),
        }
    }

    /// The rule that `numerics` asks for.
    pub fn rule(&self, numerics: Numerics) -> Rule {
        match numerics {
            Numerics::Reference => self.reference,
            Numerics::Fast => self.fast,
        }
    }
}

/// Quantizing the input of a kernel, in its scratch memory.
struct Input {
    quantizer: Quantizer,
    rows: usize,
    len: usize,
}

impl Input {
    fn new(rule: Rule, geometry: &ConvGeometry) -> Self {
        Self {
            quantizer: rule.quantizer,
            rows: rule.parts.max(1),
            len: geometry.input_len(),
        }
    }

    /// Bytes of scratch for scales, zero points and integers.
    fn scratch(&self) -> usize {
        (self.rows * 8 + self.len).next_multiple_of(64)
    }

    /// The quantized input, its scales, and the rest of the scratch memory.
    fn quantize<'a>(
        &self,
        input: &[f32],
        scratch: &'a mut [u8],
    ) -> (&'a [i8], RowScales<'a>, &'a mut [u8]) {
        let (own, rest) = scratch.split_at_mut(self.scratch());
        let (scale, own) = own.split_at_mut(self.rows * 4);
        let (zero_point, own) = own.split_at_mut(self.rows * 4);
        let scale: &mut [f32] = bytemuck::cast_slice_mut(scale);
        let zero_point: &mut [i32] = bytemuck::cast_slice_mut(zero_point);
        let quantized: &mut [i8] = bytemuck::cast_slice_mut(&mut own[..self.len]);
        quantize_rows(
            Isa::best(),
            self.quantizer,
            input,
            quantized,
            scale,
            zero_point,
        );
        (quantized, RowScales { scale, zero_point }, rest)
    }
}

/// A convolution or a product.
pub(super) struct HybridConv {
    input: Input,
    conv: ConvHybrid,
}

impl HybridConv {
    /// With a `scale` and a bias for each column.
    pub fn new(
        rule: Rule,
        geometry: ConvGeometry,
        weights: &[i8],
        scale: &[f32],
        bias: Option<Vec<f32>>,
        clamp: (f32, f32),
    ) -> Self {
        Self {
            input: Input::new(rule, &geometry),
            conv: ConvHybrid::new(
                Isa::best(),
                geometry,
                weights,
                scale,
                bias.as_deref(),
                rule.scaling,
                clamp,
            ),
        }
    }

    /// Bytes of scratch that [`Self::run`] needs for `threads` threads.
    pub fn scratch(&self, threads: usize) -> usize {
        self.input.scratch() + self.conv.scratch_len(threads)
    }

    pub fn run(&self, input: &[f32], output: &mut [f32], scratch: &mut [u8], threads: usize) {
        let (quantized, rows, scratch) = self.input.quantize(input, scratch);
        self.conv.run(quantized, rows, output, scratch, threads);
    }
}

/// A depthwise convolution. Its sums of integers are exact in float32, up to about 500 taps.
pub(super) struct HybridDepthwise {
    input: Input,
    sums: DepthwiseF32,
    scaling: Scaling,
    scale: Vec<f32>,
    bias: Vec<f32>,
    clamp: (f32, f32),
}

impl HybridDepthwise {
    /// With a `scale` and a bias for each channel.
    pub fn new(
        rule: Rule,
        geometry: ConvGeometry,
        weights: &[i8],
        scale: Vec<f32>,
        bias: Option<Vec<f32>>,
        clamp: (f32, f32),
    ) -> Self {
        let weights: Vec<f32> = weights.iter().map(|&w| w.into()).collect();
        let unbounded = (f32::NEG_INFINITY, f32::INFINITY);
        Self {
            input: Input::new(rule, &geometry),
            sums: DepthwiseF32::new(Isa::best(), geometry, &weights, None, unbounded),
            scaling: rule.scaling,
            bias: bias.unwrap_or_else(|| vec![0.0; scale.len()]),
            scale,
            clamp,
        }
    }

    /// Bytes of scratch that [`Self::run`] needs for `threads` threads.
    pub fn scratch(&self, threads: usize) -> usize {
        self.input.scratch() + 4 * (self.input.len + self.sums.scratch_len(threads))
    }

    pub fn run(&self, input: &[f32], output: &mut [f32], scratch: &mut [u8], threads: usize) {
        let (quantized, rows, scratch) = self.input.quantize(input, scratch);
        let len = self.input.len + self.sums.scratch_len(threads);
        let (centred, scratch) =
            bytemuck::cast_slice_mut(&mut scratch[..4 * len]).split_at_mut(self.input.len);
        let images = quantized.chunks_exact(self.input.len / self.input.rows);
        for ((centred, image), &zero_point) in centred
            .chunks_exact_mut(self.input.len / self.input.rows)
            .zip(images)
            .zip(rows.zero_point)
        {
            for (centred, &q) in centred.iter_mut().zip(image) {
                *centred = (i32::from(q) - zero_point) as f32;
            }
        }
        self.sums.run(centred, output, scratch, threads);
        let image = output.len() / self.input.rows;
        let channels = self.scale.len();
        for (output, &row) in output.chunks_exact_mut(image).zip(rows.scale) {
            match self.scaling {
                Scaling::WeightsFirst => {
                    // LiteRT's loop over the channels that are left of fours has the other order.
                    let fours = channels / 4 * 4;
                    self.finish(output, 0..fours, |sum, weights| sum * weights * row);
                    self.finish(output, fours..channels, |sum, weights| sum * row * weights);
                }
                _ => self.finish(output, 0..channels, |sum, weights| sum * (row * weights)),
            }
        }
    }

    /// Turns the sums of some `channels` into results; `real` is given a sum and its weights' scale.
    fn finish(&self, output: &mut [f32], channels: Range<usize>, real: impl Fn(f32, f32) -> f32) {
        let (min, max) = self.clamp;
        let (scale, bias) = (&self.scale[channels.clone()], &self.bias[channels.clone()]);
        for pixel in output.chunks_exact_mut(self.scale.len()) {
            let sums = pixel[channels.clone()].iter_mut();
            for ((y, &scale), &bias) in sums.zip(scale).zip(bias) {
                *y = (real(*y, scale) + bias).clamp(min, max);
            }
        }
    }
}
