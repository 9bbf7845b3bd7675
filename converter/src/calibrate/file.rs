//! Statistics as a JSON text, the same for the same values seen.

use bantam_model::Model;
use serde::{Deserialize, Serialize};

use super::histogram::{HALF, Histogram};
use super::{LARGEST, Observation, Range, SampleRange, Statistics};
use crate::error::ConvertError;
use crate::quantize::with_intermediates;

const SCHEMA: &str = "bantam.calibration";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    samples: u64,
    schema: String,
    schema_version: u32,
    tensors: Vec<Tensor>,
}

/// Values that are float32 are written as float64, so that none is rounded when it is read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    constant: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    histogram: Option<Bins>,
    index: usize,
    max: f64,
    min: f64,
    name: String,
    /// Sample, smallest and largest value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    samples: Vec<(u64, f64, f64)>,
    #[serde(default, skip_serializing_if = "crate::recipe::is_first")]
    subgraph: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bins {
    counts: Vec<u64>,
    exponent: i32,
    first: usize,
    zeros: u64,
}

impl From<&Histogram> for Bins {
    fn from(histogram: &Histogram) -> Self {
        let counts = &histogram.counts;
        let first = counts.iter().position(|&c| c > 0).unwrap_or(0);
        let end = counts
            .iter()
            .rposition(|&c| c > 0)
            .map_or(0, |last| last + 1);
        Self {
            counts: counts[first..end].to_vec(),
            exponent: histogram.exponent,
            first,
            zeros: histogram.zeros,
        }
    }
}

impl Bins {
    fn histogram(self) -> Option<Histogram> {
        let bins = 2 * HALF as usize;
        let end = self.first.checked_add(self.counts.len())?;
        if end > bins || !(-200..=200).contains(&self.exponent) {
            return None;
        }
        let mut counts = Vec::new();
        if !self.counts.is_empty() {
            counts = vec![0; bins];
            counts[self.first..end].copy_from_slice(&self.counts);
        }
        Some(Histogram {
            exponent: self.exponent,
            counts,
            zeros: self.zeros,
        })
    }
}

impl Statistics {
    /// The statistics of `model` as a text.
    pub fn to_json(&self, model: &Model) -> String {
        let model = with_intermediates(model);
        let subgraphs = self.subgraphs.iter().zip(&model.subgraphs).enumerate();
        let seen = subgraphs.flat_map(|(subgraph, (observed, graph))| {
            let tensors = observed.iter().zip(&graph.tensors).enumerate();
            tensors.map(move |(index, (observed, tensor))| (subgraph, index, observed, tensor))
        });
        let tensors = seen
            .filter(|(_, _, observed, _)| !observed.range.is_empty())
            .map(|(subgraph, index, observed, tensor)| Tensor {
                constant: observed.is_constant,
                histogram: observed.histogram.as_ref().map(Bins::from),
                index,
                max: observed.range.max.into(),
                min: observed.range.min.into(),
                name: tensor.name.clone(),
                samples: observed
                    .samples
                    .iter()
                    .map(|s| (s.sample, s.range.min.into(), s.range.max.into()))
                    .collect(),
                subgraph,
            });
        let file = File {
            samples: self.samples,
            schema: SCHEMA.to_owned(),
            schema_version: VERSION,
            tensors: tensors.collect(),
        };
        let mut text = serde_json::to_string(&file).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads the statistics of `model` from a text.
    pub fn from_json(text: &str, model: &Model) -> Result<Self, ConvertError> {
        let wrong = |why: String| ConvertError::Calibration(why);
        let file: File = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if file.schema != SCHEMA || file.schema_version != VERSION {
            return Err(wrong(format!(
                "it is {} version {}, not {SCHEMA} version {VERSION}",
                file.schema, file.schema_version
            )));
        }
        let model = &*with_intermediates(model);
        let mut statistics = Self::none(model);
        statistics.samples = file.samples;
        for tensor in file.tensors {
            let graph = model.subgraphs.get(tensor.subgraph);
            let known = graph.and_then(|graph| graph.tensors.get(tensor.index));
            if known.is_none_or(|known| known.name != tensor.name) {
                return Err(wrong(format!(
                    "it was made for another model: tensor {} of subgraph {} is not {:?}",
                    tensor.index, tensor.subgraph, tensor.name
                )));
            }
            let range = |min: f64, max: f64| {
                let (min, max) = (min as f32, max as f32);
                let usable = min <= max && min.abs() < LARGEST && max.abs() < LARGEST;
                usable.then_some(Range { min, max })
            };
            let invalid = || wrong(format!("what it holds of {:?} is broken", tensor.name));
            let histogram = match tensor.histogram {
                Some(bins) => Some(bins.histogram().ok_or_else(invalid)?),
                None => None,
            };
            let samples = tensor.samples.iter().map(|&(sample, min, max)| {
                let range = range(min, max)?;
                Some(SampleRange { sample, range })
            });
            let samples: Option<Vec<SampleRange>> = samples.collect();
            statistics.subgraphs[tensor.subgraph][tensor.index] = Observation {
                range: range(tensor.min, tensor.max).ok_or_else(invalid)?,
                is_constant: tensor.constant,
                samples: samples.ok_or_else(invalid)?,
                histogram,
            };
        }
        Ok(statistics)
    }
}
