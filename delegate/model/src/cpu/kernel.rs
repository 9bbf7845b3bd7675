//! What an operator's `prepare` returns, and what it is given when it runs.

use std::fmt;
use std::ops::Range;
use std::time::Instant;

use bytemuck::{AnyBitPattern, NoUninit};

use super::custom::CustomError;
use super::plan::{Plan, Step};
use crate::tensor::Bytes;

/// A prepared operator: everything is resolved, running it allocates nothing and cannot fail.
pub struct Kernel {
    run: Box<dyn Fn(&mut Run<'_>) + Send + Sync>,
    scratch: usize,
    copied: Vec<usize>,
}

impl Kernel {
    /// A kernel that needs no memory but its operands and results.
    pub fn new(run: impl Fn(&mut Run<'_>) + Send + Sync + 'static) -> Self {
        Self::with_scratch(0, run)
    }

    /// A kernel that is given `scratch` bytes, aligned to 64, of unspecified content.
    pub fn with_scratch(
        scratch: usize,
        run: impl Fn(&mut Run<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            run: Box::new(run),
            scratch,
            copied: Vec::new(),
        }
    }

    /// The same kernel, which has copied what it needs of the constant operands `inputs` and does
    /// not read them when it runs.
    #[must_use]
    pub fn with_copies_of(mut self, inputs: impl Into<Vec<usize>>) -> Self {
        self.copied = inputs.into();
        self
    }

    /// Whether it reads the operand at `input` when it runs.
    pub(crate) fn reads(&self, input: usize) -> bool {
        !self.copied.contains(&input)
    }

    /// Bytes of scratch memory.
    pub fn scratch(&self) -> usize {
        self.scratch
    }

    pub(crate) fn run(&self, run: &mut Run<'_>) {
        (self.run)(run);
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel")
            .field("scratch", &self.scratch)
            .finish_non_exhaustive()
    }
}

/// Where a tensor's bytes are while the plan runs.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Nowhere: no operator that runs needs it.
    Absent,
    /// In the arena.
    Arena(Range<usize>),
    /// In the file, or computed when planned; aligned to 64 bytes or to its element.
    Constant(Bytes),
}

/// One operator's operands, results and scratch memory during one run.
pub struct Run<'a> {
    pub(crate) arena: &'a mut [u8],
    pub(crate) scratch: &'a mut [u8],
    pub(crate) places: &'a [Place],
    pub(crate) inputs: &'a [Option<usize>],
    pub(crate) outputs: &'a [usize],
    pub(crate) shared: Shared<'a>,
    /// The largest number of threads the kernel may use; it runs inside a pool of as many.
    pub threads: usize,
}

/// What all steps of a run share, those of bodies too.
pub(crate) struct Shared<'a> {
    /// The variables.
    pub state: &'a mut [u8],
    pub budget: &'a mut Budget,
    pub observer: Option<&'a mut Observer<'a>>,
}

/// Is told what happens in a run.
pub(crate) type Observer<'a> = dyn FnMut(&Event<'_>) + Send + 'a;

/// What happens in a run.
pub(crate) enum Event<'a> {
    /// A body has its inputs and is about to run.
    Entered { plan: &'a Plan, arena: &'a [u8] },
    /// A step has run.
    Ran {
        plan: &'a Plan,
        step: &'a Step,
        arena: &'a [u8],
        start: Instant,
    },
}

/// How often a run may still run a subgraph, and what ended it.
#[derive(Debug)]
pub(crate) struct Budget {
    calls: u64,
    end: Option<End>,
}

/// Why a run ends early.
#[derive(Debug)]
pub(crate) enum End {
    /// It has no calls left.
    Exhausted,
    /// A kernel from outside failed; the subgraph and the operator are known once its step ends.
    Failed(Option<(usize, usize)>, CustomError),
}

impl Budget {
    pub fn new(calls: u64) -> Self {
        Self { calls, end: None }
    }

    /// Takes one call; `false` if there is none.
    pub fn spend(&mut self) -> bool {
        match self.calls.checked_sub(1) {
            Some(calls) => self.calls = calls,
            None => self.end = Some(End::Exhausted),
        }
        !self.is_over()
    }

    /// Whether the run ends early.
    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Why.
    pub fn into_end(self) -> Option<End> {
        self.end
    }

    /// Says where the failure was, if that is not known yet.
    pub fn locate(&mut self, subgraph: usize, node: usize) {
        if let Some(End::Failed(place, _)) = &mut self.end {
            place.get_or_insert((subgraph, node));
        }
    }
}

impl Shared<'_> {
    pub fn reborrow(&mut self) -> Shared<'_> {
        Shared {
            state: self.state,
            budget: self.budget,
            observer: match &mut self.observer {
                Some(observer) => Some(&mut **observer),
                None => None,
            },
        }
    }
}

/// One result to write, with all operands to read.
pub struct Parts<'a, T> {
    /// The operands.
    pub inputs: Inputs<'a>,
    /// The result's elements.
    pub output: &'a mut [T],
    /// As many bytes as the kernel asked for.
    pub scratch: &'a mut [u8],
}

/// The operands of a running operator.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    before: &'a [u8],
    after: &'a [u8],
    after_start: usize,
    places: &'a [Place],
    inputs: &'a [Option<usize>],
}

