//! A vendor's library behind `bantam_driver.h`, loaded at run time or linked in; the calls go through its table either way.
//!
//! Nothing that a library answers is trusted: counts, texts, structure sizes and handles are checked, and what cannot be right is
//! [`DriverError::Garbage`]. A library is never unloaded.

mod buffer;
mod collect;

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bantam_driver_abi::raw;
use bantam_model::Model;
use bantam_model::target::{PartitionPolicy, Verdict, Which};
use libloading::Library;

use self::buffer::Aligned;
use self::collect::Collector;
use super::{Device, Driver, DriverError, DriverInfo, Executable};

/// How long a call waits for another one on the same instance. One that takes longer than that is taken for hung when a
/// partition is to be compiled, and a new instance is opened, which the interface allows to be used beside the old one.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a submission that is given up may take to end.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// What a driver may at most list.
const MOST_DEVICES: usize = 4096;
/// The alignment that the header promises for a model.
const MODEL_ALIGNMENT: usize = 16;

/// A driver behind `bantam_driver.h`, opened.
pub struct BantamDriver {
    api: Arc<Api>,
    options: Vec<(String, String)>,
    current: Mutex<Arc<Instance>>,
}

/// A partition that it has compiled.
pub struct BantamExecutable {
    handle: Handle,
    instance: Arc<Instance>,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    /// Where a buffer of the caller is not aligned as the driver asks, by its place among inputs and outputs.
    bounce: Vec<Aligned>,
}

/// A run that has been started and goes on by itself.
pub struct Submission {
    executable: ManuallyDrop<BantamExecutable>,
    buffers: ManuallyDrop<Vec<Aligned>>,
    result: Option<Result<(), DriverError>>,
}

/// The library's functions, all there before any is called.
#[derive(Clone)]
pub(crate) struct Api {
    pub path: String,
    pub name: String,
    pub version: String,
    pub open: raw::OpenFn,
    pub close: raw::CloseFn,
    pub error_free: raw::ErrorFreeFn,
    pub info: raw::InfoFn,
    pub devices: raw::DevicesFn,
    pub supports: raw::SupportsFn,
    pub compile: raw::CompileFn,
    pub executable_free: raw::ExecutableFn,
    pub run: raw::RunFn,
    pub submit: Option<(raw::RunFn, raw::WaitFn)>,
    pub cancel: Option<raw::ExecutableFn>,
    pub cost: Option<raw::CostFn>,
}

/// What the library said of an instance.
#[derive(Debug, Clone)]
struct Info {
    target: Option<String>,
    is_parallel: bool,
    policy: PartitionPolicy,
    alignment: usize,
}

struct Instance {
    raw: NonNull<raw::Instance>,
    api: Arc<Api>,
    info: Info,
    gate: Gate,
}

// SAFETY: the header lets functions of an instance be called from any thread, and `gate` keeps them from overlapping.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

/// An executable's handle, freed on drop. `Instance` outlives it.
struct Handle(Arc<Shared>);

/// What a canceller shares with the executable: the handle for as long as it is there.
struct Shared {
    raw: NonNull<raw::Executable>,
    /// Whether the handle is still good; held during `cancel`, so that it is not freed meanwhile.
    alive: Mutex<bool>,
    cancel: Option<raw::ExecutableFn>,
}

// SAFETY: the header lets an executable be used from any thread; `run` needs it exclusively, and `cancel` may come at any time.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Lets one call at a time through.
#[derive(Default)]
struct Gate {
    busy: Mutex<bool>,
    free: Condvar,
}

struct Pass<'a>(&'a Gate);

