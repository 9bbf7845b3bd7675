//! Small models for the suite: one of each common operator on each type, chains, and one of every operator that the format knows.

use bantam_model::ops::{self, Op, Opaque, Padding, Pool2d};
use bantam_model::quant::PerTensor;
use bantam_model::schema::tfl::{BuiltinOperator, BuiltinOptions2T, BuiltinOptionsT};
use bantam_model::tensor::DType;
use bantam_model::{Bytes, Model, Node, Quantization, Subgraph, Tensor, TensorId};

/// Numbers that look random and are the same each time.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Elements of a type: any integers, or floats from -2 to 2.
    pub fn elements(&mut self, dtype: DType, len: usize) -> Vec<u8> {
        if dtype != DType::F32 {
            let len = len * dtype.size().unwrap_or(1);
            return (0..len).map(|_| self.draw() as u8).collect();
        }
        let mut float = || (self.draw() % 4001) as f32 / 1000.0 - 2.0;
        (0..len).flat_map(|_| float().to_ne_bytes()).collect()
    }
}

/// A model that is being made.
struct Maker {
    subgraph: Subgraph,
    dtype: DType,
    numbers: Numbers,
}

impl Maker {
    fn new(dtype: DType) -> Self {
        Self {
            subgraph: Subgraph::default(),
            dtype,
            numbers: Numbers(0x5eed),
        }
    }

    fn tensor(&mut self, shape: &[usize], scale: f32, zero_point: i32) -> TensorId {
        let name = format!("t{}", self.subgraph.tensors.len());
        let tensor = Tensor::new(name, self.dtype, shape);
        self.subgraph.add_tensor(match self.dtype {
            DType::F32 => tensor,
            _ => tensor.quantized(PerTensor::new(scale, zero_point).into()),
        })
    }

    fn input(&mut self, shape: &[usize]) -> TensorId {
        let id = self.tensor(shape, 0.05, 3);
        self.subgraph.inputs.push(id);
        id
    }

    /// Weights with one scale for each index of the axis, and the bias that goes with them.
    fn weights(&mut self, shape: &[usize], axis: usize) -> (TensorId, TensorId) {
        let channels = shape[axis];
        let elements = self
            .numbers
            .elements(self.dtype, shape.iter().product::<usize>());
        let bias = self.numbers.elements(DType::F32, channels);
        let weights = Tensor::constant("weights", self.dtype, shape, elements);
        if self.dtype == DType::F32 {
            let bias = Tensor::constant("bias", DType::F32, [channels], bias);
            return (
                self.subgraph.add_tensor(weights),
                self.subgraph.add_tensor(bias),
            );
        }
        let scales: Vec<f32> = (0..channels).map(|c| 0.004 + 0.001 * c as f32).collect();
        let of_bias = scales.iter().map(|scale| scale * 0.05).collect();
        let quantized: Vec<u8> = bias
            .chunks_exact(4)
            .flat_map(|b| i32::from(b[0]).to_ne_bytes())
            .collect();
        // Weights are symmetric, so -128 does not occur.
        let weights = Tensor::constant(
            "weights",
            self.dtype,
            shape,
            weights.data.map_or(Vec::new(), |d| {
                d.iter().map(|&b| if b == 128 { 129 } else { b }).collect()
            }),
        );
        let bias = Tensor::constant("bias", DType::I32, [channels], quantized);
        let (per_axis, per_bias) = (
            Quantization::symmetric(scales, axis),
            Quantization::symmetric(of_bias, 0),
        );
        (
            self.subgraph.add_tensor(weights.quantized(per_axis)),
            self.subgraph.add_tensor(bias.quantized(per_bias)),
        )
    }

    fn indices(&mut self, values: &[i32]) -> TensorId {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
        let tensor = Tensor::constant("indices", DType::I32, [values.len()], bytes);
        self.subgraph.add_tensor(tensor)
    }

    fn op(&mut self, op: impl Into<Op>, inputs: &[TensorId], outputs: &[TensorId]) {
        self.subgraph.nodes.push(Node::new(op, inputs, outputs));
    }

    fn done(mut self, outputs: &[TensorId]) -> Model {
        self.subgraph.outputs = outputs.to_vec();
        Model {
            description: Some("bantam conformance".to_owned()),
            subgraphs: vec![self.subgraph],
            ..Model::default()
        }
    }
}

