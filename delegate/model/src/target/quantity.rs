//! What a rule can measure on an operator: the vocabulary of target packs. To add a quantity, give
//! it a line in the list and an arm in [`Quantity::read`].

use super::condition::{Operands, Reading, Value};
use super::view::{self, View};
use crate::tensor::{DType, Tensor, element_count};

macro_rules! quantities {
    ($($(#[doc = $doc:literal])* $name:ident = $key:literal;)*) => {
        /// What a condition measures.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Quantity {
            $($(#[doc = $doc])* $name,)*
        }

        impl Quantity {
            /// All, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name in a pack.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $key,)*
                }
            }

            /// What it is, in one line.
            pub fn about(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),*).trim_ascii(),)*
                }
            }
        }
    };
}

quantities! {
    /// The element type of each tensor, such as `int8`.
    Type = "type";
    /// The number of dimensions of each tensor.
    Rank = "rank";
    /// The number of dimensions of each tensor, not counting outer ones of 1.
    EffectiveRank = "effective-rank";
    /// The product of all dimensions of each tensor but the innermost three; 1 for up to three.
    Batch = "batch";
    /// The size of each tensor along `axis`, -1 being the innermost; all axes without `axis`.
    Dimension = "dimension";
    /// The product of the sizes of each tensor along `axes`, 1 where there is no such axis.
    Product = "product";
    /// The number of elements of each tensor.
    Elements = "elements";
    /// The product of all dimensions of each tensor but the two smallest.
    ElementsButTwo = "elements-but-two";
    /// The bytes of each tensor.
    Bytes = "bytes";
    /// The elements of the tensors together.
    TotalElements = "total-elements";
    /// The bytes of the tensors together.
    TotalBytes = "total-bytes";
    /// The axes of each tensor that may vary from run to run, outermost 0.
    DynamicAxes = "dynamic-axes";
    /// How many of the tensors there are; for an optional operand 0 or 1.
    Count = "count";
    /// Whether each tensor's value is in the file.
    Constant = "constant";
    /// Whether each tensor has quantization parameters with scales above 0.
    Quantized = "quantized";
    /// How many scales each quantized tensor has; 1 is per tensor.
    Scales = "scales";
    /// Each scale of each tensor.
    Scale = "scale";
    /// Each zero point of each tensor.
    ZeroPoint = "zero-point";
    /// Each element of each integer constant, or those at the places `at`.
    Value = "value";
    /// For each output channel of integer weights, the sum of the distances from the zero point.
    ChannelSum = "channel-sum";
    /// Whether all tensors have one element type.
    SameType = "same-type";
    /// Whether all tensors have one shape.
    SameShape = "same-shape";
    /// Whether all tensors have one scale and zero point.
    SameQuantization = "same-quantization";
    /// The attribute `attribute`, by the format's name: a number, a word such as `SAME`, or true or false.
    Attribute = "attribute";
    /// The larger of `stride_h` and `stride_w`.
    Stride = "stride";
    /// The larger of `dilation_h_factor` and `dilation_w_factor`.
    Dilation = "dilation";
    /// The height of a convolution's or pool's window.
    KernelHeight = "kernel-height";
    /// The width of the window.
    KernelWidth = "kernel-width";
    /// Height times width of the window.
    KernelArea = "kernel-area";
    /// The height of the window with the gaps of its dilation.
    DilatedKernelHeight = "dilated-kernel-height";
    /// The width of the window with the gaps of its dilation.
    DilatedKernelWidth = "dilated-kernel-width";
    /// Height times width of the window with the gaps of its dilation.
    DilatedKernelArea = "dilated-kernel-area";
    /// The axes that the operator reduces, joins, splits, pads, cuts or moves, outermost 0.
    Axes = "axes";
    /// The same axes counted from the innermost, which is -1.
    AxesFromLast = "axes-from-last";
    /// The product of the sizes along those axes.
    AxesElements = "axes-elements";
    /// The size along each of those axes.
    AxesSizes = "axes-sizes";
    /// The stride of a strided slice along each axis of its operand, or along `axis`.
    SliceStride = "slice-stride";
    /// Rows and columns that the padding of a window adds around the image; 0 for VALID.
    AddedPadding = "added-padding";
    /// Rows and columns of a transposed convolution's result beyond what follows from operand, stride and padding.
    OutputSurplus = "output-surplus";
    /// Whether it takes part in a dilated convolution written as SPACE_TO_BATCH_ND, convolution, BATCH_TO_SPACE_ND.
    DilatesByBatches = "dilates-by-batches";
    /// Height and width of the result through those of the first operand; less one each where `align_corners` is set.
    ResizeFactor = "resize-factor";
    /// The version of the operator that the file names.
    Version = "version";
}

