//! What a process has once: the log. In one test, because all sessions of the process speak to it.

#[allow(
    non_camel_case_types,
    dead_code,
    missing_docs,
    reason = "made from the header, as it is"
)]
#[path = "api/bindings.rs"]
mod bindings;
#[path = "api/common.rs"]
mod common;

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

use bindings::*;
use common::{Session, integer_digits, refused, reshape, text};

static SAID: Mutex<Vec<(u32, String)>> = Mutex::new(Vec::new());
static SESSION: AtomicPtr<bantam_session> = AtomicPtr::new(null_mut());
static ANSWERS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

unsafe extern "C" fn keep(user: *mut c_void, level: i32, message: *const c_char) {
    assert_eq!(user.addr(), 9);
    // SAFETY: it lives during the call.
    let message = unsafe { text(message) };
    SAID.lock().unwrap().push((level as u32, message));
    let session = SESSION.load(Ordering::Relaxed);
    if !session.is_null() {
        // SAFETY: the session lives; that it is in use is what this is about.
        let status = unsafe { bantam_session_reset_variables(session, null_mut()) };
        ANSWERS.lock().unwrap().push(status as u32);
    }
}

unsafe extern "C-unwind" fn panics(_: *mut c_void, _: i32, _: *const c_char) {
    panic!("the log is full")
}

fn said() -> Vec<(u32, String)> {
    std::mem::take(&mut SAID.lock().unwrap())
}

#[test]
fn decisions_and_failures_are_told_and_a_callback_cannot_do_harm() {
    let model = integer_digits();
    let pixels = [0u8; 64 * 4];
    // SAFETY: the callback takes this pointer, which is not used.
    unsafe { bantam_set_log(Some(keep), std::ptr::without_provenance_mut(9)) };

    let session = Session::on(&model, "virtual?fault=fail&times=1").unwrap();
    let placed = said();
    assert_eq!(placed, [(BANTAM_LOG_INFO, session.summary())]);

    SESSION.store(session.0, Ordering::Relaxed);
    session.run(&[&pixels]).unwrap();
    SESSION.store(null_mut(), Ordering::Relaxed);
    let failed = said();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].0, BANTAM_LOG_WARNING);
    assert!(
        failed[0].1.contains("opened the device again"),
        "{failed:?}"
    );
    assert_eq!(*ANSWERS.lock().unwrap(), [BANTAM_BUSY]);
    session.run(&[&pixels]).unwrap();
    assert_eq!(said(), []);

    // A panic in the middle of a run: the handle is broken and says so, and others are not.
    let broken = Session::on(&model, "virtual?fault=fail&times=1").unwrap();
    type Unwinding = unsafe extern "C-unwind" fn(*mut c_void, i32, *const c_char);
    // SAFETY: the library calls it by an ABI that unwinds, which bindgen has no way to know.
    let panics: bantam_log_fn = unsafe { std::mem::transmute(panics as Unwinding) };
    // SAFETY: the callback takes any pointer.
    unsafe { bantam_set_log(panics, null_mut()) };
    refused(
        broken.run(&[&pixels]),
        "BANTAM_INTERNAL",
        "the log is full (",
    );
    let made = Session::on(&reshape(), "cpu");
    refused(made, "BANTAM_INTERNAL", "the log is full");
    // SAFETY: NULL turns it off.
    unsafe { bantam_set_log(None, null_mut()) };
    refused(broken.input(0), "BANTAM_INTERNAL", "can only be freed");
    drop(broken);
    session.run(&[&pixels]).unwrap();
    assert_eq!(said().len(), 1);
}
