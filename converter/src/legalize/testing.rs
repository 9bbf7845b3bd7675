//! Graphs to rewrite, chips that refuse by a list, and runs of both sides.

use std::sync::Arc;

use bantam_model::cpu::{Options as Run, Plan, Runner};
use bantam_model::ops::Op;
use bantam_model::quant::PerTensor;
use bantam_model::{DType, Model, Node, Numerics, Subgraph, Tensor, TensorId, Verdict};

use super::{Allowance, Chip, LegalizeReport, Options, legalize_for};

/// A chip that takes integers, but not operators of these kinds.
pub struct Refuses(pub &'static [&'static str]);

impl Chip for Refuses {
    fn name(&self) -> &str {
        "test"
    }

    fn verdicts(&self, model: &Model) -> Vec<Verdict> {
        let graph = &model.subgraphs[0];
        let verdict = |node: &Node| {
            let tensors = node.inputs.iter().flatten().chain(&node.outputs);
            let is_float = tensors.clone().any(|&id| graph[id].dtype == DType::F32);
            match is_float || self.0.contains(&&*node.op.to_string()) {
                true => Verdict::Unknown("it is on the list".into()),
                false => Verdict::Supported,
            }
        };
        graph.nodes.iter().map(verdict).collect()
    }

    fn max_version(&self, _: &Op) -> Option<i32> {
        None
    }
}

/// A graph that grows.
#[derive(Default)]
pub struct Graph(pub Subgraph);

impl Graph {
    pub fn tensor(&mut self, name: &str, dtype: DType, shape: &[usize], q: (f32, i32)) -> TensorId {
        let tensor = Tensor::new(name, dtype, shape);
        self.0.add_tensor(match dtype {
            DType::F32 | DType::I32 => tensor,
            _ => tensor.quantized(PerTensor::new(q.0, q.1).into()),
        })
    }

    pub fn input(&mut self, dtype: DType, shape: &[usize], q: (f32, i32)) -> TensorId {
        let id = self.tensor(&format!("input{}", self.0.inputs.len()), dtype, shape, q);
        self.0.inputs.push(id);
        id
    }

    pub fn output(&mut self, dtype: DType, shape: &[usize], q: (f32, i32)) -> TensorId {
        let id = self.tensor(&format!("output{}", self.0.outputs.len()), dtype, shape, q);
        self.0.outputs.push(id);
        id
    }

    pub fn integers(&mut self, values: &[i32]) -> TensorId {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.0.add_tensor(Tensor::constant(
            "integers",
            DType::I32,
            [values.len()],
            bytes,
        ))
    }

    pub fn paddings(&mut self, before_and_after: [i32; 8]) -> TensorId {
        let id = self.integers(&before_and_after);
        self.0[id].shape = vec![4, 2];
        id
    }

    pub fn constant(&mut self, shape: &[usize], data: &[i8], q: (f32, i32)) -> TensorId {
        let bytes: Vec<u8> = data.iter().map(|&v| v as u8).collect();
        let constant = Tensor::constant("constant", DType::I8, shape, bytes);
        self.0
            .add_tensor(constant.quantized(PerTensor::new(q.0, q.1).into()))
    }

    pub fn push(&mut self, op: impl Into<Op>, inputs: &[TensorId], outputs: &[TensorId]) {
        self.0.nodes.push(Node::new(op, inputs, outputs));
    }

    pub fn model(self) -> Model {
        Model {
            subgraphs: vec![self.0],
            ..Model::default()
        }
    }
}

/// One operator from an int8 tensor of 256 elements to another.
pub fn unary(op: impl Into<Op>, from: (f32, i32), to: (f32, i32)) -> Model {
    let mut graph = Graph::default();
    let x = graph.input(DType::I8, &[1, 256], from);
    let y = graph.output(DType::I8, &[1, 256], to);
    graph.push(op, &[x], &[y]);
    graph.model()
}

/// Legalizes for a chip that refuses `kinds`; whatever it costs is allowed.
pub fn legalized(model: &Model, kinds: &'static [&'static str]) -> (Model, LegalizeReport) {
    let options = Options {
        allow: Allowance::Any,
        ..Options::default()
    };
    legalize_for(model, &Refuses(kinds), &options).unwrap()
}

/// The outputs on `inputs`, in reference arithmetic.
pub fn run(model: &Model, inputs: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let options = Run {
        numerics: Numerics::Reference,
        ..Run::default()
    };
    let mut runner = Runner::new(Arc::new(Plan::new(model, &options).unwrap())).unwrap();
    for (index, input) in inputs.iter().enumerate() {
        runner.set_input(index, input).unwrap();
    }
    runner.run().unwrap();
    (0..model.subgraphs[0].outputs.len())
        .map(|i| runner.output(i).to_vec())
        .collect()
}

/// The largest difference of int8 outputs.
pub fn difference(a: &[Vec<u8>], b: &[Vec<u8>]) -> u32 {
    assert_eq!(
        a.iter().map(Vec::len).sum::<usize>(),
        b.iter().map(Vec::len).sum::<usize>()
    );
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs
        .map(|(&a, &b)| (a as i8).abs_diff(b as i8).into())
        .max()
        .unwrap_or(0)
}

/// The difference over all 256 values of a model that [`unary`] made.
pub fn over_all_bytes(a: &Model, b: &Model) -> u32 {
    let all = vec![(0..=255u8).collect::<Vec<u8>>()];
    difference(&run(a, &all), &run(b, &all))
}

/// The kinds of the operators of the first subgraph.
pub fn kinds(model: &Model) -> Vec<String> {
    model.subgraphs[0]
        .nodes
        .iter()
        .map(|n| n.op.to_string())
        .collect()
}

/// Bytes that look random, the same each time.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}
