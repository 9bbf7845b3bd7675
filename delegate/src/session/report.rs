//! What a session says of itself: where each operator runs and why, and what happened in runs.

use std::fmt;
use std::time::Duration;

use bantam_model::Verdict;

use crate::driver::DriverError;
use crate::partition::Cost;

/// Where an operator runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// In the partition of this number.
    Partition(usize),
    /// On the CPU path.
    Cpu,
    /// Nowhere: its results are known before the first run.
    Constant,
}

/// Where one operator runs, and why not elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct OpPlacement {
    /// The subgraph that it is in.
    pub subgraph: usize,
    /// Its place there.
    pub index: usize,
    /// Its kind.
    pub op: String,
    /// The names of its results.
    pub outputs: Vec<String>,
    /// Where it runs.
    pub placed: Placed,
    /// What the driver says of it; `None` where it was not asked.
    pub verdict: Option<Verdict>,
    /// Why it runs on the CPU path although the driver was asked; the verdict's own reason, or
    /// another where the driver would take it.
    pub reason: Option<String>,
}

impl OpPlacement {
    /// The rule that keeps it from the driver, if it is the driver's.
    pub fn rule(&self) -> Option<&str> {
        Some(&self.verdict.as_ref()?.refusal()?.rule)
    }
}

/// A partition and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionPlacement {
    /// The subgraph that it is in.
    pub subgraph: usize,
    /// The places of its operators.
    pub ops: Vec<usize>,
    /// The names of what goes in.
    pub inputs: Vec<String>,
    /// The names of what comes out.
    pub outputs: Vec<String>,
    /// An estimate of what it does and moves.
    pub cost: Cost,
    /// What the driver says that a run costs, by its own names.
    pub driver_cost: Vec<(String, f64)>,
    /// The device that was asked for.
    pub device: Option<String>,
    /// Whether the CPU path can compute it as well.
    pub has_twin: bool,
}

/// Where the operators of a model run. Displays as the line that users see.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// What takes partitions, as the user wrote it or as it calls itself.
    pub driver: String,
    /// Operators that run; those that only depend on constants are computed beforehand.
    pub ops: usize,
    /// How many of them are in partitions.
    pub delegated: usize,
    /// The partitions, by their numbers.
    pub partitions: Vec<PartitionPlacement>,
    /// Every operator of the subgraphs that run, in order; empty without a driver.
    pub nodes: Vec<OpPlacement>,
}

impl Placement {
    /// The first operator on the CPU path that the driver was asked about, and the reason.
    pub fn first_reason(&self) -> Option<(&OpPlacement, &str)> {
        let mut nodes = self.nodes.iter().filter(|node| node.placed == Placed::Cpu);
        nodes.find_map(|node| Some((node, node.reason.as_deref()?)))
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_cpu = self.ops - self.delegated;
        if self.nodes.is_empty() {
            return write!(
                f,
                "{}: {} on the CPU path",
                self.driver,
                counted(on_cpu, "op")
            );
        }
        let (delegated, all) = (self.delegated, counted(self.ops, "op"));
        write!(f, "{delegated} of {all} on {}", self.driver)?;
        if delegated > 0 {
            write!(f, " in {}", counted(self.partitions.len(), "partition"))?;
        }
        if on_cpu > 0 {
            write!(f, "; {on_cpu} on the CPU path")?;
        }
        match self.first_reason() {
            Some((node, reason)) => write!(f, ": {} {}: {reason}", node.op, node.index),
            None => Ok(()),
        }
    }
}

/// What a session did about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It opened the device again and repeated the call.
    Retried,
    /// It ran the partition on the CPU path.
    FellBack,
    /// It moved the partition to the CPU path for good.
    Retired,
    /// It gave up: the run failed.
    Failed,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retried => "opened the device again",
            Self::FellBack => "ran on the CPU path",
            Self::Retired => "moved to the CPU path for good",
            Self::Failed => "gave up",
        })
    }
}

/// A failure of a driver in a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The partition.
    pub partition: usize,
    /// Which run of the partition, from 1.
    pub run: u64,
    /// What the session did.
    pub action: Action,
    /// What happened.
    pub error: DriverError,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "partition {}, run {}: {}; {}",
            self.partition, self.run, self.error, self.action
        )
    }
}

/// What a partition's runs came to: `runs` is the sum of `delegated`, `on_cpu` and `lost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// How often it ran.
    pub runs: u64,
    /// Runs whose results are the driver's.
    pub delegated: u64,
    /// Runs whose results are the CPU path's.
    pub on_cpu: u64,
    /// Runs without a result, which ended with an error.
    pub lost: u64,
    /// Calls of the driver that failed, of which a run may have two.
    pub failed_calls: u64,
    /// Those that did not come back in time.
    pub late_calls: u64,
    /// Times that the device was opened again.
    pub reopened: u64,
    /// Results that were compared with those of the CPU path.
    pub checked: u64,
    /// Those that differed.
    pub wrong: u64,
    /// Whether it runs on the CPU path for good.
    pub retired: bool,
}

/// What happened in a session's runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// By the partitions' numbers.
    pub counters: Vec<Counters>,
    /// The failures, in order; the first 1000.
    pub events: Vec<Event>,
    /// How many more there were.
    pub more_events: u64,
}

impl Report {
    /// Runs of partitions that ended on the CPU path.
    pub fn on_cpu(&self) -> u64 {
        self.counters.iter().map(|counters| counters.on_cpu).sum()
    }
}

impl fmt::Display for Report {
    /// One line; empty where no driver failed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.events.first() else {
            return Ok(());
        };
        let runs: u64 = self.counters.iter().map(|counters| counters.runs).sum();
        let failed: u64 = self.counters.iter().map(|c| c.failed_calls).sum();
        let wrong: u64 = self.counters.iter().map(|c| c.wrong).sum();
        write!(
            f,
            "{} of the driver failed and {} wrong; {} of {} of partitions came from the CPU path; the first failure: {first}",
            counted(failed as usize, "call"),
            match wrong {
                1 => "1 result was".into(),
                _ => format!("{wrong} results were"),
            },
            self.on_cpu(),
            counted(runs as usize, "result"),
        )
    }
}

/// Events of all partitions of a session, the first of them in full.
#[derive(Debug, Default)]
pub(super) struct Log {
    events: Vec<Event>,
    more: u64,
}

const MOST_EVENTS: usize = 1000;

impl Log {
    pub fn push(&mut self, event: Event) {
        match self.events.len() < MOST_EVENTS {
            true => self.events.push(event),
            false => self.more += 1,
        }
    }

    pub fn after(&self, known: usize) -> Vec<Event> {
        self.events.get(known..).unwrap_or(&[]).to_vec()
    }

    pub fn report(&self, counters: Vec<Counters>) -> Report {
        Report {
            counters,
            events: self.events.clone(),
            more_events: self.more,
        }
    }
}

/// How long a call may take, and opening a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// A call.
    pub call: Duration,
    /// Opening and compiling, the first time and after a failure.
    pub open: Duration,
}

impl Deadline {
    /// `call` for a call, and 30 seconds to open a device.
    pub fn new(call: Duration) -> Self {
        Self {
            call,
            open: Duration::from_secs(30),
        }
    }
}
