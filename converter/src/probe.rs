//! A few of the samples, on which whole models are judged, and runs of a plan on samples.

use std::collections::HashMap;
use std::sync::Arc;

use bantam_model::cpu::{Options, Plan, Runner};
use bantam_model::ops::{Role, Value};
use bantam_model::{Model, Node, Subgraph, TensorId};

use crate::calibrate::Source;
use crate::compare::{real, translate};
use crate::error::ConvertError;

/// No output is taken to be nearer than this: beyond it differences are those of float arithmetic.
const LARGEST_DB: f64 = 120.0;

/// On how many samples whole models are judged at most, and at least where there are as many.
const MOST: usize = 128;
const LEAST: usize = 16;

/// For how many multiplications, where that is between the two.
const WORK: f64 = 2e9;

/// How often each operator ran, by its subgraph and its place there.
pub(crate) type Runs = HashMap<(usize, usize), f64>;

/// Samples with the float model's outputs for them.
pub(crate) struct Probes<'a, S: ?Sized> {
    samples: &'a S,
    indexes: Vec<usize>,
    entry: usize,
    /// The inputs that the samples are for.
    inputs: Vec<Value>,
    /// By sample and output.
    expected: Vec<Vec<Vec<f64>>>,
    /// How often the float model runs each operator on all of them.
    pub runs: Runs,
}

impl<'a, S: Source + ?Sized> Probes<'a, S> {
    /// At most `most` of `samples`, evenly spread, for the subgraph `entry` of `float`.
    pub fn new(
        float: &Model,
        entry: usize,
        samples: &'a S,
        most: usize,
        threads: usize,
    ) -> Result<Self, ConvertError> {
        let indexes = spread(samples.len(), most);
        let plan = plan(float, entry, false)?;
        let value = |&id| plan.value(id).clone();
        let inputs: Vec<Value> = plan.inputs().iter().map(value).collect();
        let seen = each(&plan, &inputs, samples, &indexes, threads, |_, runner| {
            let mut runs = Runs::new();
            let count = |subgraph, node, _| *runs.entry((subgraph, node)).or_default() += 1.0;
            runner.run_timed(count)?;
            Ok((outputs(runner), runs))
        })?;
        let mut runs = Runs::new();
        let mut expected = Vec::with_capacity(seen.len());
        for (outputs, of_sample) in seen {
            expected.push(outputs);
            for (place, count) in of_sample {
                *runs.entry(place).or_default() += count;
            }
        }
        Ok(Self {
            samples,
            indexes,
            entry,
            inputs,
            expected,
            runs,
        })
    }

    /// As many of `samples` as a model of this size is worth, evenly spread.
    pub fn affordable(
        float: &Model,
        entry: usize,
        samples: &'a S,
        threads: usize,
    ) -> Result<Self, ConvertError> {
        let first = Self::new(float, entry, samples, 1, 1)?;
        let work = |(&(subgraph, node), runs): (&(usize, usize), &f64)| {
            let subgraph = &float.subgraphs[subgraph];
            runs * multiplications(subgraph, &subgraph.nodes[node])
        };
        let work: f64 = first.runs.iter().map(work).sum();
        let most = (WORK / work.max(1.0)) as usize;
        Self::new(float, entry, samples, most.clamp(LEAST, MOST), threads)
    }

    /// How near the outputs of `model` are.
    pub fn judge(&self, model: &Model, threads: usize) -> Result<Score, ConvertError> {
        let plan = plan(model, self.entry, false)?;
        let found = each(
            &plan,
            &self.inputs,
            self.samples,
            &self.indexes,
            threads,
            |_, runner| {
                runner.run()?;
                Ok(outputs(runner))
            },
        )?;
        let of_sample = |(expected, found): (&Vec<Vec<f64>>, &Vec<Vec<f64>>)| {
            let pairs = expected.iter().zip(found);
            let db: f64 = pairs.map(|(expected, found)| sqnr(expected, found)).sum();
            db / expected.len().max(1) as f64
        };
        let db = self.expected.iter().zip(&found).map(of_sample);
        Ok(Score { db: db.collect() })
    }
}

/// How near a model's outputs are to the float model's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Score {
    /// Signal to noise for each sample, the mean over outputs in dB.
    db: Vec<f64>,
}

impl Score {
    /// Signal to noise in dB, the mean over samples.
    pub fn db(&self) -> f64 {
        self.db.iter().sum::<f64>() / self.db.len().max(1) as f64
    }

    /// By how many of its standard errors this is above `other` on the same samples.
    ///
    /// Of many small changes some look good by chance on the samples at hand; what is above by two
    /// standard errors is so on others too, most likely.
    pub fn significance_over(&self, other: &Self) -> f64 {
        let differences = || self.db.iter().zip(&other.db).map(|(a, b)| a - b);
        let count = self.db.len() as f64;
        let mean = differences().sum::<f64>() / count.max(1.0);
        let squares: f64 = differences().map(|d| (d - mean) * (d - mean)).sum();
        let variance = squares / (count - 1.0).max(1.0) / count.max(1.0);
        match variance > 0.0 {
            true => mean / variance.sqrt(),
            false if mean == 0.0 => 0.0,
            false => mean.signum() * f64::INFINITY,
        }
    }
}

