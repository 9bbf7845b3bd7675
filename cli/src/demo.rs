//! `bantam demo`: the whole way of a model on data that the binary carries.

use std::fs;
use std::path::Path;

use bantam_converter::Recipe;
use bantam_converter::metric;
use bantam_converter::samples::{self, Preprocess, Samples};
use bantam_delegate::{DriverSpec, Options, Session};
use bantam_model::{Model, Numerics};

use crate::error::{self, Failure};
use crate::evaluate::{self, Predictions};
use crate::{data, fit, output};

/// Quantize a small model that comes with bantam, and judge it; needs nothing
#[derive(Debug, clap::Args)]
pub struct Args {}

const MODEL: &[u8] = include_bytes!("../assets/digits.tflite");
const CALIB: &[u8] = include_bytes!("../assets/digits_calib.npy");
const TEST: &[u8] = include_bytes!("../assets/digits_test.npy");
const LABELS: &[u8] = include_bytes!("../assets/digits_labels.npy");

/// The accelerator of the demo.
const CHIP: &str = "edgetpu";

/// What `run` learns of a model in one place.
struct Judged {
    bytes: usize,
    outputs: Predictions,
    accuracy: f64,
    samples: usize,
    placement: String,
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

    let fit = fit::Fit::of(&int8, &fit::target(CHIP)?);
    let subject = |path, model, bytes| Subject {
        path,
        model,
        bytes,
        test: &test,
        labels: &labels,
    };
    let float = subject(&float_path, &float, MODEL.len());
    let int8 = subject(&int8_path, &int8, int8_bytes.len());
    let on_cpu = Options::default();
    let exact = Options {
        numerics: Numerics::Reference,
        ..Options::default()
    };
    let offloaded = Options {
        driver: DriverSpec::Virtual {
            chip: Some(CHIP.to_owned()),
            options: Default::default(),
        },
        ..exact.clone()
    };
    let judged = [
        float.judge(&on_cpu)?,
        int8.judge(&on_cpu)?,
        int8.judge(&offloaded)?,
    ];
    let same_bits = judged[2].outputs.values == int8.judge(&exact)?.outputs.values;
    let converted = format!(
        "Handwritten digits, 8x8: a float model, calibrated with {} samples, {} of {} operators now int8.\n\
         An Edge TPU would take {} of its {} operators.\n",
        calib.len(),
        report.quantized,
        report.ops,
        fit.mapped,
        fit.ops
    );
    output::print(&text(&converted, &judged, same_bits))
}

/// A model in a file, and what it is judged with.
struct Subject<'a> {
    path: &'a Path,
    model: &'a Model,
    bytes: usize,
    test: &'a Path,
    labels: &'a [i64],
}

impl Subject<'_> {
    fn judge(&self, options: &Options) -> Result<Judged, Failure> {
        let mut session =
            Session::new(self.model, options).map_err(|e| error::session(self.path, &e))?;
        let specs = data::specs(self.path, session.inputs())?;
        let samples = Samples::open(self.test, &specs, &Preprocess::default(), None)
            .map_err(|e| error::samples(&e))?;
        let outputs = evaluate::predict(self.path, &mut session, &samples)?;
        let accuracy = metric::top_k_accuracy(&outputs.values, self.labels, 1).map_err(|e| {
            error::LABELS.failure("the demo's labels do not fit", e.to_string(), "report it")
        })?;
        Ok(Judged {
            bytes: self.bytes,
            outputs,
            accuracy,
            samples: samples.len(),
            placement: session.placement().to_string(),
        })
    }
}

/// The three columns: float and int8 on the CPU path, int8 on the virtual accelerator.
fn text(converted: &str, judged: &[Judged; 3], same_bits: bool) -> String {
    let classes = |judged: &Judged| -> Vec<usize> {
        let columns = (judged.outputs.values.len() / judged.samples).max(1);
        let rows = judged.outputs.values.chunks(columns);
        rows.map(metric::argmax).collect()
    };
    let [float, int8, offloaded] = judged;
    let pairs = classes(float).into_iter().zip(classes(int8));
    let same = pairs.filter(|(a, b)| a == b).count();
    let us = |judged: &Judged| judged.outputs.time.as_secs_f64() * 1e6 / judged.samples as f64;
    let row = |name: &str, text: &dyn Fn(&Judged) -> String| {
        let [a, b, c] = judged.each_ref().map(text);
        [name.to_owned(), a, b, c]
    };
    let rows = [
        row("accuracy", &|j| percent(j.accuracy)),
        row("file", &|j| output::bytes(j.bytes as u64)),
        row("latency", &|j| format!("{:.1} us", us(j))),
    ];
    let bits = match same_bits {
        true => "are those of the CPU path to the bit",
        false => "differ from those of the CPU path, which they must not: please report it",
    };
    format!(
        "{converted}On {} test samples:\n\n{}\n\
         Float and int8 say the same of {same} of the samples ({}).\n\
         Offloaded: {}.\n\
         The virtual accelerator's results, in the arithmetic of LiteRT's reference kernels, {bits}.\n\
         Its latency is that of its program, not of a chip.\n",
        float.samples,
        output::table(&["", "float", "int8", "int8, virtual Edge TPU"], &rows),
        percent(same as f64 / float.samples as f64),
        offloaded.placement,
    )
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
