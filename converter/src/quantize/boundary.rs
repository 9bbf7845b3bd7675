//! Tensors through which operators hand data to the subgraphs that they run, or to variables: which
//! of them are integers, and with what parameters.
//!
//! What is handed over keeps its bytes, so that both sides must have the same type and parameters:
//! the operand of an `IF` and the inputs of both branches; of a `WHILE` the operand, the inputs of
//! condition and body, the body's output and the result. Such tensors form a group. A group is
//! integer where the operators that hand it over shall be and the subgraphs compute it in integers of
//! the same type (or, for what they do not compute, read it so) and float otherwise. Its members share one range, so that an integer group gives the
//! same numbers as a float one with QUANTIZE and DEQUANTIZE in the body would: dequantizing and
//! quantizing again with the same parameters changes nothing.
//!
//! What is assigned to a variable (`ASSIGN_VARIABLE`) and read from it (`READ_VARIABLE`), anywhere, is a
//! group too: LiteRT keeps the bytes of any type. It is integer where all that assign and read shall be
//! and one of the operators around them computes it in integers.

use std::collections::HashMap;

use bantam_model::ops::{BodyOutputs, Memory};
use bantam_model::quant::PerTensor;
use bantam_model::{DType, Model, Node, Subgraph, TensorId};

use super::encoding::{Encoding, Width};
use super::{Params, Part, Verdict};
use crate::calibrate::{Range, Ranges};

/// How often ranges are shared and widened in turn: only weights that make values hundreds of times
/// larger from round to round of a loop need more.
const ROUNDS: usize = 4;

/// A tensor of a model.
type Place = (usize, TensorId);

/// Which of the inputs and outputs of a subgraph, or of the operands and results of an operator,
/// are integers; `None` is float.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub inputs: Vec<Option<Encoding>>,
    pub outputs: Vec<Option<Encoding>>,
}

/// The groups of a model.
pub(super) struct Boundary<'a> {
    model: &'a Model,
    /// The group of each tensor at an end of a subgraph that an operator runs.
    group: HashMap<Place, usize>,
    groups: Vec<Group>,
}

#[derive(Debug, Clone)]
struct Group {
    /// Inputs of subgraphs.
    inputs: Vec<Place>,
    /// Outputs of subgraphs.
    outputs: Vec<Place>,
    /// Operands and results of the operators that run them, or that assign or read a variable.
    outside: Vec<Place>,
    /// Whether it is what a variable holds.
    is_variable: bool,
    /// Why it must be float, whatever it is.
    refused: Option<String>,
    /// The integers of each of these operators; `None` for one that is float.
    widths: Vec<Option<Width>>,
    /// Its integers, unless it is float for this reason.
    width: Result<Width, String>,
}

impl Group {
    const EMPTY: Self = Self {
        inputs: Vec::new(),
        outputs: Vec::new(),
        outside: Vec::new(),
        is_variable: false,
        refused: None,
        widths: Vec::new(),
        width: Err(String::new()),
    };

    /// The integers that all operators agree on.
    fn common_width(&self) -> Result<Width, String> {
        let float = || "an operator that hands it over stays float".to_owned();
        let first = self.widths.first().copied().flatten().ok_or_else(float)?;
        match self.widths.iter().find(|&&width| width != Some(first)) {
            None => Ok(first),
            Some(None) => Err(float()),
            Some(Some(_)) => Err("operators hand it over as int8 and as int16".into()),
        }
    }

    fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let inside = self.inputs.iter().chain(&self.outputs);
        inside.chain(&self.outside).copied()
    }
}

/// An operand or result of an operator that runs subgraphs, and what it is inside one of them; or one
/// of an operator that assigns or reads a variable.
struct Link {
    /// Whether it is a result, and its position.
    at: (bool, usize),
    outside: TensorId,
    input: Option<Place>,
    output: Option<Place>,
    /// The first handle of the variable.
    variable: Option<Place>,
}

impl Link {
    /// A tensor of the group, or what stands for it.
    fn place(&self) -> Option<Place> {
        self.input.or(self.output).or(self.variable)
    }
}

