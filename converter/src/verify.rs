//! Proof of a conversion: the written bytes, loaded again, against the float model.

use bantam_model::{DType, Model, Numerics, ReadError};

use crate::calibrate::Source;
use crate::compare::{Comparison, compare_subgraph};
use crate::error::ConvertError;

/// A tensor of a converted model that holds no integers.
#[derive(Debug, Clone, PartialEq)]
pub struct NonInteger {
    /// Its subgraph.
    pub subgraph: usize,
    /// Its place in the subgraph.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: DType,
    /// Whether its value is in the file.
    pub is_constant: bool,
}

/// What [`verify()`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// How far the converted model is from the float one.
    pub comparison: Comparison,
    /// Every tensor of the converted model that holds floats.
    pub non_integer: Vec<NonInteger>,
    /// On how many samples both ran.
    pub samples: usize,
}

/// Why a conversion cannot be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// What was written cannot be read again.
    #[error("the converted model cannot be read")]
    Read(#[from] ReadError),
    /// One of the models cannot be run, or they do not match.
    #[error("the converted model cannot be compared with the float one")]
    Compare(#[from] ConvertError),
}

/// Reads the converted model from `bytes`, runs its subgraph `entry` and that of `float` on all of
/// `samples` and lists what is not integer.
pub fn verify(
    float: &Model,
    bytes: Vec<u8>,
    entry: usize,
    samples: &(impl Source + ?Sized),
    numerics: Numerics,
    progress: &dyn Fn(usize, usize),
) -> Result<Verification, VerifyError> {
    let converted = Model::read(bytes.into())?;
    Ok(Verification {
        comparison: compare_subgraph(float, &converted, entry, samples, numerics, progress)?,
        non_integer: non_integer(&converted),
        samples: samples.len(),
    })
}

/// Every tensor of `model` that holds floats.
pub fn non_integer(model: &Model) -> Vec<NonInteger> {
    let subgraphs = model.subgraphs.iter().enumerate();
    let tensors = subgraphs.flat_map(|(subgraph, s)| {
        let tensors = s.tensors.iter().enumerate();
        tensors.map(move |(index, tensor)| (subgraph, index, tensor))
    });
    let is_float = |dtype| {
        matches!(
            dtype,
            DType::F16
                | DType::F32
                | DType::F64
                | DType::BF16
                | DType::Complex64
                | DType::Complex128
        )
    };
    tensors
        .filter(|(_, _, tensor)| is_float(tensor.dtype))
        .map(|(subgraph, index, tensor)| NonInteger {
            subgraph,
            index,
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            is_constant: tensor.is_constant(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bantam_model::{Subgraph, Tensor};

    use super::*;

    #[test]
    fn lists_floats_of_every_width_in_every_subgraph() {
        let subgraph = |dtype, name| {
            let mut subgraph = Subgraph::default();
            subgraph.add_tensor(Tensor::new("q", DType::I8, [1]));
            subgraph.add_tensor(Tensor::constant(name, dtype, [1], vec![0; 4]));
            subgraph
        };
        let model = Model {
            subgraphs: vec![subgraph(DType::F32, "a"), subgraph(DType::F16, "b")],
            ..Model::default()
        };
        let found = non_integer(&model);
        let names: Vec<_> = found
            .iter()
            .map(|t| (t.subgraph, t.index, &*t.name))
            .collect();
        assert_eq!(names, [(0, 1, "a"), (1, 1, "b")]);
        assert!(found[0].is_constant);
    }
}
