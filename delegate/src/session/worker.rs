//! A thread that holds an [`Executable`] and calls it on buffers of its own, so that a call that
//! does not come back can be given up: whatever it writes later, nobody reads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Instant;

use bantam_model::Model;
use bantam_model::cpu::AlignedBytes;

use super::report::Deadline;
use crate::driver::{Driver, DriverError, Executable};

/// How many threads of one partition may hang before the device is not opened any more.
const MOST_HANGING: usize = 8;

/// What is compiled, and by whom.
#[derive(Clone)]
pub(super) struct Source {
    pub driver: Arc<dyn Driver>,
    pub device: Option<String>,
    pub partition: Model,
}

impl Source {
    pub fn compile(&self) -> Result<Box<dyn Executable>, DriverError> {
        guarded(|| self.driver.compile(&self.partition, self.device.as_deref()))
    }
}

/// `call`, with a panic as an error.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, DriverError>) -> Result<T, DriverError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        Err(DriverError::Failed(match text {
            Some(text) => format!("it panicked: {text}"),
            None => "it panicked".into(),
        }))
    })
}

struct Buffers {
    inputs: Vec<AlignedBytes>,
    outputs: Vec<AlignedBytes>,
}

type Done = (Buffers, Result<(), DriverError>);
type Cancel = Box<dyn Fn() + Send + Sync>;
type Opened = (Option<Cancel>, Vec<(String, f64)>);

/// The thread, and the buffers while no call runs.
pub(super) struct Worker {
    /// `None` once the thread shall end.
    jobs: Option<Sender<Buffers>>,
    done: Receiver<Done>,
    cancel: Option<Cancel>,
    buffers: Option<Buffers>,
    deadline: Deadline,
    /// When the call began that runs.
    began: Option<Instant>,
    /// What the driver says that a run costs.
    pub cost: Vec<(String, f64)>,
}

/// Counts a thread for as long as it lives.
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    /// Compiles on a new thread. `alive` counts the threads of the partition.
    pub fn open(
        source: &Source,
        sizes: (&[usize], &[usize]),
        deadline: Deadline,
        alive: &Arc<AtomicUsize>,
    ) -> Result<Self, DriverError> {
        if alive.load(Ordering::Relaxed) >= MOST_HANGING {
            return Err(DriverError::Failed(format!(
                "{MOST_HANGING} calls never came back, so the device is not opened again"
            )));
        }
        let allocate = |sizes: &[usize]| -> Result<Vec<AlignedBytes>, DriverError> {
            let memory = |&size| {
                AlignedBytes::zeroed(size).ok_or_else(|| {
                    DriverError::Failed(format!("there is no memory for {size} bytes"))
                })
            };
            sizes.iter().map(memory).collect()
        };
        let buffers = Buffers {
            inputs: allocate(sizes.0)?,
            outputs: allocate(sizes.1)?,
        };
        let (jobs, todo) = channel::<Buffers>();
        let (finished, done) = channel::<Done>();
        let (opened, open) = channel::<Result<Opened, DriverError>>();
        let source = source.clone();
        alive.fetch_add(1, Ordering::Relaxed);
        let alive = Alive(Arc::clone(alive));
        let body = move || {
            let _alive = alive;
            let mut executable = match source.compile() {
                Ok(executable) => executable,
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            let is_wanted = opened.send(Ok((executable.canceller(), executable.cost())));
            if is_wanted.is_err() {
                return;
            }
            while let Ok(mut buffers) = todo.recv() {
                let inputs: Vec<&[u8]> = buffers.inputs.iter().map(AsRef::as_ref).collect();
                let mut outputs: Vec<&mut [u8]> = buffers
                    .outputs
                    .iter_mut()
                    .map(AlignedBytes::as_mut_slice)
                    .collect();
                let result = guarded(|| executable.run(&inputs, &mut outputs));
                if finished.send((buffers, result)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("bantam-driver".into())
            .spawn(body)
            .map_err(|error| DriverError::Failed(format!("cannot start a thread: {error}")))?;
        let (cancel, cost) = match open.recv_timeout(deadline.open) {
            Ok(opened) => opened?,
            Err(RecvTimeoutError::Timeout) => {
                return Err(DriverError::Deadline {
                    milliseconds: deadline.open.as_millis() as u64,
                });
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(DriverError::Died("its thread ended".into()));
            }
        };
        Ok(Self {
            jobs: Some(jobs),
            done,
            cancel,
            buffers: Some(buffers),
            deadline,
            began: None,
            cost,
        })
    }

    /// Copies the operands and begins a call; [`Self::finish`] ends it.
    pub fn begin(&mut self, inputs: &[&[u8]]) -> Result<(), DriverError> {
        let mut buffers = self
            .buffers
            .take()
            .ok_or_else(|| DriverError::Failed("another call has not come back".into()))?;
        for (buffer, input) in buffers.inputs.iter_mut().zip(inputs) {
            buffer.as_mut_slice().copy_from_slice(input);
        }
        self.began = Some(Instant::now());
        let jobs = self.jobs.as_ref();
        jobs.and_then(|jobs| jobs.send(buffers).ok())
            .ok_or_else(|| DriverError::Died("its thread ended".into()))
    }

    /// Waits for the call and copies the results. After [`DriverError::Deadline`] this is of no
    /// more use: the call may still run.
    pub fn finish(&mut self, outputs: &mut [&mut [u8]]) -> Result<(), DriverError> {
        let elapsed = self
            .began
            .take()
            .map_or_else(Default::default, |b| b.elapsed());
        let left = self.deadline.call.saturating_sub(elapsed);
        let (buffers, result) = match self.done.recv_timeout(left) {
            Ok(done) => done,
            Err(RecvTimeoutError::Timeout) => {
                if let Some(cancel) = &self.cancel {
                    let _ = catch_unwind(AssertUnwindSafe(cancel));
                    // A driver that was told so comes back, and its thread and device are free.
                    if let Ok((buffers, _)) = self.done.recv_timeout(self.deadline.call) {
                        self.buffers = Some(buffers);
                    }
                }
                return Err(DriverError::Deadline {
                    milliseconds: self.deadline.call.as_millis() as u64,
                });
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(DriverError::Died("its thread ended".into()));
            }
        };
        if result.is_ok() {
            for (output, buffer) in outputs.iter_mut().zip(&buffers.outputs) {
                output.copy_from_slice(buffer.as_ref());
            }
        }
        self.buffers = Some(buffers);
        result
    }
}

impl Drop for Worker {
    /// Ends the thread and, unless a call hangs, waits until the device is closed, so that it can
    /// be opened again.
    fn drop(&mut self) {
        self.jobs = None;
        if self.buffers.is_some() {
            let _ = self.done.recv_timeout(self.deadline.open);
        }
    }
}
