//! The main job on the demo's model: calibrate, quantize, write, read, run, compare.

use std::path::Path;
use std::sync::Arc;

use bantam_converter::samples::{InputSpec, Preprocess, Samples};
use bantam_converter::{ConvertError, IoType, Mode, Recipe, calibrate, compare, convert, samples};
use bantam_model::cpu::{Options, Plan, Runner};
use bantam_model::{DType, Model, Numerics, Subgraph, TensorId};

fn asset(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../cli/assets")
        .join(name)
}

fn digits() -> (Model, Samples) {
    let model = Model::open(&asset("digits.tflite")).unwrap();
    let input = &model.subgraphs[0].tensors[model.subgraphs[0].inputs[0].index()];
    let spec = InputSpec {
        name: input.name.clone(),
        shape: input.shape.clone(),
        dtype: samples::ElementType::F32,
        quantization: None,
    };
    let samples = Samples::open(
        &asset("digits_calib.npy"),
        &[spec],
        &Preprocess::default(),
        None,
    )
    .unwrap();
    (model, samples)
}

fn recipe(mode: Mode, input_type: Option<IoType>, output_type: Option<IoType>) -> Recipe {
    Recipe {
        mode,
        input_type,
        output_type,
        ..Recipe::default()
    }
}

fn quiet(_: usize, _: usize) {}

#[test]
fn int8_only_leaves_no_float_tensor() {
    let (model, samples) = digits();
    let (converted, report) = convert(
        &model,
        &samples,
        &recipe(Mode::Int8Only, None, None),
        2,
        &quiet,
    )
    .unwrap();
    assert_eq!(report.quantized, report.ops);
    let read = Model::read(converted.to_bytes().into()).unwrap();
    assert_eq!(read, converted);
    assert!(
        read.subgraphs[0]
            .tensors
            .iter()
            .all(|t| t.dtype != DType::F32)
    );
}

#[test]
fn every_choice_of_input_and_output_types_gives_the_float_models_answers() {
    let (model, samples) = digits();
    let types = [None, Some(IoType::F32), Some(IoType::I8), Some(IoType::U8)];
    for input in types {
        for output in types {
            let recipe = recipe(Mode::Int8, input, output);
            let (converted, _) = convert(&model, &samples, &recipe, 1, &quiet).unwrap();
            for numerics in [Numerics::Reference, Numerics::Fast] {
                let found = compare(&model, &converted, &samples, numerics, &quiet).unwrap();
                let sqnr = found.outputs[0].sqnr_db;
                assert!(
                    sqnr > 30.0,
                    "{input:?} {output:?} {numerics:?}: {sqnr:.1} dB"
                );
            }
        }
    }
}

#[test]
fn signatures_and_names_survive() {
    let (model, samples) = digits();
    let (converted, _) = convert(&model, &samples, &Recipe::default(), 1, &quiet).unwrap();
    let names = |model: &Model| -> Vec<(String, String, DType)> {
        let signature = &model.signatures[0];
        let entries = signature.inputs.iter().chain(&signature.outputs);
        let describe = |(key, id): &(String, bantam_model::TensorId)| {
            let tensor = &model.subgraphs[0].tensors[id.index()];
            (key.clone(), tensor.name.clone(), tensor.dtype)
        };
        entries.map(describe).collect()
    };
    assert_eq!(names(&model), names(&converted));
}

#[test]
fn ranges_do_not_depend_on_the_number_of_threads() {
    let (model, samples) = digits();
    let one = calibrate(&model, &samples, 1, &quiet).unwrap();
    assert_eq!(one, calibrate(&model, &samples, 3, &quiet).unwrap());
}

