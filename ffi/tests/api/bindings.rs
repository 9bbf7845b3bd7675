// Made by `cargo run --manifest-path ffi/bindgen/Cargo.toml`; not to be edited.

pub const BANTAM_ABI_VERSION: u32 = 1;
pub type bantam_status = i32;
pub const BANTAM_OK: _bindgen_ty_1 = 0;
pub const BANTAM_INVALID_ARGUMENT: _bindgen_ty_1 = 1;
pub const BANTAM_IO: _bindgen_ty_1 = 2;
pub const BANTAM_INVALID_MODEL: _bindgen_ty_1 = 3;
pub const BANTAM_UNSUPPORTED: _bindgen_ty_1 = 4;
pub const BANTAM_DRIVER: _bindgen_ty_1 = 5;
pub const BANTAM_NOT_DELEGATED: _bindgen_ty_1 = 6;
pub const BANTAM_BUSY: _bindgen_ty_1 = 7;
pub const BANTAM_CANCELLED: _bindgen_ty_1 = 8;
pub const BANTAM_RUN: _bindgen_ty_1 = 9;
pub const BANTAM_INTERNAL: _bindgen_ty_1 = 10;
pub type _bindgen_ty_1 = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bantam_error {
    _unused: [u8; 0],
}
pub const BANTAM_LOG_WARNING: _bindgen_ty_2 = 1;
pub const BANTAM_LOG_INFO: _bindgen_ty_2 = 2;
pub type _bindgen_ty_2 = ::std::os::raw::c_uint;
pub type bantam_log_fn = ::std::option::Option<
    unsafe extern "C" fn(
        user: *mut ::std::os::raw::c_void,
        level: i32,
        message: *const ::std::os::raw::c_char,
    ),
