//! `PADV2`: a given value before and after its input, along each axis.
//!
//! As `PAD`, with the value as third operand: one element of the input's type, of the result's
//! scale and zero point.

use super::movement::{element_size, scale_and_zero_point};
use super::pad::{INPUT, interior, pad, padded_shape, version};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `PADV2` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PadV2;

const VALUE: usize = 2;

no_attributes!(PadV2, PadV2Options);

impl Operator for PadV2 {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let value = io.input(VALUE)?;
        if value.len() != 1 {
            return Err(OpError::Shape(format!(
                "padding value of shape {:?}",
                value.shape
            )));
        }
        padded_shape(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain, Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        version(io)
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (value, output) = (io.input(VALUE)?, io.output(0)?);
        element_size(value, output)?;
        let (of, wanted) = (scale_and_zero_point(value), scale_and_zero_point(output));
        if matches!(output.dtype, DType::I8 | DType::U8 | DType::I16) && of != wanted {
            return Err(OpError::Quantization(format!(
                "the padding value has {of:?} where the output has {wanted:?}"
            )));
        }
        let copy = interior(io)?;
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            let (input, value) = (parts.inputs.bytes(INPUT), parts.inputs.bytes(VALUE));
            pad(&copy, input, value, parts.output);
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn pads_with_the_value() {
        let inputs = [
            Case::i32([2], [7, 8]),
            Case::i32([1, 2], [1, 2]).constant(),
            Case::i32([], [300]),
        ];
        let output = eval(PadV2, &inputs, Case::result(DType::I32));
        assert_eq!(output.get::<i32>(), [300, 7, 8, 300, 300]);
    }

    #[test]
    fn rejects_several_values_and_other_scales() {
        let inputs = |value| {
            let paddings = Case::i32([1, 2], [1, 2]).constant();
            [Case::i8([2], [7, 8]).quantized(0.5, 1), paddings, value]
        };
        let result = || [Case::result(DType::I8).quantized(0.5, 1)];
        let two = signature(&inputs(Case::i8([2], [1, 2])), &result());
        assert!(matches!(PadV2.infer_shapes(&two), Err(OpError::Shape(_))));
        let mut other = signature(&inputs(Case::i8([], [1]).quantized(0.25, 1)), &result());
        other.outputs[0].shape = vec![5];
        assert!(matches!(
            PadV2.prepare(&other),
            Err(OpError::Quantization(_))
        ));
    }
}
