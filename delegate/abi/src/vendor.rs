//! The vendor's side: the table of functions for a type that implements [`Vendor`]. Checks what the header lets a driver check,
//! keeps panics inside, and runs `submit` on a thread of its own.

use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::raw;

/// A driver. One value is one opened instance.
pub trait Vendor: Send + Sync + Sized + 'static {
    /// A partition that is ready to run.
    type Executable: Executable;
    /// The driver, for people.
    const NAME: &'static CStr;
    /// Its version.
    const VERSION: &'static CStr;

    /// Opens the driver with the user's options, each a key and a value. One that is not known is [`Kind::BadOption`].
    fn open(options: &[(&str, &str)]) -> Result<Self, Error>;

    /// What it is for and what it asks of its host.
    fn info(&self) -> Info;

    /// The devices that are there now, in a stable order.
    fn devices(&self) -> Result<Vec<Device>, Error>;

    /// A verdict for each operator of a subgraph of a `.tflite`, in order.
    fn supports(&self, model: &[u8], subgraph: u32) -> Result<Vec<Verdict>, Error>;

    /// Makes the first subgraph of a `.tflite` ready to run on a device, or on any.
    fn compile(&self, device: Option<&str>, model: &[u8]) -> Result<Self::Executable, Error>;
}

/// A partition that is ready to run.
pub trait Executable: Send + Sync + 'static {
    /// Runs once, never twice at a time. The numbers and sizes of the buffers are not checked yet.
    fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), Error>;

    /// Makes the run that is going on, if there is one, return soon. May come from any thread.
    fn cancel(&self) {}

    /// What a run costs: names with their units, and figures.
    fn cost(&self) -> Vec<(String, f64)> {
        Vec::new()
    }
}

/// What a driver is for and what it asks of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The chip, which may be the name of one of Bantam's targets.
    pub target: Option<String>,
    /// Whether calls on different executables may overlap.
    pub parallel: bool,
    /// Whether only the first of the possible partitions is wanted.
    pub first_partition_only: bool,
    /// The fewest operators for which a partition pays.
    pub min_ops: u32,
    /// The alignment of every buffer: a power of two up to 4096.
    pub alignment: u32,
}

impl Default for Info {
    fn default() -> Self {
        Self {
            target: None,
            parallel: false,
            first_partition_only: false,
            min_ops: 1,
            alignment: 1,
        }
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What chooses it.
    pub id: String,
    /// What it is, for people.
    pub description: String,
}

/// Whether an operator is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Supported,
    /// It is not.
    Unsupported {
        /// The id of the rule.
        rule: String,
        /// What the rule says and what the operator has.
        reason: String,
        /// What was measured on the operator.
        measured: Option<String>,
        /// What the rule allows.
        limit: Option<String>,
    },
    /// Nothing is known; the text says of what.
    Unknown(String),
}

/// What kind of failure a call ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the header says what each means")]
pub enum Kind {
    Failed,
    Refused,
    NoDevice,
    DeviceLost,
    BadOption,
    Cancelled,
    Invalid,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What the host can do about it.
    pub kind: Kind,
    /// One sentence, for people.
    pub message: String,
}

impl Error {
    /// An error of a kind, with its sentence.
    pub fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
        }
    }

    fn status(&self) -> raw::Status {
        match self.kind {
            Kind::Failed => raw::FAILED,
            Kind::Refused => raw::REFUSED,
            Kind::NoDevice => raw::NO_DEVICE,
            Kind::DeviceLost => raw::DEVICE_LOST,
            Kind::BadOption => raw::BAD_OPTION,
            Kind::Cancelled => raw::CANCELLED,
            Kind::Invalid => raw::INVALID,
        }
    }
}

/// `bantam_driver_get` for `V`.
///
/// # Safety
///
/// As the header says: `theirs` and `driver` are NULL or valid for a write.
pub unsafe extern "C" fn get<V: Vendor>(
    version: u32,
    theirs: *mut u32,
    driver: *mut *const raw::Driver,
) -> raw::Status {
    if theirs.is_null() || driver.is_null() {
        return raw::INVALID;
    }
    // SAFETY: not NULL, so the caller has made it valid for a write.
    unsafe { theirs.write(raw::VERSION) };
    if version != raw::VERSION {
        return raw::VERSION_MISMATCH;
    }
    // SAFETY: as above.
    unsafe { driver.write(Table::<V>::DRIVER) };
    raw::OK
}

struct Table<V>(PhantomData<V>);

