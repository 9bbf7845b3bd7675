//! `bantam_session`: a loaded model, ready to run.

use std::ffi::c_char;
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use ::bantam_model::{Model, Numerics};
use bantam_delegate::{
    Check, Deadline, Economy, OffloadOptions, Options, Selector, Session, Steering,
};

use crate::error::{Failure, bantam_error, bantam_status, status};
use crate::guard::{as_out, as_ref, as_slice, as_strs, free, guard, guard_or, optional_str};
use crate::log::{self, log};
use crate::model::bantam_model;
use crate::placement::Placements;
use crate::struct_size::{self, SizeFirst};
use crate::tensor::{TensorRecord, bantam_tensor_info};

/// Opaque to C.
pub struct bantam_session {
    shared: Arc<Shared>,
    /// How many there are does not change, so that this is known during runs as well.
    inputs: usize,
    outputs: usize,
    /// The run that `bantam_session_run_async` began last.
    pub(crate) pending: Mutex<Option<JoinHandle<Result<(), Failure>>>>,
}

/// What a run on another thread has as well.
pub(crate) struct Shared {
    /// Whether somebody has the session. Not the lock below, because it is claimed by one thread
    /// for another.
    is_claimed: AtomicBool,
    state: Mutex<State>,
}

/// A session and what was said of it to the caller.
pub(crate) struct State {
    pub session: Session,
    pub placements: Placements,
    inputs: Vec<TensorRecord>,
    outputs: Vec<TensorRecord>,
    /// How many failures of the driver the log was told of.
    told: usize,
    model: Model,
    options: Options,
}

/// The right to use a session, until dropped.
pub(crate) struct Claim(Arc<Shared>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.is_claimed.store(false, Ordering::Release);
    }
}

impl Claim {
    pub fn state(&self) -> Result<MutexGuard<'_, State>, Failure> {
        self.0.state.lock().map_err(|_| {
            Failure::new(
                status::INTERNAL,
                "the session broke in an earlier call and can only be freed",
            )
        })
    }
}

impl bantam_session {
    pub(crate) fn claim(&self) -> Result<Claim, Failure> {
        match self.shared.is_claimed.swap(true, Ordering::Acquire) {
            true => Err(Failure::new(status::BUSY, "the session is in use")),
            false => Ok(Claim(Arc::clone(&self.shared))),
        }
    }
}

impl Drop for bantam_session {
    fn drop(&mut self) {
        let pending = self.pending.get_mut();
        let pending = pending.unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(run) = pending.take() {
            // Its status was for whoever waited.
            let _ = run.join();
        }
    }
}

impl State {
    fn new(model: Model, options: Options) -> Result<Self, Failure> {
        let session = Session::new(&model, &options)?;
        let records = |infos: &[_]| infos.iter().map(TensorRecord::new).collect();
        Ok(Self {
            inputs: records(session.inputs()),
            outputs: records(session.outputs()),
            placements: Placements::new(&session),
            told: 0,
            session,
            model,
            options,
        })
    }

    /// Takes over what a run may have changed.
    pub fn update(&mut self) {
        for (record, info) in self.outputs.iter_mut().zip(self.session.outputs()) {
            record.update(info);
        }
        for event in self.session.events_after(self.told) {
            log(log::WARNING, &event.to_string());
            self.told += 1;
        }
    }
}

/// See the header.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the header documents them")]
pub struct bantam_session_options {
    pub struct_size: usize,
    pub driver: *const c_char,
    pub device: *const c_char,
    pub signature: *const c_char,
    pub numerics: i32,
    pub threads: u32,
    pub deadline_ms: u32,
    pub require_full_delegation: i32,
    pub min_partition_ops: u32,
    pub check_runs: u32,
    pub check_every: u32,
    pub cost_aware: i32,
    pub allow: *const *const c_char,
    pub allow_len: usize,
    pub deny: *const *const c_char,
    pub deny_len: usize,
}

// SAFETY: `repr(C)`, the size comes first, zero is a value of every field, and the end has no padding.
unsafe impl SizeFirst for bantam_session_options {
    const NAME: &'static str = "bantam_session_options";
    const FIRST: usize = offset_of!(bantam_session_options, min_partition_ops);
}

/// # Safety
///
/// As of [`as_strs`].
unsafe fn selectors(
    texts: *const *const c_char,
    len: usize,
    name: &str,
) -> Result<Vec<Selector>, Failure> {
    // SAFETY: passed on to the caller.
    let texts = unsafe { as_strs(texts, len, name) }?;
    let parsed = texts.iter().map(|text| {
        let selector = text.parse::<Selector>();
        selector.map_err(|error| Failure::argument(format!("{name}: {error}")))
    });
    parsed.collect()
}

