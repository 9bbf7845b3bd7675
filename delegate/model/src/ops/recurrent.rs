//! What the recurrent operators share: the order of time steps, products with packed weights in
//! float and hybrid arithmetic, activations that vectorize, scratch memory.

use bantam_kernels::{Isa, ProductF32};
use bytemuck::{AnyBitPattern, NoUninit};

use super::pointwise::round_half_away;
use super::{Activation, OpError, Signature, Value};
use crate::tensor::{DType, Shape};

/// Time steps of a batch, as they stand in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sequence {
    pub time: usize,
    pub batch: usize,
    pub time_major: bool,
}

impl Sequence {
    /// The sequence of `input`, `[time, batch, depth]` or `[batch, time, depth]`, and its depth.
    pub fn of(input: &Value, time_major: bool) -> Result<(Self, usize), OpError> {
        let [first, second, depth] = input.shape_n()?;
        let (time, batch) = if time_major {
            (first, second)
        } else {
            (second, first)
        };
        let sequence = Self {
            time,
            batch,
            time_major,
        };
        Ok((sequence, depth))
    }

    /// The one step of `input`, `[batch, depth]`, and its depth.
    pub fn single(input: &Value) -> Result<(Self, usize), OpError> {
        let [batch, depth] = input.shape_n()?;
        let sequence = Self {
            time: 1,
            batch,
            time_major: true,
        };
        Ok((sequence, depth))
    }

    /// The shape of a result of `depth`.
    pub fn shape(&self, depth: usize) -> Shape {
        match self.time_major {
            true => vec![self.time, self.batch, depth],
            false => vec![self.batch, self.time, depth],
        }
    }

    /// The depth of the operand at `index`, if it is given: float, of as many steps.
    pub fn auxiliary_depth(&self, io: &Signature, index: usize) -> Result<Option<usize>, OpError> {
        let Some(value) = io.optional_input(index) else {
            return Ok(None);
        };
        let (other, depth) = Self::of(value, self.time_major)?;
        if (other.time, other.batch) != (self.time, self.batch) || depth == 0 {
            return Err(OpError::Shape(format!(
                "auxiliary input of shape {:?} for {} steps of a batch of {}",
                value.shape, self.time, self.batch
            )));
        }
        match value.dtype {
            DType::F32 => Ok(Some(depth)),
            _ => Err(io.unsupported(index)),
        }
    }

    /// Rows of all steps.
    pub fn rows(&self) -> usize {
        self.time.saturating_mul(self.batch)
    }

    /// The row of step `time` of `batch`.
    pub fn row(&self, time: usize, batch: usize) -> usize {
        match self.time_major {
            true => time * self.batch + batch,
            false => batch * self.time + time,
        }
    }

    /// The steps in the order in which they are computed.
    pub fn steps(&self, backward: bool) -> impl Iterator<Item = usize> + use<> {
        let last = self.time.wrapping_sub(1);
        (0..self.time).map(move |t| if backward { last - t } else { t })
    }
}

/// Where rows of a result stand: the distance from one to the next, and where the first begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub stride: usize,
    pub offset: usize,
}

impl Place {
    /// The result and place of two cells with `depths`, side by side in one result or apart.
    pub fn of_two(first: usize, second: usize, merged: bool) -> [(usize, Self); 2] {
        let place = |stride, offset| Self { stride, offset };
        if merged {
            let stride = first + second;
            [(0, place(stride, 0)), (0, place(stride, first))]
        } else {
            [(0, place(first, 0)), (1, place(second, 0))]
        }
    }
}

/// The operand at `index`: a constant of type `dtype` and `shape`.
pub(super) fn constant<'a>(
    io: &'a Signature,
    index: usize,
    dtype: DType,
    shape: &[usize],
) -> Result<&'a Value, OpError> {
    let value = io.input(index)?;
    if value.shape != shape {
        return Err(OpError::Shape(format!(
            "input {index} of shape {:?} where {shape:?} is needed",
            value.shape
        )));
    }
    if value.dtype != dtype {
        return Err(io.unsupported(index));
    }
    match &value.data {
        Some(data) if Some(data.len()) == dtype.byte_len(shape) => Ok(value),
        Some(_) => Err(OpError::Shape(format!(
            "constant input {index} does not fill its shape"
        ))),
        None => Err(OpError::UnsupportedType {
            what: format!("input {index}, a weight that is computed,"),
            dtype,
        }),
    }
}

