//! `STABLEHLO_COMPOSITE`: an operator of a higher level, by name, with a subgraph that says how it
//! is composed of others. The CPU path runs that subgraph.

use super::call::{body, kernel, shapes};
use super::{Attributes2, Body, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// Attributes of `STABLEHLO_COMPOSITE`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StablehloComposite {
    /// What it is, such as `odml.rms_norm`.
    pub name: Option<String>,
    /// The subgraph that it is composed of.
    pub decomposition: i32,
    /// Its own attributes, in the format of `attributes_format`.
    pub attributes: Option<Vec<u8>>,
    /// How `attributes` are written.
    pub attributes_format: tfl::CustomOptionsFormat,
    /// The version of what `name` means.
    pub version: i32,
}

impl Attributes2 for StablehloComposite {
    fn read(options: &tfl::BuiltinOptions2T) -> Result<Self, OpError> {
        let options = options
            .as_stable_hlocomposite_options()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            name: options.name,
            decomposition: options.decomposition_subgraph_index,
            attributes: options.composite_attributes,
            attributes_format: options.composite_attributes_format,
            version: options.version,
        })
    }

    fn write(&self) -> tfl::BuiltinOptions2T {
        let options = tfl::StableHLOCompositeOptionsT {
            name: self.name.clone(),
            decomposition_subgraph_index: self.decomposition,
            composite_attributes: self.attributes.clone(),
            composite_attributes_format: self.attributes_format,
            version: self.version,
        };
        tfl::BuiltinOptions2T::StableHLOCompositeOptions(Box::new(options))
    }
}

impl Operator for StablehloComposite {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn bodies(&self) -> Vec<Body> {
        body(self.decomposition)
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        kernel(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Model;
    use crate::ops::{Op, Tanh};
    use crate::tensor::DType;
    use crate::testing::{runner, subgraph, tensor};

    fn composite() -> StablehloComposite {
        StablehloComposite {
            name: Some("test.tanh".into()),
            decomposition: 1,
            attributes: Some(vec![1, 2, 3]),
            version: 4,
            ..StablehloComposite::default()
        }
    }

    fn model() -> Model {
        let x = || tensor(DType::F32, [2]);
        let nodes = |op: Op| -> Vec<(Op, &[u32], &[u32])> { vec![(op, &[0], &[1])] };
        let main = subgraph(vec![x(), x()], &[0], &[1], nodes(composite().into()));
        let body = subgraph(vec![x(), x()], &[0], &[1], nodes(Tanh.into()));
        Model {
            subgraphs: vec![main, body],
            ..Model::default()
        }
    }

    #[test]
    fn runs_what_it_is_composed_of() {
        let mut runner = runner(model().subgraphs);
        runner
            .set_input(0, bytemuck::cast_slice(&[0.0f32, 100.0]))
            .unwrap();
        runner.run().unwrap();
        assert_eq!(bytemuck::cast_slice::<_, f32>(runner.output(0)), [0.0, 1.0]);
    }

    #[test]
    fn attributes_survive_writing_and_reading() {
        let read = Model::read(model().to_bytes().into()).unwrap();
        assert_eq!(read.subgraphs[0].nodes[0].op, composite().into());
    }
}
