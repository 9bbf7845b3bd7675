//! `RESIZE_BILINEAR`: each pixel of the result lies between four of the input.
//!
//! Input [batch, height, width, depth]; the second operand, a constant, is the new height and
//! width. [`Numerics::Fast`] is XNNPACK's arithmetic: float32, or 8 bits with weights of 11 bits,
//! rounded to the nearest, ties upwards. [`Numerics::Reference`], and int16 in both, is that of LiteRT's reference kernels:
//! int8 and int16 with coordinates of 10 fractional bits, rounded half away from zero, uint8 in float32.

use std::ops::Range;

use bantam_kernels::{Isa, parallel};
use bytemuck::Pod;

use super::movement::{count, element_size};
use super::resize_nearest_neighbor::{resized_shape, scale};
use super::{Attributes, Numerics, OpError, Operator, QuantRule, Role, Signature};
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
        let options = options
            .as_resize_bilinear_options()
            .cloned()
            .unwrap_or_default();
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
    batch: usize,
    height: usize,
    width: usize,
    depth: usize,
}

impl<W: Copy + Send + Sync + 'static> Grid<W> {
    fn new(
        io: &Signature,
        along: impl Fn(usize, usize) -> Vec<Between<W>>,
    ) -> Result<Self, OpError> {
        let [batch, height, width, depth] = io.input(INPUT)?.shape_n()?;
        let [_, new_height, new_width, _] = io.output(0)?.shape_n()?;
        let (rows, columns) = (along(height, new_height), along(width, new_width));
        Ok(Self {
            rows,
            columns,
            batch,
            height,
            width,
            depth,
        })
    }

    /// A kernel that interpolates along rows, into lines of `A`, and then between lines; both are given the part that the
    /// second operand has.
    fn kernel<T, A>(
        self,
        io: &Signature,
        along: impl Fn(T, T, W) -> A + Send + Sync + 'static,
        between: impl Fn(A, A, W) -> T + Send + Sync + 'static,
    ) -> Result<Kernel, OpError>
    where
        T: Pod + Send + Sync,
        A: Pod + Send,
    {
        let line = count(&[self.columns.len(), self.depth])?;
        let scratch = count(&[io.threads, 2, line, size_of::<A>()])?;
        Ok(Kernel::with_scratch(scratch, move |run| {
            let threads = run.threads;
            let parts = run.parts::<T>(0);
            let input = parts.inputs.get(INPUT);
            let lines: &mut [A] = bytemuck::cast_slice_mut(&mut parts.scratch[..scratch]);
            let (isa, rows) = (Isa::best(), self.batch * self.rows.len());
            let pieces = parallel::parts(isa, threads, rows, parts.output.len().saturating_mul(4));
            let work = |rows: Range<usize>, output: &mut [T], lines: &mut [A]| {
                isa.run(|| self.blend(rows, input, output, lines, &along, &between));
            };
            parallel::split_rows(pieces, 0..rows, line, parts.output, lines, &work);
        }))
    }

    /// Computes `rows` of the result. Each row of the input is interpolated once, and kept while rows of the result lie
    /// beside it.
    #[inline(always)]
    fn blend<T: Pod, A: Pod>(
        &self,
        rows: Range<usize>,
        input: &[T],
        output: &mut [T],
        lines: &mut [A],
        along: &impl Fn(T, T, W) -> A,
        between: &impl Fn(A, A, W) -> T,
    ) {
        let line = self.columns.len() * self.depth;
        let (mut upper, rest) = lines.split_at_mut(line);
        let mut lower = &mut rest[..line];
        let mut held = [usize::MAX; 2];
        for (row, output) in rows.zip(output.chunks_exact_mut(line)) {
            let place = self.rows[row % self.rows.len()];
            let image = row / self.rows.len() * self.height;
            let wanted = [image + place.lower, image + place.upper];
            if held[1] == wanted[0] {
                std::mem::swap(&mut upper, &mut lower);
                held.swap(0, 1);
            }
            if held[0] != wanted[0] {
                self.blend_row(&input[wanted[0] * self.width * self.depth..], upper, along);
            }
            if held[1] != wanted[1] {
                self.blend_row(&input[wanted[1] * self.width * self.depth..], lower, along);
            }
            held = wanted;
            for ((output, &a), &b) in output.iter_mut().zip(&*upper).zip(&*lower) {
                *output = between(a, b, place.part);
            }
        }
    }

    #[inline(always)]
    fn blend_row<T: Pod, A: Pod>(
        &self,
        input: &[T],
        line: &mut [A],
        along: &impl Fn(T, T, W) -> A,
    ) {
        for (column, line) in self.columns.iter().zip(line.chunks_exact_mut(self.depth)) {
            let left = &input[column.lower * self.depth..][..self.depth];
            let right = &input[column.upper * self.depth..][..self.depth];
            for ((out, &a), &b) in line.iter_mut().zip(left).zip(right) {
                *out = along(a, b, column.part);
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
                return Between {
                    lower: from - 1,
                    upper: from - 1,
                    part: 0.0,
                };
            }
            let upper = (place.ceil() as usize).min(from - 1);
            Between {
                lower,
                upper,
                part: place - lower as f32,
            }
        };
        (0..to).map(between).collect()
    }

    /// The same as XNNPACK rounds.
    fn between_xnnpack(&self, from: usize, to: usize) -> Vec<Between<f32>> {
        let scale = scale(from, to, self.align_corners);
        let offset = if self.half_pixel_centers {
            0.5 * scale - 0.5
        } else {
            0.0
        };
        let last = from - 1;
        let between = |index| {
            let place = (index as f32 * scale + offset).max(0.0).min(last as f32);
            let lower = place as usize;
            Between {
                lower,
                upper: (lower + 1).min(last),
                part: place - lower as f32,
            }
        };
        (0..to).map(between).collect()
    }

    /// The same in 1024ths, as LiteRT's reference kernels compute it.
    fn between_1024ths(&self, from: usize, to: usize) -> Vec<Between<i32>> {
        let ratio = |from: i64, to: i64| (1024 * from + to / 2) / to;
        let scale = match self.align_corners && to > 1 {
            true => ratio(from as i64 - 1, to as i64 - 1),
            false => ratio(from as i64, to as i64),
        };
        let offset = if self.half_pixel_centers {
            scale / 2 - 512
        } else {
            0
        };
        let last = from as i64 - 1;
        let between = |index| {
            let place = (index as i64 * scale + offset).clamp(0, last * 1024);
            let lower = place / 1024;
            let upper = ((place + 1023) / 1024).min(last);
            let part = (place - lower * 1024) as i32;
            Between {
                lower: lower as usize,
                upper: upper as usize,
                part,
            }
        };
        (0..to).map(between).collect()
    }
}

