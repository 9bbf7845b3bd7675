//! `RANGE`: numbers in arithmetic progression.
//!
//! Operands: start, limit and step, scalars of int32, int64 or float32. The numbers end before the limit; how many they are
//! depends on the values, so that start, limit and step have to be constants.

use super::{Attributes, OpError, Operator, Signature, Value};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `RANGE` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Range;

no_attributes!(Range, RangeOptions);

const START: usize = 0;
const LIMIT: usize = 1;
const STEP: usize = 2;

fn scalar<T: bytemuck::AnyBitPattern>(io: &Signature, index: usize) -> Result<T, OpError> {
    let value: &Value = io.input(index)?;
    if value.data.is_none() {
        return Err(OpError::NotConstant("a bound of the range".into()));
    }
    match *value.constant()? {
        [scalar] => Ok(scalar),
        _ => Err(OpError::Shape(format!(
            "a bound of shape {:?}",
            value.shape
        ))),
    }
}

fn count_integers(start: i64, limit: i64, step: i64) -> Option<usize> {
    let distance = i128::from(limit) - i128::from(start);
    let step = i128::from(step);
    if step == 0 || distance.signum() * step.signum() < 0 {
        return None;
    }
    usize::try_from((distance.abs() + step.abs() - 1) / step.abs()).ok()
}

fn count_floats(start: f32, limit: f32, step: f32) -> Option<usize> {
    let count = ((limit - start) / step).abs().ceil();
    let towards = (start <= limit && step > 0.0) || (start >= limit && step < 0.0);
    (towards && count < i32::MAX as f32).then_some(count as usize)
}

fn kernel<T: bytemuck::Pod>(add: fn(T, T) -> T) -> Result<Kernel, OpError> {
    Ok(Kernel::new(move |run| {
        let parts = run.parts::<T>(0);
        let (mut value, step) = (
            parts.inputs.get::<T>(START)[0],
            parts.inputs.get::<T>(STEP)[0],
        );
        for output in parts.output {
            *output = value;
            value = add(value, step);
        }
    }))
}

impl Operator for Range {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let dtype = io.common_dtype(START)?;
        for index in [LIMIT, STEP] {
            if io.input(index)?.dtype != dtype {
                return Err(io.unsupported(index));
            }
        }
        let (count, bounds) = match dtype {
            DType::I32 | DType::I64 => {
                let integer = |index| -> Result<i64, OpError> {
                    match dtype {
                        DType::I32 => Ok(scalar::<i32>(io, index)?.into()),
                        _ => scalar(io, index),
                    }
                };
                let (start, limit, step) = (integer(START)?, integer(LIMIT)?, integer(STEP)?);
                (
                    count_integers(start, limit, step),
                    format!("{start} to {limit} by {step}"),
                )
            }
            DType::F32 => {
                let (start, limit, step) =
                    (scalar(io, START)?, scalar(io, LIMIT)?, scalar(io, STEP)?);
                (
                    count_floats(start, limit, step),
                    format!("{start} to {limit} by {step}"),
                )
            }
            _ => return Err(io.unsupported(START)),
        };
        Ok(vec![vec![
            count.ok_or(OpError::Shape(format!("range from {bounds}")))?,
        ]])
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(START).map(|start| start.dtype) {
            Ok(DType::I64) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match io.common_dtype(START)? {
            DType::F32 => kernel::<f32>(|a, b| a + b),
            DType::I32 => kernel(i32::wrapping_add),
            DType::I64 => kernel(i64::wrapping_add),
            _ => Err(io.unsupported(START)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn ends_before_the_limit_in_either_direction() {
        let run = |bounds: [i32; 3]| {
            let operands = bounds.map(|v| Case::i32([], [v]).constant());
            eval(Range, &operands, Case::result(DType::I32)).get::<i32>()
        };
        assert_eq!(run([2, 9, 3]), [2, 5, 8]);
        assert_eq!(run([2, -2, -2]), [2, 0]);
        assert_eq!(run([4, 4, 1]), [0i32; 0]);
    }

    #[test]
    fn floats_add_up() {
        let operands = [0.5f32, 2.0, 0.5].map(|v| Case::f32([], [v]).constant());
        assert_eq!(
            eval(Range, &operands, Case::result(DType::F32)).get::<f32>(),
            [0.5, 1.0, 1.5]
        );
    }

    #[test]
    fn rejects_steps_away_from_the_limit_and_computed_bounds() {
        for step in [0, -1] {
            let operands = [0, 5, step].map(|v| Case::i32([], [v]).constant());
            let io = signature(&operands, &[Case::result(DType::I32)]);
            assert!(matches!(Range.infer_shapes(&io), Err(OpError::Shape(_))));
        }
        let io = signature(
            &[0, 5, 1].map(|v| Case::i32([], [v])),
            &[Case::result(DType::I32)],
        );
        assert!(matches!(
            Range.infer_shapes(&io),
            Err(OpError::NotConstant(_))
        ));
    }
}
