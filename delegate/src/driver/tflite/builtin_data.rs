//! The structs in which a runtime hands a builtin operator's attributes to its kernels and delegates (`builtin_data`).
//!
//! One function walks the fields of each struct in their order, for writing and reading alike. New fields are only ever
//! added at the end of a struct, and a reader cannot see how long it is: fields that came after 2.5 are read where the
//! operator's version says that they matter, and written as zeros behind the end for readers that expect them.

use bantam_model::schema::tfl::{
    self, ActivationFunctionType as Activation, BuiltinOperator as Code, BuiltinOptionsT as Options,
};
use bantam_model::{DType, Op};

use super::abi::{type_code, type_of};

/// The most dimensions that a struct with a list of them holds.
const MOST_DIMENSIONS: usize = 8;
/// More than any struct takes.
const ROOM: usize = 128;

/// Attributes as a kernel reads them: aligned for any struct, with zeros behind.
#[repr(C, align(16))]
#[derive(Debug, Clone, PartialEq)]
pub struct BuiltinData([u8; ROOM]);

impl BuiltinData {
    /// Where the struct begins.
    pub fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }
}

/// The attributes of `op`; `None` if the interface has no struct for it that is written down here.
pub fn encode(op: &Op) -> Option<BuiltinData> {
    let (mut options, _) = op.options();
    let mut writer = Writer {
        bytes: [0; ROOM],
        at: 0,
        is_good: true,
    };
    let is_known = has_no_attributes(op.code()) || walk(&mut options, i32::MAX, &mut writer);
    (is_known && writer.is_good).then_some(BuiltinData(writer.bytes))
}

/// The operator with the number `code` and the attributes at `data`; `None` where there is no struct for it that is written
/// down here, or a value in it that means nothing.
///
/// # Safety
///
/// `data` is NULL, or points to the struct that a runtime of 2.5 or later has for the operator.
pub unsafe fn decode(code: Code, version: i32, data: *const u8) -> Option<Op> {
    let mut options = blank(code)?;
    if options != Options::NONE {
        let mut reader = Reader {
            data,
            at: 0,
            is_good: !data.is_null(),
        };
        if !walk(&mut options, version, &mut reader) || !reader.is_good {
            return None;
        }
    }
    Op::from_options(code, version, options, tfl::BuiltinOptions2T::NONE).ok()
}

/// What a struct's fields are written to or read from, in order.
trait Fields {
    /// A C `int`, or an enumeration.
    fn int(&mut self, value: &mut i32);
    fn float(&mut self, value: &mut f32);
    fn flag(&mut self, value: &mut bool);
    /// Something in it cannot be told in the other's terms.
    fn fail(&mut self);

    /// A value that has other numbers in C than in the file.
    fn mapped<T: Copy + PartialEq>(&mut self, value: &mut T, table: &[(T, i32)]) {
        let known = table
            .iter()
            .find(|(t, _)| t == value)
            .map(|&(_, code)| code);
        let mut code = known.unwrap_or_else(|| {
            self.fail();
            0
        });
        self.int(&mut code);
        match table.iter().find(|&&(_, c)| c == code) {
            Some(&(found, _)) => *value = found,
            None => self.fail(),
        }
    }

    fn padding(&mut self, value: &mut tfl::Padding) {
        self.mapped(value, &[(tfl::Padding::SAME, 1), (tfl::Padding::VALID, 2)]);
    }

    fn mirror(&mut self, value: &mut tfl::MirrorPadMode) {
        use tfl::MirrorPadMode as Mode;
        self.mapped(value, &[(Mode::REFLECT, 1), (Mode::SYMMETRIC, 2)]);
    }

    fn activation(&mut self, value: &mut Activation) {
        self.mapped(
            value,
            &[
                (Activation::NONE, 0),
                (Activation::RELU, 1),
                (Activation::RELU_N1_TO_1, 2),
                (Activation::RELU6, 3),
                (Activation::TANH, 4),
                (Activation::SIGN_BIT, 5),
            ],
        );
    }

    fn dtype(&mut self, value: &mut tfl::TensorType) {
        let mut code = type_code(DType::from_code(*value)).unwrap_or_else(|| {
            self.fail();
            0
        });
        self.int(&mut code);
        match type_of(code) {
            Some(dtype) => *value = dtype.code(),
            None => self.fail(),
        }
    }

