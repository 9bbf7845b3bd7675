//! `SOFTMAX`: `output = exp(beta * x) / sum(exp(beta * x))` over the last axis.
//!
//! One operand of at least one dimension. The result of int8 has scale 1/256 and zero point -128.

use bantam_kernels::requantize::{
    rounding_divide_by_pot, saturating_rounding_doubling_high_mul as high_mul,
};
use bantam_kernels::{Isa, elementwise};

use super::fixed_point::{Exponentials, reciprocal};
use super::pointwise::{
    limits, multiplier, parameters, round_half_away, tabulate, unary_shapes, unary_type,
};
use super::table16::Table16;
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

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        QuantRule::fixed(1.0 / 32768.0, 0)
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::I16) => 3,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let depth =
            *io.input(0)?.shape.last().ok_or_else(|| {
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
            (DType::I16, _) => self.prepare_i16(io, depth.max(1)),
            _ => Err(io.unsupported(0)),
        }
    }
}

impl Softmax {
    fn prepare_f32(&self, depth: usize) -> Kernel {
        let beta = self.beta;
        let isa = Isa::best();
        Kernel::new(move |run| {
            let parts = run.parts::<f32>(0);
            elementwise::softmax(isa, depth, beta, parts.inputs.get(0), parts.output);
        })
    }

    /// LiteRT's for int16: tables of `exp(x)` over -10..=0 and of `1 / (1 + x)` over 0..=1.
    fn prepare_i16(&self, io: &Signature, depth: usize) -> Result<Kernel, OpError> {
        const RANGE: f64 = 65535.0;
        let input = parameters(io.input(0)?)?;
        parameters(io.output(0)?)?;
        // -10 is 65535 steps below 0.
        let scale = multiplier(f64::from(input.scale * self.beta) / (10.0 / RANGE))?;
        let span = |scale: f64, zero_point: f64| {
            (
                scale * (-32768.0 - zero_point),
                scale * (32767.0 - zero_point),
            )
        };
        let exp = Table16::new_f64(span(10.0 / RANGE, 32767.0), 2.0 / RANGE, f64::exp);
        let inverse = Table16::new_f64(span(1.0 / RANGE, -32768.0), 2.0 / RANGE, |x| {
            1.0 / (1.0 + x)
        });
        let saturate = |x: i32| x.clamp(-32768, 32767) as i16;
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<i16>(0);
            let rows = parts.inputs.get::<i16>(0).chunks_exact(depth);
            for (row, out) in rows.zip(parts.output.chunks_exact_mut(depth)) {
                let largest = row.iter().fold(i16::MIN, |m, &x| m.max(x));
                let mut sum = 0i32;
                for (out, &x) in out.iter_mut().zip(row) {
                    let below = scale.apply(i32::from(x) - i32::from(largest));
                    *out = exp.look_up(saturate(below.saturating_add(32767)));
                    sum = sum.wrapping_add((*out).into());
                }
                // The sum is 2^bits times 1 and what the second table takes, in Q0.16.
                let bits = 31 - sum.max(1).leading_zeros();
                let fraction = ((i64::from(sum) << (30 - bits)) + (1 << 13)) >> 14;
                let inverse = inverse.look_up(saturate(fraction as i32 - (1 << 15) - (1 << 16)));
                for out in out {
                    let product = i64::from(*out) * i64::from(inverse);
                    let rounding = if bits > 0 { 1 << (bits - 1) } else { 0 };
                    *out = ((product + rounding) >> bits).clamp(0, 32767) as i16;
                }
            }
        }))
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
            let sum: f32 = row
                .below()
                .fold(0.0, |sum, below| sum + exponentials[below]);
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
        let exponentials = Exponentials::new(f64::from(self.beta) * f64::from(scale))?;
        Ok(by_rows(dtype, depth, move |row, out| {
            let terms = row.below().filter_map(|below| exponentials.get(below));
            let sum = terms.fold(0i32, |sum, e| {
                sum.saturating_add(rounding_divide_by_pot(e, 12))
            });
            let (inverse, bits) = reciprocal(sum, 12);
            let shift = (bits + 31 - 8).clamp(0, 31);
            for (out, below) in out.iter_mut().zip(row.below()) {
                let steps = exponentials
                    .get(below)
                    .map_or(0, |e| rounding_divide_by_pot(high_mul(inverse, e), shift));
                *out = (steps + min).clamp(min, max) as u8;
            }
        }))
    }
}

/// One row of 8-bit elements.
pub(super) struct Row<'a> {
    bytes: &'a [u8],
    /// What turns the order of the type to that of unsigned bytes.
    pub flip: u8,
    /// The largest element, flipped.
    pub largest: u8,
}

impl Row<'_> {
    /// How far each element is below the largest.
    pub fn below(&self) -> impl Iterator<Item = usize> {
        let Self { flip, largest, .. } = *self;
        self.bytes
            .iter()
            .map(move |&x| usize::from(largest - (x ^ flip)))
    }
}

pub(super) fn by_rows(
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
            f(
                Row {
                    bytes,
                    flip,
                    largest,
                },
                out,
            );
        }
    })
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
    fn rejects_scalars_and_a_beta_that_is_not_finite() {
        let prepare = |op: Softmax, input| {
            op.prepare(&signature(&[input], &[Case::result(DType::F32)]))
                .unwrap_err()
        };
        let scalar = Case::f32([], [1.0]);
        assert!(matches!(
            prepare(Softmax::default(), scalar),
            OpError::Shape(_)
        ));
        let op = Softmax { beta: f32::NAN };
        assert!(matches!(
            prepare(op, Case::f32([1], [1.0])),
            OpError::Attribute(_)
        ));
    }
}