/// What measuring gave.
pub(super) enum Measured {
    /// A reading a tensor, axis or whatever is measured.
    Known(Vec<Reading>),
    /// It cannot be known; why.
    Unknown(String),
}

impl Quantity {
    /// The tensors that it measures, unless a condition names others; `None` for what is not
    /// measured on tensors.
    pub(super) fn default_operands(self) -> Option<Operands> {
        match self {
            Self::Type | Self::Rank | Self::EffectiveRank | Self::Batch => {
                Some(Operands::Activations)
            }
            Self::Dimension | Self::Elements | Self::Bytes => Some(Operands::Activations),
            Self::Product | Self::ElementsButTwo => Some(Operands::Activations),
            Self::TotalElements | Self::TotalBytes => Some(Operands::Activations),
            Self::DynamicAxes | Self::Quantized | Self::Scales | Self::Scale => Some(Operands::All),
            Self::Count | Self::Constant => Some(Operands::Inputs),
            Self::ZeroPoint | Self::SameType | Self::SameShape => Some(Operands::Activations),
            Self::SameQuantization => Some(Operands::Activations),
            Self::Value => Some(Operands::Constants),
            Self::ChannelSum => Some(Operands::Weights),
            _ => None,
        }
    }

    /// Whether its values are numbers, for which a condition may give `min`, `max` and `multiple-of`.
    pub(super) fn is_number(self) -> bool {
        !matches!(
            self,
            Self::Type
                | Self::Constant
                | Self::Quantized
                | Self::SameType
                | Self::SameShape
                | Self::SameQuantization
                | Self::DilatesByBatches
        )
    }

    pub(super) fn read(self, view: &View, what: &What) -> Measured {
        let readings = self.default_operands().map(|default| {
            let operands = what.of.unwrap_or(default);
            let mut tensors = operands.select(view);
            if let Some(types) = &what.types {
                tensors.retain(|t| types.contains(&t.dtype));
            }
            tensors
        });
        match readings {
            Some(tensors) => self.on_tensors(view, &tensors, what),
            None => self.on_operator(view, what),
        }
    }

