//! The new graph: integer operators, small constants, and QUANTIZE and DEQUANTIZE where integer
//! meets float.

use std::collections::HashMap;

use bantam_model::ops::{Dequantize, Intermediate, Op, QuantRule, Quantize, Results, Role};
use bantam_model::quant::PerTensor;
use bantam_model::{DType, Node, Quantization, Subgraph, Tensor, TensorId};

use super::boundary::Ends;
use super::encoding::{Encoding, Width};
use super::weights::{Int8Kernel, Weights};
use super::{Gain, Link, Params, Part, Verdict, constants, is_float_constant};
use crate::recipe::{Granularity, IoType, Recipe, Scheme, Settings, WeightClipping};

pub(super) struct Rewriter<'a> {
    /// The float graph.
    float: &'a Subgraph,
    part: &'a Part,
    params: &'a Params,
    recipe: &'a Recipe,
    /// How the inputs and outputs look to the operators that run this subgraph; `None` for the one
    /// that the caller enters, where the recipe says it.
    ends: Option<Ends>,
    /// How the operands and results of operators look that run other subgraphs.
    calls: HashMap<usize, Ends>,
    /// The graph that is built; tensors of the float graph keep their ids.
    out: Subgraph,
    /// For a tensor that is computed in integers: its integer form.
    native: HashMap<TensorId, (TensorId, Encoding)>,
    /// Integer forms that a QUANTIZE makes, and constants.
    forms: HashMap<(TensorId, (Width, u32, i32)), TensorId>,
    /// Float forms that a DEQUANTIZE makes, by what it reads.
    floats: HashMap<TensorId, TensorId>,
    /// Int8 weights, by their float form, axis and scales.
    weights: HashMap<(TensorId, Option<usize>, Vec<u32>), TensorId>,
    /// Float16 constants, by their float form.
    halves: HashMap<TensorId, TensorId>,
    /// The place of the operator that is rewritten.
    index: usize,
    notes: Notes,
}

/// An input or output that is integer.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Edge {
    encoding: Encoding,
    /// Whether it is uint8, not int8.
    is_unsigned: bool,
}

/// What is to be said of the rewriting.
#[derive(Default)]
pub(super) struct Notes {
    pub warnings: Vec<String>,
    pub gains: Vec<Gain>,
    pub links: Vec<Link>,
}

impl<'a> Rewriter<'a> {
    pub fn new(
        float: &'a Subgraph,
        part: &'a Part,
        params: &'a Params,
        recipe: &'a Recipe,
        ends: Option<Ends>,
        calls: HashMap<usize, Ends>,
    ) -> Self {
        Self {
            float,
            part,
            params,
            recipe,
            ends,
            calls,
            out: Subgraph {
                nodes: Vec::new(),
                ..float.clone()
            },
            native: HashMap::new(),
            forms: HashMap::new(),
            floats: HashMap::new(),
            weights: HashMap::new(),
            halves: HashMap::new(),
            index: 0,
            notes: Notes::default(),
        }
    }

    /// The whole graph, and what the user should know.
    pub fn rewrite(mut self) -> (Subgraph, Notes) {
        self.inputs();
        self.operators();
        self.outputs();
        (self.out, self.notes)
    }

    fn operators(&mut self) {
        let nodes = self.float.nodes.iter().zip(&self.part.verdicts);
        for (index, ((node, verdict), settings)) in nodes.zip(&self.part.settings).enumerate() {
            self.index = index;
            match verdict {
                Verdict::Integer(rule, width) => self.integer(node, rule, *width, settings),
                Verdict::Weights(weights) => self.small_weights(node, *weights, settings),
                Verdict::Half => self.half_constants(node),
                Verdict::Call(_) => self.call(index, node),
                Verdict::Float(_) | Verdict::Untouched => self.other(node.clone()),
                Verdict::Superfluous => {}
            }
        }
    }

    /// The integers of the input at `index`; `None` for a float.
    fn input_edge(&self, index: usize) -> Option<Edge> {
        match &self.ends {
            None => self.recipe_edge(self.float.inputs[index], self.recipe.input_type()),
            Some(ends) => Edge::inner(ends.inputs.get(index)),
        }
    }

    /// The same for `output`.
    fn output_edge(&self, output: TensorId) -> Option<Edge> {
        match &self.ends {
            None => self.recipe_edge(output, self.recipe.output_type()),
            Some(ends) => {
                let index = self.float.outputs.iter().position(|&id| id == output)?;
                Edge::inner(ends.outputs.get(index))
            }
        }
    }

