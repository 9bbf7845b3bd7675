//! `bantam evaluate`: detectors, files of labels, every metric, and parts that merge.

mod common;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Output;

use bantam_converter::samples::{ElementType, read_npy, write_npy, write_npz};
use bantam_model::tensor::DType;
use bantam_model::{Model, SignatureDef};
use serde_json::{Value, json};

use common::{Folder, asset, fails, json, stdout};

fn detection(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data/detection")
        .join(name)
}

fn evaluate(model: &Path, rest: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut args: Vec<OsString> = vec!["evaluate".into(), model.into()];
    args.extend(rest.iter().map(|arg| arg.as_ref().to_owned()));
    common::bantam(&args)
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The detector of the test data on its images, judged by `annotations`.
fn detect(annotations: &Path, rest: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let images = detection("images");
    let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> =
        vec![&"--metric", &"map", &"--std", &"255", &"--format", &"json"];
    args.extend_from_slice(&[&"--labels", &annotations, &"--data", &images]);
    args.extend(rest);
    evaluate(&detection("detector.tflite"), &args)
}

fn close(value: &Value, expected: &Value) {
    let (value, expected) = (value.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
}

#[test]
fn precision_of_a_detector_is_that_of_litert_and_pycocotools() {
    let annotations = detection("annotations.json");
    let text = std::fs::read_to_string(detection("figures.json")).unwrap();
    let figures: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(!figures.is_empty());
    for expected in &figures {
        let limit = expected["images"].to_string();
        let output = detect(&annotations, &[&"--limit", &limit]);
        let judged = json(&output);
        assert_eq!(judged["samples"], expected["images"]);
        close(&judged["value"], &expected["map"]);
        close(&judged["at_50"], &expected["at_50"]);
        let said = stderr(&output);
        assert!(
            said.contains("val/gone.png") && said.contains("extra.png"),
            "{said}"
        );
        assert!(said.contains("the model's class +1"), "{said}");
    }
}

#[test]
fn detections_of_parts_merge_exactly() {
    let folder = Folder::new();
    let annotations = detection("annotations.json");
    let whole = json(&detect(&annotations, &[]));
    let parts = ["1/4", "2/4", "3/4", "4/4"].map(|shard| {
        let path = folder.path(&format!("{}.npy", &shard[..1]));
        let output = detect(
            &annotations,
            &[&"--shard", &shard, &"--save-outputs", &path],
        );
        assert!(output.status.success(), "{}", stderr(&output));
        path
    });
    let [a, b, c, d] = &parts;
    let merged = json(&detect(&annotations, &[&"--load-outputs", a, b, c, d]));
    for key in ["value", "at_50", "samples"] {
        assert_eq!(merged[key], whole[key], "{key}");
    }
    let few = detect(&annotations, &[&"--load-outputs", a, b]);
    assert!(fails(&few, 3, "BNT-D002").contains("outputs of 3 samples for 6 images"));
    fails(&detect(&annotations, &[&"--shard", &"7/9"]), 2, "BNT-U001");
    let none = fails(&detect(&annotations, &[&"--limit", &"0"]), 2, "BNT-U001");
    assert!(none.contains("--limit leaves none"), "{none}");
    let scores = folder.floats("scores.npy", &[6, 4], &[0.5; 24]);
    fails(
        &detect(&annotations, &[&"--load-outputs", &scores]),
        3,
        "BNT-D002",
    );
}

#[test]
fn classes_are_taken_for_categories_as_asked() {
    let folder = Folder::new();
    let text = std::fs::read_to_string(detection("annotations.json")).unwrap();
    let annotations = detection("annotations.json");
    let expected = json(&detect(&annotations, &[]));

    // The same categories under other numbers.
    let mut other: Value = serde_json::from_str(&text).unwrap();
    for annotation in other["annotations"].as_array_mut().unwrap() {
        annotation["category_id"] = json!(annotation["category_id"].as_i64().unwrap() * 10 - 10);
    }
    for category in other["categories"].as_array_mut().unwrap() {
        category["id"] = json!(category["id"].as_i64().unwrap() * 10 - 10);
    }
    let other = folder.write("other.json", other.to_string().as_bytes());
    let names = folder.write("names.txt", b"person\r\n10\ntraffic light\n???\n");
    let output = detect(&other, &[&"--classes", &names]);
    assert_eq!(json(&output)["value"], expected["value"]);
    assert!(
        stderr(&output).contains("1 of 4 classes: \"???\""),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("categories: 3 of 4 classes have one"));

    let wrong = folder.write("wrong.txt", b"cat\ndog\n");
    let text = fails(&detect(&other, &[&"--classes", &wrong]), 3, "BNT-D005");
    assert!(
        text.contains("\"cat\", \"dog\"") && text.contains("traffic light"),
        "{text}"
    );
    // A category 0 says that they are counted from there.
    assert!(stderr(&detect(&other, &[])).contains("the model's class +0"));

    let far = detect(&annotations, &[&"--label-offset", &"-7"]);
    assert_eq!(json(&far)["value"], 0.0);
    assert!(stderr(&far).contains("no box is of a category that is on the images"));
}

/// A 24-bit BMP file of one colour.
fn picture(width: u32, height: u32, grey: u8) -> Vec<u8> {
    let row = (3 * width).next_multiple_of(4);
    let mut bytes = b"BM".to_vec();
    for word in [
        54 + row * height,
        0,
        54,
        40,
        width,
        height,
        24 << 16 | 1,
        0,
        row * height,
        0,
        0,
        0,
        0,
    ] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(vec![grey; (row * height) as usize]);
    bytes
}

#[test]
fn boxes_on_a_stretched_image_are_brought_back_to_its_size() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("photos")).unwrap();
    folder.write("photos/a b.bmp", &picture(30, 20, 128));
    // Every pixel is a centre and the logarithm of a size in fifths; of equal boxes one is left.
    let centre = 128.0 / 255.0;
    let size = 0.2 * f64::exp(centre);
    let (width, height) = (size * 30.0, size * 20.0);
    let corner = [centre * 30.0 - width / 2.0, centre * 20.0 - height / 2.0];
    let judge = |width: f64, resize: &str| {
        let truth = json!({
            "images": [{ "id": 5, "file_name": "a b.bmp", "width": 30, "height": 20 }],
            "annotations": [{ "image_id": 5, "category_id": 1, "bbox": [corner[0], corner[1], width, height] }],
        });
        let labels = folder.write("truth.json", truth.to_string().as_bytes());
        evaluate(
            &detection("detector.tflite"),
            &[
                &"--data",
                &folder.path("photos"),
                &"--labels",
                &labels,
                &"--metric",
                &"map",
                &"--std",
                &"255",
                &"--resize",
                &resize,
            ],
        )
    };
    let exact = stdout(&judge(width, "fit"));
    assert!(
        exact.starts_with("map 1.0000 (at 0.5: 1.0000) on 1 sample, "),
        "{exact}"
    );
    // The overlap is 0.52, enough for one of ten thresholds.
    let half = stdout(&judge(0.52 * width, "fit"));
    assert!(
        half.starts_with("map 0.1000 (at 0.5: 1.0000) on 1 sample, "),
        "{half}"
    );

    let text = fails(&judge(width, "crop"), 2, "BNT-U001");
    assert!(text.contains("--resize fit"), "{text}");
    fails(&judge(width, "exact"), 3, "BNT-D002");
}

