//! What a conversion is to reach, and the search for the recipe that reaches it.

use std::fmt;
use std::path::{Path, PathBuf};

use bantam_converter::auto::{self, Found, Goal};
use bantam_converter::samples::{self, Samples, Tensor};
use bantam_converter::{
    ConvertError, Recipe, Scheme, Source, Statistics, compare_subgraph, metric,
};
use bantam_delegate::{Options, Session};
use bantam_model::{Model, Numerics};
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::args::PreprocessArgs;
use crate::error::{self, Failure};
use crate::{data, evaluate, labels, output};

/// How many samples measure what each operator costs.
const PROBES: usize = 8;

/// Conditions on the converted model. One that does not hold is exit code 1; the model is written all the same.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Gate")]
pub struct GateArgs {
    /// The least signal to noise of every output against the float model, in dB
    #[arg(long, value_name = "DB")]
    min_sqnr: Option<f64>,
    /// The least share of samples whose label has the highest score, 0 to 1
    #[arg(long, value_name = "SHARE", requires = "eval_data")]
    min_accuracy: Option<f64>,
    /// Samples to judge with [default: those of --calib]
    #[arg(long, value_name = "PATH")]
    eval_data: Option<PathBuf>,
    /// Their labels: .npy, .npz, .txt or .csv [default: the folders of the samples]
    #[arg(long, value_name = "FILE")]
    eval_labels: Option<PathBuf>,
    /// What --recipe auto makes of operators that must be more exact
    #[arg(long, value_enum, default_value_t)]
    keep: KeepArg,
    /// Where the recipe that --recipe auto finds goes [default: beside the model]
    #[arg(long, value_name = "FILE.toml")]
    save_recipe: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, ValueEnum)]
enum KeepArg {
    /// Float, as they are
    #[default]
    Float,
    /// int16 activations and int8 weights
    #[value(name = "int16x8")]
    Int16x8,
}

impl GateArgs {
    /// Whether a condition is set.
    pub fn is_set(&self) -> bool {
        self.min_sqnr.is_some() || self.min_accuracy.is_some()
    }

    /// The samples that it judges with, where they are not those of the calibration.
    pub fn eval_data(&self) -> Option<&Path> {
        self.eval_data.as_deref()
    }

    /// The file for the recipe of a model that goes to `output`.
    pub fn recipe_path(&self, output: &Path) -> PathBuf {
        let beside = || output.with_extension("recipe.toml");
        self.save_recipe.clone().unwrap_or_else(beside)
    }
}

/// The conditions, with the data that they are judged on.
pub struct Gate<'a> {
    args: &'a GateArgs,
    preprocess: &'a PreprocessArgs,
    path: &'a Path,
    float: &'a Model,
    /// The subgraph that is judged.
    entry: usize,
    /// For the float model's inputs.
    samples: &'a Samples,
    labels: Option<Tensor>,
}

/// How a model stands to the conditions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Signal to noise of the worst output, in dB, and the least that will do.
    sqnr_db: Option<(f64, f64)>,
    /// Share of right answers, and the least that will do.
    accuracy: Option<(f64, f64)>,
}

impl Measured {
    /// By how much the conditions hold: below 0 if one does not. In dB or per cent, whichever is less.
    fn margin(&self) -> f64 {
        let sqnr = self.sqnr_db.map_or(f64::INFINITY, |(is, least)| is - least);
        let accuracy = self
            .accuracy
            .map_or(f64::INFINITY, |(is, least)| (is - least) * 100.0);
        sqnr.min(accuracy)
    }

    /// The failure, if a condition does not hold.
    pub fn check(&self, output: &Path) -> Result<(), Failure> {
        if self.margin() >= 0.0 {
            return Ok(());
        }
        Err(error::GATE.failure(
            format!(
                "{} was written, but is not as good as asked for",
                output.display()
            ),
            self.to_string(),
            "try --recipe auto, another --calib-method, or look at --report FILE.html",
        ))
    }

