//! What a session is made of: the driver, the partitions that it compiles, and where that leaves each operator.

use std::sync::{Arc, Mutex};

use bantam_model::cpu::{self, CustomOp, CustomOps, RunError};
use bantam_model::ops::{Custom, OpError};
use bantam_model::{Model, TensorId};

use super::offload::{Care, Offload, Twin};
use super::place::{Candidate, Cut, Known};
use super::report::{Log, PartitionPlacement, Placed, Placement};
use super::rewrite::Origin;
use super::worker::Source;
use super::{Options, SessionError};
use crate::DriverSpec;
use crate::driver::{Driver, DriverError};
use crate::partition::extract;

/// What the partitions of a session come to.
#[derive(Default)]
pub(super) struct Offloaded {
    pub cut: Cut,
    pub offloads: Vec<Arc<Offload>>,
    pub log: Arc<Mutex<Log>>,
}

/// The driver that `spec` names.
pub(super) fn open(spec: &DriverSpec) -> Result<Arc<dyn Driver>, SessionError> {
    let driver = crate::driver::open(spec).map_err(|source| SessionError::Driver {
        driver: spec.to_string(),
        source,
    })?;
    Ok(Arc::from(driver))
}

pub(super) fn cpu_options(options: &Options) -> cpu::Options {
    cpu::Options {
        numerics: options.numerics,
        threads: options.threads,
        input_shapes: options.input_shapes.clone(),
        subgraph: options.subgraph,
        ..cpu::Options::default()
    }
}

/// Takes every custom operator, for a plan that is not run.
#[derive(Debug)]
pub(super) struct AnyCustom;

impl CustomOps for AnyCustom {
    fn find(&self, _: &Custom) -> Option<Arc<dyn CustomOp>> {
        Some(Arc::new(Self))
    }
}

impl CustomOp for AnyCustom {
    fn run(&self, _: &[&[u8]], _: &mut [&mut [u8]]) -> Result<(), cpu::CustomError> {
        Ok(())
    }
}

/// Custom operators that vendors' compilers make, and what runs them.
const VENDORS: &[(&str, &str)] = &[
    ("edgetpu-custom-op", "an Edge TPU (driver edgetpu)"),
    (
        "ethos-u",
        "an Ethos-U (driver tflite:/path/libethosu_delegate.so)",
    ),
    (
        "vsi-npu",
        "a VeriSilicon NPU (driver tflite:/path/libvx_delegate.so)",
    ),
];

pub(super) fn vendor(op: &str) -> Option<(&'static str, &'static str)> {
    VENDORS.iter().copied().find(|&(name, _)| name == op)
}

/// The operator of a vendor's among those without a kernel that `error` is about.
pub(super) fn vendor_operator(error: &RunError) -> Option<(&'static str, &'static str)> {
    match error {
        RunError::NoKernel { operators } => operators.iter().find_map(|op| vendor(op)),
        _ => None,
    }
}

/// The word in front of a driver's spec.
pub(super) fn kind(driver: &str) -> &str {
    driver.split([':', '?']).next().unwrap_or(driver)
}

/// Refuses operators that neither the CPU path nor the driver runs.
pub(super) fn needs_driver(model: &Model, cut: &Cut, driver: &str) -> Result<(), SessionError> {
    for place in &cut.nodes {
        let op = &model.subgraphs[place.subgraph].nodes[place.index].op;
        if place.placed == Placed::Cpu && op.operator().is_err() {
            // The driver that it was made for knows better why not.
            let is_for = |needed: &str| needed.contains(&format!("driver {}", kind(driver)));
            return Err(
                match vendor(&place.op).filter(|(_, needed)| !is_for(needed)) {
                    Some((op, needed)) => SessionError::NeedsDriver {
                        op: op.into(),
                        needed: needed.into(),
                        driver: driver.into(),
                    },
                    None => SessionError::Driver {
                        driver: driver.into(),
                        source: DriverError::Refused(format!(
                            "operator {} ({}), for which the CPU path has no kernel: {}",
                            place.index,
                            place.op,
                            place.reason.as_deref().unwrap_or("it was not asked")
                        )),
                    },
                },
            );
        }
    }
    Ok(())
}

