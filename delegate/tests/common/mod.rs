//! Libraries for tests: the C files here and the vendors' template, compiled with the system's compiler.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

use bantam_delegate::driver::{self, Driver, DriverError};
use bantam_model::Model;
use tempfile::TempDir;

/// A folder in the sources of the delegate.
pub fn sources(name: &str) -> PathBuf {
    // This file is part of tests of other packages as well.
    let delegate = concat!(env!("CARGO_MANIFEST_DIR"), "/../delegate");
    Path::new(delegate).join(name)
}

/// Runs the C compiler; `CC` names another one.
#[track_caller]
pub fn cc(args: &[&str]) {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let output = Command::new(&compiler).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {args:?}: {errors}");
}

/// Libraries that go away with the test.
pub struct Libraries(TempDir);

impl Libraries {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn compile(&self, name: &str, source: &Path, define: &str) -> PathBuf {
        self.compile_with(name, source, &[define])
    }

    /// `defines` and other arguments go to the compiler.
    fn compile_with(&self, name: &str, source: &Path, defines: &[&str]) -> PathBuf {
        let path = self.path(&format!("lib{name}.so"));
        let include = format!("-I{}", sources("include").display());
        let template = format!("-I{}", sources("template/c").display());
        let (to, from) = (path.to_str().unwrap(), source.to_str().unwrap());
        let common = [
            "-std=gnu99",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unused-function",
        ];
        let mut args = common.to_vec();
        args.extend(["-O1", "-shared", "-fPIC", &include, &template]);
        args.extend(defines);
        args.extend(["-o", to, from, "-lm"]);
        cc(&args);
        path
    }

    /// The template's driver.
    pub fn template(&self) -> PathBuf {
        self.compile("template", &sources("template/c/driver.c"), "-DSOUND")
    }

    /// A delegate for TFLite, with a fault or without.
    pub fn delegate(&self, fault: &str) -> PathBuf {
        let source = sources("tests/delegates/delegate.c");
        let name = format!("delegate-{fault}");
        self.compile(&name, &source, &format!("-DFAULT=\"{fault}\""))
    }

    /// The library of an Edge TPU that is not there; `defines` change it.
    pub fn edgetpu(&self, name: &str, defines: &[&str]) -> PathBuf {
        let source = sources("tests/delegates/edgetpu.c");
        self.compile_with(&format!("edgetpu-{name}"), &source, defines)
    }

    /// The same with a fault.
    pub fn faulty(&self, fault: &str) -> PathBuf {
        let source = sources("tests/drivers/faulty.c");
        self.compile(fault, &source, &format!("-DFAULT=\"{fault}\""))
    }
}

/// The driver of a library.
pub fn open(library: &Path) -> Result<Box<dyn Driver>, DriverError> {
    open_spec(&format!("bantam:{}", library.display()))
}

pub fn open_spec(spec: &str) -> Result<Box<dyn Driver>, DriverError> {
    driver::open(&spec.parse().unwrap())
}

/// Adds two int8 tensors of 192 elements, and more; two inputs, two outputs.
pub fn model() -> Model {
    let models = bantam_delegate::conformance::models::runnable(bantam_model::tensor::DType::I8);
    let found = models
        .into_iter()
        .find(|(name, _)| name.starts_with("ADD and RELU"));
    found.unwrap().1
}

/// Runs `executable` of [`model`] on numbers.
pub fn run(executable: &mut dyn driver::Executable) -> Result<[Vec<u8>; 2], DriverError> {
    let a: Vec<u8> = (0..192).map(|i| (i * 7) as u8).collect();
    let b: Vec<u8> = (0..192).map(|i| (i * 5 + 1) as u8).collect();
    let (mut x, mut y) = (vec![0; 192], vec![0; 192]);
    executable.run(&[&a, &b], &mut [&mut x, &mut y])?;
    Ok([x, y])
}
