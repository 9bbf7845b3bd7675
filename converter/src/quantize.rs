//! Applies each operator's quantization rule to the graph.
//!
//! First every operator is judged: integer, float with small weights, or float with a reason
//! (`judge`). Then tensors that must share parameters are grouped and each group gets a scale and
//! zero point (`Params`). Last the graph is rewritten in order of execution (`Rewriter`):
//! operators read integer or float versions of their operands, and QUANTIZE and DEQUANTIZE stand
//! where one must become the other.

mod constants;
mod encoding;
mod import;
mod intermediates;
mod params;
mod rewrite;
mod weights;

use bantam_model::ops::{Intermediate, QuantRule, Results, Role};
use bantam_model::{DType, Model, Node, Subgraph, Tensor, TensorId};

use crate::calibrate::{Ranges, Statistics, tensor_settings};
use crate::error::{ConvertError, KeptFloat};
use crate::recipe::{Recipe, Scheme, Settings};
use crate::traps;
pub(crate) use constants::{Channels, values, weight_error};
use encoding::Width;
pub(crate) use intermediates::with_intermediates;
use params::Params;
use rewrite::{Notes, Rewriter};
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
    /// What options of the recipe gained.
    pub gains: Vec<Gain>,
    /// What the user should know and may not expect.
    pub warnings: Vec<String>,
}

/// What an option of the recipe gained for one operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Gain {
    /// The operator's place in the float model.
    pub index: usize,
    /// The name of its weights.
    pub name: String,
    /// The option, as recipes spell it.
    pub option: &'static str,
    /// The squared error of the weights (relative to their squares, and with one scale for all, for
    /// `equalize`), as a part of what it would be without the option.
    pub ratio: f64,
}

/// What becomes of one operator.
#[derive(Debug, Clone)]
enum Verdict {
    /// It computes in integers.
    Integer(QuantRule, Width),
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
}

/// Turns the float `model` into what `recipe` says, with the parameters that `statistics` suggest.
pub fn quantize(
    model: &Model,
    statistics: &Statistics,
    recipe: &Recipe,
) -> Result<(Model, Report), ConvertError> {
    if !recipe.is_float() {
        refuse_quantized(model)?;
    }
    let original = model;
    let model = &*with_intermediates(original);
    let mut float = model.clone();
    let mut report = Report::default();
    let mut converted = Vec::new();
    for (number, subgraph) in float.subgraphs.iter_mut().enumerate() {
        let (mut settings, warnings) = recipe.settings(subgraph);
        if number == 0 {
            report.warnings.extend(warnings);
        } else {
            // Bodies of control flow are not calibrated.
            let uncalibrated = settings.iter_mut().filter(|s| s.scheme.is_integer());
            uncalibrated.for_each(|s| s.scheme = Scheme::Float);
        }
        if settings
            .iter()
            .any(|s| !matches!(s.scheme, Scheme::Float | Scheme::Float16))
        {
            import::widen_halves(subgraph);
        }
        import::add_biases(subgraph);
        let rewritten = if number == 0 {
            let original = &original.subgraphs[0];
            main_subgraph(
                subgraph,
                original,
                &settings,
                statistics,
                recipe,
                &mut report,
            )?
        } else {
            body(subgraph, &settings, recipe, &mut report)
        };
        converted.push(rewritten);
    }
    if recipe.needs_samples() && model.signatures.is_empty() {
        let nameless = "the model has no signature: callers find inputs and outputs by position";
        report.warnings.push(nameless.into());
    }
    float.subgraphs = converted;
    float.remove_unused_tensors();
    if report.quantized == 0 && recipe.default_settings().scheme != Scheme::Float {
        let nothing = "nothing of the model can become what was asked for; it is as it was";
        report.warnings.push(nothing.into());
    }
    Ok((float, report))
}

fn refuse_quantized(model: &Model) -> Result<(), ConvertError> {
    let Some(subgraph) = model.subgraphs.first() else {
        return Err(ConvertError::Nothing("the model has no subgraph".into()));
    };
    let is_quantized = |t: &&bantam_model::Tensor| {
        matches!(t.dtype, DType::I8 | DType::U8 | DType::I16)
            && t.quantization.as_ref().is_some_and(|q| !q.scale.is_empty())
    };
    match subgraph.tensors.iter().find(is_quantized) {
        Some(tensor) => Err(ConvertError::Nothing(format!(
            "the model is quantized already: tensor {:?} is {} with a scale",
            tensor.name, tensor.dtype
        ))),
        None => Ok(()),
    }
}

