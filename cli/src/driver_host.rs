//! `bantam driver-host`, which people do not type: the process that holds a driver, or tries one case of the conformance suite.

use std::path::PathBuf;

use bantam_converter::samples::SampleError;
use bantam_delegate::conformance::Suite;
use bantam_delegate::{DriverOptions, conformance, driver};

use crate::data;
use crate::error::{self, Failure};

/// Hold a driver for another process
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A library to try one case of the conformance suite on
    #[arg(long, requires = "case", value_name = "LIB")]
    conformance: Option<PathBuf>,
    /// The case
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// How far results may be from the CPU path's
    #[arg(long, value_name = "N", default_value_t = 0)]
    tolerance: u32,
    /// An option of the library
    #[arg(long = "driver-option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// A model to run besides the suite's own
    #[arg(long = "model", value_name = "FILE")]
    models: Vec<PathBuf>,
    /// Where the outcome goes
    report: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let Some(library) = &args.conformance else {
        return driver::child::serve().map_err(|error| {
            error::USAGE.failure(
                "this verb is not for people",
                error::chain(&error),
                "name a driver with --driver, and isolate=1 among its options",
            )
        });
    };
    let wanted = args.case.as_deref().unwrap_or_default();
    let case = Suite::cases().iter().find(|case| case.name == wanted);
    let (Some(case), Some(report)) = (case, &args.report) else {
        return Err(error::USAGE.failure(
            format!("there is no case {wanted:?}, or no file for its outcome"),
            "this verb is not for people",
            "`bantam doctor --conformance LIB`",
        ));
    };
    let mut suite = Suite::new(library);
    suite.tolerance = args.tolerance;
    suite.options = options(&args.options)?;
    for path in &args.models {
        let model = data::open_model(path)?;
        suite.models.push((path.display().to_string(), model));
    }
    let outcome = suite.run_case(case);
    conformance::report(&outcome, report).map_err(|source| {
        error::samples(&SampleError::Write {
            path: report.clone(),
            source,
        })
    })
}

/// Options as pairs.
pub fn options(texts: &[String]) -> Result<DriverOptions, Failure> {
    let pairs = texts.iter().map(|text| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(error::USAGE.failure(
            format!("{text:?} is no option of a driver"),
            "an option is of the form key=value",
            "look at the driver's documentation",
        )),
    });
    pairs.collect::<Result<_, _>>().map(DriverOptions)
}
