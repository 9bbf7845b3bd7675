//! The C layouts between TensorFlow Lite's runtimes and its delegates, written out by hand.
//!
//! No header of theirs is used, because each of them is one version's, and the two sides of the interface are seldom of
//! the same version. What holds for all versions since 2020 is the prefix of each struct; what came later is not touched,
//! and never looked for by a test for NULL: behind the end of an older struct there is other memory.
//!
//! | since | `Context` | `Tensor` | `Registration` | `Delegate` |
//! |---|---|---|---|---|
//! | 2020-07 (libedgetpu) | 176 | 104 | 64 | 48 |
//! | 2.5 | 176 | 112 | 64 | 48 |
//! | 2.9 | 184 | 112 | 72 | 48 |
//! | 2.14 and later, LiteRT | 200 | 112 | 88 | 56 |
//!
//! All sizes are of 64-bit machines.

use std::ffi::{c_char, c_int, c_void};

use bantam_model::DType;

use crate::driver::DriverError;

/// `TfLiteStatus`.
pub type Status = c_int;
/// It went well.
pub const OK: Status = 0;
/// It did not.
pub const ERROR: Status = 1;
/// A delegate could not do its part; the runtime goes on without it.
pub const DELEGATE_ERROR: Status = 2;
/// The caller used the delegate in a way it is not made for.
pub const APPLICATION_ERROR: Status = 3;

/// `builtin_code` of a node that a delegate runs.
pub const BUILTIN_DELEGATE: i32 = 51;
/// `builtin_code` of a custom operator.
pub const BUILTIN_CUSTOM: i32 = 32;
/// `builtin_code` that no operator has.
pub const BUILTIN_PLACEHOLDER: i32 = 127;
/// In place of an operand that is not given.
pub const OPTIONAL_TENSOR: c_int = -1;

/// `TfLiteIntArray`: a length, and as many integers behind it. Made with `malloc`, because either side may free it.
#[repr(C)]
pub struct IntArray {
    /// How many integers follow.
    pub size: c_int,
    /// Where they begin.
    pub data: [c_int; 0],
}

/// `TfLiteQuantizationParams`: one scale and zero point.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct QuantizationParams {
    /// Real value of one step; 0 for a tensor that is not quantized.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero_point: i32,
}

/// `TfLiteFloatArray`.
#[repr(C)]
pub struct FloatArray {
    /// How many numbers follow.
    pub size: c_int,
    /// Where they begin.
    pub data: [f32; 0],
}

/// `TfLiteAffineQuantization`: one scale and zero point, or one for each index of an axis.
#[repr(C)]
pub struct AffineQuantization {
    /// The scales.
    pub scale: *mut FloatArray,
    /// As many zero points.
    pub zero_point: *mut IntArray,
    /// The axis that several belong to.
    pub quantized_dimension: i32,
}

/// `TfLiteQuantization`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Quantization {
    /// 0 for none, 1 for [`AffineQuantization`].
    pub kind: c_int,
    /// What the kind says.
    pub params: *mut c_void,
}

/// `TfLiteTensor`, as far as all versions have it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tensor {
    /// The element type, see [`type_code`].
    pub dtype: c_int,
    /// The bytes.
    pub data: *mut c_void,
    /// The shape.
    pub dims: *mut IntArray,
    /// One scale and zero point, kept for old kernels.
    pub params: QuantizationParams,
    /// Who owns the bytes: see [`allocation`].
    pub allocation_type: c_int,
    /// How many bytes there are.
    pub bytes: usize,
    /// The file that the bytes are in, where they are.
    pub allocation: *const c_void,
    /// The name.
    pub name: *const c_char,
    /// The delegate that has the bytes on a device.
    pub delegate: *mut Delegate,
    /// Which of its buffers; -1 for none.
    pub buffer_handle: c_int,
    /// Whether only that buffer is up to date.
    pub data_is_stale: bool,
    /// Whether it keeps its value between runs.
    pub is_variable: bool,
    /// All scales and zero points.
    pub quantization: Quantization,
    /// How a sparse constant is packed.
    pub sparsity: *mut c_void,
}

/// Values of [`Tensor::allocation_type`].
pub mod allocation {
    use super::c_int;