    /// A list of fixed room and, behind it, how much of that is used.
    fn list(&mut self, value: &mut Option<Vec<i32>>) {
        let given = value.take().unwrap_or_default();
        if given.len() > MOST_DIMENSIONS {
            self.fail();
        }
        let mut room = [0; MOST_DIMENSIONS];
        room.iter_mut()
            .zip(&given)
            .for_each(|(to, from)| *to = *from);
        room.iter_mut().for_each(|place| self.int(place));
        let mut count = given.len() as i32;
        self.int(&mut count);
        match usize::try_from(count) {
            Ok(count) if count <= MOST_DIMENSIONS => *value = Some(room[..count].to_vec()),
            _ => self.fail(),
        }
    }
}

struct Writer {
    bytes: [u8; ROOM],
    at: usize,
    is_good: bool,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.at = self.at.next_multiple_of(bytes.len());
        match self.bytes.get_mut(self.at..self.at + bytes.len()) {
            Some(place) => place.copy_from_slice(bytes),
            None => self.is_good = false,
        }
        self.at += bytes.len();
    }
}

impl Fields for Writer {
    fn int(&mut self, value: &mut i32) {
        self.put(&value.to_ne_bytes());
    }

    fn float(&mut self, value: &mut f32) {
        self.put(&value.to_ne_bytes());
    }

    fn flag(&mut self, value: &mut bool) {
        self.put(&[u8::from(*value)]);
    }

    fn fail(&mut self) {
        self.is_good = false;
    }
}

/// Reads from a struct that the caller of [`decode`] vouches for.
struct Reader {
    data: *const u8,
    at: usize,
    is_good: bool,
}

impl Reader {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        self.at = self.at.next_multiple_of(N);
        let at = self.at;
        self.at += N;
        if !self.is_good {
            return [0; N];
        }
        // SAFETY: the caller of `decode` vouches for the struct, of which `walk` reads no more than there is.
        unsafe { self.data.add(at).cast::<[u8; N]>().read() }
    }
}

impl Fields for Reader {
    fn int(&mut self, value: &mut i32) {
        *value = i32::from_ne_bytes(self.take());
    }

    fn float(&mut self, value: &mut f32) {
        *value = f32::from_ne_bytes(self.take());
    }

    fn flag(&mut self, value: &mut bool) {
        let [byte] = self.take();
        *value = byte != 0;
    }

    fn fail(&mut self) {
        self.is_good = false;
    }
}

