//! The model that the CPU path runs in place of the one that was cut: each partition is one custom
//! operator, or two, so that other operators run between its halves.

use std::sync::Arc;

use bantam_model::cpu::{CustomOp, CustomOps};
use bantam_model::ops::Custom;
use bantam_model::tensor::{Bytes, DType};
use bantam_model::{Model, Node, NodeId, Op, Subgraph, Tensor, TensorId};

use super::offload::{Call, Offload, Submit, Wait};
use super::place::{Candidate, Known};
use crate::partition::{Partition, Unit, Units};

/// What an operator of the rewritten model was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The operator at this place of the same subgraph.
    Node(usize),
    /// A partition, or half of its call.
    Partition {
        /// Its number.
        number: usize,
        /// The place of its first operator in the same subgraph.
        first: usize,
    },
}

/// A model whose partitions are custom operators.
pub(super) struct Rewritten {
    pub model: Model,
    /// What each operator was, by subgraph.
    pub origins: Vec<Vec<Origin>>,
}

const CALL: &str = "bantam:partition";
const SUBMIT: &str = "bantam:submit";
const WAIT: &str = "bantam:wait";

/// Knows the custom operators of a rewritten model.
#[derive(Debug)]
pub(super) struct Offloads(pub Vec<Arc<Offload>>);

impl CustomOps for Offloads {
    fn find(&self, op: &Custom) -> Option<Arc<dyn CustomOp>> {
        let number = <[u8; 4]>::try_from(&*op.options).ok()?;
        let offload = self.0.get(u32::from_le_bytes(number) as usize)?;
        let offload = Arc::clone(offload);
        match &op.name[..] {
            CALL => Some(Arc::new(Call(offload))),
            SUBMIT => Some(Arc::new(Submit(offload))),
            WAIT => Some(Arc::new(Wait(offload))),
            _ => None,
        }
    }
}

/// `model` with `candidates` as custom operators; with `overlaps`, other operators run while a
/// driver does.
pub(super) fn rewrite(
    model: &Model,
    known: &Known,
    candidates: &[Candidate],
    overlaps: bool,
) -> Rewritten {
    let mut rewritten = Rewritten {
        model: model.clone(),
        origins: Vec::new(),
    };
    for (number, subgraph) in rewritten.model.subgraphs.iter_mut().enumerate() {
        let numbers: Vec<usize> = (0..candidates.len())
            .filter(|&index| candidates[index].subgraph == number)
            .collect();
        let origins = match numbers.is_empty() {
            true => (0..subgraph.nodes.len()).map(Origin::Node).collect(),
            false => rewrite_subgraph(number, subgraph, known, candidates, &numbers, overlaps),
        };
        rewritten.origins.push(origins);
    }
    rewritten
}

fn rewrite_subgraph(
    number: usize,
    subgraph: &mut Subgraph,
    known: &Known,
    candidates: &[Candidate],
    numbers: &[usize],
    overlaps: bool,
) -> Vec<Origin> {
    let shaped = &known.model.subgraphs[number];
    let left = known.fold(number, subgraph);
    let mut is_left = vec![false; shaped.nodes.len()];
    left.iter().for_each(|&node| is_left[node] = true);
    // Operators whose operands are constants run nowhere, and so do not count as units.
    let is_constant = |id: NodeId| known.is_constant(number, id.index());
    let partitions: Vec<Partition> = numbers
        .iter()
        .map(|&index| {
            let mut partition = candidates[index].partition.clone();
            partition.nodes.retain(|&id| !is_constant(id));
            partition
        })
        .collect();
    let units = Units::new(shaped, &partitions);
    let mut steps: Vec<Step> = (0..shaped.nodes.len())
        .map(|index| NodeId(index as u32))
        .filter(|&id| is_constant(id) && is_left[id.index()])
        .map(Step::Node)
        .collect();
    let skips = |unit: &Unit| matches!(unit, Unit::Node(id) if is_constant(*id));
    order(&units, &skips, overlaps, &mut steps);
    let nodes = std::mem::take(&mut subgraph.nodes);
    let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    let origin = |place: usize| Origin::Partition {
        number: numbers[place],
        first: partitions[place].nodes.first().map_or(0, |id| id.index()),
    };
    let mut tokens = vec![None; partitions.len()];
    let mut rewritten = Vec::new();
    for step in steps {
        let (node, origin) = match step {
            Step::Node(id) => match nodes[id.index()].take() {
                Some(node) => (node, Origin::Node(id.index())),
                None => continue,
            },
            Step::Call(place) => {
                let Partition {
                    inputs, outputs, ..
                } = &partitions[place];
                let node = Node::new(custom(CALL, numbers[place]), inputs, outputs);
                (node, origin(place))
            }
            Step::Submit(place) => {
                let token = subgraph.add_tensor(Tensor::new("", DType::U8, [1]));
                tokens[place] = Some(token);
                let inputs = &partitions[place].inputs;
                let node = Node::new(custom(SUBMIT, numbers[place]), inputs, &[token]);
                (node, origin(place))
            }
            Step::Wait(place) => {
                let Partition {
                    inputs, outputs, ..
                } = &partitions[place];
                let token = tokens[place];
                let inputs: Vec<TensorId> = token.iter().chain(inputs).copied().collect();
                let node = Node::new(custom(WAIT, numbers[place]), &inputs, outputs);
                (node, origin(place))
            }
        };
        rewritten.push((node, origin));
    }
    drop_unread(subgraph, &mut rewritten, &is_constant);
    let (nodes, origins) = rewritten.into_iter().unzip();
    subgraph.nodes = nodes;
    origins
}

