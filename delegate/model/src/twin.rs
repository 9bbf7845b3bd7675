//! A compiled model that carries the one it was made from.
//!
//! What a vendor's compiler makes of a partition runs on its chip and nowhere else. With the original in the same
//! file there is something to run where the chip is not there or fails: its twin on the CPU. It is metadata, which
//! other programs leave alone.

use crate::graph::{Metadata, Model, Subgraph};
use crate::read::ReadError;
use crate::tensor::Bytes;

/// The name of the metadata that holds the whole `.tflite` file of the twin.
pub const METADATA: &str = "bantam.cpu_twin";

/// Why two models are no pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TwinError {
    /// One has no subgraph.
    #[error("the {0} model has no subgraph")]
    Empty(&'static str),
    /// They do not take or give the same.
    #[error("{what} of the compiled model is {compiled}, and of the original {original}")]
    Differs {
        /// Which input or output, and what of it.
        what: String,
        /// What the compiled model has.
        compiled: String,
        /// What the original has.
        original: String,
    },
}

impl Model {
    /// This compiled model with `original`, the bytes of which are `bytes`, as its twin. Inputs and outputs must
    /// agree in number, type, shape and quantization; a twin that was there is replaced.
    pub fn with_twin(mut self, original: &Self, bytes: Bytes) -> Result<Self, TwinError> {
        let compiled = self.subgraphs.first().ok_or(TwinError::Empty("compiled"))?;
        let first = original
            .subgraphs
            .first()
            .ok_or(TwinError::Empty("original"))?;
        agree(compiled, first)?;
        self.metadata.retain(|m| m.name != METADATA);
        self.metadata.push(Metadata {
            name: METADATA.to_owned(),
            data: bytes,
        });
        Ok(self)
    }

    /// The original that this compiled model carries, if it does.
    pub fn twin(&self) -> Result<Option<Self>, ReadError> {
        let metadata = self.metadata.iter().find(|m| m.name == METADATA);
        metadata.map(|m| Self::read(m.data.clone())).transpose()
    }

    /// The same model without its twin.
    #[must_use]
    pub fn without_twin(mut self) -> Self {
        self.metadata.retain(|m| m.name != METADATA);
        self
    }
}

fn agree(compiled: &Subgraph, original: &Subgraph) -> Result<(), TwinError> {
    let lists = [
        ("input", &compiled.inputs, &original.inputs),
        ("output", &compiled.outputs, &original.outputs),
    ];
    for (kind, a, b) in lists {
        check(|| format!("the number of {kind}s"), a.len(), b.len())?;
        for (index, (&a, &b)) in a.iter().zip(b).enumerate() {
            let (a, b) = (&compiled[a], &original[b]);
            let scales = |q: &Option<crate::Quantization>| {
                let q = q.as_ref().filter(|q| !q.scale.is_empty());
                q.map(|q| (q.scale.clone(), q.zero_point.clone()))
            };
            check(|| format!("the type of {kind} {index}"), a.dtype, b.dtype)?;
            check(
                || format!("the shape of {kind} {index}"),
                &a.shape,
                &b.shape,
            )?;
            let (a, b) = (scales(&a.quantization), scales(&b.quantization));
            check(
                || format!("the scale and zero point of {kind} {index}"),
                a,
                b,
            )?;
        }
    }
    Ok(())
}

fn check<T: PartialEq + std::fmt::Debug>(
    what: impl Fn() -> String,
    compiled: T,
    original: T,
) -> Result<(), TwinError> {
    if compiled == original {
        return Ok(());
    }
    Err(TwinError::Differs {
        what: what(),
        compiled: format!("{compiled:?}"),
        original: format!("{original:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Node;
    use crate::ops::{Custom, Logistic, Op};
    use crate::quant::PerTensor;
    use crate::tensor::{DType, Tensor};

    fn model(op: impl Into<Op>, width: usize) -> Model {
        let mut graph = Subgraph::default();
        let tensor = |name| {
            let tensor = Tensor::new(name, DType::I8, [1, width]);
            tensor.quantized(PerTensor::new(1.0 / 256.0, -128).into())
        };
        let (x, y) = (graph.add_tensor(tensor("x")), graph.add_tensor(tensor("y")));
        graph.nodes.push(Node::new(op, &[x], &[y]));
        (graph.inputs, graph.outputs) = (vec![x], vec![y]);
        Model {
            subgraphs: vec![graph],
            ..Model::default()
        }
    }

    fn compiled(width: usize) -> Model {
        let custom = Custom {
            name: "edgetpu-custom-op".into(),
            version: 1,
            options: vec![1, 2, 3].into(),
        };
        model(Op::Custom(Box::new(custom)), width)
    }

    #[test]
    fn a_twin_comes_back_from_the_file() {
        let original = model(Logistic, 8);
        let bytes = Bytes::from(original.to_bytes());
        let pair = compiled(8).with_twin(&original, bytes.clone()).unwrap();
        let read = Model::read(pair.to_bytes().into()).unwrap();
        assert_eq!(read.metadata[0].data, bytes);
        assert_eq!(
            read.twin().unwrap().unwrap().to_bytes(),
            original.to_bytes()
        );
        let bare = read.without_twin();
        assert_eq!(bare.to_bytes(), compiled(8).to_bytes());
        assert!(bare.twin().unwrap().is_none());
    }

    #[test]
    fn pairing_again_replaces_the_twin() {
        let original = model(Logistic, 8);
        let bytes = || Bytes::from(original.to_bytes());
        let pair = compiled(8).with_twin(&original, bytes()).unwrap();
        let pair = pair.with_twin(&original, bytes()).unwrap();
        assert_eq!(pair.metadata.len(), 1);
    }

    #[test]
    fn models_that_take_something_else_are_no_pair() {
        let original = model(Logistic, 9);
        let error = compiled(8).with_twin(&original, Vec::new().into());
        assert_eq!(
            error.unwrap_err().to_string(),
            "the shape of input 0 of the compiled model is [1, 8], and of the original [1, 9]"
        );
    }

    #[test]
    fn a_broken_twin_is_an_error() {
        let original = model(Logistic, 8);
        let bytes = original.to_bytes();
        for len in [0, 3, bytes.len() / 2, bytes.len() - 1] {
            let part = Bytes::from(bytes[..len].to_vec());
            let pair = compiled(8).with_twin(&original, part).unwrap();
            let read = Model::read(pair.to_bytes().into()).unwrap();
            assert!(read.twin().is_err(), "{len}");
        }
    }
}
