//! The accelerator itself.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bantam_driver_abi::{Device, Error, Executable, Info, Kind, Vendor, Verdict};
use bantam_model::cpu::{self, Staged};
use bantam_model::target::{self, Target, Which};
use bantam_model::{Bytes, Model, Numerics};

use crate::cost::Cost;
use crate::fault::{self, Call, Faults};

const DEFAULT_CHIP: &str = "edgetpu";
const MOST_DEVICES: usize = 64;

/// One opened accelerator.
pub struct Virtual {
    chip: Target,
    alignment: u32,
    devices: Vec<Arc<Board>>,
    faults: Arc<Faults>,
}

/// A device: how often it was lost, which makes earlier executables useless.
#[derive(Default)]
struct Board {
    losses: AtomicU64,
}

/// A partition on a device.
pub struct Run {
    stages: Mutex<Staged>,
    cost: Cost,
    board: Arc<Board>,
    losses: u64,
    faults: Arc<Faults>,
    cancelled: Mutex<Cancel>,
    changed: Condvar,
}

/// Whether a run is going on, and whether it was cancelled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cancel {
    Idle,
    Running,
    Cancelled,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bad_option(key: &str, value: &str, cause: &str) -> Error {
    Error::new(Kind::BadOption, format!("{key}={value}: {cause}"))
}

/// A number from an option.
fn number<T: std::str::FromStr>(
    key: &str,
    value: &str,
    is_good: impl Fn(&T) -> bool,
    wanted: &str,
) -> Result<T, Error> {
    let number = value.parse().ok().filter(is_good);
    number.ok_or_else(|| bad_option(key, value, &format!("it is not {wanted}")))
}

fn forever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

impl Faults {
    /// Does what goes wrong in this call, but for what the caller has to do: garbage, a lost device, a run that hangs.
    fn suffer(&self, call: Call) -> Result<Option<fault::Kind>, Error> {
        match self.next(call) {
            Some(fault::Kind::Fail) => Err(Error::new(Kind::Failed, "a fault was asked for")),
            Some(fault::Kind::Delay) => {
                thread::sleep(self.delay());
                Ok(None)
            }
            Some(fault::Kind::Hang) if call != Call::Run => forever(),
            Some(fault::Kind::Stuck) => forever(),
            Some(fault::Kind::Die) => std::process::abort(),
            other => Ok(other),
        }
    }
}

impl Virtual {
    /// The bytes of weights that stay on the chip.
    fn cache(&self) -> u64 {
        self.chip.memory().map_or(0, |memory| memory.cache_bytes)
    }
}

impl Vendor for Virtual {
    type Executable = Run;
    const NAME: &'static CStr = c"Bantam virtual accelerator";
    const VERSION: &'static CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"unknown",
        };

    fn open(options: &[(&str, &str)]) -> Result<Self, Error> {
        let (mut chip, mut devices, mut alignment) = (DEFAULT_CHIP, 1, 1);
        let mut faults = Faults::default();
        for &(key, value) in options {
            match key {
                "chip" => chip = value,
                "devices" => {
                    let wanted = format!("a number up to {MOST_DEVICES}");
                    devices = number(key, value, |&n| n <= MOST_DEVICES, &wanted)?;
                }
                "alignment" => {
                    let is_good = |n: &u32| n.is_power_of_two() && *n <= 4096;
                    alignment = number(key, value, is_good, "a power of two up to 4096")?;
                }
                _ => match faults.set(key, value) {
                    Some(set) => set.map_err(|cause| bad_option(key, value, &cause))?,
                    None => return Err(bad_option(key, value, "there is no such option")),
                },
            }
        }
        faults
            .check()
            .map_err(|cause| Error::new(Kind::BadOption, cause))?;
        let chip = Target::open(chip).map_err(|error| bad_option("chip", chip, &chain(&error)))?;
        faults.suffer(Call::Open)?;
        Ok(Self {
            chip,
            alignment,
            devices: (0..devices).map(|_| Arc::default()).collect(),
            faults: Arc::new(faults),
        })
    }

    fn info(&self) -> Info {
        let policy = self.chip.policy();
        Info {
            target: Some(self.chip.name().to_owned()),
            parallel: true,
            first_partition_only: policy.which == Which::First,
            min_ops: policy.min_ops.try_into().unwrap_or(u32::MAX),
            alignment: self.alignment,
        }
    }

    fn devices(&self) -> Result<Vec<Device>, Error> {
        let device = |index| Device {
            id: format!("virtual:{index}"),
            description: format!("virtual {}", self.chip.name()),
        };
        let mut devices: Vec<Device> = (0..self.devices.len()).map(device).collect();
        if self.faults.suffer(Call::Devices)?.is_some() {
            devices.extend([device(0), device(0)]);
        }
        Ok(devices)
    }

    fn supports(&self, model: &[u8], subgraph: u32) -> Result<Vec<Verdict>, Error> {
        let model = read(model)?;
        let subgraph = subgraph as usize;
        if subgraph >= model.subgraphs.len() {
            return Err(Error::new(Kind::Invalid, "there is no such subgraph"));
        }
        let verdicts = self.chip.verdicts(&model, subgraph);
        let mut verdicts: Vec<Verdict> = verdicts.into_iter().map(verdict).collect();
        if self.faults.suffer(Call::Supports)?.is_some() {
            verdicts.pop();
        }
        Ok(verdicts)
    }

    fn compile(&self, device: Option<&str>, model: &[u8]) -> Result<Run, Error> {
        let no_device = || {
            let known: Vec<String> = (0..self.devices.len())
                .map(|index| format!("virtual:{index}"))
                .collect();
            let known = match known.is_empty() {
                true => "none".to_owned(),
                false => known.join(", "),
            };
            Error::new(Kind::NoDevice, known)
        };
        let index = match device {
            None => Some(0),
            Some(id) => id.strip_prefix("virtual:").and_then(|n| n.parse().ok()),
        };
        let board = index.and_then(|index: usize| self.devices.get(index));
        let board = Arc::clone(board.ok_or_else(no_device)?);
        let model = read(model)?;
        if self.faults.suffer(Call::Compile)?.is_some() {
            board.losses.fetch_add(1, Ordering::Relaxed);
            return Err(Error::new(Kind::DeviceLost, "a fault was asked for"));
        }
        let Some(subgraph) = model.subgraphs.first() else {
            return Err(Error::new(Kind::Refused, "there is no subgraph"));
        };
        let verdicts = self.chip.verdicts(&model, 0);
        for (index, (verdict, node)) in verdicts.iter().zip(&subgraph.nodes).enumerate() {
            let reason = match verdict {
                target::Verdict::Supported => continue,
                target::Verdict::Unsupported(refusal) => &refusal.reason,
                target::Verdict::Unknown(what) => what,
            };
            let message = format!("operator {index} ({}): {reason}", node.op);
            return Err(Error::new(Kind::Refused, message));
        }
        let options = cpu::Options {
            numerics: Numerics::Reference,
            ..cpu::Options::default()
        };
        let stages = Staged::new(&model, &options).map_err(|error| refused(&error))?;
        Ok(Run {
            stages: Mutex::new(stages),
            cost: Cost::of(&model, self.cache()),
            losses: board.losses.load(Ordering::Relaxed),
            board,
            faults: Arc::clone(&self.faults),
            cancelled: Mutex::new(Cancel::Idle),
            changed: Condvar::new(),
        })
    }
}

