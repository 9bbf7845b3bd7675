//! `REDUCE_PROD`: the product over some axes.
//!
//! Input of any shape, axes a constant; the axes vanish, or stay with size 1. Products of int32 and int64 wrap. Quantized
//! products are rescaled after each factor by `input scale / output scale ^ (1 / number of factors)`, with the 16-bit
//! multiplier of 64-bit accumulators; int16 and int8 alike.

use bantam_kernels::Multiplier;

use super::pointwise::{Element, multiplier, parameters};
use super::reduction::{self, Reduction};
use super::{Attributes, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `REDUCE_PROD`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReduceProd {
    /// Whether reduced axes stay, with size 1.
    pub keep_dims: bool,
}

const INPUT: usize = 0;

impl Attributes for ReduceProd {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        Ok(Self {
            keep_dims: reduction::read(options),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        reduction::write(self.keep_dims)
    }
}

/// An accumulator that has no factor yet; no rescaled product is as small.
const NONE: i64 = i64::MIN;

fn quantized<T: Element>(
    io: &Signature,
    reduction: Reduction,
    (min, max): (i32, i32),
) -> Result<Kernel, OpError> {
    let (input, output) = (parameters(io.input(INPUT)?)?, parameters(io.output(0)?)?);
    if reduction.count() == 0 {
        return Err(OpError::Shape("product of no elements".into()));
    }
    let root = f64::from(output.scale).powf(1.0 / reduction.count() as f64);
    let scale: Multiplier = multiplier(f64::from(input.scale) / root)?;
    let results = io.output(0)?.len();
    let scratch = results.checked_mul(size_of::<i64>());
    let scratch = scratch.ok_or_else(|| OpError::Shape(format!("{results} products")))?;
    Ok(Kernel::with_scratch(scratch, move |run| {
        let parts = run.parts::<T>(0);
        let products: &mut [i64] = bytemuck::cast_slice_mut(&mut parts.scratch[..scratch]);
        products.fill(NONE);
        reduction.fold(parts.inputs.get(INPUT), products, |product, x: T| {
            let factor = i64::from(x.into() - input.zero_point);
            match product {
                NONE => factor,
                product => scale.apply_i64(product * factor).into(),
            }
        });
        let output_zero_point = output.zero_point;
        for (output, &product) in parts.output.iter_mut().zip(&*products) {
            let rescaled = scale.apply_i64(product).saturating_add(output_zero_point);
            *output = T::from_i32(rescaled.clamp(min, max));
        }
    }))
}

impl Operator for ReduceProd {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(vec![Reduction::new(io, self.keep_dims)?.shape()])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated(reduction::ROLES)
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.optional_input(INPUT).map(|input| input.dtype) {
            Some(DType::I8 | DType::I16) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let reduction = Reduction::new(io, self.keep_dims)?;
        match io.common_dtype(INPUT)? {
            DType::F32 => Ok(reduction.kernel(1.0f32, |product, x| product * x)),
            DType::I32 => Ok(reduction.kernel(1i32, i32::wrapping_mul)),
            DType::I64 => Ok(reduction.kernel(1i64, i64::wrapping_mul)),
            DType::I8 => quantized::<i8>(io, reduction, (-128, 127)),
            DType::I16 => quantized::<i16>(io, reduction, (-32768, 32767)),
            _ => Err(io.unsupported(INPUT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn int32_wraps() {
        let inputs = [
            Case::i32([2, 2], [1 << 30, 3, 2, 5]),
            Case::i32([1], [0]).constant(),
        ];
        assert_eq!(
            eval(ReduceProd::default(), &inputs, Case::result(DType::I32)).get::<i32>(),
            [i32::MIN, 15]
        );
    }

    #[test]
    fn int8_multiplies_real_values() {
        // (1.0 * -1.5, 2.0 * 3.0) in steps of 0.25.
        let input = Case::i8([2, 2], [3, -2, 5, 7]).quantized(0.5, 1);
        let inputs = [input, Case::i32([1], [-1]).constant()];
        let output = eval(
            ReduceProd::default(),
            &inputs,
            Case::result(DType::I8).quantized(0.25, 2),
        );
        assert_eq!(output.get::<i8>(), [-4, 26]);
    }

    #[test]
    fn rejects_types_without_a_kernel() {
        let inputs = [
            Case::new(DType::Bool, [1], &[1u8]),
            Case::i32([1], [0]).constant(),
        ];
        let io = signature(&inputs, &[Case::result(DType::Bool)]);
        assert!(matches!(
            ReduceProd::default().prepare(&io),
            Err(OpError::UnsupportedType { .. })
        ));
    }
}
