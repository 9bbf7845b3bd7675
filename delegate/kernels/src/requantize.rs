//! From an int32 accumulator to an int8 output, or from int64 to int16: the fixed-point arithmetic of the LiteRT reference
//! kernels, and the float arithmetic of XNNPACK. Exact in both; see [`Requantize`] for which kernel uses which.

use std::ops::RangeInclusive;

/// A real factor `value * 2^(exponent - 31)`, as LiteRT's `QuantizeMultiplier` makes it.
///
/// `value` is 0 or at least 2^30 in magnitude.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Multiplier {
    /// Q0.31 significand.
    pub value: i32,
    /// Power of two: a left shift if positive.
    pub exponent: i32,
}

/// LiteRT's `QuantizeMultiplier` of the default (double rounding) build.
///
/// Rounds half away from zero; a factor below 2^-32 becomes 0. The caller sees to it that `real` is finite and small enough
/// for its accumulators: an exponent above 30 is not refused here, and is not in LiteRT.
pub fn quantize_multiplier(real: f64) -> Multiplier {
    let (significand, mut exponent) = split_exponent(real);
    let mut value = (significand * (1i64 << 31) as f64).round() as i64;
    if value.abs() == 1 << 31 {
        value /= 2;
        exponent += 1;
    }
    if value == 0 || exponent < -31 {
        return Multiplier::default();
    }
    Multiplier {
        value: value as i32,
        exponent,
    }
}

/// C's `frexp`: `real = significand * 2^exponent` with the significand's magnitude in `[0.5, 1)`. Zero for what is not finite.
fn split_exponent(real: f64) -> (f64, i32) {
    if real == 0.0 || !real.is_finite() {
        return (0.0, 0);
    }
    if real.is_subnormal() {
        let (significand, exponent) = split_exponent(real * (1u64 << 54) as f64);
        return (significand, exponent - 54);
    }
    let bits = real.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1022;
    (
        f64::from_bits((bits & !(0x7ff << 52)) | (1022 << 52)),
        exponent,
    )
}

impl Multiplier {
    /// LiteRT's `MultiplyByQuantizedMultiplier` for int32 with double rounding: a rounding high multiplication, then a rounding
    /// shift, so two roundings. The left shift wraps where C++ overflows.
    pub fn apply(self, x: i32) -> i32 {
        let shifted = x.checked_shl(self.exponent.max(0) as u32).unwrap_or(0);
        rounding_divide_by_pot(
            saturating_rounding_doubling_high_mul(shifted, self.value),
            -self.exponent.min(0),
        )
    }

    /// LiteRT's `MultiplyByQuantizedMultiplier` for int64, as the 16x8 kernels use it: the significand is rounded to 16 bits and
    /// the result once, ties upwards. Its contract: `-2^47 <= x < 2^47` and `-31 <= exponent < 8`.
    pub fn apply_i64(self, x: i64) -> i32 {
        let (factor, shift) = self.reduced();
        (x.wrapping_mul(factor).wrapping_add(1 << (shift - 1)) >> shift) as i32
    }

    /// The 16-bit significand and the right shift of [`Self::apply_i64`], which is in `1..=63`.
    fn reduced(self) -> (i64, i64) {
        let factor = if self.value < 0x7fff_0000 {
            (self.value + (1 << 15)) >> 16
        } else {
            0x7fff
        };
        (factor.into(), (15 - self.exponent).clamp(1, 63).into())
    }
}

/// The factors and right shifts of [`Multiplier::apply_i64`], one of each for a column, as vectors take them.
pub(crate) struct WideMultiplier {
    pub factor: Vec<i64>,
    pub shift: Vec<i64>,
}

impl WideMultiplier {
    /// `None` if a factor is negative.
    pub fn new(multipliers: &[Multiplier]) -> Option<Self> {
        let (factor, shift): (Vec<i64>, _) = multipliers.iter().map(|m| m.reduced()).unzip();
        let is_usual = factor.iter().all(|&factor| factor >= 0);
        is_usual.then_some(Self { factor, shift })
    }
}

