//! `LOGISTIC` and `TANH` of int16, by LiteRT's table of the sigmoid: 256 points, 1/24 apart, with straight lines between them.

use super::pointwise::{map_by_table, parameters};
use super::{OpError, Signature};
use crate::cpu::Kernel;

/// How an int16 operand is brought to the table's steps, and the table.
pub(super) struct Sigmoid16 {
    /// Of the operand to steps of 1/(3 * 4096), which is 2^-9 of the table's; then `shift` bits right.
    factor: i32,
    shift: u32,
    /// `sigmoid(i / 24)` in Q0.16, less half of the error midway to the next; the last is 1.
    table: Box<[u16; 256]>,
}

impl Sigmoid16 {
    /// For results of scale 1/32768. Operand scales that are 2^-12, or that and one bit more in
    /// `exact_bits`, are exact.
    fn new(io: &Signature, exact_bits: i32) -> Result<Self, OpError> {
        const STEP: f32 = 1.0 / 32768.0;
        let scale = parameters(io.input(0)?)?.scale;
        let output = parameters(io.output(0)?)?.scale;
        if output != STEP {
            return Err(OpError::Quantization(format!(
                "output scale {output} where the kernel gives {STEP}"
            )));
        }
        let sigmoid = |x: f64| 65536.0 / (1.0 + (-x / 24.0).exp());
        let mut table: Box<[u16; 256]> = Box::new(std::array::from_fn(|i| {
            let x = i as f64;
            let error = (sigmoid(x) + sigmoid(x + 1.0)) / 2.0 - sigmoid(x + 0.5);
            (sigmoid(x) - error / 2.0).round() as u16
        }));
        table[255] = u16::MAX;
        let log2 = scale.log2();
        let bits = log2.round() as i32 + 12;
        if (log2 - log2.round()).abs() < 1e-3 && (0..=exact_bits).contains(&bits) {
            return Ok(Self {
                factor: 3 << bits,
                shift: 0,
                table,
            });
        }
        let mut factor = f64::from(scale) * 4096.0 * 3.0;
        let mut shift = 0;
        while factor <= 32767.0 / 2.0 && shift <= 30 {
            shift += 1;
            factor *= 2.0;
        }
        Ok(Self {
            factor: factor as i32,
            shift,
            table,
        })
    }

    /// `x` in steps of the table, with `9 - bits` bits of fraction.
    #[inline]
    fn scaled(&self, x: i16) -> i32 {
        let rounding = if self.shift > 0 {
            1 << (self.shift - 1)
        } else {
            0
        };
        i32::from(x)
            .wrapping_mul(self.factor)
            .wrapping_add(rounding)
            >> self.shift.min(31)
    }

    /// The sigmoid of `magnitude >= 0` with `bits` bits of fraction, in Q0.(16 + bits); `None`
    /// beyond the table.
    #[inline]
    fn interpolate(&self, magnitude: u32, bits: u32) -> Option<u32> {
        let index = (magnitude >> bits) as usize;
        let &[a, b] = self.table.get(index..index + 2)? else {
            return None;
        };
        let place = magnitude & ((1 << bits) - 1);
        Some((u32::from(a) << bits) + place * (u32::from(b) - u32::from(a)))
    }

    /// The kernel of `LOGISTIC`.
    pub fn prepare_logistic(io: &Signature) -> Result<Kernel, OpError> {
        let table = Self::new(io, 0)?;
        Ok(map_by_table(move |x: i16| {
            let x = table.scaled(x);
            let sigmoid = table
                .interpolate(x.unsigned_abs(), 9)
                .unwrap_or(0x7fff << 10);
            let sigmoid = if x >= 0 {
                sigmoid + (1 << 9)
            } else {
                (1 << 25) - sigmoid + (1 << 9) - 1
            };
            (sigmoid >> 10) as i16
        }))
    }

    /// The kernel of `TANH`: `2 * sigmoid(2 * x) - 1`.
    pub fn prepare_tanh(io: &Signature) -> Result<Kernel, OpError> {
        let table = Self::new(io, 1)?;
        Ok(map_by_table(move |x: i16| {
            let x = table.scaled(x);
            let sigmoid = table
                .interpolate(x.unsigned_abs(), 8)
                .unwrap_or(0xffff << 8) as i32;
            let tanh = if x >= 0 {
                sigmoid - (1 << 23) + (1 << 7)
            } else {
                (1 << 23) - sigmoid + (1 << 7) - 1
            };
            (tanh >> 8) as i16
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Kernel;
    use crate::ops::{Logistic, Tanh};
    use crate::tensor::DType;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn both_are_close_to_the_functions_at_any_scale() {
        for scale in [1.0 / 4096.0, 1.0 / 2048.0, 0.0003, 0.01, 2e-7] {
            let values: Vec<i16> = (i16::MIN..=i16::MAX).step_by(37).collect();
            let input = || Case::new(DType::I16, [values.len()], &values).quantized(scale, 0);
            let output = || Case::result(DType::I16).quantized(1.0 / 32768.0, 0);
            let logistic = eval(Logistic, &[input()], output()).get::<i16>();
            let tanh = eval(Tanh, &[input()], output()).get::<i16>();
            for ((&x, l), t) in values.iter().zip(logistic).zip(tanh) {
                let x = f64::from(x) * f64::from(scale);
                let error = f64::from(l) / 32768.0 - 1.0 / (1.0 + (-x).exp());
                assert!(error.abs() < 2e-4, "logistic of {x}: {error}");
                let error = f64::from(t) / 32768.0 - x.tanh();
                assert!(error.abs() < 4e-4, "tanh of {x}: {error}");
            }
        }
    }

    #[test]
    fn rejects_another_output_scale() {
        let input = Case::new(DType::I16, [1], &[1i16]).quantized(0.1, 0);
        let io = signature(
            &[input],
            &[Case::result(DType::I16).quantized(1.0 / 256.0, 0)],
        );
        let rejected =
            |kernel: Result<Kernel, OpError>| matches!(kernel, Err(OpError::Quantization(_)));
        assert!(rejected(Sigmoid16::prepare_logistic(&io)));
        assert!(rejected(Sigmoid16::prepare_tanh(&io)));
    }
}