impl Gate {
    fn pass(&self, patience: Duration) -> Option<Pass<'_>> {
        let (mut busy, _) = self
            .free
            .wait_timeout_while(lock(&self.busy), patience, |busy| *busy)
            .unwrap_or_else(PoisonError::into_inner);
        (!std::mem::replace(&mut *busy, true)).then_some(Pass(self))
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        *lock(&self.0.busy) = false;
        self.0.free.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Api {
    /// Loads the library at `path`, or finds it by the system's search if it is a bare name.
    ///
    /// # Safety
    ///
    /// Loading runs the library's initialisers: `path` must name a library for `bantam_driver.h`, or none.
    pub unsafe fn load(path: &Path) -> Result<Self, DriverError> {
        let name = path.display().to_string();
        // SAFETY: the caller vouches for the library's initialisers.
        let library = unsafe { Library::new(path) }.map_err(|error| DriverError::Load {
            path: name.clone(),
            cause: chain(&error),
        })?;
        // Never unloaded: it may have threads of its own, and the table is used for ever.
        let library = ManuallyDrop::new(library);
        // SAFETY: the header declares the symbol with this type.
        let entry = unsafe { library.get::<raw::GetFn>(c"bantam_driver_get") };
        let entry = *entry.map_err(|_| DriverError::Symbol {
            path: name.clone(),
            symbol: "bantam_driver_get".to_owned(),
        })?;
        // SAFETY: the caller vouches that the library keeps the header's contract.
        unsafe { Self::from_entry(entry, name) }
    }

    /// The functions behind an entry point; `path` is for messages.
    ///
    /// # Safety
    ///
    /// `entry` does what the header says of `bantam_driver_get`.
    pub unsafe fn from_entry(entry: raw::GetFn, path: String) -> Result<Self, DriverError> {
        let wrong = |cause: String| DriverError::Load {
            path: path.clone(),
            cause,
        };
        let (mut theirs, mut table) = (0, ptr::null());
        // SAFETY: both are valid for a write.
        let status = unsafe { entry(raw::VERSION, &mut theirs, &mut table) };
        match status {
            raw::OK => {}
            raw::VERSION_MISMATCH if theirs != raw::VERSION => {
                let ours = raw::VERSION;
                return Err(DriverError::Version { theirs, ours });
            }
            status => return Err(wrong(format!("bantam_driver_get returned {status}"))),
        }
        if theirs != raw::VERSION {
            return Err(wrong(format!(
                "bantam_driver_get agreed to version {} and then named {theirs}",
                raw::VERSION
            )));
        }
        if table.is_null() {
            return Err(wrong("bantam_driver_get gave no table".to_owned()));
        }
        // SAFETY: not NULL, so the first member is there.
        let size = unsafe { (&raw const (*table).size).read() };
        if size < size_of::<raw::Driver>() {
            return Err(wrong(format!(
                "its table has {size} bytes, fewer than the {} of version {}",
                size_of::<raw::Driver>(),
                raw::VERSION
            )));
        }
        // SAFETY: it is large enough, by its own word, and never changes.
        let table = unsafe { table.read() };
        let text = |pointer, what: &str| {
            // SAFETY: the header says that a text of the table is NUL-terminated and valid for ever.
            unsafe { required(pointer) }.map_err(|cause| wrong(format!("its {what} {cause}")))
        };
        let missing: Vec<&str> = [
            ("open", table.open.is_none()),
            ("close", table.close.is_none()),
            ("error_free", table.error_free.is_none()),
            ("info", table.info.is_none()),
            ("devices", table.devices.is_none()),
            ("supports", table.supports.is_none()),
            ("compile", table.compile.is_none()),
            ("executable_free", table.executable_free.is_none()),
            ("run", table.run.is_none()),
            ("submit", table.submit.is_none() && table.wait.is_some()),
            ("wait", table.wait.is_none() && table.submit.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_missing)| is_missing.then_some(name))
        .collect();
        let (
            Some(open),
            Some(close),
            Some(error_free),
            Some(info),
            Some(devices),
            Some(supports),
            Some(compile),
            Some(executable_free),
            Some(run),
            true,
        ) = (
            table.open,
            table.close,
            table.error_free,
            table.info,
            table.devices,
            table.supports,
            table.compile,
            table.executable_free,
            table.run,
            missing.is_empty(),
        )
        else {
            return Err(wrong(format!("its table lacks {}", missing.join(", "))));
        };
        Ok(Self {
            name: text(table.name, "name")?,
            version: text(table.version, "version")?,
            path,
            open,
            close,
            error_free,
            info,
            devices,
            supports,
            compile,
            executable_free,
            run,
            submit: table.submit.zip(table.wait),
            cancel: table.cancel,
            cost: table.cost,
        })
    }

    /// The text of an error, which is freed.
    ///
    /// # Safety
    ///
    /// `error` is NULL, or a text that a function of this library has just set.
    pub unsafe fn take_error(&self, error: *mut c_char) -> Option<String> {
        if error.is_null() {
            return None;
        }
        // SAFETY: the caller vouches for it.
        let text = unsafe { CStr::from_ptr(error) }
            .to_string_lossy()
            .into_owned();
        // SAFETY: the text is the library's, and is given back once.
        unsafe { (self.error_free)(error) };
        Some(text)
    }

    /// What became of a call: `status` and `error` as it left them.
    ///
    /// # Safety
    ///
    /// As for [`Self::take_error`].
    unsafe fn result(
        &self,
        call: &str,
        status: raw::Status,
        error: *mut c_char,
    ) -> Result<(), DriverError> {
        // SAFETY: passed on to the caller.
        let text = unsafe { self.take_error(error) };
        let text = text.unwrap_or_else(|| format!("{call} gave no reason"));
        Err(match status {
            raw::OK => return Ok(()),
            raw::FAILED => DriverError::Failed(text),
            raw::REFUSED => DriverError::Refused(text),
            raw::NO_DEVICE => DriverError::NoDevice {
                wanted: "for the driver".to_owned(),
                present: text,
            },
            raw::DEVICE_LOST => DriverError::DeviceLost(text),
            raw::BAD_OPTION => DriverError::Option {
                option: "of the driver".to_owned(),
                cause: text,
            },
            raw::CANCELLED => DriverError::Cancelled,
            raw::INVALID => DriverError::Failed(format!("{call} was called wrongly: {text}")),
            other => DriverError::Garbage(format!("{call} returned the status {other}")),
        })
    }
}

/// The messages of `error` and of what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// A text that must be there; the error completes `its name ...`.
///
/// # Safety
///
/// `pointer` is NULL or a NUL-terminated text.
unsafe fn required(pointer: *const c_char) -> Result<String, String> {
    // SAFETY: passed on to the caller.
    match unsafe { optional(pointer) }? {
        Some(text) if text.is_empty() => Err("is empty".to_owned()),
        Some(text) => Ok(text),
        None => Err("is NULL".to_owned()),
    }
}

/// A text that may be there.
///
/// # Safety
///
/// `pointer` is NULL or a NUL-terminated text.
unsafe fn optional(pointer: *const c_char) -> Result<Option<String>, String> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller vouches for it.
    let text = unsafe { CStr::from_ptr(pointer) };
    match text.to_str() {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err("is not UTF-8".to_owned()),
    }
}

