//! `SOFTMAX`: `output = exp(beta * x) / sum(exp(beta * x))` over the last axis.
//!
//! One operand of at least one dimension. The result of int8 has scale 1/256 and zero point -128.

use bantam_kernels::requantize::{
    rounding_divide_by_pot, saturating_rounding_doubling_high_mul as high_mul,
};

use super::pointwise::{limits, multiplier, parameters, round_half_away, tabulate, unary_shapes, unary_type};
use super::{Attributes, Numerics, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `SOFTMAX`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Softmax {
    /// Factor of the operand.
    pub beta: f32,
}

impl Default for Softmax {
    fn default() -> Self {
        Self { beta: 1.0 }
    }
}

impl Attributes for Softmax {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_softmax_options().cloned().unwrap_or_default();
        Ok(Self { beta: options.beta })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::SoftmaxOptions(Box::new(tfl::SoftmaxOptionsT { beta: self.beta }))
    }
}

impl Operator for Softmax {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::fixed(1.0 / 256.0, -128)
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::I16) => 3,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let depth = *io.input(0)?.shape.last().ok_or_else(|| {
            OpError::Shape("softmax of a scalar has no axis to sum over".into())
        })?;
        if !self.beta.is_finite() {
            return Err(OpError::Attribute(format!("beta is {}", self.beta)));
        }
        let dtype = unary_type(io)?;
        match (dtype, io.numerics) {
            (DType::F32, _) => Ok(self.prepare_f32(depth.max(1))),
            (DType::I8 | DType::U8, Numerics::Reference) => self.prepare_fixed(io, dtype, depth),
            (DType::I8 | DType::U8, Numerics::Fast) => self.prepare_float(io, dtype, depth),
            _ => Err(io.unsupported(0)),
        }
    }
}

impl Softmax {
    fn prepare_f32(&self, depth: usize) -> Kernel {
        let beta = self.beta;
        Kernel::new(move |run| {
            let parts = run.parts::<f32>(0);
            let rows = parts.inputs.get::<f32>(0).chunks_exact(depth);
            for (row, out) in rows.zip(parts.output.chunks_exact_mut(depth)) {
                let largest = row.iter().fold(f32::MIN, |m, &x| m.max(x));
                let mut sum = 0.0;
                for (out, &x) in out.iter_mut().zip(row) {
                    *out = ((x - largest) * beta).exp();
                    sum += *out;
                }
                for out in out {
                    *out /= sum;
                }
            }
        })
    }

    /// LiteRT's optimized kernel: a table of `exp` in float.
    fn prepare_float(&self, io: &Signature, dtype: DType, depth: usize) -> Result<Kernel, OpError> {
        let output = parameters(io.output(0)?)?;
        let factor = -parameters(io.input(0)?)?.scale * self.beta;
        let (min, max) = limits(dtype).ok_or_else(|| io.unsupported(0))?;
        let exponentials = tabulate(DType::U8, |below| (factor * below as f32).exp());
        if exponentials.iter().any(|e| !e.is_finite()) {
            return Err(OpError::Attribute(format!(
                "beta of {} is too small for the input's scale",
                self.beta
            )));
        }
        Ok(by_rows(dtype, depth, move |row, out| {
            let sum: f32 = row.below().fold(0.0, |sum, below| sum + exponentials[below]);
            let inverse = 1.0 / (sum * output.scale);
            for (out, below) in out.iter_mut().zip(row.below()) {
                let steps = round_half_away(exponentials[below] * inverse) + output.zero_point;
                *out = steps.clamp(min, max) as u8;
            }
        }))
    }

