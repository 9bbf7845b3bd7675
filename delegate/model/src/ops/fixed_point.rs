//! Functions in gemmlowp's fixed point, as LiteRT's reference kernels compute them.
//!
//! Qm.n is an int32 with m bits left and n right of the binary point.

use bantam_kernels::requantize::{
    Multiplier, rounding_divide_by_pot, saturating_rounding_doubling_high_mul as high_mul,
};

use super::OpError;
use super::pointwise::{multiplier, tabulate};
use crate::tensor::DType;

/// `exp(-step * below)` in Q0.31 for each distance below the largest of a row.
pub(super) struct Exponentials {
    /// One step in Q5.26.
    step: Multiplier,
    table: Box<[Option<i32>; 256]>,
}

impl Exponentials {
    /// For steps of the real value `step`, of at least 2^-26.
    pub fn new(step: f64) -> Result<Self, OpError> {
        let fine = (step * f64::from(1 << 26)).min(f64::from(i32::MAX));
        if fine.is_nan() || fine <= 1.0 {
            return Err(OpError::Quantization(format!(
                "beta times the input's scale is {step}, below 2^-26"
            )));
        }
        let step = multiplier(fine)?;
        let exponentials = Self {
            step,
            table: tabulate(DType::U8, |_| None),
        };
        let table = tabulate(DType::U8, |below| {
            (below <= exponentials.radius())
                .then(|| exp_on_negative_values(exponentials.scaled(-below)))
        });
        Ok(Self { step, table })
    }

    /// `exp(-step * below)`; `None` where it counts as 0.
    pub fn get(&self, below: usize) -> Option<i32> {
        self.table[below]
    }

    /// The largest distance that does not count as 0.
    pub fn radius(&self) -> i32 {
        ((31i64 << 26) >> self.step.exponent) as i32
    }

    /// `difference` steps in Q5.26.
    pub fn scaled(&self, difference: i32) -> i32 {
        high_mul(
            difference.wrapping_shl(self.step.exponent as u32),
            self.step.value,
        )
    }

    /// The inverse of a step in Q5.26, for [`Multiplier::apply`].
    pub fn inverse(&self) -> Result<Multiplier, OpError> {
        let units = (1i64 << (31 - self.step.exponent.clamp(0, 31))) as f64;
        multiplier(units / f64::from(self.step.value))
    }
}

/// `exp(x)` in Q0.31 for `x <= 0` in Q5.26: gemmlowp's `exp_on_negative_values`.
pub(super) fn exp_on_negative_values(x: i32) -> i32 {
    const QUARTER: i32 = 1 << 24;
    /// `exp(-2^k)` in Q0.31 for k from -2.
    const POWERS: [i32; 7] = [
        1_672_461_947,
        1_302_514_674,
        790_015_084,
        290_630_308,
        39_332_535,
        720_401,
        242,
    ];
    if x == 0 {
        return i32::MAX;
    }
    // In [-1/4, 0), and the multiple of 1/4 that remains.
    let fraction = (x & (QUARTER - 1)) - QUARTER;
    let remainder = fraction.wrapping_sub(x);
    let mut result = exp_near_zero(fraction << 5);
    for (bit, power) in (24..).zip(POWERS) {
        if remainder & (1 << bit) != 0 {
            result = high_mul(result, power);
        }
    }
    result
}

/// `exp(x)` for `x` in [-1/4, 0), both in Q0.31: a Taylor series around -1/8.
fn exp_near_zero(x: i32) -> i32 {
    const EXP_MINUS_EIGHTH: i32 = 1_895_147_668;
    const THIRD: i32 = 715_827_883;
    let x = x + (1 << 28);
    let x2 = high_mul(x, x);
    let x3 = high_mul(x2, x);
    let x4 = high_mul(x2, x2);
    let quarter = rounding_divide_by_pot(x4, 2);
    let higher = rounding_divide_by_pot(high_mul(quarter + x3, THIRD) + x2, 1);
    EXP_MINUS_EIGHTH + high_mul(EXP_MINUS_EIGHTH, x + higher)
}

/// `1 / x` for `x > 0` with `digits` bits left of the point, as a number in Q0.31 and how many
/// bits to shift it right: LiteRT's `GetReciprocal`.
pub(super) fn reciprocal(x: i32, digits: i32) -> (i32, i32) {
    let headroom = x.leading_zeros();
    // x / 2^bits in [1, 2).
    let above_one = x.wrapping_shl(headroom).wrapping_sub(i32::MIN);
    (one_over_one_plus(above_one), digits - headroom as i32)
}

/// `1 / (1 + x)` for `x` in [0, 1), both in Q0.31: gemmlowp's Newton-Raphson division.
fn one_over_one_plus(x: i32) -> i32 {
    let half = half_sum(x, i32::MAX);
    // 48/17 - 32/17 * half, in Q2.29 as all that follows.
    let mut inverse = 1_515_870_810 + high_mul(half, -1_010_580_540);
    for _ in 0..3 {
        let error = (1 << 29) - high_mul(half, inverse);
        inverse = inverse.wrapping_add(saturating_shl(high_mul(inverse, error), 2));
    }
    saturating_shl(inverse, 1)
}

