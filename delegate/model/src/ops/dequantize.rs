//! `DEQUANTIZE`: integers to the real values they stand for, or binary16 to binary32.
//!
//! One operand of any shape: quantized per tensor or per axis, or float16. The result is float32.

use half::f16;

use super::pointwise::{map, map_bytes, parameters, tabulate, unary_shapes};
use super::{Attributes, OpError, Operator, Signature, Value};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape, element_count};

/// `DEQUANTIZE` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Dequantize;

no_attributes!(Dequantize, DequantizeOptions);

impl Operator for Dequantize {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn version(&self, io: &Signature) -> i32 {
        let Ok(input) = io.input(0) else { return 1 };
        match input.dtype {
            DType::I4 => 6,
            DType::I16 | DType::F16 => 3,
            DType::I8 if is_per_axis(input) => 5,
            DType::I8 => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let input = io.input(0)?;
        if io.output(0)?.dtype != DType::F32 {
            return Err(OpError::UnsupportedType {
                what: "output 0".into(),
                dtype: io.output(0)?.dtype,
            });
        }
        if input.dtype == DType::F16 {
            return Ok(map(|x: u16| f16::from_bits(x).to_f32()));
        }
        if is_per_axis(input) {
            return prepare_per_axis(io, input);
        }
        let from = parameters(input)?;
        let (scale, zero_point) = (f64::from(from.scale), i64::from(from.zero_point));
        let real = move |q: i32| (scale * (i64::from(q) - zero_point) as f64) as f32;
        Ok(match input.dtype {
            dtype @ (DType::I8 | DType::U8) => map_bytes(tabulate(dtype, real)),
            DType::I16 => map(move |q: i16| real(q.into())),
            DType::I32 => map(real),
            _ => return Err(io.unsupported(0)),
        })
    }
}

fn is_per_axis(value: &Value) -> bool {
    value
        .quantization
        .as_ref()
        .is_some_and(|q| q.scale.len() > 1)
}

fn prepare_per_axis(io: &Signature, input: &Value) -> Result<Kernel, OpError> {
    let quantization = input.quantization()?;
    let wrong = |what: String| Err(OpError::Quantization(what));
    let axis = usize::try_from(quantization.axis).unwrap_or(usize::MAX);
    let Some(&len) = input.shape.get(axis) else {
        return wrong(format!(
            "axis {} of shape {:?}",
            quantization.axis, input.shape
        ));
    };
    let scales = quantization.scale.clone();
    if scales.len() != len {
        return wrong(format!("{} scales for an axis of {len}", scales.len()));
    }
    if let Some(scale) = scales.iter().find(|s| !s.is_finite()) {
        return wrong(format!("scale {scale} is not finite"));
    }
    let zero_points: Vec<i64> = match &*quantization.zero_point {
        &[one] => vec![one; len],
        all if all.len() == len => all.to_vec(),
        other => return wrong(format!("{} zero points for an axis of {len}", other.len())),
    };
    let inner = element_count(&input.shape[axis + 1..]).unwrap_or(0).max(1);
    macro_rules! kernel {
        ($type:ty) => {
            Kernel::new(move |run| {
                let parts = run.parts::<f32>(0);
                let rows = parts.inputs.get::<$type>(0).chunks_exact(inner);
                let outs = parts.output.chunks_exact_mut(inner);
                let parameters = scales.iter().zip(&zero_points).cycle();
                for ((row, out), (&scale, &zero_point)) in rows.zip(outs).zip(parameters) {
                    for (out, &q) in out.iter_mut().zip(row) {
                        *out = scale * i64::from(q).wrapping_sub(zero_point) as f32;
                    }
                }
            })
        };
    }
    Ok(match input.dtype {
        DType::I8 => kernel!(i8),
        DType::U8 => kernel!(u8),
        DType::I16 => kernel!(i16),
        DType::I32 => kernel!(i32),
        _ => return Err(io.unsupported(0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn gives_real_values_of_each_type() {
        let result = || Case::result(DType::F32);
        let input = Case::i8([2], [-128, 3]).quantized(0.5, 1);
        assert_eq!(
            eval(Dequantize, &[input], result()).get::<f32>(),
            [-64.5, 1.0]
        );
        let input = Case::new(DType::U8, [1], &[255u8]).quantized(0.5, 1);
        assert_eq!(eval(Dequantize, &[input], result()).get::<f32>(), [127.0]);
        let input = Case::i32([1], [i32::MAX]).quantized(1.0, -1);
        assert_eq!(
            eval(Dequantize, &[input], result()).get::<f32>(),
            [2147483648.0]
        );
    }

    #[test]
    fn widens_binary16() {
        let input = Case::new(DType::F16, [3], &[0x3c00u16, 0x0001, 0xfc00]);
        let output = eval(Dequantize, &[input], Case::result(DType::F32));
        assert_eq!(
            output.get::<f32>(),
            [1.0, 2f32.powi(-24), f32::NEG_INFINITY]
        );
    }

    #[test]
    fn takes_a_scale_for_each_index_of_the_axis() {
        let input = Case::i8([2, 2, 1], [1, 2, 3, 4]).quantized_per_axis(1, [0.5, 10.0]);
        let output = eval(Dequantize, &[input.constant()], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [0.5, 20.0, 1.5, 40.0]);
    }

    #[test]
    fn rejects_scales_that_do_not_fit_the_axis() {
        let prepare = |axis| {
            let input = Case::i8([2, 2], [0; 4]).quantized_per_axis(axis, [1.0; 3]);
            Dequantize.prepare(&signature(&[input], &[Case::result(DType::F32)]))
        };
        assert!(matches!(prepare(1), Err(OpError::Quantization(_))));
        assert!(matches!(prepare(2), Err(OpError::Quantization(_))));
    }
}
