//! Handles that free themselves, and small models.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::PathBuf;
use std::ptr;

use ::bantam_model::tensor::DType;
use ::bantam_model::{Model as Graph, Node, SignatureDef, Subgraph, Tensor, ops};

use crate::bindings::*;

// Links the library that the bindings declare.
use bantam as _;

/// What a function said that failed: the name of the status, and the message.
#[derive(Debug, PartialEq)]
pub struct Error(pub String, pub String);

/// `f(args..., &mut error)`, and what became of it.
macro_rules! call {
    ($function:ident($($arg:expr),* $(,)?)) => {{
        // Not NULL, so that it shows who sets it.
        let mut error = std::ptr::dangling_mut();
        // SAFETY: the arguments are what the header asks for.
        let status = unsafe { $function($($arg,)* &mut error) };
        $crate::common::outcome(status, error)
    }};
}

/// Checks that a status and an error say the same, and frees the error.
#[track_caller]
pub fn outcome(status: bantam_status, error: *mut bantam_error) -> Result<(), Error> {
    if error.is_null() {
        assert_eq!(
            status as u32, BANTAM_OK,
            "an error came without its description"
        );
        return Ok(());
    }
    assert_ne!(status as u32, BANTAM_OK, "a success came with an error");
    // SAFETY: the library made the error, and nobody freed it.
    let found = unsafe {
        assert_eq!(bantam_error_status(error), status);
        let message = text(bantam_error_message(error));
        let found = Error(text(bantam_status_name(status)), message);
        bantam_error_free(error);
        found
    };
    assert!(!found.1.is_empty() && !found.1.contains('\n'), "{found:?}");
    Err(found)
}

/// Asserts a status, and that the message has a part.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Error>, status: &str, part: &str) {
    let Error(name, message) = result.unwrap_err();
    assert_eq!(name, status, "{message}");
    assert!(message.contains(part), "{message}");
}

/// # Safety
///
/// A string of the library's.
pub unsafe fn text(pointer: *const c_char) -> String {
    assert!(!pointer.is_null());
    // SAFETY: the caller vouches for it.
    unsafe { CStr::from_ptr(pointer) }
        .to_str()
        .unwrap()
        .to_owned()
}

#[derive(Debug)]
pub struct Model(pub *mut bantam_model);

// SAFETY: the header says that different threads may have different handles, one after the other.
unsafe impl Send for Model {}

impl Model {
    pub fn open(path: &str) -> Result<Self, Error> {
        let path = CString::new(path).unwrap();
        let mut model = ptr::dangling_mut();
        let opened = call!(bantam_model_open(path.as_ptr(), &mut model));
        Self::made(model, opened)
    }

    pub fn of(bytes: &[u8]) -> Result<Self, Error> {
        let mut model = ptr::dangling_mut();
        let data = bytes.as_ptr().cast();
        let read = call!(bantam_model_from_bytes(data, bytes.len(), &mut model));
        Self::made(model, read)
    }

    pub fn made(model: *mut bantam_model, result: Result<(), Error>) -> Result<Self, Error> {
        assert_eq!(model.is_null(), result.is_err());
        result.map(|()| Self(model))
    }

    /// The file that it makes.
    pub fn bytes(&self) -> Vec<u8> {
        let (mut data, mut size) = (ptr::null_mut(), 0);
        call!(bantam_model_to_bytes(self.0, &mut data, &mut size)).unwrap();
        // SAFETY: the library gave this many bytes, which are freed once.
        unsafe {
            let bytes = std::slice::from_raw_parts(data, size).to_vec();
            bantam_bytes_free(data, size);
            bytes
        }
    }

    pub fn session(&self) -> Session {
        Session::new(self, &session_options()).unwrap()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { bantam_model_free(self.0) }
    }
}

/// As `BANTAM_SESSION_OPTIONS_INIT`.
pub fn session_options() -> bantam_session_options {
    bantam_session_options {
        struct_size: size_of::<bantam_session_options>(),
        // SAFETY: zero is a value of each field.
        ..unsafe { std::mem::zeroed() }
    }
}

/// As `BANTAM_CONVERT_OPTIONS_INIT`.
pub fn convert_options() -> bantam_convert_options {
    bantam_convert_options {
        struct_size: size_of::<bantam_convert_options>(),
        // SAFETY: zero is a value of each field.
        ..unsafe { std::mem::zeroed() }
    }
}

#[derive(Debug)]
pub struct Session(pub *mut bantam_session);

// SAFETY: as of `Model`.
unsafe impl Send for Session {}

impl Session {
    pub fn new(model: &Model, options: &bantam_session_options) -> Result<Self, Error> {
        let mut session = ptr::dangling_mut();
        let made = call!(bantam_session_new(model.0, options, &mut session));
        assert_eq!(session.is_null(), made.is_err());
        made.map(|()| Self(session))
    }

    /// With a driver.
    pub fn on(model: &Model, driver: &str) -> Result<Self, Error> {
        let driver = CString::new(driver).unwrap();
        let options = bantam_session_options {
            driver: driver.as_ptr(),
            ..session_options()
        };
        Self::new(model, &options)
    }

    pub fn input(&self, index: usize) -> Result<bantam_tensor_info, Error> {
        let mut info = tensor_info();
        call!(bantam_session_input(self.0, index, &mut info)).map(|()| info)
    }

