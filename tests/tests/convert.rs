//! The main job on the demo's model: calibrate, quantize, write, read, run, compare.

use std::path::Path;
use std::sync::Arc;

use bantam_converter::samples::{InputSpec, Preprocess, Samples};
use bantam_converter::{ConvertError, IoType, Mode, Recipe, calibrate, compare, convert, samples};
use bantam_model::cpu::{Options, Plan, Runner};
use bantam_model::{DType, Model, Numerics};

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
