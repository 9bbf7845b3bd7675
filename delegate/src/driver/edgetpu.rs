//! `edgetpu[:usb:N|:pci:N|:PATH][?key=value]`: models that edgetpu_compiler made, on a Coral Edge TPU, through the vendor's
//! `libedgetpu`.
//!
//! Each `edgetpu-custom-op` is a partition. The library's delegate is hosted by us ([`super::tflite`]), as it was compiled: the
//! one of 2020 crashes or fails in every TFLite of today. What would make the library abort is looked at before it is called.
//!
//! The library shares a device among the delegates on it, and a device that has failed stays as it is until all of them are
//! freed. So when one partition fails, the others on its device are closed as well, and each is compiled again when it is run.

mod library;
mod options;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bantam_model::edgetpu_package::{self, Package};
use bantam_model::target::{Measure, PartitionPolicy, Refusal, Verdict};
use bantam_model::{Model, Node, Op};

use self::library::{Attached, Bus, Library};
use self::options::EdgeTpuOptions;
use super::tflite::{Offered, Stride};
use super::{Device, Driver, DriverError, DriverInfo, Executable};
use crate::{DriverOptions, doctor};

pub use self::library::{LIBRARY, Version};
pub use crate::spec::EdgeTpuDevice;

/// The Edge TPU's library, and the device that partitions go to.
pub struct EdgeTpu {
    library: Arc<Library>,
    options: EdgeTpuOptions,
    device: EdgeTpuDevice,
    /// The distance of tensors that has worked, where it has to be found out.
    stride: OnceLock<Stride>,
    open: Arc<Open>,
}

/// What is compiled for the devices, by the devices' paths.
#[derive(Default)]
struct Open(Mutex<Vec<(String, Weak<Slot>)>>);

/// A partition; `None` once its device has failed.
type Slot = Mutex<Option<Offered>>;

