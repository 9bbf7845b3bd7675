//! `bantam convert`: a float model to a quantized one.

use std::path::{Path, PathBuf};

use bantam_converter::samples::Samples;
use bantam_converter::{IoType, KeptFloat, Mode, Recipe, Report};
use bantam_model::Model;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::args::{Format, PreprocessArgs, Threads};
use crate::error::{self, Failure};
use crate::{data, output};

/// Quantize a float model, with samples of its inputs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The float .tflite model
    model: PathBuf,
    /// Where the converted model goes
    #[arg(short, long, value_name = "OUT.tflite")]
    output: PathBuf,
    /// What the operators become
    #[arg(long, value_enum, default_value_t)]
    mode: ModeArg,
    /// Samples of the inputs: .npy, .npz, a folder, a list or a raw file
    #[arg(long, value_name = "PATH")]
    calib: Option<PathBuf>,
    /// Calibrate with the first N samples
    #[arg(long, value_name = "N")]
    calib_limit: Option<usize>,
    /// How ranges come from samples
    #[arg(long, value_enum, default_value_t, value_name = "METHOD")]
    calib_method: CalibMethod,
    /// Convert the subgraph of this signature, not the first one; the samples are for its inputs
    #[arg(long, value_name = "KEY")]
    signature: Option<String>,
    /// Type of the model's inputs [default: float, int8 in the -only modes]
    #[arg(long, value_enum, value_name = "TYPE")]
    input_type: Option<IoArg>,
    /// Type of the model's outputs [default: float, int8 in the -only modes]
    #[arg(long, value_enum, value_name = "TYPE")]
    output_type: Option<IoArg>,
    /// Also write what was done to a file
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, ValueEnum)]
enum ModeArg {
    /// Import and optimize only
    Float,
    /// int8 where an operator can be, float where not
    #[default]
    Int8,
    /// int8 throughout, or an error
    Int8Only,
    /// Not in this version
    DynamicRange,
    /// Not in this version
    Float16,
    /// Not in this version
    #[value(name = "int16x8")]
    Int16x8,
    /// Not in this version
    #[value(name = "int16x8-only")]
    Int16x8Only,
    /// Not in this version
    WeightOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, ValueEnum)]
enum CalibMethod {
    /// The smallest and the largest value seen
    #[default]
    MinMax,
    /// Not in this version
    MovingAverage,
    /// Not in this version
    Percentile,
    /// Not in this version
    Mse,
    /// Not in this version
    Entropy,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum IoArg {
    F32,
    Int8,
    Uint8,
    /// Not in this version
    Int16,
}

fn not_yet(flag: &str, value: impl ValueEnum, there: &str) -> Failure {
    let value = value.to_possible_value();
    let name = value.as_ref().map_or("", |v| v.get_name());
    error::NOT_YET.failure(
        format!("{flag} {name} is not in this version"),
        "the name is reserved for it",
        format!("use one of {there}"),
    )
}

impl IoArg {
    fn io_type(self, flag: &str) -> Result<IoType, Failure> {
        Ok(match self {
            Self::F32 => IoType::F32,
            Self::Int8 => IoType::I8,
            Self::Uint8 => IoType::U8,
            Self::Int16 => return Err(not_yet(flag, self, "f32, int8 and uint8")),
        })
    }
}

impl Args {
    fn recipe(&self) -> Result<Recipe, Failure> {
        if self.calib_method != CalibMethod::MinMax {
            return Err(not_yet("--calib-method", self.calib_method, "min-max"));
        }
        let integer = [self.input_type, self.output_type]
            .iter()
            .flatten()
            .any(|&t| t != IoArg::F32);
        if self.mode == ModeArg::Float && integer {
            return Err(error::USAGE.failure(
                "--mode float has no integer inputs or outputs",
                "nothing is quantized in this mode",
                "leave --input-type and --output-type away, or choose another mode",
            ));
        }
        let io = |flag, value: Option<IoArg>| value.map(|v| v.io_type(flag)).transpose();
        Ok(Recipe {
            mode: match self.mode {
                ModeArg::Float => Mode::Float,
                ModeArg::Int8 => Mode::Int8,
                ModeArg::Int8Only => Mode::Int8Only,
                mode => return Err(not_yet("--mode", mode, "float, int8 and int8-only")),
            },
            input_type: io("--input-type", self.input_type)?,
            output_type: io("--output-type", self.output_type)?,
            subgraph: 0,
        })
    }