impl Run<'_> {
    /// The elements of result `output`, and all operands but that one. A kernel with several
    /// results asks for one after the other; scratch keeps its content in between. Variables and
    /// intermediates follow the results, see [`Signature`](crate::ops::Signature::variable).
    pub fn parts<T: AnyBitPattern + NoUninit>(&mut self, output: usize) -> Parts<'_, T> {
        let range = match self.outputs.get(output).and_then(|&i| self.places.get(i)) {
            Some(Place::Arena(range)) => range.clone(),
            _ => 0..0,
        };
        let (before, rest) = self.arena.split_at_mut(range.start);
        let (output, after) = rest.split_at_mut(range.len());
        Parts {
            inputs: Inputs {
                before,
                after,
                after_start: range.end,
                places: self.places,
                inputs: self.inputs,
            },
            output: bytemuck::cast_slice_mut(output),
            scratch: self.scratch,
        }
    }
}

/// What kernels from outside use.
impl Run<'_> {
    /// Calls `kernel` with all operands and all results.
    pub(crate) fn all<R>(&mut self, kernel: impl FnOnce(&[&[u8]], &mut [&mut [u8]]) -> R) -> R {
        let mut results: Vec<(Range<usize>, usize)> = Vec::with_capacity(self.outputs.len());
        for (slot, &output) in self.outputs.iter().enumerate() {
            if let Some(Place::Arena(range)) = self.places.get(output) {
                results.push((range.clone(), slot));
            }
        }
        results.sort_unstable_by_key(|(range, _)| (range.start, range.end));
        let mut outputs: Vec<&mut [u8]> = self.outputs.iter().map(|_| &mut [][..]).collect();
        let mut between: Vec<(usize, &[u8])> = Vec::with_capacity(results.len() + 1);
        let (mut start, mut rest) = (0, &mut *self.arena);
        for (range, slot) in results {
            let (before, at) = rest.split_at_mut(range.start - start);
            let (output, after) = at.split_at_mut(range.len());
            between.push((start, before));
            outputs[slot] = output;
            (start, rest) = (range.end, after);
        }
        between.push((start, rest));
        let operand = |input: &Option<usize>| match input.and_then(|i| self.places.get(i)) {
            Some(Place::Arena(range)) => {
                let at = between.partition_point(|(start, _)| *start <= range.start);
                let (start, bytes) = between[at.saturating_sub(1)];
                let end = range.end.saturating_sub(start);
                bytes.get(range.start - start..end).unwrap_or(&[])
            }
            Some(Place::Constant(bytes)) => bytes,
            Some(Place::Absent) | None => &[],
        };
        let inputs: Vec<&[u8]> = self.inputs.iter().map(operand).collect();
        kernel(&inputs, &mut outputs)
    }

    /// Ends the run.
    pub(crate) fn fail(&mut self, error: CustomError) {
        self.shared
            .budget
            .end
            .get_or_insert(End::Failed(None, error));
    }
}

/// What operators use that run subgraphs or keep a state.
impl Run<'_> {
    /// Whether the operand `index`, a boolean, is true.
    pub(crate) fn flag(&mut self, index: usize) -> bool {
        let inputs = self.parts::<u8>(usize::MAX).inputs;
        inputs.bytes(index).first().is_some_and(|&b| b != 0)
    }

    /// Copies each operand into the result of the same number.
    pub(crate) fn copy_operands(&mut self) {
        for index in 0..self.outputs.len() {
            let parts = self.parts::<u8>(index);
            // A result whose value is known has no memory here.
            if !parts.output.is_empty() {
                parts.output.copy_from_slice(parts.inputs.bytes(index));
            }
        }
    }

    /// The bytes in `range` of what outlives the run.
    pub(crate) fn state(&mut self, range: &Range<usize>) -> &mut [u8] {
        &mut self.shared.state[range.clone()]
    }

    /// Copies bytes that outlive the run into the result.
    pub(crate) fn read_state(&mut self, range: &Range<usize>) {
        if let Some(Place::Arena(to)) = self.outputs.first().map(|&i| &self.places[i]) {
            self.arena[to.clone()].copy_from_slice(&self.shared.state[range.clone()]);
        }
    }

    /// Copies operand `index` where it outlives the run.
    pub(crate) fn write_state(&mut self, range: &Range<usize>, index: usize) {
        let from = match self.inputs.get(index).copied().flatten() {
            Some(operand) => &self.places[operand],
            None => &Place::Absent,
        };
        self.shared.state[range.clone()].copy_from_slice(match from {
            Place::Arena(from) => &self.arena[from.clone()],
            Place::Constant(bytes) => bytes,
            Place::Absent => &[],
        });
    }
}

impl<'a> Inputs<'a> {
    /// The bytes of operand `index`; empty where it is not given.
    pub fn bytes(&self, index: usize) -> &'a [u8] {
        let place = self
            .inputs
            .get(index)
            .copied()
            .flatten()
            .and_then(|i| self.places.get(i));
        match place {
            Some(Place::Arena(range)) if range.end <= self.before.len() => {
                &self.before[range.clone()]
            }
            Some(Place::Arena(range)) if range.start >= self.after_start => {
                &self.after[range.start - self.after_start..range.end - self.after_start]
            }
            Some(Place::Constant(bytes)) => bytes,
            _ => &[],
        }
    }

    /// The elements of operand `index`; empty where it is not given.
    pub fn get<T: AnyBitPattern>(&self, index: usize) -> &'a [T] {
        match self.bytes(index) {
            [] => &[],
            bytes => bytemuck::cast_slice(bytes),
        }
    }

    /// The number of operands, absent ones included.
    pub fn count(&self) -> usize {
        self.inputs.len()
    }
}
