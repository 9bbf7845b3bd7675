//! `MUL`: `output = activation(a * b)`.
//!
//! Operands of any shapes that broadcast to each other. Quantized operands and results may all
//! have scales of their own.

use super::arithmetic::{Plain, prepare_plain};
use super::broadcast::{binary, binary_shapes, binary_type};
use super::pointwise::{Element, limits, multiplier, parameters, round_ties_even};
use super::{Activation, Attributes, Numerics, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `MUL`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mul {
    /// Applied to the product.
    pub activation: Activation,
}

impl Attributes for Mul {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_mul_options().cloned().unwrap_or_default();
        Ok(Self {
            activation: Activation::from_code(options.fused_activation_function),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::MulOptions(Box::new(tfl::MulOptionsT {
            fused_activation_function: self.activation.code(),
        }))
    }
}

impl Plain for Mul {
    fn f32(a: f32, b: f32) -> f32 {
        a * b
    }

    fn i64(a: i64, b: i64) -> i64 {
        a.wrapping_mul(b)
    }
}

impl Operator for Mul {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        binary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn version(&self, io: &Signature) -> i32 {
        let Ok(a) = io.input(0) else { return 1 };
        match a.dtype {
            DType::U32 => 7,
            DType::I16 if a.quantization.is_none() => 7,
            DType::Complex64 => 6,
            DType::I64 => 5,
            DType::I16 => 4,
            _ if product_scale(io).is_ok_and(|scale| scale >= 1.0) => 3,
            DType::I8 => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        if let Some(kernel) = prepare_plain::<Self>(io, self.activation)? {
            return Ok(kernel);
        }
        match binary_type(io)? {
            DType::I8 => self.prepare_quantized::<i8>(io),
            DType::U8 => self.prepare_quantized::<u8>(io),
            DType::I16 => self.prepare_quantized::<i16>(io),
            _ => Err(io.unsupported(0)),
        }
    }
}

/// The real value of one step of the raw product, in steps of the result; in float as in LiteRT.
fn product_scale(io: &Signature) -> Result<f32, OpError> {
    let (a, b) = (io.input(0)?.per_tensor()?, io.input(1)?.per_tensor()?);
    Ok(a.scale * b.scale / io.output(0)?.per_tensor()?.scale)
}

impl Mul {
    fn prepare_quantized<T: Element>(&self, io: &Signature) -> Result<Kernel, OpError> {
        let dtype = binary_type(io)?;
        let (type_min, type_max) = limits(dtype).ok_or_else(|| io.unsupported(0))?;
        let zero_a = parameters(io.input(0)?)?.zero_point;
        let zero_b = parameters(io.input(1)?)?.zero_point;
        let output = parameters(io.output(0)?)?;
        let (min, max) = self.activation.range(output, type_min, type_max)?;
        let zero_output = output.zero_point;
        let scale = product_scale(io)?;

        // XNNPACK leaves other ratios, and int16, to the reference's arithmetic.
        let fits = dtype != DType::I16 && (1.0 / 65536.0..256.0).contains(&scale);
        if io.numerics == Numerics::Fast && fits {
            let (low, high) = ((min - zero_output) as f32, (max - zero_output) as f32);
            return binary(io, move |x: T, y: T| {
                let product = (x.into() - zero_a) * (y.into() - zero_b);
                let scaled = (product as f32 * scale).max(low).min(high);
                T::from_i32(round_ties_even(scaled) + zero_output)
            });
        }
        let scale = multiplier(f64::from(scale))?;
        binary(io, move |x: T, y: T| {
            let scaled = scale.apply((x.into() - zero_a).wrapping_mul(y.into() - zero_b));
            T::from_i32(scaled.wrapping_add(zero_output).clamp(min, max))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, eval_with, signature};

    #[test]
    fn f32_multiplies_by_a_scalar_and_clamps() {
        let op = Mul {
            activation: Activation::Relu6,
        };
        let operands = [Case::f32([3], [1.0, -2.0, 3.0]), Case::f32([], [2.5])];
        let output = eval(op, &operands, Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [2.5, 0.0, 6.0]);
    }

    #[test]
    fn i8_rounds_ties_by_numerics() {
        // 5 · 1 at half the output's scale: 2.5 steps.
        let product = |numerics| {
            let operands = [5, 1].map(|x| Case::i8([1], [x]).quantized(1.0, 0));
            let output = Case::result(DType::I8).quantized(2.0, 0);
            eval_with(numerics, Mul::default(), &operands, &[output])[0].get::<i8>()
        };
        assert_eq!(product(Numerics::Reference), [3]);
        assert_eq!(product(Numerics::Fast), [2]);
    }

    #[test]
    fn i64_wraps_on_overflow() {
        let operands = [i64::MAX, 2].map(|x| Case::new(DType::I64, [1], &[x]));
        let output = eval(Mul::default(), &operands, Case::result(DType::I64));
        assert_eq!(output.get::<i64>(), [-2]);
    }

    #[test]
    fn rejects_a_ratio_of_scales_that_overflows() {
        let operands = [1, 1].map(|x| Case::i8([1], [x]).quantized(1e30, 0));
        let io = signature(&operands, &[Case::result(DType::I8).quantized(1.0, 0)]);
        assert!(matches!(
            Mul::default().prepare(&io),
            Err(OpError::Quantization(_))
        ));
    }
}
