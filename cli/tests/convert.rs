//! `bantam convert` and `demo` on the model and data that the command carries.

mod common;

use bantam_model::Model;
use bantam_model::tensor::DType;

use common::{Folder, asset, fails, json, stdout};

#[test]
fn convert_makes_an_int8_model_that_is_as_right() {
    let folder = Folder::new();
    let (output, report) = (folder.path("int8.tflite"), folder.path("report.json"));
    let converted = json(&bantam![
        "convert",
        asset("digits.tflite"),
        "-o",
        output,
        "--calib",
        asset("digits_calib.npy"),
        "--calib_limit",
        "50",
        "--mode",
        "int8-only",
        "--report",
        report,
        "--format",
        "json"
    ]);
    assert_eq!(converted["schema"], "bantam.convert");
    assert_eq!(converted["quantized"], converted["ops"]);
    assert_eq!(converted["calib"]["samples"], 50);
    let mut written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let verification = written["verification"].take();
    written.as_object_mut().unwrap().remove("verification");
    assert_eq!(written, converted);
    assert_eq!(verification["samples"], 50);
    assert_eq!(verification["non_integer"], serde_json::json!([]));
    let sqnr = verification["outputs"][0]["sqnr_db"].as_f64().unwrap();
    assert!(sqnr > 30.0, "{verification}");
    assert_eq!(folder.names(), ["int8.tflite", "report.json"]);

    let model = Model::open(&output).unwrap();
    let subgraph = &model.subgraphs[0];
    for id in [subgraph.inputs[0], subgraph.outputs[0]] {
        assert_eq!(subgraph[id].dtype, DType::I8);
    }
    let judged = json(&bantam![
        "evaluate",
        output,
        "--data",
        asset("digits_test.npy"),
        "--labels",
        asset("digits_labels.npy"),
        "--format",
        "json"
    ]);
    assert!(judged["value"].as_f64().unwrap() > 0.98, "{judged}");
}

#[test]
fn a_page_tells_of_every_operator_and_needs_no_other_file() {
    let folder = Folder::new();
    let (output, page) = (folder.path("int8.tflite"), folder.path("report.html"));
    let done = bantam![
        "convert",
        asset("digits.tflite"),
        "-o",
        output,
        "--calib",
        asset("digits_calib.npy"),
        "--report",
        page
    ];
    assert!(done.status.success(), "{done:?}");
    let page = std::fs::read_to_string(page).unwrap();
    let model = Model::open(&asset("digits.tflite")).unwrap();
    let rows = page.matches("<td class=\"op\">").count();
    assert_eq!(rows, model.subgraphs[0].nodes.len());
    assert!(page.contains("2 tensors that are not integer"));
    assert!(!page.contains("http") && !page.contains("<script"));
}

