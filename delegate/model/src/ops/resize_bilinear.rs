//! `RESIZE_BILINEAR`: each pixel of the result lies between four of the input.
//!
//! Input [batch, height, width, depth]; the second operand, a constant, is the new height and
//! width. float32 and uint8 interpolate in float32, as LiteRT's reference kernels do; int8 and
//! int16 with coordinates of 10 fractional bits, rounded half away from zero. XNNPACK, which
//! differs by up to 2, is not followed: [`Numerics::Fast`](super::Numerics) is the same.

use super::movement::element_size;
use super::resize_nearest_neighbor::{resized_shape, scale};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::{Kernel, Run};
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `RESIZE_BILINEAR`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResizeBilinear {
    /// Kept, but not heeded: the second operand is the size.
    pub new_height: i32,
    /// Kept, but not heeded: the second operand is the size.
    pub new_width: i32,
    /// Whether the centers of the corner pixels coincide.
    pub align_corners: bool,
    /// Whether a pixel's place is its center; not with aligned corners.
    pub half_pixel_centers: bool,
}

const INPUT: usize = 0;

impl Attributes for ResizeBilinear {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_resize_bilinear_options().cloned().unwrap_or_default();
        Ok(Self {
            new_height: options.new_height,
            new_width: options.new_width,
            align_corners: options.align_corners,
            half_pixel_centers: options.half_pixel_centers,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::ResizeBilinearOptions(Box::new(tfl::ResizeBilinearOptionsT {
            new_height: self.new_height,
            new_width: self.new_width,
            align_corners: self.align_corners,
            half_pixel_centers: self.half_pixel_centers,
        }))
    }
}

/// Between which indices of an axis a pixel lies, and what part of the upper one it takes.
#[derive(Debug, Clone, Copy)]
struct Between<W> {
    lower: usize,
    upper: usize,
    part: W,
}

/// The pixels of one image: where each lies along either axis.
struct Grid<W> {
    rows: Vec<Between<W>>,
    columns: Vec<Between<W>>,
    height: usize,
    width: usize,
    depth: usize,
}

impl<W: Copy> Grid<W> {
    fn new(io: &Signature, along: impl Fn(usize, usize) -> Vec<Between<W>>) -> Result<Self, OpError> {
        let [_, height, width, depth] = io.input(INPUT)?.shape_n()?;
        let [_, new_height, new_width, _] = io.output(0)?.shape_n()?;
        let (rows, columns) = (along(height, new_height), along(width, new_width));
        Ok(Self { rows, columns, height, width, depth })
    }

    /// Calls `pixel` with each row's and column's part, the four pixels of the input (upper left,
    /// upper right, lower left, lower right) and that of the result.
    fn each<T: Copy>(
        &self,
        input: &[T],
        output: &mut [T],
        mut pixel: impl FnMut(W, W, [&[T]; 4], &mut [T]),
    ) {
        let (width, depth) = (self.width, self.depth);
        let mut pixels = output.chunks_exact_mut(depth);
        for image in input.chunks_exact(self.height * width * depth) {
            for row in &self.rows {
                let upper = &image[row.lower * width * depth..][..width * depth];
                let lower = &image[row.upper * width * depth..][..width * depth];
                for (column, output) in self.columns.iter().zip(&mut pixels) {
                    let (left, right) = (column.lower * depth, column.upper * depth);
                    let four = [
                        &upper[left..left + depth],
                        &upper[right..right + depth],
                        &lower[left..left + depth],
                        &lower[right..right + depth],
                    ];
                    pixel(row.part, column.part, four, output);
                }
            }
        }
    }
}

impl ResizeBilinear {
    /// Where `to` pixels lie between `from`, in float32.
    fn between(&self, from: usize, to: usize) -> Vec<Between<f32>> {
        let scale = scale(from, to, self.align_corners);
        let place = |index: usize| match self.half_pixel_centers {
            true => (index as f32 + 0.5) * scale - 0.5,
            false => index as f32 * scale,
        };
        let between = |index| {
            let place: f32 = place(index);
            let lower = place.floor() as usize;
            if lower >= from {
                return Between { lower: from - 1, upper: from - 1, part: 0.0 };
            }
            let upper = (place.ceil() as usize).min(from - 1);
            Between { lower, upper, part: place - lower as f32 }
        };
        (0..to).map(between).collect()
    }

