//! `CALL`: runs a subgraph on its operands; the subgraph's outputs are the results.

use super::{Attributes, Body, BodyOutputs, OpError, Operator, Signature};
use crate::cpu::{Frame, Kernel};
use crate::schema::tfl;
use crate::tensor::Shape;

/// Attributes of `CALL`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Call {
    /// The subgraph.
    pub subgraph: u32,
}

/// The one subgraph that an operator runs once, on all its operands.
pub(super) fn body(subgraph: i32) -> Vec<Body> {
    vec![Body {
        subgraph,
        first_operand: 0,
        outputs: BodyOutputs::Results,
    }]
}

/// The shapes that [`body`] gives.
pub(super) fn shapes(io: &Signature) -> Result<Vec<Shape>, OpError> {
    Ok(Frame::shapes(io.body(0)?))
}

/// A kernel that runs [`body`].
pub(super) fn kernel(io: &Signature) -> Result<Kernel, OpError> {
    let frame = Frame::new(io.body(0)?, 0);
    Ok(Kernel::with_scratch(frame.end(), move |run| {
        frame.call(run, 0)
    }))
}

impl Attributes for Call {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_call_options().cloned().unwrap_or_default();
        Ok(Self {
            subgraph: options.subgraph,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::CallOptions(Box::new(tfl::CallOptionsT {
            subgraph: self.subgraph,
        }))
    }
}

impl Operator for Call {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn bodies(&self) -> Vec<Body> {
        body(i32::try_from(self.subgraph).unwrap_or(-1))
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        kernel(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Options;
    use crate::graph::Subgraph;
    use crate::ops::{Activation, Concatenation, Op, Tanh};
    use crate::tensor::DType;
    use crate::testing::{chain, plan, runner, subgraph, tensor};

    /// `depth` subgraphs, each of which runs the next one twice; the last is a TANH.
    fn chain_of(depth: u32) -> Vec<Subgraph> {
        let tensors = || vec![tensor(DType::F32, [1]); 3];
        let call = |to: u32| Op::from(Call { subgraph: to });
        let twice = |to| -> Vec<(Op, &[u32], &[u32])> {
            vec![(call(to), &[0], &[1]), (call(to), &[1], &[2])]
        };
        let level = |level| subgraph(tensors(), &[0], &[2], twice(level + 1));
        let mut subgraphs: Vec<Subgraph> = (0..depth).map(level).collect();
        let tanh = vec![(Tanh.into(), &[0][..], &[2][..])];
        subgraphs.push(subgraph(tensors(), &[0], &[2], tanh));
        subgraphs
    }

    #[test]
    fn runs_subgraphs_in_subgraphs() {
        let mut runner = runner(chain_of(2));
        runner.set_input(0, bytemuck::bytes_of(&0.5f32)).unwrap();
        runner.run().unwrap();
        let output: f32 = bytemuck::pod_read_unaligned(runner.output(0));
        assert!((output - 0.5f32.tanh().tanh().tanh().tanh()).abs() < 1e-6);
    }

    #[test]
    fn many_calls_are_planned_once_and_limited_when_run() {
        let options = Options {
            call_limit: 1000,
            ..Options::default()
        };
        let plan = plan(chain_of(30), &options).unwrap();
        assert_eq!(plan.bodies().len(), 30);
        let mut runner = crate::cpu::Runner::new(plan.into()).unwrap();
        assert!(runner.run().is_err());
    }

    /// Each level runs the next one for operands of two shapes.
    #[test]
    fn many_plans_of_one_subgraph_are_limited_by_memory() {
        let concat = Concatenation {
            axis: 0,
            activation: Activation::None,
        };
        let level = |to: u32| {
            let call = || Op::from(Call { subgraph: to });
            let nodes: Vec<(Op, &[u32], &[u32])> = vec![
                (call(), &[0], &[1]),
                (concat.clone().into(), &[0, 0], &[2]),
                (call(), &[2], &[3]),
            ];
            subgraph(vec![tensor(DType::F32, [1]); 4], &[0], &[1], nodes)
        };
        let mut subgraphs: Vec<Subgraph> = (0..12).map(|l| level(l + 1)).collect();
        subgraphs.push(subgraph(
            vec![tensor(DType::F32, [1])],
            &[0],
            &[0],
            Vec::new(),
        ));
        assert!(plan(subgraphs.clone(), &Options::default()).is_ok());
        let options = Options {
            memory_limit: 100_000,
            ..Options::default()
        };
        let error = plan(subgraphs, &options).unwrap_err();
        assert!(
            chain(&error).contains("more than the limit of 100000"),
            "{}",
            chain(&error)
        );
    }

    #[test]
    fn rejects_subgraphs_that_call_each_other_and_too_deep_ones() {
        let mut subgraphs = chain_of(3);
        subgraphs[2].nodes[1].op = Call { subgraph: 1 }.into();
        let error = plan(subgraphs, &Options::default()).unwrap_err();
        assert!(
            chain(&error).contains("subgraph 1 runs itself"),
            "{}",
            chain(&error)
        );
        let error = plan(chain_of(100), &Options::default()).unwrap_err();
        assert!(chain(&error).contains("deep"));
    }
}
