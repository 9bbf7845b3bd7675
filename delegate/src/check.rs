//! What a target does with a model, before any compiler or device is asked: each operator's verdict,
//! the partitions that follow from them, why a supported operator is in none, and the memory that
//! the partitions need.

use bantam_model::target::{MIN_OPS, Measure, ONE_PARTITION, Target, Verdict, Which};
use bantam_model::{Model, NodeId, Op, Subgraph, TensorId};

use crate::partition::{Partition, partition};

/// What a target does with one subgraph.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// One an operator, in order of execution.
    pub ops: Vec<CheckedOp>,
    /// What is offloaded.
    pub partitions: Vec<Partition>,
    /// What the offloaded operators need, where the target's memory is known and a partition there is.
    pub memory: Option<MemoryUse>,
}

/// What a target does with one operator.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedOp {
    /// The version that its file names.
    pub version: i32,
    /// Whether the target takes it.
    pub verdict: Verdict,
    /// The partition that it is in; none for an operator on the CPU.
    pub partition: Option<usize>,
    /// Why it is on the CPU.
    pub reason: Option<Reason>,
}

/// Why an operator is on the CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The id of a rule; none where nothing is known.
    pub rule: Option<String>,
    /// One sentence.
    pub text: String,
    /// What was measured.
    pub measured: Option<Measure>,
    /// What the rule allows.
    pub limit: Option<Measure>,
    /// Where the rule is documented or was seen.
    pub evidence: Option<String>,
    /// Whether the rule was learned and is not documented.
    pub is_inferred: bool,
}

/// The memory of a chip and what partitions need of it, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryUse {
    /// Weights and biases of the partitions, as they are in the file.
    pub parameters: u64,
    /// The least and the most that they become on the chip.
    pub on_chip: [u64; 2],
    /// What the chip keeps from run to run.
    pub cache: u64,
    /// The least and the most that is sent for every run.
    pub streamed: [u64; 2],
    /// Whether the chip can have parameters sent at all.
    pub streams: bool,
    /// The largest sum of an operator's activations.
    pub largest_activations: u64,
    /// The operator that has it.
    pub largest_at: Option<NodeId>,
    /// The activation memory of one tile.
    pub tile: Option<u64>,
}

impl MemoryUse {
    /// Whether the parameters fit; `None` where it depends on how the compiler lays them out.
    pub fn fits(&self) -> Option<bool> {
        match self.streamed {
            [_, 0] => Some(true),
            [0, _] => None,
            _ => Some(false),
        }
    }
}

impl Check {
    /// What `target` does with `model`'s subgraph, whose operators have these `versions` in the file;
    /// one that is missing is the lowest that means what the operator does.
    pub fn new(model: &Model, subgraph: usize, versions: &[i32], target: &Target) -> Self {
        let none = Subgraph::default();
        let graph = model.subgraphs.get(subgraph).unwrap_or(&none);
        let mut ops: Vec<CheckedOp> = Vec::with_capacity(graph.nodes.len());
        for (index, node) in graph.nodes.iter().enumerate() {
            let lowest = || bantam_model::write::version(graph, node);
            let version = versions.get(index).copied().unwrap_or_else(lowest);
            let verdict = target.verdict(graph, node, version);
            ops.push(CheckedOp {
                version,
                reason: reason(&verdict),
                verdict,
                partition: None,
            });
        }
        let takes: Vec<bool> = ops.iter().map(|op| op.verdict.is_supported()).collect();
        let policy = target.policy();
        let partitions = partition(graph, &takes, &policy);
        for (index, partition) in partitions.iter().enumerate() {
            for node in &partition.nodes {
                ops[node.index()].partition = Some(index);
            }
        }
        let culprits = culprits(graph, &ops);
        for (index, culprit) in culprits.into_iter().enumerate() {
            if ops[index].partition.is_none() && ops[index].verdict.is_supported() {
                ops[index].reason = Some(match (policy.which, culprit) {
                    (Which::First, Some(culprit)) => outside(graph, &ops, culprit),
                    _ => too_small(policy.min_ops),
                });
            }
        }
        let memory = memory(graph, target, &partitions);
        Self {
            ops,
            partitions,
            memory,
        }
    }

