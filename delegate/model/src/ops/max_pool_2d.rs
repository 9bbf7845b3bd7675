//! `MAX_POOL_2D`: the largest element of each channel under a sliding window.
//!
//! Input `[batch, height, width, depth]`. Integers are compared as they are stored, so input and
//! result share scale and zero point.

use super::pointwise::{Element, limits};
use super::pool_2d::Pool2d;
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `MAX_POOL_2D`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MaxPool2d(pub Pool2d);

const INPUT: usize = 0;

impl Attributes for MaxPool2d {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        Ok(Self(Pool2d::read(options)))
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        self.0.write()
    }
}

impl MaxPool2d {
    fn integers<T: Element + Ord>(&self, io: &Signature) -> Result<Kernel, OpError> {
        let walk = self.0.walk(io)?;
        let (least, _) = limits(io.input(INPUT)?.dtype).ok_or_else(|| io.unsupported(INPUT))?;
        let (low, high) = self.0.integer_range(io)?;
        let [least, low, high] = [least, low, high].map(T::from_i32);
        Ok(Kernel::new(move |run| {
            let threads = run.threads;
            let parts = run.parts::<T>(0);
            let finish = |most: T, _| most.clamp(low, high);
            walk.run(
                parts.inputs.get(INPUT),
                parts.output,
                threads,
                least,
                T::max,
                finish,
            );
        }))
    }
}

impl Operator for MaxPool2d {
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
                    let fold = |most: f32, x: f32| if most < x { x } else { most };
                    let finish = |most: f32, _| most.clamp(low, high);
                    walk.run(
                        parts.inputs.get(INPUT),
                        parts.output,
                        threads,
                        f32::NEG_INFINITY,
                        fold,
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
    use crate::ops::{Activation, Padding};
    use crate::testing::{Case, eval, signature};

    #[test]
    fn f32_takes_the_largest_of_each_channel() {
        let pool = Pool2d {
            padding: Padding::Valid,
            filter_h: 2,
            filter_w: 2,
            ..Pool2d::default()
        };
        let input = Case::f32([1, 2, 2, 2], [1.0, -8.0, 2.0, -7.0, 4.0, -6.0, 3.0, -5.0]);
        let output = eval(MaxPool2d(pool), &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [4.0, -5.0]);
    }

    #[test]
    fn int8_clamps_to_the_activation() {
        let op = MaxPool2d(Pool2d {
            filter_w: 3,
            activation: Activation::Relu,
            ..Pool2d::default()
        });
        let input = Case::i8([1, 1, 3, 1], [-30, -20, 5]).quantized(0.5, -10);
        let output = Case::result(DType::I8).quantized(0.5, -10);
        assert_eq!(eval(op, &[input], output).get::<i8>(), [-10, 5, 5]);
    }

    #[test]
    fn rejects_strides_below_1() {
        let op = MaxPool2d(Pool2d {
            stride_w: -1,
            ..Pool2d::default()
        });
        let io = signature(
            &[Case::f32([1, 1, 1, 1], [0.0])],
            &[Case::result(DType::F32)],
        );
        assert!(matches!(op.infer_shapes(&io), Err(OpError::Attribute(_))));
    }
}
