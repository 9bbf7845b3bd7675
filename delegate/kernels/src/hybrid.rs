//! Float32 activations that are quantized to int8 when they are there, because the weights are int8 ("dynamic range").

use crate::Isa;
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

/// How a row of activations was quantized: `real = scale * (q - zero_point)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RowScale {
    pub scale: f32,
    pub zero_point: i32,
}

/// How the rows of activations were quantized: `real = scale * (q - zero_point)`.
#[derive(Clone, Copy, Debug)]
pub struct RowScales<'r> {
    /// Real value of one step, for each row.
    pub scale: &'r [f32],
    /// The integer that stands for 0, in `-128..=127`, for each row.
    pub zero_point: &'r [i32],
}

impl RowScales<'_> {
    pub(crate) fn of(&self, row: usize) -> RowScale {
        RowScale {
            scale: self.scale[row],
            zero_point: self.zero_point[row],
        }
    }
}

/// How scale and zero point follow from a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantizer {
    /// LiteRT's `SymmetricQuantizeFloats`: zero point 0, -127 to 127, ties away from zero.
    Symmetric,
    /// LiteRT's `AsymmetricQuantizeFloats`, in the form that its vectors have: the range with 0, a float32, over -128 to 127;
    /// ties away from zero.
    Asymmetric,
    /// XNNPACK's `qd8`: as [`Self::Asymmetric`], in float32, ties to even.
    Xnnpack,
}

/// In which order a sum of integers, the scales of row and weights, and the bias meet: the last bit of a result decides how the
/// next operator rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// `sum * weights * row + bias`: LiteRT's CONV_2D with a scale for each channel.
    WeightsFirst,
    /// `sum * (row * weights) + bias`: other operators of LiteRT.
    Together,
    /// `sum * row * weights + bias`, the last product and sum rounded once: XNNPACK.
    RowFirst,
}

impl Scaling {
    #[inline(always)]
    pub(crate) fn apply(self, sum: i32, row: f32, weights: f32, bias: f32) -> f32 {
        let sum = sum as f32;
        match self {
            Self::WeightsFirst => sum * weights * row + bias,
            Self::Together => sum * (row * weights) + bias,
            Self::RowFirst => (sum * row).mul_add(weights, bias),
        }
    }
}

/// Quantizes `input`, as many rows as `scale` and `zero_point` have entries, which are set.
///
/// # Panics
/// If there are no rows, or they do not divide the lengths, which are the same.
pub fn quantize_rows(
    isa: Isa,
    quantizer: Quantizer,
    input: &[f32],
    output: &mut [i8],
    scale: &mut [f32],
    zero_point: &mut [i32],
) {
    assert_eq!(input.len(), output.len(), "lengths differ");
    let len = input.len() / scale.len();
    assert_eq!(
        len * scale.len(),
        input.len(),
        "rows do not divide the input"
    );
    let rows = input
        .chunks_exact(len.max(1))
        .zip(output.chunks_exact_mut(len.max(1)));
    for ((input, output), (scale, zero_point)) in rows.zip(scale.iter_mut().zip(zero_point)) {
        let row = match isa {
            Isa::Portable => quantize_row(quantizer, input, output),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(token) => avx2::quantize_row(token, quantizer, input, output),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(token) => avx512::quantize_row(token, quantizer, input, output),
        };
        (*scale, *zero_point) = (row.scale, row.zero_point);
    }
}

#[inline(always)]
pub(crate) fn quantize_row(quantizer: Quantizer, input: &[f32], output: &mut [i8]) -> RowScale {
    let (min, max) = bounds(input);
    match quantizer {
        Quantizer::Symmetric => {
            let range = min.abs().max(max.abs());
            let (scale, inverse) = if range == 0.0 {
                (1.0, 0.0)
            } else {
                (range / 127.0, 127.0 / range)
            };
            for (output, &x) in output.iter_mut().zip(input) {
                *output = (round_away(x * inverse) as i32).clamp(-127, 127) as i8;
            }
            RowScale {
                scale,
                zero_point: 0,
            }
        }
        Quantizer::Asymmetric => {
            let row = asymmetric(min.min(0.0), max.max(0.0));
            let inverse = 1.0 / row.scale;
            for (output, &x) in output.iter_mut().zip(input) {
                let steps = round_away(x * inverse).clamp(-256.0, 256.0) as i32;
                *output = (steps + row.zero_point).clamp(-128, 127) as i8;
            }
            row
        }
        Quantizer::Xnnpack => {
            let (row, inverse) = xnnpack(min.min(0.0), max.max(0.0));
            for (output, &x) in output.iter_mut().zip(input) {
                let steps = (x * inverse).clamp(-256.0, 256.0).round_ties_even() as i32;
                *output = (steps + row.zero_point).clamp(-128, 127) as i8;
            }
            row
        }
    }
}

