//! Structs that begin with their size, so that they can grow.

use crate::error::Failure;

/// A struct of the header that begins with `struct_size`.
///
/// # Safety
///
/// The type is `repr(C)`, its first field is a `usize`, and zero bytes are a value of it. One that is
/// read ends without padding, whose bytes nobody sets.
pub(crate) unsafe trait SizeFirst: Copy {
    /// What its name is in the header.
    const NAME: &'static str;
    /// The size of its first version.
    const FIRST: usize = size_of::<Self>();
}

/// Reads as much of a struct as the caller has; the rest is zero. What a newer caller has besides
/// must be zero: an option that is not known is refused, not ignored.
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
    let known = size_of::<T>().min(size);
    // SAFETY: the caller vouches for `size` bytes; those behind what is known are bytes of fields,
    // which an _INIT macro has set.
    let unknown =
        unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
    if unknown.iter().any(|&byte| byte != 0) {
        return Err(Failure::argument(format!(
            "{} has a field that this version of the library does not know",
            T::NAME
        )));
    }
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the source has `size` bytes, the destination `size_of::<T>()`.
    unsafe {
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), known);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[repr(C)]
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Grown {
        struct_size: usize,
        old: u64,
        new: u64,
    }

    // SAFETY: `repr(C)`, the size comes first, zero is a value of every field, and there is no
    // padding.
    unsafe impl SizeFirst for Grown {
        const NAME: &'static str = "grown";
        const FIRST: usize = offset_of!(Grown, new);
    }

    /// As the caller of a later version has it.
    #[repr(C)]
    struct Later {
        grown: Grown,
        later: u64,
    }

    fn grown(struct_size: usize) -> Grown {
        Grown {
            struct_size,
            old: 1,
            new: 2,
        }
    }

    #[test]
    fn an_older_caller_is_read_no_further_than_its_size() {
        let given = grown(16);
        // SAFETY: there are as many bytes as the size says.
        let read = unsafe { read(&raw const given) }.unwrap().unwrap();
        assert_eq!((read.old, read.new), (1, 0));
        let mut place = grown(16);
        let value = Grown {
            struct_size: 24,
            old: 3,
            new: 4,
        };
        // SAFETY: as above.
        unsafe { write(&raw mut place, value) }.unwrap();
        assert_eq!((place.struct_size, place.old, place.new), (16, 3, 2));
    }

    #[test]
    fn a_newer_caller_is_served_where_it_asks_for_nothing_new() {
        let mut given = Later {
            grown: grown(32),
            later: 0,
        };
        // SAFETY: there are as many bytes as the size says.
        let known = unsafe { read((&raw const given).cast::<Grown>()) };
        assert_eq!(known.unwrap().unwrap().new, 2);
        given.later = 1;
        // SAFETY: as above.
        let unknown = unsafe { read((&raw const given).cast::<Grown>()) };
        let message = unknown.unwrap_err().message;
        assert!(message.contains("does not know"), "{message}");
    }

    #[test]
    fn sizes_that_nobody_set_are_refused() {
        for size in [0, 8, 15, 1 << 20, usize::MAX] {
            let given = grown(size);
            // SAFETY: nothing is read behind the size, which is refused.
            let read = unsafe { read(&raw const given) };
            assert!(read.unwrap_err().message.contains("_INIT"), "{size}");
        }
    }
}
