//! Applies each operator's quantization rule to the graph.
//!
//! First every operator is judged: integer, float with small weights, or float with a reason
//! (`judge`). Then tensors that must share parameters are grouped and each group gets a scale and
//! zero point (`Params`). Last the graph is rewritten in order of execution (`Rewriter`):
//! operators read integer or float versions of their operands, and QUANTIZE and DEQUANTIZE stand
//! where one must become the other. Subgraphs that operators run are treated alike; what is handed to
//! and from them is integer or float on both sides (`Boundary`).

mod boundary;
mod constants;
mod encoding;
mod import;
mod intermediates;
mod params;
mod rewrite;
mod weights;

use std::collections::{HashMap, HashSet};

use bantam_model::ops::{Intermediate, QuantRule, Results, Role};
use bantam_model::{DType, Model, Node, SignatureDef, Subgraph, Tensor, TensorId};

use crate::calibrate::{Ranges, Statistics, SubgraphRanges};
use crate::error::{ConvertError, KeptFloat};
use crate::recipe::{Recipe, Scheme, Settings};
use crate::traps;
use boundary::Boundary;
pub(crate) use constants::{Channels, values, weight_error, weight_scales};
use encoding::Width;
pub(crate) use intermediates::with_intermediates;
use params::Params;
use rewrite::Rewriter;
use weights::Weights;

/// What a conversion did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Operators of the float model.
    pub ops: usize,
    /// Of these, how many compute in integers now, or in float with smaller constants.
    pub quantized: usize,
    /// Those with float data that stay as they were.
    pub kept_float: Vec<KeptFloat>,
    /// What options of the recipe gained for single operators.
    pub gains: Vec<Gain>,
    /// What options of the recipe gained for the whole model.
    pub totals: Vec<Total>,
    /// What the user should know and may not expect.
    pub warnings: Vec<String>,
    /// The subgraphs that were converted; all others are as they were.
    pub subgraphs: Vec<usize>,
}

/// What an option of the recipe gained for one operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Gain {
    /// The operator's subgraph.
    pub subgraph: usize,
    /// Its place in that subgraph of the float model.
    pub index: usize,
    /// The name of its weights.
    pub name: String,
    /// The option, as recipes spell it.
    pub option: &'static str,
    /// The squared error as a part of what it would be without the option: that of the weights, for
    /// `equalize` relative to their squares and with one scale for all; of the operator's result on
    /// the samples for `learned-rounding`; of the mean of its channels for `bias-correction`.
    pub ratio: f64,
    /// Signal to noise of the operator's result on the samples without and with the option, in dB,
    /// where that was measured; with `bias-correction` the noise is the shift of the mean alone.
    pub db: Option<(f64, f64)>,
}

/// What an option of the recipe gained for the outputs of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Total {
    /// The option, as recipes spell it.
    pub option: &'static str,
    /// What it chose or did.
    pub choice: String,
    /// Signal to noise of the outputs on the samples without it, the mean in dB.
    pub before_db: f64,
    /// The same with it.
    pub after_db: f64,
}

/// Where an operator that computes in integers went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Link {
    /// The subgraph of both.
    pub subgraph: usize,
    /// Its place in the float model.
    pub float: usize,
    /// Its place in the integer one.
    pub integer: usize,
}

/// What becomes of one operator.
#[derive(Debug, Clone)]
enum Verdict {
    /// It computes in integers.
    Integer(QuantRule, Width),
    /// It runs subgraphs, or assigns or reads a variable, and hands over integers of this width, or
    /// floats where it has to.
    Call(Width),
    /// It computes in float with int8 weights.
    Weights(Weights),
    /// It computes in float with float16 constants.
    Half,
    /// It computes in float, for this reason.
    Float(String),
    /// It has no float data.
    Untouched,
    /// What it computes is a constant.
    Superfluous,
}

impl Verdict {
    /// Its rule, if it computes in integers on activations of this width.
    fn rule(&self, wanted: Width) -> Option<&QuantRule> {
        match self {
            Self::Integer(rule, width) if *width == wanted => Some(rule),
            _ => None,
        }
    }

    /// What it shall hand over as integers, if that is all it does.
    fn call(&self) -> Option<Width> {
        match self {
            Self::Call(width) => Some(*width),
            _ => None,
        }
    }
}

/// A subgraph that is converted, and what becomes of its operators.
struct Part {
    number: usize,
    settings: Vec<Settings>,
    verdicts: Vec<Verdict>,
}