fn in_2048ths(between: Vec<Between<f32>>) -> Vec<Between<i32>> {
    let part = |part: f32| (part * 2048.0).round_ties_even() as i32;
    between
        .into_iter()
        .map(
            |Between {
                 lower,
                 upper,
                 part: of,
             }| Between {
                lower,
                upper,
                part: part(of),
            },
        )
        .collect()
}

/// uint8 in the order of LiteRT's reference operations, which decides ties.
fn blend_u8(grid: &Grid<f32>, run: &mut Run<'_>) {
    let parts = run.parts::<u8>(0);
    let input = parts.inputs.bytes(INPUT);
    let mut pixels = parts.output.chunks_exact_mut(grid.depth);
    for image in input.chunks_exact(grid.height * grid.width * grid.depth) {
        for row in &grid.rows {
            for (column, output) in grid.columns.iter().zip(&mut pixels) {
                let at =
                    |row: usize, column: usize| &image[(row * grid.width + column) * grid.depth..];
                let (a, b) = (at(row.lower, column.lower), at(row.lower, column.upper));
                let (c, d) = (at(row.upper, column.lower), at(row.upper, column.upper));
                let (y, x) = (row.part, column.part);
                let (stay_y, stay_x) = (1.0 - y, 1.0 - x);
                for ((((output, &a), &b), &c), &d) in output.iter_mut().zip(a).zip(b).zip(c).zip(d)
                {
                    let (a, b, c, d) = (f32::from(a), f32::from(b), f32::from(c), f32::from(d));
                    let sum = a * stay_y * stay_x + c * y * stay_x + b * stay_y * x + d * y * x;
                    *output = (sum + 0.5) as u8;
                }
            }
        }
    }
}

/// `a` and `b` in 2048ths, as XNNPACK weighs them.
#[inline(always)]
fn along_2048ths(a: i32, b: i32, part: i32) -> i32 {
    (a << 11) + (b - a) * part
}

/// The integer nearest to what lies between two lines in 2048ths, ties upwards.
#[inline(always)]
fn between_2048ths(a: i32, b: i32, part: i32) -> i32 {
    ((a << 11) + (b - a) * part + (1 << 21)) >> 22
}