/// gemmlowp's `SaturatingRoundingDoublingHighMul`: `a * b / 2^31` to the nearest; saturates only when both are `i32::MIN`.
pub fn saturating_rounding_doubling_high_mul(a: i32, b: i32) -> i32 {
    if a == i32::MIN && b == i32::MIN {
        return i32::MAX;
    }
    let product = i64::from(a) * i64::from(b);
    let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    ((product + nudge) / (1 << 31)) as i32
}

/// [`saturating_rounding_doubling_high_mul`] for int16: `a * b / 2^15`.
pub fn saturating_rounding_doubling_high_mul_i16(a: i16, b: i16) -> i16 {
    if a == i16::MIN && b == i16::MIN {
        return i16::MAX;
    }
    let product = i32::from(a) * i32::from(b);
    let nudge = if product >= 0 { 1 << 14 } else { 1 - (1 << 14) };
    ((product + nudge) / (1 << 15)) as i16
}

/// gemmlowp's `RoundingDivideByPOT`: `x / 2^exponent`, ties away from zero. `exponent` is in `0..=31`.
pub fn rounding_divide_by_pot(x: i32, exponent: i32) -> i32 {
    let mask = ((1i64 << exponent) - 1) as i32;
    let threshold = ((mask as u32) >> 1) as i32 + i32::from(x < 0);
    (x >> exponent) + i32::from((x & mask) > threshold)
}

/// [`rounding_divide_by_pot`] for int16. `exponent` is in `0..=15`.
pub fn rounding_divide_by_pot_i16(x: i16, exponent: i32) -> i16 {
    rounding_divide_by_pot(i32::from(x), exponent) as i16
}

/// How an accumulator is scaled. Each vector has one entry for all columns, or one per column.
#[derive(Clone, Debug, PartialEq)]
pub enum Requantize {
    /// XNNPACK: float32 product, ties to even.
    Float {
        /// `input_scale * weights_scale / output_scale`.
        scale: Vec<f32>,
    },
    /// LiteRT reference CONV_2D and DEPTHWISE_CONV_2D: [`Multiplier::apply`].
    Fixed {
        /// Of the same ratio.
        multiplier: Vec<Multiplier>,
    },
    /// LiteRT 16x8 CONV_2D and DEPTHWISE_CONV_2D with int64 accumulators: [`Multiplier::apply_i64`].
    Wide {
        /// Of the same ratio.
        multiplier: Vec<Multiplier>,
    },
    /// LiteRT reference FULLY_CONNECTED: float64 product, ties away from zero.
    Double {
        /// The same ratio.
        scale: Vec<f64>,
    },
}

/// What follows the multiply-adds: requantize, add the zero point, clamp.
///
/// Outputs are int8 or int16. A uint8 tensor is the same thing as int8 with every value and the zero point, `min` and `max` less
/// 128 (`value ^ 0x80` on the bytes); callers convert.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputStage {
    /// The factor.
    pub requantize: Requantize,
    /// Of the output, in `-128..=127`; 0 for int16.
    pub zero_point: i32,
    /// Smallest output, at least that of the type (a fused activation raises it).
    pub min: i32,
    /// Largest output, at most that of the type.
    pub max: i32,
}

impl OutputStage {
    /// The int8 output for accumulator `acc` (bias included) of column `column`.
    pub fn apply(&self, column: usize, acc: i32) -> i8 {
        self.scaled(column, acc.into()) as i8
    }

    /// The int16 output for accumulator `acc` (bias included) of column `column`. All but [`Requantize::Wide`] and
    /// [`Requantize::Double`] take its low 32 bits.
    pub fn apply_i16(&self, column: usize, acc: i64) -> i16 {
        self.scaled(column, acc) as i16
    }

    fn scaled(&self, column: usize, acc: i64) -> i32 {
        let scaled = match &self.requantize {
            Requantize::Float { scale } => {
                let limit = (self.max - self.zero_point) as f32;
                (acc as i32 as f32 * entry(scale, column))
                    .min(limit)
                    .round_ties_even() as i32
            }
            Requantize::Fixed { multiplier } => entry(multiplier, column).apply(acc as i32),
            Requantize::Wide { multiplier } => entry(multiplier, column).apply_i64(acc),
            Requantize::Double { scale } => (acc as f64 * entry(scale, column)).round() as i32,
        };
        scaled
            .saturating_add(self.zero_point)
            .clamp(self.min, self.max)
    }

