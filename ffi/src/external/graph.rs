//! A runtime's graph as a model of ours: the same tensors, with their constants where the runtime has them.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};

use ::bantam_model::ops::{Custom, Opaque};
use ::bantam_model::schema::tfl::{self, BuiltinOperator as Code};
use ::bantam_model::tensor::{Bytes, DType, Tensor};
use ::bantam_model::{Model, Node, NodeId, Op, Quantization, Subgraph, TensorId};
use bantam_delegate::driver::tflite::abi::{
    self, AffineQuantization, Node as RawNode, Registration, Tensor as RawTensor, allocation,
};
use bantam_delegate::driver::tflite::array::ints;
use bantam_delegate::driver::tflite::builtin_data;

use super::context::Runtime;
use crate::error::{Failure, status};

/// Why control flow stays with the runtime.
const RUNS_SUBGRAPHS: &str = "it runs other subgraphs, which a delegate is not shown";

/// What a runtime offers.
pub(super) struct Offer {
    /// One subgraph, of the tensors that its nodes are on: a runtime has more, such as those of its kernels.
    pub model: Model,
    /// The runtime's number of each tensor.
    tensors: Vec<c_int>,
    /// The runtime's number of each node, by its place in the order of execution.
    pub nodes: Vec<c_int>,
    /// Why a node cannot be claimed, whoever computes.
    pub refusals: Vec<Option<String>>,
}

/// Memory of the runtime's that holds a constant.
struct HostBytes {
    data: *const u8,
    len: usize,
}

// SAFETY: nobody writes it: the runtime has it mapped to be read only, or as good as that.
unsafe impl Send for HostBytes {}
// SAFETY: as above.
unsafe impl Sync for HostBytes {}

impl AsRef<[u8]> for HostBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: not NULL, and a runtime keeps a model's constants for as long as its kernels, which is as long as we use them.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

fn host_bytes(data: *const u8, len: usize) -> Bytes {
    match len == 0 || data.is_null() {
        true => Bytes::from(Vec::new()),
        false => Bytes::new(HostBytes { data, len }),
    }
}

/// # Safety
///
/// `text` is NULL or a string.
unsafe fn text(text: *const c_char) -> String {
    match text.is_null() {
        true => String::new(),
        // SAFETY: not NULL, and the caller vouches for it.
        false => unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned(),
    }
}

impl Offer {
    /// Reads the nodes with these numbers and their tensors.
    pub fn read(runtime: Runtime, nodes: &[c_int]) -> Result<Self, Failure> {
        let mut subgraph = Subgraph {
            debug_metadata_index: -1,
            ..Subgraph::default()
        };
        let mut tensors = Tensors {
            runtime,
            numbers: Vec::new(),
            ids: HashMap::new(),
            read: Vec::new(),
        };
        let mut refusals = Vec::with_capacity(nodes.len());
        for &index in nodes {
            let (node, registration) = runtime.node(index)?;
            // SAFETY: the runtime gave both, which stay while the graph is not changed.
            let (node, objection) = unsafe { read_node(&*node, &*registration, &mut tensors) }?;
            refusals.push(objection.or_else(|| {
                let ids = node.inputs.iter().flatten();
                let mut ids = ids.chain(&node.outputs).chain(&node.intermediates);
                ids.find_map(|id| tensors.read[id.index()].1.clone())
            }));
            subgraph.nodes.push(node);
        }
        subgraph.tensors = tensors.read.into_iter().map(|(tensor, _)| tensor).collect();
        let producers = subgraph.producers();
        let consumers = subgraph.consumers();
        let ids = (0..subgraph.tensors.len() as u32).map(TensorId);
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for id in ids {
            let tensor = &subgraph[id];
            let is_given = tensor.is_constant() || tensor.is_variable;
            let is_read = !consumers[id.index()].is_empty();
            match producers[id.index()] {
                None if is_read && !is_given => inputs.push(id),
                Some(_) if !is_read => outputs.push(id),
                _ => {}
            }
        }
        (subgraph.inputs, subgraph.outputs) = (inputs, outputs);
        Ok(Self {
            model: Model {
                subgraphs: vec![subgraph],
                ..Model::default()
            },
            nodes: nodes.to_vec(),
            tensors: tensors.numbers,
            refusals,
        })
    }

