//! From a subgraph to steps that only have to be run: shapes, kernels, constants, memory.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::RunError;
use super::arena::{self, ALIGNMENT, AlignedBytes, Request};
use super::control::Context;
use super::custom::{CustomOps, External};
use super::kernel::{Budget, Event, Kernel, Place, Run, Shared};
use crate::graph::{Model, Node, Subgraph, TensorId};
use crate::ops::{Numerics, Operator, Signature, Value};
use crate::tensor::{Bytes, DType, Shape, Tensor};

/// How a model shall be planned.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which integer arithmetic to follow.
    pub numerics: Numerics,
    /// The largest number of threads, at least 1.
    pub threads: usize,
    /// New shapes for the model's inputs, in order; `None` keeps the file's.
    pub input_shapes: Vec<Option<Shape>>,
    /// The subgraph to run; [`SignatureDef`](crate::SignatureDef)s name those that are made for it.
    pub subgraph: usize,
    /// The most bytes that tensors may take.
    pub memory_limit: usize,
    /// How often one run may run subgraphs: rounds of loops (each counts its condition and its
    /// body), branches and compositions. What exceeds it ends with [`RunError::Endless`]. The
    /// default, 100 million, is some seconds of the smallest bodies.
    pub call_limit: u64,
    /// Keep every tensor until the end of a run, so that each can be looked at.
    pub keep_all: bool,
    /// Keep the results that were computed beforehand, even where kernels have copied what they
    /// need of them.
    pub keep_constants: bool,
    /// Kernels for custom operators that the CPU path does not know.
    pub custom: Option<Arc<dyn CustomOps>>,
    /// Let float kernels write their intermediates, so that each can be looked at.
    pub observe_intermediates: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            numerics: Numerics::default(),
            threads: 1,
            input_shapes: Vec::new(),
            subgraph: 0,
            memory_limit: 4 << 30,
            call_limit: 100_000_000,
            keep_all: false,
            keep_constants: false,
            custom: None,
            observe_intermediates: false,
        }
    }
}

/// One operator, ready to run.
#[derive(Debug)]
pub(crate) struct Step {
    /// Its place among the subgraph's operators.
    pub node: usize,
    pub kernel: Kernel,
    pub inputs: Vec<Option<usize>>,
    /// Its results, then the variables it may change, then the intermediates it writes.
    pub outputs: Vec<usize>,
    /// The subgraphs that it runs.
    pub bodies: Vec<Arc<Plan>>,
}

/// A tensor that keeps its value between runs; in a subgraph that an operator runs, between the
/// rounds of one run of that operator.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub tensor: usize,
    /// Its bytes at the start, where an operator computes them from constants.
    pub start: Option<Bytes>,
    /// Every byte of it at the start, otherwise.
    pub fill: u8,
}

/// A planned subgraph: immutable, so that many [`Runner`](super::Runner)s can share it.
#[derive(Debug)]
pub struct Plan {
    pub(crate) values: Vec<Value>,
    pub(crate) places: Vec<Place>,
    pub(crate) steps: Vec<Step>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) inputs: Vec<TensorId>,
    pub(crate) outputs: Vec<TensorId>,
    pub(crate) arena_len: usize,
    pub(crate) scratch_len: usize,
    /// Bytes that keep their content between runs.
    pub(crate) state_len: usize,
    /// Bytes of results that were computed beforehand.
    pub(crate) constants_len: usize,
    pub(crate) threads: usize,
    pub(crate) call_limit: u64,
    pub(crate) subgraph: usize,
}

