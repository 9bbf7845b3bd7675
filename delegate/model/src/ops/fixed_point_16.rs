//! gemmlowp's logistic and hyperbolic tangent in 16-bit fixed point: what integer recurrent kernels compute with. Exact to the bit.

use std::sync::OnceLock;

use bantam_kernels::requantize::{
    Multiplier, quantize_multiplier, rounding_divide_by_pot_i16 as divide_by_pot,
    saturating_rounding_doubling_high_mul_i16 as mul,
};

use super::OpError;

/// Values of an odd function, or of one whose halves mirror each other, by magnitude.
type Table = Box<[i16]>;

/// The most integer bits that [`Tanh`] takes.
pub(super) const MOST_INTEGER_BITS: u32 = 6;

/// `1 / (1 + exp(-x))` of Q3.12 in Q0.15, from a table.
#[derive(Clone, Copy)]
pub(super) struct Logistic(&'static [i16]);

/// `tanh(x)` of numbers with some integer bits in Q0.15, from a table.
#[derive(Clone, Copy)]
pub(super) struct Tanh(&'static [i16]);

impl Logistic {
    /// Makes the table the first time.
    pub fn new() -> Self {
        static TABLE: OnceLock<Table> = OnceLock::new();
        Self(TABLE.get_or_init(|| tabulate(|x| logistic_of_negative(x, 3))))
    }

    pub fn apply(self, x: i16) -> i16 {
        match x {
            0 => 1 << 14,
            1.. => i16::MAX - self.0[usize::from(x.unsigned_abs())],
            _ => self.0[usize::from(x.unsigned_abs())],
        }
    }
}

impl Tanh {
    /// For `integer_bits` up to [`MOST_INTEGER_BITS`]; makes the table the first time.
    pub fn new(integer_bits: u32) -> Self {
        static TABLES: [OnceLock<Table>; MOST_INTEGER_BITS as usize + 1] =
            [const { OnceLock::new() }; MOST_INTEGER_BITS as usize + 1];
        let table = &TABLES[integer_bits as usize];
        Self(table.get_or_init(|| tabulate(|x| tanh_of_negative(x, integer_bits))))
    }

    pub fn apply(self, x: i16) -> i16 {
        match x {
            0 => 0,
            1.. => -self.0[usize::from(x.unsigned_abs())],
            _ => self.0[usize::from(x.unsigned_abs())],
        }
    }
}

/// What `f` gives for each number below 0, by magnitude.
fn tabulate(f: impl Fn(i16) -> i16) -> Table {
    let values = (0..=1 << 15).map(|magnitude: i32| match magnitude {
        0 => 0,
        _ => f(-magnitude as i16),
    });
    values.collect()
}

/// gemmlowp gives 1 minus the result for the mirrored number, so that is what tables hold.
fn logistic_of_negative(x: i16, integer_bits: u32) -> i16 {
    let positive = shift_left(reciprocal_of_one_plus(exp(x, integer_bits)), 1);
    i16::MAX.wrapping_sub(positive)
}

fn tanh_of_negative(x: i16, integer_bits: u32) -> i16 {
    const ONE: i16 = 1 << 13;
    let inverse = reciprocal_of_one_plus(exp(x, integer_bits + 1));
    shift_left(inverse.wrapping_sub(ONE), 2).wrapping_neg()
}

/// `2 / (1 + x)` in Q2.13 for x in Q0.15 from 0 to 1.
fn reciprocal_of_one_plus(x: i16) -> i16 {
    const ONE: i16 = 1 << 13;
    let half_denominator = ((i32::from(x) + i32::from(i16::MAX) + 1) / 2) as i16;
    let mut inverse =
        constant(1_515_870_810).wrapping_add(mul(half_denominator, constant(-1_010_580_540)));
    for _ in 0..3 {
        let error = ONE.wrapping_sub(mul(half_denominator, inverse));
        inverse = inverse.wrapping_add(shift_left(mul(inverse, error), 2));
    }
    inverse
}

/// `exp(x)` in Q0.15 for `x < 0` with `integer_bits`.
fn exp(x: i16, integer_bits: u32) -> i16 {
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
    let fraction_bits = 15 - integer_bits;
    let quarter = 1i16 << (fraction_bits - 2);
    let near = (x & (quarter - 1)).wrapping_sub(quarter);
    let mut result = exp_near_zero(shift_left(near, integer_bits));
    let remainder = near.wrapping_sub(x);
    for (bit, power) in (fraction_bits - 2..15).zip(POWERS) {
        if remainder & (1 << bit) != 0 {
            result = mul(result, constant(power));
        }
    }
    if integer_bits > 5 && x < -(1 << (20 - integer_bits)) {
        return 0;
    }
    result
}

/// `exp(x)` in Q0.15 for x in [-1/4, 0): a Taylor series around -1/8.
fn exp_near_zero(x: i16) -> i16 {
    let middle = constant(1_895_147_668);
    let x = x.wrapping_add(1 << 12);
    let x2 = mul(x, x);
    let x3 = mul(x2, x);
    let quarter = divide_by_pot(mul(x2, x2), 2);
    let third = mul(quarter.wrapping_add(x3), constant(715_827_883));
    let higher = divide_by_pot(third.wrapping_add(x2), 1);
    middle.saturating_add(mul(middle, x.wrapping_add(higher)))
}

/// A number given for 32 bits.
const fn constant(wide: i32) -> i16 {
    // Rounded, ties away from zero.
    let (high, low) = (wide >> 16, wide & 0xffff);
    (high + (low > 0x7fff + (wide < 0) as i32) as i32) as i16
}

fn shift_left(x: i16, by: u32) -> i16 {
    saturate(i32::from(x) << by)
}

/// `x`, held within int16.
pub(super) fn saturate(x: i32) -> i16 {
    x.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// [`Multiplier::apply`] as the ruy library has it, which LiteRT's optimized kernels use: the second
/// rounding, in the shift, takes ties upward.
pub(super) fn scale_by_shift(multiplier: Multiplier, x: i32) -> i32 {
    let left = Multiplier {
        exponent: multiplier.exponent.max(0),
        ..multiplier
    };
    let (high, right) = (i64::from(left.apply(x)), -multiplier.exponent.min(0));
    ((high + ((1 << right) >> 1)) >> right) as i32
}

/// The factor `scale`, a ratio of scales; one that no accumulator can take is an error.
pub(super) fn ratio(scale: f32) -> Result<Multiplier, OpError> {
    let multiplier = quantize_multiplier(f64::from(scale));
    if !scale.is_finite() || multiplier.exponent > 30 {
        return Err(OpError::Quantization(format!("ratio of scales is {scale}")));
    }
    Ok(multiplier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_close_to_the_functions() {
        let logistic = Logistic::new();
        let tanh: Vec<Tanh> = (0..=MOST_INTEGER_BITS).map(Tanh::new).collect();
        for q in i16::MIN..=i16::MAX {
            let x = f64::from(q) / 4096.0;
            let y = f64::from(logistic.apply(q)) / 32768.0;
            assert!((y - 1.0 / (1.0 + (-x).exp())).abs() < 3e-4, "{x}");
            for (bits, tanh) in tanh.iter().enumerate() {
                let x = f64::from(q) / f64::from(1 << (15 - bits));
                let y = f64::from(tanh.apply(q)) / 32768.0;
                assert!((y - x.tanh()).abs() < 1e-3, "{bits} {x}: {y}");
            }
        }
    }

    #[test]
    fn ruy_takes_ties_of_the_shift_upward() {
        let half = |x, exponent| {
            let multiplier = Multiplier {
                value: 1 << 30,
                exponent,
            };
            [multiplier.apply(x), scale_by_shift(multiplier, x)]
        };
        assert_eq!([half(6, -1), half(-6, -1)], [[2, 2], [-2, -1]]);
        assert_eq!([half(-6, 0), half(-6, 1)], [[-3, -3], [-6, -6]]);
        assert_eq!(half(-7, -31), [0, 0]);
    }
}
