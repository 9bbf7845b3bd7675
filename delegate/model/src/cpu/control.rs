//! Subgraphs that operators run, and memory that outlives a run: how both are planned, and how a
//! kernel runs a subgraph inside its scratch memory.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::RunError;
use super::arena::ALIGNMENT;
use super::kernel::{Event, Place, Run};
use super::plan::{Options, Plan, Planner};
use crate::graph::{Model, Node, Subgraph};
use crate::ops::{Body, BodyOutputs, Memory, OpError, Operator, Signature, State, Value};
use crate::tensor::{Bytes, DType, Shape};

/// How deep subgraphs may call each other; each level takes some of the thread's stack.
const MAX_DEPTH: usize = 32;

/// How many plans of subgraphs a model may need: one for each that is run, and for each set of
/// operand types, shapes and known values.
const MAX_BODIES: usize = 1 << 14;

/// What the plans of a model's subgraphs have in common while they are made.
pub(crate) struct Context<'a> {
    pub model: &'a Model,
    /// How the bodies are planned.
    options: Options,
    /// The subgraphs that are being planned, outermost first.
    open: Vec<usize>,
    /// The plans of each subgraph.
    known: HashMap<usize, Vec<Known>>,
    planned: usize,
    /// About as many bytes as the plans take of subgraphs that have more than one.
    repeated: usize,
    variables: Vec<Variable>,
    /// Which variable has a name.
    names: HashMap<(String, String), usize>,
    /// The flags of subgraphs that run once.
    once: HashMap<i32, usize>,
    /// Bytes of all variables and flags.
    pub state_len: usize,
}

/// A plan, and the operands that it is made for.
struct Known {
    operands: Vec<Value>,
    plan: Arc<Plan>,
}

/// A variable that has a handle.
struct Variable {
    name: String,
    /// Its type and memory, once something is assigned to it.
    content: Option<(DType, State)>,
}

impl<'a> Context<'a> {
    pub fn new(model: &'a Model, options: &Options) -> Self {
        Self {
            model,
            options: Options {
                input_shapes: Vec::new(),
                keep_all: false,
                ..options.clone()
            },
            open: vec![options.subgraph],
            known: HashMap::new(),
            planned: 0,
            repeated: 0,
            variables: Vec::new(),
            names: HashMap::new(),
            once: HashMap::new(),
            state_len: 0,
        }
    }

    /// Whether a subgraph that an operator runs is being planned.
    pub fn is_body(&self) -> bool {
        self.open.len() > 1
    }

    /// Plans the subgraphs that `node` runs and finds its variable; both go into `io`.
    pub fn resolve(
        &mut self,
        operator: &dyn Operator,
        node: &Node,
        io: &mut Signature,
    ) -> Result<(), OpError> {
        let bodies = operator.bodies();
        let mut invariant = vec![true; io.inputs.len()];
        for body in &bodies {
            let subgraph = self.subgraph(body.subgraph)?;
            if body.outputs == BodyOutputs::NextRound {
                for (index, invariant) in invariant.iter_mut().enumerate() {
                    *invariant = passes_through(subgraph, index);
                }
            }
        }
        for body in &bodies {
            let operands = io.inputs.iter().enumerate().skip(body.first_operand);
            let mut given = Vec::new();
            for (index, operand) in operands {
                let missing = || OpError::Missing(format!("input {index}"));
                let mut value = operand.clone().ok_or_else(missing)?;
                if !invariant[index] {
                    value.data = None;
                }
                given.push(value);
            }
            let plan = self.body(body.subgraph, given)?;
            check_outputs(body.outputs, &plan, node, io)?;
            io.bodies.push(plan);
        }
        for index in 0..io.outputs.len() {
            io.outputs[index].data = known_result(&bodies, io, index);
        }
        io.state = match operator.memory() {
            None => None,
            Some(Memory::Handle { container, name }) => Some(self.handle(container, name)),
            Some(Memory::Read) => Some(self.read(io)?),
            Some(Memory::Write) => Some(self.write(io)?),
            Some(Memory::Once(subgraph)) => Some(self.once(subgraph)?),
        };
        Ok(())
    }

