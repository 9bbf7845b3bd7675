//! `bantam evaluate`: how right a model is on labelled samples.

mod boxes;
mod kept;
mod metric;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bantam_converter::Shard;
use bantam_converter::detection::{Found, Outputs};
use bantam_converter::metric::MetricError;
use bantam_converter::samples::{Samples, Tensor};
use bantam_delegate::Session;
use bantam_model::Model;
use serde_json::json;

use crate::args::{Format, PreprocessArgs, SessionArgs};
use crate::error::{self, Failure};
use crate::{data, labels, output, placement};
use kept::{Rows, not_outputs};
use metric::Metric;

/// Judge a model's first output against labels, or a detector's boxes against annotations
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The .tflite model
    model: PathBuf,
    /// The samples: .npy, .npz, a folder, a list or a raw file
    #[arg(long, value_name = "PATH", required_unless_present = "load_outputs")]
    data: Option<PathBuf>,
    /// What the model should say: .npy, .npz, .txt or .csv, one label (or tensor) a sample, or COCO's
    /// .json for map [default: the folders of the samples]
    #[arg(short, long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// The names of the model's classes, one a line; for map also the ids of categories
    #[arg(long, value_name = "FILE.txt")]
    classes: Option<PathBuf>,
    /// How much more a label is than the model's class [default: 0; for map 1, or 0 if there is a
    /// category 0]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        conflicts_with = "classes"
    )]
    label_offset: Option<i64>,
    /// How outputs are compared with labels: top-N, auc, iou, psnr, sqnr, mse, mae, max-abs, cosine, or
    /// map for boxes
    #[arg(long, default_value_t)]
    metric: Metric,
    /// The largest value of a signal, for psnr
    #[arg(long, value_name = "VALUE", default_value_t = 1.0)]
    peak: f32,
    /// Judge the subgraph of this signature, not the first one; `bantam inspect` lists them
    #[arg(long, value_name = "KEY")]
    signature: Option<String>,
    /// Use the first N samples
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Run part I of N of the samples, and judge that part
    #[arg(long, value_name = "I/N", default_value_t)]
    shard: Shard,
    /// Keep the outputs, for --load-outputs
    #[arg(long, value_name = "FILE.npy")]
    save_outputs: Option<PathBuf>,
    /// Run nothing, judge kept outputs: those of all parts, in the order of the parts. Labels that name
    /// samples need --data as well
    #[arg(long, value_name = "FILE.npy", num_args = 1.., conflicts_with_all = ["shard", "save_outputs"])]
    load_outputs: Vec<PathBuf>,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

/// The model and the samples that it is judged on.
struct Subject {
    model: Model,
    entry: usize,
    samples: Samples,
}

/// What the outputs are judged by.
enum Truth {
    Labels(Tensor),
    Boxes(boxes::Truth),
}

/// What the metric says.
struct Score {
    /// Nothing for a part of the samples that has no figure of its own.
    value: Option<f64>,
    /// For boxes, the precision at an overlap of a half.
    at_50: Option<f64>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    if args.metric == Metric::Map {
        boxes::check_resize(args.preprocess.preprocess().resize)?;
    }
    let subject = args.subject()?;
    let truth = args.truth(subject.as_ref())?;
    let judged = match &subject {
        Some(subject) if args.load_outputs.is_empty() => run_samples(args, subject, &truth)?,
        _ => load_outputs(args)?,
    };
    if let Some(path) = &args.save_outputs {
        judged.rows.save(path)?;
    }
    let score = match (&truth, &judged.rows) {
        (Truth::Boxes(truth), Rows::Boxes(found)) => judge_boxes(args, truth, found, &judged)?,
        (Truth::Labels(labels), Rows::Values(rows)) => {
            let values: Vec<f32> = rows.iter().flatten().copied().collect();
            Score {
                value: judge_values(args, &judged, &values, labels)?,
                at_50: None,
            }
        }
        _ => {
            return Err(not_outputs(
                &args.model,
                "they are not what this metric judges",
            ));
        }
    };
    report(args, &judged, &score)
}