/// The variable that `node` of `subgraph` assigns or reads, by container and name, if its handle is
/// made there.
fn variable<'a>(subgraph: &'a Subgraph, node: &Node) -> Option<(&'a str, &'a str)> {
    let handle = node.input(0)?;
    let mut makers = subgraph.nodes.iter();
    let maker = makers.find(|maker| maker.outputs.contains(&handle))?;
    match maker.op.operator().ok()?.memory()? {
        Memory::Handle { container, name } => Some((container, name)),
        _ => None,
    }
}

/// Whether `node` assigns or reads a variable; its operand or result that has the value.
fn value_of_variable(node: &Node) -> Option<((bool, usize), TensorId)> {
    match node.op.operator().ok()?.memory()? {
        Memory::Write => Some(((false, 1), node.input(1)?)),
        Memory::Read => Some(((true, 0), *node.outputs.first()?)),
        _ => None,
    }
}

/// What `node` of subgraph `number` hands over, and to what.
fn links(model: &Model, number: usize, node: &Node) -> Vec<Link> {
    let mut links = Vec::new();
    if let Some((at, outside)) = value_of_variable(node) {
        let variable = variable(&model.subgraphs[number], node);
        links.extend(variable.and_then(|variable| {
            Some(Link {
                at,
                outside,
                input: None,
                output: None,
                variable: Some(first_handle(model, variable)?),
            })
        }));
    }
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
                variable: None,
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
                    variable: None,
                });
            }
        }
    }
    links
}

/// The first handle of `wanted` in the model.
fn first_handle(model: &Model, wanted: (&str, &str)) -> Option<Place> {
    let mut subgraphs = model.subgraphs.iter().enumerate();
    subgraphs.find_map(|(number, subgraph)| {
        let mut nodes = subgraph.nodes.iter();
        nodes.find_map(|node| match node.op.operator().ok()?.memory()? {
            Memory::Handle { container, name } if (container, name) == wanted => {
                Some((number, *node.outputs.first()?))
            }
            _ => None,
        })
    })
}

impl<'a> Boundary<'a> {
    /// The groups of `model`'s subgraphs `reachable`, each float or integer by the verdicts on the
    /// operators. `parts` are by subgraph, `ranges` by width.
    pub fn new(
        model: &'a Model,
        reachable: &[usize],
        parts: &HashMap<usize, Part>,
        ranges: &[Ranges; 2],
    ) -> Self {
        let mut boundary = Self {
            model,
            group: HashMap::new(),
            groups: Vec::new(),
        };
        for &subgraph in reachable {
            let nodes = model.subgraphs[subgraph].nodes.iter();
            for (node, verdict) in nodes.zip(&parts[&subgraph].verdicts) {
                boundary.add(subgraph, &links(model, subgraph, node), verdict.call());
            }
        }
        boundary.refuse_variables_used_elsewhere(reachable);
        boundary.refuse_what_cannot_be_integer(ranges);
        while boundary.refuse_what_is_float(parts) {}
        boundary
    }

    /// Adds the links of one operator of `subgraph`.
    fn add(&mut self, subgraph: usize, links: &[Link], width: Option<Width>) {
        for link in links {
            let same = links.iter().filter(|other| other.at == link.at);
            let inside = same.flat_map(|link| {
                let ends = link.input.into_iter().chain(link.output);
                ends.chain(link.variable)
            });
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
            group.is_variable |= link.variable.is_some();
            group.widths.push(width);
        }
    }

    fn group_of(&mut self, place: Place) -> usize {
        let next = self.groups.len();
        let group = *self.group.entry(place).or_insert(next);
        if group == next {
            self.groups.push(Group::EMPTY);
        }
        group
    }

    fn merge(&mut self, into: usize, from: usize) {
        if into == from {
            return;
        }
        let from_group = std::mem::replace(&mut self.groups[from], Group::EMPTY);
        let group = &mut self.groups[into];
        group.inputs.extend(from_group.inputs);
        group.outputs.extend(from_group.outputs);
        group.outside.extend(from_group.outside);
        group.widths.extend(from_group.widths);
        group.is_variable |= from_group.is_variable;
        for group in self.group.values_mut().filter(|group| **group == from) {
            *group = into;
        }
    }

