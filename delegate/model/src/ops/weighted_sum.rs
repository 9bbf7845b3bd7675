//! What CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV and FULLY_CONNECTED share: from operands and a
//! geometry to the inner loops that compute it.
//!
//! Constant weights are packed for the loops of `bantam-kernels`. What those do not take (weights
//! or bias that are computed, uint8 depthwise filters) runs in plain loops here.
//!
//! Types of input, weights, bias and result: float32; int8 or uint8 with an int32 bias; int16 with
//! int8 weights and an int64 or int32 bias; float32 with int8 weights ("hybrid").

use bantam_kernels::{
    ConvF32, ConvGeometry, ConvI8, ConvI16, DepthwiseF32, DepthwiseI8, DepthwiseI16, Isa,
    OutputStage, Requantize, quantize_multiplier,
};

use super::Activation;
use super::hybrid::{Hybrid, HybridConv, HybridDepthwise};
use super::{Numerics, OpError, Signature, Value};
use crate::cpu::{Inputs, Kernel};
use crate::quant::PerTensor;
use crate::tensor::DType;

/// More than any loop may ask for, in bytes; keeps sizes from overflowing.
const SCRATCH_LIMIT: u128 = 1 << 40;

/// How LiteRT's reference kernel of an operator scales int32 accumulators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    /// A fixed-point multiplier, rounded twice.
    Fixed,
    /// In float64, ties away from zero.
    Double,
}

/// Sums of products of an operand with weights, plus bias, clamped.
#[derive(Clone, Copy)]
pub(super) struct WeightedSum<'a> {
    /// The operator's operands and result.
    pub io: &'a Signature,
    /// The index of the activation operand.
    pub input: usize,
    /// The index of the weights operand.
    pub weights: usize,
    /// The index of the bias, which need not be given.
    pub bias: usize,
    /// The fused activation.
    pub activation: Activation,
    /// What [`Numerics::Reference`] means.
    pub reference: Rounding,
    /// How float32 activations are quantized where the weights are int8.
    pub hybrid: Hybrid,
}

/// A convolution that is ready to run.
pub(super) struct Convolution {
    geometry: ConvGeometry,
    loops: Loops,
}

enum Loops {
    F32(ConvF32),
    DepthwiseF32(DepthwiseF32),
    Integer {
        conv: ConvI8,
        /// `0x80` where bytes are uint8.
        flip: u8,
        /// How often each element of the input is repeated; see [`split_weights`].
        copies: usize,
    },
    DepthwiseI8(DepthwiseI8),
    I16(ConvI16),
    DepthwiseI16(DepthwiseI16),
    Hybrid(HybridConv),
    DepthwiseHybrid(HybridDepthwise),
    Plain(Plain),
}

/// Loops that read weights and bias when they run.
struct Plain {
    depthwise: bool,
    weights: usize,
    bias: usize,
    arithmetic: Arithmetic,
}

enum Arithmetic {
    F32 { clamp: (f32, f32) },
    Integer(IntegerParameters),
}

/// Integer operands as int8, whatever they are stored as.
struct IntegerParameters {
    /// What is done to bytes to make them int8: `0x80` to uint8, 0 to int8.
    flip: u8,
    input_zero_point: i32,
    weights_zero_point: i32,
    stage: OutputStage,
}

impl<'a> WeightedSum<'a> {
    /// Checks types, the length of the bias, and that constants fill their shapes.
    fn check(&self, out_depth: usize) -> Result<(), OpError> {
        let dtype = self.io.common_dtype(self.input)?;
        let weights = self.io.input(self.weights)?.dtype;
        let biases: &[DType] = match (dtype, weights) {
            (DType::F32, DType::F32 | DType::I8 | DType::U8) => &[DType::F32],
            (DType::I8, DType::I8) | (DType::U8, DType::U8) => &[DType::I32],
            (DType::I16, DType::I8) => &[DType::I64, DType::I32],
            (DType::F32 | DType::I8 | DType::U8 | DType::I16, _) => {
                return Err(self.io.unsupported(self.weights));
            }
            _ => return Err(self.io.unsupported(self.input)),
        };
        if let Some(bias) = self.io.optional_input(self.bias) {
            if !biases.contains(&bias.dtype) {
                return Err(self.io.unsupported(self.bias));
            }
            if bias.len() != out_depth {
                return Err(OpError::Shape(format!(
                    "bias of length {} does not match depth {out_depth}",
                    bias.len()
                )));
            }
        }
        for index in [self.input, self.weights, self.bias] {
            if let Some(Value {
                data: Some(data),
                dtype,
                shape,
                ..
            }) = self.io.optional_input(index)
                && Some(data.len()) != dtype.byte_len(shape)
            {
                return Err(OpError::Shape(format!(
                    "constant input {index} does not fill its shape"
                )));
            }
        }
        Ok(())
    }

