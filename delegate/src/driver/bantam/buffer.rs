//! Bytes at an aligned address.

use std::ops::{Deref, DerefMut};

/// Bytes whose address is a multiple of a power of two. Without unsafe code: a vector that is longer than needed.
#[derive(Debug)]
pub(super) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub fn zeroed(len: usize, alignment: usize) -> Self {
        // Not empty, so that even no bytes have an address of the heap.
        let bytes = vec![0; len + alignment];
        let start = bytes.as_ptr().addr().wrapping_neg() % alignment;
        Self { bytes, start, len }
    }

    /// A copy of `bytes`.
    pub fn copy(bytes: &[u8], alignment: usize) -> Self {
        let mut aligned = Self::zeroed(bytes.len(), alignment);
        aligned.copy_from_slice(bytes);
        aligned
    }

    /// `bytes` themselves if they are aligned, else a copy.
    pub fn of(bytes: &[u8], alignment: usize) -> MaybeCopied<'_> {
        if bytes.as_ptr().addr().is_multiple_of(alignment) {
            MaybeCopied::Borrowed(bytes)
        } else {
            MaybeCopied::Copied(Self::copy(bytes, alignment))
        }
    }
}

impl Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}

/// Bytes that were aligned, or a copy that is.
pub(super) enum MaybeCopied<'a> {
    /// The bytes themselves.
    Borrowed(&'a [u8]),
    /// Their copy.
    Copied(Aligned),
}

impl Deref for MaybeCopied<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_aligned_and_bytes_the_same() {
        let bytes: Vec<u8> = (0..100).collect();
        for alignment in [1, 2, 64, 4096] {
            for offset in 0..3 {
                let copy = Aligned::copy(&bytes[offset..], alignment);
                assert!(copy.as_ptr().addr().is_multiple_of(alignment));
                assert_eq!(*copy, bytes[offset..]);
                let same = Aligned::of(&bytes[offset..], alignment);
                assert!(same.as_ptr().addr().is_multiple_of(alignment));
                assert_eq!(*same, bytes[offset..]);
            }
            assert!(Aligned::zeroed(0, alignment).is_empty());
        }
    }
}
