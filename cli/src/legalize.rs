//! `bantam legalize`: rewrites a model so that a chip takes more of it.

use std::path::PathBuf;

use bantam_converter::legalize::{Allowance, InputShape, Options, legalize};
use serde_json::json;

use crate::args::Format;
use crate::error::{self, Failure};
use crate::{data, fit, output};

/// Rewrite what an accelerator refuses into what it takes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The .tflite model: an integer one, or a float one to be converted next
    model: PathBuf,
    /// Where the rewritten model goes
    #[arg(short, long, value_name = "OUT.tflite")]
    output: PathBuf,
    /// The accelerator, by name or by the path of its pack
    #[arg(short, long, value_name = "NAME|FILE.toml")]
    target: String,
    /// How many steps of an integer result may change, or `any`
    #[arg(long, value_name = "K|any", default_value = "0", value_parser = fit::allowance)]
    allow_inexact: Allowance,
    /// The shape of an input that may vary, by its name or in order; a batch is 1 unless it is said
    #[arg(long, value_name = "[NAME:]1x2x3", value_parser = fit::shape)]
    shape: Vec<InputShape>,
    /// Take integers in and give integers out, where QUANTIZE and DEQUANTIZE are all that is between
    #[arg(long)]
    integer_edges: bool,
    /// Write what was done to a JSON file as well
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let target = fit::target(&args.target)?;
    let model = data::open_model(&args.model)?;
    let options = Options {
        allow: args.allow_inexact,
        shapes: args.shape.clone(),
        integer_edges: args.integer_edges,
    };
    let before = fit::Fit::of(&model, &target);
    let (legal, report) = legalize(&model, &target, &options)
        .map_err(|error| error::legalize(&args.model, &error))?;
    let after = fit::Fit::of(&legal, &target);
    legal
        .save(&args.output)
        .map_err(|error| error::cannot_write(&args.output, &error.to_string()))?;
    let mut json = fit::report_json(&report, before, after);
    json["model"] = json!(args.model.display().to_string());
    json["output"] = json!(args.output.display().to_string());
    if let Some(path) = &args.report {
        let text = output::json_text("legalize", json.clone());
        bantam_model::write::save(path, text.as_bytes())
            .map_err(|error| error::cannot_write(path, &error.to_string()))?;
    }
    if report.judged_as_int8 {
        output::warn(
            "the model is of floats: judged as if it were int8; `convert --target` does this, converts, and rewrites \
             what is better rewritten in integers",
        );
    }
    output::warn(&fit::summary(&target, before, after));
    match args.format {
        Format::Json => output::print_json("legalize", json),
        Format::Text => output::print(&fit::report_text(&report)),
    }
}