    /// LiteRT's reference kernel: gemmlowp's fixed point.
    fn prepare_fixed(&self, io: &Signature, dtype: DType, depth: usize) -> Result<Kernel, OpError> {
        let scale = parameters(io.input(0)?)?.scale;
        let (min, max) = limits(dtype).ok_or_else(|| io.unsupported(0))?;
        // One step of the operand in Q5.26.
        let step = (f64::from(self.beta) * f64::from(scale) * f64::from(1 << 26))
            .min(f64::from(i32::MAX));
        if step.is_nan() || step <= 1.0 {
            return Err(OpError::Quantization(format!(
                "beta of {} times the input's scale of {scale} is below 2^-26",
                self.beta
            )));
        }
        let step = multiplier(step)?;
        // What is further below the largest counts as 0.
        let radius = (31i64 << 26) >> step.exponent;
        let exponentials = tabulate(DType::U8, |below| {
            let scaled = (-below).wrapping_shl(step.exponent as u32);
            (i64::from(below) <= radius)
                .then(|| exp_on_negative_values(high_mul(scaled, step.value)))
        });
        Ok(by_rows(dtype, depth, move |row, out| {
            let terms = row.below().filter_map(|below| exponentials[below]);
            let sum = terms.fold(0i32, |sum, e| sum.saturating_add(rounding_divide_by_pot(e, 12)));
            let (inverse, bits) = reciprocal(sum);
            let shift = (bits + 31 - 8).clamp(0, 31);
            for (out, below) in out.iter_mut().zip(row.below()) {
                let steps = exponentials[below]
                    .map_or(0, |e| rounding_divide_by_pot(high_mul(inverse, e), shift));
                *out = (steps + min).clamp(min, max) as u8;
            }
        }))
    }
}

/// One row of 8-bit elements.
struct Row<'a> {
    bytes: &'a [u8],
    /// What turns the order of the type to that of unsigned bytes.
    flip: u8,
    /// The largest element, flipped.
    largest: u8,
}

impl Row<'_> {
    /// How far each element is below the largest.
    fn below(&self) -> impl Iterator<Item = usize> {
        let Self { flip, largest, .. } = *self;
        self.bytes.iter().map(move |&x| usize::from(largest - (x ^ flip)))
    }
}

