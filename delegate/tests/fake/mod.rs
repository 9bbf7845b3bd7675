//! A driver that computes with our own CPU path, and fails as it is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bantam_delegate::driver::{Device, DriverInfo};
use bantam_delegate::{Driver, DriverError, Executable};
use bantam_model::cpu::{Options, Plan, Runner};
use bantam_model::target::{PartitionPolicy, Refusal, Verdict, Which};
use bantam_model::{Model, Node, Op};

/// What a call does in place of computing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it computes.
    None,
    Fail,
    LoseDevice,
    /// Comes back after so many milliseconds, having written rubbish.
    Hang(u64),
    /// Says that all is well, and is not.
    Garbage,
    Panic,
}

/// What the driver shares with those that it compiles.
#[derive(Default)]
pub struct Shared {
    /// What the next calls do; when it is empty, `Fault::None`.
    pub faults: Mutex<VecDeque<Fault>>,
    /// Whether compiling fails.
    pub compile_fails: Mutex<Option<DriverError>>,
    /// The device and the number of operators of each compilation.
    pub compiled: Mutex<Vec<(Option<String>, usize)>>,
    /// Where the operands were in memory, call by call.
    pub operands: Mutex<Vec<usize>>,
    pub calls: AtomicUsize,
    /// Calls that run at this moment, and the most that there were.
    pub running: AtomicUsize,
    pub most_running: AtomicUsize,
    /// What is compiled at this moment, and the most that was.
    pub open: AtomicUsize,
    pub most_open: AtomicUsize,
    /// How long closing takes.
    pub close_ms: AtomicUsize,
    /// How long each call takes.
    pub takes_ms: AtomicUsize,
}

pub struct Fake {
    pub takes: Box<dyn Fn(&Node) -> bool + Send + Sync>,
    pub policy: PartitionPolicy,
    pub can_cancel: bool,
    pub shared: Arc<Shared>,
}

impl Fake {
    pub fn new(takes: impl Fn(&Node) -> bool + Send + Sync + 'static) -> Self {
        Self {
            takes: Box::new(takes),
            policy: PartitionPolicy {
                which: Which::All,
                min_ops: 1,
            },
            can_cancel: false,
            shared: Arc::default(),
        }
    }

    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.lock().unwrap().extend(faults);
    }
}

impl Driver for Fake {
    fn info(&self) -> DriverInfo {
        DriverInfo {
            name: "fake".into(),
            version: "1".into(),
            target: None,
        }
    }

    fn devices(&self) -> Result<Vec<Device>, DriverError> {
        let device = |id: &str| Device {
            id: id.into(),
            description: "nothing".into(),
        };
        Ok(vec![device("fake:0"), device("fake:1")])
    }

    fn supports(&self, model: &Model, subgraph: usize) -> Result<Vec<Verdict>, DriverError> {
        let verdict = |node: &Node| match (self.takes)(node) {
            true => Verdict::Supported,
            false => Verdict::Unsupported(Box::new(Refusal {
                rule: "fake-rule".into(),
                reason: format!("a fake takes no {}", node.op),
                measured: None,
                limit: None,
                evidence: None,
                is_inferred: false,
            })),
        };
        Ok(model.subgraphs[subgraph]
            .nodes
            .iter()
            .map(verdict)
            .collect())
    }

    fn policy(&self) -> PartitionPolicy {
        self.policy
    }

    fn compile(
        &self,
        partition: &Model,
        device: Option<&str>,
    ) -> Result<Box<dyn Executable>, DriverError> {
        if let Some(error) = self.shared.compile_fails.lock().unwrap().clone() {
            return Err(error);
        }
        let nodes = &partition.subgraphs[0].nodes;
        let mut compiled = self.shared.compiled.lock().unwrap();
        compiled.push((device.map(str::to_owned), nodes.len()));
        let runner = match &nodes[..] {
            [node] if matches!(node.op, Op::Custom(_)) => None,
            _ => {
                // What a driver gets is a file of its own.
                let read = Model::read(partition.to_bytes().into());
                let read = read.map_err(|error| DriverError::Refused(error.to_string()))?;
                let plan = Plan::new(&read, &Options::default())
                    .map_err(|error| DriverError::Refused(format!("{error:?}")))?;
                Some(Runner::new(Arc::new(plan)).unwrap())
            }
        };
        let open = self.shared.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared.most_open.fetch_max(open, Ordering::SeqCst);
        Ok(Box::new(Compiled {
            runner,
            can_cancel: self.can_cancel,
            cancelled: Arc::default(),
            shared: Arc::clone(&self.shared),
        }))
    }
}

struct Compiled {
    /// `None` for an operator of the vendor's, which adds one to each byte.
    runner: Option<Runner>,
    can_cancel: bool,
    cancelled: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl Drop for Compiled {
    fn drop(&mut self) {
        let ms = self.shared.close_ms.load(Ordering::SeqCst) as u64;
        std::thread::sleep(Duration::from_millis(ms));
        self.shared.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Executable for Compiled {
    fn run(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DriverError> {
        let running = self.shared.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared
            .most_running
            .fetch_max(running, Ordering::SeqCst);
        let result = self.call(inputs, outputs);
        self.shared.running.fetch_sub(1, Ordering::SeqCst);
        result
    }

    fn canceller(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        let cancelled = Arc::clone(&self.cancelled);
        self.can_cancel
            .then(|| Box::new(move || cancelled.store(true, Ordering::SeqCst)) as _)
    }

    fn cost(&self) -> Vec<(String, f64)> {
        vec![("cycles".into(), 7.0)]
    }
}

impl Compiled {
    fn call(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DriverError> {
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        let operands = inputs.iter().map(|input| input.as_ptr() as usize);
        self.shared.operands.lock().unwrap().extend(operands);
        let takes = self.shared.takes_ms.load(Ordering::SeqCst) as u64;
        std::thread::sleep(Duration::from_millis(takes));
        let fault = self.shared.faults.lock().unwrap().pop_front();
        match fault.unwrap_or(Fault::None) {
            Fault::None => {}
            Fault::Fail => {
                outputs.iter_mut().for_each(|output| output.fill(0xaa));
                return Err(DriverError::Failed("told to".into()));
            }
            Fault::LoseDevice => return Err(DriverError::DeviceLost("told to".into())),
            Fault::Panic => panic!("told to"),
            Fault::Garbage => {
                outputs.iter_mut().for_each(|output| output.fill(0x55));
                return Ok(());
            }
            Fault::Hang(ms) => {
                let end = Instant::now() + Duration::from_millis(ms);
                while Instant::now() < end && !self.cancelled.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                outputs.iter_mut().for_each(|output| output.fill(0xee));
                return Ok(());
            }
        }
        let Some(runner) = &mut self.runner else {
            for (byte, input) in outputs[0].iter_mut().zip(inputs[0]) {
                *byte = input.wrapping_add(1);
            }
            return Ok(());
        };
        for (index, input) in inputs.iter().enumerate() {
            runner.set_input(index, input).unwrap();
        }
        runner.run().unwrap();
        for (index, output) in outputs.iter_mut().enumerate() {
            output.copy_from_slice(runner.output(index));
        }
        Ok(())
    }
}