impl Instance {
    fn open(api: &Arc<Api>, options: &[(String, String)]) -> Result<Arc<Self>, DriverError> {
        let written = |(key, value): &(String, String)| format!("{key}={value}");
        let mut texts = Vec::new();
        for pair in options {
            let c = |text: &str| {
                CString::new(text).map_err(|_| DriverError::Option {
                    option: written(pair),
                    cause: "it holds a NUL".to_owned(),
                })
            };
            texts.push((c(&pair.0)?, c(&pair.1)?));
        }
        let pairs: Vec<raw::DriverOption> = texts
            .iter()
            .map(|(key, value)| raw::DriverOption {
                key: key.as_ptr(),
                value: value.as_ptr(),
            })
            .collect();
        let (mut handle, mut error) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the array is as long as said, its texts live, and both places are valid for a write.
        let status = unsafe { (api.open)(pairs.as_ptr(), pairs.len(), &mut handle, &mut error) };
        // SAFETY: `open` has just set `error`, or left it NULL.
        unsafe { api.result("open", status, error) }.map_err(|error| match error {
            DriverError::Option { cause, .. } => DriverError::Option {
                option: options.iter().map(written).collect::<Vec<_>>().join(", "),
                cause,
            },
            error => error,
        })?;
        let raw = NonNull::new(handle)
            .ok_or_else(|| DriverError::Garbage("open gave no instance".to_owned()))?;
        let mut instance = Self {
            raw,
            api: Arc::clone(api),
            info: Info {
                target: None,
                is_parallel: false,
                policy: PartitionPolicy::default(),
                alignment: 1,
            },
            gate: Gate::default(),
        };
        instance.info = instance.ask_info()?;
        Ok(Arc::new(instance))
    }

