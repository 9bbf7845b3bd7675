//! Float model in, quantized model that an accelerator accepts out.
//!
//! [`convert`] runs the float model on samples ([`calibrate()`]), gives every tensor a scale and
//! zero point ([`quantize()`]) and returns the integer model; [`compare()`] says what it cost.

#![forbid(unsafe_code)]

pub mod calibrate;
pub mod compare;
mod error;
pub mod metric;
pub mod quantize;
pub mod recipe;
pub mod samples;

use bantam_model::Model;

pub use calibrate::{Range, Ranges, Source, SubgraphRanges, calibrate, calibrate_subgraph};
pub use compare::{Comparison, TensorError, compare};
pub use error::{ConvertError, KeptFloat};
pub use quantize::{Report, quantize};
pub use recipe::{IoType, Mode, Recipe};

/// Converts `model` as `recipe` says; modes that need ranges take them from `samples`, run
/// `threads` at a time.
pub fn convert(
    model: &Model,
    samples: &(impl Source + ?Sized),
    recipe: &Recipe,
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Model, Report), ConvertError> {
    match recipe.mode {
        Mode::Float => Ok((model.clone(), Report::default())),
        Mode::Int8 | Mode::Int8Only => {
            let entry = recipe.subgraph;
            let ranges = calibrate_subgraph(model, entry, samples, threads, progress)?;
            quantize(model, &ranges, recipe)
        }
    }
}
