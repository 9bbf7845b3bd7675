//! `RANK`: the number of dimensions of its input, as int32; known when a model is planned.

use super::{Attributes, OpError, Operator, QuantRule, Results, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `RANK` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rank;

no_attributes!(Rank, RankOptions);

const INPUT: usize = 0;

impl Operator for Rank {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        match io.output(0)?.dtype {
            DType::I32 => Ok(vec![Shape::new()]),
            dtype => Err(OpError::UnsupportedType {
                what: "output 0".into(),
                dtype,
            }),
        }
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        Some(QuantRule {
            roles: vec![Role::Activation],
            results: Results::Plain,
        })
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let rank = io.input(INPUT)?.shape.len() as i32;
        Ok(Kernel::new(move |run| run.parts(0).output.fill(rank)))
    }

    fn fold(&self, io: &Signature) -> Option<Vec<u8>> {
        Some(
            (io.optional_input(INPUT)?.shape.len() as i32)
                .to_ne_bytes()
                .into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn counts_dimensions() {
        assert_eq!(
            eval(Rank, &[Case::i8([2, 3], 0..6)], Case::result(DType::I32)).get::<i32>(),
            [2]
        );
        assert_eq!(
            eval(Rank, &[Case::i8([], [1])], Case::result(DType::I32)).get::<i32>(),
            [0]
        );
    }

    #[test]
    fn rejects_a_result_of_another_type() {
        let io = signature(&[Case::i8([1], [0])], &[Case::result(DType::I64)]);
        assert!(matches!(
            Rank.infer_shapes(&io),
            Err(OpError::UnsupportedType { .. })
        ));
    }
}
