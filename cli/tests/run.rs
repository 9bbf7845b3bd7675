//! `bantam run`, `benchmark`, `inspect` and `explain` on a model of one operator.

mod common;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bantam_converter::samples::{
    ElementType, InputSpec, Preprocess, Samples, write_npy, write_npz,
};
use bantam_model::ops::{Custom, Reshape};
use bantam_model::tensor::DType;
use bantam_model::{Model, Op, SignatureDef};

use common::{Folder, fails, json, stdout};

fn read_output(path: &std::path::Path, shape: &[usize], dtype: ElementType) -> Vec<u8> {
    let spec = InputSpec {
        name: "0".into(),
        shape: shape.to_vec(),
        dtype,
        quantization: None,
    };
    let samples = Samples::open_single(path, &[spec], &Preprocess::default()).unwrap();
    samples.get(0).unwrap().remove(0)
}

#[test]
fn run_writes_outputs_by_position() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    let input = folder.floats("x.npy", &[1, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let output = folder.path("out.npz");
    let ran = bantam![
        "run",
        model,
        "--input",
        input,
        "--output",
        output,
        "--numerics",
        "reference"
    ];
    assert_eq!(stdout(&ran), "");
    let text = String::from_utf8(ran.stderr).unwrap();
    assert!(text.ends_with("cpu: 1 op on the CPU path\n"), "{text}");
    let bytes = read_output(&output, &[1, 6], ElementType::F32);
    assert_eq!(
        bytes[..8],
        [1.0f32.to_ne_bytes(), 2.0f32.to_ne_bytes()].concat()
    );
}

#[test]
fn run_takes_inputs_by_name_and_resizes() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::Bool);
    let input = folder.path("x.npz");
    write_npz(
        &input,
        &[("x", [2usize, 2, 3], ElementType::Bool, [1u8; 12])],
    )
    .unwrap();
    let output = folder.path("out.npz");
    stdout(&bantam!["run", model, "--input", input, "--output", output]);
    assert_eq!(read_output(&output, &[2, 6], ElementType::Bool), [1; 12]);
}

#[test]
fn run_passes_integers_raw_and_float_asks_for_real_values() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::I8);
    let (raw, output) = (folder.path("raw.npy"), folder.path("out.npz"));
    write_npy(&raw, &[1, 2, 3], ElementType::I8, &[0, 1, 2, 3, 4, 5]).unwrap();
    stdout(&bantam!["run", model, "--input", raw, "--output", output]);
    assert_eq!(
        read_output(&output, &[1, 6], ElementType::I8),
        [0, 1, 2, 3, 4, 5]
    );

    stdout(&bantam![
        "run", model, "--input", raw, "--output", output, "--float"
    ]);
    let bytes = read_output(&output, &[1, 6], ElementType::F32);
    assert_eq!(bytes[..4], 0.5f32.to_ne_bytes());

    let real = folder.floats("real.npy", &[1, 2, 3], &[0.0, 0.5, 1.0, 1.5, 2.0, 1e9]);
    stdout(&bantam!["run", model, "--input", real, "--output", output]);
    assert_eq!(
        read_output(&output, &[1, 6], ElementType::I8),
        [255, 0, 1, 2, 3, 127]
    );
}

#[test]
fn run_refuses_bad_input_and_leaves_no_file() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    let input = folder.floats("x.npy", &[1, 2, 3], &[0.0; 6]);
    let output = folder.path("out.npz");
    let run = |model: &std::path::Path, input: &std::path::Path| {
        bantam!["run", model, "--input", input, "--output", output]
    };
    fails(&run(&folder.path("none.tflite"), &input), 3, "BNT-M001");
    fails(&run(&input, &input), 3, "BNT-M002");
    let bytes = std::fs::read(&model).unwrap();
    let cut = folder.write("cut.tflite", &bytes[..bytes.len() / 2]);
    fails(&run(&cut, &input), 3, "BNT-M003");
    fails(
        &run(&folder.write("empty.tflite", b""), &input),
        3,
        "BNT-M002",
    );

    fails(&run(&model, &folder.path("none.npy")), 3, "BNT-D001");
    let bytes = std::fs::read(&input).unwrap();
    let cut = folder.write("cut.npy", &bytes[..bytes.len() - 1]);
    fails(&run(&model, &cut), 3, "BNT-D001");
    let short = folder.floats("short.npy", &[5], &[0.0; 5]);
    fails(&run(&model, &short), 3, "BNT-D002");
    let nan = folder.floats("nan.npy", &[1, 2, 3], &[f32::NAN; 6]);
    fails(&run(&model, &nan), 3, "BNT-D003");
    assert!(
        !folder
            .names()
            .iter()
            .any(|n| n.contains("out") || n.ends_with("tmp"))
    );
}

#[test]
fn run_says_why_an_output_cannot_be_written() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    let input = folder.floats("x.npy", &[1, 2, 3], &[0.0; 6]);
    let missing = folder.path("no/folder/out.npz");
    fails(
        &bantam!["run", model, "--input", input, "--output", missing],
        2,
        "BNT-O001",
    );
    if cfg!(target_os = "linux") {
        fails(
            &bantam!["run", model, "--input", input, "--output", "/dev/full"],
            2,
            "BNT-O001",
        );
        assert!(!std::path::Path::new("/dev/full").is_file());
    }
}

