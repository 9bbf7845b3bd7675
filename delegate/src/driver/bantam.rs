//! A vendor's library behind `bantam_driver.h`, loaded at run time or linked in; the calls go through its table either way.
//!
//! Nothing that a library answers is trusted: counts, texts, structure sizes and handles are checked, and what cannot be right is
//! [`DriverError::Garbage`]. A library is never unloaded.

mod api;
mod buffer;
mod collect;
mod executable;
mod instance;
pub(crate) mod probe;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bantam_driver_abi::raw;
use bantam_model::Model;
use bantam_model::target::{PartitionPolicy, Verdict};

use self::api::Api;
use self::buffer::Aligned;
pub use self::executable::{BantamExecutable, Submission};
use self::instance::Instance;
use super::{Device, Driver, DriverError, DriverInfo, Executable};

/// What a driver may at most list.
const MOST_ITEMS: usize = 4096;
/// The alignment that the header promises for a model.
const MODEL_ALIGNMENT: usize = 16;

/// A driver behind `bantam_driver.h`, opened.
pub struct BantamDriver {
    api: Arc<Api>,
    options: Vec<(String, String)>,
    device: Option<String>,
    current: Mutex<Arc<Instance>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BantamDriver {
    /// Loads the library at `path`, or finds it by the system's search if it is a bare name, and opens it with `options`.
    ///
    /// # Safety
    ///
    /// Loading runs the library's initialisers: `path` must name a library that keeps the contract of `bantam_driver.h`.
    pub unsafe fn load(path: &Path, options: &[(String, String)]) -> Result<Self, DriverError> {
        // SAFETY: passed on to the caller.
        Self::open(unsafe { Api::load(path) }?, options)
    }

    /// The same for a driver that is linked into this process; `path` is for messages.
    ///
    /// # Safety
    ///
    /// `entry` keeps the contract of `bantam_driver.h`.
    pub unsafe fn linked(
        entry: raw::GetFn,
        path: &str,
        options: &[(String, String)],
    ) -> Result<Self, DriverError> {
        // SAFETY: passed on to the caller.
        Self::open(unsafe { Api::from_entry(entry, path.to_owned()) }?, options)
    }

    fn open(api: Api, options: &[(String, String)]) -> Result<Self, DriverError> {
        let api = Arc::new(api);
        Ok(Self {
            current: Mutex::new(Instance::open(&api, options)?),
            api,
            options: options.to_vec(),
            device: None,
        })
    }

    /// The same, compiling for this device where the caller does not say another.
    pub(crate) fn on(self, device: Option<String>) -> Self {
        Self { device, ..self }
    }

    /// Whether calls on different executables may overlap.
    pub fn is_parallel(&self) -> bool {
        self.instance().info.is_parallel
    }

    /// The alignment of buffers that it works on without a copy.
    pub fn alignment(&self) -> usize {
        self.instance().info.alignment
    }

    fn instance(&self) -> Arc<Instance> {
        Arc::clone(&lock(&self.current))
    }

    /// The same as [`Driver::compile`], with what the interface has beyond that trait.
    pub fn compile_here(
        &self,
        partition: &Model,
        device: Option<&str>,
    ) -> Result<BantamExecutable, DriverError> {
        let device = device.or(self.device.as_deref());
        match self.instance().compile(partition, device) {
            Err(DriverError::Deadline { .. }) => {
                let fresh = Instance::open(&self.api, &self.options)?;
                *lock(&self.current) = Arc::clone(&fresh);
                fresh.compile(partition, device)
            }
            done => done,
        }
    }
}

impl Driver for BantamDriver {
    fn info(&self) -> DriverInfo {
        DriverInfo {
            name: self.api.name.clone(),
            version: self.api.version.clone(),
            target: self.instance().info.target.clone(),
        }
    }

    fn devices(&self) -> Result<Vec<Device>, DriverError> {
        self.instance().devices()
    }

    fn supports(&self, model: &Model, subgraph: usize) -> Result<Vec<Verdict>, DriverError> {
        let bytes = model.to_bytes();
        let bytes = Aligned::of(&bytes, MODEL_ALIGNMENT);
        self.instance().supports(model, &bytes, subgraph)
    }

    fn policy(&self) -> PartitionPolicy {
        self.instance().info.policy
    }

    fn compile(
        &self,
        partition: &Model,
        device: Option<&str>,
    ) -> Result<Box<dyn Executable>, DriverError> {
        Ok(Box::new(self.compile_here(partition, device)?))
    }
}