/// Walks the struct for `options` of an operator of this version; `false` where none is written down.
fn walk(options: &mut Options, version: i32, f: &mut impl Fields) -> bool {
    match options {
        Options::Conv2DOptions(o) => {
            f.padding(&mut o.padding);
            f.int(&mut o.stride_w);
            f.int(&mut o.stride_h);
            f.activation(&mut o.fused_activation_function);
            f.int(&mut o.dilation_w_factor);
            f.int(&mut o.dilation_h_factor);
        }
        Options::Conv3DOptions(o) => {
            f.padding(&mut o.padding);
            f.int(&mut o.stride_w);
            f.int(&mut o.stride_h);
            f.int(&mut o.stride_d);
            f.int(&mut o.dilation_w_factor);
            f.int(&mut o.dilation_h_factor);
            f.int(&mut o.dilation_d_factor);
            f.activation(&mut o.fused_activation_function);
        }
        Options::DepthwiseConv2DOptions(o) => {
            f.padding(&mut o.padding);
            f.int(&mut o.stride_w);
            f.int(&mut o.stride_h);
            f.int(&mut o.depth_multiplier);
            f.activation(&mut o.fused_activation_function);
            f.int(&mut o.dilation_w_factor);
            f.int(&mut o.dilation_h_factor);
        }
        Options::TransposeConvOptions(o) => {
            f.padding(&mut o.padding);
            f.int(&mut o.stride_w);
            f.int(&mut o.stride_h);
            // Older structs end here.
            if version >= 4 {
                f.activation(&mut o.fused_activation_function);
            }
        }
        Options::Pool2DOptions(o) => {
            f.padding(&mut o.padding);
            f.int(&mut o.stride_w);
            f.int(&mut o.stride_h);
            f.int(&mut o.filter_width);
            f.int(&mut o.filter_height);
            f.activation(&mut o.fused_activation_function);
        }
        Options::FullyConnectedOptions(o) => {
            f.activation(&mut o.fused_activation_function);
            f.mapped(
                &mut o.weights_format,
                &[
                    (tfl::FullyConnectedOptionsWeightsFormat::DEFAULT, 0),
                    (tfl::FullyConnectedOptionsWeightsFormat::SHUFFLED4x16INT8, 1),
                ],
            );
            f.flag(&mut o.keep_num_dims);
            f.flag(&mut o.asymmetric_quantize_inputs);
        }
        Options::BatchMatMulOptions(o) => {
            f.flag(&mut o.adj_x);
            f.flag(&mut o.adj_y);
            f.flag(&mut o.asymmetric_quantize_inputs);
        }
        Options::AddOptions(o) => {
            f.activation(&mut o.fused_activation_function);
            f.flag(&mut o.pot_scale_int16);
        }
        Options::SubOptions(o) => {
            f.activation(&mut o.fused_activation_function);
            f.flag(&mut o.pot_scale_int16);
        }
        Options::MulOptions(o) => f.activation(&mut o.fused_activation_function),
        Options::DivOptions(o) => f.activation(&mut o.fused_activation_function),
        Options::L2NormOptions(o) => f.activation(&mut o.fused_activation_function),
        Options::ConcatenationOptions(o) => {
            f.int(&mut o.axis);
            f.activation(&mut o.fused_activation_function);
        }
        Options::LocalResponseNormalizationOptions(o) => {
            f.int(&mut o.radius);
            f.float(&mut o.bias);
            f.float(&mut o.alpha);
            f.float(&mut o.beta);
        }
        Options::SVDFOptions(o) => {
            f.int(&mut o.rank);
            f.activation(&mut o.fused_activation_function);
            f.flag(&mut o.asymmetric_quantize_inputs);
        }
        Options::RNNOptions(o) => {
            f.activation(&mut o.fused_activation_function);
            f.flag(&mut o.asymmetric_quantize_inputs);
        }
        Options::SequenceRNNOptions(o) => {
            f.flag(&mut o.time_major);
            f.activation(&mut o.fused_activation_function);
            f.flag(&mut o.asymmetric_quantize_inputs);
        }
        Options::BidirectionalSequenceRNNOptions(o) => {
            f.flag(&mut o.time_major);
            f.activation(&mut o.fused_activation_function);
            f.flag(&mut o.merge_outputs);
            f.flag(&mut o.asymmetric_quantize_inputs);
        }
        Options::LSTMOptions(o) => {
            f.activation(&mut o.fused_activation_function);
            f.float(&mut o.cell_clip);
            f.float(&mut o.proj_clip);
            f.mapped(
                &mut o.kernel_type,
                &[
                    (tfl::LSTMKernelType::FULL, 0),
                    (tfl::LSTMKernelType::BASIC, 1),
                ],
            );
            f.flag(&mut o.asymmetric_quantize_inputs);
        }
        Options::UnidirectionalSequenceLSTMOptions(o) => {
            f.activation(&mut o.fused_activation_function);
            f.float(&mut o.cell_clip);
            f.float(&mut o.proj_clip);
            f.flag(&mut o.time_major);
            f.flag(&mut o.asymmetric_quantize_inputs);
            if version >= 4 {
                f.flag(&mut o.diagonal_recurrent_tensors);
            }
        }
        Options::BidirectionalSequenceLSTMOptions(o) => {
            f.activation(&mut o.fused_activation_function);
            f.float(&mut o.cell_clip);
            f.float(&mut o.proj_clip);
            f.flag(&mut o.merge_outputs);
            f.flag(&mut o.time_major);
            f.flag(&mut o.asymmetric_quantize_inputs);
        }
        Options::ResizeBilinearOptions(o) => {
            f.flag(&mut o.align_corners);
            f.flag(&mut o.half_pixel_centers);
        }
        Options::ResizeNearestNeighborOptions(o) => {
            f.flag(&mut o.align_corners);
            f.flag(&mut o.half_pixel_centers);
        }
        Options::StridedSliceOptions(o) => {
            f.int(&mut o.begin_mask);
            f.int(&mut o.end_mask);
            f.int(&mut o.ellipsis_mask);
            f.int(&mut o.new_axis_mask);
            f.int(&mut o.shrink_axis_mask);
            if version >= 8 {
                f.flag(&mut o.offset);
            }
        }
        Options::CumsumOptions(o) => {
            f.flag(&mut o.exclusive);
            f.flag(&mut o.reverse);
        }
        Options::PackOptions(o) => {
            f.int(&mut o.values_count);
            f.int(&mut o.axis);
        }
        Options::UnpackOptions(o) => {
            f.int(&mut o.num);
            f.int(&mut o.axis);
        }
        Options::GatherOptions(o) => {
            f.int(&mut o.axis);
            f.int(&mut o.batch_dims);
        }
        Options::ReverseSequenceOptions(o) => {
            f.int(&mut o.seq_dim);
            f.int(&mut o.batch_dim);
        }
        Options::CastOptions(o) => {
            f.dtype(&mut o.in_data_type);
            f.dtype(&mut o.out_data_type);
        }
        Options::ReshapeOptions(o) => f.list(&mut o.new_shape),
        Options::SqueezeOptions(o) => f.list(&mut o.squeeze_dims),
        Options::SoftmaxOptions(o) => f.float(&mut o.beta),
        Options::LeakyReluOptions(o) => f.float(&mut o.alpha),
        Options::GeluOptions(o) => f.flag(&mut o.approximate),
        Options::MirrorPadOptions(o) => f.mirror(&mut o.mode),
        Options::SpaceToDepthOptions(o) => f.int(&mut o.block_size),
        Options::DepthToSpaceOptions(o) => f.int(&mut o.block_size),
        Options::ReducerOptions(o) => f.flag(&mut o.keep_dims),
        Options::SplitOptions(o) => f.int(&mut o.num_splits),
        Options::SplitVOptions(o) => f.int(&mut o.num_splits),
        Options::ArgMaxOptions(o) => f.dtype(&mut o.output_type),
        Options::ArgMinOptions(o) => f.dtype(&mut o.output_type),
        Options::ShapeOptions(o) => f.dtype(&mut o.out_type),
        Options::UniqueOptions(o) => f.dtype(&mut o.idx_out_type),
        Options::OneHotOptions(o) => f.int(&mut o.axis),
        Options::SparseToDenseOptions(o) => f.flag(&mut o.validate_indices),
        // Tables without fields, for which the interface has no struct or one without meaning.
        _ => return false,
    }
    true
}

