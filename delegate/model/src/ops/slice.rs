//! `SLICE`: a box of its input.
//!
//! Operands, the last two constants of one entry for each axis: input, begin, size. A size of -1
//! is what remains.

use super::movement::{Axis, Copy, integers, size, strides};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `SLICE` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Slice;

const INPUT: usize = 0;
const BEGIN: usize = 1;
const SIZE: usize = 2;

no_attributes!(Slice, SliceOptions);

/// Begin and length along each axis.
fn ranges(io: &Signature) -> Result<Vec<(usize, usize)>, OpError> {
    let shape = &io.input(INPUT)?.shape;
    let begins = integers(io, BEGIN, "the begin of the slice")?;
    let sizes = integers(io, SIZE, "the size of the slice")?;
    let outside = || OpError::Shape(format!("begin {begins:?}, size {sizes:?} of {shape:?}"));
    if begins.len() != shape.len() || sizes.len() != shape.len() {
        return Err(outside());
    }
    let range = |((&d, &begin), &len): ((&usize, &i64), &i64)| {
        let begin = size(begin, "begin")?;
        let rest = d.checked_sub(begin).ok_or_else(outside)?;
        let len = if len == -1 { rest } else { size(len, "size")? };
        if len <= rest {
            Ok((begin, len))
        } else {
            Err(outside())
        }
    };
    shape.iter().zip(&begins).zip(&sizes).map(range).collect()
}

impl Operator for Slice {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(vec![ranges(io)?.into_iter().map(|(_, len)| len).collect()])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        let Ok(input) = io.input(INPUT) else { return 1 };
        match input.dtype {
            DType::F16 => 8,
            DType::I4 => 7,
            DType::U32 => 6,
            _ if input.shape.len() > 4 => 5,
            DType::I16 => 4,
            DType::String => 3,
            DType::I8 => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, output) = (io.input(INPUT)?, io.output(0)?);
        let (from, to) = (strides(input)?, strides(output)?);
        let axes = ranges(io)?
            .into_iter()
            .zip(from)
            .zip(to)
            .map(|(((begin, len), from), to)| {
                Axis::starting(len, (begin as isize * from, from), (0, to))
            });
        Ok(Copy::new(input, output, axes.collect())?.kernel(INPUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn operands(begin: [i32; 2], size: [i32; 2]) -> [Case; 3] {
        [
            Case::i8([2, 3], 0..6),
            Case::i32([2], begin).constant(),
            Case::i32([2], size).constant(),
        ]
    }

    #[test]
    fn takes_a_box_and_what_remains() {
        let output = eval(Slice, &operands([0, 1], [-1, 2]), Case::result(DType::I8));
        assert_eq!(
            (&*output.shape, output.get()),
            (&[2, 2][..], vec![1i8, 2, 4, 5])
        );
    }

    #[test]
    fn takes_nothing_at_the_end() {
        let output = eval(Slice, &operands([2, 0], [-1, 3]), Case::result(DType::I8));
        assert_eq!(output.shape, [0, 3]);
    }

    #[test]
    fn rejects_what_is_outside() {
        let cases = [
            ([0, 2], [1, 2]),
            ([0, -1], [1, 1]),
            ([0, 4], [1, -1]),
            ([0, 0], [1, -2]),
        ];
        for (begin, size) in cases {
            let io = signature(&operands(begin, size), &[Case::result(DType::I8)]);
            assert!(Slice.infer_shapes(&io).is_err(), "{begin:?} {size:?}");
        }
    }
}
