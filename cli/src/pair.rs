//! `bantam pair`: a compiled model and the one it was made from, in one file.

use std::path::PathBuf;

use bantam_model::Model;

use crate::error::{self, Failure};
use crate::{data, output};

/// Put the original into a compiled model's file, to run where the accelerator is not there
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model that the accelerator's compiler made
    compiled: PathBuf,
    /// The model that it was made from; without it, what the compiled model carries is taken out
    original: Option<PathBuf>,
    /// Where the pair goes, or what is taken out
    #[arg(short, long, value_name = "OUT.tflite")]
    output: PathBuf,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let compiled = data::open_model(&args.compiled)?;
    let cannot_write = |why: std::io::Error| error::cannot_write(&args.output, &why.to_string());
    let Some(path) = &args.original else {
        let twin = compiled.twin();
        let twin = twin.map_err(|error| error::read(&args.compiled, &error))?;
        let twin = twin.ok_or_else(|| {
            error::PAIR.failure(
                format!("{} carries no original", args.compiled.display()),
                "its metadata has no bantam.cpu_twin",
                "give the original as well, and it becomes a pair",
            )
        })?;
        return twin.save(&args.output).map_err(cannot_write);
    };
    let bytes = data::read_model(path)?;
    let original = Model::read(bytes.clone()).map_err(|error| error::read(path, &error))?;
    let pair = compiled.with_twin(&original, bytes).map_err(|error| {
        error::PAIR.failure(
            format!(
                "{} was not made from {}",
                args.compiled.display(),
                path.display()
            ),
            error.to_string(),
            "take the very model that was given to the compiler",
        )
    })?;
    pair.save(&args.output).map_err(cannot_write)?;
    output::warn(&format!(
        "{}: carries {}",
        args.output.display(),
        path.display()
    ));
    Ok(())
}
