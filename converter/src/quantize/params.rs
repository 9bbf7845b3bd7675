//! Which tensors share parameters, and what those are.

use bantam_model::ops::{QuantRule, Results, Role};
use bantam_model::quant::PerTensor;
use bantam_model::{DType, Node, Subgraph, TensorId};

use super::encoding::{Encoding, Width};
use super::{Verdict, activations, constants};
use crate::calibrate::{Range, Ranges};

/// The scale and zero point, in each width, of every float tensor that an integer operator reads
/// or writes.
pub(super) struct Params {
    int8: Groups,
    int16: Groups,
}

impl Params {
    pub fn new<'a>(
        subgraph: &Subgraph,
        verdicts: &[Verdict],
        ranges: impl Fn(Width) -> &'a Ranges,
    ) -> Self {
        let groups = |width| Groups::new(subgraph, verdicts, ranges(width), width);
        Self {
            int8: groups(Width::Int8),
            int16: groups(Width::Int16),
        }
    }

    /// How `tensor` is encoded in `width`.
    pub fn get(&self, tensor: TensorId, width: Width) -> Encoding {
        let groups = match width {
            Width::Int8 => &self.int8,
            Width::Int16 => &self.int16,
        };
        Encoding {
            width,
            params: groups.get(tensor, width),
        }
    }
}

impl Params {
    /// The int16 parameters of `tensor`, whatever its readers compute in.
    pub fn wide(&self, tensor: TensorId) -> PerTensor {
        self.int8.wide(tensor)
    }

    /// The int16 parameters of a cell state whose values are those of `tensor`: a power of two, not
    /// beyond those that LiteRT's kernel has a hyperbolic tangent for.
    pub fn power_of_two(&self, tensor: TensorId) -> PerTensor {
        self.int8.power_of_two(tensor)
    }
}

/// The parameters in one width.
///
/// Tensors around an operator that demands equal parameters form a group, found by union-find;
/// a group has the range of all its members, or the fixed parameters of one of them. An operand
/// that would lose more than [`COARSEST`] by it and that others read too stays out: it is
/// requantized on its way in, so that a skip connection does not coarsen what it skips.
struct Groups {
    parent: Vec<usize>,
    range: Vec<Range>,
    fixed: Vec<Option<PerTensor>>,
}

/// How many times coarser a shared scale may make an operand that others read as well.
const COARSEST: f32 = 2.0;

