//! A subgraph as the C structs that a delegate looks at.

use std::ffi::{CString, c_int, c_void};

use bantam_model::{Bytes, DType, Op, Quantization, Subgraph, Tensor as ModelTensor, TensorId};

use super::abi::{
    self, AffineQuantization, FullRegistration, IntArray, Node, QuantizationParams, Registration,
    Stride, Tensor, allocation,
};
use super::array::{Buffer, Ints, floats, free_array};
use super::builtin_data::{self, BuiltinData};

/// More tensors than any model has.
const MOST_TENSORS: usize = 1 << 20;
/// More dimensions than any tensor has.
pub(super) const MOST_DIMENSIONS: usize = 64;

/// Tensors and operators, and everything that their pointers point to.
pub(super) struct Graph {
    stride: Stride,
    /// The tensors, one stride apart.
    tensors: Buffer,
    memory: Vec<Memory>,
    #[expect(
        clippy::vec_box,
        reason = "a delegate keeps pointers to them while more are added"
    )]
    pub nodes: Vec<Box<NodeMemory>>,
}

/// What a tensor points to, but for its dimensions, which a delegate may replace.
struct Memory {
    _name: CString,
    /// The bytes, where they are not those of the model.
    bytes: Option<Buffer>,
    start: Start,
    quantization: Option<Box<AffineQuantization>>,
    dims_signature: Ints,
}

/// What a variable holds before the first run.
enum Start {
    /// It is none.
    None,
    /// This byte, over and over.
    Fill(u8),
    Bytes(Bytes),
}

impl Start {
    fn write(&self, bytes: &mut [u8]) {
        match self {
            Self::Fill(byte) => bytes.fill(*byte),
            Self::Bytes(start) if start.len() == bytes.len() => bytes.copy_from_slice(start),
            Self::Bytes(_) | Self::None => {}
        }
    }
}

/// As on the CPU path: zeros, and for int8 the zero point.
fn first_byte(tensor: &ModelTensor) -> u8 {
    let zero_point = tensor.quantization.as_ref().map(only);
    match (tensor.dtype, zero_point) {
        (DType::I8, Some(only)) => only.zero_point as u8,
        _ => 0,
    }
}

/// An operator, or a kernel of the delegate's.
pub(super) struct NodeMemory {
    pub node: Node,
    pub registration: FullRegistration,
    _attributes: Option<Box<BuiltinData>>,
    _name: Option<CString>,
    _arrays: [Ints; 4],
}

impl NodeMemory {
    /// A node on `inputs` and `outputs`.
    pub fn new(
        inputs: impl IntoIterator<Item = c_int>,
        outputs: impl IntoIterator<Item = c_int>,
        intermediates: impl IntoIterator<Item = c_int>,
        registration: Registration,
    ) -> Self {
        let arrays = [
            Ints::new(inputs),
            Ints::new(outputs),
            Ints::new(intermediates),
            Ints::new([]),
        ];
        Self {
            node: Node {
                inputs: arrays[0].as_ptr(),
                outputs: arrays[1].as_ptr(),
                intermediates: arrays[2].as_ptr(),
                temporaries: arrays[3].as_ptr(),
                user_data: std::ptr::null_mut(),
                builtin_data: std::ptr::null_mut(),
                custom_initial_data: std::ptr::null(),
                custom_initial_data_size: 0,
                delegate: std::ptr::null_mut(),
                might_have_side_effect: false,
            },
            registration: FullRegistration {
                prefix: registration,
                tail: [0; 3],
            },
            _attributes: None,
            _name: None,
            _arrays: arrays,
        }
    }
}

/// Names that are not for C are cut at their first zero byte.
fn c_string(text: &str) -> CString {
    let text = text.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_default()
}

fn number(id: TensorId) -> c_int {
    id.0 as c_int
}

impl Graph {
    /// The structs for `subgraph`, whose data must outlive them; the text says what the interface
    /// cannot express.
    pub fn new(subgraph: &Subgraph, stride: Stride) -> Result<Self, String> {
        let count = subgraph.tensors.len();
        let mut graph = Self {
            stride,
            tensors: Buffer::zeroed(count * stride.bytes()).ok_or("there is no memory for it")?,
            memory: Vec::with_capacity(count),
            nodes: Vec::with_capacity(subgraph.nodes.len()),
        };
        for tensor in &subgraph.tensors {
            graph.add_tensor(tensor)?;
        }
        for node in &subgraph.nodes {
            graph.add_node(subgraph, node);
        }
        Ok(graph)
    }

    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Where the tensors begin.
    pub fn tensors(&mut self) -> *mut Tensor {
        self.tensors.as_mut_ptr().cast()
    }

    /// Where tensor `index` is.
    pub fn tensor(&mut self, index: usize) -> Option<*mut Tensor> {
        let at = index * self.stride.bytes();
        // SAFETY: within the buffer, which has a stride for each tensor.
        (index < self.len()).then(|| unsafe { self.tensors.as_mut_ptr().add(at).cast() })
    }

