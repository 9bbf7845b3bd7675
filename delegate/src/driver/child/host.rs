//! The process that holds a driver: answers one request after the other, from a socket that is its standard input.
//!
//! A thread reads, so that a run can be cancelled and so that the process ends with its caller even while the library hangs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bantam_model::{Bytes, Model};

use super::GRACE;
use super::shared::{Layout, Reference, Segment};
use super::wire::{self, Answer, Frames, Opened, Request, WireVerdict};
use crate::driver::{self, Driver, DriverError, Executable};

/// Why a process cannot hold a driver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Standard input is not the socket that it should be.
    #[error("this is for bantam itself: standard input is not its socket")]
    Socket(#[source] io::Error),
    /// The caller sends what makes no sense, or does not read.
    #[error("the connection to the caller failed: {0}")]
    Connection(String),
}

type Cancellers = Arc<Mutex<BTreeMap<u64, Box<dyn Fn() + Send + Sync>>>>;

struct Held {
    executable: Box<dyn Executable>,
    layout: Layout,
    memory: Segment,
}

#[derive(Default)]
struct Host {
    driver: Option<Box<dyn Driver>>,
    executables: BTreeMap<u64, Held>,
    cancellers: Cancellers,
    next: u64,
}

/// Answers the caller at the other end of standard input until it goes away.
///
/// # Errors
///
/// Standard input is no socket, or what comes from it makes no sense.
pub fn serve() -> Result<(), HostError> {
    let input = io::stdin().as_fd().try_clone_to_owned();
    let mut stream = UnixStream::from(input.map_err(HostError::Socket)?);
    stream.peer_addr().map_err(HostError::Socket)?;
    let mut reader = stream.try_clone().map_err(HostError::Socket)?;
    let mut host = Host::default();
    let (sender, requests) = mpsc::channel();
    let cancellers = Arc::clone(&host.cancellers);
    thread::spawn(move || {
        read(&mut reader, &sender, &cancellers);
        drop(sender);
        // The library hangs, and there is nobody left to tell.
        thread::sleep(GRACE);
        process::abort();
    });
    host.answer(&requests, &mut stream)
}

fn read(reader: &mut UnixStream, sender: &Sender<Request>, cancellers: &Cancellers) {
    let mut frames = Frames::default();
    while let Ok(request) = frames.read(reader) {
        if let Some(Request::Cancel { executable }) = request {
            let list = cancellers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(cancel) = list.get(&executable) {
                cancel();
            }
        } else if request.is_some_and(|request| sender.send(request).is_err()) {
            return;
        }
    }
}

impl Host {
    fn answer(
        &mut self,
        requests: &Receiver<Request>,
        stream: &mut UnixStream,
    ) -> Result<(), HostError> {
        for request in requests {
            let answer = self.handle(request);
            let answer = answer.unwrap_or_else(|error| Answer::Failed(error.into()));
            let frame = wire::frame(&answer);
            let frame = frame.map_err(|error| HostError::Connection(error.to_string()))?;
            match stream.write_all(&frame) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(HostError::Connection(error.to_string())),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn handle(&mut self, request: Request) -> Result<Answer, DriverError> {
        match request {
            Request::Open { version, spec } => self.open(version, &spec),
            Request::Devices => {
                let devices = self.driver()?.devices()?.into_iter();
                Ok(Answer::Devices(
                    devices.map(|d| (d.id, d.description)).collect(),
                ))
            }
            Request::Supports { model, subgraph } => {
                let verdicts = self.driver()?.supports(&read_model(&model)?, subgraph)?;
                let verdicts = verdicts.into_iter().map(WireVerdict::from);
                Ok(Answer::Verdicts(verdicts.collect()))
            }
            Request::Compile {
                model,
                device,
                memory,
            } => {
                let model = read_model(&model)?;
                let memory = Segment::open(&memory)?;
                let layout = Layout::of(&model)
                    .ok_or_else(|| DriverError::Refused("its tensors have no size".to_owned()))?;
                let executable = self.driver()?.compile(&model, device.as_deref())?;
                let number = self.next;
                self.next += 1;
                if let Some(cancel) = executable.canceller() {
                    self.cancellers().insert(number, cancel);
                }
                let held = Held {
                    executable,
                    layout,
                    memory,
                };
                self.executables.insert(number, held);
                Ok(Answer::Compiled { executable: number })
            }
            Request::Run { executable } => {
                let held = self.held(executable)?;
                let cut = held.layout.cut(held.memory.bytes_mut());
                let (inputs, mut outputs) = cut.ok_or_else(|| {
                    DriverError::Garbage("the shared memory is too small".to_owned())
                })?;
                held.executable.run(&inputs, &mut outputs)?;
                Ok(Answer::Done)
            }
            Request::Reset { executable } => {
                self.held(executable)?.executable.reset()?;
                Ok(Answer::Done)
            }
            Request::Cost { executable } => {
                Ok(Answer::Cost(self.held(executable)?.executable.cost()))
            }
            Request::Free { executable } => {
                self.cancellers().remove(&executable);
                self.executables.remove(&executable);
                Ok(Answer::Done)
            }
            Request::Cancel { .. } => Ok(Answer::Done),
        }
    }

    fn open(&mut self, version: u32, spec: &str) -> Result<Answer, DriverError> {
        if version != wire::VERSION {
            return Err(DriverError::Version {
                theirs: version,
                ours: wire::VERSION,
            });
        }
        let spec = spec.parse().map_err(|error| DriverError::Unavailable {
            spec: spec.to_owned(),
            cause: format!("{error}"),
        })?;
        let driver = self.driver.insert(driver::open(&spec)?);
        Ok(Answer::Opened(Opened::new(driver.info(), driver.policy())))
    }

    fn driver(&self) -> Result<&dyn Driver, DriverError> {
        let nothing = || DriverError::Failed("no driver is open".to_owned());
        self.driver.as_deref().ok_or_else(nothing)
    }

    fn held(&mut self, executable: u64) -> Result<&mut Held, DriverError> {
        let nothing = || DriverError::Failed(format!("there is no executable {executable}"));
        self.executables.get_mut(&executable).ok_or_else(nothing)
    }

    fn cancellers(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Box<dyn Fn() + Send + Sync>>> {
        self.cancellers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_model(reference: &Reference) -> Result<Model, DriverError> {
    let mut memory = Segment::open(reference)?;
    let model = Model::read(Bytes::from(memory.bytes_mut().to_vec()));
    model.map_err(|error| DriverError::Refused(error.to_string()))
}
