//! Evens out the channels between two weighted sums, so that one scale for all of them loses less.
//!
//! Where one operator's result goes to another directly or through a RELU, channel `c` of the
//! first one's weights and bias can be divided by any `s > 0` and that of the second one's weights
//! multiplied by it, and the model computes the same. With `s = sqrt(a / b)`, `a` and `b` the
//! largest weights of the channel in the first and the second, both get the same largest weight
//! (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019).

use bantam_model::ops::{Activation, Op};
use bantam_model::{DType, Model, Subgraph, TensorId};

use crate::quantize::{Channels, Gain, weight_error};

/// A chain's scales settle within a few rounds, each from its first pair to its last.
const ROUNDS: usize = 20;

/// No channel is made smaller or larger by more: what a channel with hardly any weights gains would
/// be lost in the range of activations.
const LARGEST_FACTOR: f32 = 8.0;

/// The same model with even channels in its subgraph `entry` and in those that it runs, and how much
/// less error one scale for all weights causes.
pub fn equalize(model: &Model, entry: usize) -> (Model, Vec<Gain>) {
    let mut model = model.clone();
    let mut gains = Vec::new();
    for number in model.reachable(entry) {
        gains.extend(even_out(number, &mut model.subgraphs[number]));
    }
    (model, gains)
}

fn even_out(number: usize, subgraph: &mut Subgraph) -> Vec<Gain> {
    let mut pairs = pairs(subgraph);
    let error = |subgraph: &Subgraph, pair: &Pair| {
        weight_error(&subgraph[pair.first.tensor]) + weight_error(&subgraph[pair.second.tensor])
    };
    let before: Vec<f64> = pairs.iter().map(|pair| error(subgraph, pair)).collect();
    for _ in 0..ROUNDS {
        pairs.iter_mut().for_each(|pair| pair.even_out(subgraph));
    }
    let gain = |(pair, before): (&Pair, f64)| Gain {
        subgraph: number,
        index: pair.index,
        name: subgraph[pair.first.tensor].name.clone(),
        option: "equalize",
        ratio: error(subgraph, pair) / before,
        db: None,
    };
    pairs.iter().zip(before).map(gain).collect()
}

/// Weights, and the axis that runs over the channels between the two operators.
struct Side {
    tensor: TensorId,
    axis: usize,
}

/// Two operators, of which the second alone reads what the first computes.
struct Pair {
    /// The place of the first operator.
    index: usize,
    first: Side,
    bias: Option<TensorId>,
    second: Side,
    /// What each channel of the second was multiplied by so far.
    factors: Vec<f32>,
}

impl Pair {
    fn even_out(&mut self, subgraph: &mut Subgraph) {
        let largest = |side: &Side| {
            let tensor = &subgraph[side.tensor];
            let channels = Channels::new(tensor, Some(side.axis));
            channels.largest(&crate::quantize::values(tensor))
        };
        let (first, second) = (largest(&self.first), largest(&self.second));
        let wanted = first.iter().zip(&second).map(|(a, b)| (a / b).sqrt());
        let factors: Vec<f32> = wanted
            .zip(&mut self.factors)
            .map(|(wanted, so_far)| {
                let new = *so_far * wanted;
                let usable = if new.is_normal() { new } else { *so_far };
                let new = usable.clamp(1.0 / LARGEST_FACTOR, LARGEST_FACTOR);
                new / std::mem::replace(so_far, new)
            })
            .collect();
        let inverse: Vec<f32> = factors.iter().map(|factor| 1.0 / factor).collect();
        scale(subgraph, self.first.tensor, self.first.axis, &inverse);
        scale(subgraph, self.second.tensor, self.second.axis, &factors);
        if let Some(bias) = self.bias {
            scale(subgraph, bias, 0, &inverse);
        }
    }
}

/// Multiplies each channel of a constant.
fn scale(subgraph: &mut Subgraph, id: TensorId, axis: usize, factors: &[f32]) {
    let tensor = &mut subgraph[id];
    let channels = Channels::new(tensor, Some(axis));
    let values = crate::quantize::values(tensor).into_iter().enumerate();
    let bytes: Vec<u8> = values
        .flat_map(|(index, value)| (value * factors[channels.of(index)]).to_le_bytes())
        .collect();
    tensor.data = Some(bytes.into());
}

