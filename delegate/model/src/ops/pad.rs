//! `PAD`: zeros before and after its input, along each axis.
//!
//! The second operand, a constant of shape [rank, 2], says how many before and after. A
//! quantized result is padded with its zero point, which stands for 0.

use super::movement::{Axis, Copy, fill, multiply_add, pairs, strides, zero};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `PAD` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pad;

pub(super) const INPUT: usize = 0;
const PADDINGS: usize = 1;

no_attributes!(Pad, PadOptions);

/// How many elements to add before and after, along each axis of the input.
pub(super) fn paddings(io: &Signature) -> Result<Vec<(usize, usize)>, OpError> {
    pairs(io, PADDINGS, "the padding", io.input(INPUT)?.shape.len())
}

/// The input's shape with `paddings` added.
pub(super) fn padded_shape(io: &Signature) -> Result<Vec<Shape>, OpError> {
    let shape = io.input(INPUT)?.shape.iter().zip(paddings(io)?);
    let padded =
        shape.map(|(&d, (before, after))| multiply_add(d, 1, multiply_add(before, 1, after)?));
    Ok(vec![padded.collect::<Result<_, _>>()?])
}

/// The lowest version that pads the type and rank of the input.
pub(super) fn version(io: &Signature) -> i32 {
    let Ok(input) = io.input(INPUT) else { return 1 };
    match input.dtype {
        DType::Bool => 5,
        _ if input.shape.len() > 4 => 4,
        DType::I16 => 3,
        DType::I8 => 2,
        _ => 1,
    }
}

/// The copy of the input to its place in the result; its runs come in ascending order.
pub(super) fn interior(io: &Signature) -> Result<Copy, OpError> {
    let (input, output) = (io.input(INPUT)?, io.output(0)?);
    let (from, to) = (strides(input)?, strides(output)?);
    let axes = paddings(io)?
        .into_iter()
        .enumerate()
        .map(|(d, (before, _))| {
            let first = (before as isize).saturating_mul(to[d]);
            Axis::starting(input.shape[d], (0, from[d]), (first, to[d]))
        });
    Copy::new(input, output, axes.collect())
}

/// Copies `input` to its place in `output` and sets what lies between to `element`.
pub(super) fn pad(copy: &Copy, input: &[u8], element: &[u8], output: &mut [u8]) {
    let mut end = 0;
    copy.each(|from, to, len| {
        fill(&mut output[end..to], element);
        output[to..to + len].copy_from_slice(&input[from..from + len]);
        end = to + len;
    });
    fill(&mut output[end..], element);
}

impl Operator for Pad {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        padded_shape(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        version(io)
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (copy, element) = (interior(io)?, zero(io.output(0)?)?);
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            pad(&copy, parts.inputs.bytes(INPUT), &element, parts.output);
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn pads_with_the_zero_point() {
        let inputs = [
            Case::i8([1, 2], [7, 8]).quantized(0.5, -3),
            Case::i32([2, 2], [1, 0, 0, 2]).constant(),
        ];
        let output = eval(Pad, &inputs, Case::result(DType::I8).quantized(0.5, -3));
        assert_eq!(output.shape, [2, 4]);
        assert_eq!(output.get::<i8>(), [-3, -3, -3, -3, 7, 8, -3, -3]);
    }

    #[test]
    fn pads_an_empty_input() {
        let inputs = [Case::f32([0], []), Case::i32([1, 2], [1, 1]).constant()];
        assert_eq!(
            eval(Pad, &inputs, Case::result(DType::F32)).get::<f32>(),
            [0.0, 0.0]
        );
    }

    #[test]
    fn rejects_negative_padding_and_other_ranks() {
        let infer = |shape: [usize; 2], paddings: &[i32]| {
            let paddings = Case::i32(shape, paddings.iter().copied()).constant();
            Pad.infer_shapes(&signature(
                &[Case::i8([1], [7]), paddings],
                &[Case::result(DType::I8)],
            ))
        };
        assert!(matches!(
            infer([1, 2], &[-1, 0]),
            Err(OpError::Attribute(_))
        ));
        assert!(matches!(
            infer([2, 2], &[1, 0, 0, 0]),
            Err(OpError::Shape(_))
        ));
    }
}
