//! `BATCH_MATMUL`: the matrix product of the last two dimensions, for each index of the others,
//! which broadcast to each other.
//!
//! Operands `[.., rows, depth]` and `[.., depth, columns]`, each transposed if `adj_x` or `adj_y`
//! says so; the result is `[.., rows, columns]`. Types: float32, int8 and int16 alike for all;
//! float32 with a constant int8 right operand, for which the rows of the left one are quantized.

use bantam_kernels::matmul::{MatMulF32, MatMulI8, Order};
use bantam_kernels::{ConvGeometry, Isa, OutputStage, Quantizer, Requantize, quantize_multiplier};

use super::broadcast::broadcast_shape;
use super::hybrid::{Hybrid, HybridConv};
use super::{Attributes, Numerics, OpError, Operator, QuantRule, Role, Signature, Value};
use crate::cpu::Kernel;
use crate::quant::PerTensor;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `BATCH_MATMUL`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchMatmul {
    /// Whether the left operand is transposed.
    pub adj_x: bool,
    /// Whether the right operand is transposed.
    pub adj_y: bool,
    /// How float inputs are quantized for an int8 right operand.
    pub asymmetric_quantize_inputs: bool,
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

impl Attributes for BatchMatmul {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let o = options
            .as_batch_mat_mul_options()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            adj_x: o.adj_x,
            adj_y: o.adj_y,
            asymmetric_quantize_inputs: o.asymmetric_quantize_inputs,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::BatchMatMulOptions(Box::new(tfl::BatchMatMulOptionsT {
            adj_x: self.adj_x,
            adj_y: self.adj_y,
            asymmetric_quantize_inputs: self.asymmetric_quantize_inputs,
        }))
    }
}

/// The sizes of all products, and which matrices they take.
#[derive(Debug, Clone, PartialEq)]
struct Products {
    rows: usize,
    depth: usize,
    columns: usize,
    /// The dimensions before the last two: of both operands, and of the result.
    left: Shape,
    right: Shape,
    batch: Shape,
}

impl Products {
    /// The left and right matrix that each matrix of the result, `output`, is the product of.
    fn of<'a, T>(
        &'a self,
        output: &'a mut [T],
    ) -> impl Iterator<Item = (&'a mut [T], usize, usize)> {
        output
            .chunks_exact_mut(self.rows * self.columns)
            .enumerate()
            .map(|(index, output)| {
                let [left, right] =
                    [&self.left, &self.right].map(|own| matrix(own, &self.batch, index));
                (output, left, right)
            })
    }
}

/// The dimensions before the last two, and those two.
fn split(value: &Value) -> Result<(&[usize], usize, usize), OpError> {
    match value.shape.as_slice() {
        [batch @ .., a, b] => Ok((batch, *a, *b)),
        shape => Err(OpError::Shape(format!(
            "operand of shape {shape:?} is no matrix"
        ))),
    }
}

/// The index of the matrix of an operand with dimensions `batch` for index `index` of `shape`, to which it broadcasts.
fn matrix(batch: &[usize], shape: &[usize], mut index: usize) -> usize {
    let (mut matrix, mut stride) = (0, 1);
    for (axis, &dimension) in shape.iter().enumerate().rev() {
        let at = index % dimension;
        index /= dimension;
        if let Some(own) = (axis + batch.len()).checked_sub(shape.len()) {
            matrix += if batch[own] == 1 { 0 } else { at * stride };
            stride *= batch[own];
        }
    }
    matrix
}

impl BatchMatmul {
    /// Rows, depth and columns, and the other dimensions of the result.
    fn sizes(&self, io: &Signature) -> Result<([usize; 3], Shape), OpError> {
        let (left, right) = (io.input(LEFT)?, io.input(RIGHT)?);
        let ((left_batch, a, b), (right_batch, c, d)) = (split(left)?, split(right)?);
        let (rows, depth) = if self.adj_x { (b, a) } else { (a, b) };
        let (right_depth, columns) = if self.adj_y { (d, c) } else { (c, d) };
        if depth != right_depth {
            return Err(OpError::Shape(format!(
                "depths {depth} and {right_depth} of {:?} and {:?} differ",
                left.shape, right.shape
            )));
        }
        Ok((
            [rows, depth, columns],
            broadcast_shape(left_batch, right_batch)?,
        ))
    }