    fn ask_info(&self) -> Result<Info, DriverError> {
        let mut info = raw::Info {
            size: size_of::<raw::Info>(),
            target: ptr::null(),
            flags: 0,
            partitions: 0,
            min_ops: 1,
            alignment: 1,
        };
        let mut error = ptr::null_mut();
        // SAFETY: the instance is open, and both places are valid for a write.
        let status = unsafe { (self.api.info)(self.raw.as_ptr(), &mut info, &mut error) };
        // SAFETY: `info` has just set `error`, or left it NULL.
        unsafe { self.api.result("info", status, error) }?;
        let wrong = |what: String| DriverError::Garbage(format!("info gave {what}"));
        if !info.alignment.is_power_of_two() || info.alignment > raw::MAX_ALIGNMENT {
            return Err(wrong(format!("the alignment {}", info.alignment)));
        }
        let which = match info.partitions {
            raw::ALL_PARTITIONS => Which::All,
            raw::FIRST_PARTITION => Which::First,
            other => return Err(wrong(format!("the choice {other} of partitions"))),
        };
        // SAFETY: the header says that it is NULL or a text that is valid until `close`.
        let target = unsafe { optional(info.target) };
        Ok(Info {
            target: target.map_err(|cause| wrong(format!("a target that {cause}")))?,
            is_parallel: info.flags & raw::PARALLEL != 0,
            policy: PartitionPolicy {
                which,
                min_ops: info.min_ops.max(1) as usize,
            },
            alignment: info.alignment as usize,
        })
    }

