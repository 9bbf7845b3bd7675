//! `CAST`: the same numbers in another type.
//!
//! One operand of any shape. Real to integer truncates, saturates and makes the largest integer of
//! what is not a number; integer to integer keeps the low bits; what is not 0 is true.

use half::{bf16, f16};

use super::pointwise::{map, unary_shapes};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `CAST`; the tensors' types are what counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cast {
    /// The operand's type, as noted by whoever wrote the file.
    pub in_data_type: tfl::TensorType,
    /// The result's type, as noted by whoever wrote the file.
    pub out_data_type: tfl::TensorType,
}

impl Attributes for Cast {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_cast_options().cloned().unwrap_or_default();
        Ok(Self {
            in_data_type: options.in_data_type,
            out_data_type: options.out_data_type,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::CastOptions(Box::new(tfl::CastOptionsT {
            in_data_type: self.in_data_type,
            out_data_type: self.out_data_type,
        }))
    }
}

impl Operator for Cast {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn version(&self, io: &Signature) -> i32 {
        let (Ok(input), Ok(output)) = (io.input(0), io.output(0)) else {
            return 1;
        };
        let either = |dtype| input.dtype == dtype || output.dtype == dtype;
        if either(DType::BF16) {
            7
        } else if input.dtype == DType::I4 {
            6
        } else if either(DType::F64) || either(DType::F16) {
            5
        } else if either(DType::U16) {
            4
        } else if either(DType::I8) {
            3
        } else if either(DType::U32) {
            2
        } else {
            1
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let to = io.output(0)?.dtype;
        let unsupported = || OpError::UnsupportedType {
            what: "output 0".into(),
            dtype: to,
        };
        // One `as` from type to type: each makes a loop that vectorizes.
        macro_rules! from_integer {
            ($type:ty) => {
                from_integer!($type, |x: $type| x)
            };
            ($type:ty, $value:expr) => {{
                let value = $value;
                match to {
                    DType::F32 => map(move |x: $type| value(x) as f32),
                    DType::F64 => map(move |x: $type| value(x) as f64),
                    DType::F16 => map(move |x| f16::from_f32(value(x) as f32).to_bits()),
                    DType::BF16 => map(move |x| bf16::from_f32(value(x) as f32).to_bits()),
                    DType::I8 | DType::U8 => map(move |x: $type| value(x) as u8),
                    DType::I16 | DType::U16 => map(move |x: $type| value(x) as u16),
                    DType::I32 | DType::U32 => map(move |x: $type| value(x) as u32),
                    DType::I64 | DType::U64 => map(move |x: $type| value(x) as u64),
                    DType::Bool => map(move |x: $type| u8::from(value(x) != 0)),
                    _ => return Err(unsupported()),
                }
            }};
        }
        let kernel = match io.input(0)?.dtype {
            DType::F32 => from_real(|x: f32| x.into(), to).ok_or_else(unsupported)?,
            DType::F64 => from_real(|x: f64| x, to).ok_or_else(unsupported)?,
            DType::F16 => {
                from_real(|x: u16| f16::from_bits(x).to_f64(), to).ok_or_else(unsupported)?
            }
            DType::BF16 => {
                from_real(|x: u16| bf16::from_bits(x).to_f64(), to).ok_or_else(unsupported)?
            }
            DType::I8 => from_integer!(i8),
            DType::I16 => from_integer!(i16),
            DType::I32 => from_integer!(i32),
            DType::I64 => from_integer!(i64),
            DType::U8 => from_integer!(u8),
            DType::U16 => from_integer!(u16),
            DType::U32 => from_integer!(u32),
            DType::U64 => from_integer!(u64),
            DType::Bool => from_integer!(u8, |x: u8| u8::from(x != 0)),
            _ => return Err(io.unsupported(0)),
        };
        Ok(kernel)
    }
}

/// From a real type; binary64 holds all values of the others.
fn from_real<A: bytemuck::AnyBitPattern + 'static>(
    real: impl Fn(A) -> f64 + Copy + Send + Sync + 'static,
    to: DType,
) -> Option<Kernel> {
    macro_rules! integer {
        ($type:ty) => {
            map(move |x: A| match real(x) {
                x if x.is_nan() => <$type>::MAX,
                x => x as $type,
            })
        };
    }
    Some(match to {
        DType::F32 => map(move |x: A| real(x) as f32),
        DType::F64 => map(real),
        DType::F16 => map(move |x: A| f16::from_f32(real(x) as f32).to_bits()),
        DType::BF16 => map(move |x: A| bf16::from_f32(real(x) as f32).to_bits()),
        DType::I8 => integer!(i8),
        DType::I16 => integer!(i16),
        DType::I32 => integer!(i32),
        DType::I64 => integer!(i64),
        DType::U8 => integer!(u8),
        DType::U16 => integer!(u16),
        DType::U32 => integer!(u32),
        DType::U64 => integer!(u64),
        DType::Bool => map(move |x: A| u8::from(real(x) != 0.0)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn real_truncates_and_saturates() {
        let input = Case::f32([5], [-1.5, 300.0, -300.0, f32::NAN, 0.5]);
        let cast = |to| {
            eval(
                Cast::default(),
                std::slice::from_ref(&input),
                Case::result(to),
            )
        };
        assert_eq!(cast(DType::I8).get::<i8>(), [-1, 127, -128, 127, 0]);
        assert_eq!(cast(DType::U8).get::<u8>(), [0, 255, 0, 255, 0]);
        assert_eq!(cast(DType::Bool).get::<u8>(), [1; 5]);
    }

    #[test]
    fn integer_keeps_the_low_bits() {
        let input = Case::i32([3], [-1, 256, 0]);
        let cast = |to| {
            eval(
                Cast::default(),
                std::slice::from_ref(&input),
                Case::result(to),
            )
        };
        assert_eq!(cast(DType::U8).get::<u8>(), [255, 0, 0]);
        assert_eq!(cast(DType::I64).get::<i64>(), [-1, 256, 0]);
        assert_eq!(cast(DType::F16).get::<u16>(), [0xbc00, 0x5c00, 0]);
        assert_eq!(cast(DType::Bool).get::<u8>(), [1, 1, 0]);
    }

    #[test]
    fn rejects_strings() {
        let io = signature(&[Case::i32([1], [1])], &[Case::result(DType::String)]);
        assert!(matches!(
            Cast::default().prepare(&io),
            Err(OpError::UnsupportedType { .. })
        ));
    }
}
