//! `MIRROR_PAD`: its input, mirrored at the ends of each axis.
//!
//! The second operand, a constant of shape [rank, 2], says how many elements before and after.
//! `REFLECT` mirrors at the outermost element, which stands once; `SYMMETRIC` past it, so that it
//! stands twice.

use super::movement::{Axis, Copy, strides};
use super::pad::{INPUT, padded_shape, paddings};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `MIRROR_PAD`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MirrorPad {
    /// `REFLECT` or `SYMMETRIC`.
    pub mode: tfl::MirrorPadMode,
}

impl Attributes for MirrorPad {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_mirror_pad_options().cloned().unwrap_or_default();
        Ok(Self { mode: options.mode })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        let options = tfl::MirrorPadOptionsT { mode: self.mode };
        tfl::BuiltinOptionsT::MirrorPadOptions(Box::new(options))
    }
}

impl MirrorPad {
    /// How many elements at an end are not repeated.
    fn border(&self) -> Result<usize, OpError> {
        match self.mode {
            tfl::MirrorPadMode::REFLECT => Ok(1),
            tfl::MirrorPadMode::SYMMETRIC => Ok(0),
            mode => Err(OpError::Attribute(format!("mirror mode {}", mode.0))),
        }
    }
}

impl Operator for MirrorPad {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let (shape, border) = (&io.input(INPUT)?.shape, self.border()?);
        for (&d, (before, after)) in shape.iter().zip(paddings(io)?) {
            if before.max(after) > d.saturating_sub(border) {
                let error = format!("padding {before} and {after} of an axis of {d}");
                return Err(OpError::Shape(error));
            }
        }
        padded_shape(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(INPUT).map(|input| input.dtype) {
            Ok(DType::I16) => 3,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, output, border) = (io.input(INPUT)?, io.output(0)?, self.border()?);
        let (from, to) = (strides(input)?, strides(output)?);
        let axes = paddings(io)?
            .into_iter()
            .enumerate()
            .map(|(d, (before, _))| {
                let len = input.shape[d];
                let source = |index: usize| match index.checked_sub(before) {
                    None => before - index - 1 + border,
                    Some(inside) if inside < len => inside,
                    Some(past) => 2 * len - 1 - border - past,
                };
                let offsets = |i: usize| (source(i) as isize * from[d], i as isize * to[d]);
                Axis::table((0..output.shape[d]).map(offsets))
            });
        Ok(Copy::new(input, output, axes.collect())?.kernel(INPUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn operands(before: i32, after: i32) -> [Case; 2] {
        [
            Case::i8([3], [1, 2, 3]),
            Case::i32([1, 2], [before, after]).constant(),
        ]
    }

    #[test]
    fn mirrors_with_and_without_the_outermost() {
        let op = MirrorPad {
            mode: tfl::MirrorPadMode::REFLECT,
        };
        let output = eval(op, &operands(2, 1), Case::result(DType::I8));
        assert_eq!(output.get::<i8>(), [3, 2, 1, 2, 3, 2]);
        let op = MirrorPad {
            mode: tfl::MirrorPadMode::SYMMETRIC,
        };
        let output = eval(op, &operands(1, 3), Case::result(DType::I8));
        assert_eq!(output.get::<i8>(), [1, 1, 2, 3, 3, 2, 1]);
    }

    #[test]
    fn rejects_more_than_there_is_to_mirror() {
        let io = signature(&operands(3, 0), &[Case::result(DType::I8)]);
        let infer = |mode| MirrorPad { mode }.infer_shapes(&io);
        assert!(infer(tfl::MirrorPadMode::SYMMETRIC).is_ok());
        assert!(matches!(
            infer(tfl::MirrorPadMode::REFLECT),
            Err(OpError::Shape(_))
        ));
        assert!(matches!(
            infer(tfl::MirrorPadMode(2)),
            Err(OpError::Attribute(_))
        ));
    }
}
