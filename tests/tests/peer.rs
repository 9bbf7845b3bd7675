//! Converted models in LiteRT: all three of its kernel sets load them, and compute what we do.
//!
//! Needs a Python with ai-edge-litert and numpy, named by `BANTAM_PYTHON`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bantam_converter::samples::{ElementType, write_npz};
use bantam_converter::{IoType, Mode, Recipe, convert};
use bantam_model::cpu::{Options, Plan, Runner};
use bantam_model::{DType, Model, Numerics};
use bantam_tests::{Array, arrays, cases};

/// What LiteRT itself cannot load, float or converted, by a part of the name, the kernels, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "conv_2d_3x3_no_bias",
        "",
        "LiteRT has no convolution without a bias",
    ),
    (
        "strided_slice_ellipsis",
        "reference",
        "they are registered up to version 5 only",
    ),
    (
        "strided_slice_new_axis",
        "reference",
        "they are registered up to version 5 only",
    ),
    (
        "tile_",
        "reference",
        "they are registered up to version 2 only, which has no int8",
    ),
    ("sum-", "reference", "they read int8 as uint8"),
];

fn element_type(dtype: DType) -> ElementType {
    match dtype {
        DType::F32 => ElementType::F32,
        DType::I8 => ElementType::I8,
        DType::U8 => ElementType::U8,
        DType::I16 => ElementType::I16,
        DType::I32 => ElementType::I32,
        DType::I64 => ElementType::I64,
        DType::Bool => ElementType::Bool,
        other => panic!("no array of {other}"),
    }
}

/// A model to run in LiteRT and here.
struct Trial {
    name: String,
    model: Model,
    inputs: Vec<Vec<u8>>,
}

fn run(trial: &Trial, numerics: Numerics) -> Vec<(DType, Array)> {
    let plan = Plan::new(
        &trial.model,
        &Options {
            numerics,
            ..Options::default()
        },
    )
    .unwrap();
    let mut runner = Runner::new(Arc::new(plan)).unwrap();
    for (index, input) in trial.inputs.iter().enumerate() {
        runner.set_input(index, input).unwrap();
    }
    runner.run().unwrap();
    let outputs = runner.plan().outputs().iter().enumerate();
    outputs
        .map(|(index, &id)| {
            let value = runner.plan().value(id);
            let array = Array {
                shape: value.shape.clone(),
                bytes: runner.output(index).to_vec(),
            };
            (value.dtype, array)
        })
        .collect()
}

/// Writes `trials` to `folder`, runs them all in LiteRT and returns its answers by file name.
fn litert(folder: &Path, trials: &[Trial]) -> BTreeMap<String, Result<Vec<Array>, String>> {
    let python =
        std::env::var_os("BANTAM_PYTHON").expect("BANTAM_PYTHON names a Python with LiteRT");
    for trial in trials {
        let path = folder.join(&trial.name);
        trial.model.save(&path.with_extension("tflite")).unwrap();
        let plan = Plan::new(&trial.model, &Options::default()).unwrap();
        let names: Vec<String> = (0..trial.inputs.len()).map(|i| i.to_string()).collect();
        let inputs = names.iter().zip(&trial.inputs).zip(plan.inputs());
        let tensors: Vec<_> = inputs
            .map(|((name, bytes), &id)| {
                let value = plan.value(id);
                (
                    name.as_str(),
                    &value.shape[..],
                    element_type(value.dtype),
                    &bytes[..],
                )
            })
            .collect();
        write_npz(&path.with_extension("in.npz"), &tensors).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/litert.py");
    let status = Command::new(python)
        .arg(script)
        .arg(folder)
        .status()
        .unwrap();
    assert!(status.success(), "litert.py: {status}");
    let mut answers = BTreeMap::new();
    for trial in trials {
        for kernels in ["reference", "optimized", "xnnpack"] {
            let path = folder.join(format!("{}.{kernels}.npz", trial.name));
            let answer = match arrays(&path) {
                Ok(arrays) => Ok(arrays.into_values().collect()),
                Err(_) => Err(std::fs::read_to_string(path.with_extension("txt")).unwrap()),
            };
            answers.insert(format!("{} {kernels}", trial.name), answer);
        }
    }
    answers
}

/// Whether integer outputs agree within `steps`, float ones within 1e-5 of the largest.
fn agree(dtype: DType, ours: &Array, theirs: &Array, steps: i32) -> bool {
    if ours.shape != theirs.shape || ours.bytes.len() != theirs.bytes.len() {
        return false;
    }
    let pairs = ours.bytes.iter().zip(&theirs.bytes);
    match dtype {
        DType::F32 => {
            let floats = |a: &Array| -> Vec<f32> {
                a.bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&b| f32::from_ne_bytes(b))
                    .collect()
            };
            let (ours, theirs) = (floats(ours), floats(theirs));
            let largest = theirs.iter().fold(1e-12f32, |m, v| m.max(v.abs()));
            ours.iter()
                .zip(&theirs)
                .all(|(a, b)| (a - b).abs() <= 1e-5 * largest || a == b)
        }
        DType::I8 => pairs
            .into_iter()
            .all(|(&a, &b)| (i32::from(a as i8) - i32::from(b as i8)).abs() <= steps),
        DType::U8 => pairs
            .into_iter()
            .all(|(&a, &b)| (i32::from(a) - i32::from(b)).abs() <= steps),
        _ => ours.bytes == theirs.bytes,
    }
}