fn report(args: &Args, judged: &Judged, score: &Score) -> Result<(), Failure> {
    let samples = judged.range.len();
    let name = args.metric.to_string();
    let us = judged
        .time
        .map(|time| time.as_secs_f64() * 1e6 / samples as f64);
    match args.format {
        Format::Json => {
            let mut object = json!({
                "data": judged.data,
                "metric": name,
                "model": args.model.display().to_string(),
                "samples": samples,
                "us_per_sample": us,
                "value": score.value.map(output::number),
            });
            if args.metric == Metric::Map {
                object["at_50"] = json!(score.at_50.map(output::number));
            }
            output::print_json("evaluate", object)
        }
        Format::Text => {
            let figure = score.value.map_or_else(|| "-".to_owned(), metric::figure);
            let at_50 = score.at_50.map_or_else(String::new, |value| {
                format!(" (at 0.5: {})", metric::figure(value))
            });
            let count = labels::counted(samples, "sample", "samples");
            let time = us.map_or_else(String::new, |us| format!(", {us:.1} us a sample"));
            output::print(&format!("{name} {figure}{at_50} on {count}{time}\n"))
        }
    }
}

impl Args {
    fn subject(&self) -> Result<Option<Subject>, Failure> {
        let Some(path) = &self.data else {
            return Ok(None);
        };
        let model = data::open_model(&self.model)?;
        let entry = data::entry(&self.model, &model, self.signature.as_deref())?;
        let specs = data::specs(&self.model, &data::model_inputs(&model, entry))?;
        let preprocess = self.preprocess.preprocess();
        // Of images, those that are annotated are counted.
        let limit = self.limit.filter(|_| self.metric != Metric::Map);
        let samples = Samples::open(path, &specs, &preprocess, limit)
            .map_err(|error| error::samples(&error))?;
        output::describe(&samples);
        Ok(Some(Subject {
            model,
            entry,
            samples,
        }))
    }

    fn truth(&self, subject: Option<&Subject>) -> Result<Truth, Failure> {
        let classes = self.classes.as_deref().map(labels::classes).transpose()?;
        if self.metric == Metric::Map {
            let (Some(path), Some(subject)) = (&self.labels, subject) else {
                return Err(error::USAGE.failure(
                    "--metric map needs --labels and --data",
                    "the boxes that are there come from annotations, the images from a folder",
                    "give both, `--labels annotations.json --data photos/`",
                ));
            };
            let truth = boxes::Truth::read(
                path,
                &subject.samples,
                self.limit,
                self.label_offset,
                classes.as_deref(),
            )?;
            truth.describe();
            return Ok(Truth::Boxes(truth));
        }
        let output = subject.and_then(|s| {
            let subgraph = s.model.subgraphs.get(s.entry)?;
            let output = *subgraph.outputs.first()?;
            Some(subgraph[output].name.as_str())
        });
        let labels = labels::Given {
            path: self.labels.as_deref(),
            model: &self.model,
            classes: classes.as_deref(),
            samples: subject.map(|s| &s.samples),
            flag: "--labels",
            output: output.unwrap_or_default(),
        };
        let labels = labels.read()?;
        if let Some(subject) = subject {
            self.check_count(&labels, subject.samples.len())?;
        }
        Ok(Truth::Labels(labels))
    }

    fn unfit(&self, why: String) -> Failure {
        let labels = self.labels.as_ref().or(self.data.as_ref());
        let labels = labels.unwrap_or(&self.model);
        error::LABELS.failure(
            format!("the labels of {} do not fit the outputs", labels.display()),
            why,
            "give one label a sample, and the --metric that fits them",
        )
    }

    fn check_count(&self, labels: &Tensor, samples: usize) -> Result<(), Failure> {
        let count = labels.shape.first().copied().unwrap_or(0);
        if count < samples || (count > samples && self.limit.is_none()) {
            return Err(self.unfit(format!("{count} labels for {samples} samples")));
        }
        Ok(())
    }

