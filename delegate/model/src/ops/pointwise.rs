//! What operators on one element at a time share: checks, tables over all bytes, rounding.

use bantam_kernels::elementwise::{self, Function};
use bantam_kernels::requantize::{Multiplier, quantize_multiplier};
use bantam_kernels::{Isa, Work};
use bytemuck::{AnyBitPattern, NoUninit};

use super::activation::clamp_range;
use super::table16::Table16;
use super::{OpError, Signature, Value};
use crate::cpu::Kernel;
use crate::quant::PerTensor;
use crate::tensor::{DType, Shape};

/// A quantized element.
pub(super) trait Element: AnyBitPattern + NoUninit + Into<i32> + Send + Sync {
    /// The low bits of `value`, which the caller has clamped to the type.
    fn from_i32(value: i32) -> Self;
}

macro_rules! elements {
    ($($type:ty),*) => {$(
        impl Element for $type {
            fn from_i32(value: i32) -> Self {
                value as Self
            }
        }
    )*};
}

elements!(i8, u8, i16, i32);

/// The shape of the first operand, for a result of the same.
pub(super) fn unary_shapes(io: &Signature) -> Result<Vec<Shape>, OpError> {
    Ok(vec![io.input(0)?.shape.clone()])
}

/// The one type of the first operand and the result.
pub(super) fn unary_type(io: &Signature) -> Result<DType, OpError> {
    let dtype = io.input(0)?.dtype;
    match io.output(0)?.dtype {
        output if output == dtype => Ok(dtype),
        output => Err(OpError::UnsupportedType {
            what: "output 0".into(),
            dtype: output,
        }),
    }
}

/// The smallest and largest integer of a quantized type.
pub(super) fn limits(dtype: DType) -> Option<(i32, i32)> {
    match dtype {
        DType::I8 => Some((-128, 127)),
        DType::U8 => Some((0, 255)),
        DType::I16 => Some((-32768, 32767)),
        DType::I32 => Some((i32::MIN, i32::MAX)),
        _ => None,
    }
}

/// The scale and zero point of `value`; a zero point that its type cannot hold is an error, and
/// so is one other than 0 for int16.
pub(super) fn parameters(value: &Value) -> Result<PerTensor, OpError> {
    let parameters = value.per_tensor()?;
    let (min, max) = match value.dtype {
        DType::I16 => (0, 0),
        dtype => limits(dtype).unwrap_or((i32::MIN, i32::MAX)),
    };
    if !(min..=max).contains(&parameters.zero_point) {
        return Err(OpError::Quantization(format!(
            "zero point {} is not in {min}..={max}",
            parameters.zero_point
        )));
    }
    Ok(parameters)
}

/// The fixed-point form of `real`, which must be finite.
pub(super) fn multiplier(real: f64) -> Result<Multiplier, OpError> {
    if !real.is_finite() {
        return Err(OpError::Quantization(format!("ratio of scales is {real}")));
    }
    Ok(quantize_multiplier(real))
}

/// XNNPACK's factor for one 8-bit step times `ratio`: in 1/256, for [`rescale_fast`]. `None` for
/// ratios that it leaves to LiteRT's own kernels.
pub(super) fn fast_factor(ratio: f32) -> Option<i32> {
    (1.0 / 256.0..=128.0)
        .contains(&ratio.abs())
        .then(|| (256.0 * ratio).round_ties_even() as i32)
}

/// `steps * factor / 256`, rounded half up.
#[inline]
pub(super) fn rescale_fast(steps: i32, factor: i32) -> i32 {
    (steps * factor + 128) >> 8
}

/// The integer nearest to `x`, ties to even, for `x` within 2^22 of 0.
#[inline]
pub(super) fn round_ties_even(x: f32) -> i32 {
    // Adding 1.5 * 2^23 leaves no bits for a fraction; plain additions, so that loops vectorize.
    const MAGIC: f32 = 12_582_912.0;
    ((x + MAGIC).to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32)
}

