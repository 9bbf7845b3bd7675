//! Where each operator of a model runs: the driver's verdicts, the user's wishes and the partition
//! rule, made into partitions that can be compiled and a report of every decision.

use std::collections::{BTreeSet, VecDeque};

use bantam_model::cpu::{Plan, Staged};
use bantam_model::target::{PartitionPolicy, Which};
use bantam_model::tensor::{Bytes, DType};
use bantam_model::{Model, Node, NodeId, Subgraph, TensorId, Verdict};

use super::report::{OpPlacement, Placed};
use super::twin;
use crate::driver::{Driver, DriverError};
use crate::partition::{Cost, Partition, partition};
use crate::steer::Steering;

/// What the CPU path's own plan knows of a model before it is cut.
pub(super) struct Known {
    /// The model with planned shapes, and with the values that are known beforehand as data.
    pub model: Model,
    /// By subgraph; `None` where a subgraph does not run, or runs with operands of different shapes
    /// or values, so that nothing of it can be compiled.
    pub subgraphs: Vec<Option<KnownSubgraph>>,
}

pub(super) struct KnownSubgraph {
    /// Whether each operator runs; the others are computed beforehand.
    runs: Vec<bool>,
    /// Where the shapes begin to depend on data.
    cut: usize,
}

/// Partitions, and where each operator runs.
#[derive(Default)]
pub(super) struct Cut {
    /// Each with the subgraph that it is in.
    pub partitions: Vec<Candidate>,
    /// Every operator of the subgraphs that run.
    pub nodes: Vec<OpPlacement>,
}

/// A partition that can be compiled.
#[derive(Clone)]
pub(super) struct Candidate {
    pub subgraph: usize,
    pub partition: Partition,
    /// What it costs, by our estimate.
    pub cost: Cost,
    /// Whether the CPU path can compute it.
    pub has_twin: bool,
    /// What the CPU path computes in its place, where it has no kernels for the partition itself.
    pub original: Option<Model>,
    /// Whether it keeps a state between runs, which only the driver has.
    pub keeps_state: bool,
}

impl Known {
    /// What `plans`, those of `model` without a driver, say. They must have kept their constants.
    pub fn new(model: &Model, plans: &Staged) -> Self {
        let entry = plans.plan();
        let bodies = entry.bodies();
        let mut known = Self {
            model: model.clone(),
            subgraphs: model.subgraphs.iter().map(|_| None).collect(),
        };
        for number in 0..model.subgraphs.len() {
            let mut all = bodies
                .iter()
                .copied()
                .chain([entry])
                .filter(|plan| plan.subgraph() == number);
            let (Some(plan), None) = (all.next(), all.next()) else {
                continue;
            };
            let subgraph = &mut known.model.subgraphs[number];
            let mut runs = vec![false; subgraph.nodes.len()];
            plan.nodes().for_each(|node| runs[node] = true);
            let cut = plans.cut().filter(|_| number == entry.subgraph());
            let cut = cut.unwrap_or(runs.len());
            specialize(subgraph, plan, cut);
            known.subgraphs[number] = Some(KnownSubgraph { runs, cut });
        }
        known
    }

    /// Whether `node` is computed beforehand.
    pub fn is_constant(&self, number: usize, node: usize) -> bool {
        let known = self.subgraphs[number].as_ref();
        known.is_some_and(|known| node < known.cut && !known.runs[node])
    }

    /// Puts the values of results that follow from shapes alone into `model`, in place of their
    /// operators, so that none of these waits for a partition. The places of the operators that
    /// are left.
    pub fn fold(&self, number: usize, model: &mut Subgraph) -> Vec<usize> {
        let known = &self.model.subgraphs[number];
        let mut left = Vec::new();
        for (index, node) in known.nodes.iter().enumerate() {
            let inputs = &mut node.inputs.iter().flatten();
            let waits = inputs.any(|&input| !known[input].is_constant());
            let outputs = &node.outputs;
            let is_known = outputs.iter().all(|&output| known[output].is_constant());
            if self.is_constant(number, index) && waits && is_known && !outputs.is_empty() {
                for &output in outputs {
                    model[output].data.clone_from(&known[output].data);
                    model[output].shape.clone_from(&known[output].shape);
                }
            } else {
                left.push(index);
            }
        }
        left
    }
}

