//! `bantam convert`: a float model to a quantized one.

use std::path::{Path, PathBuf};

use bantam_converter::auto::Found;
use bantam_converter::legalize::{Allowance, InputShape, LegalizeReport, Options, legalize};
use bantam_converter::samples::Samples;
use bantam_converter::{
    CalibMethod, IoType, KeptFloat, Mode, Part, Recipe, Report, Shard, Statistics, Total,
    Verification, Watched, verify,
};
use bantam_model::target::Target;
use bantam_model::{Model, Numerics};
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::args::{Format, PreprocessArgs, Threads};
use crate::error::{self, Failure};
use crate::gate::{self, Gate, GateArgs};
use crate::report::Page;
use crate::{compare, data, fit, output};

/// Quantize a float model, with samples of its inputs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The float .tflite model
    model: PathBuf,
    /// Where the converted model goes
    #[arg(
        short,
        long,
        value_name = "OUT.tflite",
        required_unless_present = "save_calib"
    )]
    output: Option<PathBuf>,
    /// What the operators become [default: that of the recipe, or int8]
    #[arg(long, value_enum)]
    mode: Option<ModeArg>,
    /// What holds for which operators, see docs/recipes.md; flags override it. `best` is int8 as
    /// accurate as it gets, `auto` searches the one that keeps the fewest operators from int8 and
    /// holds the gate
    #[arg(long, value_name = "FILE|best|auto")]
    recipe: Option<PathBuf>,
    /// Convert the subgraph of this signature, not the first one; the samples are for its inputs
    #[arg(long, value_name = "KEY")]
    signature: Option<String>,
    /// The accelerator that the result is for, by name or by the path of its pack: what it refuses is
    /// rewritten where that helps, before quantization and after
    #[arg(short, long, value_name = "NAME|FILE.toml")]
    target: Option<String>,
    /// With --target: how many steps of an integer result may change, or `any`
    #[arg(long, value_name = "K|any", default_value = "0", value_parser = fit::allowance, requires = "target")]
    allow_inexact: Allowance,
    /// With --target: the shape of an input that may vary, by its name or in order
    #[arg(long, value_name = "[NAME:]1x2x3", value_parser = fit::shape, requires = "target")]
    shape: Vec<InputShape>,
    /// Type of the model's inputs [default: float, integer in the -only modes]
    #[arg(long, value_enum, value_name = "TYPE")]
    input_type: Option<IoArg>,
    /// Type of the model's outputs [default: float, integer in the -only modes]
    #[arg(long, value_enum, value_name = "TYPE")]
    output_type: Option<IoArg>,
    /// Also load the result again, run it against the float model on the samples, and write to a
    /// page or a JSON file what was done and what it cost
    #[arg(long, value_name = "FILE.html|FILE.json")]
    report: Option<PathBuf>,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    calibration: CalibArgs,
    #[command(flatten)]
    gate: GateArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

/// Where ranges come from.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Calibration")]
struct CalibArgs {
    /// Samples of the inputs: .npy, .npz, a folder, a list or a raw file
    #[arg(long, value_name = "PATH")]
    calib: Option<PathBuf>,
    /// Calibrate with the first N samples
    #[arg(long, value_name = "N")]
    calib_limit: Option<usize>,
    /// How ranges come from samples [default: that of the recipe, or auto]
    #[arg(long, value_enum, value_name = "METHOD")]
    calib_method: Option<CalibArg>,
    /// Per cent of the values that a range holds, for percentile [default: 99.99]
    #[arg(long, value_name = "P", value_parser = percent)]
    calib_percentile: Option<f64>,
    /// Calibrate with part I of N of the samples
    #[arg(long, value_name = "I/N", default_value_t, requires = "calib")]
    shard: Shard,
    /// Keep what was seen of the samples, for --load-calib
    #[arg(long, value_name = "FILE")]
    save_calib: Option<PathBuf>,
    /// Add what was seen before, by one calibration or by several
    #[arg(long, value_name = "FILE", num_args = 1..)]
    load_calib: Vec<PathBuf>,
}

