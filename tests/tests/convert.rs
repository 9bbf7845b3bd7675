//! The main job on the demo's model: calibrate, quantize, write, read, run, compare.

use std::path::Path;
use std::sync::Arc;

use bantam_converter::samples::{InputSpec, Preprocess, Samples};
use bantam_converter::{
    CalibMethod, ConvertError, IoType, Mode, Part, Recipe, Scheme, Statistics, auto, calibrate,
    compare, compare_subgraph, convert, quantize, samples,
};
use bantam_model::cpu::{Options, Plan, Runner};
use bantam_model::ops::{Concatenation, Mul, Relu};
use bantam_model::{DType, Model, Node, Numerics, Subgraph, Tensor, TensorId};
use bantam_tests::bodies::{in_branches, in_loop};

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
        input_type,
        output_type,
        ..Recipe::new(mode)
    }
}

const METHODS: [CalibMethod; 6] = [
    CalibMethod::Auto,
    CalibMethod::MinMax,
    CalibMethod::MovingAverage,
    CalibMethod::Percentile,
    CalibMethod::Mse,
    CalibMethod::Entropy,
];

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
fn models_with_int16_inputs_are_compared_too() {
    let (model, samples) = digits();
    let recipe = recipe(Mode::Int16x8Only, None, None);
    let (converted, _) = convert(&model, &samples, &recipe, 1, &quiet).unwrap();
    let graph = &converted.subgraphs[0];
    assert_eq!(graph[graph.inputs[0]].dtype, DType::I16);
    let found = compare(&model, &converted, &samples, Numerics::Fast, &quiet).unwrap();
    assert!(found.outputs[0].sqnr_db > 35.0, "{found:?}");
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
    for method in METHODS {
        let mut recipe = Recipe::default();
        recipe.defaults.calib_method = Some(method);
        let one = calibrate(&model, &samples, &recipe, 1, &quiet).unwrap();
        let three = calibrate(&model, &samples, &recipe, 3, &quiet).unwrap();
        assert_eq!(one, three, "{method:?}");
    }
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
fn a_wide_neighbour_in_a_concatenation_does_not_coarsen_a_skip_connection() {
    let mut subgraph = Subgraph::default();
    let mut tensor = |name: &str, len| subgraph.add_tensor(Tensor::new(name, DType::F32, [len]));
    let (input, skip, wide) = (tensor("input", 4), tensor("skip", 4), tensor("wide", 4));
    let both = tensor("both", 8);
    let factor = Tensor::constant("factor", DType::F32, [], 100f32.to_le_bytes().to_vec());
    let factor = subgraph.add_tensor(factor);
    let concatenation = Concatenation {
        axis: 0,
        ..Default::default()
    };
    subgraph.nodes = vec![
        Node::new(Relu, &[input], &[skip]),
        Node::new(Mul::default(), &[skip, factor], &[wide]),
        Node::new(concatenation, &[skip, wide], &[both]),
    ];
    subgraph.inputs = vec![input];
    subgraph.outputs = vec![both];
    let model = Model {
        subgraphs: vec![subgraph],
        ..Model::default()
    };
    let sample: Vec<u8> = [0f32, 0.5, 1.0, 2.55]
        .iter()
        .flat_map(|v| v.to_ne_bytes())
        .collect();
    let samples = [vec![sample]];
    let (converted, report) = convert(&model, &samples[..], &Recipe::default(), 1, &quiet).unwrap();
    let warned = |text| report.warnings.iter().any(|w| w.contains(text));
    assert!(warned("100 times as wide") && warned("1 sample is few") && warned("no signature"));
    let tensors = &converted.subgraphs[0].tensors;
    let scale = |name: &str| {
        let tensor = tensors.iter().find(|t| t.name == name).unwrap();
        tensor.quantization.as_ref().unwrap().scale[0]
    };
    assert!((scale("skip") - 0.01).abs() < 1e-6);
    assert!((scale("wide") - 1.0).abs() < 1e-4);
    let found = compare(&model, &converted, &samples[..], Numerics::Fast, &quiet).unwrap();
    assert!(found.outputs[0].max_abs <= 0.5, "{found:?}");
}

#[test]
fn what_is_integer_already_is_refused() {
    let (model, samples) = digits();
    let (converted, _) = convert(&model, &samples, &Recipe::default(), 1, &quiet).unwrap();
    let again = convert(&converted, &samples, &Recipe::default(), 1, &quiet);
    assert!(matches!(again, Err(ConvertError::Nothing(_))));
}

#[test]
fn merged_shards_are_one_run_to_the_byte() {
    let (model, samples) = digits();
    for method in METHODS {
        let mut recipe = Recipe::default();
        recipe.defaults.calib_method = Some(method);
        let one = calibrate(&model, &samples, &recipe, 2, &quiet).unwrap();
        let whole = one.to_json(&model);
        let mut merged = Statistics::none(&model);
        for shard in ["2/3", "3/3", "1/3"] {
            let part = Part::new(&samples, shard.parse().unwrap());
            let found = calibrate(&model, &part, &recipe, 2, &quiet).unwrap();
            let text = found.to_json(&model);
            merged.merge(Statistics::from_json(&text, &model).unwrap());
        }
        assert_eq!(merged, one, "{method:?}");
        assert_eq!(merged.to_json(&model), whole, "{method:?}");
    }
}

#[test]
fn every_method_gives_a_good_model() {
    let (model, samples) = digits();
    for method in METHODS {
        let mut recipe = Recipe::default();
        recipe.defaults.calib_method = Some(method);
        let (converted, _) = convert(&model, &samples, &recipe, 1, &quiet).unwrap();
        let found = compare(&model, &converted, &samples, Numerics::Fast, &quiet).unwrap();
        let sqnr = found.outputs[0].sqnr_db;
        assert!(sqnr > 20.0, "{method:?}: {sqnr:.1} dB");
    }
}

#[test]
fn a_method_whose_data_was_not_collected_is_an_error() {
    let (model, samples) = digits();
    let mut recipe = Recipe::default();
    recipe.defaults.calib_method = Some(CalibMethod::MinMax);
    let statistics = calibrate(&model, &samples, &recipe, 1, &quiet).unwrap();
    for method in &METHODS[2..] {
        let mut recipe = Recipe::default();
        recipe.defaults.calib_method = Some(*method);
        let result = quantize(&model, &statistics, &recipe);
        assert!(
            matches!(result, Err(ConvertError::Calibration(_))),
            "{method:?}"
        );
    }
}

#[test]
fn statistics_of_another_model_or_broken_ones_are_refused() {
    let (model, samples) = digits();
    let mut recipe = Recipe::default();
    recipe.defaults.calib_method = Some(CalibMethod::Mse);
    let text = calibrate(&model, &samples, &recipe, 1, &quiet)
        .unwrap()
        .to_json(&model);
    let mut other = model.clone();
    let tensors = &mut other.subgraphs[0].tensors;
    tensors.iter_mut().for_each(|t| t.name.push('x'));
    let refused = |text: &str, model| {
        let result = Statistics::from_json(text, model);
        assert!(
            matches!(result, Err(ConvertError::Calibration(_))),
            "{result:?}"
        );
    };
    refused(&text, &other);
    refused(&text[..text.len() / 2], &model);
    refused(&text.replace("\"first\":", "\"first\":9999"), &model);
    refused(&text.replace("\"max\":", "\"max\":1e300,\"m\":"), &model);
}

#[test]
fn every_mode_gives_the_float_models_answers() {
    let (model, samples) = digits();
    for (mode, least) in [
        (Mode::Float, 100.0),
        (Mode::Float16, 60.0),
        (Mode::WeightOnly, 40.0),
    ] {
        let (converted, report) = convert(&model, &samples, &Recipe::new(mode), 1, &quiet).unwrap();
        let read = Model::read(converted.to_bytes().into()).unwrap();
        assert_eq!(read, converted, "{mode:?}");
        let found = compare(&model, &converted, &samples, Numerics::Fast, &quiet).unwrap();
        let sqnr = found.outputs[0].sqnr_db;
        assert!(sqnr > least, "{mode:?}: {sqnr:.1} dB");
        assert_eq!(report.quantized > 0, mode != Mode::Float, "{mode:?}");
    }
}

#[test]
fn float16_models_convert_like_the_float_model_of_their_values() {
    let (model, samples) = digits();
    let (half, _) = convert(&model, &samples, &Recipe::new(Mode::Float16), 1, &quiet).unwrap();
    for mode in [
        Mode::Int8,
        Mode::Int8Only,
        Mode::DynamicRange,
        Mode::WeightOnly,
    ] {
        let (converted, report) = convert(&half, &samples, &Recipe::new(mode), 1, &quiet).unwrap();
        let (direct, expected) = convert(&model, &samples, &Recipe::new(mode), 1, &quiet).unwrap();
        assert_eq!(report.ops, expected.ops);
        assert_eq!(report.quantized, expected.quantized);
        let types = |model: &Model| -> Vec<(String, DType)> {
            let nodes = model.subgraphs[0].nodes.iter();
            let outputs = nodes.map(|n| (n.op.to_string(), n.outputs[0]));
            outputs
                .map(|(op, id)| (op, model.subgraphs[0][id].dtype))
                .collect()
        };
        assert_eq!(types(&converted), types(&direct), "{mode:?}");
    }
    let (again, _) = convert(&half, &samples, &Recipe::new(Mode::Float16), 1, &quiet).unwrap();
    assert_eq!(again, half);
}

#[test]
fn entries_of_a_recipe_mix_modes_in_one_graph() {
    let (model, samples) = digits();
    let convolutions = "[[ops]]\nop = 'CONV_2D'\nmode = 'MODE'\n";
    for mode in ["float", "float16", "weight-only"] {
        let text = format!("{}min-elements = 1", convolutions.replace("MODE", mode));
        let recipe = Recipe::from_toml(&text).unwrap();
        let (converted, report) = convert(&model, &samples, &recipe, 1, &quiet).unwrap();
        let floats = converted.subgraphs[0].nodes.iter().filter(|node| {
            node.op.to_string() == "CONV_2D"
                && converted.subgraphs[0][node.outputs[0]].dtype == DType::F32
        });
        assert!(floats.count() > 0, "{mode}");
        assert_eq!(report.warnings, Vec::<String>::new());
        let found = compare(&model, &converted, &samples, Numerics::Fast, &quiet).unwrap();
        assert!(found.outputs[0].sqnr_db > 30.0, "{mode}");
    }
    let recipe =
        Recipe::from_toml("mode = 'int8-only'\n[[ops]]\nindex = 0\nmode = 'float'").unwrap();
    let result = convert(&model, &samples, &recipe, 1, &quiet);
    assert!(matches!(result, Err(ConvertError::Float { floats, .. }) if floats.len() == 1));
    let recipe = Recipe::from_toml("[[ops]]\nop = 'CONV2D'\nmode = 'float'").unwrap();
    let (_, report) = convert(&model, &samples, &recipe, 1, &quiet).unwrap();
    assert_eq!(report.warnings, ["entry 0 of the recipe fits no operator"]);
}

#[test]
fn clipping_of_weights_is_reported_and_does_no_harm() {
    let (model, samples) = digits();
    let text = "[defaults]\nweights = 'per-tensor'\nweight-clipping = 'mse'";
    let recipe = Recipe::from_toml(text).unwrap();
    let (converted, report) = convert(&model, &samples, &recipe, 1, &quiet).unwrap();
    assert!(!report.gains.is_empty());
    assert!(
        report
            .gains
            .iter()
            .all(|gain| gain.ratio < 1.0 && gain.ratio > 0.0)
    );
    let found = compare(&model, &converted, &samples, Numerics::Fast, &quiet).unwrap();
    assert!(
        found.outputs[0].sqnr_db > 25.0,
        "{}",
        found.outputs[0].sqnr_db
    );
}

#[test]
fn equalized_model_computes_the_same() {
    let (model, samples) = digits();
    let (equalized, gains) = bantam_converter::equalize(&model, 0);
    let found = compare(&model, &equalized, &samples, Numerics::Fast, &quiet).unwrap();
    assert!(
        found.outputs[0].sqnr_db > 90.0,
        "{}",
        found.outputs[0].sqnr_db
    );
    let recipe = Recipe::from_toml("equalize = true").unwrap();
    let (_, report) = convert(&model, &samples, &recipe, 1, &quiet).unwrap();
    assert_eq!(report.gains, gains);
}

/// The mean over outputs and samples, in dB.
fn sqnr(model: &Model, converted: &Model, samples: &Samples) -> f64 {
    let found = compare(model, converted, samples, Numerics::Fast, &quiet).unwrap();
    found.outputs.iter().map(|o| o.sqnr_db).sum::<f64>() / found.outputs.len() as f64
}

#[test]
fn the_method_that_is_chosen_is_the_best_of_those_tried() {
    let (model, samples) = digits();
    let (converted, report) = convert(&model, &samples, &Recipe::default(), 2, &quiet).unwrap();
    let total = &report.totals[0];
    assert_eq!(total.option, "calib-method");
    assert!(total.after_db >= total.before_db, "{total:?}");
    let chosen = sqnr(&model, &converted, &samples);
    for method in ["min-max", "mse", "percentile", "moving-average"] {
        let text = format!("[defaults]\ncalib-method = '{method}'");
        let recipe = Recipe::from_toml(&text).unwrap();
        let (other, report) = convert(&model, &samples, &recipe, 1, &quiet).unwrap();
        assert_eq!(report.totals, []);
        if method == total.choice {
            assert_eq!(converted, other);
        }
        // The choice is made on some of the samples.
        assert!(chosen >= sqnr(&model, &other, &samples) - 0.1, "{method}");
    }
}

#[test]
fn best_recipe_does_not_depend_on_the_number_of_threads_and_reports_its_gains() {
    let (model, samples) = shifted();
    let mut recipe = Recipe::best();
    recipe.search_ranges = true;
    recipe.mode = Mode::Int8Only;
    let (one, report) = convert(&model, &samples[..], &recipe, 1, &quiet).unwrap();
    for threads in [2, 5] {
        let (other, same) = convert(&model, &samples[..], &recipe, threads, &quiet).unwrap();
        assert_eq!(other, one, "{threads} threads");
        assert_eq!(same, report, "{threads} threads");
    }
    let options: Vec<&str> = report.totals.iter().map(|t| t.option).collect();
    let tuned = "learned-rounding, bias-correction";
    assert_eq!(options, ["calib-method", "search-ranges", tuned]);
    assert!(report.totals.iter().all(|t| t.after_db >= t.before_db));
    let rounded = report
        .gains
        .iter()
        .filter(|g| g.option == "learned-rounding");
    assert!(rounded.count() > 0, "{report:?}");
    for gain in &report.gains {
        let (before, after) = gain.db.unwrap();
        assert!(gain.ratio < 1.0 && after > before, "{gain:?}");
    }
    let read = Model::read(one.to_bytes().into()).unwrap();
    assert_eq!(read, one);
}

#[test]
fn int16_activations_are_tuned_too() {
    let (model, samples) = digits();
    let mut recipe = Recipe::best();
    recipe.mode = Mode::Int16x8;
    let plain = Recipe::new(Mode::Int16x8);
    let (plain, _) = convert(&model, &samples, &plain, 1, &quiet).unwrap();
    let (tuned, _) = convert(&model, &samples, &recipe, 1, &quiet).unwrap();
    assert!(sqnr(&model, &tuned, &samples) >= sqnr(&model, &plain, &samples));
}

/// `x -> FULLY_CONNECTED -> y`, without a bias and with weights of which rounding moves the mean: all
/// are nearly half a step above an integer, and inputs are positive and grow together.
fn shifted() -> (Model, Vec<Vec<Vec<u8>>>) {
    const N: usize = 16;
    let mut graph = Subgraph::default();
    let weight = |index: usize| match index % N {
        0 => 1.27f32,
        at => (at as f32 + 0.4) / 100.0,
    };
    let bytes: Vec<u8> = (0..4 * N).flat_map(|i| weight(i).to_le_bytes()).collect();
    let x = graph.add_tensor(Tensor::new("x", DType::F32, [1, N]));
    let w = graph.add_tensor(Tensor::constant("w", DType::F32, [4, N], bytes));
    let y = graph.add_tensor(Tensor::new("y", DType::F32, [1, 4]));
    let op = bantam_model::ops::FullyConnected::default();
    graph.nodes = vec![Node::new(op, &[x, w], &[y])];
    (graph.inputs, graph.outputs) = (vec![x], vec![y]);
    let model = Model {
        subgraphs: vec![graph],
        ..Model::default()
    };
    let value = |s: usize, i: usize| {
        let common = 1.5 + (s as f32 * 0.7).sin();
        common + 0.2 * ((s * N + i) as f32 * 1.3).sin()
    };
    let sample = |s| vec![(0..N).flat_map(|i| value(s, i).to_ne_bytes()).collect()];
    (model, (0..32).map(sample).collect())
}

#[test]
fn bias_correction_moves_the_mean_back() {
    let (model, samples) = shifted();
    let mean_error = |converted: &Model| -> f64 {
        let mut sum = [0.0; 4];
        let plan = |m: &Model| Arc::new(Plan::new(m, &Options::default()).unwrap());
        let mut runners = [&model, converted].map(|m| Runner::new(plan(m)).unwrap());
        for sample in &samples {
            let results = runners.each_mut().map(|runner| {
                runner.set_input(0, &sample[0]).unwrap();
                runner.run().unwrap();
                floats(runner.output(0))
            });
            for (unit, sum) in sum.iter_mut().enumerate() {
                *sum += f64::from(results[1][unit] - results[0][unit]);
            }
        }
        sum.iter().map(|s| (s / samples.len() as f64).abs()).sum()
    };
    let of = |option: &str| {
        let text = format!("[defaults]\ncalib-method = 'min-max'\n{option}");
        let recipe = Recipe::from_toml(&text).unwrap();
        convert(&model, &samples[..], &recipe, 1, &quiet).unwrap()
    };
    let (plain, _) = of("");
    let (corrected, report) = of("bias-correction = true");
    let (before, after) = (mean_error(&plain), mean_error(&corrected));
    assert!(after < 0.1 * before, "{after} {before}");
    assert_eq!(report.gains[0].option, "bias-correction");
    let (rounded, report) = of("learned-rounding = true");
    assert!(mean_error(&rounded) < before);
    assert!(report.gains[0].ratio < 0.5, "{report:?}");
    let only = "[defaults]\nbias-correction = true\n[[ops]]\nindex = 0\nbias-correction = false";
    let recipe = Recipe::from_toml(only).unwrap();
    let (_, report) = convert(&model, &samples[..], &recipe, 1, &quiet).unwrap();
    assert_eq!(report.gains, []);
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let floats = bytes.as_chunks().0.iter();
    floats.map(|&b| f32::from_ne_bytes(b)).collect()
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
    let modes = [(Mode::Int8, DType::I8), (Mode::Int16x8, DType::I16)];
    for (name, (mode, dtype)) in ["while_recurrent_6_rounds_f32", "while_with_if_f32"]
        .into_iter()
        .flat_map(|name| modes.map(|mode| (name, mode)))
    {
        let (model, samples) = control_case(name);
        let recipe = Recipe::new(mode);
        let (converted, report) = convert(&model, &samples[..], &recipe, 1, &quiet).unwrap();
        let looks = |s: usize, id: TensorId| {
            let tensor = &converted.subgraphs[s][id];
            (tensor.dtype, tensor.quantization.clone())
        };
        assert_eq!(report.kept_float, [], "{name} {mode:?}");
        let mut bodies = converted.subgraphs[1..].iter().flat_map(|s| &s.tensors);
        assert!(bodies.any(|t| t.dtype == dtype), "{name} {mode:?}");
        for numerics in [Numerics::Reference, Numerics::Fast] {
            let found = compare(&model, &converted, &samples[..], numerics, &quiet).unwrap();
            let worst = found.outputs.iter().map(|output| output.sqnr_db);
            let worst = worst.fold(f64::INFINITY, f64::min);
            assert!(worst > 25.0, "{name} {mode:?} {numerics:?}: {worst:.1} dB");
        }
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
fn variables_become_integer_with_all_that_assign_and_read_them() {
    let (model, samples) = control_case("variable_running_sum_1_runs_f32");
    let strict = recipe(Mode::Int8Only, None, None);
    let (converted, report) = convert(&model, &samples[..], &strict, 1, &quiet).unwrap();
    assert_eq!(report.kept_float, []);
    let mut values = Vec::new();
    for graph in &converted.subgraphs {
        assert!(graph.tensors.iter().all(|t| t.dtype != DType::F32));
        for node in &graph.nodes {
            let value = match node.op.to_string().as_str() {
                "ASSIGN_VARIABLE" => node.input(1),
                "READ_VARIABLE" => node.outputs.first().copied(),
                _ => None,
            };
            values.extend(value.map(|id| graph[id].quantization.clone()));
        }
    }
    // Each of two variables is set at the start, read and set again.
    assert_eq!(values.len(), 6);
    for value in &values {
        assert_eq!(
            values.iter().filter(|v| *v == value).count(),
            3,
            "{values:?}"
        );
    }
    let found = compare(
        &model,
        &converted,
        &samples[..],
        Numerics::Reference,
        &quiet,
    );
    assert!(found.unwrap().outputs[0].sqnr_db > 25.0);
}

#[test]
fn a_variable_that_cannot_be_integer_is_named() {
    // Another subgraph, which stays as it is, uses it too.
    let (mut model, samples) = control_case("variable_running_sum_1_runs_f32");
    model.subgraphs.push(model.subgraphs[1].clone());
    let strict = recipe(Mode::Int8Only, None, None);
    let result = convert(&model, &samples[..], &strict, 1, &quiet);
    let Err(ConvertError::Float { floats, .. }) = result else {
        panic!("{result:?}");
    };
    let ops: Vec<&str> = floats.iter().map(|f| f.op.as_str()).collect();
    assert!(ops.iter().all(|op| op.ends_with("_VARIABLE")), "{ops:?}");
    let reason = &floats[0].reason;
    assert!(reason.contains("subgraph 2, which stays"), "{reason}");
    let (converted, _) = convert(&model, &samples[..], &Recipe::default(), 1, &quiet).unwrap();
    let found = compare(&model, &converted, &samples[..], Numerics::Fast, &quiet);
    assert!(found.unwrap().outputs[0].sqnr_db > 25.0);
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
    let mut warnings = report.warnings.iter();
    assert!(warnings.any(|w| w.contains("\"inner\" enters subgraph 2")));
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
    let found = compare_subgraph(&model, &converted, 2, &samples[..], Numerics::Fast, &quiet);
    assert!(found.unwrap().outputs[0].sqnr_db > 25.0);
    let tensors = &converted.subgraphs[2].tensors;
    assert!(tensors.iter().all(|t| t.dtype != DType::F32));
}

#[test]
fn a_recipe_reaches_into_subgraphs() {
    let (model, samples) = control_case("while_recurrent_6_rounds_f32");
    let body = model.subgraphs[0]
        .nodes
        .iter()
        .find_map(|n| n.op.bodies().pop());
    let body = body.unwrap().subgraph as usize;
    let converted = |text: &str| {
        let recipe = Recipe::from_toml(text).unwrap();
        convert(&model, &samples[..], &recipe, 1, &quiet).unwrap()
    };
    let reasons = |report: &bantam_converter::Report| -> Vec<(usize, String)> {
        let kept = report.kept_float.iter();
        kept.map(|k| (k.subgraph, k.reason.clone())).collect()
    };
    // What is handed over is float where the body computes it in float.
    let text = format!("[[ops]]\nsubgraph = {body}\nop = 'TANH'\nmode = 'float'");
    let (small, report) = converted(&text);
    let [(0, outer), (inner, reason)] = &reasons(&report)[..] else {
        panic!("{report:?}");
    };
    assert!(outer.contains("is not computed in int8"), "{outer}");
    assert_eq!((*inner, &**reason), (body, "the recipe leaves it float"));
    let found = compare(&model, &small, &samples[..], Numerics::Fast, &quiet).unwrap();
    assert!(found.outputs[0].sqnr_db > 25.0);
    // The same where the body computes it in other integers.
    let (small, report) = converted(&format!("[[ops]]\nsubgraph = {body}\nmode = 'int16x8'"));
    let [(0, outer)] = &reasons(&report)[..] else {
        panic!("{report:?}");
    };
    assert!(outer.contains("is not computed in int8"), "{outer}");
    let found = compare(&model, &small, &samples[..], Numerics::Fast, &quiet).unwrap();
    assert!(found.outputs[0].sqnr_db > 25.0);
    // The same where the operator that runs it is float.
    let (small, report) = converted("[[ops]]\nop = 'WHILE'\nmode = 'float'");
    assert_eq!(
        reasons(&report),
        [(0, "the recipe leaves it float".to_owned())]
    );
    let inner = &small.subgraphs[body];
    let ends = inner.inputs.iter().chain(&inner.outputs);
    assert!(
        ends.clone()
            .all(|&id| !matches!(inner[id].dtype, DType::I8))
    );
    let found = compare(&model, &small, &samples[..], Numerics::Fast, &quiet).unwrap();
    assert!(found.outputs[0].sqnr_db > 25.0);
    let text = "[[ops]]\nsubgraph = 9\nmode = 'float'";
    assert_eq!(
        converted(text).1.warnings[0],
        "entry 0 of the recipe fits no operator"
    );
}

#[test]
fn statistics_of_subgraphs_are_kept_and_merged() {
    let (model, samples) = control_case("while_with_if_f32");
    for method in METHODS {
        let mut recipe = Recipe::default();
        recipe.defaults.calib_method = Some(method);
        let one = calibrate(&model, &samples[..], &recipe, 2, &quiet).unwrap();
        let mut merged = Statistics::none(&model);
        for shard in ["3/3", "1/3", "2/3"] {
            let part = Part::new(&samples[..], shard.parse().unwrap());
            let found = calibrate(&model, &part, &recipe, 1, &quiet).unwrap();
            let text = found.to_json(&model);
            merged.merge(Statistics::from_json(&text, &model).unwrap());
        }
        assert_eq!(merged, one, "{method:?}");
        assert_eq!(merged.to_json(&model), one.to_json(&model), "{method:?}");
        let settled = bantam_converter::settle(&model, &merged, &recipe, &samples[..], 1, &quiet);
        let (converted, report) = quantize(&model, &merged, &settled.unwrap().0).unwrap();
        assert_eq!(report.kept_float, [], "{method:?}");
        let (direct, _) = convert(&model, &samples[..], &recipe, 1, &quiet).unwrap();
        assert_eq!(converted, direct, "{method:?}");
    }
    let statistics = calibrate(&model, &samples[..], &Recipe::default(), 1, &quiet).unwrap();
    let text = statistics.to_json(&model);
    let mut fewer = model.clone();
    fewer.subgraphs.truncate(1);
    let result = Statistics::from_json(&text, &fewer);
    assert!(matches!(result, Err(ConvertError::Calibration(_))));
}

#[test]
fn modes_without_samples_reach_every_subgraph() {
    let (mut model, samples) = control_case("while_recurrent_6_rounds_f32");
    let unreached = model.subgraphs.len();
    let body = (1..unreached).max_by_key(|&s| model.subgraphs[s].nodes.len());
    model.subgraphs.push(model.subgraphs[body.unwrap()].clone());
    for mode in [Mode::WeightOnly, Mode::Float16] {
        let mut recipe = Recipe::new(mode);
        recipe.defaults.min_elements = Some(1);
        let (small, report) = convert(&model, &[][..], &recipe, 1, &quiet).unwrap();
        assert_eq!(report.subgraphs.len(), model.subgraphs.len());
        for subgraph in [body.unwrap(), unreached] {
            let mut tensors = small.subgraphs[subgraph].tensors.iter();
            let is_small =
                |t: &Tensor| t.is_constant() && matches!(t.dtype, DType::I8 | DType::F16);
            assert!(tensors.any(is_small), "{mode:?} {subgraph}");
        }
        let found = compare(&model, &small, &samples[..], Numerics::Fast, &quiet).unwrap();
        let db = found.outputs[0].sqnr_db;
        assert!(db > 30.0, "{mode:?}: {db:.1} dB");
    }
}

/// Samples for one float input of `len` elements, from -2 to 2.
fn noise(count: usize, len: usize) -> Vec<Vec<Vec<u8>>> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    };
    let mut sample = || (0..len).flat_map(|_| next().to_ne_bytes()).collect();
    (0..count).map(|_| vec![sample()]).collect()
}

#[test]
fn recurrent_operators_become_integer_with_their_states() {
    for (name, len) in [
        ("unidirectional_sequence_lstm_plain_f32", 2 * 4 * 5),
        ("unidirectional_sequence_lstm_cifg_peephole_f32", 2 * 4 * 5),
        (
            "unidirectional_sequence_lstm_norm_projection_f32",
            2 * 4 * 5,
        ),
        ("lstm_norm_projection_f32", 2 * 5),
        ("svdf_rank2_f32", 2 * 9),
    ] {
        let family = ["unidirectional_sequence_lstm", "lstm", "svdf"]
            .into_iter()
            .find(|family| name.starts_with(family))
            .unwrap();
        let path = bantam_tests::data().join("ops").join(family).join(name);
        let model = Model::open(&path.with_extension("tflite")).unwrap();
        let samples = noise(40, len);
        let recipe = recipe(Mode::Int8Only, None, None);
        let (converted, report) = convert(&model, &samples[..], &recipe, 2, &quiet).unwrap();
        assert_eq!(report.quantized, 1, "{name}");
        let states = converted.subgraphs[0]
            .tensors
            .iter()
            .filter(|t| t.is_variable);
        assert!(states.clone().count() > 0, "{name}");
        assert!(states.into_iter().all(|t| t.dtype != DType::F32), "{name}");
        let again = convert(&model, &samples[..], &recipe, 1, &quiet).unwrap().0;
        assert_eq!(again, converted, "{name}: depends on threads");
        let found = compare(
            &model,
            &converted,
            &samples[..],
            Numerics::Reference,
            &quiet,
        )
        .unwrap();
        let sqnr = found.outputs[0].sqnr_db;
        assert!(sqnr > 35.0, "{name}: {sqnr} dB");
    }
}

/// A single-operator model of the family that its name starts with.
fn operator(name: &str) -> Model {
    let cases = bantam_tests::cases().unwrap();
    let case = cases.iter().find(|c| c.name.ends_with(&format!("/{name}")));
    Model::open(&case.unwrap().model).unwrap()
}

#[test]
fn recurrent_operators_become_integer_inside_loops_and_branches() {
    for (name, len) in [
        ("unidirectional_sequence_lstm_plain_f32", 2 * 4 * 5),
        (
            "unidirectional_sequence_lstm_norm_projection_f32",
            2 * 4 * 5,
        ),
        ("lstm_norm_projection_f32", 2 * 5),
        ("svdf_rank2_f32", 2 * 9),
    ] {
        let operator = operator(name);
        let looped = (in_loop(&operator, 3), noise(40, len));
        let chosen = noise(40, len).into_iter().enumerate();
        let chosen = chosen.map(|(i, sample)| [vec![vec![i as u8 % 2]], sample].concat());
        let branched = (in_branches(&operator), chosen.collect::<Vec<_>>());
        for (model, samples) in [looped, branched] {
            let recipe = recipe(Mode::Int8Only, None, None);
            let statistics = calibrate(&model, &samples[..], &recipe, 2, &quiet).unwrap();
            let text = statistics.to_json(&model);
            let loaded = Statistics::from_json(&text, &model).unwrap();
            assert!(loaded.to_json(&model) == text, "{name}");
            let (converted, report) = quantize(&model, &loaded, &recipe).unwrap();
            assert_eq!(report.kept_float, [], "{name}");
            let tensors = converted.subgraphs.iter().flat_map(|s| &s.tensors);
            let states = tensors.filter(|t| t.is_variable && t.dtype != DType::F32);
            assert!(states.count() > 0, "{name}");
            let found = compare(
                &model,
                &converted,
                &samples[..],
                Numerics::Reference,
                &quiet,
            );
            let sqnr = found.unwrap().outputs[0].sqnr_db;
            assert!(sqnr > 30.0, "{name}: {sqnr} dB");
        }
    }
}

/// A model of two products, one of them in three rounds of a loop, and one sample.
fn product_beside_a_loop() -> (Model, Vec<Vec<Vec<u8>>>) {
    let inner = operator("fully_connected_b1_k33_u10_f32");
    let mut model = in_loop(&inner, 3);
    let once = inner.subgraphs[0].nodes[0].clone();
    let main = &mut model.subgraphs[0];
    let mut copy = |id: TensorId| match main.inputs.first() {
        Some(&input) if id == inner.subgraphs[0].inputs[0] => input,
        _ => main.add_tensor(inner.subgraphs[0][id].clone()),
    };
    let inputs = once.inputs.iter().flatten().map(|&id| copy(id));
    let inputs: Vec<TensorId> = inputs.collect();
    let output = copy(once.outputs[0]);
    main.nodes.push(Node::new(once.op, &inputs, &[output]));
    main.outputs.push(output);
    let len = main[main.inputs[0]].shape.iter().product();
    (model, noise(8, len))
}

#[test]
fn the_share_of_int8_multiplications_counts_the_rounds_of_loops() {
    let (model, samples) = product_beside_a_loop();
    let text = "[[ops]]\nsubgraph = 0\nop = 'FULLY_CONNECTED'\nmode = 'float'";
    let recipe = Recipe::from_toml(text).unwrap();
    let statistics = calibrate(&model, &samples[..], &recipe, 1, &quiet).unwrap();
    let goal = auto::Goal {
        judge: &|_: &Model| Ok::<f64, ConvertError>(1.0),
        least: 0.0,
        precision: Scheme::Float,
    };
    let found = auto::find(&model, &statistics, &recipe, &goal, &samples[..], 1, &quiet);
    assert_eq!(found.unwrap().curve[0].share, 0.75);
}

#[test]
fn what_writes_zeros_or_constants_becomes_integer() {
    for (name, needs_zero) in [
        ("matrix_diag/matrix_diag_rank2_f32", true),
        ("scatter_nd/scatter_nd_slices_f32", true),
        ("matrix_set_diag/matrix_set_diag_wide_f32", false),
        ("one_hot/one_hot_last_f32", false),
    ] {
        let cases = bantam_tests::cases().unwrap();
        let case = cases.iter().find(|c| c.name == name).unwrap();
        let mut model = Model::open(&case.model).unwrap();
        if name.starts_with("scatter_nd") {
            // The case itself names a place twice.
            let graph = &mut model.subgraphs[0];
            let indices = graph.nodes[0].inputs[0].unwrap();
            let distinct = [4i32, 0, 2].into_iter().flat_map(i32::to_le_bytes);
            graph[indices].data = Some(distinct.collect::<Vec<u8>>().into());
        }
        let samples = [case
            .inputs
            .iter()
            .map(|i| i.bytes.clone())
            .collect::<Vec<_>>()];
        let strict = recipe(Mode::Int8Only, None, None);
        let (converted, _) = convert(&model, &samples[..], &strict, 1, &quiet).unwrap();
        let found = compare(
            &model,
            &converted,
            &samples[..],
            Numerics::Reference,
            &quiet,
        );
        let graph = &converted.subgraphs[0];
        let result = graph[graph.outputs[0]].quantization.as_ref().unwrap();
        let steps = found.unwrap().outputs[0].max_abs / f64::from(result.scale[0]);
        assert!(steps < 1.1, "{name}: {steps} steps");
        assert!(!needs_zero || result.zero_point == [0], "{name}");
    }
}

#[test]
fn int8_that_may_meet_in_one_place_stays_float() {
    let model = operator("scatter_nd_elements_f32");
    let graph = &model.subgraphs[0];
    let inputs = graph.inputs.iter().map(|&id| &graph[id]);
    let sample: Vec<Vec<u8>> = inputs
        .map(|t| vec![0; t.dtype.byte_len(&t.shape).unwrap()])
        .collect();
    let strict = recipe(Mode::Int8Only, None, None);
    let result = convert(&model, &[sample][..], &strict, 1, &quiet);
    let Err(ConvertError::Float { floats, .. }) = result else {
        panic!("{result:?}");
    };
    assert!(
        floats[0].reason.contains("names a place twice"),
        "{floats:?}"
    );
}

#[test]
fn what_has_no_integer_kernel_is_named_inside_a_loop_too() {
    for name in ["lstm_basic_f32", "unidirectional_sequence_rnn_tanh_f32"] {
        let model = in_loop(&operator(name), 2);
        let graph = &model.subgraphs[0];
        let zeros = |&id: &TensorId| vec![0; graph[id].dtype.byte_len(&graph[id].shape).unwrap()];
        let sample: Vec<Vec<u8>> = graph.inputs.iter().map(zeros).collect();
        let strict = recipe(Mode::Int8Only, None, None);
        let result = convert(&model, &[sample][..], &strict, 1, &quiet);
        let Err(ConvertError::Float { floats, .. }) = result else {
            panic!("{name}: {result:?}");
        };
        assert!(floats.iter().any(|f| f.subgraph == 2), "{name}: {floats:?}");
    }
}

#[test]
fn an_lstm_that_litert_gets_wrong_stays_float() {
    let name = "unidirectional_sequence_lstm_all_time_major_f32.tflite";
    let path = bantam_tests::data()
        .join("ops/unidirectional_sequence_lstm")
        .join(name);
    let model = Model::open(&path).unwrap();
    let samples = noise(2, 3 * 4 * 5);
    let recipe = recipe(Mode::Int8, None, None);
    let (converted, report) = convert(&model, &samples[..], &recipe, 1, &quiet).unwrap();
    assert_eq!(converted.subgraphs, model.subgraphs);
    assert_eq!((report.quantized, report.kept_float.len()), (0, 1));
    assert!(report.kept_float[0].reason.contains("peepholes"));
}

/// A model of one LSTM, and samples for it.
fn lstm() -> (Model, Vec<Vec<Vec<u8>>>) {
    let name = "unidirectional_sequence_lstm_norm_projection_f32.tflite";
    let path = bantam_tests::data()
        .join("ops/unidirectional_sequence_lstm")
        .join(name);
    (Model::open(&path).unwrap(), noise(20, 2 * 4 * 5))
}

#[test]
fn what_was_seen_inside_an_lstm_survives_its_file_and_its_parts() {
    let (model, samples) = lstm();
    for method in METHODS {
        let mut recipe = recipe(Mode::Int8Only, None, None);
        recipe.defaults.calib_method = Some(method);
        let seen = |shard: &str| {
            let part = Part::new(&samples[..], shard.parse().unwrap());
            let statistics = calibrate(&model, &part, &recipe, 1, &quiet).unwrap();
            let text = statistics.to_json(&model);
            let loaded = Statistics::from_json(&text, &model).unwrap();
            assert!(loaded == statistics, "{method:?}");
            loaded
        };
        let bytes = |statistics: &Statistics| {
            let (converted, _) = quantize(&model, statistics, &recipe).unwrap();
            converted.to_bytes()
        };
        let direct = bytes(&calibrate(&model, &samples[..], &recipe, 1, &quiet).unwrap());
        assert!(bytes(&seen("1/1")) == direct, "{method:?}");
        let mut merged = Statistics::none(&model);
        for shard in ["2/3", "3/3", "1/3"] {
            merged.merge(seen(shard));
        }
        assert!(bytes(&merged) == direct, "{method:?} in parts");
    }
}

#[test]
fn an_lstm_of_another_subgraph_is_converted_and_one_that_is_not_reached_stays() {
    let (alone, samples) = lstm();
    let mut model = alone.clone();
    model.subgraphs.push(alone.subgraphs[0].clone());
    for entry in [0, 1] {
        let recipe = Recipe {
            subgraph: entry,
            ..recipe(Mode::Int8Only, None, None)
        };
        let (converted, report) = convert(&model, &samples[..], &recipe, 1, &quiet).unwrap();
        assert_eq!(report.quantized, 1);
        let mut first = recipe.clone();
        first.subgraph = 0;
        let (expected, _) = convert(&alone, &samples[..], &first, 1, &quiet).unwrap();
        assert_eq!(converted.subgraphs[entry], expected.subgraphs[0]);
        assert_eq!(converted.subgraphs[1 - entry], model.subgraphs[1 - entry]);
    }
}

/// The values of tensor `name` of subgraph 2 in each round, for one sample.
fn rounds(model: &Model, name: &str, sample: &[Vec<u8>]) -> Vec<Vec<f64>> {
    let plan = Arc::new(Plan::new(model, &Options::default()).unwrap());
    let mut runner = Runner::new(Arc::clone(&plan)).unwrap();
    for (index, bytes) in sample.iter().enumerate() {
        runner.set_input(index, bytes).unwrap();
    }
    let body = plan
        .bodies()
        .into_iter()
        .find(|p| p.subgraph() == 2)
        .unwrap();
    let mut tensors = model.subgraphs[2].tensors.iter();
    let id = TensorId(tensors.position(|t| t.name == name).unwrap() as u32);
    let value = body.value(id).clone();
    let mut rounds = Vec::new();
    runner
        .run_observed(|subgraph, tensor, bytes| {
            if (subgraph, tensor) == (2, id) {
                rounds.push(bantam_converter::compare::real(&value, bytes));
            }
        })
        .unwrap();
    rounds
}

#[test]
fn tensors_in_a_loop_are_compared_round_by_round() {
    let path = |rounds: usize| {
        let name = format!("ops/while/while_recurrent_{rounds}_rounds_f32.tflite");
        bantam_tests::data().join(name)
    };
    let model = Model::open(&path(6)).unwrap();
    let samples: Vec<Vec<Vec<u8>>> = [3i32, 6]
        .iter()
        .zip(noise(2, 8 + 5))
        .map(|(rounds, noise)| {
            let (state, input) = noise[0].split_at(4 * 8);
            vec![
                rounds.to_ne_bytes().to_vec(),
                state.to_vec(),
                input.to_vec(),
            ]
        })
        .collect();
    let same = compare(&model, &model, &samples[..], Numerics::Fast, &quiet).unwrap();
    let bodies = same.tensors.iter().filter(|t| t.subgraph == 2);
    let mut names: Vec<&str> = bodies.clone().map(|t| &*t.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["mid12", "mid5", "mid8", "mid9"]);
    assert!(
        bodies
            .into_iter()
            .all(|t| t.sqnr_db == 120.0 && t.max_abs == 0.0)
    );
    assert_eq!(same.left_out, 0);

    // Counting down by 3: 1 and 2 rounds in place of 3 and 6, of four tensors.
    let mut quicker = model.clone();
    let step = quicker.subgraphs[2].nodes[3].inputs[1].unwrap();
    quicker.subgraphs[2][step].data = Some(3i32.to_le_bytes().to_vec().into());
    let found = compare(&model, &quicker, &samples[..], Numerics::Fast, &quiet).unwrap();
    assert_eq!(found.left_out, 4 * (2 + 4));
    let found = compare(&quicker, &model, &samples[..], Numerics::Fast, &quiet).unwrap();
    assert_eq!(found.left_out, 4 * (2 + 4));

    let (int8, _) = convert(
        &model,
        &samples[..],
        &recipe(Mode::Int8, None, None),
        1,
        &quiet,
    )
    .unwrap();
    let found = compare(&model, &int8, &samples[..], Numerics::Fast, &quiet).unwrap();
    let tanh = found
        .tensors
        .iter()
        .find(|t| t.subgraph == 2 && t.name == "mid12")
        .unwrap();
    let node = &model.subgraphs[2].nodes[tanh.node.unwrap()];
    assert_eq!(node.op.to_string(), "TANH");
    assert!(tanh.is_fixed && tanh.loss_db.is_some());
    // What goes round is integer, with the range of all that goes in.
    let (low, high) = tanh.covered.unwrap();
    assert!(
        low <= tanh.range.0 && tanh.range.1 <= high,
        "{low} to {high}"
    );
    let (mut squares, mut count, mut db, mut runs) = (0.0, 0, 0.0, 0);
    for sample in &samples {
        // The samples reach float inputs of both models as they are.
        let (x, y) = (
            rounds(&model, "mid12", sample),
            rounds(&int8, "mid12", sample),
        );
        assert_eq!(x.len(), y.len());
        for (x, y) in x.iter().zip(&y) {
            let noise: f64 = x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum();
            let signal: f64 = x.iter().map(|x| x * x).sum();
            squares += noise;
            count += x.len();
            db += 10.0 * (signal / noise).log10();
            runs += 1;
        }
    }
    assert_eq!(runs, 3 + 6);
    assert!((tanh.mse - squares / count as f64).abs() < 1e-12);
    assert!((tanh.sqnr_db - db / f64::from(runs)).abs() < 1e-9);
    assert!(tanh.sqnr_db > 15.0, "{} dB", tanh.sqnr_db);

    let none = Model::open(&path(0)).unwrap();
    let samples: Vec<Vec<Vec<u8>>> = vec![samples[0].clone()];
    let mut never = samples.clone();
    never[0][0] = 0i32.to_ne_bytes().to_vec();
    let found = compare(&none, &none, &never[..], Numerics::Fast, &quiet).unwrap();
    assert!(
        found.tensors.iter().all(|t| t.subgraph == 0),
        "{:?}",
        found.tensors
    );
}

#[test]
fn products_for_old_compilers_are_no_finer_than_their_operands() {
    let mut graph = Subgraph::default();
    let [a, b, product] =
        ["a", "b", "product"].map(|name| graph.add_tensor(Tensor::new(name, DType::F32, [1, 4])));
    graph
        .nodes
        .push(Node::new(Mul::default(), &[a, b], &[product]));
    (graph.inputs, graph.outputs) = (vec![a, b], vec![product]);
    let model = Model {
        subgraphs: vec![graph],
        ..Model::default()
    };
    // Where one operand is large the other is small.
    let floats = |values: [f32; 4]| values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    let sample: Vec<Vec<u8>> = vec![
        floats([90.0, 0.0, 0.01, -90.0]),
        floats([0.0, 90.0, -90.0, 0.01]),
    ];
    let version = |coarse_products: bool| {
        let recipe = Recipe {
            coarse_products,
            ..recipe(Mode::Int8Only, None, None)
        };
        let samples = [sample.clone()];
        let (converted, _) = convert(&model, &samples[..], &recipe, 1, &quiet).unwrap();
        let graph = &converted.subgraphs[0];
        bantam_model::write::version(graph, &graph.nodes[0])
    };
    assert_eq!([false, true].map(version), [3, 2]);
}
