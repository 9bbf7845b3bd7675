//! The LSTM cell that LSTM, UNIDIRECTIONAL_SEQUENCE_LSTM and BIDIRECTIONAL_SEQUENCE_LSTM share,
//! in float and, with int8 weights, hybrid arithmetic:
//!
//! ```text
//! i = sigmoid(Wi x + Ri h + Pi * c + bi)     without Wi (CIFG): i = 1 - f
//! f = sigmoid(Wf x + Rf h + Pf * c + bf)
//! g = activation(Wg x + Rg h + bg)
//! c = clip(f * c + i * g)
//! o = sigmoid(Wo x + Ro h + Po * c + bo)
//! h = o * activation(c)                      with a projection: clip(W h + b)
//! ```
//!
//! With layer normalization, what is inside an activation is `L * normal(sum) + b` instead, the
//! sum without bias brought to mean 0 and variance 1.

use super::recurrent::{
    Dense, Place, Sequence, Stack, activate, add, check_activation, check_sizes, constant, room,
    sigmoid, state, take, vector,
};
use super::{Activation, Intermediate, OpError, QuantRule, Role, Signature};
use crate::cpu::{Kernel, Run};
use crate::tensor::{DType, Shape};

/// Those of LiteRT, and the cell state; see [`Anatomy::intermediate_shapes`].
const INTERMEDIATES: usize = 6;

/// LiteRT's guard against a variance of 0.
const NORMALIZATION_GUARD: f32 = 1e-8;

/// What the options of all LSTM operators hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Settings {
    pub activation: Activation,
    /// The cell state is clipped to it, if above 0.
    pub cell_clip: f32,
    /// What a projection gives is clipped to it, if above 0.
    pub projection_clip: f32,
    /// Hybrid products quantize activations asymmetrically.
    pub asymmetric: bool,
}

/// At which operands a cell's tensors begin; each kind has one for each gate, in the order input,
/// forget, cell, output (peepholes: no cell).
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub input: usize,
    pub recurrent: usize,
    pub peephole: usize,
    pub bias: usize,
    /// Projection weights, then bias.
    pub projection: usize,
    /// The output state.
    pub state: usize,
    pub cell: usize,
    pub norm: Option<usize>,
    /// Weights of an auxiliary input.
    pub auxiliary: Option<usize>,
}

impl Layout {
    /// That of LSTM and UNIDIRECTIONAL_SEQUENCE_LSTM.
    pub const UNIDIRECTIONAL: Self = Self {
        input: 1,
        recurrent: 5,
        peephole: 9,
        bias: 12,
        projection: 16,
        state: 18,
        cell: 19,
        norm: Some(20),
        auxiliary: None,
    };
}

/// Which parts a cell has, and its sizes.
#[derive(Debug, Clone)]
pub(super) struct Anatomy {
    pub layout: Layout,
    /// Gates by their number: 0 to 3, or 1 to 3 without an input gate.
    pub gates: std::ops::Range<usize>,
    pub inputs: usize,
    pub cells: usize,
    pub outputs: usize,
    pub has_peephole: bool,
    pub has_norm: bool,
    pub has_projection: bool,
    /// Recurrent weights are vectors: diagonals.
    pub is_diagonal: bool,
}

impl Anatomy {
    /// Reads off the operands of `io` which parts there are; `inputs` is the input's depth.
    pub fn of(io: &Signature, layout: Layout, inputs: usize) -> Result<Self, OpError> {
        let given = |index| io.optional_input(index).is_some();
        let [cells, _] = io.input(layout.input + 3)?.shape_n()?;
        let recurrent = io.input(layout.recurrent + 3)?;
        let is_diagonal = recurrent.shape.len() == 1;
        let outputs = if is_diagonal {
            cells
        } else {
            recurrent.shape_n::<2>()?[1]
        };
        let anatomy = Self {
            layout,
            gates: usize::from(!given(layout.input))..4,
            inputs,
            cells,
            outputs,
            has_peephole: given(layout.peephole + 2),
            has_norm: layout.norm.is_some_and(|norm| given(norm + 1)),
            has_projection: given(layout.projection),
            is_diagonal,
        };
        check_sizes(&[cells, outputs, inputs])?;
        if !anatomy.has_projection && cells != outputs {
            return Err(OpError::Shape(format!(
                "{cells} cells, {outputs} outputs and no projection"
            )));
        }
        Ok(anatomy)
    }

    /// The operands of `kind`, one for each gate.
    pub fn operands(&self, kind: usize) -> Vec<usize> {
        self.gates.clone().map(|gate| kind + gate).collect()
    }

