//! Running a session on the caller's buffers, in the caller's thread or in another.

use std::ffi::c_void;
use std::thread;

use crate::error::{Failure, bantam_error, bantam_status, status};
use crate::guard::{as_mut_slice, as_ref, as_slice, caught, guard};
use crate::session::{Claim, State, bantam_session};

/// See the header.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the header documents them")]
pub struct bantam_input {
    pub data: *const c_void,
    pub size: usize,
}

/// See the header.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the header documents them")]
pub struct bantam_output {
    pub data: *mut c_void,
    pub size: usize,
}

/// `bantam_done_fn` of the header; `None` is NULL.
pub type bantam_done_fn =
    Option<unsafe extern "C-unwind" fn(*mut c_void, bantam_status, *const bantam_error)>;

/// The caller's buffers, whose number and sizes were not looked at.
struct Buffers {
    inputs: Vec<bantam_input>,
    outputs: Vec<bantam_output>,
}

// SAFETY: the header says that the buffers live until the run is over, whichever thread it is on.
unsafe impl Send for Buffers {}

impl Buffers {
    /// # Safety
    ///
    /// Each array is NULL or has as many elements as its length says.
    unsafe fn new(
        inputs: *const bantam_input,
        inputs_len: usize,
        outputs: *const bantam_output,
        outputs_len: usize,
    ) -> Result<Self, Failure> {
        // SAFETY: passed on to the caller.
        unsafe {
            Ok(Self {
                inputs: as_slice(inputs, inputs_len, "inputs")?.to_vec(),
                outputs: as_slice(outputs, outputs_len, "outputs")?.to_vec(),
            })
        }
    }

    /// Runs once.
    ///
    /// # Safety
    ///
    /// Each buffer is NULL or valid for its size; the outputs' for writes, and without overlap.
    unsafe fn run(&self, state: &mut State) -> Result<(), Failure> {
        self.refuse_overlap()?;
        let mut given = Vec::with_capacity(self.inputs.len());
        for (index, input) in self.inputs.iter().enumerate() {
            // SAFETY: passed on to the caller.
            let bytes = unsafe { as_slice(input.data.cast::<u8>(), input.size, "its data") };
            given.push(bytes.map_err(|failure| failure.of(format_args!("input {index}")))?);
        }
        let mut taken = Vec::with_capacity(self.outputs.len());
        for (index, output) in self.outputs.iter().enumerate() {
            // SAFETY: passed on to the caller; the outputs are apart from all else.
            let bytes = unsafe { as_mut_slice(output.data.cast::<u8>(), output.size, "its data") };
            taken.push(bytes.map_err(|failure| failure.of(format_args!("output {index}")))?);
        }
        let ran = state.session.run_with(&given, &mut taken);
        // A run that fails at the size of an output has changed the shapes as well.
        state.update();
        ran.map_err(|error| Failure::of_run(&error))
    }

    /// Inputs may share memory; what is written may not.
    fn refuse_overlap(&self) -> Result<(), Failure> {
        let span =
            |data: *const c_void, size: usize| (data.addr(), data.addr().saturating_add(size));
        let inputs = self.inputs.iter().map(|input| span(input.data, input.size));
        let outputs: Vec<_> = self
            .outputs
            .iter()
            .map(|output| span(output.data, output.size))
            .collect();
        for (index, &(start, end)) in outputs.iter().enumerate() {
            let mut others = inputs.clone().chain(outputs[..index].iter().copied());
            if others.any(|(other, its_end)| start.max(other) < end.min(its_end)) {
                let message = format!("output {index} shares memory with another buffer");
                return Err(Failure::argument(message));
            }
        }
        Ok(())
    }
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_run(
    session: *mut bantam_session,
    inputs: *const bantam_input,
    inputs_len: usize,
    outputs: *const bantam_output,
    outputs_len: usize,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            let claim = as_ref(session, "session")?.claim()?;
            let buffers = Buffers::new(inputs, inputs_len, outputs, outputs_len)?;
            buffers.run(&mut *claim.state()?)
        })
    }
}

/// A callback and its pointer, on their way to another thread.
struct Done {
    call: bantam_done_fn,
    user: *mut c_void,
}

// SAFETY: the header says that the library's thread makes the call, with this pointer.
unsafe impl Send for Done {}

impl Done {
    fn tell(&self, result: &Result<(), Failure>) {
        let Some(call) = self.call else { return };
        let error = result.as_ref().err();
        let status = error.map_or(status::OK, |failure| failure.status);
        let error = error
            .map(|failure| bantam_error::from(Failure::new(failure.status, &*failure.message)));
        let error = error.as_ref().map_or(std::ptr::null(), |error| error);
        // SAFETY: the header's contract; the error lives during the call.
        unsafe { call(self.user, status, error) }
    }
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_run_async(
    session: *mut bantam_session,
    inputs: *const bantam_input,
    inputs_len: usize,
    outputs: *const bantam_output,
    outputs_len: usize,
    done: bantam_done_fn,
    user: *mut c_void,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            let session = as_ref(session, "session")?;
            let claim = session.claim()?;
            let buffers = Buffers::new(inputs, inputs_len, outputs, outputs_len)?;
            let done = Done { call: done, user };
            let mut pending = session.pending.lock().map_err(|_| broken())?;
            if let Some(earlier) = pending.take() {
                // It is over, or it would have the session; nobody waited for its status.
                let _ = earlier.join();
            }
            let run = thread::Builder::new().name("bantam-run".into());
            let run = run.spawn(move || in_background(claim, &buffers, &done));
            *pending =
                Some(run.map_err(|e| {
                    Failure::new(status::RUN, format!("cannot start a thread: {e}"))
                })?);
            Ok(())
        })
    }
}

fn in_background(claim: Claim, buffers: &Buffers, done: &Done) -> Result<(), Failure> {
    // SAFETY: the caller of `bantam_session_run_async` vouches for the buffers until `done`.
    let result = caught(|| unsafe { buffers.run(&mut *claim.state()?) });
    // Whoever is told may begin the next run.
    drop(claim);
    let told = caught(|| {
        done.tell(&result);
        Ok(())
    });
    result.and(told)
}

fn broken() -> Failure {
    Failure::new(status::INTERNAL, "an earlier run ended in a panic")
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_wait(
    session: *mut bantam_session,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            let session = as_ref(session, "session")?;
            let run = session.pending.lock().map_err(|_| broken())?.take();
            match run {
                Some(run) => run.join().unwrap_or_else(|_| Err(broken())),
                None => Ok(()),
            }
        })
    }
}
