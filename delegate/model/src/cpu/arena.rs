//! Where in one block of memory each tensor lives, so that tensors that are never needed at
//! the same time share bytes.

use std::ops::Range;

/// Every place is a multiple of this.
pub(crate) const ALIGNMENT: usize = 64;

/// A tensor to place.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Its size in bytes.
    pub len: usize,
    /// The steps, first and last, between which it must keep its bytes.
    pub live: (usize, usize),
}

/// The place of each request, and the size of the whole; `None` if that overflows.
///
/// Greedy by size: the largest first, each in the lowest gap between those already placed
/// that live at the same time.
pub(crate) fn place(requests: &[Request]) -> Option<(Vec<Range<usize>>, usize)> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(requests[i].len), requests[i].live, i));
    let mut places = vec![0..0; requests.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for index in order {
        let request = &requests[index];
        if request.len == 0 {
            continue;
        }
        let mut start = 0usize;
        for &other in &placed {
            let (other_live, range) = (requests[other].live, &places[other]);
            if other_live.0 > request.live.1 || request.live.0 > other_live.1 {
                continue;
            }
            if start.checked_add(request.len)? <= range.start {
                break;
            }
            start = start.max(range.end.checked_next_multiple_of(ALIGNMENT)?);
        }
        places[index] = start..start.checked_add(request.len)?;
        total = total.max(places[index].end.checked_next_multiple_of(ALIGNMENT)?);
        let at = placed.partition_point(|&other| places[other].start <= start);
        placed.insert(at, index);
    }
    Some((places, total))
}

/// Bytes of a fixed number whose first is at a multiple of 64.
pub struct AlignedBytes {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// `len` bytes, all 0; `None` if there is no memory for them.
    pub fn zeroed(len: usize) -> Option<Self> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len.checked_add(ALIGNMENT)?).ok()?;
        bytes.resize(len + ALIGNMENT, 0);
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Some(Self { bytes, start, len })
    }

    /// The bytes.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(len: usize, first: usize, last: usize) -> Request {
        Request {
            len,
            live: (first, last),
        }
    }

    #[test]
    fn tensors_that_do_not_meet_share_bytes() {
        let (places, total) = place(&[request(100, 0, 1), request(100, 2, 3)]).unwrap();
        assert_eq!(places[0], places[1]);
        assert_eq!(total, 128);
    }

    #[test]
    fn tensors_that_meet_are_apart() {
        let requests = [
            request(10, 0, 2),
            request(300, 1, 3),
            request(64, 2, 2),
            request(5, 3, 4),
        ];
        let (places, _) = place(&requests).unwrap();
        for (i, a) in requests.iter().enumerate() {
            for (j, b) in requests.iter().enumerate().skip(i + 1) {
                if a.live.0 <= b.live.1 && b.live.0 <= a.live.1 {
                    assert!(places[i].end <= places[j].start || places[j].end <= places[i].start);
                }
            }
        }
    }

    #[test]
    fn refuses_overflow() {
        assert!(place(&[request(usize::MAX - 3, 0, 0)]).is_none());
    }
}
