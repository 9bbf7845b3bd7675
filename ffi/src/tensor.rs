//! `bantam_tensor_info`: what an input or output of a session is.

use std::ffi::{CString, c_char};

use bantam_delegate::TensorInfo;

use crate::error::Failure;
use crate::string::c_string;
use crate::struct_size::{self, SizeFirst};

/// See the header.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the header documents them")]
pub struct bantam_tensor_info {
    pub struct_size: usize,
    pub name: *const c_char,
    pub dtype: i32,
    pub rank: usize,
    pub shape: *const usize,
    pub byte_size: usize,
    pub scale_count: usize,
    pub scales: *const f32,
    pub zero_points: *const i64,
    pub quantized_dimension: i32,
}

// SAFETY: `repr(C)`, the size comes first, and zero is a value of every field.
unsafe impl SizeFirst for bantam_tensor_info {
    const NAME: &'static str = "bantam_tensor_info";
}

/// What the pointers of a [`bantam_tensor_info`] point into.
pub(crate) struct TensorRecord {
    name: CString,
    info: TensorInfo,
}

impl TensorRecord {
    pub fn new(info: &TensorInfo) -> Self {
        Self {
            name: c_string(info.name.clone()),
            info: info.clone(),
        }
    }

    /// Takes over the shape that a run gave, which is most often the one before.
    pub fn update(&mut self, info: &TensorInfo) {
        if self.info.shape != info.shape {
            self.info.shape.clone_from(&info.shape);
        }
    }

    /// # Safety
    ///
    /// `place` is NULL, or valid for as many bytes as its `struct_size` says.
    pub unsafe fn write(&self, place: *mut bantam_tensor_info) -> Result<(), Failure> {
        let info = &self.info;
        let (scales, zero_points, axis) = match &info.quantization {
            Some(q) if q.scale.len() == q.zero_point.len() => (&*q.scale, &*q.zero_point, q.axis),
            _ => (&[][..], &[][..], 0),
        };
        let value = bantam_tensor_info {
            struct_size: size_of::<bantam_tensor_info>(),
            name: self.name.as_ptr(),
            dtype: i32::from(info.dtype.code().0),
            rank: info.shape.len(),
            shape: info.shape.as_ptr(),
            byte_size: info.dtype.byte_len(&info.shape).unwrap_or(0),
            scale_count: scales.len(),
            scales: scales.as_ptr(),
            zero_points: zero_points.as_ptr(),
            quantized_dimension: axis,
        };
        // SAFETY: passed on to the caller.
        unsafe { struct_size::write(place, value) }
    }
}