    pub fn subgraph(&self) -> &Subgraph {
        &self.model.subgraphs[0]
    }

    /// The runtime's number of a node.
    pub fn number(&self, id: NodeId) -> c_int {
        self.nodes[id.index()]
    }

    /// The runtime's number of a tensor.
    pub fn tensor_number(&self, id: TensorId) -> c_int {
        self.tensors[id.index()]
    }

    /// The tensor with the runtime's number `number`.
    pub fn tensor_id(&self, number: c_int) -> Option<TensorId> {
        let place = self.tensors.iter().position(|&tensor| tensor == number)?;
        Some(TensorId(place as u32))
    }

    /// The node with the runtime's number `number`.
    pub fn id(&self, number: c_int) -> Option<NodeId> {
        let place = self.nodes.iter().position(|&node| node == number)?;
        Some(NodeId(place as u32))
    }
}

/// Tensors that were met, in the order of that.
struct Tensors {
    runtime: Runtime,
    numbers: Vec<c_int>,
    ids: HashMap<c_int, TensorId>,
    /// Each with why no operator on it can be claimed.
    read: Vec<(Tensor, Option<String>)>,
}

impl Tensors {
    /// Our number of the tensor that has `number` in the runtime.
    fn id(&mut self, number: c_int) -> Result<TensorId, Failure> {
        if let Some(&id) = self.ids.get(&number) {
            return Ok(id);
        }
        let raw = self.runtime.tensor(number);
        let raw = raw.ok_or_else(|| malformed(format!("a node is on tensor {number}")))?;
        let id = TensorId(self.read.len() as u32);
        // SAFETY: the place of a tensor.
        self.read.push(unsafe { read_tensor(&*raw) });
        self.numbers.push(number);
        self.ids.insert(number, id);
        Ok(id)
    }
}

fn malformed(what: String) -> Failure {
    Failure::new(
        status::INVALID_MODEL,
        format!("the runtime's graph is not sound: {what}"),
    )
}

/// # Safety
///
/// `raw` is a runtime's, and what it points to is there.
unsafe fn read_tensor(raw: &RawTensor) -> (Tensor, Option<String>) {
    // SAFETY: the caller vouches for the pointers.
    let (name, dims) = unsafe { (text(raw.name), ints(raw.dims)) };
    let mut objection = None;
    let dtype = abi::type_of(raw.dtype).unwrap_or_else(|| {
        objection = Some(format!("a tensor has a type of number {}", raw.dtype));
        DType::Other(i8::MAX)
    });
    let shape: Result<Vec<usize>, _> = dims.iter().map(|&d| usize::try_from(d)).collect();
    let shape = shape.unwrap_or_else(|_| {
        objection = Some("a tensor has no size yet".to_owned());
        Vec::new()
    });
    let is_constant = raw.allocation_type == allocation::MMAP_RO && !raw.data.is_null();
    // SAFETY: passed on to the caller.
    let quantization = unsafe { read_quantization(raw) };
    objection = objection.or_else(|| {
        let what = match dtype {
            _ if raw.is_variable => "it keeps a state between runs",
            DType::Resource | DType::Variant => "it works on a resource",
            DType::String => "it works on strings",
            _ if raw.allocation_type == allocation::DYNAMIC => "a tensor is sized in each run",
            _ if !raw.sparsity.is_null() => "a constant is packed sparsely",
            _ if quantization.is_err() => "a tensor is quantized in an unknown way",
            _ => return None,
        };
        Some(what.to_owned())
    });
    let tensor = Tensor {
        data: is_constant.then(|| host_bytes(raw.data.cast(), raw.bytes)),
        quantization: quantization.unwrap_or(None),
        is_variable: raw.is_variable,
        ..Tensor::new(name, dtype, shape)
    };
    (tensor, objection)
}

