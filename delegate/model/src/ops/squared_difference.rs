//! `SQUARED_DIFFERENCE`: `output = (a - b)^2`.
//!
//! Operands of float32, int32 or int8, of any shapes that broadcast to each other. Quantized
//! operands and results may all have scales of their own.

use super::broadcast::{binary, binary_shapes, binary_type};
use super::pointwise::{limits, multiplier, parameters};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `SQUARED_DIFFERENCE` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SquaredDifference;

no_attributes!(SquaredDifference, SquaredDifferenceOptions);

impl Operator for SquaredDifference {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        binary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match binary_type(io)? {
            DType::F32 => binary(io, |a: f32, b: f32| (a - b) * (a - b)),
            DType::I32 => binary(io, |a: i32, b: i32| {
                let difference = a.wrapping_sub(b);
                difference.wrapping_mul(difference)
            }),
            DType::I8 => prepare_i8(io),
            _ => Err(io.unsupported(0)),
        }
    }
}

/// LiteRT's: both operands are brought to twice the larger scale, 7 bits up.
fn prepare_i8(io: &Signature) -> Result<Kernel, OpError> {
    const LEFT_SHIFT: u32 = 7;
    let (min, max) = limits(DType::I8).ok_or_else(|| io.unsupported(0))?;
    let a = parameters(io.input(0)?)?;
    let b = parameters(io.input(1)?)?;
    let output = parameters(io.output(0)?)?;
    let twice_larger = 2.0 * f64::from(a.scale.max(b.scale));
    let scale_a = multiplier(f64::from(a.scale) / twice_larger)?;
    let scale_b = multiplier(f64::from(b.scale) / twice_larger)?;
    let steps = f64::from(1 << (2 * LEFT_SHIFT)) * f64::from(output.scale);
    let scale_output = multiplier(twice_larger * twice_larger / steps)?;
    binary(io, move |x: i8, y: i8| {
        let x = scale_a.apply((i32::from(x) - a.zero_point) << LEFT_SHIFT);
        let y = scale_b.apply((i32::from(y) - b.zero_point) << LEFT_SHIFT);
        let square = scale_output.apply((x - y) * (x - y));
        square.wrapping_add(output.zero_point).clamp(min, max) as i8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval};

    #[test]
    fn f32_values() {
        let operands = [Case::f32([2], [1.0, 5.0]), Case::f32([], [3.0])];
        let output = eval(SquaredDifference, &operands, Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [4.0, 4.0]);
    }

    #[test]
    fn i8_squares_real_values_and_saturates() {
        // (0.5·(3−1) − 0.25·(4+4))² = 1, which the output's scale of 0.1 and zero point of 7 store as 17.
        let a = Case::i8([2], [3, -128]).quantized(0.5, 1);
        let b = Case::i8([1], [4]).quantized(0.25, -4);
        let output = Case::result(DType::I8).quantized(0.1, 7);
        let output = eval(SquaredDifference, &[a, b], output);
        assert_eq!(output.get::<i8>(), [17, 127]);
    }
}