#[test]
fn of_equal_scores_those_of_the_lower_image_id_rank_first() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("photos")).unwrap();
    for name in ["photos/a.bmp", "photos/b.bmp"] {
        folder.write(name, &picture(3, 24, 128));
    }
    let centre = 128.0 / 255.0;
    let size = 0.2 * f64::exp(centre);
    let corner = (centre - size / 2.0) * 100.0;
    let judge = |ids: [u32; 2]| {
        let image = |id, name| json!({ "id": id, "file_name": name, "width": 100, "height": 100 });
        let right = [corner, corner, size * 100.0, size * 100.0];
        let truth = json!({
            "images": [image(ids[0], "a.bmp"), image(ids[1], "b.bmp")],
            "annotations": [
                { "image_id": ids[0], "category_id": 1, "bbox": right },
                { "image_id": ids[1], "category_id": 1, "bbox": [0, 0, 1, 1] },
            ],
        });
        let labels = folder.write("truth.json", truth.to_string().as_bytes());
        let photos = folder.path("photos");
        let args: &[&dyn AsRef<std::ffi::OsStr>] = &[
            &"--data",
            &photos,
            &"--labels",
            &labels,
            &"--metric",
            &"map",
            &"--std",
            &"255",
            &"--format=json",
        ];
        json(&evaluate(&detection("detector.tflite"), args))["value"].clone()
    };
    // Recall reaches a half, 51 of the 101 points; the wrong box comes after the right one, or before it.
    close(&judge([1, 2]), &json!(51.0 / 101.0));
    close(&judge([2, 1]), &json!(0.5 * 51.0 / 101.0));
}

