//! `bantam check`: what an accelerator takes of a model, and why not the rest.

mod json;
mod markdown;
mod page;
mod sarif;
mod text;

use std::path::PathBuf;
use std::str::FromStr;

use bantam_delegate::check::{Check, CheckedOp};
use bantam_model::target::{MAPPED, Target, UNKNOWN, Verdict};
use bantam_model::{Model, Subgraph, read, write};
use clap::ValueEnum;

use crate::data;
use crate::error::{self, Failure};
use crate::output;
use crate::package;

/// Say what an accelerator takes of a model, and why not the rest
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The .tflite model
    model: PathBuf,
    /// The accelerator: a name of `bantam targets`, or the .toml file of a pack
    #[arg(long, value_name = "NAME|FILE.toml")]
    target: String,
    /// Check the subgraph that this signature enters [default: the first]
    #[arg(long, value_name = "KEY")]
    signature: Option<String>,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Exit with 1 if an operator stays on the CPU, or if there are more than N partitions
    #[arg(long, value_name = "unmapped|partitions:N")]
    fail_on: Vec<Gate>,
    /// Write the answer as a page with the graph, coloured by where each operator runs
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Write where each operator runs as node data for Model Explorer
    #[arg(long, value_name = "FILE.json")]
    model_explorer: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// For code scanning, SARIF 2.1.0
    Sarif,
    /// For a summary in a pull request
    Markdown,
}

/// What must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Unmapped,
    Partitions(usize),
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unmapped" {
            return Ok(Self::Unmapped);
        }
        let number = text
            .strip_prefix("partitions:")
            .and_then(|n| n.parse().ok());
        number
            .map(Self::Partitions)
            .ok_or_else(|| "say `unmapped` or `partitions:N`".to_owned())
    }
}

/// What every form of the answer is made from.
struct Checked<'a> {
    /// The model's path, as given.
    path: String,
    target: &'a Target,
    /// The number of the subgraph.
    subgraph: usize,
    graph: &'a Subgraph,
    check: Check,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let target = Target::open(&args.target).map_err(|error| error::target(&error))?;
    let bytes = data::read_model(&args.model)?;
    let versions = read::operator_versions(&bytes);
    let versions = versions.map_err(|error| error::read(&args.model, &error))?;
    let model = Model::read(bytes).map_err(|error| error::read(&args.model, &error))?;
    let subgraph = data::entry(&args.model, &model, args.signature.as_deref())?;
    let none = Subgraph::default();
    let checked = Checked {
        path: args.model.display().to_string(),
        target: &target,
        subgraph,
        graph: model.subgraphs.get(subgraph).unwrap_or(&none),
        check: Check::new(
            &model,
            subgraph,
            versions.get(subgraph).map_or(&[][..], |v| v),
            &target,
        ),
    };
    match args.format {
        Format::Text => output::print(&checked.text())?,
        Format::Json => output::print_json("check", checked.json())?,
        Format::Sarif => output::print(&format!("{:#}\n", checked.sarif()))?,
        Format::Markdown => output::print(&checked.markdown())?,
    }
    let save = |path: &Option<PathBuf>, text: &dyn Fn() -> String| match path {
        Some(path) => write::save(path, text().as_bytes())
            .map_err(|error| error::cannot_write(path, &error.to_string())),
        None => Ok(()),
    };
    save(&args.report, &|| checked.html())?;
    save(&args.model_explorer, &|| {
        format!("{:#}\n", checked.overlay())
    })?;
    output::warn(&checked.summary());
    args.fail_on.iter().try_for_each(|&gate| checked.gate(gate))
}

