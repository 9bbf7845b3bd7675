//! A driver in a process of its own, so that a library that aborts, hangs or overwrites memory costs one call and not the caller.
//!
//! The process is `bantam driver-host`, with a socket as its standard input: requests and answers are short frames of JSON
//! (`wire`), models and tensors lie in memory that both processes map. A process that does not answer in time is killed, and the
//! next partition that is compiled starts a new one; executables of the old one say [`DriverError::DeviceLost`]. Calls go one
//! after the other.

mod host;
mod shared;
mod wire;

use std::env;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bantam_model::Model;
use bantam_model::target::{PartitionPolicy, Verdict};

pub use self::host::{HostError, serve};
use self::shared::{Layout, Segment};
use self::wire::{Answer, Frames, Opened, Request};
use super::open::HostOptions;
use super::{Device, Driver, DriverError, DriverInfo, Executable};
use crate::DriverSpec;

/// The path of the `bantam` command that holds drivers, where it is not this one.
pub const HELPER: &str = "BANTAM_HELPER";
/// The hidden verb of the `bantam` command that holds a driver.
pub const VERB: &str = "driver-host";

/// How often a wait looks whether it is over.
const SLICE: Duration = Duration::from_millis(20);
/// How long a process may take to end by itself, once it is told to or a run is cancelled.
const GRACE: Duration = Duration::from_secs(1);

/// A driver in a process of its own.
pub struct ChildDriver {
    spec: DriverSpec,
    host: HostOptions,
    opened: Opened,
    process: Arc<Mutex<Slot>>,
}

/// A partition that it has compiled.
struct ChildExecutable {
    process: Arc<Mutex<Slot>>,
    number: u64,
    executable: u64,
    layout: Layout,
    memory: Segment,
    deadline: Duration,
    control: Arc<Control>,
}

/// The process, if there is one, and how many there have been.
#[derive(Default)]
struct Slot {
    number: u64,
    process: Option<Process>,
}

struct Process {
    child: Child,
    stream: UnixStream,
    frames: Frames,
    control: Arc<Control>,
}

/// What reaches the process while a call is going on.
struct Control {
    writer: Mutex<UnixStream>,
    /// When the call that is going on was cancelled.
    cancelled: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The command that holds drivers: what the environment names, else this executable if it is `bantam`, else the one next to it or
/// in the path.
pub fn helper() -> Result<PathBuf, DriverError> {
    if let Some(path) = env::var_os(HELPER).filter(|path| !path.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    let executable = env::current_exe().ok();
    if let Some(path) = executable.as_ref().filter(|path| is_bantam(path)) {
        return Ok(path.clone());
    }
    let name = format!("bantam{}", env::consts::EXE_SUFFIX);
    let beside = executable.as_deref().and_then(Path::parent);
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = beside
        .map(Path::to_owned)
        .into_iter()
        .chain(env::split_paths(&path));
    folders
        .find_map(|folder| Some(folder.join(&name)).filter(|path| path.is_file()))
        .ok_or_else(|| DriverError::Load {
            path: name,
            cause: format!("it holds isolated drivers, and is neither in {HELPER} nor in the path"),
        })
}

fn is_bantam(path: &Path) -> bool {
    path.file_stem().is_some_and(|name| name == "bantam")
}

impl Process {
    fn start(helper: &Path) -> Result<Self, DriverError> {
        let failed = |error: io::Error| DriverError::Load {
            path: helper.display().to_string(),
            cause: error.to_string(),
        };
        let (stream, theirs) = UnixStream::pair().map_err(failed)?;
        let writer = stream.try_clone().map_err(failed)?;
        stream.set_read_timeout(Some(SLICE)).map_err(failed)?;
        // What a library prints must not get between our results.
        let output = io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
        let child = Command::new(helper)
            .arg(VERB)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(output))
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            child,
            stream,
            frames: Frames::default(),
            control: Arc::new(Control {
                writer: Mutex::new(writer),
                cancelled: Mutex::new(None),
            }),
        })
    }

    /// Sends a request and waits for its answer. After an error the process is of no more use, unless the answer is that error.
    fn call(&mut self, request: &Request, deadline: Duration) -> Result<Answer, DriverError> {
        let start = Instant::now();
        *lock(&self.control.cancelled) = None;
        let sent = self.control.send(request);
        loop {
            match self.frames.read(&mut self.stream) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) if sent.is_ok() => {}
                Ok(None) | Err(wire::Error::End) => return Err(DriverError::Died(self.end())),
                Err(error) => return Err(DriverError::Garbage(error.to_string())),
            }
            if start.elapsed() >= deadline {
                let milliseconds = deadline.as_millis() as u64;
                return Err(DriverError::Deadline { milliseconds });
            }
            let cancelled = *lock(&self.control.cancelled);
            if cancelled.is_some_and(|time| time.elapsed() >= GRACE) {
                return Err(DriverError::Cancelled);
            }
        }
    }

    /// How the process ended, which it is made to if it has not.
    fn end(&mut self) -> String {
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(Some(status)) => return ending(status),
                Ok(None) => thread::sleep(Duration::from_millis(2)),
                Err(error) => return error.to_string(),
            }
        }
        // It is gone or will be; there is nothing else to do about it.
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(_) => "it closed its side and was killed".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

