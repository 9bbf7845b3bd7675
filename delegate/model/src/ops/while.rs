//! `WHILE`: runs a body subgraph for as long as a condition subgraph says so.
//!
//! The operands are the loop variables: both subgraphs take all of them, the condition gives one
//! boolean, the body the variables for the next round. After the last round they are the results.
//! A variable keeps its type and shape; one that the body returns untouched is not copied in each
//! round, and if it is a constant outside, it is one inside.
//!
//! Tensors of the body that are variables (the states of an LSTM) start anew whenever the loop
//! starts, and last from round to round.

use super::{Attributes, Body, BodyOutputs, OpError, Operator, Signature};
use crate::cpu::{Frame, Kernel};
use crate::schema::tfl;
use crate::tensor::Shape;

/// Attributes of `WHILE`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct While {
    /// The subgraph that tells whether there is another round.
    pub condition: i32,
    /// The subgraph that is one round.
    pub body: i32,
}

const CONDITION: usize = 0;
const BODY: usize = 1;

impl Attributes for While {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_while_options().cloned().unwrap_or_default();
        Ok(Self {
            condition: options.cond_subgraph_index,
            body: options.body_subgraph_index,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::WhileOptions(Box::new(tfl::WhileOptionsT {
            cond_subgraph_index: self.condition,
            body_subgraph_index: self.body,
        }))
    }
}

impl Operator for While {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(Frame::shapes(io.body(BODY)?))
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn bodies(&self) -> Vec<Body> {
        let body = |subgraph, outputs| Body {
            subgraph,
            first_operand: 0,
            outputs,
        };
        vec![
            body(self.condition, BodyOutputs::Condition),
            body(self.body, BodyOutputs::NextRound),
        ]
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (condition, body) = (io.body(CONDITION)?, io.body(BODY)?);
        let pairs = body.inputs().iter().zip(body.outputs());
        let varying: Vec<usize> = pairs
            .enumerate()
            .filter(|(_, (input, output))| input != output)
            .map(|(index, _)| index)
            .collect();
        let condition = Frame::new(condition, 0);
        let body = Frame::new(body, condition.end());
        Ok(Kernel::with_scratch(body.end(), move |run| {
            condition.start(run, 0);
            body.start(run, 0);
            run.copy_operands();
            while condition.run(run) && condition.is_true(run) && body.run(run) {
                body.give_results(run, varying.iter().copied());
                condition.take_results(run, &varying);
                body.take_results(run, &varying);
            }
        }))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cpu::{Options, RunError, Runner};
    use crate::graph::{Node, Subgraph};
    use crate::ops::{Activation, Add, Cast, Concatenation, Reshape, Rnn, Sub};
    use crate::tensor::{DType, Tensor};
    use crate::testing::{chain, plan, runner, subgraph, tensor};

    /// A model whose first subgraph loops over `body`, with a counter as variable 0.
    fn looped(variables: &[Tensor], body: Subgraph) -> Vec<Subgraph> {
        let count = variables.len() as u32;
        let (inputs, outputs): (Vec<u32>, Vec<u32>) =
            ((0..count).collect(), (count..2 * count).collect());
        let all = [variables, variables].concat();
        let op = While {
            condition: 1,
            body: 2,
        };
        let main = subgraph(all, &inputs, &outputs, vec![(op.into(), &inputs, &outputs)]);
        let mut tensors = variables.to_vec();
        tensors.push(tensor(DType::Bool, []));
        let cast = (Cast::default().into(), &[0][..], &[count][..]);
        vec![main, subgraph(tensors, &inputs, &[count], vec![cast]), body]
    }

    /// Counts down and adds variable 2 to variable 1.
    pub fn sum_loop() -> Vec<Subgraph> {
        let variables = [
            tensor(DType::I32, []),
            tensor(DType::F32, [2]),
            tensor(DType::F32, [2]),
        ];
        let mut tensors = variables.to_vec();
        tensors.push(Tensor::constant(
            "",
            DType::I32,
            [],
            1i32.to_ne_bytes().to_vec(),
        ));
        tensors.extend([tensor(DType::I32, []), tensor(DType::F32, [2])]);
        let sub = Sub {
            activation: Activation::None,
            pot_scale_int16: false,
        };
        let add = Add {
            activation: Activation::None,
            pot_scale_int16: false,
        };
        let nodes = vec![
            (sub.into(), &[0, 3][..], &[4][..]),
            (add.into(), &[1, 2], &[5]),
        ];
        looped(&variables, subgraph(tensors, &[0, 1, 2], &[4, 5, 2], nodes))
    }

    fn set(runner: &mut Runner, rounds: i32) {
        runner.set_input(0, &rounds.to_ne_bytes()).unwrap();
        runner
            .set_input(1, bytemuck::cast_slice(&[1.0f32, 2.0]))
            .unwrap();
        runner
            .set_input(2, bytemuck::cast_slice(&[10.0f32, 100.0]))
            .unwrap();
    }

    #[test]
    fn runs_as_often_as_the_condition_says() {
        let mut runner = runner(sum_loop());
        for (rounds, sums) in [(3, [31.0f32, 302.0]), (0, [1.0, 2.0]), (1, [11.0, 102.0])] {
            set(&mut runner, rounds);
            runner.run().unwrap();
            assert_eq!(bytemuck::cast_slice::<_, f32>(runner.output(1)), sums);
            assert_eq!(
                bytemuck::cast_slice::<_, f32>(runner.output(2)),
                [10.0, 100.0]
            );
        }
    }

    #[test]
    fn a_loop_without_end_ends_with_an_error() {
        let options = Options {
            call_limit: 1000,
            ..Options::default()
        };
        let mut runner = Runner::new(plan(sum_loop(), &options).unwrap().into()).unwrap();
        set(&mut runner, -1);
        assert_eq!(runner.run(), Err(RunError::Endless { limit: 1000 }));
        set(&mut runner, 400);
        assert_eq!(runner.run(), Ok(()));
    }

    #[test]
    fn observers_see_each_round() {
        let mut runner = runner(sum_loop());
        set(&mut runner, 3);
        let mut sums = Vec::new();
        let see = |subgraph, tensor: crate::TensorId, bytes: &[u8]| {
            if (subgraph, tensor.0) == (2, 5) {
                sums.push(bytemuck::pod_read_unaligned::<f32>(&bytes[..4]));
            }
        };
        runner.run_observed(see).unwrap();
        assert_eq!(sums, [11.0, 21.0, 31.0]);
        let mut steps = Vec::new();
        runner
            .run_timed(|subgraph, node, _| steps.push((subgraph, node)))
            .unwrap();
        assert_eq!(steps.iter().filter(|&&s| s == (2, 1)).count(), 3);
        assert_eq!(steps.last(), Some(&(0, 0)));
    }

    #[test]
    fn variables_of_the_body_last_as_long_as_the_loop() {
        let mut subgraphs = sum_loop();
        let body = &mut subgraphs[2];
        let one = Tensor::constant("", DType::F32, [1, 1], 1f32.to_ne_bytes().to_vec());
        let zero = Tensor::constant("", DType::F32, [1], vec![0; 4]);
        let state = Tensor {
            is_variable: true,
            ..tensor(DType::F32, [2, 1])
        };
        let column = || tensor(DType::F32, [2, 1]);
        let first = body.tensors.len() as u32;
        body.tensors.extend([one, zero, state, column(), column()]);
        let [one, zero, state, x, y] = [0, 1, 2, 3, 4].map(|i| crate::TensorId(first + i));
        let reshape = |shape: &[i32], x, y| {
            let new_shape = Some(shape.to_vec());
            Node::new(Reshape { new_shape }, &[x], &[y])
        };
        let sum = crate::TensorId(5);
        body.nodes.pop();
        body.nodes.extend([
            reshape(&[2, 1], crate::TensorId(2), x),
            Node::new(Rnn::default(), &[x, one, one, zero, state], &[y]),
            reshape(&[2], y, sum),
        ]);
        let mut runner = runner(subgraphs);
        for (rounds, sums) in [(3, [30.0f32, 300.0]), (2, [20.0, 200.0])] {
            set(&mut runner, rounds);
            runner.run().unwrap();
            assert_eq!(bytemuck::cast_slice::<_, f32>(runner.output(1)), sums);
        }
    }

    /// LiteRT 2.3 gets this wrong: it writes the first of the two before it reads it.
    #[test]
    fn variables_may_change_places() {
        let mut subgraphs = sum_loop();
        let body = &mut subgraphs[2];
        (body.outputs[1], body.outputs[2]) = (crate::TensorId(2), crate::TensorId(1));
        let mut runner = runner(subgraphs);
        set(&mut runner, 3);
        runner.run().unwrap();
        assert_eq!(
            bytemuck::cast_slice::<_, f32>(runner.output(1)),
            [10.0, 100.0]
        );
        assert_eq!(bytemuck::cast_slice::<_, f32>(runner.output(2)), [1.0, 2.0]);
    }

    #[test]
    fn rejects_a_variable_that_grows() {
        let variables = [tensor(DType::I32, []), tensor(DType::F32, [2])];
        let mut tensors = variables.to_vec();
        tensors.push(tensor(DType::F32, [4]));
        let concat = Concatenation {
            axis: 0,
            activation: Activation::None,
        };
        let body = subgraph(
            tensors,
            &[0, 1],
            &[0, 2],
            vec![(concat.into(), &[1, 1], &[2])],
        );
        let mut subgraphs = looped(&variables, body);
        let error = plan(subgraphs.clone(), &Options::default()).unwrap_err();
        assert!(
            chain(&error).contains("loop variable 1 is float32 [2] before a round and float32 [4]"),
            "{}",
            chain(&error)
        );
        subgraphs[2].outputs.pop();
        let error = plan(subgraphs, &Options::default()).unwrap_err();
        assert!(chain(&error).contains("1 outputs where the operator takes 2"));
    }

    #[test]
    fn rejects_a_condition_that_is_no_boolean_and_loops_of_subgraphs() {
        let mut subgraphs = sum_loop();
        subgraphs[1].outputs = vec![crate::TensorId(0)];
        let error = plan(subgraphs, &Options::default()).unwrap_err();
        assert!(chain(&error).contains("gives int32 [] and not one bool"));
        for (condition, body, what) in [
            (1, 0, "runs itself"),
            (7, 2, "no subgraph 7"),
            (1, -1, "no subgraph -1"),
        ] {
            let mut subgraphs = sum_loop();
            subgraphs[0].nodes[0].op = While { condition, body }.into();
            let error = plan(subgraphs, &Options::default()).unwrap_err();
            assert!(chain(&error).contains(what), "{}", chain(&error));
        }
    }
}
