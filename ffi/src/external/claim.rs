//! Which operators are claimed: a driver's verdicts, or what our kernels can be prepared for, cut into partitions of
//! which each one is known to run before it is claimed.

use std::ffi::c_int;

use ::bantam_model::cpu::RunError;
use ::bantam_model::target::{PartitionPolicy, Which};
use ::bantam_model::tensor::Shape;
use ::bantam_model::{Model, NodeId, TensorId};
use bantam_delegate::{Partition, Placed, Session, SessionError, extract, partition};

use super::context::{Params, Runtime};
use super::graph::Offer;
use super::offload::Offload;
use crate::error::Failure;

/// A partition that is ready to run.
pub(super) struct Part {
    /// The runtime's numbers of its operators.
    pub nodes: Vec<c_int>,
    /// The runtime's numbers of what goes in and comes out, in the session's order.
    pub inputs: Vec<c_int>,
    pub outputs: Vec<c_int>,
    /// The partition as a model, for other shapes.
    model: Model,
    /// The shapes that the session was planned for.
    shapes: Vec<Shape>,
    pub session: Session,
    /// How many failures of the driver the runtime was told of.
    pub told: usize,
}

/// What is claimed of an offer.
pub(super) struct Claim {
    pub parts: Vec<Part>,
    /// Why each operator is not claimed.
    pub reasons: Vec<Option<String>>,
}

/// Operators that turned out not to run in their partition, and why.
type Refused = Vec<(NodeId, String)>;

impl Part {
    fn new(
        offer: &Offer,
        wanted: &Partition,
        offload: &Offload,
        threads: usize,
    ) -> Result<Self, Refused> {
        let model = extract(&offer.model, 0, wanted);
        let session = offload
            .session(&model, threads, Vec::new())
            .map_err(|error| refused(wanted, &error))?;
        let mut refused: Refused = Vec::new();
        for place in &session.placement().nodes {
            if place.subgraph == 0 && place.placed == Placed::Cpu {
                let reason = place.reason.clone();
                let reason = reason.unwrap_or_else(|| "the driver leaves it".to_owned());
                refused.push((wanted.nodes[place.index], reason));
            }
        }
        // What follows it may run, once the runtime knows the shapes.
        if let Some(&id) = session
            .depends_on_data_from()
            .and_then(|first| wanted.nodes.get(first))
        {
            refused.push((id, "its shape depends on data".to_owned()));
        }
        if !refused.is_empty() {
            return Err(refused);
        }
        let number = |&id: &TensorId| offer.tensor_number(id);
        Ok(Self {
            nodes: wanted.nodes.iter().map(|&id| offer.number(id)).collect(),
            inputs: wanted.inputs.iter().map(number).collect(),
            outputs: wanted.outputs.iter().map(number).collect(),
            shapes: shapes(&session),
            model,
            session,
            told: 0,
        })
    }

    /// The partition that a runtime made, where that is not one of ours.
    pub fn of(
        offer: &Offer,
        params: &Params,
        offload: &Offload,
        threads: usize,
    ) -> Result<Self, Failure> {
        let nodes: Option<Vec<NodeId>> = params.nodes.iter().map(|&node| offer.id(node)).collect();
        let nodes = nodes.ok_or_else(|| Failure::argument("a node was not offered"))?;
        let outputs = params.outputs.iter();
        let outputs: Option<_> = outputs.map(|&output| offer.tensor_id(output)).collect();
        let outputs = outputs.ok_or_else(|| Failure::argument("a tensor was not offered"))?;
        let wanted = Partition {
            outputs,
            ..Partition::of(offer.subgraph(), nodes)
        };
        Self::new(offer, &wanted, offload, threads).map_err(|refused| {
            let reason = refused.into_iter().next().map(|(_, reason)| reason);
            Failure::argument(format!(
                "the partition cannot run: {}",
                reason.unwrap_or_default()
            ))
        })
    }

    /// Whether it is what the runtime asks for.
    pub fn is(&self, params: &Params) -> bool {
        let sorted = |list: &[c_int]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list
        };
        sorted(&self.nodes) == sorted(&params.nodes)
            && sorted(&self.outputs) == sorted(&params.outputs)
    }

    /// Plans anew, if its inputs have other shapes than it is planned for: whether that was so.
    pub fn fit(
        &mut self,
        given: Vec<Shape>,
        offload: &Offload,
        threads: usize,
    ) -> Result<bool, Failure> {
        if given == self.shapes {
            return Ok(false);
        }
        let options = given.iter().cloned().map(Some).collect();
        let session = offload.session(&self.model, threads, options)?;
        if session.depends_on_data_from().is_some() {
            return Err(Failure::argument(format!(
                "with inputs of shapes {given:?}, shapes of the partition depend on data"
            )));
        }
        (self.session, self.shapes, self.told) = (session, given, 0);
        Ok(true)
    }
}