/// The integer nearest to `x`, ties away from zero; `x` beyond an i32 saturates.
#[inline]
pub(super) fn round_half_away(x: f32) -> i32 {
    // Not `round`, which is a call where the instruction set has no such rounding.
    let whole = x as i32;
    let fraction = x - whole as f32;
    whole.saturating_add(i32::from(fraction >= 0.5))
        - i32::from(fraction <= -0.5 && whole > i32::MIN)
}

/// Each element of the first operand through `f`; a copy, whose constants stay in registers.
pub(super) fn map<A, T>(f: impl Fn(A) -> T + Copy + Send + Sync + 'static) -> Kernel
where
    A: AnyBitPattern + 'static,
    T: AnyBitPattern + NoUninit + 'static,
{
    let isa = Isa::best();
    Kernel::new(move |run| {
        let parts = run.parts::<T>(0);
        isa.run(Map {
            input: parts.inputs.get::<A>(0),
            output: parts.output,
            f,
        });
    })
}

struct Map<'a, A, T, F> {
    input: &'a [A],
    output: &'a mut [T],
    f: F,
}

impl<A: Copy, T, F: Fn(A) -> T> Work for Map<'_, A, T, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (out, &x) in self.output.iter_mut().zip(self.input) {
            *out = (self.f)(x);
        }
    }
}

