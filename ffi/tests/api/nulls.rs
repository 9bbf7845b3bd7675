//! NULL wherever a pointer goes.

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bindings::*;
use crate::common::{Model, digits, refused, reshape, text};

#[test]
fn this_file_calls_every_function() {
    let bindings = include_str!("bindings.rs");
    let functions = bindings.split("pub fn ").skip(1);
    for name in functions.map(|rest| rest.split('(').next().unwrap()) {
        assert!(
            include_str!("nulls.rs").contains(&format!("{name}(")),
            "{name}"
        );
    }
}

#[test]
fn what_is_freed_or_asked_may_be_null() {
    // SAFETY: the header allows NULL, which is what this is about.
    unsafe {
        bantam_error_free(null_mut());
        bantam_model_free(null_mut());
        bantam_session_free(null_mut());
        bantam_bytes_free(null_mut(), 7);
        bantam_string_free(null_mut());
        assert_eq!(bantam_error_status(null()) as u32, BANTAM_OK);
        assert_eq!(text(bantam_error_message(null())), "");
        assert_eq!(bantam_model_signature_count(null()), 0);
        assert!(bantam_model_signature(null(), 0).is_null());
        assert_eq!(bantam_session_input_count(null()), 0);
        assert_eq!(bantam_session_output_count(null()), 0);
        assert_eq!(bantam_session_op_count(null()), 0);
        assert_eq!(text(bantam_session_summary(null())), "");
        assert!(!text(bantam_version()).is_empty());
        assert!(bantam_abi_version() > 0);
        assert_eq!(text(bantam_status_name(0)), "BANTAM_OK");
        tflite_plugin_destroy_delegate(null_mut());
        let no_options = tflite_plugin_create_delegate(null_mut(), null_mut(), 0, None);
        assert!(!no_options.is_null());
        tflite_plugin_destroy_delegate(no_options);
        let no_array = tflite_plugin_create_delegate(null_mut(), null_mut(), 1, None);
        assert!(no_array.is_null());
    }
}

/// `function` with these arguments and each kind of `error` is refused for what is in the last.
macro_rules! null {
    ($function:ident($($arg:expr),*): $what:literal) => {
        refused(call!($function($($arg),*)), "BANTAM_INVALID_ARGUMENT", concat!($what, " is NULL"));
        // SAFETY: as above, and errors need not be asked for.
        let status = unsafe { $function($($arg,)* null_mut()) };
        assert_eq!(status as u32, BANTAM_INVALID_ARGUMENT);
    };
}

#[test]
fn functions_on_models_refuse_null() {
    let model = reshape();
    let path = c"/tmp/x".as_ptr();
    let byte = [0u8; 4];
    let data = byte.as_ptr().cast::<c_void>();
    let mut made = null_mut();
    let (mut bytes, mut size) = (null_mut(), 7);
    null!(bantam_model_open(null(), &mut made): "path");
    null!(bantam_model_open(path, null_mut()): "model");
    null!(bantam_model_from_bytes(null(), 4, &mut made): "data");
    null!(bantam_model_from_bytes(null(), 0, &mut made): "data");
    null!(bantam_model_from_bytes(data, 4, null_mut()): "model");
    null!(bantam_model_from_static(null(), 4, None, null_mut(), &mut made): "data");
    null!(bantam_model_from_static(data, 4, None, null_mut(), null_mut()): "model");
    null!(bantam_model_save(null(), path): "model");
    null!(bantam_model_save(model.0, null()): "path");
    null!(bantam_model_to_bytes(null(), &mut bytes, &mut size): "model");
    assert_eq!(size, 0);
    size = 7;
    null!(bantam_model_to_bytes(model.0, null_mut(), &mut size): "data");
    assert_eq!(size, 0);
    null!(bantam_model_to_bytes(model.0, &mut bytes, null_mut()): "size");
    assert!(made.is_null() && bytes.is_null());
}