    /// The place of a tensor that the other side points to.
    pub fn index_of(&mut self, tensor: *const Tensor) -> Option<usize> {
        let offset = (tensor as usize).checked_sub(self.tensors() as usize)?;
        let stride = self.stride.bytes();
        (offset.is_multiple_of(stride) && offset / stride < self.len()).then_some(offset / stride)
    }

    fn add_tensor(&mut self, tensor: &ModelTensor) -> Result<(), String> {
        let dtype = abi::type_code(tensor.dtype)
            .ok_or_else(|| format!("tensor {:?} is of {}", tensor.name, tensor.dtype))?;
        let data = tensor.data.as_ref();
        let constant = data.filter(|_| !tensor.is_variable);
        let len = match (data, tensor.dtype.byte_len(&tensor.shape)) {
            (Some(data), _) => data.len(),
            (None, Some(len)) => len,
            (None, None) => 0,
        };
        let start = match (data, tensor.is_variable) {
            (Some(data), true) => Start::Bytes(data.clone()),
            (None, true) => Start::Fill(first_byte(tensor)),
            (_, false) => Start::None,
        };
        let mut bytes = match constant {
            Some(data) if data.as_ptr().cast::<u64>().is_aligned() => None,
            _ => {
                let buffer = Buffer::zeroed(len);
                Some(buffer.ok_or_else(|| format!("no memory for tensor {:?}", tensor.name))?)
            }
        };
        if let (Some(buffer), Some(data)) = (&mut bytes, constant) {
            buffer.bytes_mut().copy_from_slice(data);
        }
        if let Some(buffer) = &mut bytes {
            start.write(buffer.bytes_mut());
        }
        let data = match (&mut bytes, constant) {
            (Some(buffer), _) => buffer.as_mut_ptr(),
            (None, Some(data)) => data.as_ptr().cast_mut(),
            (None, None) => std::ptr::null_mut(),
        };
        let name = c_string(&tensor.name);
        let quantization = tensor.quantization.as_ref().and_then(affine);
        let dims = tensor.shape.iter().map(|&d| d as c_int);
        let signature = match &tensor.shape_signature {
            Some(signature) => Ints::new(signature.iter().copied()),
            None => Ints::new(dims.clone()),
        };
        let value = Tensor {
            dtype,
            data: data.cast(),
            dims: Ints::new(dims).into_raw(),
            params: tensor
                .quantization
                .as_ref()
                .map_or_else(Default::default, only),
            allocation_type: match (constant, tensor.is_variable) {
                (Some(_), _) => allocation::MMAP_RO,
                (None, true) => allocation::ARENA_RW_PERSISTENT,
                (None, false) => allocation::ARENA_RW,
            },
            bytes: len,
            allocation: std::ptr::null(),
            name: name.as_ptr(),
            delegate: std::ptr::null_mut(),
            buffer_handle: -1,
            data_is_stale: false,
            is_variable: tensor.is_variable,
            quantization: abi::Quantization {
                kind: c_int::from(quantization.is_some()),
                params: match &quantization {
                    Some(affine) => (&raw const **affine).cast_mut().cast(),
                    None => std::ptr::null_mut(),
                },
            },
            sparsity: std::ptr::null_mut(),
        };
        self.memory.push(Memory {
            _name: name,
            bytes,
            start,
            quantization,
            dims_signature: signature,
        });
        self.write(self.len() - 1, value);
        Ok(())
    }

    /// Writes a tensor and, where the stride has room for it, what follows the common part.
    fn write(&mut self, index: usize, value: Tensor) {
        let signature = self.memory[index].dims_signature.as_ptr();
        let Some(place) = self.tensor(index) else {
            return;
        };
        // SAFETY: the place is of a tensor, which no reference points to.
        unsafe { place.write(value) };
        if self.stride == Stride::Bytes112 {
            // SAFETY: a pointer follows the common part at this stride.
            unsafe { place.add(1).cast::<*mut IntArray>().write(signature) };
        }
    }

    fn add_node(&mut self, subgraph: &Subgraph, node: &bantam_model::Node) {
        let mut attributes = builtin_data::encode(&node.op).map(Box::new);
        let (name, options) = match &node.op {
            Op::Custom(custom) => (Some(c_string(&custom.name)), Some(custom.options.clone())),
            _ => (None, None),
        };
        let registration = Registration {
            init: None,
            free: None,
            prepare: None,
            invoke: None,
            profiling_string: std::ptr::null(),
            builtin_code: match (&node.op, &attributes) {
                (Op::Custom(_), _) | (_, Some(_)) => node.op.code().0,
                // A delegate that knows it would look for attributes that are not there.
                _ => abi::BUILTIN_PLACEHOLDER,
            },
            custom_name: name.as_ref().map_or(std::ptr::null(), |name| name.as_ptr()),
            version: bantam_model::write::version(subgraph, node),
        };
        let inputs = node.inputs.iter();
        let mut memory = NodeMemory::new(
            inputs.map(|input| input.map_or(abi::OPTIONAL_TENSOR, number)),
            node.outputs.iter().copied().map(number),
            node.intermediates.iter().copied().map(number),
            registration,
        );
        if let Some(attributes) = &mut attributes {
            memory.node.builtin_data = attributes.as_ptr().cast_mut().cast::<c_void>();
        }
        if let Some(options) = &options {
            // The model keeps these bytes, and outlives this.
            memory.node.custom_initial_data = options.as_ptr().cast();
            memory.node.custom_initial_data_size = options.len() as c_int;
        }
        memory._attributes = attributes;
        memory._name = name;
        self.nodes.push(Box::new(memory));
    }