    /// For the JSON of a conversion.
    pub fn json(&self) -> Value {
        let pair = |pair: Option<(f64, f64)>| {
            pair.map(|(is, least)| json!({ "least": output::number(least), "value": output::number(is) }))
        };
        json!({
            "accuracy": pair(self.accuracy),
            "holds": self.margin() >= 0.0,
            "sqnr_db": pair(self.sqnr_db),
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((is, least)) = self.sqnr_db {
            write!(f, "sqnr {is:.2} dB where at least {least} is asked for")?;
        }
        if let Some((is, least)) = self.accuracy {
            let comma = if self.sqnr_db.is_some() { ", " } else { "" };
            write!(
                f,
                "{comma}accuracy {is:.4} where at least {least} is asked for"
            )?;
        }
        Ok(())
    }
}

impl<'a> Gate<'a> {
    /// `samples` are for the inputs of `entry`, a subgraph of `float`, the model at `path`.
    pub fn new(
        args: &'a GateArgs,
        preprocess: &'a PreprocessArgs,
        path: &'a Path,
        (float, entry): (&'a Model, usize),
        samples: &'a Samples,
    ) -> Result<Self, Failure> {
        let labels = match (args.min_accuracy, &args.eval_data) {
            (Some(_), Some(data)) => {
                let specs = data::specs(path, &data::model_inputs(float, entry))?;
                let samples = Samples::open(data, &specs, &preprocess.preprocess(), None)
                    .map_err(|error| error::samples(&error))?;
                let labels = labels::Given {
                    path: args.eval_labels.as_deref(),
                    model: path,
                    classes: None,
                    samples: Some(&samples),
                    flag: "--eval-labels",
                    output: "",
                };
                Some(labels.read()?)
            }
            _ => None,
        };
        Ok(Self {
            args,
            preprocess,
            path,
            float,
            entry,
            samples,
            labels,
        })
    }

    /// Runs `converted` on the data.
    pub fn measure(&self, converted: &Model) -> Result<Measured, Failure> {
        let sqnr_db = match self.args.min_sqnr {
            Some(least) => Some((self.worst_sqnr(converted)?, least)),
            None => None,
        };
        let accuracy = match (self.args.min_accuracy, &self.labels) {
            (Some(least), Some(labels)) => Some((self.accuracy(converted, labels)?, least)),
            _ => None,
        };
        Ok(Measured { sqnr_db, accuracy })
    }

    fn worst_sqnr(&self, converted: &Model) -> Result<f64, Failure> {
        let bar = output::progress("compare");
        let steps = output::steps(&bar);
        let found = compare_subgraph(
            self.float,
            converted,
            self.entry,
            self.samples,
            Numerics::default(),
            &steps,
        );
        bar.finish_and_clear();
        let found = found.map_err(|error| error::convert(self.path, &error))?;
        let db = found.outputs.iter().map(|error| error.sqnr_db);
        Ok(db.fold(f64::INFINITY, f64::min))
    }

    fn accuracy(&self, converted: &Model, labels: &Tensor) -> Result<f64, Failure> {
        let options = Options {
            subgraph: self.entry,
            ..Options::default()
        };
        let session = Session::new(converted, &options);
        let mut session = session.map_err(|error| error::session(self.path, &error))?;
        let specs = data::specs(self.path, session.inputs())?;
        let path = self.args.eval_data.as_deref().unwrap_or(self.path);
        let samples = Samples::open(path, &specs, &self.preprocess.preprocess(), None)
            .map_err(|error| error::samples(&error))?;
        let outputs = evaluate::predict(self.path, &mut session, &samples)?;
        let unfit = |why: String| {
            error::LABELS.failure(
                "the labels do not fit the outputs",
                why,
                "give one label a sample",
            )
        };
        let labels = labels
            .to_i64()
            .ok_or_else(|| unfit("a label is not a whole number".to_owned()))?;
        if labels.len() != samples.len() {
            return Err(unfit(format!(
                "{} labels for {} samples",
                labels.len(),
                samples.len()
            )));
        }
        metric::top_k_accuracy(&outputs.values, &labels, 1)
            .map_err(|error| unfit(error.to_string()))
    }

    /// Searches the recipe that keeps the fewest operators and holds.
    pub fn search(
        &self,
        statistics: &Statistics,
        recipe: &Recipe,
        threads: usize,
    ) -> Result<Found, Failure> {
        let judge = |model: &Model| -> Result<f64, Stop> {
            self.measure(model)
                .map(|measured| measured.margin())
                .map_err(Stop::Failure)
        };
        let goal = Goal {
            judge: &judge,
            least: 0.0,
            precision: match self.args.keep {
                KeepArg::Float => Scheme::Float,
                KeepArg::Int16x8 => Scheme::Int16x8,
            },
        };
        let bar = output::progress("search");
        let steps = output::steps(&bar);
        let probes = First(self.samples, PROBES.min(self.samples.len()));
        let found = auto::find(
            self.float, statistics, recipe, &goal, &probes, threads, &steps,
        );
        bar.finish_and_clear();
        found.map_err(|stop| match stop {
            Stop::Failure(failure) => failure,
            Stop::Convert(error) => error::convert(self.path, &error),
        })
    }
}

/// Why a search stopped.
enum Stop {
    Failure(Failure),
    Convert(ConvertError),
}

impl From<ConvertError> for Stop {
    fn from(error: ConvertError) -> Self {
        Self::Convert(error)
    }
}

/// The first few of many samples.
struct First<'a>(&'a Samples, usize);

impl Source for First<'_> {
    fn len(&self) -> usize {
        self.1
    }

    fn get(&self, index: usize) -> Result<Vec<Vec<u8>>, samples::SampleError> {
        self.0.get(index)
    }
}

/// What was found, for the JSON of a conversion.
pub fn found_json(found: &Found, recipe: &Path) -> Value {
    let kept: Vec<Value> = found
        .kept
        .iter()
        .map(|k| {
            json!({
                "alone_db": output::number(k.alone_db),
                "index": k.index,
                "name": k.name,
                "op": k.op,
                "subgraph": k.subgraph,
            })
        })
        .collect();
    let curve: Vec<Value> = found
        .curve
        .iter()
        .map(|p| {
            json!({ "int8_share": output::number(p.share), "kept": p.kept, "sqnr_db": output::number(p.sqnr_db) })
        })
        .collect();
    json!({ "curve": curve, "kept": kept, "recipe": recipe.display().to_string() })
}

/// The same for people.
pub fn found_text(found: &Found) -> String {
    let kept: Vec<[String; 5]> = found
        .kept
        .iter()
        .map(|k| {
            [
                k.subgraph.to_string(),
                k.index.to_string(),
                k.op.clone(),
                format!("{:.1}", k.alone_db),
                k.name.clone(),
            ]
        })
        .collect();
    let curve: Vec<[String; 3]> = found
        .curve
        .iter()
        .map(|p| {
            [
                p.kept.to_string(),
                format!("{:.1} %", p.share * 100.0),
                format!("{:.2}", p.sqnr_db),
            ]
        })
        .collect();
    format!(
        "kept, the worst first\n{}\nhow signal to noise grows with what is kept\n{}",
        output::table(
            &["subgraph", "index", "operator", "alone dB", "name"],
            &kept
        ),
        output::table(&["kept", "int8 multiplications", "sqnr dB"], &curve)
    )
}
