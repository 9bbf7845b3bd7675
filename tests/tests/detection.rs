//! Mean average precision against pycocotools.

use bantam_converter::detection::{Annotations, Detection, Rect, Truth, mean_average_precision};
use bantam_tests::data;
use serde_json::Value;

/// The detections of a case, by the place of their image.
fn detections(case: &Value, image: &Value) -> Vec<Detection> {
    let all = case["detections"].as_array().unwrap().iter();
    let here = all.filter(|d| d["image_id"] == image["id"]);
    here.map(|d| {
        let edge = |index: usize| d["bbox"][index].as_f64().unwrap();
        Detection {
            category: d["category_id"].as_i64().unwrap(),
            score: d["score"].as_f64().unwrap() as f32,
            rect: Rect {
                x: edge(0),
                y: edge(1),
                width: edge(2),
                height: edge(3),
            },
        }
    })
    .collect()
}

#[test]
fn precision_is_that_of_pycocotools() {
    let text = std::fs::read_to_string(data().join("detection/precision.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 5);
    for (number, case) in cases.iter().enumerate() {
        let annotations = Annotations::read(&case["truth"].to_string()).unwrap();
        let ids = case["truth"]["images"].as_array().unwrap().iter();
        let images: Vec<(Vec<Detection>, Vec<Truth>)> = ids
            .zip(annotations.images)
            .map(|(id, image)| (detections(case, id), image.truths))
            .collect();
        let precision = mean_average_precision(&images).unwrap();
        for (got, want) in [
            (precision.mean, &case["mean"]),
            (precision.at_50, &case["at_50"]),
        ] {
            let want = want.as_f64().unwrap();
            assert!(
                (got - want).abs() < 1e-9,
                "case {number}: {got}, not {want}"
            );
        }
    }
}