    /// The shapes of the intermediates that calibration needs, for `rows` steps: the gates' sums
    /// before normalization, the cell's output before projection, and, beyond those that LiteRT
    /// has, the cell state.
    pub fn intermediate_shapes(&self, rows: usize) -> Vec<Shape> {
        let shape = |there| vec![if there { rows } else { 0 }, self.cells];
        let mut shapes: Vec<Shape> = (0..4)
            .map(|gate| shape(self.has_norm && self.gates.contains(&gate)))
            .collect();
        shapes.extend([shape(true), shape(true)]);
        shapes
    }
}

/// A cell with its weights packed; its gates' units are stacked.
pub(super) struct FloatCell {
    anatomy: Anatomy,
    settings: Settings,
    input: Dense,
    auxiliary: Option<Dense>,
    recurrent: Recurrent,
    /// Of the gates input, forget, output.
    peephole: Option<[Vec<f32>; 3]>,
    norm: Option<Norm>,
    projection: Option<Dense>,
}

enum Recurrent {
    Full(Dense),
    Diagonal(Vec<f32>),
}

/// Both with an element for each unit of each gate.
struct Norm {
    coefficients: Vec<f32>,
    bias: Vec<f32>,
}

/// What [`FloatCell::run`] reads and writes.
pub(super) struct Data<'a> {
    pub sequence: Sequence,
    pub backward: bool,
    pub input: &'a [f32],
    /// Empty without one.
    pub auxiliary: &'a [f32],
    pub state: &'a mut [f32],
    pub cell: &'a mut [f32],
    pub output: &'a mut [f32],
    pub place: Place,
    /// The observed intermediates one after the other, each rows times cells; or empty.
    pub observed: &'a mut [f32],
    pub threads: usize,
}

impl FloatCell {
    pub fn new(
        io: &Signature,
        anatomy: Anatomy,
        settings: Settings,
        auxiliary_depth: usize,
    ) -> Result<Self, OpError> {
        check_activation(settings.activation)?;
        let layout = anatomy.layout;
        let (cells, gates) = (anatomy.cells, anatomy.gates.clone());
        check_sizes(&[gates.len(), cells, anatomy.inputs.max(anatomy.outputs)])?;
        let stacked = |first: usize| -> Result<Vec<f32>, OpError> {
            let parts = gates
                .clone()
                .map(|gate| vector(io, first + gate, DType::F32, cells));
            Ok(parts.collect::<Result<Vec<Vec<f32>>, _>>()?.concat())
        };
        let pack = |first: usize, depth, bias| {
            let stack = Stack {
                io,
                operands: &anatomy.operands(first),
                units: cells,
                depth,
                asymmetric: settings.asymmetric,
            };
            stack.pack(bias)
        };
        let bias = stacked(layout.bias)?;
        let norm = match layout.norm {
            Some(first) if anatomy.has_norm => Some(Norm {
                coefficients: stacked(first)?,
                bias: bias.clone(),
            }),
            _ => None,
        };
        let inner_bias = norm.is_none().then_some(&*bias);
        let recurrent = if anatomy.is_diagonal {
            Recurrent::Diagonal(stacked(layout.recurrent)?)
        } else {
            Recurrent::Full(pack(layout.recurrent, anatomy.outputs, None)?)
        };
        let auxiliary = match layout.auxiliary {
            Some(first) if auxiliary_depth > 0 => Some(pack(first, auxiliary_depth, None)?),
            _ => None,
        };
        let mut peephole = None;
        if anatomy.has_peephole {
            let weights = |index: usize| match gates.contains(&index) || index > 0 {
                true => peephole_weights(io, layout.peephole + index, cells),
                false => Ok(Vec::new()),
            };
            peephole = Some([weights(0)?, weights(1)?, weights(2)?]);
        }
        let mut projection = None;
        if anatomy.has_projection {
            let bias: Option<Vec<f32>> = match io.optional_input(layout.projection + 1) {
                Some(_) => Some(vector(
                    io,
                    layout.projection + 1,
                    DType::F32,
                    anatomy.outputs,
                )?),
                None => None,
            };
            let stack = Stack {
                io,
                operands: &[layout.projection],
                units: anatomy.outputs,
                depth: cells,
                asymmetric: settings.asymmetric,
            };
            projection = Some(stack.pack(bias.as_deref())?);
        }
        Ok(Self {
            input: pack(layout.input, anatomy.inputs, inner_bias)?,
            auxiliary,
            recurrent,
            peephole,
            norm,
            projection,
            settings,
            anatomy,
        })
    }

