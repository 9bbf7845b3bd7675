//! What `ADD`, `SUB` and `MUL` share: types without scales, and the quantized sum.

use bantam_kernels::requantize::{Multiplier, rounding_divide_by_pot_i16};

use super::broadcast::{binary, binary_type};
use super::pointwise::{Element, limits, multiplier, parameters};
use super::{Activation, Numerics, OpError, Signature};
use crate::cpu::Kernel;
use crate::quant::PerTensor;
use crate::tensor::DType;

/// `activation(a OP b)` for types that are not quantized.
pub(super) trait Plain: 'static {
    /// For binary32.
    fn f32(a: f32, b: f32) -> f32;
    /// For integers; overflow wraps.
    fn i64(a: i64, b: i64) -> i64;
}

/// The kernel where the operands are numbers as they are: float32, int32, int64, uint32, and
/// int16 without scales; `None` for quantized types.
pub(super) fn prepare_plain<P: Plain>(
    io: &Signature,
    activation: Activation,
) -> Result<Option<Kernel>, OpError> {
    activation.check()?;
    let (low, high) = activation.range_f32();
    let bounds = (low as i64, high as i64);
    macro_rules! integer {
        ($type:ty) => {{
            let (low, high) = bounds;
            let (low, high) = (
                low.max(<$type>::MIN.into()) as $type,
                high.min(i64::try_from(<$type>::MAX).unwrap_or(i64::MAX)) as $type,
            );
            binary(io, move |a: $type, b: $type| {
                (P::i64(a.into(), b.into()) as $type).clamp(low, high)
            })
        }};
    }
    let kernel = match binary_type(io)? {
        DType::F32 if activation == Activation::None => binary(io, P::f32),
        DType::F32 => binary(io, move |a, b| P::f32(a, b).clamp(low, high)),
        DType::I32 => integer!(i32),
        DType::I64 => integer!(i64),
        DType::U32 => integer!(u32),
        DType::I16 if io.input(0)?.quantization().is_err() => integer!(i16),
        DType::I8 | DType::U8 | DType::I16 => return Ok(None),
        _ => Err(io.unsupported(0)),
    };
    kernel.map(Some)
}

/// The sign of the second operand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sign {
    Plus,
    Minus,
}

impl Sign {
    fn of(self, x: i32) -> i32 {
        match self {
            Self::Plus => x,
            Self::Minus => x.wrapping_neg(),
        }
    }
}

/// `activation(a ± b)` for quantized types.
pub(super) fn prepare_sum(
    io: &Signature,
    activation: Activation,
    pot_scale_int16: bool,
    sign: Sign,
) -> Result<Kernel, OpError> {
    let dtype = binary_type(io)?;
    let (min, max) = limits(dtype).ok_or_else(|| io.unsupported(0))?;
    let output = parameters(io.output(0)?)?;
    let sum = Sum {
        a: parameters(io.input(0)?)?,
        b: parameters(io.input(1)?)?,
        output,
        sign,
        range: activation.range(output, min, max)?,
    };
    match (dtype, io.numerics) {
        (DType::I16, _) => match sum.powers_of_two().filter(|_| pot_scale_int16) {
            Some(shifts) => sum.prepare_shifted(io, shifts),
            None => sum.prepare_reference::<i16>(io, 15),
        },
        (DType::I8, Numerics::Fast) => sum.prepare_fast::<i8>(io),
        (DType::U8, Numerics::Fast) => sum.prepare_fast::<u8>(io),
        (DType::I8, Numerics::Reference) => sum.prepare_reference::<i8>(io, 20),
        (DType::U8, Numerics::Reference) => sum.prepare_reference::<u8>(io, 20),
        _ => Err(io.unsupported(0)),
    }
}

struct Sum {
    a: PerTensor,
    b: PerTensor,
    output: PerTensor,
    sign: Sign,
    range: (i32, i32),
}

