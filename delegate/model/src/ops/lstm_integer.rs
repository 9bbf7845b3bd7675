//! The LSTM cell of LSTM and UNIDIRECTIONAL_SEQUENCE_LSTM in integers, bit for bit as LiteRT's
//! 8x8_16 kernel, which is the same in all its kernel sets.
//!
//! Activations and weights are int8, the gates int16 in Q3.12 before and Q0.15 after their
//! activation, the cell state int16 with a scale that is a power of two. The quantization of the
//! intermediates gives the scales of the gates' sums before layer normalization (0 to 3) and of
//! the cell's output before projection (4).

use std::ops::Range;

use bantam_kernels::requantize::{Multiplier, rounding_divide_by_pot};

use super::fixed_point::inverse_sqrt;
use super::fixed_point_16::{Logistic, MOST_INTEGER_BITS, Tanh, ratio, saturate};
use super::lstm_cell::{Anatomy, Settings};
use super::pointwise::parameters;
use super::recurrent::{Sequence, constant, dot, room, state, take, vector};
use super::{Activation, OpError, Signature};
use crate::cpu::Kernel;
use crate::quant::PerTensor;
use crate::tensor::DType;

/// The scale of Q3.12.
const GATE_SCALE: f32 = 1.0 / 4096.0;

struct IntegerCell {
    inputs: usize,
    cells: usize,
    outputs: usize,
    /// By number: input, forget, cell, output.
    gates: [Option<Gate>; 4],
    /// `log2` of the scale of the cell state.
    cell_exponent: i32,
    /// 0 for none.
    cell_clip: i16,
    hidden: Multiplier,
    hidden_zero_point: i32,
    state_zero_point: i32,
    projection: Option<Product>,
    projection_clip: i8,
    logistic: Logistic,
    candidate_tanh: Tanh,
    cell_tanh: Tanh,
}

/// Int8 weights with all that makes int16 or int8 out of their sums.
struct Product {
    /// As int16, for the multiply-add that instruction sets have for it.
    weights: Vec<i16>,
    depth: usize,
    /// The zero point of what is multiplied is folded in.
    bias: Vec<i32>,
    multiplier: Multiplier,
}

struct Gate {
    input: Product,
    recurrent: Product,
    peephole: Option<(Vec<i16>, Multiplier)>,
    norm: Option<Norm>,
}

struct Norm {
    coefficients: Vec<i16>,
    bias: Vec<i32>,
    multiplier: Multiplier,
    /// In place of a variance below 1.
    guard: i32,
}

impl Product {
    /// The operand `weights` of `rows` rows of `depth`; `zero_point` is that of what it multiplies.
    fn new(
        io: &Signature,
        weights: usize,
        (rows, depth): (usize, usize),
        bias: Option<Vec<i32>>,
        zero_point: i32,
        multiplier: Multiplier,
    ) -> Result<Self, OpError> {
        let weights: Vec<i8> = constant(io, weights, DType::I8, &[rows, depth])?.constant()?;
        let weights: Vec<i16> = weights.into_iter().map(i16::from).collect();
        let mut bias = bias.unwrap_or_else(|| vec![0; rows]);
        for (bias, row) in bias.iter_mut().zip(weights.chunks_exact(depth)) {
            let sum = row.iter().fold(0i32, |sum, &w| sum.wrapping_add(w.into()));
            *bias = bias.wrapping_sub(sum.wrapping_mul(zero_point));
        }
        Ok(Self {
            weights,
            depth,
            bias,
            multiplier,
        })
    }

    /// The scaled sum of each row.
    fn rows<'a>(&'a self, input: &'a [i16]) -> impl Iterator<Item = i32> + 'a {
        let rows = self.weights.chunks_exact(self.depth).zip(&self.bias);
        rows.map(|(row, &bias)| self.multiplier.apply(bias.wrapping_add(dot(row, input))))
    }
}

