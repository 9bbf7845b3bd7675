//! The log callback.

use std::ffi::{c_char, c_void};
use std::sync::RwLock;

use crate::guard::guard_or;
use crate::string::one_line;

/// `bantam_log_fn` of the header; `None` is NULL.
pub type bantam_log_fn = Option<unsafe extern "C-unwind" fn(*mut c_void, i32, *const c_char)>;

/// What deserves attention.
pub(crate) const WARNING: i32 = 1;
/// What was decided.
pub(crate) const INFO: i32 = 2;

struct Log {
    call: bantam_log_fn,
    user: *mut c_void,
}

// SAFETY: the header says that any thread may make the call, with this pointer.
unsafe impl Send for Log {}
// SAFETY: as above; several threads at a time.
unsafe impl Sync for Log {}

static LOG: RwLock<Log> = RwLock::new(Log {
    call: None,
    user: std::ptr::null_mut(),
});

/// Sets where messages go.
#[unsafe(no_mangle)]
pub extern "C" fn bantam_set_log(log: bantam_log_fn, user: *mut c_void) {
    guard_or((), || {
        let mut place = LOG.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        *place = Log { call: log, user };
    });
}

/// Hands one line to the caller's log, if there is one.
pub(crate) fn log(level: i32, message: &str) {
    let place = LOG.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (call, user) = (place.call, place.user);
    // The callback may set another.
    drop(place);
    if let Some(call) = call {
        let message = one_line(message);
        // SAFETY: the header's contract; the message lives during the call.
        unsafe { call(user, level, message.as_ptr()) }
    }
}
