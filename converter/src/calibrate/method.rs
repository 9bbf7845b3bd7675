//! From the values seen to the range that integers shall cover.

use super::histogram::{HALF, Histogram};
use super::{Range, SampleRange};

/// The moving average of `samples`, which are in order.
pub(super) fn moving_average(samples: &[SampleRange]) -> Range {
    const KEPT: f64 = 0.95;
    let mut samples = samples.iter().map(|s| s.range).filter(|r| !r.is_empty());
    let Some(first) = samples.next() else {
        return Range::EMPTY;
    };
    let start = (f64::from(first.min), f64::from(first.max));
    let (min, max) = samples.fold(start, |(min, max), range| {
        let step = |old: f64, new: f32| KEPT * old + (1.0 - KEPT) * f64::from(new);
        (step(min, range.min), step(max, range.max))
    });
    Range {
        min: min as f32,
        max: max as f32,
    }
}

/// The range that holds `percentile` per cent of the values; of the others, half may lie at
/// either end.
pub(super) fn percentile(histogram: &Histogram, range: Range, percentile: f64) -> Range {
    let outside = (1.0 - percentile / 100.0) / 2.0 * histogram.total() as f64;
    let bin = |(place, &count): (usize, &u64)| Bin {
        low: histogram.edge(place),
        high: histogram.edge(place + 1),
        count,
    };
    let mut bins: Vec<Bin> = histogram.counts.iter().enumerate().map(bin).collect();
    let zeros = Bin {
        low: 0.0,
        high: 0.0,
        count: histogram.zeros,
    };
    bins.insert(bins.len() / 2, zeros);
    match (
        first_beyond(outside, bins.iter()),
        first_beyond(outside, bins.iter().rev()),
    ) {
        (Some(first), Some(last)) => within(range, first.low, last.high),
        _ => range,
    }
}

/// Values between two others.
struct Bin {
    low: f64,
    high: f64,
    count: u64,
}

/// The first bin at whose end more than `outside` values were met.
fn first_beyond<'a>(outside: f64, mut bins: impl Iterator<Item = &'a Bin>) -> Option<&'a Bin> {
    let mut met = 0u64;
    bins.find(|bin| {
        met = met.saturating_add(bin.count);
        bin.count > 0 && met as f64 > outside
    })
}

/// The range in which `levels` integers cause the least squared error: a twelfth of a squared
/// step for a value inside, the squared distance for one outside.
pub(super) fn least_squares(histogram: &Histogram, range: Range, levels: u32) -> Range {
    if histogram.counts.is_empty() {
        return range;
    }
    let moments = Moments::new(histogram);
    let steps = f64::from(levels - 1);
    let error = |low: usize, high: usize| {
        let step = (histogram.edge(high) - histogram.edge(low)) / steps;
        moments.within(low, high) * step * step / 12.0
            + moments.distance(0, low, histogram.edge(low))
            + moments.distance(high, histogram.counts.len(), histogram.edge(high))
    };
    let zero = HALF as usize;
    let seen = |place: &usize| histogram.counts[*place] > 0;
    let first = (0..zero).find(seen).unwrap_or(zero);
    let last = (zero..2 * zero).rfind(seen).map_or(zero, |place| place + 1);
    let best = |ends: std::ops::RangeInclusive<usize>, error: &dyn Fn(usize) -> f64| {
        ends.min_by(|&a, &b| error(a).total_cmp(&error(b)))
            .unwrap_or(zero)
    };
    let (mut low, mut high) = (first, last);
    // One end and then the other; every round lowers the error or is the last.
    loop {
        let before = (low, high);
        high = best(zero..=last, &|high| error(low, high));
        low = best(first..=zero, &|low| error(low, high));
        if before == (low, high) {
            break;
        }
    }
    within(range, histogram.edge(low), histogram.edge(high))
}

/// The range, cut at some magnitude, in which 256 levels lose the least information.
pub(super) fn least_divergence(histogram: &Histogram, range: Range) -> Range {
    const LEVELS: usize = 256;
    const STEP: usize = 16;
    let zero = HALF as usize;
    let seen = |place: &usize| histogram.counts[*place] > 0;
    let (Some(first), Some(last)) = (
        (0..histogram.counts.len()).find(seen),
        (0..histogram.counts.len()).rfind(seen),
    ) else {
        return range;
    };
    let ends = |magnitude: usize| {
        let low = first.min(zero).max(zero - magnitude);
        (low, (last + 1).max(zero).min(zero + magnitude))
    };
    let candidates = (LEVELS..=zero).step_by(STEP).map(ends);
    let best = candidates
        .filter(|(low, high)| high - low >= LEVELS)
        .map(|(low, high)| (divergence(&histogram.counts, low, high, LEVELS), low, high))
        .min_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((_, low, high)) => within(range, histogram.edge(low), histogram.edge(high)),
        None => range,
    }
}

