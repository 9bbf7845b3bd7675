//! Calls that a well-behaved host does not make, to see what a library answers: NULL where there must be none, structures of
//! other versions, bytes that are no model, buffers of the wrong size. For the conformance suite.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr;

use bantam_driver_abi::raw;
use libloading::Library;

use super::api::Api;
use crate::driver::DriverError;

/// What a call answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Its status.
    pub status: raw::Status,
    /// The text of its error: `Err` if that is not UTF-8.
    pub text: Option<Result<String, ()>>,
}

/// A library whose functions are called without care.
pub(crate) struct Probe {
    entry: raw::GetFn,
    api: Api,
}

/// An instance of it.
pub(crate) struct Instance<'a> {
    probe: &'a Probe,
    raw: *mut raw::Instance,
}

/// An executable of it.
pub(crate) struct Executable<'a> {
    probe: &'a Probe,
    raw: *mut raw::Executable,
}

/// What a call wrote around a structure that was smaller or larger than the library's own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Around {
    /// What it answered.
    pub status: raw::Status,
    /// Whether a byte behind what the caller said is there was changed.
    pub is_overrun: bool,
    /// The size in the structure afterwards.
    pub size: usize,
}

unsafe extern "C" fn ignore_device(_: *mut c_void, _: *const raw::Device) {}
unsafe extern "C" fn ignore_verdict(_: *mut c_void, _: *const raw::Verdict) {}

/// What fills structures and buffers beforehand.
const FILL: u8 = 0xa5;

impl Probe {
    /// Loads the library at `path`.
    ///
    /// # Safety
    ///
    /// Loading runs the library's initialisers: `path` must name a library for `bantam_driver.h`, or none.
    pub unsafe fn load(path: &Path) -> Result<Self, DriverError> {
        // SAFETY: passed on to the caller.
        let api = unsafe { Api::load(path) }?;
        // SAFETY: loaded a second time, so nothing is initialised.
        let library = unsafe { Library::new(path) }.map_err(|error| DriverError::Load {
            path: path.display().to_string(),
            cause: error.to_string(),
        })?;
        // SAFETY: `Api::load` has found it, and the header declares it with this type.
        let entry = unsafe { library.get::<raw::GetFn>(c"bantam_driver_get") };
        let entry = *entry.map_err(|_| DriverError::Symbol {
            path: path.display().to_string(),
            symbol: "bantam_driver_get".to_owned(),
        })?;
        // `Api::load` keeps it loaded for ever.
        drop(library);
        Ok(Self { entry, api })
    }

    /// Asks for a version: the answer, the library's version, and whether a table was given.
    pub fn negotiate(&self, version: u32) -> (raw::Status, u32, bool) {
        let (mut theirs, mut table) = (u32::MAX, ptr::null());
        // SAFETY: both are valid for a write.
        let status = unsafe { (self.entry)(version, &mut theirs, &mut table) };
        (status, theirs, !table.is_null())
    }

    /// The same with a NULL in one place, then in the other.
    pub fn negotiate_nothing(&self) -> [raw::Status; 2] {
        let (mut theirs, mut table) = (0, ptr::null());
        // SAFETY: the header says that a NULL is refused.
        let first = unsafe { (self.entry)(raw::VERSION, ptr::null_mut(), &mut table) };
        // SAFETY: as above.
        let second = unsafe { (self.entry)(raw::VERSION, &mut theirs, ptr::null_mut()) };
        [first, second]
    }

    fn reply(&self, status: raw::Status, error: *mut c_char) -> Reply {
        if error.is_null() {
            return Reply { status, text: None };
        }
        // SAFETY: the call that has just ended set it to a text.
        let text = unsafe { CStr::from_ptr(error) }.to_str();
        let text = text.map(str::to_owned).map_err(|_| ());
        // SAFETY: it is the library's, and is given back once.
        unsafe { (self.api.error_free)(error) };
        Reply {
            status,
            text: Some(text),
        }
    }

    /// Opens an instance.
    pub fn open(&self, options: &[(&str, &str)]) -> (Reply, Option<Instance<'_>>) {
        let c = |text: &str| CString::new(text).unwrap_or_default();
        let texts: Vec<_> = options.iter().map(|(k, v)| (c(k), c(v))).collect();
        let pairs: Vec<_> = texts
            .iter()
            .map(|(key, value)| raw::DriverOption {
                key: key.as_ptr(),
                value: value.as_ptr(),
            })
            .collect();
        let (mut handle, mut error) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the array is as long as said and its texts live; both places are valid for a write.
        let status =
            unsafe { (self.api.open)(pairs.as_ptr(), pairs.len(), &mut handle, &mut error) };
        let reply = self.reply(status, error);
        let is_open = reply.status == raw::OK && !handle.is_null();
        let instance = is_open.then_some(Instance {
            probe: self,
            raw: handle,
        });
        (reply, instance)
    }

