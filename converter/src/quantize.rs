//! Applies each operator's quantization rule to the graph.
//!
//! First every operator is judged: integer, or float with a reason (`judge`). Then tensors that
//! must share parameters are grouped and each group gets a scale and zero point (`Params`). Last
//! the graph is rewritten in order of execution (`Rewriter`): operators read integer or float
//! versions of their operands, and QUANTIZE and DEQUANTIZE stand where one must become the other.

mod constants;
mod params;
mod rewrite;

use bantam_model::ops::{QuantRule, Results, Role};
use bantam_model::{DType, Model, Node, Subgraph, TensorId};

use crate::calibrate::{Ranges, SubgraphRanges};
use crate::error::{ConvertError, KeptFloat};
use crate::recipe::{IoType, Mode, Recipe};
use params::Params;
use rewrite::Rewriter;

/// What a conversion did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Operators of the float model.
    pub ops: usize,
    /// Of these, how many compute in integers now.
    pub quantized: usize,
    /// Those with float data that stay float.
    pub kept_float: Vec<KeptFloat>,
    /// What the user should know and may not expect.
    pub warnings: Vec<String>,
}

/// What becomes of one operator.
#[derive(Debug, Clone)]
enum Verdict {
    /// It computes in integers.
    Integer(QuantRule),
    /// It computes in float, for this reason.
    Float(String),
    /// It has no float data.
    Untouched,
}

/// Turns the float `model` into an int8 one with the parameters that `ranges` suggest.
pub fn quantize(
    model: &Model,
    ranges: &Ranges,
    recipe: &Recipe,
) -> Result<(Model, Report), ConvertError> {
    let ranges = ranges.subgraph(0);
    let Some(subgraph) = model.subgraphs.first() else {
        return Err(ConvertError::Nothing("the model has no subgraph".into()));
    };
    if let Some(tensor) = subgraph.tensors.iter().find(|t| {
        matches!(t.dtype, DType::I8 | DType::U8 | DType::I16)
            && t.quantization.as_ref().is_some_and(|q| !q.scale.is_empty())
    }) {
        return Err(ConvertError::Nothing(format!(
            "the model is quantized already: tensor {:?} is {} with a scale",
            tensor.name, tensor.dtype
        )));
    }
    let verdicts: Vec<Verdict> = subgraph
        .nodes
        .iter()
        .map(|n| judge(subgraph, n, ranges))
        .collect();
    let kept_float: Vec<KeptFloat> = subgraph
        .nodes
        .iter()
        .zip(&verdicts)
        .enumerate()
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
    if recipe.mode == Mode::Int8Only && !kept_float.is_empty() {
        return Err(ConvertError::Float { floats: kept_float });
    }
    let quantized = verdicts
        .iter()
        .filter(|v| matches!(v, Verdict::Integer(_)))
        .count();
    let mut warnings = Vec::new();
    if quantized == 0 {
        warnings.push("no operator of the model can be integer; nothing was quantized".into());
    }
    let params = Params::new(subgraph, &verdicts, ranges);
    let mut converted = model.clone();
    converted.subgraphs[0] = Rewriter::new(subgraph, &verdicts, &params, recipe).rewrite();
    converted.remove_unused_tensors();
    let report = Report {
        ops: subgraph.nodes.len(),
        quantized,
        kept_float,
        warnings,
    };
    Ok((converted, report))
}

fn judge(subgraph: &Subgraph, node: &Node, ranges: &SubgraphRanges) -> Verdict {
    let is_float = |id: &TensorId| subgraph[*id].dtype == DType::F32;
    if !node
        .inputs
        .iter()
        .flatten()
        .chain(&node.outputs)
        .any(is_float)
    {
        return Verdict::Untouched;
    }
    let rule = match node.op.operator() {
        Ok(operator) => operator.quant_rule(),
        Err(_) => None,
    };
    let Some(rule) = rule else {
        return Verdict::Float("there is no integer kernel for it".into());
    };
    match obstacle(subgraph, node, &rule, ranges) {
        Some(reason) => Verdict::Float(reason),
        None => Verdict::Integer(rule),
    }
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
        if tensor.sparsity.is_some() {
            return Some(format!("{:?} is sparse", tensor.name));
        }
        if tensor.is_variable {
            return Some(format!("{:?} is a variable", tensor.name));
        }
        if tensor.dtype != DType::F32 {
            return Some(format!("{:?} is {}", tensor.name, tensor.dtype));
        }
        None
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
            Role::Weights { .. } | Role::Bias { .. } if !subgraph[id].is_constant() => {
                Some(format!("{:?} is not a constant", subgraph[id].name))
            }
            Role::Weights { .. } | Role::Bias { .. } => {
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
    match rule.results {
        Results::Plain => None,
        _ => node
            .outputs
            .iter()
            .find_map(|&id| unusable(id).or_else(|| unseen(id))),
    }
}

/// The operands of `node` that are activations under `rule`.
fn activations<'a>(node: &'a Node, rule: &'a QuantRule) -> impl Iterator<Item = TensorId> + 'a {
    let inputs = node.inputs.iter().enumerate();
    inputs
        .filter(|(i, _)| rule.role(*i) == Role::Activation)
        .filter_map(|(_, id)| *id)
}