impl Operator for ResizeBilinear {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        if self.align_corners && self.half_pixel_centers {
            return Err(OpError::Attribute(
                "half-pixel centers with aligned corners".into(),
            ));
        }
        resized_shape(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
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
        let xnnpack = || Grid::new(io, |from, to| self.between_xnnpack(from, to));
        let in_1024ths = || Grid::new(io, |from, to| self.between_1024ths(from, to));
        let in_2048ths = || Grid::new(io, |from, to| in_2048ths(self.between_xnnpack(from, to)));
        let linear = |a: f32, b: f32, part: f32| a + (b - a) * part;
        match (io.input(INPUT)?.dtype, io.numerics) {
            (DType::F32, Numerics::Fast) => xnnpack()?.kernel(io, linear, linear),
            (DType::F32, Numerics::Reference) => float()?.kernel(io, linear, linear),
            (DType::I8, Numerics::Fast) => in_2048ths()?.kernel(
                io,
                |a: i8, b: i8, part| along_2048ths(a.into(), b.into(), part),
                |a, b, part| between_2048ths(a, b, part) as i8,
            ),
            (DType::U8, Numerics::Fast) => in_2048ths()?.kernel(
                io,
                |a: u8, b: u8, part| along_2048ths(a.into(), b.into(), part),
                |a, b, part| between_2048ths(a, b, part) as u8,
            ),
            (DType::U8, Numerics::Reference) => {
                let grid = float()?;
                Ok(Kernel::new(move |run| blend_u8(&grid, run)))
            }
            (DType::I8, Numerics::Reference) => in_1024ths()?.kernel(
                io,
                |a: i8, b: i8, part| i32::from(a) * (1024 - part) + i32::from(b) * part,
                |a, b, part| {
                    let sum = a * (1024 - part) + b * part;
                    ((sum + if sum > 0 { 1 << 19 } else { -1 << 19 }) / (1 << 20)) as i8
                },
            ),
            (DType::I16, _) => in_1024ths()?.kernel(
                io,
                |a: i16, b: i16, part| i32::from(a) * (1024 - part) + i32::from(b) * part,
                |a, b, part| {
                    let sum =
                        i64::from(a) * i64::from(1024 - part) + i64::from(b) * i64::from(part);
                    ((sum + if sum > 0 { 1 << 19 } else { -1 << 19 }) / (1 << 20)) as i16
                },
            ),
            _ => Err(io.unsupported(INPUT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, eval_with, signature};

    fn resized(op: ResizeBilinear, input: Case, size: [i32; 2]) -> Case {
        let dtype = input.dtype;
        eval(
            op,
            &[input, Case::i32([2], size).constant()],
            Case::result(dtype),
        )
    }

    #[test]
    fn interpolates_between_pixels() {
        let input = Case::f32([1, 2, 2, 1], [0.0, 4.0, 8.0, 12.0]);
        let op = ResizeBilinear {
            align_corners: true,
            ..Default::default()
        };
        let output = resized(op, input, [3, 3]);
        assert_eq!(
            output.get::<f32>(),
            [0.0, 2.0, 4.0, 4.0, 6.0, 8.0, 8.0, 10.0, 12.0]
        );
    }

    #[test]
    fn int8_ties_depend_on_the_numerics() {
        let op = ResizeBilinear {
            align_corners: true,
            ..Default::default()
        };
        let inputs = [
            Case::i8([1, 1, 4, 1], [0, 1, 0, -1]),
            Case::i32([2], [1, 7]).constant(),
        ];
        let run = |numerics| {
            eval_with(numerics, op.clone(), &inputs, &[Case::result(DType::I8)])[0].get::<i8>()
        };
        assert_eq!(run(Numerics::Reference), [0, 1, 1, 1, 0, -1, -1]);
        assert_eq!(run(Numerics::Fast), [0, 1, 1, 1, 0, 0, -1]);
    }

    #[test]
    fn all_types_keep_the_corners_of_several_images() {
        let op = ResizeBilinear {
            half_pixel_centers: true,
            ..Default::default()
        };
        let input = Case::i8([2, 1, 2, 1], [-128, 127, 127, -128]);
        let output = resized(op.clone(), input, [2, 4]).get::<i8>();
        assert_eq!(
            (output[0], output[3], output[8], output[11]),
            (-128, 127, 127, -128)
        );
        let input = Case::new(DType::I16, [1, 1, 2, 1], &[-32768i16, 32767]);
        let output = resized(op.clone(), input, [1, 4]).get::<i16>();
        assert_eq!((output[0], output[3]), (-32768, 32767));
        let input = Case::new(DType::U8, [1, 1, 2, 1], &[0u8, 255]);
        assert_eq!(resized(op, input, [1, 4]).bytes, [0, 64, 191, 255]);
    }

    #[test]
    fn enlarges_far_without_leaving_the_input() {
        let output = resized(
            ResizeBilinear::default(),
            Case::i8([1, 1, 3, 1], [1, 2, 3]),
            [1, 2000],
        );
        assert_eq!(output.get::<i8>()[1999], 3);
    }

    #[test]
    fn rejects_other_types_and_both_grids() {
        let io = |dtype| {
            let inputs = [
                Case {
                    dtype,
                    ..Case::i8([1, 1, 1, 1], [1])
                },
                Case::i32([2], [1, 1]).constant(),
            ];
            let mut io = signature(&inputs, &[Case::result(dtype)]);
            io.outputs[0].shape = vec![1, 1, 1, 1];
            io
        };
        let error = ResizeBilinear::default()
            .prepare(&io(DType::Bool))
            .unwrap_err();
        assert!(matches!(error, OpError::UnsupportedType { .. }));
        let both = ResizeBilinear {
            align_corners: true,
            half_pixel_centers: true,
            ..Default::default()
        };
        assert!(matches!(
            both.infer_shapes(&io(DType::I8)),
            Err(OpError::Attribute(_))
        ));
    }
}