/// The same for an `f` that owns a table.
pub(super) fn map_by_table<A, T>(f: impl Fn(A) -> T + Send + Sync + 'static) -> Kernel
where
    A: AnyBitPattern + 'static,
    T: AnyBitPattern + NoUninit + 'static,
{
    Kernel::new(move |run| {
        let parts = run.parts::<T>(0);
        for (out, &x) in parts.output.iter_mut().zip(parts.inputs.get::<A>(0)) {
            *out = f(x);
        }
    })
}

/// Each float32 of the first operand through `function`.
pub(super) fn map_f32(function: Function) -> Kernel {
    let isa = Isa::best();
    Kernel::new(move |run| {
        let parts = run.parts::<f32>(0);
        elementwise::map(isa, function, parts.inputs.get(0), parts.output);
    })
}

/// What `f` gives for each of the 256 values of the 8-bit type `dtype`, by its byte.
pub(super) fn tabulate<T>(dtype: DType, f: impl Fn(i32) -> T) -> Box<[T; 256]> {
    let value = |byte: usize| match dtype {
        DType::I8 => i32::from(byte as u8 as i8),
        _ => byte as i32,
    };
    Box::new(std::array::from_fn(|byte| f(value(byte))))
}

/// Each element of the first operand through `f`, for quantized types; through a table where the
/// operand has 8 bits. `f` gives what the result's type holds.
pub(super) fn map_quantized(
    io: &Signature,
    f: impl Fn(i32) -> i32 + Copy + Send + Sync + 'static,
) -> Result<Kernel, OpError> {
    match io.input(0)?.dtype {
        input @ (DType::I8 | DType::U8) => match io.output(0)?.dtype {
            DType::I8 | DType::U8 => Ok(map_to_bytes(tabulate(input, |x| f(x) as u8))),
            DType::I16 => Ok(map_bytes(tabulate(input, |x| f(x) as i16))),
            DType::I32 => Ok(map_bytes(tabulate(input, f))),
            _ => Err(io.unsupported(0)),
        },
        DType::I16 => map_wide::<i16>(io, f),
        DType::I32 => map_wide::<i32>(io, f),
        _ => Err(io.unsupported(0)),
    }
}

/// Each byte of the first operand through `table`.
pub(super) fn map_bytes<T>(table: Box<[T; 256]>) -> Kernel
where
    T: AnyBitPattern + NoUninit + Send + Sync + 'static,
{
    map_by_table(move |byte: u8| table[usize::from(byte)])
}

/// The same where the results are bytes too.
pub(super) fn map_to_bytes(table: Box<[u8; 256]>) -> Kernel {
    let isa = Isa::best();
    Kernel::new(move |run| {
        let parts = run.parts::<u8>(0);
        elementwise::look_up(isa, &table, parts.inputs.bytes(0), parts.output);
    })
}

fn map_wide<A: Element>(
    io: &Signature,
    f: impl Fn(i32) -> i32 + Copy + Send + Sync + 'static,
) -> Result<Kernel, OpError> {
    match io.output(0)?.dtype {
        DType::I8 => Ok(map(move |x: A| f(x.into()) as i8)),
        DType::U8 => Ok(map(move |x: A| f(x.into()) as u8)),
        DType::I16 => Ok(map(move |x: A| f(x.into()) as i16)),
        DType::I32 => Ok(map(move |x: A| f(x.into()))),
        _ => Err(io.unsupported(0)),
    }
}

/// A real function between two tensors of int8, uint8 or int16, by a table: LiteRT's `LUTPopulate`.
pub(super) fn map_real(io: &Signature, f: impl Fn(f32) -> f32) -> Result<Kernel, OpError> {
    let dtype = unary_type(io)?;
    let (Some((min, max)), DType::I8 | DType::U8 | DType::I16) = (limits(dtype), dtype) else {
        return Err(io.unsupported(0));
    };
    let input = parameters(io.input(0)?)?;
    let output = parameters(io.output(0)?)?;
    if dtype == DType::I16 {
        let table = Table16::between(input.scale, output.scale, f);
        return Ok(map_by_table(move |x: i16| table.look_up(x)));
    }
    let inverse_scale = 1.0 / output.scale;
    Ok(map_to_bytes(tabulate(dtype, |q| {
        let y = f(input.scale * (q - input.zero_point) as f32);
        let rounded = (y * inverse_scale).round() + output.zero_point as f32;
        (rounded as i32).clamp(min, max) as u8
    })))
}

/// A clamp of the operand to `low..=high`: `RELU` and its kin.
pub(super) fn clamp(io: &Signature, low: f32, high: f32) -> Result<Kernel, OpError> {
    let dtype = unary_type(io)?;
    if dtype == DType::F32 {
        return Ok(map(move |x: f32| x.clamp(low, high)));
    }
    let (min, max) = limits(dtype).ok_or_else(|| io.unsupported(0))?;
    let input = parameters(io.input(0)?)?;
    let output = parameters(io.output(0)?)?;
    let (min, max) = clamp_range((low, high), output, min, max)?;
    let scale = multiplier(f64::from(input.scale / output.scale))?;
    map_quantized(io, move |x| {
        let y = scale.apply(x.wrapping_sub(input.zero_point));
        y.wrapping_add(output.zero_point).clamp(min, max)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_ties_to_even() {
        assert_eq!(
            [-2.5, -1.5, -0.4, 0.5, 1.5, 126.51].map(round_ties_even),
            [-2, -2, 0, 0, 2, 127]
        );
    }

    #[test]
    fn rounds_ties_away_from_zero() {
        let below_half = 0.5f32.next_down();
        let values = [
            -2.5,
            -1.5,
            -below_half,
            below_half,
            0.5,
            1.5,
            8_388_609.0,
            f32::NAN,
        ];
        assert_eq!(
            values.map(round_half_away),
            [-3, -2, 0, 0, 1, 2, 8_388_609, 0]
        );
        assert_eq!(
            [f32::INFINITY, -3e38].map(round_half_away),
            [i32::MAX, i32::MIN]
        );
    }

    #[test]
    fn tables_are_by_byte() {
        let table = tabulate(DType::I8, |x| x);
        assert_eq!(
            (table[0], table[127], table[128], table[255]),
            (0, 127, -128, -1)
        );
        assert_eq!(tabulate(DType::U8, |x| x)[255], 255);
    }

    #[test]
    fn multipliers_are_finite() {
        assert!(matches!(
            multiplier(f64::INFINITY),
            Err(OpError::Quantization(_))
        ));
        assert!(matches!(
            multiplier(f64::NAN),
            Err(OpError::Quantization(_))
        ));
    }
}
