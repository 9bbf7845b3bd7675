//! How integers stand for the values of an activation.

use bantam_model::ops::{Operator, QuantRule};
use bantam_model::quant::PerTensor;
use bantam_model::{DType, Quantization};

use crate::calibrate::Range;
use crate::recipe::{IoType, Recipe, Scheme};

/// The integer type of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Width {
    /// Asymmetric, with int32 biases.
    Int8,
    /// Symmetric, with int64 biases.
    Int16,
}

impl Width {
    /// That of the operators with this scheme, if they compute in integers.
    pub fn for_scheme(scheme: Scheme) -> Option<Self> {
        match scheme {
            Scheme::Int8 => Some(Self::Int8),
            Scheme::Int16x8 => Some(Self::Int16),
            _ => None,
        }
    }

    /// That of the activations beside inputs and outputs of this type.
    pub fn of_edge(edge: IoType) -> Option<Self> {
        match edge {
            IoType::F32 => None,
            IoType::I8 | IoType::U8 => Some(Self::Int8),
            IoType::I16 => Some(Self::Int16),
        }
    }

    /// Whether the model's inputs or outputs have this width.
    pub fn is_edge(self, recipe: &Recipe) -> bool {
        [recipe.input_type(), recipe.output_type()]
            .into_iter()
            .any(|edge| Self::of_edge(edge) == Some(self))
    }

    /// How many integers a range has.
    pub fn levels(self) -> u32 {
        match self {
            Self::Int8 => 256,
            Self::Int16 => 65535,
        }
    }

    /// The lowest and the highest integer.
    pub fn limits(self) -> (i32, i32) {
        match self {
            Self::Int8 => (-128, 127),
            Self::Int16 => (-32767, 32767),
        }
    }

    /// The type of activations.
    pub fn dtype(self) -> DType {
        match self {
            Self::Int8 => DType::I8,
            Self::Int16 => DType::I16,
        }
    }

    /// The type of biases.
    pub fn bias_dtype(self) -> DType {
        match self {
            Self::Int8 => DType::I32,
            Self::Int16 => DType::I64,
        }
    }

    /// How `operator` becomes integer.
    pub fn rule(self, operator: &dyn Operator) -> Option<QuantRule> {
        match self {
            Self::Int8 => operator.quant_rule(),
            Self::Int16 => operator.quant_rule_int16(),
        }
    }

    /// The parameters that cover `range`.
    pub fn cover(self, range: Range) -> PerTensor {
        PerTensor::from_range(range.min, range.max, self.dtype())
    }

    /// The same with zero point 0.
    pub fn cover_symmetric(self, range: Range) -> PerTensor {
        let largest = range.max.max(-range.min).max(0.0);
        let around = PerTensor::from_range(-largest, largest, self.dtype());
        match self {
            // From -127 to 127: a step fewer than the asymmetric range has.
            Self::Int8 => PerTensor::new(around.scale * (255.0 / 254.0), 0),
            Self::Int16 => around,
        }
    }
}

/// An integer type, scale and zero point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Encoding {
    pub width: Width,
    pub params: PerTensor,
}

impl Encoding {
    /// What tells it apart from others.
    pub fn key(self) -> (Width, u32, i32) {
        (
            self.width,
            self.params.scale.to_bits(),
            self.params.zero_point,
        )
    }

    /// The element type and parameters of a tensor.
    pub fn describe(self) -> (DType, Option<Quantization>) {
        (self.width.dtype(), Some(self.params.into()))
    }

    /// `values` as bytes.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        let (min, max) = self.width.limits();
        let integers = values.iter().map(|&v| self.params.quantize(v, min, max));
        match self.width {
            Width::Int8 => integers.map(|q| q as i8 as u8).collect(),
            Width::Int16 => integers.flat_map(|q| (q as i16).to_le_bytes()).collect(),
        }
    }
}
