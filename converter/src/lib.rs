//! Float model in, quantized model that an accelerator accepts out.
//!
//! [`convert`] runs the float model on samples ([`calibrate()`]), chooses how ranges come from what
//! was seen ([`settle()`]), gives every tensor a scale and zero point ([`quantize()`]), lets weights
//! and biases make up for the error ([`tune()`]) and returns the integer model; [`compare()`] says
//! what it cost.

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
mod probe;
pub mod quantize;
pub mod recipe;
mod refine;
pub mod samples;
mod settle;
mod traps;
pub mod verify;

use bantam_model::Model;

pub use advice::Advice;
pub use calibrate::{Part, Shard, Source, Statistics, calibrate};
pub use compare::{Comparison, TensorError, compare, compare_entries, compare_subgraph};
pub use equalize::equalize;
pub use error::{ConvertError, KeptFloat};
pub use legalize::{LegalizeError, LegalizeReport, legalize};
pub use quantize::{Gain, Report, Total, quantize};
pub use recipe::{
    CalibMethod, Granularity, IoType, Mode, Recipe, RecipeError, Scheme, WeightClipping,
};
pub use refine::tune;
pub use settle::settle;
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
    let (converted, mut report) = if recipe.needs_samples() {
        let statistics = calibrate(&equalized, &samples, recipe, threads, progress)?;
        let (recipe, totals) =
            settle(&equalized, &statistics, recipe, &samples, threads, progress)?;
        let (converted, mut report) = tune(
            &equalized,
            &statistics,
            &recipe,
            &samples,
            threads,
            progress,
        )?;
        report.totals.splice(..0, totals);
        (converted, report)
    } else {
        quantize(&equalized, &Statistics::none(model), recipe)?
    };
    report.gains.splice(..0, gains);
    report.warnings.extend(samples.warnings());
    Ok((converted, report))
}