/// Models that the CPU path runs, of one type.
pub fn runnable(dtype: DType) -> Vec<(String, Model)> {
    let mut models = Vec::new();
    let image = [1, 6, 6, 4];
    let pool = Pool2d {
        padding: Padding::Valid,
        stride_h: 2,
        stride_w: 2,
        filter_h: 2,
        filter_w: 2,
        ..Pool2d::default()
    };
    let binary: [(&str, Op); 5] = [
        ("ADD", ops::Add::default().into()),
        ("SUB", ops::Sub::default().into()),
        ("MUL", ops::Mul::default().into()),
        ("MAXIMUM", ops::Maximum.into()),
        ("MINIMUM", ops::Minimum.into()),
    ];
    for (name, op) in binary {
        let mut maker = Maker::new(dtype);
        let (a, b) = (maker.input(&image), maker.input(&image));
        let is_selection = matches!(name, "MAXIMUM" | "MINIMUM");
        let y = match is_selection {
            true => maker.tensor(&image, 0.05, 3),
            false => maker.tensor(&image, 0.09, -7),
        };
        maker.op(op, &[a, b], &[y]);
        models.push((name.to_owned(), maker.done(&[y])));
    }
    // The scale and the zero point of the result, where the operator asks for certain ones.
    let unary: [(&str, Op, (f32, i32)); 5] = [
        ("RELU", ops::Relu.into(), (0.04, -100)),
        ("RELU6", ops::Relu6.into(), (0.024, -128)),
        ("LOGISTIC", ops::Logistic.into(), (1.0 / 256.0, -128)),
        ("TANH", ops::Tanh.into(), (1.0 / 128.0, 0)),
        (
            "SOFTMAX",
            ops::Softmax::default().into(),
            (1.0 / 256.0, -128),
        ),
    ];
    for (name, op, (scale, zero_point)) in unary {
        let mut maker = Maker::new(dtype);
        let x = maker.input(&[1, 30]);
        let y = maker.tensor(&[1, 30], scale, zero_point);
        maker.op(op, &[x], &[y]);
        models.push((name.to_owned(), maker.done(&[y])));
    }
    for (name, op) in [
        ("MAX_POOL_2D", Op::from(ops::MaxPool2d(pool.clone()))),
        ("AVERAGE_POOL_2D", Op::from(ops::AveragePool2d(pool))),
    ] {
        let mut maker = Maker::new(dtype);
        let x = maker.input(&image);
        let y = maker.tensor(&[1, 3, 3, 4], 0.05, 3);
        maker.op(op, &[x], &[y]);
        models.push((name.to_owned(), maker.done(&[y])));
    }
    models.push(("CONV_2D".to_owned(), convolution(dtype)));
    models.push(("DEPTHWISE_CONV_2D".to_owned(), depthwise(dtype)));
    models.push(("FULLY_CONNECTED".to_owned(), product(dtype)));
    models.push(("RESHAPE".to_owned(), reshape(dtype)));
    models.push(("CONCATENATION".to_owned(), concatenation(dtype)));
    models.push(("PAD".to_owned(), pad(dtype)));
    models.push(("MEAN".to_owned(), mean(dtype)));
    models.push(("ADD and RELU".to_owned(), chain(dtype)));
    let kind = format!("{dtype}");
    for (name, _) in &mut models {
        *name = format!("{name} {kind}");
    }
    models
}

fn convolution(dtype: DType) -> Model {
    let mut maker = Maker::new(dtype);
    let x = maker.input(&[1, 6, 6, 4]);
    let (weights, bias) = maker.weights(&[8, 3, 3, 4], 0);
    let y = maker.tensor(&[1, 6, 6, 8], 0.1, 2);
    maker.op(ops::Conv2d::default(), &[x, weights, bias], &[y]);
    maker.done(&[y])
}

fn depthwise(dtype: DType) -> Model {
    let mut maker = Maker::new(dtype);
    let x = maker.input(&[1, 6, 6, 4]);
    let (weights, bias) = maker.weights(&[1, 3, 3, 4], 3);
    let y = maker.tensor(&[1, 6, 6, 4], 0.1, 2);
    maker.op(ops::DepthwiseConv2d::default(), &[x, weights, bias], &[y]);
    maker.done(&[y])
}

fn product(dtype: DType) -> Model {
    let mut maker = Maker::new(dtype);
    let x = maker.input(&[1, 20]);
    let (weights, bias) = maker.weights(&[7, 20], 0);
    let y = maker.tensor(&[1, 7], 0.2, 2);
    maker.op(ops::FullyConnected::default(), &[x, weights, bias], &[y]);
    maker.done(&[y])
}

