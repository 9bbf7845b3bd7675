//! What MEAN, SUM, REDUCE_MAX and REDUCE_MIN share: which elements fall on which result.

use bantam_kernels::{Isa, Multiplier};

use super::pointwise::{Element, limits, multiplier, parameters};
use super::{Numerics, OpError, Role, Signature};
use crate::cpu::Kernel;
use crate::quant::Quantization;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

const INPUT: usize = 0;
const AXES: usize = 1;

/// Dimensions of the input, neighbours of one kind taken together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reduction {
    /// Outermost first, but the last: elements, elements of the result from one to the next.
    outer: Vec<(usize, usize)>,
    /// The last: elements, and whether they are reduced.
    inner: (usize, bool),
    shape: Shape,
    count: usize,
}

/// The role of each operand: data, then axes.
pub(super) const ROLES: [Role; 2] = [Role::Activation, Role::Plain];

pub(super) fn read(options: &tfl::BuiltinOptionsT) -> bool {
    options.as_reducer_options().is_some_and(|o| o.keep_dims)
}

pub(super) fn write(keep_dims: bool) -> tfl::BuiltinOptionsT {
    tfl::BuiltinOptionsT::ReducerOptions(Box::new(tfl::ReducerOptionsT { keep_dims }))
}

pub(super) fn version(io: &Signature) -> i32 {
    match io.optional_input(INPUT).map(|v| v.dtype) {
        Some(DType::I16) => 3,
        Some(DType::I8) => 2,
        _ => 1,
    }
}

/// Refuses a quantized result whose parameters are not those of the input.
pub(super) fn check_same_quantization(io: &Signature) -> Result<(), OpError> {
    let parameters =
        |q: &Option<Quantization>| q.as_ref().map(|q| (q.scale.clone(), q.zero_point.clone()));
    let (input, output) = (&io.input(INPUT)?.quantization, &io.output(0)?.quantization);
    if parameters(input) != parameters(output) {
        return Err(OpError::Quantization(
            "input and output have different parameters".into(),
        ));
    }
    Ok(())
}

impl Reduction {
    pub fn new(io: &Signature, keep_dims: bool) -> Result<Self, OpError> {
        let dims = &io.input(INPUT)?.shape;
        let mut reduced = vec![false; dims.len()];
        for axis in io.input(AXES)?.integers()? {
            let from_end = if axis < 0 { dims.len() as i64 } else { 0 };
            let index = usize::try_from(axis.saturating_add(from_end)).ok();
            match index.and_then(|index| reduced.get_mut(index)) {
                Some(flag) => *flag = true,
                None if dims.is_empty() => {}
                None => {
                    return Err(OpError::Shape(format!(
                        "axis {axis} of {} dimensions",
                        dims.len()
                    )));
                }
            }
        }
        let mut shape = Shape::new();
        let mut groups: Vec<(usize, bool)> = Vec::new();
        let mut count = 1usize;
        for (&dim, &flag) in dims.iter().zip(&reduced) {
            match groups.last_mut() {
                Some((len, last)) if *last == flag => *len = len.saturating_mul(dim),
                _ => groups.push((dim, flag)),
            }
            if !flag {
                shape.push(dim);
            } else {
                count = count.saturating_mul(dim);
                if keep_dims {
                    shape.push(1);
                }
            }
        }
        let inner = groups.pop().unwrap_or((1, false));
        let mut step = if inner.1 { 1 } else { inner.0 };
        let mut outer = Vec::new();
        for &(len, flag) in groups.iter().rev() {
            outer.push((len, if flag { 0 } else { step }));
            if !flag {
                step = step.saturating_mul(len);
            }
        }
        outer.reverse();
        Ok(Self {
            outer,
            inner,
            shape,
            count,
        })
    }

    pub fn shape(&self) -> Shape {
        self.shape.clone()
    }

    /// How many elements fall on each result.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Folds the elements of `input` into `results`, in order.
    pub fn fold<T: Copy, A: Copy>(&self, input: &[T], results: &mut [A], fold: impl Fn(A, T) -> A) {
        Isa::best().run(|| self.fold_rows(input, results, fold));
    }

    #[inline(always)]
    fn fold_rows<T: Copy, A: Copy>(
        &self,
        input: &[T],
        results: &mut [A],
        fold: impl Fn(A, T) -> A,
    ) {
        let (len, reduced) = self.inner;
        for (index, input) in input.chunks_exact(len.max(1)).enumerate() {
            let mut rest = index;
            let mut first = 0;
            for &(len, step) in self.outer.iter().rev() {
                first += rest % len * step;
                rest /= len;
            }
            if reduced {
                let result = &mut results[first];
                *result = input.iter().fold(*result, |a, &x| fold(a, x));
            } else {
                for (result, &x) in results[first..][..len].iter_mut().zip(input) {
                    *result = fold(*result, x);
                }
            }
        }
    }

