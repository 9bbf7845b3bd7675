//! What an accelerator takes: a verdict for each operator, with the rule that it rests on.
//!
//! A chip is a [`Target`], read from a pack: a TOML file that lists operators and rules on them. Some
//! packs come with the program; docs/targets.md says how to write one.
//!
//! A verdict is never a guess. Where nothing is known of an operator it is [`Verdict::Unknown`],
//! which places the operator on the CPU path as a refusal does, and says so.

mod condition;
mod parse;
mod probe;
mod quantity;
mod table;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

pub use probe::{Probe, Probes};
pub use table::vocabulary;

use condition::{Condition, Failing, Outcome};
use view::View;

use crate::graph::{Model, Node, Subgraph};
use crate::ops::Op;

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

/// Packs that come with the program, by name.
const BUILTIN: &[(&str, &str)] = &[
    ("cpu", include_str!("../targets/cpu.toml")),
    ("edgetpu", include_str!("../targets/edgetpu.toml")),
    ("ethos-u55", include_str!("../targets/ethos-u55.toml")),
    ("ethos-u65", include_str!("../targets/ethos-u65.toml")),
];

/// Ids of rules that belong to the program and not to a pack.
const RESERVED: &[&str] = &[NOT_IN_TABLE, VERSION, NO_KERNEL, ONE_PARTITION, MIN_OPS];

/// The rule that refuses an operator which a pack does not list.
pub const NOT_IN_TABLE: &str = "not-in-table";
/// The rule that refuses a version above [`Target::max_version`].
pub const VERSION: &str = "version";
/// The rule that refuses what the CPU path has no kernel for.
pub const NO_KERNEL: &str = "no-kernel";
/// Why a supported operator is outside the partition of a chip that takes only the first.
pub const ONE_PARTITION: &str = "one-partition";
/// Why a supported operator is in no partition of a chip that asks for larger ones.
pub const MIN_OPS: &str = "min-ops";

/// What [`Target::status`] is asked for an operator that is offloaded.
pub const MAPPED: &str = "mapped";
/// The same for one of which nothing is known.
pub const UNKNOWN: &str = "unknown";
/// The key of what a vendor's compiler says of rules that it has no words for.
const OTHERWISE: &str = "otherwise";

/// One chip: what it takes, as data.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    name: String,
    title: String,
    about: String,
    sources: Vec<Source>,
    policy: PartitionPolicy,
    memory: Option<Memory>,
    /// What the vendor's compiler says, by what we call it.
    statuses: BTreeMap<String, String>,
    table: Table,
    rules: Vec<Rule>,
}

/// Where the facts of a pack come from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What evidence calls it.
    pub key: String,
    /// What it is.
    pub what: String,
    /// Where it is.
    pub url: Option<String>,
}

/// The memory of a chip.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// Bytes on the chip that keep parameters from run to run.
    pub cache_bytes: u64,
    /// Whether parameters that do not fit are sent for every run.
    pub streams: bool,
    /// The smallest and the largest factor by which parameters grow on the chip.
    pub parameter_growth: [f64; 2],
    /// Bytes for activations, each tile of the chip.
    pub activation_bytes: Option<u64>,
    /// Where the figures come from.
    pub evidence: String,
}

/// Which operators a pack is about.
#[derive(Debug, Clone, PartialEq)]
enum Table {
    /// Those that are listed.
    Entries(Vec<Entry>),
    /// Those that the CPU path has kernels for.
    Kernels,
}

/// An operator of a pack's table.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    name: String,
    is_custom: bool,
    max_version: Option<i32>,
    note: Option<String>,
}

/// What an operator must be like to be taken.
#[derive(Debug, Clone, PartialEq)]
struct Rule {
    id: String,
    says: String,
    evidence: String,
    is_inferred: bool,
    effect: Effect,
    /// The operators it is on; `None` for all of the table.
    ops: Option<Vec<String>>,
    except: Vec<String>,
    when: Option<Condition>,
    unless: Option<Condition>,
    require: Condition,
}

/// What follows where a rule is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The operator is refused.
    Refuse,
    /// Nobody knows whether it is taken.
    Unknown,
}

