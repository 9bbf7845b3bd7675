//! One operator as the rules of a target see it: its tensors, and its attributes by the names that
//! the format gives them. The same for every operator, so that a rule on another one needs no code.

use super::condition::Value;
use crate::graph::{Node, Subgraph, TensorId};
use crate::ops::{Activation, Op};
use crate::quant::Quantization;
use crate::schema::tfl::{self, BuiltinOptionsT};
use crate::tensor::{DType, Tensor, element_count};

/// An operator, its tensors and the version that its file names.
pub(super) struct View<'a> {
    pub subgraph: &'a Subgraph,
    pub node: &'a Node,
    pub version: i32,
    options: BuiltinOptionsT,
}

impl<'a> View<'a> {
    pub fn new(subgraph: &'a Subgraph, node: &'a Node, version: i32) -> Self {
        Self {
            subgraph,
            node,
            version,
            options: node.op.options().0,
        }
    }

    /// The attribute that the format calls `name`.
    pub fn attribute(&self, name: &str) -> Option<Value> {
        attribute(&self.options, name)
    }

    pub fn input(&self, index: usize) -> Option<&'a Tensor> {
        self.tensor(self.node.input(index)?)
    }

    pub fn output(&self, index: usize) -> Option<&'a Tensor> {
        self.tensor(*self.node.outputs.get(index)?)
    }

    pub fn tensor(&self, id: TensorId) -> Option<&'a Tensor> {
        self.subgraph.tensors.get(id.index())
    }

    /// The operand that holds weights, by its place.
    pub fn weights(&self) -> &'static [usize] {
        match self.node.op {
            Op::Conv2d(_) | Op::DepthwiseConv2d(_) | Op::FullyConnected(_) => &[1],
            Op::TransposeConv(_) | Op::Conv3d(_) | Op::Conv3dTranspose(_) | Op::Prelu(_) => &[1],
            Op::Svdf(_) => &[1, 2],
            Op::UnidirectionalSequenceLstm(_) | Op::Lstm(_) => &[1, 2, 3, 4, 5, 6, 7, 8, 16],
            Op::UnidirectionalSequenceRnn(_) | Op::Rnn(_) => &[1, 2],
            _ => &[],
        }
    }

    /// The operands that hold biases, by their places.
    pub fn bias(&self) -> &'static [usize] {
        match self.node.op {
            Op::Conv2d(_) | Op::DepthwiseConv2d(_) | Op::FullyConnected(_) => &[2],
            Op::TransposeConv(_) | Op::Conv3d(_) | Op::Conv3dTranspose(_) | Op::Svdf(_) => &[3],
            Op::UnidirectionalSequenceLstm(_) | Op::Lstm(_) => &[12, 13, 14, 15, 17],
            _ => &[],
        }
    }

    /// Whether the operand at `place` holds what becomes the result, and not how.
    pub fn is_feature_map(&self, place: usize) -> bool {
        match self.node.op {
            Op::Concatenation(_) | Op::Pack(_) | Op::AddN(_) | Op::Custom(_) => true,
            Op::Split(_) => place == 1,
            Op::TransposeConv(_) => place == 2,
            Op::Add(_)
            | Op::Sub(_)
            | Op::Mul(_)
            | Op::Div(_)
            | Op::FloorDiv(_)
            | Op::FloorMod(_) => place < 2,
            Op::Maximum(_)
            | Op::Minimum(_)
            | Op::SquaredDifference(_)
            | Op::Pow(_)
            | Op::BatchMatmul(_) => place < 2,
            Op::Equal(_) | Op::NotEqual(_) | Op::Less(_) | Op::LessEqual(_) | Op::Greater(_) => {
                place < 2
            }
            Op::GreaterEqual(_) | Op::LogicalAnd(_) | Op::LogicalOr(_) => place < 2,
            Op::Select(_) | Op::SelectV2(_) => place < 3,
            _ => place == 0,
        }
    }

    /// Whether the operand at `place` says how the result is made.
    pub fn is_parameter(&self, place: usize) -> bool {
        let other = self.weights().contains(&place) || self.bias().contains(&place);
        !other && !self.is_feature_map(place)
    }

    /// The axis of the weights along which results lie.
    pub fn weights_axis(&self) -> usize {
        match self.node.op {
            Op::DepthwiseConv2d(_) => 3,
            _ => 0,
        }
    }

    /// Rows and columns that the padding adds around the image; none for VALID.
    pub fn added_padding(&self) -> Option<[i64; 2]> {
        if self.attribute("padding")? != Value::Word("SAME".to_owned()) {
            return Some([0, 0]);
        }
        let &[_, height, width, _] = &*self.input(0)?.shape else {
            return None;
        };
        let (window_h, window_w) = self.dilated_kernel()?;
        let added = |size: usize, window: i64, stride: &str| {
            let (size, stride) = (size as i64, self.attribute(stride)?.integer()?);
            let steps = size
                .checked_add(stride.checked_sub(1)?)?
                .checked_div(stride)?;
            let reach = steps
                .checked_sub(1)?
                .checked_mul(stride)?
                .checked_add(window)?;
            Some((reach - size).max(0))
        };
        Some([
            added(height, window_h, "stride_h")?,
            added(width, window_w, "stride_w")?,
        ])
    }

    /// Rows and columns of a transposed convolution's result beyond what follows from its operand,
    /// stride and padding: operand times stride, for VALID with what of the window stands over.
    pub fn output_surplus(&self) -> Option<[i64; 2]> {
        let (&[_, in_h, in_w, _], &[_, out_h, out_w, _]) =
            (&*self.input(2)?.shape, &*self.output(0)?.shape)
        else {
            return None;
        };
        let same = self.attribute("padding")? == Value::Word("SAME".to_owned());
        let (window_h, window_w) = self.kernel()?;
        let surplus = |from: usize, to: usize, window: i64, stride: &str| {
            let stride = self.attribute(stride)?.integer()?;
            let over = if same {
                0
            } else {
                (window.checked_sub(stride)?).max(0)
            };
            let expected = (from as i64).checked_mul(stride)?.checked_add(over)?;
            (to as i64).checked_sub(expected)
        };
        Some([
            surplus(in_h, out_h, window_h, "stride_h")?,
            surplus(in_w, out_w, window_w, "stride_w")?,
        ])
    }

    /// For each axis of the operand of a strided slice, its stride.
    pub fn slice_strides(&self) -> Result<Vec<i64>, String> {
        let Op::StridedSlice(op) = &self.node.op else {
            return Err(format!("{} cuts no slices", self.node.op));
        };
        let rank = self.input(0).map_or(0, |t| t.shape.len());
        let given = self.integers(3)?;
        let has = |mask: i32, place: usize| place < 32 && mask >> place & 1 == 1;
        let adds =
            (0..given.len()).filter(|&p| has(op.new_axis_mask, p) && !has(op.ellipsis_mask, p));
        let skipped = (rank + 1 + adds.count()).saturating_sub(given.len());
        let mut strides = vec![1; rank];
        let mut axis = 0;
        for (place, &stride) in given.iter().enumerate() {
            if has(op.ellipsis_mask, place) {
                axis += skipped;
            } else if !has(op.new_axis_mask, place) {
                if let Some(slot) = strides.get_mut(axis) {
                    *slot = stride;
                }
                axis += 1;
            }
        }
        Ok(strides)
    }

    /// Whether it is one of three operators that are a dilated convolution together: the image is
    /// taken apart into a batch, each of which a convolution without an activation filters, and
    /// put together again. Nothing else reads what is between; a reshape that only moves ones may be.
    pub fn dilates_by_batches(&self) -> bool {
        let writer = |id: TensorId| self.subgraph.nodes.iter().find(|n| n.outputs.contains(&id));
        let reader = |id: TensorId| {
            let mut readers = self
                .subgraph
                .nodes
                .iter()
                .filter(|n| n.inputs.contains(&Some(id)));
            readers.next().filter(|_| readers.next().is_none())
        };
        let shape = |id: TensorId| {
            let sizes = self.tensor(id).map(|t| t.shape.iter().copied());
            sizes.map(|sizes| sizes.filter(|&d| d != 1).collect::<Vec<_>>())
        };
        let moves_ones = |node: &Node| match (&node.op, node.input(0), node.outputs.first()) {
            (Op::Reshape(_) | Op::ExpandDims(_) | Op::Squeeze(_), Some(from), Some(&to)) => {
                shape(from) == shape(to)
            }
            _ => false,
        };
        let before = |node: &'a Node| {
            let found = writer(node.input(0)?)?;
            if moves_ones(found) {
                writer(found.input(0)?)
            } else {
                Some(found)
            }
        };
        let after = |node: &'a Node| {
            let found = reader(*node.outputs.first()?)?;
            if moves_ones(found) {
                reader(*found.outputs.first()?)
            } else {
                Some(found)
            }
        };
        let around = |convolution: &'a Node| {
            let activation = match &convolution.op {
                Op::Conv2d(op) => op.activation,
                Op::DepthwiseConv2d(op) => op.activation,
                _ => return false,
            };
            let read_once = |id: Option<TensorId>| id.is_some_and(|id| reader(id).is_some());
            activation == Activation::None
                && read_once(convolution.input(0))
                && before(convolution).is_some_and(|n| matches!(n.op, Op::SpaceToBatchNd(_)))
                && after(convolution).is_some_and(|n| matches!(n.op, Op::BatchToSpaceNd(_)))
        };
        match self.node.op {
            Op::SpaceToBatchNd(_) => after(self.node).is_some_and(around),
            Op::BatchToSpaceNd(_) => before(self.node).is_some_and(around),
            _ => around(self.node),
        }
    }

    /// Height and width of the window that slides over the image.
    pub fn kernel(&self) -> Option<(i64, i64)> {
        let of = |tensor: Option<&Tensor>| match *tensor?.shape {
            [_, h, w, _] => Some((h as i64, w as i64)),
            _ => None,
        };
        match self.node.op {
            Op::Conv2d(_) | Op::DepthwiseConv2d(_) | Op::TransposeConv(_) => of(self.input(1)),
            _ => Some((
                self.attribute("filter_height")?.integer()?,
                self.attribute("filter_width")?.integer()?,
            )),
        }
    }

    /// The same with the gaps of a dilated window.
    pub fn dilated_kernel(&self) -> Option<(i64, i64)> {
        let (h, w) = self.kernel()?;
        let factor = |name| self.attribute(name).and_then(|v| v.integer()).unwrap_or(1);
        let wide =
            |taps: i64, dilation: i64| taps.checked_sub(1)?.checked_mul(dilation)?.checked_add(1);
        Some((
            wide(h, factor("dilation_h_factor"))?,
            wide(w, factor("dilation_w_factor"))?,
        ))
    }

    /// The axes that the operator works along, of its first operand or, where it adds one, of its
    /// result, outermost first: those that it reduces, joins, splits, pads, cuts or moves.
    /// `Err` where they are in an operand that is no constant; `None` where it has no axes.
    pub fn axes(&self) -> Option<Result<Vec<usize>, String>> {
        let rank = self.input(0)?.shape.len();
        let list = |index: usize| self.integers(index);
        let normal = |axis: i64, rank: usize| {
            let axis = if axis < 0 { axis + rank as i64 } else { axis };
            usize::try_from(axis)
                .ok()
                .filter(|&a| a < rank)
                .ok_or_else(|| format!("axis {axis} of {rank}"))
        };
        let all = |values: Result<Vec<i64>, String>, rank: usize| {
            values?.into_iter().map(|axis| normal(axis, rank)).collect()
        };
        // Axes where the operator does something to the elements.
        let some = |axes: Vec<bool>| (0..axes.len()).filter(|&a| axes[a]).collect::<Vec<_>>();
        Some(match &self.node.op {
            Op::Concatenation(op) => normal(op.axis.into(), rank).map(|a| vec![a]),
            Op::Unpack(op) => normal(op.axis.into(), rank).map(|a| vec![a]),
            Op::Pack(op) => normal(op.axis.into(), rank + 1).map(|a| vec![a]),
            Op::Gather(op) => normal(op.axis.into(), rank).map(|a| vec![a]),
            Op::ExpandDims(_) => all(list(1), rank + 1),
            Op::Mean(_)
            | Op::Sum(_)
            | Op::ReduceMax(_)
            | Op::ReduceMin(_)
            | Op::ReduceProd(_)
            | Op::ReduceAny(_)
            | Op::ReduceAll(_)
            | Op::ArgMax(_)
            | Op::ArgMin(_)
            | Op::ReverseV2(_)
            | Op::Cumsum(_)
            | Op::SplitV(_) => all(
                list(if matches!(self.node.op, Op::SplitV(_)) {
                    2
                } else {
                    1
                }),
                rank,
            ),
            Op::Split(_) => {
                let rank = self.input(1)?.shape.len();
                all(list(0), rank)
            }
            Op::Softmax(_) | Op::LogSoftmax(_) | Op::L2Normalization(_) => {
                Ok(rank.checked_sub(1).into_iter().collect())
            }
            Op::Pad(_) | Op::PadV2(_) | Op::MirrorPad(_) => list(1).map(|paddings| {
                some(
                    paddings
                        .chunks(2)
                        .map(|pair| pair.iter().any(|&p| p != 0))
                        .collect(),
                )
            }),
            Op::Tile(_) => list(1).map(|m| some(m.into_iter().map(|m| m != 1).collect())),
            Op::Transpose(_) => {
                list(1).map(|order| some((0..).zip(order).map(|(to, from)| to != from).collect()))
            }
            Op::Slice(_) | Op::StridedSlice(_) => {
                let (from, to) = (&self.input(0)?.shape, &self.output(0)?.shape);
                if from.len() != to.len() {
                    return None;
                }
                Ok(some(from.iter().zip(to).map(|(a, b)| a != b).collect()))
            }
            _ => return None,
        })
    }

    /// The elements of the constant operand `index`, which must be integers.
    pub fn integers(&self, index: usize) -> Result<Vec<i64>, String> {
        let tensor = self
            .input(index)
            .ok_or_else(|| format!("input {index} is missing"))?;
        integers(tensor)
            .ok_or_else(|| format!("the values of `{}` are not in the file", tensor.name))
    }
}

