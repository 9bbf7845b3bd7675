//! Shapes of a convolution, and which part of the input a run of output pixels reads.

use std::ops::Range;

/// Shapes of a convolution: NHWC activations; `OHWI` filters of depth `in_depth / groups`.
///
/// Padding at the bottom and on the right is whatever the output size needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the TFLite format")]
pub struct ConvGeometry {
    pub batch: usize,
    pub in_h: usize,
    pub in_w: usize,
    pub in_depth: usize,
    pub out_h: usize,
    pub out_w: usize,
    pub out_depth: usize,
    pub filter_h: usize,
    pub filter_w: usize,
    pub stride_h: usize,
    pub stride_w: usize,
    pub dilation_h: usize,
    pub dilation_w: usize,
    pub pad_top: usize,
    pub pad_left: usize,
    /// 1, or the number of groups of a grouped convolution. Depthwise convolutions do not read it.
    pub groups: usize,
}

impl ConvGeometry {
    /// A product of `rows` rows of `k` elements with `n` columns, as a 1x1 convolution.
    pub fn product(rows: usize, k: usize, n: usize) -> Self {
        Self {
            batch: 1,
            in_h: 1,
            in_w: rows,
            in_depth: k,
            out_h: 1,
            out_w: rows,
            out_depth: n,
            filter_h: 1,
            filter_w: 1,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 0,
            pad_left: 0,
            groups: 1,
        }
    }

    /// Number of output pixels.
    pub fn pixels(&self) -> usize {
        self.batch * self.out_h * self.out_w
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.in_h * self.in_w * self.in_depth
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.pixels() * self.out_depth
    }

    /// The first pixel of a run, counted over the whole output.
    pub(crate) fn pixel(&self, run: Run) -> usize {
        (run.batch * self.out_h + run.y) * self.out_w + run.x
    }

    /// The same computation with fewer, longer rows of pixels where the shapes allow it.
    pub(crate) fn flattened(self) -> Self {
        let steps_one =
            self.filter_h == 1 && self.filter_w == 1 && self.stride_h == 1 && self.stride_w == 1;
        let unpadded = self.pad_top == 0
            && self.pad_left == 0
            && self.in_h == self.out_h
            && self.in_w == self.out_w;
        if !(steps_one && unpadded) {
            return self;
        }
        Self {
            groups: self.groups,
            ..Self::product(self.pixels(), self.in_depth, self.out_depth)
        }
    }

    /// Input columns under `len` neighbouring output pixels.
    pub(crate) fn columns(&self, len: usize) -> usize {
        (len - 1) * self.stride_w + (self.filter_w - 1) * self.dilation_w + 1
    }

    /// Output columns whose filter stays inside the input's width.
    fn inner_columns(&self) -> Range<usize> {
        let extent = (self.filter_w - 1) * self.dilation_w;
        let first = self.pad_left.div_ceil(self.stride_w).min(self.out_w);
        let end = match (self.in_w + self.pad_left).checked_sub(extent + 1) {
            Some(last) => (last / self.stride_w + 1).min(self.out_w),
            None => 0,
        };
        first..end.max(first)
    }

    /// Divides output pixels into runs of at most `limit` pixels of one output row. With `split_edges`, pixels that read
    /// padding on the left or right are not in a run with ones that do not.
    pub(crate) fn runs(
        &self,
        pixels: Range<usize>,
        limit: usize,
        split_edges: bool,
    ) -> impl Iterator<Item = Run> + '_ {
        let inner = if split_edges {
            self.inner_columns()
        } else {
            0..self.out_w
        };
        let mut next = pixels.start;
        std::iter::from_fn(move || {
            if next >= pixels.end {
                return None;
            }
            let (row, x) = (next / self.out_w, next % self.out_w);
            let border = if x < inner.start {
                inner.start
            } else if x < inner.end {
                inner.end
            } else {
                self.out_w
            };
            let len = (border - x).min(pixels.end - next).min(limit);
            next += len;
            Some(Run {
                batch: row / self.out_h,
                y: row % self.out_h,
                x,
                len,
            })
        })
    }
}

/// Neighbouring output pixels of one output row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub batch: usize,
    pub y: usize,
    pub x: usize,
    pub len: usize,
}

/// The columns under a run: `left` of padding, `inside` from input column `first`, then padding up to `columns`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clip {
    pub columns: usize,
    pub left: usize,
    pub first: usize,
    pub inside: usize,
}

/// Where a run's input is: tap `(filter_y, filter_x)` of pixel `i` starts at
/// `offset + i * pixel + filter_y * row + filter_x * column`, and is inside `data` for all of them.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a, T> {
    pub data: &'a [T],
    pub offset: usize,
    pub pixel: usize,
    pub row: usize,
    pub column: usize,
}

impl<T> Window<'_, T> {
    /// The window without its first `pixels` pixels.
    pub fn skip(&self, pixels: usize) -> Self {
        Self {
            offset: self.offset + pixels * self.pixel,
            ..*self
        }
    }

    /// Where the taps of the first pixel start, in order.
    #[cfg(target_arch = "x86_64")]
    pub fn taps(&self, rows: usize, columns: usize) -> impl Iterator<Item = usize> {
        let Self {
            offset,
            row,
            column,
            ..
        } = *self;
        (0..rows).flat_map(move |y| (0..columns).map(move |x| offset + y * row + x * column))
    }

    /// Asserts that what `pixels` pixels read, `len` elements from each of `taps` (rows, columns), is inside the data.
    pub fn check(&self, pixels: usize, taps: (usize, usize), len: usize) {
        let last = (pixels - 1) * self.pixel + (taps.0 - 1) * self.row + (taps.1 - 1) * self.column;
        assert!(
            self.offset + last + len <= self.data.len(),
            "window exceeds its data"
        );
    }
}