impl Plan {
    /// Plans a subgraph of `model`, the first if the options do not say another, and those that
    /// it runs.
    pub fn new(model: &Model, options: &Options) -> Result<Self, RunError> {
        let nodes = model.reachable(options.subgraph).into_iter();
        let nodes = nodes.flat_map(|subgraph| &model.subgraphs[subgraph].nodes);
        let custom = options.custom.as_deref();
        let missing = nodes.filter(|node| {
            node.op.operator().is_err() && External::find(custom, &node.op).is_none()
        });
        let missing: BTreeSet<String> = missing.map(|node| node.op.to_string()).collect();
        if !missing.is_empty() {
            return Err(RunError::NoKernel {
                operators: missing.into_iter().collect(),
            });
        }
        let mut context = Context::new(model, options);
        let mut planner = Planner::new(options.subgraph, options, &mut context)?;
        planner.resize_inputs()?;
        let plan = planner.plan()?;
        Ok(Self {
            state_len: context.state_len,
            ..plan
        })
    }

    /// The number of the subgraph that this is a plan of.
    pub fn subgraph(&self) -> usize {
        self.subgraph
    }

    /// The plans of all subgraphs that operators run, directly or in other subgraphs; one subgraph
    /// has several where its operands differ in type or shape.
    pub fn bodies(&self) -> Vec<&Self> {
        let mut bodies = Vec::new();
        self.collect_bodies(&mut bodies);
        bodies
    }

    fn collect_bodies<'a>(&'a self, bodies: &mut Vec<&'a Self>) {
        for body in self.steps.iter().flat_map(|step| &step.bodies) {
            if !bodies.iter().any(|&known| std::ptr::eq(known, &**body)) {
                bodies.push(body);
                body.collect_bodies(bodies);
            }
        }
    }

    /// The type, shape and quantization of `tensor`, with the shape it has in this plan.
    pub fn value(&self, tensor: TensorId) -> &Value {
        &self.values[tensor.index()]
    }

    /// The model's inputs.
    pub fn inputs(&self) -> &[TensorId] {
        &self.inputs
    }

    /// The model's outputs.
    pub fn outputs(&self) -> &[TensorId] {
        &self.outputs
    }

    /// Bytes of memory that a run needs for tensors and scratch.
    pub fn memory(&self) -> usize {
        self.arena_len + self.scratch_len
    }

    /// Gives the variables in `arena` the values that they start with.
    pub(super) fn reset_variables(&self, arena: &mut [u8]) {
        for variable in &self.variables {
            if let Place::Arena(range) = &self.places[variable.tensor] {
                let place = &mut arena[range.clone()];
                match &variable.start {
                    Some(start) if start.len() == place.len() => place.copy_from_slice(start),
                    _ => place.fill(variable.fill),
                }
            }
        }
    }

    /// Runs all steps in order, until the run ends early.
    pub(super) fn execute(&self, arena: &mut [u8], scratch: &mut [u8], shared: &mut Shared<'_>) {
        for step in &self.steps {
            let start = shared.observer.is_some().then(Instant::now);
            step.kernel.run(&mut Run {
                arena,
                scratch,
                places: &self.places,
                inputs: &step.inputs,
                outputs: &step.outputs,
                shared: shared.reborrow(),
                threads: self.threads,
            });
            if shared.budget.is_over() {
                shared.budget.locate(self.subgraph, step.node);
                return;
            }
            if let (Some(observe), Some(start)) = (&mut shared.observer, start) {
                observe(&Event::Ran {
                    plan: self,
                    step,
                    arena,
                    start,
                });
            }
        }
    }

    /// The operators that run, by their place in the subgraph; the others are constants.
    pub fn nodes(&self) -> impl Iterator<Item = usize> + '_ {
        self.steps.iter().map(|step| step.node)
    }
}

/// Plans one subgraph.
pub(super) struct Planner<'a, 'm> {
    number: usize,
    subgraph: &'m Subgraph,
    options: &'a Options,
    context: &'a mut Context<'m>,
    values: Vec<Value>,
    /// Whether the value is there when the next operator runs.
    known: Vec<bool>,
    /// How many operators that are not planned yet read the value.
    readers: Vec<usize>,
    /// Whether the value was computed here, and nothing that runs reads it.
    is_spare: Vec<bool>,
    steps: Vec<Step>,
    /// Bytes of results that are computed beforehand.
    constants_len: usize,
    /// What variables start as, where an operator computes that.
    starts: HashMap<usize, Bytes>,
}