#[test]
fn images_in_an_array_are_those_of_the_annotations_in_order() {
    let folder = Folder::new();
    let pixels: Vec<f32> = (0..2 * 24 * 9)
        .map(|i| (i * 37 % 256) as f32 / 255.0)
        .collect();
    let data = folder.floats("x.npy", &[2, 24, 3, 3], &pixels);
    let images = |count: usize| {
        let each =
            |id| json!({ "id": id, "file_name": format!("{id}.jpg"), "width": 9, "height": 9 });
        let images: Vec<Value> = (0..count).map(each).collect();
        let truth = json!({
            "images": images,
            "annotations": [{ "image_id": 0, "category_id": 0, "bbox": [0, 0, 9, 9] }],
        });
        let labels = folder.write("truth.json", truth.to_string().as_bytes());
        let args: &[&dyn AsRef<std::ffi::OsStr>] =
            &[&"--data", &data, &"--labels", &labels, &"--metric", &"map"];
        evaluate(&detection("detector.tflite"), args)
    };
    assert!(stdout(&images(2)).contains("on 2 samples"));
    let text = fails(&images(3), 3, "BNT-D005");
    assert!(text.contains("it has 3, the data has 2"), "{text}");
}

#[test]
fn annotations_that_cannot_be_used_are_refused() {
    let folder = Folder::new();
    let refuse = |text: &[u8]| {
        let path = folder.write("broken.json", text);
        detect(&path, &[])
    };
    let whole = std::fs::read(detection("annotations.json")).unwrap();
    fails(&refuse(&whole[..whole.len() / 2]), 3, "BNT-D005");
    fails(&refuse(b""), 3, "BNT-D005");
    fails(&refuse(b"[1, 2]"), 3, "BNT-D005");
    let lacking = fails(
        &refuse(br#"{"images": [{"id": 1}], "annotations": []}"#),
        3,
        "BNT-D005",
    );
    assert!(lacking.contains("missing field `file_name`"), "{lacking}");
    fails(&refuse(&[0xff, 0xfe, 0x00]), 3, "BNT-D001");
    fails(&detect(&folder.path("none.json"), &[]), 3, "BNT-D001");
    let other = br#"{"images": [{"id": 1, "file_name": "z.jpg", "width": 3, "height": 3}], "annotations": []}"#;
    let text = fails(&refuse(other), 3, "BNT-D005");
    assert!(
        text.contains("it has z.jpg; the data has 1.png, 2.png"),
        "{text}"
    );
    let bare = br#"{"images": [{"id": 1, "file_name": "1.png", "width": 3, "height": 3}], "annotations": []}"#;
    let text = fails(&refuse(bare), 3, "BNT-D004");
    assert!(text.contains("there is no box on the images"), "{text}");

    let labels = detection("annotations.json");
    let data = asset("digits_test.npy");
    let args: &[&dyn AsRef<std::ffi::OsStr>] = &[&"--data", &data, &"--labels", &labels];
    let text = fails(&evaluate(&asset("digits.tflite"), args), 2, "BNT-U001");
    assert!(text.contains("--metric map"), "{text}");
    let model = folder.reshape("m.tflite", DType::F32);
    let data = folder.floats("x.npy", &[1, 2, 3], &[0.0; 6]);
    let one = folder.write("one.json", bare);
    let text = fails(
        &evaluate(
            &model,
            &[&"--data", &data, &"--labels", &one, &"--metric", &"map"],
        ),
        3,
        "BNT-M007",
    );
    assert!(text.contains("[[1, 6]]"), "{text}");
    fails(
        &evaluate(&model, &[&"--data", &data, &"--metric", &"map"]),
        2,
        "BNT-U001",
    );
}

/// A model that gives six scores back, and a folder of three samples whose highest are at 2, 0 and 5.
fn three(folder: &Folder) -> (PathBuf, PathBuf) {
    let model = folder.reshape("m.tflite", DType::F32);
    std::fs::create_dir(folder.path("x")).unwrap();
    for (name, best) in [("10.npy", 5), ("9 a.npy", 0), ("9.npy", 2)] {
        sample(folder, &format!("x/{name}"), best);
    }
    (model, folder.path("x"))
}

fn sample(folder: &Folder, name: &str, best: usize) {
    let mut scores = [0.5, 0.25, 0.125, 0.0, -1.0, -2.0];
    scores[best] = 1.0;
    folder.floats(name, &[2, 3], &scores);
}

#[test]
fn labels_come_from_text_files() {
    let folder = Folder::new();
    let (model, data) = three(&folder);
    let judge = |file: &str, text: &str, rest: &[&dyn AsRef<std::ffi::OsStr>]| {
        let labels = folder.write(file, text.as_bytes());
        let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&"--data", &data, &"--labels", &labels];
        args.extend(rest);
        evaluate(&model, &args)
    };
    let right = "top-1 1.0000 on 3 samples";
    for (file, text) in [
        ("y.txt", "9 a.npy 0\n9.npy 2\n10.npy 5\n"),
        ("y.csv", "name,label\nx/10,5\n9,2\n\"9 a\",0\n"),
        // `9 a` before `9.`, as files are sorted.
        ("y.txt", "0\n2\n5"),
        ("y.csv", "label\r\n0\r\n2\r\n5\r\n"),
    ] {
        let output = judge(file, text, &[]);
        assert!(
            stdout(&output).starts_with(right),
            "{text}: {}",
            stdout(&output)
        );
    }
    let names = folder.write("names.txt", b"red fox\nb\nc\nd\ne\nf\n");
    let output = judge(
        "y.txt",
        "10 f\n9 a red fox\n9\tc\nother.npy b",
        &[&"--classes", &names],
    );
    assert!(stdout(&output).starts_with(right));
    assert!(stderr(&output).contains("1 line of"), "{}", stderr(&output));
    assert!(stderr(&output).contains("without a sample: other.npy b"));
    // Metadata packs such a list behind the model.
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::DEFAULT;
    archive.start_file("labels.txt", options).unwrap();
    std::io::Write::write_all(&mut archive, &std::fs::read(&names).unwrap()).unwrap();
    let packed = archive.finish().unwrap().into_inner();
    let packed = [std::fs::read(&model).unwrap(), packed].concat();
    let packed = folder.write("packed.tflite", &packed);
    let by_name = evaluate(
        &packed,
        &[&"--data", &data, &"--labels", &folder.path("y.txt")],
    );
    assert!(stdout(&by_name).starts_with(right));
    let from_one = judge("y.txt", "1\n3\n6", &[&"--label-offset", &"1"]);
    assert!(stdout(&from_one).starts_with(right));
    let limited = judge(
        "y.txt",
        "9 a.npy 0\n9.npy 2\n10.npy 5\n",
        &[&"--limit", &"1"],
    );
    assert!(stdout(&limited).starts_with("top-1 1.0000 on 1 sample,"));

    let few = fails(&judge("y.txt", "9 a.npy 0\n", &[]), 3, "BNT-D004");
    assert!(
        few.contains("no label for 2 of 3 samples: 9.npy, 10.npy"),
        "{few}"
    );
    let few = fails(&judge("y.txt", "0\n1\n", &[]), 3, "BNT-D004");
    assert!(few.contains("2 labels for 3 samples"), "{few}");
    let far = fails(&judge("y.txt", "0\n2\n6\n", &[]), 3, "BNT-D004");
    assert!(
        far.contains("label 6 of sample 2 is none of 6 classes"),
        "{far}"
    );
    let shifted = fails(
        &judge(
            "y.txt",
            "0\n2\n5\n",
            &[&"--label-offset", &"1", &"--shard", &"1/2"],
        ),
        3,
        "BNT-D004",
    );
    assert!(
        shifted.contains("label 0 of sample 0 is class -1, which is none of 6"),
        "{shifted}"
    );
    let part = fails(
        &judge("y.txt", "0\n2\n9\n", &[&"--shard", &"2/2"]),
        3,
        "BNT-D004",
    );
    assert!(
        part.contains("label 9 of sample 2 is none of 6 classes"),
        "{part}"
    );
    let half = fails(&judge("y.txt", "0\n2\n0.5\n", &[]), 3, "BNT-D004");
    assert!(half.contains("not a whole number"), "{half}");
    let unknown = fails(
        &judge("y.csv", "9 a,cat\n9,dog\n10,dog\n", &[]),
        3,
        "BNT-D004",
    );
    assert!(unknown.contains("\"cat\" in line 1"), "{unknown}");
    fails(&judge("y.csv", "9,1,2\n", &[]), 3, "BNT-D004");
    fails(&judge("y.txt", "\n\n", &[]), 3, "BNT-D004");
    let empty = folder.write("empty.txt", b"\n");
    fails(
        &judge("y.txt", "0\n2\n5", &[&"--classes", &empty]),
        3,
        "BNT-D001",
    );
}

