//! The operators: one closed list, one file each.
//!
//! To add one: write `ops/<name>.rs` (attributes, [`Attributes`], [`Operator`], tests) and add
//! its line to the list at the foot of this file.

mod activation;
mod arithmetic;
mod broadcast;
mod comparison;
mod custom;
mod detection_postprocess;
mod extreme;
mod fixed_point;
mod fixed_point_16;
pub(crate) mod flexbuffer;
mod hybrid;
mod lstm_basic;
mod lstm_cell;
mod lstm_integer;
mod movement;
mod non_max_suppression;
mod padding;
mod pointwise;
mod pool_2d;
mod quant_rule;
mod recurrent;
mod reduction;
mod rnn_cell;
mod select_by;
mod sigmoid16;
mod signature;
mod table16;
mod volume;
mod weighted_sum;

use std::fmt;

pub use activation::Activation;
pub use custom::Custom;
pub use padding::Padding;
pub use pool_2d::Pool2d;
pub use quant_rule::{Intermediate, QuantRule, Results, Role};
pub use signature::{Signature, State, Value};
pub use volume::Volume;

use crate::cpu::{Kernel, RunError};
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Which integer arithmetic the CPU path follows; both are exact to the bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numerics {
    /// LiteRT's reference kernels: fixed-point multipliers, rounded twice.
    Reference,
    /// XNNPACK: a float multiplier, ties to even. The default, and the quicker.
    #[default]
    Fast,
}

/// Why an operator cannot be prepared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// A required operand or result is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// The shapes do not fit each other or the attributes.
    #[error("{0}")]
    Shape(String),
    /// There is no kernel for this element type.
    #[error("no kernel for {what} of type {dtype}")]
    UnsupportedType {
        /// Which operand or result.
        what: String,
        /// Its type.
        dtype: DType,
    },
    /// An attribute holds what no kernel can do.
    #[error("{0}")]
    Attribute(String),
    /// The quantization parameters are absent or not usable.
    #[error("quantization: {0}")]
    Quantization(String),
    /// An operand must be a constant, because shapes depend on it.
    #[error("{0} is not a constant, so the output's shape depends on data")]
    NotConstant(String),
    /// An operand must be a variable, because the operator keeps its state there.
    #[error("{0} is not a variable, so there is no place for the state")]
    NotVariable(String),
    /// The operator is one that the CPU path does not run.
    #[error("operator {0} has no kernel on the CPU path")]
    NoKernel(String),
    /// A subgraph that the operator runs does not fit it.
    #[error("{0}")]
    Body(String),
    /// A subgraph that the operator runs cannot be planned.
    #[error("subgraph {subgraph}")]
    Subgraph {
        /// Which.
        subgraph: usize,
        /// Why.
        #[source]
        source: Box<RunError>,
    },
    /// The variable is not in a state that the operator can work with.
    #[error("{0}")]
    Variable(String),
}

/// A subgraph that an operator runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    /// Its number, as in the file.
    pub subgraph: i32,
    /// Its inputs are the operands from this one on.
    pub first_operand: usize,
    /// What its outputs are.
    pub outputs: BodyOutputs,
}

/// What becomes of the outputs of a [`Body`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyOutputs {
    /// They are the operator's results.
    Results,
    /// They are the inputs of the next round and, after the last one, the operator's results.
    NextRound,
    /// One boolean: whether there is another round.
    Condition,
}

/// What an operator keeps between runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory<'a> {
    /// It makes the handle of the variable of this name.
    Handle {
        /// The namespace.
        container: &'a str,
        /// The name in it.
        name: &'a str,
    },
    /// It reads the variable whose handle is its first operand.
    Read,
    /// It writes its second operand into the variable whose handle is its first.
    Write,
    /// It remembers that this subgraph has run.
    Once(i32),
}

/// What the CPU path and the converter need of an operator.
pub trait Operator {
    /// The shapes of the results.
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError>;

    /// How it becomes int8; `None` where there is no integer kernel for it.
    fn quant_rule(&self) -> Option<QuantRule> {
        None
    }

    /// The same with int16 activations (int8 weights, int64 bias); `None` where LiteRT has no
    /// such kernel.
    fn quant_rule_int16(&self) -> Option<QuantRule> {
        None
    }

