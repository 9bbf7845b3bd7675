//! `LOG_SOFTMAX`: `output = x - ln(sum(exp(x)))` over the last axis.
//!
//! One operand of at least one dimension: float32 or int8. The result of int8 has scale 1/16 and
//! zero point 127.

use bantam_kernels::requantize::rounding_divide_by_pot;
use bantam_kernels::{Isa, elementwise};

use super::fixed_point::{Exponentials, ln};
use super::pointwise::{parameters, round_half_away, tabulate, unary_shapes, unary_type};
use super::softmax::by_rows;
use super::{Attributes, Numerics, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `LOG_SOFTMAX` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LogSoftmax;

const SCALE: f32 = 1.0 / 16.0;
const ZERO_POINT: i32 = 127;

no_attributes!(LogSoftmax, LogSoftmaxOptions);

impl Operator for LogSoftmax {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::fixed(SCALE, ZERO_POINT)
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let depth =
            *io.input(0)?.shape.last().ok_or_else(|| {
                OpError::Shape("softmax of a scalar has no axis to sum over".into())
            })?;
        match (unary_type(io)?, io.numerics) {
            (DType::F32, _) => Ok(prepare_f32(depth.max(1))),
            (DType::I8, Numerics::Reference) => prepare_fixed(io, depth),
            (DType::I8, Numerics::Fast) => prepare_float(io, depth),
            _ => Err(io.unsupported(0)),
        }
    }
}

fn prepare_f32(depth: usize) -> Kernel {
    let isa = Isa::best();
    Kernel::new(move |run| {
        let parts = run.parts::<f32>(0);
        elementwise::log_softmax(isa, depth, parts.inputs.get(0), parts.output);
    })
}

/// The operand's scale, if the result's parameters are those of the kernel.
fn input_scale(io: &Signature) -> Result<f32, OpError> {
    let output = parameters(io.output(0)?)?;
    if (output.scale, output.zero_point) != (SCALE, ZERO_POINT) {
        return Err(OpError::Quantization(format!(
            "output scale {} and zero point {} where the kernel gives {SCALE} and {ZERO_POINT}",
            output.scale, output.zero_point
        )));
    }
    Ok(parameters(io.input(0)?)?.scale)
}

/// LiteRT's optimized kernel: a table of `exp` in float.
fn prepare_float(io: &Signature, depth: usize) -> Result<Kernel, OpError> {
    let scale = input_scale(io)?;
    let exponentials = tabulate(DType::U8, |below| (-scale * below as f32).exp());
    let steps = scale / SCALE;
    Ok(by_rows(DType::I8, depth, move |row, out| {
        let sum: f32 = row
            .below()
            .fold(0.0, |sum, below| sum + exponentials[below]);
        // The largest as int8.
        let largest = f32::from((row.largest ^ row.flip) as i8);
        let offset = (scale * largest + sum.ln()) / SCALE;
        for (out, below) in out.iter_mut().zip(row.below()) {
            let value = (steps * (largest - below as f32) - offset).round_ties_even();
            *out = round_half_away(value)
                .saturating_add(ZERO_POINT)
                .clamp(-128, 127) as u8;
        }
    }))
}

/// LiteRT's reference kernel: gemmlowp's fixed point.
fn prepare_fixed(io: &Signature, depth: usize) -> Result<Kernel, OpError> {
    let exponentials = Exponentials::new(input_scale(io)?.into())?;
    let inverse = exponentials.inverse()?;
    Ok(by_rows(DType::I8, depth, move |row, out| {
        let terms = row.below().filter_map(|below| exponentials.get(below));
        let sum = terms.fold(0i32, |sum, e| {
            sum.saturating_add(rounding_divide_by_pot(e, 12))
        });
        // In Q5.26, and the smallest difference above -32 in steps of the operand.
        let log_sum = ln(sum);
        let smallest = inverse.apply(log_sum.wrapping_add(i32::MIN));
        let smallest = smallest.max(-exponentials.radius() - 1);
        for (out, below) in out.iter_mut().zip(row.below()) {
            let difference = -(below as i32);
            let steps = if difference > smallest {
                let fine = exponentials.scaled(difference).wrapping_sub(log_sum);
                rounding_divide_by_pot(fine, 22) + ZERO_POINT
            } else {
                -128
            };
            *out = steps.clamp(-128, 127) as u8;
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, eval_with, signature};

    #[test]
    fn f32_exponentials_sum_to_one() {
        let input = Case::f32([2, 2], [0.0, 0.0, 1000.0, 0.0]);
        let output = eval(LogSoftmax, &[input], Case::result(DType::F32)).get::<f32>();
        assert!((output[0].exp() - 0.5).abs() < 1e-6);
        assert_eq!(output[2..], [0.0, -1000.0]);
    }

    #[test]
    fn i8_is_in_sixteenths_below_127() {
        for numerics in [Numerics::Reference, Numerics::Fast] {
            let input = Case::i8([2, 2], [7, 7, 127, -128]).quantized(0.5, 3);
            let output = Case::result(DType::I8).quantized(SCALE, ZERO_POINT);
            let output = eval_with(numerics, LogSoftmax, &[input], &[output]);
            // ln 2 is 11 sixteenths.
            assert_eq!(output[0].get::<i8>(), [116, 116, 127, -128]);
        }
    }

    #[test]
    fn long_rows_neither_overflow_nor_panic() {
        for numerics in [Numerics::Reference, Numerics::Fast] {
            let input = Case::i8([1, 5000], [9; 5000]).quantized(0.5, 0);
            let output = Case::result(DType::I8).quantized(SCALE, ZERO_POINT);
            eval_with(numerics, LogSoftmax, &[input], &[output]);
        }
    }

    #[test]
    fn rejects_scalars_and_other_results() {
        let io = signature(&[Case::f32([], [1.0])], &[Case::result(DType::F32)]);
        assert!(matches!(LogSoftmax.prepare(&io), Err(OpError::Shape(_))));
        let input = Case::i8([1], [1]).quantized(1.0, 0);
        let io = signature(&[input], &[Case::result(DType::I8).quantized(1.0, 0)]);
        assert!(matches!(
            LogSoftmax.prepare(&io),
            Err(OpError::Quantization(_))
        ));
    }
}