/// A partition that is ready to run.
struct Compiled {
    slot: Arc<Slot>,
    path: String,
    library: Arc<Library>,
    open: Arc<Open>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EdgeTpu {
    /// Loads the library: the option `library`, else what the environment names in [`LIBRARY`], else the system's.
    ///
    /// # Safety
    ///
    /// The library is a `libedgetpu`: its initializers may run, and its functions have the types of `edgetpu_c.h`.
    ///
    /// # Errors
    ///
    /// There is none, it lacks functions, or an option makes no sense.
    pub unsafe fn load(
        device: &EdgeTpuDevice,
        options: &DriverOptions,
    ) -> Result<Self, DriverError> {
        let options = EdgeTpuOptions::read(options)?;
        // SAFETY: the caller vouches for the library.
        let library = unsafe { Library::load(options.library.as_deref()) }?;
        if let Some(verbosity) = options.verbosity {
            library.set_verbosity(verbosity);
        }
        Ok(Self {
            library: Arc::new(library),
            options,
            device: device.clone(),
            stride: OnceLock::new(),
            open: Arc::default(),
        })
    }

    /// The device that `wanted` names.
    fn choose(&self, wanted: &EdgeTpuDevice) -> Result<Attached, DriverError> {
        let devices = self.library.devices();
        let nth = |bus, number: u32| {
            let mut on_bus = devices.iter().filter(|device| device.bus == bus);
            on_bus.nth(number as usize)
        };
        let found = match wanted {
            EdgeTpuDevice::Any => devices.first(),
            EdgeTpuDevice::Usb(number) => nth(Bus::Usb, *number),
            EdgeTpuDevice::Pci(number) => nth(Bus::Pci, *number),
            EdgeTpuDevice::Path(path) => devices.iter().find(|device| device.path == *path),
        };
        found.cloned().ok_or_else(|| DriverError::NoDevice {
            wanted: match wanted {
                EdgeTpuDevice::Any => "Edge TPU".to_owned(),
                other => other.to_string(),
            },
            present: match devices.is_empty() {
                true => format!("none: {}", doctor::edge_tpu_trouble("/".as_ref(), None)),
                false => named(&devices)
                    .map(|(id, _)| id)
                    .collect::<Vec<_>>()
                    .join(", "),
            },
        })
    }

    /// A partition on `device`, prepared.
    fn prepare(
        &self,
        partition: &Model,
        device: &Attached,
        stride: Stride,
    ) -> Result<Offered, DriverError> {
        let instance = self.library.create(device, &self.options.pairs)?;
        let instance = instance.ok_or_else(|| {
            let path = Path::new(&device.path);
            let trouble = doctor::edge_tpu_trouble("/".as_ref(), Some(path));
            DriverError::Failed(format!("{} could not be opened: {trouble}", device.path))
        })?;
        let mut offered = Offered::new(instance, partition, 0, stride)?;
        offered.prepare()?;
        Ok(offered)
    }

    /// The first distance of tensors with which the library takes the partition. With a wrong one the type of the second
    /// tensor is part of an address, which is no type, and the library says so before it looks at anything else.
    fn prepare_any(&self, partition: &Model, device: &Attached) -> Result<Offered, DriverError> {
        let known = self.options.stride.or(self.stride.get().copied());
        let version = self.library.version();
        let strides = match known {
            Some(stride) => vec![stride],
            None => version.strides().to_vec(),
        };
        let mut first = None;
        for stride in strides {
            match self.prepare(partition, device, stride) {
                Ok(offered) => {
                    // Another thread has found the same.
                    let _ = self.stride.set(stride);
                    return Ok(offered);
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| DriverError::Refused("there is nothing to try".to_owned())))
    }

    /// Whether the library takes `node`.
    fn verdict(&self, node: &Node) -> Verdict {
        let refused = |rule: &str, reason: String, versions: Option<(i32, i32)>| {
            Verdict::Unsupported(Box::new(Refusal {
                rule: rule.to_owned(),
                reason,
                measured: versions.map(|(needed, _)| Measure::Number(needed.into())),
                limit: versions.map(|(_, present)| Measure::Number(present.into())),
                evidence: None,
                is_inferred: false,
            }))
        };
        let options = match &node.op {
            Op::Custom(custom) if custom.name == edgetpu_package::OPERATOR => &custom.options,
            _ => {
                let reason =
                    "it is not compiled for the Edge TPU; `bantam compile` runs its compiler";
                return refused("not-compiled", reason.to_owned(), None);
            }
        };
        let package = match Package::read(options) {
            Ok(package) => package,
            Err(error) => return refused("package", error.to_string(), None),
        };
        // Runtimes before 14 do not know that the chip writes variables. Source: libedgetpu, api/runtime_version.h.
        let outputs = package
            .main()
            .map(|main| &main.outputs[..])
            .unwrap_or_default();
        let has_state = outputs.iter().any(|o| o.name.ends_with("_variable_output"));
        let needed = match has_state {
            true => package.min_runtime_version.max(14),
            false => package.min_runtime_version,
        };
        match self.library.version().runtime {
            Some(present) if needed > present => refused(
                "runtime-version",
                format!("it needs runtime {needed}, and the library is runtime {present}"),
                Some((needed, present)),
            ),
            _ => Verdict::Supported,
        }
    }
}

/// The devices with what chooses each: `usb:0`, `usb:1`, `pci:0`.
fn named(devices: &[Attached]) -> impl Iterator<Item = (String, &Attached)> {
    let (mut usb, mut pci) = (0.., 0..);
    devices.iter().map(move |device| {
        let (bus, number) = match device.bus {
            Bus::Usb => ("usb", usb.next()),
            Bus::Pci => ("pci", pci.next()),
        };
        (format!("{bus}:{}", number.unwrap_or(0)), device)
    })
}

impl Driver for EdgeTpu {
    fn info(&self) -> DriverInfo {
        DriverInfo {
            name: "libedgetpu".to_owned(),
            version: self.library.version().to_string(),
            target: Some("edgetpu".to_owned()),
        }
    }

    fn devices(&self) -> Result<Vec<Device>, DriverError> {
        let seen = doctor::scan("/".as_ref());
        let devices = self.library.devices();
        let device = |(id, device): (String, &Attached)| {
            let seen = seen.iter().find(|found| found.id == device.path);
            let what = seen.map_or("Edge TPU", |found| &found.description);
            Device {
                id,
                description: format!("{what}, {}", device.path),
            }
        };
        Ok(named(&devices).map(device).collect())
    }

    fn supports(&self, model: &Model, subgraph: usize) -> Result<Vec<Verdict>, DriverError> {
        let subgraph = model
            .subgraphs
            .get(subgraph)
            .ok_or_else(|| DriverError::Refused(format!("there is no subgraph {subgraph}")))?;
        Ok(subgraph.nodes.iter().map(|n| self.verdict(n)).collect())
    }

    fn policy(&self) -> PartitionPolicy {
        PartitionPolicy::default()
    }

    fn compile(
        &self,
        partition: &Model,
        device: Option<&str>,
    ) -> Result<Box<dyn Executable>, DriverError> {
        for verdict in self.supports(partition, 0)? {
            if let Verdict::Unsupported(refusal) = verdict {
                return Err(DriverError::Refused(refusal.reason));
            }
        }
        let wanted = match device {
            None => self.device.clone(),
            Some(text) => text.parse().map_err(|_| DriverError::NoDevice {
                wanted: text.to_owned(),
                present: "usb:N, pci:N or a path".to_owned(),
            })?,
        };
        let device = self.choose(&wanted)?;
        let offered = self.prepare_any(partition, &device)?;
        let slot = Arc::new(Mutex::new(Some(offered)));
        self.open.add(&device.path, &slot);
        Ok(Box::new(Compiled {
            slot,
            path: device.path,
            library: Arc::clone(&self.library),
            open: Arc::clone(&self.open),
        }))
    }
}

impl Open {
    fn add(&self, path: &str, slot: &Arc<Slot>) {
        let mut open = lock(&self.0);
        open.retain(|(_, slot)| slot.strong_count() > 0);
        open.push((path.to_owned(), Arc::downgrade(slot)));
    }

    /// Closes what is on the device at `path`, but for what runs at this moment.
    fn close(&self, path: &str) {
        let mut open = lock(&self.0);
        open.retain(|(at, slot)| {
            if at == path
                && let Some(slot) = slot.upgrade()
                && let Ok(mut slot) = slot.try_lock()
            {
                *slot = None;
            }
            at != path
        });
    }
}

impl Executable for Compiled {
    fn run(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DriverError> {
        let mut slot = lock(&self.slot);
        let Some(offered) = &mut *slot else {
            let message = "it was closed when another partition on it failed";
            return Err(DriverError::DeviceLost(format!("{}: {message}", self.path)));
        };
        let Err(error) = offered.run(inputs, outputs) else {
            return Ok(());
        };
        *slot = None;
        drop(slot);
        self.open.close(&self.path);
        let is_there = |device: &Attached| device.path == self.path;
        match self.library.devices().iter().any(is_there) {
            true => Err(error),
            false => Err(DriverError::DeviceLost(format!("{}: {error}", self.path))),
        }
    }

    fn reset(&mut self) -> Result<(), DriverError> {
        match &mut *lock(&self.slot) {
            Some(offered) => offered.reset(),
            // It will be compiled again, and then starts as the first time.
            None => Ok(()),
        }
    }
}
