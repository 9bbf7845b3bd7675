//! `bantam legalize`, `convert --target`, `pair` and `compile`, the last with a compiler that is a script.

mod common;

use std::path::{Path, PathBuf};

use bantam_model::ops::{Custom, HardSwish, LeakyRelu, Op};
use bantam_model::quant::PerTensor;
use bantam_model::tensor::DType;
use bantam_model::{Model, Node, Subgraph, Tensor};

use common::{Folder, asset, fails, json, stdout};

/// A model of one int8 operator; inputs and outputs are the same whatever it is.
fn model(op: impl Into<Op>) -> Model {
    let mut graph = Subgraph::default();
    let x = Tensor::new("x", DType::I8, [1, 8]).quantized(PerTensor::new(0.05, -3).into());
    let y = Tensor::new("y", DType::I8, [1, 8]).quantized(PerTensor::new(0.03, -100).into());
    let (x, y) = (graph.add_tensor(x), graph.add_tensor(y));
    graph.nodes.push(Node::new(op, &[x], &[y]));
    (graph.inputs, graph.outputs) = (vec![x], vec![y]);
    Model {
        subgraphs: vec![graph],
        ..Model::default()
    }
}

fn leaky() -> Model {
    model(LeakyRelu { alpha: 0.1 })
}

fn compiled() -> Model {
    model(Op::Custom(Box::new(Custom {
        name: "edgetpu-custom-op".into(),
        version: 1,
        options: vec![1, 2, 3].into(),
    })))
}

fn kinds(path: &Path) -> Vec<String> {
    let model = Model::open(path).unwrap();
    model.subgraphs[0]
        .nodes
        .iter()
        .map(|n| n.op.to_string())
        .collect()
}

#[test]
fn legalize_rewrites_and_reports() {
    let folder = Folder::new();
    let input = folder.write("leaky.tflite", &leaky().to_bytes());
    let (output, report) = (folder.path("legal.tflite"), folder.path("report.json"));
    let done = bantam![
        "legalize", input, "-o", output, "--target", "edgetpu", "--report", report, "--format",
        "json"
    ];
    let found = json(&done);
    assert_eq!(found["schema"], "bantam.legalize");
    assert_eq!(found["exactness"], "exact");
    assert_eq!(found["applied"][0]["rewrite"], "leaky-relu");
    assert_eq!(
        (&found["before"]["mapped"], &found["after"]["mapped"]),
        (&0.into(), &3.into())
    );
    assert_eq!(kinds(&output), ["QUANTIZE", "MUL", "MAXIMUM"]);
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(written, found);
    let stderr = String::from_utf8(done.stderr).unwrap();
    assert!(
        stderr.contains("edgetpu: 0 of 1 ops mapped before, 3 of 3 after"),
        "{stderr}"
    );
}

#[test]
fn what_changes_the_numbers_needs_a_flag() {
    let folder = Folder::new();
    let input = folder.write("hard.tflite", &model(HardSwish).to_bytes());
    let output = folder.path("legal.tflite");
    let said = stdout(&bantam![
        "legalize", input, "-o", output, "--target", "edgetpu"
    ]);
    assert!(said.contains("not allowed"), "{said}");
    assert_eq!(kinds(&output), ["HARD_SWISH"]);
    stdout(&bantam![
        "legalize",
        input,
        "-o",
        output,
        "--target",
        "edgetpu",
        "--allow_inexact",
        "any"
    ]);
    assert_eq!(kinds(&output), ["ADD", "MUL", "MUL"]);
}

#[test]
fn targets_and_shapes_that_do_not_exist_are_said() {
    let folder = Folder::new();
    let input = folder.write("leaky.tflite", &leaky().to_bytes());
    let output = folder.path("legal.tflite");
    fails(
        &bantam!["legalize", input, "-o", output, "--target", "edgetpuu"],
        2,
        "BNT-U004",
    );
    let no_input = bantam![
        "legalize", input, "-o", output, "--target", "edgetpu", "--shape", "z:1x8"
    ];
    fails(&no_input, 3, "BNT-L001");
    let mut varying = leaky();
    varying.subgraphs[0].tensors[0].shape_signature = Some(vec![-1, -1]);
    let input = folder.write("varying.tflite", &varying.to_bytes());
    let text = fails(
        &bantam!["legalize", input, "-o", output, "--target", "edgetpu"],
        3,
        "BNT-L001",
    );
    assert!(text.contains("--shape x:"), "{text}");
    stdout(&bantam![
        "legalize", input, "-o", output, "--target", "edgetpu", "--shape", "x:1x8"
    ]);
    let read = Model::open(&output).unwrap();
    assert!(
        read.subgraphs[0]
            .tensors
            .iter()
            .all(|t| t.shape_signature.is_none())
    );
}

#[test]
fn convert_for_a_target_says_how_much_maps() {
    let folder = Folder::new();
    let output = folder.path("int8.tflite");
    let done = bantam![
        "convert",
        asset("digits.tflite"),
        "-o",
        output,
        "--calib",
        asset("digits_calib.npy"),
        "--calib-limit",
        "20",
        "--mode",
        "int8-only",
        "--target",
        "edgetpu",
        "--format",
        "json"
    ];
    let found = json(&done);
    let after = &found["target"]["integer"]["after"];
    assert_eq!(after["mapped"], after["ops"], "{found}");
    let stderr = String::from_utf8(done.stderr).unwrap();
    assert!(stderr.contains(" ops mapped before, "), "{stderr}");
}