/// How far the counts in `low..high`, seen through `levels` levels, are from all counts with those
/// outside moved to the ends.
fn divergence(counts: &[u64], low: usize, high: usize, levels: usize) -> f64 {
    /// Stands for the share of a bin that the levels take for empty.
    const MISSED: f64 = 1e-9;
    let inside = &counts[low..high];
    let mut reference: Vec<f64> = inside.iter().map(|&c| c as f64).collect();
    let sum = |counts: &[u64]| counts.iter().fold(0, |sum: u64, &c| sum.saturating_add(c));
    let all = sum(counts);
    let kept = sum(inside);
    if kept == 0 {
        return f64::INFINITY;
    }
    reference[0] += sum(&counts[..low]) as f64;
    reference[high - low - 1] += sum(&counts[high..]) as f64;
    let mut lost = 0.0;
    for level in 0..levels {
        let bins = level * inside.len() / levels..(level + 1) * inside.len() / levels;
        let count = sum(&inside[bins.clone()]);
        let used = inside[bins.clone()].iter().filter(|&&c| c > 0).count();
        for bin in bins.filter(|&bin| reference[bin] > 0.0) {
            let share = reference[bin] / all as f64;
            let seen = if inside[bin] > 0 {
                count as f64 / used as f64 / kept as f64
            } else {
                MISSED
            };
            lost += share * (share / seen).ln();
        }
    }
    lost
}

/// `low..high` without what lies outside of `range`.
fn within(range: Range, low: f64, high: f64) -> Range {
    Range {
        min: range.min.max(low as f32),
        max: range.max.min(high as f32),
    }
}

/// Sums over the first bins: of counts, and of these times the bins' centres and their squares.
struct Moments(Vec<[f64; 3]>);

impl Moments {
    fn new(histogram: &Histogram) -> Self {
        let half = (histogram.edge(1) - histogram.edge(0)) / 2.0;
        let mut sums = vec![[0.0; 3]];
        for (place, &count) in histogram.counts.iter().enumerate() {
            let (count, centre) = (count as f64, histogram.edge(place) + half);
            let [n, first, second] = sums[place];
            sums.push([
                n + count,
                first + count * centre,
                second + count * centre * centre,
            ]);
        }
        Self(sums)
    }

    /// How many values are in the bins `from..to`.
    fn within(&self, from: usize, to: usize) -> f64 {
        self.0[to][0] - self.0[from][0]
    }

    /// The sum of the squared distances of these values from `point`.
    fn distance(&self, from: usize, to: usize, point: f64) -> f64 {
        let [n, first, second] = std::array::from_fn(|i| self.0[to][i] - self.0[from][i]);
        (second - 2.0 * point * first + n * point * point).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values as of a normal distribution with deviation 1, and one outlier.
    fn bell(outlier: f32) -> (Histogram, Range) {
        let mut values: Vec<f32> = Vec::new();
        for step in -400..=400 {
            let x = step as f32 / 100.0;
            let count = (1000.0 * (-x * x / 2.0).exp()) as usize;
            values.extend(std::iter::repeat_n(x, count));
        }
        values.push(outlier);
        let mut histogram = Histogram::default();
        for sample in values.chunks(10_000) {
            histogram.add(sample, Range::of(sample));
        }
        (histogram, Range::of(&values))
    }

    #[test]
    fn outlier_does_not_count() {
        let (histogram, range) = bell(40.0);
        for found in [
            percentile(&histogram, range, 99.99),
            least_divergence(&histogram, range),
        ] {
            assert!(found.max < 10.0 && found.max > 2.0, "{found:?}");
            assert!(found.min < -2.0 && found.min >= range.min, "{found:?}");
        }
    }

    #[test]
    fn least_squares_weighs_the_outlier_against_the_step() {
        let (histogram, range) = bell(10.0);
        let int8 = least_squares(&histogram, range, 256);
        assert!(int8.max < 8.0 && int8.max > 3.0, "{int8:?}");
        let int16 = least_squares(&histogram, range, 65535);
        assert!(int16.max > 9.9, "{int16:?}");
    }

    #[test]
    fn percentile_counts_from_both_ends() {
        let values: Vec<f32> = (0..1000).map(|i| i as f32 - 500.0).collect();
        let mut histogram = Histogram::default();
        let range = Range::of(&values);
        histogram.add(&values, range);
        let found = percentile(&histogram, range, 90.0);
        assert!(
            (found.min + 450.0).abs() <= 1.0 && (found.max - 450.0).abs() <= 1.0,
            "{found:?}"
        );
        assert_eq!(percentile(&histogram, range, 100.0), range);
    }

    #[test]
    fn only_zeros_keep_their_range() {
        let mut histogram = Histogram::default();
        let range = Range::of(&[0.0; 3]);
        histogram.add(&[0.0; 3], range);
        assert_eq!(percentile(&histogram, range, 99.0), range);
        assert_eq!(least_squares(&histogram, range, 256), range);
        assert_eq!(least_divergence(&histogram, range), range);
    }

    #[test]
    fn least_squares_keeps_what_is_even() {
        let values: Vec<f32> = (0..4096).map(|i| i as f32 / 4096.0).collect();
        let mut histogram = Histogram::default();
        let range = Range::of(&values);
        histogram.add(&values, range);
        let found = least_squares(&histogram, range, 256);
        assert!(found.max > 0.99 && found.min == 0.0, "{found:?}");
    }

    #[test]
    fn moving_average_follows_slowly() {
        let samples: Vec<SampleRange> = [(-1.0, 1.0), (-3.0, 1.0)]
            .iter()
            .enumerate()
            .map(|(sample, &(min, max))| SampleRange {
                sample: sample as u64,
                range: Range { min, max },
            })
            .collect();
        let found = moving_average(&samples);
        assert_eq!(
            found,
            Range {
                min: -1.1,
                max: 1.0
            }
        );
    }
}
