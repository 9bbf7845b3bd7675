//! Which operands are weights, for the modes in which operators compute in float.

use bantam_model::schema::tfl::BuiltinOperator as Code;
use bantam_model::{Node, Op, TensorId};

/// The weights of a kind of operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Weights {
    /// Their operands. All are quantized, or none is.
    pub operands: &'static [usize],
    /// The axis of their scales; `None` for one scale.
    pub axis: Option<usize>,
    /// What a kernel does with int8 weights.
    pub kernel: Int8Kernel,
    /// The lowest version with such a kernel.
    pub version: i32,
}

/// What a kernel with int8 weights and float results does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Int8Kernel {
    /// It takes them as they are, and float operands beside them.
    Hybrid,
    /// The same, but it reads a scale for each index of the axis, even if there is only one.
    HybridPerAxis,
    /// Its result has their type, and has to be made float.
    Copy,
}

const LSTM: &[usize] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16];
const BIDIRECTIONAL_LSTM: &[usize] = &[
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 33, 40, 41,
    42, 43, 44, 45, 46, 47,
];

impl Weights {
    /// Those that `node` has, with their places among its operands.
    pub fn given(self, node: &Node) -> impl Iterator<Item = (usize, TensorId)> + '_ {
        let operands = self.operands.iter();
        operands.filter_map(|&index| Some((index, node.input(index)?)))
    }

    /// Those of `op`, if it has any. As in TensorFlow's converter.
    pub fn of(op: &Op) -> Option<Self> {
        let with = |kernel, operands, axis, version| {
            Some(Self {
                operands,
                axis,
                kernel,
                version,
            })
        };
        let hybrid = |operands, axis, version| with(Int8Kernel::Hybrid, operands, axis, version);
        let convolution =
            |axis, version| with(Int8Kernel::HybridPerAxis, &[1], Some(axis), version);
        match op.code() {
            Code::CONV_2D => convolution(0, 5),
            Code::DEPTHWISE_CONV_2D => convolution(3, 6),
            Code::TRANSPOSE_CONV => hybrid(&[1], Some(0), 2),
            Code::FULLY_CONNECTED => hybrid(&[1], Some(0), 12),
            Code::BATCH_MATMUL => hybrid(&[1], None, 4),
            Code::EMBEDDING_LOOKUP => hybrid(&[1], Some(0), 4),
            Code::LSTM => hybrid(LSTM, None, 4),
            Code::UNIDIRECTIONAL_SEQUENCE_LSTM => hybrid(LSTM, None, 3),
            Code::BIDIRECTIONAL_SEQUENCE_LSTM => hybrid(BIDIRECTIONAL_LSTM, None, 3),
            Code::UNIDIRECTIONAL_SEQUENCE_RNN => hybrid(&[1, 2], None, 3),
            Code::SVDF => hybrid(&[1, 2], None, 4),
            Code::GATHER => with(Int8Kernel::Copy, &[0], None, 1),
            _ => None,
        }
    }
}