impl<'a, 'm> Planner<'a, 'm> {
    pub fn new(
        number: usize,
        options: &'a Options,
        context: &'a mut Context<'m>,
    ) -> Result<Self, RunError> {
        let subgraphs = &context.model.subgraphs;
        let subgraph = subgraphs.get(number).ok_or_else(|| {
            RunError::Graph(match subgraphs.len() {
                0 => "the model has no subgraph".into(),
                count => format!("the model has {count} subgraphs and none of number {number}"),
            })
        })?;
        let values: Vec<Value> = subgraph.tensors.iter().map(value).collect();
        let mut readers = vec![0; values.len()];
        let inputs = subgraph.nodes.iter().flat_map(|node| node.inputs.iter());
        for input in inputs.flatten() {
            readers[input.index()] += 1;
        }
        Ok(Self {
            number,
            readers,
            is_spare: vec![false; values.len()],
            subgraph,
            options,
            context,
            values,
            known: subgraph
                .tensors
                .iter()
                .map(|t| t.is_constant() || t.is_variable)
                .collect(),
            steps: Vec::new(),
            constants_len: 0,
            starts: HashMap::new(),
        })
    }

    /// Gives the inputs the shapes of an operator's `operands`, and their values where those are
    /// known.
    pub fn bind(&mut self, operands: &[Value]) -> Result<(), RunError> {
        let inputs = &self.subgraph.inputs;
        if operands.len() != inputs.len() {
            return Err(RunError::Graph(format!(
                "it has {} inputs and is given {} operands",
                inputs.len(),
                operands.len()
            )));
        }
        for (index, (&input, operand)) in inputs.iter().zip(operands).enumerate() {
            let value = &mut self.values[input.index()];
            if value.dtype != operand.dtype {
                return Err(RunError::Graph(format!(
                    "input {index} is {} and the operand {}",
                    value.dtype, operand.dtype
                )));
            }
            if self.known[input.index()] {
                return Err(RunError::Graph(format!(
                    "input {index} is a constant, or an input twice"
                )));
            }
            value.shape.clone_from(&operand.shape);
            value.data.clone_from(&operand.data);
            self.known[input.index()] = true;
        }
        Ok(())
    }

    fn resize_inputs(&mut self) -> Result<(), RunError> {
        let inputs = &self.subgraph.inputs;
        if self.options.input_shapes.len() > inputs.len() {
            return Err(RunError::Data(format!(
                "{} input shapes for a model with {} inputs",
                self.options.input_shapes.len(),
                inputs.len()
            )));
        }
        for (index, &input) in inputs.iter().enumerate() {
            if let Some(Some(shape)) = self.options.input_shapes.get(index) {
                let value = &mut self.values[input.index()];
                if shape.len() != value.shape.len() {
                    return Err(RunError::Data(format!(
                        "shape {shape:?} for input {index} has another rank than {:?}",
                        value.shape
                    )));
                }
                value.shape.clone_from(shape);
            }
            self.known[input.index()] = true;
        }
        Ok(())
    }

    pub fn plan(mut self) -> Result<Plan, RunError> {
        for index in 0..self.subgraph.nodes.len() {
            self.step(index)?;
        }
        for &output in &self.subgraph.outputs {
            if !self.known[output.index()] {
                return Err(RunError::Graph(format!(
                    "output {output} is never computed"
                )));
            }
        }
        let (places, arena_len) = self.place_tensors()?;
        let scratch_len = self
            .steps
            .iter()
            .map(|s| s.kernel.scratch())
            .max()
            .unwrap_or(0);
        let needed = arena_len
            .saturating_add(scratch_len)
            .saturating_add(self.constants_len);
        if needed > self.options.memory_limit {
            return Err(RunError::Memory {
                needed,
                limit: self.options.memory_limit,
            });
        }
        Ok(Plan {
            variables: self.variables(),
            values: self.values,
            places,
            steps: self.steps,
            inputs: self.subgraph.inputs.clone(),
            outputs: self.subgraph.outputs.clone(),
            arena_len,
            scratch_len,
            state_len: 0,
            constants_len: self.constants_len,
            threads: self.options.threads.max(1),
            call_limit: self.options.call_limit,
            subgraph: self.number,
        })
    }

