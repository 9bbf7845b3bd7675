//! What the comparisons share: `EQUAL`, `NOT_EQUAL`, `GREATER`, `GREATER_EQUAL`, `LESS`, `LESS_EQUAL`.

use super::broadcast::binary;
use super::pointwise::{Element, multiplier, parameters};
use super::{OpError, QuantRule, Results, Role, Signature};
use crate::cpu::Kernel;
use crate::tensor::DType;

/// Whether two elements compare so.
pub(super) trait Compare: 'static {
    /// The comparison.
    fn compare<T: PartialOrd>(a: T, b: T) -> bool;
}

/// Operands with scales of their own, and a result that is not quantized.
pub(super) fn quant_rule() -> Option<QuantRule> {
    Some(QuantRule {
        roles: vec![Role::Activation],
        results: Results::Plain,
    })
}

/// The kernel of `EQUAL` and `NOT_EQUAL`, which compare int16 with scales by their real values.
pub(super) fn prepare_equality<C: Compare>(io: &Signature) -> Result<Kernel, OpError> {
    match operand_type(io)? {
        DType::Bool => plain::<C, u8>(io),
        DType::I16 if io.input(0)?.quantization().is_ok() => quantized::<C, i16>(io),
        _ => prepare_order::<C>(io),
    }
}

/// The kernel of the others, which compare int16 as it is.
pub(super) fn prepare_order<C: Compare>(io: &Signature) -> Result<Kernel, OpError> {
    match operand_type(io)? {
        DType::F32 => plain::<C, f32>(io),
        DType::I16 => plain::<C, i16>(io),
        DType::I32 => plain::<C, i32>(io),
        DType::I64 => plain::<C, i64>(io),
        DType::I8 => quantized::<C, i8>(io),
        DType::U8 => quantized::<C, u8>(io),
        _ => Err(io.unsupported(0)),
    }
}

/// The one type of both operands; that of the result must be bool.
fn operand_type(io: &Signature) -> Result<DType, OpError> {
    let dtype = io.input(0)?.dtype;
    if io.input(1)?.dtype != dtype {
        return Err(io.unsupported(1));
    }
    match io.output(0)?.dtype {
        DType::Bool => Ok(dtype),
        output => Err(OpError::UnsupportedType {
            what: "output 0".into(),
            dtype: output,
        }),
    }
}

fn plain<C: Compare, T>(io: &Signature) -> Result<Kernel, OpError>
where
    T: PartialOrd + bytemuck::AnyBitPattern,
{
    binary(io, |a: T, b: T| u8::from(C::compare(a, b)))
}

/// LiteRT's: real values in steps of 1/256, rounded.
fn quantized<C: Compare, T: Element>(io: &Signature) -> Result<Kernel, OpError> {
    const LEFT_SHIFT: u32 = 8;
    let a = parameters(io.input(0)?)?;
    let b = parameters(io.input(1)?)?;
    let (scale_a, scale_b) = (multiplier(a.scale.into())?, multiplier(b.scale.into())?);
    binary(io, move |x: T, y: T| {
        let x = scale_a.apply((x.into() - a.zero_point) << LEFT_SHIFT);
        let y = scale_b.apply((y.into() - b.zero_point) << LEFT_SHIFT);
        u8::from(C::compare(x, y))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Equal, Less, Operator};
    use crate::testing::{Case, eval, signature};

    #[test]
    fn i16_is_compared_by_value_for_equality_only() {
        let case = |scale| Case::new(DType::I16, [1], &[100i16]).quantized(scale, 0);
        let operands = || [case(0.5), case(1.0)];
        let result = || Case::result(DType::Bool);
        assert_eq!(eval(Equal, &operands(), result()).bytes, [0]);
        assert_eq!(eval(Less, &operands(), result()).bytes, [0]);
    }

    #[test]
    fn what_is_not_a_number_equals_nothing() {
        let operands = [f32::NAN; 2].map(|x| Case::f32([1], [x]));
        assert_eq!(eval(Equal, &operands, Case::result(DType::Bool)).bytes, [0]);
    }

    #[test]
    fn rejects_a_result_that_is_not_bool_and_operands_of_two_types() {
        let prepare = |b, output| {
            let io = signature(&[Case::i32([1], [1]), b], &[Case::result(output)]);
            Equal.prepare(&io).unwrap_err()
        };
        let unsupported = |error| matches!(error, OpError::UnsupportedType { .. });
        assert!(unsupported(prepare(Case::i32([1], [1]), DType::I32)));
        assert!(unsupported(prepare(Case::f32([1], [1.0]), DType::Bool)));
    }
}
