//! `PRELU`: `output = x` where `x >= 0`, otherwise `alpha * x`.
//!
//! Operand `x` of any shape; `alpha` broadcasts to it, and is of the same type, or int8 for int16.
//! A quantized result may have a scale of its own.

use super::broadcast::{binary, binary_shapes};
use super::pointwise::{Element, limits, multiplier, parameters};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `PRELU` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Prelu;

const INPUT: usize = 0;
const ALPHA: usize = 1;

no_attributes!(Prelu);

impl Operator for Prelu {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let shapes = binary_shapes(io)?;
        let input = &io.input(INPUT)?.shape;
        if shapes[0] != *input {
            return Err(OpError::Shape(format!(
                "alpha of shape {:?} does not broadcast to {input:?}",
                io.input(ALPHA)?.shape
            )));
        }
        Ok(shapes)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation, Role::Weights { axis: None }])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match (io.common_dtype(INPUT)?, io.input(ALPHA)?.dtype) {
            (DType::F32, DType::F32) => binary(
                io,
                |x: f32, alpha: f32| {
                    if x >= 0.0 { x } else { x * alpha }
                },
            ),
            (DType::I8, DType::I8) => prepare_quantized::<i8, i8>(io),
            (DType::U8, DType::U8) => prepare_quantized::<u8, u8>(io),
            (DType::I16, DType::I8) => prepare_quantized::<i16, i8>(io),
            (_, _) => Err(io.unsupported(ALPHA)),
        }
    }
}

fn prepare_quantized<T: Element, A: Element>(io: &Signature) -> Result<Kernel, OpError> {
    let (min, max) = limits(io.output(0)?.dtype).ok_or_else(|| io.unsupported(INPUT))?;
    let input = parameters(io.input(INPUT)?)?;
    let alpha = parameters(io.input(ALPHA)?)?;
    let output = parameters(io.output(0)?)?;
    let right = multiplier(f64::from(input.scale / output.scale))?;
    let left = multiplier(f64::from(input.scale * alpha.scale / output.scale))?;
    binary(io, move |x: T, slope: A| {
        let x = x.into() - input.zero_point;
        let y = if x >= 0 {
            right.apply(x)
        } else {
            left.apply(x * (slope.into() - alpha.zero_point))
        };
        T::from_i32(y.wrapping_add(output.zero_point).clamp(min, max))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn f32_has_a_slope_for_each_index_of_the_last_axis() {
        let input = Case::f32([2, 2], [-1.0, -1.0, 2.0, -4.0]);
        let alpha = Case::f32([2], [0.5, -0.25]).constant();
        let output = eval(Prelu, &[input, alpha], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [-0.5, 0.25, 2.0, 1.0]);
    }

    #[test]
    fn i8_rescales_both_sides() {
        let input = Case::i8([2], [-8, 8]).quantized(0.5, 0);
        let alpha = Case::i8([1], [50]).quantized(0.01, 0);
        let output = eval(
            Prelu,
            &[input, alpha],
            Case::result(DType::I8).quantized(0.25, -1),
        );
        assert_eq!(output.get::<i8>(), [-9, 15]);
    }

    #[test]
    fn rejects_an_alpha_larger_than_the_input() {
        let operands = [Case::f32([1, 2], [0.0; 2]), Case::f32([3, 1], [0.0; 3])];
        let io = signature(&operands, &[Case::result(DType::F32)]);
        assert!(matches!(Prelu.infer_shapes(&io), Err(OpError::Shape(_))));
    }
}
