//! Runs the Edge TPU's own compiler, which is no part of this project, and reads back what it did.
//!
//! The compiler is a closed program for Debian on x86-64. It gets a file and a folder and leaves a model and a log there;
//! its log counts operators by kind and never says which one of a kind failed, so that is told from the model.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bantam_model::{Model, Op, ReadError};

/// The compiler's name, searched on `PATH`.
pub const EDGETPU_COMPILER: &str = "edgetpu_compiler";

/// The name of the operator that a partition becomes.
pub const EDGETPU_OP: &str = "edgetpu-custom-op";

/// How the compiler is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiler {
    /// The program.
    pub program: PathBuf,
    /// The oldest runtime that shall load the result; `None` for the compiler's own choice.
    pub min_runtime: Option<u32>,
    /// How long it may take.
    pub deadline: Duration,
}

/// What the compiler made.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// The compiled model.
    pub model: Model,
    /// The bytes of its file.
    pub bytes: Vec<u8>,
    /// What it said.
    pub log: Log,
}

/// What the compiler's log says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// The compiler's version.
    pub version: Option<String>,
    /// Lines of a name, a colon and a value, such as the memory that is left.
    pub figures: Vec<(String, String)>,
    /// What became of operators, by kind.
    pub ops: Vec<LogLine>,
}

/// One line of the log's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The kind, such as `CONV_2D`.
    pub op: String,
    /// How many.
    pub count: usize,
    /// What became of them, in the compiler's words.
    pub status: String,
}

impl LogLine {
    /// Whether they are on the chip.
    pub fn is_mapped(&self) -> bool {
        self.status == "Mapped to Edge TPU"
    }
}

/// Why there is no compiled model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The program is not there.
    #[error("{0} is not on the path")]
    NotFound(String),
    /// It cannot be started, or its files cannot be written or read.
    #[error("cannot run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took longer than allowed, and was stopped.
    #[error("{} did not finish in {} s", program.display(), deadline.as_secs())]
    Deadline {
        /// The program.
        program: PathBuf,
        /// What was allowed.
        deadline: Duration,
    },
    /// It ended without a model.
    #[error("the compiler made no model ({status}): {said}")]
    Refused {
        /// How it ended.
        status: ExitStatus,
        /// The last line of what it said that means something.
        said: String,
        /// What that means, where it is known.
        meaning: Option<&'static str>,
    },
    /// What it made cannot be read.
    #[error("the compiled model cannot be read")]
    Read(#[source] ReadError),
}

/// Messages of the compiler, and what users found them to mean.
const MEANINGS: &[(&str, &str)] = &[
    (
        "Didn't find op for builtin opcode",
        "an operator's version is newer than the compiler's TensorFlow Lite",
    ),
    (
        "Registration failed",
        "an operator's version is newer than the compiler's TensorFlow Lite",
    ),
    (
        "static-sized tensors",
        "a tensor's shape is not fixed; legalizing fixes them",
    ),
    (
        "Model not quantized",
        "the model computes in float; convert it to int8 first",
    ),
    (
        "could not be parsed",
        "the file holds an operator or a version that the compiler does not know",
    ),
    (
        "Internal compiler error",
        "the compiler itself failed; the same command can succeed when it is run again",
    ),
];

/// The program `name` in one of the folders of `path`, a list as in the variable `PATH`.
pub fn find(name: &str, path: Option<OsString>) -> Result<PathBuf, CompileError> {
    let folders = path.iter().flat_map(std::env::split_paths);
    let mut programs = folders.map(|folder| folder.join(name));
    let found = programs.find(|program| program.is_file());
    found.ok_or_else(|| CompileError::NotFound(name.to_owned()))
}

impl Compiler {
    /// Compiles `model`, in `folder`, which must be empty; a second time where the compiler failed of itself.
    pub fn compile(&self, model: &Model, folder: &Path) -> Result<Compiled, CompileError> {
        match self.attempt(model, folder) {
            Err(CompileError::Refused { said, .. }) if said.contains("Internal compiler error") => {
                self.attempt(model, folder)
            }
            result => result,
        }
    }

    fn attempt(&self, model: &Model, folder: &Path) -> Result<Compiled, CompileError> {
        let failed = |source| CompileError::Run {
            program: self.program.clone(),
            source,
        };
        let input = folder.join("model.tflite");
        std::fs::write(&input, model.to_bytes()).map_err(failed)?;
        let (out, err) = (folder.join("stdout"), folder.join("stderr"));
        let mut command = Command::new(&self.program);
        command.arg("-s").arg("-o").arg(folder);
        if let Some(version) = self.min_runtime {
            command.arg("-m").arg(version.to_string());
        }
        command.arg(&input).stdin(Stdio::null());
        // Files, not pipes: nobody has to read while it runs.
        command.stdout(std::fs::File::create(&out).map_err(failed)?);
        command.stderr(std::fs::File::create(&err).map_err(failed)?);
        let mut child = command.spawn().map_err(failed)?;
        let Some(status) = wait(&mut child, self.deadline).map_err(failed)? else {
            return Err(CompileError::Deadline {
                program: self.program.clone(),
                deadline: self.deadline,
            });
        };
        let text =
            |path: &Path| std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned());
        let said = text(&out).map_err(failed)? + &text(&err).map_err(failed)?;
        let Ok(bytes) = std::fs::read(folder.join("model_edgetpu.tflite")) else {
            let meaning = MEANINGS.iter().find(|(part, _)| said.contains(part));
            return Err(CompileError::Refused {
                status,
                said: last_words(&said),
                meaning: meaning.map(|&(_, meaning)| meaning),
            });
        };
        let model = Model::read(bytes.clone().into()).map_err(CompileError::Read)?;
        let log = text(&folder.join("model_edgetpu.log")).unwrap_or_default();
        Ok(Compiled {
            model,
            bytes,
            log: Log::parse(&format!("{said}\n{log}")),
        })
    }
}