/// The smallest and largest element.
#[inline(always)]
fn bounds(input: &[f32]) -> (f32, f32) {
    const LANES: usize = 16;
    let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (chunks, rest) = input.as_chunks::<LANES>();
    for chunk in chunks {
        for ((min, max), &x) in min.iter_mut().zip(&mut max).zip(chunk) {
            *min = if x < *min { x } else { *min };
            *max = if x > *max { x } else { *max };
        }
    }
    let all = |lanes: [f32; LANES]| lanes.into_iter().chain(rest.iter().copied());
    (
        all(min).fold(f32::INFINITY, f32::min),
        all(max).fold(f32::NEG_INFINITY, f32::max),
    )
}

/// To the nearest integer, ties away from zero: truncation after the addition of the largest float below one half.
#[inline(always)]
fn round_away(x: f32) -> f32 {
    (x + 0.499_999_97_f32.copysign(x)).trunc()
}

fn asymmetric(min: f32, max: f32) -> RowScale {
    if min == max {
        return RowScale {
            scale: 1.0,
            zero_point: 0,
        };
    }
    let scale = f64::from(max - min) / 255.0;
    let (min, max) = (f64::from(min), f64::from(max));
    let (from_min, from_max) = (-128.0 - min / scale, 127.0 - max / scale);
    let (min_error, max_error) = (128.0 + (min / scale).abs(), 127.0 + (max / scale).abs());
    let zero_point = if min_error < max_error {
        from_min
    } else {
        from_max
    };
    RowScale {
        scale: scale as f32,
        zero_point: zero_point.clamp(-128.0, 127.0).round() as i32,
    }
}

/// The scale, and its inverse, from which it follows.
fn xnnpack(min: f32, max: f32) -> (RowScale, f32) {
    let inverse = if min == max { 1.0 } else { 255.0 / (max - min) };
    let (scaled_min, scaled_max) = (min * inverse, max * inverse);
    let (min_error, max_error) = (-128.0 + scaled_min, 127.0 + scaled_max);
    let zero_point = if min_error + max_error > 0.0 {
        -128.0 - scaled_min
    } else {
        127.0 - scaled_max
    };
    let row = RowScale {
        scale: 1.0 / inverse,
        zero_point: zero_point.clamp(-128.0, 127.0).round_ties_even() as i32,
    };
    (row, inverse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn quantize(quantizer: Quantizer, input: &[f32]) -> (Vec<i8>, RowScale) {
        let mut output = vec![0; input.len()];
        let (mut scale, mut zero_point) = ([0.0], [0]);
        quantize_rows(
            Isa::Portable,
            quantizer,
            input,
            &mut output,
            &mut scale,
            &mut zero_point,
        );
        let row = RowScale {
            scale: scale[0],
            zero_point: zero_point[0],
        };
        (output, row)
    }

    #[test]
    fn symmetric_keeps_zero_and_rounds_ties_away() {
        let (output, row) = quantize(Quantizer::Symmetric, &[-127.0, 2.5, -2.5, 0.49, 0.0]);
        assert_eq!(output, [-127, 3, -3, 0, 0]);
        assert_eq!((row.scale, row.zero_point), (1.0, 0));
    }

    #[test]
    fn asymmetric_uses_all_steps() {
        for quantizer in [Quantizer::Asymmetric, Quantizer::Xnnpack] {
            let (output, row) = quantize(quantizer, &[0.0, 255.0, 2.0]);
            assert_eq!(output, [-128, 127, -126], "{quantizer:?}");
            assert_eq!((row.scale, row.zero_point), (1.0, -128), "{quantizer:?}");
        }
        let third = |quantizer| quantize(quantizer, &[0.0, 255.0, 2.5]).0[2];
        assert_eq!(third(Quantizer::Xnnpack), -126);
        assert_eq!(third(Quantizer::Asymmetric), -125);
    }

    #[test]
    fn zeros_have_a_scale() {
        for quantizer in [
            Quantizer::Symmetric,
            Quantizer::Asymmetric,
            Quantizer::Xnnpack,
        ] {
            assert_eq!(quantize(quantizer, &[0.0; 3]).1.scale, 1.0, "{quantizer:?}");
        }
    }

    #[test]
    fn every_set_gives_the_same() {
        let mut random = Random(9);
        let input = random.f32s(3 * 133);
        for quantizer in [
            Quantizer::Symmetric,
            Quantizer::Asymmetric,
            Quantizer::Xnnpack,
        ] {
            let run = |isa| {
                let mut output = vec![0; input.len()];
                let (mut scale, mut zero_point) = ([0.0; 3], [0; 3]);
                quantize_rows(
                    isa,
                    quantizer,
                    &input,
                    &mut output,
                    &mut scale,
                    &mut zero_point,
                );
                (output, scale, zero_point)
            };
            for isa in Isa::all() {
                assert_eq!(run(isa), run(Isa::Portable), "{isa:?}, {quantizer:?}");
            }
        }
    }
}
