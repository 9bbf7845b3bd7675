//! Loads a model, chooses where each operator runs, and runs it.
//!
//! In this version every operator runs on the CPU path of [`bantam_model::cpu`]; a driver other
//! than `cpu` is an error, not a silent fallback.

#![forbid(unsafe_code)]

pub mod check;
pub mod driver;
pub mod partition;
mod session;
mod spec;

pub use driver::{Driver, DriverError, Executable};
pub use partition::{Partition, extract, partition};
pub use session::{Options, Placement, Session, SessionError, TensorInfo};
pub use spec::{DriverOptions, DriverSpec, EdgeTpuDevice, Library, SpecError};
