//! What a delegate writes down: which operators it was offered, which it claimed and why not the others, and how long
//! each partition ran.

use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::error::{Failure, status};

/// The most graphs that are kept: a delegate may serve any number of interpreters.
const MOST_GRAPHS: usize = 64;
/// The most messages that are kept of each partition or graph.
const MOST_MESSAGES: usize = 32;
/// How old what is written may be, while kernels run: a program may end without freeing anything.
const OLDEST: Duration = Duration::from_secs(1);

/// All that one delegate was used for, and where to write it.
pub(super) struct Record {
    path: Option<PathBuf>,
    about: Map<String, Value>,
    graphs: Mutex<Vec<Arc<Mutex<Graph>>>>,
    /// When a run last had it written.
    written: Mutex<Option<Instant>>,
}

/// A graph that was offered.
#[derive(Default)]
pub(super) struct Graph {
    pub nodes: Vec<Node>,
    pub partitions: Vec<Partition>,
    pub prepare: Calls,
    pub messages: Messages,
}

/// An operator that was offered.
pub(super) struct Node {
    pub index: c_int,
    pub op: String,
    pub outputs: Vec<String>,
    pub partition: Option<usize>,
    /// Why it was not claimed.
    pub reason: Option<String>,
}

/// What runs as one.
#[derive(Default)]
pub(super) struct Partition {
    pub nodes: Vec<c_int>,
    pub inputs: Vec<c_int>,
    pub outputs: Vec<c_int>,
    pub init: Calls,
    pub prepare: Calls,
    pub invoke: Calls,
    pub messages: Messages,
}

/// What was reported, as far as there is room.
#[derive(Default)]
pub(super) struct Messages {
    first: Vec<String>,
    more: usize,
}

/// How often something was called, and how long it took.
#[derive(Default)]
pub(super) struct Calls {
    count: u64,
    failures: u64,
    total: Duration,
    shortest: Option<Duration>,
    longest: Duration,
}

impl Calls {
    pub fn add(&mut self, time: Duration, is_good: bool) {
        self.count += 1;
        self.failures += u64::from(!is_good);
        self.total += time;
        self.shortest = Some(self.shortest.map_or(time, |shortest| shortest.min(time)));
        self.longest = self.longest.max(time);
    }

    fn json(&self) -> Value {
        let us = |time: Duration| time.as_nanos() as f64 / 1e3;
        json!({
            "count": self.count,
            "failures": self.failures,
            "max_us": us(self.longest),
            "min_us": self.shortest.map(us),
            "total_us": us(self.total),
        })
    }
}

impl Partition {
    /// Whether there are runs to tell of.
    pub fn has_run(&self) -> bool {
        self.invoke.count > 0
    }
}

impl Messages {
    pub fn add(&mut self, message: impl Into<String>) {
        match self.first.len() < MOST_MESSAGES {
            true => self.first.push(message.into()),
            false => self.more += 1,
        }
    }

    fn json(&self) -> Value {
        json!({ "first": self.first, "more": self.more })
    }
}

/// The state behind a lock; a panic while it was held left figures, at worst, incomplete.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    /// A record of nothing yet, which says `about` of its delegate. Written once, so that a path that cannot be written is
    /// known before anything has run.
    pub fn new(path: Option<PathBuf>, about: Value) -> Result<Self, Failure> {
        let record = Self {
            path,
            about: match about {
                Value::Object(about) => about,
                _ => Map::new(),
            },
            graphs: Mutex::default(),
            written: Mutex::default(),
        };
        record.write()?;
        Ok(record)
    }

    /// Adds a graph, in place of the oldest if there are many.
    pub fn add(&self, graph: Graph) -> Arc<Mutex<Graph>> {
        let graph = Arc::new(Mutex::new(graph));
        let mut graphs = locked(&self.graphs);
        if graphs.len() == MOST_GRAPHS {
            graphs.remove(0);
        }
        graphs.push(Arc::clone(&graph));
        graph
    }

    /// After a run: writes what is known by now, unless that was done a moment ago.
    pub fn write_if_due(&self) {
        if self.path.is_none() {
            return;
        }
        let now = Instant::now();
        let mut written = locked(&self.written);
        if written.is_none_or(|then| now - then >= OLDEST) {
            *written = Some(now);
            drop(written);
            // The path could be written when the delegate was made, and what is lost is written when it ends.
            let _ = self.write();
        }
    }

    /// Writes what is known by now.
    pub fn write(&self) -> Result<(), Failure> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        // Under the lock, so that of two writers the later one writes more.
        let graphs = locked(&self.graphs);
        let text = format!("{:#}\n", self.json(&graphs));
        replace(path, &text).map_err(|error| {
            Failure::new(
                status::IO,
                format!("cannot write report {}: {error}", path.display()),
            )
        })
    }

    fn json(&self, graphs: &[Arc<Mutex<Graph>>]) -> Value {
        let mut object = self.about.clone();
        let graphs = graphs.iter().map(|graph| locked(graph).json());
        object.insert("graphs".into(), graphs.collect());
        object.insert("schema".into(), "bantam.external".into());
        object.insert("schema_version".into(), 1.into());
        object.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        object.into()
    }
}

/// Puts a file in place of what is there, whole.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    if !path.metadata().map_or(true, |m| m.is_file()) {
        return std::fs::write(path, text);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    std::fs::write(&part, text)?;
    std::fs::rename(&part, path).inspect_err(|_| {
        let _ = std::fs::remove_file(&part);
    })
}

impl Graph {
    fn json(&self) -> Value {
        let nodes = self.nodes.iter().map(|node| {
            json!({
                "index": node.index,
                "op": node.op,
                "outputs": node.outputs,
                "partition": node.partition,
                "reason": node.reason,
            })
        });
        let partitions = self.partitions.iter().map(|partition| {
            json!({
                "init": partition.init.json(),
                "inputs": partition.inputs,
                "invoke": partition.invoke.json(),
                "messages": partition.messages.json(),
                "nodes": partition.nodes,
                "outputs": partition.outputs,
                "prepare": partition.prepare.json(),
            })
        });
        let claimed = self.nodes.iter().filter(|node| node.partition.is_some());
        json!({
            "claimed": claimed.count(),
            "messages": self.messages.json(),
            "nodes": nodes.collect::<Value>(),
            "offered": self.nodes.len(),
            "partitions": partitions.collect::<Value>(),
            "prepare": self.prepare.json(),
        })
    }
}
