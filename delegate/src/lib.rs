//! Loads a model, chooses where each operator runs, and runs it.
//!
//! In this version every operator runs on the CPU path of [`bantam_model::cpu`]; a driver other
//! than `cpu` is an error, not a silent fallback.

#![deny(unsafe_code)]

pub mod driver;
mod session;

pub use driver::{Driver, DriverError, Executable};
pub use session::{DriverSpec, Options, Placement, Session, SessionError, TensorInfo};
