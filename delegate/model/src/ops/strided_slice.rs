//! `STRIDED_SLICE`: `input[begin:end:stride, ...]`, as NumPy slices.
//!
//! Operands, all but the first constants of one length: input, begin, end, strides. Bit `i` of
//! a mask concerns entry `i` of them: `begin` or `end` is not heeded; an ellipsis stands for all
//! dimensions that no other entry takes; a new dimension of 1; a dimension to drop, at `begin`.
//! With `offset`, `end` counts from `begin`.

use super::movement::{Axis, Copy, integers, strides};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `STRIDED_SLICE`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StridedSlice {
    /// Entries that start at the first element (the last, for a negative stride).
    pub begin_mask: i32,
    /// Entries that end after the last element (the first, for a negative stride).
    pub end_mask: i32,
    /// The entry that stands for several dimensions, one bit at most.
    pub ellipsis_mask: i32,
    /// Entries that are new dimensions.
    pub new_axis_mask: i32,
    /// Entries that take one element and drop the dimension.
    pub shrink_axis_mask: i32,
    /// Whether `end` counts from `begin`.
    pub offset: bool,
}

const INPUT: usize = 0;
const BEGIN: usize = 1;
const END: usize = 2;
const STRIDES: usize = 3;

impl Attributes for StridedSlice {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options
            .as_strided_slice_options()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            begin_mask: options.begin_mask,
            end_mask: options.end_mask,
            ellipsis_mask: options.ellipsis_mask,
            new_axis_mask: options.new_axis_mask,
            shrink_axis_mask: options.shrink_axis_mask,
            offset: options.offset,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::StridedSliceOptions(Box::new(tfl::StridedSliceOptionsT {
            begin_mask: self.begin_mask,
            end_mask: self.end_mask,
            ellipsis_mask: self.ellipsis_mask,
            new_axis_mask: self.new_axis_mask,
            shrink_axis_mask: self.shrink_axis_mask,
            offset: self.offset,
        }))
    }
}

/// What is taken of one dimension of the input, or a new dimension.
enum Entry {
    New,
    Range {
        first: usize,
        stride: isize,
        count: usize,
        dropped: bool,
    },
}

fn has(mask: i32, entry: usize) -> bool {
    mask >> entry & 1 == 1
}

impl StridedSlice {
    /// The dimensions of the result, and those it drops, in order.
    fn entries(&self, io: &Signature) -> Result<Vec<Entry>, OpError> {
        let shape = &io.input(INPUT)?.shape;
        let begin = integers(io, BEGIN, "the begin of the slice")?;
        let end = integers(io, END, "the end of the slice")?;
        let stride = integers(io, STRIDES, "the stride of the slice")?;
        let count = begin.len();
        if end.len() != count || stride.len() != count || count > i32::BITS as usize {
            let lengths = (count, end.len(), stride.len());
            return Err(OpError::Shape(format!(
                "begin, end and stride of {lengths:?} entries"
            )));
        }
        let is_ellipsis = |&entry: &usize| has(self.ellipsis_mask, entry);
        let takes_one = |&entry: &usize| !is_ellipsis(&entry) && !has(self.new_axis_mask, entry);
        let taken = (0..count).filter(takes_one).count();
        if (0..count).filter(is_ellipsis).count() > 1 || taken > shape.len() {
            return Err(OpError::Shape(format!(
                "{count} entries with ellipsis mask {:#x} do not slice {shape:?}",
                self.ellipsis_mask
            )));
        }
        let all = |&d: &usize| Entry::Range {
            first: 0,
            stride: 1,
            count: d,
            dropped: false,
        };
        let mut rest = shape.as_slice();
        let mut entries = Vec::new();
        for entry in 0..count {
            if is_ellipsis(&entry) {
                let (here, after) = rest.split_at(shape.len() - taken);
                entries.extend(here.iter().map(all));
                rest = after;
            } else if has(self.new_axis_mask, entry) {
                entries.push(Entry::New);
            } else if let Some((&dimension, after)) = rest.split_first() {
                let slice = (begin[entry], end[entry], stride[entry]);
                entries.push(self.range(entry, slice, dimension)?);
                rest = after;
            }
        }
        entries.extend(rest.iter().map(all));
        Ok(entries)
    }

    fn range(
        &self,
        entry: usize,
        (begin, end, stride): (i64, i64, i64),
        dimension: usize,
    ) -> Result<Entry, OpError> {
        let len = dimension as i64;
        let forward = stride > 0;
        let Some(step) = isize::try_from(stride).ok().filter(|&step| step != 0) else {
            return Err(OpError::Attribute(format!("stride {stride}")));
        };
        // One past the last element, where elements are taken last to first, is -1.
        let (low, high) = if forward { (0, len) } else { (-1, len - 1) };
        let from_start = |index: i64| {
            if index < 0 {
                index.saturating_add(len)
            } else {
                index
            }
        };
        let (first, last) = if forward { (low, high) } else { (high, low) };
        let begin = if has(self.begin_mask, entry) {
            first
        } else {
            from_start(begin)
        };
        if has(self.shrink_axis_mask, entry) {
            if !forward || begin < 0 || begin >= len {
                let error = format!("index {begin} with stride {stride} of {len} elements");
                return Err(OpError::Attribute(error));
            }
            return Ok(Entry::Range {
                first: begin as usize,
                stride: 1,
                count: 1,
                dropped: true,
            });
        }
        let begin = begin.clamp(low.min(high), high);
        let end = if self.offset {
            end.saturating_add(begin)
        } else {
            end
        };
        let end = if has(self.end_mask, entry) {
            last
        } else {
            from_start(end)
        };
        let end = end.clamp(low.min(high), high);
        let distance = if forward { end - begin } else { begin - end };
        let count = (distance.max(0) as u64).div_ceil(stride.unsigned_abs()) as usize;
        Ok(Entry::Range {
            first: begin.max(0) as usize,
            stride: step,
            count,
            dropped: false,
        })
    }
}

