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

/// The same in one line: parsers' errors show where they stopped in several.
pub(crate) fn one_line(text: &str) -> CString {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    c_string(lines.collect::<Vec<_>>().join(" "))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_line_without_zero_bytes() {
        assert_eq!(one_line("a\n  | b\r\n\n c\n").as_c_str(), c"a | b c");
        assert_eq!(one_line("a\0b").to_str().unwrap(), "a\u{fffd}b");
        assert_eq!(one_line("").as_c_str(), c"");
    }
}
