//! A compiled partition: runs, submissions, cancelling.

use std::ffi::{c_char, c_void};
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bantam_driver_abi::raw;
use bantam_model::{Subgraph, TensorId};

use super::buffer::Aligned;
use super::collect::{self, Collector};
use super::instance::Instance;
use super::{MOST_ITEMS, lock};
use crate::driver::{DriverError, Executable};

/// How long a submission that is given up may take to end.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// A partition that it has compiled.
pub struct BantamExecutable {
    handle: Arc<Handle>,
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

/// The library's handle, which cancellers share for as long as it is there.
struct Handle {
    raw: NonNull<raw::Executable>,
    /// Whether the handle is still good; held during `cancel`, so that it is not freed meanwhile.
    alive: Mutex<bool>,
    cancel: Option<raw::ExecutableFn>,
}

// SAFETY: the header lets an executable be used from any thread; `run` needs it exclusively, and `cancel` may come at any time.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl BantamExecutable {
    /// For what `compile` of an instance has just made of a subgraph.
    ///
    /// # Safety
    ///
    /// `raw` came from `compile` of `instance` and is nobody else's.
    pub(super) unsafe fn new(
        raw: NonNull<raw::Executable>,
        instance: Arc<Instance>,
        subgraph: &Subgraph,
    ) -> Self {
        let sizes = |ids: &[TensorId]| {
            let tensors = ids.iter().map(|&id| &subgraph[id]);
            tensors
                .map(|t| t.dtype.byte_len(&t.shape).unwrap_or(0))
                .collect()
        };
        Self {
            handle: Arc::new(Handle {
                raw,
                alive: Mutex::new(true),
                cancel: instance.api.cancel,
            }),
            inputs: sizes(&subgraph.inputs),
            outputs: sizes(&subgraph.outputs),
            bounce: Vec::new(),
            instance,
        }
    }

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
                    self.handle.raw.as_ptr(),
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
                self.handle.raw.as_ptr(),
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
        let handle = Arc::clone(&self.handle);
        handle.cancel.is_some().then(|| {
            let cancel = move || handle.cancel();
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
        let mut costs = Collector::<(String, f64)>::new(MOST_ITEMS);
        let mut error = ptr::null_mut();
        // SAFETY: the executable is not running, for `run` needs it exclusively; the collector outlives the call.
        let status = unsafe {
            cost(
                self.handle.raw.as_ptr(),
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

impl Handle {
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
        *lock(&self.handle.alive) = false;
        // A call that hangs on this instance must not overlap another one: then the executable is left to it.
        if let Ok(_pass) = self.instance.enter() {
            // SAFETY: it came from `compile`, nothing runs it, and no canceller uses it from now on.
            unsafe { (self.instance.api.executable_free)(self.handle.raw.as_ptr()) }
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
                    let handle: *mut c_void = self.executable.handle.raw.as_ptr();
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
        self.executable.handle.cancel();
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