    /// How many operators are offloaded.
    pub fn mapped(&self) -> usize {
        self.ops.iter().filter(|op| op.partition.is_some()).count()
    }
}

fn reason(verdict: &Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Supported => None,
        Verdict::Unknown(why) => Some(Reason {
            rule: None,
            text: format!("not known: {why}"),
            measured: None,
            limit: None,
            evidence: None,
            is_inferred: false,
        }),
        Verdict::Unsupported(refusal) => Some(Reason {
            rule: Some(refusal.rule.clone()),
            text: refusal.reason.clone(),
            measured: refusal.measured.clone(),
            limit: refusal.limit.clone(),
            evidence: refusal.evidence.clone(),
            is_inferred: refusal.is_inferred,
        }),
    }
}

/// For each operator, the last one that is not supported of those that it depends on.
fn culprits(graph: &Subgraph, ops: &[CheckedOp]) -> Vec<Option<usize>> {
    let producers = graph.producers();
    let mut culprits: Vec<Option<usize>> = vec![None; ops.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        let before = node.inputs.iter().flatten();
        let before = before.filter_map(|id: &TensorId| producers[id.index()]);
        culprits[index] = before
            .map(NodeId::index)
            .filter(|&producer| producer < index)
            .filter_map(|p| {
                if ops[p].verdict.is_supported() {
                    culprits[p]
                } else {
                    Some(p)
                }
            })
            .max();
    }
    culprits
}

fn outside(graph: &Subgraph, ops: &[CheckedOp], culprit: usize) -> Reason {
    let op = &graph.nodes[culprit].op;
    let rule = ops[culprit].reason.as_ref().and_then(|r| r.rule.as_deref());
    let because = rule.map_or(String::new(), |rule| format!(" ({rule})"));
    Reason {
        rule: Some(ONE_PARTITION.to_owned()),
        text: format!(
            "supported, but it depends on operator {culprit}, {op}{because}, and only one partition is compiled"
        ),
        measured: Some(Measure::Text(format!("{op} at {culprit}"))),
        limit: Some(Measure::Number(1)),
        evidence: None,
        is_inferred: false,
    }
}

fn too_small(min_ops: usize) -> Reason {
    Reason {
        rule: Some(MIN_OPS.to_owned()),
        text: format!("supported, but its partition would have fewer than {min_ops} operators"),
        measured: None,
        limit: Some(Measure::Number(i64::try_from(min_ops).unwrap_or(i64::MAX))),
        evidence: None,
        is_inferred: false,
    }
}

