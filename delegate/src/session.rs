//! A model that is loaded, placed and ready to run.
//!
//! What a [`Driver`] takes is cut into partitions, each compiled on its own; in the model that the
//! CPU path then runs, a partition is one operator. A driver that fails is opened again once, and
//! after that the partition is computed by the CPU path: nothing is lost, and everything that
//! happened is in the [`Report`].

mod json;
mod offload;
mod options;
mod place;
mod prepare;
mod report;
mod rewrite;
mod twin;
mod worker;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bantam_model::cpu::{self, RunError, Staged};
use bantam_model::tensor::{DType, Shape};
use bantam_model::{Model, Quantization, TensorId};

pub use self::offload::{Check, OffloadError};
pub use self::options::{OffloadOptions, Options, SessionError};
pub use self::report::{
    Action, Counters, Deadline, Event, OpPlacement, PartitionPlacement, Placed, Placement, Report,
};

use self::offload::Offload;
use self::place::Known;
use self::prepare::{
    AnyCustom, compile, cpu_options, needs_driver, open, place_error, placement, vendor_operator,
};
use self::report::Log;
use self::rewrite::{Offloads, Origin, Rewritten};
use crate::DriverSpec;
use crate::driver::Driver;

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

/// What took its time in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timed {
    /// An operator on the CPU path.
    Op {
        /// The subgraph that it is in.
        subgraph: usize,
        /// Its place there.
        index: usize,
    },
    /// The partition of this number; where other operators run while the driver works, told twice:
    /// when it has its operands, and when its results are there.
    Partition(usize),
}

/// A model that can be run again and again, in the same memory.
pub struct Session {
    stages: Staged,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    placement: Placement,
    offloads: Vec<Arc<Offload>>,
    log: Arc<Mutex<Log>>,
    origins: Vec<Vec<Origin>>,
    /// The partition that is the whole model, if it can be called on the caller's memory.
    whole: Option<Arc<Offload>>,
}

impl Session {
    /// Reads the model at `path` and prepares it. The file must not change while the session lives.
    pub fn open(path: &Path, options: &Options) -> Result<Self, SessionError> {
        Self::new(&Model::open(path)?, options)
    }

    /// Prepares `model`: opens the driver, picks what runs where, plans the memory and starts the
    /// threads.
    pub fn new(model: &Model, options: &Options) -> Result<Self, SessionError> {
        match options.driver {
            DriverSpec::Cpu => Self::on_cpu(model, options),
            _ => Self::with_driver(model, open(&options.driver)?, options),
        }
    }

    /// The same with a driver that is open, which other sessions may use as well.
    pub fn with_driver(
        model: &Model,
        driver: Arc<dyn Driver>,
        options: &Options,
    ) -> Result<Self, SessionError> {
        let name = match options.driver {
            DriverSpec::Cpu => driver.info().name,
            _ => options.driver.to_string(),
        };
        let plan_options = cpu::Options {
            keep_constants: true,
            custom: Some(Arc::new(AnyCustom)),
            ..cpu_options(options)
        };
        let plans = Staged::new(model, &plan_options)?;
        let known = Known::new(model, &plans);
        drop(plans);
        let at_driver = |source| SessionError::Driver {
            driver: name.clone(),
            source,
        };
        let steering = &options.offload.steering;
        let twin = model.twin()?;
        let cut = place::cut(&known, options.subgraph, &*driver, steering, twin.as_ref());
        let cut = cut.map_err(at_driver)?;
        needs_driver(model, &cut, &name)?;
        let offloaded = compile(&known, cut, &driver, options).map_err(at_driver)?;
        let partitions = &offloaded.cut.partitions;
        let placement = placement(&known, name, &offloaded, options);
        if options.offload.requires_full_delegation && placement.delegated < placement.ops {
            return Err(SessionError::NotDelegated(Box::new(placement)));
        }
        if options.offload.plans_twins {
            for offload in &offloaded.offloads {
                offload.prepare_twin()?;
            }
        }
        let overlaps = options.offload.overlaps && options.offload.deadline.is_some();
        let Rewritten { model, origins } = rewrite::rewrite(model, &known, partitions, overlaps);
        let stages = Staged::new(
            &model,
            &cpu::Options {
                custom: Some(Arc::new(Offloads(offloaded.offloads.clone()))),
                ..cpu_options(options)
            },
        );
        let stages = stages.map_err(|error| place_error(&origins, options.subgraph, error))?;
        let subgraph = &model.subgraphs[options.subgraph];
        let whole = match (&partitions[..], &subgraph.nodes[..]) {
            ([candidate], [node]) if options.offload.deadline.is_none() => {
                let inputs = subgraph.inputs.iter().copied().map(Some);
                let is_whole = candidate.subgraph == options.subgraph
                    && node.inputs.iter().copied().eq(inputs)
                    && node.outputs == subgraph.outputs;
                is_whole.then(|| Arc::clone(&offloaded.offloads[0]))
            }
            _ => None,
        };
        Ok(Self {
            whole,
            origins,
            offloads: offloaded.offloads,
            log: offloaded.log,
            ..Self::of(&model, stages, placement, options.subgraph)
        })
    }

