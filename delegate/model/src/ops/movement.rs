//! What the operators that move elements share: axes, strides, and a copy whose every offset is
//! known before it runs.
//!
//! Nearly all of them are one rule: where an element comes from and where it goes are sums of
//! one offset for each axis. [`Copy`] holds those offsets as few arithmetic progressions,
//! merged so that what is contiguous on both sides is copied at once.

use super::{OpError, Signature, Value};
use crate::cpu::{Inputs, Kernel};
use crate::tensor::{DType, element_count};

/// The place of `axis` among `rank` axes; a negative one counts from the end.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let place = if axis < 0 {
        axis.checked_add_unsigned(rank as u64)
    } else {
        Some(axis)
    };
    place
        .and_then(|a| usize::try_from(a).ok())
        .filter(|&a| a < rank)
        .ok_or_else(|| OpError::Attribute(format!("axis {axis} of {rank} dimensions")))
}

/// The integers of operand `index`, which the output's shape depends on.
pub(super) fn integers(io: &Signature, index: usize, name: &str) -> Result<Vec<i64>, OpError> {
    let value = io.input(index)?;
    if value.data.is_none() {
        return Err(OpError::NotConstant(name.into()));
    }
    value.integers()
}

/// The same for one integer.
pub(super) fn integer(io: &Signature, index: usize, name: &str) -> Result<i64, OpError> {
    match *integers(io, index, name)? {
        [value] => Ok(value),
        ref values => Err(OpError::Shape(format!(
            "{} values for {name}",
            values.len()
        ))),
    }
}

/// The same for a table of `rows` pairs.
pub(super) fn pairs(
    io: &Signature,
    index: usize,
    name: &str,
    rows: usize,
) -> Result<Vec<(usize, usize)>, OpError> {
    let shape = &io.input(index)?.shape;
    if shape.as_slice() != [rows, 2] {
        return Err(OpError::Shape(format!(
            "{name} of shape {shape:?}, not [{rows}, 2]"
        )));
    }
    let values = integers(io, index, name)?;
    values
        .chunks_exact(2)
        .map(|pair| Ok((size(pair[0], name)?, size(pair[1], name)?)))
        .collect()
}