#[test]
fn folders_are_classes_where_no_labels_are_given() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    for name in ["x", "x/10", "x/9", "x/cat", "empty"] {
        std::fs::create_dir(folder.path(name)).unwrap();
    }
    // Sorted as text: 10 is class 0, 9 class 1, cat class 2.
    for (name, best) in [
        ("10/1", 0),
        ("10/2", 0),
        ("9/1", 1),
        ("9/2", 5),
        ("cat/1", 2),
    ] {
        sample(&folder, &format!("x/{name}.npy"), best);
    }
    let data = folder.path("x");
    let output = evaluate(&model, &[&"--data", &data]);
    assert!(stdout(&output).starts_with("top-1 0.8000 on 5 samples"));
    assert!(
        stderr(&output).contains("npy folder in 3 folders: 5 samples"),
        "{}",
        stderr(&output)
    );
    let limited = evaluate(&model, &[&"--data", &data, &"--limit", &"3"]);
    assert!(stdout(&limited).starts_with("top-1 1.0000 on 3 samples"));
    let named = folder.write("y.csv", b"10/1,cat\n10/2,10\n9/1,9\n9/2,9\ncat/1,cat\n");
    let output = evaluate(&model, &[&"--data", &data, &"--labels", &named]);
    assert!(stdout(&output).starts_with("top-1 0.6000 on 5 samples"));

    let flat = evaluate(&model, &[&"--data", &folder.path("x/10")]);
    fails(&flat, 2, "BNT-U001");
    fails(
        &evaluate(&model, &[&"--data", &folder.path("empty")]),
        3,
        "BNT-D001",
    );
    let array = folder.floats("x.npy", &[1, 2, 3], &[0.0; 6]);
    let text = fails(
        &evaluate(&model, &[&"--data", &array, &"--labels", &named]),
        3,
        "BNT-D004",
    );
    assert!(text.contains("have no names"), "{text}");
}