/// Waits for `child`; `None`, and no child, when `deadline` is over.
fn wait(child: &mut Child, deadline: Duration) -> io::Result<Option<ExitStatus>> {
    const POLL: Duration = Duration::from_millis(20);
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// The line that says what went wrong, or the last one.
fn last_words(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let telling = |line: &&&str| MEANINGS.iter().any(|(part, _)| line.contains(part));
    let line = lines.iter().find(telling).or(lines.last());
    line.map_or_else(|| "it said nothing".to_owned(), |line| (*line).to_owned())
}

impl Log {
    /// What a log, or the compiler's standard output, says; lines of other forms are passed over, and what is said
    /// twice counts once.
    pub fn parse(text: &str) -> Self {
        let mut log = Self::default();
        let mut in_table = false;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let Some(version) = line.trim().strip_prefix("Edge TPU Compiler version ") {
                log.version = Some(version.trim().to_owned());
            } else if words == ["Operator", "Count", "Status"] {
                in_table = true;
            } else if in_table && words.len() > 2 {
                let Ok(count) = words[1].parse() else {
                    in_table = false;
                    continue;
                };
                let line = LogLine {
                    op: words[0].to_owned(),
                    count,
                    status: words[2..].join(" "),
                };
                if !log.ops.contains(&line) {
                    log.ops.push(line);
                }
            } else if let Some((name, value)) = line.split_once(": ") {
                let figure = (name.trim().to_owned(), value.trim().to_owned());
                if !log.figures.contains(&figure) {
                    log.figures.push(figure);
                }
            }
        }
        log
    }

    /// The value of a line that begins with `name` and a colon.
    pub fn figure(&self, name: &str) -> Option<&str> {
        let figure = self.figures.iter().find(|(known, _)| known == name);
        figure.map(|(_, value)| &**value)
    }
}

/// Whether each operator of `original`'s first subgraph is on the chip in `compiled`: known by the names of its
/// results, since operators that stay on the CPU keep them.
pub fn placement(original: &Model, compiled: &Model) -> Vec<bool> {
    let (Some(original), Some(compiled)) = (original.subgraphs.first(), compiled.subgraphs.first())
    else {
        return Vec::new();
    };
    let is_chip = |op: &Op| matches!(op, Op::Custom(custom) if custom.name == EDGETPU_OP);
    let cpu = compiled.nodes.iter().filter(|n| !is_chip(&n.op));
    let cpu: Vec<(&str, i32)> = cpu
        .flat_map(|n| {
            n.outputs
                .iter()
                .map(|&id| (&*compiled[id].name, n.op.code().0))
        })
        .collect();
    let stays = |node: &bantam_model::Node| {
        let mut results = node
            .outputs
            .iter()
            .map(|&id| (&*original[id].name, node.op.code().0));
        results.any(|result| cpu.contains(&result))
    };
    original.nodes.iter().map(|node| !stays(node)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
Edge TPU Compiler version 16.0.384591198
Input: model.tflite
Output: model_edgetpu.tflite

Operator                       Count      Status

CONV_2D                        35         Mapped to Edge TPU
QUANTIZE                       1          Operation is otherwise supported, but not mapped due to some unspecified limitation
";

    #[test]
    fn a_log_is_a_table_and_figures() {
        let said = "Number of Edge TPU subgraphs: 1\nOn-chip memory used for caching model parameters: 3.33MiB\n";
        let log = Log::parse(&format!("{said}{LOG}{LOG}"));
        assert_eq!(log.version.as_deref(), Some("16.0.384591198"));
        assert_eq!(log.figure("Number of Edge TPU subgraphs"), Some("1"));
        assert_eq!(log.ops.len(), 2);
        assert!(log.ops[0].is_mapped() && log.ops[0].count == 35);
        assert!(!log.ops[1].is_mapped());
    }

    #[test]
    fn any_text_is_a_log() {
        for end in 0..LOG.len() {
            let _ = Log::parse(&LOG[..end]);
        }
        assert_eq!(Log::parse("Operator Count Status\nA B C\n").ops, []);
    }

    #[test]
    fn the_telling_line_is_found() {
        let said = "Edge TPU Compiler\nInternal compiler error. Aborting!\n\nbye\n";
        assert_eq!(last_words(said), "Internal compiler error. Aborting!");
        assert_eq!(last_words(""), "it said nothing");
    }

    #[test]
    fn a_program_is_searched_in_every_folder() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("edgetpu_compiler");
        std::fs::write(&program, "").unwrap();
        let path = std::env::join_paths([Path::new("nowhere"), folder.path()]).unwrap();
        assert_eq!(find(EDGETPU_COMPILER, Some(path)).unwrap(), program);
        assert!(matches!(
            find(EDGETPU_COMPILER, None),
            Err(CompileError::NotFound(_))
        ));
    }
}
