//! Structs that begin with their size, so that they can grow.

use crate::error::Failure;

/// A struct of the header that begins with `struct_size`.
///
/// # Safety
///
/// The type is `repr(C)`, its first field is a `usize`, and zero bytes are a value of it.
pub(crate) unsafe trait SizeFirst: Copy {
    /// What its name is in the header.
    const NAME: &'static str;
    /// The size of its first version.
    const FIRST: usize = size_of::<Self>();
}

/// Reads as much of a struct as the caller has; the rest is zero.
///
/// # Safety
///
/// `pointer` is NULL, or valid for reads of as many bytes as its first field says.
pub(crate) unsafe fn read<T: SizeFirst>(pointer: *const T) -> Result<Option<T>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the first field is the size, which the caller vouches for.
    let size = unsafe { pointer.cast::<usize>().read() };
    check::<T>(size)?;
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the source has `size` bytes, the destination `size_of::<T>()`.
    unsafe {
        std::ptr::copy_nonoverlapping(
            pointer.cast::<u8>(),
            value.as_mut_ptr().cast::<u8>(),
            size.min(size_of::<T>()),
        );
    }
    // SAFETY: zero bytes are a value, and what was copied over them is the caller's value.
    Ok(Some(unsafe { value.assume_init() }))
}

/// Writes as much of `value` as the caller has room for, keeping the caller's size.
///
/// # Safety
///
/// `pointer` is NULL, or valid for reads and writes of as many bytes as its first field says.
pub(crate) unsafe fn write<T: SizeFirst>(pointer: *mut T, value: T) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(crate::guard::null(T::NAME));
    }
    // SAFETY: the first field is the size, which the caller vouches for.
    let size = unsafe { pointer.cast::<usize>().read() };
    check::<T>(size)?;
    let header = size_of::<usize>();
    // SAFETY: source and destination have this many bytes, and do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(
            (&raw const value).cast::<u8>().add(header),
            pointer.cast::<u8>().add(header),
            size.min(size_of::<T>()) - header,
        );
    }
    Ok(())
}

fn check<T: SizeFirst>(size: usize) -> Result<(), Failure> {
    // Far beyond any header: the field was not set.
    const MOST: usize = 1 << 16;
    if size < T::FIRST || size > MOST {
        return Err(Failure::argument(format!(
            "struct_size of {} is {size}; initialize it with its _INIT macro",
            T::NAME
        )));
    }
    Ok(())
}
