//! Labels that users bring, in a file or by the folders that samples lie in.

use std::path::Path;

use bantam_converter::samples::{self, LabelError, Labels, Samples, Tensor};

use crate::error::{self, Failure};
use crate::output;

/// How many lines or names a warning lists.
const SHOWN: usize = 5;

/// Where labels come from, and what their words mean.
pub struct Given<'a> {
    /// A `.npy`, `.npz`, `.txt` or `.csv` file; without one, the folders of the samples are their classes.
    pub path: Option<&'a Path>,
    /// The model's file, which may hold the names of its classes.
    pub model: &'a Path,
    /// The names of the model's classes; without any, those in its file, or those of the folders.
    pub classes: Option<&'a [String]>,
    /// The samples; `None` where outputs are judged that were kept.
    pub samples: Option<&'a Samples>,
    /// The flag that gives it.
    pub flag: &'a str,
    /// The name of the output that is judged.
    pub output: &'a str,
}

impl Given<'_> {
    /// One label a sample, or one array of them.
    pub fn read(&self) -> Result<Tensor, Failure> {
        let Some(path) = self.path else {
            let labels = self.samples.and_then(Labels::of_folders);
            let labels = labels.ok_or_else(|| {
                let flag = self.flag;
                error::USAGE.failure(
                    format!("{flag} is missing"),
                    "the samples do not lie in one folder for each class either",
                    format!("give a label for each sample, `{flag} y.npy` or `{flag} y.csv`"),
                )
            })?;
            return Ok(labels.to_tensor());
        };
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("txt" | "csv") => self.text(path),
            Some("npz") => {
                samples::read_npz(path, self.output).map_err(|error| error::samples(&error))
            }
            Some("json") => Err(error::USAGE.failure(
                format!("{} is no file of labels", path.display()),
                "annotations in JSON are for --metric map",
                "say --metric map, or give a .npy, .npz, .txt or .csv file",
            )),
            _ => samples::read_npy(path).map_err(|error| error::samples(&error)),
        }
    }

    fn text(&self, path: &Path) -> Result<Tensor, Failure> {
        let names = self.samples.and_then(Samples::names);
        let folders = self.samples.map_or(&[][..], Samples::class_folders);
        let packed = samples::packed_classes(self.model);
        let own = if packed.is_empty() { folders } else { &packed };
        let classes = self.classes.unwrap_or(own);
        let labels = Labels::read(path, names.as_deref(), classes);
        let labels = labels.map_err(|error| failure(path, &error))?;
        if !labels.strangers.is_empty() {
            output::warn(&format!(
                "warning: {} of {} without a sample: {}",
                counted(labels.strangers.len(), "line", "lines"),
                path.display(),
                some(&labels.strangers)
            ));
        }
        Ok(labels.to_tensor())
    }
}

fn failure(path: &Path, error: &LabelError) -> Failure {
    let what = format!("the labels of {} cannot be used", path.display());
    let why = error::chain(error);
    match error {
        LabelError::Read { .. } => {
            error::DATA_FILE.failure(what, why, "check the path; the file has to be UTF-8 text")
        }
        LabelError::Nameless { .. } => error::LABELS.failure(
            what,
            why,
            "give a folder or a list with --data, or a label alone on each line",
        ),
        LabelError::Label { .. } => error::LABELS.failure(
            what,
            why,
            "give numbers, or the names of the model's classes with `evaluate --classes FILE.txt`",
        ),
        _ => error::LABELS.failure(
            what,
            why,
            "`bantam explain BNT-D004` says what files of labels look like",
        ),
    }
}

/// The names of classes, one a line.
pub fn classes(path: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        error::DATA_FILE.failure(
            format!("cannot read {}", path.display()),
            error.to_string(),
            "give a text file with the name of a class on each line",
        )
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    if names.iter().all(String::is_empty) {
        return Err(error::DATA_FILE.failure(
            format!("{} names no class", path.display()),
            "it has nothing but empty lines",
            "give a text file with the name of a class on each line",
        ));
    }
    Ok(names)
}

/// The first few of `names`.
pub fn some(names: &[String]) -> String {
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    names[..names.len().min(SHOWN)].join(", ") + more
}

/// `1 sample`, `2 samples`.
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
