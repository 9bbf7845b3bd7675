//! The memory of one run, and the run itself.

use std::sync::Arc;
use std::time::Duration;

use rayon::ThreadPool;

use super::RunError;
use super::arena::AlignedBytes;
use super::kernel::{Budget, End, Event, Observer, Place, Shared};
use super::plan::Plan;
use crate::graph::TensorId;

/// Runs a [`Plan`], again and again, in the same memory. Runners that share a plan can run at
/// the same time.
pub struct Runner {
    plan: Arc<Plan>,
    arena: AlignedBytes,
    scratch: AlignedBytes,
    /// What keeps its content between runs.
    state: AlignedBytes,
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
        Self::in_pool(plan, pool)
    }

    /// Memory for `plan`, which is for as many threads as `other`'s; the threads are the same.
    pub(super) fn sharing(plan: Arc<Plan>, other: &Self) -> Result<Self, RunError> {
        Self::in_pool(plan, other.pool.clone())
    }

    fn in_pool(plan: Arc<Plan>, pool: Option<Arc<ThreadPool>>) -> Result<Self, RunError> {
        let memory = || RunError::Memory {
            needed: plan.memory(),
            limit: plan.memory(),
        };
        let mut runner = Self {
            arena: AlignedBytes::zeroed(plan.arena_len).ok_or_else(memory)?,
            scratch: AlignedBytes::zeroed(plan.scratch_len).ok_or_else(memory)?,
            state: AlignedBytes::zeroed(plan.state_len).ok_or_else(memory)?,
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

    /// Forgets what earlier runs left in variables: the next one starts as the first did.
    pub fn reset_variables(&mut self) {
        self.state.as_mut_slice().fill(0);
        self.plan.reset_variables(self.arena.as_mut_slice());
    }

    /// Runs every operator once. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`RunError::Endless`], where a loop takes more rounds than the plan's options allow, and
    /// [`RunError::Custom`], where a kernel from outside fails. No other: what could fail has been
    /// checked by the plan.
    pub fn run(&mut self) -> Result<(), RunError> {
        self.walk(None)
    }

    /// The same, calling `observe` with a subgraph, a tensor of it and its bytes, for each result,
    /// changed variable and intermediate as soon as it is computed, and for the inputs of each subgraph that an operator runs.
    pub fn run_observed(
        &mut self,
        mut observe: impl FnMut(usize, TensorId, &[u8]) + Send,
    ) -> Result<(), RunError> {
        let mut seen = |plan: &Plan, tensor: usize, arena: &[u8]| {
            if let Place::Arena(range) = &plan.places[tensor] {
                observe(
                    plan.subgraph,
                    TensorId(tensor as u32),
                    &arena[range.clone()],
                );
            }
        };
        self.walk(Some(&mut |event: &Event<'_>| match event {
            Event::Entered { plan, arena } => {
                let inputs = plan.inputs.iter().map(|input| input.index());
                inputs.for_each(|input| seen(plan, input, arena));
            }
            Event::Ran {
                plan, step, arena, ..
            } => {
                let outputs = step.outputs.iter();
                outputs.for_each(|&output| seen(plan, output, arena));
            }
        }))
    }

    /// The same, calling `observe` with a subgraph, an operator's place in it, and its time. That of
    /// an operator that runs subgraphs includes that of their operators, which come before it.
    pub fn run_timed(
        &mut self,
        mut observe: impl FnMut(usize, usize, Duration) + Send,
    ) -> Result<(), RunError> {
        self.walk(Some(&mut |event: &Event<'_>| {
            if let Event::Ran {
                plan, step, start, ..
            } = event
            {
                observe(plan.subgraph, step.node, start.elapsed());
            }
        }))
    }

    /// Runs the steps in order and tells `observer` about it.
    fn walk(&mut self, observer: Option<&mut Observer<'_>>) -> Result<(), RunError> {
        let Self {
            plan,
            arena,
            scratch,
            state,
            pool,
        } = self;
        let mut budget = Budget::new(plan.call_limit);
        let mut shared = Shared {
            state: state.as_mut_slice(),
            budget: &mut budget,
            observer: match observer {
                Some(observer) => Some(observer),
                None => None,
            },
        };
        let mut steps = || plan.execute(arena.as_mut_slice(), scratch.as_mut_slice(), &mut shared);
        match pool {
            Some(pool) => pool.install(steps),
            None => steps(),
        }
        match budget.into_end() {
            None => Ok(()),
            Some(End::Exhausted) => Err(RunError::Endless {
                limit: plan.call_limit,
            }),
            Some(End::Failed(place, source)) => {
                let (subgraph, index) = place.unwrap_or((plan.subgraph, 0));
                Err(RunError::Custom {
                    subgraph,
                    index,
                    source,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Options;
    use crate::graph::{Model, Node, Subgraph};
    use crate::ops;
    use crate::tensor::{DType, Tensor};

    /// `h = x + h`, with a state that `start` makes where it is given.
    fn accumulator(start: Option<f32>) -> Model {
        let mut subgraph = Subgraph::default();
        let constant = |shape: &[usize], value: f32| {
            Tensor::constant("", DType::F32, shape, value.to_le_bytes().to_vec())
        };
        let x = subgraph.add_tensor(Tensor::new("x", DType::F32, [1, 1]));
        let weights = subgraph.add_tensor(constant(&[1, 1], 1.0));
        let bias = subgraph.add_tensor(constant(&[1], 0.0));
        let state = subgraph.add_tensor(Tensor {
            is_variable: true,
            ..Tensor::new("h", DType::F32, [1, 1])
        });
        let y = subgraph.add_tensor(Tensor::new("y", DType::F32, [1, 1]));
        if let Some(start) = start {
            let start = subgraph.add_tensor(constant(&[1, 1], start));
            subgraph
                .nodes
                .push(Node::new(ops::Relu, &[start], &[state]));
        }
        let operands = [x, weights, weights, bias, state];
        subgraph
            .nodes
            .push(Node::new(ops::Rnn::default(), &operands, &[y]));
        (subgraph.inputs, subgraph.outputs) = (vec![x], vec![y]);
        Model {
            subgraphs: vec![subgraph],
            ..Model::default()
        }
    }

    fn plan(model: &Model) -> Result<Arc<Plan>, RunError> {
        Plan::new(model, &Options::default()).map(Arc::new)
    }

    fn next(runner: &mut Runner, x: f32) -> f32 {
        runner.set_input(0, &x.to_ne_bytes()).unwrap();
        runner.run().unwrap();
        bytemuck::pod_read_unaligned(runner.output(0))
    }

    #[test]
    fn variables_keep_their_value_until_they_are_reset() {
        for start in [None, Some(10.0)] {
            let first = start.unwrap_or(0.0);
            let plan = plan(&accumulator(start)).unwrap();
            let mut runner = Runner::new(Arc::clone(&plan)).unwrap();
            assert_eq!(
                [1.0, 2.0].map(|x| next(&mut runner, x)),
                [first + 1.0, first + 3.0]
            );
            let mut other = Runner::new(plan).unwrap();
            assert_eq!(next(&mut other, 5.0), first + 5.0);
            runner.reset_variables();
            assert_eq!(next(&mut runner, 7.0), first + 7.0);
        }
    }

    #[test]
    fn refuses_an_operator_that_computes_a_variable_from_data() {
        let mut model = accumulator(Some(1.0));
        let x = model.subgraphs[0].inputs[0];
        model.subgraphs[0].nodes[0].inputs = vec![Some(x)];
        assert!(matches!(plan(&model), Err(RunError::Graph(_))));
    }

    #[test]
    fn refuses_a_variable_that_is_two_operands() {
        let mut model = accumulator(None);
        let node = &mut model.subgraphs[0].nodes[0];
        node.inputs[0] = node.inputs[4];
        assert!(matches!(plan(&model), Err(RunError::Op { .. })));
    }

    #[test]
    fn int8_variables_start_at_their_zero_point() {
        let mut model = accumulator(None);
        let subgraph = &mut model.subgraphs[0];
        let state = subgraph.nodes[0].inputs[4].unwrap();
        subgraph[state].dtype = DType::I8;
        subgraph[state].quantization = Some(crate::quant::PerTensor::new(1.0, -3).into());
        let reshape = ops::Reshape { new_shape: None };
        let y = subgraph.outputs[0];
        subgraph[y].dtype = DType::I8;
        let shape = [1i32, 1]
            .into_iter()
            .flat_map(i32::to_le_bytes)
            .collect::<Vec<u8>>();
        let shape = subgraph.add_tensor(Tensor::constant("", DType::I32, [2], shape));
        subgraph.nodes = vec![Node::new(reshape, &[state, shape], &[y])];
        let mut runner = Runner::new(plan(&model).unwrap()).unwrap();
        runner.run().unwrap();
        assert_eq!(runner.output(0), [-3i8 as u8]);
    }
}