fn by_rows(
    dtype: DType,
    depth: usize,
    f: impl Fn(Row<'_>, &mut [u8]) + Send + Sync + 'static,
) -> Kernel {
    let depth = depth.max(1);
    let flip = if dtype == DType::I8 { 0x80 } else { 0 };
    Kernel::new(move |run| {
        let parts = run.parts::<u8>(0);
        let rows = parts.inputs.bytes(0).chunks_exact(depth);
        for (bytes, out) in rows.zip(parts.output.chunks_exact_mut(depth)) {
            let largest = bytes.iter().fold(0, |m, &x| m.max(x ^ flip));
            f(Row { bytes, flip, largest }, out);
        }
    })
}

/// `exp(x)` in Q0.31 for `x <= 0` in Q5.26: gemmlowp's `exp_on_negative_values`.
fn exp_on_negative_values(x: i32) -> i32 {
    const QUARTER: i32 = 1 << 24;
    /// `exp(-2^k)` in Q0.31 for k from -2.
    const POWERS: [i32; 7] = [
        1_672_461_947,
        1_302_514_674,
        790_015_084,
        290_630_308,
        39_332_535,
        720_401,
        242,
    ];
    if x == 0 {
        return i32::MAX;
    }
    // In [-1/4, 0), and the multiple of 1/4 that remains.
    let fraction = (x & (QUARTER - 1)) - QUARTER;
    let remainder = fraction.wrapping_sub(x);
    let mut result = exp_near_zero(fraction << 5);
    for (bit, power) in (24..).zip(POWERS) {
        if remainder & (1 << bit) != 0 {
            result = high_mul(result, power);
        }
    }
    result
}

/// `exp(x)` for `x` in [-1/4, 0), both in Q0.31: a Taylor series around -1/8.
fn exp_near_zero(x: i32) -> i32 {
    const EXP_MINUS_EIGHTH: i32 = 1_895_147_668;
    const THIRD: i32 = 715_827_883;
    let x = x + (1 << 28);
    let x2 = high_mul(x, x);
    let x3 = high_mul(x2, x);
    let x4 = high_mul(x2, x2);
    let quarter = rounding_divide_by_pot(x4, 2);
    let higher = rounding_divide_by_pot(high_mul(quarter + x3, THIRD) + x2, 1);
    EXP_MINUS_EIGHTH + high_mul(EXP_MINUS_EIGHTH, x + higher)
}

/// `1 / x` for `x > 0` in Q12.19, as a number in Q0.31 and how many bits to shift it right:
/// gemmlowp's Newton-Raphson division.
fn reciprocal(x: i32) -> (i32, i32) {
    let headroom = x.leading_zeros();
    // x / 2^bits in [1, 2); half of it in Q0.31.
    let above_one = x.wrapping_shl(headroom).wrapping_sub(i32::MIN);
    let half = ((i64::from(above_one) + i64::from(i32::MAX) + 1) / 2) as i32;
    // 48/17 - 32/17 * half, in Q2.29 as all that follows.
    let mut inverse = 1_515_870_810 + high_mul(half, -1_010_580_540);
    for _ in 0..3 {
        let error = (1 << 29) - high_mul(half, inverse);
        inverse = inverse.wrapping_add(saturating_shl(high_mul(inverse, error), 2));
    }
    (saturating_shl(inverse, 1), 12 - headroom as i32)
}

fn saturating_shl(x: i32, amount: u32) -> i32 {
    (i64::from(x) << amount).clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, eval_with, signature};

    #[test]
    fn f32_rows_sum_to_one() {
        let input = Case::f32([2, 2], [0.0, 0.0, 1000.0, 0.0]);
        let output = eval(Softmax::default(), &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [0.5, 0.5, 1.0, 0.0]);
    }

    #[test]
    fn i8_rows_sum_to_one() {
        for numerics in [Numerics::Reference, Numerics::Fast] {
            let input = Case::i8([2, 2], [7, 7, 127, -128]).quantized(0.5, 3);
            let output = Case::result(DType::I8).quantized(1.0 / 256.0, -128);
            let output = eval_with(numerics, Softmax::default(), &[input], &[output]);
            assert_eq!(output[0].get::<i8>(), [0, 0, 127, -128]);
        }
    }

    #[test]
    fn long_rows_neither_overflow_nor_panic() {
        for numerics in [Numerics::Reference, Numerics::Fast] {
            let input = Case::i8([1, 5000], [9; 5000]).quantized(0.5, 0);
            let output = Case::result(DType::I8).quantized(1.0 / 256.0, -128);
            let output = eval_with(numerics, Softmax::default(), &[input], &[output]);
            assert_eq!(output[0].get::<i8>(), [-128; 5000]);
        }
    }

    #[test]
    fn fixed_point_functions_are_close() {
        for i in 1..1000 {
            let x = -f64::from(i) / 40.0;
            let exp = exp_on_negative_values((x * f64::from(1 << 26)) as i32);
            assert!((f64::from(exp) / 2f64.powi(31) - x.exp()).abs() < 4e-7);
            let (inverse, bits) = reciprocal(i << 19);
            let inverse = f64::from(inverse) / 2f64.powi(31 + bits);
            assert!((inverse * f64::from(i) - 1.0).abs() < 1e-7);
        }
    }

    #[test]
    fn rejects_scalars_and_a_beta_that_is_not_finite() {
        let prepare = |op: Softmax, input| {
            op.prepare(&signature(&[input], &[Case::result(DType::F32)])).unwrap_err()
        };
        let scalar = Case::f32([], [1.0]);
        assert!(matches!(prepare(Softmax::default(), scalar), OpError::Shape(_)));
        let op = Softmax { beta: f32::NAN };
        assert!(matches!(prepare(op, Case::f32([1], [1.0])), OpError::Attribute(_)));
    }
}