/// # Safety
///
/// `options` is NULL or as the header says.
unsafe fn read_options(
    options: *const bantam_session_options,
    model: &bantam_model,
) -> Result<Options, Failure> {
    // SAFETY: passed on to the caller.
    let Some(given) = (unsafe { struct_size::read(options) })? else {
        return Ok(Options::default());
    };
    // SAFETY: passed on to the caller, who vouches for the strings.
    let (driver, device, signature, allow, deny) = unsafe {
        (
            optional_str(given.driver, "driver")?,
            optional_str(given.device, "device")?,
            optional_str(given.signature, "signature")?,
            selectors(given.allow, given.allow_len, "allow")?,
            selectors(given.deny, given.deny_len, "deny")?,
        )
    };
    let numerics = match given.numerics {
        0 => Numerics::Fast,
        1 => Numerics::Reference,
        other => return Err(Failure::argument(format!("there is no numerics {other}"))),
    };
    let driver = driver.unwrap_or("cpu").parse();
    let deadline = Duration::from_millis(given.deadline_ms.into());
    Ok(Options {
        offload: OffloadOptions {
            devices: device.map(str::to_owned).into_iter().collect(),
            deadline: (!deadline.is_zero()).then(|| Deadline::new(deadline)),
            requires_full_delegation: given.require_full_delegation != 0,
            check: Check {
                first: given.check_runs.into(),
                every: given.check_every.into(),
            },
            steering: Steering {
                allow,
                deny,
                min_ops: (given.min_partition_ops > 0).then_some(given.min_partition_ops as usize),
                economy: (given.cost_aware != 0).then(Economy::default),
            },
            ..OffloadOptions::default()
        },
        driver: driver.map_err(|e| Failure::argument(format!("driver: {e}")))?,
        numerics,
        threads: given.threads.max(1) as usize,
        subgraph: model.subgraph(signature)?,
        ..Options::default()
    })
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_new(
    model: *const bantam_model,
    options: *const bantam_session_options,
    session: *mut *mut bantam_session,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            let place = as_out(session, "session")?;
            let model = as_ref(model, "model")?;
            let options = read_options(options, model)?;
            let state = State::new(model.model.clone(), options)?;
            log(log::INFO, &state.session.placement().to_string());
            *place = Box::into_raw(Box::new(bantam_session {
                inputs: state.inputs.len(),
                outputs: state.outputs.len(),
                shared: Arc::new(Shared {
                    is_claimed: AtomicBool::new(false),
                    state: Mutex::new(state),
                }),
                pending: Mutex::new(None),
            }));
            Ok(())
        })
    }
}

/// # Safety
///
/// `session` is NULL, or from this library and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_free(session: *mut bantam_session) {
    // SAFETY: the caller vouches for it.
    unsafe { free(session) }
}

/// # Safety
///
/// `session` is NULL, or from this library and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_input_count(session: *const bantam_session) -> usize {
    guard_or(0, || {
        // SAFETY: the caller vouches for it.
        unsafe { session.as_ref() }.map_or(0, |session| session.inputs)
    })
}

/// # Safety
///
/// `session` is NULL, or from this library and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_output_count(session: *const bantam_session) -> usize {
    guard_or(0, || {
        // SAFETY: the caller vouches for it.
        unsafe { session.as_ref() }.map_or(0, |session| session.outputs)
    })
}

/// # Safety
///
/// As of the functions of the header that end in it.
unsafe fn info(
    session: *const bantam_session,
    index: usize,
    info: *mut bantam_tensor_info,
    what: &str,
    records: impl FnOnce(&State) -> &[TensorRecord],
) -> Result<(), Failure> {
    // SAFETY: passed on to the caller.
    let session = unsafe { as_ref(session, "session") }?;
    let claim = session.claim()?;
    let state = claim.state()?;
    let records = records(&state);
    let record = records.get(index).ok_or_else(|| {
        Failure::argument(format!(
            "{what} {index} of a model with {} {what}s",
            records.len()
        ))
    })?;
    // SAFETY: passed on to the caller.
    unsafe { record.write(info) }
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_input(
    session: *const bantam_session,
    index: usize,
    tensor: *mut bantam_tensor_info,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            info(session, index, tensor, "input", |s| &s.inputs)
        })
    }
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_output(
    session: *const bantam_session,
    index: usize,
    tensor: *mut bantam_tensor_info,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            info(session, index, tensor, "output", |s| &s.outputs)
        })
    }
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_resize_input(
    session: *mut bantam_session,
    index: usize,
    shape: *const usize,
    rank: usize,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            let claim = as_ref(session, "session")?.claim()?;
            let mut state = claim.state()?;
            let shape = as_slice(shape, rank, "shape")?.to_vec();
            let count = state.inputs.len();
            if index >= count {
                return Err(Failure::argument(format!(
                    "input {index} of a model with {count} inputs"
                )));
            }
            let mut options = state.options.clone();
            options.input_shapes.resize(count, None);
            options.input_shapes[index] = Some(shape);
            *state = State::new(state.model.clone(), options)?;
            Ok(())
        })
    }
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_reset_variables(
    session: *mut bantam_session,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            let claim = as_ref(session, "session")?.claim()?;
            claim.state()?.session.reset_variables();
            Ok(())
        })
    }
}