    /// The same in 1024ths.
    fn between_1024ths(&self, from: usize, to: usize) -> Vec<Between<i32>> {
        let ratio = |from: i64, to: i64| (1024 * from + to / 2) / to;
        let scale = match self.align_corners && to > 1 {
            true => ratio(from as i64 - 1, to as i64 - 1),
            false => ratio(from as i64, to as i64),
        };
        let offset = if self.half_pixel_centers { scale / 2 - 512 } else { 0 };
        let last = from as i64 - 1;
        let between = |index| {
            let place = (index as i64 * scale + offset).clamp(0, last * 1024);
            let lower = place / 1024;
            let upper = ((place + 1023) / 1024).min(last);
            let part = (place - lower * 1024) as i32;
            Between { lower: lower as usize, upper: upper as usize, part }
        };
        (0..to).map(between).collect()
    }
}

/// Interpolates each channel with float weights: upper left, upper right, lower left, lower
/// right.
fn blend_f32(grid: &Grid<f32>, run: &mut Run<'_>) {
    let parts = run.parts::<f32>(0);
    grid.each(parts.inputs.get(INPUT), parts.output, |y, x, [a, b, c, d], output| {
        let (stay_y, stay_x) = (1.0 - y, 1.0 - x);
        let weights = [stay_y * stay_x, stay_y * x, y * stay_x, y * x];
        for ((((output, a), b), c), d) in output.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *output = a * weights[0] + c * weights[2] + b * weights[1] + d * weights[3];
        }
    });
}

/// The same on uint8, in the order of LiteRT's operations, which decides ties.
fn blend_u8(grid: &Grid<f32>, run: &mut Run<'_>) {
    let parts = run.parts::<u8>(0);
    grid.each(parts.inputs.get(INPUT), parts.output, |y, x, [a, b, c, d], output| {
        let (stay_y, stay_x) = (1.0 - y, 1.0 - x);
        for ((((output, &a), &b), &c), &d) in output.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            let (a, b, c, d) = (f32::from(a), f32::from(b), f32::from(c), f32::from(d));
            let sum = a * stay_y * stay_x + c * y * stay_x + b * stay_y * x + d * y * x;
            *output = (sum + 0.5) as u8;
        }
    });
}

const HALF: i32 = 1 << 19;

fn blend_i8(grid: &Grid<i32>, run: &mut Run<'_>) {
    let parts = run.parts::<i8>(0);
    grid.each(parts.inputs.get(INPUT), parts.output, |y, x, [a, b, c, d], output| {
        let weights = [(1024 - y) * (1024 - x), (1024 - y) * x, y * (1024 - x), y * x];
        for ((((output, &a), &b), &c), &d) in output.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            let sum = i32::from(a) * weights[0]
                + i32::from(b) * weights[1]
                + i32::from(c) * weights[2]
                + i32::from(d) * weights[3];
            *output = ((sum + if sum > 0 { HALF } else { -HALF }) / (1 << 20)) as i8;
        }
    });
}

fn blend_i16(grid: &Grid<i32>, run: &mut Run<'_>) {
    let parts = run.parts::<i16>(0);
    grid.each(parts.inputs.get(INPUT), parts.output, |y, x, [a, b, c, d], output| {
        let weights = [(1024 - y) * (1024 - x), (1024 - y) * x, y * (1024 - x), y * x];
        let weights = weights.map(i64::from);
        let half = i64::from(HALF);
        for ((((output, &a), &b), &c), &d) in output.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            let sum = i64::from(a) * weights[0]
                + i64::from(b) * weights[1]
                + i64::from(c) * weights[2]
                + i64::from(d) * weights[3];
            *output = ((sum + if sum > 0 { half } else { -half }) / (1 << 20)) as i16;
        }
    });
}

