//! `SVDF`: a fully connected layer over the last steps of a sequence, in low rank. Each filter
//! keeps its last `memory` features `w x`; a unit is the sum over its `rank` filters of the
//! features' products with time weights, plus bias, through the activation.
//!
//! Operands: 0 input `[batch, inputs]`, 1 feature weights `[filters, inputs]`, 2 time weights
//! `[filters, memory]`, 3 bias `[units]`, may be left out, 4 the state, a variable
//! `[batch, filters * memory]`. `filters` is `units * rank`. In integers, time weights have 10
//! bits in int16, the state is int16, and the activation must be RELU, which the result's zero
//! point does.

use super::fixed_point_16::ratio;
use super::pointwise::parameters;
use super::recurrent::{
    Dense, Sequence, Stack, activate, check_activation, check_sizes, constant, dot, room, state,
    take, vector,
};
use super::{Activation, Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `SVDF`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Svdf {
    /// Filters to a unit.
    pub rank: i32,
    /// Of the result.
    pub activation: Activation,
    /// Whether products with int8 weights quantize float activations asymmetrically.
    pub asymmetric_quantize_inputs: bool,
}

impl Attributes for Svdf {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_svdfoptions().cloned().unwrap_or_default();
        Ok(Self {
            rank: options.rank,
            activation: Activation::from_code(options.fused_activation_function),
            asymmetric_quantize_inputs: options.asymmetric_quantize_inputs,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::SVDFOptions(Box::new(tfl::SVDFOptionsT {
            rank: self.rank,
            fused_activation_function: self.activation.code(),
            asymmetric_quantize_inputs: self.asymmetric_quantize_inputs,
        }))
    }
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch: usize,
    inputs: usize,
    filters: usize,
    memory: usize,
    rank: usize,
    units: usize,
}

impl Operator for Svdf {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let sizes = self.sizes(io)?;
        Ok(vec![vec![sizes.batch, sizes.units]])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        let bias = Role::Bias {
            input: 4,
            weights: 2,
        };
        let time = Role::WideWeights { largest: 512 };
        let weights = Role::Weights { axis: None };
        let roles = [Role::Activation, weights, time, bias, Role::WideState];
        (self.activation == Activation::Relu).then(|| QuantRule::calibrated(roles))?
    }

    fn version(&self, io: &Signature) -> i32 {
        match (io.input(0).map(|x| x.dtype), io.input(1).map(|w| w.dtype)) {
            (Ok(DType::I8), _) => 3,
            (_, Ok(DType::I8)) if self.asymmetric_quantize_inputs => 4,
            (_, Ok(DType::I8)) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match io.common_dtype(0)? {
            DType::F32 => self.prepare_float(io),
            DType::I8 => self.prepare_integer(io),
            _ => Err(io.unsupported(0)),
        }
    }
}

impl Svdf {
    fn sizes(&self, io: &Signature) -> Result<Sizes, OpError> {
        let (Sequence { batch, .. }, inputs) = Sequence::single(io.input(0)?)?;
        let [filters, _] = io.input(1)?.shape_n()?;
        let [_, memory] = io.input(2)?.shape_n()?;
        let rank = usize::try_from(self.rank).unwrap_or(0);
        if rank == 0 || !filters.is_multiple_of(rank) {
            return Err(OpError::Attribute(format!(
                "rank {} does not divide {filters} filters",
                self.rank
            )));
        }
        check_sizes(&[filters, memory, batch.max(1)])?;
        check_sizes(&[filters, inputs, batch.max(1)])?;
        Ok(Sizes {
            batch,
            inputs,
            filters,
            memory,
            rank,
            units: filters / rank,
        })
    }

    fn prepare_float(&self, io: &Signature) -> Result<Kernel, OpError> {
        check_activation(self.activation)?;
        let sizes = self.sizes(io)?;
        let Sizes {
            batch,
            filters,
            memory,
            rank,
            units,
            ..
        } = sizes;
        let features = Stack {
            io,
            operands: &[1],
            units: filters,
            depth: sizes.inputs,
            asymmetric: self.asymmetric_quantize_inputs,
        };
        let features: Dense = features.pack(None)?;
        let weights = time_weights(io, &sizes)?;
        let bias: Vec<f32> = match io.optional_input(3) {
            Some(_) => vector(io, 3, DType::F32, units)?,
            None => vec![0.0; units],
        };
        let state = state(io, 4, DType::F32, batch * filters * memory)?;
        let activation = self.activation;
        let scratch = room::<f32>(batch * filters)
            .saturating_add(room::<f32>(batch * units))
            .saturating_add(features.scratch());
        Ok(Kernel::with_scratch(scratch, move |run| {
            let threads = run.threads;
            let parts = run.parts::<f32>(state);
            let mut scratch = parts.scratch;
            let sums: &mut [f32] = take(&mut scratch, batch * units);
            let feature: &mut [f32] = take(&mut scratch, batch * filters);
            features.run(batch, parts.inputs.get(0), feature, scratch, threads);
            remember(parts.output, memory, feature);
            let rows = parts.output.chunks_exact(memory);
            let weights = weights.chunks_exact(memory).cycle();
            for (feature, (row, weights)) in feature.iter_mut().zip(rows.zip(weights)) {
                *feature = row.iter().zip(weights).map(|(x, w)| x * w).sum();
            }
            let filters = feature.chunks_exact(rank);
            for ((sum, filters), bias) in sums.iter_mut().zip(filters).zip(bias.iter().cycle()) {
                *sum = filters.iter().sum::<f32>() + bias;
            }
            let parts = run.parts::<f32>(0);
            let mut scratch = parts.scratch;
            parts
                .output
                .copy_from_slice(take(&mut scratch, batch * units));
            activate(activation, parts.output);
        }))
    }

    fn prepare_integer(&self, io: &Signature) -> Result<Kernel, OpError> {
        if self.activation != Activation::Relu {
            return Err(OpError::Attribute(format!(
                "activation {:?} where the integer kernel has RELU",
                self.activation
            )));
        }
        let sizes = self.sizes(io)?;
        let Sizes {
            batch,
            inputs,
            filters,
            memory,
            rank,
            units,
        } = sizes;
        let features: Vec<i8> = constant(io, 1, DType::I8, &[filters, inputs])?.constant()?;
        let features: Vec<i16> = features.into_iter().map(i16::from).collect();
        let weights: Vec<i16> = constant(io, 2, DType::I16, &[filters, memory])?.constant()?;
        let bias: Vec<i32> = match io.optional_input(3) {
            Some(_) => vector(io, 3, DType::I32, units)?,
            None => vec![0; units],
        };
        let kept = state(io, 4, DType::I16, batch * filters * memory)?;
        let scale = |index| Ok(io.input(index)?.per_tensor()?.scale);
        let (input, output) = (parameters(io.input(0)?)?, parameters(io.output(0)?)?);
        let state_scale = scale(4)?;
        let to_state = ratio(input.scale * scale(1)? / state_scale)?;
        let to_output = ratio(state_scale * scale(2)? / output.scale)?;
        let scratch = room::<i8>(batch * units)
            .saturating_add(room::<i16>(inputs))
            .saturating_add(room::<i16>(batch * filters));
        Ok(Kernel::with_scratch(scratch, move |run| {
            let parts = run.parts::<i16>(kept);
            let mut scratch = parts.scratch;
            let results: &mut [i8] = take(&mut scratch, batch * units);
            let wide: &mut [i16] = take(&mut scratch, inputs);
            let feature: &mut [i16] = take(&mut scratch, batch * filters);
            let rows = parts.inputs.get::<i8>(0).chunks_exact(inputs);
            for (row, feature) in rows.zip(feature.chunks_exact_mut(filters)) {
                for (wide, &x) in wide.iter_mut().zip(row) {
                    *wide = (i32::from(x) - input.zero_point) as i16;
                }
                for (feature, weights) in feature.iter_mut().zip(features.chunks_exact(inputs)) {
                    let sum = to_state.apply(dot(weights, wide));
                    *feature = sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
                }
            }
            remember(parts.output, memory, feature);
            let rows = parts.output.chunks_exact(memory * rank);
            let weights = weights.chunks_exact(memory * rank).cycle();
            let terms = rows.zip(weights).zip(bias.iter().cycle());
            for (result, ((row, weights), &bias)) in results.iter_mut().zip(terms) {
                let sum = to_output.apply(dot(row, weights).wrapping_add(bias));
                *result = sum.saturating_add(output.zero_point).clamp(-128, 127) as i8;
            }
            let parts = run.parts::<i8>(0);
            let mut scratch = parts.scratch;
            parts
                .output
                .copy_from_slice(take(&mut scratch, batch * units));
        }))
    }
}

/// Time weights: float, or int8 of hybrid operators, which compute with their real values.
fn time_weights(io: &Signature, sizes: &Sizes) -> Result<Vec<f32>, OpError> {
    let shape = [sizes.filters, sizes.memory];
    if io.input(2)?.dtype != DType::I8 {
        return constant(io, 2, DType::F32, &shape)?.constant();
    }
    let value = constant(io, 2, DType::I8, &shape)?;
    let scale = value.quantization()?.symmetric_scales(1)?[0];
    let weights = value.constant::<i8>()?;
    Ok(weights.into_iter().map(|w| f32::from(w) * scale).collect())
}

/// Forgets the oldest of each filter's `memory` features and appends the one of `newest`.
fn remember<T: Copy>(state: &mut [T], memory: usize, newest: &[T]) {
    for (row, &feature) in state.chunks_exact_mut(memory).zip(newest) {
        row.copy_within(1.., 0);
        row[memory - 1] = feature;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn op(rank: i32) -> Svdf {
        Svdf {
            rank,
            activation: Activation::Relu,
            ..Svdf::default()
        }
    }

    #[test]
    fn f32_sums_over_filters_of_a_unit() {
        let operands = [
            Case::f32([1, 1], [2.0]),
            Case::f32([2, 1], [1.0, 3.0]).constant(),
            Case::f32([2, 2], [9.0, 1.0, 9.0, 0.5]).constant(),
            Case::f32([1], [10.0]).constant(),
            Case::variable::<f32>(DType::F32, [1, 4]),
        ];
        let output = eval(op(2), &operands, Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [15.0]);
    }

    #[test]
    fn i8_requantizes_twice() {
        let operands = [
            Case::i8([1, 1], [7]).quantized(0.5, 3),
            Case::i8([1, 1], [10]).quantized(0.1, 0).constant(),
            Case::new(DType::I16, [1, 2], &[9i16, 4])
                .quantized(0.25, 0)
                .constant(),
            Case::absent(),
            Case::variable::<i16>(DType::I16, [1, 2]).quantized(0.01, 0),
        ];
        // 4 * 10 * 0.05 is 2 real, 200 in the state; times 4 * 0.25 is 2 real.
        let output = eval(
            op(1),
            &operands,
            Case::result(DType::I8).quantized(0.5, -128),
        );
        assert_eq!(output.get::<i8>(), [-124]);
    }

    #[test]
    fn rejects_a_rank_that_does_not_divide_the_filters() {
        let operands = [
            Case::f32([1, 1], [2.0]),
            Case::f32([2, 1], [1.0, 3.0]).constant(),
            Case::f32([2, 2], [0.0; 4]).constant(),
        ];
        for rank in [0, 3, -1] {
            let io = signature(&operands, &[]);
            assert!(matches!(
                op(rank).infer_shapes(&io),
                Err(OpError::Attribute(_))
            ));
        }
    }
}
