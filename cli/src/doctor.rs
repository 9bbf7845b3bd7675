//! `bantam doctor`: what stands between a model and an accelerator, and whether a vendor's library keeps the contract.

use std::path::PathBuf;
use std::process::Command;

use bantam_delegate::conformance::{Outcome, Suite};
use bantam_delegate::doctor::{self, Check, Health};
use bantam_delegate::driver::child;
use bantam_delegate::{DriverOptions, DriverSpec};
use serde_json::{Value, json};

use crate::args::Format;
use crate::error::{self, Failure};
use crate::output;

/// Check devices, permissions and a driver, or test a vendor's library
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The driver to check [default: what the system shows alone]
    #[arg(long, value_name = "SPEC", conflicts_with = "conformance")]
    driver: Option<DriverSpec>,
    /// Test a library that implements bantam_driver.h, each case in a process of its own
    #[arg(long, value_name = "LIB")]
    conformance: Option<PathBuf>,
    /// Run these cases only
    #[arg(long = "case", value_name = "NAME", requires = "conformance")]
    cases: Vec<String>,
    /// How far results may be from the CPU path's: steps of integers, thousandths of floats
    #[arg(long, value_name = "N", default_value_t = 0, requires = "conformance")]
    tolerance: u32,
    /// An option that the library is opened with
    #[arg(
        long = "driver-option",
        value_name = "KEY=VALUE",
        requires = "conformance"
    )]
    options: Vec<String>,
    /// A model whose partitions are run besides the suite's own
    #[arg(long = "model", value_name = "FILE", requires = "conformance")]
    models: Vec<PathBuf>,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    match &args.conformance {
        Some(library) => conformance(args, library.clone()),
        None => examine(args),
    }
}

fn examine(args: &Args) -> Result<(), Failure> {
    let checks = doctor::examine("/".as_ref(), args.driver.as_ref());
    let word = |health| match health {
        Health::Good => "good",
        Health::Doubtful => "doubtful",
        Health::Bad => "bad",
    };
    match args.format {
        Format::Json => {
            let checks: Vec<Value> = checks
                .iter()
                .map(|check| {
                    json!({
                        "check": check.name,
                        "found": check.found,
                        "health": word(check.health),
                        "try": check.hint,
                    })
                })
                .collect();
            let driver = args.driver.as_ref().map(ToString::to_string);
            output::print_json("doctor", json!({ "checks": checks, "driver": driver }))?;
        }
        Format::Text => {
            let mut text = String::new();
            for check in &checks {
                text += &format!(
                    "{:<9} {}: {}\n",
                    word(check.health),
                    check.name,
                    check.found
                );
                if let Some(hint) = &check.hint {
                    text += &format!("          try: {hint}\n");
                }
            }
            output::print(&text)?;
        }
    }
    let bad: Vec<&Check> = checks.iter().filter(|c| c.health == Health::Bad).collect();
    match bad[..] {
        [] => Ok(()),
        [first, ..] => Err(error::DRIVER.failure(
            format!("{} of {} checks are bad", bad.len(), checks.len()),
            format!("{}: {}", first.name, first.found),
            first.hint.clone().unwrap_or_default(),
        )),
    }
}

fn conformance(args: &Args, library: PathBuf) -> Result<(), Failure> {
    let names: Vec<&str> = Suite::cases().iter().map(|case| case.name).collect();
    if let Some(unknown) = args.cases.iter().find(|c| !names.contains(&c.as_str())) {
        return Err(error::USAGE.failure(
            format!("there is no case {unknown}"),
            format!("there are {}", names.join(", ")),
            "leave --case away for all",
        ));
    }
    // A bare name would be searched for by the system.
    let library = std::path::absolute(&library).unwrap_or(library);
    crate::driver_host::options(&args.options)?;
    let mut outcomes = Vec::new();
    let bar = output::progress("cases");
    let suite = Suite::new(&library);
    for case in Suite::cases() {
        if !args.cases.is_empty() && !args.cases.iter().any(|name| name == case.name) {
            continue;
        }
        bar.set_length(names.len() as u64);
        bar.inc(1);
        let mut command = command(args, &library, case.name)?;
        let outcome = suite.run(&mut command).map_err(|error| {
            error::DRIVER.failure(
                format!("the case {} cannot be started", case.name),
                error.to_string(),
                format!("name a `bantam` command in {}", child::HELPER),
            )
        })?;
        outcomes.push((case, outcome));
    }
    bar.finish_and_clear();
    let count = |word: &str| outcomes.iter().filter(|(_, o)| o.word() == word).count();
    let summary = format!(
        "{}: {} passed, {} failed, {} skipped",
        library.display(),
        count("passed"),
        count("failed"),
        count("skipped")
    );
    match args.format {
        Format::Json => {
            let cases: Vec<Value> = outcomes
                .iter()
                .map(|(case, outcome)| {
                    json!({
                        "about": case.about,
                        "case": case.name,
                        "outcome": outcome.word(),
                        "reason": outcome.text(),
                    })
                })
                .collect();
            let report = json!({
                "cases": cases,
                "library": library,
                "options": DriverOptions::to_string(&crate::driver_host::options(&args.options)?),
                "summary": {
                    "failed": count("failed"),
                    "passed": count("passed"),
                    "skipped": count("skipped"),
                },
                "tolerance": args.tolerance,
            });
            output::print_json("conformance", report)?;
        }
        Format::Text => {
            let mut text = String::new();
            for (case, outcome) in &outcomes {
                text += &format!("{:<8} {}: {}\n", outcome.word(), case.name, case.about);
                if let Some(reason) = outcome.text() {
                    text += &format!("         {reason}\n");
                }
            }
            output::print(&text)?;
        }
    }
    output::warn(&summary);
    let failed = outcomes.iter().find_map(|(case, outcome)| match outcome {
        Outcome::Failed(text) => Some((case, text)),
        _ => None,
    });
    match failed {
        None => Ok(()),
        Some((case, text)) => Err(error::GATE.failure(
            format!("{} of {} cases failed", count("failed"), outcomes.len()),
            format!("{}: {text}", case.name),
            "bantam_driver.h is the contract; docs/writing-a-driver.md says what each case is about",
        )),
    }
}

fn command(args: &Args, library: &std::path::Path, case: &str) -> Result<Command, Failure> {
    let helper = child::helper().map_err(|error| {
        error::DRIVER.failure(
            "no process for the cases",
            error.to_string(),
            format!("name a `bantam` command in {}", child::HELPER),
        )
    })?;
    let mut command = Command::new(helper);
    command.arg(child::VERB).arg("--conformance").arg(library);
    command.args(["--case", case]);
    command.args(["--tolerance", &args.tolerance.to_string()]);
    for option in &args.options {
        command.args(["--driver-option", option]);
    }
    for model in &args.models {
        command.arg("--model").arg(model);
    }
    Ok(command)
}
