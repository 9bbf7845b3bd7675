//! Two operands whose dimensions of 1 are repeated to fit each other.

use bantam_kernels::{Isa, Work};
use bytemuck::{AnyBitPattern, NoUninit};

use super::{OpError, Signature};
use crate::cpu::Kernel;
use crate::tensor::{DType, Shape};

/// The most dimensions that remain once those that broadcast alike are merged.
const MAX_RANK: usize = 6;

/// The shape that `a` and `b` broadcast to: aligned at their last dimension, each pair equal or
/// one of them 1.
pub(super) fn broadcast_shape(a: &[usize], b: &[usize]) -> Result<Shape, OpError> {
    let rank = a.len().max(b.len());
    (0..rank)
        .map(
            |axis| match (dimension(a, rank, axis), dimension(b, rank, axis)) {
                (x, y) if x == y || y == 1 => Ok(x),
                (1, y) => Ok(y),
                _ => Err(OpError::Shape(format!(
                    "shapes {a:?} and {b:?} do not broadcast to each other"
                ))),
            },
        )
        .collect()
}

/// The shape that the first two operands broadcast to.
pub(super) fn binary_shapes(io: &Signature) -> Result<Vec<Shape>, OpError> {
    Ok(vec![broadcast_shape(
        &io.input(0)?.shape,
        &io.input(1)?.shape,
    )?])
}

/// The one type of the first two operands and the result.
pub(super) fn binary_type(io: &Signature) -> Result<DType, OpError> {
    let dtype = io.input(0)?.dtype;
    if io.input(1)?.dtype != dtype {
        return Err(io.unsupported(1));
    }
    match io.output(0)?.dtype {
        output if output == dtype => Ok(dtype),
        output => Err(OpError::UnsupportedType {
            what: "output 0".into(),
            dtype: output,
        }),
    }
}

/// Whether two operands of different shapes need more than four dimensions; some operators have
/// a version for that.
pub(super) fn broadcasts_above_rank_4(io: &Signature) -> bool {
    match (io.input(0), io.input(1)) {
        (Ok(a), Ok(b)) => a.shape != b.shape && a.shape.len().max(b.shape.len()) > 4,
        _ => false,
    }
}

fn dimension(shape: &[usize], rank: usize, axis: usize) -> usize {
    match (axis + shape.len()).checked_sub(rank) {
        Some(axis) => shape[axis],
        None => 1,
    }
}

/// Dimensions of the result that broadcast alike, merged to one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    len: usize,
    /// Whether each operand has elements of its own along it, or repeats.
    a: bool,
    b: bool,
}

/// How the elements of two operands meet, for shapes known beforehand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Broadcast {
    /// Outer dimensions with the operands' strides, innermost first.
    outer: Vec<(usize, usize, usize)>,
    inner: Run,
}

impl Broadcast {
    /// For operands of shapes `a` and `b`.
    pub fn new(a: &[usize], b: &[usize]) -> Result<Self, OpError> {
        let shape = broadcast_shape(a, b)?;
        let mut runs: Vec<Run> = Vec::new();
        for (axis, &len) in shape.iter().enumerate().filter(|&(_, &len)| len != 1) {
            let run = Run {
                len,
                a: dimension(a, shape.len(), axis) == len,
                b: dimension(b, shape.len(), axis) == len,
            };
            match runs.last_mut() {
                Some(last) if (last.a, last.b) == (run.a, run.b) => last.len *= len,
                _ => runs.push(run),
            }
        }
        if runs.len() > MAX_RANK {
            return Err(OpError::Shape(format!(
                "broadcasting {a:?} with {b:?} takes more than {MAX_RANK} dimensions"
            )));
        }
        let inner = runs.pop().unwrap_or(Run {
            len: 1,
            a: true,
            b: true,
        });
        let extent = |run: Run| {
            (
                if run.a { run.len } else { 1 },
                if run.b { run.len } else { 1 },
            )
        };
        let (mut stride_a, mut stride_b) = extent(inner);
        let outer = runs
            .iter()
            .rev()
            .map(|&run| {
                let (len_a, len_b) = extent(run);
                let strides = (
                    run.len,
                    if run.a { stride_a } else { 0 },
                    if run.b { stride_b } else { 0 },
                );
                stride_a *= len_a;
                stride_b *= len_b;
                strides
            })
            .collect();
        Ok(Self { outer, inner })
    }

    /// For the first two operands of `io`.
    pub fn of(io: &Signature) -> Result<Self, OpError> {
        Self::new(&io.input(0)?.shape, &io.input(1)?.shape)
    }

    /// Writes `f(a, b)` for each element, by a copy of `f` whose constants stay in registers; `a`, `b` and `output` have the lengths of their shapes.
    pub fn apply<A: Copy, B: Copy, T>(
        &self,
        a: &[A],
        b: &[B],
        output: &mut [T],
        f: impl Fn(A, B) -> T + Copy,
    ) {
        Isa::best().run(Rows {
            broadcast: self,
            a,
            b,
            output,
            f,
        });
    }
}

