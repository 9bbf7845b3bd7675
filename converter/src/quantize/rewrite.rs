//! The new graph: integer operators, and QUANTIZE and DEQUANTIZE where integer meets float.

use std::collections::HashMap;

use bantam_model::ops::{Dequantize, Intermediate, Op, QuantRule, Quantize, Results, Role};
use bantam_model::quant::PerTensor;
use bantam_model::{DType, Node, Quantization, Subgraph, Tensor, TensorId};

use super::{IoType, Params, Recipe, Verdict, constants};

/// An int8 form of a tensor, told apart by its parameters.
type Form = (TensorId, u32, i32);

pub(super) struct Rewriter<'a> {
    /// The float graph.
    float: &'a Subgraph,
    verdicts: &'a [Verdict],
    params: &'a Params,
    recipe: &'a Recipe,
    /// The graph that is built; tensors of the float graph keep their ids.
    out: Subgraph,
    /// For a tensor that is computed in integers: its int8 form.
    native: HashMap<TensorId, (TensorId, PerTensor)>,
    /// Int8 forms that a QUANTIZE makes, and constants.
    forms: HashMap<Form, TensorId>,
    /// Float forms that a DEQUANTIZE makes.
    floats: HashMap<TensorId, TensorId>,
    /// Weights, by their float form, axis and scales.
    weights: HashMap<(TensorId, Option<usize>, Vec<u32>), TensorId>,
}

impl<'a> Rewriter<'a> {
    pub fn new(
        float: &'a Subgraph,
        verdicts: &'a [Verdict],
        params: &'a Params,
        recipe: &'a Recipe,
    ) -> Self {
        Self {
            float,
            verdicts,
            params,
            recipe,
            out: Subgraph {
                nodes: Vec::new(),
                ..float.clone()
            },
            native: HashMap::new(),
            forms: HashMap::new(),
            floats: HashMap::new(),
            weights: HashMap::new(),
        }
    }

    pub fn rewrite(mut self) -> Subgraph {
        self.inputs();
        for (node, verdict) in self.float.nodes.iter().zip(self.verdicts) {
            match verdict {
                Verdict::Integer(rule) => self.integer(node, rule),
                Verdict::Float(_) | Verdict::Untouched => self.other(node),
            }
        }
        self.outputs();
        self.out
    }

    /// Gives the inputs the type that the recipe asks for.
    fn inputs(&mut self) {
        let unsigned = match self.recipe.input_type() {
            IoType::F32 => return,
            IoType::I8 => false,
            IoType::U8 => true,
        };
        for &input in &self.float.inputs {
            let seen = self.native.contains_key(&input);
            if self.float[input].dtype != DType::F32 || seen || self.float[input].is_constant() {
                continue;
            }
            let params = self.params.get(input);
            if unsigned {
                let inner = self.add(input, "_int8", params);
                self.out[input].dtype = DType::U8;
                self.out[input].quantization = Some(shifted(params).into());
                self.push(Quantize, input, inner);
                self.native.insert(input, (inner, params));
            } else {
                self.become_int8(input, params);
            }
        }
    }

    /// Gives the outputs the type that the recipe asks for. An output keeps its id.
    fn outputs(&mut self) {
        let output_type = self.recipe.output_type();
        let mut outputs = self.float.outputs.clone();
        outputs.sort_unstable();
        outputs.dedup();
        for output in outputs {
            if self.float[output].dtype != DType::F32 || self.float.inputs.contains(&output) {
                continue;
            }
            match (self.native.get(&output).copied(), output_type) {
                (Some((inner, _)), IoType::F32) => self.push(Dequantize, inner, output),
                (Some((inner, params)), IoType::U8) => {
                    self.out[output].dtype = DType::U8;
                    self.out[output].quantization = Some(shifted(params).into());
                    self.push(Quantize, inner, output);
                }
                (Some(_), IoType::I8) | (None, IoType::F32) => {}
                (None, IoType::I8 | IoType::U8) => self.quantize_float_output(output, output_type),
            }
        }
    }

