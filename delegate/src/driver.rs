//! What runs partitions: one [`Driver`] for each kind of vendor library.
//!
//! A driver says what it takes, compiles a partition, which it is given as a model of its own, and
//! the [`Executable`] runs it on the caller's buffers. It knows nothing of the graph around the
//! partition, of deadlines or of fallback: those are the session's.

#[allow(unsafe_code, reason = "calls functions of a vendor's library")]
pub mod bantam;
#[cfg(unix)]
#[allow(
    unsafe_code,
    reason = "maps memory that it shares with another process"
)]
pub mod child;
#[allow(
    unsafe_code,
    reason = "calls functions of a vendor's library, which call back"
)]
pub mod edgetpu;
mod gpu;
mod open;
#[allow(
    unsafe_code,
    reason = "calls functions of a vendor's library, which call back"
)]
pub mod tflite;

pub(crate) use open::can_isolate;
pub use open::{VIRTUAL_DRIVER, open, virtual_library};

use std::fmt;

use bantam_model::Model;
use bantam_model::target::{PartitionPolicy, Verdict};

/// One vendor library, loaded.
pub trait Driver: Send + Sync {
    /// Who it is.
    fn info(&self) -> DriverInfo;

    /// The devices that are there now, in a stable order.
    fn devices(&self) -> Result<Vec<Device>, DriverError>;

    /// Whether it takes each operator of `model`'s subgraph, in order.
    fn supports(&self, model: &Model, subgraph: usize) -> Result<Vec<Verdict>, DriverError>;

    /// How the operators that it takes become partitions.
    fn policy(&self) -> PartitionPolicy;

    /// Prepares `partition`, whose first subgraph has the partition's inputs and outputs, for the
    /// device `device`, or for the driver's choice. Called again after [`DriverError::DeviceLost`].
    fn compile(
        &self,
        partition: &Model,
        device: Option<&str>,
    ) -> Result<Box<dyn Executable>, DriverError>;
}

/// A partition that is ready to run on a device.
pub trait Executable: Send {
    /// Runs once. Each input and output has the bytes of its tensor in the partition, in this
    /// machine's byte order. After an error the outputs are unspecified.
    fn run(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DriverError>;

    /// Forgets what earlier runs left in the partition's variables: the next one starts as the first did.
    ///
    /// # Errors
    ///
    /// It cannot, and has to be compiled again for that.
    fn reset(&mut self) -> Result<(), DriverError> {
        Ok(())
    }

    /// What ends a call of [`Self::run`] from another thread, if the driver can do that.
    fn canceller(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        None
    }

    /// What the driver says that one run costs, by its own names and units, for reports.
    fn cost(&self) -> Vec<(String, f64)> {
        Vec::new()
    }
}

/// Who a driver is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverInfo {
    /// Its name, as it says it.
    pub name: String,
    /// Its version, as it says it.
    pub version: String,
    /// The chip that it is for, which may be the name of a target.
    pub target: Option<String>,
}

impl fmt::Display for DriverInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// A device that a driver has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What chooses it, such as `usb:0`; unique within the driver.
    pub id: String,
    /// What it is, for people.
    pub description: String,
}

/// Why a driver did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The library cannot be loaded.
    #[error("cannot load {path}: {cause}")]
    Load {
        /// What was tried.
        path: String,
        /// The loader's own text, or what is wrong with the library.
        cause: String,
    },
    /// There is no such driver, or not in this version.
    #[error("driver {spec} is not available: {cause}")]
    Unavailable {
        /// What was asked for.
        spec: String,
        /// Why.
        cause: String,
    },
    /// The library lacks a symbol.
    #[error("{path} has no symbol {symbol}")]
    Symbol {
        /// The library.
        path: String,
        /// The symbol.
        symbol: String,
    },
    /// The library was made for another version of the interface.
    #[error("the driver speaks version {theirs} of the interface and this is version {ours}")]
    Version {
        /// Its version.
        theirs: u32,
        /// This version.
        ours: u32,
    },
    /// An option of the driver cannot be used.
    #[error("driver option {option}: {cause}")]
    Option {
        /// The option, as given.
        option: String,
        /// Why.
        cause: String,
    },
    /// There is no such device.
    #[error("there is no device {wanted}; there is {present}")]
    NoDevice {
        /// What was asked for.
        wanted: String,
        /// What there is, for people.
        present: String,
    },
    /// The partition cannot be compiled.
    #[error("the driver refused the partition: {0}")]
    Refused(String),
    /// A call failed; the device may still be good.
    #[error("the driver failed: {0}")]
    Failed(String),
    /// The device is gone and has to be opened again.
    #[error("the device was lost: {0}")]
    DeviceLost(String),
    /// A run was ended by [`Executable::canceller`].
    #[error("the run was cancelled")]
    Cancelled,
    /// A call did not come back in time.
    #[error("the driver did not answer within {milliseconds} ms")]
    Deadline {
        /// The time that it had.
        milliseconds: u64,
    },
    /// The process that held the driver ended.
    #[error("the driver's process ended: {0}")]
    Died(String),
    /// What the driver gave cannot be right.
    #[error("the driver answered wrongly: {0}")]
    Garbage(String),
}

/// What the system's loader says: the error itself only names the function that failed.
fn loader_text(error: &libloading::Error) -> String {
    use std::error::Error;
    error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string)
}