fn read(model: &[u8]) -> Result<Model, Error> {
    Model::read(Bytes::from(model.to_vec())).map_err(|error| refused(&error))
}

/// The messages of `error` and of what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn refused(error: &dyn std::error::Error) -> Error {
    Error::new(Kind::Refused, chain(error))
}

fn verdict(verdict: target::Verdict) -> Verdict {
    match verdict {
        target::Verdict::Supported => Verdict::Supported,
        target::Verdict::Unknown(what) => Verdict::Unknown(what),
        target::Verdict::Unsupported(refusal) => Verdict::Unsupported {
            rule: refusal.rule,
            reason: refusal.reason,
            measured: refusal.measured.map(|m| m.to_string()),
            limit: refusal.limit.map(|m| m.to_string()),
        },
    }
}

impl Run {
    fn compute(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), Error> {
        let mut stages = lock(&self.stages);
        let plan = stages.plan();
        if (plan.inputs().len(), plan.outputs().len()) != (inputs.len(), outputs.len()) {
            let message = format!(
                "{} inputs and {} outputs, not {} and {}",
                inputs.len(),
                outputs.len(),
                plan.inputs().len(),
                plan.outputs().len()
            );
            return Err(Error::new(Kind::Invalid, message));
        }
        for (index, bytes) in inputs.iter().enumerate() {
            let set = stages.set_input(index, bytes);
            set.map_err(|error| Error::new(Kind::Invalid, error))?;
        }
        stages
            .run()
            .map_err(|error| Error::new(Kind::Failed, error))?;
        for (index, place) in outputs.iter_mut().enumerate() {
            let bytes = stages.output(index).map_or(&[][..], |(_, bytes)| bytes);
            if bytes.len() != place.len() {
                let message = format!(
                    "output {index} has {} bytes, not {}",
                    bytes.len(),
                    place.len()
                );
                return Err(Error::new(Kind::Invalid, message));
            }
            place.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn attempt(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), Error> {
        let lost = || Error::new(Kind::DeviceLost, "the virtual device is gone");
        if self.board.losses.load(Ordering::Relaxed) != self.losses {
            return Err(lost());
        }
        match self.faults.suffer(Call::Run)? {
            Some(fault::Kind::Lost) => {
                self.board.losses.fetch_add(1, Ordering::Relaxed);
                Err(lost())
            }
            Some(fault::Kind::Garbage) => {
                self.compute(inputs, outputs)?;
                outputs.iter_mut().for_each(|o| self.faults.scribble(o));
                Ok(())
            }
            Some(fault::Kind::Hang) => {
                let running = |state: &mut Cancel| *state == Cancel::Running;
                drop(self.changed.wait_while(lock(&self.cancelled), running));
                Err(Error::new(Kind::Cancelled, "the run was cancelled"))
            }
            _ => self.compute(inputs, outputs),
        }
    }
}

impl Executable for Run {
    fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), Error> {
        *lock(&self.cancelled) = Cancel::Running;
        let result = self.attempt(inputs, outputs);
        *lock(&self.cancelled) = Cancel::Idle;
        result
    }

    fn cancel(&self) {
        let mut state = lock(&self.cancelled);
        if *state == Cancel::Running {
            *state = Cancel::Cancelled;
        }
        self.changed.notify_all();
    }

    fn cost(&self) -> Vec<(String, f64)> {
        match self.faults.suffer(Call::Cost) {
            Ok(None) => self.cost.figures(),
            Ok(Some(_)) => vec![("macs".to_owned(), f64::NAN)],
            Err(_) => Vec::new(),
        }
    }
}
