//! How an operator becomes integer, as data.

use crate::quant::PerTensor;

/// What an operand means for quantization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Data: quantized per tensor from its calibrated range; a constant from its own.
    Activation,
    /// Constant weights: int8, symmetric, with a scale for each index of the axis, or one.
    Weights {
        /// The axis of the scales; `None` for one scale.
        axis: Option<usize>,
    },
    /// Constant bias with the scale of operand `input` times that of operand `weights`: int32 where
    /// activations are int8, int64 where they are int16.
    Bias {
        /// The index of the activation operand.
        input: usize,
        /// The index of the weights operand.
        weights: usize,
    },
    /// Constant weights that multiply int16: int16, symmetric, one scale.
    WideWeights {
        /// The integer of the largest.
        largest: i32,
    },
    /// Constant bias of a gate that may be normalized: int32 with the scale of the coefficients at
    /// operand `norm` over 1024 where those are given, otherwise as [`Role::Bias`].
    NormBias {
        /// The index of the activation operand.
        input: usize,
        /// The index of the weights operand.
        weights: usize,
        /// The index of the coefficients of layer normalization.
        norm: usize,
    },
    /// Constant bias: int32 with the scale of an intermediate times that of operand `weights`.
    HiddenBias {
        /// The index of the intermediate.
        intermediate: usize,
        /// The index of the weights operand.
        weights: usize,
    },
    /// A variable that keeps what result `output` was: it has its parameters.
    State {
        /// The index of the result.
        output: usize,
    },
    /// A variable of int16, symmetric.
    WideState,
    /// The same with a scale that is a power of two; calibration sees its values in an
    /// intermediate beyond those of the format.
    CellState {
        /// The index of that intermediate.
        intermediate: usize,
    },
    /// Constant indices of which no two name the same place: int8 that meet there would be added
    /// and wrap.
    DistinctPlaces,
    /// Indices, shapes and the like: left as they are.
    Plain,
}

/// What an intermediate of an integer operator means for quantization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intermediate {
    /// Int16, symmetric, from its calibrated range, where operand `norm` is given; otherwise left
    /// without parameters.
    Wide {
        /// The index of the operand.
        norm: usize,
    },
    /// Int8: from its calibrated range where operand `projection` is given; otherwise it is
    /// result `output` and has its parameters.
    Hidden {
        /// The index of the operand.
        projection: usize,
        /// The index of the result.
        output: usize,
    },
}

/// Where the parameters of an operator's results come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Results {
    /// The calibrated range of each.
    Calibrated,
    /// All activations and results share one scale and zero point; a result that is no float (the
    /// places beside the largest elements) stays as it is.
    SameAsInputs,
    /// The same with zero point 0, because the kernel also writes zeros, as they are stored.
    SymmetricAsInputs,
    /// Given by the kernel, for int8.
    Fixed(PerTensor),
    /// Not quantized: indices and the like.
    Plain,
}

/// How an operator becomes integer; `None` from [`Operator::quant_rule`](super::Operator::quant_rule) means that it cannot.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantRule {
    /// The role of each operand; further operands have the role of the last.
    pub roles: Vec<Role>,
    /// Where the results' parameters come from.
    pub results: Results,
}

impl QuantRule {
    /// Operands with `roles`, results with calibrated ranges.
    pub fn calibrated(roles: impl Into<Vec<Role>>) -> Option<Self> {
        Some(Self {
            roles: roles.into(),
            results: Results::Calibrated,
        })
    }

    /// Operands with `roles`; activations and results share their parameters.
    pub fn same(roles: impl Into<Vec<Role>>) -> Option<Self> {
        Some(Self {
            roles: roles.into(),
            results: Results::SameAsInputs,
        })
    }

    /// Operands with `roles`; activations and results share their parameters, with zero point 0.
    pub fn symmetric(roles: impl Into<Vec<Role>>) -> Option<Self> {
        Some(Self {
            roles: roles.into(),
            results: Results::SymmetricAsInputs,
        })
    }

    /// One activation; results with the scale and zero point that the kernel demands.
    pub fn fixed(scale: f32, zero_point: i32) -> Option<Self> {
        Some(Self {
            roles: vec![Role::Activation],
            results: Results::Fixed(PerTensor::new(scale, zero_point)),
        })
    }

    /// The role of the operand at `index`.
    pub fn role(&self, index: usize) -> Role {
        self.roles
            .get(index)
            .or(self.roles.last())
            .copied()
            .unwrap_or(Role::Plain)
    }
}