    /// Lets a call through, alone unless the driver allows several.
    fn enter(&self) -> Result<Option<Pass<'_>>, DriverError> {
        if self.info.is_parallel {
            return Ok(None);
        }
        match self.gate.pass(PATIENCE) {
            Some(pass) => Ok(Some(pass)),
            None => Err(DriverError::Deadline {
                milliseconds: PATIENCE.as_millis() as u64,
            }),
        }
    }

    fn devices(&self) -> Result<Vec<Device>, DriverError> {
        let _pass = self.enter()?;
        let mut devices = Collector::<Device>::new(MOST_DEVICES);
        let mut error = ptr::null_mut();
        // SAFETY: the instance is open; the callback takes the collector, which outlives the call.
        let status = unsafe {
            (self.api.devices)(
                self.raw.as_ptr(),
                Some(collect::on_device),
                devices.user(),
                &mut error,
            )
        };
        // SAFETY: `devices` has just set `error`, or left it NULL.
        unsafe { self.api.result("devices", status, error) }?;
        let devices = devices.finish("devices")?;
        for (index, device) in devices.iter().enumerate() {
            if devices[..index].iter().any(|other| other.id == device.id) {
                let id = &device.id;
                return Err(DriverError::Garbage(format!("devices lists {id} twice")));
            }
        }
        Ok(devices)
    }

    fn supports(
        &self,
        model: &Model,
        bytes: &[u8],
        subgraph: usize,
    ) -> Result<Vec<Verdict>, DriverError> {
        let number = u32::try_from(subgraph).ok();
        let (Some(number), Some(graph)) = (number, model.subgraphs.get(subgraph)) else {
            return Err(DriverError::Refused(format!("no subgraph {subgraph}")));
        };
        let _pass = self.enter()?;
        let ops = graph.nodes.len();
        let mut found = Collector::<(u32, Verdict)>::new(ops);
        let mut error = ptr::null_mut();
        // SAFETY: the instance is open; the model is as long as said; the callback takes the collector, which outlives the call.
        let status = unsafe {
            (self.api.supports)(
                self.raw.as_ptr(),
                bytes.as_ptr().cast(),
                bytes.len(),
                number,
                Some(collect::on_verdict),
                found.user(),
                &mut error,
            )
        };
        // SAFETY: `supports` has just set `error`, or left it NULL.
        unsafe { self.api.result("supports", status, error) }?;
        let mut verdicts = vec![None; ops];
        let garbage = |what: String| DriverError::Garbage(format!("supports gave {what}"));
        for (op, verdict) in found.finish("supports")? {
            let place = verdicts.get_mut(op as usize);
            let place = place.ok_or_else(|| garbage(format!("operator {op} of {ops}")))?;
            if place.replace(verdict).is_some() {
                return Err(garbage(format!("two verdicts for operator {op}")));
            }
        }
        let missing = |op| garbage(format!("no verdict for operator {op} of {ops}"));
        let verdicts = verdicts.into_iter().enumerate();
        verdicts
            .map(|(op, verdict): (_, Option<Verdict>)| verdict.ok_or_else(|| missing(op)))
            .collect()
    }

    fn compile(
        self: &Arc<Self>,
        partition: &Model,
        device: Option<&str>,
    ) -> Result<BantamExecutable, DriverError> {
        let Some(graph) = partition.subgraphs.first() else {
            return Err(DriverError::Refused("it has no subgraph".to_owned()));
        };
        let bytes = partition.to_bytes();
        let bytes = Aligned::of(&bytes, MODEL_ALIGNMENT);
        let id = device.map(CString::new).transpose();
        let no_device = |present: String| DriverError::NoDevice {
            wanted: device.unwrap_or("of any kind").to_owned(),
            present,
        };
        let id = id.map_err(|_| no_device("none with a NUL in its name".to_owned()))?;
        let pass = self.enter()?;
        let (mut handle, mut error) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the instance is open; the texts and bytes live, and both places are valid for a write.
        let status = unsafe {
            (self.api.compile)(
                self.raw.as_ptr(),
                id.as_ref().map_or(ptr::null(), |id| id.as_ptr()),
                bytes.as_ptr().cast(),
                bytes.len(),
                &mut handle,
                &mut error,
            )
        };
        drop(pass);
        // SAFETY: `compile` has just set `error`, or left it NULL.
        unsafe { self.api.result("compile", status, error) }.map_err(|error| match error {
            DriverError::NoDevice { present, .. } => no_device(present),
            error => error,
        })?;
        let raw = NonNull::new(handle)
            .ok_or_else(|| DriverError::Garbage("compile gave no executable".to_owned()))?;
        let sizes = |ids: &[bantam_model::TensorId]| {
            ids.iter()
                .map(|&id| graph[id].dtype.byte_len(&graph[id].shape).unwrap_or(0))
                .collect()
        };
        Ok(BantamExecutable {
            handle: Handle(Arc::new(Shared {
                raw,
                alive: Mutex::new(true),
                cancel: self.api.cancel,
            })),
            instance: Arc::clone(self),
            inputs: sizes(&graph.inputs),
            outputs: sizes(&graph.outputs),
            bounce: Vec::new(),
        })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: it came from `open`, is closed once, and executables keep the instance alive.
        unsafe { (self.api.close)(self.raw.as_ptr()) }
    }
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
        })
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

impl BantamExecutable {
    fn check(&self, inputs: &[usize], outputs: &[usize]) -> Result<(), DriverError> {
        if inputs == self.inputs && outputs == self.outputs {
            return Ok(());
        }
        Err(DriverError::Failed(format!(
            "buffers of {inputs:?} and {outputs:?} bytes where the partition has {:?} and {:?}",
            self.inputs, self.outputs
        )))
    }

