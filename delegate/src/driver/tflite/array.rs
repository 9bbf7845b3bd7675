//! Arrays that either side of the interface may free, and memory that kernels may read beyond.

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};

use super::abi::{FloatArray, IntArray};

unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn free(pointer: *mut c_void);
}

/// An [`IntArray`], freed when dropped.
pub struct Ints(NonNull<IntArray>);

impl Ints {
    /// An array of `values`.
    pub fn new(values: impl IntoIterator<Item = c_int>) -> Self {
        let values: Vec<c_int> = values.into_iter().collect();
        Self(sized_array(&values).cast())
    }

    /// The array, which stays this one's.
    pub fn as_ptr(&self) -> *mut IntArray {
        self.0.as_ptr()
    }

    /// Gives it away, to a side that frees it.
    pub fn into_raw(self) -> *mut IntArray {
        let raw = self.as_ptr();
        std::mem::forget(self);
        raw
    }
}

impl Drop for Ints {
    fn drop(&mut self) {
        // SAFETY: it came from `malloc`.
        unsafe { free_array(self.as_ptr()) }
    }
}

/// A [`FloatArray`], to be freed by [`free_array`].
pub(super) fn floats(values: &[f32]) -> *mut FloatArray {
    sized_array(values).cast().as_ptr()
}

/// The number of elements and then the elements, which are of four bytes each.
fn sized_array<T: Copy>(values: &[T]) -> NonNull<c_int> {
    const { assert!(size_of::<T>() == size_of::<c_int>() && align_of::<T>() == align_of::<c_int>()) };
    let size = size_of::<c_int>() * (values.len() + 1);
    // SAFETY: `size` is not 0.
    let raw = unsafe { malloc(size) }.cast::<c_int>();
    let Some(array) = NonNull::new(raw) else {
        std::alloc::handle_alloc_error(
            std::alloc::Layout::array::<c_int>(values.len() + 1)
                .unwrap_or(std::alloc::Layout::new::<c_int>()),
        )
    };
    // SAFETY: the memory has room for the count and the elements.
    unsafe {
        raw.write(values.len() as c_int);
        ptr::copy_nonoverlapping(values.as_ptr(), raw.add(1).cast::<T>(), values.len());
    }
    array
}

/// # Safety
///
/// `array` is NULL, or came from `malloc`, here or on the other side, and is not used again.
pub(super) unsafe fn free_array<T>(array: *mut T) {
    // SAFETY: the caller vouches for it.
    unsafe { free(array.cast()) }
}

/// The elements of an array from the other side; none for NULL or a negative count.
///
/// # Safety
///
/// `array` is NULL or an array that stays as it is while the result lives.
pub unsafe fn ints<'a>(array: *const IntArray) -> &'a [c_int] {
    if array.is_null() {
        return &[];
    }
    // SAFETY: not NULL, and the caller vouches for the rest.
    let size = unsafe { (*array).size };
    let Ok(size) = usize::try_from(size) else {
        return &[];
    };
    // SAFETY: as many integers follow the count.
    unsafe { std::slice::from_raw_parts(array.cast::<c_int>().add(1), size) }
}

/// Bytes aligned to 64, with as many behind them as vector loads may touch.
pub(super) struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

impl Buffer {
    /// How many bytes a kernel may read beyond the end.
    const BEYOND: usize = 64;

    pub fn zeroed(len: usize) -> Self {
        let lines = len.saturating_add(Self::BEYOND).div_ceil(size_of::<Line>());
        Self {
            lines: vec![Line([0; 64]); lines],
            len,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }
}
