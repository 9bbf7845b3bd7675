//! `bantam evaluate`: how right a model is on labelled samples.

use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bantam_converter::Shard;
use bantam_converter::metric::{self, MetricError};
use bantam_converter::samples::{self, ElementType, Samples, Tensor};
use bantam_delegate::Session;
use clap::ValueEnum;
use serde_json::json;

use crate::args::{Format, PreprocessArgs, SessionArgs};
use crate::error::{self, Failure};
use crate::{data, output, placement};

/// Judge a model's first output against labels
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The .tflite model
    model: PathBuf,
    /// The samples: .npy, .npz, a folder, a list or a raw file
    #[arg(long, value_name = "PATH", required_unless_present = "load_outputs")]
    data: Option<PathBuf>,
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
    /// Run part I of N of the samples, and judge that part
    #[arg(long, value_name = "I/N", default_value_t)]
    shard: Shard,
    /// Keep the outputs, for --load-outputs
    #[arg(long, value_name = "FILE.npy")]
    save_outputs: Option<PathBuf>,
    /// Run nothing, judge kept outputs: those of all parts, in the order of the parts
    #[arg(long, value_name = "FILE.npy", num_args = 1.., conflicts_with_all = ["data", "shard", "save_outputs"])]
    load_outputs: Vec<PathBuf>,
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
    let labels = samples::read_npy(&args.labels).map_err(|error| error::samples(&error))?;
    let judged = match &args.data {
        Some(path) if args.load_outputs.is_empty() => run_samples(args, path)?,
        _ => load_outputs(args)?,
    };
    if let Some(path) = &args.save_outputs {
        save_outputs(path, &judged)?;
    }
    let samples = judged.range.len();
    let value = score(args, &judged, labels)?;
    let name = args
        .metric
        .to_possible_value()
        .map_or_else(String::new, |v| v.get_name().to_owned());
    let us = judged
        .time
        .map(|time| time.as_secs_f64() * 1e6 / samples as f64);
    match args.format {
        Format::Json => output::print_json(
            "evaluate",
            json!({
                "data": judged.data,
                "metric": name,
                "model": args.model.display().to_string(),
                "samples": samples,
                "us_per_sample": us,
                "value": output::number(value),
            }),
        ),
        Format::Text => {
            let time = us.map_or_else(String::new, |us| format!(", {us:.1} us a sample"));
            output::print(&format!("{name} {value:.4} on {samples} samples{time}\n"))
        }
    }
}

/// Outputs and where they come from.
struct Judged {
    values: Vec<f32>,
    /// The samples that they are of.
    range: Range<usize>,
    /// How many samples there are in all.
    all: usize,
    /// What the data was taken for; nothing for outputs that were kept.
    data: Option<String>,
    time: Option<Duration>,
}

fn run_samples(args: &Args, path: &std::path::Path) -> Result<Judged, Failure> {
    let model = data::open_model(&args.model)?;
    let mut session = Session::new(&model, &args.session.options())
        .map_err(|error| error::session(&args.model, &error))?;
    let specs = data::specs(&args.model, session.inputs())?;
    let preprocess = args.preprocess.preprocess();
    let samples = Samples::open(path, &specs, &preprocess, args.limit)
        .map_err(|error| error::samples(&error))?;
    output::describe(&samples);
    let range = args.shard.range(samples.len());
    if range.is_empty() {
        return Err(error::USAGE.failure(
            format!("part {} has no samples", args.shard),
            format!("there are {} in all", samples.len()),
            "make fewer parts",
        ));
    }
    let outputs = predict(&args.model, &mut session, &samples, range.clone())?;
    placement::say(&session);
    Ok(Judged {
        values: outputs.values,
        range,
        all: samples.len(),
        data: Some(samples.describe()),
        time: Some(outputs.time),
    })
}

fn load_outputs(args: &Args) -> Result<Judged, Failure> {
    let mut values = Vec::new();
    let mut samples = 0;
    for path in &args.load_outputs {
        let part = samples::read_npy(path).map_err(|error| error::samples(&error))?;
        let (ElementType::F32, &[count, _]) = (part.dtype, &part.shape[..]) else {
            return Err(error::DATA_SHAPE.failure(
                format!("{} does not hold outputs", path.display()),
                format!(
                    "it is an array of {} with shape {:?}",
                    part.dtype, part.shape
                ),
                "take files that --save-outputs wrote",
            ));
        };
        values.extend(part.to_f32());
        samples += count;
    }
    Ok(Judged {
        values,
        range: 0..samples,
        all: samples,
        data: None,
        time: None,
    })
}

fn save_outputs(path: &std::path::Path, judged: &Judged) -> Result<(), Failure> {
    let samples = judged.range.len();
    let shape = [samples, judged.values.len() / samples.max(1)];
    let bytes: Vec<u8> = judged.values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    samples::write_npy(path, &shape, ElementType::F32, &bytes)
        .map_err(|error| error::samples(&error))
}

/// What a session made of samples.
pub struct Outputs {
    /// The real values of the first output, sample by sample.
    pub values: Vec<f32>,
    /// How long the runs took, and nothing else.
    pub time: Duration,
}

/// Runs `session` on those of `samples` in `range`.
pub fn predict(
    path: &std::path::Path,
    session: &mut Session,
    samples: &Samples,
    range: Range<usize>,
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
    bar.set_length(range.len() as u64);
    for index in range {
        let tensors = samples.get(index).map_err(|error| error::samples(&error))?;
        for (input, tensor) in tensors.iter().enumerate() {
            session
                .set_input(input, tensor)
                .map_err(|error| error::run(path, &error))?;
        }
        session.reset_variables();
        let start = Instant::now();
        session.reset_variables();
        session.run().map_err(|error| error::run(path, &error))?;
        outputs.time += start.elapsed();
        outputs
            .values
            .extend(data::reals(&info, dtype, session.output(0)));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(outputs)
}

fn score(args: &Args, judged: &Judged, mut labels: Tensor) -> Result<f64, Failure> {
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
    let samples = judged.range.len();
    let count = labels.shape.first().copied().unwrap_or(0);
    if count < judged.all || (count > judged.all && args.limit.is_none()) {
        return Err(unfit(format!("{count} labels for {} samples", judged.all)));
    }
    let label = labels.bytes.len() / count.max(1);
    labels.bytes.truncate(label * judged.range.end);
    labels.bytes.drain(..label * judged.range.start);
    let values = &judged.values;
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
