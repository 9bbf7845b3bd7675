//! Where the lines of a graph run that is drawn as a list: operators in order of execution, one a row, each
//! tensor a line in a lane of its own from the row that computes it to the last that reads it.

use bantam_model::{Subgraph, TensorId};

/// A tensor's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The lane it runs in; 0 is the leftmost.
    pub lane: usize,
    /// The row that computes it; `None` for an input of the graph.
    pub from: Option<usize>,
    /// The rows that read it, in order.
    pub to: Vec<usize>,
}

/// The lines of `subgraph`'s tensors, in the order in which they start, and in which lane each row's operator
/// stands. Constants have no line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lanes {
    /// One a tensor that is computed or given, and read.
    pub lines: Vec<Line>,
    /// For each operator, the lane of its first result, or the first that is free.
    pub nodes: Vec<usize>,
    /// How many lanes there are.
    pub count: usize,
}

impl Lanes {
    /// Gives each tensor the leftmost lane that is free where it starts.
    pub fn of(subgraph: &Subgraph) -> Self {
        let readers = subgraph.consumers();
        let rows = |id: TensorId| {
            readers[id.index()]
                .iter()
                .map(|n| n.index())
                .collect::<Vec<_>>()
        };
        let mut lanes = Self {
            lines: Vec::new(),
            nodes: Vec::new(),
            count: 1,
        };
        // For each lane, the last row that its line reaches.
        let mut taken: Vec<Option<usize>> = Vec::new();
        for &input in &subgraph.inputs {
            lanes.start(&mut taken, None, rows(input));
        }
        for (row, node) in subgraph.nodes.iter().enumerate() {
            for lane in &mut taken {
                *lane = lane.filter(|&last| last > row);
            }
            let first = free(&taken);
            lanes.nodes.push(first);
            lanes.count = lanes.count.max(first + 1);
            for &output in &node.outputs {
                lanes.start(&mut taken, Some(row), rows(output));
            }
        }
        lanes
    }

    fn start(&mut self, taken: &mut Vec<Option<usize>>, from: Option<usize>, to: Vec<usize>) {
        let Some(&last) = to.last() else { return };
        let lane = free(taken);
        if lane == taken.len() {
            taken.push(None);
        }
        taken[lane] = Some(last);
        self.count = self.count.max(lane + 1);
        self.lines.push(Line { lane, from, to });
    }
}

fn free(taken: &[Option<usize>]) -> usize {
    taken
        .iter()
        .position(Option::is_none)
        .unwrap_or(taken.len())
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::{Add, Relu};
    use bantam_model::{DType, Node, Tensor};

    use super::*;

    #[test]
    fn a_chain_stays_in_one_lane_and_a_branch_gets_its_own() {
        let mut subgraph = Subgraph::default();
        let ids: Vec<TensorId> = (0..5)
            .map(|i| subgraph.add_tensor(Tensor::new(format!("{i}"), DType::F32, [1])))
            .collect();
        subgraph.inputs = vec![ids[0]];
        subgraph.outputs = vec![ids[4]];
        subgraph.nodes = vec![
            Node::new(Relu, &[ids[0]], &[ids[1]]),
            Node::new(Relu, &[ids[1]], &[ids[2]]),
            Node::new(Relu, &[ids[2]], &[ids[3]]),
            Node::new(Add::default(), &[ids[1], ids[3]], &[ids[4]]),
        ];
        let lanes = Lanes::of(&subgraph);
        assert_eq!(lanes.count, 2);
        assert_eq!(lanes.nodes, [0, 1, 1, 0]);
        let skip = &lanes.lines[1];
        assert_eq!((skip.lane, skip.from, &*skip.to), (0, Some(0), &[1, 3][..]));
    }
}