/// Gives the tensors of `subgraph` the shapes and values of `plan`, as far as it goes.
fn specialize(subgraph: &mut Subgraph, plan: &Plan, cut: usize) {
    let mut is_planned = vec![true; subgraph.tensors.len()];
    for output in subgraph.nodes.iter().skip(cut).flat_map(|n| &n.outputs) {
        is_planned[output.index()] = false;
    }
    for (index, tensor) in subgraph.tensors.iter_mut().enumerate() {
        if !is_planned[index] {
            continue;
        }
        let value = plan.value(TensorId(index as u32));
        tensor.shape.clone_from(&value.shape);
        tensor.shape_signature = None;
        if tensor.data.is_none() && !tensor.is_variable {
            tensor.data.clone_from(&value.data);
        }
    }
    // An operator without results to compute is none that runs.
    let nodes = subgraph.nodes.iter().take(cut);
    let outputs: Vec<_> = nodes.flat_map(|node| node.outputs.clone()).collect();
    for output in outputs {
        let tensor = &mut subgraph[output];
        let is_empty = tensor.shape.contains(&0);
        if is_empty && tensor.data.is_none() && tensor.dtype != DType::String {
            tensor.data = Some(Bytes::from(Vec::new()));
        }
    }
}

/// Whether `node`, or an operator that it runs, keeps something between runs.
fn keeps_state(model: &Model, subgraph: &Subgraph, node: &Node) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![(subgraph, node)];
    while let Some((subgraph, node)) = open.pop() {
        let tensors = node.inputs.iter().flatten().chain(&node.outputs);
        let is_state = |id: &TensorId| {
            let tensor = &subgraph[*id];
            let is_handle = matches!(tensor.dtype, DType::Resource | DType::Variant);
            is_handle || (tensor.is_variable && !tensor.is_constant())
        };
        let operator = node.op.operator();
        if operator.is_ok_and(|op| op.memory().is_some()) || tensors.into_iter().any(is_state) {
            return true;
        }
        for body in node.op.bodies() {
            let number = usize::try_from(body.subgraph).unwrap_or(usize::MAX);
            if let Some(body) = model.subgraphs.get(number)
                && seen.insert(number)
            {
                open.extend(body.nodes.iter().map(|node| (body, node)));
            }
        }
    }
    false
}

/// Whether a driver can keep all the state of `node`: its compiler made the operator, and the variables are read by no other.
fn owns_state(subgraph: &Subgraph, id: NodeId) -> bool {
    let node = &subgraph[id];
    let tensors = |node: &Node| -> Vec<TensorId> {
        let inputs = node.inputs.iter().flatten();
        inputs.chain(&node.outputs).copied().collect()
    };
    let own = tensors(node);
    let mut variables = own
        .iter()
        .filter(|id| subgraph[**id].is_variable)
        .peekable();
    let is_handle = |id: &TensorId| matches!(subgraph[*id].dtype, DType::Resource | DType::Variant);
    let is_shared = |variable: &TensorId| {
        let nodes = subgraph.nodes.iter().zip(0u32..);
        let mut others = nodes.filter(|&(_, index)| NodeId(index) != id);
        let is_boundary = subgraph.inputs.contains(variable) || subgraph.outputs.contains(variable);
        is_boundary || others.any(|(other, _)| tensors(other).contains(variable))
    };
    node.op.operator().is_err()
        && variables.peek().is_some()
        && !own.iter().any(is_handle)
        && !variables.any(is_shared)
}