    fn is_constant(&self) -> bool {
        let constant = |index| {
            self.io
                .optional_input(index)
                .is_none_or(|v| v.data.is_some())
        };
        constant(self.weights) && constant(self.bias)
    }

    /// The kernel that runs [`Self::convolution`] from operand to result.
    pub fn prepare(&self, geometry: ConvGeometry, depthwise: bool) -> Result<Kernel, OpError> {
        let convolution = self.convolution(geometry, depthwise)?;
        let (input, most) = (self.input, self.io.threads);
        let copied = match convolution.loops {
            Loops::Plain(_) => vec![],
            _ => vec![self.weights, self.bias],
        };
        let kernel = Kernel::with_scratch(convolution.scratch(most), move |run| {
            let threads = run.threads.min(most);
            let parts = run.parts::<u8>(0);
            convolution.run(
                parts.inputs,
                parts.inputs.bytes(input),
                parts.output,
                parts.scratch,
                threads,
            );
        });
        Ok(kernel.with_copies_of(copied))
    }

    /// The convolution with `geometry`; `depthwise` reads no groups, and its weights have one
    /// row of `out_depth` for each tap.
    pub fn convolution(
        &self,
        geometry: ConvGeometry,
        depthwise: bool,
    ) -> Result<Convolution, OpError> {
        self.check(geometry.out_depth)?;
        let weights = self.io.input(self.weights)?;
        match (self.io.input(self.input)?.dtype, depthwise) {
            (DType::F32 | DType::I16, _) if self.is_constant() => match weights.dtype {
                DType::F32 => self.packed_f32(geometry, depthwise, &weights.constant()?),
                _ => self.packed_bytes(geometry, depthwise, &weights.constant()?),
            },
            (_, false) if self.is_constant() => self.packed_integer(geometry, &weights.constant()?),
            (DType::I8, true) if self.is_constant() && self.is_symmetric() => {
                self.packed_depthwise(geometry, &weights.constant()?)
            }
            _ => self.plain(geometry, depthwise),
        }
    }

    fn is_symmetric(&self) -> bool {
        let quantization = self.io.input(self.weights).and_then(Value::quantization);
        quantization.is_ok_and(|q| q.zero_point.iter().all(|&z| z == 0))
    }

    fn plain(&self, geometry: ConvGeometry, depthwise: bool) -> Result<Convolution, OpError> {
        check_geometry(&geometry, self.io.threads)?;
        let input = self.io.input(self.input)?.dtype;
        if input != self.io.input(self.weights)?.dtype {
            return Err(OpError::UnsupportedType {
                what: format!("weights or bias that are computed, with an input of {input},"),
                dtype: self.io.input(self.weights)?.dtype,
            });
        }
        let arithmetic = if self.io.input(self.input)?.dtype == DType::F32 {
            Arithmetic::F32 {
                clamp: self.range_f32()?,
            }
        } else {
            Arithmetic::Integer(self.integer_parameters(geometry.out_depth)?)
        };
        let plain = Plain {
            depthwise,
            weights: self.weights,
            bias: self.bias,
            arithmetic,
        };
        Ok(Convolution {
            geometry,
            loops: Loops::Plain(plain),
        })
    }

