//! `bantam compare`: how far two models are apart, output by output and tensor by tensor.

use std::path::PathBuf;

use bantam_converter::TensorError;
use bantam_converter::samples::Samples;
use serde_json::{Value, json};

use crate::args::{Format, NumericsArg, PreprocessArgs};
use crate::error::{self, Failure};
use crate::{data, output};

/// Measure how far a model's tensors are from another's
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model to compare with, such as the float one
    reference: PathBuf,
    /// The model to judge, such as the quantized one
    model: PathBuf,
    /// The samples: .npy, .npz, a folder, a list or a raw file
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Compare the subgraph of this signature in both, not the first one; `bantam inspect` lists them
    #[arg(long, value_name = "KEY")]
    signature: Option<String>,
    /// Use the first N samples
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Integer arithmetic of the CPU path, exact to the bit either way
    #[arg(long, value_enum, default_value_t)]
    numerics: NumericsArg,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let reference = data::open_model(&args.reference)?;
    let model = data::open_model(&args.model)?;
    let key = args.signature.as_deref();
    let entries = (
        data::entry(&args.reference, &reference, key)?,
        data::entry(&args.model, &model, key)?,
    );
    let specs = data::specs(&args.reference, &data::model_inputs(&reference, entries.0))?;
    let samples = Samples::open(
        &args.data,
        &specs,
        &args.preprocess.preprocess(),
        args.limit,
    )
    .map_err(|error| error::samples(&error))?;
    output::describe(&samples);
    let bar = output::progress("compare");
    let comparison = bantam_converter::compare_entries(
        (&reference, entries.0),
        (&model, entries.1),
        &samples,
        args.numerics.into(),
        &output::steps(&bar),
    );
    bar.finish_and_clear();
    let comparison = comparison.map_err(|error| error::convert(&args.model, &error))?;
    if comparison.left_out > 0 {
        output::warn(&format!(
            "warning: {} results in loops and branches are not compared: the models do not take the same rounds, or they are too many",
            comparison.left_out
        ));
    }
    match args.format {
        Format::Json => {
            let list = |errors: &[TensorError]| errors.iter().map(report).collect::<Vec<_>>();
            output::print_json(
                "compare",
                json!({
                    "data": samples.describe(),
                    "left_out": comparison.left_out,
                    "model": args.model.display().to_string(),
                    "outputs": list(&comparison.outputs),
                    "reference": args.reference.display().to_string(),
                    "samples": samples.len(),
                    "tensors": list(&comparison.tensors),
                }),
            )
        }
        Format::Text => output::print(&format!(
            "outputs\n{}\ntensors, worst first\n{}{}",
            table(&comparison.outputs, entries.0),
            table(&comparison.tensors, entries.0),
            advice(&comparison.tensors)
        )),
    }
}

/// An error for JSON.
pub fn report(error: &TensorError) -> Value {
    let ends = |(low, high): (f64, f64)| json!([output::number(low), output::number(high)]);
    json!({
        "advice": error.advice().map(|advice| advice.to_string()),
        "clipped": output::number(error.clipped),
        "cosine": output::number(error.cosine),
        "covered": error.covered.map(ends),
        "max_abs": output::number(error.max_abs),
        "mse": output::number(error.mse),
        "name": error.name,
        "operator": error.node,
        "range": ends(error.range),
        "sqnr_db": output::number(error.sqnr_db),
        "subgraph": error.subgraph,
    })
}

/// What to try for the worst tensors that stand out.
fn advice(errors: &[TensorError]) -> String {
    const MOST: usize = 5;
    let lines = errors.iter().filter_map(|error| {
        let advice = error.advice()?;
        Some(format!("  {}: {advice}\n", error.name))
    });
    let lines: String = lines.take(MOST).collect();
    match lines.as_str() {
        "" => lines,
        _ => format!("\nwhat to try\n{lines}"),
    }
}

fn table(errors: &[TensorError], entry: usize) -> String {
    let name = |error: &TensorError| match error.subgraph {
        number if number == entry => error.name.clone(),
        number => format!("{} of subgraph {number}", error.name),
    };
    let rows: Vec<[String; 7]> = errors
        .iter()
        .map(|e| {
            [
                format!("{:.2}", e.sqnr_db),
                format!("{:.6}", e.cosine),
                format!("{:.3e}", e.max_abs),
                format!("{:.3e}", e.mse),
                format!("{:.4}", e.range.0),
                format!("{:.4}", e.range.1),
                name(e),
            ]
        })
        .collect();
    output::table(
        &[
            "sqnr dB", "cosine", "max abs", "mse", "smallest", "largest", "tensor",
        ],
        &rows,
    )
}
