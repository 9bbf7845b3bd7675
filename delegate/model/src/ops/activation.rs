//! The activation that an operator fuses: a clamp of its result.

use super::OpError;
use crate::quant::PerTensor;
use crate::schema::tfl;

/// A fused activation, as the options of an operator name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// None.
    #[default]
    None,
    /// Below 0 becomes 0.
    Relu,
    /// Clamped to -1..=1.
    ReluN1To1,
    /// Clamped to 0..=6.
    Relu6,
    /// Hyperbolic tangent; kept, but no kernel fuses it.
    Tanh,
    /// The sign bit; kept, but no kernel fuses it.
    SignBit,
    /// A number that the format does not define; kept, but no kernel fuses it.
    Other(i8),
}

impl Activation {
    /// The activation with the format's number `code`.
    pub fn from_code(code: tfl::ActivationFunctionType) -> Self {
        match code {
            tfl::ActivationFunctionType::NONE => Self::None,
            tfl::ActivationFunctionType::RELU => Self::Relu,
            tfl::ActivationFunctionType::RELU_N1_TO_1 => Self::ReluN1To1,
            tfl::ActivationFunctionType::RELU6 => Self::Relu6,
            tfl::ActivationFunctionType::TANH => Self::Tanh,
            tfl::ActivationFunctionType::SIGN_BIT => Self::SignBit,
            other => Self::Other(other.0),
        }
    }

    /// The activation's number in the format.
    pub fn code(self) -> tfl::ActivationFunctionType {
        match self {
            Self::None => tfl::ActivationFunctionType::NONE,
            Self::Relu => tfl::ActivationFunctionType::RELU,
            Self::ReluN1To1 => tfl::ActivationFunctionType::RELU_N1_TO_1,
            Self::Relu6 => tfl::ActivationFunctionType::RELU6,
            Self::Tanh => tfl::ActivationFunctionType::TANH,
            Self::SignBit => tfl::ActivationFunctionType::SIGN_BIT,
            Self::Other(code) => tfl::ActivationFunctionType(code),
        }
    }

    /// An error for what is not a clamp. A float kernel calls this before [`Self::range_f32`];
    /// [`Self::range`] does it itself.
    pub fn check(self) -> Result<(), OpError> {
        match self {
            Self::None | Self::Relu | Self::ReluN1To1 | Self::Relu6 => Ok(()),
            _ => Err(OpError::Attribute(format!(
                "no kernel fuses activation {self:?}"
            ))),
        }
    }

    /// The smallest and largest float result; without bounds for what [`Self::check`] refuses.
    pub fn range_f32(self) -> (f32, f32) {
        match self {
            Self::Relu => (0.0, f32::INFINITY),
            Self::ReluN1To1 => (-1.0, 1.0),
            Self::Relu6 => (0.0, 6.0),
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }

    /// The smallest and largest integer result of a tensor with the parameters `output`, whose
    /// type holds `type_min..=type_max`: LiteRT's `CalculateActivationRangeQuantized`.
    ///
    /// The first never exceeds the second. A zero point that the type cannot hold is an error,
    /// and so is a bound that does not fit 32 bits.
    pub fn range(
        self,
        output: PerTensor,
        type_min: i32,
        type_max: i32,
    ) -> Result<(i32, i32), OpError> {
        self.check()?;
        clamp_range(self.range_f32(), output, type_min, type_max)
    }
}

/// The smallest and largest integer of a clamp to the real values `low..=high`, either of which
/// may be infinite; see [`Activation::range`].
pub(super) fn clamp_range(
    (low, high): (f32, f32),
    output: PerTensor,
    type_min: i32,
    type_max: i32,
) -> Result<(i32, i32), OpError> {
    if !(type_min..=type_max).contains(&output.zero_point) {
        return Err(OpError::Quantization(format!(
            "zero point {} is not in {type_min}..={type_max}",
            output.zero_point
        )));
    }
    let quantize = |real: f32, unbounded: i32| {
        if real.is_infinite() {
            return Ok(unbounded);
        }
        let steps = (real / output.scale).round();
        // 2^31 is the first float above what an i32 holds.
        if !(-2147483648.0..2147483648.0).contains(&steps) {
            return Err(OpError::Quantization(format!(
                "activation bound {real} does not fit 32 bits at scale {}",
                output.scale
            )));
        }
        Ok((steps as i32).saturating_add(output.zero_point))
    };
    let (low, high) = (quantize(low, type_min)?, quantize(high, type_max)?);
    Ok((low.max(type_min), high.min(type_max)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clamps_from_the_zero_point() {
        let output = PerTensor::new(0.05, -10);
        assert_eq!(Activation::None.range(output, -128, 127), Ok((-128, 127)));
        assert_eq!(Activation::Relu.range(output, -128, 127), Ok((-10, 127)));
        assert_eq!(Activation::Relu6.range(output, -128, 127), Ok((-10, 110)));
        assert_eq!(
            Activation::ReluN1To1.range(output, -128, 127),
            Ok((-30, 10))
        );
    }

    #[test]
    fn clamps_stay_inside_the_type() {
        let output = PerTensor::new(0.01, 255);
        assert_eq!(Activation::Relu6.range(output, 0, 255), Ok((255, 255)));
    }

    #[test]
    fn rejects_bounds_that_overflow() {
        let error = |output| Activation::Relu6.range(output, -128, 127).unwrap_err();
        assert!(matches!(
            error(PerTensor::new(1e-9, 0)),
            OpError::Quantization(_)
        ));
        assert!(matches!(
            error(PerTensor::new(1.0, 200)),
            OpError::Quantization(_)
        ));
    }

    #[test]
    fn keeps_codes_that_no_kernel_fuses() {
        for code in [4, 5, 77] {
            let activation = Activation::from_code(tfl::ActivationFunctionType(code));
            assert_eq!(activation.code().0, code);
            assert!(matches!(activation.check(), Err(OpError::Attribute(_))));
        }
    }
}
