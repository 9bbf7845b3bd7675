//! Float model in, quantized model that an accelerator accepts out.
//!
//! [`calibrate()`] runs the float model on samples and collects ranges; [`compare()`] says how far
//! two models are apart.

#![forbid(unsafe_code)]

pub mod calibrate;
pub mod compare;
mod error;
pub mod metric;
pub mod recipe;
pub mod samples;

pub use calibrate::{Range, Ranges, Source, calibrate};
pub use compare::{Comparison, TensorError, compare};
pub use error::{ConvertError, KeptFloat};
pub use recipe::{IoType, Mode, Recipe};