    fn products(&self, io: &Signature) -> Result<Products, OpError> {
        let ([rows, depth, columns], batch) = self.sizes(io)?;
        if rows == 0 || depth == 0 || columns == 0 {
            return Err(OpError::Shape(format!(
                "product of {rows} x {depth} by {columns}"
            )));
        }
        let (left, ..) = split(io.input(LEFT)?)?;
        let (right, ..) = split(io.input(RIGHT)?)?;
        Ok(Products {
            rows,
            depth,
            columns,
            left: left.into(),
            right: right.into(),
            batch,
        })
    }

    fn order(&self) -> Order {
        if self.adj_y {
            Order::Columns
        } else {
            Order::Rows
        }
    }

    fn prepare_f32(&self, io: &Signature, p: Products) -> Result<Kernel, OpError> {
        let (order, adj_x) = (self.order(), self.adj_x);
        let product = MatMulF32::new(Isa::best(), (p.columns, p.depth));
        let len = product.packed_len();
        let constant = match &io.input(RIGHT)?.data {
            Some(_) => Some(pack_all(
                &io.input(RIGHT)?.constant()?,
                p.depth * p.columns,
                len,
                |right, packed| {
                    product.pack(right, order, packed);
                },
            )),
            None => None,
        };
        let copied = if constant.is_some() {
            vec![RIGHT]
        } else {
            vec![]
        };
        let threads = io.threads;
        let left_len = if adj_x { p.rows * p.depth } else { 0 };
        Ok(
            Kernel::with_scratch(4 * (len.next_multiple_of(16) + left_len), move |run| {
                let threads = run.threads.min(threads);
                let parts = run.parts::<f32>(0);
                let (left, right) = (
                    parts.inputs.get::<f32>(LEFT),
                    parts.inputs.get::<f32>(RIGHT),
                );
                let (packed, turned) =
                    bytemuck::cast_slice_mut(parts.scratch).split_at_mut(len.next_multiple_of(16));
                let mut last = None;
                for (output, l, r) in p.of(parts.output) {
                    let left = left_matrix(left, l, &p, adj_x, turned);
                    let packed = match &constant {
                        Some(constant) => &constant[r * len..][..len],
                        None => {
                            if last != Some(r) {
                                let size = p.depth * p.columns;
                                product.pack(&right[r * size..][..size], order, &mut packed[..len]);
                                last = Some(r);
                            }
                            &packed[..len]
                        }
                    };
                    product.run(left, packed, output, threads);
                }
            })
            .with_copies_of(copied),
        )
    }

    fn prepare_i8(&self, io: &Signature, p: Products) -> Result<Kernel, OpError> {
        let (order, adj_x) = (self.order(), self.adj_x);
        let q = parameters(io, i8::MIN.into(), i8::MAX.into())?;
        // XNNPACK leaves a right operand with a zero point to the kernels of LiteRT.
        let numerics = if q.right.zero_point == 0 {
            io.numerics
        } else {
            Numerics::Reference
        };
        let stage = OutputStage {
            requantize: match numerics {
                Numerics::Fast => Requantize::Float {
                    scale: vec![q.left.scale * q.right.scale / q.output.scale],
                },
                Numerics::Reference => Requantize::Fixed {
                    multiplier: vec![quantize_multiplier(q.factor)],
                },
            },
            zero_point: q.output.zero_point,
            min: i8::MIN.into(),
            max: i8::MAX.into(),
        };
        let (left_zero, right_zero) = (q.left.zero_point as i8, q.right.zero_point as i8);
        let product = MatMulI8::new(
            Isa::best(),
            (p.columns, p.depth),
            left_zero,
            right_zero,
            stage,
        );
        let threads = io.threads.max(1);
        let ((weights, bias), (stored, sums)) =
            (product.packed_len(), product.scratch_len(p.rows, threads));
        let left_len = if adj_x { p.rows * p.depth } else { 0 };
        let lens =
            [4 * bias, 4 * sums, weights, stored, left_len].map(|len| len.next_multiple_of(64));
        Ok(Kernel::with_scratch(lens.iter().sum(), move |run| {
            let threads = run.threads.min(threads);
            let parts = run.parts::<i8>(0);
            let (left, right) = (parts.inputs.get::<i8>(LEFT), parts.inputs.get::<i8>(RIGHT));
            let mut rest = parts.scratch;
            let [bias_bytes, sums, weight_bytes, stored, turned] = lens.map(|len| {
                let (part, after) = std::mem::take(&mut rest).split_at_mut(len);
                rest = after;
                part
            });
            let bias = &mut bytemuck::cast_slice_mut(bias_bytes)[..bias];
            let weights = &mut bytemuck::cast_slice_mut(weight_bytes)[..weights];
            let sums = bytemuck::cast_slice_mut(sums);
            let turned = bytemuck::cast_slice_mut(turned);
            let mut last = None;
            for (output, l, r) in p.of(parts.output) {
                if last != Some(r) {
                    let size = p.depth * p.columns;
                    product.pack(&right[r * size..][..size], order, weights, bias);
                    last = Some(r);
                }
                let left = left_matrix(left, l, &p, adj_x, turned);
                product.run(left, (weights, bias), output, (stored, sums), threads);
            }
        }))
    }