    fn on_tensors(self, view: &View, tensors: &[&Tensor], what: &What) -> Measured {
        let mut readings = Vec::new();
        let shapes = matches!(
            self,
            Self::EffectiveRank
                | Self::Batch
                | Self::Dimension
                | Self::Product
                | Self::Elements
                | Self::ElementsButTwo
                | Self::Bytes
                | Self::TotalElements
                | Self::TotalBytes
                | Self::SameShape
        );
        if shapes && let Some(unknown) = tensors.iter().find(|t| is_dynamic_inside(t)) {
            return Measured::Unknown(format!("the shape of `{}` may vary", unknown.name));
        }
        let same = |f: &dyn Fn(&Tensor, &Tensor) -> bool| {
            let flag = tensors.windows(2).all(|pair| f(pair[0], pair[1]));
            Measured::Known(vec![Reading::new(Value::Flag(flag))])
        };
        match self {
            Self::Count => {
                return Measured::Known(vec![Reading::new(Value::from(tensors.len()))]);
            }
            Self::SameType => return same(&|a, b| a.dtype == b.dtype),
            Self::SameShape => return same(&|a, b| a.shape == b.shape),
            Self::SameQuantization => {
                let of = |t: &Tensor| {
                    t.quantization
                        .as_ref()
                        .map(|q| (q.scale.clone(), q.zero_point.clone()))
                };
                return same(&|a, b| of(a) == of(b));
            }
            Self::TotalElements | Self::TotalBytes => {
                let size = |t: &&Tensor| match self {
                    Self::TotalElements => element_count(&t.shape),
                    _ => t.dtype.byte_len(&t.shape),
                };
                let total = tensors
                    .iter()
                    .try_fold(0usize, |sum, t| sum.checked_add(size(t)?));
                return match total {
                    Some(total) => Measured::Known(vec![Reading::new(Value::from(total))]),
                    None => Measured::Unknown("a tensor's size is not known".to_owned()),
                };
            }
            _ => {}
        }
        for tensor in tensors {
            let values = match self {
                Self::Type => vec![Value::Word(tensor.dtype.to_string())],
                Self::Rank => vec![Value::from(tensor.shape.len())],
                Self::EffectiveRank => {
                    let ones = tensor.shape.iter().take_while(|&&d| d == 1).count();
                    vec![Value::from(tensor.shape.len() - ones)]
                }
                Self::Batch => {
                    let outer = tensor.shape.len().saturating_sub(3);
                    match element_count(&tensor.shape[..outer]) {
                        Some(batch) => vec![Value::from(batch)],
                        None => return size_unknown(tensor),
                    }
                }
                Self::Dimension => match what.axis {
                    None => tensor.shape.iter().map(|&d| Value::from(d)).collect(),
                    Some(axis) => vec![Value::from(size_along(tensor, axis))],
                },
                Self::Product => {
                    let axes = what.axes.iter().flatten();
                    let sizes: Vec<usize> = axes.map(|&axis| size_along(tensor, axis)).collect();
                    match element_count(&sizes) {
                        Some(product) => vec![Value::from(product)],
                        None => return size_unknown(tensor),
                    }
                }
                Self::ElementsButTwo => {
                    let mut sizes = tensor.shape.clone();
                    sizes.sort_unstable();
                    match element_count(sizes.get(2..).unwrap_or_default()) {
                        Some(count) => vec![Value::from(count)],
                        None => return size_unknown(tensor),
                    }
                }
                Self::Elements => match element_count(&tensor.shape) {
                    Some(count) => vec![Value::from(count)],
                    None => return size_unknown(tensor),
                },
                Self::Bytes => match tensor.dtype.byte_len(&tensor.shape) {
                    Some(bytes) => vec![Value::from(bytes)],
                    None => return size_unknown(tensor),
                },
                Self::DynamicAxes => dynamic_axes(tensor).map(Value::from).collect(),
                Self::Constant => vec![Value::Flag(tensor.is_constant())],
                Self::Quantized => vec![Value::Flag(view::is_quantized(
                    tensor.quantization.as_ref(),
                ))],
                Self::Scales => {
                    let scales = tensor.quantization.as_ref().map_or(0, |q| q.scale.len());
                    // What is not quantized has none, which is another quantity's to say.
                    if scales == 0 {
                        Vec::new()
                    } else {
                        vec![Value::from(scales)]
                    }
                }
                Self::Scale => {
                    let scales = tensor.quantization.as_ref().map_or(&[][..], |q| &q.scale);
                    scales.iter().map(|&s| Value::Number(s.into())).collect()
                }
                Self::ZeroPoint => {
                    let points = tensor
                        .quantization
                        .as_ref()
                        .map_or(&[][..], |q| &q.zero_point);
                    points.iter().map(|&z| Value::Number(z as f64)).collect()
                }
                Self::Value => {
                    let Some(values) = view::integers(tensor) else {
                        return Measured::Unknown(format!(
                            "the values of `{}` are not in the file",
                            tensor.name
                        ));
                    };
                    let wanted =
                        |index: &usize| what.at.as_ref().is_none_or(|at| at.contains(index));
                    let indices = 0..values.len();
                    indices
                        .filter(wanted)
                        .map(|i| Value::Number(values[i] as f64))
                        .collect()
                }
                Self::ChannelSum => match view::channel_sums(tensor, view.weights_axis()) {
                    Some(sums) => sums
                        .into_iter()
                        .max()
                        .map(|s| Value::Number(s as f64))
                        .into_iter()
                        .collect(),
                    None => {
                        return Measured::Unknown(format!(
                            "the values of `{}` are not in the file",
                            tensor.name
                        ));
                    }
                },
                _ => Vec::new(),
            };
            readings.extend(values.into_iter().map(|value| Reading {
                value,
                tensor: Some(tensor.name.clone()),
            }));
        }
        Measured::Known(readings)
    }

