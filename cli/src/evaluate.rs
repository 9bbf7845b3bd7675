//! `bantam evaluate`: how right a model is on labelled samples.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bantam_converter::metric::{self, MetricError};
use bantam_converter::samples::{self, Samples, Tensor};
use bantam_delegate::Session;
use clap::ValueEnum;
use serde_json::json;

use crate::args::{Format, PreprocessArgs, SessionArgs};
use crate::error::{self, Failure};
use crate::{data, output};

/// Judge a model's first output against labels
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The .tflite model
    model: PathBuf,
    /// The samples: .npy, .npz, a folder, a list or a raw file
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// What the model should say, one label (or tensor) a sample
    #[arg(short, long, value_name = "Y.npy")]
    labels: PathBuf,
    /// How outputs are compared with labels
    #[arg(long, value_enum, default_value_t)]
    metric: Metric,
    /// The largest value of a signal, for psnr
    #[arg(long, value_name = "VALUE", default_value_t = 1.0)]
    peak: f32,
    /// Use the first N samples
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, ValueEnum)]
enum Metric {
    /// Share of samples whose label has the highest score
    #[default]
    #[value(name = "top-1")]
    Top1,
    /// Share of samples whose label is among the five highest scores
    #[value(name = "top-5")]
    Top5,
    /// Area under the ROC curve, for labels 0 and 1
    Auc,
    /// Peak signal-to-noise ratio in dB
    Psnr,
    /// Intersection over union, of a mask or of classes
    Iou,
    /// Mean squared error
    Mse,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let model = data::open_model(&args.model)?;
    let mut session = Session::new(&model, &args.session.options())
        .map_err(|error| error::session(&args.model, &error))?;
    let specs = data::specs(&args.model, session.inputs())?;
    let preprocess = args.preprocess.preprocess();
    let samples = Samples::open(&args.data, &specs, &preprocess, args.limit)
        .map_err(|error| error::samples(&error))?;
    output::describe(&samples);
    let labels = samples::read_npy(&args.labels).map_err(|error| error::samples(&error))?;
    let outputs = predict(&args.model, &mut session, &samples)?;
    let value = score(args, &outputs, labels, samples.len())?;
    let name = args
        .metric
        .to_possible_value()
        .map_or_else(String::new, |v| v.get_name().to_owned());
    let us = outputs.time.as_secs_f64() * 1e6 / samples.len() as f64;
    output::warn(&session.placement().to_string());
    match args.format {
        Format::Json => output::print_json(
            "evaluate",
            json!({
                "data": samples.describe(),
                "metric": name,
                "model": args.model.display().to_string(),
                "samples": samples.len(),
                "us_per_sample": us,
                "value": output::number(value),
            }),
        ),
        Format::Text => output::print(&format!(
            "{name} {value:.4} on {} samples, {us:.1} us a sample\n",
            samples.len()
        )),
    }
}

/// What a session made of samples.
pub struct Outputs {
    /// The real values of the first output, sample by sample.
    pub values: Vec<f32>,
    /// How long the runs took, and nothing else.
    pub time: Duration,
}

/// Runs `session` on each of `samples`.
pub fn predict(
    path: &std::path::Path,
    session: &mut Session,
    samples: &Samples,
) -> Result<Outputs, Failure> {
    let Some(info) = session.outputs().first().cloned() else {
        return Err(error::MODEL_CORRUPT.failure(
            format!("{} cannot be judged", path.display()),
            "it has no outputs",
            "look at it with `bantam inspect`",
        ));
    };
    let dtype = data::numpy_type(path, &info.name, info.dtype)?;
    let mut outputs = Outputs {
        values: Vec::new(),
        time: Duration::ZERO,
    };
    let bar = output::progress("run");
    bar.set_length(samples.len() as u64);
    for index in 0..samples.len() {
        let tensors = samples.get(index).map_err(|error| error::samples(&error))?;
        for (input, tensor) in tensors.iter().enumerate() {
            session
                .set_input(input, tensor)
                .map_err(|error| error::run(path, &error))?;
        }
        session.reset_variables();
        let start = Instant::now();
        let run = session.run();
        run.map_err(|error| error::run(path, &error))?;
        outputs.time += start.elapsed();
        outputs
            .values
            .extend(data::reals(&info, dtype, session.output(0)));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(outputs)
}

fn score(
    args: &Args,
    outputs: &Outputs,
    mut labels: Tensor,
    samples: usize,
) -> Result<f64, Failure> {
    let unfit = |why: String| {
        error::LABELS.failure(
            format!(
                "the labels of {} do not fit the outputs",
                args.labels.display()
            ),
            why,
            "give one label a sample, and the --metric that fits them",
        )
    };
    let count = labels.shape.first().copied().unwrap_or(0);
    if count < samples || (count > samples && args.limit.is_none()) {
        return Err(unfit(format!("{count} labels for {samples} samples")));
    }
    let bytes = labels.bytes.len() / count.max(1) * samples;
    labels.bytes.truncate(bytes);
    let values = &outputs.values;
    let classes = || {
        labels
            .to_i64()
            .ok_or_else(|| unfit("a label is not a whole number".to_owned()))
    };
    let metric_error = |error: MetricError| unfit(error.to_string());
    match args.metric {
        Metric::Top1 => metric::top_k_accuracy(values, &classes()?, 1),
        Metric::Top5 => metric::top_k_accuracy(values, &classes()?, 5),
        Metric::Auc => {
            // The score of a classifier with two outputs is that of class 1.
            let columns = (values.len() / samples).max(1);
            if columns > 2 {
                return Err(unfit(format!(
                    "{columns} scores a sample, auc takes 1 or 2"
                )));
            }
            let scores: Vec<f32> = values.chunks(columns).map(|row| row[columns - 1]).collect();
            metric::auc(&scores, &classes()?)
        }
        Metric::Psnr => metric::psnr_db(&labels.to_f32(), values, samples, args.peak),
        Metric::Iou if labels.to_f32().len() == values.len() => {
            metric::iou_mask(&labels.to_f32(), values)
        }
        Metric::Iou => metric::iou_classes(values, &classes()?),
        Metric::Mse => metric::mse(&labels.to_f32(), values),
    }
    .map_err(metric_error)
}
