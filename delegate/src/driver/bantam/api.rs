//! The functions of a library, found and checked before any is called.

use std::ffi::{CStr, c_char};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr;

use bantam_driver_abi::raw;
use libloading::Library;

use crate::driver::DriverError;

/// The library's functions, all there before any is called.
pub(super) struct Api {
    pub name: String,
    pub version: String,
    pub open: raw::OpenFn,
    pub close: raw::CloseFn,
    pub error_free: raw::ErrorFreeFn,
    pub info: raw::InfoFn,
    pub devices: raw::DevicesFn,
    pub supports: raw::SupportsFn,
    pub compile: raw::CompileFn,
    pub executable_free: raw::ExecutableFn,
    pub run: raw::RunFn,
    pub submit: Option<(raw::RunFn, raw::WaitFn)>,
    pub cancel: Option<raw::ExecutableFn>,
    pub cost: Option<raw::CostFn>,
}

impl Api {
    /// Loads the library at `path`, or finds it by the system's search if it is a bare name.
    ///
    /// # Safety
    ///
    /// Loading runs the library's initialisers: `path` must name a library for `bantam_driver.h`, or none.
    pub unsafe fn load(path: &Path) -> Result<Self, DriverError> {
        let name = path.display().to_string();
        // SAFETY: the caller vouches for the library's initialisers.
        let library = unsafe { Library::new(path) }.map_err(|error| DriverError::Load {
            path: name.clone(),
            cause: chain(&error),
        })?;
        // Never unloaded: it may have threads of its own, and the table is used for ever.
        let library = ManuallyDrop::new(library);
        // SAFETY: the header declares the symbol with this type.
        let entry = unsafe { library.get::<raw::GetFn>(c"bantam_driver_get") };
        let entry = *entry.map_err(|_| DriverError::Symbol {
            path: name.clone(),
            symbol: "bantam_driver_get".to_owned(),
        })?;
        // SAFETY: the caller vouches that the library keeps the header's contract.
        unsafe { Self::from_entry(entry, name) }
    }

    /// The functions behind an entry point; `path` is for messages.
    ///
    /// # Safety
    ///
    /// `entry` does what the header says of `bantam_driver_get`.
    pub unsafe fn from_entry(entry: raw::GetFn, path: String) -> Result<Self, DriverError> {
        let wrong = |cause: String| DriverError::Load {
            path: path.clone(),
            cause,
        };
        let (mut theirs, mut table) = (0, ptr::null());
        // SAFETY: both are valid for a write.
        let status = unsafe { entry(raw::VERSION, &mut theirs, &mut table) };
        match status {
            raw::OK => {}
            raw::VERSION_MISMATCH if theirs != raw::VERSION => {
                let ours = raw::VERSION;
                return Err(DriverError::Version { theirs, ours });
            }
            status => return Err(wrong(format!("bantam_driver_get returned {status}"))),
        }
        if theirs != raw::VERSION {
            return Err(wrong(format!(
                "bantam_driver_get agreed to version {} and then named {theirs}",
                raw::VERSION
            )));
        }
        if table.is_null() {
            return Err(wrong("bantam_driver_get gave no table".to_owned()));
        }
        // SAFETY: not NULL, so the first member is there.
        let size = unsafe { (&raw const (*table).size).read() };
        if size < size_of::<raw::Driver>() {
            return Err(wrong(format!(
                "its table has {size} bytes, fewer than the {} of version {}",
                size_of::<raw::Driver>(),
                raw::VERSION
            )));
        }
        // SAFETY: it is large enough, by its own word, and never changes.
        let table = unsafe { table.read() };
        let text = |pointer, what: &str| {
            // SAFETY: the header says that a text of the table is NUL-terminated and valid for ever.
            unsafe { required(pointer) }.map_err(|cause| wrong(format!("its {what} {cause}")))
        };
        let missing: Vec<&str> = [
            ("open", table.open.is_none()),
            ("close", table.close.is_none()),
            ("error_free", table.error_free.is_none()),
            ("info", table.info.is_none()),
            ("devices", table.devices.is_none()),
            ("supports", table.supports.is_none()),
            ("compile", table.compile.is_none()),
            ("executable_free", table.executable_free.is_none()),
            ("run", table.run.is_none()),
            ("submit", table.submit.is_none() && table.wait.is_some()),
            ("wait", table.wait.is_none() && table.submit.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_missing)| is_missing.then_some(name))
        .collect();
        let (
            Some(open),
            Some(close),
            Some(error_free),
            Some(info),
            Some(devices),
            Some(supports),
            Some(compile),
            Some(executable_free),
            Some(run),
            true,
        ) = (
            table.open,
            table.close,
            table.error_free,
            table.info,
            table.devices,
            table.supports,
            table.compile,
            table.executable_free,
            table.run,
            missing.is_empty(),
        )
        else {
            return Err(wrong(format!("its table lacks {}", missing.join(", "))));
        };
        Ok(Self {
            name: text(table.name, "name")?,
            version: text(table.version, "version")?,
            open,
            close,
            error_free,
            info,
            devices,
            supports,
            compile,
            executable_free,
            run,
            submit: table.submit.zip(table.wait),
            cancel: table.cancel,
            cost: table.cost,
        })
    }

