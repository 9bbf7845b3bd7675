//! What offloading a partition is worth, by an estimate that is the same for every driver.

use bantam_model::ops::{AveragePool2d, MaxPool2d};
use bantam_model::{Node, Op, Subgraph, TensorId};

use super::Partition;

/// What a partition has to do, and what has to be moved for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Multiplications with additions; for operators that have none, the elements that they write.
    pub work: u64,
    /// Bytes of the partition's inputs and outputs, which cross to the device and back in each run.
    pub transfer_bytes: u64,
    /// Bytes of the constants, which cross once where the device keeps them.
    pub constant_bytes: u64,
}

/// How much work pays for a transfer. The figures are rough on purpose: the estimate tells a
/// partition of convolutions from one that reshapes and adds, not one device from another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Economy {
    /// Work that the CPU does in a microsecond.
    pub work_per_us: f64,
    /// Bytes that go to the device or come back in a microsecond.
    pub bytes_per_us: f64,
    /// Microseconds that a call takes beside the transfer and the device's own work.
    pub us_per_call: f64,
}

impl Default for Economy {
    /// 10 billion multiplications a second, 300 MB/s (USB 3), 50 us a call.
    fn default() -> Self {
        Self {
            work_per_us: 10_000.0,
            bytes_per_us: 300.0,
            us_per_call: 50.0,
        }
    }
}

impl Economy {
    /// Microseconds that the partition takes on the CPU path.
    pub fn cpu_us(&self, cost: &Cost) -> f64 {
        cost.work as f64 / self.work_per_us
    }

    /// Microseconds of calling the device and moving the data, which are lost to the device's work.
    pub fn offload_us(&self, cost: &Cost) -> f64 {
        self.us_per_call + cost.transfer_bytes as f64 / self.bytes_per_us
    }

    /// Whether there is more work than moving the data costs.
    pub fn pays(&self, cost: &Cost) -> bool {
        self.cpu_us(cost) > self.offload_us(cost)
    }
}

impl Cost {
    /// That of `partition`, with the shapes that `subgraph` has.
    pub fn of(subgraph: &Subgraph, partition: &Partition) -> Self {
        let sum = |ids: &mut dyn Iterator<Item = TensorId>| {
            ids.fold(0u64, |sum, id| sum.saturating_add(bytes(subgraph, id)))
        };
        let nodes = partition.nodes.iter().map(|&id| &subgraph[id]);
        let mut constants: Vec<TensorId> = nodes
            .clone()
            .flat_map(|node| node.inputs.iter().flatten().copied())
            .filter(|&id| subgraph[id].is_constant())
            .collect();
        constants.sort_unstable();
        constants.dedup();
        let mut moved = partition.inputs.iter().chain(&partition.outputs).copied();
        Self {
            work: nodes.fold(0, |sum, node| sum.saturating_add(work(subgraph, node))),
            transfer_bytes: sum(&mut moved),
            constant_bytes: sum(&mut constants.into_iter()),
        }
    }
}

fn bytes(subgraph: &Subgraph, id: TensorId) -> u64 {
    let tensor = &subgraph[id];
    let len = tensor.dtype.byte_len(&tensor.shape);
    let stored = tensor.data.as_ref().map(|data| data.len());
    len.or(stored).unwrap_or(0) as u64
}

/// The product of `dimensions`, as large as it can get.
fn product<'a>(dimensions: impl IntoIterator<Item = &'a usize>) -> u64 {
    let mut factors = dimensions.into_iter();
    factors
        .try_fold(1u64, |product, &d| product.checked_mul(d as u64))
        .unwrap_or(u64::MAX)
}

/// Multiplications with additions of `node`, or the elements that it writes.
fn work(subgraph: &Subgraph, node: &Node) -> u64 {
    let shape = |id: Option<TensorId>| id.map_or(&[][..], |id| &subgraph[id].shape[..]);
    let written = node.outputs.iter().fold(0u64, |sum, &id| {
        sum.saturating_add(product(shape(Some(id))))
    });
    let per_element = match &node.op {
        // The filter's first dimension is the depth of the result.
        Op::Conv2d(_) | Op::FullyConnected(_) => product(shape(node.input(1)).iter().skip(1)),
        Op::Conv3d(_) => product(shape(node.input(1)).iter().take(4)),
        Op::DepthwiseConv2d(_) => product(shape(node.input(1)).iter().skip(1).take(2)),
        Op::BatchMatmul(_) => product(shape(node.input(0)).last()),
        Op::TransposeConv(_) => {
            // Each element of the input, operand 2, meets the whole filter of its channel.
            let filter = product(shape(node.input(1)).iter().take(3));
            return product(shape(node.input(2))).saturating_mul(filter);
        }
        Op::AveragePool2d(AveragePool2d(pool)) | Op::MaxPool2d(MaxPool2d(pool)) => {
            let side = |size: i32| usize::try_from(size).unwrap_or(0);
            product(&[side(pool.filter_h), side(pool.filter_w)])
        }
        _ => 1,
    };
    written.saturating_mul(per_element)
}

#[cfg(test)]
mod tests {
    use bantam_model::tensor::DType;
    use bantam_model::{NodeId, Tensor, ops};

    use super::*;

    fn cost_of_product(units: usize) -> Cost {
        let mut s = Subgraph::default();
        let x = s.add_tensor(Tensor::new("x", DType::I8, [1, 100]));
        let data = vec![0; units * 100];
        let weights = s.add_tensor(Tensor::constant("w", DType::I8, [units, 100], data));
        let y = s.add_tensor(Tensor::new("y", DType::I8, [1, units]));
        let op = ops::FullyConnected::default();
        s.nodes.push(Node::new(op, &[x, weights], &[y]));
        (s.inputs, s.outputs) = (vec![x], vec![y]);
        Cost::of(&s, &Partition::of(&s, vec![NodeId(0)]))
    }

    #[test]
    fn counts_multiplications_and_bytes_that_move() {
        let wanted = Cost {
            work: 700,
            transfer_bytes: 107,
            constant_bytes: 700,
        };
        assert_eq!(cost_of_product(7), wanted);
    }

    #[test]
    fn a_large_product_pays_and_a_small_one_does_not() {
        let economy = Economy::default();
        assert!(!economy.pays(&cost_of_product(10)));
        assert!(economy.pays(&cost_of_product(20_000)));
    }
}
