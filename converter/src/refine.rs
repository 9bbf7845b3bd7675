//! Lets weights and biases of integer operators make up for what quantization costs.
//!
//! Operators are taken in order of execution, each with what those before it really compute in
//! integers. **Learned rounding** rounds each weight up or down so that the operator's result is
//! nearest to the float one's (`rounding`). **Bias correction** measures, over samples and places, by
//! how much the mean of each channel of the result (before its activation) has moved, and moves the
//! bias back. If that does not bring the outputs of the model nearer to the float model's, all of it
//! is undone. Scales stay as they are, and so does what kernels do.

mod front;
mod layer;
mod rounding;

use std::sync::Arc;

use bantam_model::cpu::{Plan, RunError};
use bantam_model::ops::Value;
use bantam_model::{DType, Model, Quantization, Tensor};
use rayon::prelude::*;

use crate::calibrate::{Source, Statistics};
use crate::compare::real;
use crate::error::ConvertError;
use crate::probe::{Probes, decibels, each, plan, spread};
use crate::quantize::{Channels, Gain, Link, Report, Total, quantize_linked};
use crate::recipe::Recipe;
use front::{Front, Rows};
use layer::{Layer, Wanted, run};
use rounding::{Moments, Unit};

/// On how many samples operators are improved.
const SAMPLES: usize = 64;

/// Windows with more elements are not worth their second moments.
const LARGEST_WINDOW: usize = 8192;

/// A bias stays below half the range of int32, as where it is quantized.
const LARGEST_BIAS: f64 = (i32::MAX / 2) as f64;

/// Converts `model` as [`quantize`](crate::quantize()) does, and improves weights and biases where the
/// recipe wants it ([`learned_rounding`], [`bias_correction`]) with some of `samples`, unless the
/// outputs get no better on these. Operators of subgraphs that others run are left as they are. Calls `progress` with the number of operators done
/// and of all.
///
/// The result does not depend on the number of threads.
///
/// [`learned_rounding`]: crate::recipe::Settings::learned_rounding
/// [`bias_correction`]: crate::recipe::Settings::bias_correction
pub fn tune(
    model: &Model,
    statistics: &Statistics,
    recipe: &Recipe,
    samples: &(impl Source + ?Sized),
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Model, Report), ConvertError> {
    let (converted, mut report, links) = quantize_linked(model, statistics, recipe)?;
    let wanted = wanted(model, &converted, &links, recipe);
    if wanted.is_empty() {
        return Ok((converted, report));
    }
    let probes = Probes::affordable(model, recipe.subgraph, samples, threads)?;
    let first = probes.judge(&converted, threads)?;
    let mut tuner = Tuner::new(model, converted, recipe.subgraph, samples, threads, &wanted)?;
    let untouched = tuner.converted.clone();
    let mut front = Front::new(
        &tuner.converted,
        tuner.entry,
        &tuner.inputs,
        samples,
        &tuner.indexes,
    )?;
    let mut gains = Vec::new();
    for (index, wanted) in wanted.iter().enumerate() {
        let (node, tensor) = (wanted.link.integer, wanted.inputs.1);
        let (value, samples) = front.at(&tuner.converted, node, tensor, threads)?;
        let input = Input { value, samples };
        gains.extend(tuner.improve(index, wanted, &input)?);
        progress(index + 1, tuner.layers.len());
    }
    let last = probes.judge(&tuner.converted, threads)?;
    let is_better = last.db() > first.db();
    let any = |of: fn(&Wanted) -> bool| wanted.iter().any(of);
    report.totals.push(Total {
        option: match (any(|w| w.rounding), any(|w| w.bias)) {
            (true, true) => "learned-rounding, bias-correction",
            (true, false) => "learned-rounding",
            _ => "bias-correction",
        },
        choice: match is_better {
            true => format!("for {} operators", wanted.len()),
            false => "undone, since the outputs get no better".into(),
        },
        before_db: first.db(),
        after_db: if is_better { last.db() } else { first.db() },
    });
    if !is_better {
        return Ok((untouched, report));
    }
    report.gains.extend(gains);
    Ok((tuner.converted, report))
}

/// The operators that shall be improved, in order of execution.
fn wanted(model: &Model, converted: &Model, links: &[Link], recipe: &Recipe) -> Vec<Wanted> {
    let entry = recipe.subgraph;
    let (float, integer) = (&model.subgraphs[entry], &converted.subgraphs[entry]);
    let settings = recipe.settings(entry, float);
    let links = links.iter().filter(|link| link.subgraph == entry);
    links
        .filter_map(|link| Wanted::new(float, integer, link, &settings[link.float]))
        .collect()
}