    /// Makes variables float that subgraphs use which are not converted; all of them where it is not
    /// known whose handle an operator is given.
    fn refuse_variables_used_elsewhere(&mut self, reachable: &[usize]) {
        let model = self.model;
        for (number, subgraph) in model.subgraphs.iter().enumerate() {
            for node in &subgraph.nodes {
                if value_of_variable(node).is_none() {
                    continue;
                }
                let place = variable(subgraph, node).and_then(|v| first_handle(model, v));
                let reason = match place {
                    None => format!("subgraph {number} is given the handle of a variable"),
                    Some(_) if reachable.contains(&number) => continue,
                    Some(_) => {
                        format!("subgraph {number}, which stays as it is, uses the variable")
                    }
                };
                let which = place.map(|place| self.group.get(&place).copied());
                for (index, group) in self.groups.iter_mut().enumerate() {
                    if group.is_variable && which.is_none_or(|which| which == Some(index)) {
                        group.refused.get_or_insert_with(|| reason.clone());
                    }
                }
            }
        }
    }

    fn refuse_what_cannot_be_integer(&mut self, ranges: &[Ranges; 2]) {
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
            group.width = match reason.or(group.refused.clone()) {
                Some(reason) => Err(reason),
                None => group.common_width(),
            };
            if let Ok(width) = group.width {
                let range =
                    |(subgraph, id): Place| ranges[width as usize].subgraph(subgraph).get(id);
                if group.places().map(range).all(Range::is_empty) {
                    group.width = Err("no finite value of it was seen in calibration".into());
                }
            }
        }
    }

    /// Makes groups float that the subgraphs do not compute or use in integers; whether there was
    /// one.
    fn refuse_what_is_float(&mut self, parts: &HashMap<usize, Part>) -> bool {
        let mut changed = false;
        for index in 0..self.groups.len() {
            let Ok(width) = self.groups[index].width else {
                continue;
            };
            if let Some(reason) = self.float_reason(&self.groups[index], width, parts) {
                self.groups[index].width = Err(reason);
                changed = true;
            }
        }
        changed
    }

    fn float_reason(
        &self,
        group: &Group,
        width: Width,
        parts: &HashMap<usize, Part>,
    ) -> Option<String> {
        let is_integer_at = |(subgraph, id): Place, node: &Node, verdict: &Verdict| match verdict {
            Verdict::Call(_) => {
                let mut links = links(self.model, subgraph, node).into_iter();
                links.any(|link| link.outside == id && self.width_at(&link) == Some(&Ok(width)))
                    && self.model.subgraphs[subgraph][id].dtype == DType::F32
            }
            _ => verdict.rule(width).is_some(),
        };
        let mut used = false;
        for &(subgraph, id) in &group.outputs {
            for (node, verdict) in self.nodes(subgraph, parts) {
                if node.outputs.contains(&id) {
                    if !is_integer_at((subgraph, id), node, verdict) {
                        let name = &self.model.subgraphs[subgraph][id].name;
                        let dtype = width.dtype();
                        return Some(format!("{name:?} is not computed in {dtype}"));
                    }
                    used = true;
                }
            }
        }
        for &(subgraph, id) in &group.inputs {
            used |= self.nodes(subgraph, parts).any(|(node, verdict)| {
                node.inputs.contains(&Some(id)) && is_integer_at((subgraph, id), node, verdict)
            });
        }
        for &(subgraph, id) in group.outside.iter().filter(|_| group.is_variable) {
            used |= self.nodes(subgraph, parts).any(|(node, verdict)| {
                let touches = node.inputs.contains(&Some(id)) || node.outputs.contains(&id);
                let is_other = value_of_variable(node).is_none();
                touches && is_other && is_integer_at((subgraph, id), node, verdict)
            });
        }
        (!used).then(|| format!("no operator of the subgraph uses it in {}", width.dtype()))
    }

    fn nodes<'b>(
        &'b self,
        subgraph: usize,
        parts: &'b HashMap<usize, Part>,
    ) -> impl Iterator<Item = (&'b Node, &'b Verdict)> {
        let verdicts = parts
            .get(&subgraph)
            .into_iter()
            .flat_map(|part| &part.verdicts);
        self.model.subgraphs[subgraph].nodes.iter().zip(verdicts)
    }

    fn of(&self, link: &Link) -> Option<&Group> {
        self.groups.get(*self.group.get(&link.place()?)?)
    }

    fn width_at(&self, link: &Link) -> Option<&Result<Width, String>> {
        self.of(link).map(|group| &group.width)
    }

    /// Why `node` of subgraph `number` hands over float data, if it does.
    pub fn obstacle(&self, number: usize, node: &Node) -> Option<String> {
        let subgraph = &self.model.subgraphs[number];
        let links = links(self.model, number, node);
        let mut floats = links
            .iter()
            .filter(|link| subgraph[link.outside].dtype == DType::F32);
        floats.find_map(|link| {
            let name = &subgraph[link.outside].name;
            let reason = self.width_at(link)?.as_ref().err()?;
            Some(match link.variable {
                Some(_) => format!("the variable that has {name:?} stays float: {reason}"),
                None => format!("{name:?} is handed over as float: {reason}"),
            })
        })
    }

    /// Lets the members of each integer group have one range, and fixed parameters of one of them
    /// where all values fit those; `widen` widens more ranges of a subgraph as it must, and says
    /// whether it did.
    pub fn share(
        &self,
        params: &mut HashMap<usize, Params>,
        widen: impl Fn(usize, &mut Params) -> bool,
    ) {
        for _ in 0..ROUNDS {
            while self.join(params, |_| None) {}
            let widened = params.iter_mut().map(|(&subgraph, p)| widen(subgraph, p));
            if !widened.fold(false, |any, one| any | one) {
                break;
            }
        }
        while self.join(params, |(_, fixed)| fixed) {}
    }

    /// Joins the members of each group once; whether that changed anything.
    fn join(
        &self,
        params: &mut HashMap<usize, Params>,
        fixed: impl Fn((Range, Option<PerTensor>)) -> Option<PerTensor>,
    ) -> bool {
        let mut changed = false;
        for group in &self.groups {
            let Ok(width) = group.width else { continue };
            let agreed = agreed(group, width, params);
            for (subgraph, id) in group.places() {
                if let Some(params) = params.get_mut(&subgraph) {
                    changed |= params.join(id, width, agreed.0, fixed(agreed));
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
            encoding(group, params)
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
            let links = links(self.model, subgraph, node);
            let find = |at: (bool, usize)| {
                let link = links.iter().find(|link| link.at == at)?;
                encoding(self.of(link)?, params)
            };
            let ends = Ends {
                inputs: (0..node.inputs.len()).map(|i| find((false, i))).collect(),
                outputs: (0..node.outputs.len()).map(|i| find((true, i))).collect(),
            };
            (index, ends)
        };
        nodes.map(ends).collect()
    }
}

/// That of an integer group.
fn encoding(group: &Group, params: &HashMap<usize, Params>) -> Option<Encoding> {
    let width = *group.width.as_ref().ok()?;
    let (range, fixed) = agreed(group, width, params);
    Some(Encoding {
        width,
        params: fixed.unwrap_or_else(|| width.cover(range)),
    })
}

/// The range of all members of a group, and the fixed parameters that those have which have any,
/// unless they differ or do not cover the range.
fn agreed(
    group: &Group,
    width: Width,
    params: &HashMap<usize, Params>,
) -> (Range, Option<PerTensor>) {
    let members = || {
        let of = |(subgraph, id)| Some((params.get(&subgraph)?, id));
        group.places().filter_map(of)
    };
    let ranges = members().map(|(params, id)| params.range_of(id, width));
    let range = ranges.fold(Range::EMPTY, Range::union);
    let mut all = members().filter_map(|(params, id)| params.fixed_of(id, width));
    let fixed = all.next();
    let fixed = fixed.filter(|&fixed| {
        let encoding = Encoding {
            width,
            params: fixed,
        };
        all.all(|other| other == fixed) && covers(encoding, range)
    });
    (range, fixed)
}

/// Whether integers of `encoding` reach the ends of `range`, but for one step.
fn covers(encoding: Encoding, range: Range) -> bool {
    let params = encoding.params;
    let (low, high) = encoding.width.limits();
    let (low, high) = (params.dequantize(low), params.dequantize(high));
    low - params.scale <= range.min && range.max <= high + params.scale
}
