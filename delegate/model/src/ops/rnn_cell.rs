//! The cell that RNN, UNIDIRECTIONAL_SEQUENCE_RNN and BIDIRECTIONAL_SEQUENCE_RNN share:
//! `h = activation(W x + R h + b)`, in float and, with int8 weights, hybrid arithmetic.

use super::recurrent::{
    Dense, Place, Sequence, Stack, activate, add, check_activation, check_sizes, room, state, take,
    vector,
};
use super::{Activation, OpError, Signature};
use crate::cpu::{Kernel, Run};
use crate::tensor::DType;

/// The operands of a cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// `[units, depth]`; then come recurrent weights `[units, units]`, bias `[units]`, and the
    /// state, a variable `[batch, units]`.
    pub weights: usize,
    /// Weights of an auxiliary input.
    pub auxiliary: usize,
}

impl Layout {
    /// That of operators with one cell and no auxiliary input.
    pub const SINGLE: Self = Self {
        weights: 1,
        auxiliary: usize::MAX,
    };

    /// The units of the cell.
    pub fn units(self, io: &Signature) -> Result<usize, OpError> {
        let [units, _] = io.input(self.weights)?.shape_n()?;
        Ok(units)
    }
}

/// How all RNN operators compute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub activation: Activation,
    /// Hybrid products quantize activations asymmetrically.
    pub asymmetric: bool,
}

/// A cell with its weights packed, and the variable that holds its state.
pub(super) struct Cell {
    input: Dense,
    auxiliary: Option<Dense>,
    recurrent: Dense,
    activation: Activation,
    units: usize,
    state: usize,
}

impl Cell {
    /// The cell of `io` whose operands are at `layout`, on an input and an auxiliary input of the
    /// given depths, 0 for none.
    pub fn new(
        io: &Signature,
        layout: Layout,
        settings: Settings,
        sequence: &Sequence,
        (depth, auxiliary): (usize, usize),
    ) -> Result<Self, OpError> {
        check_activation(settings.activation)?;
        let units = layout.units(io)?;
        check_sizes(&[units, depth.max(units)])?;
        let bias = vector(io, layout.weights + 2, DType::F32, units)?;
        let pack = |index, depth, bias| {
            let stack = Stack {
                io,
                operands: &[index],
                units,
                depth,
                asymmetric: settings.asymmetric,
            };
            stack.pack(bias)
        };
        let auxiliary = match auxiliary {
            0 => None,
            depth => Some(pack(layout.auxiliary, depth, None)?),
        };
        let states = sequence.batch.saturating_mul(units);
        Ok(Self {
            input: pack(layout.weights, depth, Some(&bias))?,
            auxiliary,
            recurrent: pack(layout.weights + 1, units, None)?,
            activation: settings.activation,
            units,
            state: state(io, layout.weights + 3, DType::F32, states)?,
        })
    }

    /// Bytes of scratch that [`Self::run`] takes.
    pub fn scratch(&self, sequence: &Sequence) -> usize {
        let products = [
            Some(&self.input),
            self.auxiliary.as_ref(),
            Some(&self.recurrent),
        ];
        let inner = products.into_iter().flatten().map(Dense::scratch).max();
        let all = room::<f32>(sequence.rows().saturating_mul(self.units));
        let step = room::<f32>(sequence.batch.saturating_mul(self.units));
        [all, all, step, step, inner.unwrap_or(0)]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    /// Runs the cell on the operands `input` and `auxiliary` into the result `output`, and keeps
    /// its state.
    pub fn run(
        &self,
        run: &mut Run<'_>,
        sequence: Sequence,
        backward: bool,
        (input, auxiliary): (usize, Option<usize>),
        (output, place): (usize, Place),
    ) {
        let threads = run.threads;
        let (rows, units) = (sequence.rows(), self.units);
        let parts = run.parts::<f32>(self.state);
        let mut scratch = parts.scratch;
        take(&mut scratch, sequence.batch * units).copy_from_slice(parts.output);

        let parts = run.parts::<f32>(output);
        let mut scratch = parts.scratch;
        let state: &mut [f32] = take(&mut scratch, sequence.batch * units);
        let sums: &mut [f32] = take(&mut scratch, rows * units);
        let other: &mut [f32] = take(&mut scratch, rows * units);
        let product: &mut [f32] = take(&mut scratch, sequence.batch * units);
        self.input
            .run(rows, parts.inputs.get(input), sums, scratch, threads);
        if let (Some(dense), Some(index)) = (&self.auxiliary, auxiliary) {
            dense.run(rows, parts.inputs.get(index), other, scratch, threads);
            add(sums, other);
        }
        for step in sequence.steps(backward) {
            self.recurrent
                .run(sequence.batch, state, product, scratch, threads);
            let rows = state
                .chunks_exact_mut(units)
                .zip(product.chunks_exact(units));
            for (batch, (state, product)) in rows.enumerate() {
                let row = sequence.row(step, batch);
                state.copy_from_slice(&sums[row * units..][..units]);
                add(state, product);
                activate(self.activation, state);
                let start = row * place.stride + place.offset;
                parts.output[start..start + units].copy_from_slice(state);
            }
        }

        let parts = run.parts::<f32>(self.state);
        let mut scratch = parts.scratch;
        parts
            .output
            .copy_from_slice(take(&mut scratch, sequence.batch * units));
    }
}

/// The kernel of an operator with one cell.
pub(super) fn prepare_single(
    io: &Signature,
    settings: Settings,
    sequence: Sequence,
    depth: usize,
) -> Result<Kernel, OpError> {
    if io.common_dtype(0)? != DType::F32 {
        return Err(io.unsupported(0));
    }
    let cell = Cell::new(io, Layout::SINGLE, settings, &sequence, (depth, 0))?;
    let place = Place {
        stride: cell.units,
        offset: 0,
    };
    Ok(Kernel::with_scratch(cell.scratch(&sequence), move |run| {
        cell.run(run, sequence, false, (0, None), (0, place));
    }))
}

/// The version of an RNN operator with weights at operand 1.
pub(super) fn version(io: &Signature, asymmetric: bool) -> i32 {
    match io.input(1).map(|w| w.dtype) {
        Ok(DType::I8) if asymmetric => 3,
        Ok(DType::I8) => 2,
        _ => 1,
    }
}