impl<V: Vendor> Table<V> {
    const DRIVER: &'static raw::Driver = &raw::Driver {
        size: size_of::<raw::Driver>(),
        name: V::NAME.as_ptr(),
        version: V::VERSION.as_ptr(),
        open: Some(open::<V>),
        close: Some(close::<V>),
        error_free: Some(error_free),
        info: Some(info::<V>),
        devices: Some(devices::<V>),
        supports: Some(supports::<V>),
        compile: Some(compile::<V>),
        executable_free: Some(executable_free::<V::Executable>),
        run: Some(run::<V::Executable>),
        submit: Some(submit::<V::Executable>),
        wait: Some(wait::<V::Executable>),
        cancel: Some(cancel::<V::Executable>),
        cost: Some(cost::<V::Executable>),
    };
}

/// What an instance handle points to.
struct Opened<V> {
    vendor: V,
    info: Info,
    target: Option<CString>,
}

/// What an executable handle points to.
struct Compiled<E> {
    executable: Arc<E>,
    submitted: Mutex<Option<Submitted>>,
}

struct Submitted {
    thread: JoinHandle<()>,
    done: Arc<Done>,
}

#[derive(Default)]
struct Done {
    result: Mutex<Option<Result<(), Error>>>,
    changed: Condvar,
}

impl Done {
    fn set(&self, result: Result<(), Error>) {
        *lock(&self.result) = Some(result);
        self.changed.notify_all();
    }

