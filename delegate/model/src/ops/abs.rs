//! `ABS`: `output = |x|`.
//!
//! One operand of any shape: float32, int32, int16 without scale, or quantized int8 and int16,
//! whose result may have a scale of its own.

use super::pointwise::{
    limits, map, map_quantized, multiplier, parameters, unary_shapes, unary_type,
};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `ABS` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Abs;

no_attributes!(Abs, AbsOptions);

impl Operator for Abs {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0) {
            Ok(x) if x.dtype == DType::I32 => 5,
            Ok(x) if x.dtype == DType::I16 && x.quantization().is_err() => 4,
            Ok(x) if x.dtype == DType::I16 => 3,
            Ok(x) if x.dtype == DType::I8 => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match unary_type(io)? {
            DType::F32 => Ok(map(f32::abs)),
            DType::I32 => Ok(map(i32::wrapping_abs)),
            DType::I16 if io.input(0)?.quantization().is_err() => Ok(map(i16::wrapping_abs)),
            DType::I8 | DType::I16 => prepare_quantized(io),
            _ => Err(io.unsupported(0)),
        }
    }
}

fn prepare_quantized(io: &Signature) -> Result<Kernel, OpError> {
    let (min, max) = limits(unary_type(io)?).ok_or_else(|| io.unsupported(0))?;
    let input = parameters(io.input(0)?)?;
    let output = parameters(io.output(0)?)?;
    let scale = multiplier(f64::from(input.scale / output.scale))?;
    map_quantized(io, move |x| {
        let y = scale.apply((x - input.zero_point).abs());
        y.wrapping_add(output.zero_point).clamp(min, max)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval};

    #[test]
    fn f32_values() {
        let input = Case::f32([2], [-1.5, 2.0]);
        let output = eval(Abs, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [1.5, 2.0]);
    }

    #[test]
    fn i8_rescales() {
        let input = Case::i8([3], [-128, 1, 11]).quantized(0.5, 1);
        let output = eval(Abs, &[input], Case::result(DType::I8).quantized(1.0, -100));
        assert_eq!(output.get::<i8>(), [-35, -100, -95]);
    }

    #[test]
    fn i16_without_a_scale_wraps() {
        let input = Case::new(DType::I16, [2], &[i16::MIN, -7]);
        let output = eval(Abs, &[input], Case::result(DType::I16));
        assert_eq!(output.get::<i16>(), [i16::MIN, 7]);
    }
}