/// Reads an element of operand `index`, of an integer type, when the kernel runs.
pub(super) type ReadIndex = fn(&Inputs<'_>, index: usize, element: usize) -> i64;

/// How the indices of operand `index` are read.
pub(super) fn read_index(io: &Signature, index: usize) -> Result<ReadIndex, OpError> {
    match io.input(index)?.dtype {
        DType::I16 => Ok(|inputs, index, i| inputs.get::<i16>(index)[i].into()),
        DType::I32 => Ok(|inputs, index, i| inputs.get::<i32>(index)[i].into()),
        DType::I64 => Ok(|inputs, index, i| inputs.get::<i64>(index)[i]),
        _ => Err(io.unsupported(index)),
    }
}

/// The number of elements of `shape`, where it fits.
pub(super) fn count(shape: &[usize]) -> Result<usize, OpError> {
    element_count(shape).ok_or_else(|| OpError::Shape(format!("shape {shape:?} is too large")))
}

/// `value` as a number of elements.
pub(super) fn size(value: i64, name: &str) -> Result<usize, OpError> {
    usize::try_from(value).map_err(|_| OpError::Attribute(format!("{name} {value} is negative")))
}

/// `a * b + c`, where it fits.
pub(super) fn multiply_add(a: usize, b: usize, c: usize) -> Result<usize, OpError> {
    a.checked_mul(b)
        .and_then(|ab| ab.checked_add(c))
        .ok_or_else(|| OpError::Shape(format!("{a} times {b} plus {c} elements are too many")))
}

/// The bytes of one element of `from`, which must be those of `to` as well.
pub(super) fn element_size(from: &Value, to: &Value) -> Result<usize, OpError> {
    let unsupported = |what: &str, dtype| OpError::UnsupportedType {
        what: what.into(),
        dtype,
    };
    if from.dtype != to.dtype {
        return Err(unsupported("output", to.dtype));
    }
    from.dtype
        .size()
        .ok_or_else(|| unsupported("input", from.dtype))
}

/// How many elements lie from one index of each axis to the next; zeros for an empty tensor.
pub(super) fn strides(value: &Value) -> Result<Vec<isize>, OpError> {
    let too_large = || OpError::Shape(format!("shape {:?} is too large", value.shape));
    let bytes = value.dtype.byte_len(&value.shape).ok_or_else(too_large)?;
    isize::try_from(bytes).map_err(|_| too_large())?;
    let mut strides = vec![0; value.shape.len()];
    if !value.is_empty() {
        let mut step = 1;
        for (stride, &count) in strides.iter_mut().zip(&value.shape).rev() {
            *stride = step;
            step *= count as isize;
        }
    }
    Ok(strides)
}

/// Scale and zero point as LiteRT compares them: 0 where there is not one of each.
pub(super) fn scale_and_zero_point(value: &Value) -> (f32, i64) {
    match value
        .quantization
        .as_ref()
        .map(|q| (&*q.scale, &*q.zero_point))
    {
        Some(([scale], [zero_point])) => (*scale, *zero_point),
        _ => (0.0, 0),
    }
}

/// The element that stands for 0 in `value`, as bytes.
pub(super) fn zero(value: &Value) -> Result<Vec<u8>, OpError> {
    let (_, zero_point) = scale_and_zero_point(value);
    let outside = |_| OpError::Quantization(format!("zero point {zero_point} of {}", value.dtype));
    match value.dtype {
        DType::I8 => Ok(i8::try_from(zero_point)
            .map_err(outside)?
            .to_ne_bytes()
            .into()),
        DType::U8 => Ok(u8::try_from(zero_point)
            .map_err(outside)?
            .to_ne_bytes()
            .into()),
        DType::I16 => Ok(i16::try_from(zero_point)
            .map_err(outside)?
            .to_ne_bytes()
            .into()),
        dtype => dtype
            .size()
            .map(|size| vec![0; size])
            .ok_or(OpError::UnsupportedType {
                what: "output".into(),
                dtype,
            }),
    }
}

/// Sets every element of `output` to `element`.
pub(super) fn fill(output: &mut [u8], element: &[u8]) {
    match element {
        [first, rest @ ..] if rest.iter().all(|byte| byte == first) => output.fill(*first),
        _ => output
            .chunks_exact_mut(element.len())
            .for_each(|o| o.copy_from_slice(element)),
    }
}

/// A kernel for the operators whose result has the bytes of operand `input`.
pub(super) fn unchanged(io: &Signature, input: usize) -> Result<Kernel, OpError> {
    let (from, to) = (io.input(input)?, io.output(0)?);
    element_size(from, to)?;
    if from.len() != to.len() {
        let shapes = (&from.shape, &to.shape);
        return Err(OpError::Shape(format!(
            "shape {:?} cannot become {:?}",
            shapes.0, shapes.1
        )));
    }
    Ok(Kernel::new(move |run| {
        let parts = run.parts::<u8>(0);
        parts.output.copy_from_slice(parts.inputs.bytes(input));
    }))
}

/// Places along the first axes of a tensor, as indices give them: each is the number of a slice of the rest.
#[derive(Debug)]
pub(super) struct Places {
    /// Length and stride of each axis.
    axes: Vec<(usize, usize)>,
}

impl Places {
    /// Places along the first `axes` axes of `shape`, none of which may be empty.
    pub fn new(shape: &[usize], axes: usize) -> Result<Self, OpError> {
        let first = shape.get(..axes).filter(|first| !first.contains(&0));
        let first = first
            .ok_or_else(|| OpError::Shape(format!("a place along {axes} axes of {shape:?}")))?;
        count(first)?;
        let mut stride = 1;
        let mut axes: Vec<_> = first.iter().map(|&len| (len, 0)).collect();
        for (len, step) in axes.iter_mut().rev() {
            *step = stride;
            stride *= *len;
        }
        Ok(Self { axes })
    }

    /// Refuses a constant that holds an index outside.
    pub fn check(&self, indices: &Value) -> Result<(), OpError> {
        if indices.data.is_some() && !self.axes.is_empty() {
            for (i, index) in indices.integers()?.into_iter().enumerate() {
                let (len, _) = self.axes[i % self.axes.len()];
                if usize::try_from(index).map_or(true, |index| index >= len) {
                    return Err(OpError::Shape(format!("index {index} of an axis of {len}")));
                }
            }
        }
        Ok(())
    }

    /// The slice at the index that `index` gives for each axis, or at the nearest inside.
    pub fn nearest(&self, index: impl Fn(usize) -> i64) -> usize {
        let axes = self.axes.iter().enumerate();
        axes.map(|(axis, &(len, step))| index(axis).clamp(0, len as i64 - 1) as usize * step)
            .sum()
    }

    /// The slice at the index that `index` gives for each axis, if they are all inside.
    pub fn exact(&self, index: impl Fn(usize) -> i64) -> Option<usize> {
        let mut axes = self.axes.iter().enumerate();
        axes.try_fold(0, |place, (axis, &(len, step))| {
            let index = usize::try_from(index(axis))
                .ok()
                .filter(|&index| index < len)?;
            Some(place + index * step)
        })
    }
}

/// Offsets in arithmetic progression.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    count: usize,
    from: isize,
    to: isize,
    from_step: isize,
    to_step: isize,
}