/// The elements of the operand at `index`, a constant vector of `len`.
pub(super) fn vector<T: AnyBitPattern>(
    io: &Signature,
    index: usize,
    dtype: DType,
    len: usize,
) -> Result<Vec<T>, OpError> {
    constant(io, index, dtype, &[len])?.constant()
}

/// The place of the variable at `index`, which must have type `dtype` and `len` elements.
pub(super) fn state(
    io: &Signature,
    index: usize,
    dtype: DType,
    len: usize,
) -> Result<usize, OpError> {
    let value = io.input(index)?;
    if value.dtype != dtype {
        return Err(io.unsupported(index));
    }
    if value.len() != len {
        return Err(OpError::Shape(format!(
            "state of shape {:?} where {len} elements are needed",
            value.shape
        )));
    }
    io.variable(index)
}

/// An error for a dimension of 0 or a product of them that no memory holds.
pub(super) fn check_sizes(sizes: &[usize]) -> Result<(), OpError> {
    let product = sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    match product {
        Some(n) if n > 0 && n < 1 << 40 => Ok(()),
        _ => Err(OpError::Shape(format!(
            "dimensions {sizes:?} hold a 0 or are too large"
        ))),
    }
}

/// Bytes of scratch for `len` elements.
pub(super) fn room<T>(len: usize) -> usize {
    len.saturating_mul(size_of::<T>())
        .div_ceil(64)
        .saturating_mul(64)
}

/// Takes what [`room`] asked for off the front of `scratch`.
pub(super) fn take<'a, T: AnyBitPattern + NoUninit>(
    scratch: &mut &'a mut [u8],
    len: usize,
) -> &'a mut [T] {
    let (taken, rest) = std::mem::take(scratch).split_at_mut(room::<T>(len));
    *scratch = rest;
    bytemuck::cast_slice_mut(&mut taken[..len * size_of::<T>()])
}

/// A product of float activations with constant weights, plus a bias.
pub(super) enum Dense {
    /// Float weights.
    F32(ProductF32),
    /// Int8 weights.
    Hybrid(Hybrid),
}

/// Int8 weights; each row of activations is quantized to int8 for them.
pub(super) struct Hybrid {
    /// As int16, for the multiply-add that instruction sets have for it.
    weights: Vec<i16>,
    depth: usize,
    units: usize,
    /// By unit.
    scale: Vec<f32>,
    row_sums: Vec<i32>,
    bias: Vec<f32>,
    asymmetric: bool,
}

/// Constant matrices of one type and depth, stacked.
pub(super) struct Stack<'a> {
    pub io: &'a Signature,
    /// The operands, each `[units, depth]`.
    pub operands: &'a [usize],
    pub units: usize,
    pub depth: usize,
    /// Whether hybrid products quantize activations asymmetrically.
    pub asymmetric: bool,
}

impl Stack<'_> {
    /// Packs them; `bias`, if given, has an element for each row of each.
    pub fn pack(&self, bias: Option<&[f32]>) -> Result<Dense, OpError> {
        check_sizes(&[self.operands.len(), self.units, self.depth])?;
        let first = *self
            .operands
            .first()
            .ok_or_else(|| OpError::Missing("weights".into()))?;
        let shape = [self.units, self.depth];
        let rows = self.operands.len() * self.units;
        match self.io.input(first)?.dtype {
            DType::F32 => {
                let mut weights = Vec::new();
                for &index in self.operands {
                    let value = constant(self.io, index, DType::F32, &shape)?;
                    weights.extend(value.constant::<f32>()?);
                }
                let clamp = (f32::NEG_INFINITY, f32::INFINITY);
                let size = (rows, self.depth);
                let product = ProductF32::new(Isa::best(), size, &weights, bias, clamp);
                Ok(Dense::F32(product))
            }
            DType::I8 => {
                let (mut weights, mut scale) = (Vec::new(), Vec::new());
                for &index in self.operands {
                    let value = constant(self.io, index, DType::I8, &shape)?;
                    weights.extend(value.constant::<i8>()?.into_iter().map(i16::from));
                    let scales = value.quantization()?.symmetric_scales(1)?;
                    scale.extend(std::iter::repeat_n(scales[0], self.units));
                }
                let row_sum =
                    |row: &[i16]| row.iter().fold(0i32, |sum, &w| sum.wrapping_add(w.into()));
                Ok(Dense::Hybrid(Hybrid {
                    row_sums: weights.chunks_exact(self.depth).map(row_sum).collect(),
                    weights,
                    depth: self.depth,
                    units: rows,
                    scale,
                    bias: bias.map_or_else(|| vec![0.0; rows], <[f32]>::to_vec),
                    asymmetric: self.asymmetric,
                }))
            }
            _ => Err(self.io.unsupported(first)),
        }
    }
}

