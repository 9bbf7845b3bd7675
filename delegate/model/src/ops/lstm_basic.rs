//! The basic kernel of LSTM, in float and, as old models have it, with uint8 activations.

use bantam_kernels::requantize::{
    rounding_divide_by_pot_i16 as divide_by_pot, saturating_rounding_doubling_high_mul_i16 as mul,
};
use bantam_kernels::{Isa, ProductF32};
use bytemuck::{AnyBitPattern, NoUninit};

use super::fixed_point_16::{Logistic, Tanh, ratio, saturate, scale_by_shift};
use super::pointwise::parameters;
use super::recurrent::{check_sizes, constant, room, sigmoid, take, tanh, vector};
use super::{OpError, Signature};
use crate::cpu::Kernel;
use crate::tensor::DType;

/// The sizes of the basic kernel.
#[derive(Clone, Copy)]
pub(super) struct Basic {
    pub batch: usize,
    pub inputs: usize,
    pub cells: usize,
}

impl Basic {
    pub fn of(io: &Signature) -> Result<Self, OpError> {
        let [batch, inputs] = io.input(0)?.shape_n()?;
        let [_, cells] = io.input(1)?.shape_n()?;
        for index in [1, 4] {
            let shape = &io.input(index)?.shape;
            if *shape != [batch, cells] {
                return Err(OpError::Shape(format!(
                    "state {index} of shape {shape:?} where {:?} is needed",
                    [batch, cells]
                )));
            }
        }
        let [rows, depth] = io.input(2)?.shape_n()?;
        check_sizes(&[rows, depth])?;
        if Some(rows) != cells.checked_mul(4) || Some(depth) != inputs.checked_add(cells) {
            return Err(OpError::Shape(format!(
                "weights of {rows} x {depth} do not match {inputs} inputs and {cells} cells"
            )));
        }
        Ok(Self {
            batch,
            inputs,
            cells,
        })
    }

    pub fn prepare(self, io: &Signature) -> Result<Kernel, OpError> {
        match io.input(0)?.dtype {
            DType::F32 => self.prepare_float(io),
            DType::U8 => self.prepare_integer(io),
            _ => Err(io.unsupported(0)),
        }
    }

    fn prepare_float(self, io: &Signature) -> Result<Kernel, OpError> {
        check_types(io, [DType::F32; 3], [DType::F32; 4])?;
        let (rows, depth) = (4 * self.cells, self.inputs + self.cells);
        let weights: Vec<f32> = constant(io, 2, DType::F32, &[rows, depth])?.constant()?;
        let bias: Vec<f32> = vector(io, 3, DType::F32, rows)?;
        let clamp = (f32::NEG_INFINITY, f32::INFINITY);
        let product = ProductF32::new(Isa::best(), (rows, depth), &weights, Some(&bias), clamp);
        Ok(self.kernel::<f32, f32>(io, move |step, threads| {
            product.run(self.batch, step.joined, step.sums, threads);
            step.cells(|gates, previous| {
                let [i, g, f, o] = gates;
                let state = sigmoid(i) * tanh(g) + sigmoid(f) * previous;
                (sigmoid(o) * tanh(state), state)
            });
        }))
    }

    /// Activations are uint8 with zero point 128 and scale 1/128, gates int16 in Q3.12, the cell
    /// state int16 in Q4.11.
    fn prepare_integer(self, io: &Signature) -> Result<Kernel, OpError> {
        const STATE_SCALE: f32 = 1.0 / 2048.0;
        let states = [DType::U8, DType::U8, DType::I16];
        check_types(io, states, [DType::U8, DType::I16, DType::U8, DType::I16])?;
        let scale = io.output(1)?.per_tensor()?.scale;
        if scale != STATE_SCALE {
            return Err(OpError::Quantization(format!(
                "scale {scale} of the cell state is not 2^-11"
            )));
        }
        let (rows, depth) = (4 * self.cells, self.inputs + self.cells);
        let weights = constant(io, 2, DType::U8, &[rows, depth])?;
        let zero_point = parameters(weights)?.zero_point as i16;
        let weights = weights.constant::<u8>()?.into_iter();
        let weights: Vec<i16> = weights.map(|w| i16::from(w) - zero_point).collect();
        let bias: Vec<i32> = vector(io, 3, DType::I32, rows)?;
        let multiplier = ratio((4096.0 * f64::from(io.input(3)?.per_tensor()?.scale)) as f32)?;
        let logistic = Logistic::new();
        let narrow = Tanh::new(3);
        Ok(self.kernel::<u8, i16>(io, move |step, _| {
            let rows_of_sums = step.sums.chunks_exact_mut(rows);
            for (sums, joined) in rows_of_sums.zip(step.joined.chunks_exact(depth)) {
                let products = sums.iter_mut().zip(weights.chunks_exact(depth)).zip(&bias);
                for ((sum, weights), &bias) in products {
                    let terms = weights.iter().zip(joined);
                    let total = terms.fold(bias, |total, (&w, &x)| {
                        total.wrapping_add(i32::from(w) * (i32::from(x) - 128))
                    });
                    *sum = saturate(scale_by_shift(multiplier, total));
                }
            }
            step.cells(|gates, previous| {
                let [i, g, f, o] = gates;
                let entering = mul(logistic.apply(i), narrow.apply(g));
                let kept = mul(logistic.apply(f), previous);
                let state = divide_by_pot(entering, 4).saturating_add(kept);
                // Q4.11 to Q3.12.
                let wide = saturate(2 * i32::from(state));
                let output = divide_by_pot(mul(logistic.apply(o), narrow.apply(wide)), 8);
                ((output.clamp(-128, 127) + 128) as u8, state)
            });
        }))
    }

