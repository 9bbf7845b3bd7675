//! `AVERAGE_POOL_2D`: the mean of each channel under a sliding window; padding does not count.
//!
//! Input `[batch, height, width, depth]`. Integers are averaged as they are stored, halves away
//! from zero, so input and result share scale and zero point.

use super::pointwise::Element;
use super::pool_2d::Pool2d;
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `AVERAGE_POOL_2D`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AveragePool2d(pub Pool2d);

const INPUT: usize = 0;

impl Attributes for AveragePool2d {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        Ok(Self(Pool2d::read(options)))
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        self.0.write()
    }
}

/// `sum / count`, halves away from zero.
#[inline(always)]
fn mean(sum: i32, count: usize) -> i32 {
    let count = count as i32;
    let half = if sum > 0 { count / 2 } else { -(count / 2) };
    // Exact for 32 bits, and there are vectors for it, other than for a division of integers.
    (f64::from(sum.wrapping_add(half)) / f64::from(count.max(1))) as i32
}

impl AveragePool2d {
    fn integers<T: Element>(&self, io: &Signature) -> Result<Kernel, OpError> {
        let walk = self.0.walk(io)?;
        let (low, high) = self.0.integer_range(io)?;
        Ok(Kernel::new(move |run| {
            let threads = run.threads;
            let parts = run.parts::<T>(0);
            let fold = |sum: i32, x: T| sum.wrapping_add(x.into());
            let finish = |sum, count| T::from_i32(mean(sum, count).clamp(low, high));
            walk.run(
                parts.inputs.get(INPUT),
                parts.output,
                threads,
                0,
                fold,
                finish,
            );
        }))
    }
}

impl Operator for AveragePool2d {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(vec![self.0.walk(io)?.shape()])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        Pool2d::version(io)
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let walk = self.0.walk(io)?;
        match io.common_dtype(INPUT)? {
            DType::F32 => {
                self.0.activation.check()?;
                let (low, high) = self.0.activation.range_f32();
                Ok(Kernel::new(move |run| {
                    let threads = run.threads;
                    let parts = run.parts::<f32>(0);
                    let finish = |sum: f32, count: usize| (sum / count as f32).clamp(low, high);
                    walk.run(
                        parts.inputs.get(INPUT),
                        parts.output,
                        threads,
                        0.0,
                        |sum, x: f32| sum + x,
                        finish,
                    );
                }))
            }
            DType::I8 => self.integers::<i8>(io),
            DType::U8 => self.integers::<u8>(io),
            DType::I16 => self.integers::<i16>(io),
            _ => Err(io.unsupported(INPUT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Padding;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn f32_does_not_count_padding() {
        let op = AveragePool2d(Pool2d {
            filter_w: 2,
            ..Pool2d::default()
        });
        let input = Case::f32([1, 1, 3, 1], [1.0, 3.0, 8.0]);
        let output = eval(op, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [2.0, 5.5, 8.0]);
    }

    #[test]
    fn int8_rounds_halves_away_from_zero() {
        let pool = Pool2d {
            padding: Padding::Valid,
            filter_h: 2,
            stride_h: 2,
            ..Pool2d::default()
        };
        let input = Case::i8([1, 4, 1, 1], [-2, -3, 2, 3]).quantized(0.5, 7);
        let output = Case::result(DType::I8).quantized(0.5, 7);
        assert_eq!(
            eval(AveragePool2d(pool), &[input], output).get::<i8>(),
            [-3, 3]
        );
    }

    #[test]
    fn rejects_filters_of_no_size() {
        let op = AveragePool2d(Pool2d {
            filter_h: 0,
            ..Pool2d::default()
        });
        let io = signature(
            &[Case::f32([1, 1, 1, 1], [0.0])],
            &[Case::result(DType::F32)],
        );
        assert!(matches!(op.infer_shapes(&io), Err(OpError::Attribute(_))));
    }

    #[test]
    fn rejects_a_result_of_another_scale() {
        let input = Case::i8([1, 1, 1, 1], [0]).quantized(0.5, 0);
        let io = signature(&[input], &[Case::result(DType::I8).quantized(0.25, 0)]);
        assert!(matches!(
            AveragePool2d::default().prepare(&io),
            Err(OpError::Quantization(_))
        ));
    }
}