    /// Starts a run that goes on by itself, if the driver can do that: else the executable comes back with `None`.
    pub fn submit(self, inputs: &[&[u8]]) -> Result<Submission, (Box<Self>, Option<DriverError>)> {
        let Some((submit, _)) = self.instance.api.submit else {
            return Err((Box::new(self), None));
        };
        let lens: Vec<usize> = inputs.iter().map(|i| i.len()).collect();
        if let Err(error) = self.check(&lens, &self.outputs) {
            return Err((Box::new(self), Some(error)));
        }
        let alignment = self.instance.info.alignment;
        let mut buffers: Vec<Aligned> = inputs
            .iter()
            .map(|bytes| Aligned::copy(bytes, alignment))
            .collect();
        buffers.extend(
            self.outputs
                .iter()
                .map(|&len| Aligned::zeroed(len, alignment)),
        );
        let (front, back) = buffers.split_at_mut(inputs.len());
        let inputs: Vec<raw::Input> = front.iter().map(|i| input(i)).collect();
        let outputs: Vec<raw::Output> = back.iter_mut().map(|o| output(o)).collect();
        let result = self.instance.enter().and_then(|_pass| {
            let mut error = ptr::null_mut();
            // SAFETY: the executable is not running, for it is owned here; the buffers are of the sizes that it has, and live on
            // in the submission.
            let status = unsafe {
                submit(
                    self.handle.0.raw.as_ptr(),
                    inputs.as_ptr(),
                    inputs.len(),
                    outputs.as_ptr(),
                    outputs.len(),
                    &mut error,
                )
            };
            // SAFETY: `submit` has just set `error`, or left it NULL.
            unsafe { self.instance.api.result("submit", status, error) }
        });
        match result {
            Err(error) => Err((Box::new(self), Some(error))),
            Ok(()) => Ok(Submission {
                executable: ManuallyDrop::new(self),
                buffers: ManuallyDrop::new(buffers),
                result: None,
            }),
        }
    }