#[test]
fn a_batch_gives_what_its_samples_give() {
    let cases = bantam_tests::cases().unwrap();
    let case = cases
        .iter()
        .find(|c| c.name.ends_with("conv_2d_1x1_d16_o16_f32"))
        .unwrap();
    let float = Model::open(&case.model).unwrap();
    let sample = vec![case.inputs[0].bytes.clone()];
    let (int8, _) = convert(&float, &[sample.clone()][..], &Recipe::default(), 1, &quiet).unwrap();
    for model in [&float, &int8] {
        let run = |batch: usize, bytes: &[u8]| {
            let mut shape = case.inputs[0].shape.clone();
            shape[0] *= batch;
            let options = Options {
                input_shapes: vec![Some(shape)],
                ..Options::default()
            };
            let mut runner = Runner::new(Arc::new(Plan::new(model, &options).unwrap())).unwrap();
            runner.set_input(0, bytes).unwrap();
            runner.run().unwrap();
            runner.output(0).to_vec()
        };
        assert_eq!(run(3, &sample[0].repeat(3)), run(1, &sample[0]).repeat(3));
    }
}

#[test]
fn what_is_integer_already_is_refused() {
    let (model, samples) = digits();
    let (converted, _) = convert(&model, &samples, &Recipe::default(), 1, &quiet).unwrap();
    let again = convert(&converted, &samples, &Recipe::default(), 1, &quiet);
    assert!(matches!(again, Err(ConvertError::Nothing(_))));
}

/// A float case with subgraphs and 16 samples: its own inputs, with floats scaled anew and booleans
/// inverted for each sample.
fn control_case(name: &str) -> (Model, Vec<Vec<Vec<u8>>>) {
    let cases = bantam_tests::cases().unwrap();
    let case = cases.iter().find(|c| c.name.ends_with(name)).unwrap();
    let model = Model::open(&case.model).unwrap();
    let graph = &model.subgraphs[0];
    let sample = |number: usize| {
        let inputs = graph.inputs.iter().zip(&case.inputs);
        let scaled = inputs.map(|(&id, input)| match graph[id].dtype {
            DType::F32 => {
                let (values, _) = input.bytes.as_chunks();
                let factor = 0.25 + number as f32 * 0.05;
                let scaled = values.iter().map(|&b| f32::from_ne_bytes(b) * factor);
                scaled.flat_map(f32::to_ne_bytes).collect()
            }
            DType::Bool => vec![number as u8 % 2],
            _ => input.bytes.clone(),
        });
        scaled.collect()
    };
    let samples = (0..16).map(sample).collect();
    (model, samples)
}

#[test]
fn bodies_become_integer_and_so_does_what_goes_in_and_out() {
    for name in [
        "while_recurrent_6_rounds_f32",
        "while_with_if_f32",
        "if_two_results_true_f32",
        "stablehlo_composite_dense_f32",
    ] {
        let (model, samples) = control_case(name);
        for mode in [Mode::Int8, Mode::Int8Only] {
            let recipe = recipe(mode, None, None);
            let (converted, report) = convert(&model, &samples[..], &recipe, 1, &quiet).unwrap();
            assert_eq!(report.kept_float, [], "{name} {mode:?}");
            let read = Model::read(converted.to_bytes().into()).unwrap();
            assert_eq!(read, converted);
            let floats = |s: &Subgraph| s.tensors.iter().filter(|t| t.dtype == DType::F32).count();
            let inner = if mode == Mode::Int8Only { 0 } else { 1 };
            assert_eq!(read.subgraphs[inner..].iter().map(floats).sum::<usize>(), 0);
            for numerics in [Numerics::Reference, Numerics::Fast] {
                let found = compare(&model, &converted, &samples[..], numerics, &quiet).unwrap();
                for output in &found.outputs {
                    let (name, db) = (&output.name, output.sqnr_db);
                    assert!(db > 25.0, "{name} {mode:?} {numerics:?}: {db:.1} dB");
                }
            }
        }
    }
}

