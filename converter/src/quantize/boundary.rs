//! Tensors through which operators hand data to the subgraphs that they run: which of them are
//! integers, and with what parameters.
//!
//! What is handed over keeps its bytes, so that both sides must have the same type and parameters:
//! the operand of an `IF` and the inputs of both branches; of a `WHILE` the operand, the inputs of
//! condition and body, the body's output and the result. Such tensors form a group. A group is
//! integer where the subgraphs compute it in integers (or, for what they do not compute, read it in
//! integers) and float otherwise. Its members share one range, so that an integer group gives the
//! same numbers as a float one with QUANTIZE and DEQUANTIZE in the body would: dequantizing and
//! quantizing again with the same parameters changes nothing.

use std::collections::HashMap;

use bantam_model::ops::BodyOutputs;
use bantam_model::quant::PerTensor;
use bantam_model::{DType, Model, Node, Subgraph, TensorId};

use super::{Params, Verdict};
use crate::calibrate::{Range, Ranges};

/// A tensor of a model.
type Place = (usize, TensorId);

/// Which of the inputs and outputs of a subgraph, or of the operands and results of an operator,
/// are integers; `None` is float.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub inputs: Vec<Option<PerTensor>>,
    pub outputs: Vec<Option<PerTensor>>,
}

/// The groups of a model.
pub(super) struct Boundary<'a> {
    model: &'a Model,
    /// The group of each tensor at an end of a subgraph that an operator runs.
    group: HashMap<Place, usize>,
    groups: Vec<Group>,
}

#[derive(Debug, Clone, Default)]
struct Group {
    /// Inputs of subgraphs.
    inputs: Vec<Place>,
    /// Outputs of subgraphs.
    outputs: Vec<Place>,
    /// Operands and results of the operators that run them.
    outside: Vec<Place>,
    /// Why it is float, if it is.
    float: Option<String>,
}

impl Group {
    fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let inside = self.inputs.iter().chain(&self.outputs);
        inside.chain(&self.outside).copied()
    }
}

/// An operand or result of an operator that runs subgraphs, and what it is inside one of them.
struct Link {
    /// Whether it is a result, and its position.
    at: (bool, usize),
    outside: TensorId,
    input: Option<Place>,
    output: Option<Place>,
}

/// What `node` hands over, and to what.
fn links(model: &Model, node: &Node) -> Vec<Link> {
    let mut links = Vec::new();
    for body in node.op.bodies() {
        let Some((number, inner)) = usize::try_from(body.subgraph)
            .ok()
            .and_then(|number| Some((number, model.subgraphs.get(number)?)))
        else {
            continue;
        };
        let looped = body.outputs == BodyOutputs::NextRound;
        let operands = node.inputs.iter().enumerate().skip(body.first_operand);
        for (index, ((position, operand), &input)) in operands.zip(&inner.inputs).enumerate() {
            let next = inner.outputs.get(index).filter(|_| looped);
            links.extend(operand.map(|outside| Link {
                at: (false, position),
                outside,
                input: Some((number, input)),
                output: next.map(|&output| (number, output)),
            }));
        }
        if body.outputs != BodyOutputs::Condition {
            let results = node.outputs.iter().zip(&inner.outputs).enumerate();
            for (position, (&outside, &output)) in results {
                links.push(Link {
                    at: (true, position),
                    outside,
                    input: None,
                    output: Some((number, output)),
                });
            }
        }
    }
    links
}

impl<'a> Boundary<'a> {
    /// The groups of `model`'s subgraphs `reachable`, each float or integer by the `verdicts` on
    /// the operators, which are by subgraph and operator.
    pub fn new(
        model: &'a Model,
        reachable: &[usize],
        verdicts: &HashMap<usize, Vec<Verdict>>,
        ranges: &Ranges,
    ) -> Self {
        let mut boundary = Self {
            model,
            group: HashMap::new(),
            groups: Vec::new(),
        };
        for &subgraph in reachable {
            for node in &model.subgraphs[subgraph].nodes {
                boundary.add(subgraph, &links(model, node));
            }
        }
        boundary.refuse_what_cannot_be_integer(ranges);
        while boundary.refuse_what_is_float(verdicts) {}
        boundary
    }