/// Why there is no target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No built-in target has the name, and it is no path of a pack.
    #[error("there is no target {name}; {hint}")]
    Name {
        /// The name.
        name: String,
        /// What there is.
        hint: String,
    },
    /// The file of a pack cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A pack holds something that has no meaning.
    #[error("{origin}:{line}: {message}; {hint}")]
    Pack {
        /// The file, or the name of a built-in pack.
        origin: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
        /// What to write.
        hint: String,
    },
}

impl Target {
    /// The names of the targets that come with the program.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|&(name, _)| name)
    }

    /// The target `name` of those that come with the program.
    pub fn named(name: &str) -> Option<&'static Self> {
        static PARSED: [OnceLock<Target>; BUILTIN.len()] =
            [const { OnceLock::new() }; BUILTIN.len()];
        let index = BUILTIN.iter().position(|&(known, _)| known == name)?;
        let (origin, text) = BUILTIN[index];
        if let Some(target) = PARSED[index].get() {
            return Some(target);
        }
        // A test parses each, so there is always one.
        let target = Self::parse(text, origin).ok()?;
        Some(PARSED[index].get_or_init(|| target))
    }

    /// The target that comes with the program under this name, or else that of the pack at this path.
    pub fn open(name_or_path: &str) -> Result<Self, TargetError> {
        if let Some(&(origin, text)) = BUILTIN.iter().find(|&&(known, _)| known == name_or_path) {
            return Self::parse(text, origin);
        }
        let is_path = name_or_path.contains(['/', '\\', '.']);
        if !is_path && !Path::new(name_or_path).exists() {
            let known: Vec<&str> = Self::builtin_names().collect();
            return Err(TargetError::Name {
                name: name_or_path.to_owned(),
                hint: parse::did_you_mean(name_or_path, &known),
            });
        }
        let text = std::fs::read_to_string(name_or_path).map_err(|source| TargetError::File {
            path: name_or_path.to_owned(),
            source,
        })?;
        Self::parse(&text, name_or_path)
    }

    /// The name in commands.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name for people.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// What it is, and what its pack is made from.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Where the facts come from.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// How operators that it takes become partitions.
    pub fn policy(&self) -> PartitionPolicy {
        self.policy
    }

    /// Its memory, where the pack knows.
    pub fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// What the vendor's own compiler says of an operator that the rule `id` keeps from the chip, or
    /// of one that is [`MAPPED`], where the pack knows.
    pub fn status(&self, id: &str) -> Option<&str> {
        let status = self.statuses.get(id).or_else(|| match id {
            MAPPED => None,
            _ => self.statuses.get(OTHERWISE),
        });
        status.map(String::as_str)
    }

    /// What the rule `id` says, in one sentence.
    pub fn rule_says(&self, id: &str) -> Option<&str> {
        Some(match id {
            NOT_IN_TABLE => "the operator is one that the target takes",
            VERSION => "the operator's version is one that the target reads",
            NO_KERNEL => "the operator has a kernel",
            ONE_PARTITION => "the operator is in the first partition, as only one is compiled",
            MIN_OPS => "the operator's partition is large enough",
            _ => &self.rules.iter().find(|rule| rule.id == id)?.says,
        })
    }

    /// The greatest version of an operator that it reads; `None` where it does not take the
    /// operator, or no bound is known.
    pub fn max_version(&self, op: &Op) -> Option<i32> {
        self.entry(op)?.max_version
    }

    /// The operators that its pack lists; none for a pack of kernels.
    fn entries(&self) -> Vec<Entry> {
        match &self.table {
            Table::Entries(entries) => entries.clone(),
            Table::Kernels => Vec::new(),
        }
    }

    fn entry(&self, op: &Op) -> Option<&Entry> {
        let Table::Entries(entries) = &self.table else {
            return None;
        };
        let (name, is_custom) = (op.to_string(), matches!(op, Op::Custom(_)));
        entries
            .iter()
            .find(|e| e.is_custom == is_custom && e.name == name)
    }

    /// Whether it takes each operator of `model`'s subgraph, in order; none where there is no such
    /// subgraph. Versions are the lowest that mean what the operators do.
    pub fn verdicts(&self, model: &Model, subgraph: usize) -> Vec<Verdict> {
        let Some(graph) = model.subgraphs.get(subgraph) else {
            return Vec::new();
        };
        let verdict = |node| self.verdict(graph, node, crate::write::version(graph, node));
        graph.nodes.iter().map(verdict).collect()
    }

    /// Whether it takes `node` of `subgraph`, where its file says `version`.
    pub fn verdict(&self, subgraph: &Subgraph, node: &Node, version: i32) -> Verdict {
        let refuse = |rule: &str, reason: String, measured, limit| {
            Verdict::Unsupported(Box::new(Refusal {
                rule: rule.to_owned(),
                reason,
                measured,
                limit,
                evidence: None,
                is_inferred: false,
            }))
        };
        if self.table == Table::Kernels {
            if let Err(error) = node.op.operator() {
                return refuse(NO_KERNEL, error.to_string(), None, None);
            }
        } else {
            let Some(entry) = self.entry(&node.op) else {
                let reason = format!("{} takes no {}", self.title, node.op);
                let measured = Some(Measure::Text(node.op.to_string()));
                return refuse(NOT_IN_TABLE, reason, measured, None);
            };
            if let Some(max) = entry.max_version
                && version > max
            {
                let reason = format!(
                    "{} is of version {version}, and {} reads up to {max}",
                    node.op, self.title
                );
                let (measured, limit) = (i64::from(version), i64::from(max));
                return refuse(
                    VERSION,
                    reason,
                    Some(Measure::Number(measured)),
                    Some(Measure::Number(limit)),
                );
            }
        }
        let view = View::new(subgraph, node, version);
        let mut unknown = None;
        for rule in self.rules_on(&node.op) {
            match (rule.test(&view), rule.effect) {
                (Outcome::Holds, _) => {}
                (Outcome::Fails(failing), Effect::Refuse) => {
                    return Verdict::Unsupported(Box::new(rule.refusal(failing)));
                }
                (Outcome::Fails(failing), Effect::Unknown) => {
                    let reason = rule.reason(&failing.text);
                    unknown.get_or_insert(format!("{}: {reason}", rule.id));
                }
                (Outcome::Unknown(why), _) => {
                    let reason = rule.reason(&why);
                    unknown.get_or_insert(format!("{}: {reason}", rule.id));
                }
            }
        }
        unknown.map_or(Verdict::Supported, Verdict::Unknown)
    }

    fn rules_on<'a>(&'a self, op: &Op) -> impl Iterator<Item = &'a Rule> {
        let name = op.to_string();
        self.rules.iter().filter(move |rule| rule.is_on(&name))
    }
}