    fn prepare_i16(&self, io: &Signature, p: Products) -> Result<Kernel, OpError> {
        let (adj_x, adj_y) = (self.adj_x, self.adj_y);
        let multiplier = quantize_multiplier(parameters(io, 0, 0)?.factor);
        let left_len = if adj_x { p.rows * p.depth } else { 0 };
        let right_len = if adj_y { 0 } else { p.depth * p.columns };
        Ok(Kernel::with_scratch(
            2 * (left_len + right_len),
            move |run| {
                let parts = run.parts::<i16>(0);
                let (left, right) = (
                    parts.inputs.get::<i16>(LEFT),
                    parts.inputs.get::<i16>(RIGHT),
                );
                let (turned, turned_right) =
                    bytemuck::cast_slice_mut(parts.scratch).split_at_mut(left_len);
                for (output, l, r) in p.of(parts.output) {
                    let left = left_matrix(left, l, &p, adj_x, turned);
                    let mut right = &right[r * p.depth * p.columns..][..p.depth * p.columns];
                    if !adj_y {
                        transpose(right, p.depth, &mut turned_right[..right_len]);
                        right = &turned_right[..right_len];
                    }
                    for (output, left) in output
                        .chunks_exact_mut(p.columns)
                        .zip(left.chunks_exact(p.depth))
                    {
                        for (y, right) in output.iter_mut().zip(right.chunks_exact(p.depth)) {
                            let products = left
                                .iter()
                                .zip(right)
                                .map(|(&a, &b)| i64::from(i32::from(a) * i32::from(b)));
                            let scaled = multiplier.apply_i64(products.sum());
                            *y = scaled.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
                        }
                    }
                }
            },
        ))
    }

    fn prepare_hybrid(&self, io: &Signature, p: Products) -> Result<Kernel, OpError> {
        let right = io.input(RIGHT)?;
        let weights: Vec<i8> = right.constant()?;
        let scale = match right.quantization()?.symmetric_scales(p.columns)? {
            [scale] => vec![*scale; p.columns],
            scales => scales.to_vec(),
        };
        let quantizer = if self.asymmetric_quantize_inputs {
            Quantizer::Asymmetric
        } else {
            Quantizer::Symmetric
        };
        let rule = Hybrid::new(p.rows, quantizer).rule(io.numerics);
        let geometry = ConvGeometry::product(p.rows, p.depth, p.columns);
        let clamp = (f32::NEG_INFINITY, f32::INFINITY);
        let mut columns = vec![0; p.depth * p.columns];
        let products: Vec<HybridConv> = weights
            .chunks_exact(p.depth * p.columns)
            .map(|weights| {
                if self.adj_y {
                    columns.copy_from_slice(weights);
                } else {
                    transpose(weights, p.depth, &mut columns);
                }
                HybridConv::new(rule, geometry, &columns, &scale, None, clamp)
            })
            .collect();
        let (adj_x, threads) = (self.adj_x, io.threads);
        let left_len = if adj_x {
            (p.rows * p.depth).next_multiple_of(16)
        } else {
            0
        };
        let scratch = products
            .first()
            .map_or(0, |product| product.scratch(threads));
        Ok(Kernel::with_scratch(4 * left_len + scratch, move |run| {
            let threads = run.threads.min(threads);
            let parts = run.parts::<f32>(0);
            let left = parts.inputs.get::<f32>(LEFT);
            let (turned, scratch) = parts.scratch.split_at_mut(4 * left_len);
            let turned = bytemuck::cast_slice_mut(turned);
            for (output, l, r) in p.of(parts.output) {
                products[r].run(
                    left_matrix(left, l, &p, adj_x, turned),
                    output,
                    scratch,
                    threads,
                );
            }
        })
        .with_copies_of([RIGHT]))
    }
}

