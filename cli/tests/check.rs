//! `bantam check` and `bantam targets`.

mod common;

use bantam_model::tensor::DType;
use common::{Folder, fails, json, stdout};

#[test]
fn an_operator_that_fits_is_on_the_target() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::I8);
    let output = bantam![
        "check",
        model,
        "--target",
        "edgetpu",
        "--format",
        "json",
        "--fail-on",
        "unmapped"
    ];
    let answer = json(&output);
    assert_eq!(answer["schema"], "bantam.check");
    assert_eq!(answer["target"], "edgetpu");
    assert_eq!(answer["ops"][0]["op"], "RESHAPE");
    assert_eq!(answer["ops"][0]["placement"], "target");
    assert_eq!(answer["ops"][0]["partition"], 0);
    assert_eq!(answer["partitions"][0]["inputs"][0], "x");
    assert_eq!(answer["summary"]["mapped"], 1);
}

#[test]
fn a_refusal_has_rule_measure_and_limit_and_closes_the_gate() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    let answer = json(&bantam![
        "check", model, "--target", "edgetpu", "--format", "json"
    ]);
    let op = &answer["ops"][0];
    assert_eq!(
        (&op["placement"], &op["verdict"]),
        (&"cpu".into(), &"unsupported".into())
    );
    assert_eq!(
        (&op["rule"], &op["measured"]),
        (&"data-type".into(), &"float32".into())
    );
    assert_eq!(op["limit"], "int8, uint8");
    let failed = bantam![
        "check",
        model,
        "--target",
        "edgetpu",
        "--fail-on",
        "unmapped"
    ];
    assert_eq!(failed.status.code(), Some(1));
    let text = String::from_utf8(failed.stdout).unwrap();
    assert!(
        text.contains("Operation is working on an unsupported data type"),
        "{text}"
    );
    let sarif = json(&bantam![
        "check", model, "--target", "edgetpu", "--format", "sarif"
    ]);
    assert_eq!(sarif["version"], "2.1.0");
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "data-type");
    let markdown = stdout(&bantam![
        "check", model, "--target", "edgetpu", "--format", "markdown"
    ]);
    assert!(markdown.contains("| data-type | 0 |"), "{markdown}");
}

#[test]
fn reports_are_written_beside_the_answer() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    let (page, overlay) = (folder.path("p.html"), folder.path("o.json"));
    stdout(&bantam![
        "check",
        model,
        "--target",
        "edgetpu",
        "--report",
        page,
        "--model-explorer",
        overlay
    ]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("data-type") && page.ends_with("</html>\n"));
    let overlay: serde_json::Value =
        serde_json::from_slice(&std::fs::read(overlay).unwrap()).unwrap();
    assert_eq!(overlay["results"]["y"]["value"], "cpu: data-type");
}

#[test]
fn a_pack_of_ones_own_is_a_target_and_its_mistakes_have_lines() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    let pack = "name = \"mine\"\ntitle = \"Mine\"\nabout = \"x\"\n[[ops]]\nnames = [\"RESHAPE\"]\n";
    let good = folder.write("mine.toml", pack.as_bytes());
    let answer = json(&bantam![
        "check", model, "--target", good, "--format", "json"
    ]);
    assert_eq!(answer["ops"][0]["placement"], "target");
    let bad = folder.write("bad.toml", pack.replace("RESHAPE", "RESHAP").as_bytes());
    let text = fails(&bantam!["check", model, "--target", bad], 2, "BNT-U004");
    assert!(
        text.contains("line 5") && text.contains("did you mean `RESHAPE`"),
        "{text}"
    );
    let text = fails(
        &bantam!["check", model, "--target", "edgetp"],
        2,
        "BNT-U004",
    );
    assert!(text.contains("did you mean `edgetpu`"), "{text}");
}

#[test]
fn targets_are_listed_shown_and_probed() {
    let folder = Folder::new();
    assert!(stdout(&bantam!["targets"]).contains("edgetpu"));
    assert!(stdout(&bantam!["targets", "edgetpu"]).contains("| `max-rank` |"));
    let probes = folder.path("probes");
    stdout(&bantam!["targets", "edgetpu", "--probe", probes]);
    let table = std::fs::read_to_string(folder.path("probes/probes.tsv")).unwrap();
    let line = table
        .lines()
        .find(|l| l.contains("196609") && l.contains("reshape-size"))
        .unwrap();
    let name = line.split('\t').next().unwrap();
    let answer = json(&bantam![
        "check",
        folder.path("probes").join(name),
        "--target",
        "edgetpu",
        "--format",
        "json"
    ]);
    assert_eq!(answer["ops"][0]["rule"], "reshape-size");
}
