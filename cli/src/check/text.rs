//! The answer for people: first the table that users of a vendor's compiler know, then ours.

use std::fmt::Write;

use bantam_delegate::check::Reason;

use super::Checked;
use crate::output;

impl Checked<'_> {
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let kinds: Vec<[String; 3]> = self
            .kinds()
            .into_iter()
            .map(|(op, count, status)| [op, count.to_string(), status])
            .collect();
        text.push_str(&output::table(&["Operator", "Count", "Status"], &kinds));
        text.push('\n');
        let measure = |m: Option<String>| m.unwrap_or_default();
        let rows: Vec<[String; 7]> = self
            .graph
            .nodes
            .iter()
            .zip(&self.check.ops)
            .enumerate()
            .map(|(index, (node, op))| {
                let reason = op.reason.as_ref();
                let place = match op.partition {
                    Some(partition) => format!("{} {partition}", self.target.name()),
                    None => "cpu".to_owned(),
                };
                let rule = match reason {
                    Some(Reason { rule: None, .. }) => "(unknown)".to_owned(),
                    _ => measure(reason.and_then(|r| r.rule.clone())),
                };
                [
                    index.to_string(),
                    node.op.to_string(),
                    place,
                    rule,
                    measure(
                        reason
                            .and_then(|r| r.measured.as_ref())
                            .map(ToString::to_string),
                    ),
                    measure(
                        reason
                            .and_then(|r| r.limit.as_ref())
                            .map(ToString::to_string),
                    ),
                    short(self.output_name(index)),
                ]
            })
            .collect();
        text.push_str(&output::table(
            &[
                "index", "operator", "where", "rule", "measured", "limit", "output",
            ],
            &rows,
        ));
        let whys = self.whys();
        if !whys.is_empty() {
            text.push_str("\nWhy\n");
        }
        // Writing to a String cannot fail.
        for (indices, reason) in &whys {
            let name = reason.rule.as_deref().unwrap_or("unknown");
            let learned = if reason.is_inferred { ", learned" } else { "" };
            let _ = writeln!(text, "  {name}{learned}: {}", reason.text);
            if indices.len() > 1 {
                let _ = writeln!(text, "    also operators {}", list(&indices[1..]));
            }
            if let Some(evidence) = &reason.evidence {
                let _ = writeln!(text, "    evidence: {evidence}");
            }
        }
        let memory = self.memory_lines();
        if !memory.is_empty() {
            text.push_str("\nMemory\n");
        }
        for line in memory {
            let _ = writeln!(text, "  {line}");
        }
        text
    }

    /// Each rule that keeps operators on the CPU, with those operators and the reason of the first.
    pub(super) fn whys(&self) -> Vec<(Vec<usize>, &Reason)> {
        let mut whys: Vec<(Vec<usize>, &Reason)> = Vec::new();
        for (index, op) in self.check.ops.iter().enumerate() {
            let Some(reason) = &op.reason else { continue };
            let same = |why: &&mut (Vec<usize>, &Reason)| match (&why.1.rule, &reason.rule) {
                (None, None) => why.1.text == reason.text,
                (a, b) => a == b,
            };
            match whys.iter_mut().find(same) {
                Some(why) => why.0.push(index),
                None => whys.push((vec![index], reason)),
            }
        }
        whys
    }
}

/// A name that leaves room for the other columns.
fn short(name: &str) -> String {
    const MOST: usize = 48;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

/// Numbers, runs of them as `3-7`.
pub(super) fn list(indices: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &index in indices {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => parts.push((index, index)),
        }
    }
    let part = |&(first, last): &(usize, usize)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_numbers_are_short() {
        assert_eq!(list(&[1, 2, 3, 7, 9, 10]), "1-3, 7, 9-10");
        assert_eq!(list(&[]), "");
    }

    #[test]
    fn long_names_are_cut_between_letters() {
        assert_eq!(short("a"), "a");
        assert_eq!(short(&"ü".repeat(60)), "ü".repeat(48) + "...");
    }
}