impl Operator for ResizeBilinear {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        if self.align_corners && self.half_pixel_centers {
            return Err(OpError::Attribute("half-pixel centers with aligned corners".into()));
        }
        resized_shape(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(INPUT).map(|input| input.dtype) {
            Ok(DType::I16) => 4,
            _ if self.half_pixel_centers => 3,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        element_size(io.input(INPUT)?, io.output(0)?)?;
        let float = || Grid::new(io, |from, to| self.between(from, to));
        let fixed = || Grid::new(io, |from, to| self.between_1024ths(from, to));
        match io.input(INPUT)?.dtype {
            DType::F32 => float().map(|grid| Kernel::new(move |run| blend_f32(&grid, run))),
            DType::U8 => float().map(|grid| Kernel::new(move |run| blend_u8(&grid, run))),
            DType::I8 => fixed().map(|grid| Kernel::new(move |run| blend_i8(&grid, run))),
            DType::I16 => fixed().map(|grid| Kernel::new(move |run| blend_i16(&grid, run))),
            _ => Err(io.unsupported(INPUT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn resized(op: ResizeBilinear, input: Case, size: [i32; 2]) -> Case {
        let dtype = input.dtype;
        eval(op, &[input, Case::i32([2], size).constant()], Case::result(dtype))
    }

    #[test]
    fn interpolates_between_pixels() {
        let input = Case::f32([1, 2, 2, 1], [0.0, 4.0, 8.0, 12.0]);
        let op = ResizeBilinear { align_corners: true, ..Default::default() };
        let output = resized(op, input, [3, 3]);
        assert_eq!(output.get::<f32>(), [0.0, 2.0, 4.0, 4.0, 6.0, 8.0, 8.0, 10.0, 12.0]);
    }

    #[test]
    fn rounds_int8_half_away_from_zero() {
        let op = ResizeBilinear { align_corners: true, ..Default::default() };
        let output = resized(op, Case::i8([1, 1, 4, 1], [0, 1, 0, -1]), [1, 7]);
        assert_eq!(output.get::<i8>(), [0, 1, 1, 1, 0, -1, -1]);
    }

    #[test]
    fn all_types_keep_the_corners_of_several_images() {
        let op = ResizeBilinear { half_pixel_centers: true, ..Default::default() };
        let input = Case::i8([2, 1, 2, 1], [-128, 127, 127, -128]);
        let output = resized(op.clone(), input, [2, 4]).get::<i8>();
        assert_eq!((output[0], output[3], output[8], output[11]), (-128, 127, 127, -128));
        let input = Case::new(DType::I16, [1, 1, 2, 1], &[-32768i16, 32767]);
        let output = resized(op.clone(), input, [1, 4]).get::<i16>();
        assert_eq!((output[0], output[3]), (-32768, 32767));
        let input = Case::new(DType::U8, [1, 1, 2, 1], &[0u8, 255]);
        assert_eq!(resized(op, input, [1, 4]).bytes, [0, 64, 191, 255]);
    }

    #[test]
    fn enlarges_far_without_leaving_the_input() {
        let output = resized(ResizeBilinear::default(), Case::i8([1, 1, 3, 1], [1, 2, 3]), [1, 2000]);
        assert_eq!(output.get::<i8>()[1999], 3);
    }

    #[test]
    fn rejects_other_types_and_both_grids() {
        let io = |dtype| {
            let inputs = [Case { dtype, ..Case::i8([1, 1, 1, 1], [1]) }, Case::i32([2], [1, 1]).constant()];
            let mut io = signature(&inputs, &[Case::result(dtype)]);
            io.outputs[0].shape = vec![1, 1, 1, 1];
            io
        };
        let error = ResizeBilinear::default().prepare(&io(DType::Bool)).unwrap_err();
        assert!(matches!(error, OpError::UnsupportedType { .. }));
        let both = ResizeBilinear { align_corners: true, half_pixel_centers: true, ..Default::default() };
        assert!(matches!(both.infer_shapes(&io(DType::I8)), Err(OpError::Attribute(_))));
    }
}