/// `f(a, b)` of the elements of the first two operands, which broadcast to each other.
pub(super) fn binary<A, B, T>(
    io: &Signature,
    f: impl Fn(A, B) -> T + Copy + Send + Sync + 'static,
) -> Result<Kernel, OpError>
where
    A: AnyBitPattern,
    B: AnyBitPattern,
    T: AnyBitPattern + NoUninit,
{
    let broadcast = Broadcast::of(io)?;
    Ok(Kernel::new(move |run| {
        let parts = run.parts::<T>(0);
        let (a, b) = (parts.inputs.get::<A>(0), parts.inputs.get::<B>(1));
        broadcast.apply(a, b, parts.output, f);
    }))
}

/// The loops of [`Broadcast::apply`].
struct Rows<'a, A, B, T, F> {
    broadcast: &'a Broadcast,
    a: &'a [A],
    b: &'a [B],
    output: &'a mut [T],
    f: F,
}

impl<A: Copy, B: Copy, T, F: Fn(A, B) -> T> Work for Rows<'_, A, B, T, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self {
            broadcast: Broadcast { outer, inner },
            a,
            b,
            output,
            f,
        } = self;
        let mut index = [0; MAX_RANK];
        let (mut at_a, mut at_b) = (0, 0);
        for row in output.chunks_exact_mut(inner.len.max(1)) {
            match (inner.a, inner.b) {
                (true, true) => {
                    let operands = a[at_a..].iter().zip(&b[at_b..]);
                    for (out, (&x, &y)) in row.iter_mut().zip(operands) {
                        *out = f(x, y);
                    }
                }
                (true, false) => {
                    let y = b[at_b];
                    for (out, &x) in row.iter_mut().zip(&a[at_a..]) {
                        *out = f(x, y);
                    }
                }
                (false, _) => {
                    let x = a[at_a];
                    for (out, &y) in row.iter_mut().zip(&b[at_b..]) {
                        *out = f(x, y);
                    }
                }
            }
            for (index, &(len, stride_a, stride_b)) in index.iter_mut().zip(outer) {
                *index += 1;
                at_a += stride_a;
                at_b += stride_b;
                if *index < len {
                    break;
                }
                *index = 0;
                at_a -= len * stride_a;
                at_b -= len * stride_b;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(a: &[usize], b: &[usize]) -> Vec<(usize, usize)> {
        let len = |shape: &[usize]| shape.iter().product();
        let (left, right): (Vec<usize>, Vec<usize>) =
            ((0..len(a)).collect(), (0..len(b)).collect());
        let mut output = vec![(0, 0); len(&broadcast_shape(a, b).unwrap())];
        let broadcast = Broadcast::new(a, b).unwrap();
        broadcast.apply(&left, &right, &mut output, |x, y| (x, y));
        output
    }

    #[test]
    fn merges_dimensions_that_broadcast_alike() {
        let rows = Broadcast::new(&[2, 3, 5], &[5]).unwrap();
        assert_eq!(
            (rows.outer.as_slice(), rows.inner.len),
            (&[(6, 5, 0)][..], 5)
        );
        assert!(
            Broadcast::new(&[2, 3, 5], &[2, 3, 5])
                .unwrap()
                .outer
                .is_empty()
        );
        assert!(Broadcast::new(&[2, 3, 5], &[]).unwrap().outer.is_empty());
    }

    #[test]
    fn repeats_each_operand_where_it_has_one() {
        let expected = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];
        assert_eq!(pairs(&[2, 1], &[3]), expected);
        assert_eq!(pairs(&[3], &[2, 1]), expected.map(|(x, y)| (y, x)));
        assert_eq!(pairs(&[1, 1], &[]), [(0, 0)]);
    }

    #[test]
    fn alternating_dimensions_agree_with_index_arithmetic() {
        let got = pairs(&[2, 1, 3, 1, 2, 1], &[1, 3, 1, 2, 1, 2]);
        for (at, pair) in got.into_iter().enumerate() {
            let [f, e, d, c, b, a] = [
                at % 2,
                at / 2 % 2,
                at / 4 % 2,
                at / 8 % 3,
                at / 24 % 3,
                at / 72,
            ];
            assert_eq!(pair, ((a * 3 + c) * 2 + e, (b * 2 + d) * 2 + f));
        }
    }

    #[test]
    fn rejects_shapes_that_do_not_fit() {
        assert!(matches!(
            broadcast_shape(&[2, 3], &[2]),
            Err(OpError::Shape(_))
        ));
        assert_eq!(broadcast_shape(&[0, 3], &[1]).unwrap(), [0, 3]);
    }
}
