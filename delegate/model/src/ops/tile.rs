//! `TILE`: its input again and again, along each axis.
//!
//! The second operand, a constant of one entry for each axis, is how often.

use super::movement::{Axis, Copy, integers, multiply_add, size, strides};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `TILE` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tile;

const INPUT: usize = 0;
const MULTIPLES: usize = 1;

no_attributes!(Tile, TileOptions);

fn multiples(io: &Signature) -> Result<Vec<usize>, OpError> {
    let rank = io.input(INPUT)?.shape.len();
    let multiples = integers(io, MULTIPLES, "the multiples")?;
    if multiples.len() != rank {
        return Err(OpError::Shape(format!(
            "multiples {multiples:?} of {rank} dimensions"
        )));
    }
    multiples.into_iter().map(|m| size(m, "multiple")).collect()
}

impl Operator for Tile {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let shape = io.input(INPUT)?.shape.iter().zip(multiples(io)?);
        Ok(vec![
            shape
                .map(|(&d, m)| multiply_add(d, m, 0))
                .collect::<Result<_, _>>()?,
        ])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(INPUT).map(|input| input.dtype) {
            Ok(DType::I8) => 3,
            Ok(DType::String) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, output) = (io.input(INPUT)?, io.output(0)?);
        let (from, to) = (strides(input)?, strides(output)?);
        let axes = multiples(io)?
            .into_iter()
            .enumerate()
            .flat_map(|(d, multiple)| {
                let len = input.shape[d];
                let step = (len as isize).saturating_mul(to[d]);
                [
                    Axis::linear(multiple, 0, step),
                    Axis::linear(len, from[d], to[d]),
                ]
            });
        Ok(Copy::new(input, output, axes.collect())?.kernel(INPUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn operands(multiples: &[i32]) -> [Case; 2] {
        let multiples = Case::i32([multiples.len()], multiples.iter().copied()).constant();
        [Case::i8([2, 2], [1, 2, 3, 4]), multiples]
    }

    #[test]
    fn repeats_along_both_axes() {
        let output = eval(Tile, &operands(&[2, 2]), Case::result(DType::I8));
        assert_eq!(output.shape, [4, 4]);
        assert_eq!(
            output.get::<i8>(),
            [1, 2, 1, 2, 3, 4, 3, 4, 1, 2, 1, 2, 3, 4, 3, 4]
        );
    }

    #[test]
    fn none_of_it_is_empty() {
        assert_eq!(
            eval(Tile, &operands(&[0, 3]), Case::result(DType::I8)).shape,
            [0, 6]
        );
    }

    #[test]
    fn rejects_negative_multiples_and_other_ranks() {
        for multiples in [&[1, -1][..], &[2]] {
            let io = signature(&operands(multiples), &[Case::result(DType::I8)]);
            assert!(Tile.infer_shapes(&io).is_err());
        }
    }
}
