//! Models as an Edge TPU's compiler leaves them, and what they were made from.

#![allow(dead_code, reason = "each test file uses some of it")]

#[path = "../../model/src/edgetpu_package/sample.rs"]
mod sample;

use bantam_model::ops::{self, Custom, Op};
use bantam_model::quant::PerTensor;
use bantam_model::{Bytes, DType, Model, Node, Subgraph, Tensor, TensorId};

/// What an Edge TPU's compiler makes, for runtime `runtime`.
pub fn custom(runtime: i32) -> Op {
    Op::Custom(Box::new(Custom {
        name: "edgetpu-custom-op".into(),
        version: 1,
        options: sample::map(&[("4", &sample::package(runtime))]).into(),
    }))
}

pub fn quantized(name: &str, dtype: DType) -> Tensor {
    Tensor::new(name, dtype, [1, 4]).quantized(PerTensor::new(0.5, 0).into())
}

/// `y = custom(x)`, `z = y + y` on the CPU, `w = custom(z)`, with one more result of the second operator.
pub fn two_partitions() -> Model {
    let mut s = Subgraph::default();
    let mut add = |name: &str| s.add_tensor(quantized(name, DType::I8));
    let [x, y, z, w, more] = ["x", "y", "z", "w", "more"].map(&mut add);
    s.nodes = vec![
        Node::new(custom(13), &[x], &[y]),
        Node::new(
            ops::Reshape {
                new_shape: Some(vec![1, 4]),
            },
            &[y],
            &[z],
        ),
        Node::new(custom(13), &[z], &[w, more]),
    ];
    (s.inputs, s.outputs) = (vec![x], vec![w, more]);
    Model {
        subgraphs: vec![s],
        ..Model::default()
    }
}

/// What [`two_partitions`] was made from: the chip's operators are RESHAPEs, so that the CPU gives other numbers.
pub fn original() -> Model {
    let mut model = two_partitions();
    let s = &mut model.subgraphs[0];
    let reshape = || ops::Reshape {
        new_shape: Some(vec![1, 4]),
    };
    let [x, y, z, w, more] = [0, 1, 2, 3, 4].map(TensorId);
    s.nodes = [(x, y), (y, z), (z, w), (z, more)]
        .map(|(from, to)| Node::new(reshape(), &[from], &[to]))
        .to_vec();
    model
}

pub fn pair() -> Model {
    let original = original();
    let bytes = Bytes::from(original.to_bytes());
    two_partitions().with_twin(&original, bytes).unwrap()
}

/// `y = custom(x, h, c)` that keeps `h` (int8) and `c` (int16).
pub fn with_state() -> Model {
    let mut s = Subgraph::default();
    let x = s.add_tensor(quantized("x", DType::I8));
    let mut h = quantized("h", DType::I8);
    h.quantization = Some(PerTensor::new(0.5, 10).into());
    let mut c = quantized("c", DType::I16);
    (h.is_variable, c.is_variable) = (true, true);
    let (h, c) = (s.add_tensor(h), s.add_tensor(c));
    let y = s.add_tensor(quantized("y", DType::I8));
    s.nodes = vec![Node::new(custom(13), &[x, h, c], &[y])];
    (s.inputs, s.outputs) = (vec![x], vec![y]);
    Model {
        subgraphs: vec![s],
        ..Model::default()
    }
}