    fn subgraph(&self, number: i32) -> Result<&'a Subgraph, OpError> {
        let count = self.model.subgraphs.len();
        usize::try_from(number)
            .ok()
            .and_then(|number| self.model.subgraphs.get(number))
            .ok_or_else(|| OpError::Body(format!("there is no subgraph {number} among {count}")))
    }

    /// The plan of subgraph `number` for the operands `given`.
    fn body(&mut self, number: i32, given: Vec<Value>) -> Result<Arc<Plan>, OpError> {
        self.subgraph(number)?;
        let number = number as usize;
        if self.open.contains(&number) {
            return Err(OpError::Body(format!("subgraph {number} runs itself")));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(OpError::Body(format!(
                "subgraphs run each other more than {MAX_DEPTH} deep"
            )));
        }
        let mut known = self.known.get(&number).into_iter().flatten();
        if let Some(known) = known.find(|known| known.operands == given) {
            return Ok(Arc::clone(&known.plan));
        }
        self.planned += 1;
        if self.planned > MAX_BODIES {
            return Err(OpError::Body(format!(
                "the model runs subgraphs with more than {MAX_BODIES} sets of operands"
            )));
        }
        self.open.push(number);
        let plan = self.plan(number, &given);
        self.open.pop();
        let plan = Arc::new(plan.map_err(|source| OpError::Subgraph {
            subgraph: number,
            source: Box::new(source),
        })?);
        self.known.entry(number).or_default().push(Known {
            operands: given,
            plan: Arc::clone(&plan),
        });
        Ok(plan)
    }

    fn plan(&mut self, number: usize, given: &[Value]) -> Result<Plan, RunError> {
        if self.known.contains_key(&number) {
            let more = size(&self.model.subgraphs[number]);
            self.repeated = self.repeated.saturating_add(more);
            let (needed, limit) = (self.repeated, self.options.memory_limit);
            if needed > limit {
                return Err(RunError::Memory { needed, limit });
            }
        }
        let options = self.options.clone();
        let mut planner = Planner::new(number, &options, self)?;
        planner.bind(given)?;
        planner.plan()
    }

    fn handle(&mut self, container: &str, name: &str) -> State {
        let next = self.variables.len();
        let key = (container.to_owned(), name.to_owned());
        let number = *self.names.entry(key).or_insert(next);
        if number == next {
            self.variables.push(Variable {
                name: name.to_owned(),
                content: None,
            });
        }
        State {
            number: number as i32,
            ..State::default()
        }
    }

    /// The variable whose handle is the first operand.
    fn variable(&mut self, io: &Signature) -> Result<&mut Variable, OpError> {
        let handle = io.input(0)?;
        let number = match (&handle.data, handle.dtype) {
            (Some(data), DType::Resource | DType::I32) => (**data).try_into().ok(),
            (None, DType::Resource | DType::I32) => {
                return Err(OpError::NotConstant("the variable's handle".into()));
            }
            _ => return Err(io.unsupported(0)),
        };
        let count = self.variables.len();
        let number = number.map(i32::from_ne_bytes);
        number
            .and_then(|number| self.variables.get_mut(usize::try_from(number).ok()?))
            .ok_or_else(|| {
                OpError::Variable(format!("handle {number:?} is of none of {count} variables"))
            })
    }

    fn read(&mut self, io: &Signature) -> Result<State, OpError> {
        let output = io.output(0)?.dtype;
        let variable = self.variable(io)?;
        let Some((dtype, state)) = &variable.content else {
            return Err(OpError::Variable(format!(
                "variable {:?} is read before anything is assigned to it",
                variable.name
            )));
        };
        if *dtype != output {
            return Err(OpError::Variable(format!(
                "variable {:?} of type {dtype} is read as {output}",
                variable.name
            )));
        }
        Ok(state.clone())
    }

    fn write(&mut self, io: &Signature) -> Result<State, OpError> {
        let value = io.input(1)?.clone();
        let variable = self.variable(io)?;
        if let Some((dtype, state)) = &variable.content {
            if (*dtype, &state.shape) != (value.dtype, &value.shape) {
                return Err(OpError::Variable(format!(
                    "variable {:?} of {dtype} {:?} is assigned {} {:?}",
                    variable.name, state.shape, value.dtype, value.shape
                )));
            }
            return Ok(state.clone());
        }
        let len = value.dtype.byte_len(&value.shape);
        let state = State {
            range: self.reserve(len)?,
            shape: value.shape,
            ..State::default()
        };
        self.variable(io)?.content = Some((value.dtype, state.clone()));
        Ok(state)
    }

    fn once(&mut self, subgraph: i32) -> Result<State, OpError> {
        let at = match self.once.get(&subgraph) {
            Some(&at) => at,
            None => {
                let at = self.reserve(Some(1))?.start;
                self.once.insert(subgraph, at);
                at
            }
        };
        Ok(State {
            range: at..at + 1,
            ..State::default()
        })
    }

    fn reserve(&mut self, len: Option<usize>) -> Result<Range<usize>, OpError> {
        let start = self.state_len;
        let limit = self.options.memory_limit;
        let end = len
            .and_then(|len| start.checked_add(len))
            .filter(|&end| end <= limit)
            .ok_or_else(|| {
                OpError::Variable(format!(
                    "the variables need more memory than the limit of {limit} bytes"
                ))
            })?;
        self.state_len = end.next_multiple_of(ALIGNMENT);
        Ok(start..end)
    }
}

