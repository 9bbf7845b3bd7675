//! Runs the float model on samples and collects what every tensor's range is made from.

mod file;
mod histogram;
mod method;
mod shard;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bantam_model::cpu::{Options, Plan, Runner};
use bantam_model::{DType, Model, Subgraph, TensorId};

use crate::error::ConvertError;
use crate::quantize::with_intermediates;
use crate::recipe::{CalibMethod, Recipe, Settings};
use crate::samples::{SampleError, Samples};
use histogram::Histogram;
pub use shard::Part;
pub use shard::Shard;

/// Values beyond this stand for infinity (masks and paddings) and do not count for ranges.
const LARGEST: f32 = 3e38;

/// Where samples come from. Called from several threads.
pub trait Source: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place of sample `index` among all, where these are a part of them.
    fn position(&self, index: usize) -> usize {
        index
    }

    /// The bytes of each of the model's inputs for sample `index`.
    fn get(&self, index: usize) -> Result<Vec<Vec<u8>>, SampleError>;
}

impl Source for Samples {
    fn len(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> Result<Vec<Vec<u8>>, SampleError> {
        self.get(index)
    }
}

/// Samples in memory: for each, the bytes of each input.
impl Source for [Vec<Vec<u8>>] {
    fn len(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> Result<Vec<Vec<u8>>, SampleError> {
        Ok(self[index].clone())
    }
}

/// The smallest and largest value of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The smallest.
    pub min: f32,
    /// The largest.
    pub max: f32,
}

impl Range {
    /// The range of no values.
    pub const EMPTY: Self = Self {
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
    };

    /// The range of `values`; NaN, infinity and what stands for it are left out.
    pub fn of(values: &[f32]) -> Self {
        const LANES: usize = 32;
        let mut min = [f32::INFINITY; LANES];
        let mut max = [f32::NEG_INFINITY; LANES];
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut fold = |lane: usize, v: f32| {
            let usable = v.abs() < LARGEST;
            min[lane] = if usable & (v < min[lane]) {
                v
            } else {
                min[lane]
            };
            max[lane] = if usable & (v > max[lane]) {
                v
            } else {
                max[lane]
            };
        };
        for chunk in chunks {
            for (lane, &v) in chunk.iter().enumerate() {
                fold(lane, v);
            }
        }
        for &v in rest {
            fold(0, v);
        }
        let min = min.into_iter().fold(f32::INFINITY, f32::min);
        let max = max.into_iter().fold(f32::NEG_INFINITY, f32::max);
        Self { min, max }
    }

    /// The range of the values of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// Whether no value was seen.
    pub fn is_empty(self) -> bool {
        self.min > self.max
    }
}

/// The range of each tensor of a model, by subgraph and tensor.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Ranges(Vec<SubgraphRanges>);

impl Ranges {
    /// Those of the tensors of `subgraph`.
    pub fn subgraph(&self, subgraph: usize) -> &SubgraphRanges {
        self.0.get(subgraph).unwrap_or(SubgraphRanges::NONE)
    }
}

/// The range of each tensor of a subgraph, by tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SubgraphRanges(Vec<Range>);

impl SubgraphRanges {
    const NONE: &Self = &Self(Vec::new());

    /// The range of `tensor`; empty if it holds no float values.
    pub fn get(&self, tensor: TensorId) -> Range {
        self.0.get(tensor.index()).copied().unwrap_or(Range::EMPTY)
    }
}

/// The range of one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
struct SampleRange {
    /// Its place among all samples.
    sample: u64,
    range: Range,
}

/// What was seen of one tensor.
#[derive(Debug, Clone, PartialEq)]
struct Observation {
    range: Range,
    /// Whether its value does not depend on samples.
    is_constant: bool,
    /// The range of each sample, in their order; collected for a moving average only.
    samples: Vec<SampleRange>,
    /// Collected for the methods that need it only.
    histogram: Option<Histogram>,
}

impl Observation {
    const NOTHING: Self = Self {
        range: Range::EMPTY,
        is_constant: false,
        samples: Vec::new(),
        histogram: None,
    };

    fn add(&mut self, sample: u64, bytes: &[u8], need: Need) {
        let values: &[f32] = bytemuck::cast_slice(bytes);
        let range = Range::of(values);
        self.range = self.range.union(range);
        if need.samples && !range.is_empty() {
            match self.samples.last_mut() {
                // A body of a loop is run several times for one sample.
                Some(last) if last.sample == sample => last.range = last.range.union(range),
                _ => self.samples.push(SampleRange { sample, range }),
            }
        }
        if need.histogram {
            self.histogram.get_or_insert_default().add(values, range);
        }
    }