    /// No bytes yet.
    pub const NONE: c_int = 0;
    /// In the file.
    pub const MMAP_RO: c_int = 1;
    /// In the arena.
    pub const ARENA_RW: c_int = 2;
    /// In the arena, kept between runs.
    pub const ARENA_RW_PERSISTENT: c_int = 3;
    /// Sized by the kernel that writes it.
    pub const DYNAMIC: c_int = 4;
    /// Kept by the runtime, read only.
    pub const PERSISTENT_RO: c_int = 5;
}

/// From one tensor to the next, as a library was compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stride {
    /// 104: before 2020-08, the Edge TPU's library.
    Bytes104,
    /// 112: everything since, with `dims_signature` at the end.
    Bytes112,
}

impl Stride {
    /// The value of the option `tensor-stride`.
    ///
    /// # Errors
    ///
    /// It is neither 104 nor 112.
    pub fn read(value: &str) -> Result<Self, DriverError> {
        match value {
            "104" => Ok(Self::Bytes104),
            "112" => Ok(Self::Bytes112),
            _ => Err(DriverError::Option {
                option: format!("{}={value}", super::STRIDE),
                cause: "it is neither 104 nor 112".to_owned(),
            }),
        }
    }

    /// The number of bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bytes104 => 104,
            Self::Bytes112 => 112,
        }
    }
}

/// `TfLiteNode`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Node {
    /// The operands; -1 for one that is not given.
    pub inputs: *mut IntArray,
    /// The results.
    pub outputs: *mut IntArray,
    /// Tensors of which only the quantization matters.
    pub intermediates: *mut IntArray,
    /// Tensors that the kernel asked for.
    pub temporaries: *mut IntArray,
    /// What the kernel's `init` gave.
    pub user_data: *mut c_void,
    /// The attributes of a builtin operator, in a struct of its own.
    pub builtin_data: *mut c_void,
    /// The attributes of a custom operator, as in the file.
    pub custom_initial_data: *const c_void,
    /// Their size.
    pub custom_initial_data_size: c_int,
    /// The delegate that runs it.
    pub delegate: *mut Delegate,
    /// Whether it does more than write its results.
    pub might_have_side_effect: bool,
}

/// `init` of a kernel.
pub type KernelInit = unsafe extern "C" fn(*mut Context, *const c_char, usize) -> *mut c_void;
/// `free` of a kernel.
pub type KernelFree = unsafe extern "C" fn(*mut Context, *mut c_void);
/// `prepare` and `invoke` of a kernel.
pub type KernelCall = unsafe extern "C" fn(*mut Context, *mut Node) -> Status;

/// `TfLiteRegistration`, as far as all versions have it: what a host reads.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Registration {
    /// Makes what the kernel keeps.
    pub init: Option<KernelInit>,
    /// Frees it.
    pub free: Option<KernelFree>,
    /// Checks and sizes; called any number of times.
    pub prepare: Option<KernelCall>,
    /// Computes.
    pub invoke: Option<KernelCall>,
    /// A name for profiles.
    pub profiling_string: *const c_void,
    /// The operator's number.
    pub builtin_code: i32,
    /// The name of a custom operator.
    pub custom_name: *const c_char,
    /// The operator's version.
    pub version: c_int,
}

/// `TfLiteRegistration` with what newer versions added, which stays zero: what a delegate hands over. A runtime that knows
/// fewer fields reads fewer.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FullRegistration {
    /// What all versions have.
    pub prefix: Registration,
    /// Zero.
    pub tail: [usize; 3],
}

/// `TfLiteDelegateParams`: what a delegate's kernel is given in `init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DelegateParams {
    /// The delegate.
    pub delegate: *mut Delegate,
    /// The nodes of the partition.
    pub nodes_to_replace: *mut IntArray,
    /// What it reads, constants included.
    pub input_tensors: *mut IntArray,
    /// What it gives.
    pub output_tensors: *mut IntArray,
}

/// `ReplaceNodeSubsetsWithDelegateKernels` as a delegate calls it.
pub type ReplaceSubsets =
    unsafe extern "C" fn(*mut Context, FullRegistration, *const IntArray, *mut Delegate) -> Status;