    fn packed_depthwise(
        &self,
        geometry: ConvGeometry,
        weights: &[i8],
    ) -> Result<Convolution, OpError> {
        check_geometry(&geometry, self.io.threads)?;
        let p = self.integer_parameters(geometry.out_depth)?;
        let (isa, bias, zero_point) =
            (Isa::best(), self.constant_bias()?, p.input_zero_point as i8);
        let loops = DepthwiseI8::new(isa, geometry, weights, bias.as_deref(), zero_point, p.stage);
        Ok(Convolution {
            geometry,
            loops: Loops::DepthwiseI8(loops),
        })
    }

    fn range_f32(&self) -> Result<(f32, f32), OpError> {
        self.activation.check()?;
        Ok(self.activation.range_f32())
    }

    fn constant_bias<T: bytemuck::AnyBitPattern>(&self) -> Result<Option<Vec<T>>, OpError> {
        self.io
            .optional_input(self.bias)
            .map(Value::constant)
            .transpose()
    }

    /// A float convolution with `weights` in place of those that the operand, a constant, holds.
    pub fn packed_f32(
        &self,
        geometry: ConvGeometry,
        depthwise: bool,
        weights: &[f32],
    ) -> Result<Convolution, OpError> {
        check_geometry(&geometry, self.io.threads)?;
        let (isa, clamp) = (Isa::best(), self.range_f32()?);
        let bias = self.constant_bias()?;
        let loops = if depthwise {
            Loops::DepthwiseF32(DepthwiseF32::new(
                isa,
                geometry,
                weights,
                bias.as_deref(),
                clamp,
            ))
        } else {
            Loops::F32(ConvF32::new(isa, geometry, weights, bias.as_deref(), clamp))
        };
        Ok(Convolution { geometry, loops })
    }

    /// A convolution of float32 or int16 with int8 `weights` in place of those that the operand, a
    /// constant, holds; they have its quantization.
    pub fn packed_bytes(
        &self,
        geometry: ConvGeometry,
        depthwise: bool,
        weights: &[i8],
    ) -> Result<Convolution, OpError> {
        check_geometry(&geometry, self.io.threads)?;
        let isa = Isa::best();
        let loops = if self.io.input(self.input)?.dtype == DType::I16 {
            let (bias, stage) = (self.bias_i64()?, self.stage_i16(geometry.out_depth)?);
            if depthwise {
                let bias = bias.as_deref();
                Loops::DepthwiseI16(DepthwiseI16::new(isa, geometry, weights, bias, stage))
            } else {
                Loops::I16(ConvI16::new(isa, geometry, weights, bias.as_deref(), stage))
            }
        } else {
            let quantization = self.io.input(self.weights)?.quantization()?;
            let scale = match quantization.symmetric_scales(geometry.out_depth)? {
                [scale] => vec![*scale; geometry.out_depth],
                scales => scales.to_vec(),
            };
            let (bias, clamp) = (self.constant_bias()?, self.range_f32()?);
            let rule = self.hybrid.rule(self.io.numerics);
            if depthwise {
                Loops::DepthwiseHybrid(HybridDepthwise::new(
                    rule, geometry, weights, scale, bias, clamp,
                ))
            } else {
                Loops::Hybrid(HybridConv::new(
                    rule, geometry, weights, &scale, bias, clamp,
                ))
            }
        };
        Ok(Convolution { geometry, loops })
    }

    fn bias_i64(&self) -> Result<Option<Vec<i64>>, OpError> {
        self.io
            .optional_input(self.bias)
            .map(Value::integers)
            .transpose()
    }

    /// The output stage for int16 activations: symmetric, like the weights.
    fn stage_i16(&self, out_depth: usize) -> Result<OutputStage, OpError> {
        let (input, output) = (
            self.io.input(self.input)?.per_tensor()?,
            self.io.output(0)?.per_tensor()?,
        );
        if let Some(p) = [input, output].iter().find(|p| p.zero_point != 0) {
            return Err(OpError::Quantization(format!(
                "zero point {} of an int16 tensor, which has to be 0",
                p.zero_point
            )));
        }
        let weights = self.io.input(self.weights)?.quantization()?;
        let weights = weights.symmetric_scales(out_depth)?;
        let (min, max) = self
            .activation
            .range(output, i16::MIN.into(), i16::MAX.into())?;
        let has_short_bias = self
            .io
            .optional_input(self.bias)
            .is_some_and(|bias| bias.dtype == DType::I32);
        let requantize = match self.requantize_as(Numerics::Reference, input, weights, output)? {
            // Sums of int64 have multipliers of 16 bits.
            Requantize::Fixed { multiplier } if !has_short_bias => Requantize::Wide { multiplier },
            other => other,
        };
        Ok(OutputStage {
            requantize,
            zero_point: 0,
            min,
            max,
        })
    }