/// All matrices of `len` elements of a constant, packed to `packed_len` each.
fn pack_all(
    constant: &[f32],
    len: usize,
    packed_len: usize,
    pack: impl Fn(&[f32], &mut [f32]),
) -> Vec<f32> {
    let mut packed = vec![0.0; constant.len() / len * packed_len];
    constant
        .chunks_exact(len)
        .zip(packed.chunks_exact_mut(packed_len))
        .for_each(|(from, to)| pack(from, to));
    packed
}

/// Matrix `index` of the left operand, turned around in `turned` if it is stored transposed.
fn left_matrix<'a, T: Copy>(
    left: &'a [T],
    index: usize,
    p: &Products,
    is_transposed: bool,
    turned: &'a mut [T],
) -> &'a [T] {
    let size = p.rows * p.depth;
    let matrix = &left[index * size..][..size];
    if !is_transposed {
        return matrix;
    }
    transpose(matrix, p.depth, &mut turned[..size]);
    &turned[..size]
}

/// The transposed of a matrix with `rows` rows.
fn transpose<T: Copy>(matrix: &[T], rows: usize, turned: &mut [T]) {
    for (row, elements) in matrix.chunks_exact(matrix.len() / rows).enumerate() {
        for (column, &element) in elements.iter().enumerate() {
            turned[column * rows + row] = element;
        }
    }
}

struct Parameters {
    left: PerTensor,
    right: PerTensor,
    output: PerTensor,
    /// LiteRT's: the scales of the operands are multiplied in float32.
    factor: f64,
}

/// The parameters of all operands, whose zero points have to be in `min..=max`.
fn parameters(io: &Signature, min: i32, max: i32) -> Result<Parameters, OpError> {
    let (left, right) = (
        io.input(LEFT)?.per_tensor()?,
        io.input(RIGHT)?.per_tensor()?,
    );
    let output = io.output(0)?.per_tensor()?;
    if let Some(p) = [left, right, output]
        .iter()
        .find(|p| !(min..=max).contains(&p.zero_point))
    {
        return Err(OpError::Quantization(format!(
            "zero point {} is not in {min}..={max}",
            p.zero_point
        )));
    }
    let factor = f64::from(left.scale * right.scale) / f64::from(output.scale);
    if !factor.is_finite() {
        return Err(OpError::Quantization(format!(
            "scales {} and {} overflow",
            left.scale, right.scale
        )));
    }
    Ok(Parameters {
        left,
        right,
        output,
        factor,
    })
}