/// The elements of a constant of an integer type.
pub(super) fn integers(tensor: &Tensor) -> Option<Vec<i64>> {
    let data = tensor.data.as_ref()?;
    if data.len() != tensor.dtype.byte_len(&tensor.shape)? {
        return None;
    }
    fn wide<T: bytemuck::AnyBitPattern + Into<i64>>(data: &[u8]) -> Vec<i64> {
        let values = data.chunks_exact(size_of::<T>());
        values
            .map(|v| bytemuck::pod_read_unaligned::<T>(v).into())
            .collect()
    }
    Some(match tensor.dtype {
        DType::I8 => wide::<i8>(data),
        DType::U8 => wide::<u8>(data),
        DType::I16 => wide::<i16>(data),
        DType::I32 => wide::<i32>(data),
        DType::I64 => wide::<i64>(data),
        _ => return None,
    })
}

/// For each index along `axis` of weights, the sum of the distances from the zero point.
pub(super) fn channel_sums(tensor: &Tensor, axis: usize) -> Option<Vec<i64>> {
    let values = integers(tensor)?;
    let quantization = tensor.quantization.as_ref();
    let channels = *tensor.shape.get(axis)?;
    let inner = element_count(tensor.shape.get(axis + 1..)?)?;
    let zero_point = |channel: usize| {
        let points = quantization.map_or(&[][..], |q| &q.zero_point);
        points.get(channel).or(points.first()).copied().unwrap_or(0)
    };
    let mut sums = vec![0i64; channels];
    if inner == 0 {
        return Some(sums);
    }
    for (block, values) in values.chunks(inner).enumerate() {
        let channel = block % channels;
        let sum: i64 = values.iter().map(|v| (v - zero_point(channel)).abs()).sum();
        sums[channel] += sum;
    }
    Some(sums)
}

