//! What an operator sees of its operands and results when it is prepared.

use std::sync::Arc;

use super::{Numerics, OpError};
use crate::cpu::Plan;
use crate::quant::{PerTensor, Quantization};
use crate::tensor::{Bytes, DType, Shape, element_count};

/// What an operator sees of one operand or result when it is prepared.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// The element type.
    pub dtype: DType,
    /// The shape, all dimensions known.
    pub shape: Shape,
    /// Quantization parameters, where the tensor has them.
    pub quantization: Option<Quantization>,
    /// The value, if it is known before running.
    pub data: Option<Bytes>,
}

impl Value {
    /// The number of elements.
    pub fn len(&self) -> usize {
        element_count(&self.shape).unwrap_or(0)
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape, which must have `N` dimensions.
    pub fn shape_n<const N: usize>(&self) -> Result<[usize; N], OpError> {
        self.shape.as_slice().try_into().map_err(|_| {
            OpError::Shape(format!(
                "shape {:?} has {} dimensions, not {N}",
                self.shape,
                self.shape.len()
            ))
        })
    }

    /// Scale and zero point of the whole tensor.
    pub fn per_tensor(&self) -> Result<PerTensor, OpError> {
        self.quantization()?.per_tensor()
    }

    /// The quantization parameters, which must be there.
    pub fn quantization(&self) -> Result<&Quantization, OpError> {
        self.quantization
            .as_ref()
            .filter(|q| !q.scale.is_empty())
            .ok_or_else(|| OpError::Quantization("tensor has no scale".into()))
    }

    /// The elements of a constant, copied out; `T` must be the type that `dtype` names.
    pub fn constant<T: bytemuck::AnyBitPattern>(&self) -> Result<Vec<T>, OpError> {
        let data = self
            .data
            .as_ref()
            .ok_or_else(|| OpError::NotConstant("an operand".into()))?;
        if self.dtype.size() != Some(size_of::<T>()) {
            return Err(OpError::UnsupportedType {
                what: "a constant".into(),
                dtype: self.dtype,
            });
        }
        Ok(data
            .chunks_exact(size_of::<T>())
            .map(bytemuck::pod_read_unaligned)
            .collect())
    }

    /// The elements of an int32 or int64 constant: axes, shapes, indices.
    pub fn integers(&self) -> Result<Vec<i64>, OpError> {
        match self.dtype {
            DType::I32 => Ok(self.constant::<i32>()?.into_iter().map(i64::from).collect()),
            DType::I64 => self.constant(),
            DType::I16 => Ok(self.constant::<i16>()?.into_iter().map(i64::from).collect()),
            dtype => Err(OpError::UnsupportedType {
                what: "an index operand".into(),
                dtype,
            }),
        }
    }
}

/// Memory that keeps its content between runs: a variable, or whether something was done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// Its place among the model's variables, which is what a handle holds.
    pub number: i32,
    /// Its bytes in the runner's state.
    pub range: std::ops::Range<usize>,
    /// Its shape.
    pub shape: Shape,
}

/// The operands and results of one operator, and how it shall compute.
#[derive(Debug, Clone, Default)]
pub struct Signature {
    /// The operands; `None` for an optional one that is not given.
    pub inputs: Vec<Option<Value>>,
    /// The results; their shapes are known once `infer_shapes` has run.
    pub outputs: Vec<Value>,
    /// The intermediates, whose quantization some integer kernels need. One with elements is
    /// observed: the kernel writes it.
    pub intermediates: Vec<Value>,
    /// The indices of the operands that are variables, in order.
    pub variables: Vec<usize>,
    /// Which integer arithmetic to follow.
    pub numerics: Numerics,
    /// The largest number of threads a kernel may use.
    pub threads: usize,
    /// The subgraphs of [`Operator::bodies`](super::Operator::bodies), planned for these operands.
    pub bodies: Vec<Arc<Plan>>,
    /// What it keeps between runs, if [`Operator::memory`](super::Operator::memory) says that it does.
    pub state: Option<State>,
}

impl Signature {
    /// The operand at `index`.
    pub fn input(&self, index: usize) -> Result<&Value, OpError> {
        self.optional_input(index)
            .ok_or_else(|| OpError::Missing(format!("input {index}")))
    }

    /// The operand at `index`, if it is given.
    pub fn optional_input(&self, index: usize) -> Option<&Value> {
        self.inputs.get(index)?.as_ref()
    }

    /// The result at `index`.
    pub fn output(&self, index: usize) -> Result<&Value, OpError> {
        self.outputs
            .get(index)
            .ok_or_else(|| OpError::Missing(format!("output {index}")))
    }

    /// The intermediate at `index`.
    pub fn intermediate(&self, index: usize) -> Result<&Value, OpError> {
        self.intermediates
            .get(index)
            .ok_or_else(|| OpError::Missing(format!("intermediate {index}")))
    }

    /// What a kernel asks [`Run::parts`](crate::cpu::Run::parts) for to change the operand at
    /// `index`, which must be a variable: variables come after the results.
    pub fn variable(&self, index: usize) -> Result<usize, OpError> {
        let place = self.variables.iter().position(|&v| v == index);
        let place = place.ok_or_else(|| OpError::NotVariable(format!("input {index}")))?;
        Ok(self.outputs.len() + place)
    }

    /// The same for the intermediate at `index`: they come last, and are empty unless observed.
    pub fn observed(&self, index: usize) -> usize {
        self.outputs.len() + self.variables.len() + index
    }

    /// The type of the operand at `index`, which must be that of the first result.
    pub fn common_dtype(&self, index: usize) -> Result<DType, OpError> {
        let (input, output) = (self.input(index)?.dtype, self.output(0)?.dtype);
        if input != output {
            return Err(OpError::UnsupportedType {
                what: "output 0".into(),
                dtype: output,
            });
        }
        Ok(input)
    }

    /// The subgraph at `index` of [`Operator::bodies`](super::Operator::bodies).
    pub fn body(&self, index: usize) -> Result<&Arc<Plan>, OpError> {
        self.bodies
            .get(index)
            .ok_or_else(|| OpError::Missing(format!("subgraph {index} of the operator")))
    }

    /// What the operator keeps between runs.
    pub fn state(&self) -> Result<&State, OpError> {
        self.state
            .as_ref()
            .ok_or_else(|| OpError::Missing("the variable".into()))
    }

    /// The error for an operand whose type has no kernel.
    pub fn unsupported(&self, index: usize) -> OpError {
        match self.input(index) {
            Ok(value) => OpError::UnsupportedType {
                what: format!("input {index}"),
                dtype: value.dtype,
            },
            Err(error) => error,
        }
    }
}