    /// That there is nothing to measure: a warning for one of many parts, else a failure.
    fn no_figure(&self, why: String) -> Result<(), Failure> {
        if self.shard == Shard::default() {
            return Err(self.unfit(why));
        }
        let part = self.shard;
        output::warn(&format!(
            "warning: part {part} has no figure of its own: {why}"
        ));
        Ok(())
    }
}

/// Outputs and where they come from.
struct Judged {
    rows: Rows,
    /// The samples that they are of.
    range: Range<usize>,
    /// How many samples there are in all.
    all: usize,
    /// What the data was taken for; nothing for outputs that were kept.
    data: Option<String>,
    time: Option<Duration>,
}

fn load_outputs(args: &Args) -> Result<Judged, Failure> {
    let rows = Rows::load(&args.load_outputs, args.metric == Metric::Map)?;
    let samples = rows.len();
    Ok(Judged {
        rows,
        range: 0..samples,
        all: samples,
        data: None,
        time: None,
    })
}

fn run_samples(args: &Args, subject: &Subject, truth: &Truth) -> Result<Judged, Failure> {
    let samples = &subject.samples;
    let mut options = args.session.options();
    options.subgraph = subject.entry;
    let mut session = Session::new(&subject.model, &options)
        .map_err(|error| error::session(&args.model, &error))?;
    let places: Vec<usize> = match truth {
        Truth::Boxes(truth) => truth.places.clone(),
        Truth::Labels(_) => (0..samples.len()).collect(),
    };
    let range = args.shard.range(places.len());
    if places.is_empty() {
        return Err(error::USAGE.failure(
            "there are no samples",
            "--limit leaves none",
            "give a limit above 0",
        ));
    }
    if range.is_empty() {
        return Err(error::USAGE.failure(
            format!("part {} has no samples", args.shard),
            format!("there are {} in all", places.len()),
            "make fewer parts",
        ));
    }
    let path = &args.model;
    let part = &places[range.clone()];
    let (rows, time) = match truth {
        Truth::Boxes(_) => {
            let outputs = Outputs::find(&subject.model, subject.entry)
                .map_err(|error| boxes::detector(path, &error))?;
            let read = |session: &Session| boxes::found(path, session, outputs);
            let (found, time) = run_each(path, &mut session, samples, part, read)?;
            (Rows::Boxes(found), time)
        }
        Truth::Labels(labels) => {
            let read = |session: &Session| first_output(path, session);
            // A long run shall not end with labels that never fitted.
            let (first, _) = run_each(path, &mut session, samples, &part[..1], read)?;
            check_labels(args, labels, range.clone(), first[0].len())?;
            let (values, time) = run_each(path, &mut session, samples, part, read)?;
            (Rows::Values(values), time)
        }
    };
    placement::say(&session);
    Ok(Judged {
        rows,
        range,
        all: places.len(),
        data: Some(samples.describe()),
        time: Some(time),
    })
}

/// What a session made of samples.
pub struct Predictions {
    /// The real values of the first output, sample by sample.
    pub values: Vec<f32>,
    /// How long the runs took, and nothing else.
    pub time: Duration,
}

/// Runs `session` on all of `samples`.
pub fn predict(
    path: &Path,
    session: &mut Session,
    samples: &Samples,
) -> Result<Predictions, Failure> {
    let all: Vec<usize> = (0..samples.len()).collect();
    let read = |session: &Session| first_output(path, session);
    let (rows, time) = run_each(path, session, samples, &all, read)?;
    Ok(Predictions {
        values: rows.concat(),
        time,
    })
}

fn first_output(path: &Path, session: &Session) -> Result<Vec<f32>, Failure> {
    let Some(info) = session.outputs().first() else {
        return Err(error::MODEL_CORRUPT.failure(
            format!("{} cannot be judged", path.display()),
            "it has no outputs",
            "look at it with `bantam inspect`",
        ));
    };
    let dtype = data::numpy_type(path, &info.name, info.dtype)?;
    Ok(data::reals(info, dtype, session.output(0)))
}

