//! `MEAN`: the mean over some axes.
//!
//! Input of any shape, axes a constant; the axes vanish, or stay with size 1. Means of int32 and int64 are rounded towards 0.

use bytemuck::Pod;

use super::movement::count;
use super::reduction::{self, Reduction};
use super::{Attributes, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `MEAN`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mean {
    /// Whether reduced axes stay, with size 1.
    pub keep_dims: bool,
}

const INPUT: usize = 0;

impl Attributes for Mean {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        Ok(Self {
            keep_dims: reduction::read(options),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        reduction::write(self.keep_dims)
    }
}

/// The mean of integers that are no quantized values, rounded towards 0.
fn integers<T: Pod + Into<i64>>(
    reduction: Reduction,
    from: fn(i64) -> T,
) -> Result<Kernel, OpError> {
    let results = count(&reduction.shape())?;
    let scratch = count(&[results, size_of::<i64>()])?;
    let count = reduction.count() as i64;
    if count == 0 {
        return Err(OpError::Shape("mean of no elements".into()));
    }
    Ok(Kernel::with_scratch(scratch, move |run| {
        let parts = run.parts::<T>(0);
        let sums: &mut [i64] = bytemuck::cast_slice_mut(&mut parts.scratch[..scratch]);
        sums.fill(0);
        reduction.fold(parts.inputs.get(INPUT), sums, |sum, x: T| {
            sum.wrapping_add(x.into())
        });
        parts
            .output
            .iter_mut()
            .zip(&*sums)
            .for_each(|(mean, &sum)| *mean = from(sum / count));
    }))
}

impl Operator for Mean {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(vec![Reduction::new(io, self.keep_dims)?.shape()])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated(reduction::ROLES)
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        reduction::version(io)
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let reduction = Reduction::new(io, self.keep_dims)?;
        match io.common_dtype(INPUT)? {
            DType::F32 => {
                let count = reduction.count() as f32;
                Ok(Kernel::new(move |run| {
                    let parts = run.parts::<f32>(0);
                    parts.output.fill(0.0);
                    reduction.fold(parts.inputs.get(INPUT), parts.output, |sum, x: f32| sum + x);
                    parts.output.iter_mut().for_each(|sum| *sum /= count);
                }))
            }
            DType::I8 | DType::U8 | DType::I16 => reduction.quantized_sum(io, true),
            DType::I32 => integers(reduction, |mean| mean as i32),
            DType::I64 => integers(reduction, |mean| mean),
            _ => Err(io.unsupported(INPUT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Numerics;
    use crate::testing::{Case, eval, eval_with, signature};

    #[test]
    fn f32_averages_the_image() {
        let input = Case::f32([1, 2, 2, 2], (0..8).map(|v| v as f32));
        let axes = Case::i32([2], [1, 2]).constant();
        let output = eval(
            Mean { keep_dims: true },
            &[input, axes],
            Case::result(DType::F32),
        );
        assert_eq!(output.shape, [1, 1, 1, 2]);
        assert_eq!(output.get::<f32>(), [3.0, 4.0]);
    }

    #[test]
    fn plain_integers_round_towards_zero() {
        let inputs = [
            Case::i32([2, 2], [i32::MAX, i32::MAX, -3, -4]),
            Case::i32([1], [1]).constant(),
        ];
        let output = eval(Mean::default(), &inputs, Case::result(DType::I32));
        assert_eq!(output.get::<i32>(), [i32::MAX, -3]);
    }

    #[test]
    fn int8_ties_depend_on_the_numerics() {
        // (3 + 2) / 2 = 2.5.
        let input = Case::i8([2], [4, 3]).quantized(0.5, 1);
        let axes = Case::i32([1], [0]).constant();
        let output = [Case::result(DType::I8).quantized(0.5, -1)];
        let run = |numerics| {
            eval_with(
                numerics,
                Mean::default(),
                &[input.clone(), axes.clone()],
                &output,
            )
        };
        assert_eq!(run(Numerics::Reference)[0].get::<i8>(), [2]);
        assert_eq!(run(Numerics::Fast)[0].get::<i8>(), [1]);
    }

    #[test]
    fn rejects_int8_means_of_nothing() {
        let input = Case::i8([0], []).quantized(0.5, 1);
        let axes = Case::i32([1], [0]).constant();
        let io = signature(&[input, axes], &[Case::result(DType::I8).quantized(0.5, 1)]);
        assert!(matches!(
            Mean::default().prepare(&io),
            Err(OpError::Shape(_))
        ));
    }

    #[test]
    fn rejects_axes_that_are_computed() {
        let inputs = [Case::f32([1], [0.0]), Case::i32([1], [0])];
        let io = signature(&inputs, &[Case::result(DType::F32)]);
        assert!(matches!(
            Mean::default().infer_shapes(&io),
            Err(OpError::NotConstant(_))
        ));
    }
}