/// About as many bytes as a plan of `subgraph` takes: constants may be packed anew for kernels.
fn size(subgraph: &Subgraph) -> usize {
    let constants = subgraph.tensors.iter().filter_map(|t| t.data.as_ref());
    let constants: usize = constants.map(|data| data.len()).sum();
    constants + size_of_val(&subgraph.tensors[..]) + size_of_val(&subgraph.nodes[..])
}

/// Whether a body returns its input `index` as it is.
fn passes_through(subgraph: &Subgraph, index: usize) -> bool {
    subgraph.inputs.get(index).is_some()
        && subgraph.inputs.get(index) == subgraph.outputs.get(index)
}

/// Checks the number and types of a body's outputs, and the shapes of a loop's variables.
fn check_outputs(
    kind: BodyOutputs,
    plan: &Plan,
    node: &Node,
    io: &Signature,
) -> Result<(), OpError> {
    let wanted = match kind {
        BodyOutputs::Condition => 1,
        _ => node.outputs.len(),
    };
    let (number, count) = (plan.subgraph, plan.outputs.len());
    if count != wanted {
        return Err(OpError::Body(format!(
            "subgraph {number} has {count} outputs where the operator takes {wanted}"
        )));
    }
    if kind == BodyOutputs::NextRound && wanted != io.inputs.len() {
        return Err(OpError::Body(format!(
            "a loop of {} variables has {wanted} results",
            io.inputs.len()
        )));
    }
    for (index, &id) in plan.outputs.iter().enumerate() {
        let value = plan.value(id);
        if kind == BodyOutputs::Condition {
            if value.dtype != DType::Bool || value.len() != 1 {
                return Err(OpError::Body(format!(
                    "the condition, subgraph {number}, gives {} {:?} and not one bool",
                    value.dtype, value.shape
                )));
            }
            continue;
        }
        let result = io.output(index)?.dtype;
        if value.dtype != result {
            return Err(OpError::Body(format!(
                "output {index} of subgraph {number} is {} where the operator's result is {result}",
                value.dtype
            )));
        }
        if kind == BodyOutputs::NextRound {
            check_next_round(index, value, io.input(index)?)?;
        }
    }
    Ok(())
}

fn check_next_round(index: usize, next: &Value, first: &Value) -> Result<(), OpError> {
    // LiteRT takes a scalar and [1] for the same.
    let alike = next.shape == first.shape
        || (next.len() == 1 && first.len() == 1 && next.shape.len() + first.shape.len() == 1);
    if next.dtype != first.dtype || !alike {
        return Err(OpError::Body(format!(
            "loop variable {index} is {} {:?} before a round and {} {:?} after it",
            first.dtype, first.shape, next.dtype, next.shape
        )));
    }
    if first.dtype == DType::Resource && next.data != first.data {
        return Err(OpError::NotConstant(format!(
            "loop variable {index}, a handle,"
        )));
    }
    Ok(())
}

/// The value of result `index`, where all that it may come from agree on it.
fn known_result(bodies: &[Body], io: &Signature, index: usize) -> Option<Bytes> {
    let mut sources = Vec::new();
    for (body, plan) in bodies.iter().zip(&io.bodies) {
        if body.outputs != BodyOutputs::Condition {
            sources.push(&plan.value(*plan.outputs.get(index)?).data);
        }
        if body.outputs == BodyOutputs::NextRound {
            sources.push(&io.optional_input(index)?.data);
        }
    }
    let first = sources.first()?;
    (*first)
        .clone()
        .filter(|_| sources.iter().all(|source| source == first))
}

