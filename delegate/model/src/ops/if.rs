//! `IF`: runs one of two subgraphs.
//!
//! The first operand, one boolean, chooses; the others are the inputs of either subgraph, and the
//! outputs of the one that runs are the results. Both must give the same shapes.

use super::{Attributes, Body, BodyOutputs, OpError, Operator, Signature};
use crate::cpu::{Frame, Kernel};
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `IF`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct If {
    /// The subgraph that runs where the condition is true.
    pub then: i32,
    /// The one that runs where it is false.
    pub otherwise: i32,
}

const CONDITION: usize = 0;
const THEN: usize = 0;
const ELSE: usize = 1;

impl Attributes for If {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_if_options().cloned().unwrap_or_default();
        Ok(Self {
            then: options.then_subgraph_index,
            otherwise: options.else_subgraph_index,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::IfOptions(Box::new(tfl::IfOptionsT {
            then_subgraph_index: self.then,
            else_subgraph_index: self.otherwise,
        }))
    }
}

impl Operator for If {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let condition = io.input(CONDITION)?;
        if condition.dtype != DType::Bool || condition.len() != 1 {
            return Err(OpError::Body(format!(
                "the condition is {} {:?} and not one bool",
                condition.dtype, condition.shape
            )));
        }
        let (then, otherwise) = (Frame::shapes(io.body(THEN)?), Frame::shapes(io.body(ELSE)?));
        match then.iter().zip(&otherwise).position(|(a, b)| a != b) {
            None => Ok(then),
            Some(index) => Err(OpError::Body(format!(
                "result {index} is {:?} or {:?}, depending on the condition",
                then[index], otherwise[index]
            ))),
        }
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn bodies(&self) -> Vec<Body> {
        let body = |subgraph| Body {
            subgraph,
            first_operand: 1,
            outputs: BodyOutputs::Results,
        };
        vec![body(self.then), body(self.otherwise)]
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (then, otherwise) = (Frame::new(io.body(THEN)?, 0), Frame::new(io.body(ELSE)?, 0));
        let scratch = then.end().max(otherwise.end());
        Ok(Kernel::with_scratch(scratch, move |run| {
            let chosen = if run.flag(CONDITION) {
                &then
            } else {
                &otherwise
            };
            chosen.call(run, 1);
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Options;
    use crate::graph::Subgraph;
    use crate::ops::Relu;
    use crate::testing::{chain, plan, runner, subgraph, tensor};

    fn branches(condition: DType) -> Vec<Subgraph> {
        let x = || tensor(DType::F32, [2]);
        let tensors = vec![tensor(condition, [1]), x(), x()];
        let op = If {
            then: 1,
            otherwise: 2,
        };
        let main = subgraph(tensors, &[0, 1], &[2], vec![(op.into(), &[0, 1], &[2])]);
        let relu = subgraph(vec![x(), x()], &[0], &[1], vec![(Relu.into(), &[0], &[1])]);
        let unchanged = subgraph(vec![x()], &[0], &[0], Vec::new());
        vec![main, relu, unchanged]
    }

    #[test]
    fn runs_the_branch_that_is_chosen() {
        let mut runner = runner(branches(DType::Bool));
        runner
            .set_input(1, bytemuck::cast_slice(&[-1.0f32, 2.0]))
            .unwrap();
        for (condition, output) in [(1, [0.0f32, 2.0]), (0, [-1.0, 2.0])] {
            runner.set_input(0, &[condition]).unwrap();
            runner.run().unwrap();
            assert_eq!(bytemuck::cast_slice::<_, f32>(runner.output(0)), output);
        }
    }

    #[test]
    fn rejects_other_conditions_and_branches_that_differ() {
        let error = plan(branches(DType::I32), &Options::default()).unwrap_err();
        assert!(chain(&error).contains("the condition is int32 [1] and not one bool"));
        let mut subgraphs = branches(DType::Bool);
        subgraphs[2].tensors[0].dtype = DType::I8;
        let error = plan(subgraphs, &Options::default()).unwrap_err();
        assert!(chain(&error).contains("input 0 is int8 and the operand float32"));
        let mut subgraphs = branches(DType::Bool);
        let one = crate::tensor::Tensor::constant("", DType::F32, [1], vec![0; 4]);
        subgraphs[2].tensors.push(one);
        subgraphs[2].outputs[0].0 = 1;
        let error = plan(subgraphs, &Options::default()).unwrap_err();
        assert!(chain(&error).contains("result 0 is [2] or [1], depending on the condition"));
        let mut subgraphs = branches(DType::Bool);
        subgraphs[2].inputs.clear();
        subgraphs[2].outputs.clear();
        let error = plan(subgraphs, &Options::default()).unwrap_err();
        assert!(chain(&error).contains("it has 0 inputs and is given 1 operands"));
    }
}