    fn merge(&mut self, other: Self) {
        self.range = self.range.union(other.range);
        self.is_constant |= other.is_constant;
        self.samples.extend(other.samples);
        self.samples.sort_by_key(|s| s.sample);
        match (&mut self.histogram, other.histogram) {
            (Some(histogram), Some(other)) => histogram.merge(&other),
            (histogram @ None, other) => *histogram = other,
            (Some(_), None) => {}
        }
    }
}

/// What calibration keeps of each tensor. Statistics of parts of the samples can be merged, in
/// any order, and are then those of all samples, bit for bit.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    samples: u64,
    /// By subgraph and tensor.
    subgraphs: Vec<Vec<Observation>>,
}

/// What a method needs beyond the range.
#[derive(Debug, Clone, Copy, Default)]
struct Need {
    samples: bool,
    histogram: bool,
}

impl Statistics {
    /// Those of no samples, for what needs none.
    pub fn none(model: &Model) -> Self {
        let model = with_intermediates(model);
        let nothing = |s: &Subgraph| vec![Observation::NOTHING; s.tensors.len()];
        Self {
            samples: 0,
            subgraphs: model.subgraphs.iter().map(nothing).collect(),
        }
    }

    /// How many samples they are of.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Adds what `other` holds, of the same model and other samples.
    pub fn merge(&mut self, other: Self) {
        self.samples += other.samples;
        let tensors = self.subgraphs.iter_mut().flatten();
        for (observed, other) in tensors.zip(other.subgraphs.into_iter().flatten()) {
            observed.merge(other);
        }
    }

    /// The range of each tensor of `model` that `recipe` suggests for `levels` integers.
    pub(crate) fn ranges(
        &self,
        model: &Model,
        recipe: &Recipe,
        levels: u32,
    ) -> Result<Ranges, ConvertError> {
        let subgraphs = self.subgraphs.iter().zip(&model.subgraphs).enumerate();
        let ranges = subgraphs.map(|(number, (observed, subgraph))| {
            let settings = tensor_settings(number, subgraph, recipe);
            subgraph_ranges(observed, subgraph, &settings, levels)
        });
        ranges.collect::<Result<_, _>>().map(Ranges)
    }
}

/// The range of each tensor of `subgraph` that `settings`, one a tensor, suggest for `levels`
/// integers.
fn subgraph_ranges(
    observed: &[Observation],
    subgraph: &Subgraph,
    settings: &[Settings],
    levels: u32,
) -> Result<SubgraphRanges, ConvertError> {
    let tensors = observed.iter().zip(settings).enumerate();
    let range = |(index, (observed, settings)): (usize, (&Observation, &Settings))| {
        let method = match (settings.method, &observed.histogram) {
            (CalibMethod::Auto, Some(_)) if levels <= 256 => CalibMethod::Mse,
            (CalibMethod::Auto, _) => CalibMethod::MinMax,
            (method, _) => method,
        };
        let need = Need::of(method);
        let has = Need {
            samples: !observed.samples.is_empty(),
            histogram: observed.histogram.is_some(),
        };
        let fixed = observed.is_constant || observed.range.is_empty();
        if !fixed && ((need.samples && !has.samples) || (need.histogram && !has.histogram)) {
            let name = &subgraph.tensors[index].name;
            return Err(ConvertError::Calibration(format!(
                "it was not collected for the method that tensor {name:?} shall have"
            )));
        }
        Ok(match (method, &observed.histogram) {
            (CalibMethod::MovingAverage, _) if !fixed => method::moving_average(&observed.samples),
            (CalibMethod::Percentile, Some(histogram)) => {
                method::percentile(histogram, observed.range, settings.percentile)
            }
            (CalibMethod::Mse, Some(histogram)) => {
                method::least_squares(histogram, observed.range, levels)
            }
            // More levels than bins lose nothing that could be measured.
            (CalibMethod::Entropy, Some(histogram)) if levels <= 256 => {
                method::least_divergence(histogram, observed.range)
            }
            _ => observed.range,
        })
    };
    tensors
        .map(range)
        .collect::<Result<_, _>>()
        .map(SubgraphRanges)
}

impl Need {
    fn of(method: CalibMethod) -> Self {
        Self {
            samples: matches!(method, CalibMethod::Auto | CalibMethod::MovingAverage),
            histogram: !matches!(method, CalibMethod::MinMax | CalibMethod::MovingAverage),
        }
    }
}

/// The settings of each tensor: those of the operator that computes it, or what holds by default.
fn tensor_settings(number: usize, subgraph: &Subgraph, recipe: &Recipe) -> Vec<Settings> {
    let nodes = recipe.settings(number, subgraph);
    let default = recipe.default_settings();
    let producers = subgraph.producers().into_iter();
    producers
        .map(|node| node.map_or(default, |node| nodes[node.index()]))
        .collect()
}

