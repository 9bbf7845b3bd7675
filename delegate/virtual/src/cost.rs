//! What a run costs.

use bantam_model::tensor::element_count;
use bantam_model::{Model, Node, Op, Subgraph, TensorId};

/// Multiply-accumulates a microsecond: those of a chip of 4 TOPS.
const MACS_PER_US: f64 = 2e6;
/// Bytes a microsecond over the link to the chip: about what USB 3 carries.
const BYTES_PER_US: f64 = 320.0;

/// The cost of one run by a simple model. Weights stay on the chip as far as its cache holds them, the rest is sent in every run,
/// and so are inputs and outputs; computing and sending do not overlap. Operators without products take no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Multiply-accumulates of convolutions and matrix products.
    pub macs: u64,
    /// Bytes of the inputs.
    pub bytes_in: u64,
    /// Bytes of the outputs.
    pub bytes_out: u64,
    /// Bytes of constants that stay on the chip.
    pub bytes_cached: u64,
    /// Bytes of constants that are sent in every run.
    pub bytes_streamed: u64,
}

impl Cost {
    /// The cost of a model's first subgraph on a chip whose cache holds `cache` bytes.
    pub fn of(model: &Model, cache: u64) -> Self {
        let Some(subgraph) = model.subgraphs.first() else {
            return Self::default();
        };
        let bytes = |ids: &[TensorId]| {
            let tensors = ids.iter().map(|&id| &subgraph[id]);
            tensors
                .filter_map(|t| t.dtype.byte_len(&t.shape))
                .map(|len| len as u64)
                .sum()
        };
        let constants = subgraph.tensors.iter().filter_map(|t| t.data.as_ref());
        let weights: u64 = constants.map(|data| data.len() as u64).sum();
        Self {
            macs: subgraph.nodes.iter().map(|n| macs(subgraph, n)).sum(),
            bytes_in: bytes(&subgraph.inputs),
            bytes_out: bytes(&subgraph.outputs),
            bytes_cached: weights.min(cache),
            bytes_streamed: weights.saturating_sub(cache),
        }
    }

    /// The time of one run.
    pub fn microseconds(&self) -> f64 {
        let sent = self.bytes_in + self.bytes_out + self.bytes_streamed;
        self.macs as f64 / MACS_PER_US + sent as f64 / BYTES_PER_US
    }

    /// Names with their units, and figures.
    pub fn figures(&self) -> Vec<(String, f64)> {
        [
            ("macs", self.macs as f64),
            ("bytes_in", self.bytes_in as f64),
            ("bytes_out", self.bytes_out as f64),
            ("bytes_cached", self.bytes_cached as f64),
            ("bytes_streamed", self.bytes_streamed as f64),
            ("estimated_us", self.microseconds()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

fn macs(subgraph: &Subgraph, node: &Node) -> u64 {
    let shape = |id: Option<TensorId>| id.map_or(&[][..], |id| &subgraph[id].shape);
    let elements = |shape: &[usize]| element_count(shape).unwrap_or(0) as u64;
    let result = elements(shape(node.outputs.first().copied()));
    let (first, second) = (shape(node.input(0)), shape(node.input(1)));
    let last = |shape: &[usize]| shape.last().map_or(0, |&d| d as u64);
    match &node.op {
        // OHWI: every result is a sum over height, width and depth.
        Op::Conv2d(_) => result * elements(second.get(1..).unwrap_or(&[])),
        Op::DepthwiseConv2d(_) => result * elements(second.get(1..3).unwrap_or(&[])),
        // DHWIO
        Op::Conv3d(_) => result * elements(second.get(..4).unwrap_or(&[])),
        Op::FullyConnected(_) => result * last(second),
        // Every element of the input is spread over height, width and depth of the result.
        Op::TransposeConv(_) => {
            elements(shape(node.input(2))) * elements(second.get(..3).unwrap_or(&[]))
        }
        Op::BatchMatmul(op) if op.adj_x => {
            let rows = first.len().checked_sub(2).map_or(0, |i| first[i] as u64);
            result * rows
        }
        Op::BatchMatmul(_) => result * last(first),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bantam_model::tensor::DType;
    use bantam_model::{Tensor, ops};

    #[test]
    fn a_product_costs_its_weights_and_a_full_cache_streams() {
        let mut subgraph = Subgraph::default();
        let x = subgraph.add_tensor(Tensor::new("x", DType::I8, [2, 100]));
        let w = subgraph.add_tensor(Tensor::constant("w", DType::I8, [10, 100], vec![1; 1000]));
        let y = subgraph.add_tensor(Tensor::new("y", DType::I8, [2, 10]));
        let op = ops::FullyConnected::default();
        subgraph.nodes.push(Node::new(op, &[x, w], &[y]));
        (subgraph.inputs, subgraph.outputs) = (vec![x], vec![y]);
        let model = Model {
            subgraphs: vec![subgraph],
            ..Model::default()
        };
        let cost = Cost::of(&model, 600);
        let wanted = Cost {
            macs: 2000,
            bytes_in: 200,
            bytes_out: 20,
            bytes_cached: 600,
            bytes_streamed: 400,
        };
        assert_eq!(cost, wanted);
        assert!((cost.microseconds() - (0.001 + 620.0 / 320.0)).abs() < 1e-9);
    }
}