/// Turns the float `model` into what `recipe` says, with the parameters that `statistics` suggest.
pub fn quantize(
    model: &Model,
    statistics: &Statistics,
    recipe: &Recipe,
) -> Result<(Model, Report), ConvertError> {
    let (model, report, _) = quantize_linked(model, statistics, recipe)?;
    Ok((model, report))
}

/// The same, and where operators that compute in integers went.
pub(crate) fn quantize_linked(
    model: &Model,
    statistics: &Statistics,
    recipe: &Recipe,
) -> Result<(Model, Report, Vec<Link>), ConvertError> {
    let reachable = model.reachable(recipe.subgraph);
    if !recipe.is_float() {
        refuse_quantized(model, &reachable, recipe)?;
    }
    let original = model;
    let model = &*with_intermediates(original);
    // What the samples do not reach can only become what needs none.
    let numbers = match recipe.needs_samples() {
        true => reachable,
        false => (0..model.subgraphs.len()).collect(),
    };
    let mut float = model.clone();
    for &number in &numbers {
        let subgraph = &mut float.subgraphs[number];
        let settings = recipe.settings(number, subgraph);
        let mut schemes = settings.iter().map(|s| s.scheme);
        if schemes.any(|scheme| !matches!(scheme, Scheme::Float | Scheme::Float16)) {
            import::widen_halves(subgraph);
        }
        import::add_biases(subgraph);
    }
    let ranges = ranges(&float, &numbers, statistics, recipe)?;
    let mut report = Report {
        warnings: warnings(&float, &numbers, &ranges, recipe),
        ..Report::default()
    };
    let judge_all = |&number: &usize| (number, judge(&float, number, &ranges, recipe));
    let parts: HashMap<usize, Part> = numbers.iter().map(judge_all).collect();
    let boundary = Boundary::new(&float, &numbers, &parts, &ranges);
    for number in &numbers {
        report.count(&float, &parts[number], &boundary);
    }
    if recipe.mode.is_strict() && !report.kept_float.is_empty() {
        return Err(ConvertError::Float {
            dtype: Width::for_scheme(recipe.mode.scheme()).map_or(DType::F32, Width::dtype),
            floats: report.kept_float,
        });
    }

    let params = |&number: &usize| {
        let of = |width: Width| ranges[width as usize].subgraph(number);
        let verdicts = &parts[&number].verdicts;
        (number, Params::new(&float.subgraphs[number], verdicts, of))
    };
    let mut params: HashMap<usize, Params> = numbers.iter().map(params).collect();
    boundary.share(&mut params, |number, params| {
        let (graph, verdicts) = (&float.subgraphs[number], &parts[&number].verdicts);
        let widened = params.widen_for_weights(graph, verdicts);
        recipe.coarse_products && params.widen_for_products(graph, verdicts) || widened
    });
    let mut converted = original.clone();
    let mut links = Vec::new();
    for &number in &numbers {
        let graph = &with_own_intermediates(
            &float.subgraphs[number],
            &original.subgraphs[number],
            &parts[&number].verdicts,
        );
        let ends = (number != recipe.subgraph).then(|| boundary.ends(number, &params));
        let calls = boundary.calls(number, &params);
        let rewriter = Rewriter::new(
            graph,
            &parts[&number],
            &params[&number],
            recipe,
            ends,
            calls,
        );
        let (rewritten, notes) = rewriter.rewrite();
        converted.subgraphs[number] = rewritten;
        report.warnings.extend(notes.warnings);
        report.gains.extend(notes.gains);
        links.extend(notes.links);
    }
    if recipe.needs_samples() && model.signatures.is_empty() {
        let nameless = "the model has no signature: callers find inputs and outputs by position";
        report.warnings.push(nameless.into());
    }
    converted.remove_unused_tensors();
    if report.quantized == 0 && recipe.default_settings().scheme != Scheme::Float {
        let nothing = "nothing of the model can become what was asked for; it is as it was";
        report.warnings.push(nothing.into());
    }
    report.subgraphs = numbers;
    Ok((converted, report, links))
}

