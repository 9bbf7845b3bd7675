//! What a tensor's error probably comes from, and what to try.

use std::fmt;

use crate::compare::{BINS, TensorError};

/// Errors below this are good enough not to be worth advice, in dB.
const GOOD_DB: f64 = 35.0;

/// A share of clipped values above this is worth more samples.
const CLIPPED: f64 = 1e-3;

/// Nearly all values: those that remain are outliers.
const NEARLY_ALL: f64 = 0.999;

/// Nearly all values in less than this share of the range means that outliers stretch it.
const NARROW: f64 = 0.25;

/// An operator that loses more than this is itself the cause, in dB.
const LOSS_DB: f64 = 6.0;

/// Why a tensor of a quantized model is far from that of the float model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Advice {
    /// Values lie beyond what calibration saw.
    Clipped {
        /// Their share.
        share: f64,
    },
    /// A few values far out stretch the range, so that most of it is hardly used.
    Outliers {
        /// The share of the range that holds 99.9 % of the values.
        used: f64,
    },
    /// The operator that computes it loses much more than its operands had lost.
    Operator {
        /// How much, in dB.
        loss_db: f64,
    },
}

impl Advice {
    /// The likeliest cause of `error`, if one stands out.
    pub(crate) fn of(error: &TensorError) -> Option<Self> {
        if error.sqnr_db >= GOOD_DB {
            return None;
        }
        if error.clipped > CLIPPED && !error.is_fixed {
            return Some(Self::Clipped {
                share: error.clipped,
            });
        }
        let used = used(&error.histogram);
        if used.is_some_and(|used| used < NARROW) && !error.is_fixed {
            return used.map(|used| Self::Outliers { used });
        }
        let loss_db = error.loss_db.filter(|&loss| loss > LOSS_DB)?;
        Some(Self::Operator { loss_db })
    }
}

/// The share of the bins that holds nearly all values: the narrowest run of bins that does.
fn used(histogram: &[u64]) -> Option<f64> {
    let total: u64 = histogram.iter().sum();
    if total == 0 {
        return None;
    }
    let enough = (total as f64 * NEARLY_ALL).ceil() as u64;
    let mut narrowest = BINS;
    let (mut start, mut inside) = (0, 0);
    for end in 0..histogram.len() {
        inside += histogram[end];
        while inside - histogram[start] >= enough {
            inside -= histogram[start];
            start += 1;
        }
        if inside >= enough {
            narrowest = narrowest.min(end + 1 - start);
        }
    }
    Some(narrowest as f64 / BINS as f64)
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clipped { share } => write!(
                f,
                "{:.2} % of the values lie beyond the calibrated range: calibrate with more samples, \
                 or with ones like these",
                share * 100.0
            ),
            Self::Outliers { used } => write!(
                f,
                "99.9 % of the values lie in {:.0} % of the range, outliers stretch it: try \
                 --calib-method percentile or mse",
                used * 100.0
            ),
            Self::Operator { loss_db } => write!(
                f,
                "its operator loses {loss_db:.0} dB: keep it in float or int16 by a recipe"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(histogram: Vec<u64>, clipped: f64, loss_db: Option<f64>) -> TensorError {
        TensorError {
            name: "t".into(),
            subgraph: 0,
            node: None,
            sqnr_db: 20.0,
            cosine: 1.0,
            max_abs: 0.0,
            mse: 0.0,
            range: (0.0, 1.0),
            covered: Some((0.0, 1.0)),
            histogram,
            clipped,
            is_fixed: false,
            loss_db,
        }
    }

    #[test]
    fn a_few_values_far_out_are_outliers() {
        let mut histogram = vec![0; BINS];
        histogram[10..18].fill(1000);
        histogram[63] = 1;
        let advice = error(histogram.clone(), 0.0, None).advice();
        assert_eq!(advice, Some(Advice::Outliers { used: 8.0 / 64.0 }));
        histogram[63] = 1000;
        assert_eq!(error(histogram, 0.0, None).advice(), None);
    }

    #[test]
    fn clipping_comes_before_outliers_and_the_operator_last() {
        let narrow = [&[9000][..], &[0; BINS - 1]].concat();
        let clipped = error(narrow, 0.01, Some(9.0)).advice();
        assert_eq!(clipped, Some(Advice::Clipped { share: 0.01 }));
        let operator = error(vec![100; BINS], 0.0, Some(9.0)).advice();
        assert_eq!(operator, Some(Advice::Operator { loss_db: 9.0 }));
        assert_eq!(error(vec![100; BINS], 0.0, Some(1.0)).advice(), None);
    }

    #[test]
    fn no_other_calibration_changes_what_a_kernel_demands() {
        let narrow = [&[9000][..], &[0; BINS - 1]].concat();
        let softmax = TensorError {
            is_fixed: true,
            ..error(narrow, 0.0, None)
        };
        assert_eq!(softmax.advice(), None);
    }

    #[test]
    fn what_is_good_needs_no_advice() {
        let good = TensorError {
            sqnr_db: 50.0,
            ..error(Vec::new(), 0.5, Some(20.0))
        };
        assert_eq!(good.advice(), None);
    }
}