impl Dense {
    /// Bytes of scratch that [`Self::run`] takes.
    pub fn scratch(&self) -> usize {
        match self {
            Self::F32(_) => 0,
            Self::Hybrid(hybrid) => room::<i16>(hybrid.depth),
        }
    }

    /// Computes `output` (`rows` rows of all units) from `input`.
    pub fn run(
        &self,
        rows: usize,
        input: &[f32],
        output: &mut [f32],
        mut scratch: &mut [u8],
        threads: usize,
    ) {
        match self {
            Self::F32(product) => product.run(rows, input, output, threads),
            Self::Hybrid(hybrid) => {
                let quantized = take(&mut scratch, hybrid.depth);
                let inputs = input.chunks_exact(hybrid.depth).take(rows);
                for (input, output) in inputs.zip(output.chunks_exact_mut(hybrid.units)) {
                    hybrid.run(input, output, quantized);
                }
            }
        }
    }
}

impl Hybrid {
    fn run(&self, input: &[f32], output: &mut [f32], quantized: &mut [i16]) {
        let (scale, zero_point) = if self.asymmetric {
            quantize_asymmetric(input, quantized)
        } else {
            (quantize_symmetric(input, quantized), 0)
        };
        let rows = self.weights.chunks_exact(self.depth);
        for (unit, (output, row)) in output.iter_mut().zip(rows).enumerate() {
            let offset = self.row_sums[unit].wrapping_mul(zero_point);
            let sum = dot(row, quantized).wrapping_sub(offset);
            *output = self.bias[unit] + sum as f32 * (self.scale[unit] * scale);
        }
    }
}

/// The sum of products. Int8 values do not overflow it at any depth that memory holds for them.
pub(super) fn dot(a: &[i16], b: &[i16]) -> i32 {
    let products = a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b));
    products.fold(0, i32::wrapping_add)
}

/// LiteRT's `SymmetricQuantizeFloats`: to -127..=127, returning the scale.
fn quantize_symmetric(input: &[f32], output: &mut [i16]) -> f32 {
    let largest = input.iter().fold(0f32, |m, x| m.max(x.abs()));
    if largest == 0.0 {
        output.fill(0);
        return 1.0;
    }
    let inverse = 127.0 / largest;
    for (q, &x) in output.iter_mut().zip(input) {
        *q = round_half_away(x * inverse).clamp(-127, 127) as i16;
    }
    largest / 127.0
}

/// LiteRT's `AsymmetricQuantizeFloats`: to -128..=127, returning scale and zero point.
fn quantize_asymmetric(input: &[f32], output: &mut [i16]) -> (f32, i32) {
    let min = input.iter().fold(0f32, |m, &x| m.min(x));
    let max = input.iter().fold(0f32, |m, &x| m.max(x));
    if min == max {
        output.fill(0);
        return (1.0, 0);
    }
    let (min, max) = (f64::from(min), f64::from(max));
    let scale = (max - min) / 255.0;
    let (from_min, from_max) = (-128.0 - min / scale, 127.0 - max / scale);
    let nearer_min = 128.0 + (min / scale).abs() < 127.0 + (max / scale).abs();
    let zero_point = if nearer_min { from_min } else { from_max };
    let zero_point = zero_point.round().clamp(-128.0, 127.0) as f32;
    let inverse = 1.0 / scale as f32;
    for (q, &x) in output.iter_mut().zip(input) {
        *q = round_half_away(zero_point + x * inverse).clamp(-128, 127) as i16;
    }
    (scale as f32, zero_point as i32)
}

