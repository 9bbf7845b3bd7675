//! `QUANTIZE`: real values to integers, or integers to those of another scale or type.
//!
//! One operand of any shape: float32, or quantized. The result has one scale.

use super::pointwise::{
    fast_factor, limits, map, map_quantized, multiplier, parameters, rescale_fast, round_half_away,
    round_ties_even, unary_shapes,
};
use super::{Attributes, Numerics, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `QUANTIZE` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quantize;

no_attributes!(Quantize, QuantizeOptions);

impl Operator for Quantize {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn version(&self, io: &Signature) -> i32 {
        let Ok(output) = io.output(0) else { return 1 };
        match &output.quantization {
            _ if output.dtype == DType::I4 => 4,
            Some(quantization) if quantization.scale.len() > 1 => 3,
            _ if output.dtype == DType::I16 => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let input = io.input(0)?;
        let output = io.output(0)?;
        let (min, max) = limits(output.dtype).ok_or_else(|| OpError::UnsupportedType {
            what: "output 0".into(),
            dtype: output.dtype,
        })?;
        if input.dtype == DType::F32 {
            return prepare_f32(io, min, max);
        }
        let (from, to) = (parameters(input)?, parameters(output)?);
        let same_type = input.dtype == output.dtype;
        let factor = fast_factor(from.scale / to.scale).filter(|_| same_type);
        if let (DType::I8 | DType::U8, Numerics::Fast, Some(factor)) =
            (input.dtype, io.numerics, factor)
        {
            return map_quantized(io, move |x| {
                let y = rescale_fast(x - from.zero_point, factor);
                (y + to.zero_point).clamp(min, max)
            });
        }
        let scale = multiplier(f64::from(from.scale) / f64::from(to.scale))?;
        map_quantized(io, move |x| {
            let y = scale.apply(x.wrapping_sub(from.zero_point));
            y.wrapping_add(to.zero_point).clamp(min, max)
        })
    }
}

fn prepare_f32(io: &Signature, min: i32, max: i32) -> Result<Kernel, OpError> {
    let output = io.output(0)?;
    let to = parameters(output)?;
    let zero_point = to.zero_point;
    if output.dtype == DType::I32 {
        return Ok(map(move |x: f32| {
            let steps = (f64::from(x) / f64::from(to.scale)).round() + f64::from(zero_point);
            steps as i32
        }));
    }
    // At most 2^17 from 0, because zero points are inside the type.
    let (low, high) = ((min - zero_point) as f32, (max - zero_point) as f32);
    let inverse = 1.0 / to.scale;
    macro_rules! kernel {
        ($type:ty) => {
            map(move |x: f32| {
                let steps = (x / to.scale).max(low).min(high);
                (round_half_away(steps) + zero_point) as $type
            })
        };
        (fast $type:ty) => {
            map(move |x: f32| {
                let steps = (x * inverse).max(low).min(high);
                (round_ties_even(steps) + zero_point) as $type
            })
        };
    }
    // XNNPACK's for 8 bits, and LiteRT's optimized one for 16.
    let is_fast = io.numerics == Numerics::Fast && inverse.is_finite();
    match output.dtype {
        DType::I8 if is_fast => Ok(kernel!(fast i8)),
        DType::U8 if is_fast => Ok(kernel!(fast u8)),
        DType::I16 if is_fast => Ok(kernel!(fast i16)),
        DType::I8 => Ok(kernel!(i8)),
        DType::U8 => Ok(kernel!(u8)),
        DType::I16 => Ok(kernel!(i16)),
        _ => Err(io.unsupported(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, eval_with, signature};

    #[test]
    fn f32_rounds_ties_by_numerics() {
        let steps = |numerics| {
            let input = Case::f32([5], [0.25, -0.75, 1000.0, -1000.0, f32::INFINITY]);
            let output = Case::result(DType::I8).quantized(0.5, 3);
            eval_with(numerics, Quantize, &[input], &[output])[0].get::<i8>()
        };
        assert_eq!(steps(Numerics::Reference), [4, 1, 127, -128, 127]);
        assert_eq!(steps(Numerics::Fast), [3, 1, 127, -128, 127]);
    }

    #[test]
    fn f32_that_is_not_a_number_does_not_panic() {
        for numerics in [Numerics::Reference, Numerics::Fast] {
            let output = Case::result(DType::I8).quantized(0.5, 3);
            eval_with(numerics, Quantize, &[Case::f32([1], [f32::NAN])], &[output]);
        }
    }

    #[test]
    fn i8_becomes_u8_of_the_same_scale() {
        let input = Case::i8([3], [-128, 0, 127]).quantized(0.1, -5);
        let output = eval(
            Quantize,
            &[input],
            Case::result(DType::U8).quantized(0.1, 123),
        );
        assert_eq!(output.get::<u8>(), [0, 128, 255]);
    }

    #[test]
    fn i32_is_rescaled_and_saturates() {
        let input = Case::i32([3], [10, -10, i32::MIN]).quantized(0.5, 0);
        let output = eval(
            Quantize,
            &[input],
            Case::result(DType::I16).quantized(0.25, 0),
        );
        assert_eq!(output.get::<i16>()[..2], [20, -20]);
    }

    #[test]
    fn rejects_an_output_without_scale() {
        let io = signature(&[Case::f32([1], [1.0])], &[Case::result(DType::I8)]);
        assert!(matches!(
            Quantize.prepare(&io),
            Err(OpError::Quantization(_))
        ));
    }
}