    /// Units of all gates.
    fn units(&self) -> usize {
        self.anatomy.gates.len() * self.anatomy.cells
    }

    /// Bytes of scratch that [`Self::run`] takes.
    pub fn scratch(&self, sequence: &Sequence) -> usize {
        let products = [
            Some(&self.input),
            self.auxiliary.as_ref(),
            match &self.recurrent {
                Recurrent::Full(dense) => Some(dense),
                Recurrent::Diagonal(_) => None,
            },
            self.projection.as_ref(),
        ];
        let inner = products.into_iter().flatten().map(Dense::scratch).max();
        room::<f32>(sequence.rows().saturating_mul(self.units()))
            .saturating_add(self.step_len(sequence).saturating_mul(4))
            .saturating_add(room::<f32>(
                sequence.batch.saturating_mul(self.anatomy.cells),
            ))
            .saturating_add(inner.unwrap_or(0))
            .saturating_add(256)
    }

    /// Elements of a buffer for one step's recurrent product, or for all steps' auxiliary one.
    fn step_len(&self, sequence: &Sequence) -> usize {
        let rows = match self.auxiliary {
            Some(_) => sequence.rows(),
            None => sequence.batch,
        };
        rows.saturating_mul(self.units())
    }

    /// Runs the cell over all steps.
    pub fn run(&self, data: Data<'_>, mut scratch: &mut [u8]) {
        let Data {
            sequence,
            state,
            cell,
            threads,
            ..
        } = data;
        let (rows, units, cells) = (sequence.rows(), self.units(), self.anatomy.cells);
        let sums: &mut [f32] = take(&mut scratch, rows * units);
        let product: &mut [f32] = take(&mut scratch, self.step_len(&sequence));
        let hidden: &mut [f32] = take(&mut scratch, sequence.batch * cells);
        self.input.run(rows, data.input, sums, scratch, threads);
        if let Some(auxiliary) = &self.auxiliary {
            auxiliary.run(rows, data.auxiliary, product, scratch, threads);
            add(sums, product);
        }
        for step in sequence.steps(data.backward) {
            let product = &mut product[..sequence.batch * units];
            match &self.recurrent {
                Recurrent::Full(dense) => {
                    dense.run(sequence.batch, state, product, scratch, threads);
                }
                Recurrent::Diagonal(weights) => {
                    let states = state.chunks_exact(cells);
                    for (product, state) in product.chunks_exact_mut(units).zip(states) {
                        for (product, weights) in product
                            .chunks_exact_mut(cells)
                            .zip(weights.chunks_exact(cells))
                        {
                            let pairs = weights.iter().zip(state);
                            product
                                .iter_mut()
                                .zip(pairs)
                                .for_each(|(p, (w, s))| *p = w * s);
                        }
                    }
                }
            }
            for batch in 0..sequence.batch {
                let row = sequence.row(step, batch);
                let sums = &mut sums[row * units..][..units];
                add(sums, &product[batch * units..][..units]);
                let cell = &mut cell[batch * cells..][..cells];
                let hidden = &mut hidden[batch * cells..][..cells];
                let mut observe = |number: usize, values: &[f32]| {
                    let start = (number * rows + row) * cells;
                    if let Some(place) = data.observed.get_mut(start..start + cells) {
                        place.copy_from_slice(values);
                    }
                };
                self.update(sums, cell, hidden, &mut observe);
                observe(4, hidden);
                observe(5, cell);
            }
            self.project(sequence.batch, hidden, state, scratch, threads);
            for (batch, state) in state.chunks_exact(self.anatomy.outputs).enumerate() {
                let start = sequence.row(step, batch) * data.place.stride + data.place.offset;
                data.output[start..start + state.len()].copy_from_slice(state);
            }
        }
    }