    /// Why it cannot become int8 with the operands that it has, by their index, where
    /// [`Self::quant_rule`] cannot tell.
    fn quant_obstacle(&self, given: &dyn Fn(usize) -> bool) -> Option<&'static str> {
        let _ = given;
        None
    }

    /// The intermediates that it has when it is int8, as LiteRT's kernel takes them.
    fn quant_intermediates(&self) -> Vec<Intermediate> {
        Vec::new()
    }

    /// The lowest version of the operator that means this on these types.
    fn version(&self, io: &Signature) -> i32;

    /// Resolves everything that does not depend on data; called after `infer_shapes`, whose
    /// shapes are those of the results in `io`. What it returns cannot fail.
    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError>;

    /// The shapes of the intermediates that a float kernel writes where they are observed.
    fn intermediate_shapes(&self, io: &Signature) -> Vec<Shape> {
        let _ = io;
        Vec::new()
    }

    /// The result, where it follows from the operands' shapes alone.
    fn fold(&self, io: &Signature) -> Option<Vec<u8>> {
        let _ = io;
        None
    }

    /// The subgraphs that it runs.
    fn bodies(&self) -> Vec<Body> {
        Vec::new()
    }

    /// What it keeps between runs.
    fn memory(&self) -> Option<Memory<'_>> {
        None
    }
}

/// How an operator's attributes stand in the file's first union of options; reading and then
/// writing loses nothing.
pub trait Attributes: Sized {
    /// From the options in the file.
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError>;
    /// The options for the file.
    fn write(&self) -> tfl::BuiltinOptionsT;
}

/// The same for an operator whose options are in the second union.
pub trait Attributes2: Sized {
    /// From the options in the file.
    fn read(options: &tfl::BuiltinOptions2T) -> Result<Self, OpError>;
    /// The options for the file.
    fn write(&self) -> tfl::BuiltinOptions2T;
}

/// The options of both unions: [`Attributes`] or [`Attributes2`] with nothing in the other.
trait Options: Sized {
    fn from_file(
        first: &tfl::BuiltinOptionsT,
        second: &tfl::BuiltinOptions2T,
    ) -> Result<Self, OpError>;
    fn to_file(&self) -> (tfl::BuiltinOptionsT, tfl::BuiltinOptions2T);
}

impl<T: Attributes> Options for T {
    fn from_file(first: &tfl::BuiltinOptionsT, _: &tfl::BuiltinOptions2T) -> Result<Self, OpError> {
        Self::read(first)
    }

    fn to_file(&self) -> (tfl::BuiltinOptionsT, tfl::BuiltinOptions2T) {
        (self.write(), tfl::BuiltinOptions2T::NONE)
    }
}

impl Options for StablehloComposite {
    fn from_file(
        _: &tfl::BuiltinOptionsT,
        second: &tfl::BuiltinOptions2T,
    ) -> Result<Self, OpError> {
        Self::read(second)
    }

    fn to_file(&self) -> (tfl::BuiltinOptionsT, tfl::BuiltinOptions2T) {
        (tfl::BuiltinOptionsT::NONE, self.write())
    }
}

/// A builtin operator that is kept as it was read, byte for byte of meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Opaque {
    /// Its number in the format.
    pub code: tfl::BuiltinOperator,
    /// Its version.
    pub version: i32,
    /// Its options in the first union.
    pub options: tfl::BuiltinOptionsT,
    /// Its options in the second union.
    pub options_2: tfl::BuiltinOptions2T,
}

/// [`Attributes`] of an operator that has none: the empty table that the format gives it.
macro_rules! no_attributes {
    ($name:ident, $options:ident) => {
        impl Attributes for $name {
            fn read(_: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
                Ok(Self)
            }

            fn write(&self) -> tfl::BuiltinOptionsT {
                tfl::BuiltinOptionsT::$options(Box::default())
            }
        }
    };
}