#[test]
fn drivers_are_refused_and_full_delegation_is_a_gate() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    let input = folder.floats("x.npy", &[1, 2, 3], &[0.0; 6]);
    let output = folder.path("out.npz");
    let run = bantam![
        "run",
        model,
        "--input",
        input,
        "--output",
        output,
        "--driver",
        "edgetpu:usb"
    ];
    let text = fails(&run, 4, "BNT-V001");
    assert!(
        text.contains("driver edgetpu:usb:0 cannot be used"),
        "{text}"
    );
    let run = bantam![
        "run",
        model,
        "--input",
        input,
        "--output",
        output,
        "--require_full_delegation"
    ];
    fails(&run, 1, "BNT-G001");
    assert!(!output.exists());
}

#[test]
fn a_driver_that_fails_loses_nothing_and_says_so() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::I8);
    let input = folder.write("x.bin", &[1, 2, 3, 4, 5, 6]);
    let (plain, output) = (folder.path("plain.npz"), folder.path("out.npz"));
    stdout(&bantam!["run", model, "--input", input, "--output", plain]);
    let run = |driver: &str, more: &[&str]| {
        let mut args: Vec<OsString> = vec!["run".into(), model.clone().into()];
        args.extend(["--input".into(), input.clone().into()]);
        args.extend(["--output".into(), output.clone().into()]);
        args.extend(["--driver", driver].iter().chain(more).map(OsString::from));
        common::bantam(&args)
    };
    for (options, failed, on_cpu) in [
        ("", 0, 0),
        ("?fault=fail", 2, 1),
        ("?fault=lost&times=1", 1, 0),
    ] {
        let driver = format!("virtual:edgetpu{options}");
        let report = json(&run(&driver, &["--format", "json", "--deadline", "60000"]));
        let placement = &report["placement"];
        assert_eq!(placement["delegated"], 1);
        assert_eq!(placement["nodes"][0]["placement"], "driver");
        assert_eq!(placement["nodes"][0]["verdict"], "supported");
        let runs = &placement["partitions"][0]["runs"];
        assert_eq!(
            (&runs["failed_calls"], &runs["on_cpu"]),
            (&failed.into(), &on_cpu.into())
        );
        assert_eq!(placement["events"].as_array().unwrap().len(), failed);
        assert_eq!(
            std::fs::read(&output).unwrap(),
            std::fs::read(&plain).unwrap()
        );
        std::fs::remove_file(&output).unwrap();
    }
    let required = ["--require-full-delegation"];
    stdout(&run("virtual:edgetpu", &required));
    fails(&run("virtual:edgetpu?fault=fail", &required), 1, "BNT-G001");
    let denied = run(
        "virtual:edgetpu",
        &["--deny", "op:RESHAPE", "--format", "json"],
    );
    let report = json(&denied);
    assert_eq!(
        report["placement"]["nodes"][0]["reason"],
        "it is denied by op:RESHAPE"
    );
    fails(
        &run("virtual:edgetpu", &["--deny", "RESHAPE"]),
        2,
        "BNT-U001",
    );
    fails(
        &run("virtual:edgetpu", &["--device", "nowhere"]),
        4,
        "BNT-V001",
    );
}

#[test]
fn a_model_for_a_chip_says_which_driver_it_needs() {
    let folder = Folder::new();
    let path = folder.reshape("m.tflite", DType::I8);
    let mut model = Model::open(&path).unwrap();
    model.subgraphs[0].nodes[0].op = Op::Custom(Box::new(Custom {
        name: "edgetpu-custom-op".into(),
        version: 1,
        options: Vec::new().into(),
    }));
    model.save(&path).unwrap();
    let input = folder.write("x.bin", &[0; 6]);
    let output = folder.path("out.npz");
    let run = bantam!["run", path, "--input", input, "--output", output];
    let text = fails(&run, 4, "BNT-V001");
    assert!(text.contains("(driver edgetpu)"), "{text}");
}

/// A model whose second subgraph reshapes `[1, 2, 3]` to `[6, 1]`, with a signature for it.
fn two_entries(folder: &Folder) -> PathBuf {
    let path = folder.reshape("m.tflite", DType::F32);
    let mut model = Model::open(&path).unwrap();
    let mut second = model.subgraphs[0].clone();
    let op = Reshape {
        new_shape: Some(vec![6, 1]),
    };
    second.nodes[0].op = op.into();
    model.subgraphs.push(second);
    model.signatures.push(SignatureDef {
        key: "column".into(),
        subgraph: 1,
        ..SignatureDef::default()
    });
    let path = folder.path("two.tflite");
    model.save(&path).unwrap();
    path
}