/// At most `most` of the numbers below `len`, evenly spread.
pub(crate) fn spread(len: usize, most: usize) -> Vec<usize> {
    let count = len.min(most);
    (0..count).map(|i| i * len / count).collect()
}

/// The plan of the subgraph `entry`; `keep_all` keeps every tensor of a run.
pub(crate) fn plan(model: &Model, entry: usize, keep_all: bool) -> Result<Arc<Plan>, ConvertError> {
    let options = Options {
        subgraph: entry,
        keep_all,
        ..Options::default()
    };
    Ok(Arc::new(Plan::new(model, &options)?))
}

/// Lets `run` run `plan` on the samples `indexes`, which are for inputs like `inputs`; it is told the
/// place in `indexes`. What it returns is in the order of `indexes`, whatever the number of threads.
pub(crate) fn each<S: Source + ?Sized, T: Send>(
    plan: &Arc<Plan>,
    inputs: &[Value],
    samples: &S,
    indexes: &[usize],
    threads: usize,
    run: impl Fn(usize, &mut Runner) -> Result<T, ConvertError> + Sync,
) -> Result<Vec<T>, ConvertError> {
    if indexes.is_empty() {
        return Err(ConvertError::NoSamples);
    }
    let size = indexes.len().div_ceil(threads.max(1));
    let some = |(part, indexes): (usize, &[usize])| -> Result<Vec<T>, ConvertError> {
        let mut runner = Runner::new(Arc::clone(plan))?;
        let mut one = |(at, &index): (usize, &usize)| {
            let sample = samples.get(index);
            let sample = sample.map_err(|source| ConvertError::Sample { index, source })?;
            for (input, (bytes, from)) in sample.iter().zip(inputs).enumerate() {
                let to = plan.inputs().get(input).map(|&id| plan.value(id));
                let bytes = translate(bytes, from, to.unwrap_or(from))?;
                runner.set_input(input, &bytes)?;
            }
            runner.reset_variables();
            run(part * size + at, &mut runner)
        };
        indexes.iter().enumerate().map(&mut one).collect()
    };
    let parts = indexes.chunks(size).enumerate();
    std::thread::scope(|scope| {
        let some = &some;
        let others: Vec<_> = parts
            .clone()
            .skip(1)
            .map(|part| scope.spawn(move || some(part)))
            .collect();
        let mut all = parts.take(1).map(some).collect::<Vec<_>>();
        all.extend(others.into_iter().map(|thread| {
            let joined = thread.join();
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }));
        let all: Result<Vec<Vec<T>>, _> = all.into_iter().collect();
        Ok(all?.into_iter().flatten().collect())
    })
}

fn outputs(runner: &Runner) -> Vec<Vec<f64>> {
    let plan = runner.plan();
    let outputs = plan.outputs().iter();
    outputs
        .map(|&id| real(plan.value(id), runner.tensor(id)))
        .collect()
}

/// How often `node` multiplies an operand with a weight.
pub(crate) fn multiplications(subgraph: &Subgraph, node: &Node) -> f64 {
    let rule = node.op.operator().ok().and_then(|op| op.quant_rule());
    let Some(rule) = rule else { return 0.0 };
    let elements = |id: Option<TensorId>| {
        let shape = id.map_or(&[][..], |id| &subgraph[id].shape);
        shape.iter().map(|&d| d as f64).product::<f64>()
    };
    let weights = (0..node.inputs.len()).find_map(|index| match rule.role(index) {
        Role::Weights { axis } => Some((node.input(index)?, axis)),
        _ => None,
    });
    let Some((weights, axis)) = weights else {
        return 0.0;
    };
    let channels = axis.and_then(|axis| subgraph[weights].shape.get(axis));
    let channels = channels.map_or(1.0, |&c| c.max(1) as f64);
    elements(Some(weights)) / channels * elements(node.outputs.first().copied())
}

/// Signal to noise in dB.
fn sqnr(expected: &[f64], found: &[f64]) -> f64 {
    let signal: f64 = expected.iter().map(|x| x * x).sum();
    let pairs = expected.iter().zip(found);
    let noise: f64 = pairs.map(|(x, y)| (x - y) * (x - y)).sum();
    decibels(signal, noise)
}

/// `signal` to `noise` in dB, at most [`LARGEST_DB`] either way.
pub(crate) fn decibels(signal: f64, noise: f64) -> f64 {
    const NOTHING: f64 = 1e-30;
    let db = 10.0 * ((signal + NOTHING) / (noise + NOTHING)).log10();
    db.clamp(-LARGEST_DB, LARGEST_DB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_covers_all_and_repeats_none() {
        assert_eq!(spread(3, 8), [0, 1, 2]);
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        assert_eq!(spread(0, 4), Vec::<usize>::new());
    }

    #[test]
    fn decibels_have_limits() {
        assert_eq!(decibels(1.0, 0.01), 20.0);
        assert_eq!(decibels(1.0, 0.0), LARGEST_DB);
        assert_eq!(decibels(0.0, 0.0), 0.0);
    }
}
