//! One weighted sum of the graph: which operators are improved, what they compute in float, and what
//! their windows see of an input.

use std::sync::Arc;

use bantam_model::cpu::{Plan, Runner};
use bantam_model::ops::{Activation, Op, Padding};
use bantam_model::{DType, Model, Node, Subgraph, Tensor, TensorId};

use crate::error::ConvertError;
use crate::probe::plan;
use crate::quantize::{Link, values};
use crate::recipe::Settings;

const WEIGHTS: usize = 1;

/// An operator that shall be improved.
pub(super) struct Wanted {
    pub link: Link,
    /// The name of its weights.
    pub name: String,
    /// Whether its weights are rounded anew.
    pub rounding: bool,
    /// Whether its bias is corrected.
    pub bias: bool,
    /// What it reads in the float model and in the integer one.
    pub inputs: (TensorId, TensorId),
    /// Its weights in the integer model.
    pub weights: TensorId,
    /// The operand that is its bias.
    pub bias_operand: usize,
    /// The axis of the weights that runs over the units.
    pub axis: usize,
}

impl Wanted {
    /// The operator at `link`, if its `settings` want something that can be done.
    pub fn new(
        float: &Subgraph,
        integer: &Subgraph,
        link: &Link,
        settings: &Settings,
    ) -> Option<Self> {
        let (node, new) = (&float.nodes[link.float], &integer.nodes[link.integer]);
        let (input, bias_operand, axis) = match node.op {
            Op::Conv2d(_) | Op::FullyConnected(_) => (0, 2, 0),
            Op::DepthwiseConv2d(_) => (0, 2, 3),
            Op::TransposeConv(_) => (2, 3, 0),
            _ => return None,
        };
        let inputs = (node.input(input)?, new.input(input)?);
        let weights = new.input(WEIGHTS)?;
        let own = |id: TensorId| {
            let readers = integer.nodes.iter().flat_map(|n| n.inputs.iter().flatten());
            integer[id].is_constant()
                && readers.filter(|&&reader| reader == id).count() == 1
                && !integer.outputs.contains(&id)
        };
        let original = &float[node.input(WEIGHTS)?];
        let fits = original.is_constant()
            && original.dtype == DType::F32
            && integer[weights].dtype == DType::I8
            && integer[weights].shape == original.shape
            && integer[inputs.1].quantization.is_some()
            && !float[inputs.0].is_constant();
        let (rounding, bias) = (
            settings.learned_rounding && own(weights) && input == 0,
            settings.bias_correction
                && match new.input(bias_operand) {
                    Some(bias) => own(bias),
                    None => matches!(node.op, Op::FullyConnected(_)),
                },
        );
        (fits && (rounding || bias)).then(|| Self {
            link: *link,
            name: original.name.clone(),
            rounding,
            bias,
            inputs,
            weights,
            bias_operand,
            axis,
        })
    }
}

/// An operator alone, in float and without its activation.
pub(super) struct Layer {
    model: Model,
    bias_operand: usize,
    /// With its own weights and bias.
    pub plan: Arc<Plan>,
    /// The float weights.
    pub weights: Vec<f32>,
    pub units: usize,
    /// Places of the result for one sample.
    pub places: usize,
    /// How windows look at the input; `None` where rounding is not for it.
    pub windows: Option<Windows>,
}

impl Layer {
    /// The operator that is `wanted`, with an input as in `float`, the plan of its subgraph.
    pub fn new(subgraph: &Subgraph, wanted: &Wanted, float: &Plan) -> Result<Self, ConvertError> {
        let node = &subgraph.nodes[wanted.link.float];
        let shape = &float.value(wanted.inputs.0).shape;
        let mut alone = Subgraph::default();
        let mut new = node.clone();
        without_activation(&mut new.op);
        for input in new.inputs.iter_mut().flatten() {
            let tensor = match *input == wanted.inputs.0 {
                true => Tensor::new("input", DType::F32, shape.clone()),
                false => subgraph[*input].clone(),
            };
            let is_input = *input == wanted.inputs.0;
            *input = alone.add_tensor(tensor);
            if is_input {
                alone.inputs = vec![*input];
            }
        }
        new.inputs.resize(wanted.bias_operand + 1, None);
        let kernel = &alone[new.inputs[WEIGHTS].unwrap_or(TensorId(0))];
        let (weights, kernel) = (values(kernel), kernel.shape.clone());
        let units = kernel.get(wanted.axis).copied().unwrap_or(1).max(1);
        if new.inputs[wanted.bias_operand].is_none() {
            let bias = Tensor::constant("bias", DType::F32, [units], vec![0; 4 * units]);
            new.inputs[wanted.bias_operand] = Some(alone.add_tensor(bias));
        }
        let result = &float.value(node.outputs[0]).shape;
        let output = Tensor::new("output", DType::F32, result.clone());
        new.outputs = vec![alone.add_tensor(output)];
        alone.outputs.clone_from(&new.outputs);
        let windows = Windows::new(&new, shape, &kernel, result);
        alone.nodes = vec![new];
        let model = Model {
            subgraphs: vec![alone],
            ..Model::default()
        };
        Ok(Self {
            plan: plan(&model, 0, false)?,
            model,
            bias_operand: wanted.bias_operand,
            weights,
            units,
            places: result.iter().product::<usize>() / units,
            windows,
        })
    }