#[test]
fn every_metric_is_measured_and_merges_exactly() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    let values = [3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0];
    let data = folder.floats("x.npy", &[2, 2, 3], &values);
    let mut wanted = values;
    (wanted[0], wanted[1], wanted[11]) = (4.0, 3.0, 1.0);
    let expected = folder.floats("y.npy", &[2, 6], &wanted);
    let classes = folder.path("classes.npy");
    write_npy(&classes, &[2], ElementType::U8, &[0, 5]).unwrap();
    let ids = folder.floats("ids.npy", &[2], &[0.0, 1.0]);
    for (metric, labels, value) in [
        ("top-1", &classes, Some(0.5)),
        ("top-2", &classes, Some(1.0)),
        ("top-3", &classes, Some(1.0)),
        ("mae", &expected, Some(3.0 / 12.0)),
        ("mse", &expected, Some(3.0 / 12.0)),
        ("max-abs", &expected, Some(1.0)),
        ("cosine", &expected, Some((24.0 / 25.0 + 1.0) / 2.0)),
        // Signals 25 and 1, noises 2 and 1.
        ("sqnr", &expected, Some(5.0 * 12.5f64.log10())),
        ("psnr", &expected, None),
        ("iou", &expected, Some(1.0)),
        ("iou", &classes, None),
    ] {
        let judge = |rest: &[&dyn AsRef<std::ffi::OsStr>]| {
            let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![
                &"--labels",
                labels,
                &"--metric",
                &metric,
                &"--format",
                &"json",
            ];
            args.extend(rest);
            json(&evaluate(&model, &args))
        };
        let whole = judge(&[&"--data", &data]);
        assert_eq!(whole["metric"], metric);
        if let Some(value) = value {
            close(&whole["value"], &json!(value));
        }
        let parts = ["1/2", "2/2"].map(|shard| {
            let path = folder.path(&format!("part{}.npy", &shard[..1]));
            judge(&[
                &"--data",
                &data,
                &"--shard",
                &shard,
                &"--save-outputs",
                &path,
            ]);
            path
        });
        let merged = judge(&[&"--load-outputs", &parts[0], &parts[1]]);
        assert_eq!(merged["value"], whole["value"], "{metric}");
        assert_eq!(merged["samples"], 2);
    }
    for wrong in ["top-0", "top-x", "median"] {
        let text = fails(
            &evaluate(
                &model,
                &[&"--data", &data, &"--labels", &ids, &"--metric", &wrong],
            ),
            2,
            "BNT-U001",
        );
        assert!(text.contains("metrics are top-1"), "{text}");
    }
    let all = evaluate(
        &model,
        &[
            &"--data",
            &data,
            &"--labels",
            &classes,
            &"--metric",
            &"top-6",
        ],
    );
    assert!(stderr(&all).contains("top-6 of 6 classes is right for every label"));
    let text = evaluate(
        &model,
        &[&"--data", &data, &"--labels", &classes, &"--metric", &"mae"],
    );
    assert!(fails(&text, 3, "BNT-D004").contains("6 values do not match 1"));
}

