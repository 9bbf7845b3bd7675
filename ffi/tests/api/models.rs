//! Models: where they come from, and where they go.

use std::ffi::{CString, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bindings::*;
use crate::common::{Model, digits, refused, reshape, text};

#[test]
fn a_model_comes_back_from_a_file_and_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.tflite");
    let path = path.to_str().unwrap();
    let model = reshape();
    let c_path = CString::new(path).unwrap();
    call!(bantam_model_save(model.0, c_path.as_ptr())).unwrap();
    let bytes = model.bytes();
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    assert_eq!(Model::open(path).unwrap().bytes(), bytes);
    assert_eq!(Model::of(&bytes).unwrap().bytes(), bytes);
}

#[test]
fn a_model_that_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/model.tflite");
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let saved = call!(bantam_model_save(reshape().0, path.as_ptr()));
    refused(saved, "BANTAM_IO", "missing/model.tflite");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn files_that_are_none_are_refused() {
    refused(
        Model::open("/nowhere/model.tflite"),
        "BANTAM_IO",
        "/nowhere/model.tflite",
    );
    refused(
        Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        "BANTAM_IO",
        "src",
    );
    refused(Model::of(b"no model"), "BANTAM_INVALID_MODEL", "");
    refused(Model::of(&[]), "BANTAM_INVALID_MODEL", "");
}

#[test]
fn truncated_models_are_refused_or_sound() {
    let bytes = reshape().bytes();
    for len in 1..bytes.len() {
        if let Ok(model) = Model::of(&bytes[..len]) {
            model.bytes();
        }
    }
}

#[test]
fn strings_must_be_utf8() {
    let mut model = null_mut();
    let result = call!(bantam_model_open(c"\xff".as_ptr(), &mut model));
    refused(result, "BANTAM_INVALID_ARGUMENT", "path is not UTF-8");
}

#[test]
fn signatures_are_named() {
    let model = reshape();
    // SAFETY: the model lives.
    unsafe {
        assert_eq!(bantam_model_signature_count(model.0), 1);
        assert_eq!(text(bantam_model_signature(model.0, 0)), "reshape");
        assert!(bantam_model_signature(model.0, 1).is_null());
    }
}

#[test]
fn memory_in_place_is_released_when_the_last_user_is_gone() {
    static RELEASED: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C" fn release(user: *mut c_void) {
        RELEASED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: what `user` was made of.
        drop(unsafe { Box::from_raw(user.cast::<Vec<u8>>()) });
    }
    let bytes = Box::new(std::fs::read(digits()).unwrap());
    let (data, size) = (bytes.as_ptr().cast(), bytes.len());
    let user = Box::into_raw(bytes).cast();
    let mut model = null_mut();
    call!(bantam_model_from_static(
        data,
        size,
        Some(release),
        user,
        &mut model
    ))
    .unwrap();
    let session = Model(model).session();
    assert_eq!(RELEASED.load(Ordering::Relaxed), 0);
    let pixels = vec![0; session.input(0).unwrap().byte_size];
    session.run(&[&pixels]).unwrap();
    drop(session);
    assert_eq!(RELEASED.load(Ordering::Relaxed), 1);
}