impl Span {
    fn ends(&self) -> [(i128, i128); 2] {
        let last = self.count as i128 - 1;
        let end = |start: isize, step: isize| {
            let end = start as i128 + last * step as i128;
            (end.min(start as i128), end.max(start as i128))
        };
        [end(self.from, self.from_step), end(self.to, self.to_step)]
    }

    fn scaled(self, size: isize) -> Self {
        Self {
            count: self.count,
            from: self.from * size,
            to: self.to * size,
            from_step: self.from_step * size,
            to_step: self.to_step * size,
        }
    }
}

/// What each index along one axis adds to the places an element is copied from and to.
#[derive(Debug, Clone, Default)]
pub(super) struct Axis(Vec<Span>);

impl Axis {
    /// `count` indices at equal distances.
    pub fn linear(count: usize, from_step: isize, to_step: isize) -> Self {
        Self::starting(count, (0, from_step), (0, to_step))
    }

    /// The same with a start: `(start, step)` on either side.
    pub fn starting(count: usize, from: (isize, isize), to: (isize, isize)) -> Self {
        let (from_step, to_step) = if count > 1 { (from.1, to.1) } else { (0, 0) };
        Self(match count {
            0 => Vec::new(),
            _ => vec![Span {
                count,
                from: from.0,
                to: to.0,
                from_step,
                to_step,
            }],
        })
    }

    /// One index for each pair of offsets, from and to.
    pub fn table(offsets: impl IntoIterator<Item = (isize, isize)>) -> Self {
        let mut spans: Vec<Span> = Vec::new();
        for (from, to) in offsets {
            if let Some(last) = spans.last_mut() {
                let far = last.count as isize - 1;
                let from_step = from - (last.from + far * last.from_step);
                let to_step = to - (last.to + far * last.to_step);
                if last.count == 1 || (from_step, to_step) == (last.from_step, last.to_step) {
                    (last.from_step, last.to_step) = (from_step, to_step);
                    last.count += 1;
                    continue;
                }
            }
            spans.push(Span {
                count: 1,
                from,
                to,
                from_step: 0,
                to_step: 0,
            });
        }
        Self(spans)
    }
}

/// A copy of elements from one tensor to another, whose every offset lies inside both.
#[derive(Debug)]
pub(super) struct Copy {
    /// Outermost first, in bytes.
    axes: Vec<Axis>,
    /// Bytes copied at once; 0 where there is nothing to copy.
    run: usize,
    from: isize,
    to: isize,
}

impl Copy {
    /// A copy from `from` to `to` over all combinations of indices of `axes`, outermost first,
    /// whose offsets count elements.
    pub fn new(from: &Value, to: &Value, axes: Vec<Axis>) -> Result<Self, OpError> {
        let size = element_size(from, to)?;
        if axes.iter().any(|axis| axis.0.is_empty()) {
            return Ok(Self {
                axes: Vec::new(),
                run: 0,
                from: 0,
                to: 0,
            });
        }
        for (side, value) in [from, to].into_iter().enumerate() {
            strides(value)?;
            let ends = axes.iter().map(|axis| {
                let ends = axis.0.iter().map(|span| span.ends()[side]);
                ends.fold((i128::MAX, i128::MIN), |a, b| (a.0.min(b.0), a.1.max(b.1)))
            });
            let reach = ends.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            if reach.0 < 0 || reach.1 >= value.len() as i128 {
                return Err(OpError::Shape(format!(
                    "elements {} to {} of shape {:?}",
                    reach.0, reach.1, value.shape
                )));
            }
        }
        Ok(Self::merged(size, axes))
    }

    fn merged(size: usize, axes: Vec<Axis>) -> Self {
        let mut copy = Self {
            axes: Vec::new(),
            run: size,
            from: 0,
            to: 0,
        };
        for axis in axes.into_iter().rev() {
            let spans = axis.0.into_iter().map(|span| span.scaled(size as isize));
            let mut axis = Axis(spans.collect());
            if let [span] = &mut *axis.0 {
                copy.from += std::mem::take(&mut span.from);
                copy.to += std::mem::take(&mut span.to);
                if span.count == 1 {
                    continue;
                }
                let steps = (span.from_step, span.to_step);
                match copy.axes.last_mut().map(|inner| &mut *inner.0) {
                    None if steps == (copy.run as isize, copy.run as isize) => {
                        copy.run *= span.count;
                        continue;
                    }
                    Some([inner]) => {
                        let count = inner.count as isize;
                        if steps == (inner.from_step * count, inner.to_step * count) {
                            inner.count *= span.count;
                            continue;
                        }
                    }
                    _ => {}
                }
            }
            copy.axes.push(axis);
        }
        copy.axes.reverse();
        copy
    }