    fn recipe_edge(&self, id: TensorId, wanted: IoType) -> Option<Edge> {
        Some(Edge {
            encoding: self.params.get(id, Width::of_edge(wanted)?),
            is_unsigned: wanted == IoType::U8,
        })
    }

    /// Gives the inputs their types.
    fn inputs(&mut self) {
        for (index, &input) in self.float.inputs.iter().enumerate() {
            let seen = self.native.contains_key(&input);
            if self.float[input].dtype != DType::F32 || seen || self.float[input].is_constant() {
                continue;
            }
            let Some(edge) = self.input_edge(index) else {
                continue;
            };
            let encoding = edge.encoding;
            if edge.is_unsigned {
                let inner = self.add(input, encoding);
                self.become_unsigned(input, encoding.params);
                self.push(Quantize, input, inner);
                self.native.insert(input, (inner, encoding));
            } else {
                self.become_integer(input, encoding);
            }
        }
    }

    /// Gives the outputs their types. An output keeps its id.
    fn outputs(&mut self) {
        let mut outputs = self.float.outputs.clone();
        outputs.sort_unstable();
        outputs.dedup();
        for output in outputs {
            if self.float[output].dtype != DType::F32 || self.float.inputs.contains(&output) {
                continue;
            }
            let native = self.native.get(&output).copied();
            match (native, self.output_edge(output)) {
                (Some((inner, _)), None) => self.push(Dequantize, inner, output),
                (Some((inner, _)), Some(_)) if inner == output => {}
                (
                    Some((inner, _)),
                    Some(Edge {
                        encoding,
                        is_unsigned,
                    }),
                ) => {
                    let inner = if is_unsigned {
                        let signed = self.operand(output, encoding);
                        self.become_unsigned(output, encoding.params);
                        signed
                    } else {
                        self.become_integer(output, encoding);
                        inner
                    };
                    self.push(Quantize, inner, output);
                }
                (None, None) => {}
                (None, Some(edge)) => self.quantize_float_output(output, edge),
            }
        }
    }

    /// An output that a float operator computes, or a constant: that operator and all readers use a
    /// new tensor.
    fn quantize_float_output(&mut self, output: TensorId, edge: Edge) {
        let encoding = edge.encoding;
        let inner = self.out.add_tensor(Tensor {
            name: format!("{}_float", self.float[output].name),
            ..self.float[output].clone()
        });
        for node in &mut self.out.nodes {
            let ids = node.inputs.iter_mut().flatten().chain(&mut node.outputs);
            ids.filter(|id| **id == output).for_each(|id| *id = inner);
        }
        if edge.is_unsigned {
            self.become_unsigned(output, encoding.params);
        } else if self.float[output].is_constant() {
            self.out[output] = constants::activation(&self.float[output], encoding);
            return;
        } else {
            self.become_integer(output, encoding);
        }
        self.out[output].data = None;
        self.push(Quantize, inner, output);
    }

    fn integer(&mut self, node: &Node, rule: &QuantRule, width: Width, settings: &Settings) {
        let mut new = node.clone();
        let mut scales: HashMap<usize, Vec<f32>> = HashMap::new();
        for (index, input) in node.inputs.iter().enumerate() {
            let Some(id) = *input else { continue };
            new.inputs[index] = Some(match rule.role(index) {
                Role::Plain | Role::DistinctPlaces => id,
                Role::Activation => self.operand(id, self.wanted(node, rule, width, id)),
                Role::Weights { axis } => {
                    let axis = settings.weights.axis(axis);
                    let mut found = self.weight_scales(id, axis, settings);
                    if width == Width::Int8 {
                        self.raise_for_biases(node, rule, index, &mut found);
                    }
                    let weights = self.weights(id, axis, &found);
                    scales.insert(index, found);
                    weights
                }
                Role::WideWeights { largest } => {
                    let scale = constants::wide_scale(&self.float[id], largest);
                    scales.insert(index, vec![scale]);
                    self.out
                        .add_tensor(constants::wide_weights(&self.float[id], scale, largest))
                }
                role @ (Role::Bias { .. } | Role::NormBias { .. } | Role::HiddenBias { .. }) => {
                    if width == Width::Int16 {
                        new.op.set_quantized_bias_type(width.bias_dtype());
                    }
                    self.bias(node, rule, id, role, width, &mut scales)
                }
                Role::State { output } => {
                    let parameters = node.outputs.get(output);
                    let parameters = parameters.map(|&o| self.params.get(o, width).params);
                    self.become_state(id, DType::I8, parameters)
                }
                Role::WideState => self.become_state(id, DType::I16, Some(self.params.wide(id))),
                Role::CellState { intermediate } => {
                    let seen = node.intermediates.get(intermediate);
                    let parameters = seen.map(|&seen| self.params.power_of_two(seen));
                    self.become_state(id, DType::I16, parameters)
                }
            });
        }
        for output in &mut new.outputs {
            if rule.results != Results::Plain && self.float[*output].dtype == DType::F32 {
                *output = self.result(*output, self.params.get(*output, width));
            }
        }
        new.intermediates = self.intermediates(node);
        self.notes.links.push(Link {
            subgraph: self.part.number,
            float: self.index,
            integer: self.out.nodes.len(),
        });
        self.out.nodes.push(new);
    }

