//! Applies each operator's quantization rule to the graph.
//!
//! First every operator is judged: integer, or float with a reason (`judge`). Then tensors that
//! must share parameters are grouped and each group gets a scale and zero point (`Params`). Last
//! the graph is rewritten in order of execution (`Rewriter`): operators read integer or float
//! versions of their operands, and QUANTIZE and DEQUANTIZE stand where one must become the other.
//! Subgraphs that operators run are treated alike; what is handed to and from them is integer or
//! float on both sides (`Boundary`).

mod boundary;
mod constants;
mod params;
mod rewrite;

use std::collections::HashMap;

use bantam_model::ops::{QuantRule, Results, Role};
use bantam_model::{DType, Model, Node, SignatureDef, Subgraph, TensorId};

use crate::calibrate::{Ranges, SubgraphRanges, reachable};
use crate::error::{ConvertError, KeptFloat};
use crate::recipe::{IoType, Mode, Recipe};
use boundary::Boundary;
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
    /// It runs subgraphs and hands them integers or floats.
    Call,
    /// It has no float data.
    Untouched,
}

/// Turns the float `model` into an int8 one with the parameters that `ranges` suggest.
pub fn quantize(
    model: &Model,
    ranges: &Ranges,
    recipe: &Recipe,
) -> Result<(Model, Report), ConvertError> {
    let reachable = reachable(model, recipe.subgraph);
    if reachable.is_empty() {
        return Err(ConvertError::Nothing(format!(
            "the model has no subgraph {}",
            recipe.subgraph
        )));
    }
    for subgraph in reachable.iter().map(|&s| &model.subgraphs[s]) {
        refuse_quantized(subgraph)?;
    }
    let judge_all = |&subgraph: &usize| {
        let (graph, ranges) = (&model.subgraphs[subgraph], ranges.subgraph(subgraph));
        let verdicts = graph.nodes.iter().map(|n| judge(graph, n, ranges));
        (subgraph, verdicts.collect())
    };
    let verdicts: HashMap<usize, Vec<Verdict>> = reachable.iter().map(judge_all).collect();
    let boundary = Boundary::new(model, &reachable, &verdicts, ranges);

    let mut report = Report::default();
    for &subgraph in &reachable {
        let graph = &model.subgraphs[subgraph];
        for (index, (node, verdict)) in graph.nodes.iter().zip(&verdicts[&subgraph]).enumerate() {
            report.ops += 1;
            let reason = match verdict {
                Verdict::Untouched => continue,
                Verdict::Integer(_) => None,
                Verdict::Float(reason) => Some(reason.clone()),
                Verdict::Call => boundary.obstacle(graph, node),
            };
            match reason {
                None => report.quantized += 1,
                Some(reason) => report.kept_float.push(KeptFloat {
                    subgraph,
                    index,
                    op: node.op.to_string(),
                    name: node
                        .outputs
                        .first()
                        .map_or_else(String::new, |&o| graph[o].name.clone()),
                    reason,
                }),
            }
        }
    }
    if recipe.mode == Mode::Int8Only && !report.kept_float.is_empty() {
        return Err(ConvertError::Float {
            floats: report.kept_float,
        });
    }
    if report.quantized == 0 {
        let nothing = "no operator of the model can be integer; nothing was quantized";
        report.warnings.push(nothing.into());
    }
    report.warnings.extend(not_converted(model, &reachable));

    let params = |&subgraph: &usize| {
        let graph = &model.subgraphs[subgraph];
        let params = Params::new(graph, &verdicts[&subgraph], ranges.subgraph(subgraph));
        (subgraph, params)
    };
    let mut params: HashMap<usize, Params> = reachable.iter().map(params).collect();
    boundary.share(&mut params);
    let mut converted = model.clone();
    for &subgraph in &reachable {
        let graph = &model.subgraphs[subgraph];
        let ends = (subgraph != recipe.subgraph).then(|| boundary.ends(subgraph, &params));
        let calls = boundary.calls(subgraph, &params);
        let (verdicts, params) = (&verdicts[&subgraph], &params[&subgraph]);
        converted.subgraphs[subgraph] =
            Rewriter::new(graph, verdicts, params, recipe, ends, calls).rewrite();
    }
    converted.remove_unused_tensors();
    Ok((converted, report))
}

fn refuse_quantized(subgraph: &Subgraph) -> Result<(), ConvertError> {
    let quantized = subgraph.tensors.iter().find(|t| {
        matches!(t.dtype, DType::I8 | DType::U8 | DType::I16)
            && t.quantization.as_ref().is_some_and(|q| !q.scale.is_empty())
    });
    match quantized {
        None => Ok(()),
        Some(tensor) => Err(ConvertError::Nothing(format!(
            "the model is quantized already: tensor {:?} is {} with a scale",
            tensor.name, tensor.dtype
        ))),
    }
}

/// A warning for each signature that enters a subgraph which the samples do not reach.
fn not_converted(model: &Model, reachable: &[usize]) -> Vec<String> {
    let entered = |s: &&SignatureDef| !reachable.contains(&(s.subgraph as usize));
    let warning = |s: &SignatureDef| {
        format!(
            "signature {:?} enters subgraph {}, which stays as it is: the samples are for subgraph {}",
            s.key, s.subgraph, reachable[0]
        )
    };
    model
        .signatures
        .iter()
        .filter(entered)
        .map(warning)
        .collect()
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
    if !node.op.bodies().is_empty() {
        return Verdict::Call;
    }
    let rule = match node.op.operator() {
        Ok(operator) if operator.memory().is_some() => {
            return Verdict::Float("variables stay float".into());
        }
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