/// Declares which operators are known, and their options.
macro_rules! operators {
    (none: $($plain:ident)*; $($options:ident: $($code:ident)*;)*) => {
        /// The options of an operator, with nothing read yet.
        fn blank(code: Code) -> Option<Options> {
            match code {
                $($(Code::$code)|* => Some(Options::$options(Box::default())),)*
                $(Code::$plain)|* => Some(Options::NONE),
                _ => None,
            }
        }

        #[cfg(test)]
        const KNOWN: &[Code] = &[$($(Code::$code,)*)* $(Code::$plain,)*];
    };
}

operators! {
    none: ABS ADD_N BATCH_TO_SPACE_ND BITCAST BROADCAST_ARGS BROADCAST_TO CEIL COS DEQUANTIZE DYNAMIC_UPDATE_SLICE ELU
        EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD GATHER_ND GREATER GREATER_EQUAL HARD_SWISH
        LESS LESS_EQUAL LOG LOG_SOFTMAX LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC MATRIX_DIAG MATRIX_SET_DIAG MAXIMUM
        MINIMUM NEG NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 NOT_EQUAL PAD PADV2 POW PRELU QUANTIZE RANGE RANK RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 REVERSE_V2
        ROUND RSQRT SCATTER_ND SEGMENT_SUM SELECT SELECT_V2 SIGN SIN SLICE SPACE_TO_BATCH_ND SQRT SQUARE
        SQUARED_DIFFERENCE TANH TILE TOPK_V2 TRANSPOSE WHERE ZEROS_LIKE;
    Conv2DOptions: CONV_2D;
    Conv3DOptions: CONV_3D CONV_3D_TRANSPOSE;
    DepthwiseConv2DOptions: DEPTHWISE_CONV_2D;
    TransposeConvOptions: TRANSPOSE_CONV;
    Pool2DOptions: AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D;
    FullyConnectedOptions: FULLY_CONNECTED;
    BatchMatMulOptions: BATCH_MATMUL;
    AddOptions: ADD;
    SubOptions: SUB;
    MulOptions: MUL;
    DivOptions: DIV;
    L2NormOptions: L2_NORMALIZATION;
    ConcatenationOptions: CONCATENATION;
    LocalResponseNormalizationOptions: LOCAL_RESPONSE_NORMALIZATION;
    SVDFOptions: SVDF;
    RNNOptions: RNN;
    SequenceRNNOptions: UNIDIRECTIONAL_SEQUENCE_RNN;
    BidirectionalSequenceRNNOptions: BIDIRECTIONAL_SEQUENCE_RNN;
    LSTMOptions: LSTM;
    UnidirectionalSequenceLSTMOptions: UNIDIRECTIONAL_SEQUENCE_LSTM;
    BidirectionalSequenceLSTMOptions: BIDIRECTIONAL_SEQUENCE_LSTM;
    ResizeBilinearOptions: RESIZE_BILINEAR;
    ResizeNearestNeighborOptions: RESIZE_NEAREST_NEIGHBOR;
    StridedSliceOptions: STRIDED_SLICE;
    CumsumOptions: CUMSUM;
    PackOptions: PACK;
    UnpackOptions: UNPACK;
    GatherOptions: GATHER;
    ReverseSequenceOptions: REVERSE_SEQUENCE;
    CastOptions: CAST;
    ReshapeOptions: RESHAPE;
    SqueezeOptions: SQUEEZE;
    SoftmaxOptions: SOFTMAX;
    LeakyReluOptions: LEAKY_RELU;
    GeluOptions: GELU;
    MirrorPadOptions: MIRROR_PAD;
    SpaceToDepthOptions: SPACE_TO_DEPTH;
    DepthToSpaceOptions: DEPTH_TO_SPACE;
    ReducerOptions: MEAN SUM REDUCE_PROD REDUCE_MAX REDUCE_MIN REDUCE_ANY REDUCE_ALL;
    SplitOptions: SPLIT;
    SplitVOptions: SPLIT_V;
    ArgMaxOptions: ARG_MAX;
    ArgMinOptions: ARG_MIN;
    ShapeOptions: SHAPE;
    UniqueOptions: UNIQUE;
    OneHotOptions: ONE_HOT;
    SparseToDenseOptions: SPARSE_TO_DENSE;
}