    /// Infers the shapes of one operator and prepares it, or computes it where its operands
    /// are constants.
    fn step(&mut self, index: usize) -> Result<(), RunError> {
        let node = &self.subgraph.nodes[index];
        let at = |source| RunError::Op {
            index,
            op: node.op.to_string(),
            source,
        };
        let external = External::find(self.options.custom.as_deref(), &node.op);
        let operator: &dyn Operator = match &external {
            Some(external) => external,
            None => node.op.operator().map_err(at)?,
        };
        for &input in node.inputs.iter().flatten() {
            if self.subgraph[input].sparsity.is_some() {
                return Err(RunError::Graph(format!(
                    "operator {index} ({}) reads {input}, which is sparse; no kernel reads that",
                    node.op
                )));
            }
            if !self.known[input.index()] && self.values[input.index()].is_empty() {
                self.values[input.index()].data = Some(Bytes::from(Vec::new()));
                self.known[input.index()] = true;
            }
            if !self.known[input.index()] {
                return Err(RunError::Graph(format!(
                    "operator {index} ({}) reads {input} before it is computed",
                    node.op
                )));
            }
        }
        let mut io = self.signature(node);
        self.context.resolve(operator, node, &mut io).map_err(at)?;
        let shapes = operator.infer_shapes(&io).map_err(at)?;
        if shapes.len() != node.outputs.len() {
            return Err(RunError::Graph(format!(
                "operator {index} ({}) has {} outputs where it computes {}",
                node.op,
                node.outputs.len(),
                shapes.len()
            )));
        }
        let constant = node
            .inputs
            .iter()
            .flatten()
            .all(|i| self.values[i.index()].data.is_some());
        // TensorFlow's float16 models make the zeros of a state with DEQUANTIZE.
        let start = match &*node.outputs {
            &[output] if constant && self.is_variable(output) => Some(output.index()),
            _ => None,
        };
        for (slot, (&output, shape)) in node.outputs.iter().zip(shapes).enumerate() {
            let value = &self.values[output.index()];
            if self.known[output.index()] && (start.is_none() || value.shape != shape) {
                return Err(RunError::Graph(format!(
                    "operator {index} ({}) computes {output}, which has a value already",
                    node.op
                )));
            }
            let value = &mut self.values[output.index()];
            let len = value.dtype.byte_len(&shape).ok_or_else(|| {
                RunError::Graph(format!(
                    "{output} of shape {shape:?} and type {} has no size",
                    value.dtype
                ))
            })?;
            if len > self.options.memory_limit {
                return Err(RunError::Memory {
                    needed: len,
                    limit: self.options.memory_limit,
                });
            }
            value.data = io.outputs[slot].data.take();
            io.outputs[slot].shape.clone_from(&shape);
            value.shape = shape;
            self.known[output.index()] = true;
        }
        let changed = io.variables.iter().filter_map(|&index| node.input(index));
        let mut changed: Vec<usize> = changed.map(TensorId::index).collect();
        let is_float = |id: &TensorId| self.values[id.index()].dtype == DType::F32;
        if self.options.observe_intermediates && node.intermediates.iter().all(is_float) {
            let shapes = operator.intermediate_shapes(&io);
            for (slot, (&id, shape)) in node.intermediates.iter().zip(shapes).enumerate() {
                if std::mem::replace(&mut self.known[id.index()], true) {
                    return Err(RunError::Graph(format!(
                        "intermediate {id} of operator {index} ({}) has a value already",
                        node.op
                    )));
                }
                io.intermediates[slot].shape.clone_from(&shape);
                self.values[id.index()].shape = shape;
                changed.push(id.index());
            }
        }
        if let ([output], Some(data)) = (&*node.outputs, operator.fold(&io)) {
            self.keep(data.len())?;
            self.values[output.index()].data = Some(Bytes::from(data));
            self.keep_start(start);
            return Ok(());
        }
        let has_effects = external.is_some() || io.state.is_some() || !io.bodies.is_empty();
        if !has_effects
            && node
                .outputs
                .iter()
                .all(|output| self.values[output.index()].is_empty())
        {
            return Ok(());
        }
        let step = Step {
            node: index,
            kernel: operator.prepare(&io).map_err(at)?,
            inputs: node.inputs.iter().map(|i| i.map(TensorId::index)).collect(),
            outputs: node
                .outputs
                .iter()
                .map(|o| o.index())
                .chain(changed)
                .collect(),
            bodies: io.bodies,
        };
        if constant && !has_effects && !node.outputs.is_empty() {
            self.compute(&step)?;
            self.keep_start(start);
        } else {
            for (slot, &input) in step.inputs.iter().enumerate() {
                if let Some(input) = input.filter(|_| step.kernel.reads(slot)) {
                    self.is_spare[input] = false;
                }
            }
            self.steps.push(step);
        }
        self.drop_spare(node);
        Ok(())
    }

