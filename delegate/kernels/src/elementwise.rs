//! Functions of one element: transcendental ones of float32 as plain arithmetic that vectorizes, and tables over all bytes.
//!
//! The float functions give the same bits in every set: no fused multiply-adds, no calls. Their errors, checked in the tests
//! against binary64 over all exponents, are stated with each. What is not a number stays so.

use crate::isa::{Isa, Work};

/// Adding and subtracting 1.5 * 2^23 rounds to an integer, which the low bits of the sum hold.
const MAGIC: f32 = 12_582_912.0;
const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// `ln 2` in two parts; the first has 15 bits, so that its product with an exponent is exact.
const LN_2_HIGH: f32 = 0.693_145_75;
const LN_2_LOW: f32 = 1.428_606_8e-6;

/// Writes `function` of each element of `input`.
///
/// # Panics
/// If the lengths differ.
pub fn map(isa: Isa, function: Function, input: &[f32], output: &mut [f32]) {
    struct Map<'a, F>(&'a [f32], &'a mut [f32], F);

    impl<F: Scalar> Work for Map<'_, F> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            for (y, &x) in self.1.iter_mut().zip(self.0) {
                *y = F::of(x);
            }
        }
    }

    assert_eq!(input.len(), output.len());
    match function {
        Function::Elu => isa.run(Map(input, output, Elu)),
        Function::Exp => isa.run(Map(input, output, Exp)),
        Function::Gelu => isa.run(Map(input, output, Gelu)),
        Function::GeluTanh => isa.run(Map(input, output, GeluTanh)),
        Function::HardSwish => isa.run(Map(input, output, HardSwish)),
        Function::Logistic => isa.run(Map(input, output, Logistic)),
        Function::Tanh => isa.run(Map(input, output, Tanh)),
    }
}

/// A function of one float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `x` where `x >= 0`, otherwise `e^x - 1`; within 4 units in the last place.
    Elu,
    /// `e^x`; within 2 units in the last place, subnormal results within the smallest one.
    Exp,
    /// `x` times the normal distribution at `x`, by `erfc`; within 1e-5 relative.
    Gelu,
    /// The same by `tanh`: `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`, rounded as float32 throughout.
    GeluTanh,
    /// `x * min(6, max(0, x + 3)) / 6`.
    HardSwish,
    /// `1 / (1 + e^-x)`; within 4 units in the last place.
    Logistic,
    /// The hyperbolic tangent; within 4 units in the last place.
    Tanh,
}

/// [`Function`] as a type, so that each is a loop of its own.
trait Scalar {
    fn of(x: f32) -> f32;
}

macro_rules! scalars {
    ($($name:ident = $function:expr;)*) => {$(
        struct $name;

        impl Scalar for $name {
            #[inline(always)]
            fn of(x: f32) -> f32 {
                $function(x)
            }
        }
    )*};
}

scalars! {
    Elu = |x: f32| if x < 0.0 { exp_minus_1(x) } else { x };
    Exp = exp;
    Gelu = gelu;
    GeluTanh = gelu_tanh;
    HardSwish = |x: f32| x * clamp(x + 3.0, 0.0, 6.0) * (1.0 / 6.0);
    Logistic = logistic;
    Tanh = tanh;
}

/// `x` between `low` and `high`; unlike the one of `f32`, comparisons that keep what is not a number.
#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// The integer `n` nearest to `x / ln 2`, as its power of two, and `e^r - 1` of the remainder `r = x - n * ln 2`.
/// `x` is within 128 of 0.
#[inline(always)]
fn reduce(x: f32) -> (i32, f32) {
    let biased = x * LOG2_E + MAGIC;
    let n = biased - MAGIC;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    // Least largest relative error of e^r, 3.3e-9.
    let mut p = 1.381_314_2e-3;
    for coefficient in [8.369_419e-3, 4.166_846e-2, 0.166_665_15, 0.499_999_93] {
        p = p * r + coefficient;
    }
    let n = (biased.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    (n, r + r * r * p)
}

/// `2^n` for `n` in `-126..=127`.
#[inline(always)]
fn power_of_2(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// See [`Function::Exp`].
#[inline(always)]
fn exp(x: f32) -> f32 {
    let (n, s) = reduce(clamp(x, -104.0, 89.0));
    // In two steps, because the result may be subnormal or infinite.
    let half = n >> 1;
    (1.0 + s) * power_of_2(half) * power_of_2(n.wrapping_sub(half))
}

/// `e^x - 1` for `x <= 0`.
#[inline(always)]
fn exp_minus_1(x: f32) -> f32 {
    let (n, s) = reduce(clamp(x, -30.0, 0.0));
    let scale = power_of_2(n);
    (scale - 1.0) + scale * s
}

/// See [`Function::Logistic`].
#[inline(always)]
fn logistic(x: f32) -> f32 {
    let e = exp(if x > 0.0 { -x } else { x });
    let numerator = if x > 0.0 { 1.0 } else { e };
    numerator / (1.0 + e)
}

/// See [`Function::Tanh`].
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let z = x * x;
    // Least largest relative error on |x| <= 0.625, 4.4e-9.
    let mut p = -5.704_990_5e-3;
    for coefficient in [2.063_909e-2, -5.373_971_5e-2, 0.133_314_42, -0.333_332_83] {
        p = p * z + coefficient;
    }
    let near = x + x * (z * p);
    let far = 1.0 - 2.0 / (exp(clamp(2.0 * x.abs(), 0.0, 40.0)) + 1.0);
    if x.abs() < 0.625 {
        near
    } else {
        far.copysign(x)
    }
}

/// See [`Function::Gelu`].
#[inline(always)]
fn gelu(x: f32) -> f32 {
    const SQRT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
    let u = clamp(x.abs() * SQRT_HALF, 0.0, 10.5);
    let t = 1.0 / (1.0 + 0.4 * u);
    // e^(u^2) * erfc(u) on 0..=10; least largest relative error, 6.2e-8.
    let mut p = 4.125_312_5e-2;
    for coefficient in [
        -0.140_319_64,
        8.398_812e-2,
        8.796_341e-2,
        7.975_712e-2,
        0.193_392_95,
        0.201_887_65,
        0.226_443_11,
        0.225_634_23,
    ] {
        p = p * t + coefficient;
    }
    // The part that the other side of 0 has.
    let tail = SQRT_HALF * u * (p * t) * exp(-u * u);
    if x > 0.0 { x - tail } else { -tail }
}

/// See [`Function::GeluTanh`].
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)))
}

