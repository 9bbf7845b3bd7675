//! Converted models in LiteRT: all three of its kernel sets load them, in every mode, and compute
//! what we do, or what the float model does.
//!
//! Needs a Python with ai-edge-litert and numpy, named by `BANTAM_PYTHON`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bantam_converter::legalize::{self, Allowance};
use bantam_converter::samples::{ElementType, write_npz};
use bantam_converter::{Granularity, IoType, Mode, Recipe, convert};
use bantam_model::cpu::{Options, Plan, Runner};
use bantam_model::target::Target;
use bantam_model::{DType, Model, Node, Numerics, Subgraph, Tensor, ops};
use bantam_tests::bodies::{in_branches, in_loop};
use bantam_tests::{Array, Case, arrays, cases};

/// What LiteRT itself cannot load, float or converted, by a part of the name, the kernels, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
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
    ("ceil-", "reference", "they are not registered"),
    ("round-", "reference", "they are not registered"),
    ("elu-elu_", "reference", "they are not registered"),
    ("div-div_relu6", "", "a random int8 denominator is 0"),
    (
        "div-div_same_shape",
        "",
        "the kernel shifts by more than 31 bits",
    ),
    (
        "unidirectional_sequence_lstm_diagonal",
        "reference",
        "they are registered up to version 3 only",
    ),
];

/// Operators whose kernel itself is coarse, by a part of the name, the mode, and why.
const COARSE: &[(&str, Mode, &str)] = &[(
    "exp-exp_wide",
    Mode::Int16x8,
    "a table of 513 points over -20 to 20 is straight between them",
)];

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
    /// How often it runs before its outputs are taken.
    runs: usize,
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
    for _ in 0..trial.runs {
        runner.run().unwrap();
    }
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
        let subgraph = &trial.model.subgraphs[0];
        let names: Vec<String> = (0..trial.inputs.len()).map(|i| i.to_string()).collect();
        let inputs = names.iter().zip(&trial.inputs).zip(&subgraph.inputs);
        let mut tensors: Vec<_> = inputs
            .map(|((name, bytes), &id)| {
                let tensor = &subgraph[id];
                (
                    name.as_str(),
                    &tensor.shape[..],
                    element_type(tensor.dtype),
                    &bytes[..],
                )
            })
            .collect();
        let runs = (trial.runs as i32).to_ne_bytes();
        tensors.push(("runs", &[], ElementType::I32, &runs));
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

fn floats(array: &Array) -> Vec<f32> {
    let chunks = array.bytes.as_chunks().0.iter();
    chunks.map(|&b| f32::from_ne_bytes(b)).collect()
}

