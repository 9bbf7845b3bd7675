//! What an accelerator takes: a verdict for each operator, with the rule that it rests on.
//!
//! A verdict is never a guess. Where nothing is known of an operator it is [`Verdict::Unknown`],
//! which places the operator on the CPU path as a refusal does, and says so.

use std::fmt;

/// Whether an accelerator takes an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Supported,
    /// It does not, because of a rule.
    Unsupported(Box<Refusal>),
    /// Nothing is known; the text says of what.
    Unknown(String),
}

impl Verdict {
    /// Whether the accelerator takes the operator.
    pub fn is_supported(&self) -> bool {
        *self == Self::Supported
    }

    /// The rule that refuses the operator.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Unsupported(refusal) => Some(refusal),
            Self::Supported | Self::Unknown(_) => None,
        }
    }
}

/// Why an accelerator does not take an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The rule's id, stable over versions, such as `max-rank`.
    pub rule: String,
    /// What the rule says, and what the operator has, in one sentence.
    pub reason: String,
    /// What was measured on the operator.
    pub measured: Option<Measure>,
    /// What the rule allows.
    pub limit: Option<Measure>,
    /// Where the rule is documented or was seen.
    pub evidence: Option<String>,
    /// Whether the rule was learned from examples and is not documented.
    pub is_inferred: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// A figure or a word that a rule compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measure {
    /// A count, a size, a version.
    Number(i64),
    /// An element type, a list of strides.
    Text(String),
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// How operators that an accelerator takes become partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionPolicy {
    /// Which of the possible partitions are offloaded.
    pub which: Which,
    /// The fewest operators for which offloading pays.
    pub min_ops: usize,
}

/// Which of the possible partitions are offloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The first alone, as the Edge TPU's compiler does it.
    First,
    /// Each.
    All,
}

impl Default for PartitionPolicy {
    fn default() -> Self {
        Self {
            which: Which::All,
            min_ops: 1,
        }
    }
}