/// Lanes of the sums and maxima below; their order of additions is part of the result.
const LANES: usize = 16;

/// About as many elements as are worked on at a time, to stay in the nearest cache.
const BLOCK: usize = 2048;

/// Softmax of each row of `depth` elements: `e^(beta * (x - largest))`, divided by their sum.
///
/// # Panics
/// If the lengths differ or `depth` is 0.
pub fn softmax(isa: Isa, depth: usize, beta: f32, input: &[f32], output: &mut [f32]) {
    struct Softmax<'a>(usize, f32, &'a [f32], &'a mut [f32]);

    impl Work for Softmax<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            let Self(depth, beta, input, output) = self;
            for (row, out) in input
                .chunks_exact(depth)
                .zip(output.chunks_exact_mut(depth))
            {
                let largest = largest(row);
                for (y, &x) in out.iter_mut().zip(row) {
                    *y = (x - largest) * beta;
                }
            }
            // Over all rows at once, because short ones would leave much to scalar loops.
            for y in output.iter_mut() {
                *y = exp(*y);
            }
            for out in output.chunks_exact_mut(depth) {
                let inverse = 1.0 / sum(out);
                for y in out {
                    *y *= inverse;
                }
            }
        }
    }

    assert_eq!(input.len(), output.len());
    let block = (BLOCK / depth).max(1) * depth;
    for (input, output) in input.chunks(block).zip(output.chunks_mut(block)) {
        isa.run(Softmax(depth, beta, input, output));
    }
}

/// Logarithm of the softmax of each row of `depth` elements: `x - largest - ln(sum(e^(x - largest)))`. `output` serves as
/// scratch memory.
///
/// # Panics
/// If the lengths differ or `depth` is 0.
pub fn log_softmax(isa: Isa, depth: usize, input: &[f32], output: &mut [f32]) {
    struct LogSoftmax<'a>(&'a [f32], &'a mut [f32]);

    impl Work for LogSoftmax<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            let Self(row, output) = self;
            let largest = largest(row);
            for (y, &x) in output.iter_mut().zip(row) {
                *y = exp(x - largest);
            }
            let log_sum = sum(output).ln();
            for (y, &x) in output.iter_mut().zip(row) {
                *y = x - largest - log_sum;
            }
        }
    }

    assert_eq!(input.len(), output.len());
    for (row, out) in input
        .chunks_exact(depth)
        .zip(output.chunks_exact_mut(depth))
    {
        isa.run(LogSoftmax(row, out));
    }
}

#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [f32::MIN; LANES];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::MIN, |m, &x| larger(m, x))
}

#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    lanes.iter().chain(rest).sum()
}

