//! Running one operator on small values, for unit tests.

use std::sync::Arc;

use bytemuck::{AnyBitPattern, NoUninit};

use crate::cpu::{Options, Plan, RunError, Runner};
use crate::graph::{Model, Node, Subgraph, TensorId};
use crate::ops::{Numerics, Op, Signature, Value};
use crate::quant::{PerTensor, Quantization};
use crate::tensor::{Bytes, DType, Shape, Tensor};

/// A value given to an operator, or one that it returned.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub dtype: DType,
    pub shape: Shape,
    pub bytes: Vec<u8>,
    pub quantization: Option<Quantization>,
    pub is_constant: bool,
    pub is_variable: bool,
    pub is_absent: bool,
}

impl Case {
    pub fn new<T: NoUninit>(dtype: DType, shape: impl Into<Shape>, data: &[T]) -> Self {
        Self {
            dtype,
            shape: shape.into(),
            bytes: bytemuck::cast_slice(data).to_vec(),
            quantization: None,
            is_constant: false,
            is_variable: false,
            is_absent: false,
        }
    }

    pub fn f32(shape: impl Into<Shape>, data: impl IntoIterator<Item = f32>) -> Self {
        Self::new(DType::F32, shape, &Vec::from_iter(data))
    }

    pub fn i8(shape: impl Into<Shape>, data: impl IntoIterator<Item = i8>) -> Self {
        Self::new(DType::I8, shape, &Vec::from_iter(data))
    }

    pub fn i32(shape: impl Into<Shape>, data: impl IntoIterator<Item = i32>) -> Self {
        Self::new(DType::I32, shape, &Vec::from_iter(data))
    }

    /// The type, scale and zero point of a result that `eval` is to compute.
    pub fn result(dtype: DType) -> Self {
        Self::new::<u8>(dtype, [], &[])
    }

    pub fn quantized(mut self, scale: f32, zero_point: i32) -> Self {
        self.quantization = Some(PerTensor::new(scale, zero_point).into());
        self
    }

    pub fn quantized_per_axis(mut self, axis: usize, scale: impl Into<Vec<f32>>) -> Self {
        self.quantization = Some(Quantization::symmetric(scale.into(), axis));
        self
    }

    /// The same as a constant of the model.
    pub fn constant(mut self) -> Self {
        self.is_constant = true;
        self
    }

    /// A variable of the model, at its start.
    pub fn variable<T: NoUninit>(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self {
            is_variable: true,
            ..Self::new::<T>(dtype, shape, &[])
        }
    }

    /// An optional operand that is not given.
    pub fn absent() -> Self {
        Self {
            is_absent: true,
            ..Self::new::<u8>(DType::F32, [0], &[])
        }
    }

    pub fn get<T: AnyBitPattern>(&self) -> Vec<T> {
        self.bytes
            .chunks_exact(size_of::<T>())
            .map(bytemuck::pod_read_unaligned)
            .collect()
    }

    fn tensor(&self) -> Tensor {
        let mut tensor = Tensor::new("", self.dtype, self.shape.clone());
        tensor.quantization.clone_from(&self.quantization);
        tensor.data = self.is_constant.then(|| Bytes::from(self.bytes.clone()));
        tensor.is_variable = self.is_variable;
        tensor
    }

    fn value(&self) -> Value {
        Value {
            dtype: self.dtype,
            shape: self.shape.clone(),
            quantization: self.quantization.clone(),
            data: self.is_constant.then(|| Bytes::from(self.bytes.clone())),
        }
    }
}

/// What an operator sees of `inputs` and `outputs`.
pub(crate) fn signature(inputs: &[Case], outputs: &[Case]) -> Signature {
    Signature {
        inputs: inputs
            .iter()
            .map(|i| (!i.is_absent).then(|| i.value()))
            .collect(),
        outputs: outputs.iter().map(Case::value).collect(),
        variables: (0..inputs.len())
            .filter(|&i| inputs[i].is_variable)
            .collect(),
        threads: 1,
        ..Signature::default()
    }
}