impl Operator for StridedSlice {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let dimension = |entry: &Entry| match *entry {
            Entry::New => Some(1),
            Entry::Range { count, dropped, .. } => (!dropped).then_some(count),
        };
        Ok(vec![
            self.entries(io)?.iter().filter_map(dimension).collect(),
        ])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        let Ok(input) = io.input(INPUT) else { return 1 };
        match input.dtype {
            _ if self.offset => 8,
            DType::U32 => 7,
            _ if self.ellipsis_mask != 0 || self.new_axis_mask != 0 => 6,
            DType::String => 5,
            _ if input.shape.len() > 4 => 4,
            DType::Bool => 3,
            DType::I8 => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, output) = (io.input(INPUT)?, io.output(0)?);
        let mut from = strides(input)?.into_iter();
        let mut to = strides(output)?.into_iter();
        let mut axes = Vec::new();
        for entry in self.entries(io)? {
            let Entry::Range {
                first,
                stride,
                count,
                dropped,
            } = entry
            else {
                to.next();
                continue;
            };
            let from = from.next().unwrap_or(0);
            let to = if dropped { 0 } else { to.next().unwrap_or(0) };
            let step = if count > 1 { stride * from } else { 0 };
            axes.push(Axis::starting(
                count,
                (first as isize * from, step),
                (0, to),
            ));
        }
        Ok(Copy::new(input, output, axes)?.kernel(INPUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn operands(shape: &[usize], [begin, end, stride]: [&[i32]; 3]) -> Vec<Case> {
        let constant = |v: &[i32]| Case::i32([v.len()], v.iter().copied()).constant();
        let count = shape.iter().product::<usize>() as i32;
        vec![
            Case::i32(shape, 0..count),
            constant(begin),
            constant(end),
            constant(stride),
        ]
    }

    fn sliced(op: StridedSlice, shape: &[usize], slice: [&[i32]; 3]) -> (Shape, Vec<i32>) {
        let output = eval(op, &operands(shape, slice), Case::result(DType::I32));
        (output.shape.clone(), output.get())
    }

    #[test]
    fn takes_every_second_element_backwards() {
        let op = StridedSlice {
            begin_mask: 2,
            end_mask: 2,
            ..Default::default()
        };
        let (shape, values) = sliced(op, &[2, 4], [&[0, 0], &[2, 0], &[1, -2]]);
        assert_eq!((shape, values), (vec![2, 2], vec![3, 1, 7, 5]));
    }

    #[test]
    fn counts_negative_indices_from_the_end_and_clamps() {
        let (_, values) = sliced(StridedSlice::default(), &[5], [&[-3], &[-1], &[1]]);
        assert_eq!(values, [2, 3]);
        let (_, values) = sliced(StridedSlice::default(), &[5], [&[99], &[-99], &[-1]]);
        assert_eq!(values, [4, 3, 2, 1, 0]);
    }

    #[test]
    fn drops_adds_and_skips_dimensions() {
        let op = StridedSlice {
            shrink_axis_mask: 1,
            ellipsis_mask: 2,
            new_axis_mask: 4,
            ..Default::default()
        };
        let zeros = [0; 4];
        let (shape, values) = sliced(op, &[2, 2, 2], [&[1, 0, 0, 1], &[2, 0, 0, 2], &[1; 4]]);
        assert_eq!((shape, values), (vec![2, 1, 1], vec![5, 7]));
        let op = StridedSlice {
            ellipsis_mask: 1,
            ..Default::default()
        };
        let (shape, _) = sliced(op, &[2, 2], [&zeros[..3], &[0, 1, 2], &[1; 3]]);
        assert_eq!(shape, [1, 2]);
    }

    #[test]
    fn offsets_count_from_the_begin() {
        let op = StridedSlice {
            offset: true,
            ..Default::default()
        };
        assert_eq!(sliced(op, &[5], [&[-3], &[2], &[1]]).1, [2, 3]);
    }

    #[test]
    fn empty_slices_have_no_elements() {
        let (shape, _) = sliced(StridedSlice::default(), &[5], [&[3], &[2], &[1]]);
        assert_eq!(shape, [0]);
        let (shape, _) = sliced(StridedSlice::default(), &[0], [&[0], &[-1], &[-1]]);
        assert_eq!(shape, [0]);
    }

    #[test]
    fn rejects_stride_0_indices_outside_and_too_many_entries() {
        let infer = |op: StridedSlice, slice| {
            op.infer_shapes(&signature(
                &operands(&[5], slice),
                &[Case::result(DType::I32)],
            ))
        };
        let shrink = StridedSlice {
            shrink_axis_mask: 1,
            ..Default::default()
        };
        assert!(infer(shrink.clone(), [&[5], &[6], &[1]]).is_err());
        assert!(infer(shrink, [&[-6], &[6], &[1]]).is_err());
        let plain = StridedSlice::default();
        assert!(infer(plain.clone(), [&[0], &[5], &[0]]).is_err());
        assert!(infer(plain.clone(), [&[0, 0], &[5, 5], &[1, 1]]).is_err());
        assert!(infer(plain, [&[0], &[5, 5], &[1]]).is_err());
    }
}