/// Whether the scales are there and usable.
pub(super) fn is_quantized(quantization: Option<&Quantization>) -> bool {
    quantization
        .is_some_and(|q| !q.scale.is_empty() && q.scale.iter().all(|s| s.is_finite() && *s > 0.0))
}

/// An attribute's value, whatever its type in the schema.
trait Attribute {
    fn value(&self) -> Value;
}

impl Attribute for i32 {
    fn value(&self) -> Value {
        Value::Number(f64::from(*self))
    }
}

impl Attribute for f32 {
    fn value(&self) -> Value {
        Value::Number(f64::from(*self))
    }
}

impl Attribute for bool {
    fn value(&self) -> Value {
        Value::Flag(*self)
    }
}

impl Attribute for tfl::TensorType {
    fn value(&self) -> Value {
        Value::Word(DType::from_code(*self).to_string())
    }
}

macro_rules! words {
    ($($name:ident),*) => {
        $(impl Attribute for tfl::$name {
            fn value(&self) -> Value {
                Value::Word(self.variant_name().map_or_else(|| self.0.to_string(), str::to_owned))
            }
        })*
    };
}

words!(
    Padding,
    ActivationFunctionType,
    FullyConnectedOptionsWeightsFormat,
    LSTMKernelType,
    MirrorPadMode
);