/// Runs `session` on those of `samples` at `places` and takes what `read` finds in its outputs.
fn run_each<T>(
    path: &Path,
    session: &mut Session,
    samples: &Samples,
    places: &[usize],
    read: impl Fn(&Session) -> Result<T, Failure>,
) -> Result<(Vec<T>, Duration), Failure> {
    let mut rows = Vec::new();
    let mut time = Duration::ZERO;
    let bar = output::progress("run");
    bar.set_length(places.len() as u64);
    for &place in places {
        let tensors = samples.get(place).map_err(|error| error::samples(&error))?;
        for (input, tensor) in tensors.iter().enumerate() {
            session
                .set_input(input, tensor)
                .map_err(|error| error::run(path, &error))?;
        }
        session.reset_variables();
        let start = Instant::now();
        session.run().map_err(|error| error::run(path, &error))?;
        time += start.elapsed();
        rows.push(read(session)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((rows, time))
}

fn judge_boxes(
    args: &Args,
    truth: &boxes::Truth,
    found: &[Vec<Found>],
    judged: &Judged,
) -> Result<Score, Failure> {
    if judged.all != truth.places.len() {
        return Err(not_outputs(
            args.load_outputs.first().unwrap_or(&args.model),
            format!(
                "there are outputs of {} samples for {} images",
                judged.all,
                truth.places.len()
            ),
        ));
    }
    let precision = truth.judge(found, judged.range.clone());
    if precision.is_none() {
        args.no_figure("there is no box on the images".to_owned())?;
    }
    Ok(Score {
        value: precision.map(|p| p.mean),
        at_50: precision.map(|p| p.at_50),
    })
}

/// The labels of the samples in `range`.
fn part_of(labels: &Tensor, range: Range<usize>) -> Tensor {
    let count = labels.shape.first().copied().unwrap_or(0);
    let size = labels.bytes.len() / count.max(1);
    let bytes = labels.bytes.get(size * range.start..size * range.end);
    Tensor {
        shape: [&[range.len()], labels.shape.get(1..).unwrap_or_default()].concat(),
        dtype: labels.dtype,
        bytes: bytes.unwrap_or_default().to_vec(),
    }
}

/// Whether each label alone is one for an output of `size` values.
fn check_labels(
    args: &Args,
    labels: &Tensor,
    range: Range<usize>,
    size: usize,
) -> Result<(), Failure> {
    let values = vec![0.0; size];
    for first in range {
        let subject = metric::Judged {
            values: &values,
            samples: 1,
            first,
            labels: &part_of(labels, first..first + 1),
            offset: args.label_offset.unwrap_or(0),
            peak: args.peak,
        };
        match args.metric.measure(&subject) {
            Ok(_) | Err(metric::Unfit::Metric(MetricError::OneClass { .. })) => {}
            Err(error) => return Err(args.unfit(error.to_string())),
        }
    }
    Ok(())
}

fn judge_values(
    args: &Args,
    judged: &Judged,
    values: &[f32],
    labels: &Tensor,
) -> Result<Option<f64>, Failure> {
    args.check_count(labels, judged.all)?;
    let samples = judged.range.len();
    let columns = values.len() / samples.max(1);
    if let Metric::Top(k) = args.metric
        && columns <= k
    {
        output::warn(&format!(
            "warning: {} of {columns} classes is right for every label",
            args.metric
        ));
    }
    let subject = metric::Judged {
        values,
        samples,
        first: judged.range.start,
        labels: &part_of(labels, judged.range.clone()),
        offset: args.label_offset.unwrap_or(0),
        peak: args.peak,
    };
    match args.metric.measure(&subject) {
        Ok(value) => Ok(Some(value)),
        Err(metric::Unfit::Metric(error @ MetricError::OneClass { .. })) => {
            args.no_figure(error.to_string()).map(|()| None)
        }
        Err(error) => Err(args.unfit(error.to_string())),
    }
}