impl Rule {
    fn is_on(&self, op: &str) -> bool {
        let listed = self
            .ops
            .as_ref()
            .is_none_or(|ops| ops.iter().any(|o| o == op));
        listed && !self.except.iter().any(|o| o == op)
    }

    fn test(&self, view: &View) -> Outcome {
        let mut doubt = None;
        if let Some(when) = &self.when {
            match when.test(view) {
                Outcome::Holds => {}
                Outcome::Fails(_) => return Outcome::Holds,
                Outcome::Unknown(why) => doubt = Some(why),
            }
        }
        if let Some(unless) = &self.unless {
            match unless.test(view) {
                Outcome::Holds => return Outcome::Holds,
                Outcome::Fails(_) => {}
                Outcome::Unknown(why) => doubt = doubt.or(Some(why)),
            }
        }
        match (self.require.test(view), doubt) {
            (Outcome::Fails(_), Some(why)) => Outcome::Unknown(why),
            (outcome, _) => outcome,
        }
    }

    fn reason(&self, measured: &str) -> String {
        match measured {
            "" => self.says.clone(),
            text => format!("{}: {text}", self.says),
        }
    }

    fn refusal(&self, failing: Failing) -> Refusal {
        Refusal {
            rule: self.id.clone(),
            reason: self.reason(&failing.text),
            measured: failing.measured,
            limit: failing.limit,
            evidence: Some(self.evidence.clone()),
            is_inferred: self.is_inferred,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Custom, Relu, Reshape};
    use crate::quant::PerTensor;
    use crate::tensor::{Bytes, DType, Tensor};

    fn verdict(target: &str, op: impl Into<Op>, tensors: &[Tensor]) -> Verdict {
        let mut subgraph = Subgraph::default();
        let ids: Vec<_> = tensors
            .iter()
            .map(|t| subgraph.add_tensor(t.clone()))
            .collect();
        let (&output, inputs) = ids.split_last().unwrap();
        subgraph.nodes = vec![Node::new(op, inputs, &[output])];
        let model = Model {
            subgraphs: vec![subgraph],
            ..Model::default()
        };
        Target::named(target).unwrap().verdicts(&model, 0).remove(0)
    }

    fn int8(name: &str, shape: &[usize]) -> Tensor {
        Tensor::new(name, DType::I8, shape).quantized(PerTensor::new(0.5, 0).into())
    }

    #[test]
    fn every_built_in_pack_parses_and_has_its_name() {
        for (name, text) in BUILTIN {
            assert_eq!(Target::parse(text, name).unwrap().name(), *name);
            assert_eq!(Target::named(name).unwrap().name(), *name);
            assert_eq!(Target::open(name).unwrap().name(), *name);
        }
        let error = Target::open("edgetpuu").unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no target edgetpuu; did you mean `edgetpu`?"
        );
        assert!(matches!(
            Target::open("no/such.toml"),
            Err(TargetError::File { .. })
        ));
    }