macro_rules! operators {
    ($($module:ident::$name:ident = $code:ident;)*) => {
        $(pub mod $module;)*
        $(pub use $module::$name;)*

        /// One node's operator and its attributes.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Op {
            $(#[doc = concat!("`", stringify!($code), "`")] $name($name),)*
            /// A builtin operator without a file of its own.
            Opaque(Box<Opaque>),
            /// A custom operator.
            Custom(Box<Custom>),
        }

        impl Op {
            /// The operator with the format's number `code`, version and options.
            pub(crate) fn read(
                code: tfl::BuiltinOperator,
                version: i32,
                options: tfl::BuiltinOptionsT,
                options_2: tfl::BuiltinOptions2T,
            ) -> Result<Self, OpError> {
                match code {
                    $(tfl::BuiltinOperator::$code => Ok(Self::$name($name::from_file(&options, &options_2)?)),)*
                    _ => Ok(Self::Opaque(Box::new(Opaque { code, version, options, options_2 }))),
                }
            }

            /// Its number in the format.
            pub fn code(&self) -> tfl::BuiltinOperator {
                match self {
                    $(Self::$name(_) => tfl::BuiltinOperator::$code,)*
                    Self::Opaque(op) => op.code,
                    Self::Custom(_) => tfl::BuiltinOperator::CUSTOM,
                }
            }

            /// Its options for the file.
            pub(crate) fn options(&self) -> (tfl::BuiltinOptionsT, tfl::BuiltinOptions2T) {
                match self {
                    $(Self::$name(op) => op.to_file(),)*
                    Self::Opaque(op) => (op.options.clone(), op.options_2.clone()),
                    Self::Custom(_) => (tfl::BuiltinOptionsT::NONE, tfl::BuiltinOptions2T::NONE),
                }
            }

            /// What computes it, if we model it.
            pub fn operator(&self) -> Result<&dyn Operator, OpError> {
                match self {
                    $(Self::$name(op) => Ok(op),)*
                    Self::Custom(op) if op.is_known() => Ok(&**op),
                    _ => Err(OpError::NoKernel(self.to_string())),
                }
            }

            /// The subgraphs that it runs.
            pub fn bodies(&self) -> Vec<Body> {
                self.operator().map_or(Vec::new(), |operator| operator.bodies())
            }
        }

        $(impl From<$name> for Op {
            fn from(op: $name) -> Self {
                Self::$name(op)
            }
        })*
    };
}

impl Op {
    /// Sets whether float operands beside int8 weights are quantized asymmetrically, where the
    /// operator has that attribute.
    pub fn set_asymmetric_quantize_inputs(&mut self, value: bool) {
        use tfl::BuiltinOptionsT as Options;
        self.edit_options(|options| {
            *match options {
                Options::FullyConnectedOptions(o) => &mut o.asymmetric_quantize_inputs,
                Options::BatchMatMulOptions(o) => &mut o.asymmetric_quantize_inputs,
                Options::LSTMOptions(o) => &mut o.asymmetric_quantize_inputs,
                Options::UnidirectionalSequenceLSTMOptions(o) => &mut o.asymmetric_quantize_inputs,
                Options::BidirectionalSequenceLSTMOptions(o) => &mut o.asymmetric_quantize_inputs,
                Options::RNNOptions(o) => &mut o.asymmetric_quantize_inputs,
                Options::SequenceRNNOptions(o) => &mut o.asymmetric_quantize_inputs,
                Options::SVDFOptions(o) => &mut o.asymmetric_quantize_inputs,
                _ => return,
            } = value;
        });
    }

    /// Sets the attribute that names the bias' type, where the operator has it.
    pub fn set_quantized_bias_type(&mut self, dtype: DType) {
        use tfl::BuiltinOptionsT as Options;
        self.edit_options(|options| {
            *match options {
                Options::Conv2DOptions(o) => &mut o.quantized_bias_type,
                Options::FullyConnectedOptions(o) => &mut o.quantized_bias_type,
                Options::TransposeConvOptions(o) => &mut o.quantized_bias_type,
                _ => return,
            } = dtype.code();
        });
    }

    /// Gives each subgraph of [`Self::bodies`] the number that `number` has for it.
    pub fn renumber_bodies(&mut self, number: impl Fn(i32) -> i32) {
        match self {
            Self::Call(op) => {
                if let Ok(subgraph) = i32::try_from(op.subgraph) {
                    op.subgraph = u32::try_from(number(subgraph)).unwrap_or(u32::MAX);
                }
            }
            Self::CallOnce(op) => op.subgraph = number(op.subgraph),
            Self::If(op) => {
                op.then = number(op.then);
                op.otherwise = number(op.otherwise);
            }
            Self::StablehloComposite(op) => op.decomposition = number(op.decomposition),
            Self::While(op) => {
                op.condition = number(op.condition);
                op.body = number(op.body);
            }
            _ => {}
        }
    }