#[test]
fn expected_outputs_come_from_an_archive() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    let data = folder.floats("x.npy", &[1, 2, 3], &[1.0; 6]);
    let bytes = |value: f32| value.to_ne_bytes().repeat(6);
    let judge = |entries: &[(&str, f32)]| {
        let path = folder.path("y.npz");
        let entries: Vec<_> = entries
            .iter()
            .map(|(name, value)| (*name, vec![1, 6], ElementType::F32, bytes(*value)))
            .collect();
        write_npz(&path, &entries).unwrap();
        let args: &[&dyn AsRef<std::ffi::OsStr>] = &[
            &"--data",
            &data,
            &"--labels",
            &path,
            &"--metric",
            &"max-abs",
        ];
        evaluate(&model, args)
    };
    for entries in [
        &[("z", 9.0), ("y", 3.5)][..],
        &[("1", 9.0), ("0", 3.5)],
        &[("z", 3.5)],
    ] {
        assert!(
            stdout(&judge(entries)).starts_with("max-abs 2.5000"),
            "{entries:?}"
        );
    }
    let text = fails(&judge(&[("a", 1.0), ("b", 1.0)]), 3, "BNT-D004");
    assert!(text.contains("`y`") && text.contains("`a`"), "{text}");
}

#[test]
fn a_part_without_a_figure_of_its_own_is_kept_all_the_same() {
    let folder = Folder::new();
    let model = folder.reshape("m.tflite", DType::F32);
    // One score a sample is needed, so the model is judged on kept outputs.
    let outputs = folder.floats("s.npy", &[4, 1], &[0.1, 0.4, 0.35, 0.8]);
    let labels = folder.write("y.txt", b"0\n0\n1\n1\n");
    let args: &[&dyn AsRef<std::ffi::OsStr>] = &[
        &"--labels",
        &labels,
        &"--metric",
        &"auc",
        &"--load-outputs",
        &outputs,
    ];
    assert!(stdout(&evaluate(&model, args)).starts_with("auc 0.7500 on 4 samples"));

    let annotations = detection("annotations.json");
    let mut truth: Value = serde_json::from_slice(&std::fs::read(&annotations).unwrap()).unwrap();
    let all = truth["annotations"].as_array_mut().unwrap();
    all.retain(|annotation| annotation["image_id"] != 1);
    let bare = folder.write("bare.json", truth.to_string().as_bytes());
    let path = folder.path("part.npy");
    let output = detect(&bare, &[&"--shard", &"1/6", &"--save-outputs", &path]);
    assert_eq!(json(&output)["value"], Value::Null);
    assert!(stderr(&output).contains("part 1/6 has no figure of its own"));
    assert!(path.exists());
}