#[test]
fn a_pair_carries_the_original() {
    let folder = Folder::new();
    let original = folder.write("original.tflite", &leaky().to_bytes());
    let compiled = folder.write("compiled.tflite", &compiled().to_bytes());
    let (pair, out) = (folder.path("pair.tflite"), folder.path("out.tflite"));
    stdout(&bantam!["pair", compiled, original, "-o", pair]);
    assert_eq!(
        Model::open(&pair).unwrap().twin().unwrap().unwrap(),
        leaky()
    );
    stdout(&bantam!["pair", pair, "-o", out]);
    assert_eq!(std::fs::read(out).unwrap(), leaky().to_bytes());
    fails(&bantam!["pair", compiled, "-o", pair], 3, "BNT-L002");
    let other = folder.reshape("other.tflite", DType::I8);
    fails(&bantam!["pair", compiled, other, "-o", pair], 3, "BNT-L002");
}

/// A script that stands for the compiler, with `body` after it knows its folder as `$out`.
#[cfg(unix)]
fn script(folder: &Folder, body: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let text = format!(
        "#!/bin/sh\nwhile [ $# -gt 1 ]; do [ \"$1\" = -o ] && out=$2; shift; done\n{body}\n"
    );
    let path = folder.write("edgetpu_compiler", text.as_bytes());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[cfg(unix)]
fn compile(folder: &Folder, path: &str, extra: &[&str]) -> std::process::Output {
    let input = folder.write("leaky.tflite", &leaky().to_bytes());
    let path = format!("{path}:/usr/bin:/bin");
    std::process::Command::new(env!("CARGO_BIN_EXE_bantam"))
        .arg("compile")
        .arg(input)
        .arg("-o")
        .arg(folder.path("out.tflite"))
        .args(["--target", "edgetpu"])
        .args(extra)
        .env("PATH", path)
        .output()
        .unwrap()
}

#[test]
#[cfg(unix)]
fn without_a_compiler_it_says_how_to_get_one() {
    let folder = Folder::new();
    let text = fails(&compile(&folder, "/nowhere", &[]), 4, "BNT-L004");
    assert!(text.contains("coral.ai/docs/edgetpu/compiler"), "{text}");
}

#[test]
#[cfg(unix)]
fn the_compilers_work_is_read_back_and_compared() {
    let folder = Folder::new();
    // The whole model becomes one operator, which is what our verdicts say.
    let made = folder.write("made.tflite", &compiled().to_bytes());
    let body = format!(
        "cp {} $out/model_edgetpu.tflite\necho 'Edge TPU Compiler version 16.0.384591198'\n\
         echo 'Number of Edge TPU subgraphs: 1'\n\
         printf 'Operator Count Status\\n\\nMUL 1 Mapped to Edge TPU\\n' > $out/model_edgetpu.log",
        made.display()
    );
    script(&folder, &body);
    let path = folder.path("");
    let done = compile(
        &folder,
        path.to_str().unwrap(),
        &["--pair", "--format", "json"],
    );
    let found = json(&done);
    assert_eq!(
        (&found["mapped"], &found["ops"]),
        (&3.into(), &3.into()),
        "{found}"
    );
    assert_eq!(found["surprises"], serde_json::json!([]));
    assert_eq!(found["compiler"]["version"], "16.0.384591198");
    assert_eq!(found["compiler"]["ops"][0]["status"], "Mapped to Edge TPU");
    let twin = Model::open(&folder.path("out.tflite"))
        .unwrap()
        .twin()
        .unwrap()
        .unwrap();
    assert_eq!(twin.subgraphs[0].nodes.len(), 3);

    // A compiler that leaves everything on the CPU is not what we said.
    let body = "for last; do :; done\ncp $last $out/model_edgetpu.tflite";
    script(&folder, body);
    let found = json(&compile(
        &folder,
        path.to_str().unwrap(),
        &["--format", "json"],
    ));
    assert_eq!(found["mapped"], 0);
    assert_eq!(found["surprises"][2]["op"], "MAXIMUM");
    assert_eq!(found["surprises"][2]["said"], "target");
}

#[test]
#[cfg(unix)]
fn a_compiler_that_fails_or_hangs_is_told_of() {
    let folder = Folder::new();
    let path = folder.path("");
    let path = path.to_str().unwrap();
    script(&folder, "echo 'Model not quantized'; exit 1");
    let text = fails(&compile(&folder, path, &[]), 3, "BNT-L003");
    assert!(
        text.contains("Model not quantized") && text.contains("convert it to int8"),
        "{text}"
    );
    script(&folder, "exec sleep 60");
    fails(
        &compile(&folder, path, &["--timeout", "1"]),
        124,
        "BNT-L005",
    );

    // An internal error is tried once more.
    let made = folder.write("made.tflite", &compiled().to_bytes());
    let (mark, made) = (folder.path("mark"), made.display().to_string());
    let body = format!(
        "if [ -e {0} ]; then cp {made} $out/model_edgetpu.tflite; else touch {0}; echo 'Internal compiler error. Aborting!'; fi",
        mark.display()
    );
    script(&folder, &body);
    stdout(&compile(&folder, path, &[]));
}