    /// Adds the links of one operator of `subgraph`.
    fn add(&mut self, subgraph: usize, links: &[Link]) {
        for link in links {
            let same = links.iter().filter(|other| other.at == link.at);
            let inside = same.flat_map(|link| link.input.into_iter().chain(link.output));
            let ids: Vec<usize> = inside.map(|place| self.group_of(place)).collect();
            for &other in &ids {
                self.merge(ids[0], other);
            }
            let Some(group) = ids.first().map(|&id| &mut self.groups[id]) else {
                continue;
            };
            group.inputs.extend(link.input);
            group.outputs.extend(link.output);
            group.outside.push((subgraph, link.outside));
        }
    }

    fn group_of(&mut self, place: Place) -> usize {
        let next = self.groups.len();
        let group = *self.group.entry(place).or_insert(next);
        if group == next {
            self.groups.push(Group::default());
        }
        group
    }

    fn merge(&mut self, into: usize, from: usize) {
        if into == from {
            return;
        }
        let from_group = std::mem::take(&mut self.groups[from]);
        let group = &mut self.groups[into];
        group.inputs.extend(from_group.inputs);
        group.outputs.extend(from_group.outputs);
        group.outside.extend(from_group.outside);
        for group in self.group.values_mut().filter(|group| **group == from) {
            *group = into;
        }
    }

    fn refuse_what_cannot_be_integer(&mut self, ranges: &Ranges) {
        let model = self.model;
        let entered = |subgraph: usize| {
            let mut signatures = model.signatures.iter();
            signatures.any(|signature| signature.subgraph as usize == subgraph)
        };
        for group in &mut self.groups {
            let ends: Vec<Place> = group.inputs.iter().chain(&group.outputs).copied().collect();
            let reason = group.places().find_map(|(subgraph, id)| {
                let tensor = &model.subgraphs[subgraph][id];
                if tensor.dtype != DType::F32 {
                    Some(format!("{:?} is {}", tensor.name, tensor.dtype))
                } else if tensor.is_variable || tensor.sparsity.is_some() {
                    Some(format!("{:?} is a variable or sparse", tensor.name))
                } else if entered(subgraph) && ends.contains(&(subgraph, id)) {
                    Some(format!("a signature enters subgraph {subgraph}"))
                } else {
                    None
                }
            });
            // A subgraph may not have run, or not use one of its inputs, so that not all are seen.
            let range = |(subgraph, id): Place| ranges.subgraph(subgraph).get(id);
            let unseen = group.places().map(range).all(Range::is_empty);
            let unseen = unseen.then(|| "no finite value of it was seen in calibration".into());
            group.float = reason.or(unseen);
        }
    }

    /// Makes groups float that the subgraphs do not compute or use in integers; whether there was
    /// one.
    fn refuse_what_is_float(&mut self, verdicts: &HashMap<usize, Vec<Verdict>>) -> bool {
        let mut changed = false;
        for index in 0..self.groups.len() {
            if self.groups[index].float.is_some() {
                continue;
            }
            if let Some(reason) = self.float_reason(&self.groups[index], verdicts) {
                self.groups[index].float = Some(reason);
                changed = true;
            }
        }
        changed
    }

    fn float_reason(
        &self,
        group: &Group,
        verdicts: &HashMap<usize, Vec<Verdict>>,
    ) -> Option<String> {
        let mut used = false;
        for &(subgraph, id) in &group.outputs {
            for (node, verdict) in self.nodes(subgraph, verdicts) {
                if node.outputs.contains(&id) {
                    if !self.is_integer_at(subgraph, node, verdict, id) {
                        let name = &self.model.subgraphs[subgraph][id].name;
                        return Some(format!("{name:?} is computed in float"));
                    }
                    used = true;
                }
            }
        }
        for &(subgraph, id) in &group.inputs {
            used |= self.nodes(subgraph, verdicts).any(|(node, verdict)| {
                node.inputs.contains(&Some(id)) && self.is_integer_at(subgraph, node, verdict, id)
            });
        }
        (!used).then(|| "no operator of the subgraph uses it in integers".into())
    }