    /// The kernel that joins the operands, has `compute` do its step, and hands out the results.
    fn kernel<A: Number, S: Number>(
        self,
        io: &Signature,
        compute: impl Fn(&mut Step<'_, A, S>, usize) + Send + Sync + 'static,
    ) -> Kernel {
        let Self {
            batch,
            inputs,
            cells,
        } = self;
        let (rows, depth) = (4 * cells, inputs + cells);
        // Output and cell state are results 0 and 1, and go back to operands 1 and 4.
        let outputs = [Some(0), io.variable(1).ok()];
        let states = [Some(1), io.variable(4).ok()];
        let scratch = [
            room::<A>(batch.saturating_mul(cells)),
            room::<S>(batch.saturating_mul(cells)),
            room::<A>(batch.saturating_mul(depth)),
            room::<S>(batch.saturating_mul(rows)),
        ];
        let scratch = scratch.into_iter().fold(0, usize::saturating_add);
        Kernel::with_scratch(scratch, move |run| {
            let threads = run.threads;
            let parts = run.parts::<A>(0);
            let mut step = self.step::<A, S>(parts.scratch);
            for (row, joined) in step.joined.chunks_exact_mut(depth).enumerate() {
                let (x, h) = joined.split_at_mut(inputs);
                x.copy_from_slice(&parts.inputs.get(0)[row * inputs..][..inputs]);
                h.copy_from_slice(&parts.inputs.get(1)[row * cells..][..cells]);
            }
            step.state.copy_from_slice(parts.inputs.get(4));
            compute(&mut step, threads);
            for slot in outputs.into_iter().flatten() {
                let parts = run.parts::<A>(slot);
                parts
                    .output
                    .copy_from_slice(self.step::<A, S>(parts.scratch).output);
            }
            for slot in states.into_iter().flatten() {
                let parts = run.parts::<S>(slot);
                parts
                    .output
                    .copy_from_slice(self.step::<A, S>(parts.scratch).state);
            }
            let parts = run.parts::<A>(2);
            parts
                .output
                .copy_from_slice(self.step::<A, S>(parts.scratch).joined);
            let parts = run.parts::<S>(3);
            parts
                .output
                .copy_from_slice(self.step::<A, S>(parts.scratch).sums);
        })
    }

    fn step<A: Number, S: Number>(self, mut scratch: &mut [u8]) -> Step<'_, A, S> {
        let Self {
            batch,
            inputs,
            cells,
        } = self;
        Step {
            units: cells,
            output: take(&mut scratch, batch * cells),
            state: take(&mut scratch, batch * cells),
            joined: take(&mut scratch, batch * (inputs + cells)),
            sums: take(&mut scratch, batch * 4 * cells),
        }
    }
}

trait Number: AnyBitPattern + NoUninit + Send + Sync {}
impl<T: AnyBitPattern + NoUninit + Send + Sync> Number for T {}

/// What one step reads and writes: activations `A`, and states and sums `S`.
struct Step<'a, A, S> {
    /// Cells of a row.
    units: usize,
    output: &'a mut [A],
    /// The cell state: the previous one, then the new one.
    state: &'a mut [S],
    /// Input and previous output of each row, side by side.
    joined: &'a mut [A],
    /// Of the gates input, cell, forget, output of each row.
    sums: &'a mut [S],
}