#[test]
fn run_enters_the_subgraph_of_a_signature() {
    let folder = Folder::new();
    let model = two_entries(&folder);
    let input = folder.floats("x.npy", &[1, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let output = folder.path("out.npz");
    let run = |signature: &str| bantam!["run", model, "-i", input, "-o", output, signature];
    assert!(run("--signature=column").status.success());
    let bytes = read_output(&output, &[6, 1], ElementType::F32);
    assert_eq!(bytes[20..], 6.0f32.to_ne_bytes());
    let text = fails(&run("--signature=row"), 2, "BNT-U001");
    assert!(text.contains("has no signature \"row\""), "{text}");
    assert!(text.contains("it has \"column\""), "{text}");
}

/// A loop of 6 rounds.
fn recurrent() -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/ops");
    data.join("while/while_recurrent_6_rounds_f32.tflite")
}

#[test]
fn benchmark_times_the_operators_of_all_subgraphs() {
    let ran = bantam![
        "benchmark",
        recurrent(),
        "--runs=2",
        "--profile",
        "--format=json"
    ];
    let json = json(&ran);
    let of = |subgraph: u64, op: &str| {
        let ops = json["ops"].as_array().unwrap().iter();
        ops.filter(|o| o["subgraph"] == subgraph && o["op"] == op)
            .count()
    };
    assert_eq!((of(0, "WHILE"), of(1, "CAST"), of(2, "TANH")), (1, 1, 1));
    assert_eq!(of(2, "FULLY_CONNECTED"), 2);
}

#[test]
fn inspect_lists_subgraphs() {
    let text = stdout(&bantam!["inspect", recurrent()]);
    assert!(text.contains("WHILE (subgraphs 1, 2)"), "{text}");
    assert!(text.contains("subgraph 2 body: 5 operators"), "{text}");
    let json = json(&bantam!["inspect", recurrent(), "--format=json"]);
    let operators = &json["subgraphs"][0]["operators"];
    assert_eq!(operators[0]["subgraphs"], serde_json::json!([1, 2]));
}

#[test]
fn benchmark_measures() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    let json = json(&bantam![
        "benchmark",
        model,
        "--runs",
        "5",
        "--warmup",
        "1",
        "--profile",
        "--format",
        "json"
    ]);
    assert_eq!(json["schema"], "bantam.benchmark");
    assert_eq!(json["schema_version"], 1);
    assert_eq!(
        (&json["runs"], &json["warmup"], &json["threads"]),
        (&5.into(), &1.into(), &1.into())
    );
    let time = |key: &str| json["latency_us"][key].as_f64().unwrap();
    assert!(time("min") <= time("p50") && time("p50") <= time("p99") && time("p99") <= time("max"));
    assert_eq!(json["ops"][0]["op"], "RESHAPE");
    for key in ["first_us", "load_us", "prepare_us"] {
        assert!(json[key].is_number(), "{key}");
    }
    let text = stdout(&bantam![
        "benchmark",
        model,
        "--runs=2",
        "--warmup=0",
        "--profile"
    ]);
    assert!(text.contains("p50") && text.contains("RESHAPE"), "{text}");
}

#[test]
fn inspect_lists() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::I8);
    let json = json(&bantam!["inspect", model, "--format", "json"]);
    assert_eq!(json["schema"], "bantam.inspect");
    let subgraph = &json["subgraphs"][0];
    assert_eq!(subgraph["operators"][0]["op"], "RESHAPE");
    assert_eq!(subgraph["tensors"][0]["quantization"]["zero_point"][0], -1);
    let text = stdout(&bantam!["inspect", model]);
    assert!(
        text.contains("input 0: x 1x2x3 int8 scale 0.5 zero point -1"),
        "{text}"
    );
}

#[test]
fn explain_knows_every_code_that_it_lists() {
    let list = stdout(&bantam!["explain"]);
    let codes: Vec<&str> = list
        .lines()
        .skip(1)
        .filter_map(|l| l.split(' ').next())
        .collect();
    assert!(codes.contains(&"BNT-I001"));
    for code in codes {
        assert!(stdout(&bantam!["explain", code]).starts_with(code));
    }
    fails(&bantam!["explain", "BNT-X999"], 2, "BNT-U001");
}

#[test]
fn usage_errors_are_ours_and_suggest() {
    let text = fails(
        &bantam!["benchmark", "m.tflite", "--thread", "2"],
        2,
        "BNT-U001",
    );
    assert!(text.contains("did you mean --threads?"), "{text}");
    let text = fails(&bantam!["inspct", "m.tflite"], 2, "BNT-U001");
    assert!(text.contains("did you mean inspect?"), "{text}");
    fails(&bantam!["run", "m.tflite"], 2, "BNT-U001");
    fails(&bantam!["run"], 2, "BNT-U001");
    fails(
        &bantam!["benchmark", "m.tflite", "--threads", "0"],
        2,
        "BNT-U001",
    );
    fails(&common::bantam::<&str>(&[]), 2, "BNT-U001");
    assert!(stdout(&bantam!["--help"]).contains("benchmark"));
    assert!(stdout(&bantam!["--version"]).starts_with("bantam "));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_an_error() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_bantam"))
        .arg("inspect")
        .arg(model)
        .stdout(full)
        .output()
        .unwrap();
    fails(&ran, 2, "BNT-O001");
}