/// Quantizes the subgraph that runs: `original` with the intermediates that integer operators need.
fn main_subgraph(
    subgraph: &Subgraph,
    original: &Subgraph,
    settings: &[Settings],
    statistics: &Statistics,
    recipe: &Recipe,
    report: &mut Report,
) -> Result<Subgraph, ConvertError> {
    let tensor_settings = tensor_settings(subgraph, recipe);
    let is_used = |width: Width| {
        let mut schemes = settings.iter().map(|s| Width::for_scheme(s.scheme));
        schemes.any(|found| found == Some(width)) || width.is_edge(recipe)
    };
    let find = |width: Width| match is_used(width) {
        true => statistics.ranges(subgraph, &tensor_settings, width.levels()),
        false => Ok(Ranges::NONE),
    };
    let ranges = [find(Width::Int8)?, find(Width::Int16)?];
    let of = |width: Width| &ranges[width as usize];
    if is_used(Width::Int8) {
        report
            .warnings
            .extend(traps::graph(subgraph, of(Width::Int8)));
    }
    let nodes = subgraph.nodes.iter().zip(settings);
    let verdicts: Vec<Verdict> = nodes
        .map(
            |(node, settings)| match Width::for_scheme(settings.scheme) {
                Some(width) => judge_integer(subgraph, node, width, of(width)),
                None => judge_float(subgraph, node, settings, recipe),
            },
        )
        .collect();
    let kept_float: Vec<KeptFloat> = (0..)
        .zip(subgraph.nodes.iter().zip(&verdicts))
        .filter_map(|(index, (node, verdict))| match verdict {
            Verdict::Float(reason) => Some(KeptFloat {
                index,
                op: node.op.to_string(),
                name: node
                    .outputs
                    .first()
                    .map_or_else(String::new, |&o| subgraph[o].name.clone()),
                reason: reason.clone(),
            }),
            _ => None,
        })
        .collect();
    if recipe.mode.is_strict() && !kept_float.is_empty() {
        return Err(ConvertError::Float {
            dtype: Width::for_scheme(recipe.mode.scheme()).map_or(DType::F32, Width::dtype),
            floats: kept_float,
        });
    }
    report.kept_float = kept_float;
    let params = Params::new(subgraph, &verdicts, of);
    let mut float = subgraph.clone();
    let nodes = float.nodes.iter_mut().zip(&original.nodes);
    for ((node, original), verdict) in nodes.zip(&verdicts) {
        if !matches!(verdict, Verdict::Integer(..)) {
            node.intermediates.clone_from(&original.intermediates);
        }
    }
    let rewriter = Rewriter::new(&float, &verdicts, settings, &params, recipe);
    Ok(finish(rewriter.rewrite(), &verdicts, report))
}

/// Makes the constants of a body of control flow smaller.
fn body(
    subgraph: &Subgraph,
    settings: &[Settings],
    recipe: &Recipe,
    report: &mut Report,
) -> Subgraph {
    let nodes = subgraph.nodes.iter().zip(settings);
    let verdicts: Vec<Verdict> = nodes
        .map(|(n, s)| judge_float(subgraph, n, s, recipe))
        .collect();
    let ranges = Ranges::NONE;
    let params = Params::new(subgraph, &verdicts, |_| &ranges);
    let rewriter = Rewriter::new(subgraph, &verdicts, settings, &params, recipe);
    finish(rewriter.rewrite_operators(), &verdicts, report)
}

fn finish(
    (rewritten, notes): (Subgraph, Notes),
    verdicts: &[Verdict],
    report: &mut Report,
) -> Subgraph {
    for verdict in verdicts {
        use Verdict::{Half, Integer, Superfluous, Weights};
        report.ops += usize::from(!matches!(verdict, Superfluous));
        report.quantized += usize::from(matches!(verdict, Integer(..) | Weights(_) | Half));
    }
    report.warnings.extend(notes.warnings);
    report.gains.extend(notes.gains);
    rewritten
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
fn judge_integer(subgraph: &Subgraph, node: &Node, width: Width, ranges: &Ranges) -> Verdict {
    if let Some(verdict) = without_float_data(subgraph, node) {
        return verdict;
    }
    let operator = node.op.operator().ok();
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
fn obstacle(subgraph: &Subgraph, node: &Node, rule: &QuantRule, ranges: &Ranges) -> Option<String> {
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
