//! The answer as a summary for a pull request.

use std::fmt::Write;

use super::Checked;
use super::text::list;

impl Checked<'_> {
    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "### `{}` on {}\n\n{}\n\n",
            self.path,
            self.target.title(),
            self.summary()
        );
        // Writing to a String cannot fail.
        text.push_str("| Operator | Count | Status |\n|---|---:|---|\n");
        for (op, count, status) in self.kinds() {
            let _ = writeln!(text, "| {} | {count} | {} |", cell(&op), cell(&status));
        }
        let whys = self.whys();
        if !whys.is_empty() {
            text.push_str("\n| Rule | Operators | Why | Evidence |\n|---|---|---|---|\n");
        }
        for (indices, reason) in whys {
            let _ = writeln!(
                text,
                "| {}{} | {} | {} | {} |",
                cell(reason.rule.as_deref().unwrap_or("unknown")),
                if reason.is_inferred { " (learned)" } else { "" },
                list(&indices),
                cell(&reason.text),
                cell(reason.evidence.as_deref().unwrap_or("")),
            );
        }
        for line in self.memory_lines() {
            let _ = write!(text, "\n{line}\n");
        }
        text
    }
}

/// Text that stays inside one cell of a table.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace(['\n', '\r'], " ")
        .replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_cell() {
        assert_eq!(cell("a|b\n<c"), "a\\|b &lt;c");
    }
}