    /// Drops the operands of a planned `node` that were computed here and have been copied by all
    /// that need them: weights that were widened and then packed are not kept twice.
    fn drop_spare(&mut self, node: &Node) {
        let keeps = self.options.keep_all || self.options.keep_constants;
        for input in node.inputs.iter().flatten() {
            let index = input.index();
            self.readers[index] -= 1;
            let is_done = self.readers[index] == 0 && !self.subgraph.outputs.contains(input);
            if is_done && self.is_spare[index] && !keeps {
                self.values[index].data = None;
            }
        }
    }

    /// Turns what was just computed into the start of `variable`, if there is one.
    fn keep_start(&mut self, variable: Option<usize>) {
        if let Some(variable) = variable
            && let Some(data) = self.values[variable].data.take()
        {
            self.starts.insert(variable, data);
        }
    }

    /// A constant is none, whatever the file says.
    fn is_variable(&self, tensor: TensorId) -> bool {
        let tensor = &self.subgraph[tensor];
        tensor.is_variable && !tensor.is_constant()
    }

    fn signature(&self, node: &Node) -> Signature {
        Signature {
            inputs: node
                .inputs
                .iter()
                .map(|i| i.map(|i| self.values[i.index()].clone()))
                .collect(),
            outputs: node
                .outputs
                .iter()
                .map(|o| self.values[o.index()].clone())
                .collect(),
            intermediates: node
                .intermediates
                .iter()
                .map(|i| self.values[i.index()].clone())
                .collect(),
            variables: (0..node.inputs.len())
                .filter(|&index| {
                    // One that is two operands cannot be read and changed at once.
                    let same = node.inputs.iter().filter(|i| **i == node.inputs[index]);
                    node.input(index).is_some_and(|i| self.is_variable(i)) && same.count() == 1
                })
                .collect(),
            numerics: self.options.numerics,
            threads: self.options.threads.max(1),
            ..Signature::default()
        }
    }

    /// Runs a step whose operands are constants, so that its results are constants too.
    fn compute(&mut self, step: &Step) -> Result<(), RunError> {
        let requests: Vec<Request> = step
            .outputs
            .iter()
            .map(|&o| Request {
                len: byte_len(&self.values[o]),
                live: (0, 0),
            })
            .collect();
        let (ranges, arena_len) = self.checked(arena::place(&requests))?;
        self.keep(arena_len)?;
        let mut arena = self.allocate(arena_len)?;
        let mut scratch = self.allocate(step.kernel.scratch())?;
        let mut places = self.constant_places()?;
        for (&output, range) in step.outputs.iter().zip(&ranges) {
            places[output] = Place::Arena(range.clone());
        }
        step.kernel.run(&mut Run {
            arena: arena.as_mut_slice(),
            scratch: scratch.as_mut_slice(),
            places: &places,
            inputs: &step.inputs,
            outputs: &step.outputs,
            shared: Shared {
                state: &mut [],
                budget: &mut Budget::new(0),
                observer: None,
            },
            threads: 1,
        });
        let arena = Bytes::new(arena);
        for (&output, range) in step.outputs.iter().zip(ranges) {
            self.values[output].data = arena.slice(range);
            self.is_spare[output] = true;
        }
        Ok(())
    }

