//! What stands between C and Rust: NULL, errors and panics become a status.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::error::{Failure, bantam_error, bantam_status, status};

/// Runs `body`; an error or a panic of it becomes a status and, where `error` is not NULL, a
/// `bantam_error`.
///
/// # Safety
///
/// `error` is NULL or valid for a write.
pub(crate) unsafe fn guard(
    error: *mut *mut bantam_error,
    body: impl FnOnce() -> Result<(), Failure>,
) -> bantam_status {
    let failure = caught(body).err();
    let status = failure.as_ref().map_or(status::OK, |f| f.status);
    if !error.is_null() {
        let made = failure.map_or(std::ptr::null_mut(), |f| Box::into_raw(Box::new(f.into())));
        // SAFETY: the caller vouches for `error`, which is not NULL.
        unsafe { error.write(made) };
    }
    status
}

/// What `body` returns, a panic of it included.
pub(crate) fn caught<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let _quiet = Quiet::new();
    // A handle that a panic leaves half changed is only ever freed: the header says so.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let place = PLACE.take().map_or(String::new(), |at| format!(" ({at})"));
        let message = format!("internal error: {}{place}", panic_text(&*panic));
        // Dropping a foreign payload may panic again.
        std::mem::forget(panic);
        Err(Failure::new(status::INTERNAL, message))
    })
}

thread_local! {
    /// How many calls of [`caught`] this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Where this thread panicked last.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// How many calls of [`caught`] all threads are in.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// While it lives, a panic of this thread, or of one that works for it, prints nothing.
struct Quiet;

impl Quiet {
    fn new() -> Self {
        static HOOK: Once = Once::new();
        // A thread that unwinds, which a caller in Rust may, cannot set a hook.
        if !thread::panicking() {
            HOOK.call_once(|| {
                let others = panic::take_hook();
                panic::set_hook(Box::new(move |panic| match is_ours() {
                    true => keep_place(panic),
                    false => others(panic),
                }));
            });
        }
        DEPTH.set(DEPTH.get() + 1);
        CALLS.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        CALLS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether this thread is in a call of the library's, or may be one of its pools: those have no name.
fn is_ours() -> bool {
    DEPTH.get() > 0 || (CALLS.load(Ordering::Relaxed) > 0 && thread::current().name().is_none())
}

fn keep_place(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    PLACE.with(|kept| *kept.borrow_mut() = place);
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

/// What `body` returns, or `otherwise` if it panics.
pub(crate) fn guard_or<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    caught(|| Ok(body())).unwrap_or(otherwise)
}

/// # Safety
///
/// `pointer` is NULL or valid for reads while the result lives.
pub(crate) unsafe fn as_ref<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller vouches for it.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// Sets what a result is to be put into to NULL, and gives the place.
///
/// # Safety
///
/// `pointer` is NULL or valid for writes while the result lives.
pub(crate) unsafe fn as_out<'a, T>(
    pointer: *mut *mut T,
    name: &str,
) -> Result<&'a mut *mut T, Failure> {
    // SAFETY: the caller vouches for it.
    let place = unsafe { pointer.as_mut() }.ok_or_else(|| null(name))?;
    *place = std::ptr::null_mut();
    Ok(place)
}

/// The elements of an array, which may be NULL if it has none.
///
/// # Safety
///
/// `pointer` is NULL or has `len` elements that are valid for reads while the result lives.
pub(crate) unsafe fn as_slice<'a, T>(
    pointer: *const T,
    len: usize,
    name: &str,
) -> Result<&'a [T], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(null(name));
    }
    if len > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Failure::argument(format!("{name} has {len} elements")));
    }
    // SAFETY: not NULL, and the caller vouches for its elements.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// The same for writes.
///
/// # Safety
///
/// `pointer` is NULL or has `len` elements that are valid for writes, and that nothing else uses,
/// while the result lives.
pub(crate) unsafe fn as_mut_slice<'a, T>(
    pointer: *mut T,
    len: usize,
    name: &str,
) -> Result<&'a mut [T], Failure> {
    // SAFETY: passed on to the caller; this checks the pointer and the length.
    unsafe { as_slice(pointer, len, name) }?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: checked above, and the caller vouches for the elements.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, len) })
}

/// A string, which may be NULL.
///
/// # Safety
///
/// `pointer` is NULL or a string that lives as long as the result.
pub(crate) unsafe fn optional_str<'a>(
    pointer: *const c_char,
    name: &str,
) -> Result<Option<&'a str>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, and the caller vouches for the string.
    let text = unsafe { CStr::from_ptr(pointer) };
    let text = text.to_str();
    text.map(Some)
        .map_err(|_| Failure::argument(format!("{name} is not UTF-8")))
}

/// A string, which may not be NULL.
///
/// # Safety
///
/// `pointer` is NULL or a string that lives as long as the result.
pub(crate) unsafe fn as_str<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Failure> {
    // SAFETY: passed on to the caller.
    unsafe { optional_str(pointer, name) }?.ok_or_else(|| null(name))
}

/// An array of strings, of which none may be NULL.
///
/// # Safety
///
/// `pointer` is NULL or has `len` elements, each NULL or a string that lives as long as the result.
pub(crate) unsafe fn as_strs<'a>(
    pointer: *const *const c_char,
    len: usize,
    name: &str,
) -> Result<Vec<&'a str>, Failure> {
    // SAFETY: passed on to the caller.
    let strings = unsafe { as_slice(pointer, len, name) }?;
    let strings = strings.iter().map(|&string| {
        // SAFETY: passed on to the caller.
        unsafe { as_str(string, name) }
    });
    strings.collect()
}

pub(crate) fn null(name: &str) -> Failure {
    Failure::argument(format!("{name} is NULL"))
}

/// Frees a handle.
///
/// # Safety
///
/// `pointer` is NULL, or came from [`Box::into_raw`] and is not used again.
pub(crate) unsafe fn free<T: ?Sized>(pointer: *mut T) {
    if !pointer.is_null() {
        guard_or((), || {
            // SAFETY: not NULL, and the caller vouches for the rest.
            drop(unsafe { Box::from_raw(pointer) });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_says_where() {
        let failure = caught::<()>(|| panic!("no {}", "good")).unwrap_err();
        assert_eq!(failure.status, status::INTERNAL);
        let (start, place) = ("internal error: no good (", "guard.rs:");
        assert!(failure.message.starts_with(start), "{failure}");
        assert!(failure.message.contains(place), "{failure}");
    }

    #[test]
    fn a_payload_that_is_no_text_is_an_error_as_well() {
        let failure = caught::<()>(|| panic::panic_any(7)).unwrap_err();
        assert!(failure.message.contains("a panic without a message"));
    }

    #[test]
    fn panics_outside_of_calls_are_not_the_librarys() {
        assert!(!is_ours());
        assert!(caught(|| Ok(is_ours())).unwrap());
        assert!(!is_ours());
    }

    #[test]
    fn arrays_without_end_are_refused() {
        let one = 1u16;
        // SAFETY: the length is refused before anything is read.
        let slice = unsafe { as_slice(&raw const one, usize::MAX, "numbers") };
        assert!(slice.unwrap_err().message.starts_with("numbers has"));
        // SAFETY: an array without elements may be NULL.
        let slice = unsafe { as_slice(std::ptr::null::<u16>(), 0, "numbers") };
        assert!(slice.unwrap().is_empty());
    }
}