    fn on_cpu(model: &Model, options: &Options) -> Result<Self, SessionError> {
        let stages = match Staged::new(model, &cpu_options(options)) {
            Ok(stages) => stages,
            Err(error) => {
                let Some((op, needed)) = vendor_operator(&error) else {
                    return Err(error.into());
                };
                let twin = model.twin()?.filter(|_| options.subgraph == 0);
                return match twin {
                    Some(twin) => Self::on_twin(model, &twin, options),
                    None => Err(SessionError::NeedsDriver {
                        op: op.into(),
                        needed: needed.into(),
                        driver: DriverSpec::Cpu.to_string(),
                    }),
                };
            }
        };
        let placement = Placement {
            driver: DriverSpec::Cpu.to_string(),
            ops: stages.ops(),
            delegated: 0,
            partitions: Vec::new(),
            nodes: Vec::new(),
        };
        if options.offload.requires_full_delegation && placement.ops > 0 {
            return Err(SessionError::NotDelegated(Box::new(placement)));
        }
        Ok(Self::of(model, stages, placement, options.subgraph))
    }

    /// The original that the compiled `model` carries, with the names of `model`'s inputs and outputs.
    fn on_twin(model: &Model, twin: &Model, options: &Options) -> Result<Self, SessionError> {
        let mut session = Self::on_cpu(&twin.clone().without_twin(), options)?;
        let subgraph = &model.subgraphs[0];
        for (info, &id) in session.inputs.iter_mut().zip(&subgraph.inputs) {
            info.name.clone_from(&subgraph[id].name);
        }
        for (info, &id) in session.outputs.iter_mut().zip(&subgraph.outputs) {
            info.name.clone_from(&subgraph[id].name);
        }
        Ok(session)
    }

    fn of(model: &Model, stages: Staged, placement: Placement, entry: usize) -> Self {
        let subgraph = &model.subgraphs[entry];
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
        Self {
            inputs: infos(&subgraph.inputs),
            outputs: infos(&subgraph.outputs),
            placement,
            offloads: Vec::new(),
            log: Arc::default(),
            origins: Vec::new(),
            whole: None,
            stages,
        }
    }

    /// What the model takes.
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    /// What the model gives. A shape that depends on data is the one of the last run, or, before the first, the file's.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    /// Where the operators run, as far as the driver does not fail.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The first operator whose shapes depend on data, by its place among those that [`RunError::Op`] counts; what
    /// follows it is planned in each run.
    pub fn depends_on_data_from(&self) -> Option<usize> {
        let cut = self.stages.cut()?;
        let nodes = self.origins.get(self.stages.plan().subgraph());
        match nodes.and_then(|nodes| nodes.get(cut)) {
            Some(&Origin::Node(index)) => Some(index),
            _ => Some(cut),
        }
    }

    /// What happened in the runs until now.
    pub fn report(&self) -> Report {
        let counters = self.offloads.iter().map(|offload| offload.counters());
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.report(counters.collect())
    }

