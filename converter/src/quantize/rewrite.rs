//! The new graph: integer operators, and QUANTIZE and DEQUANTIZE where integer meets float.

use std::collections::HashMap;

use bantam_model::ops::{Dequantize, Op, QuantRule, Quantize, Results, Role};
use bantam_model::quant::PerTensor;
use bantam_model::{DType, Node, Quantization, Subgraph, Tensor, TensorId};

use super::boundary::Ends;
use super::{IoType, Params, Recipe, Verdict, constants};

/// An int8 form of a tensor, told apart by its parameters.
type Form = (TensorId, u32, i32);

pub(super) struct Rewriter<'a> {
    /// The float graph.
    float: &'a Subgraph,
    verdicts: &'a [Verdict],
    params: &'a Params,
    recipe: &'a Recipe,
    /// How the inputs and outputs look to the operators that run this subgraph; `None` for the one
    /// that the caller enters, where the recipe says it.
    ends: Option<Ends>,
    /// How the operands and results of operators look that run other subgraphs.
    calls: HashMap<usize, Ends>,
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
        ends: Option<Ends>,
        calls: HashMap<usize, Ends>,
    ) -> Self {
        Self {
            float,
            verdicts,
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
        }
    }

    pub fn rewrite(mut self) -> Subgraph {
        self.inputs();
        for (index, (node, verdict)) in self.float.nodes.iter().zip(self.verdicts).enumerate() {
            match verdict {
                Verdict::Integer(rule) => self.integer(node, rule),
                Verdict::Call => self.call(index, node),
                Verdict::Float(_) | Verdict::Untouched => self.other(node),
            }
        }
        self.outputs();
        self.out
    }

    /// The type and parameters of the input at `index`.
    fn input_end(&self, index: usize) -> (IoType, PerTensor) {
        let params = self.params.get(self.float.inputs[index]);
        match &self.ends {
            None => (self.recipe.input_type(), params),
            Some(ends) => match ends.inputs[index] {
                None => (IoType::F32, params),
                Some(params) => (IoType::I8, params),
            },
        }
    }

    /// The type and parameters of `output`.
    fn output_end(&self, output: TensorId) -> (IoType, PerTensor) {
        let params = self.params.get(output);
        let Some(ends) = &self.ends else {
            return (self.recipe.output_type(), params);
        };
        let index = self.float.outputs.iter().position(|&id| id == output);
        match index.and_then(|index| ends.outputs[index]) {
            None => (IoType::F32, params),
            Some(params) => (IoType::I8, params),
        }
    }

    /// Gives the inputs their types.
    fn inputs(&mut self) {
        for (index, &input) in self.float.inputs.iter().enumerate() {
            let seen = self.native.contains_key(&input);
            if self.float[input].dtype != DType::F32 || seen || self.float[input].is_constant() {
                continue;
            }
            match self.input_end(index) {
                (IoType::F32, _) => {}
                (IoType::I8, params) => self.become_int8(input, params),
                (IoType::U8, params) => {
                    let inner = self.add(input, "_int8", params);
                    self.out[input].dtype = DType::U8;
                    self.out[input].quantization = Some(shifted(params).into());
                    self.push(Quantize, input, inner);
                    self.native.insert(input, (inner, params));
                }
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
            let (output_type, params) = self.output_end(output);
            match (self.native.get(&output).copied(), output_type) {
                (Some((inner, _)), IoType::F32) => self.push(Dequantize, inner, output),
                (Some((inner, params)), IoType::U8) => {
                    self.out[output].dtype = DType::U8;
                    self.out[output].quantization = Some(shifted(params).into());
                    self.push(Quantize, inner, output);
                }
                (Some((inner, _)), IoType::I8) if inner != output => {
                    self.out[output].dtype = DType::I8;
                    self.out[output].quantization = Some(params.into());
                    self.push(Quantize, inner, output);
                }
                (Some(_), IoType::I8) | (None, IoType::F32) => {}
                (None, IoType::I8 | IoType::U8) => {
                    self.quantize_float_output(output, output_type, params);
                }
            }
        }
    }

    /// An output that a float operator computes, or a constant: that operator and all readers use a
    /// new tensor.
    fn quantize_float_output(&mut self, output: TensorId, output_type: IoType, params: PerTensor) {
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
            _ if self.float[output].is_constant() => {
                self.out[output] = constants::activation(&self.float[output], params);
                return;
            }
            _ => (DType::I8, params),
        };
        self.out[output].dtype = dtype;
        self.out[output].quantization = Some(params.into());
        self.out[output].data = None;
        self.push(Quantize, inner, output);
    }

    fn integer(&mut self, node: &Node, rule: &QuantRule) {
        let mut inputs = node.inputs.clone();
        let mut scales: Option<Vec<f32>> = None;
        for (index, input) in node.inputs.iter().enumerate() {
            let Some(id) = *input else { continue };
            inputs[index] = Some(match rule.role(index) {
                Role::Plain => id,
                Role::Activation => self.operand(id, self.wanted(node, rule, id)),
                Role::Weights { axis } => {
                    let found = self.weight_scales(node, rule, index, axis);
                    let weights = self.weights(id, axis, &found);
                    scales = Some(found);
                    weights
                }
                Role::Bias { input, .. } => {
                    let input = node.input(input).map_or(1.0, |i| self.params.get(i).scale);
                    let scales = scales.as_deref().unwrap_or(&[1.0]);
                    self.add_tensor(constants::bias(&self.float[id], input, scales))
                }
            });
        }
        let outputs = node.outputs.iter().map(|&output| match rule.results {
            Results::Plain => output,
            _ => self.result(output),
        });
        let outputs = outputs.collect();
        self.out.nodes.push(Node {
            inputs,
            outputs,
            ..node.clone()
        });
    }

    /// An operator that runs subgraphs: what it hands over gets the type and parameters that it has
    /// inside.
    fn call(&mut self, index: usize, node: &Node) {
        let ends = self.calls.remove(&index).unwrap_or_default();
        let mut inputs = node.inputs.clone();
        for (input, end) in inputs.iter_mut().zip(ends.inputs) {
            *input = input.map(|id| match end {
                Some(params) => self.operand(id, params),
                None => self.as_float(id),
            });
        }
        let results = node.outputs.iter().zip(ends.outputs);
        let outputs = results.map(|(&output, end)| match end {
            Some(params) => self.result_with(output, params),
            None => output,
        });
        let outputs = outputs.collect();
        self.out.nodes.push(Node {
            inputs,
            outputs,
            ..node.clone()
        });
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
            if let (Some(bias), Role::Bias { input, weights }) = (*bias, rule.role(at))
                && weights == index
                && let Some(input) = node.input(input)
            {
                let input_scale = self.params.get(input).scale;
                constants::raise_for_bias(&mut scales, &self.float[bias], input_scale);
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
        self.result_with(output, self.params.get(output))
    }

    fn result_with(&mut self, output: TensorId, params: PerTensor) -> TensorId {
        let visible = self.float.outputs.contains(&output);
        if visible && self.output_end(output) != (IoType::I8, params) {
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
            *input = self.as_float(*input);
        }
        self.out.nodes.push(node);
    }

    /// The float form of `id`: itself, or the one that a DEQUANTIZE makes of its integers.
    fn as_float(&mut self, id: TensorId) -> TensorId {
        let Some(&(native, _)) = self.native.get(&id) else {
            return id;
        };
        if let Some(&known) = self.floats.get(&id) {
            return known;
        }
        let float = self.add_tensor(Tensor {
            name: format!("{}_float", self.float[id].name),
            ..self.float[id].clone()
        });
        self.push(Dequantize, native, float);
        self.floats.insert(id, float);
        float
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
