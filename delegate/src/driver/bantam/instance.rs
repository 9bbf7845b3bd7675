//! An opened instance: its handle, what it says of itself, and calls on it.

use std::ffi::CString;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bantam_driver_abi::raw;
use bantam_model::Model;
use bantam_model::target::{PartitionPolicy, Verdict, Which};

use super::api::{Api, optional};
use super::buffer::Aligned;
use super::collect::{self, Collector};
use super::{BantamExecutable, MODEL_ALIGNMENT, MOST_ITEMS, lock};
use crate::driver::{Device, DriverError};

/// How long a call waits for another one on the same instance. One that takes longer than that is taken for hung when a
/// partition is to be compiled, and a new instance is opened, which the interface allows to be used beside the old one.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the library said of an instance.
#[derive(Debug, Clone)]
pub(super) struct Info {
    pub target: Option<String>,
    pub is_parallel: bool,
    pub policy: PartitionPolicy,
    pub alignment: usize,
}

pub(super) struct Instance {
    raw: NonNull<raw::Instance>,
    pub api: Arc<Api>,
    pub info: Info,
    gate: Gate,
}

// SAFETY: the header lets functions of an instance be called from any thread, and `gate` keeps them from overlapping.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

/// Lets one call at a time through.
#[derive(Default)]
struct Gate {
    busy: Mutex<bool>,
    free: Condvar,
}

pub(super) struct Pass<'a>(&'a Gate);

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

impl Instance {
    pub fn open(api: &Arc<Api>, options: &[(String, String)]) -> Result<Arc<Self>, DriverError> {
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
    pub fn enter(&self) -> Result<Option<Pass<'_>>, DriverError> {
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

    pub fn devices(&self) -> Result<Vec<Device>, DriverError> {
        let _pass = self.enter()?;
        let mut devices = Collector::<Device>::new(MOST_ITEMS);
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

    pub fn supports(
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

    pub fn compile(
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
        // SAFETY: it has just come from this instance.
        Ok(unsafe { BantamExecutable::new(raw, Arc::clone(self), graph) })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: it came from `open`, is closed once, and executables keep the instance alive.
        unsafe { (self.api.close)(self.raw.as_ptr()) }
    }
}