    /// One step of one row: from the gates' sums to the new cell state and what it gives.
    fn update(
        &self,
        sums: &mut [f32],
        cell: &mut [f32],
        hidden: &mut [f32],
        observe: &mut impl FnMut(usize, &[f32]),
    ) {
        let cells = self.anatomy.cells;
        let first = self.anatomy.gates.start;
        let mut gates: [&mut [f32]; 4] = Default::default();
        for (gate, sums) in gates[first..].iter_mut().zip(sums.chunks_exact_mut(cells)) {
            *gate = sums;
        }
        let mut finish =
            |number: usize, sums: &mut [f32], peephole: Option<&[f32]>, cell: &[f32]| {
                if let Some(weights) = peephole {
                    let terms = weights.iter().zip(cell);
                    sums.iter_mut()
                        .zip(terms)
                        .for_each(|(sum, (w, c))| *sum += w * c);
                }
                if let Some(norm) = &self.norm {
                    observe(number, sums);
                    norm.apply((number - first) * cells, sums);
                }
                if number == 2 {
                    activate(self.settings.activation, sums);
                } else {
                    sums.iter_mut().for_each(|x| *x = sigmoid(*x));
                }
            };
        let peephole = |gate: usize| self.peephole.as_ref().map(|p| &*p[gate]);
        let [input, forget, candidate, output] = gates;
        if first == 0 {
            finish(0, input, peephole(0), cell);
        }
        finish(1, forget, peephole(1), cell);
        finish(2, candidate, None, cell);
        cell.iter_mut().zip(&*forget).for_each(|(c, &f)| *c *= f);
        if first == 1 {
            forget.iter_mut().for_each(|f| *f = 1.0 - *f);
        }
        let entering = if first == 1 { forget } else { input };
        for ((c, &i), &g) in cell.iter_mut().zip(&*entering).zip(&*candidate) {
            *c += i * g;
        }
        clip(self.settings.cell_clip, cell);
        finish(3, output, peephole(2), cell);
        hidden.copy_from_slice(cell);
        activate(self.settings.activation, hidden);
        hidden.iter_mut().zip(&*output).for_each(|(h, &o)| *h *= o);
    }

    fn project(
        &self,
        batch: usize,
        hidden: &[f32],
        state: &mut [f32],
        scratch: &mut [u8],
        threads: usize,
    ) {
        match &self.projection {
            Some(projection) => {
                projection.run(batch, hidden, state, scratch, threads);
                clip(self.settings.projection_clip, state);
            }
            None => state.copy_from_slice(hidden),
        }
    }
}

/// Peephole weights: float, or int8 of hybrid cells, which compute with their real values.
fn peephole_weights(io: &Signature, index: usize, cells: usize) -> Result<Vec<f32>, OpError> {
    if io.input(index)?.dtype != DType::I8 {
        return vector(io, index, DType::F32, cells);
    }
    let value = constant(io, index, DType::I8, &[cells])?;
    let scale = value.quantization()?.symmetric_scales(1)?[0];
    let weights = value.constant::<i8>()?;
    Ok(weights.into_iter().map(|w| f32::from(w) * scale).collect())
}

impl Norm {
    /// Normalizes the sums of one gate, whose parameters begin at `first`.
    fn apply(&self, first: usize, sums: &mut [f32]) {
        let count = sums.len() as f32;
        let mean = sums.iter().sum::<f32>() / count;
        let squares = sums.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>();
        let inverse = 1.0 / (squares / count + NORMALIZATION_GUARD).sqrt();
        let parameters = self.coefficients[first..].iter().zip(&self.bias[first..]);
        for (sum, (&coefficient, &bias)) in sums.iter_mut().zip(parameters) {
            *sum = (*sum - mean) * inverse * coefficient + bias;
        }
    }
}

fn clip(limit: f32, values: &mut [f32]) {
    if limit > 0.0 {
        values.iter_mut().for_each(|x| *x = x.clamp(-limit, limit));
    }
}

/// One cell of an operator in float, and the variables that hold its state.
pub(super) struct FloatPart {
    cell: FloatCell,
    state: usize,
    memory: usize,
    /// The place of the first intermediate, where they are observed.
    observed: Option<usize>,
}

impl FloatPart {
    pub fn new(
        io: &Signature,
        anatomy: Anatomy,
        settings: Settings,
        sequence: &Sequence,
        auxiliary_depth: usize,
    ) -> Result<Self, OpError> {
        let Layout {
            state: s, cell: c, ..
        } = anatomy.layout;
        let len = |depth: usize| sequence.batch.saturating_mul(depth);
        let observed = io.intermediates.get(4).is_some_and(|v| !v.is_empty());
        Ok(Self {
            state: state(io, s, DType::F32, len(anatomy.outputs))?,
            memory: state(io, c, DType::F32, len(anatomy.cells))?,
            observed: observed.then(|| io.observed(0)),
            cell: FloatCell::new(io, anatomy, settings, auxiliary_depth)?,
        })
    }

    fn lens(&self, sequence: &Sequence) -> [usize; 3] {
        let Anatomy { cells, outputs, .. } = self.cell.anatomy;
        let observed = match self.observed {
            Some(_) => sequence
                .rows()
                .saturating_mul(cells)
                .saturating_mul(INTERMEDIATES),
            None => 0,
        };
        [
            sequence.batch.saturating_mul(outputs),
            sequence.batch.saturating_mul(cells),
            observed,
        ]
    }

