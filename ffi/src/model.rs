//! `bantam_model`: a file that was read, or made.

use std::ffi::{CString, c_char, c_void};
use std::path::Path;

use ::bantam_model::{Bytes, Model};

use crate::error::{Failure, bantam_error, bantam_status, status};
use crate::guard::{as_out, as_ref, as_slice, as_str, free, guard, guard_or, null};
use crate::string::c_string;

/// Opaque to C.
pub struct bantam_model {
    pub(crate) model: Model,
    signatures: Vec<CString>,
}

const _: () = {
    // The header lets several threads use one.
    const fn is_sync<T: Sync>() {}
    is_sync::<bantam_model>();
};

impl bantam_model {
    pub(crate) fn new(model: Model) -> Self {
        let names = model.signatures.iter().map(|s| c_string(s.key.clone()));
        Self {
            signatures: names.collect(),
            model,
        }
    }

    /// The subgraph of a signature; the first where none is named.
    pub(crate) fn subgraph(&self, signature: Option<&str>) -> Result<usize, Failure> {
        let Some(key) = signature else {
            return Ok(0);
        };
        let found = self.model.signatures.iter().find(|s| s.key == key);
        let found = found.map(|signature| signature.subgraph as usize);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.model.signatures.iter().map(|s| &*s.key).collect();
            Failure::argument(format!(
                "there is no signature {key:?}; there is {}",
                match known.is_empty() {
                    true => "none".to_owned(),
                    false => known.join(", "),
                }
            ))
        })
    }

    pub(crate) fn into_raw(self) -> *mut Self {
        Box::into_raw(Box::new(self))
    }
}

/// The caller's memory, let go of when the last part of a model that borrows it is dropped.
struct Borrowed {
    data: *const u8,
    size: usize,
    release: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
    user: *mut c_void,
}

// SAFETY: the memory is only read, and the header says that any thread may release it.
unsafe impl Send for Borrowed {}
// SAFETY: as above.
unsafe impl Sync for Borrowed {}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the caller vouches for the memory until it is released, which `drop` does.
        unsafe { as_slice(self.data, self.size, "data") }.unwrap_or(&[])
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the header's contract; this runs once.
            unsafe { release(self.user) }
        }
    }
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_model_open(
    path: *const c_char,
    model: *mut *mut bantam_model,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            let place = as_out(model, "model")?;
            let path = as_str(path, "path")?;
            *place = bantam_model::new(Model::open(Path::new(path))?).into_raw();
            Ok(())
        })
    }
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_model_from_bytes(
    data: *const c_void,
    size: usize,
    model: *mut *mut bantam_model,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            let place = as_out(model, "model")?;
            if data.is_null() {
                return Err(null("data"));
            }
            let bytes = as_slice(data.cast::<u8>(), size, "data")?.to_vec();
            *place = bantam_model::new(Model::read(bytes.into())?).into_raw();
            Ok(())
        })
    }
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_model_from_static(
    data: *const c_void,
    size: usize,
    release: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
    user: *mut c_void,
    model: *mut *mut bantam_model,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // Made first, so that the memory is released whatever follows.
    let borrowed = Borrowed {
        data: data.cast(),
        size,
        release,
        user,
    };
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            let place = as_out(model, "model")?;
            if borrowed.data.is_null() {
                return Err(null("data"));
            }
            *place = bantam_model::new(Model::read(Bytes::new(borrowed))?).into_raw();
            Ok(())
        })
    }
}

/// # Safety
///
/// `model` is NULL, or from this library and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_model_free(model: *mut bantam_model) {
    // SAFETY: the caller vouches for it.
    unsafe { free(model) }
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_model_save(
    model: *const bantam_model,
    path: *const c_char,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            let model = as_ref(model, "model")?;
            let path = as_str(path, "path")?;
            let saved = model.model.save(Path::new(path));
            saved.map_err(|e| Failure::new(status::IO, format!("cannot write {path}: {e}")))
        })
    }
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_model_to_bytes(
    model: *const bantam_model,
    data: *mut *mut u8,
    size: *mut usize,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            if let Some(size) = size.as_mut() {
                *size = 0;
            }
            let place = as_out(data, "data")?;
            let size = size.as_mut().ok_or_else(|| null("size"))?;
            let bytes = as_ref(model, "model")?.model.to_bytes();
            *size = bytes.len();
            *place = Box::into_raw(bytes.into_boxed_slice()).cast();
            Ok(())
        })
    }
}

/// # Safety
///
/// `data` is NULL, or from [`bantam_model_to_bytes`] with this `size` and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_bytes_free(data: *mut u8, size: usize) {
    if !data.is_null() {
        let bytes = std::ptr::slice_from_raw_parts_mut(data, size);
        // SAFETY: the caller vouches that it is the box that was given out.
        unsafe { free(bytes) }
    }
}

/// # Safety
///
/// `model` is NULL, or from this library and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_model_signature_count(model: *const bantam_model) -> usize {
    guard_or(0, || {
        // SAFETY: the caller vouches for it.
        unsafe { model.as_ref() }.map_or(0, |model| model.signatures.len())
    })
}

/// # Safety
///
/// `model` is NULL, or from this library and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_model_signature(
    model: *const bantam_model,
    index: usize,
) -> *const c_char {
    guard_or(std::ptr::null(), || {
        // SAFETY: the caller vouches for it.
        let name = unsafe { model.as_ref() }.and_then(|model| model.signatures.get(index));
        name.map_or(std::ptr::null(), |name| name.as_ptr())
    })
}
