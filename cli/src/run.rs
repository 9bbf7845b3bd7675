//! `bantam run`: one run of a model on the user's tensors.

use std::path::{Path, PathBuf};

use bantam_converter::samples::{self, ElementType, InputSpec, Samples};
use bantam_delegate::Session;
use serde_json::json;

use crate::args::{Format, PreprocessArgs, SessionArgs};
use crate::error::{self, Failure};
use crate::{data, output, placement};

/// Run a model once and write its outputs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The .tflite model
    model: PathBuf,
    /// The inputs: .npy, .npz (an entry an input, by name or position), an image, or raw
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Where the outputs go, keyed by position: an .npz file
    #[arg(short, long, value_name = "OUT.npz")]
    output: PathBuf,
    /// Write real values where the model's outputs are quantized integers
    #[arg(long)]
    float: bool,
    /// Run the subgraph of this signature, not the first one; `bantam inspect` lists them
    #[arg(long, value_name = "KEY")]
    signature: Option<String>,
    /// What goes to standard output: nothing, or where the operators ran
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let model = data::open_model(&args.model)?;
    let mut options = args.session.options();
    options.subgraph = data::entry(&args.model, &model, args.signature.as_deref())?;
    if let Some(path) = &args.input {
        let inputs = data::model_inputs(&model, options.subgraph);
        options.input_shapes = shapes(path, &data::specs(&args.model, &inputs)?)?;
    }
    let mut session =
        Session::new(&model, &options).map_err(|error| error::session(&args.model, &error))?;
    feed(args, &mut session)?;
    let run = session.run();
    run.map_err(|error| error::run(&args.model, &error))?;
    write_outputs(args, &session)?;
    placement::say(&session);
    match args.format {
        Format::Text => Ok(()),
        Format::Json => output::print_json(
            "run",
            json!({
                "model": args.model.display().to_string(),
                "output": args.output.display().to_string(),
                "placement": session.report_json(),
            }),
        ),
    }
}

/// New shapes for the inputs whose arrays have the input's rank but other dimensions.
fn shapes(path: &Path, inputs: &[InputSpec]) -> Result<Vec<Option<Vec<usize>>>, Failure> {
    let shapes = samples::array_shapes(path, inputs).map_err(|error| error::samples(&error))?;
    let resized = shapes
        .into_iter()
        .zip(inputs)
        .map(|(shape, input)| shape.filter(|s| s.len() == input.shape.len() && *s != input.shape));
    Ok(resized.collect())
}

fn feed(args: &Args, session: &mut Session) -> Result<(), Failure> {
    if session.inputs().is_empty() {
        return Ok(());
    }
    let Some(path) = &args.input else {
        return Err(error::USAGE.failure(
            "--input is missing",
            format!(
                "{} has {} inputs",
                args.model.display(),
                session.inputs().len()
            ),
            "give an array for each, `--input x.npz`",
        ));
    };
    let specs = data::specs(&args.model, session.inputs())?;
    let preprocess = args.preprocess.preprocess();
    let opened =
        Samples::open_single(path, &specs, &preprocess).map_err(|error| error::samples(&error))?;
    if opened.len() != 1 {
        return Err(error::USAGE.failure(
            format!("{} holds {} samples", path.display(), opened.len()),
            "`bantam run` runs one",
            "give one of the files, or use `bantam evaluate`",
        ));
    }
    output::describe(&opened);
    let tensors = opened.get(0).map_err(|error| error::samples(&error))?;
    for (index, tensor) in tensors.iter().enumerate() {
        let set = session.set_input(index, tensor);
        set.map_err(|error| error::run(&args.model, &error))?;
    }
    Ok(())
}

fn write_outputs(args: &Args, session: &Session) -> Result<(), Failure> {
    let mut entries = Vec::new();
    for (index, info) in session.outputs().iter().enumerate() {
        let dtype = data::numpy_type(&args.model, &info.name, info.dtype)?;
        let bytes = session.output(index);
        let quantized = info
            .quantization
            .as_ref()
            .is_some_and(|q| q.per_tensor().is_ok());
        let (dtype, bytes) = if args.float && quantized && !dtype.is_float() {
            let reals = data::reals(info, dtype, bytes);
            (
                ElementType::F32,
                reals.iter().flat_map(|x| x.to_ne_bytes()).collect(),
            )
        } else {
            (dtype, bytes.to_vec())
        };
        entries.push((index.to_string(), info.shape.clone(), dtype, bytes));
    }
    samples::write_npz(&args.output, &entries).map_err(|error| error::samples(&error))
}