/// Compiles each partition; the operators of one that is refused go to the CPU path.
pub(super) fn compile(
    known: &Known,
    cut: Cut,
    driver: &Arc<dyn Driver>,
    options: &Options,
) -> Result<Offloaded, DriverError> {
    let offload = &options.offload;
    let care = Arc::new(Care {
        deadline: offload.deadline,
        retire_after: offload.retire_after.max(1),
        check: offload.check,
        is_required: offload.requires_full_delegation,
        twin_options: cpu::Options {
            input_shapes: Vec::new(),
            subgraph: 0,
            ..cpu_options(options)
        },
    });
    let mut done = Offloaded::default();
    done.cut.nodes = cut.nodes;
    for (number, candidate) in cut.partitions.into_iter().enumerate() {
        let place = done.offloads.len();
        let devices = &offload.devices;
        let source = Source {
            driver: Arc::clone(driver),
            device: (!devices.is_empty()).then(|| devices[place % devices.len()].clone()),
            partition: extract(&known.model, candidate.subgraph, &candidate.partition),
        };
        let twin = Twin {
            exists: candidate.has_twin,
            original: candidate.original.clone(),
            keeps_state: candidate.keeps_state,
        };
        // The CPU path has kernels for the operators themselves, and not only for the original.
        let has_kernels = candidate.has_twin && candidate.original.is_none();
        let (care, log) = (Arc::clone(&care), Arc::clone(&done.log));
        let opened = Offload::open(place, source, twin, care, log);
        let refusal = match opened {
            Ok(opened) => {
                done.offloads.push(Arc::new(opened));
                done.cut.partitions.push(candidate);
                None
            }
            Err(DriverError::Refused(reason)) if has_kernels => Some(reason),
            Err(error) => return Err(error),
        };
        let placed = Placed::Partition(number);
        for node in done.cut.nodes.iter_mut().filter(|n| n.placed == placed) {
            match &refusal {
                None => node.placed = Placed::Partition(place),
                Some(reason) => {
                    node.placed = Placed::Cpu;
                    node.reason = Some(format!("the driver refused its partition: {reason}"));
                }
            }
        }
    }
    Ok(done)
}

pub(super) fn placement(
    known: &Known,
    driver: String,
    offloaded: &Offloaded,
    options: &Options,
) -> Placement {
    let Offloaded { cut, offloads, .. } = offloaded;
    let devices = &options.offload.devices;
    let describe = |(number, candidate): (usize, &Candidate)| {
        let subgraph = &known.model.subgraphs[candidate.subgraph];
        let names = |ids: &[TensorId]| ids.iter().map(|&id| subgraph[id].name.clone()).collect();
        let places = cut.nodes.iter().filter(|node| {
            node.placed == Placed::Partition(number) && node.subgraph == candidate.subgraph
        });
        PartitionPlacement {
            subgraph: candidate.subgraph,
            ops: places.map(|node| node.index).collect(),
            inputs: names(&candidate.partition.inputs),
            outputs: names(&candidate.partition.outputs),
            cost: candidate.cost,
            driver_cost: offloads[number].cost(),
            device: (!devices.is_empty()).then(|| devices[number % devices.len()].clone()),
            has_twin: candidate.has_twin,
        }
    };
    let partitions: Vec<PartitionPlacement> =
        cut.partitions.iter().enumerate().map(describe).collect();
    let count = |is_counted: fn(Placed) -> bool| {
        let nodes = cut.nodes.iter().filter(|node| is_counted(node.placed));
        nodes.count()
    };
    Placement {
        driver,
        ops: count(|placed| placed != Placed::Constant),
        delegated: count(|placed| matches!(placed, Placed::Partition(_))),
        partitions,
        nodes: cut.nodes.clone(),
    }
}

/// `error` with the places that operators have in the model before it was cut.
pub(super) fn place_error(origins: &[Vec<Origin>], entry: usize, error: RunError) -> RunError {
    let original = |subgraph: usize, index: usize| match origins
        .get(subgraph)
        .and_then(|nodes| nodes.get(index))
    {
        Some(
            &(Origin::Node(original)
            | Origin::Partition {
                first: original, ..
            }),
        ) => original,
        None => index,
    };
    match error {
        RunError::Op { index, op, source } => RunError::Op {
            index: original(entry, index),
            op,
            source: match source {
                OpError::Subgraph { subgraph, source } => OpError::Subgraph {
                    subgraph,
                    source: Box::new(place_error(origins, subgraph, *source)),
                },
                other => other,
            },
        },
        RunError::Custom {
            subgraph,
            index,
            source,
        } => RunError::Custom {
            subgraph,
            index: original(subgraph, index),
            source,
        },
        other => other,
    }
}