    /// The operator with other weights and another bias.
    pub fn with(&self, weights: &[f32], bias: &[f32]) -> Result<Arc<Plan>, ConvertError> {
        let mut model = self.model.clone();
        let graph = &mut model.subgraphs[0];
        for (operand, values) in [(WEIGHTS, weights), (self.bias_operand, bias)] {
            if let Some(id) = graph.nodes[0].input(operand) {
                graph[id].data = Some(bytemuck::cast_slice::<f32, u8>(values).to_vec().into());
            }
        }
        plan(&model, 0, false)
    }
}

/// The float result of a layer's `plan` for the bytes of an input.
pub(super) fn run(plan: &Arc<Plan>, input: &[u8]) -> Result<Vec<f32>, ConvertError> {
    let mut runner = Runner::new(Arc::clone(plan))?;
    runner.set_input(0, input)?;
    runner.run()?;
    Ok(bytemuck::pod_collect_to_vec(runner.output(0)))
}

fn without_activation(op: &mut Op) {
    match op {
        Op::Conv2d(op) => op.activation = Activation::None,
        Op::DepthwiseConv2d(op) => op.activation = Activation::None,
        Op::FullyConnected(op) => op.activation = Activation::None,
        Op::TransposeConv(op) => op.activation = Activation::None,
        _ => {}
    }
}

/// Where the windows of a weighted sum lie, and which weights multiply what they see.
///
/// Units of the same group see the same elements: all units of a fully connected operator, those that
/// read one channel of a depthwise convolution.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Windows {
    /// Rows and columns of the input, its channels.
    input: [usize; 3],
    /// Rows and columns of the result.
    result: [usize; 2],
    /// Rows and columns of the filter, and the channels that it reads.
    filter: [usize; 3],
    stride: [usize; 2],
    dilation: [usize; 2],
    before: [usize; 2],
    pub groups: usize,
    units: usize,
    /// Whether units are the innermost axis of the weights.
    units_last: bool,
}

impl Windows {
    fn new(node: &Node, input: &[usize], filter: &[usize], result: &[usize]) -> Option<Self> {
        let (padding, stride, dilation) = match &node.op {
            Op::FullyConnected(_) => {
                let &[units, depth] = filter else { return None };
                return (units > 0 && depth > 0).then_some(Self {
                    input: [1, 1, depth],
                    result: [1, 1],
                    filter: [1, 1, depth],
                    stride: [1, 1],
                    dilation: [1, 1],
                    before: [0, 0],
                    groups: 1,
                    units,
                    units_last: false,
                });
            }
            Op::Conv2d(op) => (
                op.padding,
                [op.stride_h, op.stride_w],
                [op.dilation_h, op.dilation_w],
            ),
            Op::DepthwiseConv2d(op) => (
                op.padding,
                [op.stride_h, op.stride_w],
                [op.dilation_h, op.dilation_w],
            ),
            _ => return None,
        };
        let (&[_, h, w, channels], &[a, fh, fw, b], &[_, rows, columns, _]) =
            (input, filter, result)
        else {
            return None;
        };
        let units_last = matches!(node.op, Op::DepthwiseConv2d(_));
        let (units, depth) = if units_last { (b, 1) } else { (a, b) };
        if depth == 0 || channels % depth != 0 || units == 0 {
            return None;
        }
        let groups = channels / depth;
        if groups == 0 || units % groups != 0 {
            return None;
        }
        let [stride, dilation] = [stride, dilation].map(|pair| pair.map(|v| v.max(1) as usize));
        let before = |axis: usize, input: usize, filter: usize, count: usize| match padding {
            Padding::Same => {
                let extent = (filter - 1) * dilation[axis] + 1;
                ((count - 1) * stride[axis] + extent).saturating_sub(input) / 2
            }
            _ => 0,
        };
        let is_empty = [h, w, fh, fw, rows, columns].contains(&0);
        (!is_empty).then(|| Self {
            input: [h, w, channels],
            result: [rows, columns],
            filter: [fh, fw, depth],
            stride,
            dilation,
            before: [before(0, h, fh, rows), before(1, w, fw, columns)],
            groups,
            units,
            units_last,
        })
    }