/// Scales, checked.
struct Scales<'a> {
    io: &'a Signature,
    input: PerTensor,
    state: PerTensor,
    /// Of the sums of gates.
    gates: [f32; 4],
    hidden: PerTensor,
    cell_exponent: i32,
}

impl<'a> Scales<'a> {
    fn new(io: &'a Signature, anatomy: &Anatomy) -> Result<Self, OpError> {
        let mut gates = [GATE_SCALE; 4];
        if anatomy.has_norm {
            for gate in anatomy.gates.clone() {
                gates[gate] = io.intermediate(gate)?.per_tensor()?.scale;
            }
        }
        let cell = io.input(anatomy.layout.cell)?.per_tensor()?.scale;
        // Exact for powers of two, and what comes back is compared.
        let exponent = cell.log2().round();
        let integer_bits = 15.0 + exponent;
        if cell != exponent.exp2() || !(0.0..=MOST_INTEGER_BITS as f32).contains(&integer_bits) {
            return Err(OpError::Quantization(format!(
                "scale {cell} of the cell state is not a power of two from 2^-15 to 2^-9"
            )));
        }
        Ok(Self {
            io,
            input: parameters(io.input(0)?)?,
            state: parameters(io.input(anatomy.layout.state)?)?,
            gates,
            hidden: parameters(io.intermediate(4)?)?,
            cell_exponent: exponent as i32,
        })
    }

    /// The scale of the symmetric weights at `index`.
    fn weights(&self, index: usize) -> Result<f32, OpError> {
        let quantization = self.io.input(index)?.quantization()?;
        Ok(quantization.symmetric_scales(1)?[0])
    }
}

impl IntegerCell {
    fn new(io: &Signature, anatomy: &Anatomy, settings: &Settings) -> Result<Self, OpError> {
        if settings.activation != Activation::Tanh {
            return Err(OpError::Attribute(format!(
                "activation {:?} where the integer cell has tanh",
                settings.activation
            )));
        }
        if anatomy.is_diagonal {
            return Err(OpError::Shape(
                "no integer kernel for diagonal recurrent weights".into(),
            ));
        }
        if anatomy.has_peephole && anatomy.outputs > anatomy.cells {
            return Err(OpError::Shape(format!(
                "{} outputs for {} cells with peepholes",
                anatomy.outputs, anatomy.cells
            )));
        }
        let scales = Scales::new(io, anatomy)?;
        let mut gates = [const { None }; 4];
        for gate in anatomy.gates.clone() {
            gates[gate] = Some(Gate::new(&scales, anatomy, gate)?);
        }
        let layout = anatomy.layout;
        let mut projection = None;
        if anatomy.has_projection {
            let scale =
                scales.weights(layout.projection)? * scales.hidden.scale / scales.state.scale;
            let bias = match io.optional_input(layout.projection + 1) {
                Some(_) => Some(vector(
                    io,
                    layout.projection + 1,
                    DType::I32,
                    anatomy.outputs,
                )?),
                None => None,
            };
            // What it multiplies has the zero point's sign turned; see `emit`.
            projection = Some(Product::new(
                io,
                layout.projection,
                (anatomy.outputs, anatomy.cells),
                bias,
                scales.hidden.zero_point.wrapping_neg(),
                ratio(scale)?,
            )?);
        }
        let output = io.output(0)?.per_tensor()?.scale;
        let cell_scale = io.input(layout.cell)?.per_tensor()?.scale;
        let positive = |clip: f32, scale: f32| if clip > 0.0 { clip / scale } else { 0.0 };
        let hidden = 2f64.powi(-15) / f64::from(scales.hidden.scale) * 2f64.powi(-15);
        Ok(Self {
            inputs: anatomy.inputs,
            cells: anatomy.cells,
            outputs: anatomy.outputs,
            gates,
            cell_exponent: scales.cell_exponent,
            cell_clip: positive(settings.cell_clip, cell_scale) as i16,
            hidden: ratio(hidden as f32)?,
            hidden_zero_point: scales.hidden.zero_point,
            state_zero_point: scales.state.zero_point,
            projection,
            projection_clip: positive(settings.projection_clip, output) as i8,
            logistic: Logistic::new(),
            candidate_tanh: Tanh::new(3),
            cell_tanh: Tanh::new((15 + scales.cell_exponent) as u32),
        })
    }
}