    /// An integer convolution with `weights` in place of those that the operand, a constant, holds;
    /// they are as they are stored, and have its type and quantization.
    pub fn packed_integer(
        &self,
        geometry: ConvGeometry,
        weights: &[u8],
    ) -> Result<Convolution, OpError> {
        check_geometry(&geometry, self.io.threads)?;
        let p = self.integer_parameters(geometry.out_depth)?;
        let (weights, copies) = split_weights(weights, p.flip, p.weights_zero_point);
        let repeated = ConvGeometry {
            in_depth: geometry.in_depth * copies,
            ..geometry
        };
        let bias = self.constant_bias()?;
        let zero_point = p.input_zero_point as i8;
        let conv = ConvI8::new(
            Isa::best(),
            repeated,
            &weights,
            bias.as_deref(),
            zero_point,
            p.stage,
        );
        Ok(Convolution {
            geometry,
            loops: Loops::Integer {
                conv,
                flip: p.flip,
                copies,
            },
        })
    }

    /// The result's channels, as they are stored, where there is nothing but the bias, which must
    /// be a constant, as must the weights.
    pub fn bias_only(&self, out_depth: usize) -> Result<Vec<u8>, OpError> {
        self.check(out_depth)?;
        if !self.is_constant() {
            return Err(OpError::UnsupportedType {
                what: "weights or bias that are computed,".into(),
                dtype: self.io.input(self.weights)?.dtype,
            });
        }
        if self.io.input(self.input)?.dtype == DType::I16 {
            let stage = self.stage_i16(out_depth)?;
            let bias = self.bias_i64()?.unwrap_or_else(|| vec![0; out_depth]);
            let outputs = bias.iter().enumerate();
            return Ok(outputs
                .flat_map(|(unit, &b)| stage.apply_i16(unit, b).to_ne_bytes())
                .collect());
        }
        if self.io.input(self.input)?.dtype == DType::F32 {
            let (low, high) = self.range_f32()?;
            let bias = self
                .constant_bias()?
                .unwrap_or_else(|| vec![0f32; out_depth]);
            return Ok(bias
                .iter()
                .flat_map(|b| b.clamp(low, high).to_ne_bytes())
                .collect());
        }
        let p = self.integer_parameters(out_depth)?;
        let bias = self
            .constant_bias()?
            .unwrap_or_else(|| vec![0i32; out_depth]);
        let output = bias
            .iter()
            .enumerate()
            .map(|(unit, &b)| p.stage.apply(unit, b) as u8 ^ p.flip);
        Ok(output.collect())
    }

    /// What an integer weight of 0 is stored as.
    pub fn zero_weight(&self) -> Result<u8, OpError> {
        let quantization = self.io.input(self.weights)?.quantization()?;
        Ok(quantization.zero_point.first().map_or(0, |&z| z as u8))
    }

    fn integer_parameters(&self, out_depth: usize) -> Result<IntegerParameters, OpError> {
        let input = self.io.input(self.input)?;
        let (flip, shift) = if input.dtype == DType::U8 {
            (0x80, 128)
        } else {
            (0, 0)
        };
        let (type_min, type_max) = (shift - 128, shift + 127);
        let byte = |zero_point: i32| match zero_point {
            z if (type_min..=type_max).contains(&z) => Ok(z - shift),
            z => Err(OpError::Quantization(format!(
                "zero point {z} is not in {type_min}..={type_max}"
            ))),
        };
        let weights = self.io.input(self.weights)?.quantization()?;
        let (weights_scale, weights_zero_point) = match (&*weights.scale, &*weights.zero_point) {
            ([_], [_]) => {
                let weights = weights.per_tensor()?;
                (vec![weights.scale], byte(weights.zero_point)?)
            }
            _ if shift != 0 => {
                return Err(OpError::Quantization(
                    "uint8 weights need one scale and zero point".into(),
                ));
            }
            _ => (weights.symmetric_scales(out_depth)?.to_vec(), 0),
        };
        let (input, output) = (input.per_tensor()?, self.io.output(0)?.per_tensor()?);
        let (min, max) = self.activation.range(output, type_min, type_max)?;
        Ok(IntegerParameters {
            flip,
            input_zero_point: byte(input.zero_point)?,
            weights_zero_point,
            stage: OutputStage {
                requantize: self.requantize_as(self.io.numerics, input, &weights_scale, output)?,
                zero_point: byte(output.zero_point)?,
                min: min - shift,
                max: max - shift,
            },
        })
    }