impl ConvGeometry {
    /// The window of a run in the input itself, if it reads no padding.
    pub(crate) fn window_in_place<'a, T>(&self, run: Run, input: &'a [T]) -> Option<Window<'a, T>> {
        let y = (run.y * self.stride_h).checked_sub(self.pad_top)?;
        let x = (run.x * self.stride_w).checked_sub(self.pad_left)?;
        let fits = y + (self.filter_h - 1) * self.dilation_h < self.in_h
            && x + self.columns(run.len) <= self.in_w;
        fits.then(|| Window {
            data: input,
            offset: ((run.batch * self.in_h + y) * self.in_w + x) * self.in_depth,
            pixel: self.stride_w * self.in_depth,
            row: self.dilation_h * self.in_w * self.in_depth,
            column: self.dilation_w * self.in_depth,
        })
    }

    /// The input row, counted over all images, that is under filter row `filter_y` of a run; `None` if that is padding.
    pub(crate) fn input_row(&self, run: Run, filter_y: usize) -> Option<usize> {
        let y = (run.y * self.stride_h + filter_y * self.dilation_h).checked_sub(self.pad_top)?;
        (y < self.in_h).then_some(run.batch * self.in_h + y)
    }

    /// Which input columns a run reads.
    pub(crate) fn clip(&self, run: Run) -> Clip {
        let columns = self.columns(run.len);
        let x = run.x * self.stride_w;
        let left = self.pad_left.saturating_sub(x).min(columns);
        let first = (x + left).saturating_sub(self.pad_left).min(self.in_w);
        Clip {
            columns,
            left,
            first,
            inside: (self.in_w - first).min(columns - left),
        }
    }

    /// Elements of scratch that [`Self::copy_window`] needs.
    pub(crate) fn window_len(&self, len: usize, element: usize) -> usize {
        self.filter_h * self.columns(len) * self.in_depth * element
    }

    /// Copies what a run reads to `scratch`, padding included, with `element` stored elements for each input element: `convert`
    /// writes input elements and `pad` the zero point.
    pub(crate) fn copy_window<'a, S, D>(
        &self,
        run: Run,
        input: &[S],
        element: usize,
        scratch: &'a mut [D],
        convert: impl Fn(&[S], &mut [D]),
        pad: impl Fn(&mut [D]),
    ) -> Window<'a, D> {
        let Clip {
            columns,
            left,
            first,
            inside,
        } = self.clip(run);
        let scale = self.in_depth * element;
        let row_len = columns * scale;
        for (filter_y, row) in scratch
            .chunks_exact_mut(row_len)
            .take(self.filter_h)
            .enumerate()
        {
            match self.input_row(run, filter_y) {
                Some(y) => {
                    let start = (y * self.in_w + first) * self.in_depth;
                    pad(&mut row[..left * scale]);
                    convert(
                        &input[start..][..inside * self.in_depth],
                        &mut row[left * scale..][..inside * scale],
                    );
                    pad(&mut row[(left + inside) * scale..]);
                }
                None => pad(row),
            }
        }
        Window {
            data: scratch,
            offset: 0,
            pixel: self.stride_w * scale,
            row: row_len,
            column: self.dilation_w * scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same_3x3(width: usize) -> ConvGeometry {
        ConvGeometry {
            in_h: width,
            out_h: width,
            filter_h: 3,
            filter_w: 3,
            pad_top: 1,
            pad_left: 1,
            ..ConvGeometry::product(width, 1, 1)
        }
    }

    #[test]
    fn runs_stop_at_rows_limits_and_edges() {
        let geometry = same_3x3(5);
        let runs: Vec<_> = geometry
            .runs(3..12, 2, false)
            .map(|run| (run.y, run.x, run.len))
            .collect();
        assert_eq!(
            runs,
            [(0, 3, 2), (1, 0, 2), (1, 2, 2), (1, 4, 1), (2, 0, 2)]
        );
        let runs: Vec<_> = geometry
            .runs(0..5, 9, true)
            .map(|run| (run.y, run.x, run.len))
            .collect();
        assert_eq!(runs, [(0, 0, 1), (0, 1, 3), (0, 4, 1)]);
    }

    #[test]
    fn copies_padding_around_the_input() {
        let geometry = same_3x3(2);
        let run = Run {
            batch: 0,
            y: 0,
            x: 0,
            len: 2,
        };
        assert!(geometry.window_in_place(run, &[1, 2, 3, 4]).is_none());
        let mut scratch = [0; 12];
        geometry.copy_window(
            run,
            &[1, 2, 3, 4],
            1,
            &mut scratch,
            |s, d| d.copy_from_slice(s),
            |d| d.fill(9),
        );
        assert_eq!(scratch, [9, 9, 9, 9, 9, 1, 2, 9, 9, 3, 4, 9]);
    }

    #[test]
    fn finds_inner_windows_in_place() {
        let geometry = same_3x3(4);
        let input: Vec<i32> = (0..16).collect();
        let window = geometry
            .window_in_place(
                Run {
                    batch: 0,
                    y: 1,
                    x: 1,
                    len: 2,
                },
                &input,
            )
            .unwrap();
        assert_eq!(
            (window.offset, window.pixel, window.row, window.column),
            (0, 1, 4, 1)
        );
        assert!(
            geometry
                .window_in_place(
                    Run {
                        batch: 0,
                        y: 2,
                        x: 1,
                        len: 3
                    },
                    &input
                )
                .is_none()
        );
    }
}
