//! What a `.tflite` model is, what it computes, and the CPU path that runs it.
//!
//! ```no_run
//! use std::sync::Arc;
//! use bantam_model::{Model, cpu};
//!
//! let model = Model::open("model.tflite".as_ref())?;
//! let plan = cpu::Plan::new(&model, &cpu::Options::default())?;
//! let mut runner = cpu::Runner::new(Arc::new(plan))?;
//! runner.input_mut(0).unwrap().fill(0);
//! runner.run()?;
//! println!("{:?}", runner.output(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]

extern crate alloc;

pub mod cpu;
pub mod edgetpu_package;
pub mod graph;
pub mod ops;
pub mod quant;
pub mod read;
pub mod target;
pub mod tensor;
#[cfg(test)]
mod testing;
pub mod write;

pub use bantam_schema as schema;
pub use graph::{Metadata, Model, Node, NodeId, SignatureDef, Subgraph, TensorId};
pub use ops::{Numerics, Op};
pub use quant::Quantization;
pub use read::ReadError;
pub use target::Verdict;
pub use tensor::{Bytes, DType, Tensor};
