//! Rounds weights so that a weighted sum is nearest to what it is in float.
//!
//! For one unit with integer weights `q`, scale `s` and what it reads in integers, `x`, the mean squared
//! distance of `s q x` from the float result `t` is a quadratic form of `q`, of which the moments
//! `E[x x']` and `E[x t]` are all there is to know. Coordinate descent moves one weight after the
//! other by a step, where that makes the distance smaller, until none does. Of the schemes with
//! second moments this is the one that starts at nearest rounding and only goes down, so that it is
//! never worse, and it needs no rate, no number of epochs and no random order: AdaRound's gradient
//! descent (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", 2020) solves
//! the same problem, and GPTQ (Frantar et al., 2022) goes through the weights once.

use rayon::prelude::*;

/// How often all weights of a unit are gone through at most.
const SWEEPS: usize = 24;

/// Weights are held to the float ones by this part of the mean second moment, so that few samples do
/// not say all.
const HOLD: f64 = 0.01;

/// The largest integer weight.
const LARGEST: i32 = 127;

/// The second moments of what the units of a group read.
pub(super) struct Moments {
    size: usize,
    /// `size` by `size`.
    second: Vec<f32>,
    hold: f64,
}

/// One unit of a group.
pub(super) struct Unit<'a> {
    /// The float weights.
    pub float: Vec<f32>,
    /// The integer ones, and what a step of them is worth.
    pub integer: Vec<i8>,
    pub scale: f32,
    /// The float results, as far from their mean as the windows are from theirs.
    pub results: &'a [f32],
}

/// What became of a unit.
pub(super) struct Rounded {
    pub integer: Vec<i8>,
    /// The mean squared distance from the float result before and after.
    pub error: (f64, f64),
}

impl Moments {
    /// Those of `windows`, each of `size` elements.
    pub fn new(windows: &[f32], size: usize) -> Self {
        const ROWS: usize = 16;
        let count = (windows.len() / size.max(1)).max(1) as f32;
        let mut second = vec![0f32; size * size];
        let blocks = second.par_chunks_mut(ROWS * size).enumerate();
        blocks.for_each(|(block, rows)| {
            for window in windows.chunks_exact(size) {
                for (row, sums) in rows.chunks_exact_mut(size).enumerate() {
                    let row = block * ROWS + row;
                    let factor = window[row];
                    if factor != 0.0 {
                        let sums = sums[..=row].iter_mut();
                        sums.zip(window).for_each(|(sum, v)| *sum += factor * v);
                    }
                }
            }
            rows.iter_mut().for_each(|sum| *sum /= count);
        });
        for row in 0..size {
            for column in 0..row {
                second[column * size + row] = second[row * size + column];
            }
        }
        let trace: f64 = (0..size).map(|i| f64::from(second[i * size + i])).sum();
        Self {
            size,
            second,
            hold: HOLD * trace / size.max(1) as f64,
        }
    }

