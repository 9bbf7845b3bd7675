//! The same library as a delegate for TensorFlow Lite's runtimes: they load it as an "external delegate", and it takes those
//! operators that a driver, or our own kernels, compute.
//!
//! Written against the structs of [`abi`], of which only what all versions have is looked at. A second delegate is the
//! [`spy`]: it loads somebody else's and writes down what that one does.

mod claim;
mod context;
mod graph;
mod kernel;
mod offload;
mod options;
mod record;
mod spy;

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::Arc;

use bantam_delegate::driver::tflite::abi::{self, Context, Delegate, FullDelegate, Status};

use crate::error::Failure;
use crate::guard::{as_slice, as_str, caught, free};
use crate::string::c_string;
use context::Runtime;
use offload::Offload;
use options::Request;
use spy::Spy;

/// What a runtime has of ours: first what it looks at.
#[repr(C)]
struct External {
    delegate: FullDelegate,
    role: Role,
}

enum Role {
    Offload(Arc<Offload>),
    Spy(Spy),
}

/// Where a runtime wants to be told why there is no delegate.
type ReportCreate = Option<unsafe extern "C" fn(*const c_char)>;

/// Makes a delegate of `count` options; NULL where that is not possible, after `report` was told why.
///
/// # Safety
///
/// `keys` and `values` have `count` strings each, or are NULL if that is 0; `report` is NULL or such a function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tflite_plugin_create_delegate(
    keys: *mut *mut c_char,
    values: *mut *mut c_char,
    count: usize,
    report: ReportCreate,
) -> *mut Delegate {
    let made = caught(|| {
        // SAFETY: the caller vouches for the strings.
        let pairs = unsafe { read_pairs(keys, values, count) }?;
        External::new(Request::parse(&pairs)?)
    });
    match made {
        Ok(external) => Box::into_raw(external).cast(),
        Err(failure) => {
            if let Some(report) = report {
                let message: CString = c_string(format!("bantam: {failure}"));
                // SAFETY: the caller vouches for the function; the message lives during the call.
                unsafe { report(message.as_ptr()) };
            }
            ptr::null_mut()
        }
    }
}

/// Frees what [`tflite_plugin_create_delegate`] made.
///
/// # Safety
///
/// `delegate` is NULL, or from that function and not used by any interpreter any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tflite_plugin_destroy_delegate(delegate: *mut Delegate) {
    // SAFETY: the caller vouches for it; the delegate is the first field.
    unsafe { free(delegate.cast::<External>()) }
}

/// # Safety
///
/// `keys` and `values` have `count` strings each, or are NULL if that is 0.
unsafe fn read_pairs(
    keys: *mut *mut c_char,
    values: *mut *mut c_char,
    count: usize,
) -> Result<Vec<(String, String)>, Failure> {
    // SAFETY: passed on to the caller.
    let (keys, values) = unsafe {
        (
            as_slice(keys, count, "the list of keys")?,
            as_slice(values, count, "the list of values")?,
        )
    };
    let pairs = keys.iter().zip(values).map(|(&key, &value)| {
        // SAFETY: passed on to the caller.
        let key = unsafe { as_str(key, "the key of an option") }?;
        // SAFETY: passed on to the caller.
        let value = unsafe { as_str(value, &format!("the value of option {key}")) }?;
        Ok((key.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

impl External {
    fn new(request: Request) -> Result<Box<Self>, Failure> {
        let (role, flags) = match request {
            Request::Offload(options) => {
                // Without this flag a runtime refuses models with a tensor of unknown size, and fixes the sizes of all
                // others; our kernels plan anew when theirs change.
                let flags = abi::flags::ALLOW_DYNAMIC_TENSORS;
                (Role::Offload(Arc::new(Offload::new(options)?)), flags)
            }
            Request::Spy(options) => {
                let spy = Spy::new(options)?;
                let flags = spy.flags();
                (Role::Spy(spy), flags)
            }
        };
        let mut external = Box::new(Self {
            delegate: FullDelegate {
                prefix: Delegate {
                    data: ptr::null_mut(),
                    prepare: Some(prepare),
                    copy_from_buffer_handle: None,
                    copy_to_buffer_handle: None,
                    free_buffer_handle: None,
                    flags,
                },
                opaque_delegate_builder: ptr::null_mut(),
            },
            role,
        });
        external.delegate.prefix.data = (&raw mut *external).cast();
        Ok(external)
    }
}

/// `Prepare` of the delegate: looks at the graph and claims operators.
unsafe extern "C" fn prepare(context: *mut Context, delegate: *mut Delegate) -> Status {
    // SAFETY: called by a runtime with its context.
    let Some(runtime) = (unsafe { Runtime::new(context) }) else {
        return abi::ERROR;
    };
    // SAFETY: called by a runtime with what `tflite_plugin_create_delegate` gave; only shared references are made to it.
    let Some(external) = (unsafe { delegate.cast::<External>().as_ref() }) else {
        runtime.report("bantam: Prepare without a delegate");
        return abi::ERROR;
    };
    let done = caught(|| match &external.role {
        Role::Offload(offload) => offload.prepare(runtime, delegate),
        Role::Spy(spy) => spy.prepare(runtime),
    });
    done.unwrap_or_else(|failure| {
        runtime.report(&format!("bantam: {failure}"));
        abi::DELEGATE_ERROR
    })
}