/// Converts every float case, calibrated on its own inputs, to int8 with int8 inputs and outputs.
fn converted_cases() -> Vec<Trial> {
    let recipe = Recipe {
        mode: Mode::Int8,
        input_type: Some(IoType::I8),
        output_type: Some(IoType::I8),
        ..Recipe::default()
    };
    let mut trials = Vec::new();
    for case in cases().unwrap() {
        if !case.name.ends_with("_f32") {
            continue;
        }
        let float = Model::open(&case.model).unwrap();
        let sample: Vec<Vec<u8>> = case.inputs.iter().map(|i| i.bytes.clone()).collect();
        let Ok((model, _)) = convert(&float, &[sample.clone()][..], &recipe, 1, &|_, _| {}) else {
            continue;
        };
        // A quarter of the float bytes are as good as random as int8.
        let plan = Plan::new(&model, &Options::default()).unwrap();
        let inputs = sample.iter().zip(plan.inputs()).map(|(bytes, &id)| {
            let value = plan.value(id);
            bytes[..value.dtype.byte_len(&value.shape).unwrap()].to_vec()
        });
        trials.push(Trial {
            name: case.name.replace('/', "-"),
            inputs: inputs.collect(),
            model,
        });
    }
    trials
}

#[test]
#[ignore = "needs LiteRT: BANTAM_PYTHON names a Python with ai-edge-litert and numpy"]
fn converted_operators_load_everywhere_and_agree() {
    let trials = converted_cases();
    assert!(trials.len() > 100, "only {} cases convert", trials.len());
    let folder = tempfile::tempdir().unwrap();
    let answers = litert(folder.path(), &trials);
    let mut failures = Vec::new();
    for trial in &trials {
        for (kernels, numerics, steps) in [
            ("reference", Numerics::Reference, 0),
            ("optimized", Numerics::Fast, 2),
            ("xnnpack", Numerics::Fast, 2),
        ] {
            let excepted = |(name, set, _): &(&str, &str, &str)| {
                trial.name.contains(name) && (set.is_empty() || *set == kernels)
            };
            if EXCEPTIONS.iter().any(excepted) {
                continue;
            }
            match &answers[&format!("{} {kernels}", trial.name)] {
                Err(reason) => failures.push(format!("{}: {kernels}: {reason}", trial.name)),
                Ok(theirs) => {
                    let ours = run(trial, numerics);
                    assert_eq!(
                        ours.len(),
                        theirs.len(),
                        "{}: number of outputs",
                        trial.name
                    );
                    let pairs = ours.iter().zip(theirs);
                    if pairs
                        .clone()
                        .any(|((dtype, ours), theirs)| !agree(*dtype, ours, theirs, steps))
                    {
                        failures.push(format!("{}: differs from {kernels}", trial.name));
                    }
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        trials.len(),
        failures.join("\n")
    );
}