fn custom(name: &str, partition: usize) -> Op {
    Op::Custom(Box::new(Custom {
        name: name.into(),
        version: 1,
        options: Bytes::from((partition as u32).to_le_bytes().to_vec()),
    }))
}

/// Drops operators that only partitions needed: widened weights, which the CPU path would keep.
fn drop_unread(
    subgraph: &Subgraph,
    nodes: &mut Vec<(Node, Origin)>,
    is_constant: &dyn Fn(NodeId) -> bool,
) {
    let mut is_read = vec![false; subgraph.tensors.len()];
    subgraph
        .outputs
        .iter()
        .for_each(|id| is_read[id.index()] = true);
    for (node, origin) in std::mem::take(nodes).into_iter().rev() {
        let is_spare = matches!(origin, Origin::Node(index) if is_constant(NodeId(index as u32)));
        let is_needed = node.outputs.iter().any(|id| is_read[id.index()]);
        if is_spare && !is_needed {
            continue;
        }
        for id in node.inputs.iter().flatten() {
            is_read[id.index()] = true;
        }
        nodes.push((node, origin));
    }
    nodes.reverse();
}

/// One operator of the rewritten subgraph; partitions by their places in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Node(NodeId),
    Call(usize),
    Submit(usize),
    Wait(usize),
}

/// The steps of all units that `skips` does not name, in an order in which they can run, as near
/// to the file's as that allows. With `overlaps` a driver gets its operands as soon as they are
/// there, and is waited for when nothing else can run.
fn order(units: &Units, skips: &dyn Fn(&Unit) -> bool, overlaps: bool, steps: &mut Vec<Step>) {
    let mut is_done: Vec<bool> = units.units.iter().map(skips).collect();
    let mut submitted = Vec::new();
    loop {
        let ready = |unit: &usize| {
            !is_done[*unit] && !submitted.contains(unit) && units.is_ready(*unit, &is_done)
        };
        let is_partition = |unit: &usize| matches!(units.units[*unit], Unit::Partition(_));
        let mut all = (0..is_done.len()).filter(ready);
        let first = match overlaps {
            true => all.clone().find(is_partition).or_else(|| all.next()),
            false => all.next(),
        };
        let next = match first {
            Some(unit) => unit,
            // A malformed file: the plan says what is wrong with it.
            None if submitted.is_empty() => match is_done.iter().position(|done| !done) {
                Some(unit) => unit,
                None => break,
            },
            None => {
                let unit = submitted.remove(0);
                if let Unit::Partition(place) = units.units[unit] {
                    let is_pair = steps.last() != Some(&Step::Submit(place));
                    match is_pair {
                        true => steps.push(Step::Wait(place)),
                        false => {
                            steps.pop();
                            steps.push(Step::Call(place));
                        }
                    }
                }
                is_done[unit] = true;
                continue;
            }
        };
        match units.units[next] {
            Unit::Partition(place) if overlaps => {
                submitted.push(next);
                steps.push(Step::Submit(place));
            }
            unit => {
                is_done[next] = true;
                steps.push(match unit {
                    Unit::Node(id) => Step::Node(id),
                    Unit::Partition(place) => Step::Call(place),
                });
            }
        }
    }
}
