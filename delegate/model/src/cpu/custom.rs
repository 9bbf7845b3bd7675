//! Kernels from outside, for custom operators that the CPU path does not know: partitions that a
//! driver runs, and what a vendor's compiler has made.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::kernel::Kernel;
use crate::ops::{Custom, Op, OpError, Operator, Signature};
use crate::tensor::Shape;

/// Knows kernels for custom operators.
pub trait CustomOps: fmt::Debug + Send + Sync {
    /// What computes `op`; `None` where this does not know it. Asked when a model is planned, which
    /// may be several times for one operator.
    fn find(&self, op: &Custom) -> Option<Arc<dyn CustomOp>>;
}

/// What computes a custom operator.
pub trait CustomOp: Send + Sync {
    /// The shapes of the results: those in the file, unless it knows better.
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(io.outputs.iter().map(|o| o.shape.clone()).collect())
    }

    /// Computes the results from the operands, each with the bytes of its tensor; an operand that
    /// is absent is empty. The results' content is unspecified before. An error ends the run.
    fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), CustomError>;
}

/// Why a [`CustomOp`] failed. Two are equal if they are clones of one.
#[derive(Clone)]
pub struct CustomError(Arc<dyn Error + Send + Sync>);

impl CustomError {
    /// With `error` as the reason.
    pub fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// The reason, if it is an `E`.
    pub fn reason<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl PartialEq for CustomError {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for CustomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CustomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for CustomError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// A custom operator with a kernel from outside.
pub(super) struct External(Arc<dyn CustomOp>);

impl External {
    /// What `known` has for `op`, unless the CPU path has a kernel for it.
    pub fn find(known: Option<&dyn CustomOps>, op: &Op) -> Option<Self> {
        match op {
            Op::Custom(custom) if !custom.is_known() => known?.find(custom).map(Self),
            _ => None,
        }
    }
}

impl Operator for External {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        self.0.infer_shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, _: &Signature) -> Result<Kernel, OpError> {
        let op = Arc::clone(&self.0);
        Ok(Kernel::new(move |run| {
            if let Err(error) = run.all(|inputs, outputs| op.run(inputs, outputs)) {
                run.fail(error);
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Options, Plan, RunError, Runner};
    use crate::graph::{Model, Node, Subgraph, TensorId};
    use crate::ops::{Call, Reshape};
    use crate::tensor::{Bytes, DType, Tensor};

    /// `Mine` gives the sum of its bytes and their number; it fails where the sum is 13.
    #[derive(Debug)]
    struct Mine;

    #[derive(Debug, thiserror::Error)]
    #[error("bad luck")]
    struct BadLuck;

    impl CustomOps for Mine {
        fn find(&self, op: &Custom) -> Option<Arc<dyn CustomOp>> {
            (op.name == "Mine").then(|| Arc::new(Self) as _)
        }
    }

    impl CustomOp for Mine {
        fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), CustomError> {
            assert_eq!(inputs.len(), 3);
            let sum = inputs.concat().iter().sum();
            let [sums, counts] = outputs else {
                unreachable!("there are two")
            };
            sums.fill(sum);
            counts.fill(inputs.concat().len() as u8);
            match sum {
                13 => Err(CustomError::new(BadLuck)),
                _ => Ok(()),
            }
        }
    }

    /// `Mine(reshape(x), constant, absent)`, in subgraph 1, which subgraph 0 calls.
    fn model(name: &str) -> Model {
        let custom = Op::Custom(Box::new(Custom {
            name: name.into(),
            version: 1,
            options: Bytes::from(Vec::new()),
        }));
        let mut body = Subgraph::default();
        let x = body.add_tensor(Tensor::new("x", DType::I8, [3]));
        let y = body.add_tensor(Tensor::new("y", DType::I8, [3]));
        let c = body.add_tensor(Tensor::constant("c", DType::I8, [2], vec![1u8, 2]));
        let sum = body.add_tensor(Tensor::new("sum", DType::I8, [4]));
        let count = body.add_tensor(Tensor::new("count", DType::I8, [1]));
        let mut node = Node::new(custom, &[y, c], &[count, sum]);
        node.outputs = vec![sum, count];
        node.inputs.push(None);
        let new_shape = Some(vec![3]);
        let copy = Reshape { new_shape };
        body.nodes = vec![Node::new(copy, &[x], &[y]), node];
        (body.inputs, body.outputs) = (vec![x], vec![count, sum]);
        let mut main = Subgraph {
            tensors: body.tensors.clone(),
            ..Subgraph::default()
        };
        let outer = [TensorId(4), TensorId(3)];
        main.nodes = vec![Node::new(Call { subgraph: 1 }, &[x], &outer)];
        (main.inputs, main.outputs) = (vec![x], outer.to_vec());
        Model {
            subgraphs: vec![main, body],
            ..Model::default()
        }
    }

    fn plan(name: &str) -> Result<Plan, RunError> {
        let options = Options {
            custom: Some(Arc::new(Mine)),
            ..Options::default()
        };
        Plan::new(&model(name), &options)
    }

    #[test]
    fn a_kernel_from_outside_sees_all_operands_and_results() {
        let mut runner = Runner::new(Arc::new(plan("Mine").unwrap())).unwrap();
        for x in [[1, 2, 4], [0, 0, 0]] {
            runner.set_input(0, &x).unwrap();
            runner.run().unwrap();
            assert_eq!(runner.output(0), [5]);
            assert_eq!(runner.output(1), [3 + x.iter().sum::<u8>(); 4]);
        }
    }

    #[test]
    fn a_kernel_that_fails_ends_the_run_with_its_reason() {
        let mut runner = Runner::new(Arc::new(plan("Mine").unwrap())).unwrap();
        runner.set_input(0, &[5, 5, 0]).unwrap();
        let Err(RunError::Custom {
            subgraph: 1,
            index: 1,
            source,
        }) = runner.run()
        else {
            panic!("the run did not fail in operator 1 of subgraph 1");
        };
        assert!(source.reason::<BadLuck>().is_some());
        runner.set_input(0, &[1, 1, 0]).unwrap();
        assert!(runner.run().is_ok());
    }

    #[test]
    fn a_name_that_nobody_knows_has_no_kernel() {
        assert!(plan("Other").is_err());
    }
}
