//! A part of the samples, so that several machines can each take one.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::Source;
use crate::samples::SampleError;

/// Part `index` (from 1) of `count` parts, which are equal but for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// Which of `len` samples belong to it.
    pub fn range(self, len: usize) -> Range<usize> {
        let start = |index: usize| (len as u128 * index as u128 / self.count as u128) as usize;
        start(self.index - 1)..start(self.index)
    }
}

impl Default for Shard {
    /// All samples.
    fn default() -> Self {
        Self { index: 1, count: 1 }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(index, count)| {
            let shard = Self {
                index: index.parse().ok()?,
                count: count.parse().ok()?,
            };
            (shard.index >= 1 && shard.index <= shard.count).then_some(shard)
        });
        parts.ok_or_else(|| format!("{text} is no part of the whole; 1/4 is the first of four"))
    }
}

/// The samples of `source` that belong to a shard.
pub struct Part<'a, S: ?Sized> {
    source: &'a S,
    range: Range<usize>,
}

impl<'a, S: Source + ?Sized> Part<'a, S> {
    /// The samples of `source` that belong to `shard`.
    pub fn new(source: &'a S, shard: Shard) -> Self {
        Self {
            range: shard.range(source.len()),
            source,
        }
    }
}

impl<S: Source + ?Sized> Source for Part<'_, S> {
    fn len(&self) -> usize {
        self.range.len()
    }

    fn position(&self, index: usize) -> usize {
        self.source.position(self.range.start + index)
    }

    fn get(&self, index: usize) -> Result<Vec<Vec<u8>>, SampleError> {
        self.source.get(self.range.start + index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_all_samples_once() {
        for (len, count) in [(10, 3), (2, 5), (0, 1)] {
            let ranges: Vec<Range<usize>> = (1..=count)
                .map(|index| Shard { index, count }.range(len))
                .collect();
            assert_eq!(ranges.iter().map(|r| r.len()).sum::<usize>(), len);
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn only_parts_of_the_whole_are_read() {
        assert_eq!("2/3".parse(), Ok(Shard { index: 2, count: 3 }));
        for text in ["0/3", "4/3", "1", "1/0", "a/b", "-1/2"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
