//! `TRANSPOSE`: the same elements with the dimensions in another order.
//!
//! Dimension `i` of the result is dimension `permutation[i]` of the input; the permutation is
//! the second operand, a constant.

use super::movement::{Axis, Copy, axis, integers, strides};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `TRANSPOSE` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transpose;

const INPUT: usize = 0;
const PERMUTATION: usize = 1;

no_attributes!(Transpose, TransposeOptions);

fn permutation(io: &Signature) -> Result<Vec<usize>, OpError> {
    let rank = io.input(INPUT)?.shape.len();
    let wanted = integers(io, PERMUTATION, "the permutation")?;
    let places: Vec<usize> = wanted
        .iter()
        .map(|&p| axis(p, rank))
        .collect::<Result<_, _>>()?;
    let mut seen = vec![false; rank];
    places.iter().for_each(|&place| seen[place] = true);
    if places.len() != rank || seen.contains(&false) {
        return Err(OpError::Attribute(format!(
            "{wanted:?} is no permutation of {rank} dimensions"
        )));
    }
    Ok(places)
}

impl Operator for Transpose {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let shape = &io.input(INPUT)?.shape;
        Ok(vec![
            permutation(io)?
                .into_iter()
                .map(|place| shape[place])
                .collect(),
        ])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        let Ok(input) = io.input(INPUT) else { return 1 };
        match (input.dtype, input.shape.len()) {
            (DType::F16, _) => 9,
            (DType::BF16, _) | (_, 7..) => 8,
            (DType::I4, _) => 7,
            (_, 6) => 6,
            (DType::I16, _) => 5,
            (_, 5) => 4,
            (DType::Bool, _) => 3,
            (DType::I8, _) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, output) = (io.input(INPUT)?, io.output(0)?);
        let (from, to) = (strides(input)?, strides(output)?);
        let axes = permutation(io)?.into_iter().zip(to);
        let axes = axes.map(|(place, to)| Axis::linear(input.shape[place], from[place], to));
        Ok(Copy::new(input, output, axes.collect())?.kernel(INPUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn permuted(permutation: &[i32], input: Case) -> Case {
        let shape = [permutation.len()];
        let permutation = Case::i32(shape, permutation.iter().copied()).constant();
        let dtype = input.dtype;
        eval(Transpose, &[input, permutation], Case::result(dtype))
    }

    #[test]
    fn swaps_rows_and_columns() {
        let output = permuted(&[1, 0], Case::f32([2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        assert_eq!(output.shape, [3, 2]);
        assert_eq!(output.get::<f32>(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn reverses_seven_dimensions() {
        let input = Case::i8([2, 1, 2, 1, 2, 1, 2], 0..16);
        let output = permuted(&[6, 5, 4, 3, 2, 1, 0], input);
        assert_eq!(
            output.get::<i8>(),
            [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15]
        );
    }

    #[test]
    fn rejects_what_is_no_permutation() {
        for wrong in [vec![0, 0], vec![0], vec![0, 2], vec![0, 1, -1]] {
            let permutation = Case::i32([wrong.len()], wrong).constant();
            let inputs = [Case::i8([2, 3], 0..6), permutation];
            let io = signature(&inputs, &[Case::result(DType::I8)]);
            assert!(matches!(
                Transpose.infer_shapes(&io),
                Err(OpError::Attribute(_))
            ));
        }
    }
}
