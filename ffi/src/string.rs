//! Text that the caller is given, and the version.

use std::ffi::{CString, c_char};

use crate::guard::guard_or;

/// The version of the library.
#[unsafe(no_mangle)]
pub extern "C" fn bantam_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// `BANTAM_ABI_VERSION` of the library.
#[unsafe(no_mangle)]
pub extern "C" fn bantam_abi_version() -> u32 {
    1
}

/// `text` as the caller gets it: a zero byte in it becomes U+FFFD.
pub(crate) fn c_string(text: impl Into<String>) -> CString {
    let text: String = text.into();
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// Frees what a function of this library says shall be freed by this one.
///
/// # Safety
///
/// `text` is NULL, or from such a function and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_string_free(text: *mut c_char) {
    if !text.is_null() {
        guard_or((), || {
            // SAFETY: the caller vouches that it came from `CString::into_raw`.
            drop(unsafe { CString::from_raw(text) });
        });
    }
}