    fn requantize_as(
        &self,
        numerics: Numerics,
        input: PerTensor,
        weights: &[f32],
        output: PerTensor,
    ) -> Result<Requantize, OpError> {
        let double = |w: f32| f64::from(input.scale) * f64::from(w) / f64::from(output.scale);
        let float = |w: f32| input.scale * w / output.scale;
        if let Some(w) = weights.iter().find(|&&w| !float(w).is_finite()) {
            return Err(OpError::Quantization(format!(
                "scales {} and {w} over {} overflow",
                input.scale, output.scale
            )));
        }
        let weights = weights.iter().copied();
        Ok(match (numerics, self.reference) {
            (Numerics::Fast, _) => Requantize::Float {
                scale: weights.map(float).collect(),
            },
            (Numerics::Reference, Rounding::Fixed) => Requantize::Fixed {
                multiplier: weights.map(|w| quantize_multiplier(double(w))).collect(),
            },
            (Numerics::Reference, Rounding::Double) => Requantize::Double {
                scale: weights.map(double).collect(),
            },
        })
    }
}

/// Refuses geometries whose scratch could not be had, so that no size overflows later.
pub(super) fn check_geometry(geometry: &ConvGeometry, threads: usize) -> Result<(), OpError> {
    let sizes = [
        geometry.filter_h,
        geometry.filter_w,
        geometry.in_depth,
        geometry.out_depth,
        geometry.groups,
    ];
    if sizes.contains(&0) || geometry.pixels() == 0 || geometry.input_len() == 0 {
        return Err(OpError::Shape(
            "a dimension of the filter or of the depth is 0".into(),
        ));
    }
    let columns =
        64 * geometry.stride_w as u128 + geometry.filter_w as u128 * geometry.dilation_w as u128;
    let depth = geometry.in_depth.max(geometry.out_depth) as u128;
    let needed = columns
        .saturating_mul(geometry.filter_h as u128)
        .saturating_mul(depth * 16)
        .saturating_mul(threads as u128);
    if needed > SCRATCH_LIMIT || geometry.filter_h.checked_mul(geometry.dilation_h).is_none() {
        return Err(OpError::Shape(format!(
            "filter of {} x {} with dilation {} x {} is too large",
            geometry.filter_h, geometry.filter_w, geometry.dilation_h, geometry.dilation_w
        )));
    }
    Ok(())
}

/// Weights with their zero point subtracted, as sums of int8: that many follow one another in
/// the place of each. Exact, with an input whose elements are repeated as often.
fn split_weights(weights: &[u8], flip: u8, zero_point: i32) -> (Vec<i8>, usize) {
    let real = weights
        .iter()
        .map(|&w| i32::from((w ^ flip) as i8) - zero_point);
    let least = real.clone().min().unwrap_or(0);
    let most = real.clone().max().unwrap_or(0);
    let copies = (1..=3)
        .find(|&n| -128 * n <= least && most <= 127 * n)
        .unwrap_or(3);
    let parts = real.flat_map(|mut rest| {
        (0..copies).map(move |_| {
            let part = rest.clamp(-128, 127);
            rest -= part;
            part as i8
        })
    });
    (parts.collect(), copies as usize)
}