    fn on_operator(self, view: &View, what: &What) -> Measured {
        let known = |value: Value| Measured::Known(vec![Reading::new(value)]);
        let number = |value: Option<i64>| match value {
            Some(value) => known(Value::Number(value as f64)),
            None => Measured::Unknown(format!("{} has no {}", view.node.op, self.name())),
        };
        let attribute = |name: &str| view.attribute(name).and_then(|v| v.integer());
        let area = |kernel: Option<(i64, i64)>| kernel.and_then(|(h, w)| h.checked_mul(w));
        match self {
            Self::Version => number(Some(view.version.into())),
            Self::Attribute => {
                let name = what.attribute.as_deref().unwrap_or_default();
                match view.attribute(name) {
                    Some(value) => known(value),
                    None => Measured::Unknown(format!("{} has no attribute {name}", view.node.op)),
                }
            }
            Self::Stride => number(attribute("stride_h").max(attribute("stride_w"))),
            Self::Dilation => {
                number(attribute("dilation_h_factor").max(attribute("dilation_w_factor")))
            }
            Self::KernelHeight => number(view.kernel().map(|k| k.0)),
            Self::KernelWidth => number(view.kernel().map(|k| k.1)),
            Self::KernelArea => number(area(view.kernel())),
            Self::DilatedKernelHeight => number(view.dilated_kernel().map(|k| k.0)),
            Self::DilatedKernelWidth => number(view.dilated_kernel().map(|k| k.1)),
            Self::DilatedKernelArea => number(area(view.dilated_kernel())),
            Self::Axes | Self::AxesFromLast | Self::AxesElements | Self::AxesSizes => {
                self.on_axes(view)
            }
            Self::SliceStride => match view.slice_strides() {
                Ok(strides) => {
                    let wanted: &[i64] = match what.axis {
                        None => &strides,
                        Some(axis) => along(&strides, axis).map_or(&[], std::slice::from_ref),
                    };
                    numbers(wanted)
                }
                Err(why) => Measured::Unknown(why),
            },
            Self::AddedPadding => match view.added_padding() {
                Some(added) => numbers(&added),
                None => number(None),
            },
            Self::OutputSurplus => match view.output_surplus() {
                Some(surplus) => numbers(&surplus),
                None => number(None),
            },
            Self::DilatesByBatches => known(Value::Flag(view.dilates_by_batches())),
            Self::ResizeFactor => resize_factors(view),
            _ => Measured::Known(Vec::new()),
        }
    }

    fn on_axes(self, view: &View) -> Measured {
        let axes = match view.axes() {
            None => return Measured::Unknown(format!("{} has no axes", view.node.op)),
            Some(Err(why)) => return Measured::Unknown(why),
            Some(Ok(axes)) => axes,
        };
        let source = match view.node.op {
            crate::Op::Split(_) => view.input(1),
            crate::Op::Pack(_) | crate::Op::ExpandDims(_) => view.output(0),
            _ => view.input(0),
        };
        let Some(tensor) = source else {
            return Measured::Unknown("an operand is missing".to_owned());
        };
        let rank = tensor.shape.len();
        let values: Vec<Value> = match self {
            Self::Axes => axes.into_iter().map(Value::from).collect(),
            Self::AxesFromLast => axes
                .into_iter()
                .map(|a| Value::Number(a as f64 - rank as f64))
                .collect(),
            _ => {
                let sizes: Vec<usize> = axes
                    .iter()
                    .filter_map(|&a| tensor.shape.get(a).copied())
                    .collect();
                match (self, element_count(&sizes)) {
                    (Self::AxesSizes, _) => sizes.into_iter().map(Value::from).collect(),
                    (_, Some(count)) => vec![Value::from(count)],
                    (_, None) => return size_unknown(tensor),
                }
            }
        };
        Measured::Known(values.into_iter().map(Reading::new).collect())
    }
}