    /// An operator that runs subgraphs: what it hands over gets the type and parameters that it has
    /// inside.
    fn call(&mut self, index: usize, node: &Node) {
        let ends = self.calls.remove(&index).unwrap_or_default();
        let mut new = node.clone();
        for (input, end) in new.inputs.iter_mut().zip(ends.inputs) {
            *input = input.map(|id| match end {
                Some(encoding) => self.operand(id, encoding),
                None => self.as_float(id),
            });
        }
        for (output, end) in new.outputs.iter_mut().zip(ends.outputs) {
            if let Some(encoding) = end {
                *output = self.result(*output, encoding);
            }
        }
        self.out.nodes.push(new);
    }

    /// The bias `id` in the scale of its accumulator.
    fn bias(
        &mut self,
        node: &Node,
        rule: &QuantRule,
        id: TensorId,
        role: Role,
        width: Width,
        scales: &mut HashMap<usize, Vec<f32>>,
    ) -> TensorId {
        let Some((factor, weights)) = self.bias_scale(node, rule, width, role) else {
            return id;
        };
        // Coefficients of a normalization come after the bias that takes their scale.
        let scales = scales.entry(weights).or_insert_with(|| {
            match (node.input(weights), rule.role(weights)) {
                (Some(id), Role::WideWeights { largest }) => {
                    vec![constants::wide_scale(&self.float[id], largest)]
                }
                _ => vec![1.0],
            }
        });
        self.out
            .add_tensor(constants::bias(&self.float[id], factor, scales, width))
    }

    /// What the scale of a bias with `role` is: a factor times the scales of the operand at an index.
    fn bias_scale(
        &self,
        node: &Node,
        rule: &QuantRule,
        width: Width,
        role: Role,
    ) -> Option<(f32, usize)> {
        let operand = |index: usize| {
            let id = node.input(index)?;
            Some(match rule.role(index) {
                Role::WideState => self.params.wide(id).scale,
                _ => self.params.get(id, width).params.scale,
            })
        };
        match role {
            Role::NormBias { norm, .. } if node.input(norm).is_some() => Some((1.0 / 1024.0, norm)),
            Role::Bias { input, weights } | Role::NormBias { input, weights, .. } => {
                Some((operand(input)?, weights))
            }
            Role::HiddenBias {
                intermediate,
                weights,
            } => {
                let id = *node.intermediates.get(intermediate)?;
                Some((self.params.get(id, width).params.scale, weights))
            }
            _ => None,
        }
    }

    /// Makes the variable `id` an integer one.
    fn become_state(
        &mut self,
        id: TensorId,
        dtype: DType,
        parameters: Option<PerTensor>,
    ) -> TensorId {
        self.out[id].dtype = dtype;
        self.out[id].quantization = parameters.map(Quantization::from);
        id
    }

    /// The intermediates of `node` as an integer operator: empty tensors with parameters.
    fn intermediates(&mut self, node: &Node) -> Vec<TensorId> {
        let kinds = node.op.operator().map(|o| o.quant_intermediates());
        let kinds = kinds.unwrap_or_default();
        for (kind, &id) in kinds.iter().zip(&node.intermediates) {
            let (dtype, parameters) = match *kind {
                Intermediate::Wide { norm } if node.input(norm).is_some() => {
                    (DType::I16, Some(self.params.wide(id)))
                }
                Intermediate::Wide { .. } => (DType::F32, None),
                Intermediate::Hidden { projection, output } => {
                    let own = node.input(projection).map(|_| id);
                    let same = own.or(node.outputs.get(output).copied());
                    (
                        DType::I8,
                        same.map(|id| self.params.get(id, Width::Int8).params),
                    )
                }
            };
            self.out[id].dtype = dtype;
            self.out[id].quantization = parameters.map(Quantization::from);
        }
        node.intermediates
            .iter()
            .copied()
            .take(kinds.len())
            .collect()
    }

