//! The built command, and small models and data for it.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bantam_converter::samples::{ElementType, write_npy};
use bantam_model::quant::PerTensor;
use bantam_model::tensor::DType;
use bantam_model::{Model, Node, Subgraph, Tensor, ops};
use serde_json::Value;
use tempfile::TempDir;

/// A folder that goes away with the test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The names of the files in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A model that gives `[1, 2, 3]` back as `[1, 6]`.
    pub fn reshape(&self, name: &str, dtype: DType) -> PathBuf {
        let mut subgraph = Subgraph::default();
        let tensor = |name: &str, shape: &[usize]| {
            let tensor = Tensor::new(name, dtype, shape);
            match dtype {
                DType::I8 => tensor.quantized(PerTensor::new(0.5, -1).into()),
                _ => tensor,
            }
        };
        let input = subgraph.add_tensor(tensor("x", &[1, 2, 3]));
        let output = subgraph.add_tensor(tensor("y", &[1, 6]));
        let op = ops::Reshape {
            new_shape: Some(vec![-1, 6]),
        };
        subgraph.nodes.push(Node::new(op, &[input], &[output]));
        (subgraph.inputs, subgraph.outputs) = (vec![input], vec![output]);
        let model = Model {
            subgraphs: vec![subgraph],
            ..Model::default()
        };
        self.write(name, &model.to_bytes())
    }

    pub fn floats(&self, name: &str, shape: &[usize], values: &[f32]) -> PathBuf {
        let path = self.path(name);
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
        write_npy(&path, shape, ElementType::F32, &bytes).unwrap();
        path
    }
}

/// A file that comes with the command.
pub fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("assets")
        .join(name)
}

/// Runs the command with `args`, paths and texts alike.
pub fn bantam<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bantam"))
        .args(args)
        .output()
        .unwrap()
}

/// The same with what is needed to mix paths and texts.
#[macro_export]
macro_rules! bantam {
    ($($arg:expr),* $(,)?) => {
        common::bantam(&[$(std::ffi::OsString::from(&$arg)),*])
    };
}

/// Standard output of a command that did its work.
pub fn stdout(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The JSON object, and nothing else, that a command printed.
pub fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// Standard error of a command that ended with `exit`: three lines with the code `code`, nothing on standard output.
#[track_caller]
pub fn fails(output: &Output, exit: i32, code: &str) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(exit), "{text}");
    assert!(text.contains(&format!("error[{code}]: ")), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len() - 3;
    assert!(lines[start].starts_with("error["), "{text}");
    assert!(lines[start + 1].starts_with("  why: "), "{text}");
    assert!(lines[start + 2].starts_with("  try: "), "{text}");
    assert!(output.stdout.is_empty(), "{text}");
    text
}
