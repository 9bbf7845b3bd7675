//! A model that is loaded, placed and ready to run.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use bantam_model::cpu::{self, RunError, Staged};
use bantam_model::tensor::{DType, Shape};
use bantam_model::{Model, Numerics, Quantization, ReadError, TensorId};

use crate::DriverSpec;

/// How a session shall run its model.
#[derive(Debug, Clone)]
pub struct Options {
    /// What takes partitions of the model.
    pub driver: DriverSpec,
    /// Which integer arithmetic the CPU path follows.
    pub numerics: Numerics,
    /// The largest number of threads, at least 1.
    pub threads: usize,
    /// New shapes for the model's inputs, in order; `None` keeps the file's.
    pub input_shapes: Vec<Option<Shape>>,
    /// The subgraph to run; signatures name others than the first.
    pub subgraph: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            driver: DriverSpec::default(),
            numerics: Numerics::default(),
            threads: 1,
            input_shapes: Vec::new(),
            subgraph: 0,
        }
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The file is not a model.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The model cannot be planned, or the data does not fit it.
    #[error(transparent)]
    Run(#[from] RunError),
    /// There is no such driver.
    #[error("driver {0} is not available in this version")]
    Driver(DriverSpec),
}

/// An input or output of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// The tensor's name.
    pub name: String,
    /// The type of its elements.
    pub dtype: DType,
    /// Its shape in this session.
    pub shape: Shape,
    /// How its integers stand for real values.
    pub quantization: Option<Quantization>,
}

/// How many operators run where. Displays as the line that users see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// What takes partitions.
    pub driver: DriverSpec,
    /// Operators that run; those that only depend on constants are computed beforehand.
    pub ops: usize,
    /// How many of them the driver takes.
    pub delegated: usize,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_cpu = self.ops - self.delegated;
        let plural = if on_cpu == 1 { "op" } else { "ops" };
        write!(f, "{}: {on_cpu} {plural} on the CPU path", self.driver)
    }
}

/// A model that can be run again and again, in the same memory.
pub struct Session {
    stages: Staged,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    placement: Placement,
}

impl Session {
    /// Reads the model at `path` and prepares it. The file must not change while the session lives.
    pub fn open(path: &Path, options: &Options) -> Result<Self, SessionError> {
        Self::new(&Model::open(path)?, options)
    }

    /// Prepares `model`: picks what runs where, plans the memory and starts the threads.
    pub fn new(model: &Model, options: &Options) -> Result<Self, SessionError> {
        if options.driver != DriverSpec::Cpu {
            return Err(SessionError::Driver(options.driver.clone()));
        }
        let stages = Staged::new(
            model,
            &cpu::Options {
                numerics: options.numerics,
                threads: options.threads,
                input_shapes: options.input_shapes.clone(),
                subgraph: options.subgraph,
                ..cpu::Options::default()
            },
        )?;
        let subgraph = &model.subgraphs[options.subgraph];
        let infos = |ids: &[TensorId]| {
            ids.iter()
                .map(|&id| {
                    let value = stages.plan().value(id);
                    TensorInfo {
                        name: subgraph[id].name.clone(),
                        dtype: value.dtype,
                        shape: value.shape.clone(),
                        quantization: value.quantization.clone(),
                    }
                })
                .collect()
        };
        Ok(Self {
            inputs: infos(&subgraph.inputs),
            outputs: infos(&subgraph.outputs),
            placement: Placement {
                driver: options.driver.clone(),
                ops: stages.ops(),
                delegated: 0,
            },
            stages,
        })
    }

    /// What the model takes.
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    /// What the model gives. A shape that depends on data is the one of the last run, or, before the first, the file's.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    /// Where the operators run.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Copies `bytes`, in the model's own element type and this machine's byte order, into input
    /// `index`, where they stay over runs.
    pub fn set_input(&mut self, index: usize, bytes: &[u8]) -> Result<(), RunError> {
        self.stages.set_input(index, bytes)
    }