impl<A: Number, S: Number> Step<'_, A, S> {
    /// From the gates' sums and the previous state of each cell to its output and state.
    fn cells(&mut self, cell: impl Fn([S; 4], S) -> (A, S)) {
        let units = self.units;
        let rows = self.sums.chunks_exact(4 * units);
        let outputs = self.output.chunks_exact_mut(units);
        let states = self.state.chunks_exact_mut(units);
        for (sums, (outputs, states)) in rows.zip(outputs.zip(states)) {
            for (unit, (output, state)) in outputs.iter_mut().zip(states).enumerate() {
                let gates = std::array::from_fn(|gate| sums[gate * units + unit]);
                (*output, *state) = cell(gates, *state);
            }
        }
    }
}

/// Checks the types of input, previous output and previous cell state, and of the results.
fn check_types(io: &Signature, operands: [DType; 3], results: [DType; 4]) -> Result<(), OpError> {
    for (index, dtype) in [0, 1, 4].into_iter().zip(operands) {
        if io.input(index)?.dtype != dtype {
            return Err(io.unsupported(index));
        }
    }
    for (index, dtype) in results.into_iter().enumerate() {
        let found = io.output(index)?.dtype;
        if found != dtype {
            return Err(OpError::UnsupportedType {
                what: format!("output {index}"),
                dtype: found,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Numerics;
    use crate::ops::{Lstm, Operator};
    use crate::testing::{Case, eval_with, signature};

    fn basic(weights: Case) -> (Lstm, Vec<Case>) {
        let op = Lstm {
            kernel: 1,
            ..Lstm::default()
        };
        let operands = vec![
            Case::f32([1, 1], [2.0]),
            Case::f32([1, 1], [0.5]),
            weights.constant(),
            Case::f32([4], [0.0; 4]).constant(),
            Case::f32([1, 1], [3.0]),
        ];
        (op, operands)
    }

    #[test]
    fn basic_kernel_gives_output_state_and_what_they_are_made_of() {
        let weights = [0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0];
        let (op, operands) = basic(Case::f32([4, 2], weights));
        let results = [(); 4].map(|()| Case::result(DType::F32));
        let results = eval_with(Numerics::default(), op, &operands, &results);
        let state = 0.5 * 3f32.tanh() + 0.5 * 3.0;
        for (result, want) in results.iter().zip([&[0.5 * state.tanh()][..], &[state]]) {
            let got = result.get::<f32>();
            assert!((got[0] - want[0]).abs() < 1e-6, "{got:?} {want:?}");
        }
        assert_eq!(results[2].get::<f32>(), [2.0, 0.5]);
        assert_eq!(results[3].get::<f32>(), [0.0, 3.0, 0.0, 0.0]);
    }

    #[test]
    fn uint8_keeps_the_state_in_int16() {
        let (op, _) = basic(Case::f32([4, 2], [0.0; 8]));
        let weights = Case::new(DType::U8, [4, 2], &[100u8; 8])
            .quantized(0.01, 100)
            .constant();
        let operands = [
            Case::new(DType::U8, [1, 1], &[200u8]).quantized(1.0 / 128.0, 128),
            Case::new(DType::U8, [1, 1], &[128u8]).quantized(1.0 / 128.0, 128),
            weights,
            Case::i32([4], [0; 4]).quantized(0.01 / 128.0, 0).constant(),
            Case::new(DType::I16, [1, 1], &[4096i16]).quantized(1.0 / 2048.0, 0),
        ];
        let results = [
            Case::result(DType::U8).quantized(1.0 / 128.0, 128),
            Case::result(DType::I16).quantized(1.0 / 2048.0, 0),
            Case::result(DType::U8).quantized(1.0 / 128.0, 128),
            Case::result(DType::I16).quantized(1.0 / 4096.0, 0),
        ];
        let results = eval_with(Numerics::default(), op, &operands, &results);
        // Half of 2, and half of tanh(1).
        assert_eq!(results[1].get::<i16>(), [2048]);
        assert_eq!(results[0].get::<u8>(), [128 + 49]);
        assert_eq!(results[2].get::<u8>(), [200, 128]);
        assert_eq!(results[3].get::<i16>(), [0; 4]);
    }

    #[test]
    fn rejects_weights_that_do_not_match_and_missing_results() {
        let (op, operands) = basic(Case::f32([4, 3], [0.0; 12]));
        let io = signature(&operands, &[]);
        assert!(matches!(op.infer_shapes(&io), Err(OpError::Shape(_))));
        let (op, operands) = basic(Case::f32([4, 2], [0.0; 8]));
        let io = signature(&operands, &[Case::result(DType::F32)]);
        assert!(matches!(op.prepare(&io), Err(OpError::Missing(_))));
    }
}