    fn nodes<'b>(
        &'b self,
        subgraph: usize,
        verdicts: &'b HashMap<usize, Vec<Verdict>>,
    ) -> impl Iterator<Item = (&'b Node, &'b Verdict)> {
        let verdicts = verdicts.get(&subgraph).into_iter().flatten();
        self.model.subgraphs[subgraph].nodes.iter().zip(verdicts)
    }

    /// Whether `node`, an operator of `subgraph`, reads or writes `id` as integers.
    fn is_integer_at(&self, subgraph: usize, node: &Node, verdict: &Verdict, id: TensorId) -> bool {
        match verdict {
            Verdict::Integer(_) => true,
            Verdict::Float(_) | Verdict::Untouched => false,
            Verdict::Call => {
                let mut links = links(self.model, node).into_iter();
                links.any(|link| link.outside == id && self.float_at(&link).is_none())
                    && self.model.subgraphs[subgraph][id].dtype == DType::F32
            }
        }
    }

    fn of(&self, link: &Link) -> Option<&Group> {
        let place = link.input.or(link.output)?;
        self.groups.get(*self.group.get(&place)?)
    }

    fn float_at(&self, link: &Link) -> Option<&str> {
        self.of(link)?.float.as_deref()
    }

    /// Why `node` of `subgraph` hands over float data, if it does.
    pub fn obstacle(&self, subgraph: &Subgraph, node: &Node) -> Option<String> {
        let links = links(self.model, node);
        let mut floats = links
            .iter()
            .filter(|link| subgraph[link.outside].dtype == DType::F32);
        floats.find_map(|link| {
            let name = &subgraph[link.outside].name;
            let reason = self.float_at(link)?;
            Some(format!("{name:?} is handed over as float: {reason}"))
        })
    }

    /// Lets the members of each integer group have one range, and fixed parameters of one of them
    /// where all values fit those.
    pub fn share(&self, params: &mut HashMap<usize, Params>) {
        while self.join(params, |_| None) {}
        while self.join(params, |(_, fixed)| fixed) {}
    }

    /// Joins the members of each group once; whether that changed anything.
    fn join(
        &self,
        params: &mut HashMap<usize, Params>,
        fixed: impl Fn((Range, Option<PerTensor>)) -> Option<PerTensor>,
    ) -> bool {
        let mut changed = false;
        for group in self.groups.iter().filter(|group| group.float.is_none()) {
            let agreed = agreed(group, params);
            for (subgraph, id) in group.places() {
                if let Some(params) = params.get_mut(&subgraph) {
                    changed |= params.join(id, agreed.0, fixed(agreed));
                }
            }
        }
        changed
    }

    /// The ends of `subgraph`, with the parameters that [`share`](Self::share) left.
    pub fn ends(&self, subgraph: usize, params: &HashMap<usize, Params>) -> Ends {
        let graph = &self.model.subgraphs[subgraph];
        let end = |id: &TensorId| {
            let group = self.groups.get(*self.group.get(&(subgraph, *id))?)?;
            self.parameters(group, params)
        };
        Ends {
            inputs: graph.inputs.iter().map(end).collect(),
            outputs: graph.outputs.iter().map(end).collect(),
        }
    }

    /// The same of the operators of `subgraph` that run others, by their place.
    pub fn calls(&self, subgraph: usize, params: &HashMap<usize, Params>) -> HashMap<usize, Ends> {
        let nodes = self.model.subgraphs[subgraph].nodes.iter().enumerate();
        let ends = |(index, node): (usize, &Node)| {
            let links = links(self.model, node);
            let find = |at: (bool, usize)| {
                let link = links.iter().find(|link| link.at == at)?;
                self.parameters(self.of(link)?, params)
            };
            let ends = Ends {
                inputs: (0..node.inputs.len()).map(|i| find((false, i))).collect(),
                outputs: (0..node.outputs.len()).map(|i| find((true, i))).collect(),
            };
            (index, ends)
        };
        nodes.map(ends).collect()
    }

    /// The parameters of an integer group.
    fn parameters(&self, group: &Group, params: &HashMap<usize, Params>) -> Option<PerTensor> {
        if group.float.is_some() {
            return None;
        }
        let (range, fixed) = agreed(group, params);
        Some(fixed.unwrap_or_else(|| Params::suggest(range)))
    }
}

/// The range of all members of a group, and the fixed parameters that those have which have any,
/// unless they differ or do not cover the range.
fn agreed(group: &Group, params: &HashMap<usize, Params>) -> (Range, Option<PerTensor>) {
    let members = || {
        let of = |(subgraph, id)| Some((params.get(&subgraph)?, id));
        group.places().filter_map(of)
    };
    let ranges = members().map(|(params, id)| params.range_of(id));
    let range = ranges.fold(Range::EMPTY, Range::union);
    let mut all = members().filter_map(|(params, id)| params.fixed_of(id));
    let fixed = all.next();
    let fixed = fixed.filter(|&fixed| all.all(|other| other == fixed) && covers(fixed, range));
    (range, fixed)
}

/// Whether int8 values with `params` reach the ends of `range`, but for one step.
fn covers(params: PerTensor, range: Range) -> bool {
    let (low, high) = (params.dequantize(-128), params.dequantize(127));
    low - params.scale <= range.min && range.max <= high + params.scale
}