#[test]
fn memory_is_released_once_when_a_model_is_refused() {
    static RELEASED: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C" fn release(user: *mut c_void) {
        assert_eq!(user.addr(), 5);
        RELEASED.fetch_add(1, Ordering::Relaxed);
    }
    let (user, mut made) = (std::ptr::without_provenance_mut(5), null_mut());
    let junk = [1u8; 16];
    let data = junk.as_ptr().cast();
    let result = call!(bantam_model_from_static(
        null(),
        4,
        Some(release),
        user,
        &mut made
    ));
    refused(result, "BANTAM_INVALID_ARGUMENT", "data is NULL");
    assert_eq!(RELEASED.load(Ordering::Relaxed), 1);
    let result = call!(bantam_model_from_static(
        data,
        16,
        Some(release),
        user,
        null_mut()
    ));
    refused(result, "BANTAM_INVALID_ARGUMENT", "model is NULL");
    assert_eq!(RELEASED.load(Ordering::Relaxed), 2);
    let result = call!(bantam_model_from_static(
        data,
        16,
        Some(release),
        user,
        &mut made
    ));
    refused(result, "BANTAM_INVALID_MODEL", "");
    assert_eq!(RELEASED.load(Ordering::Relaxed), 3);
    assert!(made.is_null());
}

#[test]
fn functions_on_sessions_refuse_null() {
    let model = reshape();
    let session = model.session();
    let s = session.0;
    let mut made = null_mut();
    null!(bantam_session_new(null(), null(), &mut made): "model");
    null!(bantam_session_new(model.0, null(), null_mut()): "session");
    let mut info = crate::common::tensor_info();
    null!(bantam_session_input(null(), 0, &mut info): "session");
    null!(bantam_session_input(s, 0, null_mut()): "bantam_tensor_info");
    null!(bantam_session_output(null(), 0, &mut info): "session");
    null!(bantam_session_output(s, 0, null_mut()): "bantam_tensor_info");
    assert!(info.name.is_null());
    null!(bantam_session_resize_input(null_mut(), 0, null(), 0): "session");
    null!(bantam_session_resize_input(s, 0, null(), 2): "shape");
    null!(bantam_session_run(null_mut(), null(), 0, null(), 0): "session");
    null!(bantam_session_run(s, null(), 2, null(), 0): "inputs");
    null!(bantam_session_run(s, null(), 0, null(), 1): "outputs");
    null!(bantam_session_run_async(null_mut(), null(), 0, null(), 0, None, null_mut()): "session");
    null!(bantam_session_run_async(s, null(), 2, null(), 0, None, null_mut()): "inputs");
    null!(bantam_session_wait(null_mut()): "session");
    null!(bantam_session_reset_variables(null_mut()): "session");
    let mut placement = bantam_placement {
        struct_size: size_of::<bantam_placement>(),
        // SAFETY: zero is a value of each field.
        ..unsafe { std::mem::zeroed() }
    };
    null!(bantam_session_placement(null(), 0, &mut placement): "session");
    null!(bantam_session_report(s, null_mut()): "json");
    let mut json = std::ptr::dangling_mut();
    null!(bantam_session_report(null(), &mut json): "session");
    assert!(json.is_null());

    let input = bantam_input {
        data: null(),
        size: 24,
    };
    let output = bantam_output {
        data: null_mut(),
        size: 24,
    };
    null!(bantam_session_run(s, &input, 1, null(), 0): "input 0: its data");
    null!(bantam_session_run(s, null(), 0, &output, 1): "output 0: its data");
}

#[test]
fn conversion_refuses_null() {
    let model = Model::open(digits().to_str().unwrap()).unwrap();
    let (mut made, mut report) = (null_mut(), std::ptr::dangling_mut());
    null!(bantam_convert(null(), null(), None, null_mut(), &mut made, &mut report): "model");
    assert!(report.is_null());
    report = std::ptr::dangling_mut();
    null!(bantam_convert(model.0, null(), None, null_mut(), null_mut(), &mut report): "converted");
    assert!(report.is_null());
    let result = call!(bantam_convert(
        model.0,
        null(),
        None,
        null_mut(),
        &mut made,
        null_mut()
    ));
    refused(result, "BANTAM_INVALID_ARGUMENT", "at least one sample");
    assert!(made.is_null());
}

#[test]
fn the_log_may_be_null() {
    // SAFETY: NULL turns it off.
    unsafe { bantam_set_log(None, null_mut()) }
}