/// `TfLiteContext`, as far as 2.5 has it.
#[repr(C)]
pub struct Context {
    /// How many tensors there are.
    pub tensors_size: usize,
    /// Gives the nodes in order of execution. The array is the context's.
    pub get_execution_plan: unsafe extern "C" fn(*mut Context, *mut *mut IntArray) -> Status,
    /// The tensors, one [`Stride`] apart.
    pub tensors: *mut Tensor,
    /// The runtime's own.
    pub impl_: *mut c_void,
    /// Gives a tensor another shape, which becomes the context's.
    pub resize_tensor: unsafe extern "C" fn(*mut Context, *mut Tensor, *mut IntArray) -> Status,
    /// Takes a message as `printf` does.
    pub report_error: *const c_void,
    /// Adds tensors.
    pub add_tensors: unsafe extern "C" fn(*mut Context, c_int, *mut c_int) -> Status,
    /// Gives one node and what computes it.
    pub get_node_and_registration:
        unsafe extern "C" fn(*mut Context, c_int, *mut *mut Node, *mut *mut Registration) -> Status,
    /// Replaces partitions by kernels of a delegate: [`ReplaceSubsets`].
    pub replace_node_subsets: *const c_void,
    /// How many threads a kernel should use; -1 for its choice.
    pub recommended_num_threads: c_int,
    /// Gives what was set under a number.
    pub get_external_context: unsafe extern "C" fn(*mut Context, c_int) -> *mut c_void,
    /// Sets it.
    pub set_external_context: unsafe extern "C" fn(*mut Context, c_int, *mut c_void),
    /// Whether float16 will do.
    pub allow_fp32_relax_to_fp16: bool,
    /// The runtime's own.
    pub profiler: *mut c_void,
    /// Not for delegates.
    pub allocate_persistent_buffer: *const c_void,
    /// Not for delegates.
    pub allocate_buffer_for_eval: *const c_void,
    /// Not for delegates.
    pub request_scratch_buffer_in_arena: *const c_void,
    /// Not for delegates.
    pub get_scratch_buffer: *const c_void,
    /// Gives a tensor another shape, by its dimensions.
    pub resize_tensor_explicit: *const c_void,
    /// Tells which partitions would come of some nodes. The array is the context's.
    pub preview_delegate_partitioning: Option<
        unsafe extern "C" fn(
            *mut Context,
            *const IntArray,
            *mut *mut DelegateParams,
            *mut c_int,
        ) -> Status,
    >,
    /// NULL for delegates.
    pub get_tensor: *const c_void,
    /// NULL for delegates.
    pub get_eval_tensor: *const c_void,
}

/// `Prepare` of a delegate.
pub type DelegatePrepare = unsafe extern "C" fn(*mut Context, *mut Delegate) -> Status;
/// Copies between a buffer of a delegate's and a tensor.
pub type CopyBuffer =
    unsafe extern "C" fn(*mut Context, *mut Delegate, c_int, *mut Tensor) -> Status;
/// Frees a buffer of a delegate's.
pub type FreeBuffer = unsafe extern "C" fn(*mut Context, *mut Delegate, *mut c_int);

/// `TfLiteDelegate`, as far as all versions have it.
#[repr(C)]
pub struct Delegate {
    /// The delegate's own.
    pub data: *mut c_void,
    /// Looks at the graph and claims nodes.
    pub prepare: Option<DelegatePrepare>,
    /// From a buffer into a tensor.
    pub copy_from_buffer_handle: Option<CopyBuffer>,
    /// From a tensor into a buffer.
    pub copy_to_buffer_handle: Option<CopyBuffer>,
    /// Frees a buffer.
    pub free_buffer_handle: Option<FreeBuffer>,
    /// See [`flags`].
    pub flags: i64,
}

/// `TfLiteDelegate` with what newer versions added, which stays zero: what a plug-in gives out.
#[repr(C)]
pub struct FullDelegate {
    /// What all versions have.
    pub prefix: Delegate,
    /// NULL: the builder of the other interface, looked at only where `prepare` is NULL.
    pub opaque_delegate_builder: *mut c_void,
}

/// Values of [`Delegate::flags`].
pub mod flags {
    /// It copes with tensors that are sized while the model runs.
    pub const ALLOW_DYNAMIC_TENSORS: i64 = 1;
    /// It wants `prepare` with all shapes known, again after each change.
    pub const REQUIRE_PROPAGATED_SHAPES: i64 = 2;
    /// It sizes its results itself.
    pub const PER_OPERATOR_PROFILING: i64 = 4;
}

