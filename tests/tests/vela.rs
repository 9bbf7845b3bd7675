//! The packs for Arm's Ethos-U beside Vela, Arm's compiler: each operator is placed where Vela
//! places it, in models made near the limits and in all single-operator models.
//!
//! The first tests compare with answers that are stored (`make_vela.py`). The last asks Vela itself
//! on models that no stored answer knows: it needs `BANTAM_VELA`, the program, with its Python beside
//! it, and `BANTAM_PYTHON`, a Python with ai-edge-litert, flatbuffers and numpy.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use bantam_model::Model;
use bantam_model::target::Target;
use bantam_tests::data;
use serde_json::Value;
use zip::ZipArchive;

/// The accelerators, and what Vela calls one of each.
const CHIPS: [(&str, &str); 2] = [
    ("ethos-u55", "ethos-u55-128"),
    ("ethos-u65", "ethos-u65-256"),
];

/// What Vela's answer does not say of operators that it has, by a part of the model's name.
const EXCEPTIONS: &[(&str, &str)] = &[
    (
        "variable_",
        "operators that no result depends on are dropped",
    ),
    (
        "while_quantized",
        "tensors of several subgraphs have one name",
    ),
];

/// Where Vela places the operators of a model: by first output, why it is on the CPU.
type Placement = BTreeMap<String, String>;

/// What is wrong with the verdicts on `model`, a line for each operator, and how many it has.
fn differences(
    target: &Target,
    name: &str,
    model: &Model,
    vela: &Placement,
) -> (Vec<String>, usize) {
    let mut lines = Vec::new();
    let mut count = 0;
    for (index, graph) in model.subgraphs.iter().enumerate() {
        let verdicts = target.verdicts(model, index);
        count += verdicts.len();
        for (node, verdict) in graph.nodes.iter().zip(verdicts) {
            let output = node.outputs.first().map(|&id| &graph[id].name);
            let reason = output.and_then(|output| vela.get(output));
            if verdict.is_supported() != reason.is_none() {
                let vela = reason.map_or("the accelerator", |r| r);
                lines.push(format!("{name}: {} is {verdict:?}; Vela: {vela}", node.op));
            }
        }
    }
    (lines, count)
}

fn placement(answer: &Value) -> Option<Placement> {
    let tensors = answer.as_object()?;
    let reasons = tensors.iter().map(|(tensor, reason)| {
        (
            tensor.clone(),
            reason.as_str().unwrap_or_default().to_owned(),
        )
    });
    Some(reasons.collect())
}

fn stored() -> Value {
    serde_json::from_reader(File::open(data().join("vela/placement.json")).unwrap()).unwrap()
}

/// Compares what `model` gives for each name with the stored answers of a kind.
#[track_caller]
fn compare(kind: &str, mut model: impl FnMut(&str) -> Option<Model>) {
    let stored = stored();
    let answers = stored[kind].as_object().unwrap();
    let (mut operators, mut silent, mut wrong) = (0, 0, Vec::new());
    for (name, answer) in answers {
        let Some(vela) = placement(answer) else {
            silent += 1;
            continue;
        };
        if EXCEPTIONS.iter().any(|(part, _)| name.contains(part)) {
            continue;
        }
        let Some(model) = model(name) else { continue };
        for (chip, _) in CHIPS {
            let target = Target::named(chip).unwrap();
            let (lines, count) = differences(target, &format!("{chip}, {name}"), &model, &vela);
            wrong.extend(lines);
            operators += count;
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{} of {operators}",
        wrong.join("\n"),
        wrong.len()
    );
    assert!(operators > 2000, "{operators}");
    assert!(
        silent < answers.len() / 8,
        "Vela has no answer for {silent}"
    );
}

#[test]
fn random_models_are_placed_as_by_vela() {
    let file = File::open(data().join("vela/models.zip")).unwrap();
    let mut archive = ZipArchive::new(file).unwrap();
    compare("random", |name| {
        let mut bytes = Vec::new();
        let mut entry = archive.by_name(&format!("{name}.tflite")).unwrap();
        entry.read_to_end(&mut bytes).unwrap();
        Some(Model::read(bytes.into()).unwrap())
    });
}

#[test]
fn single_operators_are_placed_as_by_vela() {
    let folder = data().join("ops");
    compare("ops", |name| {
        let path = folder.join(format!("{name}.tflite"));
        path.exists().then(|| Model::open(&path).unwrap())
    });
}

#[test]
#[ignore = "needs Vela, and a Python with ai-edge-litert"]
fn new_random_models_are_placed_as_by_vela() {
    let var = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let number = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let (seed, count) = (
        number("BANTAM_VELA_SEED", "7"),
        number("BANTAM_VELA_COUNT", "60"),
    );
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(var("BANTAM_PYTHON"))
        .arg(data().join("vela/models.py"))
        .arg(folder.path())
        .args(["--seed", &seed, "--count", &count])
        .status()
        .unwrap();
    assert!(made.success());
    let models: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert_eq!(models.len().to_string(), count);
    let mut operators = 0;
    let mut wrong = Vec::new();
    for (chip, config) in CHIPS {
        let asked = Command::new(Path::new(&var("BANTAM_VELA")).with_file_name("python"))
            .arg(data().join("../peers/vela.py"))
            .args(["--config", config])
            .args(&models)
            .output()
            .unwrap();
        let text = String::from_utf8(asked.stdout).unwrap();
        let errors = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert!(asked.status.success(), "{errors}");
        assert_eq!(text.lines().count(), models.len(), "{errors}");
        for line in text.lines() {
            let answer: Value = serde_json::from_str(line).unwrap();
            let Some(vela) = placement(&answer["cpu"]) else {
                continue;
            };
            let path = answer["model"].as_str().unwrap();
            let model = Model::open(Path::new(path)).unwrap();
            let target = Target::named(chip).unwrap();
            let (lines, count) = differences(target, &format!("{chip}, {path}"), &model, &vela);
            wrong.extend(lines);
            operators += count;
        }
    }
    assert!(
        operators >= models.len(),
        "Vela placed {operators} operators"
    );
    assert!(
        wrong.len() * 100 <= operators,
        "{}\n{} of {operators}",
        wrong.join("\n"),
        wrong.len()
    );
}