fn memory(graph: &Subgraph, target: &Target, partitions: &[Partition]) -> Option<MemoryUse> {
    let memory = target.memory()?;
    let nodes = || partitions.iter().flat_map(|p| &p.nodes);
    if nodes().any(|&id| matches!(graph[id].op, Op::Custom(_))) {
        // What a compiler has made says itself what it needs.
        return None;
    }
    let mut is_counted = vec![false; graph.tensors.len()];
    let (mut parameters, mut largest, mut largest_at) = (0u64, 0u64, None);
    for &id in nodes() {
        let node = &graph[id];
        let mut activations = 0u64;
        let outputs = node.outputs.iter();
        for tensor in node.inputs.iter().flatten().chain(outputs) {
            let (index, tensor) = (tensor.index(), &graph[*tensor]);
            match &tensor.data {
                // Shapes and axes, which have no scale, become part of the instructions.
                Some(data)
                    if tensor
                        .quantization
                        .as_ref()
                        .is_some_and(|q| !q.scale.is_empty()) =>
                {
                    if !std::mem::replace(&mut is_counted[index], true) {
                        parameters += data.len() as u64;
                    }
                }
                Some(_) => {}
                None => {
                    let bytes = tensor.dtype.byte_len(&tensor.shape).unwrap_or(0);
                    activations = activations.saturating_add(bytes as u64);
                }
            }
        }
        if activations > largest {
            (largest, largest_at) = (activations, Some(id));
        }
    }
    largest_at?;
    let [low, high] = memory.parameter_growth;
    let on_chip = [low, high].map(|factor| (parameters as f64 * factor).ceil() as u64);
    Some(MemoryUse {
        parameters,
        on_chip,
        cache: memory.cache_bytes,
        streamed: on_chip.map(|bytes| bytes.saturating_sub(memory.cache_bytes)),
        streams: memory.streams,
        largest_activations: largest,
        largest_at,
        tile: memory.activation_bytes,
    })
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::{Add, ArgMax, Relu};
    use bantam_model::quant::PerTensor;
    use bantam_model::{DType, Node, Tensor};

    use super::*;

    /// `y = relu(x); s = sqrt-like(x); z = y + s`, where the second is not in the table.
    fn diamond() -> Model {
        let mut graph = Subgraph::default();
        let tensor = |name: &str| {
            Tensor::new(name, DType::I8, [1, 8]).quantized(PerTensor::new(1.0, 0).into())
        };
        let ids = ["x", "y", "s", "z"].map(|name| graph.add_tensor(tensor(name)));
        let [x, y, s, z] = ids;
        graph.inputs = vec![x];
        graph.outputs = vec![z];
        graph.nodes = vec![
            Node::new(Relu, &[x], &[y]),
            Node::new(bantam_model::ops::Sqrt, &[x], &[s]),
            Node::new(Add::default(), &[y, s], &[z]),
        ];
        Model {
            subgraphs: vec![graph],
            ..Model::default()
        }
    }

    #[test]
    fn a_supported_operator_behind_a_refused_one_is_told_which() {
        let check = Check::new(&diamond(), 0, &[], Target::named("edgetpu").unwrap());
        let partitions: Vec<_> = check.ops.iter().map(|op| op.partition).collect();
        assert_eq!(partitions, [Some(0), None, None]);
        assert_eq!(check.mapped(), 1);
        let reason = check.ops[2].reason.as_ref().unwrap();
        assert_eq!(reason.rule.as_deref(), Some(ONE_PARTITION));
        assert!(
            reason.text.contains("operator 1, SQRT (not-in-table)"),
            "{}",
            reason.text
        );
        assert!(check.ops[2].verdict.is_supported());
    }

    #[test]
    fn versions_of_the_file_count() {
        let check = Check::new(&diamond(), 0, &[9], Target::named("edgetpu").unwrap());
        let reason = check.ops[0].reason.as_ref().unwrap();
        assert_eq!(reason.rule.as_deref(), Some("version"));
        assert_eq!(check.ops[0].version, 9);
    }

    #[test]
    fn the_cpu_takes_what_it_has_kernels_for() {
        let mut model = diamond();
        let cpu = Target::named("cpu").unwrap();
        assert_eq!(Check::new(&model, 0, &[], cpu).mapped(), 3);
        model.subgraphs[0].nodes[1].op = ArgMax::default().into();
        assert_eq!(Check::new(&model, 7, &[], cpu).ops, []);
    }

    #[test]
    fn parameters_that_may_not_fit_are_a_range() {
        let mut model = diamond();
        let graph = &mut model.subgraphs[0];
        let weights = Tensor::constant("w", DType::I8, [1, 7_000_000], vec![0; 7_000_000]);
        let weights = graph.add_tensor(weights.quantized(PerTensor::new(1.0, 0).into()));
        graph.nodes[0] = Node::new(Add::default(), &[TensorId(0), weights], &[TensorId(1)]);
        let memory = Check::new(&model, 0, &[], Target::named("edgetpu").unwrap())
            .memory
            .unwrap();
        assert_eq!(memory.parameters, 7_000_000);
        assert_eq!(memory.on_chip, [7_000_000, 9_730_000]);
        assert_eq!(memory.streamed, [0, 9_730_000 - 8_388_608]);
        assert_eq!(memory.fits(), None);
    }
}