/// Runs `op` on `inputs`; `outputs` give the types and quantization of its results.
pub(crate) fn eval_with(
    numerics: Numerics,
    op: impl Into<Op>,
    inputs: &[Case],
    outputs: &[Case],
) -> Vec<Case> {
    let mut subgraph = Subgraph::default();
    let ids: Vec<TensorId> = inputs
        .iter()
        .map(|i| subgraph.add_tensor(i.tensor()))
        .collect();
    let results: Vec<TensorId> = outputs
        .iter()
        .map(|o| subgraph.add_tensor(o.tensor()))
        .collect();
    let is_input = |case: &Case| !(case.is_constant || case.is_variable || case.is_absent);
    let input = |(id, case): (&TensorId, &Case)| is_input(case).then_some(*id);
    subgraph.inputs = ids.iter().zip(inputs).filter_map(input).collect();
    subgraph.outputs.clone_from(&results);
    let mut node = Node::new(op, &ids, &results);
    for (input, case) in node.inputs.iter_mut().zip(inputs) {
        *input = input.filter(|_| !case.is_absent);
    }
    subgraph.nodes.push(node);
    let model = Model {
        subgraphs: vec![subgraph],
        ..Model::default()
    };
    let plan = Plan::new(
        &model,
        &Options {
            numerics,
            ..Options::default()
        },
    );
    let mut runner = Runner::new(Arc::new(plan.expect("the operator plans"))).expect("memory");
    for (index, case) in inputs.iter().filter(|c| is_input(c)).enumerate() {
        runner
            .set_input(index, &case.bytes)
            .expect("the input fits");
    }
    runner.run().expect("the run ends");
    let result = |(index, (id, case)): (usize, (&TensorId, &Case))| Case {
        shape: runner.plan().value(*id).shape.clone(),
        bytes: runner.output(index).to_vec(),
        ..case.clone()
    };
    results
        .iter()
        .zip(outputs)
        .enumerate()
        .map(result)
        .collect()
}

/// The same for an operator with one result, in the default numerics.
pub(crate) fn eval(op: impl Into<Op>, inputs: &[Case], output: Case) -> Case {
    eval_with(Numerics::default(), op, inputs, &[output]).remove(0)
}

/// A subgraph of `tensors`; the nodes are operators with the numbers of operands and results.
pub(crate) fn subgraph(
    tensors: Vec<Tensor>,
    inputs: &[u32],
    outputs: &[u32],
    nodes: Vec<(Op, &[u32], &[u32])>,
) -> Subgraph {
    let ids = |numbers: &[u32]| numbers.iter().map(|&n| TensorId(n)).collect::<Vec<_>>();
    let node = |(op, inputs, outputs): (Op, &[u32], &[u32])| {
        let (inputs, outputs) = (ids(inputs), ids(outputs));
        Node::new(op, &inputs, &outputs)
    };
    Subgraph {
        tensors,
        inputs: ids(inputs),
        outputs: ids(outputs),
        nodes: nodes.into_iter().map(node).collect(),
        ..Subgraph::default()
    }
}

/// A tensor without a name.
pub(crate) fn tensor(dtype: DType, shape: impl Into<Shape>) -> Tensor {
    Tensor::new("", dtype, shape)
}

/// The plan of a model of `subgraphs`.
pub(crate) fn plan(subgraphs: Vec<Subgraph>, options: &Options) -> Result<Plan, RunError> {
    let model = Model {
        subgraphs,
        ..Model::default()
    };
    Plan::new(&model, options)
}

/// A runner of a model of `subgraphs`.
pub(crate) fn runner(subgraphs: Vec<Subgraph>) -> Runner {
    let plan = plan(subgraphs, &Options::default()).expect("the model plans");
    Runner::new(Arc::new(plan)).expect("memory")
}

/// An error and what caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
