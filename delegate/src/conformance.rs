//! Whether a library keeps the contract of `bantam_driver.h`: named cases, each passed, failed with what was wrong, or skipped
//! with why it does not apply. A case that cannot be tried is never passed.
//!
//! A library that breaks its contract may do anything, so [`Suite::run`] gives each case a process of its own; [`Suite::run_case`]
//! is for that process, and for libraries that are known to be sound.

mod cases;
pub mod models;

use std::fmt;
use std::path::PathBuf;
#[cfg(unix)]
use std::{
    io,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use bantam_model::Model;
use serde::{Deserialize, Serialize};

use crate::DriverOptions;
#[cfg(unix)]
use crate::driver::child;

/// The time for a case in a process of its own.
#[cfg(unix)]
const CASE_TIME: Duration = Duration::from_secs(120);

/// A library under test.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The library.
    pub library: PathBuf,
    /// Options that it is opened with.
    pub options: DriverOptions,
    /// How far the results may be from the CPU path's: steps of integers, or thousandths of a float's value.
    pub tolerance: u32,
    /// Models whose partitions are run besides the suite's own, with their names.
    pub models: Vec<(String, Model)>,
}

/// One thing that a library must get right.
pub struct Case {
    /// The name, stable over versions.
    pub name: &'static str,
    /// What it is about, in one line.
    pub about: &'static str,
    run: fn(&Suite) -> Result<(), Stop>,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The library got it right.
    Passed,
    /// It did not; the text says what it did.
    Failed(String),
    /// It was not tried; the text says why.
    Skipped(String),
}

/// Why a case ended before it passed.
enum Stop {
    Failed(String),
    Skipped(String),
}

impl From<String> for Stop {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(text) => write!(f, "failed: {text}"),
            Self::Skipped(text) => write!(f, "skipped: {text}"),
        }
    }
}

impl Outcome {
    /// `passed`, `failed` or `skipped`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
        }
    }

    /// What was wrong, or why it was not tried.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Passed => None,
            Self::Failed(text) | Self::Skipped(text) => Some(text),
        }
    }
}

impl Suite {
    /// A suite for `library` as it is without options, and with exact results.
    pub fn new(library: impl Into<PathBuf>) -> Self {
        Self {
            library: library.into(),
            options: DriverOptions::default(),
            tolerance: 0,
            models: Vec::new(),
        }
    }

    /// Every case, in order.
    pub fn cases() -> &'static [Case] {
        cases::CASES
    }

    /// Runs one case in this process. The library can end it, hang it, or spoil its memory.
    pub fn run_case(&self, case: &Case) -> Outcome {
        match (case.run)(self) {
            Ok(()) => Outcome::Passed,
            Err(Stop::Failed(text)) => Outcome::Failed(text),
            Err(Stop::Skipped(text)) => Outcome::Skipped(text),
        }
    }

    /// Runs one case in a process of its own, which `command` starts: it runs [`Self::run_case`] and writes the outcome to the file
    /// that is added as the last argument, see [`report`].
    #[cfg(unix)]
    pub fn run(&self, command: &mut Command) -> io::Result<Outcome> {
        let file = tempfile::Builder::new().prefix("bantam-").tempfile()?;
        let mut process = command
            .arg(file.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let ending = wait(&mut process)?;
        let outcome = std::fs::read(file.path())?;
        Ok(match (serde_json::from_slice(&outcome), ending) {
            (Ok(outcome), _) => outcome,
            (Err(_), Some(ending)) => Outcome::Failed(format!("the process ended: {ending}")),
            (Err(_), None) => {
                let seconds = CASE_TIME.as_secs();
                Outcome::Failed(format!("it did not end within {seconds} s"))
            }
        })
    }
}

/// How a process ended, or `None` if it had to be killed.
#[cfg(unix)]
fn wait(process: &mut Child) -> io::Result<Option<String>> {
    let until = Instant::now() + CASE_TIME;
    while Instant::now() < until {
        if let Some(status) = process.try_wait()? {
            return Ok(Some(child::ending(status)));
        }
        thread::sleep(Duration::from_millis(5));
    }
    process.kill()?;
    process.wait()?;
    Ok(None)
}

/// Leaves the outcome of a case for [`Suite::run`].
#[cfg(unix)]
pub fn report(outcome: &Outcome, file: &Path) -> io::Result<()> {
    std::fs::write(file, serde_json::to_vec(outcome)?)
}
