//! The C interface of Bantam. The contract is `include/bantam.h`; this is its other side: one file
//! for each kind of handle, in which every function's body runs in [`guard`].

#![expect(
    non_camel_case_types,
    reason = "C names its types so, and the header and these files shall read alike"
)]

mod convert;
mod error;
mod external;
mod guard;
mod log;
mod model;
mod placement;
mod run;
mod session;
mod string;
mod struct_size;
mod tensor;

pub use convert::{bantam_convert, bantam_convert_options, bantam_sample_fn};
pub use error::{
    bantam_error, bantam_error_free, bantam_error_message, bantam_error_status, bantam_status,
    bantam_status_name, status,
};
pub use external::{tflite_plugin_create_delegate, tflite_plugin_destroy_delegate};
pub use log::{bantam_log_fn, bantam_set_log};
pub use model::{
    bantam_bytes_free, bantam_model, bantam_model_free, bantam_model_from_bytes,
    bantam_model_from_static, bantam_model_open, bantam_model_save, bantam_model_signature,
    bantam_model_signature_count, bantam_model_to_bytes,
};
pub use placement::{
    bantam_placement, bantam_session_op_count, bantam_session_placement, bantam_session_report,
    bantam_session_summary,
};
pub use run::{
    bantam_done_fn, bantam_input, bantam_output, bantam_session_run, bantam_session_run_async,
    bantam_session_wait,
};
pub use session::{
    bantam_session, bantam_session_free, bantam_session_input, bantam_session_input_count,
    bantam_session_new, bantam_session_options, bantam_session_output, bantam_session_output_count,
    bantam_session_reset_variables, bantam_session_resize_input,
};
pub use string::{bantam_abi_version, bantam_string_free, bantam_version};
pub use tensor::bantam_tensor_info;