    /// How many elements a window sees.
    pub fn size(&self) -> usize {
        self.filter.iter().product()
    }

    /// The units of `group`.
    pub fn units(&self, group: usize) -> std::ops::Range<usize> {
        let each = self.units / self.groups;
        group * each..(group + 1) * each
    }

    /// The place among the weights of what `unit` multiplies element `at` of its windows by.
    pub fn weight(&self, unit: usize, at: usize) -> usize {
        match self.units_last {
            true => at * self.units + unit,
            false => unit * self.size() + at,
        }
    }

    /// Appends what the window at `place` of the result sees of `input` in `group`; 0 for padding.
    pub fn look(&self, input: &[f32], place: usize, group: usize, seen: &mut Vec<f32>) {
        let [rows, columns] = self.result;
        let [h, w, channels] = self.input;
        let [fh, fw, depth] = self.filter;
        let (image, row, column) = (
            place / (rows * columns),
            place / columns % rows,
            place % columns,
        );
        for y in 0..fh {
            let y = (row * self.stride[0] + y * self.dilation[0]).checked_sub(self.before[0]);
            for x in 0..fw {
                let x =
                    (column * self.stride[1] + x * self.dilation[1]).checked_sub(self.before[1]);
                match (y.filter(|&y| y < h), x.filter(|&x| x < w)) {
                    (Some(y), Some(x)) => {
                        let from = ((image * h + y) * w + x) * channels + group * depth;
                        seen.extend_from_slice(&input[from..from + depth]);
                    }
                    _ => seen.extend(std::iter::repeat_n(0.0, depth)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::{Conv2d, DepthwiseConv2d, FullyConnected};

    use super::*;

    /// What windows see, times the weights, is what the kernel computes.
    fn check(op: impl Into<Op>, input: &[usize], filter: &[usize], result: &[usize]) {
        let wave = |count: usize, step: f32| -> Vec<f32> {
            (0..count).map(|i| (i as f32 * step).sin()).collect()
        };
        let bytes = |values: &[f32]| bytemuck::cast_slice::<f32, u8>(values).to_vec();
        let weights = wave(filter.iter().product(), 0.7);
        let data = wave(input.iter().product(), 0.3);
        let mut graph = Subgraph::default();
        let x = graph.add_tensor(Tensor::new("x", DType::F32, input));
        let w = Tensor::constant("w", DType::F32, filter, bytes(&weights));
        let w = graph.add_tensor(w);
        let y = graph.add_tensor(Tensor::new("y", DType::F32, result));
        let node = Node::new(op, &[x, w], &[y]);
        let windows = Windows::new(&node, input, filter, result).unwrap();
        graph.nodes.push(node);
        (graph.inputs, graph.outputs) = (vec![x], vec![y]);
        let model = Model {
            subgraphs: vec![graph],
            ..Model::default()
        };
        let expected = run(&plan(&model, 0, false).unwrap(), &bytes(&data)).unwrap();
        let units = *result.last().unwrap();
        for (index, expected) in expected.into_iter().enumerate() {
            let (place, unit) = (index / units, index % units);
            let group = (0..windows.groups).find(|&g| windows.units(g).contains(&unit));
            let mut seen = Vec::new();
            windows.look(&data, place, group.unwrap(), &mut seen);
            let terms = seen.iter().enumerate();
            let sum: f32 = terms
                .map(|(at, v)| v * weights[windows.weight(unit, at)])
                .sum();
            assert!((sum - expected).abs() < 1e-4, "{index}: {sum} {expected}");
        }
    }

    #[test]
    fn windows_see_what_kernels_see() {
        let conv = Conv2d {
            stride_h: 2,
            dilation_w: 2,
            ..Conv2d::default()
        };
        check(conv, &[2, 5, 6, 2], &[3, 3, 2, 2], &[2, 3, 6, 3]);
        let valid = Conv2d {
            padding: Padding::Valid,
            ..Conv2d::default()
        };
        check(valid, &[1, 4, 4, 4], &[4, 3, 3, 2], &[1, 2, 2, 4]);
        let depthwise = DepthwiseConv2d {
            depth_multiplier: 2,
            stride_h: 2,
            stride_w: 2,
            ..DepthwiseConv2d::default()
        };
        check(depthwise, &[1, 5, 5, 3], &[1, 3, 3, 6], &[1, 3, 3, 6]);
        check(FullyConnected::default(), &[3, 4], &[2, 4], &[3, 2]);
    }
}