/// `tflite_plugin_create_delegate`: keys, values, their number, and what takes a message.
pub type PluginCreate = unsafe extern "C" fn(
    *mut *mut c_char,
    *mut *mut c_char,
    usize,
    Option<unsafe extern "C" fn(*const c_char)>,
) -> *mut Delegate;
/// `tflite_plugin_destroy_delegate`.
pub type PluginDestroy = unsafe extern "C" fn(*mut Delegate);

/// Each element type with the interface's number for it, which is not the format's.
const TYPES: [(DType, c_int); 19] = [
    (DType::F32, 1),
    (DType::I32, 2),
    (DType::U8, 3),
    (DType::I64, 4),
    (DType::String, 5),
    (DType::Bool, 6),
    (DType::I16, 7),
    (DType::Complex64, 8),
    (DType::I8, 9),
    (DType::F16, 10),
    (DType::F64, 11),
    (DType::Complex128, 12),
    (DType::U64, 13),
    (DType::Resource, 14),
    (DType::Variant, 15),
    (DType::U32, 16),
    (DType::U16, 17),
    (DType::I4, 18),
    (DType::BF16, 19),
];

/// `TfLiteType` of `dtype`; `None` for types that the interface has no number for.
pub fn type_code(dtype: DType) -> Option<c_int> {
    let found = TYPES.iter().find(|(known, _)| *known == dtype);
    found.map(|&(_, code)| code)
}

/// The type with the number `code`, `TfLiteType`.
pub fn type_of(code: c_int) -> Option<DType> {
    let found = TYPES.iter().find(|&&(_, known)| known == code);
    found.map(|&(dtype, _)| dtype)
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Tensor>() == 104);
    assert!(offset_of!(Tensor, data) == 8);
    assert!(offset_of!(Tensor, dims) == 16);
    assert!(offset_of!(Tensor, params) == 24);
    assert!(offset_of!(Tensor, allocation_type) == 32);
    assert!(offset_of!(Tensor, bytes) == 40);
    assert!(offset_of!(Tensor, allocation) == 48);
    assert!(offset_of!(Tensor, name) == 56);
    assert!(offset_of!(Tensor, delegate) == 64);
    assert!(offset_of!(Tensor, buffer_handle) == 72);
    assert!(offset_of!(Tensor, data_is_stale) == 76);
    assert!(offset_of!(Tensor, is_variable) == 77);
    assert!(offset_of!(Tensor, quantization) == 80);
    assert!(offset_of!(Tensor, sparsity) == 96);
    assert!(size_of::<Node>() == 80);
    assert!(offset_of!(Node, user_data) == 32);
    assert!(offset_of!(Node, custom_initial_data_size) == 56);
    assert!(offset_of!(Node, delegate) == 64);
    assert!(offset_of!(Node, might_have_side_effect) == 72);
    assert!(size_of::<Registration>() == 64);
    assert!(offset_of!(Registration, builtin_code) == 40);
    assert!(offset_of!(Registration, custom_name) == 48);
    assert!(offset_of!(Registration, version) == 56);
    assert!(size_of::<FullRegistration>() == 88);
    assert!(size_of::<DelegateParams>() == 32);
    assert!(size_of::<Context>() == 176);
    assert!(offset_of!(Context, tensors) == 16);
    assert!(offset_of!(Context, resize_tensor) == 32);
    assert!(offset_of!(Context, report_error) == 40);
    assert!(offset_of!(Context, get_node_and_registration) == 56);
    assert!(offset_of!(Context, replace_node_subsets) == 64);
    assert!(offset_of!(Context, recommended_num_threads) == 72);
    assert!(offset_of!(Context, get_external_context) == 80);
    assert!(offset_of!(Context, allow_fp32_relax_to_fp16) == 96);
    assert!(offset_of!(Context, profiler) == 104);
    assert!(offset_of!(Context, preview_delegate_partitioning) == 152);
    assert!(offset_of!(Context, get_eval_tensor) == 168);
    assert!(size_of::<Delegate>() == 48);
    assert!(offset_of!(Delegate, flags) == 40);
    assert!(size_of::<FullDelegate>() == 56);
};