macro_rules! attributes {
    ($($options:ident { $($field:ident),* })*) => {
        fn attribute(options: &BuiltinOptionsT, name: &str) -> Option<Value> {
            match options {
                $(BuiltinOptionsT::$options(o) => match name {
                    $(stringify!($field) => Some(o.$field.value()),)*
                    _ => None,
                },)*
                _ => None,
            }
        }

        /// The names of the attributes that an operator with these options has.
        fn names(options: &BuiltinOptionsT) -> &'static [&'static str] {
            match options {
                $(BuiltinOptionsT::$options(_) => &[$(stringify!($field)),*],)*
                _ => &[],
            }
        }
    };
}

/// The names of the attributes of the operator with the number `code`.
pub(super) fn attribute_names(code: tfl::BuiltinOperator) -> &'static [&'static str] {
    let none = tfl::BuiltinOptions2T::NONE;
    match Op::from_options(code, 1, BuiltinOptionsT::NONE, none) {
        Ok(op) => names(&op.options().0),
        Err(_) => &[],
    }
}

attributes! {
    Conv2DOptions { padding, stride_w, stride_h, fused_activation_function, dilation_w_factor, dilation_h_factor, quantized_bias_type }
    DepthwiseConv2DOptions { padding, stride_w, stride_h, depth_multiplier, fused_activation_function, dilation_w_factor, dilation_h_factor }
    TransposeConvOptions { padding, stride_w, stride_h, fused_activation_function, quantized_bias_type }
    Conv3DOptions { padding, stride_d, stride_w, stride_h, fused_activation_function, dilation_d_factor, dilation_w_factor, dilation_h_factor }
    Pool2DOptions { padding, stride_w, stride_h, filter_width, filter_height, fused_activation_function }
    FullyConnectedOptions { fused_activation_function, weights_format, keep_num_dims, asymmetric_quantize_inputs, quantized_bias_type }
    BatchMatMulOptions { adj_x, adj_y, asymmetric_quantize_inputs }
    RNNOptions { fused_activation_function, asymmetric_quantize_inputs }
    SequenceRNNOptions { time_major, fused_activation_function, asymmetric_quantize_inputs }
    BidirectionalSequenceRNNOptions { time_major, fused_activation_function, merge_outputs, asymmetric_quantize_inputs }
    LSTMOptions { fused_activation_function, cell_clip, proj_clip, kernel_type, asymmetric_quantize_inputs }
    UnidirectionalSequenceLSTMOptions { fused_activation_function, cell_clip, proj_clip, time_major, asymmetric_quantize_inputs, diagonal_recurrent_tensors }
    BidirectionalSequenceLSTMOptions { fused_activation_function, cell_clip, proj_clip, merge_outputs, time_major, asymmetric_quantize_inputs }
    SVDFOptions { rank, fused_activation_function, asymmetric_quantize_inputs }
    AddOptions { fused_activation_function, pot_scale_int16 }
    SubOptions { fused_activation_function, pot_scale_int16 }
    MulOptions { fused_activation_function }
    DivOptions { fused_activation_function }
    CumsumOptions { exclusive, reverse }
    SoftmaxOptions { beta }
    GeluOptions { approximate }
    LeakyReluOptions { alpha }
    L2NormOptions { fused_activation_function }
    LocalResponseNormalizationOptions { radius, bias, alpha, beta }
    ReducerOptions { keep_dims }
    ArgMaxOptions { output_type }
    ArgMinOptions { output_type }
    ShapeOptions { out_type }
    ReverseSequenceOptions { seq_dim, batch_dim }
    SpaceToDepthOptions { block_size }
    DepthToSpaceOptions { block_size }
    MirrorPadOptions { mode }
    ResizeBilinearOptions { align_corners, half_pixel_centers }
    ResizeNearestNeighborOptions { align_corners, half_pixel_centers }
    ConcatenationOptions { axis, fused_activation_function }
    PackOptions { values_count, axis }
    UnpackOptions { num, axis }
    SplitOptions { num_splits }
    SplitVOptions { num_splits }
    StridedSliceOptions { begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_axis_mask, offset }
    GatherOptions { axis, batch_dims }
    OneHotOptions { axis }
    UniqueOptions { idx_out_type }
    CastOptions { in_data_type, out_data_type }
    SparseToDenseOptions { validate_indices }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;
    use crate::quant::PerTensor;

    #[test]
    fn attributes_have_the_names_of_the_format() {
        let subgraph = Subgraph::default();
        let node = Node::new(
            ops::Conv2d {
                stride_h: 3,
                ..ops::Conv2d::default()
            },
            &[],
            &[],
        );
        let view = View::new(&subgraph, &node, 1);
        assert_eq!(view.attribute("stride_h"), Some(Value::Number(3.0)));
        assert_eq!(view.attribute("padding"), Some(Value::Word("SAME".into())));
        assert_eq!(view.attribute("axis"), None);
        assert!(attribute_names(tfl::BuiltinOperator::SOFTMAX).contains(&"beta"));
    }

    #[test]
    fn weights_are_summed_by_channel() {
        let tensor = Tensor::constant("w", DType::I8, [2, 2], vec![1, 0xff, 4, 0]);
        assert_eq!(channel_sums(&tensor, 0), Some(vec![2, 4]));
        let shifted = tensor.quantized(PerTensor::new(1.0, 1).into());
        assert_eq!(channel_sums(&shifted, 0), Some(vec![2, 4]));
        let truncated = Tensor::constant("w", DType::I8, [2, 2], vec![1]);
        assert_eq!(channel_sums(&truncated, 0), None);
    }

    /// What `ask` says of the last of `nodes` on `tensors`.
    fn of<T>(tensors: &[Tensor], nodes: Vec<Node>, ask: impl Fn(&View) -> T) -> T {
        let mut subgraph = Subgraph::default();
        for tensor in tensors {
            subgraph.add_tensor(tensor.clone());
        }
        subgraph.nodes = nodes;
        let node = subgraph.nodes.last().unwrap();
        ask(&View::new(&subgraph, node, 1))
    }

    fn int8(shape: &[usize]) -> Tensor {
        Tensor::new("t", DType::I8, shape)
    }

    fn ids(range: std::ops::Range<u32>) -> Vec<TensorId> {
        range.map(TensorId).collect()
    }

    #[test]
    fn same_adds_what_the_window_needs_and_valid_nothing() {
        let tensors = [
            int8(&[1, 8, 9, 1]),
            int8(&[1, 3, 5, 1]),
            int8(&[1, 4, 3, 1]),
        ];
        let added = |padding, dilation_w| {
            let op = ops::Conv2d {
                padding,
                stride_h: 2,
                stride_w: 3,
                dilation_w,
                ..ops::Conv2d::default()
            };
            let node = Node::new(op, &ids(0..2), &ids(2..3));
            of(&tensors, vec![node], |view| view.added_padding())
        };
        // Rows: windows start at 0, 2, 4, 6 and are 3 high. Columns: at 0, 3, 6 and are 5 or 9 wide.
        assert_eq!(added(ops::Padding::Same, 1), Some([1, 2]));
        assert_eq!(added(ops::Padding::Same, 2), Some([1, 6]));
        assert_eq!(added(ops::Padding::Valid, 1), Some([0, 0]));
    }

    #[test]
    fn a_transposed_result_may_be_smaller_than_expected() {
        let surplus = |padding, height| {
            let tensors = [
                int8(&[4]),
                int8(&[1, 3, 1, 1]),
                int8(&[1, 4, 5, 1]),
                int8(&[1, height, 10, 1]),
            ];
            let op = ops::TransposeConv {
                padding,
                stride_h: 2,
                stride_w: 2,
                ..ops::TransposeConv::default()
            };
            let node = Node::new(op, &ids(0..3), &ids(3..4));
            of(&tensors, vec![node], |view| view.output_surplus())
        };
        assert_eq!(surplus(ops::Padding::Same, 8), Some([0, 0]));
        assert_eq!(surplus(ops::Padding::Same, 7), Some([-1, 0]));
        assert_eq!(surplus(ops::Padding::Valid, 9), Some([0, 0]));
    }

    #[test]
    fn strides_of_a_slice_belong_to_axes_of_its_operand() {
        let strides = |op: ops::StridedSlice, given: &[i32]| {
            let data: Vec<u8> = given.iter().flat_map(|v| v.to_le_bytes()).collect();
            let list = Tensor::constant("s", DType::I32, [given.len()], data);
            let tensors = [
                int8(&[2, 3, 4, 5]),
                list.clone(),
                list.clone(),
                list,
                int8(&[1]),
            ];
            let node = Node::new(op, &ids(0..4), &ids(4..5));
            of(&tensors, vec![node], |view| view.slice_strides()).unwrap()
        };
        let plain = ops::StridedSlice::default;
        assert_eq!(strides(plain(), &[1, 2]), [1, 2, 1, 1]);
        let ellipsis_mask = 1;
        let last = ops::StridedSlice {
            ellipsis_mask,
            ..plain()
        };
        assert_eq!(strides(last, &[7, 2]), [1, 1, 1, 2]);
        let new_axis_mask = 2;
        let wider = ops::StridedSlice {
            new_axis_mask,
            ..plain()
        };
        assert_eq!(strides(wider, &[1, 7, 2]), [1, 2, 1, 1]);
    }

    #[test]
    fn batches_around_a_convolution_dilate_it_unless_something_else_reads_them() {
        let mut tensors = vec![int8(&[1, 4, 4, 1]); 10];
        for (index, tensor) in tensors.iter_mut().enumerate() {
            tensor.name = index.to_string();
        }
        let triple = |activation| {
            let conv = ops::Conv2d {
                activation,
                ..ops::Conv2d::default()
            };
            vec![
                Node::new(ops::SpaceToBatchNd, &ids(0..3), &ids(3..4)),
                Node::new(conv, &ids(3..5), &ids(5..6)),
                Node::new(ops::BatchToSpaceNd, &ids(5..8), &ids(8..9)),
            ]
        };
        let dilates = |nodes: Vec<Node>| of(&tensors, nodes, |view| view.dilates_by_batches());
        assert!(dilates(triple(Activation::None)));
        let turned = |mut nodes: Vec<Node>, by| {
            nodes.rotate_right(by);
            nodes
        };
        assert!(dilates(turned(triple(Activation::None), 1)));
        assert!(dilates(turned(triple(Activation::None), 2)));
        assert!(!dilates(triple(Activation::Relu)));
        for between in [3, 5] {
            let mut nodes = triple(Activation::None);
            nodes.insert(0, Node::new(ops::Relu, &[TensorId(between)], &ids(9..10)));
            assert!(!dilates(nodes));
        }
    }

    #[test]
    fn an_operand_is_a_feature_map_weights_a_bias_or_a_parameter() {
        let kinds = |op: Op| {
            let node = Node::new(op, &ids(0..4), &[]);
            of(&[], vec![node], |view| {
                let kind = |place| match (view.is_feature_map(place), view.is_parameter(place)) {
                    (true, false) => 'm',
                    (false, true) => 'p',
                    (false, false) => 'w',
                    _ => '?',
                };
                (0..4).map(kind).collect::<String>()
            })
        };
        assert_eq!(kinds(ops::TransposeConv::default().into()), "pwmw");
        assert_eq!(kinds(ops::Split::default().into()), "pmpp");
        assert_eq!(kinds(ops::Concatenation::default().into()), "mmmm");
        assert_eq!(kinds(ops::Maximum.into()), "mmpp");
    }
}
