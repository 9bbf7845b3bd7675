//! What a rewrite reads, an operator at its place, and what it writes: the operators to put there instead.

use bantam_model::ops::Op;
use bantam_model::quant::PerTensor;
use bantam_model::tensor::element_count;
use bantam_model::{DType, Node, NodeId, Quantization, Subgraph, Tensor, TensorId};

use super::fragment::Fragment;

/// An operator that a chip refuses, and the graph around it.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub graph: &'a Subgraph,
    pub id: NodeId,
}

/// Why a draft computes what the operators that it replaces do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Proof {
    /// Each element of a result is an element of an operand, or the integer sums and their rounding are the same:
    /// equal in any type.
    Same,
    /// Both compute the same real function, each element of the result from one of each operand: equal to
    /// rounding in float, and measured on all integers.
    Pointwise,
    /// The same, but the function itself is approximated.
    Approximate,
    /// Integers differ by no more than this many steps of the result, floats by rounding.
    Bound(u32),
}

/// Operators to put in the place of others.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// The operators that go, the one of the site among them.
    pub removes: Vec<NodeId>,
    /// Operators that stay, but belong to what is compared.
    pub context: Vec<NodeId>,
    /// Tensors that are added to the graph.
    pub tensors: Vec<Tensor>,
    /// The operators that come; they compute every result of the removed that somebody reads.
    pub nodes: Vec<Node>,
    pub proof: Proof,
    /// Readers of the first tensor read the second.
    pub aliases: Vec<(TensorId, TensorId)>,
    /// How many tensors the graph has.
    known: usize,
}

/// How values get another scale. The two round alike, but from multipliers that are computed in other ways.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rescale {
    /// QUANTIZE.
    Quantize,
    /// MUL by a constant of one step that stands for 1.
    Multiply,
}

impl Rescale {
    pub const ALL: [Self; 2] = [Self::Quantize, Self::Multiply];
}

impl<'a> Site<'a> {
    pub fn node(&self) -> &'a Node {
        &self.graph.nodes[self.id.index()]
    }

    pub fn input(&self, index: usize) -> Option<TensorId> {
        self.node().input(index)
    }

    pub fn tensor(&self, index: usize) -> Option<&'a Tensor> {
        self.input(index).map(|id| &self.graph.tensors[id.index()])
    }

    /// The result, where there is one.
    pub fn output(&self) -> Option<TensorId> {
        match *self.node().outputs {
            [output] => Some(output),
            _ => None,
        }
    }

    pub fn result(&self) -> Option<&'a Tensor> {
        self.output().map(|id| &self.graph.tensors[id.index()])
    }

    /// The elements of a constant operand of int32 or int64.
    pub fn integers(&self, index: usize) -> Option<Vec<i64>> {
        integers(self.tensor(index)?)
    }

    /// The operator that computes `tensor`.
    pub fn producer(&self, tensor: TensorId) -> Option<Self> {
        let nodes = &self.graph.nodes[..self.id.index()];
        let index = nodes.iter().rposition(|n| n.outputs.contains(&tensor))?;
        Some(Self {
            graph: self.graph,
            id: NodeId(index as u32),
        })
    }

    /// Whether one operator alone reads `tensor`, once.
    pub fn is_private(&self, tensor: TensorId) -> bool {
        let readers = self
            .graph
            .nodes
            .iter()
            .flat_map(|n| n.inputs.iter().flatten());
        !self.graph.outputs.contains(&tensor) && readers.filter(|&&id| id == tensor).count() == 1
    }

    /// A draft that replaces the operator of this site.
    pub fn draft(&self, proof: Proof) -> Draft {
        Draft {
            removes: vec![self.id],
            context: Vec::new(),
            tensors: Vec::new(),
            nodes: Vec::new(),
            proof,
            aliases: Vec::new(),
            known: self.graph.tensors.len(),
        }
    }
}