/// What the float model says of an operator.
struct Float {
    /// Sums over all samples and places, by unit.
    sums: Vec<f64>,
    /// The results at the places that rounding looks at, sample after sample.
    rows: Vec<f32>,
}

/// What an operator reads in integers: the real values, for each sample.
struct Input {
    value: Value,
    samples: Rows,
}

impl Input {
    fn real(&self, sample: usize) -> Vec<f32> {
        let values = real(&self.value, &self.samples[sample]).into_iter();
        values.map(|v| v as f32).collect()
    }
}

struct Tuner {
    converted: Model,
    entry: usize,
    /// The samples that it looks at.
    indexes: Vec<usize>,
    /// The inputs that the samples are for.
    inputs: Vec<Value>,
    /// The operators that are wanted, and what they are in float.
    layers: Vec<(Layer, Float)>,
    pool: rayon::ThreadPool,
}

impl Tuner {
    fn new(
        model: &Model,
        converted: Model,
        entry: usize,
        samples: &(impl Source + ?Sized),
        threads: usize,
        wanted: &[Wanted],
    ) -> Result<Self, ConvertError> {
        let indexes = spread(samples.len(), SAMPLES);
        let float = plan(model, entry, true)?;
        let value = |&id| float.value(id).clone();
        let inputs: Vec<Value> = float.inputs().iter().map(value).collect();
        let subgraph = &model.subgraphs[entry];
        let layers = wanted.iter().map(|w| Layer::new(subgraph, w, &float));
        let layers: Vec<Layer> = layers.collect::<Result<_, _>>()?;
        let seen: Vec<Vec<Float>> =
            each(&float, &inputs, samples, &indexes, threads, |at, runner| {
                runner.run()?;
                let of = |(layer, wanted): (&Layer, &Wanted)| {
                    let results = run(&layer.plan, runner.tensor(wanted.inputs.0))?;
                    Ok(Float {
                        sums: sums(&results, layer.units),
                        rows: places(layer, at, indexes.len())
                            .flat_map(|place| {
                                &results[place * layer.units..(place + 1) * layer.units]
                            })
                            .copied()
                            .collect(),
                    })
                };
                layers.iter().zip(wanted).map(of).collect()
            })?;
        let mut all: Vec<Float> = layers
            .iter()
            .map(|layer| Float {
                sums: vec![0.0; layer.units],
                rows: Vec::new(),
            })
            .collect();
        for seen in seen {
            for (all, seen) in all.iter_mut().zip(seen) {
                let sums = all.sums.iter_mut().zip(seen.sums);
                sums.for_each(|(all, sum)| *all += sum);
                all.rows.extend(seen.rows);
            }
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .build()
            .map_err(|error| RunError::Threads(error.to_string()))?;
        Ok(Self {
            converted,
            entry,
            indexes,
            inputs,
            layers: layers.into_iter().zip(all).collect(),
            pool,
        })
    }

    /// Improves the operator `index` of those that are wanted, which reads `input`.
    fn improve(
        &mut self,
        index: usize,
        wanted: &Wanted,
        input: &Input,
    ) -> Result<Vec<Gain>, ConvertError> {
        let mut gains = Vec::new();
        if wanted.rounding {
            gains.extend(self.round(index, wanted, input, wanted.bias));
        }
        if wanted.bias {
            gains.extend(self.correct(index, wanted, input)?);
        }
        Ok(gains)
    }

    /// Rounds the weights anew; with `centred`, whatever that does to the mean.
    fn round(
        &mut self,
        index: usize,
        wanted: &Wanted,
        input: &Input,
        centred: bool,
    ) -> Option<Gain> {
        let (layer, float) = &self.layers[index];
        let windows = layer.windows.as_ref()?;
        let size = windows.size();
        if size == 0 || size > LARGEST_WINDOW {
            return None;
        }
        let tensor = &self.converted.subgraphs[self.entry][wanted.weights];
        let scales = scales(tensor, layer.units);
        let mut integer = integers(tensor);
        let rows: Vec<Vec<f32>> = (0..self.indexes.len()).map(|s| input.real(s)).collect();
        let bias = self.bias(index, wanted);
        let results: Vec<Vec<f32>> = (0..layer.units)
            .map(|unit| {
                let of_unit = float.rows.iter().skip(unit).step_by(layer.units);
                let mut results: Vec<f32> = of_unit.map(|r| r - bias[unit] as f32).collect();
                if centred {
                    centre(&mut results, 1);
                }
                results
            })
            .collect();
        let rounded = self.pool.install(|| {
            let groups = (0..windows.groups).into_par_iter().map(|group| {
                let mut seen = Vec::new();
                for (sample, row) in rows.iter().enumerate() {
                    for place in places(layer, sample, rows.len()) {
                        windows.look(row, place, group, &mut seen);
                    }
                }
                if centred {
                    centre(&mut seen, size);
                }
                let moments = Moments::new(&seen, size);
                let units = windows.units(group).into_par_iter().map(|unit| {
                    let places = (0..size).map(|at| windows.weight(unit, at));
                    let one = Unit {
                        float: places.clone().map(|at| layer.weights[at]).collect(),
                        integer: places.map(|at| integer[at]).collect(),
                        scale: scales[unit],
                        results: &results[unit],
                    };
                    (unit, moments.round(&seen, &one))
                });
                units.collect::<Vec<_>>()
            });
            groups.collect::<Vec<_>>()
        });
        let (mut before, mut after) = (0.0, 0.0);
        for (unit, rounded) in rounded.into_iter().flatten() {
            before += rounded.error.0;
            after += rounded.error.1;
            for (at, q) in rounded.integer.into_iter().enumerate() {
                integer[windows.weight(unit, at)] = q;
            }
        }
        let power: f64 = results
            .iter()
            .flatten()
            .map(|&r| f64::from(r).powi(2))
            .sum();
        let power = power / results.first().map_or(1, Vec::len).max(1) as f64;
        let bytes: Vec<u8> = integer.into_iter().map(|q| q as u8).collect();
        self.converted.subgraphs[self.entry][wanted.weights].data = Some(bytes.into());
        (after < before).then(|| self.gain(wanted, "learned-rounding", power, (before, after)))
    }

    /// Moves the bias so that the mean of each unit is that of the float model.
    fn correct(
        &mut self,
        index: usize,
        wanted: &Wanted,
        input: &Input,
    ) -> Result<Option<Gain>, ConvertError> {
        let (layer, float) = &self.layers[index];
        let subgraph = &self.converted.subgraphs[self.entry];
        let tensor = &subgraph[wanted.weights];
        let weight_scales = scales(tensor, layer.units);
        let channels = Channels::new(tensor, Some(wanted.axis));
        let integer = integers(tensor).into_iter().enumerate();
        let weights: Vec<f32> = integer
            .map(|(at, q)| f32::from(q) * weight_scales[channels.of(at)])
            .collect();
        let old = self.bias(index, wanted);
        let plan = layer.with(&weights, &old.iter().map(|&b| b as f32).collect::<Vec<_>>())?;
        let found = self.sums(&plan, layer.units, input)?;
        let count = (layer.places * self.indexes.len()).max(1) as f64;
        let Ok(input_scale) = input.value.per_tensor().map(|p| p.scale) else {
            return Ok(None);
        };
        let is_wide = input.value.dtype == DType::I16;
        let (mut before, mut after, mut power) = (0.0, 0.0, 0.0);
        let mut steps = Vec::with_capacity(layer.units);
        for unit in 0..layer.units {
            let scale = f64::from(input_scale * weight_scales[unit]);
            let shift = (float.sums[unit] - found[unit]) / count;
            let mut step = ((old[unit] + shift) / scale).round();
            if !is_wide {
                step = step.clamp(-LARGEST_BIAS, LARGEST_BIAS);
            }
            before += shift * shift;
            after += (step * scale - old[unit] - shift).powi(2);
            power += (float.sums[unit] / count).powi(2);
            steps.push(step);
        }
        if after >= before {
            return Ok(None);
        }
        let bytes: Vec<u8> = match is_wide {
            true => steps
                .iter()
                .flat_map(|&s| (s as i64).to_le_bytes())
                .collect(),
            false => steps
                .iter()
                .flat_map(|&s| (s as i32).to_le_bytes())
                .collect(),
        };
        let units = layer.units;
        let subgraph = &mut self.converted.subgraphs[self.entry];
        let node = &subgraph.nodes[wanted.link.integer];
        match node.input(wanted.bias_operand) {
            Some(bias) => subgraph[bias].data = Some(bytes.into()),
            None => {
                let dtype = if is_wide { DType::I64 } else { DType::I32 };
                let scales = weight_scales.iter().map(|w| input_scale * w).collect();
                let name = format!("{}_bias", wanted.name);
                let bias = Tensor::constant(name, dtype, [units], bytes);
                let bias = bias.quantized(Quantization::symmetric(scales, 0));
                let bias = subgraph.add_tensor(bias);
                let inputs = &mut subgraph.nodes[wanted.link.integer].inputs;
                inputs.resize(wanted.bias_operand + 1, None);
                inputs[wanted.bias_operand] = Some(bias);
            }
        }
        Ok(Some(self.gain(
            wanted,
            "bias-correction",
            power,
            (before, after),
        )))
    }

    /// The real values of the integer bias, one a unit.
    fn bias(&self, index: usize, wanted: &Wanted) -> Vec<f64> {
        let subgraph = &self.converted.subgraphs[self.entry];
        let units = self.layers[index].0.units;
        let node = &subgraph.nodes[wanted.link.integer];
        let bias = node.input(wanted.bias_operand).map(|bias| &subgraph[bias]);
        let Some((bias, quantization)) = bias.and_then(|b| Some((b, b.quantization.as_ref()?)))
        else {
            return vec![0.0; units];
        };
        let data = bias.data.as_deref().unwrap_or_default();
        let integer = |unit: usize| match bias.dtype {
            DType::I64 => data.as_chunks().0.get(unit).map(|&b| i64::from_le_bytes(b)),
            _ => data
                .as_chunks()
                .0
                .get(unit)
                .map(|&b| i32::from_le_bytes(b).into()),
        };
        let scale = |unit: usize| {
            let scales = &quantization.scale;
            f64::from(*scales.get(unit).or(scales.first()).unwrap_or(&0.0))
        };
        (0..units)
            .map(|unit| integer(unit).unwrap_or(0) as f64 * scale(unit))
            .collect()
    }

    /// The sums over samples and places of what `plan` makes of `input`.
    fn sums(
        &self,
        plan: &Arc<Plan>,
        units: usize,
        input: &Input,
    ) -> Result<Vec<f64>, ConvertError> {
        let of = |sample: usize| {
            let real = input.real(sample);
            let results = run(plan, bytemuck::cast_slice(&real))?;
            Ok(sums(&results, units))
        };
        let each = || (0..self.indexes.len()).into_par_iter().map(of).collect();
        let each: Result<Vec<Vec<f64>>, ConvertError> = self.pool.install(each);
        let mut all = vec![0.0; units];
        for sums in each? {
            all.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
        }
        Ok(all)
    }

    fn gain(
        &self,
        wanted: &Wanted,
        option: &'static str,
        power: f64,
        (before, after): (f64, f64),
    ) -> Gain {
        Gain {
            subgraph: self.entry,
            index: wanted.link.float,
            name: wanted.name.clone(),
            option,
            ratio: after / before,
            db: Some((decibels(power, before), decibels(power, after))),
        }
    }
}

/// The places of the result that rounding looks at in one of so many samples: as many of all as the
/// second moments are worth.
fn places(layer: &Layer, sample: usize, samples: usize) -> impl Iterator<Item = usize> + use<> {
    const PRODUCTS: usize = 4_000_000_000;
    let size = layer
        .windows
        .as_ref()
        .map_or(usize::MAX, |w| w.size().max(1));
    let worth = (PRODUCTS / size.saturating_mul(size)).clamp(1024, 16384);
    let count = match layer.windows {
        Some(_) => layer.places.min(worth.div_ceil(samples.max(1))),
        None => 0,
    };
    let places = layer.places.max(1);
    // From sample to sample others.
    let first = sample.wrapping_mul(0x9e37_79b9) % places;
    (0..count).map(move |i| (first + i * places / count) % places)
}

/// The sums of `results` over all places, by unit.
fn sums(results: &[f32], units: usize) -> Vec<f64> {
    let mut sums = vec![0.0; units];
    for row in results.chunks_exact(units) {
        let pairs = sums.iter_mut().zip(row);
        pairs.for_each(|(sum, &v)| *sum += f64::from(v));
    }
    sums
}

/// Takes the mean of each column from rows of `size` elements.
fn centre(rows: &mut [f32], size: usize) {
    let count = (rows.len() / size).max(1) as f64;
    let means = sums(rows, size).into_iter().map(|sum| (sum / count) as f32);
    let means: Vec<f32> = means.collect();
    for row in rows.chunks_exact_mut(size) {
        row.iter_mut().zip(&means).for_each(|(v, mean)| *v -= mean);
    }
}

/// The integer weights of a tensor.
fn integers(tensor: &Tensor) -> Vec<i8> {
    let data = tensor.data.as_deref().unwrap_or_default();
    data.iter().map(|&b| b as i8).collect()
}

/// The scale of each unit's weights.
fn scales(tensor: &Tensor, units: usize) -> Vec<f32> {
    let scales = tensor.quantization.as_ref().map_or(&[][..], |q| &q.scale);
    let of = |unit| *scales.get(unit).or(scales.first()).unwrap_or(&1.0);
    (0..units).map(of).collect()
}