impl Gate {
    fn new(scales: &Scales<'_>, anatomy: &Anatomy, gate: usize) -> Result<Self, OpError> {
        let Scales { io, .. } = *scales;
        let (layout, cells) = (anatomy.layout, anatomy.cells);
        let bias: Vec<i32> = vector(io, layout.bias + gate, DType::I32, cells)?;
        let product = |first: usize, depth, bias, operand: PerTensor| {
            let scale = scales.weights(first + gate)? * operand.scale / scales.gates[gate];
            let size = (cells, depth);
            Product::new(
                io,
                first + gate,
                size,
                bias,
                operand.zero_point,
                ratio(scale)?,
            )
        };
        let norm = match layout.norm {
            Some(first) if anatomy.has_norm => {
                let scale = scales.weights(first + gate)?;
                let exact = ratio(scale)?;
                Some(Norm {
                    coefficients: vector(io, first + gate, DType::I16, cells)?,
                    bias: bias.clone(),
                    multiplier: Multiplier {
                        exponent: exact.exponent + 12,
                        ..exact
                    },
                    guard: ((10000.0 * scale) as i32).max(1),
                })
            }
            _ => None,
        };
        let peephole = match gate {
            _ if !anatomy.has_peephole => None,
            2 => None,
            _ => {
                let index = layout.peephole + gate.min(2);
                let scale = f64::from(scales.cell_exponent).exp2()
                    * f64::from(scales.weights(index)?)
                    / f64::from(scales.gates[gate]);
                let weights = vector(io, index, DType::I16, cells)?;
                Some((weights, ratio(scale as f32)?))
            }
        };
        let inner_bias = norm.is_none().then_some(bias);
        Ok(Self {
            input: product(layout.input, anatomy.inputs, inner_bias, scales.input)?,
            recurrent: product(layout.recurrent, anatomy.outputs, None, scales.state)?,
            peephole,
            norm,
        })
    }

    /// The gate's sums before its activation.
    fn sums(&self, input: &[i16], state: &[i16], cell: &[i16], peeped: &Peeped, sums: &mut [i16]) {
        let products = self.input.rows(input).zip(self.recurrent.rows(state));
        for (sum, (a, b)) in sums.iter_mut().zip(products) {
            *sum = saturate(b.saturating_add(i32::from(saturate(a))));
        }
        if let Some((weights, multiplier)) = &self.peephole {
            let elements = peeped.elements.clone().zip(sums.iter_mut().zip(cell));
            for (element, (sum, &c)) in elements {
                let weight = weights[element % peeped.outputs];
                let term = multiplier.apply(i32::from(weight) * i32::from(c));
                *sum = saturate(term.saturating_add(i32::from(*sum)));
            }
        }
        if let Some(norm) = &self.norm {
            norm.apply(sums);
        }
    }
}

/// To which elements of a step peepholes apply. LiteRT goes over the whole batch's cell states
/// with weights for as many units as there are outputs, so that with a projection some of the
/// last are left out and, in a batch, weights are shifted.
struct Peeped {
    outputs: usize,
    /// Of those that the step's rows have together, this row's.
    elements: Range<usize>,
}