>;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bantam_model {
    _unused: [u8; 0],
}
pub type bantam_type = i32;
pub const BANTAM_FLOAT32: _bindgen_ty_3 = 0;
pub const BANTAM_FLOAT16: _bindgen_ty_3 = 1;
pub const BANTAM_INT32: _bindgen_ty_3 = 2;
pub const BANTAM_UINT8: _bindgen_ty_3 = 3;
pub const BANTAM_INT64: _bindgen_ty_3 = 4;
pub const BANTAM_STRING: _bindgen_ty_3 = 5;
pub const BANTAM_BOOL: _bindgen_ty_3 = 6;
pub const BANTAM_INT16: _bindgen_ty_3 = 7;
pub const BANTAM_COMPLEX64: _bindgen_ty_3 = 8;
pub const BANTAM_INT8: _bindgen_ty_3 = 9;
pub const BANTAM_FLOAT64: _bindgen_ty_3 = 10;
pub const BANTAM_COMPLEX128: _bindgen_ty_3 = 11;
pub const BANTAM_UINT64: _bindgen_ty_3 = 12;
pub const BANTAM_RESOURCE: _bindgen_ty_3 = 13;
pub const BANTAM_VARIANT: _bindgen_ty_3 = 14;
pub const BANTAM_UINT32: _bindgen_ty_3 = 15;
pub const BANTAM_UINT16: _bindgen_ty_3 = 16;
pub const BANTAM_INT4: _bindgen_ty_3 = 17;
pub const BANTAM_BFLOAT16: _bindgen_ty_3 = 18;
pub type _bindgen_ty_3 = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bantam_tensor_info {
    pub struct_size: usize,
    pub name: *const ::std::os::raw::c_char,
    pub type_: bantam_type,
    pub rank: usize,
    pub shape: *const usize,
    pub byte_size: usize,
    pub scale_count: usize,
    pub scales: *const f32,
    pub zero_points: *const i64,
    pub quantized_dimension: i32,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bantam_session {
    _unused: [u8; 0],
}
pub type bantam_numerics = i32;
pub const BANTAM_NUMERICS_FAST: _bindgen_ty_4 = 0;
pub const BANTAM_NUMERICS_REFERENCE: _bindgen_ty_4 = 1;
pub type _bindgen_ty_4 = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bantam_session_options {
    pub struct_size: usize,
    pub driver: *const ::std::os::raw::c_char,
    pub device: *const ::std::os::raw::c_char,
    pub signature: *const ::std::os::raw::c_char,
    pub numerics: bantam_numerics,
    pub threads: u32,
    pub deadline_ms: u32,
    pub require_full_delegation: i32,
    pub min_partition_ops: u32,
    pub check_runs: u32,
    pub check_every: u32,
    pub cost_aware: i32,
    pub allow: *const *const ::std::os::raw::c_char,
    pub allow_len: usize,
    pub deny: *const *const ::std::os::raw::c_char,
    pub deny_len: usize,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bantam_input {
    pub data: *const ::std::os::raw::c_void,
    pub size: usize,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bantam_output {
    pub data: *mut ::std::os::raw::c_void,
    pub size: usize,
}
pub type bantam_done_fn = ::std::option::Option<
    unsafe extern "C" fn(
        user: *mut ::std::os::raw::c_void,
        status: bantam_status,
        error: *const bantam_error,
    ),
>;
pub const BANTAM_PLACED_CPU: _bindgen_ty_5 = 0;
pub const BANTAM_PLACED_PARTITION: _bindgen_ty_5 = 1;
pub const BANTAM_PLACED_CONSTANT: _bindgen_ty_5 = 2;
pub type _bindgen_ty_5 = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bantam_placement {
    pub struct_size: usize,
    pub index: usize,
    pub subgraph: usize,
    pub op: *const ::std::os::raw::c_char,
    pub placed: i32,
    pub partition: i32,
    pub rule: *const ::std::os::raw::c_char,
    pub reason: *const ::std::os::raw::c_char,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bantam_convert_options {
    pub struct_size: usize,
    pub mode: *const ::std::os::raw::c_char,
    pub input_type: *const ::std::os::raw::c_char,
    pub output_type: *const ::std::os::raw::c_char,
    pub recipe: *const ::std::os::raw::c_char,
    pub signature: *const ::std::os::raw::c_char,
    pub sample_count: usize,
    pub threads: u32,
    pub allow_inexact: i32,
    pub target: *const ::std::os::raw::c_char,
}
pub type bantam_sample_fn = ::std::option::Option<
    unsafe extern "C" fn(
        user: *mut ::std::os::raw::c_void,
        index: usize,
        inputs: *const bantam_output,
        inputs_len: usize,
    ) -> i32,
>;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct TfLiteDelegate {
    _unused: [u8; 0],
}
unsafe extern "C" {
    pub fn bantam_version() -> *const ::std::os::raw::c_char;
    pub fn bantam_abi_version() -> u32;
    pub fn bantam_error_status(error: *const bantam_error) -> bantam_status;
    pub fn bantam_error_message(error: *const bantam_error) -> *const ::std::os::raw::c_char;
    pub fn bantam_error_free(error: *mut bantam_error);
    pub fn bantam_status_name(status: bantam_status) -> *const ::std::os::raw::c_char;
    pub fn bantam_set_log(log: bantam_log_fn, user: *mut ::std::os::raw::c_void);
    pub fn bantam_model_open(
        path: *const ::std::os::raw::c_char,
        model: *mut *mut bantam_model,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_model_from_bytes(
        data: *const ::std::os::raw::c_void,
        size: usize,
        model: *mut *mut bantam_model,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_model_from_static(
        data: *const ::std::os::raw::c_void,
        size: usize,
        release: ::std::option::Option<unsafe extern "C" fn(user: *mut ::std::os::raw::c_void)>,
        user: *mut ::std::os::raw::c_void,
        model: *mut *mut bantam_model,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_model_free(model: *mut bantam_model);
    pub fn bantam_model_save(
        model: *const bantam_model,
        path: *const ::std::os::raw::c_char,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_model_to_bytes(
        model: *const bantam_model,
        data: *mut *mut u8,
        size: *mut usize,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_bytes_free(data: *mut u8, size: usize);
    pub fn bantam_model_signature_count(model: *const bantam_model) -> usize;
    pub fn bantam_model_signature(
        model: *const bantam_model,
        index: usize,
    ) -> *const ::std::os::raw::c_char;
    pub fn bantam_session_new(
        model: *const bantam_model,
        options: *const bantam_session_options,
        session: *mut *mut bantam_session,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_session_free(session: *mut bantam_session);
    pub fn bantam_session_input_count(session: *const bantam_session) -> usize;
    pub fn bantam_session_output_count(session: *const bantam_session) -> usize;
    pub fn bantam_session_input(
        session: *const bantam_session,
        index: usize,
        info: *mut bantam_tensor_info,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_session_output(
        session: *const bantam_session,
        index: usize,
        info: *mut bantam_tensor_info,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_session_resize_input(
        session: *mut bantam_session,
        index: usize,
        shape: *const usize,
        rank: usize,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_session_run(
        session: *mut bantam_session,
        inputs: *const bantam_input,
        inputs_len: usize,
        outputs: *const bantam_output,
        outputs_len: usize,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_session_run_async(
        session: *mut bantam_session,
        inputs: *const bantam_input,
        inputs_len: usize,
        outputs: *const bantam_output,
        outputs_len: usize,
        done: bantam_done_fn,
        user: *mut ::std::os::raw::c_void,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_session_wait(
        session: *mut bantam_session,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_session_reset_variables(
        session: *mut bantam_session,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_session_op_count(session: *const bantam_session) -> usize;
    pub fn bantam_session_placement(
        session: *const bantam_session,
        index: usize,
        placement: *mut bantam_placement,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_session_summary(session: *const bantam_session) -> *const ::std::os::raw::c_char;
    pub fn bantam_session_report(
        session: *const bantam_session,
        json: *mut *mut ::std::os::raw::c_char,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn bantam_string_free(text: *mut ::std::os::raw::c_char);
    pub fn bantam_convert(
        model: *const bantam_model,
        options: *const bantam_convert_options,
        sample: bantam_sample_fn,
        user: *mut ::std::os::raw::c_void,
        converted: *mut *mut bantam_model,
        report: *mut *mut ::std::os::raw::c_char,
        error: *mut *mut bantam_error,
    ) -> bantam_status;
    pub fn tflite_plugin_create_delegate(
        keys: *mut *mut ::std::os::raw::c_char,
        values: *mut *mut ::std::os::raw::c_char,
        count: usize,
        report: ::std::option::Option<unsafe extern "C" fn(message: *const ::std::os::raw::c_char)>,
    ) -> *mut TfLiteDelegate;
    pub fn tflite_plugin_destroy_delegate(delegate: *mut TfLiteDelegate);
}
