//! `READ_VARIABLE`: the value of the variable whose handle is the operand.
//!
//! The result has the shape of what was assigned. A model that reads a variable before anything can
//! have been assigned to it is refused when it is planned, where LiteRT fails when it runs; one that
//! only assigns in a branch not taken reads zeros.

use super::{Attributes, Memory, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// `READ_VARIABLE` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ReadVariable;

no_attributes!(ReadVariable, ReadVariableOptions);

impl Operator for ReadVariable {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(vec![io.state()?.shape.clone()])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn memory(&self) -> Option<Memory<'_>> {
        Some(Memory::Read)
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let variable = io.state()?.range.clone();
        Ok(Kernel::new(move |run| run.read_state(&variable)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Options;
    use crate::graph::Subgraph;
    use crate::ops::{Activation, Add, AssignVariable, CallOnce, VarHandle};
    use crate::tensor::{DType, Tensor};
    use crate::testing::{chain, plan, runner, subgraph, tensor};

    /// Adds the input to a variable that starts at 5 and returns the sum.
    fn accumulator() -> Vec<Subgraph> {
        let handle = VarHandle {
            container: None,
            shared_name: Some("sum".into()),
        };
        let add = Add {
            activation: Activation::None,
            pot_scale_int16: false,
        };
        let resource = || tensor(DType::Resource, [1]);
        let number = || tensor(DType::F32, [1]);
        let main = subgraph(
            vec![number(), resource(), number(), number()],
            &[0],
            &[3],
            vec![
                (CallOnce { subgraph: 1 }.into(), &[], &[]),
                (handle.clone().into(), &[], &[1]),
                (ReadVariable.into(), &[1], &[2]),
                (add.into(), &[0, 2], &[3]),
                (AssignVariable.into(), &[1, 3], &[]),
            ],
        );
        let five = Tensor::constant("", DType::F32, [1], 5.0f32.to_ne_bytes().to_vec());
        let nodes: Vec<(_, &[u32], &[u32])> = vec![
            (handle.into(), &[], &[0]),
            (AssignVariable.into(), &[0, 1], &[]),
        ];
        vec![main, subgraph(vec![resource(), five], &[], &[], nodes)]
    }

    #[test]
    fn variables_keep_their_values_until_they_are_reset() {
        let mut runner = runner(accumulator());
        runner.set_input(0, bytemuck::bytes_of(&2.0f32)).unwrap();
        for expected in [7.0f32, 9.0, 11.0] {
            runner.run().unwrap();
            assert_eq!(runner.output(0), bytemuck::bytes_of(&expected));
        }
        runner.reset_variables();
        runner.run().unwrap();
        assert_eq!(runner.output(0), bytemuck::bytes_of(&7.0f32));
    }

    #[test]
    fn rejects_what_cannot_be_read() {
        let mut subgraphs = accumulator();
        subgraphs[0].nodes.remove(0);
        let error = plan(subgraphs, &Options::default()).unwrap_err();
        assert!(chain(&error).contains("\"sum\" is read before anything is assigned"));
        let mut subgraphs = accumulator();
        subgraphs[1].tensors[1].shape = vec![1, 1];
        subgraphs[0].nodes[4].inputs[1] = Some(crate::TensorId(0));
        let error = plan(subgraphs, &Options::default()).unwrap_err();
        assert!(chain(&error).contains("\"sum\" of float32 [1, 1] is assigned float32 [1]"));
        let mut subgraphs = accumulator();
        subgraphs[0].nodes[2].inputs = vec![Some(crate::TensorId(0))];
        let error = plan(subgraphs, &Options::default()).unwrap_err();
        assert!(chain(&error).contains("no kernel for input 0 of type float32"));
    }
}
