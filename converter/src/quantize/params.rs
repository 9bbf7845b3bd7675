//! Which tensors share parameters, and what those are.

use bantam_model::ops::{QuantRule, Results, Role};
use bantam_model::quant::PerTensor;
use bantam_model::{DType, Node, Op, Subgraph, TensorId};

use super::encoding::{Encoding, Width};
use super::{Verdict, activations, constants};
use crate::calibrate::{Range, SubgraphRanges};

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
        ranges: impl Fn(Width) -> &'a SubgraphRanges,
    ) -> Self {
        let groups = |width| Groups::new(subgraph, verdicts, ranges(width), width);
        Self {
            int8: groups(Width::Int8),
            int16: groups(Width::Int16),
        }
    }

    /// How `tensor` is encoded in `width`.
    pub fn get(&self, tensor: TensorId, width: Width) -> Encoding {
        Encoding {
            width,
            params: self.groups(width).get(tensor, width),
        }
    }

    /// The range of `tensor`'s group.
    pub fn range_of(&self, tensor: TensorId, width: Width) -> Range {
        let groups = self.groups(width);
        groups.range[groups.find(tensor.index())]
    }

    /// The parameters that an operator prescribes for `tensor`'s group.
    pub fn fixed_of(&self, tensor: TensorId, width: Width) -> Option<PerTensor> {
        self.groups(width).fixed_of(tensor)
    }

    /// Widens the range of `tensor`'s group by `range` and, if it has no fixed parameters, gives it
    /// `fixed`; whether that changed anything.
    pub fn join(
        &mut self,
        tensor: TensorId,
        width: Width,
        range: Range,
        fixed: Option<PerTensor>,
    ) -> bool {
        let groups = match width {
            Width::Int8 => &mut self.int8,
            Width::Int16 => &mut self.int16,
        };
        let root = groups.root(tensor.index());
        let (range, fixed) = (
            groups.range[root].union(range),
            groups.fixed[root].or(fixed),
        );
        let changed = (range, fixed) != (groups.range[root], groups.fixed[root]);
        (groups.range[root], groups.fixed[root]) = (range, fixed);
        changed
    }

    /// Widens the ranges of the results of weighted sums as far as XNNPACK demands; whether there
    /// was one.
    pub fn widen_for_weights(&mut self, subgraph: &Subgraph, verdicts: &[Verdict]) -> bool {
        let mut changed = false;
        for (node, verdict) in subgraph.nodes.iter().zip(verdicts) {
            if let Some(rule) = verdict.rule(Width::Int8) {
                changed |= self.int8.widen_for_weights(subgraph, node, rule);
            }
        }
        changed
    }

    /// Widens the ranges of products as far as [`Recipe::coarse_products`](crate::Recipe) demands; whether there was one.
    pub fn widen_for_products(&mut self, subgraph: &Subgraph, verdicts: &[Verdict]) -> bool {
        let mut changed = false;
        for (node, verdict) in subgraph.nodes.iter().zip(verdicts) {
            if matches!(node.op, Op::Mul(_)) && verdict.rule(Width::Int8).is_some() {
                changed |= self.int8.widen_for_product(node);
            }
        }
        changed
    }

    fn groups(&self, width: Width) -> &Groups {
        match width {
            Width::Int8 => &self.int8,
            Width::Int16 => &self.int16,
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
    fn new(
        subgraph: &Subgraph,
        verdicts: &[Verdict],
        ranges: &SubgraphRanges,
        width: Width,
    ) -> Self {
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
            let fixed = match rule.results {
                Results::Fixed(fixed) => fixed,
                Results::SymmetricAsInputs => {
                    let tensors = activations(node, rule).chain(node.outputs.iter().copied());
                    let all = tensors.map(|id| ranges.get(id));
                    width.cover_symmetric(all.fold(Range::EMPTY, Range::union))
                }
                _ => continue,
            };
            for output in &node.outputs {
                params.fixed[output.index()] = Some(fixed);
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
        params
    }

    /// Widens the range of a weighted sum's result, of a dead layer for instance, so far that
    /// XNNPACK takes its scale: it refuses models in which that of the accumulator is 256 times as
    /// large, or more. Whether that changed anything.
    fn widen_for_weights(&mut self, subgraph: &Subgraph, node: &Node, rule: &QuantRule) -> bool {
        const LARGEST_RATIO: f64 = 250.0;
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
            return false;
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
        let mut changed = false;
        for &output in &node.outputs {
            changed |= self.widen(output, needed);
        }
        changed
    }

    /// Widens the range of a product so that its scale is above the product of the operands'.
    fn widen_for_product(&mut self, node: &Node) -> bool {
        /// So much above that rounding does not bring it back.
        const ABOVE: f64 = 1.0 + 1.0 / 1024.0;
        let (&[Some(a), Some(b)], &[output]) = (&*node.inputs, &*node.outputs) else {
            return false;
        };
        let scale = |id: TensorId| f64::from(self.get(id, Width::Int8).scale);
        self.widen(output, scale(a) * scale(b) * ABOVE)
    }

    /// Widens the range of `tensor`, unless that is fixed, so that its scale is `needed` at least; whether it was not.
    fn widen(&mut self, tensor: TensorId, needed: f64) -> bool {
        const STEPS: f64 = 255.0;
        /// What rounding leaves of a range that was widened.
        const ENOUGH: f64 = 1.0 - 1e-6;
        let root = self.root(tensor.index());
        let scale = f64::from(self.get(tensor, Width::Int8).scale);
        if self.fixed[root].is_some() || scale >= needed * ENOUGH {
            return false;
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
        true
    }

    fn get(&self, tensor: TensorId, width: Width) -> PerTensor {
        let root = self.find(tensor.index());
        self.fixed[root].unwrap_or_else(|| width.cover(self.range[root]))
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
    width.cover(range).scale
}

/// Whether more than one reader sees each tensor; the caller of the model is one.
fn shared(subgraph: &Subgraph) -> Vec<bool> {
    let mut readers: Vec<usize> = subgraph.consumers().iter().map(Vec::len).collect();
    for output in &subgraph.outputs {
        readers[output.index()] += 1;
    }
    readers.into_iter().map(|count| count > 1).collect()
}
