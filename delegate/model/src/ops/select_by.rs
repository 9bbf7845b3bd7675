//! What `SELECT` and `SELECT_V2` share.

use bantam_kernels::{Isa, Work};
use bytemuck::{AnyBitPattern, NoUninit};

use super::{OpError, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::tensor::DType;

const CONDITION: usize = 0;
const X: usize = 1;
const Y: usize = 2;

/// As many dimensions as LiteRT takes.
const MAX_RANK: usize = 8;

/// The condition is bool; both values and the result share their parameters.
pub(super) fn quant_rule() -> Option<QuantRule> {
    QuantRule::same([Role::Plain, Role::Activation])
}

/// The kernel that takes each element of the result, of shape `shape`, from the second or third
/// operand. Operands are as `shapes` say, of as many dimensions as `shape`, each of which is that
/// of `shape` or 1.
pub(super) fn prepare(
    io: &Signature,
    shape: &[usize],
    shapes: [&[usize]; 3],
) -> Result<Kernel, OpError> {
    if io.input(CONDITION)?.dtype != DType::Bool {
        return Err(io.unsupported(CONDITION));
    }
    io.common_dtype(X)?;
    io.common_dtype(Y)?;
    if shape.len() > MAX_RANK {
        return Err(OpError::Shape(format!(
            "{} dimensions, more than {MAX_RANK}",
            shape.len()
        )));
    }
    let choice = Choice::new(shape, shapes);
    match io.input(X)?.dtype.size() {
        Some(1) => Ok(choice.kernel::<u8>()),
        Some(2) => Ok(choice.kernel::<u16>()),
        Some(4) => Ok(choice.kernel::<u32>()),
        Some(8) => Ok(choice.kernel::<u64>()),
        _ => Err(io.unsupported(X)),
    }
}

/// Dimensions of the result with the strides of the operands, 0 where one repeats.
struct Choice {
    /// Innermost first, without the innermost.
    outer: Vec<(usize, [usize; 3])>,
    inner: (usize, [usize; 3]),
}

impl Choice {
    fn new(shape: &[usize], shapes: [&[usize]; 3]) -> Self {
        let mut strides = [1; 3];
        let mut dimensions: Vec<(usize, [usize; 3])> = Vec::new();
        for (axis, &len) in shape.iter().enumerate().rev() {
            let step = std::array::from_fn(|operand| match shapes[operand][axis] {
                1 => 0,
                own => {
                    let step = strides[operand];
                    strides[operand] *= own;
                    step
                }
            });
            match dimensions.last_mut() {
                _ if len == 1 => {}
                // Continues the one inside for all operands.
                Some((inside, steps)) if (0..3).all(|i| step[i] == steps[i] * *inside) => {
                    *inside *= len;
                }
                _ => dimensions.push((len, step)),
            }
        }
        let mut dimensions = dimensions.into_iter();
        Self {
            inner: dimensions.next().unwrap_or((1, [1; 3])),
            outer: dimensions.collect(),
        }
    }

    fn kernel<T: AnyBitPattern + NoUninit>(self) -> Kernel {
        let isa = Isa::best();
        Kernel::new(move |run| {
            let parts = run.parts::<T>(0);
            let (x, y) = (parts.inputs.get::<T>(X), parts.inputs.get::<T>(Y));
            let mut index = [0; MAX_RANK];
            let mut at = [0; 3];
            for output in parts.output.chunks_exact_mut(self.inner.0.max(1)) {
                isa.run(Row {
                    steps: self.inner.1,
                    condition: &parts.inputs.bytes(CONDITION)[at[CONDITION]..],
                    x: &x[at[X]..],
                    y: &y[at[Y]..],
                    output,
                });
                for (index, (len, steps)) in index.iter_mut().zip(&self.outer) {
                    *index += 1;
                    at.iter_mut().zip(steps).for_each(|(at, step)| *at += step);
                    if *index < *len {
                        break;
                    }
                    *index = 0;
                    at.iter_mut()
                        .zip(steps)
                        .for_each(|(at, step)| *at -= len * step);
                }
            }
        })
    }
}

/// The innermost dimension.
struct Row<'a, T> {
    steps: [usize; 3],
    condition: &'a [u8],
    x: &'a [T],
    y: &'a [T],
    output: &'a mut [T],
}

impl<T: Copy> Work for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self {
            steps,
            condition,
            x,
            y,
            output,
        } = self;
        match steps {
            [1, 1, 1] => {
                for (((out, &c), &x), &y) in output.iter_mut().zip(condition).zip(x).zip(y) {
                    *out = if c != 0 { x } else { y };
                }
            }
            [0, ..] => {
                let (chosen, step) = match condition[0] {
                    0 => (y, steps[Y]),
                    _ => (x, steps[X]),
                };
                match step {
                    0 => output.fill(chosen[0]),
                    _ => output.copy_from_slice(&chosen[..output.len()]),
                }
            }
            _ => {
                for (i, (out, &c)) in output.iter_mut().zip(condition).enumerate() {
                    *out = if c != 0 {
                        x[i * steps[X]]
                    } else {
                        y[i * steps[Y]]
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_dimensions_that_repeat_alike() {
        let same = Choice::new(&[2, 3, 5], [&[2, 3, 5]; 3]);
        assert_eq!((same.outer.len(), same.inner), (0, (30, [1; 3])));
        let rows = Choice::new(&[2, 3, 5], [&[2, 3, 1], &[2, 3, 5], &[1, 1, 1]]);
        assert_eq!(rows.inner, (5, [0, 1, 0]));
        assert_eq!(rows.outer, [(6, [1, 5, 0])]);
    }
}
