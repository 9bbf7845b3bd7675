//! Products of two operands that are both known only when they are there: BATCH_MATMUL. The right one is packed into memory that
//! the caller lends.

use std::ops::Range;

use crate::geometry::Window;
use crate::product::{Columns, Form, Layout, Packed, PackedF32, Segments, Store, SumsI8};
use crate::requantize::OutputStage;
use crate::{Isa, parallel};

/// Rows of which the int32 sums are kept before they are requantized.
const RUN_ROWS: usize = 16;

/// How the right operand, of depth `k` and with `n` columns, is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `k` rows of `n`.
    Rows,
    /// `n` rows of `k`: transposed.
    Columns,
}

impl Order {
    fn columns<T>(self, data: &[T], (n, k): (usize, usize)) -> Columns<'_, T> {
        assert_eq!(data.len(), n * k, "right operand does not match the shapes");
        let (column, element) = match self {
            Self::Rows => (1, n),
            Self::Columns => (k, 1),
        };
        Columns {
            data,
            column,
            element,
        }
    }
}

fn wrapping_sum(terms: impl Iterator<Item = i32>) -> i32 {
    terms.fold(0, i32::wrapping_add)
}

fn row(k: usize) -> Segments {
    Segments {
        rows: 1,
        columns: 1,
        len: k,
    }
}

fn window<T>(data: &[T], row: usize, pitch: usize) -> Window<'_, T> {
    Window {
        data,
        offset: row * pitch,
        pixel: pitch,
        row: 0,
        column: 0,
    }
}

/// A float32 product.
pub struct MatMulF32 {
    layout: Layout,
    k: usize,
}

impl MatMulF32 {
    /// For a right operand of depth `k` with `n` columns.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(isa: Isa, (n, k): (usize, usize)) -> Self {
        assert!(n > 0 && k > 0, "a size is 0: {n} columns of {k}");
        let layout = PackedF32::layout(isa, row(k), n);
        Self { layout, k }
    }

    /// Elements of a packed right operand.
    pub fn packed_len(&self) -> usize {
        self.layout.columns() + self.layout.blocks() * self.layout.block_len()
    }

    /// Packs the right operand.
    ///
    /// # Panics
    /// If a length does not match.
    pub fn pack(&self, right: &[f32], order: Order, packed: &mut [f32]) {
        let (bias, weights) = packed[..self.packed_len()].split_at_mut(self.layout.columns());
        bias.fill(0.0);
        let columns = order.columns(right, (self.layout.n, self.k));
        self.layout.pack(&columns, weights);
    }

    /// Computes `output` (rows of `n`) from `left` (rows of `k`) and what [`Self::pack`] packed.
    ///
    /// # Panics
    /// If a length does not match.
    pub fn run(&self, left: &[f32], packed: &[f32], output: &mut [f32], threads: usize) {
        let (layout, n) = (&self.layout, self.layout.n);
        let rows = output.len() / n;
        assert_eq!(
            (left.len(), output.len()),
            (rows * self.k, rows * n),
            "operands do not match the shapes"
        );
        let (bias, weights) = packed[..self.packed_len()].split_at(layout.columns());
        let packed = PackedF32 {
            layout: *layout,
            weights: Store::Lent(weights),
            bias: Store::Lent(bias),
            clamp: (f32::NEG_INFINITY, f32::INFINITY),
        };
        let parts = parallel::parts(layout.isa, threads, rows, output.len() * self.k * 4);
        let part = |rows: Range<usize>, output: &mut [f32], _: &mut [u8]| {
            if rows.is_empty() {
                return;
            }
            let window = window(left, rows.start, self.k);
            window.check(rows.len(), (1, 1), self.k);
            packed.multiply(&window, rows, (), 0..layout.blocks(), output, n);
        };
        parallel::split_rows(parts, 0..rows, n, output, &mut [], &part);
    }
}

/// An int8 product.
pub struct MatMulI8 {
    layout: Layout,
    form: Form,
    k: usize,
    left_zero_point: i8,
    right_zero_point: i8,
    stage: OutputStage,
}