impl Convolution {
    /// Bytes of scratch that [`Self::run`] needs for `threads` threads.
    pub fn scratch(&self, threads: usize) -> usize {
        match &self.loops {
            Loops::F32(conv) => conv.scratch_len(threads) * size_of::<f32>(),
            Loops::DepthwiseF32(conv) => conv.scratch_len(threads) * size_of::<f32>(),
            Loops::Integer { conv, .. } => self.copy_len() + conv.scratch_len(threads),
            Loops::DepthwiseI8(conv) => conv.scratch_len(threads),
            Loops::I16(conv) => conv.scratch_len(threads) * size_of::<i16>(),
            Loops::DepthwiseI16(conv) => conv.scratch_len(threads) * size_of::<i16>(),
            Loops::Hybrid(conv) => conv.scratch(threads),
            Loops::DepthwiseHybrid(conv) => conv.scratch(threads),
            Loops::Plain(_) => 0,
        }
    }

    /// Bytes for a copy of the input as the inner loops want it.
    fn copy_len(&self) -> usize {
        match self.loops {
            Loops::Integer { flip, copies, .. } if flip != 0 || copies > 1 => {
                self.geometry.input_len() * copies
            }
            _ => 0,
        }
    }

    /// Computes `output` from `input`, as they are stored, on at most `threads` threads.
    /// `inputs` are the operator's operands.
    pub fn run(
        &self,
        inputs: Inputs<'_>,
        input: &[u8],
        output: &mut [u8],
        scratch: &mut [u8],
        threads: usize,
    ) {
        let len = self.scratch(threads);
        match &self.loops {
            Loops::F32(conv) => {
                let scratch = bytemuck::cast_slice_mut(&mut scratch[..len]);
                conv.run(
                    bytemuck::cast_slice(input),
                    bytemuck::cast_slice_mut(output),
                    scratch,
                    threads,
                );
            }
            Loops::DepthwiseF32(conv) => {
                let scratch = bytemuck::cast_slice_mut(&mut scratch[..len]);
                conv.run(
                    bytemuck::cast_slice(input),
                    bytemuck::cast_slice_mut(output),
                    scratch,
                    threads,
                );
            }
            Loops::Integer { conv, flip, copies } => {
                let (copy, scratch) = scratch.split_at_mut(self.copy_len());
                for (copy, &x) in copy.chunks_exact_mut(*copies).zip(input) {
                    copy.fill(x ^ flip);
                }
                let input = if copy.is_empty() { input } else { copy };
                conv.run(
                    bytemuck::cast_slice(input),
                    bytemuck::cast_slice_mut(output),
                    scratch,
                    threads,
                );
                if *flip != 0 {
                    output.iter_mut().for_each(|y| *y ^= flip);
                }
            }
            Loops::DepthwiseI8(conv) => {
                conv.run(
                    bytemuck::cast_slice(input),
                    bytemuck::cast_slice_mut(output),
                    scratch,
                    threads,
                );
            }
            Loops::I16(conv) => {
                let scratch = bytemuck::cast_slice_mut(&mut scratch[..len]);
                conv.run(
                    bytemuck::cast_slice(input),
                    bytemuck::cast_slice_mut(output),
                    scratch,
                    threads,
                );
            }
            Loops::DepthwiseI16(conv) => {
                let scratch = bytemuck::cast_slice_mut(&mut scratch[..len]);
                conv.run(
                    bytemuck::cast_slice(input),
                    bytemuck::cast_slice_mut(output),
                    scratch,
                    threads,
                );
            }
            Loops::Hybrid(conv) => conv.run(
                bytemuck::cast_slice(input),
                bytemuck::cast_slice_mut(output),
                scratch,
                threads,
            ),
            Loops::DepthwiseHybrid(conv) => conv.run(
                bytemuck::cast_slice(input),
                bytemuck::cast_slice_mut(output),
                scratch,
                threads,
            ),
            Loops::Plain(plain) => plain.run(&self.geometry, inputs, input, output),
        }
    }
}

