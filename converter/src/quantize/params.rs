//! Which tensors share parameters, and what those are.

use bantam_model::ops::Results;
use bantam_model::quant::PerTensor;
use bantam_model::{DType, Subgraph, TensorId};

use super::{Verdict, activations};
use crate::calibrate::{Range, SubgraphRanges};

/// The int8 scale and zero point of every float tensor that an integer operator reads or writes.
///
/// Tensors around an operator that demands equal parameters form a group, found by union-find;
/// a group has the range of all its members, or the fixed parameters of one of them.
pub(super) struct Params {
    parent: Vec<usize>,
    range: Vec<Range>,
    fixed: Vec<Option<PerTensor>>,
}

impl Params {
    pub fn new(subgraph: &Subgraph, verdicts: &[Verdict], ranges: &SubgraphRanges) -> Self {
        let count = subgraph.tensors.len();
        let mut params = Self {
            parent: (0..count).collect(),
            range: (0..count).map(|i| ranges.get(TensorId(i as u32))).collect(),
            fixed: vec![None; count],
        };
        for (node, verdict) in subgraph.nodes.iter().zip(verdicts) {
            let Verdict::Integer(rule) = verdict else {
                continue;
            };
            if let Results::Fixed(fixed) = rule.results {
                for output in &node.outputs {
                    params.fixed[output.index()] = Some(fixed);
                }
            }
        }
        for (node, verdict) in subgraph.nodes.iter().zip(verdicts) {
            let Verdict::Integer(rule) = verdict else {
                continue;
            };
            if rule.results != Results::SameAsInputs {
                continue;
            }
            let operands: Vec<TensorId> = activations(node, rule).collect();
            let Some((&first, others)) = node.outputs.split_first() else {
                continue;
            };
            for &output in others {
                params.union(first, output);
            }
            let (constants, values): (Vec<TensorId>, Vec<TensorId>) = operands
                .into_iter()
                .partition(|&id| subgraph[id].is_constant());
            // A tensor with fixed parameters keeps them; where several operands meet, one that
            // differs is requantized on its way in.
            let all_alike = values
                .windows(2)
                .all(|pair| params.fixed_of(pair[0]) == params.fixed_of(pair[1]));
            for &value in &values {
                if params.fixed_of(value).is_none() || (all_alike && constants.is_empty()) {
                    params.union(first, value);
                }
            }
            // A constant is quantized anew for each user, so it joins with its range only.
            for constant in constants {
                let root = params.root(first.index());
                params.range[root] = params.range[root].union(ranges.get(constant));
            }
        }
        params
    }

    /// The int8 parameters of `tensor`.
    pub fn get(&self, tensor: TensorId) -> PerTensor {
        let root = self.find(tensor.index());
        self.fixed[root].unwrap_or_else(|| Self::suggest(self.range[root]))
    }

    /// The int8 parameters for values in `range`.
    pub fn suggest(range: Range) -> PerTensor {
        PerTensor::from_range(range.min, range.max, DType::I8)
    }

    /// The range of `tensor`'s group.
    pub fn range_of(&self, tensor: TensorId) -> Range {
        self.range[self.find(tensor.index())]
    }

    /// Widens the range of `tensor`'s group by `range` and, if it has no fixed parameters, gives it
    /// `fixed`; whether that changed anything.
    pub fn join(&mut self, tensor: TensorId, range: Range, fixed: Option<PerTensor>) -> bool {
        let root = self.root(tensor.index());
        let (range, fixed) = (self.range[root].union(range), self.fixed[root].or(fixed));
        let changed = (range, fixed) != (self.range[root], self.fixed[root]);
        (self.range[root], self.fixed[root]) = (range, fixed);
        changed
    }

    /// The parameters that an operator prescribes for `tensor`'s group.
    pub fn fixed_of(&self, tensor: TensorId) -> Option<PerTensor> {
        self.fixed[self.find(tensor.index())]
    }

    fn find(&self, mut index: usize) -> usize {
        while self.parent[index] != index {
            index = self.parent[index];
        }
        index
    }

    fn root(&mut self, index: usize) -> usize {
        let root = self.find(index);
        self.parent[index] = root;
        root
    }

    /// Joins the groups of both, unless each has other fixed parameters.
    fn union(&mut self, a: TensorId, b: TensorId) {
        let (a, b) = (self.root(a.index()), self.root(b.index()));
        let fixed = match (self.fixed[a], self.fixed[b]) {
            (Some(one), Some(other)) if one != other => return,
            (one, other) => one.or(other),
        };
        self.parent[b] = a;
        self.range[a] = self.range[a].union(self.range[b]);
        self.fixed[a] = fixed;
    }
}
