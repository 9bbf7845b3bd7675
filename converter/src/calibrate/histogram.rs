//! How often which values were seen, in bins that do not depend on the order of seeing them.

use super::{LARGEST, Range};

/// Bins at either side of 0.
pub(super) const HALF: i64 = 2048;

/// Of how many values of a tensor, at most, each sample's bins tell.
const MOST: usize = 1 << 15;

/// Values that are counted together.
const RUN: usize = 64;

/// The place of what has no bin.
const NO_BIN: i32 = -1;

/// Counts of the values that are not 0, in bins of the width `2^exponent`; the one at `HALF`
/// begins at 0. The exponent is the lowest with which the largest value still fits, and twice the
/// width joins bins in pairs, so that the same values always give the same histogram.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Histogram {
    pub exponent: i32,
    /// Empty until a value was seen that is not 0.
    pub counts: Vec<u64>,
    pub zeros: u64,
}

impl Histogram {
    /// Adds `values`, of which `range` is the range; those that do not count for ranges are left
    /// out here too. Of many values, about [`MOST`] stand for all.
    pub fn add(&mut self, values: &[f32], range: Range) {
        if range.is_empty() {
            return;
        }
        let largest = range.max.max(-range.min);
        if largest > 0.0 {
            self.widen(exponent_for(largest));
        }
        let step = values.len().div_ceil(MOST);
        for group in 0..values.len().div_ceil(step * RUN) {
            // At places that keep no time with rows or channels.
            let within = (group as u32).wrapping_mul(0x9e37_79b9) >> 8;
            let first = (group * step + within as usize % step) * RUN;
            if first < values.len() {
                self.count(&values[first..values.len().min(first + RUN)]);
            }
        }
    }

    /// Adds a run of values, for which bins are wide enough.
    fn count(&mut self, values: &[f32]) {
        /// A float32 of a few thousand plus this is rounded, with the integer in its low bits.
        const SHIFT: f32 = 12_582_912.0;
        let zeros = values.iter().map(|&v| u64::from(v == 0.0)).sum::<u64>();
        self.zeros += zeros;
        if self.counts.is_empty() {
            return;
        }
        let scale = f32::exp2(-(self.exponent as f32));
        let mut bins = [NO_BIN; RUN];
        for (bin, &value) in bins.iter_mut().zip(values) {
            let exact = value * scale;
            let shifted = exact + SHIFT;
            let nearest = shifted.to_bits().wrapping_sub(SHIFT.to_bits()) as i32;
            // Of one far below the width of bins the product may be 0.
            let is_above = (shifted - SHIFT > exact) | ((exact == 0.0) & (value < 0.0));
            let floor = nearest.wrapping_sub(i32::from(is_above));
            *bin = match value.abs() < LARGEST {
                true => floor.wrapping_add(HALF as i32),
                false => NO_BIN,
            };
        }
        for bin in bins {
            if let Some(count) = self.counts.get_mut(bin as usize) {
                *count += 1;
            }
        }
        // Without a branch for zeros, of which there may be as many as others.
        self.counts[HALF as usize] -= zeros;
    }

    /// Adds what `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        self.zeros = self.zeros.saturating_add(other.zeros);
        if other.counts.is_empty() {
            return;
        }
        self.widen(other.exponent);
        let shift = (self.exponent - other.exponent).min(63);
        for (bin, &count) in (-HALF..).zip(&other.counts) {
            let sum = &mut self.counts[((bin >> shift) + HALF) as usize];
            *sum = sum.saturating_add(count);
        }
    }

    /// Gives the bins the width `2^exponent`, unless they are as wide already.
    fn widen(&mut self, exponent: i32) {
        if self.counts.is_empty() {
            self.counts = vec![0; 2 * HALF as usize];
            self.exponent = exponent;
        }
        if exponent <= self.exponent {
            return;
        }
        let shift = (exponent - self.exponent).min(63);
        let narrow = std::mem::replace(&mut self.counts, vec![0; 2 * HALF as usize]);
        for (bin, count) in (-HALF..).zip(narrow) {
            let sum = &mut self.counts[((bin >> shift) + HALF) as usize];
            *sum = sum.saturating_add(count);
        }
        self.exponent = exponent;
    }

    /// The lower end of the bin with this place among the counts.
    pub fn edge(&self, place: usize) -> f64 {
        (place as i64 - HALF) as f64 * f64::exp2(f64::from(self.exponent))
    }

    /// How many values were seen.
    pub fn total(&self) -> u64 {
        let counts = self.counts.iter();
        counts.fold(self.zeros, |sum, &count| sum.saturating_add(count))
    }
}

/// The lowest exponent with which `largest`, above 0, is below `HALF` bins.
fn exponent_for(largest: f32) -> i32 {
    const SMALLEST: f64 = 1e-30;
    let magnitude = f64::from(largest).max(SMALLEST);
    let exponent = ((magnitude.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    exponent + 1 - HALF.ilog2() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&[f32]]) -> Histogram {
        let mut histogram = Histogram::default();
        for part in parts {
            histogram.add(part, Range::of(part));
        }
        histogram
    }

    #[test]
    fn order_and_merging_change_nothing() {
        let parts: [&[f32]; 5] = [
            &[0.0, 0.1, -0.25, 1e-9, -1e-9],
            &[1e6, -3.0, 0.0],
            &[f32::NAN, f32::INFINITY, -3.4e38],
            &[2048.0, -2048.0, 7.5, -1e-38],
            &[1e38, -1e-30],
        ];
        let one = of(&parts);
        let mut backwards = parts;
        backwards.reverse();
        assert_eq!(one, of(&backwards));
        for split in 0..=parts.len() {
            let (left, right) = parts.split_at(split);
            let mut merged = of(left);
            merged.merge(&of(right));
            assert_eq!(merged, one);
            let mut merged = of(right);
            merged.merge(&of(left));
            assert_eq!(merged, one);
        }
        assert_eq!((one.zeros, one.total()), (2, 14));
    }

    #[test]
    fn some_of_many_values_stand_for_all() {
        let value = |i: u32| (i.wrapping_mul(0x9e37_79b9) as f32 / u32::MAX as f32) - 0.25;
        let values: Vec<f32> = (0..1 << 20).map(|i| value(i).max(0.0)).collect();
        let histogram = of(&[&values]);
        let share = |count: u64| count as f64 / histogram.total() as f64;
        assert!(histogram.total() <= MOST as u64);
        assert!((share(histogram.zeros) - 0.25).abs() < 0.01);
        let half: u64 = histogram.counts[..(HALF + HALF / 2) as usize].iter().sum();
        assert!((share(half) - 0.5).abs() < 0.01, "{}", share(half));
    }

    #[test]
    fn largest_value_is_in_the_outer_half_of_the_bins() {
        for largest in [1e-20, 0.3, 1.0, 1.5, 3e30] {
            let histogram = of(&[&[largest]]);
            let bin = histogram.counts.iter().position(|&c| c == 1).unwrap() as i64;
            assert!(
                (HALF + HALF / 2..2 * HALF).contains(&bin),
                "{largest}: {bin}"
            );
            assert!(histogram.edge(bin as usize) <= f64::from(largest));
            assert!(histogram.edge(bin as usize + 1) > f64::from(largest));
        }
    }
}
