//! Float model in, quantized model that an accelerator accepts out.
//!
//! [`convert`] runs the float model on samples ([`calibrate()`]), gives every tensor a scale and
//! zero point ([`quantize()`]) and returns the integer model; [`compare()`] says what it cost.

#![forbid(unsafe_code)]

mod advice;
pub mod auto;
pub mod calibrate;
pub mod compare;
pub mod compiler;
pub mod detection;
pub mod equalize;
mod error;
pub mod legalize;
pub mod metric;
pub mod quantize;
pub mod recipe;
pub mod samples;
mod traps;
pub mod verify;

use bantam_model::Model;

pub use advice::Advice;
pub use calibrate::{Part, Shard, Source, Statistics, calibrate};
pub use compare::{Comparison, TensorError, compare, compare_entries, compare_subgraph};
pub use equalize::equalize;
pub use error::{ConvertError, KeptFloat};
pub use legalize::{LegalizeError, LegalizeReport, legalize};
pub use quantize::{Gain, Report, quantize};
pub use recipe::{CalibMethod, Granularity, IoType, Mode, Recipe, RecipeError, Scheme};
pub use traps::Watched;
pub use verify::{Verification, VerifyError, verify};

/// Converts `model` as `recipe` says; where that needs ranges they come from `samples`, run
/// `threads` at a time.
pub fn convert(
    model: &Model,
    samples: &(impl Source + ?Sized),
    recipe: &Recipe,
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Model, Report), ConvertError> {
    let (equalized, gains) = match recipe.equalize {
        true => equalize(model, recipe.subgraph),
        false => (model.clone(), Vec::new()),
    };
    let samples = Watched::new(samples);
    let statistics = match recipe.needs_samples() {
        true => calibrate(&equalized, &samples, recipe, threads, progress)?,
        false => Statistics::none(model),
    };
    let (converted, mut report) = quantize(&equalized, &statistics, recipe)?;
    report.gains.splice(..0, gains);
    report.warnings.extend(samples.warnings());
    Ok((converted, report))
}