#[test]
fn a_gate_that_does_not_hold_is_exit_code_1_and_auto_finds_what_holds() {
    let folder = Folder::new();
    let output = folder.path("out.tflite");
    let convert = |rest: &[&str]| {
        let mut args = vec!["convert".into(), asset("digits.tflite").into_os_string()];
        let paths = [
            ("-o", output.clone()),
            ("--calib", asset("digits_calib.npy")),
            ("--eval-data", asset("digits_test.npy")),
            ("--eval-labels", asset("digits_labels.npy")),
        ];
        for (flag, path) in paths {
            args.extend([flag.into(), path.into_os_string()]);
        }
        args.extend(rest.iter().map(std::ffi::OsString::from));
        common::bantam(&args)
    };
    let plain = json(&convert(&[
        "--min-sqnr",
        "1",
        "--min-accuracy",
        "0.9",
        "--format",
        "json",
    ]));
    assert_eq!(plain["gate"]["holds"], true);
    let sqnr = plain["gate"]["sqnr_db"]["value"].as_f64().unwrap();
    let more = (sqnr + 4.0).to_string();
    let failed = convert(&["--min-sqnr", &more]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(output.exists());

    let found = json(&convert(&[
        "--min-sqnr",
        &more,
        "--recipe",
        "auto",
        "--format",
        "json",
    ]));
    assert_eq!(found["gate"]["holds"], true);
    let kept = found["auto"]["kept"].as_array().unwrap().len();
    assert!(kept > 0 && kept < 9, "{found}");
    let recipe = folder.path("out.recipe.toml");
    let again = json(&convert(&[
        "--min-sqnr",
        &more,
        "--recipe",
        recipe.to_str().unwrap(),
        "--format",
        "json",
    ]));
    assert_eq!(again["gate"]["sqnr_db"], found["gate"]["sqnr_db"]);
    fails(&convert(&["--recipe", "auto"]), 2, "BNT-U001");
}

#[test]
fn convert_is_the_same_each_time() {
    let folder = Folder::new();
    let convert = |name: &str, threads: &str| {
        let output = folder.path(name);
        stdout(&bantam![
            "convert",
            asset("digits.tflite"),
            "-o",
            output,
            "--calib",
            asset("digits_calib.npy"),
            "--threads",
            threads
        ]);
        std::fs::read(output).unwrap()
    };
    assert!(convert("a.tflite", "1") == convert("b.tflite", "3"));
}

#[test]
fn calibration_in_parts_gives_the_same_files() {
    let folder = Folder::new();
    let model = asset("digits.tflite");
    let calib = asset("digits_calib.npy");
    let save = |name: &str, shard: &str| {
        let path = folder.path(name);
        stdout(&bantam![
            "convert",
            model,
            "--calib",
            calib,
            "--calib-method",
            "mse",
            "--shard",
            shard,
            "--save-calib",
            path
        ]);
        path
    };
    let whole = save("whole.json", "1/1");
    let (first, second) = (save("1.json", "1/2"), save("2.json", "2/2"));
    assert!(std::fs::read(&first).unwrap() != std::fs::read(&whole).unwrap());
    let merged = folder.path("merged.json");
    let convert = |name: &str, calibrations: [&std::path::Path; 2]| {
        let output = folder.path(name);
        let mut args = bantam_args(&model, &output);
        args.extend(["--calib-method", "mse", "--save-calib"].map(Into::into));
        args.extend([merged.clone().into_os_string(), "--load-calib".into()]);
        args.extend(calibrations.iter().map(|path| path.as_os_str().to_owned()));
        stdout(&common::bantam(&args));
        std::fs::read(output).unwrap()
    };
    let parts = convert("parts.tflite", [&second, &first]);
    assert!(std::fs::read(&merged).unwrap() == std::fs::read(&whole).unwrap());
    let direct = folder.path("direct.tflite");
    stdout(&bantam![
        "convert",
        model,
        "-o",
        direct,
        "--calib",
        calib,
        "--calib-method",
        "mse"
    ]);
    assert!(parts == std::fs::read(direct).unwrap());
}

fn bantam_args(model: &std::path::Path, output: &std::path::Path) -> Vec<std::ffi::OsString> {
    vec!["convert".into(), model.into(), "-o".into(), output.into()]
}

#[test]
fn every_mode_that_computes_in_float_needs_no_samples() {
    let folder = Folder::new();
    let mut sizes = Vec::new();
    for mode in ["float", "float16", "weight-only", "dynamic-range"] {
        let output = folder.path("out.tflite");
        let converted = json(&bantam![
            "convert",
            asset("digits.tflite"),
            "-o",
            output,
            "--mode",
            mode,
            "--format",
            "json"
        ]);
        assert_eq!(converted["mode"], mode);
        assert!(converted["calib"].is_null());
        sizes.push(converted["output_bytes"].as_u64().unwrap());
    }
    assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
}

#[test]
fn a_recipe_says_what_flags_do_not() {
    let folder = Folder::new();
    let text = "mode = 'int8-only'\ninput-type = 'uint8'\n[defaults]\ncalib-method = 'mse'";
    let recipe = folder.write("recipe.toml", text.as_bytes());
    let output = folder.path("out.tflite");
    let converted = json(&bantam![
        "convert",
        asset("digits.tflite"),
        "-o",
        output,
        "--calib",
        asset("digits_calib.npy"),
        "--recipe",
        recipe,
        "--output-type",
        "f32",
        "--format",
        "json"
    ]);
    assert_eq!(converted["mode"], "int8-only");
    let model = Model::open(&output).unwrap();
    let subgraph = &model.subgraphs[0];
    assert_eq!(subgraph[subgraph.inputs[0]].dtype, DType::U8);
    assert_eq!(subgraph[subgraph.outputs[0]].dtype, DType::F32);
}

#[test]
fn convert_to_float_needs_no_samples() {
    let folder = Folder::new();
    let (model, output) = (
        folder.reshape("m.tflite", DType::F32),
        folder.path("out.tflite"),
    );
    stdout(&bantam!["convert", model, "-o", output, "--mode", "float"]);
    assert_eq!(Model::open(&output).unwrap(), Model::open(&model).unwrap());
}

#[test]
fn convert_refuses_what_it_cannot_do() {
    let folder = Folder::new();
    let output = folder.path("out.tflite");
    let convert = |rest: &[&str]| {
        let mut args = vec![
            "convert".into(),
            asset("digits.tflite").into_os_string(),
            "-o".into(),
        ];
        args.push(output.clone().into_os_string());
        args.extend(rest.iter().map(std::ffi::OsString::from));
        common::bantam(&args)
    };
    let calib = asset("digits_calib.npy");
    let calib = calib.to_str().unwrap();
    fails(&convert(&[]), 2, "BNT-U001");
    for edge in ["int8", "uint8", "int16"] {
        for mode in ["float", "float16", "dynamic-range", "weight-only"] {
            let args = ["--mode", mode, "--output-type", edge];
            fails(&convert(&args), 2, "BNT-U001");
        }
    }
    for shard in ["0/3", "4/3", "1", "a/b"] {
        let args = ["--calib", calib, "--shard", shard];
        fails(&convert(&args), 2, "BNT-U001");
    }
    for (text, word) in [
        ("mode = 'int9'", "int9"),
        ("[[ops]]\ntensor = '('", "unclosed group"),
        ("[[ops]]\nkind = 'ADD'", "kind"),
    ] {
        let recipe = folder.write("recipe.toml", text.as_bytes());
        let args = ["--calib", calib, "--recipe", recipe.to_str().unwrap()];
        let message = fails(&convert(&args), 2, "BNT-U003");
        assert!(message.contains(word), "{message}");
    }
    std::fs::remove_file(folder.path("recipe.toml")).unwrap();
    let other = folder.write("other.json", b"{}");
    let args = ["--load-calib", other.to_str().unwrap()];
    fails(&convert(&args), 3, "BNT-D001");
    std::fs::remove_file(other).unwrap();
    fails(
        &convert(&["--calib", calib, "--report", "report.pdf"]),
        2,
        "BNT-U001",
    );
    fails(
        &convert(&["--mode", "float", "--input-type", "int8"]),
        2,
        "BNT-U001",
    );
    fails(
        &convert(&["--calib", calib, "--mode", "int9"]),
        2,
        "BNT-U001",
    );
    fails(
        &convert(&["--calib", calib, "--mean", "1", "--std", "0"]),
        2,
        "BNT-U001",
    );
    let nan = folder.floats("nan.npy", &[1, 8, 8, 1], &[f32::NAN; 64]);
    fails(&convert(&["--calib", nan.to_str().unwrap()]), 3, "BNT-D003");
    let other = folder.floats("other.npy", &[1, 7, 7, 1], &[0.0; 49]);
    fails(
        &convert(&["--calib", other.to_str().unwrap()]),
        3,
        "BNT-D002",
    );
    assert_eq!(folder.names(), ["nan.npy", "other.npy"]);
    if cfg!(target_os = "linux") {
        let full = bantam![
            "convert",
            asset("digits.tflite"),
            "-o",
            "/dev/full",
            "--calib",
            calib
        ];
        fails(&full, 2, "BNT-O001");
    }
}

#[test]
fn demo_needs_nothing() {
    let text = stdout(&bantam!["demo"]);
    for words in [
        "accuracy",
        "file",
        "latency",
        "int8",
        "497 test samples",
        "An Edge TPU would take 9 of its 11 operators",
        "9 of 11 ops on virtual:edgetpu in 1 partition; 2 on the CPU path: QUANTIZE 0",
        "are those of the CPU path to the bit",
    ] {
        assert!(text.contains(words), "{text}");
    }
}