#[test]
fn both_sides_of_a_boundary_have_the_same_parameters() {
    for name in ["while_recurrent_6_rounds_f32", "while_with_if_f32"] {
        let (model, samples) = control_case(name);
        let recipe = Recipe::default();
        let (converted, _) = convert(&model, &samples[..], &recipe, 1, &quiet).unwrap();
        let looks = |s: usize, id: TensorId| {
            let tensor = &converted.subgraphs[s][id];
            (tensor.dtype, tensor.quantization.clone())
        };
        let graph = &converted.subgraphs[0];
        let operators = graph.nodes.iter();
        let node = operators
            .into_iter()
            .find(|n| !n.op.bodies().is_empty())
            .unwrap();
        for (index, operand) in node.inputs.iter().enumerate() {
            let outside = looks(0, operand.unwrap());
            assert_eq!(outside, looks(0, node.outputs[index]));
            for body in node.op.bodies() {
                let number = body.subgraph as usize;
                let inner = &converted.subgraphs[number];
                assert_eq!(outside, looks(number, inner.inputs[index]));
                if inner.outputs.len() == inner.inputs.len() {
                    assert_eq!(outside, looks(number, inner.outputs[index]));
                }
            }
        }
    }
}

#[test]
fn variables_stay_float_and_their_operators_are_named() {
    let (model, samples) = control_case("variable_running_sum_1_runs_f32");
    let (converted, report) = convert(
        &model,
        &samples[..],
        &recipe(Mode::Int8, None, None),
        1,
        &quiet,
    )
    .unwrap();
    assert_eq!((report.quantized, report.kept_float.len()), (1, 6));
    assert_eq!(report.kept_float[5].subgraph, 1);
    assert!(Plan::new(&converted, &Options::default()).is_ok());
    let strict = convert(
        &model,
        &samples[..],
        &recipe(Mode::Int8Only, None, None),
        1,
        &quiet,
    );
    assert!(matches!(strict, Err(ConvertError::Float { floats }) if floats.len() == 6));
}

#[test]
fn a_subgraph_that_a_signature_enters_keeps_its_types() {
    let (mut model, samples) = control_case("stablehlo_composite_dense_f32");
    model.signatures = vec![bantam_model::SignatureDef {
        key: "inner".into(),
        subgraph: 1,
        ..Default::default()
    }];
    let (converted, report) = convert(&model, &samples[..], &Recipe::default(), 1, &quiet).unwrap();
    let inner = &converted.subgraphs[1];
    let mut ends = inner.inputs.iter().chain(&inner.outputs);
    assert!(ends.all(|&id| inner[id].dtype == DType::F32));
    assert!(report.quantized > 0);
    let reason = &report.kept_float[0].reason;
    assert!(reason.contains("a signature enters subgraph 1"), "{reason}");
    // One that nothing runs cannot be calibrated.
    model.subgraphs.push(model.subgraphs[1].clone());
    model.signatures[0].subgraph = 2;
    let (converted, report) = convert(&model, &samples[..], &Recipe::default(), 1, &quiet).unwrap();
    assert_eq!(converted.subgraphs[2], model.subgraphs[2]);
    assert!(report.warnings[0].contains("\"inner\" enters subgraph 2"));
    // With samples of its own, it is converted too.
    let mut recipe = recipe(Mode::Int8Only, None, None);
    recipe.subgraph = 2;
    let inner = &model.subgraphs[2];
    let sample = inner.inputs.iter().map(|&id| {
        let values = inner[id].shape.iter().product();
        [0.5f32, -1.0]
            .iter()
            .cycle()
            .take(values)
            .flat_map(|v| v.to_ne_bytes())
            .collect()
    });
    let samples = [sample.collect::<Vec<Vec<u8>>>()];
    let (converted, report) = convert(&converted, &samples[..], &recipe, 1, &quiet).unwrap();
    assert_eq!((report.quantized, report.ops), (3, 3));
    let tensors = &converted.subgraphs[2].tensors;
    assert!(tensors.iter().all(|t| t.dtype != DType::F32));
}
