//! The metrics, by the names that users give them.

use std::fmt;
use std::str::FromStr;

use bantam_converter::metric::{self, MetricError};
use bantam_converter::samples::Tensor;

/// How outputs are compared with labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Share of samples whose label is among so many highest scores.
    Top(usize),
    /// Area under the ROC curve, for labels 0 and 1.
    Auc,
    /// Intersection over union, of a mask or of classes.
    Iou,
    /// Peak signal to noise in dB.
    Psnr,
    /// Signal to noise in dB.
    Sqnr,
    /// Mean squared error.
    Mse,
    /// Mean absolute error.
    Mae,
    /// Largest absolute error.
    MaxAbs,
    /// Cosine of the angle to what is expected.
    Cosine,
    /// Mean average precision of boxes.
    Map,
}

const NAMES: [(&str, Metric); 9] = [
    ("auc", Metric::Auc),
    ("iou", Metric::Iou),
    ("psnr", Metric::Psnr),
    ("sqnr", Metric::Sqnr),
    ("mse", Metric::Mse),
    ("mae", Metric::Mae),
    ("max-abs", Metric::MaxAbs),
    ("cosine", Metric::Cosine),
    ("map", Metric::Map),
];

impl Default for Metric {
    fn default() -> Self {
        Self::Top(1)
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, metric)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(*metric);
        }
        let number = text.strip_prefix("top-").and_then(|n| n.parse().ok());
        number.filter(|&n| n > 0).map(Self::Top).ok_or_else(|| {
            let names = NAMES.map(|(name, _)| name).join(", ");
            format!("metrics are top-1, top-2 and so on, {names}")
        })
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Top(n) = self {
            return write!(f, "top-{n}");
        }
        let name = NAMES.iter().find(|(_, metric)| metric == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

/// Outputs with their labels.
pub struct Judged<'a> {
    /// The outputs of all samples.
    pub values: &'a [f32],
    /// How many samples there are.
    pub samples: usize,
    /// The place of the first of them among all.
    pub first: usize,
    /// Their labels.
    pub labels: &'a Tensor,
    /// How much more a label is than a class.
    pub offset: i64,
    /// The largest value of a signal.
    pub peak: f32,
}

/// Why labels do not fit.
#[derive(Debug)]
pub enum Unfit {
    /// The metric refuses them.
    Metric(MetricError),
    /// A label is no class of the model.
    Class {
        /// The label.
        label: i64,
        /// The class that it is.
        class: i64,
        /// The sample's place among all.
        sample: usize,
        /// How many classes there are.
        classes: usize,
    },
    /// A class is not a whole number.
    NotWhole,
    /// Scores of more than two classes.
    Columns(usize),
}

impl From<MetricError> for Unfit {
    fn from(error: MetricError) -> Self {
        Self::Metric(error)
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metric(error) => error.fmt(f),
            Self::Class {
                label,
                class,
                sample,
                classes,
            } => {
                write!(f, "label {label} of sample {sample}")?;
                if class != label {
                    write!(f, " is class {class}, which")?;
                }
                write!(f, " is none of {classes} classes")
            }
            Self::NotWhole => f.write_str("a label is not a whole number"),
            Self::Columns(columns) => write!(f, "{columns} scores a sample, auc takes 1 or 2"),
        }
    }
}

impl Judged<'_> {
    /// How many labels a sample has: that of each point, for `iou`.
    fn labels_each(&self) -> usize {
        let shape = self.labels.shape.get(1..).unwrap_or_default();
        shape.iter().product::<usize>().max(1)
    }

    fn classes(&self) -> Result<Vec<i64>, Unfit> {
        let classes = self.labels.to_i64().ok_or(Unfit::NotWhole)?;
        let shifted = classes
            .iter()
            .map(|label| label.saturating_sub(self.offset));
        Ok(shifted.collect())
    }

    fn auc(&self) -> Result<f64, Unfit> {
        // The score of a classifier with two outputs is that of class 1.
        let columns = (self.values.len() / self.samples.max(1)).max(1);
        if columns > 2 {
            return Err(Unfit::Columns(columns));
        }
        let rows = self.values.chunks(columns);
        let scores: Vec<f32> = rows.map(|row| row[row.len() - 1]).collect();
        Ok(metric::auc(&scores, &self.classes()?)?)
    }
}

impl Metric {
    /// The figure; boxes are judged elsewhere.
    pub fn measure(self, judged: &Judged<'_>) -> Result<f64, Unfit> {
        self.value(judged).map_err(|unfit| match unfit {
            Unfit::Metric(MetricError::Label {
                label,
                sample,
                classes,
            }) => Unfit::Class {
                label: label.saturating_add(judged.offset),
                class: label,
                sample: judged.first + sample / judged.labels_each(),
                classes,
            },
            other => other,
        })
    }

    fn value(self, judged: &Judged<'_>) -> Result<f64, Unfit> {
        let (values, samples) = (judged.values, judged.samples);
        let expected = judged.labels.to_f32();
        Ok(match self {
            Self::Top(k) => metric::top_k_accuracy(values, &judged.classes()?, k)?,
            Self::Auc => judged.auc()?,
            Self::Iou if expected.len() == values.len() => metric::iou_mask(&expected, values)?,
            Self::Iou => metric::iou_classes(values, &judged.classes()?)?,
            Self::Psnr => metric::psnr_db(&expected, values, samples, judged.peak)?,
            Self::Sqnr => metric::sqnr_db(&expected, values, samples)?,
            Self::Mse => metric::mse(&expected, values)?,
            Self::Mae => metric::mae(&expected, values)?,
            Self::MaxAbs => metric::max_abs(&expected, values)?,
            Self::Cosine => metric::cosine(&expected, values, samples)?,
            Self::Map => return Err(MetricError::Empty.into()),
        })
    }
}

/// A figure as people read it: four places, or the power of ten of a small one.
pub fn figure(value: f64) -> String {
    match value.abs() {
        small if small > 0.0 && small < 0.01 => format!("{value:.4e}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_read_as_it_is_shown() {
        let tops = [Metric::Top(1), Metric::Top(17)];
        for metric in NAMES.iter().map(|(_, metric)| *metric).chain(tops) {
            assert_eq!(metric.to_string().parse(), Ok(metric));
        }
        for text in ["top-0", "top-", "top--1", "top", "MAP", ""] {
            assert!(text.parse::<Metric>().is_err(), "{text}");
        }
    }

    #[test]
    fn small_figures_keep_their_digits() {
        assert_eq!(figure(0.5), "0.5000");
        assert_eq!(figure(0.0), "0.0000");
        assert_eq!(figure(1.25e-5), "1.2500e-5");
    }
}
