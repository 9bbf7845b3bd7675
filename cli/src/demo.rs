//! `bantam demo`: the whole way of a model on data that the binary carries.

use std::fs;
use std::path::Path;

use bantam_converter::Recipe;
use bantam_converter::metric;
use bantam_converter::samples::{self, Preprocess, Samples};
use bantam_delegate::Session;
use bantam_model::Model;

use crate::error::{self, Failure};
use crate::evaluate::{self, Predictions};
use crate::{data, output};

/// Quantize a small model that comes with bantam, and judge it; needs nothing
#[derive(Debug, clap::Args)]
pub struct Args {}

const MODEL: &[u8] = include_bytes!("../assets/digits.tflite");
const CALIB: &[u8] = include_bytes!("../assets/digits_calib.npy");
const TEST: &[u8] = include_bytes!("../assets/digits_test.npy");
const LABELS: &[u8] = include_bytes!("../assets/digits_labels.npy");

/// What `run` learns of one of the two models.
struct Judged {
    bytes: usize,
    outputs: Predictions,
    accuracy: f64,
    samples: usize,
}

pub fn run(_: &Args) -> Result<(), Failure> {
    let folder = tempfile::tempdir()
        .map_err(|e| error::cannot_write(Path::new("a temporary folder"), &e.to_string()))?;
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        let written = fs::write(&path, bytes);
        written
            .map_err(|e| error::cannot_write(&path, &e.to_string()))
            .map(|()| path)
    };
    let float_path = file("digits.tflite", MODEL)?;
    let calib = file("digits_calib.npy", CALIB)?;
    let test = file("digits_test.npy", TEST)?;
    let labels = file("digits_labels.npy", LABELS)?;
    let labels = samples::read_npy(&labels).map_err(|e| error::samples(&e))?;
    let labels = labels.to_i64().unwrap_or_default();

    let float = data::open_model(&float_path)?;
    let specs = data::specs(&float_path, &data::model_inputs(&float, 0))?;
    let calib = Samples::open(&calib, &specs, &Preprocess::default(), None)
        .map_err(|e| error::samples(&e))?;
    let (int8, report) =
        bantam_converter::convert(&float, &calib, &Recipe::default(), 1, &|_, _| {})
            .map_err(|e| error::convert(&float_path, &e))?;
    let int8_bytes = int8.to_bytes();
    let int8_path = file("digits_int8.tflite", &int8_bytes)?;
    // What is judged is the file, as a user would have it.
    let int8 = data::open_model(&int8_path)?;

    let a = judge(&float_path, &float, MODEL.len(), &test, &labels)?;
    let b = judge(&int8_path, &int8, int8_bytes.len(), &test, &labels)?;
    output::print(&text(&a, &b, report.quantized, report.ops, calib.len()))
}

fn judge(
    path: &Path,
    model: &Model,
    bytes: usize,
    test: &Path,
    labels: &[i64],
) -> Result<Judged, Failure> {
    let mut session = Session::new(model, &bantam_delegate::Options::default())
        .map_err(|e| error::session(path, &e))?;
    let specs = data::specs(path, session.inputs())?;
    let samples = Samples::open(test, &specs, &Preprocess::default(), None)
        .map_err(|e| error::samples(&e))?;
    let outputs = evaluate::predict(path, &mut session, &samples)?;
    let accuracy = metric::top_k_accuracy(&outputs.values, labels, 1).map_err(|e| {
        error::LABELS.failure("the demo's labels do not fit", e.to_string(), "report it")
    })?;
    Ok(Judged {
        bytes,
        outputs,
        accuracy,
        samples: samples.len(),
    })
}

fn text(float: &Judged, int8: &Judged, quantized: usize, ops: usize, calib: usize) -> String {
    let classes = |judged: &Judged| -> Vec<usize> {
        let columns = (judged.outputs.values.len() / judged.samples).max(1);
        judged
            .outputs
            .values
            .chunks(columns)
            .map(metric::argmax)
            .collect()
    };
    let same = classes(float)
        .iter()
        .zip(classes(int8))
        .filter(|(a, b)| **a == *b)
        .count();
    let us = |judged: &Judged| judged.outputs.time.as_secs_f64() * 1e6 / judged.samples as f64;
    let row = |name: &str, a: String, b: String| [name.to_owned(), a, b];
    let rows = [
        row("accuracy", percent(float.accuracy), percent(int8.accuracy)),
        row(
            "file",
            output::bytes(float.bytes as u64),
            output::bytes(int8.bytes as u64),
        ),
        row(
            "latency",
            format!("{:.1} us", us(float)),
            format!("{:.1} us", us(int8)),
        ),
    ];
    format!(
        "Handwritten digits, 8x8: a float model, calibrated with {calib} samples, {quantized} of {ops} operators now int8.\n\
         Both on {} test samples, on the CPU path:\n\n{}\n\
         Both models say the same of {} of the samples ({}).\n",
        float.samples,
        output::table(&["", "float", "int8"], &rows),
        same,
        percent(same as f64 / float.samples as f64),
    )
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
