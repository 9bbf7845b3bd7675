//! `VAR_HANDLE`: the handle of a variable, which keeps its value between runs.
//!
//! Variables of the same container and name are the same, in whatever subgraph. Which one a handle
//! means is known when a model is planned; it may go through operands and results of subgraphs.

use super::{Attributes, Memory, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `VAR_HANDLE`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VarHandle {
    /// The namespace of the name.
    pub container: Option<String>,
    /// The variable's name.
    pub shared_name: Option<String>,
}

impl Attributes for VarHandle {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_var_handle_options().cloned().unwrap_or_default();
        Ok(Self {
            container: options.container,
            shared_name: options.shared_name,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::VarHandleOptions(Box::new(tfl::VarHandleOptionsT {
            container: self.container.clone(),
            shared_name: self.shared_name.clone(),
        }))
    }
}

impl Operator for VarHandle {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        match io.output(0)?.dtype {
            DType::Resource | DType::I32 => Ok(vec![Vec::new()]),
            dtype => Err(OpError::UnsupportedType {
                what: "output 0".into(),
                dtype,
            }),
        }
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn memory(&self) -> Option<Memory<'_>> {
        Some(Memory::Handle {
            container: self.container.as_deref().unwrap_or_default(),
            name: self.shared_name.as_deref().unwrap_or_default(),
        })
    }

    fn fold(&self, io: &Signature) -> Option<Vec<u8>> {
        Some(io.state.as_ref()?.number.to_ne_bytes().to_vec())
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let number = io.state()?.number;
        Ok(Kernel::new(move |run| run.parts(0).output.fill(number)))
    }
}