impl Norm {
    /// LiteRT's `ApplyLayerNorm`.
    fn apply(&self, sums: &mut [i16]) {
        const UNIT: i64 = 1 << 20;
        let count = sums.len() as i64;
        let sum: i64 = sums.iter().map(|&x| i64::from(x)).sum();
        let squares: i64 = sums.iter().map(|&x| i64::from(x) * i64::from(x)).sum();
        let mean = (sum * 1024 / count) as i32;
        let variance = squares * (UNIT / count) - i64::from(mean) * i64::from(mean);
        let variance = match (variance / UNIT) as i32 {
            v if v < 1 => self.guard,
            v => v,
        };
        let inverse = inverse_sqrt(variance);
        let parameters = self.coefficients.iter().zip(&self.bias);
        for (sum, (&coefficient, &bias)) in sums.iter_mut().zip(parameters) {
            let normal = inverse.apply((1024 * i32::from(*sum)).wrapping_sub(mean));
            let scaled = normal.wrapping_mul(coefficient.into()).wrapping_add(bias);
            let half = if scaled > 0 { 512 } else { -512 };
            let rounded = ((i64::from(scaled) + half) / 1024) as i32;
            *sum = saturate(self.multiplier.apply(rounded));
        }
    }
}

fn saturate_i8(x: i32) -> i8 {
    x.clamp(i8::MIN.into(), i8::MAX.into()) as i8
}

/// What one step of one row needs besides operands.
struct Buffers<'a> {
    input: &'a mut [i16],
    state: &'a mut [i16],
    gates: [&'a mut [i16]; 4],
}

impl IntegerCell {
    fn scratch(&self) -> usize {
        let wide = [self.inputs, self.outputs.max(self.cells)].map(room::<i16>);
        wide[0] + wide[1] + 4 * room::<i16>(self.cells)
    }

    fn buffers<'a>(&self, scratch: &mut &'a mut [u8]) -> Buffers<'a> {
        Buffers {
            input: take(scratch, self.inputs),
            state: take(scratch, self.outputs.max(self.cells)),
            gates: [(); 4].map(|()| take(scratch, self.cells)),
        }
    }

    /// One gate, if it is there, from operands to Q0.15.
    fn gate(&self, number: usize, cell: &[i16], peeped: &Peeped, buffers: &mut Buffers<'_>) {
        let Some(gate) = &self.gates[number] else {
            return;
        };
        let (x, h) = (&*buffers.input, &buffers.state[..self.outputs]);
        let sums = &mut *buffers.gates[number];
        gate.sums(x, h, cell, peeped, sums);
        if number == 2 {
            sums.iter_mut()
                .for_each(|s| *s = self.candidate_tanh.apply(*s));
        } else {
            sums.iter_mut().for_each(|s| *s = self.logistic.apply(*s));
        }
    }

    /// One step of one row.
    fn step(
        &self,
        input: &[i8],
        state: &mut [i8],
        cell: &mut [i16],
        peeped: &Peeped,
        buffers: &mut Buffers<'_>,
    ) {
        let widen = |to: &mut [i16], from: &[i8]| {
            to.iter_mut().zip(from).for_each(|(to, &x)| *to = x.into());
        };
        widen(buffers.input, input);
        widen(buffers.state, state);
        (0..3).for_each(|number| self.gate(number, cell, peeped, buffers));
        let [input_gate, forget, candidate, _] = &mut buffers.gates;
        if self.gates[0].is_none() {
            for (i, &f) in input_gate.iter_mut().zip(&**forget) {
                *i = i16::MAX - f;
            }
        }
        for (c, &f) in cell.iter_mut().zip(&**forget) {
            *c = rounding_divide_by_pot(i32::from(f) * i32::from(*c), 15) as i16;
        }
        let entering = input_gate.iter().zip(&**candidate);
        for (c, (&i, &g)) in cell.iter_mut().zip(entering) {
            let term = rounding_divide_by_pot(i32::from(i) * i32::from(g), 30 + self.cell_exponent);
            *c = saturate(i32::from(*c) + i32::from(term as i16));
        }
        if self.cell_clip > 0 {
            cell.iter_mut()
                .for_each(|c| *c = (*c).clamp(-self.cell_clip, self.cell_clip));
        }
        self.gate(3, cell, peeped, buffers);
        self.emit(cell, state, buffers);
    }

    /// From the new cell state to the new output state.
    fn emit(&self, cell: &[i16], state: &mut [i8], buffers: &mut Buffers<'_>) {
        let product = |(&c, &o): (&i16, &i16)| {
            let product = i32::from(self.cell_tanh.apply(c)) * i32::from(o);
            self.hidden.apply(product)
        };
        let hidden = cell.iter().zip(&*buffers.gates[3]).map(product);
        let Some(projection) = &self.projection else {
            for (state, h) in state.iter_mut().zip(hidden) {
                *state = saturate_i8(h.saturating_add(self.hidden_zero_point));
            }
            return;
        };
        // LiteRT subtracts the zero point before the projection, and adds it again in the bias.
        for (to, h) in buffers.state.iter_mut().zip(hidden) {
            *to = saturate_i8(h.saturating_sub(self.hidden_zero_point)).into();
        }
        let rows = projection.rows(&buffers.state[..self.cells]);
        for (state, sum) in state.iter_mut().zip(rows) {
            *state = saturate_i8(sum.saturating_add(self.state_zero_point));
            if self.projection_clip > 0 {
                *state = (*state).clamp(-self.projection_clip, self.projection_clip);
            }
        }
    }
}