    /// An output that a float operator computes: that operator and all readers use a new tensor.
    fn quantize_float_output(&mut self, output: TensorId, output_type: IoType) {
        let params = self.params.get(output);
        let inner = self.add_tensor(Tensor {
            name: format!("{}_float", self.float[output].name),
            ..self.float[output].clone()
        });
        for node in &mut self.out.nodes {
            let ids = node.inputs.iter_mut().flatten().chain(&mut node.outputs);
            ids.filter(|id| **id == output).for_each(|id| *id = inner);
        }
        let (dtype, params) = match output_type {
            IoType::U8 => (DType::U8, shifted(params)),
            _ => (DType::I8, params),
        };
        self.out[output].dtype = dtype;
        self.out[output].quantization = Some(params.into());
        self.push(Quantize, inner, output);
    }

    fn integer(&mut self, node: &Node, rule: &QuantRule) {
        let mut inputs = node.inputs.clone();
        let mut scales: HashMap<usize, Vec<f32>> = HashMap::new();
        for (index, input) in node.inputs.iter().enumerate() {
            let Some(id) = *input else { continue };
            inputs[index] = Some(match rule.role(index) {
                Role::Plain => id,
                Role::Activation => self.operand(id, self.wanted(node, rule, id)),
                Role::Weights { axis } => {
                    let found = self.weight_scales(node, rule, index, axis);
                    let weights = self.weights(id, axis, &found);
                    scales.insert(index, found);
                    weights
                }
                Role::WideWeights { largest } => {
                    let scale = constants::wide_scale(&self.float[id], largest);
                    scales.insert(index, vec![scale]);
                    self.add_tensor(constants::wide_weights(&self.float[id], scale, largest))
                }
                role @ (Role::Bias { .. } | Role::NormBias { .. } | Role::HiddenBias { .. }) => {
                    self.bias(node, rule, id, role, &mut scales)
                }
                Role::State { output } => {
                    let parameters = node.outputs.get(output).map(|&o| self.params.get(o));
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
        let outputs = node.outputs.iter().map(|&output| match rule.results {
            Results::Plain => output,
            _ => self.result(output),
        });
        let outputs = outputs.collect();
        let intermediates = self.intermediates(node);
        self.out.nodes.push(Node {
            inputs,
            outputs,
            intermediates,
            ..node.clone()
        });
    }

    /// The bias `id` as int32.
    fn bias(
        &mut self,
        node: &Node,
        rule: &QuantRule,
        id: TensorId,
        role: Role,
        scales: &mut HashMap<usize, Vec<f32>>,
    ) -> TensorId {
        let Some((factor, weights)) = self.bias_scale(node, rule, role) else {
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
            .add_tensor(constants::bias(&self.float[id], factor, scales))
    }

    /// What the scale of a bias with `role` is: a factor times the scales of the operand at an index.
    fn bias_scale(&self, node: &Node, rule: &QuantRule, role: Role) -> Option<(f32, usize)> {
        let operand = |index: usize| {
            let id = node.input(index)?;
            Some(match rule.role(index) {
                Role::WideState => self.params.wide(id).scale,
                _ => self.params.get(id).scale,
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
                Some((self.params.get(id).scale, weights))
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
                    (DType::I8, same.map(|id| self.params.get(id)))
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

    /// The parameters with which `node` must read the activation `id`.
    fn wanted(&self, node: &Node, rule: &QuantRule, id: TensorId) -> PerTensor {
        match (rule.results, node.outputs.first()) {
            (Results::SameAsInputs, Some(&output)) => self.params.get(output),
            _ => self.params.get(id),
        }
    }

    /// The scales of the weights at `index`, high enough for the node's bias.
    fn weight_scales(
        &self,
        node: &Node,
        rule: &QuantRule,
        index: usize,
        axis: Option<usize>,
    ) -> Vec<f32> {
        let weights = &self.float[node.inputs[index].expect("the operand is given")];
        let mut scales = constants::weight_scales(weights, axis);
        for (at, bias) in node.inputs.iter().enumerate() {
            if let Some(bias) = *bias
                && let Some((factor, weights)) = self.bias_scale(node, rule, rule.role(at))
                && weights == index
            {
                constants::raise_for_bias(&mut scales, &self.float[bias], factor);
            }
        }
        scales
    }

    fn weights(&mut self, id: TensorId, axis: Option<usize>, scales: &[f32]) -> TensorId {
        let key = (id, axis, scales.iter().map(|s| s.to_bits()).collect());
        if let Some(&known) = self.weights.get(&key) {
            return known;
        }
        let new = self.add_tensor(constants::weights(&self.float[id], axis, scales));
        self.weights.insert(key, new);
        new
    }

    /// The int8 form of `id` with `params`: the one it is computed in, or a requantized one.
    fn operand(&mut self, id: TensorId, params: PerTensor) -> TensorId {
        let native = self.native.get(&id).copied();
        if let Some((native, own)) = native
            && own == params
        {
            return native;
        }
        let form = (id, params.scale.to_bits(), params.zero_point);
        if let Some(&known) = self.forms.get(&form) {
            return known;
        }
        let new = if self.float[id].is_constant() {
            self.add_tensor(constants::activation(&self.float[id], params))
        } else {
            let new = self.add(id, "_int8", params);
            self.push(Quantize, native.map_or(id, |(native, _)| native), new);
            new
        };
        self.forms.insert(form, new);
        new
    }

    /// The tensor into which an integer operator writes `output`.
    fn result(&mut self, output: TensorId) -> TensorId {
        let params = self.params.get(output);
        let visible = self.float.outputs.contains(&output);
        if visible && self.recipe.output_type() != IoType::I8 {
            let inner = self.add(output, "_int8", params);
            self.native.insert(output, (inner, params));
            inner
        } else {
            self.become_int8(output, params);
            output
        }
    }

    /// An operator that stays as it is: float operands that are integers now are dequantized.
    fn other(&mut self, node: &Node) {
        let mut node = node.clone();
        for input in node.inputs.iter_mut().flatten() {
            if let Some(&(native, _)) = self.native.get(input) {
                *input = match self.floats.get(input) {
                    Some(&float) => float,
                    None => {
                        let float = self.add_tensor(Tensor {
                            name: format!("{}_float", self.float[*input].name),
                            ..self.float[*input].clone()
                        });
                        self.push(Dequantize, native, float);
                        self.floats.insert(*input, float);
                        float
                    }
                };
            }
        }
        self.out.nodes.push(node);
    }

    fn become_int8(&mut self, id: TensorId, params: PerTensor) {
        self.out[id].dtype = DType::I8;
        self.out[id].quantization = Some(params.into());
        self.native.insert(id, (id, params));
    }

    /// A new int8 tensor of the shape of `like`.
    fn add(&mut self, like: TensorId, suffix: &str, params: PerTensor) -> TensorId {
        let like = &self.float[like];
        self.add_tensor(Tensor {
            name: format!("{}{suffix}", like.name),
            dtype: DType::I8,
            quantization: Some(Quantization::from(params)),
            ..like.clone()
        })
    }

    fn add_tensor(&mut self, tensor: Tensor) -> TensorId {
        self.out.add_tensor(tensor)
    }

    fn push(&mut self, op: impl Into<Op>, input: TensorId, output: TensorId) {
        self.out.nodes.push(Node::new(op, &[input], &[output]));
    }
}

/// Int8 parameters for the same values as uint8.
fn shifted(params: PerTensor) -> PerTensor {
    PerTensor::new(params.scale, params.zero_point + 128)
}