    /// Counts a result of `len` bytes that is a constant.
    fn keep(&mut self, len: usize) -> Result<(), RunError> {
        self.constants_len = self.constants_len.saturating_add(len);
        if self.constants_len > self.options.memory_limit {
            return Err(RunError::Memory {
                needed: self.constants_len,
                limit: self.options.memory_limit,
            });
        }
        Ok(())
    }

    fn allocate(&self, len: usize) -> Result<AlignedBytes, RunError> {
        let error = RunError::Memory {
            needed: len,
            limit: self.options.memory_limit,
        };
        if len > self.options.memory_limit {
            return Err(error);
        }
        AlignedBytes::zeroed(len).ok_or(error)
    }

    fn checked<T>(&self, value: Option<T>) -> Result<T, RunError> {
        value.ok_or(RunError::Memory {
            needed: usize::MAX,
            limit: self.options.memory_limit,
        })
    }

    /// The constants' places; one that is not aligned for its elements is copied.
    fn constant_places(&self) -> Result<Vec<Place>, RunError> {
        let place = |value: &Value| {
            let Some(data) = &value.data else {
                return Ok(Place::Absent);
            };
            let align = value.dtype.size().unwrap_or(1).min(ALIGNMENT);
            if data.as_ptr().align_offset(align.next_power_of_two()) == 0 {
                return Ok(Place::Constant(data.clone()));
            }
            let mut copy = self.allocate(data.len())?;
            copy.as_mut_slice().copy_from_slice(data);
            Ok(Place::Constant(Bytes::new(copy)))
        };
        self.values.iter().map(place).collect()
    }

    /// Variables start as zeros; int8 ones, as in LiteRT, as their zero point.
    fn variables(&self) -> Vec<Variable> {
        let variable = |(tensor, value): (usize, &Value)| Variable {
            tensor,
            start: self.starts.get(&tensor).cloned(),
            fill: match (value.dtype, value.per_tensor()) {
                (DType::I8, Ok(parameters)) => parameters.zero_point as u8,
                _ => 0,
            },
        };
        let values = self.values.iter().enumerate();
        values
            .filter(|&(tensor, _)| self.subgraph.tensors[tensor].is_variable)
            .map(variable)
            .collect()
    }