    /// The failures in runs until now, but for the first `known`.
    pub fn events_after(&self, known: usize) -> Vec<Event> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.after(known)
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
    /// A loop of the model takes more rounds than a run may, a shape that depends on data has no
    /// plan, or ([`RunError::Custom`], with an [`OffloadError`]) a driver failed where the CPU path
    /// cannot or must not take over.
    pub fn run(&mut self) -> Result<(), RunError> {
        let run = self.stages.run();
        run.map_err(|error| self.placed(error))?;
        self.update_shapes();
        Ok(())
    }

    /// Runs the model on `inputs`, which are as for [`Self::set_input`], and writes what it gives
    /// to `outputs`. Each buffer has the size of its tensor in this session.
    ///
    /// Where the driver takes the whole model, and there is no deadline, it works on these buffers
    /// themselves, and inputs and outputs that the session keeps stay as they were.
    ///
    /// # Errors
    ///
    /// As [`Self::run`], and [`RunError::Data`] where a buffer does not fit.
    pub fn run_with(
        &mut self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
    ) -> Result<(), RunError> {
        let fits = |what: &str, infos: &[TensorInfo], sizes: &mut dyn Iterator<Item = usize>| {
            let sizes: Vec<usize> = sizes.collect();
            if sizes.len() != infos.len() {
                return Err(RunError::Data(format!(
                    "{} {what}s for a model with {}",
                    sizes.len(),
                    infos.len()
                )));
            }
            for (index, (info, size)) in infos.iter().zip(sizes).enumerate() {
                let wanted = info.dtype.byte_len(&info.shape).unwrap_or(0);
                if size != wanted {
                    return Err(RunError::Data(format!(
                        "{what} {index} takes {wanted} bytes, not {size}"
                    )));
                }
            }
            Ok(())
        };
        fits("input", &self.inputs, &mut inputs.iter().map(|i| i.len()))?;
        if let Some(whole) = &self.whole {
            fits(
                "output",
                &self.outputs,
                &mut outputs.iter().map(|o| o.len()),
            )?;
            return whole.run(inputs, outputs).map_err(|error| {
                self.placed(RunError::Custom {
                    subgraph: self.stages.plan().subgraph(),
                    index: 0,
                    source: cpu::CustomError::new(error),
                })
            });
        }
        for (index, input) in inputs.iter().enumerate() {
            self.set_input(index, input)?;
        }
        self.run()?;
        fits(
            "output",
            &self.outputs,
            &mut outputs.iter().map(|o| o.len()),
        )?;
        for (index, output) in outputs.iter_mut().enumerate() {
            output.copy_from_slice(self.output(index));
        }
        Ok(())
    }

    /// The same as [`Self::run`], calling `observe` with what took its time, and that. The time of
    /// an operator that runs subgraphs includes that of their operators, which come before it.
    pub fn run_timed(
        &mut self,
        mut observe: impl FnMut(Timed, Duration) + Send,
    ) -> Result<(), RunError> {
        let origins = &self.origins;
        let run = self.stages.run_timed(&mut |subgraph, index, time| {
            let origin = origins.get(subgraph).and_then(|nodes| nodes.get(index));
            let what = match origin {
                Some(&Origin::Partition { number, .. }) => Timed::Partition(number),
                Some(&Origin::Node(index)) => Timed::Op { subgraph, index },
                None => Timed::Op { subgraph, index },
            };
            observe(what, time);
        });
        run.map_err(|error| self.placed(error))?;
        self.update_shapes();
        Ok(())
    }

    /// Forgets what earlier runs left in variables: the next one starts as the first did.
    pub fn reset_variables(&mut self) {
        self.stages.reset_variables();
        for offload in &self.offloads {
            offload.reset();
        }
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

    fn placed(&self, error: RunError) -> RunError {
        place_error(&self.origins, self.stages.plan().subgraph(), error)
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
        assert!(session.output(1).is_empty());
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
        assert_eq!(error.to_string(), "driver edgetpu:usb:0");
    }
}
