//! `bantam_error` and `bantam_status`.

use std::ffi::{CStr, CString, c_char};
use std::fmt;

use ::bantam_model::ReadError;
use ::bantam_model::cpu::RunError;
use ::bantam_model::target::TargetError;
use bantam_converter::{ConvertError, LegalizeError, RecipeError};
use bantam_delegate::{DriverError, OffloadError, SessionError};

use crate::guard::guard_or;
use crate::string::one_line;

/// A stable number, see [`status`].
pub type bantam_status = i32;

/// The values of [`bantam_status`], as in the header.
#[expect(missing_docs, reason = "the header documents them")]
pub mod status {
    use super::bantam_status;

    pub const OK: bantam_status = 0;
    pub const INVALID_ARGUMENT: bantam_status = 1;
    pub const IO: bantam_status = 2;
    pub const INVALID_MODEL: bantam_status = 3;
    pub const UNSUPPORTED: bantam_status = 4;
    pub const DRIVER: bantam_status = 5;
    pub const NOT_DELEGATED: bantam_status = 6;
    pub const BUSY: bantam_status = 7;
    pub const CANCELLED: bantam_status = 8;
    pub const RUN: bantam_status = 9;
    pub const INTERNAL: bantam_status = 10;
}

const NAMES: [&CStr; 11] = [
    c"BANTAM_OK",
    c"BANTAM_INVALID_ARGUMENT",
    c"BANTAM_IO",
    c"BANTAM_INVALID_MODEL",
    c"BANTAM_UNSUPPORTED",
    c"BANTAM_DRIVER",
    c"BANTAM_NOT_DELEGATED",
    c"BANTAM_BUSY",
    c"BANTAM_CANCELLED",
    c"BANTAM_RUN",
    c"BANTAM_INTERNAL",
];

/// What went wrong: opaque to C.
pub struct bantam_error {
    status: bantam_status,
    message: CString,
}

/// A status and its text, on its way to the caller.
#[derive(Debug)]
pub(crate) struct Failure {
    pub status: bantam_status,
    pub message: String,
}

impl Failure {
    pub fn new(status: bantam_status, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, message }
    }

    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(status::INVALID_ARGUMENT, message)
    }

    /// The same, with what it is about in front.
    pub fn of(self, what: impl fmt::Display) -> Self {
        Self::new(self.status, format!("{what}: {}", self.message))
    }

    /// `error` with its causes.
    fn chain(status: bantam_status, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message += &format!(": {error}");
            cause = error.source();
        }
        Self { status, message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Failure> for bantam_error {
    fn from(failure: Failure) -> Self {
        Self {
            status: failure.status,
            message: one_line(&failure.message),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let status = match error {
            ReadError::File { .. } => status::IO,
            _ => status::INVALID_MODEL,
        };
        Self::chain(status, &error)
    }
}

impl Failure {
    /// Why a model cannot be prepared.
    fn of_plan(error: &RunError) -> Self {
        let status = match error {
            RunError::Graph(_) => status::INVALID_MODEL,
            RunError::NoKernel { .. } | RunError::Op { .. } | RunError::Memory { .. } => {
                status::UNSUPPORTED
            }
            RunError::Data(_) => status::INVALID_ARGUMENT,
            _ => status::RUN,
        };
        Self::chain(status, error)
    }

    /// Why a model that was prepared did not run to its end.
    pub fn of_run(error: &RunError) -> Self {
        let status = match error {
            RunError::Data(_) => status::INVALID_ARGUMENT,
            // The only kernels from outside are those of drivers.
            RunError::Custom { source, .. } => match source.reason() {
                Some(OffloadError::Required { .. }) => status::NOT_DELEGATED,
                _ => status::DRIVER,
            },
            _ => status::RUN,
        };
        Self::chain(status, error)
    }
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        Self::chain(status::DRIVER, &error)
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Read(error) => error.into(),
            SessionError::Run(error) => Self::of_plan(&error),
            error @ SessionError::NotDelegated(_) => Self::chain(status::NOT_DELEGATED, &error),
            error => Self::chain(status::DRIVER, &error),
        }
    }
}

impl From<RecipeError> for Failure {
    fn from(error: RecipeError) -> Self {
        Self::chain(status::INVALID_ARGUMENT, &error)
    }
}

impl From<ConvertError> for Failure {
    fn from(error: ConvertError) -> Self {
        let status = match error {
            ConvertError::Run(error) => return Self::of_plan(&error),
            ConvertError::Sample { .. } | ConvertError::NoSamples => status::INVALID_ARGUMENT,
            _ => status::UNSUPPORTED,
        };
        Self::chain(status, &error)
    }
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        Self::chain(status::INVALID_ARGUMENT, &error)
    }
}

impl From<LegalizeError> for Failure {
    fn from(error: LegalizeError) -> Self {
        Self::chain(status::UNSUPPORTED, &error)
    }
}

/// # Safety
///
/// `error` is NULL, or from this library and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_error_status(error: *const bantam_error) -> bantam_status {
    guard_or(status::INTERNAL, || {
        // SAFETY: the caller vouches for `error`.
        unsafe { error.as_ref() }.map_or(status::OK, |error| error.status)
    })
}

/// # Safety
///
/// `error` is NULL, or from this library and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_error_message(error: *const bantam_error) -> *const c_char {
    guard_or(c"".as_ptr(), || {
        // SAFETY: the caller vouches for `error`.
        unsafe { error.as_ref() }.map_or(c"".as_ptr(), |error| error.message.as_ptr())
    })
}

/// # Safety
///
/// `error` is NULL, or from this library and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_error_free(error: *mut bantam_error) {
    // SAFETY: the caller vouches for `error`.
    unsafe { crate::guard::free(error) }
}

/// The name of a status.
#[unsafe(no_mangle)]
pub extern "C" fn bantam_status_name(status: bantam_status) -> *const c_char {
    let name = usize::try_from(status).ok().and_then(|i| NAMES.get(i));
    name.copied().unwrap_or(c"unknown status").as_ptr()
}
