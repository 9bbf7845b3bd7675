//! What legalization did, what it could do if it were allowed to, and what is left.

use std::fmt;

use bantam_model::{NodeId, Subgraph};
use serde_json::{Value, json};

use super::Found;
use super::shapes::Frozen;

/// How far the numbers of a rewritten operator are from those of the original; the less, the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exactness {
    /// The same integers, or the same floats, always.
    Exact,
    /// The same function, rounded in another place: floats differ in their last bits.
    Rounding,
    /// Integers differ by at most so many steps of the result's scale.
    Within(u32),
    /// Nothing holds.
    Changed,
}

impl Exactness {
    pub(super) fn steps(steps: u32) -> Self {
        match steps {
            0 => Self::Exact,
            steps => Self::Within(steps),
        }
    }
}

impl fmt::Display for Exactness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Rounding => f.write_str("exact but for float rounding"),
            Self::Within(1) => f.write_str("within 1 step"),
            Self::Within(steps) => write!(f, "within {steps} steps"),
            Self::Changed => f.write_str("changes the numbers"),
        }
    }
}

/// One operator, and what stands in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Application {
    /// The rewrite's name, as docs/legalize.md has it.
    pub rewrite: &'static str,
    /// The kinds of the operators that went.
    pub from: Vec<String>,
    /// The name of the first result.
    pub tensor: String,
    /// The kinds of the operators that came.
    pub into: Vec<String>,
    /// What that does to the numbers of its result.
    pub exactness: Exactness,
}

/// A rewrite that would help, but changes the numbers by more than is allowed.
pub type Declined = Application;

impl Application {
    pub(super) fn new(graph: &Subgraph, id: NodeId, found: &Found) -> Self {
        let node = &graph[id];
        let removes = found.draft.removes.iter();
        Self {
            rewrite: found.rewrite.name,
            from: removes.map(|id| graph[*id].op.to_string()).collect(),
            tensor: node
                .outputs
                .first()
                .map_or_else(String::new, |&id| graph[id].name.clone()),
            into: found.draft.nodes.iter().map(|n| n.op.to_string()).collect(),
            exactness: found.exactness,
        }
    }
}

/// How many operators a chip takes; how many of them it runs is a matter of partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Support {
    /// All operators.
    pub ops: usize,
    /// Those that the chip takes.
    pub supported: usize,
}

/// An operator that the chip still refuses.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    /// Its place.
    pub index: usize,
    /// Its kind.
    pub op: String,
    /// The name of its first result.
    pub tensor: String,
    /// Why.
    pub reason: String,
}

/// What legalization did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LegalizeReport {
    /// The chip's name.
    pub target: String,
    /// Whether the model is of floats, and was judged as if it were int8.
    pub judged_as_int8: bool,
    /// What the chip took.
    pub before: Support,
    /// What it takes now.
    pub after: Support,
    /// Inputs whose shape was fixed.
    pub frozen: Vec<Frozen>,
    /// Names of inputs and outputs that are integer now.
    pub edges: Vec<String>,
    /// The rewrites, in order.
    pub applied: Vec<Application>,
    /// What was not allowed.
    pub declined: Vec<Declined>,
    /// What the chip still refuses.
    pub left: Vec<Left>,
}

impl LegalizeReport {
    /// The worst that was done to the result of one operator. What follows it in the graph can enlarge a difference.
    pub fn exactness(&self) -> Exactness {
        let each = self.applied.iter().map(|a| a.exactness);
        each.max().unwrap_or(Exactness::Exact)
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let each = |list: &[Application]| -> Value {
            let entry = |a: &Application| {
                json!({
                    "exactness": a.exactness.to_string(),
                    "from": a.from,
                    "into": a.into,
                    "rewrite": a.rewrite,
                    "tensor": a.tensor,
                })
            };
            list.iter().map(entry).collect()
        };
        let frozen = self.frozen.iter();
        let frozen = frozen.map(|f| json!({ "from": f.from, "name": f.name, "to": f.to }));
        let left = self.left.iter().map(
            |l| json!({ "index": l.index, "op": l.op, "reason": l.reason, "tensor": l.tensor }),
        );
        json!({
            "after": { "ops": self.after.ops, "supported": self.after.supported },
            "applied": each(&self.applied),
            "before": { "ops": self.before.ops, "supported": self.before.supported },
            "declined": each(&self.declined),
            "edges": self.edges,
            "exactness": self.exactness().to_string(),
            "frozen": frozen.collect::<Value>(),
            "judged_as_int8": self.judged_as_int8,
            "left": left.collect::<Value>(),
            "target": self.target,
        })
    }
}