    /// # Panics
    /// If the zero point or limits are not those of int8.
    pub(crate) fn for_i8(self) -> Self {
        self.check(-128..=127, i8::MIN.into(), i8::MAX.into())
    }

    /// # Panics
    /// If the zero point is not 0, or the limits are not those of int16.
    pub(crate) fn for_i16(self) -> Self {
        self.check(0..=0, i16::MIN.into(), i16::MAX.into())
    }

    fn check(self, zero_points: RangeInclusive<i32>, min: i32, max: i32) -> Self {
        assert!(
            zero_points.contains(&self.zero_point),
            "zero point {}",
            self.zero_point
        );
        assert!(
            min <= self.min && self.min <= self.max && self.max <= max,
            "limits {}..={}",
            self.min,
            self.max
        );
        self
    }

    /// The stage with one entry for each of `columns` columns.
    ///
    /// # Panics
    /// If the number of entries is neither 1 nor `columns`.
    pub(crate) fn broadcast(self, columns: usize) -> Self {
        let requantize = match self.requantize {
            Requantize::Float { scale } => Requantize::Float {
                scale: spread(scale, columns),
            },
            Requantize::Fixed { multiplier } => Requantize::Fixed {
                multiplier: spread(multiplier, columns),
            },
            Requantize::Wide { multiplier } => Requantize::Wide {
                multiplier: spread(multiplier, columns),
            },
            Requantize::Double { scale } => Requantize::Double {
                scale: spread(scale, columns),
            },
        };
        Self { requantize, ..self }
    }

    /// The stage of `count` columns of a broadcast stage, reordered: column `i` of the result is column `order(i)` of this one,
    /// and one that requantizes to the zero point where there is none.
    pub(crate) fn select(&self, count: usize, order: impl Fn(usize) -> Option<usize>) -> Self {
        fn pick<T: Copy + Default>(
            from: &[T],
            count: usize,
            order: impl Fn(usize) -> Option<usize>,
        ) -> Vec<T> {
            (0..count)
                .map(|i| order(i).map_or(T::default(), |column| from[column]))
                .collect()
        }
        let requantize = match &self.requantize {
            Requantize::Float { scale } => Requantize::Float {
                scale: pick(scale, count, order),
            },
            Requantize::Fixed { multiplier } => Requantize::Fixed {
                multiplier: pick(multiplier, count, order),
            },
            Requantize::Wide { multiplier } => Requantize::Wide {
                multiplier: pick(multiplier, count, order),
            },
            Requantize::Double { scale } => Requantize::Double {
                scale: pick(scale, count, order),
            },
        };
        Self {
            requantize,
            ..*self
        }
    }
}

/// Entry of a column, or the only one.
fn entry<T: Copy>(entries: &[T], column: usize) -> T {
    if entries.len() == 1 {
        entries[0]
    } else {
        entries[column]
    }
}