    /// The result, taken out, if there is one within `time`.
    fn within(&self, time: Duration) -> Option<Result<(), Error>> {
        let (mut result, _) = self
            .changed
            .wait_timeout_while(lock(&self.result), time, |result| result.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        result.take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|&byte| byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}

fn invalid(what: &str) -> Error {
    Error::new(Kind::Invalid, what)
}

/// Runs the body of a function; an error or a panic becomes a status and a text.
///
/// # Safety
///
/// `error` is NULL or valid for a write.
unsafe fn guard(error: *mut *mut c_char, body: impl FnOnce() -> Result<(), Error>) -> raw::Status {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return raw::OK,
        Ok(Err(failure)) => failure,
        Err(_) => Error::new(Kind::Failed, "the driver panicked"),
    };
    if !error.is_null() {
        // SAFETY: the caller vouches for it.
        unsafe { error.write(text(&failure.message).into_raw()) };
    }
    failure.status()
}

/// # Safety
///
/// `pointer` is NULL or points to a `T` that lives for `'a` and is not changed.
unsafe fn as_ref<'a, T>(pointer: *const c_void, what: &str) -> Result<&'a T, Error> {
    // SAFETY: the caller vouches for it.
    unsafe { pointer.cast::<T>().as_ref() }.ok_or_else(|| invalid(&format!("{what} is NULL")))
}

/// # Safety
///
/// `data` is NULL or points to `len` values that live for `'a` and are not changed.
unsafe fn as_slice<'a, T>(data: *const T, len: usize, what: &str) -> Result<&'a [T], Error> {
    if data.is_null() {
        let message = || invalid(&format!("{what} is NULL"));
        return if len == 0 { Ok(&[]) } else { Err(message()) };
    }
    // SAFETY: the caller vouches for it.
    Ok(unsafe { slice::from_raw_parts(data, len) })
}

/// # Safety
///
/// `pointer` is NULL or a text that lives for `'a`.
unsafe fn as_str<'a>(pointer: *const c_char, what: &str) -> Result<&'a str, Error> {
    if pointer.is_null() {
        return Err(invalid(&format!("{what} is NULL")));
    }
    // SAFETY: the caller vouches for it.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str()
        .map_err(|_| invalid(&format!("{what} is not UTF-8")))
}

unsafe extern "C" fn open<V: Vendor>(
    options: *const raw::DriverOption,
    options_count: usize,
    instance: *mut *mut raw::Instance,
    error: *mut *mut c_char,
) -> raw::Status {
    let body = || {
        if instance.is_null() {
            return Err(invalid("instance is NULL"));
        }
        // SAFETY: the caller of the table's function vouches for the array.
        let options = unsafe { as_slice(options, options_count, "options") }?;
        let mut pairs = Vec::new();
        for option in options {
            // SAFETY: the same for the texts in it.
            let key = unsafe { as_str(option.key, "the key of an option") }?;
            // SAFETY: as above.
            let value = unsafe { as_str(option.value, "the value of an option") }?;
            pairs.push((key, value));
        }
        let vendor = V::open(&pairs)?;
        let info = vendor.info();
        let target = info.target.as_deref().map(text);
        let opened = Box::new(Opened {
            vendor,
            info,
            target,
        });
        // SAFETY: not NULL, so the caller has made it valid for a write.
        unsafe { instance.write(Box::into_raw(opened).cast()) };
        Ok(())
    };
    // SAFETY: the caller vouches for `error`.
    unsafe { guard(error, body) }
}

unsafe extern "C" fn close<V: Vendor>(instance: *mut raw::Instance) {
    if instance.is_null() {
        return;
    }
    // SAFETY: a handle comes from `open` and is closed once.
    let opened = unsafe { Box::from_raw(instance.cast::<Opened<V>>()) };
    // A panic ends here, with the instance half gone; there is nobody to tell.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(opened)));
}

unsafe extern "C" fn error_free(error: *mut c_char) {
    if !error.is_null() {
        // SAFETY: a text of `guard` is freed once.
        drop(unsafe { CString::from_raw(error) });
    }
}

unsafe extern "C" fn info<V: Vendor>(
    instance: *mut raw::Instance,
    info: *mut raw::Info,
    error: *mut *mut c_char,
) -> raw::Status {
    let body = || {
        // SAFETY: a handle of this table's `open`.
        let opened: &Opened<V> = unsafe { as_ref(instance, "instance") }?;
        if info.is_null() {
            return Err(invalid("info is NULL"));
        }
        // SAFETY: the first member is there in every version.
        let size = unsafe { (&raw const (*info).size).read() };
        if size < size_of::<raw::Info>() {
            return Err(invalid("info is too small"));
        }
        let filled = raw::Info {
            size,
            target: opened.target.as_ref().map_or(ptr::null(), |t| t.as_ptr()),
            flags: if opened.info.parallel {
                raw::PARALLEL
            } else {
                0
            },
            partitions: if opened.info.first_partition_only {
                raw::FIRST_PARTITION
            } else {
                raw::ALL_PARTITIONS
            },
            min_ops: opened.info.min_ops,
            alignment: opened.info.alignment,
        };
        // SAFETY: it is large enough, by its `size`.
        unsafe { info.write(filled) };
        Ok(())
    };
    // SAFETY: the caller vouches for `error`.
    unsafe { guard(error, body) }
}

unsafe extern "C" fn devices<V: Vendor>(
    instance: *mut raw::Instance,
    on_device: Option<raw::OnDevice>,
    user: *mut c_void,
    error: *mut *mut c_char,
) -> raw::Status {
    let body = || {
        // SAFETY: a handle of this table's `open`.
        let opened: &Opened<V> = unsafe { as_ref(instance, "instance") }?;
        let on_device = on_device.ok_or_else(|| invalid("on_device is NULL"))?;
        for device in opened.vendor.devices()? {
            let (id, description) = (text(&device.id), text(&device.description));
            let device = raw::Device {
                size: size_of::<raw::Device>(),
                id: id.as_ptr(),
                description: description.as_ptr(),
            };
            // SAFETY: the caller's own callback and value; `device` is valid for the call.
            unsafe { on_device(user, &device) };
        }
        Ok(())
    };
    // SAFETY: the caller vouches for `error`.
    unsafe { guard(error, body) }
}

unsafe extern "C" fn supports<V: Vendor>(
    instance: *mut raw::Instance,
    model: *const c_void,
    model_size: usize,
    subgraph: u32,
    on_verdict: Option<raw::OnVerdict>,
    user: *mut c_void,
    error: *mut *mut c_char,
) -> raw::Status {
    let body = || {
        // SAFETY: a handle of this table's `open`.
        let opened: &Opened<V> = unsafe { as_ref(instance, "instance") }?;
        let on_verdict = on_verdict.ok_or_else(|| invalid("on_verdict is NULL"))?;
        // SAFETY: the caller vouches for the model's bytes.
        let model = unsafe { as_slice(model.cast::<u8>(), model_size, "model") }?;
        for (op, verdict) in opened.vendor.supports(model, subgraph)?.iter().enumerate() {
            let (kind, texts) = match verdict {
                Verdict::Supported => (raw::SUPPORTED, [None, None, None, None]),
                Verdict::Unknown(reason) => (raw::UNKNOWN, [None, Some(reason), None, None]),
                Verdict::Unsupported {
                    rule,
                    reason,
                    measured,
                    limit,
                } => (
                    raw::UNSUPPORTED,
                    [Some(rule), Some(reason), measured.as_ref(), limit.as_ref()],
                ),
            };
            let texts = texts.map(|t| t.map(|t| text(t)));
            let pointer = |index: usize| texts[index].as_ref().map_or(ptr::null(), |t| t.as_ptr());
            let verdict = raw::Verdict {
                size: size_of::<raw::Verdict>(),
                op: op as u32,
                verdict: kind,
                rule: pointer(0),
                reason: pointer(1),
                measured: pointer(2),
                limit: pointer(3),
            };
            // SAFETY: the caller's own callback and value; `verdict` is valid for the call.
            unsafe { on_verdict(user, &verdict) };
        }
        Ok(())
    };
    // SAFETY: the caller vouches for `error`.
    unsafe { guard(error, body) }
}

unsafe extern "C" fn compile<V: Vendor>(
    instance: *mut raw::Instance,
    device: *const c_char,
    model: *const c_void,
    model_size: usize,
    executable: *mut *mut raw::Executable,
    error: *mut *mut c_char,
) -> raw::Status {
    let body = || {
        // SAFETY: a handle of this table's `open`.
        let opened: &Opened<V> = unsafe { as_ref(instance, "instance") }?;
        if executable.is_null() {
            return Err(invalid("executable is NULL"));
        }
        let device = if device.is_null() {
            None
        } else {
            // SAFETY: the caller vouches for the text.
            Some(unsafe { as_str(device, "device") }?)
        };
        // SAFETY: the caller vouches for the model's bytes.
        let model = unsafe { as_slice(model.cast::<u8>(), model_size, "model") }?;
        let compiled = Box::new(Compiled {
            executable: Arc::new(opened.vendor.compile(device, model)?),
            submitted: Mutex::new(None),
        });
        // SAFETY: not NULL, so the caller has made it valid for a write.
        unsafe { executable.write(Box::into_raw(compiled).cast()) };
        Ok(())
    };
    // SAFETY: the caller vouches for `error`.
    unsafe { guard(error, body) }
}

unsafe extern "C" fn executable_free<E: Executable>(executable: *mut raw::Executable) {
    if executable.is_null() {
        return;
    }
    // SAFETY: a handle comes from `compile` and is freed once.
    let compiled = unsafe { Box::from_raw(executable.cast::<Compiled<E>>()) };
    // A panic ends here; there is nobody to tell.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if let Some(submitted) = lock(&compiled.submitted).take() {
            compiled.executable.cancel();
            let _ = submitted.thread.join();
        }
        drop(compiled);
    }));
}