    /// Changes attributes by their names in the format.
    fn edit_options(&mut self, edit: impl FnOnce(&mut tfl::BuiltinOptionsT)) {
        let version = match self {
            Self::Custom(_) => return,
            Self::Opaque(op) => op.version,
            _ => 1,
        };
        let (mut options, options_2) = self.options();
        edit(&mut options);
        if let Ok(edited) = Self::read(self.code(), version, options, options_2) {
            *self = edited;
        }
    }
}

impl fmt::Display for Op {
    /// The format's name, such as `CONV_2D`; a custom operator's own name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custom(op) => f.write_str(&op.name),
            _ => match self.code().variant_name() {
                Some(name) => f.write_str(name),
                None => write!(f, "BUILTIN_{}", self.code().0),
            },
        }
    }
}

operators! {
    abs::Abs = ABS;
    add::Add = ADD;
    add_n::AddN = ADD_N;
    arg_max::ArgMax = ARG_MAX;
    arg_min::ArgMin = ARG_MIN;
    assign_variable::AssignVariable = ASSIGN_VARIABLE;
    average_pool_2d::AveragePool2d = AVERAGE_POOL_2D;
    batch_matmul::BatchMatmul = BATCH_MATMUL;
    batch_to_space_nd::BatchToSpaceNd = BATCH_TO_SPACE_ND;
    bidirectional_sequence_lstm::BidirectionalSequenceLstm = BIDIRECTIONAL_SEQUENCE_LSTM;
    bidirectional_sequence_rnn::BidirectionalSequenceRnn = BIDIRECTIONAL_SEQUENCE_RNN;
    bitcast::Bitcast = BITCAST;
    broadcast_args::BroadcastArgs = BROADCAST_ARGS;
    broadcast_to::BroadcastTo = BROADCAST_TO;
    call::Call = CALL;
    call_once::CallOnce = CALL_ONCE;
    cast::Cast = CAST;
    ceil::Ceil = CEIL;
    concatenation::Concatenation = CONCATENATION;
    conv_2d::Conv2d = CONV_2D;
    conv_3d::Conv3d = CONV_3D;
    conv_3d_transpose::Conv3dTranspose = CONV_3D_TRANSPOSE;
    cos::Cos = COS;
    cumsum::Cumsum = CUMSUM;
    depth_to_space::DepthToSpace = DEPTH_TO_SPACE;
    depthwise_conv_2d::DepthwiseConv2d = DEPTHWISE_CONV_2D;
    dequantize::Dequantize = DEQUANTIZE;
    div::Div = DIV;
    dynamic_update_slice::DynamicUpdateSlice = DYNAMIC_UPDATE_SLICE;
    elu::Elu = ELU;
    embedding_lookup::EmbeddingLookup = EMBEDDING_LOOKUP;
    equal::Equal = EQUAL;
    exp::Exp = EXP;
    expand_dims::ExpandDims = EXPAND_DIMS;
    fill::Fill = FILL;
    floor::Floor = FLOOR;
    floor_div::FloorDiv = FLOOR_DIV;
    floor_mod::FloorMod = FLOOR_MOD;
    fully_connected::FullyConnected = FULLY_CONNECTED;
    gather::Gather = GATHER;
    gather_nd::GatherNd = GATHER_ND;
    gelu::Gelu = GELU;
    greater::Greater = GREATER;
    greater_equal::GreaterEqual = GREATER_EQUAL;
    hard_swish::HardSwish = HARD_SWISH;
    r#if::If = IF;
    l2_normalization::L2Normalization = L2_NORMALIZATION;
    leaky_relu::LeakyRelu = LEAKY_RELU;
    less::Less = LESS;
    less_equal::LessEqual = LESS_EQUAL;
    local_response_normalization::LocalResponseNormalization = LOCAL_RESPONSE_NORMALIZATION;
    log::Log = LOG;
    log_softmax::LogSoftmax = LOG_SOFTMAX;
    logical_and::LogicalAnd = LOGICAL_AND;
    logical_not::LogicalNot = LOGICAL_NOT;
    logical_or::LogicalOr = LOGICAL_OR;
    logistic::Logistic = LOGISTIC;
    lstm::Lstm = LSTM;
    matrix_diag::MatrixDiag = MATRIX_DIAG;
    matrix_set_diag::MatrixSetDiag = MATRIX_SET_DIAG;
    max_pool_2d::MaxPool2d = MAX_POOL_2D;
    maximum::Maximum = MAXIMUM;
    mean::Mean = MEAN;
    minimum::Minimum = MINIMUM;
    mirror_pad::MirrorPad = MIRROR_PAD;
    mul::Mul = MUL;
    neg::Neg = NEG;
    non_max_suppression_v4::NonMaxSuppressionV4 = NON_MAX_SUPPRESSION_V4;
    non_max_suppression_v5::NonMaxSuppressionV5 = NON_MAX_SUPPRESSION_V5;
    not_equal::NotEqual = NOT_EQUAL;
    one_hot::OneHot = ONE_HOT;
    pack::Pack = PACK;
    pad::Pad = PAD;
    pad_v2::PadV2 = PADV2;
    pow::Pow = POW;
    prelu::Prelu = PRELU;
    quantize::Quantize = QUANTIZE;
    range::Range = RANGE;
    rank::Rank = RANK;
    read_variable::ReadVariable = READ_VARIABLE;
    reduce_all::ReduceAll = REDUCE_ALL;
    reduce_any::ReduceAny = REDUCE_ANY;
    reduce_max::ReduceMax = REDUCE_MAX;
    reduce_min::ReduceMin = REDUCE_MIN;
    reduce_prod::ReduceProd = REDUCE_PROD;
    relu::Relu = RELU;
    relu6::Relu6 = RELU6;
    relu_0_to_1::Relu0To1 = RELU_0_TO_1;
    relu_n1_to_1::ReluN1To1 = RELU_N1_TO_1;
    reshape::Reshape = RESHAPE;
    resize_bilinear::ResizeBilinear = RESIZE_BILINEAR;
    resize_nearest_neighbor::ResizeNearestNeighbor = RESIZE_NEAREST_NEIGHBOR;
    reverse_sequence::ReverseSequence = REVERSE_SEQUENCE;
    reverse_v2::ReverseV2 = REVERSE_V2;
    rnn::Rnn = RNN;
    round::Round = ROUND;
    rsqrt::Rsqrt = RSQRT;
    scatter_nd::ScatterNd = SCATTER_ND;
    segment_sum::SegmentSum = SEGMENT_SUM;
    select::Select = SELECT;
    select_v2::SelectV2 = SELECT_V2;
    shape::ShapeOf = SHAPE;
    sign::Sign = SIGN;
    sin::Sin = SIN;
    slice::Slice = SLICE;
    softmax::Softmax = SOFTMAX;
    space_to_batch_nd::SpaceToBatchNd = SPACE_TO_BATCH_ND;
    space_to_depth::SpaceToDepth = SPACE_TO_DEPTH;
    sparse_to_dense::SparseToDense = SPARSE_TO_DENSE;
    split::Split = SPLIT;
    split_v::SplitV = SPLIT_V;
    sqrt::Sqrt = SQRT;
    square::Square = SQUARE;
    squared_difference::SquaredDifference = SQUARED_DIFFERENCE;
    squeeze::Squeeze = SQUEEZE;
    stablehlo_composite::StablehloComposite = STABLEHLO_COMPOSITE;
    strided_slice::StridedSlice = STRIDED_SLICE;
    sub::Sub = SUB;
    sum::Sum = SUM;
    svdf::Svdf = SVDF;
    tanh::Tanh = TANH;
    tile::Tile = TILE;
    topk_v2::TopkV2 = TOPK_V2;
    transpose::Transpose = TRANSPOSE;
    transpose_conv::TransposeConv = TRANSPOSE_CONV;
    unidirectional_sequence_lstm::UnidirectionalSequenceLstm = UNIDIRECTIONAL_SEQUENCE_LSTM;
    unidirectional_sequence_rnn::UnidirectionalSequenceRnn = UNIDIRECTIONAL_SEQUENCE_RNN;
    unique::Unique = UNIQUE;
    unpack::Unpack = UNPACK;
    var_handle::VarHandle = VAR_HANDLE;
    where_nonzero::Where = WHERE;
    r#while::While = WHILE;
    zeros_like::ZerosLike = ZEROS_LIKE;
}