impl Plain {
    fn run(&self, geometry: &ConvGeometry, inputs: Inputs<'_>, input: &[u8], output: &mut [u8]) {
        let depth = geometry.out_depth;
        match &self.arithmetic {
            Arithmetic::F32 { clamp } => {
                let input: &[f32] = bytemuck::cast_slice(input);
                let (weights, bias) = (
                    inputs.get::<f32>(self.weights),
                    inputs.get::<f32>(self.bias),
                );
                let output: &mut [f32] = bytemuck::cast_slice_mut(output);
                let add = |sum: f32, i: usize, w: usize| sum + input[i] * weights[w];
                direct(geometry, self.depthwise, add, |i, sum| {
                    let bias = bias.get(i % depth).copied().unwrap_or(0.0);
                    output[i] = (sum + bias).clamp(clamp.0, clamp.1);
                });
            }
            Arithmetic::Integer(IntegerParameters {
                flip,
                input_zero_point,
                weights_zero_point,
                stage,
            }) => {
                let (weights, bias) = (inputs.bytes(self.weights), inputs.get::<i32>(self.bias));
                let signed = |byte: u8| i32::from((byte ^ flip) as i8);
                let add = |sum: i32, i: usize, w: usize| {
                    let product = (signed(input[i]) - input_zero_point)
                        * (signed(weights[w]) - weights_zero_point);
                    sum.wrapping_add(product)
                };
                direct(geometry, self.depthwise, add, |i, sum| {
                    let bias = bias.get(i % depth).copied().unwrap_or(0);
                    output[i] = stage.apply(i % depth, sum.wrapping_add(bias)) as u8 ^ flip;
                });
            }
        }
    }
}

/// Calls `add(sum, input index, weight index)` for each tap of each output, which starts from 0,
/// then `store(output index, sum)`.
fn direct<S: Default>(
    geometry: &ConvGeometry,
    depthwise: bool,
    mut add: impl FnMut(S, usize, usize) -> S,
    mut store: impl FnMut(usize, S),
) {
    let g = geometry;
    let group_in = if depthwise { 1 } else { g.in_depth / g.groups };
    let group_out = if depthwise {
        g.out_depth / g.in_depth
    } else {
        g.out_depth / g.groups
    };
    let taps = g.filter_h * g.filter_w;
    for pixel in 0..g.pixels() {
        let (row, x) = (pixel / g.out_w, pixel % g.out_w);
        let (batch, y) = (row / g.out_h, row % g.out_h);
        for unit in 0..g.out_depth {
            let mut sum = S::default();
            for tap in 0..taps {
                let in_y =
                    (y * g.stride_h + tap / g.filter_w * g.dilation_h).wrapping_sub(g.pad_top);
                let in_x =
                    (x * g.stride_w + tap % g.filter_w * g.dilation_w).wrapping_sub(g.pad_left);
                if in_y >= g.in_h || in_x >= g.in_w {
                    continue;
                }
                let first = ((batch * g.in_h + in_y) * g.in_w + in_x) * g.in_depth
                    + unit / group_out * group_in;
                for channel in 0..group_in {
                    let weight = if depthwise {
                        tap * g.out_depth + unit
                    } else {
                        (unit * taps + tap) * group_in + channel
                    };
                    sum = add(sum, first + channel, weight);
                }
            }
            store(pixel * g.out_depth + unit, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_weights_that_do_not_fit_a_byte() {
        assert_eq!(split_weights(&[0x7f, 0x80], 0, 0), (vec![127, -128], 1));
        assert_eq!(
            split_weights(&[0xff, 0x00], 0x80, -9),
            (vec![127, 9, -119, 0], 2)
        );
        assert_eq!(split_weights(&[0xff], 0x80, -128), (vec![127, 127, 1], 3));
        assert_eq!(split_weights(&[0x00], 0x80, 127), (vec![-128, -127], 2));
    }

    #[test]
    fn rejects_filters_without_end() {
        let geometry = ConvGeometry {
            filter_w: 3,
            dilation_w: i32::MAX as usize,
            in_depth: 1 << 20,
            ..ConvGeometry::product(4, 1, 1)
        };
        assert!(matches!(
            check_geometry(&geometry, 1),
            Err(OpError::Shape(_))
        ));
        assert_eq!(
            check_geometry(&ConvGeometry::product(4, 1000, 1000), 8),
            Ok(())
        );
    }
}