/// The caller's buffers, which may go to the thread of a submission.
struct Buffers {
    inputs: Vec<raw::Input>,
    outputs: Vec<raw::Output>,
}

// SAFETY: the header lets a driver use the buffers from any thread until the run has ended, and nobody else does.
unsafe impl Send for Buffers {}

impl Buffers {
    /// # Safety
    ///
    /// Each array is NULL or as long as said.
    unsafe fn new(
        inputs: *const raw::Input,
        inputs_count: usize,
        outputs: *const raw::Output,
        outputs_count: usize,
    ) -> Result<Self, Error> {
        // SAFETY: the caller vouches for it.
        let inputs = unsafe { as_slice(inputs, inputs_count, "inputs") }?;
        // SAFETY: as above.
        let outputs = unsafe { as_slice(outputs, outputs_count, "outputs") }?;
        if inputs.iter().any(|i| i.data.is_null()) || outputs.iter().any(|o| o.data.is_null()) {
            return Err(invalid("a buffer is NULL"));
        }
        Ok(Self {
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
        })
    }

    /// # Safety
    ///
    /// Every buffer is valid for its size, the outputs for writes; no output overlaps another buffer.
    unsafe fn run(self, executable: &impl Executable) -> Result<(), Error> {
        let inputs: Vec<&[u8]> = self
            .inputs
            .iter()
            // SAFETY: the caller vouches for it.
            .map(|i| unsafe { slice::from_raw_parts(i.data.cast(), i.size) })
            .collect();
        let mut outputs: Vec<&mut [u8]> = self
            .outputs
            .iter()
            // SAFETY: as above.
            .map(|o| unsafe { slice::from_raw_parts_mut(o.data.cast(), o.size) })
            .collect();
        executable.run(&inputs, &mut outputs)
    }
}