    /// The samples, which all modes but `float` need.
    fn samples(&self, model: &Model, subgraph: usize) -> Result<Option<Samples>, Failure> {
        let Some(path) = &self.calib else {
            if self.mode == ModeArg::Float {
                return Ok(None);
            }
            return Err(error::USAGE.failure(
                "--calib is missing",
                "the ranges of tensors come from samples of the inputs",
                "give about a hundred samples, `--calib x.npy`, or say `--mode float`",
            ));
        };
        let specs = data::specs(&self.model, &data::model_inputs(model, subgraph))?;
        let preprocess = self.preprocess.preprocess();
        let samples = Samples::open(path, &specs, &preprocess, self.calib_limit)
            .map_err(|error| error::samples(&error))?;
        output::describe(&samples);
        Ok(Some(samples))
    }
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let mut recipe = args.recipe()?;
    if let Some(path) = args
        .report
        .as_ref()
        .filter(|p| p.extension().is_none_or(|e| e != "json"))
    {
        return Err(error::NOT_YET.failure(
            format!("cannot write the report {}", path.display()),
            "reports are JSON in this version",
            "give a name that ends in .json",
        ));
    }
    let model = data::open_model(&args.model)?;
    recipe.subgraph = data::entry(&args.model, &model, args.signature.as_deref())?;
    let samples = args.samples(&model, recipe.subgraph)?;
    let bar = output::progress("convert");
    let steps = output::steps(&bar);
    let threads = args.threads.get();
    let converted = match &samples {
        Some(samples) => bantam_converter::convert(&model, samples, &recipe, threads, &steps),
        None => bantam_converter::convert(&model, &[][..], &recipe, threads, &steps),
    };
    bar.finish_and_clear();
    let (converted, report) = converted.map_err(|error| error::convert(&args.model, &error))?;
    let bytes = converted.to_bytes();
    let json = report_json(args, samples.as_ref(), &report, bytes.len());
    save(&args.output, &bytes)?;
    if let Some(path) = &args.report {
        save(path, output::json_text("convert", json.clone()).as_bytes())?;
    }
    for warning in &report.warnings {
        output::warn(&format!("warning: {warning}"));
    }
    output::warn(&summary(args, &report, bytes.len()));
    match args.format {
        Format::Json => output::print_json("convert", json),
        Format::Text if report.kept_float.is_empty() => Ok(()),
        Format::Text => {
            let row = |k: &KeptFloat| {
                [
                    k.subgraph.to_string(),
                    k.index.to_string(),
                    k.op.clone(),
                    k.reason.clone(),
                ]
            };
            let rows: Vec<[String; 4]> = report.kept_float.iter().map(row).collect();
            output::print(&format!(
                "float\n{}",
                output::table(&["subgraph", "index", "operator", "reason"], &rows)
            ))
        }
    }
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    bantam_model::write::save(path, bytes)
        .map_err(|error| error::cannot_write(path, &error.to_string()))
}

fn summary(args: &Args, report: &Report, bytes: usize) -> String {
    let before = std::fs::metadata(&args.model).map_or(0, |m| m.len());
    let (name, size) = (args.output.display(), output::bytes(bytes as u64));
    let ops = match args.mode {
        ModeArg::Float => String::new(),
        _ => format!(
            "{} of {} ops quantized, {} float; ",
            report.quantized,
            report.ops,
            report.kept_float.len()
        ),
    };
    format!("{name}: {ops}{} -> {size}", output::bytes(before))
}

fn report_json(args: &Args, samples: Option<&Samples>, report: &Report, bytes: usize) -> Value {
    let name = args.mode.to_possible_value();
    let kept: Vec<Value> = report
        .kept_float
        .iter()
        .map(|k| {
            json!({
                "index": k.index,
                "name": k.name,
                "op": k.op,
                "reason": k.reason,
                "subgraph": k.subgraph,
            })
        })
        .collect();
    json!({
        "calib": samples.map(|s| json!({
            "data": s.describe(),
            "preprocess": s.preprocess().to_string(),
            "samples": s.len(),
        })),
        "kept_float": kept,
        "mode": name.as_ref().map(|n| n.get_name()),
        "model": args.model.display().to_string(),
        "ops": report.ops,
        "output": args.output.display().to_string(),
        "output_bytes": bytes,
        "quantized": report.quantized,
        "warnings": report.warnings,
    })
}