impl Sum {
    /// LiteRT's: both operands are brought to twice the larger scale, `left_shift` bits up.
    fn prepare_reference<T: Element>(
        self,
        io: &Signature,
        left_shift: u32,
    ) -> Result<Kernel, OpError> {
        let Self {
            a, b, output, sign, ..
        } = self;
        let (min, max) = self.range;
        let twice_larger = 2.0 * f64::from(a.scale.max(b.scale));
        let scale_a = multiplier(f64::from(a.scale) / twice_larger)?;
        let scale_b = multiplier(f64::from(b.scale) / twice_larger)?;
        let scale_output =
            multiplier(twice_larger / (f64::from(1 << left_shift) * f64::from(output.scale)))?;
        let scaled = move |x: i32, zero_point: i32, scale: Multiplier| {
            scale.apply((x - zero_point).wrapping_shl(left_shift))
        };
        binary(io, move |x: T, y: T| {
            let x = scaled(x.into(), a.zero_point, scale_a);
            let y = scaled(y.into(), b.zero_point, scale_b);
            let sum = scale_output.apply(x.wrapping_add(sign.of(y)));
            T::from_i32(sum.wrapping_add(output.zero_point).clamp(min, max))
        })
    }

    /// XNNPACK's: both operands times integers of at most 21 bits, one shift. As there, ratios of
    /// scales outside `2^-10..2^8` take the reference's way.
    fn prepare_fast<T: Element>(self, io: &Signature) -> Result<Kernel, OpError> {
        let (ratio_a, ratio_b) = (
            self.a.scale / self.output.scale,
            self.b.scale / self.output.scale,
        );
        let fits = |ratio: f32| (1.0 / 1024.0..256.0).contains(&ratio);
        if !fits(ratio_a) || !fits(ratio_b) {
            return self.prepare_reference::<T>(io, 20);
        }
        let exponent = ((ratio_a.max(ratio_b).to_bits() >> 23) & 0xff) as i32 - 127;
        let shift = 20 - exponent;
        let power = f32::from_bits(((127 + shift) as u32) << 23);
        let factor = |ratio: f32| (ratio * power).round_ties_even() as i32;
        let (factor_a, factor_b) = (factor(ratio_a), self.sign.of(factor(ratio_b)));
        let bias = (1 << (shift - 1)) - factor_a * self.a.zero_point - factor_b * self.b.zero_point;
        let zero_point = self.output.zero_point;
        let (min, max) = self.range;
        binary(io, move |x: T, y: T| {
            let sum = bias
                .wrapping_add(x.into().wrapping_mul(factor_a))
                .wrapping_add(y.into().wrapping_mul(factor_b));
            T::from_i32(((sum >> shift) + zero_point).clamp(min, max))
        })
    }

    /// The logarithms of the scales of both operands over that of the result, if all three are
    /// powers of two.
    fn powers_of_two(&self) -> Option<(i32, i32)> {
        let logarithm = |scale: f32| {
            let log2 = scale.ln() * (1.0 / 2f32.ln());
            ((log2 - log2.round()).abs() < 1e-3).then_some(log2.round() as i32)
        };
        let output = logarithm(self.output.scale)?;
        Some((
            logarithm(self.a.scale)? - output,
            logarithm(self.b.scale)? - output,
        ))
    }

    /// LiteRT's for int16 with scales that are powers of two: one operand is shifted right to the
    /// scale of the other, which is the result's.
    fn prepare_shifted(self, io: &Signature, shifts: (i32, i32)) -> Result<Kernel, OpError> {
        let usable = |shift: i32| (-15..=0).contains(&shift);
        let (shift_a, shift_b) = shifts;
        if !usable(shift_a) || !usable(shift_b) || (shift_a != 0 && shift_b != 0) {
            return Err(OpError::Quantization(format!(
                "power-of-two scales that are 2^{shift_a} and 2^{shift_b} of the output's"
            )));
        }
        let sign = self.sign;
        let (min, max) = self.range;
        binary(io, move |x: i16, y: i16| {
            let x = rounding_divide_by_pot_i16(x, -shift_a);
            let y = rounding_divide_by_pot_i16(y, -shift_b);
            let sum = match sign {
                Sign::Plus => x.saturating_add(y),
                Sign::Minus => x.saturating_sub(y),
            };
            i32::from(sum).clamp(min, max) as i16
        })
    }
}