unsafe extern "C" fn run<E: Executable>(
    executable: *mut raw::Executable,
    inputs: *const raw::Input,
    inputs_count: usize,
    outputs: *const raw::Output,
    outputs_count: usize,
    error: *mut *mut c_char,
) -> raw::Status {
    let body = || {
        // SAFETY: a handle of this table's `compile`.
        let compiled: &Compiled<E> = unsafe { as_ref(executable, "executable") }?;
        // SAFETY: the caller vouches for the arrays.
        let buffers = unsafe { Buffers::new(inputs, inputs_count, outputs, outputs_count) }?;
        if lock(&compiled.submitted).is_some() {
            return Err(invalid("a run is going on"));
        }
        // SAFETY: the caller vouches for the buffers until this returns.
        unsafe { buffers.run(&*compiled.executable) }
    };
    // SAFETY: the caller vouches for `error`.
    unsafe { guard(error, body) }
}

unsafe extern "C" fn submit<E: Executable>(
    executable: *mut raw::Executable,
    inputs: *const raw::Input,
    inputs_count: usize,
    outputs: *const raw::Output,
    outputs_count: usize,
    error: *mut *mut c_char,
) -> raw::Status {
    let body = || {
        // SAFETY: a handle of this table's `compile`.
        let compiled: &Compiled<E> = unsafe { as_ref(executable, "executable") }?;
        // SAFETY: the caller vouches for the arrays.
        let buffers = unsafe { Buffers::new(inputs, inputs_count, outputs, outputs_count) }?;
        let mut submitted = lock(&compiled.submitted);
        if submitted.is_some() {
            return Err(invalid("a run is going on"));
        }
        let done = Arc::new(Done::default());
        let (theirs, executable) = (Arc::clone(&done), Arc::clone(&compiled.executable));
        let work = move || {
            // SAFETY: the caller vouches for the buffers until `wait` has returned the result.
            let run = AssertUnwindSafe(|| unsafe { buffers.run(&*executable) });
            let panicked = |_| Err(Error::new(Kind::Failed, "the driver panicked"));
            theirs.set(catch_unwind(run).unwrap_or_else(panicked));
        };
        let thread = std::thread::Builder::new().spawn(work);
        let thread = thread.map_err(|e| Error::new(Kind::Failed, format!("no thread: {e}")))?;
        *submitted = Some(Submitted { thread, done });
        Ok(())
    };
    // SAFETY: the caller vouches for `error`.
    unsafe { guard(error, body) }
}

unsafe extern "C" fn wait<E: Executable>(
    executable: *mut raw::Executable,
    milliseconds: u32,
    error: *mut *mut c_char,
) -> raw::Status {
    let mut pending = false;
    let body = || {
        // SAFETY: a handle of this table's `compile`.
        let compiled: &Compiled<E> = unsafe { as_ref(executable, "executable") }?;
        let mut slot = lock(&compiled.submitted);
        let Some(submitted) = slot.as_ref() else {
            return Err(invalid("no run is going on"));
        };
        let time = Duration::from_millis(milliseconds.into());
        let Some(result) = submitted.done.within(time) else {
            pending = true;
            return Ok(());
        };
        if let Some(submitted) = slot.take() {
            let _ = submitted.thread.join();
        }
        result
    };
    // SAFETY: the caller vouches for `error`.
    let status = unsafe { guard(error, body) };
    if pending { raw::PENDING } else { status }
}

unsafe extern "C" fn cancel<E: Executable>(executable: *mut raw::Executable) {
    // SAFETY: a handle of this table's `compile`.
    if let Ok(compiled) = unsafe { as_ref::<Compiled<E>>(executable, "executable") } {
        // A panic ends here; there is nobody to tell.
        let _ = catch_unwind(AssertUnwindSafe(|| compiled.executable.cancel()));
    }
}

unsafe extern "C" fn cost<E: Executable>(
    executable: *mut raw::Executable,
    on_cost: Option<raw::OnCost>,
    user: *mut c_void,
    error: *mut *mut c_char,
) -> raw::Status {
    let body = || {
        // SAFETY: a handle of this table's `compile`.
        let compiled: &Compiled<E> = unsafe { as_ref(executable, "executable") }?;
        let on_cost = on_cost.ok_or_else(|| invalid("on_cost is NULL"))?;
        for (name, value) in compiled.executable.cost() {
            let name = text(&name);
            let cost = raw::Cost {
                size: size_of::<raw::Cost>(),
                name: name.as_ptr(),
                value,
            };
            // SAFETY: the caller's own callback and value; `cost` is valid for the call.
            unsafe { on_cost(user, &cost) };
        }
        Ok(())
    };
    // SAFETY: the caller vouches for `error`.
    unsafe { guard(error, body) }
}