fn spread<T: Copy>(entries: Vec<T>, columns: usize) -> Vec<T> {
    match entries.len() {
        1 => vec![entries[0]; columns],
        count => {
            assert_eq!(count, columns, "scales do not match the columns");
            entries
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplier_of_edge_cases() {
        let multiplier = |value, exponent| Multiplier { value, exponent };
        assert_eq!(quantize_multiplier(0.0), multiplier(0, 0));
        assert_eq!(quantize_multiplier(1.0), multiplier(1 << 30, 1));
        assert_eq!(quantize_multiplier(0.5), multiplier(1 << 30, 0));
        assert_eq!(quantize_multiplier(0.75), multiplier(3 << 29, 0));
        assert_eq!(quantize_multiplier(-0.75), multiplier(-(3 << 29), 0));
        assert_eq!(
            quantize_multiplier(1.0 - f64::EPSILON / 2.0),
            multiplier(1 << 30, 1)
        );
        assert_eq!(
            quantize_multiplier(2f64.powi(-32)),
            multiplier(1 << 30, -31)
        );
        assert_eq!(quantize_multiplier(2f64.powi(-32) * 0.99), multiplier(0, 0));
        assert_eq!(
            quantize_multiplier(f64::MIN_POSITIVE / 4.0),
            multiplier(0, 0)
        );
        assert_eq!(quantize_multiplier(f64::NAN), multiplier(0, 0));
        assert_eq!(quantize_multiplier(2f64.powi(40)), multiplier(1 << 30, 41));
    }

    #[test]
    fn splits_subnormals() {
        assert_eq!(split_exponent(f64::from_bits(1)), (0.5, -1073));
        assert_eq!(split_exponent(-6.0), (-0.75, 3));
    }

    #[test]
    fn rounds_twice() {
        // 5 * 0.5 = 2.5 -> 3 in the high multiplication; 3 / 2 = 1.5 -> 2 in the shift; the exact 1.25 would give 1.
        assert_eq!(
            Multiplier {
                value: 1 << 30,
                exponent: -1
            }
            .apply(5),
            2
        );
        // Ties upwards in the first rounding, away from zero in the second.
        assert_eq!(
            Multiplier {
                value: 1 << 30,
                exponent: 0
            }
            .apply(-5),
            -2
        );
        assert_eq!(
            Multiplier {
                value: 1 << 30,
                exponent: 3
            }
            .apply(-5),
            -20
        );
        assert_eq!(
            Multiplier {
                value: 1 << 30,
                exponent: 40
            }
            .apply(7),
            0
        );
    }

    #[test]
    fn divides_ties_away_from_zero() {
        assert_eq!(
            [-6, -5, -3, -2, 2, 3, 5, 6].map(|x| rounding_divide_by_pot(x, 2)),
            [-2, -1, -1, -1, 1, 1, 1, 2]
        );
        assert_eq!(rounding_divide_by_pot(i32::MAX, 31), 1);
        assert_eq!(rounding_divide_by_pot(i32::MIN, 31), -1);
        assert_eq!(rounding_divide_by_pot(-7, 0), -7);
        assert_eq!(rounding_divide_by_pot_i16(i16::MIN, 15), -1);
    }

    #[test]
    fn saturates_only_at_both_minima() {
        assert_eq!(
            saturating_rounding_doubling_high_mul(i32::MIN, i32::MIN),
            i32::MAX
        );
        assert_eq!(
            saturating_rounding_doubling_high_mul(i32::MIN, i32::MAX),
            -i32::MAX
        );
        assert_eq!(
            saturating_rounding_doubling_high_mul_i16(i16::MIN, i16::MIN),
            i16::MAX
        );
        assert_eq!(saturating_rounding_doubling_high_mul_i16(1 << 14, 3), 2);
    }

    #[test]
    fn reduces_the_multiplier_to_16_bits_for_int64() {
        assert_eq!(
            Multiplier {
                value: 0x7fff_ffff,
                exponent: 0
            }
            .apply_i64(1 << 15),
            0x7fff
        );
        assert_eq!(
            Multiplier {
                value: 1 << 30,
                exponent: 0
            }
            .apply_i64(-3),
            -1
        );
        assert_eq!(
            Multiplier {
                value: 1 << 30,
                exponent: 0
            }
            .apply_i64(3),
            2
        );
        assert_eq!(
            Multiplier {
                value: 1 << 30,
                exponent: -31
            }
            .apply_i64(1 << 46),
            1 << 14
        );
    }

    #[test]
    fn requantizes_ties_by_kernel() {
        let stage = |requantize| OutputStage {
            requantize,
            zero_point: -1,
            min: -128,
            max: 127,
        };
        let float = stage(Requantize::Float { scale: vec![0.5] });
        let double = stage(Requantize::Double { scale: vec![0.5] });
        assert_eq!(
            [1, 3, -1, -3].map(|acc| float.apply(0, acc)),
            [-1, 1, -1, -3]
        );
        assert_eq!(
            [1, 3, -1, -3].map(|acc| double.apply(0, acc)),
            [0, 1, -2, -3]
        );
    }

    #[test]
    fn saturates_large_scales() {
        for requantize in [
            Requantize::Float { scale: vec![255.0] },
            Requantize::Double { scale: vec![255.0] },
        ] {
            let stage = OutputStage {
                requantize,
                zero_point: 127,
                min: -100,
                max: 100,
            };
            assert_eq!(stage.apply(0, i32::MAX), 100);
            assert_eq!(stage.apply(0, i32::MIN), -100);
        }
    }
}