    /// The encoding in which `node` must read the activation `id`.
    fn wanted(&self, node: &Node, rule: &QuantRule, width: Width, id: TensorId) -> Encoding {
        match (rule.results, node.outputs.first()) {
            (Results::SameAsInputs | Results::SymmetricAsInputs, Some(&output)) => {
                self.params.get(output, width)
            }
            _ => self.params.get(id, width),
        }
    }

    /// The scales of the weights `id`.
    fn weight_scales(
        &mut self,
        id: TensorId,
        axis: Option<usize>,
        settings: &Settings,
    ) -> Vec<f32> {
        let tensor = &self.float[id];
        let full = constants::weight_scales(tensor, axis);
        let clipped = match settings.weight_clipping {
            WeightClipping::None => return full,
            WeightClipping::Mse => constants::clipped_scales(tensor, axis),
            WeightClipping::Octav => constants::octav_scales(tensor, axis),
        };
        let error = |scales| constants::squared_error(tensor, axis, scales);
        let (before, after) = (error(&full), error(&clipped));
        if after < before {
            self.notes.gains.push(Gain {
                subgraph: self.part.number,
                index: self.index,
                name: tensor.name.clone(),
                option: "weight-clipping",
                ratio: after / before,
                db: None,
            });
        }
        clipped
    }

    /// Raises the scales of the weights at `index` so that int32 holds the node's bias.
    fn raise_for_biases(&self, node: &Node, rule: &QuantRule, index: usize, scales: &mut [f32]) {
        for (at, bias) in node.inputs.iter().enumerate() {
            if let Some(bias) = *bias
                && let Some((factor, weights)) =
                    self.bias_scale(node, rule, Width::Int8, rule.role(at))
                && weights == index
            {
                constants::raise_for_bias(scales, &self.float[bias], factor);
            }
        }
    }

    fn weights(&mut self, id: TensorId, axis: Option<usize>, scales: &[f32]) -> TensorId {
        let key = (id, axis, scales.iter().map(|s| s.to_bits()).collect());
        if let Some(&known) = self.weights.get(&key) {
            return known;
        }
        let weights = constants::weights(&self.float[id], axis, scales);
        let new = self.out.add_tensor(weights);
        self.weights.insert(key, new);
        new
    }

    /// The form of `id` in `encoding`: the one it is computed in, or a requantized one.
    fn operand(&mut self, id: TensorId, encoding: Encoding) -> TensorId {
        let native = self.native.get(&id).copied();
        if let Some((native, own)) = native
            && own == encoding
        {
            return native;
        }
        let form = (id, encoding.key());
        if let Some(&known) = self.forms.get(&form) {
            return known;
        }
        let new = if self.float[id].is_constant() {
            let constant = constants::activation(&self.float[id], encoding);
            self.out.add_tensor(constant)
        } else {
            let new = self.add(id, encoding);
            self.push(Quantize, native.map_or(id, |(native, _)| native), new);
            new
        };
        self.forms.insert(form, new);
        new
    }

    /// The tensor into which an operator writes `output` as integers.
    fn result(&mut self, output: TensorId, encoding: Encoding) -> TensorId {
        let visible = self.float.outputs.contains(&output);
        let as_it_is = || {
            let edge = self.output_edge(output);
            edge.is_some_and(|edge| !edge.is_unsigned && edge.encoding == encoding)
        };
        if visible && !as_it_is() {
            let inner = self.add(output, encoding);
            self.native.insert(output, (inner, encoding));
            inner
        } else {
            self.become_integer(output, encoding);
            output
        }
    }

