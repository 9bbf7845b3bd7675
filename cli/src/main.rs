//! The `bantam` command: one module a verb; parsing, progress and printing, and no more.

mod args;
mod benchmark;
mod check;
mod compare;
mod convert;
mod data;
mod demo;
mod error;
mod evaluate;
mod explain;
mod gate;
mod inspect;
mod output;
mod package;
mod report;
mod run;
mod targets;

use std::panic;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::Failure;

/// Quantize a float TFLite model for an accelerator, run it and judge it.
#[derive(Parser)]
#[command(name = "bantam", version, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Convert(convert::Args),
    Run(run::Args),
    Benchmark(benchmark::Args),
    Inspect(inspect::Args),
    Check(check::Args),
    Targets(targets::Args),
    Evaluate(evaluate::Args),
    Compare(compare::Args),
    Demo(demo::Args),
    Explain(explain::Args),
}

fn main() -> ExitCode {
    panic::set_hook(Box::new(error::report_panic));
    match panic::catch_unwind(real_main) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            output::warn(&failure.to_string());
            ExitCode::from(failure.exit())
        }
        Err(_) => ExitCode::from(error::INTERNAL.exit),
    }
}

fn real_main() -> Result<(), Failure> {
    let cli = match Cli::try_parse_from(args::normalize(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return Err(error::usage(&error)),
        Err(help) => return output::print(&help.render().to_string()),
    };
    match cli.verb {
        Verb::Run(args) => run::run(&args),
        Verb::Benchmark(args) => benchmark::run(&args),
        Verb::Inspect(args) => inspect::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Targets(args) => targets::run(&args),
        Verb::Evaluate(args) => evaluate::run(&args),
        Verb::Compare(args) => compare::run(&args),
        Verb::Convert(args) => convert::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Explain(args) => explain::run(&args),
    }
}