/// Runs the subgraph of `model` that `recipe` names on all of `samples`, `threads` at a time, and
/// returns what the recipe's methods need of every float tensor, those of subgraphs that operators
/// run among them. Each sample finds the variables as the first one does. Calls `progress` with the
/// number done and of all.
///
/// The result does not depend on the number of threads.
pub fn calibrate(
    model: &Model,
    samples: &(impl Source + ?Sized),
    recipe: &Recipe,
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Statistics, ConvertError> {
    if samples.is_empty() {
        return Err(ConvertError::NoSamples);
    }
    let model = &*with_intermediates(model);
    let plan = Arc::new(plan(model, recipe.subgraph)?);
    let needs = |(number, subgraph): (usize, &Subgraph)| -> Vec<Need> {
        let settings = tensor_settings(number, subgraph, recipe);
        let need = |settings: &Settings| match settings.method {
            CalibMethod::Auto if !recipe.has_int8() => Need::default(),
            method => Need::of(method),
        };
        settings.iter().map(need).collect()
    };
    let needs: Vec<Vec<Need>> = model.subgraphs.iter().enumerate().map(needs).collect();
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let merged = Mutex::new(Statistics::none(model));

    let run = || -> Result<(), ConvertError> {
        let mut runner = Runner::new(Arc::clone(&plan))?;
        let mut statistics = Statistics::none(model);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= samples.len() {
                break;
            }
            let sample = samples
                .get(index)
                .map_err(|source| ConvertError::Sample { index, source })?;
            for (input, bytes) in sample.iter().enumerate() {
                runner.set_input(input, bytes)?;
            }
            let position = samples.position(index) as u64;
            let mut add = |subgraph: usize, tensor: TensorId, bytes: &[u8]| {
                if model.subgraphs[subgraph][tensor].dtype == DType::F32 {
                    let need = needs[subgraph][tensor.index()];
                    let observed = &mut statistics.subgraphs[subgraph][tensor.index()];
                    observed.add(position, bytes, need);
                }
            };
            for &input in plan.inputs() {
                add(plan.subgraph(), input, runner.tensor(input));
            }
            runner.reset_variables();
            runner.run_observed(add)?;
            statistics.samples += 1;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, samples.len());
        }
        merged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .merge(statistics);
        Ok(())
    };
    // After a failure no thread starts another sample.
    let work = || run().inspect_err(|_| next.store(samples.len(), Ordering::Relaxed));
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(samples.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let first = work();
        others.into_iter().fold(first, |result, thread| {
            result.and(
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            )
        })
    })?;
    let mut statistics = merged.into_inner().unwrap_or_else(PoisonError::into_inner);
    for plan in plan.bodies().into_iter().chain([&*plan]) {
        let tensors = statistics.subgraphs[plan.subgraph()].iter_mut();
        for (index, observed) in tensors.enumerate() {
            let value = plan.value(TensorId(index as u32));
            if let (DType::F32, Some(data)) = (value.dtype, &value.data) {
                let values: Vec<f32> = value.constant().unwrap_or_default();
                debug_assert_eq!(values.len() * 4, data.len());
                *observed = Observation {
                    range: observed.range.union(Range::of(&values)),
                    is_constant: true,
                    ..Observation::NOTHING
                };
            }
        }
    }
    Ok(statistics)
}

/// The plan of the float model.
fn plan(model: &Model, entry: usize) -> Result<Plan, ConvertError> {
    let options = Options {
        observe_intermediates: true,
        subgraph: entry,
        ..Options::default()
    };
    Ok(Plan::new(model, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_leaves_out_what_is_not_finite() {
        let mut values = vec![0.5; 100];
        values.extend([f32::NAN, f32::INFINITY, -3.4e38, -2.0, 7.0]);
        assert_eq!(
            Range::of(&values),
            Range {
                min: -2.0,
                max: 7.0
            }
        );
        assert!(Range::of(&[f32::NAN]).is_empty());
    }

    #[test]
    fn union_with_nothing_changes_nothing() {
        let range = Range {
            min: -1.0,
            max: 2.0,
        };
        assert_eq!(range.union(Range::EMPTY), range);
    }

    #[test]
    fn rounds_of_a_loop_are_one_sample() {
        let need = Need {
            samples: true,
            ..Need::default()
        };
        let mut observed = Observation::NOTHING;
        for (sample, value) in [(3, 1f32), (3, -2.0), (4, 5.0)] {
            observed.add(sample, &value.to_ne_bytes(), need);
        }
        let ranges = observed.samples.iter();
        let ranges: Vec<_> = ranges
            .map(|s| (s.sample, s.range.min, s.range.max))
            .collect();
        assert_eq!(ranges, [(3, -2.0, 1.0), (4, 5.0, 5.0)]);
    }
}
