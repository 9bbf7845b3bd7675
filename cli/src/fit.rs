//! How much of a model a chip takes, for lines and reports.

use bantam_converter::legalize::{self, Allowance, InputShape, LegalizeReport};
use bantam_delegate::partition;
use bantam_model::Model;
use bantam_model::ops::Mul;
use bantam_model::target::Target;
use serde_json::{Value, json};

use crate::error::{self, Failure};
use crate::output;

/// How much of the first subgraph a chip takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// All operators.
    pub ops: usize,
    /// Those that it takes.
    pub supported: usize,
    /// Those that are in a partition, and run on it.
    pub mapped: usize,
}

impl Fit {
    /// What `target` takes of `model`; one of floats is judged as if it were int8.
    pub fn of(model: &Model, target: &Target) -> Self {
        let placed = placed(model, target);
        let verdicts = legalize::verdicts(model, target);
        Self {
            ops: verdicts.len(),
            supported: verdicts.iter().filter(|v| v.is_supported()).count(),
            mapped: placed.iter().filter(|&&placed| placed).count(),
        }
    }

    pub fn json(self) -> Value {
        json!({ "mapped": self.mapped, "ops": self.ops, "supported": self.supported })
    }
}

/// Whether each operator of the first subgraph would run on the chip.
pub fn placed(model: &Model, target: &Target) -> Vec<bool> {
    let Some(graph) = model.subgraphs.first() else {
        return Vec::new();
    };
    let verdicts = legalize::verdicts(model, target);
    let takes: Vec<bool> = verdicts.iter().map(|v| v.is_supported()).collect();
    let mut placed = vec![false; graph.nodes.len()];
    for partition in partition(graph, &takes, &target.policy()) {
        partition
            .nodes
            .iter()
            .for_each(|id| placed[id.index()] = true);
    }
    placed
}

/// One line: what a chip takes before and after.
pub fn summary(target: &Target, before: Fit, after: Fit) -> String {
    format!(
        "{}: {} of {} ops mapped before, {} of {} after",
        target.name(),
        before.mapped,
        before.ops,
        after.mapped,
        after.ops
    )
}

/// Whether the chip's compiler cannot read the version that MUL has where its result is finer than the product of its
/// operands' steps.
pub fn reads_coarse_products_only(target: &Target) -> bool {
    const FINE: i32 = 3;
    let limit = target.max_version(&Mul::default().into());
    limit.is_some_and(|limit| limit < FINE)
}

/// The target `name`, or that of the pack at this path.
pub fn target(name: &str) -> Result<Target, Failure> {
    Target::open(name).map_err(|error| error::target(&error))
}

/// `K` steps, or `any`.
pub fn allowance(text: &str) -> Result<Allowance, String> {
    match text {
        "any" => Ok(Allowance::Any),
        steps => steps
            .parse()
            .map(Allowance::Steps)
            .map_err(|_| "give a number of steps, or `any`".to_owned()),
    }
}

/// `1x224x224x3` or `NAME:1x224x224x3`; the dimensions can be separated by commas as well.
pub fn shape(text: &str) -> Result<InputShape, String> {
    // Names hold colons, dimensions do not.
    let (name, dims) = match text.rsplit_once(':') {
        Some((name, dims)) => (Some(name.to_owned()), dims),
        None => (None, text),
    };
    let dims = dims
        .split(['x', ','])
        .map(|d| d.trim().parse().ok().filter(|&d| d > 0));
    match dims.collect() {
        Some(shape) => Ok(InputShape { name, shape }),
        None => Err("give dimensions such as 1x224x224x3, or NAME:1x224x224x3".to_owned()),
    }
}

/// What legalization did, for `--report` and `--format json`.
pub fn report_json(report: &LegalizeReport, before: Fit, after: Fit) -> Value {
    let mut object = report.json();
    object["after"] = after.json();
    object["before"] = before.json();
    object
}

/// The same for people; empty where there is nothing to say.
pub fn report_text(report: &LegalizeReport) -> String {
    let mut text = String::new();
    for frozen in &report.frozen {
        text += &format!(
            "fixed {:?}: {:?} is {}\n",
            frozen.name,
            frozen.from,
            output::dims(&frozen.to)
        );
    }
    for edge in &report.edges {
        text += &format!("integer now: {edge:?}\n");
    }
    for (title, list) in [
        ("rewritten", &report.applied),
        ("not allowed: --allow-inexact K or any", &report.declined),
    ] {
        let rows: Vec<[String; 5]> = list
            .iter()
            .map(|a| {
                [
                    a.from.join(", "),
                    a.into.join(", "),
                    a.exactness.to_string(),
                    a.rewrite.to_owned(),
                    a.tensor.clone(),
                ]
            })
            .collect();
        if !rows.is_empty() {
            let header = ["operator", "becomes", "numbers", "rewrite", "tensor"];
            text += &format!("{title}\n{}", output::table(&header, &rows));
        }
    }
    let rows: Vec<[String; 4]> = report
        .left
        .iter()
        .map(|l| {
            [
                l.index.to_string(),
                l.op.clone(),
                l.reason.clone(),
                l.tensor.clone(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let header = ["index", "operator", "reason", "tensor"];
        text += &format!("refused\n{}", output::table(&header, &rows));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_names_or_not() {
        let wanted = InputShape {
            name: Some("serving:0".into()),
            shape: vec![1, 3],
        };
        assert_eq!(shape("serving:0:1x3").unwrap(), wanted);
        assert_eq!(shape("1,3").unwrap().name, None);
        for wrong in ["", "1x", "0", "ax2", "1x-1"] {
            assert!(shape(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn allowances_are_steps_or_any() {
        assert_eq!(allowance("2"), Ok(Allowance::Steps(2)));
        assert_eq!(allowance("any"), Ok(Allowance::Any));
        assert!(allowance("-1").is_err());
    }
}