/// A planned subgraph and where in its operator's scratch memory it runs.
#[derive(Debug)]
pub(crate) struct Frame {
    plan: Arc<Plan>,
    start: usize,
}

impl Frame {
    /// `plan` with its memory from `start` on, a multiple of the arena's alignment.
    pub fn new(plan: &Arc<Plan>, start: usize) -> Self {
        Self {
            plan: Arc::clone(plan),
            start,
        }
    }

    /// The first byte behind its memory; a number too high for any memory where that overflows.
    pub fn end(&self) -> usize {
        let end = self.start.saturating_add(self.plan.memory());
        end.checked_next_multiple_of(ALIGNMENT)
            .unwrap_or(usize::MAX)
    }

    /// Starts anew, as LiteRT does whenever the operator runs: copies the operands from `first` on
    /// into the inputs and resets the variables.
    pub fn start(&self, run: &mut Run<'_>, first: usize) {
        self.plan.reset_variables(&mut run.scratch[self.start..]);
        for (index, input) in self.plan.inputs.iter().enumerate() {
            let operand = run.inputs.get(first + index).copied().flatten();
            self.take(run, operand, input.index());
        }
    }

    /// Copies the results at `which` into the inputs of the same number.
    pub fn take_results(&self, run: &mut Run<'_>, which: &[usize]) {
        for &index in which {
            let result = run.outputs[index];
            self.take(run, Some(result), self.plan.inputs[index].index());
        }
    }

    fn take(&self, run: &mut Run<'_>, from: Option<usize>, input: usize) {
        let Place::Arena(to) = &self.plan.places[input] else {
            return;
        };
        let to = self.start + to.start..self.start + to.end;
        let from = match from.and_then(|from| run.places.get(from)) {
            Some(Place::Arena(from)) => &run.arena[from.clone()],
            Some(Place::Constant(bytes)) => bytes,
            _ => return,
        };
        run.scratch[to].copy_from_slice(from);
    }

    /// Runs once on the operands from `first` on, for the operator's results.
    pub fn call(&self, run: &mut Run<'_>, first: usize) {
        self.start(run, first);
        if self.run(run) {
            self.give_results(run, 0..run.outputs.len());
        }
    }

    /// Copies the outputs at `which` into the operator's results.
    pub fn give_results(&self, run: &mut Run<'_>, which: impl IntoIterator<Item = usize>) {
        for index in which {
            if let Some(Place::Arena(to)) = run.places.get(run.outputs[index]) {
                let from = self.bytes(run.scratch, index);
                run.arena[to.clone()].copy_from_slice(from);
            }
        }
    }

    /// Whether the first output is true.
    pub fn is_true(&self, run: &Run<'_>) -> bool {
        self.bytes(run.scratch, 0).first().is_some_and(|&b| b != 0)
    }

    fn bytes<'b>(&'b self, scratch: &'b [u8], output: usize) -> &'b [u8] {
        match &self.plan.places[self.plan.outputs[output].index()] {
            Place::Arena(range) => &scratch[self.start + range.start..self.start + range.end],
            Place::Constant(bytes) => bytes,
            Place::Absent => &[],
        }
    }

    /// Runs the subgraph; `false` where the run ends early.
    pub fn run(&self, run: &mut Run<'_>) -> bool {
        if !run.shared.budget.spend() {
            return false;
        }
        let memory = &mut run.scratch[self.start..];
        let (arena, rest) = memory.split_at_mut(self.plan.arena_len);
        let mut shared = run.shared.reborrow();
        if let Some(observe) = &mut shared.observer {
            observe(&Event::Entered {
                plan: &self.plan,
                arena,
            });
        }
        let scratch = &mut rest[..self.plan.scratch_len];
        self.plan.execute(arena, scratch, &mut shared);
        !run.shared.budget.is_over()
    }

    /// The shapes of its results.
    pub fn shapes(plan: &Plan) -> Vec<Shape> {
        let shape = |&id| plan.value(id).shape.clone();
        plan.outputs.iter().map(shape).collect()
    }
}