    /// The text of an error, which is freed.
    ///
    /// # Safety
    ///
    /// `error` is NULL, or a text that a function of this library has just set.
    pub unsafe fn take_error(&self, error: *mut c_char) -> Option<String> {
        if error.is_null() {
            return None;
        }
        // SAFETY: the caller vouches for it.
        let text = unsafe { CStr::from_ptr(error) }
            .to_string_lossy()
            .into_owned();
        // SAFETY: the text is the library's, and is given back once.
        unsafe { (self.error_free)(error) };
        Some(text)
    }

    /// What became of a call: `status` and `error` as it left them.
    ///
    /// # Safety
    ///
    /// As for [`Self::take_error`].
    pub unsafe fn result(
        &self,
        call: &str,
        status: raw::Status,
        error: *mut c_char,
    ) -> Result<(), DriverError> {
        // SAFETY: passed on to the caller.
        let text = unsafe { self.take_error(error) };
        let text = text.unwrap_or_else(|| format!("{call} gave no reason"));
        Err(match status {
            raw::OK => return Ok(()),
            raw::FAILED => DriverError::Failed(text),
            raw::REFUSED => DriverError::Refused(text),
            raw::NO_DEVICE => DriverError::NoDevice {
                wanted: "for the driver".to_owned(),
                present: text,
            },
            raw::DEVICE_LOST => DriverError::DeviceLost(text),
            raw::BAD_OPTION => DriverError::Option {
                option: "of the driver".to_owned(),
                cause: text,
            },
            raw::CANCELLED => DriverError::Cancelled,
            raw::INVALID => DriverError::Failed(format!("{call} was called wrongly: {text}")),
            other => DriverError::Garbage(format!("{call} returned the status {other}")),
        })
    }
}

/// The messages of `error` and of what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// A text that must be there; the error completes `its name ...`.
///
/// # Safety
///
/// `pointer` is NULL or a NUL-terminated text.
pub(super) unsafe fn required(pointer: *const c_char) -> Result<String, String> {
    // SAFETY: passed on to the caller.
    match unsafe { optional(pointer) }? {
        Some(text) if text.is_empty() => Err("is empty".to_owned()),
        Some(text) => Ok(text),
        None => Err("is NULL".to_owned()),
    }
}

/// A text that may be there.
///
/// # Safety
///
/// `pointer` is NULL or a NUL-terminated text.
pub(super) unsafe fn optional(pointer: *const c_char) -> Result<Option<String>, String> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller vouches for it.
    let text = unsafe { CStr::from_ptr(pointer) };
    match text.to_str() {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err("is not UTF-8".to_owned()),
    }
}