    pub fn output(&self, index: usize) -> Result<bantam_tensor_info, Error> {
        let mut info = tensor_info();
        call!(bantam_session_output(self.0, index, &mut info)).map(|()| info)
    }

    /// Runs on `inputs`; the outputs.
    pub fn run(&self, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>, Error> {
        // SAFETY: the session lives.
        let count = unsafe { bantam_session_output_count(self.0) };
        let size = |index| self.output(index).unwrap().byte_size;
        let mut outputs: Vec<Vec<u8>> = (0..count).map(|index| vec![0; size(index)]).collect();
        self.run_into(inputs, &mut outputs).map(|()| outputs)
    }

    pub fn run_into(&self, inputs: &[&[u8]], outputs: &mut [Vec<u8>]) -> Result<(), Error> {
        let (given, taken) = (buffers(inputs), room(outputs));
        call!(bantam_session_run(
            self.0,
            given.as_ptr(),
            given.len(),
            taken.as_ptr(),
            taken.len()
        ))
    }

    pub fn report(&self) -> serde_json::Value {
        let mut json = ptr::null_mut();
        call!(bantam_session_report(self.0, &mut json)).unwrap();
        take_json(json)
    }

    pub fn summary(&self) -> String {
        // SAFETY: the session lives.
        unsafe { text(bantam_session_summary(self.0)) }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { bantam_session_free(self.0) }
    }
}

/// The object of a text that the library gave, which is freed.
pub fn take_json(json: *mut c_char) -> serde_json::Value {
    // SAFETY: the library gave it.
    unsafe {
        let object = serde_json::from_str(&text(json)).unwrap();
        bantam_string_free(json);
        object
    }
}

/// As `BANTAM_TENSOR_INFO_INIT`.
pub fn tensor_info() -> bantam_tensor_info {
    bantam_tensor_info {
        struct_size: size_of::<bantam_tensor_info>(),
        // SAFETY: zero is a value of each field.
        ..unsafe { std::mem::zeroed() }
    }
}

pub fn buffers(inputs: &[&[u8]]) -> Vec<bantam_input> {
    let inputs = inputs.iter().map(|bytes| bantam_input {
        data: bytes.as_ptr().cast(),
        size: bytes.len(),
    });
    inputs.collect()
}

pub fn room(outputs: &mut [Vec<u8>]) -> Vec<bantam_output> {
    let outputs = outputs.iter_mut().map(|bytes| bantam_output {
        data: bytes.as_mut_ptr().cast::<c_void>(),
        size: bytes.len(),
    });
    outputs.collect()
}

/// A float model that knows digits, 8 by 8.
pub fn digits() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../cli/assets/digits.tflite"
    ))
}

/// Gives floats from 0 to 16, as the pixels of the digits are.
pub unsafe extern "C" fn pixels(
    _: *mut c_void,
    index: usize,
    inputs: *const bantam_output,
    inputs_len: usize,
) -> i32 {
    // SAFETY: the library lends this many buffers, each of floats, which may not be aligned.
    unsafe {
        for input in std::slice::from_raw_parts(inputs, inputs_len) {
            for at in 0..input.size / 4 {
                let value = ((at * 7 + index * 3) % 17) as f32;
                input.data.cast::<f32>().add(at).write_unaligned(value);
            }
        }
    }
    0
}

/// [`digits`], in int8.
pub fn integer_digits() -> Model {
    converted_digits(&convert_options())
}

/// [`digits`] as `options` say.
pub fn converted_digits(options: &bantam_convert_options) -> Model {
    let float = Model::open(digits().to_str().unwrap()).unwrap();
    let options = bantam_convert_options {
        sample_count: 8,
        ..*options
    };
    let mut model = ptr::null_mut();
    let done = call!(bantam_convert(
        float.0,
        &options,
        Some(pixels),
        ptr::null_mut(),
        &mut model,
        ptr::null_mut()
    ));
    Model::made(model, done).unwrap()
}

/// float32 `[2, 3]` and a shape of two int32, to that shape; its one signature is `reshape`.
pub fn reshape() -> Model {
    let mut subgraph = Subgraph::default();
    let input = subgraph.add_tensor(Tensor::new("x", DType::F32, [2, 3]));
    let shape = subgraph.add_tensor(Tensor::new("shape", DType::I32, [2]));
    let output = subgraph.add_tensor(Tensor::new("y", DType::F32, [6]));
    let op = ops::Reshape { new_shape: None };
    subgraph
        .nodes
        .push(Node::new(op, &[input, shape], &[output]));
    (subgraph.inputs, subgraph.outputs) = (vec![input, shape], vec![output]);
    let signature = SignatureDef {
        key: "reshape".into(),
        subgraph: 0,
        inputs: vec![("x".into(), input), ("shape".into(), shape)],
        outputs: vec![("y".into(), output)],
    };
    let graph = Graph {
        subgraphs: vec![subgraph],
        signatures: vec![signature],
        ..Graph::default()
    };
    Model::of(&graph.to_bytes()).unwrap()
}

/// Two integers as the shape that [`reshape`] takes.
pub fn dims(shape: [i32; 2]) -> Vec<u8> {
    shape.map(i32::to_ne_bytes).concat()
}