impl Draft {
    /// Adds `tensor`.
    pub fn add(&mut self, tensor: Tensor) -> TensorId {
        self.tensors.push(tensor);
        TensorId((self.known + self.tensors.len() - 1) as u32)
    }

    /// Adds a tensor for what is computed, of the type and quantization of `like`.
    pub fn value(&mut self, like: &Tensor, what: &str, shape: &[usize]) -> TensorId {
        self.add(Tensor {
            name: format!("{}/{what}", like.name),
            shape: shape.to_vec(),
            shape_signature: None,
            data: None,
            is_variable: false,
            ..like.clone()
        })
    }

    /// Adds a tensor of `dtype` that covers `low..=high` with the zero point that suits it; for a float, one of the
    /// same shape without quantization.
    pub fn covering(&mut self, like: &Tensor, what: &str, low: f32, high: f32) -> TensorId {
        let id = self.value(like, what, &like.shape);
        let is_integer = like.dtype != DType::F32;
        self.set_parameters(
            id,
            is_integer.then(|| PerTensor::from_range(low, high, like.dtype)),
        );
        id
    }

    /// Adds an int32 constant.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> Option<TensorId> {
        let values: Option<Vec<i32>> = values.iter().map(|&v| i32::try_from(v).ok()).collect();
        let bytes: Vec<u8> = values?.iter().flat_map(|v| v.to_le_bytes()).collect();
        let shape = vec![bytes.len() / 4];
        Some(self.add(Tensor::constant(name, DType::I32, shape, bytes)))
    }

    /// Adds a constant of one element beside tensors like `like`: `real`, as one step of a scale of its own.
    pub fn factor(&mut self, like: &Tensor, real: f32) -> TensorId {
        let name = format!("{}/{real}", like.name);
        if like.dtype == DType::F32 {
            return self.add(Tensor::constant(
                name,
                DType::F32,
                [1],
                real.to_le_bytes().to_vec(),
            ));
        }
        // An unsigned type holds a negative step only as 0 below a zero point of 1.
        let negative = real < 0.0;
        let (step, zero_point) = match like.dtype {
            DType::U8 => (u8::from(!negative).into(), i32::from(negative)),
            _ => (if negative { -1 } else { 1i32 }, 0),
        };
        let scale = if real == 0.0 { 1.0 } else { real.abs() };
        let step = if real == 0.0 { zero_point } else { step };
        let bytes = bytes_of(like.dtype, step);
        let constant = Tensor::constant(name, like.dtype, [1], bytes);
        self.add(constant.quantized(PerTensor::new(scale, zero_point).into()))
    }

    /// The same with `count` equal elements.
    pub fn factors(&mut self, like: &Tensor, real: f32, count: usize) -> Option<TensorId> {
        let id = self.factor(like, real);
        let tensor = &mut self.tensors[id.index() - self.known];
        let one = tensor.data.take()?;
        tensor.data = Some(one.repeat(count).into());
        tensor.shape = vec![count];
        Some(id)
    }

    /// Adds a bias of zeros for products of `input` and `weights`.
    pub fn zero_bias(
        &mut self,
        input: &Tensor,
        weights: &Tensor,
        units: usize,
    ) -> Option<TensorId> {
        let (dtype, quantization) = match input.dtype {
            DType::F32 => (DType::F32, None),
            _ => {
                let scale = parameters(input)?.scale;
                let scales = weights
                    .quantization
                    .as_ref()?
                    .scale
                    .iter()
                    .map(|w| w * scale);
                (
                    DType::I32,
                    Some(Quantization::symmetric(scales.collect(), 0)),
                )
            }
        };
        let zeros = vec![0; units.checked_mul(4)?];
        let bias = Tensor::constant(format!("{}/bias", weights.name), dtype, [units], zeros);
        Some(self.add(Tensor {
            quantization,
            ..bias
        }))
    }

    /// Adds `x`, which is like `like`, times `real`, above 0. In 8 bits the integers stay the same: the scale grows.
    pub fn times(&mut self, like: &Tensor, x: TensorId, real: f32) -> TensorId {
        /// So much more than needed keeps the ratio of scales below 1, for which old kernels are made, and moves 255
        /// by less than half a step.
        const MARGIN: f32 = 1.0 + 1.0 / 65536.0;
        let product = self.value(like, "times", &like.shape);
        let factor = self.factor(like, real);
        if let Some(parameters) = parameters(like) {
            let scaled = PerTensor::new(parameters.scale * real * MARGIN, parameters.zero_point);
            self.set_parameters(product, Some(scaled));
        }
        self.push(bantam_model::ops::Mul::default(), &[x, factor], &[product]);
        product
    }

    /// Gives a tensor that was added a scale and zero point, or none.
    pub fn set_parameters(&mut self, id: TensorId, parameters: Option<PerTensor>) {
        let tensor = id
            .index()
            .checked_sub(self.known)
            .and_then(|i| self.tensors.get_mut(i));
        if let Some(tensor) = tensor {
            tensor.quantization = parameters.map(Into::into);
        }
    }

    /// Adds a constant of one element that shares the parameters of `like` and stands for `real`, clamped to
    /// what they hold.
    pub fn level(&mut self, like: &Tensor, real: f32) -> Option<TensorId> {
        let name = format!("{}/{real}", like.name);
        if like.dtype == DType::F32 {
            return Some(self.factor(like, real));
        }
        let (min, max) = limits(like.dtype)?;
        let step = parameters(like)?.quantize(real, min, max);
        let constant = Tensor::constant(name, like.dtype, [1], bytes_of(like.dtype, step));
        Some(self.add(Tensor {
            quantization: like.quantization.clone(),
            ..constant
        }))
    }

    /// The values of `from` with the type and parameters of `like`: `from` itself where it has them.
    pub fn rescaled(
        &mut self,
        graph: &Subgraph,
        from: TensorId,
        like: &Tensor,
        how: Rescale,
    ) -> TensorId {
        let source = self.tensor(graph, from).clone();
        if is_alike(&source, like) {
            return from;
        }
        let to = self.value(like, "rescaled", &source.shape);
        match how {
            Rescale::Quantize => self.push(bantam_model::ops::Quantize, &[from], &[to]),
            Rescale::Multiply => {
                let one = self.factor(&source, 1.0);
                self.push(bantam_model::ops::Mul::default(), &[from, one], &[to]);
            }
        }
        to
    }

    /// Adds an operator.
    pub fn push(&mut self, op: impl Into<Op>, inputs: &[TensorId], outputs: &[TensorId]) {
        self.nodes.push(Node::new(op, inputs, outputs));
    }

    /// Adds a RESHAPE of `input` to `output` of `shape`.
    pub fn reshape(&mut self, input: TensorId, output: TensorId, shape: &[usize]) -> Option<()> {
        let shape: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let operand = self.integers("shape", &shape)?;
        let new_shape = Some(shape.iter().map(|&d| d as i32).collect());
        let op = bantam_model::ops::Reshape { new_shape };
        self.push(op, &[input, operand], &[output]);
        Some(())
    }

    /// Adds a SLICE of `input`: of axis `axis` the `len` elements from `start` on, of all others all.
    pub fn slice(
        &mut self,
        input: TensorId,
        output: TensorId,
        shape: &[usize],
        axis: usize,
        (start, len): (usize, usize),
    ) -> Option<()> {
        let mut begin = vec![0; shape.len()];
        let mut size: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        *begin.get_mut(axis)? = start as i64;
        *size.get_mut(axis)? = len as i64;
        let begin = self.integers("begin", &begin)?;
        let size = self.integers("size", &size)?;
        self.push(bantam_model::ops::Slice, &[input, begin, size], &[output]);
        Some(())
    }

    /// Applies `inner`, which rewrites `fragment`, the operators of this draft cut out.
    pub fn replace(&mut self, fragment: &Fragment, inner: &Draft) {
        let known = fragment.origin.len();
        let new: Vec<TensorId> = inner.tensors.iter().map(|t| self.add(t.clone())).collect();
        let outer = |id: TensorId| match id.index().checked_sub(known) {
            Some(index) => new[index],
            None => fragment.origin[id.index()],
        };
        let mut graph = fragment.graph.clone();
        super::apply(&mut graph, inner);
        self.nodes = graph.nodes;
        for node in &mut self.nodes {
            let inputs = node.inputs.iter_mut().flatten();
            inputs
                .chain(&mut node.outputs)
                .chain(&mut node.intermediates)
                .for_each(|id| *id = outer(*id));
        }
    }

    /// The tensor `id`, of `graph` or added here.
    pub fn tensor<'t>(&'t self, graph: &'t Subgraph, id: TensorId) -> &'t Tensor {
        match id.index().checked_sub(self.known) {
            Some(index) => &self.tensors[index],
            None => &graph[id],
        }
    }
}