fn refuse_quantized(
    model: &Model,
    reachable: &[usize],
    recipe: &Recipe,
) -> Result<(), ConvertError> {
    if reachable.is_empty() {
        let number = recipe.subgraph;
        return Err(ConvertError::Nothing(format!(
            "the model has no subgraph {number}"
        )));
    }
    let is_quantized = |t: &&bantam_model::Tensor| {
        matches!(t.dtype, DType::I8 | DType::U8 | DType::I16)
            && t.quantization.as_ref().is_some_and(|q| !q.scale.is_empty())
    };
    let mut tensors = reachable.iter().flat_map(|&n| &model.subgraphs[n].tensors);
    match tensors.find(is_quantized) {
        Some(tensor) => Err(ConvertError::Nothing(format!(
            "the model is quantized already: tensor {:?} is {} with a scale",
            tensor.name, tensor.dtype
        ))),
        None => Ok(()),
    }
}

/// The ranges in each width that operators of the subgraphs `numbers`, inputs or outputs have.
fn ranges(
    model: &Model,
    numbers: &[usize],
    statistics: &Statistics,
    recipe: &Recipe,
) -> Result<[Ranges; 2], ConvertError> {
    let find = |width: Width| match is_used(width, model, numbers, recipe) {
        true => statistics.ranges(model, recipe, width.levels()),
        false => Ok(Ranges::default()),
    };
    Ok([find(Width::Int8)?, find(Width::Int16)?])
}

fn is_used(width: Width, model: &Model, numbers: &[usize], recipe: &Recipe) -> bool {
    let settings = |&n: &usize| recipe.settings(n, &model.subgraphs[n]);
    let mut settings = numbers.iter().flat_map(settings);
    settings.any(|s| Width::for_scheme(s.scheme) == Some(width)) || width.is_edge(recipe)
}

/// What is odd about the recipe and the subgraphs `numbers`.
fn warnings(
    model: &Model,
    numbers: &[usize],
    ranges: &[Ranges; 2],
    recipe: &Recipe,
) -> Vec<String> {
    let mut warnings = recipe.idle(model, numbers);
    if is_used(Width::Int8, model, numbers, recipe) {
        if let Some(&entry) = numbers.first() {
            warnings.extend(traps::inputs(&model.subgraphs[entry]));
        }
        for &number in numbers {
            let ranges = ranges[Width::Int8 as usize].subgraph(number);
            warnings.extend(traps::concatenations(
                number,
                &model.subgraphs[number],
                ranges,
            ));
        }
    }
    let entered = |s: &&SignatureDef| !numbers.contains(&(s.subgraph as usize));
    let left = model.signatures.iter().filter(entered).map(|s| {
        format!(
            "signature {:?} enters subgraph {}, which stays as it is: the samples are for subgraph {}",
            s.key, s.subgraph, recipe.subgraph
        )
    });
    warnings.extend(left);
    warnings
}

fn judge(model: &Model, number: usize, ranges: &[Ranges; 2], recipe: &Recipe) -> Part {
    let subgraph = &model.subgraphs[number];
    let settings = recipe.settings(number, subgraph);
    let nodes = subgraph.nodes.iter().zip(&settings);
    let verdicts = nodes.map(
        |(node, settings)| match Width::for_scheme(settings.scheme) {
            Some(width) => {
                let ranges = ranges[width as usize].subgraph(number);
                judge_integer(subgraph, node, width, ranges)
            }
            None => judge_float(subgraph, node, settings, recipe),
        },
    );
    Part {
        number,
        verdicts: verdicts.collect(),
        settings,
    }
}

impl Report {
    /// Adds the operators of a subgraph.
    fn count(&mut self, model: &Model, part: &Part, boundary: &Boundary) {
        let subgraph = &model.subgraphs[part.number];
        for (index, (node, verdict)) in subgraph.nodes.iter().zip(&part.verdicts).enumerate() {
            self.ops += usize::from(!matches!(verdict, Verdict::Superfluous));
            let reason = match verdict {
                Verdict::Untouched | Verdict::Superfluous => continue,
                Verdict::Integer(..) | Verdict::Weights(_) | Verdict::Half => None,
                Verdict::Float(reason) => Some(reason.clone()),
                Verdict::Call(_) => boundary.obstacle(part.number, node),
            };
            let Some(reason) = reason else {
                self.quantized += 1;
                continue;
            };
            let output = node.outputs.first();
            self.kept_float.push(KeptFloat {
                subgraph: part.number,
                index,
                op: node.op.to_string(),
                name: output.map_or_else(String::new, |&o| subgraph[o].name.clone()),
                reason,
            });
        }
    }
}