/// A model that takes `[1, 3, 2]` under the signature `tall`, as its subgraph `place`, and `[1, 2, 3]` otherwise.
fn two_entries(folder: &Folder, name: &str, place: usize) -> PathBuf {
    let mut model = Model::open(&folder.reshape(name, DType::F32)).unwrap();
    let mut tall = model.subgraphs[0].clone();
    let input = tall.inputs[0];
    tall.tensors[input.index()].shape = vec![1, 3, 2];
    model.subgraphs.insert(place, tall);
    model.signatures.push(SignatureDef {
        key: "tall".into(),
        subgraph: place as u32,
        ..SignatureDef::default()
    });
    model.save(&folder.path(name)).unwrap();
    folder.path(name)
}

#[test]
fn signatures_choose_what_is_judged_compared_and_timed() {
    let folder = Folder::new();
    let first = two_entries(&folder, "first.tflite", 0);
    let second = two_entries(&folder, "second.tflite", 1);
    let data = folder.floats("x.npy", &[1, 3, 2], &[0., 1., 5., 2., 3., 4.]);
    let labels = folder.write("y.txt", b"2");
    let judge = |rest: &[&dyn AsRef<std::ffi::OsStr>]| {
        let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&"--data", &data, &"--labels", &labels];
        args.extend(rest);
        evaluate(&second, &args)
    };
    assert!(stdout(&judge(&[&"--signature", &"tall"])).starts_with("top-1 1.0000"));
    fails(&judge(&[]), 3, "BNT-D002");

    let compare = |key: &str| {
        bantam![
            "compare",
            first,
            second,
            "--data",
            data,
            "--signature",
            key,
            "--format=json"
        ]
    };
    assert_eq!(json(&compare("tall"))["outputs"][0]["max_abs"], 0.0);
    let benchmark = |key: &str| {
        bantam![
            "benchmark",
            second,
            "--signature",
            key,
            "--runs=1",
            "--profile",
            "--format=json"
        ]
    };
    assert_eq!(json(&benchmark("tall"))["ops"][0]["subgraph"], 1);
    for output in [
        judge(&[&"--signature", &"wide"]),
        compare("wide"),
        benchmark("wide"),
    ] {
        let text = fails(&output, 2, "BNT-U001");
        assert!(
            text.contains("has no signature \"wide\"") && text.contains("it has \"tall\""),
            "{text}"
        );
    }
}

#[test]
fn a_gate_takes_labels_from_text_and_from_folders() {
    let folder = Folder::new();
    let model = asset("digits.tflite");
    let calib = asset("digits_calib.npy");
    let digits = read_npy(&asset("digits_test.npy")).unwrap().to_f32();
    let labels = read_npy(&asset("digits_labels.npy"))
        .unwrap()
        .to_i64()
        .unwrap();
    std::fs::create_dir(folder.path("x")).unwrap();
    (0..10).for_each(|class| std::fs::create_dir(folder.path(&format!("x/{class}"))).unwrap());
    let mut lines = String::new();
    for (index, (image, label)) in digits.chunks(64).zip(&labels).take(40).enumerate() {
        folder.floats(&format!("x/{label}/{index}.npy"), &[8, 8, 1], image);
        lines += &format!("{index},{label}\n");
    }
    let convert = |rest: &[&dyn AsRef<std::ffi::OsStr>]| {
        let mut args: Vec<OsString> = vec!["convert".into(), model.clone().into(), "-o".into()];
        args.extend([
            folder.path("o.tflite").into(),
            "--calib".into(),
            calib.clone().into(),
        ]);
        args.extend([
            "--eval-data".into(),
            folder.path("x").into(),
            "--format=json".into(),
        ]);
        args.extend(["--min-accuracy".into(), "0.9".into()]);
        args.extend(rest.iter().map(|arg| arg.as_ref().to_owned()));
        common::bantam(&args)
    };
    let by_folder = json(&convert(&[]));
    assert!(by_folder["gate"]["accuracy"]["value"].as_f64().unwrap() > 0.9);
    let text = folder.write("y.csv", lines.as_bytes());
    assert_eq!(
        json(&convert(&[&"--eval-labels", &text]))["gate"],
        by_folder["gate"]
    );
    let wrong = folder.write("wrong.csv", lines.replace("0,", "none,").as_bytes());
    fails(&convert(&[&"--eval-labels", &wrong]), 3, "BNT-D004");
}