/// The scale and zero point of a quantized tensor of one scale.
pub(super) fn parameters(tensor: &Tensor) -> Option<PerTensor> {
    let limits = limits(tensor.dtype)?;
    let parameters = tensor.quantization.as_ref()?.per_tensor().ok()?;
    let fits = (limits.0..=limits.1).contains(&parameters.zero_point);
    fits.then_some(parameters)
}

/// Whether the elements are real values that a pointwise rewrite can work on: float32, or 8 bits with one scale.
pub(super) fn is_real(tensor: &Tensor) -> bool {
    tensor.dtype == DType::F32 || (is_byte(tensor.dtype) && parameters(tensor).is_some())
}

pub(super) fn is_byte(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}

/// Whether both have the same type and stand for the same real values.
pub(super) fn is_alike(a: &Tensor, b: &Tensor) -> bool {
    a.dtype == b.dtype
        && (a.dtype == DType::F32 || !is_quantized(a) && !is_quantized(b) || {
            let both = parameters(a).zip(parameters(b));
            both.is_some_and(|(a, b)| a == b)
        })
}

fn is_quantized(tensor: &Tensor) -> bool {
    tensor
        .quantization
        .as_ref()
        .is_some_and(|q| !q.scale.is_empty())
}

/// The smallest and largest integer of an activation's type.
pub(super) fn limits(dtype: DType) -> Option<(i32, i32)> {
    match dtype {
        DType::I8 => Some((-128, 127)),
        DType::U8 => Some((0, 255)),
        DType::I16 => Some((-32768, 32767)),
        _ => None,
    }
}

