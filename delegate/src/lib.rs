//! Loads a model, chooses where each operator runs, and runs it.
//!
//! A [`Session`] asks a [`Driver`] what it takes, cuts that into [partitions](partition()), has them
//! compiled, and runs the rest on the CPU path of [`bantam_model::cpu`]. What a driver fails to do
//! the CPU path does, and that is counted and reported.

#![deny(unsafe_code)]

pub mod check;
pub mod conformance;
pub mod doctor;
pub mod driver;
pub mod partition;
mod session;
mod spec;
mod steer;

pub use driver::{Driver, DriverError, Executable};
pub use partition::{Cost, Economy, Partition, extract, partition};
pub use session::{
    Action, Check, Counters, Deadline, Event, OffloadError, OffloadOptions, OpPlacement, Options,
    PartitionPlacement, Placed, Placement, Report, Session, SessionError, TensorInfo, Timed,
};
pub use spec::{DriverOptions, DriverSpec, EdgeTpuDevice, Library, SpecError};
pub use steer::{Selector, SelectorError, Steering};
