//! What can be converted but probably was not meant: too few samples, samples that are all alike, a concatenation
//! whose operands have little in common.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bantam_model::{DType, Op, Subgraph};

use crate::calibrate::{Range, Source, SubgraphRanges};
use crate::error::of_subgraph;
use crate::samples::SampleError;

/// With fewer samples ranges are a matter of luck.
const FEW: usize = 10;

/// Operands of a concatenation whose ranges differ by more than this lose 3 of 8 bits.
const UNEQUAL: f32 = 8.0;

/// Samples that are watched while they are read.
pub struct Watched<'a, S: ?Sized> {
    samples: &'a S,
    first: OnceLock<u64>,
    varied: AtomicBool,
}

impl<'a, S: Source + ?Sized> Watched<'a, S> {
    /// Watches `samples`.
    pub fn new(samples: &'a S) -> Self {
        Self {
            samples,
            first: OnceLock::new(),
            varied: AtomicBool::new(false),
        }
    }

    /// What is odd about the samples that were read.
    pub fn warnings(&self) -> Vec<String> {
        let count = self.samples.len();
        let mut warnings = Vec::new();
        if count < FEW {
            let noun = if count == 1 {
                "sample is"
            } else {
                "samples are"
            };
            warnings.push(format!(
                "{count} {noun} few to calibrate with: take about a hundred that look like the real ones"
            ));
        }
        if count > 1 && self.first.get().is_some() && !self.varied.load(Ordering::Relaxed) {
            warnings.push(format!("all {count} samples are the same"));
        }
        warnings
    }
}

impl<S: Source + ?Sized> Source for Watched<'_, S> {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn position(&self, index: usize) -> usize {
        self.samples.position(index)
    }

    fn get(&self, index: usize) -> Result<Vec<Vec<u8>>, SampleError> {
        let sample = self.samples.get(index)?;
        if !self.varied.load(Ordering::Relaxed) {
            let mut hasher = DefaultHasher::new();
            sample.hash(&mut hasher);
            let hash = hasher.finish();
            if *self.first.get_or_init(|| hash) != hash {
                self.varied.store(true, Ordering::Relaxed);
            }
        }
        Ok(sample)
    }
}

/// Inputs with integers.
pub(crate) fn inputs(subgraph: &Subgraph) -> Vec<String> {
    let tensors = subgraph.inputs.iter().map(|&id| &subgraph[id]);
    tensors
        .filter(|tensor| matches!(tensor.dtype, DType::I32 | DType::I64))
        .map(|tensor| {
            format!(
                "input {:?} is {}: samples must hold real indices, since ranges depend on what they pick",
                tensor.name, tensor.dtype
            )
        })
        .collect()
}

/// Concatenations of subgraph `number` whose operands differ so much in range that the narrow ones keep few of their
/// steps.
pub(crate) fn concatenations(
    number: usize,
    subgraph: &Subgraph,
    ranges: &SubgraphRanges,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let widths = |range: Range| range.max.max(0.0) - range.min.min(0.0);
    for (index, node) in subgraph.nodes.iter().enumerate() {
        if !matches!(node.op, Op::Concatenation(_)) {
            continue;
        }
        let operands = node
            .inputs
            .iter()
            .flatten()
            .filter(|&&id| subgraph[id].dtype == DType::F32 && !ranges.get(id).is_empty());
        let widths = operands.map(|&id| (id, widths(ranges.get(id))));
        let mut widths: Vec<_> = widths.filter(|(_, width)| *width > 0.0).collect();
        widths.sort_by(|a, b| a.1.total_cmp(&b.1));
        if let (Some(narrow), Some(wide)) = (widths.first(), widths.last())
            && wide.1 > UNEQUAL * narrow.1
        {
            warnings.push(format!(
                "operator {index}{} (CONCATENATION) joins {:?} with {:?}, whose range is {:.0} times as wide: the \
                 first keeps few of its steps; scale them alike, or end the model before it",
                of_subgraph(number),
                subgraph[narrow.0].name,
                subgraph[wide.0].name,
                wide.1 / narrow.1
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(samples: &[Vec<Vec<u8>>]) -> Vec<String> {
        let watched = Watched::new(samples);
        for index in 0..samples.len() {
            watched.get(index).unwrap();
        }
        watched.warnings()
    }

    #[test]
    fn few_samples_and_equal_samples_are_odd() {
        let equal = vec![vec![vec![1u8, 2]]; 12];
        assert_eq!(warnings(&equal), ["all 12 samples are the same"]);
        let mut varied = equal.clone();
        varied[11][0][1] = 3;
        assert!(warnings(&varied).is_empty());
        assert!(warnings(&varied[11..])[0].starts_with("1 sample is few"));
    }
}