/// The real values that a quantized tensor can hold; `None` for a float.
pub(super) fn span(tensor: &Tensor) -> Option<(f32, f32)> {
    let (min, max) = limits(tensor.dtype)?;
    let parameters = parameters(tensor)?;
    Some((parameters.dequantize(min), parameters.dequantize(max)))
}

/// The elements of a constant of int32 or int64.
pub(super) fn integers(tensor: &Tensor) -> Option<Vec<i64>> {
    let data = tensor.data.as_deref()?;
    let values: Vec<i64> = match tensor.dtype {
        DType::I32 => {
            let chunks = data.as_chunks().0.iter();
            chunks.map(|&c| i64::from(i32::from_le_bytes(c))).collect()
        }
        DType::I64 => data
            .as_chunks()
            .0
            .iter()
            .map(|&c| i64::from_le_bytes(c))
            .collect(),
        _ => return None,
    };
    (Some(values.len()) == element_count(&tensor.shape)).then_some(values)
}

/// `axis`, counted from the end if negative, where there are `rank` axes.
pub(super) fn axis(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis + rank } else { axis };
    (0..rank).contains(&axis).then_some(axis as usize)
}

fn bytes_of(dtype: DType, step: i32) -> Vec<u8> {
    let size = dtype.size().unwrap_or(1);
    step.to_le_bytes()[..size].to_vec()
}
