//! `ASSIGN_VARIABLE`: gives the variable whose handle is operand 0 the value of operand 1.
//!
//! It has no result. All values that a variable gets have one type and shape.

use super::{Attributes, Memory, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// `ASSIGN_VARIABLE` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AssignVariable;

const VALUE: usize = 1;

no_attributes!(AssignVariable, AssignVariableOptions);

impl Operator for AssignVariable {
    fn infer_shapes(&self, _: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(Vec::new())
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn memory(&self) -> Option<Memory<'_>> {
        Some(Memory::Write)
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let variable = io.state()?.range.clone();
        Ok(Kernel::new(move |run| run.write_state(&variable, VALUE)))
    }
}