    /// Functions that shall do nothing with NULL, and functions that shall refuse it: their names and answers.
    pub fn nulls(&self) -> Vec<(&'static str, raw::Status)> {
        let none = ptr::null_mut();
        let api = &self.api;
        // SAFETY: the header says that NULL does nothing.
        unsafe { (api.close)(none) };
        // SAFETY: as above.
        unsafe { (api.error_free)(ptr::null_mut()) };
        // SAFETY: as above.
        unsafe { (api.executable_free)(none) };
        let no_error = ptr::null_mut();
        let mut replies = Vec::new();
        // SAFETY: the header says that a NULL is refused; here `instance`.
        let status = unsafe { (api.open)(ptr::null(), 0, ptr::null_mut(), no_error) };
        replies.push(("open without a place for the instance", status));
        // SAFETY: as above, the array.
        let status = unsafe { (api.open)(ptr::null(), 1, &mut ptr::null_mut(), no_error) };
        replies.push(("open with one option in no array", status));
        let option = raw::DriverOption {
            key: ptr::null(),
            value: ptr::null(),
        };
        // SAFETY: as above, the key.
        let status = unsafe { (api.open)(&option, 1, &mut ptr::null_mut(), no_error) };
        replies.push(("open with an option without a key", status));
        let mut info = raw::Info {
            size: size_of::<raw::Info>(),
            target: ptr::null(),
            flags: 0,
            partitions: 0,
            min_ops: 0,
            alignment: 0,
        };
        // SAFETY: as above, the instance.
        let status = unsafe { (api.info)(none, &mut info, no_error) };
        replies.push(("info without an instance", status));
        // SAFETY: as above.
        let status = unsafe { (api.devices)(none, Some(ignore_device), none, no_error) };
        replies.push(("devices without an instance", status));
        let (bytes, len) = (c"12345678".as_ptr().cast(), 8);
        // SAFETY: as above.
        let status =
            unsafe { (api.supports)(none, bytes, len, 0, Some(ignore_verdict), none, no_error) };
        replies.push(("supports without an instance", status));
        let mut made = ptr::null_mut();
        // SAFETY: as above.
        let status = unsafe { (api.compile)(none, ptr::null(), bytes, len, &mut made, no_error) };
        replies.push(("compile without an instance", status));
        // SAFETY: as above, the executable.
        let status = unsafe { (api.run)(none, ptr::null(), 0, ptr::null(), 0, no_error) };
        replies.push(("run without an executable", status));
        replies
    }
}

impl Instance<'_> {
    /// NULL in the place of each argument that must be there.
    pub fn nulls(&self, model: &[u8]) -> Vec<(&'static str, raw::Status)> {
        let api = &self.probe.api;
        let none = ptr::null_mut();
        let (bytes, len) = (model.as_ptr().cast(), model.len());
        let no_error = ptr::null_mut();
        let mut replies = Vec::new();
        // SAFETY: the header says that a NULL is refused; here `info`.
        let status = unsafe { (api.info)(self.raw, ptr::null_mut(), no_error) };
        replies.push(("info without a structure", status));
        // SAFETY: as above, the callback.
        let status = unsafe { (api.devices)(self.raw, None, none, no_error) };
        replies.push(("devices without a callback", status));
        // SAFETY: as above.
        let status = unsafe { (api.supports)(self.raw, bytes, len, 0, None, none, no_error) };
        replies.push(("supports without a callback", status));
        let callback = Some(ignore_verdict as raw::OnVerdict);
        // SAFETY: as above, the model.
        let status =
            unsafe { (api.supports)(self.raw, ptr::null(), len, 0, callback, none, no_error) };
        replies.push(("supports without a model", status));
        let device = ptr::null();
        // SAFETY: as above, the place.
        let status =
            unsafe { (api.compile)(self.raw, device, bytes, len, ptr::null_mut(), no_error) };
        replies.push(("compile without a place for the executable", status));
        let mut made = ptr::null_mut();
        // SAFETY: as above, the model.
        let status =
            unsafe { (api.compile)(self.raw, device, ptr::null(), len, &mut made, no_error) };
        replies.push(("compile without a model", status));
        replies
    }

    /// `info` on a structure that is said to be `said` bytes, in a larger place.
    pub fn info_of_size(&self, said: usize) -> Around {
        // Eight bytes each, for the alignment of the structure.
        let fill = u64::from_ne_bytes([FILL; 8]);
        let mut place = [fill; 32];
        place[0] = said as u64;
        let info = (&raw mut place).cast::<raw::Info>();
        // SAFETY: the place is longer than `said` and than the structure of any version that is known.
        let status = unsafe { (self.probe.api.info)(self.raw, info, ptr::null_mut()) };
        let own = said.max(size_of::<usize>()).min(size_of::<raw::Info>());
        // A later version's structure may be filled as far as the library knows it, which is this version's.
        let tail = &place[own.div_ceil(8)..];
        Around {
            status,
            is_overrun: tail.iter().any(|&word| word != fill),
            size: place[0] as usize,
        }
    }

    /// `supports` on any bytes.
    pub fn supports(&self, model: &[u8], subgraph: u32) -> Reply {
        let mut error = ptr::null_mut();
        // SAFETY: the bytes are as many as said; the callback ignores what it gets.
        let status = unsafe {
            (self.probe.api.supports)(
                self.raw,
                model.as_ptr().cast(),
                model.len(),
                subgraph,
                Some(ignore_verdict),
                ptr::null_mut(),
                &mut error,
            )
        };
        self.probe.reply(status, error)
    }

    /// `compile` on any bytes.
    pub fn compile(&self, model: &[u8], device: Option<&str>) -> (Reply, Option<Executable<'_>>) {
        let device = device.map(|id| CString::new(id).unwrap_or_default());
        let (mut handle, mut error) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the bytes are as many as said, the text lives, and both places are valid for a write.
        let status = unsafe {
            (self.probe.api.compile)(
                self.raw,
                device.as_ref().map_or(ptr::null(), |id| id.as_ptr()),
                model.as_ptr().cast(),
                model.len(),
                &mut handle,
                &mut error,
            )
        };
        let reply = self.probe.reply(status, error);
        let is_made = reply.status == raw::OK && !handle.is_null();
        let executable = is_made.then_some(Executable {
            probe: self.probe,
            raw: handle,
        });
        (reply, executable)
    }

    /// `compile` of what cannot be compiled, with no place for an error.
    pub fn compile_without_error(&self, model: &[u8]) -> raw::Status {
        let mut handle = ptr::null_mut();
        // SAFETY: the header says that `error` may be NULL.
        unsafe {
            (self.probe.api.compile)(
                self.raw,
                ptr::null(),
                model.as_ptr().cast(),
                model.len(),
                &mut handle,
                ptr::null_mut(),
            )
        }
    }
}