    fn place_tensors(&self) -> Result<(Vec<Place>, usize), RunError> {
        let end = self.steps.len();
        let mut live: Vec<Option<(usize, usize)>> = vec![None; self.values.len()];
        let mut need = |tensor: usize, from: usize, to: usize| {
            let (first, last) = live[tensor].unwrap_or((from, to));
            live[tensor] = Some((first.min(from), last.max(to)));
        };
        let unused = |input: TensorId| {
            let reads = |step: &Step| {
                let mut slots = step.inputs.iter().enumerate();
                slots.any(|(slot, &i)| i == Some(input.index()) && step.kernel.reads(slot))
            };
            !self.subgraph.outputs.contains(&input) && !self.steps.iter().any(reads)
        };
        for &input in &self.subgraph.inputs {
            // Nobody looks at an input of a body that the body does not use.
            if !(self.context.is_body() && unused(input)) {
                need(input.index(), 0, end);
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            for (slot, &input) in step.inputs.iter().enumerate() {
                let Some(input) = input.filter(|_| step.kernel.reads(slot)) else {
                    continue;
                };
                if self.subgraph.tensors[input].is_variable {
                    need(input, 0, end);
                } else {
                    need(input, index, index);
                }
            }
            for &output in &step.outputs {
                need(
                    output,
                    index,
                    if self.options.keep_all { end } else { index },
                );
            }
        }
        for &output in &self.subgraph.outputs {
            need(output.index(), end, end);
        }
        let mut tensors = Vec::new();
        let mut requests = Vec::new();
        for (tensor, live) in live.into_iter().enumerate() {
            let Some(live) = live else { continue };
            let value = &self.values[tensor];
            if value.data.is_some() {
                continue;
            }
            let len = self.checked(value.dtype.byte_len(&value.shape))?;
            tensors.push(tensor);
            requests.push(Request { len, live });
        }
        let (ranges, total): (Vec<Range<usize>>, usize) = self.checked(arena::place(&requests))?;
        let mut places = self.constant_places()?;
        for (tensor, range) in tensors.into_iter().zip(ranges) {
            places[tensor] = Place::Arena(range);
        }
        Ok((places, total))
    }
}

fn byte_len(value: &Value) -> usize {
    value.dtype.byte_len(&value.shape).unwrap_or(0)
}

/// A tensor as operators see it; constants whose bytes do not fill the shape are not constants
/// that a kernel may read, and are refused by the reader.
fn value(tensor: &Tensor) -> Value {
    Value {
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        quantization: tensor.quantization.clone(),
        data: tensor
            .data
            .clone()
            .filter(|_| tensor.dtype != DType::String),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cpu::Runner;
    use crate::ops::{Add, Dequantize, FullyConnected};

    /// A product with weights of float16, which are 1 and 2, and the sum of what `also` adds to it.
    fn model(is_read_too: bool) -> (Model, TensorId) {
        let mut subgraph = Subgraph::default();
        let mut tensor = |dtype, data: Option<Vec<u8>>| {
            let mut tensor = Tensor::new("", dtype, [1, 2]);
            tensor.data = data.map(Bytes::from);
            subgraph.add_tensor(tensor)
        };
        let half = tensor(DType::F16, Some(vec![0x00, 0x3c, 0x00, 0x40]));
        let weights = tensor(DType::F32, None);
        let (input, product, sum) = (
            tensor(DType::F32, None),
            tensor(DType::F32, None),
            tensor(DType::F32, None),
        );
        subgraph.nodes = vec![
            Node::new(Dequantize, &[half], &[weights]),
            Node::new(FullyConnected::default(), &[input, weights], &[product]),
        ];
        let output = if is_read_too {
            let add = Node::new(Add::default(), &[product, weights], &[sum]);
            subgraph.nodes.push(add);
            sum
        } else {
            product
        };
        (subgraph.inputs, subgraph.outputs) = (vec![input], vec![output]);
        let model = Model {
            subgraphs: vec![subgraph],
            ..Model::default()
        };
        (model, weights)
    }

    fn run(model: &Model) -> (Arc<Plan>, Vec<f32>) {
        let plan = Arc::new(Plan::new(model, &Options::default()).unwrap());
        let mut runner = Runner::new(plan.clone()).unwrap();
        runner
            .set_input(0, bytemuck::cast_slice(&[3.0f32, 5.0]))
            .unwrap();
        runner.run().unwrap();
        let output = runner.output(0).chunks_exact(4);
        let output = output.map(bytemuck::pod_read_unaligned).collect();
        (plan, output)
    }

    #[test]
    fn widened_weights_that_were_packed_are_not_kept() {
        let (model, weights) = model(false);
        let (plan, output) = run(&model);
        assert_eq!(output, [13.0]);
        assert!(plan.value(weights).data.is_none());
    }

    #[test]
    fn widened_weights_that_are_read_when_running_are_kept() {
        let (model, weights) = model(true);
        let (plan, output) = run(&model);
        assert_eq!(output, [14.0, 15.0]);
        assert!(plan.value(weights).data.is_some());
    }
}