/// `1 / sqrt(x)` for `x > 0`; 1 for what is below: LiteRT's `GetInvSqrtQuantizedMultiplierExp`.
pub(super) fn inverse_sqrt(x: i32) -> Multiplier {
    if x <= 1 {
        return Multiplier {
            value: i32::MAX,
            exponent: 0,
        };
    }
    let mut x = x;
    let mut shift = 11;
    while x >= 1 << 29 {
        x /= 4;
        shift += 1;
    }
    let pairs = (x.leading_zeros() - 1) / 2 - 1;
    shift -= pairs as i32;
    x <<= 2 * pairs;
    // Newton-Raphson in Q3.28, from 1.
    let half = rounding_divide_by_pot(x >> 1, 1);
    let mut root = 1 << 28;
    for _ in 0..5 {
        let cube = saturating_shl(high_mul(high_mul(root, root), root), 6);
        let step = high_mul((1 << 28) + (1 << 27), root).wrapping_sub(high_mul(half, cube));
        root = saturating_shl(step, 3);
    }
    let value = high_mul(root, SQRT_HALF);
    match shift {
        ..0 => Multiplier {
            value: value << -shift,
            exponent: 0,
        },
        _ => Multiplier {
            value,
            exponent: -shift,
        },
    }
}

/// `sqrt(1/2)` in Q0.31.
const SQRT_HALF: i32 = 1_518_500_250;

/// `ln(x)` in Q5.26 for `x >= 1` in Q12.19: LiteRT's `log_x_for_x_greater_than_or_equal_to_1`.
///
/// A rational function around `sqrt(sqrt(1/2))`, of `x` over the power of two, or that and a half,
/// that brings it nearest.
pub(super) fn ln(x: i32) -> i32 {
    const LN_2: i32 = 1_488_522_236;
    const SQRT_SQRT_HALF: i32 = 1_805_811_301;
    const ALPHA_N: i32 = 117_049_297;
    const ALPHA_D: i32 = 127_690_142;
    const ALPHA_I: i32 = 1_057_819_769;
    const ALPHA_F: i32 = 638_450_708;
    // Of the accumulator, Q6.25.
    const QUARTER: i32 = 1 << 23;
    let power = |power: i32| saturating_shl(power, 25);

    let headroom = x.leading_zeros() as i32;
    let tight = saturating_shl(x, (headroom - 1).max(0) as u32);
    let ratio_a = saturating_shl(high_mul(tight, SQRT_HALF), 1);
    let power_a = power(12 - headroom).saturating_add(QUARTER);
    let headroom = high_mul(x, SQRT_HALF).leading_zeros() as i32 - 1;
    let ratio_b = saturating_shl(x, headroom.max(0) as u32);
    let power_b = power(12 - headroom).saturating_sub(QUARTER);
    let (r, power) = (ratio_a.min(ratio_b), power_a.max(power_b));

    let p = half_sum(r, SQRT_SQRT_HALF);
    let q = r.wrapping_sub(SQRT_SQRT_HALF);
    let q = q.wrapping_add(q);
    let square = high_mul(q, q);
    let numerator = high_mul(q, r).wrapping_add(high_mul(high_mul(q, square), ALPHA_N));
    let sum = ALPHA_I
        .wrapping_add(q)
        .wrapping_add(high_mul(ALPHA_D, square));
    let denominator = high_mul(p, sum).wrapping_add(high_mul(ALPHA_F, q));
    let quotient = high_mul(
        rounding_divide_by_pot(numerator, 6),
        one_over_one_plus(denominator),
    );
    saturating_shl(high_mul(power, LN_2).wrapping_add(quotient), 1)
}

/// The mean, rounded away from zero.
fn half_sum(a: i32, b: i32) -> i32 {
    let sum = i64::from(a) + i64::from(b);
    ((sum + if sum >= 0 { 1 } else { -1 }) / 2) as i32
}

fn saturating_shl(x: i32, amount: u32) -> i32 {
    (i64::from(x) << amount).clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_point_functions_are_close() {
        for i in 1..1000 {
            let x = -f64::from(i) / 40.0;
            let exp = exp_on_negative_values((x * f64::from(1 << 26)) as i32);
            assert!((f64::from(exp) / 2f64.powi(31) - x.exp()).abs() < 4e-7);
            let (inverse, bits) = reciprocal(i << 19, 12);
            let inverse = f64::from(inverse) / 2f64.powi(31 + bits);
            assert!((inverse * f64::from(i) - 1.0).abs() < 1e-7);
            let root = inverse_sqrt(i * 1000);
            let root = f64::from(root.value) * f64::from(root.exponent - 31).exp2();
            assert!((root * (f64::from(i) * 1000.0).sqrt() - 1.0).abs() < 1e-5);
            let ln = f64::from(ln(i << 19)) / f64::from(1 << 26);
            assert!((ln - f64::from(i).ln()).abs() < 1e-5, "ln {i}: {ln}");
        }
    }
}