/// Whether integer outputs agree within `steps`, float ones within 1e-5 of the largest.
fn agree(dtype: DType, ours: &Array, theirs: &Array, steps: i32) -> bool {
    if ours.shape != theirs.shape || ours.bytes.len() != theirs.bytes.len() {
        return false;
    }
    let pairs = ours.bytes.iter().zip(&theirs.bytes);
    match dtype {
        DType::F32 => {
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

/// The float cases.
fn float_cases() -> Vec<Case> {
    let mut cases = cases().unwrap();
    cases.retain(|case| case.name.ends_with("_f32"));
    cases
}

/// Converts `case`, calibrated on its own inputs; `None` where nothing of it becomes what the
/// recipe says, or the float model has no kernel here.
fn converted(case: &Case, recipe: &Recipe) -> Option<Model> {
    let float = Model::open(&case.model).unwrap();
    let sample: Vec<Vec<u8>> = case.inputs.iter().map(|i| i.bytes.clone()).collect();
    let (model, report) = convert(&float, &[sample][..], recipe, 1, &|_, _| {}).ok()?;
    (report.quantized > 0).then_some(model)
}

/// Every float case as int8 with int8 inputs and outputs.
fn int8_cases(recipe: &Recipe) -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in float_cases() {
        let Some(model) = converted(&case, recipe) else {
            continue;
        };
        // A quarter of the float bytes are as good as random as int8.
        let plan = Plan::new(&model, &Options::default()).unwrap();
        let inputs = case.inputs.iter().zip(plan.inputs()).map(|(array, &id)| {
            let value = plan.value(id);
            array.bytes[..value.dtype.byte_len(&value.shape).unwrap()].to_vec()
        });
        trials.push(Trial {
            name: case.name.replace('/', "-"),
            inputs: inputs.collect(),
            runs: 1,
            model,
        });
    }
    trials
}

fn is_excepted(name: &str, kernels: &str) -> bool {
    let mut exceptions = EXCEPTIONS.iter();
    exceptions.any(|(part, set, _)| name.contains(part) && (set.is_empty() || *set == kernels))
}

fn int8_agrees(recipe: &Recipe) {
    let trials = int8_cases(recipe);
    assert!(trials.len() > 100, "only {} cases convert", trials.len());
    trials_agree(&trials);
}

fn trials_agree(trials: &[Trial]) {
    let folder = tempfile::tempdir().unwrap();
    let answers = litert(folder.path(), trials);
    let mut failures = Vec::new();
    for trial in trials {
        for (kernels, numerics, steps) in [
            ("reference", Numerics::Reference, 0),
            ("optimized", Numerics::Fast, 2),
            ("xnnpack", Numerics::Fast, 2),
        ] {
            if is_excepted(&trial.name, kernels) {
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

#[test]
#[ignore = "needs LiteRT: BANTAM_PYTHON names a Python with ai-edge-litert and numpy"]
fn int8_operators_load_everywhere_and_agree() {
    int8_agrees(&Recipe {
        input_type: Some(IoType::I8),
        output_type: Some(IoType::I8),
        ..Recipe::new(Mode::Int8)
    });
}

#[test]
#[ignore = "needs LiteRT: BANTAM_PYTHON names a Python with ai-edge-litert and numpy"]
fn int8_operators_with_one_scale_load_everywhere_and_agree() {
    let text = "input-type = 'int8'\noutput-type = 'int8'\n[defaults]\nweights = 'per-tensor'";
    int8_agrees(&Recipe::from_toml(text).unwrap());
}

/// What legalization makes of the int8 cases that a chip refuses.
#[test]
#[ignore = "needs LiteRT: BANTAM_PYTHON names a Python with ai-edge-litert and numpy"]
fn legalized_operators_load_everywhere_and_agree() {
    let recipe = Recipe::from_toml("input-type = 'int8'\noutput-type = 'int8'").unwrap();
    let target = Target::open("edgetpu").unwrap();
    let options = legalize::Options {
        allow: Allowance::Any,
        ..legalize::Options::default()
    };
    let mut trials = int8_cases(&recipe);
    trials.retain_mut(|trial| {
        // Some cases are about versions that the chip's compiler cannot read.
        let Ok((legal, report)) = legalize::legalize(&trial.model, &target, &options) else {
            return false;
        };
        trial.model = legal;
        !report.applied.is_empty()
    });
    assert!(
        trials.len() > 20,
        "only {} cases are rewritten",
        trials.len()
    );
    trials_agree(&trials);
}

/// Every float case in `mode`, with float inputs and outputs: LiteRT loads it everywhere, and its
/// answers are within `tolerance` of the largest of the float model's.
fn stays_near_float(mode: Mode, least: usize, tolerance: f32) {
    for weights in [Granularity::PerAxis, Granularity::PerTensor] {
        let mut recipe = Recipe::new(mode);
        recipe.defaults.min_elements = Some(1);
        recipe.defaults.weights = Some(weights);
        stays_near_float_by(&recipe, least, tolerance);
    }
}

fn stays_near_float_by(recipe: &Recipe, least: usize, tolerance: f32) {
    let mut trials = Vec::new();
    let mut references = Vec::new();
    for case in float_cases() {
        // After a clamp there is nothing to measure the noise by.
        if ["relu6_f32", "relu_n1"]
            .iter()
            .any(|clamp| case.name.contains(clamp))
        {
            continue;
        }
        // The peer's answer is that of a first run.
        if case.runs > 1 {
            continue;
        }
        let Some(model) = converted(&case, recipe) else {
            continue;
        };
        trials.push(Trial {
            name: case.name.replace('/', "-"),
            inputs: case.inputs.iter().map(|i| i.bytes.clone()).collect(),
            model,
            runs: 1,
        });
        references.push(case.optimized);
    }
    assert!(trials.len() >= least, "only {} cases convert", trials.len());
    let folder = tempfile::tempdir().unwrap();
    let answers = litert(folder.path(), &trials);
    let mut failures = Vec::new();
    for (trial, reference) in trials.iter().zip(&references) {
        for kernels in ["reference", "optimized", "xnnpack"] {
            let is_coarse = |(name, at, _): &(&str, Mode, &str)| {
                trial.name.contains(name) && *at == recipe.mode
            };
            if is_excepted(&trial.name, kernels) || COARSE.iter().any(is_coarse) {
                continue;
            }
            match &answers[&format!("{} {kernels}", trial.name)] {
                Err(reason) => failures.push(format!("{}: {kernels}: {reason}", trial.name)),
                Ok(theirs) => {
                    let pairs = theirs.iter().zip(reference);
                    if pairs.clone().any(|(a, b)| !is_near(a, b, tolerance)) {
                        failures.push(format!("{}: {kernels} is far off", trial.name));
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

/// Whether no float is further from its reference than `tolerance` times the largest of these.
fn is_near(ours: &Array, reference: &Array, tolerance: f32) -> bool {
    let (ours, reference) = (floats(ours), floats(reference));
    let finite = reference.iter().filter(|v| v.is_finite());
    let largest = finite.fold(1e-6f32, |m, v| m.max(v.abs()));
    let mut pairs = ours.iter().zip(&reference);
    ours.len() == reference.len()
        && pairs.all(|(a, b)| a == b || !b.is_finite() || (a - b).abs() <= tolerance * largest)
}

#[test]
#[ignore = "needs LiteRT: BANTAM_PYTHON names a Python with ai-edge-litert and numpy"]
fn dynamic_range_operators_load_everywhere() {
    stays_near_float(Mode::DynamicRange, 15, 0.03);
}

#[test]
#[ignore = "needs LiteRT: BANTAM_PYTHON names a Python with ai-edge-litert and numpy"]
fn weight_only_operators_load_everywhere() {
    stays_near_float(Mode::WeightOnly, 15, 0.02);
}

#[test]
#[ignore = "needs LiteRT: BANTAM_PYTHON names a Python with ai-edge-litert and numpy"]
fn float16_operators_load_everywhere() {
    stays_near_float(Mode::Float16, 20, 2e-3);
}

#[test]
#[ignore = "needs LiteRT: BANTAM_PYTHON names a Python with ai-edge-litert and numpy"]
fn int16_operators_load_everywhere() {
    stays_near_float(Mode::Int16x8, 200, 0.02);
}

/// Recurrent operators in loops and branches, as int8, with an input for each.
fn recurrent_bodies() -> Vec<Trial> {
    let operators = float_cases().into_iter().filter(|case| {
        let family = case.name.split('/').next().unwrap_or_default();
        ["unidirectional_sequence_lstm", "lstm", "svdf"].contains(&family)
    });
    let mut trials = Vec::new();
    for case in operators {
        let sample: Vec<Vec<u8>> = case.inputs.iter().map(|i| i.bytes.clone()).collect();
        let float = Model::open(&case.model).unwrap();
        let chosen = |then: u8| [vec![vec![then]], sample.clone()].concat();
        let models = [
            ("loop", in_loop(&float, 3), vec![sample.clone()]),
            ("if", in_branches(&float), vec![chosen(0), chosen(1)]),
        ];
        for (kind, model, samples) in models {
            let recipe = Recipe::default();
            let Ok((model, report)) = convert(&model, &samples[..], &recipe, 1, &|_, _| {}) else {
                continue;
            };
            if report.kept_float.is_empty() {
                trials.push(Trial {
                    name: format!("{}-{kind}", case.name.replace('/', "-")),
                    model,
                    inputs: samples[0].clone(),
                    runs: 2,
                });
            }
        }
    }
    trials
}

#[test]
#[ignore = "needs LiteRT: BANTAM_PYTHON names a Python with ai-edge-litert and numpy"]
fn recurrent_operators_in_loops_and_branches_agree() {
    let trials = recurrent_bodies();
    assert!(trials.len() >= 16, "only {} convert", trials.len());
    let folder = tempfile::tempdir().unwrap();
    let answers = litert(folder.path(), &trials);
    for trial in &trials {
        for (kernels, numerics) in [
            ("reference", Numerics::Reference),
            ("optimized", Numerics::Fast),
            ("xnnpack", Numerics::Fast),
        ] {
            let name = format!("{} {kernels}", trial.name);
            let theirs = answers[&name]
                .as_ref()
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            for ((dtype, ours), theirs) in run(trial, numerics).iter().zip(theirs) {
                assert!(agree(*dtype, ours, theirs, 0), "{name}");
            }
        }
    }
}

/// A convolution of which nothing is left after RELU, for all samples.
fn dead_layer() -> Model {
    let mut subgraph = Subgraph::default();
    let floats =
        |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let x = subgraph.add_tensor(Tensor::new("x", DType::F32, [1, 2, 2, 1]));
    let weights = Tensor::constant("w", DType::F32, [2, 1, 1, 1], floats(&[3.0, -2.0]));
    let weights = subgraph.add_tensor(weights);
    let bias = Tensor::constant("b", DType::F32, [2], floats(&[-90.0, -50.0]));
    let bias = subgraph.add_tensor(bias);
    let y = subgraph.add_tensor(Tensor::new("y", DType::F32, [1, 2, 2, 2]));
    let op = ops::Conv2d {
        activation: ops::Activation::Relu,
        ..ops::Conv2d::default()
    };
    subgraph
        .nodes
        .push(Node::new(op, &[x, weights, bias], &[y]));
    (subgraph.inputs, subgraph.outputs) = (vec![x], vec![y]);
    Model {
        subgraphs: vec![subgraph],
        ..Model::default()
    }
}

#[test]
#[ignore = "needs LiteRT: BANTAM_PYTHON names a Python with ai-edge-litert and numpy"]
fn dead_layers_load_everywhere() {
    let sample: Vec<Vec<u8>> = vec![
        [0.0f32, 1.0, 5.0, 10.0]
            .iter()
            .flat_map(|v| v.to_ne_bytes())
            .collect(),
    ];
    let mut trials = Vec::new();
    for mode in [Mode::Int8, Mode::Int16x8] {
        let (model, _) = convert(
            &dead_layer(),
            &[sample.clone()][..],
            &Recipe::new(mode),
            1,
            &|_, _| {},
        )
        .unwrap();
        trials.push(Trial {
            name: mode.to_string(),
            model,
            inputs: sample.clone(),
            runs: 1,
        });
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, answer) in litert(folder.path(), &trials) {
        let answer = answer.unwrap_or_else(|reason| panic!("{name}: {reason}"));
        assert!(floats(&answer[0]).iter().all(|v| v.abs() < 1e-3), "{name}");
    }
}

#[test]
#[ignore = "needs LiteRT: BANTAM_PYTHON names a Python with ai-edge-litert and numpy"]
fn modes_that_meet_in_one_graph_load_everywhere() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/assets");
    let float = Model::open(&assets.join("digits.tflite")).unwrap();
    let pixels = (0..64).flat_map(|i| ((i * 7 % 17) as f32).to_ne_bytes());
    let sample = vec![pixels.collect::<Vec<u8>>()];
    let modes = [
        "int8",
        "int16x8",
        "float16",
        "weight-only",
        "dynamic-range",
        "float",
    ];
    let mut trials = Vec::new();
    for first in 0..modes.len() {
        let mut text = "defaults = { min-elements = 1 }\n".to_owned();
        for index in 0..float.subgraphs[0].nodes.len() {
            let mode = modes[(first + index) % modes.len()];
            text += &format!("[[ops]]\nindex = {index}\nmode = '{mode}'\n");
        }
        let recipe = Recipe::from_toml(&text).unwrap();
        let (model, _) = convert(&float, &[sample.clone()][..], &recipe, 1, &|_, _| {}).unwrap();
        trials.push(Trial {
            name: format!("from-{}", modes[first]),
            model,
            inputs: sample.clone(),
            runs: 1,
        });
    }
    let reference = run(
        &Trial {
            name: String::new(),
            model: float,
            inputs: sample.clone(),
            runs: 1,
        },
        Numerics::Fast,
    );
    let folder = tempfile::tempdir().unwrap();
    for (name, answer) in litert(folder.path(), &trials) {
        let answer = answer.unwrap_or_else(|reason| panic!("{name}: {reason}"));
        assert!(is_near(&answer[0], &reference[0].1, 0.05), "{name}");
    }
}