/// The kernel of an operator with one cell, in integers.
pub(super) fn prepare_integer(
    io: &Signature,
    anatomy: &Anatomy,
    settings: &Settings,
    sequence: Sequence,
) -> Result<Kernel, OpError> {
    if io.output(0)?.dtype != DType::I8 {
        return Err(io.unsupported(0));
    }
    let cell = IntegerCell::new(io, anatomy, settings)?;
    let states = sequence.batch.saturating_mul(cell.outputs);
    let memories = sequence.batch.saturating_mul(cell.cells);
    let state = [
        state(io, anatomy.layout.state, DType::I8, states)?,
        state(io, anatomy.layout.cell, DType::I16, memories)?,
    ];
    let scratch = room::<i8>(states)
        .saturating_add(room::<i16>(memories))
        .saturating_add(cell.scratch());
    Ok(Kernel::with_scratch(scratch, move |run| {
        let parts = run.parts::<i8>(state[0]);
        let mut scratch = &mut *parts.scratch;
        take(&mut scratch, states).copy_from_slice(parts.output);
        let parts = run.parts::<i16>(state[1]);
        let mut scratch = parts.scratch;
        take::<i8>(&mut scratch, states);
        take(&mut scratch, memories).copy_from_slice(parts.output);

        let parts = run.parts::<i8>(0);
        let input: &[i8] = parts.inputs.get(0);
        let mut scratch = parts.scratch;
        let states_now: &mut [i8] = take(&mut scratch, states);
        let cells_now: &mut [i16] = take(&mut scratch, memories);
        let mut buffers = cell.buffers(&mut scratch);
        let (inputs, cells, outputs) = (cell.inputs, cell.cells, cell.outputs);
        // LiteRT goes through a batch-major sequence one batch at a time.
        let together = if sequence.time_major {
            sequence.batch
        } else {
            1
        };
        for step in 0..sequence.time {
            for batch in 0..sequence.batch {
                let row = sequence.row(step, batch);
                let state = &mut states_now[batch * outputs..][..outputs];
                let first = if sequence.time_major {
                    batch * cells
                } else {
                    0
                };
                let peeped = Peeped {
                    outputs,
                    elements: first..together * outputs,
                };
                cell.step(
                    &input[row * inputs..][..inputs],
                    state,
                    &mut cells_now[batch * cells..][..cells],
                    &peeped,
                    &mut buffers,
                );
                parts.output[row * outputs..][..outputs].copy_from_slice(state);
            }
        }

        let parts = run.parts::<i8>(state[0]);
        let mut scratch = parts.scratch;
        parts.output.copy_from_slice(take(&mut scratch, states));
        let parts = run.parts::<i16>(state[1]);
        let mut scratch = parts.scratch;
        take::<i8>(&mut scratch, states);
        parts.output.copy_from_slice(take(&mut scratch, memories));
    }))
}
