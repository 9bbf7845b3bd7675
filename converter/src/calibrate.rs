//! Runs the float model on samples and collects the range of every tensor.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bantam_model::cpu::{Options, Plan, Runner};
use bantam_model::{DType, Model, Subgraph, TensorId};

use crate::error::ConvertError;
use crate::samples::{SampleError, Samples};

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
#[derive(Debug, Clone, PartialEq)]
pub struct Ranges(Vec<SubgraphRanges>);

/// The range of each tensor of a subgraph, by tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct SubgraphRanges(Vec<Range>);

impl Ranges {
    fn empty(model: &Model) -> Self {
        let empty = |s: &Subgraph| SubgraphRanges(vec![Range::EMPTY; s.tensors.len()]);
        Self(model.subgraphs.iter().map(empty).collect())
    }

    /// The ranges of the tensors of `subgraph`, a number that the model has.
    pub fn subgraph(&self, subgraph: usize) -> &SubgraphRanges {
        &self.0[subgraph]
    }

    fn add(&mut self, subgraph: usize, tensor: TensorId, values: &[f32]) {
        let range = &mut self.0[subgraph].0[tensor.index()];
        *range = range.union(Range::of(values));
    }

    fn merge(&mut self, other: &Self) {
        let ranges = self.0.iter_mut().flat_map(|s| &mut s.0);
        for (range, other) in ranges.zip(other.0.iter().flat_map(|s| &s.0)) {
            *range = range.union(*other);
        }
    }
}

impl SubgraphRanges {
    /// The range of `tensor`; empty if it holds no float values.
    pub fn get(&self, tensor: TensorId) -> Range {
        self.0.get(tensor.index()).copied().unwrap_or(Range::EMPTY)
    }
}

/// Runs `model` on all of `samples`, `threads` at a time, and returns the range of every float
/// tensor over all of them, those of subgraphs that operators run among them. Each sample finds the
/// variables as the first one does. Calls `progress` with the number done and of all.
///
/// The result does not depend on the number of threads.
pub fn calibrate(
    model: &Model,
    samples: &(impl Source + ?Sized),
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Ranges, ConvertError> {
    calibrate_subgraph(model, 0, samples, threads, progress)
}

/// The same with `samples` for the subgraph `entry`, which runs instead of the first one.
pub fn calibrate_subgraph(
    model: &Model,
    entry: usize,
    samples: &(impl Source + ?Sized),
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Ranges, ConvertError> {
    if samples.is_empty() {
        return Err(ConvertError::NoSamples);
    }
    let plan = Arc::new(plan(model, entry)?);
    let dtype = |subgraph: usize, tensor: TensorId| model.subgraphs[subgraph][tensor].dtype;
    let empty = || Ranges::empty(model);
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let merged = Mutex::new(empty());

    let run = || -> Result<(), ConvertError> {
        let mut runner = Runner::new(Arc::clone(&plan))?;
        let mut ranges = empty();
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
            let mut add = |subgraph: usize, tensor: TensorId, bytes: &[u8]| {
                if dtype(subgraph, tensor) == DType::F32 {
                    ranges.add(subgraph, tensor, bytemuck::cast_slice(bytes));
                }
            };
            for &input in plan.inputs() {
                add(plan.subgraph(), input, runner.tensor(input));
            }
            runner.reset_variables();
            runner.run_observed(add)?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, samples.len());
        }
        merged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .merge(&ranges);
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
    let mut ranges = merged.into_inner().unwrap_or_else(PoisonError::into_inner);
    for plan in plan.bodies().into_iter().chain([&*plan]) {
        for index in 0..model.subgraphs[plan.subgraph()].tensors.len() {
            let tensor = TensorId(index as u32);
            let value = plan.value(tensor);
            if let (DType::F32, Some(data)) = (value.dtype, &value.data) {
                let values: Vec<f32> = value.constant().unwrap_or_default();
                debug_assert_eq!(values.len() * 4, data.len());
                ranges.add(plan.subgraph(), tensor, &values);
            }
        }
    }
    Ok(ranges)
}

/// The subgraph `entry`, if there is one, and all that operators of those in the list run.
pub(crate) fn reachable(model: &Model, entry: usize) -> Vec<usize> {
    let mut list = Vec::from_iter((entry < model.subgraphs.len()).then_some(entry));
    let mut at = 0;
    while let Some(&subgraph) = list.get(at) {
        for body in model.subgraphs[subgraph]
            .nodes
            .iter()
            .flat_map(|n| n.op.bodies())
        {
            match usize::try_from(body.subgraph) {
                Ok(body) if body < model.subgraphs.len() && !list.contains(&body) => {
                    list.push(body)
                }
                _ => {}
            }
        }
        at += 1;
    }
    list
}

/// The plan of the float model; an error that names every operator without a kernel.
fn plan(model: &Model, entry: usize) -> Result<Plan, ConvertError> {
    let nodes = reachable(model, entry)
        .into_iter()
        .flat_map(|s| &model.subgraphs[s].nodes);
    let missing = nodes
        .filter(|n| n.op.operator().is_err())
        .map(|n| n.op.to_string());
    let missing: BTreeSet<String> = missing.collect();
    if !missing.is_empty() {
        return Err(ConvertError::NoKernel {
            operators: missing.into_iter().collect(),
        });
    }
    let options = Options {
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
}