/// Cuts `known`, asking `driver` about each operator of the subgraphs that run.
pub(super) fn cut(
    known: &Known,
    entry: usize,
    driver: &dyn Driver,
    steering: &Steering,
    twin: Option<&Model>,
) -> Result<Cut, DriverError> {
    let mut cut = Cut::default();
    let mut is_taken = false;
    let mut seen = BTreeSet::from([entry]);
    let mut open = VecDeque::from([entry]);
    while let Some(number) = open.pop_front() {
        let first = cut.nodes.len();
        if known.subgraphs[number].is_some() {
            // The original's first subgraph is that of the compiled model.
            let twin = twin.filter(|_| number == 0);
            cut_subgraph(
                &mut cut,
                &mut is_taken,
                known,
                number,
                driver,
                steering,
                twin,
            )?;
        } else {
            let reason = "its subgraph runs with operands that are not the same each time";
            let nodes = placements(&known.model, number);
            cut.nodes.extend(nodes.map(|place| OpPlacement {
                reason: Some(reason.into()),
                ..place
            }));
        }
        let on_cpu = cut.nodes[first..]
            .iter()
            .filter(|n| n.placed == Placed::Cpu);
        for body in on_cpu.flat_map(|place| bodies(&known.model, number, place.index)) {
            if seen.insert(body) {
                open.push_back(body);
            }
        }
    }
    place_bodies(&mut cut, known, &mut seen);
    cut.nodes.sort_by_key(|node| (node.subgraph, node.index));
    Ok(cut)
}

/// Places the operators of subgraphs that only operators of partitions run: where these are.
fn place_bodies(cut: &mut Cut, known: &Known, seen: &mut BTreeSet<usize>) {
    let mut next = 0;
    while let Some(owner) = cut.nodes.get(next) {
        let placed = owner.placed;
        if matches!(placed, Placed::Partition(_)) {
            for body in bodies(&known.model, owner.subgraph, owner.index) {
                if seen.insert(body) {
                    let nodes = placements(&known.model, body).map(|place| OpPlacement {
                        placed: match known.is_constant(body, place.index) {
                            true => Placed::Constant,
                            false => placed,
                        },
                        ..place
                    });
                    cut.nodes.extend(nodes);
                }
            }
        }
        next += 1;
    }
}

/// The subgraphs that an operator runs.
fn bodies(model: &Model, subgraph: usize, node: usize) -> Vec<usize> {
    let bodies = model.subgraphs[subgraph].nodes[node].op.bodies();
    let numbers = bodies
        .iter()
        .filter_map(|body| usize::try_from(body.subgraph).ok());
    numbers
        .filter(|&body| body < model.subgraphs.len())
        .collect()
}

/// All operators of a subgraph, before anything is known of them.
fn placements(model: &Model, number: usize) -> impl Iterator<Item = OpPlacement> + '_ {
    let count = model.subgraphs[number].nodes.len();
    (0..count).map(move |index| placement(model, number, index))
}

fn placement(model: &Model, number: usize, index: usize) -> OpPlacement {
    let subgraph = &model.subgraphs[number];
    let node = &subgraph.nodes[index];
    let names = node.outputs.iter().map(|&id| subgraph[id].name.clone());
    OpPlacement {
        subgraph: number,
        index,
        op: node.op.to_string(),
        outputs: names.collect(),
        placed: Placed::Cpu,
        verdict: None,
        reason: None,
    }
}