/// `signal 6 (SIGABRT)`, `exit code 3`.
pub(crate) fn ending(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return match status.code() {
            Some(code) => format!("exit code {code}"),
            None => status.to_string(),
        };
    };
    // The numbers that Linux and the BSDs share.
    let name = match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    };
    format!("signal {signal}{name}")
}

impl Drop for Process {
    fn drop(&mut self) {
        // Each of these fails only if the process is gone already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        if let Ok(None) = self.child.try_wait() {
            self.end();
        }
    }
}

impl Control {
    fn send(&self, request: &Request) -> Result<(), wire::Error> {
        let frame = wire::frame(request)?;
        lock(&self.writer)
            .write_all(&frame)
            .map_err(wire::Error::Io)
    }

    fn cancel(&self, executable: u64) {
        lock(&self.cancelled).get_or_insert_with(Instant::now);
        // Where this fails, the call that is going on finds out why.
        let _ = self.send(&Request::Cancel { executable });
    }
}

impl Slot {
    /// A call of a process that is there.
    fn call(&mut self, request: &Request, deadline: Duration) -> Result<Answer, DriverError> {
        let Some(process) = &mut self.process else {
            return Err(DriverError::DeviceLost("its process has ended".to_owned()));
        };
        match process.call(request, deadline) {
            Ok(Answer::Failed(error)) => Err(error.into()),
            Ok(answer) => Ok(answer),
            Err(error) => {
                // Killed at once: it hangs, or what it says makes no sense.
                let _ = process.child.kill();
                self.process = None;
                Err(error)
            }
        }
    }
}

fn unexpected(answer: &Answer) -> DriverError {
    DriverError::Garbage(format!("the driver's process answered {answer:?}"))
}

impl ChildDriver {
    /// Starts a process and opens `spec`, without our options, in it.
    pub(crate) fn open(spec: &DriverSpec, host: HostOptions) -> Result<Self, DriverError> {
        let mut driver = Self {
            spec: spec.clone(),
            host,
            opened: Opened::default(),
            process: Arc::default(),
        };
        let (slot, opened) = driver.started()?;
        drop(slot);
        driver.opened = opened;
        Ok(driver)
    }

    /// The process, started again if it has ended, and what it said when it was opened.
    fn started(&self) -> Result<(MutexGuard<'_, Slot>, Opened), DriverError> {
        let mut slot = lock(&self.process);
        if slot.process.is_some() {
            return Ok((slot, self.opened.clone()));
        }
        let helper = self.host.helper.clone().map_or_else(helper, Ok)?;
        slot.process = Some(Process::start(&helper)?);
        slot.number += 1;
        let mut spec = self.spec.clone();
        if let DriverSpec::Tflite(library) = &mut spec {
            // This is the process of its own.
            library.options.0.push(("try".to_owned(), "0".to_owned()));
        }
        let request = Request::Open {
            version: wire::VERSION,
            spec: spec.to_string(),
        };
        match slot.call(&request, self.host.setup_deadline) {
            Ok(Answer::Opened(opened)) => Ok((slot, opened)),
            other => {
                slot.process = None;
                Err(other.map_or_else(|error| error, |answer| unexpected(&answer)))
            }
        }
    }