/// The subgraph, whose operators that do not become integer have the intermediates of the `original` again.
fn with_own_intermediates(
    subgraph: &Subgraph,
    original: &Subgraph,
    verdicts: &[Verdict],
) -> Subgraph {
    let mut subgraph = subgraph.clone();
    let nodes = subgraph.nodes.iter_mut().zip(&original.nodes);
    for ((node, original), verdict) in nodes.zip(verdicts) {
        if !matches!(verdict, Verdict::Integer(..)) {
            node.intermediates.clone_from(&original.intermediates);
        }
    }
    subgraph
}

/// Whether `node` computes or reads float32, and what it computes is not a constant.
fn without_float_data(subgraph: &Subgraph, node: &Node) -> Option<Verdict> {
    if import::is_superfluous(subgraph, node) {
        return Some(Verdict::Superfluous);
    }
    let mut tensors = node.inputs.iter().flatten().chain(&node.outputs);
    let has_float = tensors.any(|&id| subgraph[id].dtype == DType::F32);
    (!has_float).then_some(Verdict::Untouched)
}

/// Judges an operator that shall compute in integers.
fn judge_integer(
    subgraph: &Subgraph,
    node: &Node,
    width: Width,
    ranges: &SubgraphRanges,
) -> Verdict {
    if let Some(verdict) = without_float_data(subgraph, node) {
        return verdict;
    }
    if !node.op.bodies().is_empty() {
        return Verdict::Call(width);
    }
    let operator = node.op.operator().ok();
    if operator.is_some_and(|operator| operator.memory().is_some()) {
        return Verdict::Call(width);
    }
    let Some((operator, rule)) = operator.and_then(|o| Some((o, width.rule(o)?))) else {
        return Verdict::Float(match width {
            Width::Int8 => "there is no integer kernel for it".into(),
            Width::Int16 => "there is no int16 kernel for it".into(),
        });
    };
    if let Some(reason) = operator.quant_obstacle(&|index| node.input(index).is_some()) {
        return Verdict::Float(reason.into());
    }
    match obstacle(subgraph, node, &rule, ranges) {
        Some(reason) => Verdict::Float(reason),
        None => Verdict::Integer(rule, width),
    }
}

/// Judges an operator that shall compute in float.
fn judge_float(subgraph: &Subgraph, node: &Node, settings: &Settings, recipe: &Recipe) -> Verdict {
    if let Some(verdict) = without_float_data(subgraph, node) {
        return verdict;
    }
    match settings.scheme {
        Scheme::Float16 => {
            let mut inputs = node.inputs.iter().flatten();
            match inputs.any(|&id| is_float_constant(subgraph, id)) {
                true => Verdict::Half,
                false => Verdict::Untouched,
            }
        }
        Scheme::DynamicRange | Scheme::WeightOnly => judge_weights(subgraph, node, settings),
        _ if recipe.is_float() => Verdict::Untouched,
        _ => Verdict::Float("the recipe leaves it float".into()),
    }
}

fn judge_weights(subgraph: &Subgraph, node: &Node, settings: &Settings) -> Verdict {
    let Some(weights) = Weights::of(&node.op) else {
        return Verdict::Untouched;
    };
    let operands: Vec<TensorId> = weights.given(node).map(|(_, id)| id).collect();
    if operands.is_empty() || !operands.iter().all(|&id| is_float_constant(subgraph, id)) {
        return Verdict::Untouched;
    }
    for id in operands {
        let tensor = &subgraph[id];
        let values = constants::values(tensor);
        if values.len() < settings.min_elements.max(1) {
            return Verdict::Float(format!(
                "{:?} has {} elements, fewer than {}",
                tensor.name,
                values.len(),
                settings.min_elements
            ));
        }
        if !values.iter().all(|v| v.is_finite()) {
            return Verdict::Float(format!("{:?} holds NaN or infinity", tensor.name));
        }
    }
    Verdict::Weights(weights)
}

/// Whether the tensor is a constant of float32 that can be made smaller.
fn is_float_constant(subgraph: &Subgraph, id: TensorId) -> bool {
    let tensor = &subgraph[id];
    let visible = subgraph.outputs.contains(&id) || subgraph.inputs.contains(&id);
    tensor.is_constant() && tensor.dtype == DType::F32 && tensor.sparsity.is_none() && !visible
}

