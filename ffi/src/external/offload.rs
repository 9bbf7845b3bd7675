//! The delegate that claims operators: for our own kernels, or for a driver.

use std::ffi::c_int;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ::bantam_model::target::{PartitionPolicy, Target};
use ::bantam_model::tensor::Shape;
use ::bantam_model::{Model, NodeId, Verdict};
use bantam_delegate::driver::tflite::abi::{self, Delegate, Status};
use bantam_delegate::{Driver, DriverSpec, OffloadOptions, Session, SessionError, Steering};
use serde_json::json;

use super::claim::{Part, claim};
use super::context::Runtime;
use super::graph::Offer;
use super::kernel;
use super::options::{Computes, Options};
use super::record::{self, Record, locked};
use crate::error::Failure;
use crate::log::{self, log};

/// A delegate of ours; any number of interpreters may have kernels of it, on any threads.
pub(super) struct Offload {
    options: Options,
    /// `None` for our kernels.
    driver: Option<Arc<dyn Driver>>,
    steering: Steering,
    pub record: Record,
    pending: Mutex<Vec<Pending>>,
}

/// What was made ready for kernels that a runtime is about to make.
pub(super) struct Pending {
    /// The runtime's context, for nothing but to tell it from others.
    context: usize,
    pub offer: Arc<Offer>,
    pub parts: Vec<Part>,
    pub graph: Arc<Mutex<record::Graph>>,
}

impl Offload {
    /// Opens the driver.
    pub fn new(options: Options) -> Result<Self, Failure> {
        let (name, driver) = match &options.computes {
            Computes::CpuKernels | Computes::Driver(DriverSpec::Cpu) => {
                ("cpu-kernels".into(), None)
            }
            Computes::Driver(spec) => {
                let driver = bantam_delegate::driver::open(spec)?;
                (spec.to_string(), Some(Arc::from(driver)))
            }
        };
        let about = json!({ "driver": name, "role": "offload" });
        Ok(Self {
            steering: Steering {
                allow: options.allow.clone(),
                deny: options.deny.clone(),
                min_ops: options.min_ops,
                ..Steering::default()
            },
            record: Record::new(options.report.clone(), about)?,
            options,
            driver,
            pending: Mutex::default(),
        })
    }

    /// How many threads a session has.
    pub fn threads(&self, runtime: Runtime) -> usize {
        self.options.threads.or(runtime.threads()).unwrap_or(1)
    }

    pub fn policy(&self) -> PartitionPolicy {
        let policy = match &self.driver {
            Some(driver) => driver.policy(),
            None => PartitionPolicy::default(),
        };
        PartitionPolicy {
            min_ops: self.options.min_ops.unwrap_or(policy.min_ops),
            ..policy
        }
    }

    /// Why each operator is not claimed, as far as that can be told of one alone.
    pub fn reasons(&self, offer: &Offer) -> Result<Vec<Option<String>>, Failure> {
        let model = &offer.model;
        let verdicts = match (&self.driver, Target::named("cpu")) {
            (Some(driver), _) => driver.supports(model, 0)?,
            (None, Some(target)) => target.verdicts(model, 0),
            (None, None) => Vec::new(),
        };
        let reasons = offer.refusals.iter().enumerate().map(|(index, refusal)| {
            if refusal.is_some() {
                return refusal.clone();
            }
            match verdicts.get(index) {
                Some(Verdict::Supported) => {
                    let id = NodeId(index as u32);
                    self.steering.objection(0, offer.subgraph(), id)
                }
                Some(Verdict::Unsupported(refusal)) => Some(refusal.reason.clone()),
                Some(Verdict::Unknown(what)) => Some(format!("nothing is known of {what}")),
                None => Some("there is no verdict on it".to_owned()),
            }
        });
        Ok(reasons.collect())
    }

