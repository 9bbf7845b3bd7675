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

/// The elements of an array from the other side; `None` for NULL, and for a count that is negative or above `most`.
///
/// # Safety
///
/// `array` is NULL or an array that stays as it is while the result lives.
pub(super) unsafe fn ints_up_to<'a>(array: *const IntArray, most: usize) -> Option<&'a [c_int]> {
    if array.is_null() {
        return None;
    }
    // SAFETY: not NULL, and the caller vouches for the rest.
    let size = usize::try_from(unsafe { (*array).size }).ok()?;
    // SAFETY: as many integers follow the count.
    (size <= most)
        .then(|| unsafe { std::slice::from_raw_parts(array.cast::<c_int>().add(1), size) })
}

/// The elements of an array of a runtime's; none for NULL or a negative count.
///
/// # Safety
///
/// `array` is NULL or an array that stays as it is while the result lives.
pub unsafe fn ints<'a>(array: *const IntArray) -> &'a [c_int] {
    // SAFETY: passed on to the caller.
    unsafe { ints_up_to(array, usize::MAX) }.unwrap_or(&[])
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

    /// More than any tensor may have: what asks for it is broken.
    const MOST: usize = 1 << 32;

    /// `None` where there is no such memory.
    pub fn zeroed(len: usize) -> Option<Self> {
        if len > Self::MOST {
            return None;
        }
        let count = (len + Self::BEYOND).div_ceil(size_of::<Line>());
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).ok()?;
        lines.resize(count, Line([0; 64]));
        Some(Self { lines, len })
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the lines have this many bytes and more, all of them initialized.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }
}