/// Why `rule` cannot be applied to `node`, if it cannot.
fn obstacle(
    subgraph: &Subgraph,
    node: &Node,
    rule: &QuantRule,
    ranges: &SubgraphRanges,
) -> Option<String> {
    let unusable = |id: TensorId| {
        let tensor = &subgraph[id];
        if tensor.is_variable {
            return Some(format!("{:?} is a variable", tensor.name));
        }
        unreadable(tensor)
    };
    let unusable_state = |id: TensorId| {
        let tensor = &subgraph[id];
        let readers = subgraph
            .nodes
            .iter()
            .flat_map(|n| n.inputs.iter().flatten());
        let writers = subgraph.nodes.iter().flat_map(|n| &n.outputs);
        let uses = readers.chain(writers).filter(|&&other| other == id).count();
        if !tensor.is_variable || uses != 1 {
            return Some(format!(
                "{:?} is not a variable of this operator alone",
                tensor.name
            ));
        }
        unreadable(tensor)
    };
    let unseen = |id: TensorId| {
        let empty = ranges.get(id).is_empty();
        empty.then(|| {
            format!(
                "no finite value of {:?} was seen in calibration",
                subgraph[id].name
            )
        })
    };
    for (index, input) in node.inputs.iter().enumerate() {
        let Some(id) = *input else { continue };
        let reason = match rule.role(index) {
            Role::Plain => None,
            Role::Activation => unusable(id).or_else(|| unseen(id)),
            Role::State { .. } => unusable_state(id),
            Role::WideState => unusable_state(id).or_else(|| unseen(id)),
            Role::CellState { intermediate } => {
                let seen = node.intermediates.get(intermediate).copied();
                unusable_state(id).or_else(|| unseen(seen.unwrap_or(id)))
            }
            Role::DistinctPlaces => meeting_places(&subgraph[id]),
            _ if !subgraph[id].is_constant() => {
                Some(format!("{:?} is not a constant", subgraph[id].name))
            }
            Role::Weights { .. }
            | Role::WideWeights { .. }
            | Role::Bias { .. }
            | Role::NormBias { .. }
            | Role::HiddenBias { .. } => {
                let finite = || {
                    constants::values(&subgraph[id])
                        .iter()
                        .all(|v| v.is_finite())
                };
                unusable(id).or_else(|| {
                    (!finite()).then(|| format!("{:?} holds NaN or infinity", subgraph[id].name))
                })
            }
        };
        if reason.is_some() {
            return reason;
        }
    }
    let intermediates = node.op.operator().map(|o| o.quant_intermediates());
    let kinds = intermediates.unwrap_or_default();
    for (kind, &id) in kinds.iter().zip(&node.intermediates) {
        if let Intermediate::Hidden { projection, .. } = *kind
            && let Some(reason) = node.input(projection).and_then(|_| unseen(id))
        {
            return Some(reason);
        }
    }
    match rule.results {
        Results::Plain => None,
        _ => node
            .outputs
            .iter()
            .filter(|id| subgraph[**id].dtype == DType::F32)
            .find_map(|&id| unusable(id).or_else(|| unseen(id))),
    }
}

/// Why the places at which `indices` point, along their last dimension, may not all differ.
fn meeting_places(indices: &Tensor) -> Option<String> {
    let Some(data) = &indices.data else {
        return Some(format!(
            "{:?} is not a constant, and int8 that meet in one place would wrap",
            indices.name
        ));
    };
    let axes = indices.shape.last().copied().unwrap_or(1).max(1);
    let mut seen = HashSet::new();
    let mut places = data.chunks(axes * indices.dtype.size().unwrap_or(1));
    let twice = !places.all(|place| seen.insert(place));
    twice.then(|| {
        format!(
            "{:?} names a place twice, where int8 would wrap",
            indices.name
        )
    })
}

fn unreadable(tensor: &Tensor) -> Option<String> {
    if tensor.sparsity.is_some() {
        return Some(format!("{:?} is sparse", tensor.name));
    }
    if tensor.dtype != DType::F32 {
        return Some(format!("{:?} is {}", tensor.name, tensor.dtype));
    }
    None
}

/// The operands of `node` that are activations under `rule`.
fn activations<'a>(node: &'a Node, rule: &'a QuantRule) -> impl Iterator<Item = TensorId> + 'a {
    let inputs = node.inputs.iter().enumerate();
    inputs
        .filter(|(i, _)| rule.role(*i) == Role::Activation)
        .filter_map(|(_, id)| *id)
}
