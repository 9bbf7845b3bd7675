//! `bantam explain`: what an error code means.

use std::fmt::Write;

use crate::error::{self, CODES, Failure};
use crate::output;

/// Say more about an error code
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The code, such as BNT-M002; without one, all are listed
    code: Option<String>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let mut text = String::new();
    let Some(wanted) = &args.code else {
        let rows: Vec<[String; 3]> = CODES
            .iter()
            .map(|code| {
                [
                    code.id.to_owned(),
                    code.exit.to_string(),
                    code.title.to_owned(),
                ]
            })
            .collect();
        return output::print(&output::table(&["code", "exit", "meaning"], &rows));
    };
    let Some(code) = CODES
        .iter()
        .find(|code| code.id.eq_ignore_ascii_case(wanted))
    else {
        return Err(error::USAGE.failure(
            format!("there is no error code {wanted}"),
            "codes look like BNT-M002",
            "`bantam explain` lists them all",
        ));
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{}: {} (exit code {})\n\n{}",
        code.id, code.title, code.exit, code.text
    );
    output::print(&text)
}