    /// A float operator with int8 weights.
    fn small_weights(&mut self, node: &Node, weights: Weights, settings: &Settings) {
        let mut new = node.clone();
        let mut axis = settings.weights.axis(weights.axis);
        let mut quantization = None;
        for (index, id) in weights.given(node) {
            let mut scales = self.weight_scales(id, axis, settings);
            if weights.kernel == Int8Kernel::HybridPerAxis && axis.is_none() {
                axis = weights.axis;
                let count = axis.and_then(|axis| self.float[id].shape.get(axis));
                scales = vec![scales[0]; *count.unwrap_or(&1)];
            }
            let mut operand = self.weights(id, axis, &scales);
            quantization.clone_from(&self.out[operand].quantization);
            if settings.scheme == Scheme::WeightOnly {
                operand = self.dequantized(operand, id);
            }
            new.inputs[index] = Some(operand);
        }
        if settings.scheme == Scheme::WeightOnly {
            return self.other(new);
        }
        if let Op::Opaque(op) = &mut new.op {
            op.version = op.version.max(weights.version);
        }
        match weights.kernel {
            Int8Kernel::Hybrid | Int8Kernel::HybridPerAxis => {
                new.op.set_asymmetric_quantize_inputs(true);
                self.other(new);
            }
            Int8Kernel::Copy => {
                let copies: Vec<(TensorId, TensorId)> = new
                    .outputs
                    .iter_mut()
                    .map(|output| {
                        let inner = self.out.add_tensor(Tensor {
                            name: format!("{}_int8", self.float[*output].name),
                            dtype: DType::I8,
                            quantization: quantization.clone(),
                            ..self.float[*output].clone()
                        });
                        (inner, std::mem::replace(output, inner))
                    })
                    .collect();
                self.other(new);
                for (inner, output) in copies {
                    self.push(Dequantize, inner, output);
                }
            }
        }
    }

    /// A float operator with float16 constants.
    fn half_constants(&mut self, node: &Node) {
        let mut new = node.clone();
        for input in new.inputs.iter_mut().flatten() {
            if is_float_constant(self.float, *input) {
                let half = self.half(*input);
                *input = self.dequantized(half, *input);
            }
        }
        self.other(new);
    }

    fn half(&mut self, id: TensorId) -> TensorId {
        if let Some(&known) = self.halves.get(&id) {
            return known;
        }
        let (half, clamped) = constants::half(&self.float[id]);
        if clamped > 0 {
            self.notes.warnings.push(format!(
                "{clamped} values of {:?} are beyond float16 and became its largest",
                half.name
            ));
        }
        let new = self.out.add_tensor(half);
        self.halves.insert(id, new);
        new
    }

    /// An operator that computes in float: operands that are integers now are dequantized.
    fn other(&mut self, mut node: Node) {
        for input in node.inputs.iter_mut().flatten() {
            *input = self.as_float(*input);
        }
        self.out.nodes.push(node);
    }

    /// The float form of `id`: itself, or the one that a DEQUANTIZE makes of its integers.
    fn as_float(&mut self, id: TensorId) -> TensorId {
        match self.native.get(&id) {
            Some(&(native, _)) => self.dequantized(native, id),
            None => id,
        }
    }

    /// The float form of `inner`, which stands for `id`.
    fn dequantized(&mut self, inner: TensorId, id: TensorId) -> TensorId {
        if let Some(&known) = self.floats.get(&inner) {
            return known;
        }
        let float = self.add_float(id);
        self.push(Dequantize, inner, float);
        self.floats.insert(inner, float);
        float
    }

    fn become_integer(&mut self, id: TensorId, encoding: Encoding) {
        let tensor = &mut self.out[id];
        (tensor.dtype, tensor.quantization) = encoding.describe();
        self.native.insert(id, (id, encoding));
    }

    /// Uint8 for the same values as int8 with `params`.
    fn become_unsigned(&mut self, id: TensorId, params: PerTensor) {
        let shifted = PerTensor::new(params.scale, params.zero_point + 128);
        self.out[id].dtype = DType::U8;
        self.out[id].quantization = Some(shifted.into());
    }

    /// A new integer tensor for the values of `like`.
    fn add(&mut self, like: TensorId, encoding: Encoding) -> TensorId {
        let like = &self.float[like];
        let (dtype, quantization) = encoding.describe();
        self.out.add_tensor(Tensor {
            name: format!("{}_{dtype}", like.name),
            dtype,
            quantization,
            data: None,
            ..like.clone()
        })
    }

    /// A new float tensor for the values of `like`.
    fn add_float(&mut self, like: TensorId) -> TensorId {
        let like = &self.float[like];
        self.out.add_tensor(Tensor {
            name: format!("{}_float", like.name),
            data: None,
            ..like.clone()
        })
    }

    fn push(&mut self, op: impl Into<Op>, input: TensorId, output: TensorId) {
        self.out.nodes.push(Node::new(op, &[input], &[output]));
    }
}

impl Edge {
    /// An end between a subgraph and what runs it.
    fn inner(end: Option<&Option<Encoding>>) -> Option<Self> {
        end.copied().flatten().map(|encoding| Self {
            encoding,
            is_unsigned: false,
        })
    }
}

impl Granularity {
    /// The axis of scales where the operator has one at `axis`.
    fn axis(self, axis: Option<usize>) -> Option<usize> {
        axis.filter(|_| self == Self::PerAxis)
    }
}