    /// The kernel that folds elements of one type, and starts from `start`.
    pub fn kernel<T>(self, start: T, fold: impl Fn(T, T) -> T + Send + Sync + 'static) -> Kernel
    where
        T: bytemuck::Pod + Send + Sync,
    {
        Kernel::new(move |run| {
            let parts = run.parts::<T>(0);
            parts.output.fill(start);
            self.fold(parts.inputs.get(INPUT), parts.output, &fold);
        })
    }

    /// The kernel of a sum of int8, uint8 or int16, or of the mean, from the input's scale to the result's.
    pub fn quantized_sum(self, io: &Signature, mean: bool) -> Result<Kernel, OpError> {
        match io.input(INPUT)?.dtype {
            DType::I8 => self.quantized::<i8>(io, mean),
            DType::U8 => self.quantized::<u8>(io, mean),
            DType::I16 => self.quantized::<i16>(io, mean),
            _ => Err(io.unsupported(INPUT)),
        }
    }

    fn quantized<T: Element>(self, io: &Signature, mean: bool) -> Result<Kernel, OpError> {
        let (input, output) = (parameters(io.input(INPUT)?)?, parameters(io.output(0)?)?);
        let dtype = io.common_dtype(INPUT)?;
        let (min, max) = limits(dtype).ok_or_else(|| io.unsupported(INPUT))?;
        let count = i64::try_from(self.count)
            .ok()
            .filter(|&n| n > 0 || !mean)
            .ok_or_else(|| OpError::Shape(format!("mean of {} elements", self.count)))?;
        let offset = i64::from(input.zero_point).wrapping_mul(count) as i32;
        let scale = input.scale / output.scale;
        let real = f64::from(input.scale) / f64::from(output.scale);
        let requantize = match (mean, io.numerics) {
            (false, _) => Requantize::Sum {
                scale,
                bias: -(input.zero_point as f32) * scale * count as f32,
            },
            (true, Numerics::Fast) if dtype != DType::I16 => {
                Requantize::Float(scale / count as f32)
            }
            (true, _) => Requantize::Fixed(divided(multiplier(real)?, count)),
        };
        if !scale.is_finite() {
            return Err(OpError::Quantization(format!(
                "scale {} over {} overflows",
                input.scale, output.scale
            )));
        }
        let results: usize = self.shape.iter().product();
        Ok(Kernel::with_scratch(
            results * size_of::<i32>(),
            move |run| {
                let parts = run.parts::<T>(0);
                let sums: &mut [i32] =
                    bytemuck::cast_slice_mut(&mut parts.scratch[..results * size_of::<i32>()]);
                sums.fill(0);
                let add = |sum: i32, x: T| sum.wrapping_add(x.into());
                self.fold(parts.inputs.get(INPUT), sums, add);
                for (out, &sum) in parts.output.iter_mut().zip(&*sums) {
                    let scaled = match requantize {
                        Requantize::Sum { scale, bias } => {
                            (sum as f32 * scale + bias).round() as i32
                        }
                        Requantize::Float(scale) => {
                            (sum.wrapping_sub(offset) as f32 * scale).round_ties_even() as i32
                        }
                        Requantize::Fixed(multiplier) => multiplier.apply(sum.wrapping_sub(offset)),
                    };
                    *out = T::from_i32(scaled.saturating_add(output.zero_point).clamp(min, max));
                }
            },
        ))
    }
}

/// How a sum of integers becomes the result.
#[derive(Debug, Clone, Copy)]
enum Requantize {
    /// LiteRT's optimized SUM: of integers as they are stored. (Its reference kernel reads int8 as
    /// uint8, so it is nothing to follow.)
    Sum { scale: f32, bias: f32 },
    /// XNNPACK's MEAN.
    Float(f32),
    /// LiteRT's reference MEAN.
    Fixed(Multiplier),
}

/// `multiplier / count` as LiteRT's MEAN makes it: truncated, with as many bits as are free.
fn divided(multiplier: Multiplier, count: i64) -> Multiplier {
    let shift = (63 - count.leading_zeros() as i32)
        .min(32)
        .min(31 + multiplier.exponent);
    Multiplier {
        value: ((i64::from(multiplier.value) << shift) / count) as i32,
        exponent: multiplier.exponent - shift,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, signature};

    fn reduction(shape: &[usize], axes: &[i32], keep_dims: bool) -> Result<Reduction, OpError> {
        let len = shape.iter().product();
        let input = Case::f32(shape, vec![0.0; len]);
        let axes = Case::i32([axes.len()], axes.iter().copied()).constant();
        Reduction::new(
            &signature(&[input, axes], &[Case::result(DType::F32)]),
            keep_dims,
        )
    }

    fn sums(shape: &[usize], axes: &[i32]) -> Vec<i32> {
        let reduction = reduction(shape, axes, false).unwrap();
        let mut results = vec![0; reduction.shape().iter().product()];
        let input: Vec<i32> = (0..shape.iter().product::<usize>() as i32).collect();
        reduction.fold(&input, &mut results, |a, b| a + b);
        results
    }

    #[test]
    fn folds_over_any_axes() {
        assert_eq!(sums(&[2, 3], &[0]), [3, 5, 7]);
        assert_eq!(sums(&[2, 3], &[-1]), [3, 12]);
        assert_eq!(sums(&[2, 3], &[1, 0, 0]), [15]);
        assert_eq!(sums(&[2, 2, 2], &[0, 2]), [10, 18]);
        assert_eq!(sums(&[2, 2, 2], &[1]), [2, 4, 10, 12]);
        assert_eq!(sums(&[2, 2], &[]), [0, 1, 2, 3]);
        assert_eq!(sums(&[], &[0]), [0]);
    }

    #[test]
    fn keeps_dimensions_as_1() {
        assert_eq!(
            reduction(&[2, 3, 4], &[1], true).unwrap().shape(),
            [2, 1, 4]
        );
        assert_eq!(reduction(&[2, 3, 4], &[1], false).unwrap().shape(), [2, 4]);
    }

    #[test]
    fn rejects_axes_outside() {
        for axis in [2, -3, i32::MIN] {
            assert!(matches!(
                reduction(&[2, 3], &[axis], true),
                Err(OpError::Shape(_))
            ));
        }
    }
}