/// Writes `table[byte]` for each byte of `input`.
///
/// # Panics
/// If the lengths differ.
pub fn look_up(isa: Isa, table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    assert_eq!(input.len(), output.len());
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => crate::avx512::look_up(token, table, input, output),
        _ => {
            for (y, &x) in output.iter_mut().zip(input) {
                *y = table[usize::from(x)];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of all signs and exponents, the special ones, and many between -30 and 30.
    fn values() -> Vec<f32> {
        let patterns = (0..=u32::MAX).step_by(10_007).map(f32::from_bits);
        let near = (-300_000..300_000).map(|i| i as f32 * 1e-4);
        let special = [
            0.0,
            -0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
        ];
        patterns.chain(near).chain(special).collect()
    }

    /// The largest error in units in the last place; that of subnormal results in those of the smallest normal number.
    fn worst_error(function: Function, exact: impl Fn(f64) -> f64) -> f64 {
        let input = values();
        let mut output = vec![0.0; input.len()];
        map(Isa::Portable, function, &input, &mut output);
        let error = |(&x, &y): (&f32, &f32)| {
            let want = exact(x.into());
            if want.is_nan() || (want as f32).is_infinite() {
                let same = y == want as f32 || (y.is_nan() && want.is_nan());
                return if same { 0.0 } else { f64::INFINITY };
            }
            let exponent = want.abs().max(f32::MIN_POSITIVE.into()).log2().floor();
            (f64::from(y) - want).abs() / (exponent - 23.0).exp2()
        };
        input.iter().zip(&output).map(error).fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_within_a_few_units_in_the_last_place() {
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let elu = |x: f64| if x < 0.0 { x.exp_m1() } else { x };
        let errors = [
            (worst_error(Function::Exp, f64::exp), 2.0),
            (worst_error(Function::Logistic, logistic), 4.0),
            (worst_error(Function::Tanh, f64::tanh), 4.0),
            (worst_error(Function::Elu, elu), 4.0),
        ];
        assert!(
            errors.iter().all(|(error, bound)| error <= bound),
            "{errors:?}"
        );
    }

    #[test]
    fn gelu_is_exact_to_1e_5() {
        // The distribution by Simpson's rule, upwards from where it is nothing.
        let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let (mut below, step) = (0.0, 1e-3);
        for i in -12_000..6_000 {
            let x = f64::from(i) * step;
            if i % 25 == 0 && i > -8_000 {
                let (mut found, want) = ([0.0], x * below);
                map(Isa::best(), Function::Gelu, &[x as f32], &mut found);
                let error = (f64::from(found[0]) - want).abs();
                assert!(
                    error <= 1e-5 * want.abs(),
                    "{x}: {} is not {want}",
                    found[0]
                );
            }
            below += step / 6.0 * (density(x) + 4.0 * density(x + step / 2.0) + density(x + step));
        }
        let mut found = [1.0; 5];
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e30];
        map(Isa::best(), Function::Gelu, &special, &mut found);
        assert!(found[0].is_nan());
        assert_eq!(found[1..], [f32::INFINITY, 0.0, 0.0, 1e30]);
    }

    #[test]
    fn every_set_gives_the_same_bits() {
        let input = values();
        for function in [
            Function::Elu,
            Function::Exp,
            Function::Gelu,
            Function::GeluTanh,
            Function::HardSwish,
            Function::Logistic,
            Function::Tanh,
        ] {
            let results = Isa::all().into_iter().map(|isa| {
                let mut output = vec![0.0; input.len()];
                map(isa, function, &input, &mut output);
                let bits = |y: f32| if y.is_nan() { u32::MAX } else { y.to_bits() };
                output.into_iter().map(bits).collect::<Vec<_>>()
            });
            let results: Vec<_> = results.collect();
            assert!(results.iter().all(|r| *r == results[0]), "{function:?}");
        }
    }

    #[test]
    fn rows_sum_to_one_in_every_set() {
        const DEPTH: usize = 37;
        let input: Vec<f32> = (0..DEPTH * 100)
            .map(|i| (i * 29 % 371) as f32 * 0.03 - 5.0)
            .collect();
        for isa in Isa::all() {
            let (mut plain, mut log) = (vec![0.0; input.len()], vec![0.0; input.len()]);
            softmax(isa, DEPTH, 1.0, &input, &mut plain);
            log_softmax(isa, DEPTH, &input, &mut log);
            let rows = input
                .chunks(DEPTH)
                .zip(plain.chunks(DEPTH))
                .zip(log.chunks(DEPTH));
            for ((row, plain), log) in rows {
                let exact: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
                let total: f64 = exact.iter().sum();
                for ((&p, &l), e) in plain.iter().zip(log).zip(&exact) {
                    assert!((f64::from(p) - e / total).abs() < 1e-7);
                    assert!((f64::from(l) - (e / total).ln()).abs() < 2e-6);
                }
            }
        }
    }

    #[test]
    fn tables_are_looked_up_in_every_set() {
        let table: [u8; 256] = std::array::from_fn(|i| (i * 77 + 13) as u8);
        let input: Vec<u8> = (0..333).map(|i| (i * 7) as u8).collect();
        for isa in Isa::all() {
            let mut output = vec![0; input.len()];
            look_up(isa, &table, &input, &mut output);
            let found = input.iter().zip(&output);
            assert!(
                found.into_iter().all(|(&x, &y)| y == table[usize::from(x)]),
                "{isa:?}"
            );
        }
    }
}