/// The pairs in order of execution.
fn pairs(subgraph: &Subgraph) -> Vec<Pair> {
    let consumers = subgraph.consumers();
    let own_constant = |id: TensorId| {
        let tensor = &subgraph[id];
        let plain = tensor.is_constant() && tensor.dtype == DType::F32 && tensor.sparsity.is_none();
        let finite = || {
            crate::quantize::values(tensor)
                .iter()
                .all(|v| v.is_finite())
        };
        plain && consumers[id.index()].len() == 1 && !subgraph.outputs.contains(&id) && finite()
    };
    let mut pairs = Vec::new();
    for (index, node) in subgraph.nodes.iter().enumerate() {
        let (Some((first, _)), &[output]) = (axes(&node.op), &*node.outputs) else {
            continue;
        };
        let (&[next], false) = (
            &*consumers[output.index()],
            subgraph.outputs.contains(&output),
        ) else {
            continue;
        };
        let next = &subgraph[next];
        let Some((_, second)) = axes(&next.op) else {
            continue;
        };
        let (Some(a), Some(b), bias) = (node.input(1), next.input(1), node.input(2)) else {
            continue;
        };
        let channels = |id: TensorId, axis: usize| subgraph[id].shape.get(axis).copied();
        let found = channels(a, first);
        let fits = found.is_some_and(|count| count > 0)
            && found == channels(b, second)
            && found == subgraph[output].shape.last().copied()
            && bias.is_none_or(|bias| bias != a && found == channels(bias, 0))
            && next.input(0) == Some(output)
            && is_homogeneous(&node.op);
        if fits
            && [Some(a), Some(b), bias]
                .into_iter()
                .flatten()
                .all(own_constant)
        {
            pairs.push(Pair {
                index,
                first: Side {
                    tensor: a,
                    axis: first,
                },
                bias,
                second: Side {
                    tensor: b,
                    axis: second,
                },
                factors: vec![1.0; found.unwrap_or(0)],
            });
        }
    }
    pairs
}

/// The axes of the weights of `op` that run over the channels of its result and of its input.
fn axes(op: &Op) -> Option<(usize, usize)> {
    match op {
        Op::Conv2d(_) => Some((0, 3)),
        Op::DepthwiseConv2d(_) => Some((3, 3)),
        Op::FullyConnected(_) => Some((0, 1)),
        _ => None,
    }
}

/// Whether the fused activation of `op` of `s * x` is `s` times that of `x`.
fn is_homogeneous(op: &Op) -> bool {
    let activation = match op {
        Op::Conv2d(op) => op.activation,
        Op::DepthwiseConv2d(op) => op.activation,
        Op::FullyConnected(op) => op.activation,
        _ => return false,
    };
    matches!(activation, Activation::None | Activation::Relu)
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::FullyConnected;
    use bantam_model::{Node, Tensor};

    use super::*;

    /// `x -> FULLY_CONNECTED (activation) -> FULLY_CONNECTED -> y`, one of two channels far larger.
    fn chain(activation: Activation) -> Model {
        let mut subgraph = Subgraph::default();
        let mut constant = |shape: &[usize], values: &[f32]| {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            subgraph.add_tensor(Tensor::constant("c", DType::F32, shape, bytes))
        };
        let first = constant(&[2, 1], &[4.0, 0.5]);
        let bias = constant(&[2], &[8.0, 4.0]);
        let second = constant(&[1, 2], &[0.25, -0.5]);
        let [x, between, y] = [[1, 1], [1, 2], [1, 1]]
            .map(|shape| subgraph.add_tensor(Tensor::new("t", DType::F32, shape)));
        let op = FullyConnected {
            activation,
            ..FullyConnected::default()
        };
        subgraph.nodes = vec![
            Node::new(op, &[x, first, bias], &[between]),
            Node::new(FullyConnected::default(), &[between, second], &[y]),
        ];
        (subgraph.inputs, subgraph.outputs) = (vec![x], vec![y]);
        Model {
            subgraphs: vec![subgraph],
            ..Model::default()
        }
    }

    #[test]
    fn channels_become_even_and_the_product_stays() {
        let (model, gains) = equalize(&chain(Activation::Relu), 0);
        let values = |index: usize| crate::quantize::values(&model.subgraphs[0].tensors[index]);
        let (first, bias, second) = (values(0), values(1), values(2));
        for channel in 0..2 {
            assert!((first[channel].abs() - second[channel].abs()).abs() < 1e-5);
        }
        assert!((first[0] * second[0] - 1.0).abs() < 1e-5);
        assert!((bias[0] * second[0] - 2.0).abs() < 1e-5);
        assert!((bias[1] * second[1] + 2.0).abs() < 1e-5);
        assert_eq!((gains.len(), gains[0].index), (1, 0));
    }

    #[test]
    fn what_would_compute_something_else_is_left_alone() {
        let relu6 = chain(Activation::Relu6);
        assert_eq!(equalize(&relu6, 0), (relu6, Vec::new()));
        let mut visible = chain(Activation::None);
        let between = visible.subgraphs[0].nodes[0].outputs[0];
        visible.subgraphs[0].outputs.push(between);
        assert_eq!(equalize(&visible, 0), (visible, Vec::new()));
        let mut shared = chain(Activation::None);
        let node = shared.subgraphs[0].nodes[1].clone();
        shared.subgraphs[0].nodes.push(node);
        assert_eq!(equalize(&shared, 0), (shared, Vec::new()));
    }
}