    /// Copies. The slices must be as long as the tensors that the copy was made for.
    pub fn run(&self, input: &[u8], output: &mut [u8]) {
        match self.run {
            0 => {}
            1 => self.run_by::<1>(input, output),
            2 => self.run_by::<2>(input, output),
            3 => self.run_by::<3>(input, output),
            4 => self.run_by::<4>(input, output),
            8 => self.run_by::<8>(input, output),
            16 => self.run_by::<16>(input, output),
            _ => self.each(|from, to, len| {
                output[to..to + len].copy_from_slice(&input[from..from + len]);
            }),
        }
    }

    fn run_by<const N: usize>(&self, input: &[u8], output: &mut [u8]) {
        self.each(|from, to, len| {
            if len == N {
                output[to..to + N].copy_from_slice(&input[from..from + N]);
            } else {
                output[to..to + len].copy_from_slice(&input[from..from + len]);
            }
        });
    }

    /// Calls `copy` with the place from, the place to and the number of bytes of each run, in the
    /// order of the axes.
    pub fn each(&self, mut copy: impl FnMut(usize, usize, usize)) {
        if self.run > 0 {
            walk(
                &self.axes,
                self.run,
                (self.from as usize, self.to as usize),
                &mut copy,
            );
        }
    }

    /// A kernel that copies from operand `input`.
    pub fn kernel(self, input: usize) -> Kernel {
        Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            self.run(parts.inputs.bytes(input), parts.output);
        })
    }
}

fn walk(
    axes: &[Axis],
    run: usize,
    (from, to): (usize, usize),
    copy: &mut impl FnMut(usize, usize, usize),
) {
    let Some((axis, inner)) = axes.split_first() else {
        return copy(from, to, run);
    };
    for span in &axis.0 {
        let mut from = from.wrapping_add_signed(span.from);
        let mut to = to.wrapping_add_signed(span.to);
        let contiguous = (span.from_step, span.to_step) == (run as isize, run as isize);
        if inner.is_empty() && contiguous {
            copy(from, to, run * span.count);
            continue;
        }
        for _ in 0..span.count {
            if inner.is_empty() {
                copy(from, to, run);
            } else {
                walk(inner, run, (from, to), copy);
            }
            from = from.wrapping_add_signed(span.from_step);
            to = to.wrapping_add_signed(span.to_step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(shape: &[usize]) -> Value {
        Value {
            dtype: DType::I16,
            shape: shape.to_vec(),
            quantization: None,
            data: None,
        }
    }

    #[test]
    fn merges_what_is_contiguous_on_both_sides() {
        let axes = vec![
            Axis::linear(2, 12, 12),
            Axis::linear(3, 4, 4),
            Axis::linear(4, 1, 1),
        ];
        let copy = Copy::new(&value(&[2, 3, 4]), &value(&[2, 3, 4]), axes).unwrap();
        assert_eq!((copy.axes.len(), copy.run), (0, 48));
    }

    #[test]
    fn merges_axes_that_move_together() {
        let axes = vec![
            Axis::linear(3, 1, 20),
            Axis::linear(4, 15, 5),
            Axis::linear(5, 3, 1),
        ];
        let copy = Copy::new(&value(&[4, 5, 3]), &value(&[3, 4, 5]), axes).unwrap();
        assert_eq!((copy.axes.len(), copy.run), (2, 2));
    }

    #[test]
    fn tables_become_progressions() {
        let axis = Axis::table([(2, 0), (1, 1), (0, 2), (1, 3), (2, 4), (3, 5)]);
        assert_eq!(axis.0.len(), 2);
    }

    #[test]
    fn copies_of_no_elements_do_nothing() {
        let axes = vec![Axis::linear(0, 5, 5), Axis::linear(5, 1, 1)];
        let copy = Copy::new(&value(&[0, 5]), &value(&[3, 5]), axes).unwrap();
        copy.run(&[], &mut [0; 30]);
    }

    #[test]
    fn rejects_what_is_outside() {
        for step in [-1, 2] {
            let copy = Copy::new(&value(&[3]), &value(&[3]), vec![Axis::linear(3, step, 1)]);
            assert!(matches!(copy, Err(OpError::Shape(_))));
        }
    }

    #[test]
    fn rejects_axes_that_are_not_there() {
        assert_eq!(axis(-2, 2), Ok(0));
        assert!(axis(-3, 2).is_err());
        assert!(axis(2, 2).is_err());
        assert!(axis(i64::MIN, 2).is_err());
    }
}