    /// Runs once on buffers of the right sizes.
    fn call(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DriverError> {
        let alignment = self.instance.info.alignment;
        let is_aligned = |bytes: &[u8]| bytes.as_ptr().addr().is_multiple_of(alignment);
        self.bounce.clear();
        let mut places = Vec::new();
        for bytes in inputs.iter().filter(|bytes| !is_aligned(bytes)) {
            self.bounce.push(Aligned::copy(bytes, alignment));
        }
        for (index, bytes) in outputs.iter().enumerate() {
            if !is_aligned(bytes) {
                places.push(index);
                self.bounce.push(Aligned::zeroed(bytes.len(), alignment));
            }
        }
        let bounced = self.bounce.len() - places.len();
        let (front, back) = self.bounce.split_at_mut(bounced);
        let mut front = front.iter();
        let raw_inputs: Vec<raw::Input> = inputs
            .iter()
            .map(|bytes| match is_aligned(bytes) {
                true => input(bytes),
                false => input(front.next().map_or(*bytes, |b| b)),
            })
            .collect();
        let mut places_back = back.iter_mut();
        let raw_outputs: Vec<raw::Output> = outputs
            .iter_mut()
            .map(|bytes| match is_aligned(bytes) {
                true => output(bytes),
                false => match places_back.next() {
                    Some(bounce) => output(bounce),
                    None => output(bytes),
                },
            })
            .collect();
        let _pass = self.instance.enter()?;
        let mut error = ptr::null_mut();
        // SAFETY: `&mut self` keeps a second run away; the buffers are of the sizes that the partition has, aligned as the driver
        // asks, live until this returns and, being `&mut` or our own, overlap nothing.
        let status = unsafe {
            (self.instance.api.run)(
                self.handle.0.raw.as_ptr(),
                raw_inputs.as_ptr(),
                raw_inputs.len(),
                raw_outputs.as_ptr(),
                raw_outputs.len(),
                &mut error,
            )
        };
        // SAFETY: `run` has just set `error`, or left it NULL.
        unsafe { self.instance.api.result("run", status, error) }?;
        for (bounce, index) in self.bounce[bounced..].iter().zip(places) {
            outputs[index].copy_from_slice(bounce);
        }
        Ok(())
    }
}

fn input(bytes: &[u8]) -> raw::Input {
    raw::Input {
        data: bytes.as_ptr().cast(),
        size: bytes.len(),
    }
}

fn output(bytes: &mut [u8]) -> raw::Output {
    raw::Output {
        data: bytes.as_mut_ptr().cast(),
        size: bytes.len(),
    }
}

impl Executable for BantamExecutable {
    fn run(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DriverError> {
        let input_lens: Vec<usize> = inputs.iter().map(|i| i.len()).collect();
        let output_lens: Vec<usize> = outputs.iter().map(|o| o.len()).collect();
        self.check(&input_lens, &output_lens)?;
        self.call(inputs, outputs)
    }

    fn canceller(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        let shared = Arc::clone(&self.handle.0);
        shared.cancel.is_some().then(|| {
            let cancel = move || shared.cancel();
            Box::new(cancel) as Box<dyn Fn() + Send + Sync>
        })
    }

    fn cost(&self) -> Vec<(String, f64)> {
        self.try_cost().unwrap_or_default()
    }
}

impl BantamExecutable {
    /// What [`Executable::cost`] says, or why it says nothing.
    pub fn try_cost(&self) -> Result<Vec<(String, f64)>, DriverError> {
        let Some(cost) = self.instance.api.cost else {
            return Ok(Vec::new());
        };
        let _pass = self.instance.enter()?;
        let mut costs = Collector::<(String, f64)>::new(MOST_DEVICES);
        let mut error = ptr::null_mut();
        // SAFETY: the executable is not running, for `run` needs it exclusively; the collector outlives the call.
        let status = unsafe {
            cost(
                self.handle.0.raw.as_ptr(),
                Some(collect::on_cost),
                costs.user(),
                &mut error,
            )
        };
        // SAFETY: `cost` has just set `error`, or left it NULL.
        unsafe { self.instance.api.result("cost", status, error) }?;
        costs.finish("cost")
    }
}

impl Shared {
    fn cancel(&self) {
        let alive = lock(&self.alive);
        if let (true, Some(cancel)) = (*alive, self.cancel) {
            // SAFETY: the handle is not freed while `alive` is held, and `cancel` may come from any thread.
            unsafe { cancel(self.raw.as_ptr()) }
        }
    }
}

impl Drop for BantamExecutable {
    fn drop(&mut self) {
        *lock(&self.handle.0.alive) = false;
        // A call that hangs on this instance must not overlap another one: then the executable is left to it.
        if let Ok(_pass) = self.instance.enter() {
            // SAFETY: it came from `compile`, nothing runs it, and no canceller uses it from now on.
            unsafe { (self.instance.api.executable_free)(self.handle.0.raw.as_ptr()) }
        }
    }
}

impl Submission {
    /// Waits for the run to end, at most for `time`: its result, or `None` if it goes on.
    pub fn wait(&mut self, time: Duration) -> Option<Result<(), DriverError>> {
        if let Some(result) = &self.result {
            return Some(result.clone());
        }
        let instance = &self.executable.instance;
        let (_, wait) = instance.api.submit?;
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // In slices, for other calls on the instance may have to get through.
            let slice = left.min(Duration::from_millis(20)).as_millis() as u32;
            let result = match instance.enter() {
                Err(error) => Err(error),
                Ok(_pass) => {
                    let mut error: *mut c_char = ptr::null_mut();
                    let handle: *mut c_void = self.executable.handle.0.raw.as_ptr();
                    // SAFETY: the executable is alive, and `&mut self` keeps a second `wait` away.
                    let status = unsafe { wait(handle, slice, &mut error) };
                    if status == raw::PENDING && !left.is_zero() {
                        continue;
                    }
                    if status == raw::PENDING {
                        return None;
                    }
                    // SAFETY: `wait` has just set `error`, or left it NULL.
                    unsafe { instance.api.result("wait", status, error) }
                }
            };
            self.result = Some(result.clone());
            return Some(result);
        }
    }

    /// Asks the driver to end the run.
    pub fn cancel(&self) {
        self.executable.handle.0.cancel();
    }

    /// The outputs of a run that has ended well.
    pub fn outputs(&self) -> Option<Vec<&[u8]>> {
        let done = matches!(self.result, Some(Ok(())));
        let outputs = &self.buffers[self.executable.inputs.len()..];
        done.then(|| outputs.iter().map(|o| &**o).collect())
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        if self.result.is_none() {
            self.cancel();
            self.wait(LAST_WAIT);
        }
        // A run that does not end keeps its buffers and its executable for ever.
        if self.result.is_some() {
            // SAFETY: neither is used again.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
            // SAFETY: as above.
            unsafe { ManuallyDrop::drop(&mut self.executable) };
        }
    }
}
