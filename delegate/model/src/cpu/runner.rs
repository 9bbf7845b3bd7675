//! The memory of one run, and the run itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::ThreadPool;

use super::RunError;
use super::arena::AlignedBytes;
use super::kernel::{Place, Run};
use super::plan::{Plan, Step};
use crate::graph::TensorId;

/// Runs a [`Plan`], again and again, in the same memory. Runners that share a plan can run at
/// the same time.
pub struct Runner {
    plan: Arc<Plan>,
    arena: AlignedBytes,
    scratch: AlignedBytes,
    pool: Option<Arc<ThreadPool>>,
}

impl Runner {
    /// Memory and threads for `plan`.
    pub fn new(plan: Arc<Plan>) -> Result<Self, RunError> {
        let pool = match plan.threads {
            1 => None,
            threads => {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .map_err(|error| RunError::Threads(error.to_string()))?;
                Some(Arc::new(pool))
            }
        };
        let memory = || RunError::Memory {
            needed: plan.memory(),
            limit: plan.memory(),
        };
        let mut runner = Self {
            arena: AlignedBytes::zeroed(plan.arena_len).ok_or_else(memory)?,
            scratch: AlignedBytes::zeroed(plan.scratch_len).ok_or_else(memory)?,
            plan,
            pool,
        };
        runner.reset_variables();
        Ok(runner)
    }

    /// The plan that this runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The bytes of input `index`, to be written before a run; they stay as they are during it.
    pub fn input_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        match self.plan.places.get(self.plan.inputs.get(index)?.index())? {
            Place::Arena(range) => self.arena.as_mut_slice().get_mut(range.clone()),
            _ => None,
        }
    }

    /// Copies `bytes` into input `index`.
    pub fn set_input(&mut self, index: usize, bytes: &[u8]) -> Result<(), RunError> {
        let count = self.plan.inputs.len();
        let input = self.input_mut(index).ok_or_else(|| {
            RunError::Data(format!("input {index} of a model with {count} inputs"))
        })?;
        if input.len() != bytes.len() {
            return Err(RunError::Data(format!(
                "input {index} takes {} bytes, not {}",
                input.len(),
                bytes.len()
            )));
        }
        input.copy_from_slice(bytes);
        Ok(())
    }

    /// The bytes of `tensor`; those of an input, an output, a constant, or, where the plan keeps
    /// all, any tensor that a run computed.
    pub fn tensor(&self, tensor: TensorId) -> &[u8] {
        match self.plan.places.get(tensor.index()) {
            Some(Place::Arena(range)) => &self.arena.as_ref()[range.clone()],
            Some(Place::Constant(bytes)) => bytes,
            _ => &[],
        }
    }

    /// The bytes of output `index`, as the last run left them.
    pub fn output(&self, index: usize) -> &[u8] {
        self.plan
            .outputs
            .get(index)
            .map_or(&[], |&output| self.tensor(output))
    }

    /// Puts the variables back to their state before the first run.
    pub fn reset_variables(&mut self) {
        for variable in &self.plan.variables {
            if let Place::Arena(range) = &self.plan.places[variable.tensor] {
                let place = &mut self.arena.as_mut_slice()[range.clone()];
                match &variable.start {
                    Some(start) if start.len() == place.len() => place.copy_from_slice(start),
                    _ => place.fill(variable.fill),
                }
            }
        }
    }

    /// Runs every operator once. Allocates nothing.
    pub fn run(&mut self) {
        self.walk(|_, _, _| {});
    }

    /// The same, calling `observe` with each result, changed variable and intermediate as soon as
    /// it is computed.
    pub fn run_observed(&mut self, mut observe: impl FnMut(TensorId, &[u8]) + Send) {
        let plan = Arc::clone(&self.plan);
        self.walk(|step, arena, _| {
            for &output in &step.outputs {
                if let Place::Arena(range) = &plan.places[output] {
                    observe(TensorId(output as u32), &arena[range.clone()]);
                }
            }
        });
    }

    /// The same, calling `observe` with each operator's place in the subgraph and its time.
    pub fn run_timed(&mut self, mut observe: impl FnMut(usize, Duration) + Send) {
        self.walk(|step, _, start| observe(step.node, start.elapsed()));
    }

    /// Runs the steps in order, calling `after` with each, the arena, and when it started.
    fn walk(&mut self, mut after: impl FnMut(&Step, &[u8], Instant) + Send) {
        let Self {
            plan,
            arena,
            scratch,
            pool,
        } = self;
        let mut steps = || {
            for step in &plan.steps {
                let start = Instant::now();
                step.kernel.run(&mut Run {
                    arena: arena.as_mut_slice(),
                    scratch: scratch.as_mut_slice(),
                    places: &plan.places,
                    inputs: &step.inputs,
                    outputs: &step.outputs,
                    threads: plan.threads,
                });
                after(step, arena.as_ref(), start);
            }
        };
        match pool {
            Some(pool) => pool.install(steps),
            None => steps(),
        }
    }
}