impl MatMulI8 {
    /// For a right operand of depth `k` with `n` columns; `stage` has one factor.
    ///
    /// # Panics
    /// If a size is 0, or the stage is not one of int8.
    pub fn new(
        isa: Isa,
        (n, k): (usize, usize),
        left_zero_point: i8,
        right_zero_point: i8,
        stage: OutputStage,
    ) -> Self {
        assert!(n > 0 && k > 0, "a size is 0: {n} columns of {k}");
        let (layout, form) = SumsI8::layout(isa, row(k), n, false);
        Self {
            layout,
            form,
            k,
            left_zero_point,
            right_zero_point,
            stage: stage.for_i8(),
        }
    }

    /// Elements of a packed right operand: weights, and one for each column.
    pub fn packed_len(&self) -> (usize, usize) {
        let layout = &self.layout;
        (layout.blocks() * layout.block_len(), layout.columns())
    }

    /// Packs the right operand.
    ///
    /// # Panics
    /// If a length does not match.
    pub fn pack(&self, right: &[i8], order: Order, weights: &mut [i8], bias: &mut [i32]) {
        let columns = order.columns(right, (self.layout.n, self.k));
        self.layout.pack(&columns, weights);
        let factor = i32::from(self.left_zero_point) + self.form.shift();
        bias.fill(0);
        for (column, bias) in bias.iter_mut().enumerate().take(self.layout.n) {
            let sum = wrapping_sum((0..self.k).map(|i| columns.get(column, i).into()));
            *bias = sum.wrapping_mul(-factor);
        }
    }

    /// Bytes and elements of scratch that [`Self::run`] needs for `rows` rows and `threads` threads.
    pub fn scratch_len(&self, rows: usize, threads: usize) -> (usize, usize) {
        let sums = threads.max(1) * RUN_ROWS * self.layout.n;
        (rows * self.pitch(), sums)
    }

    /// Bytes from one stored row to the next.
    fn pitch(&self) -> usize {
        self.layout.groups() * 4
    }

    /// Computes `output` (rows of `n`) from `left` (rows of `k`) and what [`Self::pack`] packed.
    ///
    /// # Panics
    /// If a length does not match, or the scratch is shorter than [`Self::scratch_len`].
    pub fn run(
        &self,
        left: &[i8],
        (weights, bias): (&[i8], &[i32]),
        output: &mut [i8],
        (stored, sums): (&mut [u8], &mut [f32]),
        threads: usize,
    ) {
        let (layout, n, pitch) = (&self.layout, self.layout.n, self.pitch());
        let rows = output.len() / n;
        assert_eq!(
            (left.len(), output.len()),
            (rows * self.k, rows * n),
            "operands do not match the shapes"
        );
        for (row, stored) in left
            .chunks_exact(self.k)
            .zip(stored.chunks_exact_mut(pitch))
        {
            let used = &mut stored[..self.k * self.form.bytes()];
            self.form.convert(layout.isa, row, used);
        }
        let stored = &stored[..rows * pitch];
        let packed = SumsI8 {
            layout: *layout,
            form: self.form,
            weights: Store::Lent(weights),
            bias: Store::Lent(bias),
        };
        let part = |rows: Range<usize>, output: &mut [i8], sums: &mut [f32]| {
            let chunks = output.chunks_mut(RUN_ROWS * n);
            for (first, output) in rows.step_by(RUN_ROWS).zip(chunks) {
                let sums = &mut sums[..output.len()];
                let window = window(stored, first, pitch);
                window.check(output.len() / n, (1, 1), pitch);
                packed.accumulate(&window, output.len() / n, 0..layout.blocks(), sums, n);
                let left = &left[first * self.k..];
                let results = output.chunks_exact_mut(n).zip(sums.chunks_exact(n));
                for ((output, sums), left) in results.zip(left.chunks_exact(self.k)) {
                    let correction = self.correction(left);
                    for (output, sum) in output.iter_mut().zip(sums) {
                        let sum = sum.to_bits() as i32;
                        *output = self.stage.apply(0, sum.wrapping_sub(correction));
                    }
                }
            }
        };
        let parts = parallel::parts(layout.isa, threads, rows, output.len() * self.k);
        parallel::split_rows(parts, 0..rows, n, output, sums, &part);
    }

