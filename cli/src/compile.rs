//! `bantam compile`: check, legalize, run the vendor's own compiler, read back what it did.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bantam_converter::compiler::{self, Compiled, Compiler, EDGETPU_COMPILER};
use bantam_converter::legalize::{Allowance, InputShape, Options, legalize};
use bantam_model::Model;
use serde_json::{Value, json};

use crate::args::Format;
use crate::error::{self, Failure};
use crate::{data, fit, output};

/// Compile an integer model for an accelerator, with the vendor's compiler
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The integer .tflite model
    model: PathBuf,
    /// Where the compiled model goes
    #[arg(short, long, value_name = "OUT.tflite")]
    output: PathBuf,
    /// The accelerator
    #[arg(short, long, value_name = "NAME", default_value = "edgetpu")]
    target: String,
    /// The compiler [default: edgetpu_compiler on the path]
    #[arg(long, value_name = "PATH")]
    compiler: Option<PathBuf>,
    /// The oldest runtime that shall load the result
    #[arg(long, value_name = "N")]
    min_runtime: Option<u32>,
    /// Seconds that the compiler may take
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
    /// How many steps of an integer result may change, or `any`
    #[arg(long, value_name = "K|any", default_value = "0", value_parser = fit::allowance)]
    allow_inexact: Allowance,
    /// The shape of an input that may vary, by its name or in order; a batch is 1 unless it is said
    #[arg(long, value_name = "[NAME:]1x2x3", value_parser = fit::shape)]
    shape: Vec<InputShape>,
    /// Put the model that was compiled into the file too, to run where the accelerator is not there
    #[arg(long)]
    pair: bool,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// An operator that the compiler placed elsewhere than we said.
struct Surprise {
    index: usize,
    op: String,
    tensor: String,
    said: &'static str,
    is: &'static str,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    if args.target != "edgetpu" {
        return Err(error::USAGE.failure(
            format!("there is no compiler for {}", args.target),
            "edgetpu_compiler is the only one that is run here",
            "say --target edgetpu; `bantam legalize` makes models for other targets",
        ));
    }
    let target = fit::target(&args.target)?;
    let model = data::open_model(&args.model)?;
    let program = match &args.compiler {
        Some(path) => path.clone(),
        None => compiler::find(EDGETPU_COMPILER, std::env::var_os("PATH"))
            .map_err(|error| error::compile(&args.model, &error))?,
    };
    let options = Options {
        allow: args.allow_inexact,
        shapes: args.shape.clone(),
        ..Options::default()
    };
    let before = fit::Fit::of(&model, &target);
    let (legal, report) = legalize(&model, &target, &options)
        .map_err(|error| error::legalize(&args.model, &error))?;
    if report.judged_as_int8 {
        return Err(error::LEGALIZE.failure(
            format!("{} is a model of floats", args.model.display()),
            "the compiler takes integers only",
            "convert it first: `bantam convert --target edgetpu --mode int8-only`",
        ));
    }
    let after = fit::Fit::of(&legal, &target);
    output::warn(&fit::summary(&target, before, after));
    let folder = tempfile::tempdir().map_err(|error| {
        error::OUTPUT.failure(
            "cannot make a folder for the compiler",
            error.to_string(),
            "look at the space and the permissions of the folder for temporary files",
        )
    })?;
    let compiler = Compiler {
        program,
        min_runtime: args.min_runtime,
        deadline: Duration::from_secs(args.timeout),
    };
    let compiled = compiler
        .compile(&legal, folder.path())
        .map_err(|error| error::compile(&args.model, &error))?;
    write(&args.output, &legal, &compiled, args.pair)?;
    let predicted = fit::placed(&legal, &target);
    let actual = compiler::placement(&legal, &compiled.model);
    let surprises = surprises(&legal, &predicted, &actual);
    let mapped = actual.iter().filter(|&&on_chip| on_chip).count();
    output::warn(&format!(
        "{}: {mapped} of {} ops on the Edge TPU; {} of our verdicts are the compiler's",
        args.output.display(),
        actual.len(),
        actual.len() - surprises.len()
    ));
    match args.format {
        Format::Json => {
            let mut json = fit::report_json(&report, before, after);
            json["compiler"] = log_json(&compiled);
            json["mapped"] = json!(mapped);
            json["model"] = json!(args.model.display().to_string());
            json["ops"] = json!(actual.len());
            json["output"] = json!(args.output.display().to_string());
            json["surprises"] = surprises.iter().map(Surprise::json).collect();
            output::print_json("compile", json)
        }
        Format::Text => {
            let mut text = fit::report_text(&report) + &log_text(&compiled);
            if !surprises.is_empty() {
                let rows: Vec<[String; 5]> = surprises.iter().map(Surprise::row).collect();
                let header = ["index", "operator", "we said", "it is", "tensor"];
                text += &format!("other than we said\n{}", output::table(&header, &rows));
            }
            output::print(&text)
        }
    }
}

fn write(path: &Path, legal: &Model, compiled: &Compiled, pair: bool) -> Result<(), Failure> {
    let bytes = match pair {
        false => compiled.bytes.clone(),
        true => {
            let paired = compiled
                .model
                .clone()
                .with_twin(legal, legal.to_bytes().into());
            let paired = paired.map_err(|error| {
                error::PAIR.failure(
                    "the compiled model does not take what the original does",
                    error.to_string(),
                    "leave --pair away",
                )
            })?;
            paired.to_bytes()
        }
    };
    bantam_model::write::save(path, &bytes)
        .map_err(|error| error::cannot_write(path, &error.to_string()))
}

fn surprises(model: &Model, predicted: &[bool], actual: &[bool]) -> Vec<Surprise> {
    let Some(graph) = model.subgraphs.first() else {
        return Vec::new();
    };
    let place = |on_chip| if on_chip { "target" } else { "cpu" };
    let both = predicted.iter().zip(actual).enumerate();
    both.filter(|(_, (said, is))| said != is)
        .map(|(index, (&said, &is))| {
            let node = &graph.nodes[index];
            let output = node.outputs.first();
            Surprise {
                index,
                op: node.op.to_string(),
                tensor: output.map_or_else(String::new, |&id| graph[id].name.clone()),
                said: place(said),
                is: place(is),
            }
        })
        .collect()
}

impl Surprise {
    fn json(&self) -> Value {
        json!({
            "index": self.index,
            "is": self.is,
            "op": self.op,
            "said": self.said,
            "tensor": self.tensor,
        })
    }

    fn row(&self) -> [String; 5] {
        [
            self.index.to_string(),
            self.op.clone(),
            self.said.to_owned(),
            self.is.to_owned(),
            self.tensor.clone(),
        ]
    }
}

fn log_json(compiled: &Compiled) -> Value {
    let log = &compiled.log;
    let ops = log.ops.iter();
    let ops: Vec<Value> = ops
        .map(|l| json!({ "count": l.count, "op": l.op, "status": l.status }))
        .collect();
    let figures: serde_json::Map<String, Value> = log
        .figures
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({ "figures": figures, "ops": ops, "version": log.version })
}

fn log_text(compiled: &Compiled) -> String {
    let rows: Vec<[String; 3]> = compiled
        .log
        .ops
        .iter()
        .map(|l| [l.op.clone(), l.count.to_string(), l.status.clone()])
        .collect();
    match rows.is_empty() {
        true => String::new(),
        false => output::table(&["operator", "count", "status"], &rows),
    }
}
