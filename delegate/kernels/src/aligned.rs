//! Buffers that start at a cache line, so that no vector of one crosses into a second.

use std::ops::Deref;

/// Bytes of a cache line, and of the widest vector.
pub(crate) const LINE: usize = 64;

/// A copy of a vector's elements that starts at a cache line.
pub(crate) struct Aligned<T> {
    elements: Vec<T>,
    start: usize,
}

impl<T: Copy + Default> From<Vec<T>> for Aligned<T> {
    fn from(source: Vec<T>) -> Self {
        let mut elements = vec![T::default(); source.len() + LINE / size_of::<T>()];
        let start = line_start(&elements);
        elements[start..][..source.len()].copy_from_slice(&source);
        elements.truncate(start + source.len());
        Self { elements, start }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.elements[self.start..]
    }
}

/// Index of the first element that starts a cache line, or 0 if there is none.
pub(crate) fn line_start<T>(elements: &[T]) -> usize {
    let start = elements.as_ptr().align_offset(LINE);
    if start < elements.len() { start } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_a_line_and_keeps_the_elements() {
        for len in [0, 1, 100] {
            let source: Vec<i32> = (0..len).collect();
            let aligned = Aligned::from(source.clone());
            assert_eq!(*aligned, source);
            assert!(len == 0 || (aligned.as_ptr() as usize).is_multiple_of(LINE));
        }
    }
}