    #[test]
    fn a_refusal_says_rule_measure_and_limit() {
        let (a, b) = (int8("a", &[1, 230_400]), int8("b", &[1, 400, 576]));
        let refused = verdict("edgetpu", Reshape::default(), &[a, b]);
        let refusal = refused.refusal().unwrap();
        assert_eq!(refusal.rule, "reshape-size");
        assert_eq!(refusal.measured, Some(Measure::Number(230_400)));
        assert_eq!(refusal.limit, Some(Measure::Number(196_608)));
        assert!(refusal.is_inferred);
        assert!(
            refusal
                .reason
                .ends_with("elements of `a` is 230400, not at most 196608"),
            "{refusal}"
        );
        let float = Tensor::new("x", DType::F32, [4]);
        let refused = verdict("edgetpu", Relu, &[float.clone(), float]);
        assert_eq!(refused.refusal().unwrap().rule, "data-type");
    }

    #[test]
    fn what_no_pack_lists_is_refused_and_named() {
        let custom = Custom {
            name: "Mine".into(),
            version: 1,
            options: Bytes::from(Vec::new()),
        };
        for (target, rule) in [("edgetpu", NOT_IN_TABLE), ("cpu", NO_KERNEL)] {
            let refused = verdict(
                target,
                Op::Custom(Box::new(custom.clone())),
                &[int8("y", &[1])],
            );
            assert_eq!(refused.refusal().unwrap().rule, rule);
        }
        assert_eq!(
            verdict("cpu", Relu, &[int8("x", &[1]), int8("y", &[1])]),
            Verdict::Supported
        );
    }

    #[test]
    fn a_shape_that_may_vary_inside_is_refused_and_a_batch_is_not() {
        let with = |signature: &[i32]| Tensor {
            shape_signature: Some(signature.to_vec()),
            ..int8("x", &[1, 8])
        };
        let is = |signature| verdict("edgetpu", Relu, &[with(signature), int8("y", &[1, 8])]);
        assert_eq!(is(&[-1, 8]), Verdict::Supported);
        assert_eq!(is(&[1, -1]).refusal().unwrap().rule, "static-shapes");
    }

    #[test]
    fn newer_versions_than_the_pack_knows_are_refused() {
        let mut subgraph = Subgraph::default();
        let ids = [0, 1].map(|_| subgraph.add_tensor(int8("x", &[1, 8])));
        let node = Node::new(Relu, &ids[..1], &ids[1..]);
        let target = Target::named("edgetpu").unwrap();
        assert_eq!(target.max_version(&node.op), Some(2));
        assert!(target.verdict(&subgraph, &node, 2).is_supported());
        assert_eq!(
            target.verdict(&subgraph, &node, 3).refusal().unwrap().rule,
            VERSION
        );
    }
}