/// # Safety
///
/// As of [`read_tensor`].
unsafe fn read_quantization(raw: &RawTensor) -> Result<Option<Quantization>, ()> {
    let details = tfl::QuantizationDetailsT::NONE;
    let quantization = |scale: Vec<f32>, zero_point: Vec<i64>, axis| Quantization {
        scale,
        zero_point,
        axis,
        min: None,
        max: None,
        details,
    };
    match raw.quantization.kind {
        0 => {
            let first = raw.params;
            let is_quantized = first.scale != 0.0;
            Ok(is_quantized
                .then(|| quantization(vec![first.scale], vec![first.zero_point.into()], 0)))
        }
        1 => {
            // SAFETY: the kind says so.
            let affine = unsafe {
                raw.quantization
                    .params
                    .cast::<AffineQuantization>()
                    .as_ref()
            };
            let Some(affine) = affine.filter(|affine| !affine.scale.is_null()) else {
                return Ok(None);
            };
            // SAFETY: a float array is laid out as one of integers, of the same size.
            let scales = unsafe { ints(affine.scale.cast()) };
            let scales = scales.iter().map(|&bits| f32::from_bits(bits as u32));
            let scales: Vec<f32> = scales.collect();
            // SAFETY: the array is the struct's.
            let points = unsafe { ints(affine.zero_point) };
            let points: Vec<i64> = match points {
                [one] => vec![i64::from(*one); scales.len()],
                [] => vec![0; scales.len()],
                all => all.iter().map(|&point| point.into()).collect(),
            };
            if scales.is_empty() {
                return Ok(None);
            }
            Ok(Some(quantization(
                scales,
                points,
                affine.quantized_dimension,
            )))
        }
        _ => Err(()),
    }
}

/// # Safety
///
/// Both are a runtime's, and what they point to is there.
unsafe fn read_node(
    raw: &RawNode,
    registration: &Registration,
    tensors: &mut Tensors,
) -> Result<(Node, Option<String>), Failure> {
    // SAFETY: the arrays are the node's.
    let (inputs, outputs, intermediates) =
        unsafe { (ints(raw.inputs), ints(raw.outputs), ints(raw.intermediates)) };
    let inputs = inputs.iter().map(|&input| match input {
        abi::OPTIONAL_TENSOR => Ok(None),
        input => tensors.id(input).map(Some),
    });
    let inputs = inputs.collect::<Result<_, _>>()?;
    let outputs = outputs.iter().map(|&output| tensors.id(output));
    let outputs = outputs.collect::<Result<_, _>>()?;
    let intermediates = intermediates
        .iter()
        .filter(|&&tensor| tensor != abi::OPTIONAL_TENSOR)
        .map(|&tensor| tensors.id(tensor))
        .collect::<Result<_, _>>()?;
    let code = Code(registration.builtin_code);
    let version = registration.version;
    let mut objection = None;
    let op = if registration.builtin_code == abi::BUILTIN_CUSTOM {
        let size = usize::try_from(raw.custom_initial_data_size).unwrap_or(0);
        Op::Custom(Box::new(Custom {
            // SAFETY: the name is the registration's.
            name: unsafe { text(registration.custom_name) },
            version,
            options: host_bytes(raw.custom_initial_data.cast(), size),
        }))
    } else {
        // SAFETY: the registration says whose attributes they are.
        let op = unsafe { builtin_data::decode(code, version, raw.builtin_data.cast()) };
        op.unwrap_or_else(|| {
            objection = Some(match code {
                Code::IF | Code::WHILE | Code::CALL_ONCE | Code::STABLEHLO_COMPOSITE => {
                    RUNS_SUBGRAPHS.to_owned()
                }
                _ => "its attributes are not known through this interface".to_owned(),
            });
            Op::Opaque(Box::new(Opaque {
                code,
                version,
                options: tfl::BuiltinOptionsT::NONE,
                options_2: tfl::BuiltinOptions2T::NONE,
            }))
        })
    };
    let operator = op.operator();
    if !raw.delegate.is_null() {
        objection = Some("another delegate has it".to_owned());
    } else if operator.as_ref().is_ok_and(|op| !op.bodies().is_empty()) {
        objection = Some(RUNS_SUBGRAPHS.to_owned());
    } else if operator.is_ok_and(|op| op.memory().is_some()) {
        objection = Some("it keeps a state between runs".to_owned());
    }
    let node = Node {
        op,
        inputs,
        outputs,
        intermediates,
        mutating_variable_inputs: Vec::new(),
        debug_metadata_index: -1,
    };
    Ok((node, objection))
}
