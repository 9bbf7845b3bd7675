//! Standard output for results, standard error for everything else.

use std::io::{self, IsTerminal, Write};

use bantam_converter::samples::Samples;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::error::{Failure, OUTPUT};

/// Writes `text` to standard output. A reader that has gone away is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(OUTPUT.failure(
            "cannot write to standard output",
            error.to_string(),
            "look at where the output is sent to",
        )),
        _ => Ok(()),
    }
}

/// Writes one JSON object of `verb` to standard output: its keys sorted, its schema named.
pub fn print_json(verb: &str, object: Value) -> Result<(), Failure> {
    print(&json_text(verb, object))
}

/// The text of one JSON object of `verb`.
pub fn json_text(verb: &str, mut object: Value) -> String {
    object["schema"] = json!(format!("bantam.{verb}"));
    object["schema_version"] = json!(1);
    format!("{object:#}\n")
}

/// Writes a line to standard error, where a failure to write has nobody to be told.
pub fn warn(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A bar on standard error; none unless that is a terminal, and none with `CI` set.
pub fn progress(what: &'static str) -> ProgressBar {
    let ci = std::env::var_os("CI").is_some_and(|v| !v.is_empty() && v != "false");
    if ci || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(what)
}

/// What tells `bar` how far the work is.
pub fn steps(bar: &ProgressBar) -> impl Fn(usize, usize) + Sync + '_ {
    |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    }
}

/// Says what data was taken for, and what about it looks like a mistake.
pub fn describe(samples: &Samples) {
    warn(&samples.describe());
    for warning in samples.warnings() {
        warn(&format!("warning: {warning}"));
    }
}

/// Rows in columns of equal width, two spaces between; columns that only hold numbers are aligned right.
pub fn table<R: AsRef<[String]>>(header: &[&str], rows: &[R]) -> String {
    let cell = |row: &R, column: usize| row.as_ref().get(column).cloned().unwrap_or_default();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().map(|row| cell(row, column).chars().count());
            cells
                .chain([header[column].chars().count()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let right: Vec<bool> = (0..header.len())
        .map(|column| {
            let number =
                |c: String| c == "-" || c.trim_end_matches([' ', '%']).parse::<f64>().is_ok();
            !rows.is_empty() && rows.iter().all(|row| number(cell(row, column)))
        })
        .collect();
    let line = |cells: Vec<String>| {
        let mut line = String::new();
        for ((text, &width), &right) in cells.iter().zip(&widths).zip(&right) {
            let padded = if right {
                format!("{text:>width$}  ")
            } else {
                format!("{text:<width$}  ")
            };
            line.push_str(&padded);
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    };
    let mut text = line(header.iter().map(|h| (*h).to_owned()).collect());
    for row in rows {
        text.push_str(&line((0..header.len()).map(|c| cell(row, c)).collect()));
    }
    text
}

/// A JSON number; `null` for what is not finite.
pub fn number(value: f64) -> Value {
    json!(value.is_finite().then_some(value))
}

/// A shape as people write it: `1x28x28x1`, `scalar`.
pub fn dims(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".to_owned();
    }
    let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
    dims.join("x")
}

/// Bytes as people read them.
pub fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_sorted_and_names_its_schema() {
        let text = json_text("run", json!({ "z": 1, "a": number(f64::NAN) }));
        let place = |key: &str| text.find(key).unwrap();
        assert!(place("\"a\": null") < place("\"schema\": \"bantam.run\""));
        assert!(place("\"schema_version\": 1") < place("\"z\""));
    }

    #[test]
    fn tables_align_numbers_right() {
        let rows = [
            ["a".to_owned(), "10".to_owned()],
            ["bc".to_owned(), "9".to_owned()],
        ];
        assert_eq!(table(&["op", "us"], &rows), "op  us\na   10\nbc   9\n");
    }
}
