//! What an operator's `prepare` returns, and what it is given when it runs.

use std::fmt;
use std::ops::Range;

use bytemuck::{AnyBitPattern, NoUninit};

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
    /// The largest number of threads the kernel may use; it runs inside a pool of as many.
    pub threads: usize,
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
