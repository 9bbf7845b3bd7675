//! `L2_NORMALIZATION`: `output = x / sqrt(sum(x^2))` over the last axis.
//!
//! One operand of at least one dimension: float32, int8 or uint8. The result of int8 has scale
//! 1/128 and zero point 0, that of uint8 128.

use super::fixed_point::inverse_sqrt;
use super::pointwise::{Element, limits, parameters, unary_shapes, unary_type};
use super::{Activation, Attributes, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `L2_NORMALIZATION`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct L2Normalization {
    /// Kept, but no kernel fuses one.
    pub activation: Activation,
}

impl Attributes for L2Normalization {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_l2_norm_options().cloned().unwrap_or_default();
        Ok(Self {
            activation: Activation::from_code(options.fused_activation_function),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::L2NormOptions(Box::new(tfl::L2NormOptionsT {
            fused_activation_function: self.activation.code(),
        }))
    }
}

impl Operator for L2Normalization {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::fixed(1.0 / 128.0, 0)
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        if self.activation != Activation::None {
            return Err(OpError::Attribute(format!(
                "no kernel fuses activation {:?}",
                self.activation
            )));
        }
        let depth = *io
            .input(0)?
            .shape
            .last()
            .ok_or_else(|| OpError::Shape("a scalar has no axis to normalize over".into()))?;
        match unary_type(io)? {
            DType::F32 => Ok(prepare_f32(depth.max(1))),
            DType::I8 => prepare_quantized::<i8>(io, depth.max(1)),
            DType::U8 => prepare_quantized::<u8>(io, depth.max(1)),
            _ => Err(io.unsupported(0)),
        }
    }
}

fn prepare_f32(depth: usize) -> Kernel {
    const SMALLEST_NORM: f32 = 1e-6;
    Kernel::new(move |run| {
        let parts = run.parts::<f32>(0);
        let rows = parts.inputs.get::<f32>(0).chunks_exact(depth);
        for (row, out) in rows.zip(parts.output.chunks_exact_mut(depth)) {
            let squares: f32 = row.iter().map(|x| x * x).sum();
            let norm = squares.sqrt().max(SMALLEST_NORM);
            for (out, x) in out.iter_mut().zip(row) {
                *out = x / norm;
            }
        }
    })
}

/// LiteRT's fixed point; the operand's scale plays no part.
fn prepare_quantized<T: Element>(io: &Signature, depth: usize) -> Result<Kernel, OpError> {
    const STEPS_LOG2: i32 = 7;
    let dtype = unary_type(io)?;
    let (min, max) = limits(dtype).ok_or_else(|| io.unsupported(0))?;
    // The kernel of uint8 multiplies before it rounds, that of int8 shifts after.
    let (before, after) = match dtype {
        DType::U8 => (STEPS_LOG2, 0),
        _ => (0, STEPS_LOG2),
    };
    let zero_point = parameters(io.input(0)?)?.zero_point;
    let middle = (min + max + 1) / 2;
    let output = parameters(io.output(0)?)?;
    if (output.scale, output.zero_point) != (1.0 / 128.0, middle) {
        return Err(OpError::Quantization(format!(
            "output scale {} and zero point {} where the kernel gives 1/128 and {middle}",
            output.scale, output.zero_point
        )));
    }
    Ok(Kernel::new(move |run| {
        let parts = run.parts::<T>(0);
        let rows = parts.inputs.get::<T>(0).chunks_exact(depth);
        for (row, out) in rows.zip(parts.output.chunks_exact_mut(depth)) {
            let centered = |x: T| x.into() - zero_point;
            let squares = row.iter().map(|&x| centered(x) * centered(x));
            let mut inverse = inverse_sqrt(squares.fold(0, i32::wrapping_add));
            inverse.exponent += after;
            for (out, &x) in out.iter_mut().zip(row) {
                *out = T::from_i32((inverse.apply(centered(x) << before) + middle).clamp(min, max));
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn f32_rows_have_length_one() {
        let input = Case::f32([2, 2], [3.0, -4.0, 0.0, 0.0]);
        let output = eval(
            L2Normalization::default(),
            &[input],
            Case::result(DType::F32),
        );
        assert_eq!(output.get::<f32>(), [0.6, -0.8, 0.0, 0.0]);
    }

    #[test]
    fn i8_and_u8_rows_have_length_one() {
        let input = Case::i8([2, 2], [30, -40, 0, 0]).quantized(0.3, 0);
        let output = Case::result(DType::I8).quantized(1.0 / 128.0, 0);
        let output = eval(L2Normalization::default(), &[input], output);
        assert_eq!(output.get::<i8>(), [77, -102, 0, 0]);
        let input = Case::new(DType::U8, [1, 2], &[130u8, 60]).quantized(0.3, 100);
        let output = Case::result(DType::U8).quantized(1.0 / 128.0, 128);
        let output = eval(L2Normalization::default(), &[input], output);
        assert_eq!(output.get::<u8>(), [205, 26]);
    }

    #[test]
    fn rejects_scalars_and_other_results() {
        let op = L2Normalization::default();
        let io = signature(&[Case::f32([], [1.0])], &[Case::result(DType::F32)]);
        assert!(matches!(op.prepare(&io), Err(OpError::Shape(_))));
        let input = Case::i8([1], [1]).quantized(1.0, 0);
        let io = signature(&[input], &[Case::result(DType::I8).quantized(0.5, 0)]);
        assert!(matches!(op.prepare(&io), Err(OpError::Quantization(_))));
    }
}