    /// Runs the model once.
    ///
    /// # Errors
    ///
    /// A loop of the model takes more rounds than a run may, or a shape that depends on data has no
    /// plan.
    pub fn run(&mut self) -> Result<(), RunError> {
        self.stages.run()?;
        self.update_shapes();
        Ok(())
    }

    /// The same, calling `observe` with a subgraph, an operator's place in it, and its time. That of
    /// an operator that runs subgraphs includes that of their operators, which come before it.
    pub fn run_timed(
        &mut self,
        mut observe: impl FnMut(usize, usize, Duration) + Send,
    ) -> Result<(), RunError> {
        self.stages.run_timed(&mut observe)?;
        self.update_shapes();
        Ok(())
    }

    /// Forgets what earlier runs left in variables: the next one starts as the first did.
    pub fn reset_variables(&mut self) {
        self.stages.reset_variables();
    }

    fn update_shapes(&mut self) {
        for (index, info) in self.outputs.iter_mut().enumerate() {
            if let Some((value, _)) = self.stages.output(index) {
                info.shape.clone_from(&value.shape);
            }
        }
    }

    /// The bytes of output `index` as the last run left them; empty if there is no such output.
    pub fn output(&self, index: usize) -> &[u8] {
        self.stages.output(index).map_or(&[], |(_, bytes)| bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bantam_model::{Node, Subgraph, Tensor, ops};

    /// float32 `[2, 3]` to `[6]`.
    fn model() -> Model {
        let mut subgraph = Subgraph::default();
        let input = subgraph.add_tensor(Tensor::new("x", DType::F32, [2, 3]));
        let shape: Vec<u8> = 6i32.to_le_bytes().to_vec();
        let shape = subgraph.add_tensor(Tensor::constant("shape", DType::I32, [1], shape));
        let output = subgraph.add_tensor(Tensor::new("y", DType::F32, [6]));
        let reshape = ops::Reshape { new_shape: None };
        subgraph
            .nodes
            .push(Node::new(reshape, &[input, shape], &[output]));
        (subgraph.inputs, subgraph.outputs) = (vec![input], vec![output]);
        Model {
            subgraphs: vec![subgraph],
            ..Model::default()
        }
    }

    #[test]
    fn runs_on_the_cpu_path() {
        let mut session = Session::new(&model(), &Options::default()).unwrap();
        assert_eq!(session.inputs()[0].name, "x");
        assert_eq!(session.outputs()[0].shape, [6]);
        assert_eq!(session.placement().to_string(), "cpu: 1 op on the CPU path");
        let bytes: Vec<u8> = (0..24).collect();
        session.set_input(0, &bytes).unwrap();
        session.run().unwrap();
        assert_eq!(session.output(0), bytes);
        assert_eq!(session.output(1), []);
        assert!(session.set_input(0, &bytes[1..]).is_err());
        assert!(session.set_input(1, &bytes).is_err());
    }

    #[test]
    fn shapes_may_depend_on_data() {
        let mut model = model();
        let subgraph = &mut model.subgraphs[0];
        subgraph.tensors[1] = Tensor::new("shape", DType::I32, [2]);
        subgraph.inputs.push(TensorId(1));
        let mut session = Session::new(&model, &Options::default()).unwrap();
        for shape in [[3i32, 2], [1, 6]] {
            session
                .set_input(1, &shape.map(i32::to_ne_bytes).concat())
                .unwrap();
            session.run().unwrap();
            assert_eq!(session.outputs()[0].shape, shape.map(|d| d as usize));
        }
        session.set_input(1, &[0; 8]).unwrap();
        assert!(session.run().is_err());
    }

    #[test]
    fn refuses_a_driver_that_it_has_not() {
        let options = Options {
            driver: "edgetpu:usb".parse().unwrap(),
            ..Options::default()
        };
        let error = Session::new(&model(), &options).err().unwrap();
        assert_eq!(
            error.to_string(),
            "driver edgetpu:usb:0 is not available in this version"
        );
    }
}