    fn split<'a>(
        &self,
        lens: &[usize; 3],
        mut scratch: &'a mut [u8],
    ) -> ([&'a mut [f32]; 3], &'a mut [u8]) {
        let buffers = lens.map(|len| take(&mut scratch, len));
        (buffers, scratch)
    }

    /// Bytes of scratch that [`Self::run`] takes.
    pub fn scratch(&self, sequence: &Sequence) -> usize {
        let buffers = self.lens(sequence).map(room::<f32>);
        let buffers = buffers.into_iter().fold(0, usize::saturating_add);
        buffers.saturating_add(self.cell.scratch(sequence))
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
        let lens = self.lens(&sequence);
        for (index, variable) in [self.state, self.memory].into_iter().enumerate() {
            let parts = run.parts::<f32>(variable);
            self.split(&lens, parts.scratch).0[index].copy_from_slice(parts.output);
        }
        let parts = run.parts::<f32>(output);
        let ([state, cell, observed], scratch) = self.split(&lens, parts.scratch);
        let data = Data {
            sequence,
            backward,
            input: parts.inputs.get(input),
            auxiliary: auxiliary.map_or(&[], |index| parts.inputs.get(index)),
            state,
            cell,
            output: parts.output,
            place,
            observed,
            threads,
        };
        self.cell.run(data, scratch);
        for (index, variable) in [self.state, self.memory].into_iter().enumerate() {
            let parts = run.parts::<f32>(variable);
            parts
                .output
                .copy_from_slice(self.split(&lens, parts.scratch).0[index]);
        }
        let Some(first) = self.observed else { return };
        for number in 0..INTERMEDIATES {
            let parts = run.parts::<f32>(first + number);
            let len = parts.output.len();
            let observed = &*self.split(&lens, parts.scratch).0[2];
            parts
                .output
                .copy_from_slice(&observed[number * lens[2] / INTERMEDIATES..][..len]);
        }
    }
}

/// How an operator with one cell becomes integer.
pub(super) fn quant_rule(activation: Activation) -> Option<QuantRule> {
    let layout = Layout::UNIDIRECTIONAL;
    let wide = Role::WideWeights { largest: 32767 };
    let norm = layout.norm?;
    let mut roles = vec![Role::Activation];
    roles.resize(layout.peephole, Role::Weights { axis: None });
    roles.resize(layout.bias, wide);
    roles.extend((0..4).map(|gate| Role::NormBias {
        input: 0,
        weights: layout.input + gate,
        norm: norm + gate,
    }));
    roles.extend([
        Role::Weights { axis: None },
        Role::HiddenBias {
            intermediate: 4,
            weights: layout.projection,
        },
        Role::State { output: 0 },
        Role::CellState { intermediate: 5 },
        wide,
    ]);
    (activation == Activation::Tanh).then(|| QuantRule::calibrated(roles))?
}

/// LiteRT's integer kernel misplaces peephole weights where there is a projection: see
/// `lstm_integer.rs`.
pub(super) fn quant_obstacle(given: &dyn Fn(usize) -> bool) -> Option<&'static str> {
    let layout = Layout::UNIDIRECTIONAL;
    (given(layout.peephole + 2) && given(layout.projection))
        .then_some("LiteRT's integer kernel is wrong for peepholes with a projection")
}

/// The intermediates of an integer operator with one cell.
pub(super) fn quant_intermediates() -> Vec<Intermediate> {
    let layout = Layout::UNIDIRECTIONAL;
    // LiteRT wants the parameters of all gates, of one that is not there too.
    let gates = layout
        .norm
        .map(|norm| Intermediate::Wide { norm: norm + 1 });
    let hidden = Intermediate::Hidden {
        projection: layout.projection,
        output: 0,
    };
    gates.into_iter().cycle().take(4).chain([hidden]).collect()
}

/// The kernel of an operator with one cell, in float.
pub(super) fn prepare_float(
    io: &Signature,
    anatomy: Anatomy,
    settings: Settings,
    sequence: Sequence,
) -> Result<Kernel, OpError> {
    let place = Place {
        stride: anatomy.outputs,
        offset: 0,
    };
    let part = FloatPart::new(io, anatomy, settings, &sequence, 0)?;
    let scratch = part.scratch(&sequence);
    Ok(Kernel::with_scratch(scratch, move |run| {
        part.run(run, sequence, false, (0, None), (0, place));
    }))
}