impl Operator for BatchMatmul {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let ([rows, _, columns], batch) = self.sizes(io)?;
        Ok(vec![batch.into_iter().chain([rows, columns]).collect()])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        let dtype = |index| io.optional_input(index).map(|v| v.dtype);
        match (dtype(LEFT), dtype(RIGHT)) {
            (Some(DType::F32), Some(DType::I8)) if self.asymmetric_quantize_inputs => 4,
            (Some(DType::I16), _) => 3,
            (Some(DType::I8), _) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let products = self.products(io)?;
        for index in [LEFT, RIGHT] {
            let value = io.input(index)?;
            if value
                .data
                .as_ref()
                .is_some_and(|data| Some(data.len()) != value.dtype.byte_len(&value.shape))
            {
                return Err(OpError::Shape(format!(
                    "constant input {index} does not fill its shape"
                )));
            }
        }
        match (io.common_dtype(LEFT)?, io.input(RIGHT)?.dtype) {
            (DType::F32, DType::F32) => self.prepare_f32(io, products),
            (DType::I8, DType::I8) => self.prepare_i8(io, products),
            (DType::I16, DType::I16) => self.prepare_i16(io, products),
            (DType::F32, DType::I8) => self.prepare_hybrid(io, products),
            (DType::F32 | DType::I8 | DType::I16, _) => Err(io.unsupported(RIGHT)),
            _ => Err(io.unsupported(LEFT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, eval_with, signature};

    #[test]
    fn f32_transposes_either_operand() {
        let left = Case::f32([2, 2], [1.0, 2.0, 3.0, 4.0]);
        let right = Case::f32([2, 1], [1.0, 10.0]);
        let run = |adj_x, adj_y, right: &Case| {
            let op = BatchMatmul {
                adj_x,
                adj_y,
                ..BatchMatmul::default()
            };
            eval(op, &[left.clone(), right.clone()], Case::result(DType::F32)).get::<f32>()
        };
        assert_eq!(run(false, false, &right), [21.0, 43.0]);
        assert_eq!(run(true, false, &right), [31.0, 42.0]);
        assert_eq!(
            run(false, true, &Case::f32([1, 2], [1.0, 10.0])),
            [21.0, 43.0]
        );
        assert_eq!(run(false, false, &right.constant()), [21.0, 43.0]);
    }

    #[test]
    fn batches_broadcast() {
        let left = Case::f32([2, 1, 1, 1], [1.0, 2.0]);
        let right = Case::f32([3, 1, 1], [10.0, 20.0, 30.0]);
        let output = eval(
            BatchMatmul::default(),
            &[left, right],
            Case::result(DType::F32),
        );
        assert_eq!(output.shape, [2, 3, 1, 1]);
        assert_eq!(output.get::<f32>(), [10.0, 20.0, 30.0, 20.0, 40.0, 60.0]);
    }

    #[test]
    fn int8_subtracts_both_zero_points() {
        let left = Case::i8([1, 2], [3, 5]).quantized(1.0, 1);
        let right = Case::i8([2, 1], [7, -2]).quantized(0.5, 2);
        let output = Case::result(DType::I8).quantized(0.5, -1);
        assert_eq!(
            eval(BatchMatmul::default(), &[left, right], output).get::<i8>(),
            [-7]
        );
    }

    #[test]
    fn int16_sums_do_not_overflow() {
        let left = Case::new(DType::I16, [1, 4], &[i16::MIN; 4]).quantized(1.0, 0);
        let right = Case::new(DType::I16, [4, 1], &[i16::MIN; 4]).quantized(1.0, 0);
        let output = Case::result(DType::I16).quantized((1 << 30) as f32, 0);
        assert_eq!(
            eval(BatchMatmul::default(), &[left, right], output).get::<i16>(),
            [4]
        );
    }

    #[test]
    fn hybrid_quantizes_each_row() {
        let left = Case::f32([2, 2], [127.0, 0.0, 0.0, 254.0]);
        let right = Case::i8([2, 1], [2, 3]).quantized(0.5, 0).constant();
        let output = eval_with(
            Numerics::Reference,
            BatchMatmul::default(),
            &[left, right],
            &[Case::result(DType::F32)],
        );
        assert_eq!(output[0].get::<f32>(), [127.0, 381.0]);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let shapes = |left: &[usize], right: &[usize]| {
            let case = |shape: &[usize]| Case::f32(shape, vec![0.0; shape.iter().product()]);
            let io = signature(&[case(left), case(right)], &[Case::result(DType::F32)]);
            BatchMatmul::default().infer_shapes(&io)
        };
        assert!(matches!(shapes(&[2, 3], &[2, 3]), Err(OpError::Shape(_))));
        assert!(matches!(shapes(&[3], &[3, 2]), Err(OpError::Shape(_))));
        assert!(matches!(
            shapes(&[2, 1, 3], &[3, 3, 1]),
            Err(OpError::Shape(_))
        ));
    }
}