/// Whether the operator is known to have none, though the file may have an empty table for it.
fn has_no_attributes(code: Code) -> bool {
    blank(code) == Some(Options::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(op: &Op, version: i32) -> Option<Op> {
        let data = encode(op)?;
        // SAFETY: `encode` wrote the struct.
        unsafe { decode(op.code(), version, data.as_ptr()) }
    }

    #[test]
    fn every_operator_comes_back_as_it_was() {
        for &code in KNOWN {
            let options = blank(code).unwrap();
            let op = Op::from_options(code, 9, options, tfl::BuiltinOptions2T::NONE).unwrap();
            let back = back(&op, 9).unwrap();
            // No list and an empty one are the same in C.
            assert_eq!((back.code(), encode(&back)), (code, encode(&op)), "{op}");
        }
    }

    #[test]
    fn fields_stand_where_c_has_them() {
        let options = Options::Conv2DOptions(Box::new(tfl::Conv2DOptionsT {
            padding: tfl::Padding::VALID,
            stride_w: 2,
            stride_h: 3,
            fused_activation_function: Activation::RELU6,
            dilation_w_factor: 4,
            dilation_h_factor: 5,
            ..Default::default()
        }));
        let none = tfl::BuiltinOptions2T::NONE;
        let op = Op::from_options(Code::CONV_2D, 1, options, none.clone()).unwrap();
        let data = encode(&op).unwrap();
        let words: Vec<u8> = [2, 2, 3, 3, 4, 5, 0i32]
            .iter()
            .flat_map(|w| w.to_ne_bytes())
            .collect();
        assert_eq!(data.0[..28], words);
        assert_eq!(back(&op, 1), Some(op));
        // A flag and then an int: C leaves three bytes between.
        let options = Options::SequenceRNNOptions(Box::new(tfl::SequenceRNNOptionsT {
            time_major: true,
            fused_activation_function: Activation::TANH,
            asymmetric_quantize_inputs: true,
        }));
        let code = Code::UNIDIRECTIONAL_SEQUENCE_RNN;
        let op = Op::from_options(code, 1, options, none).unwrap();
        assert_eq!(encode(&op).unwrap().0[..10], [1, 0, 0, 0, 4, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let mut data = BuiltinData([0; ROOM]);
        // Padding 0 is none that there is.
        // SAFETY: larger than any struct.
        let op = unsafe { decode(Code::CONV_2D, 1, data.as_ptr()) };
        assert_eq!(op, None);
        data.0[32..36].copy_from_slice(&9i32.to_ne_bytes());
        // SAFETY: as above; nine dimensions do not fit.
        let op = unsafe { decode(Code::RESHAPE, 1, data.as_ptr()) };
        assert_eq!(op, None);
        // SAFETY: NULL is allowed.
        let op = unsafe { decode(Code::ADD, 1, std::ptr::null()) };
        assert_eq!(op, None);
    }

    #[test]
    fn a_field_of_a_newer_version_is_not_read() {
        let data = BuiltinData([1; ROOM]);
        // SAFETY: larger than any struct.
        let op = unsafe { decode(Code::STRIDED_SLICE, 2, data.as_ptr()) };
        let Some(Op::StridedSlice(op)) = op else {
            panic!("{op:?}")
        };
        assert!(!op.offset);
    }
}