/// `a += b`.
pub(super) fn add(a: &mut [f32], b: &[f32]) {
    a.iter_mut().zip(b).for_each(|(a, &b)| *a += b);
}

/// Refuses an activation that [`activate`] does not know.
pub(super) fn check_activation(activation: Activation) -> Result<(), OpError> {
    match activation {
        Activation::Tanh | Activation::SignBit => Ok(()),
        other => other.check(),
    }
}

/// Applies what [`check_activation`] accepts.
pub(super) fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::None => {}
        Activation::Tanh => values.iter_mut().for_each(|x| *x = tanh(*x)),
        Activation::SignBit => values
            .iter_mut()
            .for_each(|x| *x = f32::from(u8::from(x.is_sign_negative()))),
        clamp => {
            let (min, max) = clamp.range_f32();
            values.iter_mut().for_each(|x| *x = x.clamp(min, max));
        }
    }
}

/// `1 / (1 + exp(-x))`, to 3 units in the last place.
#[inline]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent, to 3 units in the last place. Without branches, so that loops vectorize.
#[inline]
pub(super) fn tanh(x: f32) -> f32 {
    // A polynomial near 0, where the other form cancels; both are those of the Cephes library.
    let square = x * x;
    let series = (((-5.704_988_7e-3 * square + 2.063_909e-2) * square - 5.373_971_6e-2) * square
        + 1.333_144_2e-1)
        * square
        - 3.333_328e-1;
    let near = series * square * x + x;
    let far = (1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0)).copysign(x);
    if x.abs() < 0.625 { near } else { far }
}

/// `exp(x)` to 2 units in the last place, with what overflows or vanishes held at the ends.
#[inline]
fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding it leaves no bits for a fraction.
    const MAGIC: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let whole = shifted - MAGIC;
    let x = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    let series =
        ((((1.987_569_1e-4 * x + 1.398_199_9e-3) * x + 8.333_452e-3) * x + 4.166_579_6e-2) * x
            + 1.666_666_5e-1)
            * x
            + 0.5;
    let power = (shifted.to_bits() << 23).wrapping_add(127 << 23);
    (series * x * x + x + 1.0) * f32::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_are_within_a_few_units_in_the_last_place() {
        for i in -30_000..30_000 {
            let x = i as f32 / 1000.0;
            for (ours, exact) in [
                (sigmoid(x), 1.0 / (1.0 + f64::from(-x).exp())),
                (tanh(x), f64::from(x).tanh()),
            ] {
                let error = (f64::from(ours) - exact).abs();
                assert!(error <= 4.0e-7 * exact.abs(), "{x}: {ours} {exact}");
            }
        }
        assert_eq!(tanh(0.0), 0.0);
        assert_eq!([tanh(f32::INFINITY), tanh(-200.0)], [1.0, -1.0]);
        assert!(sigmoid(-1000.0) < 1e-37 && sigmoid(1000.0) == 1.0);
        assert!(tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
    }

    #[test]
    fn quantizes_rows_as_litert() {
        let mut q = [0i16; 4];
        let scale = quantize_symmetric(&[-1.0, 0.5, 0.25, 0.0], &mut q);
        assert_eq!((scale, q), (1.0 / 127.0, [-127, 64, 32, 0]));
        assert_eq!(quantize_symmetric(&[0.0; 4], &mut q), 1.0);
        let (scale, zero_point) = quantize_asymmetric(&[-1.0, 1.55, 0.0, 0.1], &mut q);
        assert_eq!((zero_point, q), (-28, [-128, 127, -28, -18]));
        assert!((scale - 0.01).abs() < 1e-8);
        assert_eq!(quantize_asymmetric(&[0.0; 4], &mut q), (1.0, 0));
        assert_eq!(q, [0; 4]);
    }

    #[test]
    fn steps_run_in_either_direction() {
        let sequence = Sequence {
            time: 3,
            batch: 2,
            time_major: false,
        };
        assert!(sequence.steps(true).eq([2, 1, 0]));
        assert_eq!(sequence.row(2, 1), 5);
        assert_eq!(sequence.shape(4), [2, 3, 4]);
        let empty = Sequence {
            time: 0,
            ..sequence
        };
        assert_eq!(empty.steps(true).count(), 0);
    }
}