/// Which part of an operator a quantity is measured on.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct What {
    /// The tensors, where not those of the quantity itself.
    pub of: Option<Operands>,
    /// Of the tensors only those of these types.
    pub types: Option<Vec<DType>>,
    /// The axis of `dimension` or `slice-stride`.
    pub axis: Option<i64>,
    /// The axes of `product`.
    pub axes: Option<Vec<i64>>,
    /// The name of `attribute`.
    pub attribute: Option<String>,
    /// The places of `value`.
    pub at: Option<Vec<usize>>,
}

fn numbers(values: &[i64]) -> Measured {
    let readings = values
        .iter()
        .map(|&v| Reading::new(Value::Number(v as f64)));
    Measured::Known(readings.collect())
}

/// The value for `axis`, which counts from the end where it is negative.
fn along<T>(values: &[T], axis: i64) -> Option<&T> {
    let index = if axis < 0 {
        axis + values.len() as i64
    } else {
        axis
    };
    values.get(usize::try_from(index).ok()?)
}

/// The size along `axis`; where there is no such axis, the 1 that it would broadcast from.
fn size_along(tensor: &Tensor, axis: i64) -> usize {
    along(&tensor.shape, axis).copied().unwrap_or(1)
}

fn size_unknown(tensor: &Tensor) -> Measured {
    Measured::Unknown(format!("the size of `{}` is not known", tensor.name))
}

/// The axes that may vary.
fn dynamic_axes(tensor: &Tensor) -> impl Iterator<Item = usize> {
    let signature = tensor.shape_signature.as_deref().unwrap_or_default();
    (0..signature.len()).filter(|&axis| signature[axis] < 0)
}

/// Whether more than the outermost axis may vary: such a tensor's stored shape says nothing of its size.
fn is_dynamic_inside(tensor: &Tensor) -> bool {
    dynamic_axes(tensor).any(|axis| axis > 0)
}

fn resize_factors(view: &View) -> Measured {
    let (Some(input), Some(output)) = (view.input(0), view.output(0)) else {
        return Measured::Unknown("an operand is missing".to_owned());
    };
    if is_dynamic_inside(input) || is_dynamic_inside(output) {
        return Measured::Unknown(format!("the shape of `{}` may vary", output.name));
    }
    let (&[_, in_h, in_w, _], &[_, out_h, out_w, _]) = (&*input.shape, &*output.shape) else {
        return Measured::Unknown(format!("`{}` is no image", input.name));
    };
    let aligned = view.attribute("align_corners") == Some(Value::Flag(true));
    let factor = |from: usize, to: usize| match (aligned, from, to) {
        (true, 2.., 2..) => (to - 1) as f64 / (from - 1) as f64,
        _ => to as f64 / (from.max(1)) as f64,
    };
    let values = [factor(in_h, out_h), factor(in_w, out_w)];
    Measured::Known(values.map(|v| Reading::new(Value::Number(v))).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Node, Subgraph};
    use crate::ops::Relu;

    #[test]
    fn products_are_of_axes_counted_from_either_end_and_missing_ones_are_1() {
        let mut subgraph = Subgraph::default();
        let id = subgraph.add_tensor(Tensor::new("x", DType::I8, [2, 3, 5, 7]));
        subgraph.nodes = vec![Node::new(Relu, &[id], &[])];
        let view = View::new(&subgraph, &subgraph.nodes[0], 1);
        let read = |quantity: Quantity, axes: &[i64], types: Option<Vec<DType>>| {
            let what = What {
                axes: Some(axes.to_vec()),
                types,
                ..What::default()
            };
            match quantity.read(&view, &what) {
                Measured::Known(readings) => {
                    readings.iter().filter_map(|r| r.value.integer()).collect()
                }
                Measured::Unknown(why) => panic!("{why}"),
            }
        };
        let product = |axes: &[i64]| -> Vec<i64> { read(Quantity::Product, axes, None) };
        assert_eq!(product(&[-3, -2]), [15]);
        assert_eq!(product(&[0, -1]), [14]);
        assert_eq!(product(&[-5, 9]), [1]);
        let two: Vec<i64> = read(Quantity::ElementsButTwo, &[], None);
        assert_eq!(two, [35]);
        let others: Vec<i64> = read(Quantity::Product, &[0], Some(vec![DType::I32]));
        assert_eq!(others, []);
    }
}