fn reshape(dtype: DType) -> Model {
    let mut maker = Maker::new(dtype);
    let x = maker.input(&[1, 6, 4]);
    let shape = maker.indices(&[1, 24]);
    let y = maker.tensor(&[1, 24], 0.05, 3);
    let op = ops::Reshape {
        new_shape: Some(vec![1, 24]),
    };
    maker.op(op, &[x, shape], &[y]);
    maker.done(&[y])
}

fn concatenation(dtype: DType) -> Model {
    let mut maker = Maker::new(dtype);
    let (a, b) = (maker.input(&[1, 4, 4, 3]), maker.input(&[1, 4, 4, 5]));
    let y = maker.tensor(&[1, 4, 4, 8], 0.05, 3);
    let op = ops::Concatenation {
        axis: 3,
        ..ops::Concatenation::default()
    };
    maker.op(op, &[a, b], &[y]);
    maker.done(&[y])
}

fn pad(dtype: DType) -> Model {
    let mut maker = Maker::new(dtype);
    let x = maker.input(&[1, 4, 4, 3]);
    let bytes: Vec<u8> = [0i32, 0, 1, 2, 2, 1, 0, 0]
        .iter()
        .flat_map(|v| v.to_ne_bytes())
        .collect();
    let paddings = Tensor::constant("paddings", DType::I32, [4, 2], bytes);
    let paddings = maker.subgraph.add_tensor(paddings);
    let y = maker.tensor(&[1, 7, 7, 3], 0.05, 3);
    maker.op(ops::Pad, &[x, paddings], &[y]);
    maker.done(&[y])
}

fn mean(dtype: DType) -> Model {
    let mut maker = Maker::new(dtype);
    let x = maker.input(&[1, 5, 5, 4]);
    let axes = maker.indices(&[1, 2]);
    let y = maker.tensor(&[1, 1, 1, 4], 0.05, 3);
    maker.op(ops::Mean { keep_dims: true }, &[x, axes], &[y]);
    maker.done(&[y])
}

/// Three operators, of which the last and one in between are outputs.
fn chain(dtype: DType) -> Model {
    let mut maker = Maker::new(dtype);
    let (a, b) = (maker.input(&[1, 8, 8, 3]), maker.input(&[1, 8, 8, 3]));
    let sum = maker.tensor(&[1, 8, 8, 3], 0.09, -7);
    let positive = maker.tensor(&[1, 8, 8, 3], 0.05, -128);
    let total = maker.tensor(&[1, 8, 8, 3], 0.15, -20);
    maker.op(ops::Add::default(), &[a, b], &[sum]);
    maker.op(ops::Relu, &[sum], &[positive]);
    maker.op(ops::Add::default(), &[sum, positive], &[total]);
    maker.done(&[positive, total])
}

/// One operator of every number that the format knows and some that it does not, without options, on tensors of a type.
pub fn every_kind(dtype: DType) -> Vec<Model> {
    let codes = (0..=BuiltinOperator::ENUM_MAX + 3).chain([i32::MAX]);
    let opaque = codes.map(|code| {
        Op::Opaque(Box::new(Opaque {
            code: BuiltinOperator(code),
            version: 1,
            options: BuiltinOptionsT::NONE,
            options_2: BuiltinOptions2T::NONE,
        }))
    });
    let custom = ["an operator of nobody", ""].map(|name| {
        Op::Custom(Box::new(ops::Custom {
            name: name.to_owned(),
            version: 1,
            options: Bytes::from(vec![1, 2, 3]),
        }))
    });
    let model = |op: Op| {
        let mut maker = Maker::new(dtype);
        let (a, b) = (maker.input(&[1, 4]), maker.input(&[1, 4]));
        let y = maker.tensor(&[1, 4], 0.05, 3);
        maker.op(op, &[a, b], &[y]);
        maker.done(&[y])
    };
    opaque.chain(custom).map(model).collect()
}

/// No operator: its output is its input.
pub fn empty() -> Model {
    let mut maker = Maker::new(DType::I8);
    let x = maker.input(&[1, 4]);
    maker.done(&[x])
}

#[cfg(test)]
mod tests {
    use super::*;
    use bantam_model::cpu::{Options, Plan};

    #[test]
    fn all_run_on_the_cpu_path_and_survive_the_file() {
        for dtype in [DType::I8, DType::F32] {
            for (name, model) in runnable(dtype) {
                let read = Model::read(Bytes::from(model.to_bytes())).expect(&name);
                Plan::new(&read, &Options::default()).expect(&name);
            }
        }
    }

    #[test]
    fn every_kind_is_a_model_that_can_be_written() {
        let models = every_kind(DType::I8);
        assert!(models.len() > 200);
        models
            .iter()
            .for_each(|m| assert!(m.to_bytes().len() > 100));
    }
}
