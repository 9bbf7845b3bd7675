//! How a session shall run its model, and why there may be none.

use bantam_model::cpu::RunError;
use bantam_model::tensor::Shape;
use bantam_model::{Numerics, ReadError};

use super::{Check, Deadline, Placement};
use crate::DriverSpec;
use crate::driver::DriverError;
use crate::steer::Steering;

/// How a session shall run its model.
#[derive(Debug, Clone)]
pub struct Options {
    /// What takes partitions of the model.
    pub driver: DriverSpec,
    /// How partitions are chosen, and what happens when the driver fails.
    pub offload: OffloadOptions,
    /// Which integer arithmetic the CPU path follows.
    pub numerics: Numerics,
    /// The largest number of threads, at least 1.
    pub threads: usize,
    /// New shapes for the model's inputs, in order; `None` keeps the file's.
    pub input_shapes: Vec<Option<Shape>>,
    /// The subgraph to run; signatures name others than the first.
    pub subgraph: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            driver: DriverSpec::default(),
            offload: OffloadOptions::default(),
            numerics: Numerics::default(),
            threads: 1,
            input_shapes: Vec::new(),
            subgraph: 0,
        }
    }
}

/// How partitions are chosen, and what happens when the driver fails.
#[derive(Debug, Clone)]
pub struct OffloadOptions {
    /// The devices, by the names that the driver gives them; partitions go to one after the other.
    /// Empty for the driver's choice.
    pub devices: Vec<String>,
    /// Which operators the user wants on the driver.
    pub steering: Steering,
    /// How long a call may take. Without one, the driver is called on the session's own memory, and
    /// a call that does not come back hangs the session.
    pub deadline: Option<Deadline>,
    /// After as many runs in succession that the driver failed, a partition moves to the CPU path
    /// for good; at least 1.
    pub retire_after: u32,
    /// Which of the driver's results are compared with those of the CPU path.
    pub check: Check,
    /// Plan the CPU path of each partition when the session is made, and not when it is needed:
    /// the first failure costs less time, and each partition more memory.
    pub plans_twins: bool,
    /// Where there is a deadline, run other operators while the driver works.
    pub overlaps: bool,
    /// Fail where an operator would run on the CPU path, when the session is made or in a run.
    pub requires_full_delegation: bool,
}

impl Default for OffloadOptions {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            steering: Steering::default(),
            deadline: None,
            retire_after: 3,
            check: Check::default(),
            plans_twins: false,
            overlaps: true,
            requires_full_delegation: false,
        }
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The file is not a model.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The model cannot be planned, or the data does not fit it.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The driver cannot be had, or does not take what it must.
    #[error("driver {driver}")]
    Driver {
        /// The driver, as the user wrote it or as it calls itself.
        driver: String,
        /// Why.
        #[source]
        source: DriverError,
    },
    /// An operator was made for a driver, and this is not it.
    #[error("operator {op} runs on {needed} alone, and the driver is {driver}")]
    NeedsDriver {
        /// The operator's name.
        op: String,
        /// What runs it, for people.
        needed: String,
        /// What was asked for.
        driver: String,
    },
    /// Some operators would run on the CPU path, where none may.
    #[error("{0}")]
    NotDelegated(Box<Placement>),
}