    /// A session for a partition.
    pub fn session(
        &self,
        partition: &Model,
        threads: usize,
        input_shapes: Vec<Option<Shape>>,
    ) -> Result<Session, SessionError> {
        let options = bantam_delegate::Options {
            driver: match &self.options.computes {
                Computes::CpuKernels => DriverSpec::Cpu,
                Computes::Driver(spec) => spec.clone(),
            },
            offload: OffloadOptions {
                devices: self.options.device.clone().into_iter().collect(),
                // Which operators are wanted was asked of the whole graph.
                steering: Steering {
                    min_ops: self.options.min_ops,
                    ..Steering::default()
                },
                deadline: self.options.deadline,
                ..OffloadOptions::default()
            },
            numerics: self.options.numerics,
            threads,
            input_shapes,
            subgraph: 0,
        };
        match &self.driver {
            Some(driver) => Session::with_driver(partition, Arc::clone(driver), &options),
            None => Session::new(partition, &options),
        }
    }

    /// Takes out what was made ready for one of `runtime`'s kernels; `body` gets it until the runtime has all of them.
    pub fn with_pending<T>(
        &self,
        runtime: Runtime,
        body: impl FnOnce(Option<&mut Pending>) -> T,
    ) -> T {
        let context = runtime.as_ptr() as usize;
        let mut pending = locked(&self.pending);
        body(pending.iter_mut().find(|p| p.context == context))
    }

    /// Looks at the graph and claims what can be claimed.
    pub fn prepare(
        self: &Arc<Self>,
        runtime: Runtime,
        delegate: *mut Delegate,
    ) -> Result<Status, Failure> {
        let start = Instant::now();
        let mut offer = Offer::read(runtime, &runtime.plan()?)?;
        let claimed = claim(&mut offer, runtime, self, self.threads(runtime))?;
        let nodes = offer.subgraph().nodes.iter().zip(&claimed.reasons);
        let nodes = nodes.zip(&offer.nodes).map(|((node, reason), &index)| {
            let names = node.outputs.iter();
            record::Node {
                index,
                op: node.op.to_string(),
                outputs: names.map(|&id| offer.subgraph()[id].name.clone()).collect(),
                partition: None,
                reason: reason.clone(),
            }
        });
        let graph = self.record.add(record::Graph {
            nodes: nodes.collect(),
            ..record::Graph::default()
        });
        let mut left = claimed.reasons.iter().enumerate();
        let left = left.find_map(|(index, reason)| Some((index, reason.as_deref()?)));
        let status = match left {
            Some((index, reason)) if self.options.requires_full_delegation => {
                let op = &offer.subgraph().nodes[index].op;
                let message = format!("operator {index} ({op}) is not claimed: {reason}");
                runtime.report(&format!("bantam: {message}"));
                locked(&graph).messages.add(message);
                abi::ERROR
            }
            _ => self.replace(runtime, delegate, offer, claimed.parts, &graph),
        };
        locked(&graph)
            .prepare
            .add(start.elapsed(), status == abi::OK);
        log(log::INFO, &summary(&locked(&graph)));
        if let Err(failure) = self.record.write() {
            runtime.report(&format!("bantam: {failure}"));
        }
        Ok(status)
    }

    /// Has the runtime replace each partition by a kernel.
    fn replace(
        &self,
        runtime: Runtime,
        delegate: *mut Delegate,
        offer: Offer,
        parts: Vec<Part>,
        graph: &Arc<Mutex<record::Graph>>,
    ) -> Status {
        let context = runtime.as_ptr() as usize;
        let partitions: Vec<Vec<c_int>> = parts.iter().map(|part| part.nodes.clone()).collect();
        locked(&self.pending).push(Pending {
            context,
            offer: Arc::new(offer),
            parts,
            graph: Arc::clone(graph),
        });
        let mut status = abi::OK;
        for nodes in partitions {
            // SAFETY: the registration is of our kernels, and the delegate is ours.
            status = unsafe { runtime.replace(kernel::registration(), &nodes, delegate) };
            if status != abi::OK {
                break;
            }
        }
        locked(&self.pending).retain(|pending| pending.context != context);
        status
    }
}

fn summary(graph: &record::Graph) -> String {
    let claimed = graph.nodes.iter().filter(|node| node.partition.is_some());
    let (claimed, partitions) = (claimed.count(), graph.partitions.len());
    format!(
        "external delegate: {claimed} of {} operators in {partitions} partitions",
        graph.nodes.len()
    )
}
