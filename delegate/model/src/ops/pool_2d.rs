//! What AVERAGE_POOL_2D and MAX_POOL_2D share: attributes, and the walk over windows.

use std::ops::Range;

use bantam_kernels::{Isa, parallel};

use super::padding::Windows;
use super::pointwise::{limits, parameters};
use super::{Activation, OpError, Padding, Signature};
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `AVERAGE_POOL_2D` and `MAX_POOL_2D`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool2d {
    /// How the edges are padded; padding is not counted.
    pub padding: Padding,
    /// Rows from one window to the next.
    pub stride_h: i32,
    /// Columns from one window to the next.
    pub stride_w: i32,
    /// Rows of a window.
    pub filter_h: i32,
    /// Columns of a window.
    pub filter_w: i32,
    /// The fused activation.
    pub activation: Activation,
}

impl Default for Pool2d {
    fn default() -> Self {
        Self {
            padding: Padding::Same,
            stride_h: 1,
            stride_w: 1,
            filter_h: 1,
            filter_w: 1,
            activation: Activation::None,
        }
    }
}

/// Channels that a window is folded over at a time.
pub(super) const BLOCK: usize = 64;

/// The windows of a pool over an image `[batch, height, width, depth]`.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    in_h: usize,
    in_w: usize,
    depth: usize,
    batch: usize,
    filter_h: usize,
    filter_w: usize,
    rows: Windows,
    columns: Windows,
}

impl Pool2d {
    pub(super) fn read(options: &tfl::BuiltinOptionsT) -> Self {
        let o = options.as_pool_2_doptions().cloned().unwrap_or_default();
        Self {
            padding: Padding::from_code(o.padding),
            stride_h: o.stride_h,
            stride_w: o.stride_w,
            filter_h: o.filter_height,
            filter_w: o.filter_width,
            activation: Activation::from_code(o.fused_activation_function),
        }
    }

    pub(super) fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::Pool2DOptions(Box::new(tfl::Pool2DOptionsT {
            padding: self.padding.code(),
            stride_w: self.stride_w,
            stride_h: self.stride_h,
            filter_width: self.filter_w,
            filter_height: self.filter_h,
            fused_activation_function: self.activation.code(),
        }))
    }

    pub(super) fn version(io: &Signature) -> i32 {
        match io.optional_input(0).map(|v| v.dtype) {
            Some(DType::I16) => 3,
            Some(DType::I8) => 2,
            _ => 1,
        }
    }

    pub(super) fn walk(&self, io: &Signature) -> Result<Walk, OpError> {
        let [batch, in_h, in_w, depth] = io.input(0)?.shape_n()?;
        let size = |value: i32| match usize::try_from(value) {
            Ok(value) if value > 0 => Ok(value),
            _ => Err(OpError::Attribute(format!(
                "filter size {value} is not above 0"
            ))),
        };
        let (filter_h, filter_w) = (size(self.filter_h)?, size(self.filter_w)?);
        Ok(Walk {
            in_h,
            in_w,
            depth,
            batch,
            filter_h,
            filter_w,
            rows: self.padding.windows(in_h, filter_h, self.stride_h, 1)?,
            columns: self.padding.windows(in_w, filter_w, self.stride_w, 1)?,
        })
    }

    /// The clamp of a quantized result, whose parameters must be those of the input.
    pub(super) fn integer_range(&self, io: &Signature) -> Result<(i32, i32), OpError> {
        let (input, output) = (parameters(io.input(0)?)?, parameters(io.output(0)?)?);
        if input != output {
            return Err(OpError::Quantization(format!(
                "input {input:?} and output {output:?} of a pool differ"
            )));
        }
        let dtype = io.input(0)?.dtype;
        let (min, max) = limits(dtype).ok_or_else(|| io.unsupported(0))?;
        self.activation.range(output, min, max)
    }
}

impl Walk {
    pub fn shape(&self) -> Shape {
        vec![self.batch, self.rows.count, self.columns.count, self.depth]
    }

    /// Folds each window: every channel starts from `start`, takes up the elements inside the
    /// image with `fold`, and is stored as `finish(value, number of elements)`.
    pub fn run<T: Copy + Sync, O: Send, A: Copy + Sync>(
        &self,
        input: &[T],
        output: &mut [O],
        threads: usize,
        start: A,
        fold: impl Fn(A, T) -> A + Sync,
        finish: impl Fn(A, usize) -> O + Sync,
    ) {
        let pixels = self.batch * self.rows.count * self.columns.count;
        let taps = self.filter_h.min(self.in_h) * self.filter_w.min(self.in_w);
        let work = output.len().saturating_mul(taps);
        let isa = Isa::best();
        let parts = parallel::parts(isa, threads, pixels, work);
        let part = |pixels: Range<usize>, output: &mut [O], _: &mut [u8]| {
            isa.run(|| {
                for (pixel, output) in pixels.zip(output.chunks_exact_mut(self.depth)) {
                    self.fold_window(pixel, input, output, start, &fold, &finish);
                }
            });
        };
        parallel::split_rows(parts, 0..pixels, self.depth, output, &mut [], &part);
    }

    #[inline(always)]
    fn fold_window<T: Copy, O, A: Copy>(
        &self,
        pixel: usize,
        input: &[T],
        output: &mut [O],
        start: A,
        fold: &impl Fn(A, T) -> A,
        finish: &impl Fn(A, usize) -> O,
    ) {
        let (row, x) = (pixel / self.columns.count, pixel % self.columns.count);
        let (batch, y) = (row / self.rows.count, row % self.rows.count);
        let ys = inside(y, &self.rows, self.filter_h, self.in_h);
        let xs = inside(x, &self.columns, self.filter_w, self.in_w);
        let count = ys.len() * xs.len();
        for (block, output) in output.chunks_mut(BLOCK).enumerate() {
            let mut values = [start; BLOCK];
            for y in ys.clone() {
                for x in xs.clone() {
                    let first =
                        ((batch * self.in_h + y) * self.in_w + x) * self.depth + block * BLOCK;
                    for (value, &x) in values.iter_mut().zip(&input[first..][..output.len()]) {
                        *value = fold(*value, x);
                    }
                }
            }
            for (output, &value) in output.iter_mut().zip(&values) {
                *output = finish(value, count);
            }
        }
    }
}

/// The elements of the input under window `index`.
fn inside(index: usize, windows: &Windows, filter: usize, input: usize) -> Range<usize> {
    let start = index * windows.stride;
    start.saturating_sub(windows.before)..(start + filter).saturating_sub(windows.before).min(input)
}