fn percent(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|p| *p > 0.0 && *p <= 100.0);
    value.ok_or_else(|| "give a number above 0, at most 100".to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum ModeArg {
    /// Import and optimize only
    Float,
    /// int8 where an operator can be, float where not
    Int8,
    /// int8 throughout, or an error
    Int8Only,
    /// int8 weights, float activations that kernels quantize as they run
    DynamicRange,
    /// float16 constants, float32 computation
    Float16,
    /// int16 activations and int8 weights where an operator can be, float where not
    #[value(name = "int16x8")]
    Int16x8,
    /// int16 activations throughout, or an error
    #[value(name = "int16x8-only")]
    Int16x8Only,
    /// int8 weights, float computation
    WeightOnly,
}

impl From<ModeArg> for Mode {
    fn from(arg: ModeArg) -> Self {
        match arg {
            ModeArg::Float => Self::Float,
            ModeArg::Int8 => Self::Int8,
            ModeArg::Int8Only => Self::Int8Only,
            ModeArg::DynamicRange => Self::DynamicRange,
            ModeArg::Float16 => Self::Float16,
            ModeArg::Int16x8 => Self::Int16x8,
            ModeArg::Int16x8Only => Self::Int16x8Only,
            ModeArg::WeightOnly => Self::WeightOnly,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum CalibArg {
    /// The one of min-max, mse, percentile and moving-average that is best on the samples
    Auto,
    /// The smallest and the largest value seen
    MinMax,
    /// A moving average of each sample's smallest and largest
    MovingAverage,
    /// Without the outermost values
    Percentile,
    /// With the least squared error
    Mse,
    /// With the least information lost
    Entropy,
}

impl From<CalibArg> for CalibMethod {
    fn from(arg: CalibArg) -> Self {
        match arg {
            CalibArg::Auto => Self::Auto,
            CalibArg::MinMax => Self::MinMax,
            CalibArg::MovingAverage => Self::MovingAverage,
            CalibArg::Percentile => Self::Percentile,
            CalibArg::Mse => Self::Mse,
            CalibArg::Entropy => Self::Entropy,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum IoArg {
    F32,
    Int8,
    Uint8,
    Int16,
}

impl From<IoArg> for IoType {
    fn from(arg: IoArg) -> Self {
        match arg {
            IoArg::F32 => Self::F32,
            IoArg::Int8 => Self::I8,
            IoArg::Uint8 => Self::U8,
            IoArg::Int16 => Self::I16,
        }
    }
}

impl Args {
    fn is_auto(&self) -> bool {
        self.recipe.as_deref() == Some(Path::new("auto"))
    }

    /// The samples that the gate judges with: its own, or those that calibrated.
    fn gate_samples(
        &self,
        model: &Model,
        subgraph: usize,
        calib: Option<&Samples>,
    ) -> Result<Option<Samples>, Failure> {
        if self.is_auto() && !self.gate.is_set() {
            return Err(error::USAGE.failure(
                "--recipe auto needs something to reach",
                "it searches for the fewest operators to keep so that a condition holds",
                "say --min-sqnr DB, or --min-accuracy SHARE with --eval-data and --eval-labels",
            ));
        }
        if !self.gate.is_set() {
            return Ok(None);
        }
        let path = match (self.gate.eval_data(), calib) {
            (Some(path), _) => path,
            (None, Some(_)) => self.calibration.calib.as_deref().unwrap_or(&self.model),
            (None, None) => {
                return Err(error::USAGE.failure(
                    "there is nothing to judge with",
                    "a condition such as --min-sqnr is measured on samples",
                    "give them with --eval-data PATH",
                ));
            }
        };
        let specs = data::specs(&self.model, &data::model_inputs(model, subgraph))?;
        let preprocess = self.preprocess.preprocess();
        let samples = Samples::open(path, &specs, &preprocess, self.calibration.calib_limit);
        samples.map(Some).map_err(|error| error::samples(&error))
    }

    /// The model with what `target` refuses rewritten.
    fn legalize(&self, model: &Model, target: &Target) -> Result<(Model, LegalizeReport), Failure> {
        let options = Options {
            allow: self.allow_inexact,
            shapes: self.shape.clone(),
            integer_edges: false,
        };
        legalize(model, target, &options).map_err(|error| error::legalize(&self.model, &error))
    }

    /// The recipe file with what the flags override.
    fn recipe(&self) -> Result<Recipe, Failure> {
        let mut recipe = match &self.recipe {
            Some(_) if self.is_auto() => Recipe::default(),
            Some(path) if path == Path::new("best") => Recipe::best(),
            Some(path) => Recipe::open(path).map_err(|error| error::recipe(path, &error))?,
            None => Recipe::default(),
        };
        let calibration = &self.calibration;
        if let Some(mode) = self.mode {
            recipe.mode = mode.into();
        }
        recipe.input_type = self.input_type.map(Into::into).or(recipe.input_type);
        recipe.output_type = self.output_type.map(Into::into).or(recipe.output_type);
        let defaults = &mut recipe.defaults;
        let method = calibration.calib_method.map(Into::into);
        defaults.calib_method = method.or(defaults.calib_method);
        defaults.calib_percentile = calibration.calib_percentile.or(defaults.calib_percentile);
        let edges = [recipe.input_type(), recipe.output_type()];
        if !recipe.has_integer_operators() && edges != [IoType::F32; 2] {
            return Err(error::USAGE.failure(
                "inputs and outputs cannot be integer where every operator computes in float",
                "nothing is quantized that could stand beside them",
                "leave --input-type and --output-type away, or choose another mode",
            ));
        }
        Ok(recipe)
    }

    /// What calibration saw of the samples and before, and what is odd about the samples.
    fn statistics(
        &self,
        model: &Model,
        samples: Option<&Samples>,
        recipe: &Recipe,
    ) -> Result<(Statistics, Vec<String>), Failure> {
        let failure = |error| error::convert(&self.model, &error);
        let mut warnings = Vec::new();
        let mut statistics = match samples {
            Some(samples) => {
                let part = Part::new(samples, self.calibration.shard);
                let part = Watched::new(&part);
                let bar = output::progress("calibrate");
                let steps = output::steps(&bar);
                let threads = self.threads.get();
                let found = bantam_converter::calibrate(model, &part, recipe, threads, &steps);
                bar.finish_and_clear();
                warnings = part.warnings();
                found.map_err(failure)?
            }
            None => Statistics::none(model),
        };
        for path in &self.calibration.load_calib {
            let loaded = read_statistics(path, model)?;
            statistics.merge(loaded);
        }
        if let Some(path) = &self.calibration.save_calib {
            save(path, statistics.to_json(model).as_bytes())?;
        }
        Ok((statistics, warnings))
    }

    /// The recipe with what it leaves open chosen by trying on the samples, and what that gained.
    fn settled(
        &self,
        model: &Model,
        statistics: &Statistics,
        recipe: Recipe,
        samples: Option<&Samples>,
    ) -> Result<(Recipe, Vec<Total>), Failure> {
        let Some(samples) = samples else {
            return Ok((recipe, Vec::new()));
        };
        let bar = output::progress("ranges");
        let steps = output::steps(&bar);
        let threads = self.threads.get();
        let found = bantam_converter::settle(model, statistics, &recipe, samples, threads, &steps);
        bar.finish_and_clear();
        found.map_err(|error| error::convert(&self.model, &error))
    }

    /// The converted model.
    fn converted(
        &self,
        model: &Model,
        statistics: &Statistics,
        recipe: &Recipe,
        samples: Option<&Samples>,
    ) -> Result<(Model, Report), Failure> {
        let found = match samples {
            Some(samples) => {
                let bar = output::progress("tune");
                let steps = output::steps(&bar);
                let threads = self.threads.get();
                let found =
                    bantam_converter::tune(model, statistics, recipe, samples, threads, &steps);
                bar.finish_and_clear();
                found
            }
            None => bantam_converter::quantize(model, statistics, recipe),
        };
        found.map_err(|error| error::convert(&self.model, &error))
    }

    /// The samples, if any are needed.
    fn samples(&self, model: &Model, recipe: &Recipe) -> Result<Option<Samples>, Failure> {
        let calibration = &self.calibration;
        let needed = recipe.needs_samples() || calibration.save_calib.is_some();
        let Some(path) = &calibration.calib else {
            if !needed || !calibration.load_calib.is_empty() {
                return Ok(None);
            }
            return Err(error::USAGE.failure(
                "--calib is missing",
                "the ranges of tensors come from samples of the inputs",
                "give about a hundred samples, `--calib x.npy`, or say `--mode dynamic-range`",
            ));
        };
        if !needed {
            output::warn("the samples are not used: nothing that this mode does needs them");
            return Ok(None);
        }
        let specs = data::specs(&self.model, &data::model_inputs(model, recipe.subgraph))?;
        let preprocess = self.preprocess.preprocess();
        let samples = Samples::open(path, &specs, &preprocess, calibration.calib_limit)
            .map_err(|error| error::samples(&error))?;
        output::describe(&samples);
        Ok(Some(samples))
    }
}

fn read_statistics(path: &Path, model: &Model) -> Result<Statistics, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        error::DATA_FILE.failure(
            format!("cannot read {}", path.display()),
            error.to_string(),
            "check the path; --save-calib writes such files",
        )
    })?;
    let statistics = Statistics::from_json(&text, model);
    statistics.map_err(|error| error::calibration(path, &error))
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let mut recipe = args.recipe()?;
    let report_kind = args.report.as_deref().map(ReportKind::of).transpose()?;
    let mut model = data::open_model(&args.model)?;
    if let Some(key) = &args.signature {
        recipe.subgraph = data::entry(&args.model, &model, Some(key))?;
    }
    let target = args.target.as_deref().map(fit::target).transpose()?;
    let mut fitting = None;
    if let Some(target) = &target {
        let before = fit::Fit::of(&model, target);
        let (legal, report) = args.legalize(&model, target)?;
        fitting = Some((before, report));
        recipe.coarse_products |= fit::reads_coarse_products_only(target);
        model = legal;
    }
    let mut gains = Vec::new();
    if recipe.equalize {
        (model, gains) = bantam_converter::equalize(&model, recipe.subgraph);
    }
    let samples = args.samples(&model, &recipe)?;
    let (statistics, warnings) = args.statistics(&model, samples.as_ref(), &recipe)?;
    let Some(path) = &args.output else {
        return Ok(());
    };
    let given = samples.as_ref();
    let (recipe, totals) = args.settled(&model, &statistics, recipe, given)?;
    let judges = args.gate_samples(&model, recipe.subgraph, samples.as_ref())?;
    let gate = judges.as_ref().map(|judges| {
        let float = (&model, recipe.subgraph);
        Gate::new(&args.gate, &args.preprocess, &args.model, float, judges)
    });
    let gate = gate.transpose()?;
    let found = match &gate {
        Some(gate) if args.is_auto() => {
            Some(gate.search(&statistics, &recipe, args.threads.get())?)
        }
        _ => None,
    };
    let recipe = found.as_ref().map_or(recipe, |found| found.recipe.clone());
    let (mut converted, mut report) = args.converted(&model, &statistics, &recipe, given)?;
    if given.is_none() && recipe.tunes() {
        report.warnings.push(
            "search-ranges, learned-rounding and bias-correction are left out: they need samples, not \
             only what was seen of them"
                .into(),
        );
    }
    report.warnings.extend(warnings);
    report.gains.splice(..0, gains);
    report.totals.splice(..0, totals);
    let mut fitted = None;
    if let (Some(target), Some((before, float))) = (&target, fitting) {
        let (legal, integer) = args.legalize(&converted, target)?;
        let after = fit::Fit::of(&legal, target);
        output::warn(&fit::summary(target, before, after));
        fitted = Some((before, after, float, integer));
        converted = legal;
    }
    let bytes = converted.to_bytes();
    let calib = calib_json(args, samples.as_ref(), &statistics);
    let mut json = report_json(args, &recipe, path, calib, &report, bytes.len());
    if let Some((before, after, float, integer)) = &fitted {
        json["target"] = json!({
            "float": fit::report_json(float, *before, *after),
            "integer": fit::report_json(integer, *before, *after),
        });
    }
    save(path, &bytes)?;
    if let Some(found) = &found {
        let file = args.gate.recipe_path(path);
        save(&file, recipe_text(&recipe)?.as_bytes())?;
        json["auto"] = gate::found_json(found, &file);
    }
    let measured = gate.map(|gate| gate.measure(&converted)).transpose()?;
    if let Some(measured) = &measured {
        json["gate"] = measured.json();
    }
    if let (Some(report_path), Some(kind)) = (&args.report, report_kind) {
        let verification = match &samples {
            Some(samples) => Some(verified(path, &model, &bytes, recipe.subgraph, samples)?),
            None => None,
        };
        let text = match kind {
            ReportKind::Json => {
                let mut json = json.clone();
                json["verification"] = verification.as_ref().map_or(Value::Null, verification_json);
                output::json_text("convert", json)
            }
            ReportKind::Html => {
                let page = Page {
                    float: &model,
                    model: args.model.display().to_string(),
                    output: path.display().to_string(),
                    mode: recipe.mode.to_string(),
                    bytes: (model_bytes(args), bytes.len() as u64),
                    data: samples.as_ref().map_or_else(String::new, Samples::describe),
                    report: &report,
                    verification: verification.as_ref(),
                };
                page.html()
            }
        };
        save(report_path, text.as_bytes())?;
    }
    for warning in &report.warnings {
        output::warn(&format!("warning: {warning}"));
    }
    for total in &report.totals {
        output::warn(&format!(
            "{} {}: outputs at {:.2} dB on the samples, {:.2} before",
            total.option, total.choice, total.after_db, total.before_db
        ));
    }
    for option in ["equalize", "weight-clipping"] {
        let gains = report.gains.iter().filter(|g| g.option == option);
        let ratios: Vec<f64> = gains.map(|g| g.ratio).collect();
        if !ratios.is_empty() {
            let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
            output::warn(&format!(
                "{option}: the squared error of weights of {} ops is {mean:.3} of what it was",
                ratios.len()
            ));
        }
    }
    output::warn(&summary(args, &recipe, path, &report, bytes.len()));
    match args.format {
        Format::Json => output::print_json("convert", json)?,
        Format::Text => {
            let mut text = text(&report, found.as_ref());
            if let Some((.., float, integer)) = &fitted {
                text += &fitted_text(float, integer);
            }
            output::print(&text)?;
        }
    }
    match measured {
        Some(measured) => measured.check(path),
        None => Ok(()),
    }
}

fn text(report: &Report, found: Option<&Found>) -> String {
    let mut text = found.map_or_else(String::new, gate::found_text);
    if !report.kept_float.is_empty() {
        let kept = report.kept_float.iter();
        let row = |k: &KeptFloat| {
            [
                k.subgraph.to_string(),
                k.index.to_string(),
                k.op.clone(),
                k.reason.clone(),
            ]
        };
        let rows: Vec<[String; 4]> = kept.map(row).collect();
        text += "float\n";
        text += &output::table(&["subgraph", "index", "operator", "reason"], &rows);
    }
    text
}

/// The rewrites of the float model, then all that is to be said of the integer one.
fn fitted_text(float: &LegalizeReport, integer: &LegalizeReport) -> String {
    let float = LegalizeReport {
        declined: Vec::new(),
        left: Vec::new(),
        ..float.clone()
    };
    fit::report_text(&float) + &fit::report_text(integer)
}

fn recipe_text(recipe: &Recipe) -> Result<String, Failure> {
    recipe.to_toml().map_err(|error| {
        error::INTERNAL.failure(
            "the recipe cannot be written as TOML",
            error.to_string(),
            "report this as a bug",
        )
    })
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum ReportKind {
    Html,
    Json,
}

impl ReportKind {
    fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("html" | "htm") => Ok(Self::Html),
            Some("json") => Ok(Self::Json),
            _ => Err(error::USAGE.failure(
                format!("cannot write the report {}", path.display()),
                "a report is a page or JSON, told by the end of its name",
                "give a name that ends in .html or .json",
            )),
        }
    }
}

/// The written model against the float one.
fn verified(
    output: &Path,
    model: &Model,
    bytes: &[u8],
    entry: usize,
    samples: &Samples,
) -> Result<Verification, Failure> {
    let bar = output::progress("verify");
    let found = verify(
        model,
        bytes.to_vec(),
        entry,
        samples,
        Numerics::default(),
        &output::steps(&bar),
    );
    bar.finish_and_clear();
    found.map_err(|error| error::verify(output, &error))
}

fn verification_json(verification: &Verification) -> Value {
    let errors = |list: &[bantam_converter::TensorError]| -> Vec<Value> {
        list.iter().map(compare::report).collect()
    };
    let non_integer: Vec<Value> = verification
        .non_integer
        .iter()
        .map(|t| {
            json!({
                "constant": t.is_constant,
                "index": t.index,
                "name": t.name,
                "subgraph": t.subgraph,
                "type": t.dtype.to_string(),
            })
        })
        .collect();
    json!({
        "non_integer": non_integer,
        "left_out": verification.comparison.left_out,
        "outputs": errors(&verification.comparison.outputs),
        "samples": verification.samples,
        "tensors": errors(&verification.comparison.tensors),
    })
}

fn model_bytes(args: &Args) -> u64 {
    std::fs::metadata(&args.model).map_or(0, |m| m.len())
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    bantam_model::write::save(path, bytes)
        .map_err(|error| error::cannot_write(path, &error.to_string()))
}

fn summary(args: &Args, recipe: &Recipe, path: &Path, report: &Report, bytes: usize) -> String {
    let before = model_bytes(args);
    let (name, size) = (path.display(), output::bytes(bytes as u64));
    let ops = if recipe.is_float() {
        String::new()
    } else if recipe.has_integer_operators() {
        format!(
            "{} of {} ops quantized, {} float; ",
            report.quantized,
            report.ops,
            report.kept_float.len()
        )
    } else {
        format!(
            "{} of {} ops with smaller constants; ",
            report.quantized, report.ops
        )
    };
    format!("{name}: {ops}{} -> {size}", output::bytes(before))
}

fn calib_json(args: &Args, samples: Option<&Samples>, statistics: &Statistics) -> Value {
    let loaded = &args.calibration.load_calib;
    if samples.is_none() && loaded.is_empty() {
        return Value::Null;
    }
    let loaded: Vec<String> = loaded.iter().map(|p| p.display().to_string()).collect();
    json!({
        "data": samples.map(Samples::describe),
        "loaded": loaded,
        "preprocess": samples.map(|s| s.preprocess().to_string()),
        "samples": statistics.samples(),
    })
}

fn report_json(
    args: &Args,
    recipe: &Recipe,
    path: &Path,
    calib: Value,
    report: &Report,
    bytes: usize,
) -> Value {
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
    let gains: Vec<Value> = report
        .gains
        .iter()
        .map(|g| {
            json!({
                "after_db": g.db.map(|(_, after)| output::number(after)),
                "before_db": g.db.map(|(before, _)| output::number(before)),
                "index": g.index,
                "name": g.name,
                "option": g.option,
                "ratio": g.ratio,
                "subgraph": g.subgraph,
            })
        })
        .collect();
    let totals: Vec<Value> = report
        .totals
        .iter()
        .map(|t| {
            json!({
                "after_db": output::number(t.after_db),
                "before_db": output::number(t.before_db),
                "choice": t.choice,
                "option": t.option,
            })
        })
        .collect();
    json!({
        "calib": calib,
        "gains": gains,
        "kept_float": kept,
        "mode": recipe.mode.to_string(),
        "model": args.model.display().to_string(),
        "ops": report.ops,
        "output": path.display().to_string(),
        "output_bytes": bytes,
        "quantized": report.quantized,
        "totals": totals,
        "warnings": report.warnings,
    })
}