impl Executable<'_> {
    /// Runs on any buffers; NULL for `None`.
    pub fn run(&self, inputs: &[Option<&[u8]>], outputs: &mut [Option<&mut [u8]>]) -> Reply {
        let inputs: Vec<raw::Input> = inputs
            .iter()
            .map(|bytes| raw::Input {
                data: bytes.map_or(ptr::null(), |b| b.as_ptr().cast()),
                size: bytes.map_or(8, <[u8]>::len),
            })
            .collect();
        let outputs: Vec<raw::Output> = outputs
            .iter_mut()
            .map(|bytes| raw::Output {
                size: bytes.as_ref().map_or(8, |b| b.len()),
                data: bytes
                    .as_mut()
                    .map_or(ptr::null_mut(), |b| b.as_mut_ptr().cast()),
            })
            .collect();
        let mut error = ptr::null_mut();
        // SAFETY: each buffer is as long as said, or NULL, which the header says is refused.
        let status = unsafe {
            (self.probe.api.run)(
                self.raw,
                inputs.as_ptr(),
                inputs.len(),
                outputs.as_ptr(),
                outputs.len(),
                &mut error,
            )
        };
        self.probe.reply(status, error)
    }

    /// `run` with numbers of buffers in no array.
    pub fn run_without_arrays(&self, inputs: usize, outputs: usize) -> raw::Status {
        // SAFETY: the header says that a NULL is refused.
        unsafe {
            (self.probe.api.run)(
                self.raw,
                ptr::null(),
                inputs,
                ptr::null(),
                outputs,
                ptr::null_mut(),
            )
        }
    }

    /// `wait` although nothing was submitted. `None` where the driver has no such function.
    pub fn wait_for_nothing(&self) -> Option<raw::Status> {
        let (_, wait) = self.probe.api.submit?;
        // SAFETY: the executable is alive; `error` may be NULL.
        Some(unsafe { wait(self.raw, 0, ptr::null_mut()) })
    }

    /// `cancel` although nothing runs. `None` where the driver has no such function.
    pub fn cancel_nothing(&self) -> Option<()> {
        let cancel = self.probe.api.cancel?;
        // SAFETY: the executable is alive.
        unsafe { cancel(self.raw) };
        Some(())
    }
}

impl Drop for Executable<'_> {
    fn drop(&mut self) {
        // SAFETY: it came from `compile` and is freed once.
        unsafe { (self.probe.api.executable_free)(self.raw) }
    }
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        // SAFETY: it came from `open`, is closed once, and its executables borrow it.
        unsafe { (self.probe.api.close)(self.raw) }
    }
}
