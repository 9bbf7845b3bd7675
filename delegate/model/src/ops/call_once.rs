//! `CALL_ONCE`: runs a subgraph in the first run only, to give variables their first values.
//!
//! The subgraph has no inputs and no outputs. Whether it has run is remembered by subgraph, so that
//! of several `CALL_ONCE` of one subgraph the first runs it.

use super::call::body;
use super::{Attributes, Body, Memory, OpError, Operator, Signature};
use crate::cpu::{Frame, Kernel};
use crate::schema::tfl;
use crate::tensor::Shape;

/// Attributes of `CALL_ONCE`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CallOnce {
    /// The subgraph.
    pub subgraph: i32,
}

impl Attributes for CallOnce {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_call_once_options().cloned().unwrap_or_default();
        Ok(Self {
            subgraph: options.init_subgraph_index,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::CallOnceOptions(Box::new(tfl::CallOnceOptionsT {
            init_subgraph_index: self.subgraph,
        }))
    }
}

impl Operator for CallOnce {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        match (io.inputs.len(), io.outputs.len()) {
            (0, 0) => Ok(Vec::new()),
            (inputs, outputs) => Err(OpError::Body(format!(
                "{inputs} inputs and {outputs} outputs where none belong"
            ))),
        }
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn bodies(&self) -> Vec<Body> {
        body(self.subgraph)
    }

    fn memory(&self) -> Option<Memory<'_>> {
        Some(Memory::Once(self.subgraph))
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let done = io.state()?.range.clone();
        let frame = Frame::new(io.body(0)?, 0);
        Ok(Kernel::with_scratch(frame.end(), move |run| {
            if run.state(&done) == [0] {
                frame.call(run, 0);
                run.state(&done).fill(1);
            }
        }))
    }
}