    /// What the right operand's zero point takes from the sums of a row.
    fn correction(&self, left: &[i8]) -> i32 {
        if self.right_zero_point == 0 {
            return 0;
        }
        let zero_point = i32::from(self.left_zero_point);
        let sum = wrapping_sum(left.iter().map(|&x| i32::from(x) - zero_point));
        sum.wrapping_mul(self.right_zero_point.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Requantize;
    use crate::testing::{Random, assert_close, in_pool};

    const SHAPES: [(usize, usize, usize); 5] = [
        (1, 1, 1),
        (7, 5, 3),
        (50, 16, 50),
        (19, 67, 130),
        (33, 64, 48),
    ];

    fn transposed<T: Copy>(data: &[T], n: usize) -> Vec<T> {
        (0..data.len())
            .map(|i| data[i % (data.len() / n) * n + i / (data.len() / n)])
            .collect()
    }

    #[test]
    fn float_equals_the_direct_sum_in_either_order() {
        in_pool(|| {
            let mut random = Random(10);
            for (m, k, n) in SHAPES {
                let (left, right) = (random.f32s(m * k), random.f32s(k * n));
                let sum = |i: usize| {
                    let terms = (0..k).map(|e| left[i / n * k + e] * right[e * n + i % n]);
                    terms.sum::<f32>()
                };
                let expected: Vec<f32> = (0..m * n).map(sum).collect();
                let orders = [
                    (Order::Rows, right.clone()),
                    (Order::Columns, transposed(&right, n)),
                ];
                for isa in Isa::all() {
                    for (order, right) in &orders {
                        let product = MatMulF32::new(isa, (n, k));
                        let mut packed = vec![f32::NAN; product.packed_len()];
                        product.pack(right, *order, &mut packed);
                        let mut output = vec![f32::NAN; m * n];
                        product.run(&left, &packed, &mut output, 2);
                        assert_close(&output, &expected, &format!("{isa:?}, {order:?}"));
                    }
                }
            }
        });
    }

    #[test]
    fn int8_equals_the_direct_sum_for_any_zero_point() {
        in_pool(|| {
            let mut random = Random(11);
            for (m, k, n) in SHAPES {
                let (left, right) = (random.i8s(m * k), random.i8s(k * n));
                for (zero_point, right_zero_point) in [(0, 0), (-128, 0), (5, -100)] {
                    let stage = OutputStage {
                        requantize: Requantize::Float { scale: vec![1e-3] },
                        zero_point: 3,
                        min: -128,
                        max: 127,
                    };
                    let term = |i: usize, e: usize| {
                        (i32::from(left[i / n * k + e]) - i32::from(zero_point))
                            * (i32::from(right[e * n + i % n]) - i32::from(right_zero_point))
                    };
                    let expected: Vec<i8> = (0..m * n)
                        .map(|i| stage.apply(0, (0..k).map(|e| term(i, e)).sum()))
                        .collect();
                    for isa in Isa::all() {
                        let product =
                            MatMulI8::new(isa, (n, k), zero_point, right_zero_point, stage.clone());
                        let (weights, bias) = product.packed_len();
                        let (mut weights, mut bias) = (vec![9; weights], vec![9; bias]);
                        product.pack(&right, Order::Rows, &mut weights, &mut bias);
                        let (stored, sums) = product.scratch_len(m, 2);
                        let (mut stored, mut sums) = (vec![9; stored], vec![9.0; sums]);
                        let mut output = vec![0; m * n];
                        product.run(
                            &left,
                            (&weights, &bias),
                            &mut output,
                            (&mut stored, &mut sums),
                            2,
                        );
                        assert_eq!(output, expected, "{isa:?}, {zero_point}");
                    }
                }
            }
        });
    }
}