fn shapes(session: &Session) -> Vec<Shape> {
    let inputs = session.inputs().iter();
    inputs.map(|input| input.shape.clone()).collect()
}

/// Which operators of a partition an error is about: one, or all.
fn refused(wanted: &Partition, error: &SessionError) -> Refused {
    let one = match error {
        SessionError::Run(RunError::Op { index, source, .. }) => {
            wanted.nodes.get(*index).map(|&id| (id, source.to_string()))
        }
        _ => None,
    };
    match one {
        Some(one) => vec![one],
        None => {
            let reason = chain(error);
            let all = wanted.nodes.iter();
            all.map(|&id| (id, reason.clone())).collect()
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Claims what can be claimed of `offer`.
pub(super) fn claim(
    offer: &mut Offer,
    runtime: Runtime,
    offload: &Offload,
    threads: usize,
) -> Result<Claim, Failure> {
    let mut reasons = offload.reasons(offer)?;
    let policy = offload.policy();
    let mut ready: Vec<(Partition, Part)> = Vec::new();
    loop {
        let takes: Vec<bool> = reasons.iter().map(Option::is_none).collect();
        set_outputs(offer, runtime, &takes);
        let all = partition(offer.subgraph(), &takes, &PartitionPolicy::default());
        let mut outside: Refused = Vec::new();
        let mut wanted: Vec<Partition> = Vec::new();
        for partition in all {
            let ops = partition.nodes.len();
            let objection = if ops < policy.min_ops {
                format!(
                    "its partition of {ops} is smaller than the least of {}",
                    policy.min_ops
                )
            } else if policy.which == Which::First && !wanted.is_empty() {
                "the driver takes the first partition alone".to_owned()
            } else {
                wanted.push(partition);
                continue;
            };
            outside.extend(partition.nodes.iter().map(|&id| (id, objection.clone())));
        }
        ready.retain(|(partition, _)| wanted.contains(partition));
        let mut is_settled = true;
        for partition in wanted {
            if ready.iter().any(|(known, _)| *known == partition) {
                continue;
            }
            match Part::new(offer, &partition, offload, threads) {
                Ok(part) => ready.push((partition, part)),
                Err(refused) => {
                    is_settled = false;
                    for (id, reason) in refused {
                        reasons[id.index()] = Some(reason);
                    }
                }
            }
        }
        if is_settled {
            for (id, reason) in outside {
                reasons[id.index()] = Some(reason);
            }
            let mut parts: Vec<Part> = ready.into_iter().map(|(_, part)| part).collect();
            let place = |part: &Part| {
                offer
                    .nodes
                    .iter()
                    .position(|n| part.nodes.first() == Some(n))
            };
            parts.sort_by_key(place);
            return Ok(Claim { parts, reasons });
        }
    }
}

/// Sets which results the graph gives. A delegate is not told that, but what a partition of its own would give.
fn set_outputs(offer: &mut Offer, runtime: Runtime, takes: &[bool]) {
    let taken = offer.nodes.iter().zip(takes);
    let taken: Vec<c_int> = taken
        .filter(|(_, takes)| **takes)
        .map(|(&n, _)| n)
        .collect();
    if taken.is_empty() {
        return;
    }
    let partitions = runtime.preview(&taken);
    if partitions.is_empty() {
        return;
    }
    let outputs = partitions.iter().flat_map(|params| &params.outputs);
    let mut outputs: Vec<TensorId> = outputs.filter_map(|&id| offer.tensor_id(id)).collect();
    // Of the others nothing is asked but that somebody may read them.
    let subgraph = &mut offer.model.subgraphs[0];
    let others = subgraph
        .nodes
        .iter()
        .zip(takes)
        .filter(|(_, takes)| !**takes);
    outputs.extend(others.flat_map(|(node, _)| &node.outputs));
    outputs.sort_unstable();
    outputs.dedup();
    subgraph.outputs = outputs;
}