    /// Rounds the weights of `unit`, whose results belong to `windows`, of which these are the moments.
    pub fn round(&self, windows: &[f32], unit: &Unit) -> Rounded {
        let size = self.size;
        let count = unit.results.len().max(1) as f64;
        let mut wanted = vec![0f64; size];
        let mut power = 0.0;
        for (window, &result) in windows.chunks_exact(size).zip(unit.results) {
            let result = f64::from(result);
            power += result * result;
            let sums = wanted.iter_mut().zip(window);
            sums.for_each(|(sum, &v)| *sum += result * f64::from(v));
        }
        wanted.iter_mut().for_each(|sum| *sum /= count);
        power /= count;

        let scale = f64::from(unit.scale);
        let mut integer: Vec<i32> = unit.integer.iter().map(|&q| i32::from(q)).collect();
        // Half the slope of the distance.
        let slope_of = |integer: &[i32]| {
            let mut slope: Vec<f64> = wanted.iter().map(|w| -w).collect();
            for (at, &q) in integer.iter().enumerate() {
                self.add(&mut slope, at, scale * f64::from(q));
            }
            slope
        };
        let error = |integer: &[i32], slope: &[f64]| {
            let terms = integer.iter().zip(slope).zip(&wanted);
            let sum: f64 = terms
                .map(|((&q, slope), wanted)| scale * f64::from(q) * (slope - wanted))
                .sum();
            (power + sum).max(0.0)
        };
        let mut slope = slope_of(&integer);
        let before = error(&integer, &slope);
        for _ in 0..SWEEPS {
            let mut moved = false;
            for at in 0..size {
                let off = scale * f64::from(integer[at]) - f64::from(unit.float[at]);
                let pull = slope[at] + self.hold * off;
                let step = if pull > 0.0 { -1 } else { 1 };
                let change = scale * f64::from(step);
                let next = integer[at] + step;
                let curve = f64::from(self.second[at * size + at]) + self.hold;
                // As the sum of both holds, with a margin for what rounding adds up to.
                let gain = -(2.0 * change * pull + change * change * curve);
                let is_between = (off + change).abs() < scale;
                if gain > 1e-9 * power && is_between && next.abs() <= LARGEST {
                    integer[at] = next;
                    self.add(&mut slope, at, change);
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        let after = error(&integer, &slope_of(&integer));
        let kept = Rounded {
            integer: unit.integer.clone(),
            error: (before, before),
        };
        match after < before {
            true => Rounded {
                integer: integer.into_iter().map(|q| q as i8).collect(),
                error: (before, after),
            },
            false => kept,
        }
    }

    /// Adds what weight `at` adds to the slope when it grows by `change`.
    fn add(&self, slope: &mut [f64], at: usize, change: f64) {
        let row = &self.second[at * self.size..(at + 1) * self.size];
        let sums = slope.iter_mut().zip(row);
        sums.for_each(|(sum, &v)| *sum += change * f64::from(v));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows whose elements have much in common, as neighbours in images do.
    fn windows(size: usize, count: usize) -> Vec<f32> {
        let value = |place: usize, at: usize| {
            let common = (place as f32 * 1.7).sin() + 0.5;
            common + 0.3 * ((place * size + at) as f32 * 2.3).sin()
        };
        (0..count)
            .flat_map(|place| (0..size).map(move |at| value(place, at)))
            .collect()
    }

    #[test]
    fn rounding_is_never_worse_than_nearest_and_mostly_better() {
        let (size, count) = (18, 400);
        let windows = windows(size, count);
        let moments = Moments::new(&windows, size);
        let mut gained = 0;
        for number in 0..32 {
            let weight = |at: usize| ((at * 13 + number * 7) as f32 * 0.9).sin() * 0.4;
            let float: Vec<f32> = (0..size).map(weight).collect();
            let scale = 0.05;
            let nearest = |w: &f32| (w / scale).round() as i8;
            let integer: Vec<i8> = float.iter().map(nearest).collect();
            let dot = |window: &[f32], of: &dyn Fn(usize) -> f32| -> f32 {
                window.iter().enumerate().map(|(at, v)| v * of(at)).sum()
            };
            let rows = windows.chunks_exact(size);
            let results: Vec<f32> = rows.clone().map(|w| dot(w, &|at| float[at])).collect();
            let measured = |integer: &[i8]| -> f64 {
                let pairs = rows.clone().zip(&results);
                let errors = pairs.map(|(window, result)| {
                    let sum = dot(window, &|at| scale * f32::from(integer[at]));
                    f64::from(sum - result).powi(2)
                });
                errors.sum::<f64>() / count as f64
            };
            let unit = Unit {
                float: float.clone(),
                integer: integer.clone(),
                scale,
                results: &results,
            };
            let rounded = moments.round(&windows, &unit);
            let (before, after) = (measured(&integer), measured(&rounded.integer));
            assert!(after <= before, "{number}: {after} {before}");
            assert!((rounded.error.0 - before).abs() < 1e-4 + 0.01 * before);
            assert!((rounded.error.1 - after).abs() < 1e-4 + 0.01 * after);
            let steps = rounded.integer.iter().zip(&float);
            assert!(
                steps
                    .clone()
                    .all(|(&q, w)| (f32::from(q) * scale - w).abs() < scale)
            );
            gained += usize::from(after < 0.5 * before);
        }
        assert!(gained > 24, "{gained}");
    }
}