    fn call(&self, request: &Request) -> Result<Answer, DriverError> {
        let (mut slot, _) = self.started()?;
        slot.call(request, self.host.setup_deadline)
    }
}

impl Driver for ChildDriver {
    fn info(&self) -> DriverInfo {
        self.opened.info()
    }

    fn devices(&self) -> Result<Vec<Device>, DriverError> {
        match self.call(&Request::Devices)? {
            Answer::Devices(devices) => Ok(devices.into_iter().map(Device::from).collect()),
            other => Err(unexpected(&other)),
        }
    }

    fn supports(&self, model: &Model, subgraph: usize) -> Result<Vec<Verdict>, DriverError> {
        let model = Segment::holding(&model.to_bytes())?;
        let request = Request::Supports {
            model: model.reference(),
            subgraph,
        };
        match self.call(&request)? {
            Answer::Verdicts(verdicts) => Ok(verdicts.into_iter().map(Verdict::from).collect()),
            other => Err(unexpected(&other)),
        }
    }

    fn policy(&self) -> PartitionPolicy {
        self.opened.policy()
    }

    fn compile(
        &self,
        partition: &Model,
        device: Option<&str>,
    ) -> Result<Box<dyn Executable>, DriverError> {
        let layout = Layout::of(partition)
            .ok_or_else(|| DriverError::Refused("its tensors have no size".to_owned()))?;
        let model = Segment::holding(&partition.to_bytes())?;
        let mut memory = Segment::new(layout.len())?;
        let request = Request::Compile {
            model: model.reference(),
            device: device.or(self.host.device.as_deref()).map(str::to_owned),
            memory: memory.reference(),
        };
        let (mut slot, _) = self.started()?;
        let answer = slot.call(&request, self.host.setup_deadline)?;
        let (Answer::Compiled { executable }, Some(process)) = (&answer, &slot.process) else {
            return Err(unexpected(&answer));
        };
        memory.forget_name();
        Ok(Box::new(ChildExecutable {
            process: Arc::clone(&self.process),
            number: slot.number,
            executable: *executable,
            layout,
            memory,
            deadline: self.host.deadline,
            control: Arc::clone(&process.control),
        }))
    }
}

impl ChildExecutable {
    fn slot(&self) -> Result<MutexGuard<'_, Slot>, DriverError> {
        let slot = lock(&self.process);
        if slot.number == self.number && slot.process.is_some() {
            return Ok(slot);
        }
        let message = "the process that it was compiled in has ended";
        Err(DriverError::DeviceLost(message.to_owned()))
    }
}

impl Executable for ChildExecutable {
    fn run(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DriverError> {
        self.layout.check(
            inputs.iter().map(|i| i.len()),
            outputs.iter().map(|o| o.len()),
        )?;
        for (place, bytes) in self.layout.inputs().iter().zip(inputs) {
            self.memory.write(place.clone(), bytes);
        }
        let mut slot = self.slot()?;
        let executable = self.executable;
        let answer = slot.call(&Request::Run { executable }, self.deadline)?;
        drop(slot);
        if answer != Answer::Done {
            return Err(unexpected(&answer));
        }
        for (place, bytes) in self.layout.outputs().iter().zip(outputs) {
            self.memory.read(place.clone(), bytes);
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<(), DriverError> {
        let executable = self.executable;
        match self
            .slot()?
            .call(&Request::Reset { executable }, self.deadline)?
        {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the driver to end the run, and if that takes too long, ends its process.
    fn canceller(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        let (control, executable) = (Arc::clone(&self.control), self.executable);
        Some(Box::new(move || control.cancel(executable)))
    }

    fn cost(&self) -> Vec<(String, f64)> {
        let executable = self.executable;
        let call = |mut slot: MutexGuard<'_, Slot>| {
            slot.call(&Request::Cost { executable }, self.deadline)
        };
        match self.slot().and_then(call) {
            Ok(Answer::Cost(cost)) => cost,
            _ => Vec::new(),
        }
    }
}

impl Drop for ChildExecutable {
    fn drop(&mut self) {
        let executable = self.executable;
        if let Ok(mut slot) = self.slot() {
            // Where this fails the process is gone, and the executable with it.
            let _ = slot.call(&Request::Free { executable }, self.deadline);
        }
    }
}