impl Groups {
    fn new(subgraph: &Subgraph, verdicts: &[Verdict], ranges: &Ranges, width: Width) -> Self {
        let count = subgraph.tensors.len();
        let mut params = Self {
            parent: (0..count).collect(),
            range: (0..count).map(|i| ranges.get(TensorId(i as u32))).collect(),
            fixed: vec![None; count],
        };
        for (node, verdict) in subgraph.nodes.iter().zip(verdicts) {
            let Some(rule) = verdict.rule(width) else {
                continue;
            };
            if let Results::Fixed(fixed) = rule.results {
                for output in &node.outputs {
                    params.fixed[output.index()] = Some(fixed);
                }
            }
        }
        let shared = shared(subgraph);
        for (node, verdict) in subgraph.nodes.iter().zip(verdicts) {
            let Some(rule) = verdict.rule(width) else {
                continue;
            };
            for (index, input) in node.inputs.iter().enumerate() {
                if let (Some(id), Role::State { output }) = (*input, rule.role(index))
                    && let Some(&output) = node.outputs.get(output)
                {
                    params.union(output, id);
                }
            }
            if rule.results != Results::SameAsInputs {
                continue;
            }
            let operands: Vec<TensorId> = activations(node, rule).collect();
            let Some((&first, others)) = node.outputs.split_first() else {
                continue;
            };
            for &output in others {
                if subgraph[output].dtype == DType::F32 {
                    params.union(first, output);
                }
            }
            let (constants, values): (Vec<TensorId>, Vec<TensorId>) = operands
                .into_iter()
                .partition(|&id| subgraph[id].is_constant());
            // A tensor with fixed parameters keeps them; where several operands meet, one that
            // differs is requantized on its way in.
            let all_alike = values
                .windows(2)
                .all(|pair| params.fixed_of(pair[0]) == params.fixed_of(pair[1]));
            let widest = values.iter().map(|&id| step(ranges.get(id), width));
            let widest = widest.fold(0.0, f32::max);
            for &value in &values {
                let suffers = widest > COARSEST * step(ranges.get(value), width);
                if suffers && shared[value.index()] {
                    continue;
                }
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
        if width == Width::Int8 {
            for (node, verdict) in subgraph.nodes.iter().zip(verdicts) {
                if let Some(rule) = verdict.rule(width) {
                    params.widen_for_weights(subgraph, node, rule);
                }
            }
        }
        params
    }

    /// Widens the range of a weighted sum's result, of a dead layer for instance, so far that
    /// XNNPACK takes its scale: it refuses models in which that of the accumulator is 256 times as
    /// large, or more.
    fn widen_for_weights(&mut self, subgraph: &Subgraph, node: &Node, rule: &QuantRule) {
        const LARGEST_RATIO: f64 = 250.0;
        const STEPS: f64 = 255.0;
        let operands = || {
            let inputs = node.inputs.iter().enumerate();
            inputs.filter_map(|(index, id)| Some((rule.role(index), (*id)?)))
        };
        let others = |(role, _): &(Role, TensorId)| {
            !matches!(role, Role::Activation | Role::Bias { .. } | Role::Plain)
        };
        let mut weights = operands().filter(others);
        let is_sum = matches!(weights.next(), Some((Role::Weights { .. }, _)));
        if !is_sum || weights.next().is_some() {
            return;
        }
        let mut accumulator = 1.0;
        let mut least = 0.0;
        for (role, id) in operands() {
            accumulator *= match role {
                Role::Activation => f64::from(self.get(id, Width::Int8).scale),
                Role::Weights { .. } => f64::from(constants::weight_scales(&subgraph[id], None)[0]),
                Role::Bias { .. } => {
                    least = constants::scale_for_bias(&subgraph[id]);
                    1.0
                }
                _ => 1.0,
            };
        }
        let needed = f64::max(accumulator, least) / LARGEST_RATIO;
        for &output in &node.outputs {
            let root = self.root(output.index());
            let scale = f64::from(self.get(output, Width::Int8).scale);
            if self.fixed[root].is_some() || scale >= needed {
                continue;
            }
            let range = &mut self.range[root];
            let missing = (STEPS * (needed - scale)) as f32;
            let (min, max) = (range.min.min(0.0), range.max.max(0.0));
            *range = if max >= -min {
                Range {
                    min,
                    max: max + missing,
                }
            } else {
                Range {
                    min: min - missing,
                    max,
                }
            };
        }
    }

    fn get(&self, tensor: TensorId, width: Width) -> PerTensor {
        let root = self.find(tensor.index());
        self.fixed[root].unwrap_or_else(|| {
            let range = self.range[root];
            width.cover(range.min, range.max)
        })
    }

    fn wide(&self, tensor: TensorId) -> PerTensor {
        let range = self.range[self.find(tensor.index())];
        PerTensor::from_range(range.min, range.max, DType::I16)
    }

    fn power_of_two(&self, tensor: TensorId) -> PerTensor {
        let range = self.range[self.find(tensor.index())];
        let largest = range.max.max(-range.min);
        let exponent = largest.log2().ceil().clamp(0.0, 6.0) - 15.0;
        PerTensor::new(exponent.exp2(), 0)
    }

    fn fixed_of(&self, tensor: TensorId) -> Option<PerTensor> {
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

/// The scale that covers `range`.
fn step(range: Range, width: Width) -> f32 {
    PerTensor::from_range(range.min, range.max, width.dtype()).scale
}

/// Whether more than one reader sees each tensor; the caller of the model is one.
fn shared(subgraph: &Subgraph) -> Vec<bool> {
    let mut readers: Vec<usize> = subgraph.consumers().iter().map(Vec::len).collect();
    for output in &subgraph.outputs {
        readers[output.index()] += 1;
    }
    readers.into_iter().map(|count| count > 1).collect()
}