fn cut_subgraph(
    cut: &mut Cut,
    is_taken: &mut bool,
    known: &Known,
    number: usize,
    driver: &dyn Driver,
    steering: &Steering,
    twin: Option<&Model>,
) -> Result<(), DriverError> {
    let (model, subgraph) = (&known.model, &known.model.subgraphs[number]);
    let Some(facts) = &known.subgraphs[number] else {
        return Ok(());
    };
    let verdicts = driver.supports(model, number)?;
    let count = subgraph.nodes.len();
    if verdicts.len() != count {
        return Err(DriverError::Garbage(format!(
            "{} verdicts for {count} operators",
            verdicts.len()
        )));
    }
    let mut nodes: Vec<OpPlacement> = placements(model, number).collect();
    let mut takes = vec![false; count];
    // What is computed beforehand is in no partition of its own: those that read it hold a copy.
    let mut constants = vec![false; count];
    for (index, verdict) in verdicts.into_iter().enumerate() {
        let node = &subgraph.nodes[index];
        let id = NodeId(index as u32);
        let place = &mut nodes[index];
        if known.is_constant(number, index) {
            place.placed = Placed::Constant;
            constants[index] = verdict.is_supported();
            place.verdict = Some(verdict);
            continue;
        }
        place.reason = match &verdict {
            Verdict::Unsupported(refusal) => Some(refusal.reason.clone()),
            Verdict::Unknown(what) => Some(format!("nothing is known of {what}")),
            Verdict::Supported if index >= facts.cut => Some("its shape depends on data".into()),
            Verdict::Supported
                if keeps_state(model, subgraph, node) && !owns_state(subgraph, id) =>
            {
                Some("it keeps a state between runs, which stays on the CPU path".into())
            }
            Verdict::Supported => steering.objection(number, subgraph, id),
        };
        takes[index] = place.reason.is_none();
        place.verdict = Some(verdict);
    }
    let mut candidates: Vec<Partition> = Vec::new();
    for (index, takes) in takes.iter_mut().enumerate() {
        if *takes && subgraph.nodes[index].op.operator().is_err() {
            *takes = false;
            candidates.push(Partition::of(subgraph, vec![NodeId(index as u32)]));
        }
    }
    let alone = candidates.len();
    let all = PartitionPolicy::default();
    candidates.extend(partition(subgraph, &takes, &all));
    let policy = driver.policy();
    let min_ops = steering.min_ops.unwrap_or(policy.min_ops);
    for (place, candidate) in candidates.into_iter().enumerate() {
        let cost = Cost::of(subgraph, &candidate);
        // An operator without a kernel here runs on the driver, whatever it costs.
        let is_alone = place < alone;
        let economy = steering.economy.filter(|economy| !economy.pays(&cost));
        let ops = candidate.nodes.len();
        let objection = match economy {
            _ if is_alone => None,
            _ if ops < min_ops => Some(format!(
                "its partition of {ops} is smaller than the least of {min_ops}"
            )),
            Some(economy) => Some(format!(
                "moving the data of its partition takes about {:.0} us and the CPU path {:.0} us",
                economy.offload_us(&cost),
                economy.cpu_us(&cost)
            )),
            None if policy.which == Which::First && *is_taken => {
                Some("the driver takes the first partition alone".into())
            }
            None => None,
        };
        let number_of_partition = cut.partitions.len();
        for id in &candidate.nodes {
            let place = &mut nodes[id.index()];
            match &objection {
                Some(reason) => place.reason = Some(reason.clone()),
                None => place.placed = Placed::Partition(number_of_partition),
            }
        }
        if objection.is_none() {
            *is_taken |= !is_alone;
            let keeps_state = is_alone && owns_state(subgraph, candidate.nodes[0]);
            let original = match (twin, is_alone && !keeps_state) {
                (Some(twin), true) => twin::of_partition(subgraph, &candidate, twin),
                _ => None,
            };
            cut.partitions.push(Candidate {
                subgraph: number,
                partition: with_constants(subgraph, candidate, &constants),
                cost,
                has_twin: !is_alone || original.is_some(),
                original,
                keeps_state,
            });
        }
    }
    cut.nodes.append(&mut nodes);
    Ok(())
}

/// `partition` and those operators marked in `constants` that compute what it reads: the driver
/// gets weights as the file has them, such as those of float16 behind a DEQUANTIZE.
fn with_constants(subgraph: &Subgraph, partition: Partition, constants: &[bool]) -> Partition {
    let producers = subgraph.producers();
    let mut nodes = partition.nodes;
    let mut next = 0;
    while let Some(&id) = nodes.get(next) {
        for input in subgraph[id].inputs.iter().flatten() {
            if let Some(producer) = producers[input.index()]
                && constants[producer.index()]
                && reads_constants(subgraph, producer)
                && !nodes.contains(&producer)
            {
                nodes.push(producer);
            }
        }
        next += 1;
    }
    nodes.sort_unstable();
    Partition { nodes, ..partition }
}

fn reads_constants(subgraph: &Subgraph, node: NodeId) -> bool {
    let mut inputs = subgraph[node].inputs.iter().flatten();
    inputs.all(|&input| subgraph[input].is_constant())
}