impl Checked<'_> {
    fn summary(&self) -> String {
        let (ops, mapped) = (self.check.ops.len(), self.check.mapped());
        let partitions = match self.check.partitions.len() {
            1 => "1 partition".to_owned(),
            count => format!("{count} partitions"),
        };
        format!(
            "{}: {mapped} of {ops} operators in {partitions}, {} on the CPU",
            self.target.name(),
            ops - mapped
        )
    }

    fn gate(&self, gate: Gate) -> Result<(), Failure> {
        let (failed, what) = match gate {
            Gate::Unmapped => (
                self.check.mapped() < self.check.ops.len(),
                "an operator stays on the CPU".to_owned(),
            ),
            Gate::Partitions(most) => (
                self.check.partitions.len() > most,
                format!("there are more than {most} partitions"),
            ),
        };
        if !failed {
            return Ok(());
        }
        Err(error::GATE.failure(
            what,
            self.summary(),
            "look at the rules above, or leave --fail-on away",
        ))
    }

    /// What the vendor's compiler would say of `op`, or our own words.
    fn status(&self, op: &CheckedOp) -> String {
        let rule = op.reason.as_ref().and_then(|r| r.rule.as_deref());
        let id = match (op.partition, rule) {
            (Some(_), _) => MAPPED,
            (None, rule) => rule.unwrap_or(UNKNOWN),
        };
        let own = || match id {
            MAPPED => format!("mapped to {}", self.target.title()),
            UNKNOWN => "nothing is known, so it stays on the CPU".to_owned(),
            rule => format!("on the CPU: {rule}"),
        };
        self.target.status(id).map_or_else(own, str::to_owned)
    }

    /// Kinds of operators with their numbers, by what the vendor's compiler says of them, in order of
    /// first use.
    fn kinds(&self) -> Vec<(String, usize, String)> {
        let mut kinds: Vec<(String, usize, String)> = Vec::new();
        for (node, op) in self.graph.nodes.iter().zip(&self.check.ops) {
            let (name, status) = (node.op.to_string(), self.status(op));
            match kinds.iter_mut().find(|k| k.0 == name && k.2 == status) {
                Some(kind) => kind.1 += 1,
                None => kinds.push((name, 1, status)),
            }
        }
        kinds.sort_by_key(|kind| kind.0.clone());
        kinds
    }

    /// The name of the first result of the operator at `index`.
    fn output_name(&self, index: usize) -> &str {
        let output = self.graph.nodes[index].outputs.first();
        output.map_or("", |&id| &self.graph[id].name)
    }

    /// What the memory comes to, in sentences.
    fn memory_lines(&self) -> Vec<String> {
        let packages = package::packages(self.graph);
        let mut lines: Vec<String> = packages.iter().map(|(i, p)| package::line(*i, p)).collect();
        let Some(memory) = &self.check.memory else {
            return lines;
        };
        let range = |[low, high]: [u64; 2]| {
            let (low_text, high_text) = (output::bytes(low), output::bytes(high));
            if low_text == high_text {
                low_text
            } else {
                format!("{low_text} to {high_text}")
            }
        };
        let cache = output::bytes(memory.cache);
        let fits = match memory.fits() {
            Some(true) => "they fit".to_owned(),
            Some(false) | None if !memory.streams => "they may not fit".to_owned(),
            Some(false) => format!("{} are sent for every run", range(memory.streamed)),
            None => format!(
                "they may fit, or {} are sent for every run",
                range(memory.streamed)
            ),
        };
        lines.push(format!(
            "parameters: {} in the file, estimated {} on the chip, whose cache holds {cache}: {fits}",
            output::bytes(memory.parameters),
            range(memory.on_chip),
        ));
        if let Some(at) = memory.largest_at {
            let tile = memory.tile.map_or(String::new(), |tile| {
                format!(
                    "; a tile of the chip holds {}, so the compiler cuts what is larger",
                    output::bytes(tile)
                )
            });
            lines.push(format!(
                "activations: at most {}, of operator {}, {}{tile}",
                output::bytes(memory.largest_activations),
                at.0,
                self.graph[at].op,
            ));
        }
        lines
    }
}

/// How a verdict is called in JSON and in tables.
fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Supported => "supported",
        Verdict::Unsupported(_) => "unsupported",
        Verdict::Unknown(_) => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_two_words_or_a_number() {
        assert_eq!("unmapped".parse(), Ok(Gate::Unmapped));
        assert_eq!("partitions:2".parse(), Ok(Gate::Partitions(2)));
        assert!("partitions:".parse::<Gate>().is_err());
        assert!("partition:2".parse::<Gate>().is_err());
    }
}
