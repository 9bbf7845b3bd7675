//! A pack and the vocabulary as tables in Markdown, for `bantam targets` and docs/targets.md.

use std::fmt::Write;

use super::condition::Operands;
use super::quantity::Quantity;
use super::{Rule, Table, Target, Which};

impl Target {
    /// What the target takes: its operators, their versions and its rules.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.about.trim());
        // Writing to a String cannot fail.
        let partitions = match self.policy.which {
            Which::First => "the first partition only",
            Which::All => "every partition",
        };
        let _ = match self.policy.min_ops {
            0 | 1 => writeln!(text, "Offloads {partitions}.\n"),
            fewest => writeln!(
                text,
                "Offloads {partitions} of at least {fewest} operators.\n"
            ),
        };
        if let Some(memory) = &self.memory {
            let _ = writeln!(
                text,
                "Keeps {} bytes of parameters on the chip{} ({}).\n",
                memory.cache_bytes,
                if memory.streams {
                    " and is sent the rest for every run"
                } else {
                    ""
                },
                memory.evidence
            );
        }
        match &self.table {
            Table::Kernels => {
                text.push_str("Takes every operator that has a kernel in this program.\n\n")
            }
            Table::Entries(_) => self.operators(&mut text),
        }
        if !self.rules.is_empty() {
            text.push_str("| Rule | An operator is taken if | Evidence |\n|---|---|---|\n");
        }
        for rule in &self.rules {
            let _ = writeln!(
                text,
                "| `{}`{} | {}{} | {} |",
                rule.id,
                if rule.is_inferred { " (learned)" } else { "" },
                cell(&rule.says),
                if rule.effect == super::Effect::Unknown {
                    "; otherwise unknown"
                } else {
                    ""
                },
                cell(&rule.evidence),
            );
        }
        if !self.sources.is_empty() {
            text.push_str("\nSources:\n\n");
        }
        for source in &self.sources {
            let link = source
                .url
                .as_ref()
                .map_or(String::new(), |url| format!(", <{url}>"));
            let _ = writeln!(text, "- {}: {}{link}", source.key, source.what);
        }
        text
    }

    fn operators(&self, text: &mut String) {
        let names = |rules: &mut dyn Iterator<Item = &Rule>| {
            let names: Vec<String> = rules.map(|rule| format!("`{}`", rule.id)).collect();
            names.join(", ")
        };
        let general = names(&mut self.rules.iter().filter(|rule| rule.ops.is_none()));
        if !general.is_empty() {
            let _ = writeln!(text, "Rules on every operator: {general}.\n");
        }
        text.push_str("| Operator | Up to version | Rules besides | Note |\n|---|---:|---|---|\n");
        let Table::Entries(entries) = &self.table else {
            return;
        };
        let mut entries: Vec<_> = entries.iter().collect();
        entries.sort_by(|a, b| (a.is_custom, &a.name).cmp(&(b.is_custom, &b.name)));
        for entry in entries {
            let mut own = self
                .rules
                .iter()
                .filter(|r| r.ops.is_some() && r.is_on(&entry.name));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                entry.name,
                entry
                    .max_version
                    .map_or("any".to_owned(), |version| version.to_string()),
                names(&mut own),
                cell(entry.note.as_deref().unwrap_or("")),
            );
        }
        text.push('\n');
    }

    /// How many operators the pack lists; `None` for what takes all that have kernels.
    pub fn operator_count(&self) -> Option<usize> {
        match &self.table {
            Table::Entries(entries) => Some(entries.len()),
            Table::Kernels => None,
        }
    }

    /// How many rules the pack has, and how many of them are learned.
    pub fn rule_count(&self) -> (usize, usize) {
        let learned = self.rules.iter().filter(|rule| rule.is_inferred).count();
        (self.rules.len(), learned)
    }
}

/// The vocabulary of packs: what can be measured, and on which tensors.
pub fn vocabulary() -> String {
    let mut text = "| `measure` | Means | `of`, unless it is given |\n|---|---|---|\n".to_owned();
    for quantity in Quantity::ALL {
        let of = quantity.default_operands();
        let of = of.map_or("not on tensors".to_owned(), |of| format!("`{of}`"));
        let _ = writeln!(
            text,
            "| `{}` | {} | {of} |",
            quantity.name(),
            cell(quantity.about())
        );
    }
    text.push_str("\n| `of` | Means |\n|---|---|\n");
    for (name, about) in Operands::NAMES {
        let _ = writeln!(text, "| `{name}` | {} |", cell(about));
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replaces what stands between the two marks of `name`.
    fn replaced(page: &str, name: &str, text: &str) -> String {
        let (start, end) = (
            format!("<!-- {name} -->\n"),
            format!("<!-- end of {name} -->"),
        );
        let (before, rest) = page
            .split_once(&start)
            .expect("a mark where the table starts");
        let (_, after) = rest.split_once(&end).expect("a mark where the table ends");
        format!("{before}{start}{text}{end}{after}")
    }

    #[test]
    fn the_documentation_has_these_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/targets.md");
        let page = std::fs::read_to_string(path).unwrap();
        let mut fresh = replaced(&page, "vocabulary", &vocabulary());
        for name in Target::builtin_names() {
            fresh = replaced(&fresh, name, &Target::named(name).unwrap().markdown());
        }
        if std::env::var_os("BANTAM_UPDATE_DOCS").is_some() {
            std::fs::write(path, &fresh).unwrap();
        }
        assert!(
            fresh == page,
            "docs/targets.md is old: run this test with BANTAM_UPDATE_DOCS=1, then again"
        );
    }
}
