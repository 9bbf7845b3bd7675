//! `CONCATENATION`: its inputs one after the other along an axis.
//!
//! All dimensions but that of the axis are equal. uint8 inputs may have scales and zero points
//! of their own and are requantized; int8 inputs must have those of the result; other types are
//! copied as they are. Scalars become a vector.

use super::movement::{Axis, Copy, axis, element_size, scale_and_zero_point, strides};
use super::{Activation, Attributes, OpError, Operator, QuantRule, Role, Signature, Value};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `CONCATENATION`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Concatenation {
    /// The axis, counted from the end if negative.
    pub axis: i32,
    /// Kept, but only [`Activation::None`] has a kernel.
    pub activation: Activation,
}

impl Attributes for Concatenation {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options
            .as_concatenation_options()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            axis: options.axis,
            activation: Activation::from_code(options.fused_activation_function),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::ConcatenationOptions(Box::new(tfl::ConcatenationOptionsT {
            axis: self.axis,
            fused_activation_function: self.activation.code(),
        }))
    }
}

/// The shape of an input; a scalar counts as a vector of one.
fn vector(value: &Value) -> &[usize] {
    if value.shape.is_empty() {
        &[1]
    } else {
        &value.shape
    }
}

impl Concatenation {
    fn axis(&self, io: &Signature) -> Result<usize, OpError> {
        axis(self.axis.into(), vector(io.input(0)?).len())
    }
}

/// What each uint8 of an input becomes in the result, in float32 as LiteRT computes it.
fn requantization(input: &Value, output: &Value) -> Result<Option<Box<[u8; 256]>>, OpError> {
    if scale_and_zero_point(input) == scale_and_zero_point(output) {
        return Ok(None);
    }
    if output.dtype == DType::I8 {
        return Err(OpError::Quantization(format!(
            "inputs and output of CONCATENATION differ: {:?} and {:?}",
            scale_and_zero_point(input),
            scale_and_zero_point(output)
        )));
    }
    if output.dtype != DType::U8 {
        return Ok(None);
    }
    let (from, to) = (input.per_tensor()?, output.per_tensor()?);
    let scale = from.scale * (1.0 / to.scale);
    let bias = from.zero_point.wrapping_neg() as f32 * scale;
    Ok(Some(Box::new(std::array::from_fn(|q| {
        let steps = (q as f32 * scale + bias).round() as i32;
        steps.saturating_add(to.zero_point).clamp(0, 255) as u8
    }))))
}

impl Operator for Concatenation {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let axis = self.axis(io)?;
        let mut shape = vector(io.input(0)?).to_vec();
        for index in 1..io.inputs.len() {
            let input = io.input(index)?;
            let other = vector(input);
            let fits = |(d, (a, b)): (usize, (&usize, &usize))| d == axis || a == b;
            if other.len() != shape.len() || !shape.iter().zip(other).enumerate().all(fits) {
                return Err(OpError::Shape(format!(
                    "shape {other:?} does not continue {shape:?} along axis {axis}"
                )));
            }
            shape[axis] = shape[axis]
                .checked_add(other[axis])
                .ok_or_else(|| OpError::Shape(format!("axis {axis} is too long")))?;
        }
        Ok(vec![shape])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|input| input.dtype) {
            Ok(DType::F16) => 6,
            Ok(DType::I4) => 5,
            Ok(DType::U32) => 4,
            Ok(DType::I16) => 3,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        if self.activation != Activation::None {
            return Err(OpError::Attribute(format!(
                "fused activation {:?}",
                self.activation
            )));
        }
        let axis = self.axis(io)?;
        let output = io.output(0)?;
        let to = strides(output)?;
        let mut start = 0;
        let mut copies = Vec::with_capacity(io.inputs.len());
        for index in 0..io.inputs.len() {
            let input = io.input(index)?;
            element_size(input, output)?;
            let shape = vector(input);
            let from = strides(&Value {
                shape: shape.to_vec(),
                ..input.clone()
            })?;
            let axes = (0..shape.len()).map(|d| {
                let first = if d == axis { start } else { 0 };
                Axis::starting(shape[d], (0, from[d]), (first, to[d]))
            });
            let copy = Copy::new(input, output, axes.collect())?;
            copies.push((copy, requantization(input, output)?));
            start += shape[axis] as isize * to[axis];
        }
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            for (index, (copy, table)) in copies.iter().enumerate() {
                let input = parts.inputs.bytes(index);
                match table {
                    None => copy.run(input, parts.output),
                    Some(table) => copy.each(|from, to, len| {
                        let pairs = parts.output[to..to + len].iter_mut().zip(&input[from..]);
                        pairs.for_each(|(output, &q)| *output = table[usize::from(q)]);
                    }),
                }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn joins_along_the_last_axis() {
        let op = Concatenation {
            axis: -1,
            ..Default::default()
        };
        let inputs = [
            Case::f32([2, 1], [1.0, 4.0]),
            Case::f32([2, 2], [2.0, 3.0, 5.0, 6.0]),
        ];
        let output = eval(op, &inputs, Case::result(DType::F32));
        assert_eq!(output.shape, [2, 3]);
        assert_eq!(output.get::<f32>(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn requantizes_uint8() {
        let inputs = [
            Case::new(DType::U8, [2], &[10u8, 255]).quantized(0.5, 0),
            Case::new(DType::U8, [2], &[10u8, 255]).quantized(1.0, 5),
        ];
        let result = Case::result(DType::U8).quantized(0.25, 3);
        assert_eq!(
            eval(Concatenation::default(), &inputs, result).bytes,
            [23, 255, 23, 255]
        );
    }

    #[test]
    fn scalars_and_empty_inputs_join() {
        let inputs = [Case::i32([], [7]), Case::i32([0], []), Case::i32([], [9])];
        let output = eval(Concatenation::default(), &inputs, Case::result(DType::I32));
        assert_eq!(output.get::<i32>(), [7, 9]);
    }

    #[test]
    fn rejects_int8_of_other_scales_and_fused_activations() {
        let inputs = [
            Case::i8([1], [0]).quantized(0.5, 0),
            Case::i8([1], [0]).quantized(0.25, 0),
        ];
        let mut io = signature(&inputs, &[Case::result(DType::I8).quantized(0.5, 0)]);
        io.outputs[0].shape = vec![2];
        let error = Concatenation::default().prepare(&io).unwrap_err();
        assert!(matches!(error, OpError::Quantization(_)));
        let op = Concatenation {
            axis: 0,
            activation: Activation::Relu,
        };
        assert!(matches!(op.prepare(&io), Err(OpError::Attribute(_))));
    }

    #[test]
    fn rejects_other_dimensions() {
        let inputs = [Case::i8([2, 1], [0, 0]), Case::i8([1, 1], [0])];
        let io = signature(&inputs, &[Case::result(DType::I8)]);
        let op = Concatenation {
            axis: 1,
            ..Default::default()
        };
        assert!(matches!(op.infer_shapes(&io), Err(OpError::Shape(_))));
    }
}