    /// Gives the variables the values that they start with.
    pub fn reset(&mut self) {
        for memory in &mut self.memory {
            if let Some(bytes) = &mut memory.bytes {
                memory.start.write(bytes.bytes_mut());
            }
        }
    }

    /// Adds `count` tensors without type or shape; the number of the first, or `None` where there are too many.
    pub fn add_blank_tensors(&mut self, count: usize) -> Option<usize> {
        let (first, stride) = (self.len(), self.stride.bytes());
        let all = first
            .checked_add(count)
            .filter(|&all| all <= MOST_TENSORS)?;
        let mut grown = Buffer::zeroed(all * stride)?;
        // SAFETY: both buffers have this many bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.tensors.as_mut_ptr(),
                grown.as_mut_ptr(),
                first * stride,
            );
        }
        self.tensors = grown;
        for _ in 0..count {
            self.memory.push(Memory {
                _name: CString::default(),
                bytes: None,
                start: Start::None,
                quantization: None,
                dims_signature: Ints::new([]),
            });
            let blank = Tensor {
                dims: Ints::new([]).into_raw(),
                buffer_handle: -1,
                // SAFETY: zero is a value of every field.
                ..unsafe { std::mem::zeroed() }
            };
            self.write(self.len() - 1, blank);
        }
        Some(first)
    }

    /// Gives tensor `index` the dimensions `dims`, which become its own, and bytes for them. After an error the tensor is
    /// what it was, and `dims` is still the caller's.
    ///
    /// # Safety
    ///
    /// `dims` is NULL or came from `malloc`.
    pub unsafe fn resize(&mut self, index: usize, dims: *mut IntArray) -> Result<(), String> {
        let tensor = self.tensor(index).ok_or("there is no such tensor")?;
        // SAFETY: the place of a tensor; `dims` is an array or NULL.
        let (dtype, is_constant, sizes) = unsafe {
            (
                (*tensor).dtype,
                (*tensor).allocation_type == allocation::MMAP_RO,
                super::array::ints_up_to(dims, MOST_DIMENSIONS),
            )
        };
        if is_constant {
            return Err("it is a constant".to_owned());
        }
        let sizes = sizes.ok_or("the new shape is none")?;
        let shape: Option<Vec<usize>> = sizes.iter().map(|&d| usize::try_from(d).ok()).collect();
        let dtype = abi::type_of(dtype).unwrap_or(DType::U8);
        let len = shape.and_then(|shape| dtype.byte_len(&shape));
        let len = len.ok_or("the new shape has no size")?;
        let memory = &mut self.memory[index];
        if memory.bytes.as_ref().is_none_or(|bytes| bytes.len() != len) {
            let bytes = Buffer::zeroed(len).ok_or("there is no memory for the new shape")?;
            let bytes = memory.bytes.insert(bytes);
            // SAFETY: the place of a tensor.
            unsafe {
                (*tensor).data = bytes.as_mut_ptr().cast();
                (*tensor).bytes = len;
            }
        }
        // SAFETY: the place of a tensor, whose dimensions came from `malloc`.
        unsafe {
            if (*tensor).dims != dims {
                free_array((*tensor).dims);
            }
            (*tensor).dims = dims;
        }
        Ok(())
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        for index in 0..self.len() {
            if let Some(tensor) = self.tensor(index) {
                // SAFETY: the place of a tensor, whose dimensions came from `malloc`.
                unsafe { free_array((*tensor).dims) };
            }
            if let Some(affine) = self.memory[index].quantization.take() {
                // SAFETY: made by `affine`.
                unsafe {
                    free_array(affine.scale);
                    free_array(affine.zero_point);
                }
            }
        }
    }
}

/// As TFLite fills the older fields: zeros for a tensor with several scales, so that a delegate that knows only these sees that it
/// does not know the tensor. XNNPACK of 2.6 is one.
fn only(quantization: &Quantization) -> QuantizationParams {
    match (&quantization.scale[..], &quantization.zero_point[..]) {
        (&[scale], &[zero_point]) => QuantizationParams {
            scale,
            zero_point: zero_point as i32,
        },
        (&[scale], []) => QuantizationParams {
            scale,
            zero_point: 0,
        },
        _ => QuantizationParams::default(),
    }
}

fn affine(quantization: &Quantization) -> Option<Box<AffineQuantization>> {
    if quantization.scale.is_empty() {
        return None;
    }
    let zero_points = quantization.zero_point.iter().map(|&z| z as c_int);
    Some(Box::new(AffineQuantization {
        scale: floats(&quantization.scale),
        zero_point: Ints::new(zero_points).into_raw(),
        quantized_dimension: quantization.axis,
    }))
}
