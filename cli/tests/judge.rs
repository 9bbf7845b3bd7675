//! `bantam evaluate` and `compare` on a model of one operator, whose output is its input.

mod common;

use bantam_converter::samples::{ElementType, write_npy};
use bantam_model::tensor::DType;

use common::{Folder, asset, fails, json, stdout};

/// Two samples, whose highest scores are at 2 and 0.
const SCORES: [f32; 12] = [0., 0., 3., 1., 0., 0., 5., 0., 1., 2., 3., 4.];

fn labels(folder: &Folder, name: &str, values: &[u8]) -> std::path::PathBuf {
    let path = folder.path(name);
    write_npy(&path, &[values.len()], ElementType::U8, values).unwrap();
    path
}

#[test]
fn evaluate_counts_right_answers() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    let data = folder.floats("x.npy", &[2, 2, 3], &SCORES);
    let right = labels(&folder, "right.npy", &[2, 0]);
    let half = labels(&folder, "half.npy", &[2, 5]);
    let value = |labels: &std::path::Path, metric: &str| {
        let json = json(&bantam![
            "evaluate", model, "--data", data, "--labels", labels, "--metric", metric, "--format",
            "json"
        ]);
        assert_eq!(
            (&json["schema"], &json["metric"]),
            (&"bantam.evaluate".into(), &metric.into())
        );
        assert_eq!(json["samples"], 2);
        assert!(json["us_per_sample"].is_number());
        json["value"].as_f64().unwrap()
    };
    assert_eq!(value(&right, "top-1"), 1.0);
    assert_eq!(value(&half, "top-1"), 0.5);
    assert_eq!(value(&half, "top-5"), 1.0);
    assert_eq!(value(&data, "mse"), 0.0);
    assert_eq!(value(&data, "psnr"), 120.0);
    assert_eq!(value(&data, "iou"), 1.0);
}

#[test]
fn evaluate_refuses_labels_that_do_not_fit() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    let data = folder.floats("x.npy", &[2, 2, 3], &SCORES);
    let evaluate = |labels: &std::path::Path, metric: &str| {
        bantam![
            "evaluate", model, "--data", data, "--labels", labels, "--metric", metric
        ]
    };
    let three = labels(&folder, "three.npy", &[0, 1, 2]);
    fails(&evaluate(&three, "top-1"), 3, "BNT-D004");
    let class = labels(&folder, "class.npy", &[0, 6]);
    fails(&evaluate(&class, "top-1"), 3, "BNT-D004");
    fails(&evaluate(&class, "auc"), 3, "BNT-D004");
    let scalar = folder.path("scalar.npy");
    write_npy(&scalar, &[], ElementType::U8, &[1]).unwrap();
    fails(&evaluate(&scalar, "top-1"), 3, "BNT-D004");
    fails(&evaluate(&folder.path("none.npy"), "top-1"), 3, "BNT-D001");
    fails(&evaluate(&class, "top-0"), 2, "BNT-U001");

    let some = labels(&folder, "some.npy", &[2, 0, 1]);
    let limited = bantam![
        "evaluate", model, "--data", data, "--labels", some, "--limit", "1"
    ];
    assert!(stdout(&limited).starts_with("top-1 1.0000 on 1 sample,"));
}

#[test]
fn compare_finds_no_error_between_a_model_and_itself() {
    let folder = Folder::new();
    let (float, int8) = (
        folder.reshape("f.tflite", DType::F32),
        folder.reshape("i.tflite", DType::I8),
    );
    let data = folder.floats("x.npy", &[2, 2, 3], &SCORES);
    let same = json(&bantam![
        "compare", float, float, "--data", data, "--format", "json"
    ]);
    assert_eq!(same["schema"], "bantam.compare");
    assert_eq!(same["outputs"][0]["max_abs"], 0.0);
    assert_eq!(same["outputs"][0]["sqnr_db"], 120.0);

    let odd = folder.floats("odd.npy", &[1, 2, 3], &[0.25, 0.3, 0.0, 0.0, 0.0, 0.0]);
    let other = json(&bantam![
        "compare", float, int8, "--data", odd, "--format", "json"
    ]);
    let error = other["outputs"][0]["max_abs"].as_f64().unwrap();
    assert!((error - 0.25).abs() < 1e-6, "{other}");
    assert!(stdout(&bantam!["compare", float, int8, "--data", odd]).contains("worst first"));
}

#[test]
fn evaluation_in_parts_gives_the_same_figure() {
    let folder = Folder::new();
    let labels = asset("digits_labels.npy");
    let model = asset("digits.tflite");
    let judge = |rest: &[&std::ffi::OsStr]| {
        let mut args: Vec<&std::ffi::OsStr> = vec!["evaluate".as_ref(), model.as_os_str()];
        args.extend(["--labels".as_ref(), labels.as_os_str()]);
        args.extend(["--format".as_ref(), "json".as_ref()] as [&std::ffi::OsStr; 2]);
        args.extend(rest);
        json(&common::bantam(&args))
    };
    let data = asset("digits_test.npy");
    let whole = judge(&["--data".as_ref(), data.as_os_str()]);
    let mut samples = 0;
    let parts = ["1/3", "2/3", "3/3"].map(|shard| {
        let path = folder.path(&format!("{}.npy", &shard[..1]));
        let part = judge(&[
            "--data".as_ref(),
            data.as_os_str(),
            "--shard".as_ref(),
            shard.as_ref(),
            "--save-outputs".as_ref(),
            path.as_os_str(),
        ]);
        samples += part["samples"].as_u64().unwrap();
        path
    });
    assert_eq!(samples, whole["samples"].as_u64().unwrap());
    let merged = judge(&[
        "--load-outputs".as_ref(),
        parts[0].as_os_str(),
        parts[1].as_os_str(),
        parts[2].as_os_str(),
    ]);
    assert_eq!(merged["value"], whole["value"]);
    assert_eq!(merged["samples"], whole["samples"]);
    assert!(merged["us_per_sample"].is_null());
}
