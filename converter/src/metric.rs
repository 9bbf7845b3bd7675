//! How good outputs are: against labels, or against the outputs of another model.
//!
//! Pure functions on flat slices. Where a figure is a mean over samples, `samples` says how many equal parts
//! the slices have. Every result is finite; values that are not are an error, since a comparison with NaN
//! would silently count as a success or a failure.

/// Why a metric cannot be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// There is nothing to compare.
    #[error("there are no values")]
    Empty,
    /// Two slices do not belong together.
    #[error("{actual} values do not match {expected}")]
    Length {
        /// Length of the slice that sets the measure.
        expected: usize,
        /// Length of the other.
        actual: usize,
    },
    /// The values are not whole samples.
    #[error("{len} values do not make {samples} equal samples")]
    Samples {
        /// How many values there are.
        len: usize,
        /// How many samples they should be.
        samples: usize,
    },
    /// A value is infinite or not a number.
    #[error("value {index} is {value}")]
    NotFinite {
        /// Its index in the slice.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A label names no class.
    #[error("label {label} of sample {sample} is none of {classes} classes")]
    Label {
        /// The label.
        label: i64,
        /// Its index.
        sample: usize,
        /// How many classes there are.
        classes: usize,
    },
    /// All labels are the same, so that nothing is ranked.
    #[error("all labels are {label}, both 0 and 1 are needed")]
    OneClass {
        /// That label.
        label: i64,
    },
    /// The peak value of a signal is not above 0.
    #[error("the peak value {peak} is not above 0")]
    Peak {
        /// The value.
        peak: f32,
    },
}

type Result<T> = std::result::Result<T, MetricError>;

/// Share of samples whose label is among the `k` highest scores. `scores` has a row of one score a class for
/// each label; of equal scores the lower class ranks higher, as in `numpy.argmax`.
pub fn top_k_accuracy(scores: &[f32], labels: &[i64], k: usize) -> Result<f64> {
    let mut hits = 0;
    for (sample, (row, &label)) in rows(scores, labels.len())?.zip(labels).enumerate() {
        let class = class_of(label, sample, row.len())?;
        let score = row[class];
        let ahead = row
            .iter()
            .enumerate()
            .filter(|&(c, &s)| s > score || (s == score && c < class))
            .count();
        hits += usize::from(ahead < k);
    }
    Ok(hits as f64 / labels.len() as f64)
}

/// Area under the ROC curve: how often a sample of label 1 scores above one of label 0, ties counting half.
pub fn auc(scores: &[f32], labels: &[i64]) -> Result<f64> {
    check_pair(labels.len(), scores.len())?;
    check_finite(scores)?;
    let mut ranked = Vec::with_capacity(scores.len());
    for (sample, (&score, &label)) in scores.iter().zip(labels).enumerate() {
        ranked.push((score, class_of(label, sample, 2)? == 1));
    }
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));

    let (mut below, mut wins) = (0.0, 0.0);
    for ties in ranked.chunk_by(|a, b| a.0 == b.0) {
        let positives = ties.iter().filter(|(_, positive)| *positive).count() as f64;
        let negatives = ties.len() as f64 - positives;
        wins += positives * (below + negatives / 2.0);
        below += negatives;
    }
    let positives = ranked.len() as f64 - below;
    if positives == 0.0 || below == 0.0 {
        return Err(MetricError::OneClass { label: labels[0] });
    }
    Ok(wins / (positives * below))
}

/// Peak signal-to-noise ratio in dB, `10 log10(peak^2 / mse)`, mean over samples. `peak` is the largest value
/// a signal can have (1 or 255). A sample without any error counts 120 dB.
pub fn psnr_db(reference: &[f32], other: &[f32], samples: usize, peak: f32) -> Result<f64> {
    if !(peak > 0.0 && peak.is_finite()) {
        return Err(MetricError::Peak { peak });
    }
    let power = f64::from(peak).powi(2);
    mean_over_samples(reference, other, samples, |a, b| {
        let noise = squared_error(a, b) / a.len() as f64;
        10.0 * (power / noise.max(1e-12 * power)).log10()
    })
}

/// Signal-to-quantization-noise ratio in dB, `10 log10(sum r^2 / sum (r - o)^2)`, mean over samples. Noise is
/// taken as at least 1e-12 of the signal, so that equal samples count 120 dB.
pub fn sqnr_db(reference: &[f32], other: &[f32], samples: usize) -> Result<f64> {
    mean_over_samples(reference, other, samples, |a, b| {
        let signal: f64 = a.iter().map(|&x| f64::from(x).powi(2)).sum();
        let noise = squared_error(a, b).max(1e-12 * signal + 1e-30);
        10.0 * (signal / noise + 1e-30).log10()
    })
}

/// Intersection over union of two masks, a value above 0.5 being in the mask; over all values at once, not a
/// mean over samples. Two empty masks agree: 1.
pub fn iou_mask(expected: &[f32], actual: &[f32]) -> Result<f64> {
    check_values(expected, actual)?;
    let (mut both, mut either) = (0usize, 0usize);
    for (&a, &b) in expected.iter().zip(actual) {
        both += usize::from(a > 0.5 && b > 0.5);
        either += usize::from(a > 0.5 || b > 0.5);
    }
    Ok(if either == 0 {
        1.0
    } else {
        both as f64 / either as f64
    })
}

/// Mean over classes of intersection over union, the class of a point being that of its highest score.
/// `scores` has a row of one score a class for each label; a class that neither has is left out.
pub fn iou_classes(scores: &[f32], labels: &[i64]) -> Result<f64> {
    let points = rows(scores, labels.len())?;
    let classes = scores.len() / labels.len();
    let (mut both, mut either) = (vec![0usize; classes], vec![0usize; classes]);
    for (sample, (row, &label)) in points.zip(labels).enumerate() {
        let (expected, actual) = (class_of(label, sample, classes)?, argmax(row));
        either[expected] += 1;
        if expected == actual {
            both[expected] += 1;
        } else {
            either[actual] += 1;
        }
    }
    let ratios = both
        .iter()
        .zip(&either)
        .filter(|(_, e)| **e > 0)
        .map(|(&b, &e)| b as f64 / e as f64);
    let (sum, count) = ratios.fold((0.0, 0), |(sum, count), ratio| (sum + ratio, count + 1));
    Ok(sum / f64::from(count))
}

/// Mean of squared differences.
pub fn mse(reference: &[f32], other: &[f32]) -> Result<f64> {
    check_values(reference, other)?;
    Ok(squared_error(reference, other) / reference.len() as f64)
}

/// Mean of absolute differences.
pub fn mae(reference: &[f32], other: &[f32]) -> Result<f64> {
    check_values(reference, other)?;
    let sum: f64 = reference
        .iter()
        .zip(other)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs())
        .sum();
    Ok(sum / reference.len() as f64)
}

/// Largest absolute difference.
pub fn max_abs(reference: &[f32], other: &[f32]) -> Result<f64> {
    check_values(reference, other)?;
    Ok(reference
        .iter()
        .zip(other)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs())
        .fold(0.0, f64::max))
}

/// Cosine of the angle between the two as vectors, mean over samples; for a sample 1 if both are zero, 0 if only
/// one is.
pub fn cosine(reference: &[f32], other: &[f32], samples: usize) -> Result<f64> {
    let dot = |x: &[f32], y: &[f32]| {
        x.iter()
            .zip(y)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum::<f64>()
    };
    mean_over_samples(reference, other, samples, |x, y| {
        let (a, b) = (dot(x, x), dot(y, y));
        if a == 0.0 || b == 0.0 {
            return f64::from(u8::from(a == b));
        }
        (dot(x, y) / (a.sqrt() * b.sqrt())).clamp(-1.0, 1.0)
    })
}

/// Index of the highest score, the first of equals; 0 without scores.
pub fn argmax(scores: &[f32]) -> usize {
    let mut best = 0;
    for (index, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = index;
        }
    }
    best
}

fn rows(values: &[f32], samples: usize) -> Result<std::slice::ChunksExact<'_, f32>> {
    if values.is_empty() || samples == 0 {
        return Err(MetricError::Empty);
    }
    if !values.len().is_multiple_of(samples) {
        return Err(MetricError::Samples {
            len: values.len(),
            samples,
        });
    }
    check_finite(values)?;
    Ok(values.chunks_exact(values.len() / samples))
}

fn mean_over_samples(
    a: &[f32],
    b: &[f32],
    samples: usize,
    of: impl Fn(&[f32], &[f32]) -> f64,
) -> Result<f64> {
    check_pair(a.len(), b.len())?;
    let sum: f64 = rows(a, samples)?
        .zip(rows(b, samples)?)
        .map(|(a, b)| of(a, b))
        .sum();
    Ok(sum / samples as f64)
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum()
}

fn class_of(label: i64, sample: usize, classes: usize) -> Result<usize> {
    let class = usize::try_from(label).ok().filter(|&class| class < classes);
    class.ok_or(MetricError::Label {
        label,
        sample,
        classes,
    })
}

fn check_values(a: &[f32], b: &[f32]) -> Result<()> {
    check_pair(a.len(), b.len())?;
    check_finite(a)?;
    check_finite(b)
}

fn check_pair(expected: usize, actual: usize) -> Result<()> {
    match (expected, actual) {
        _ if expected != actual => Err(MetricError::Length { expected, actual }),
        (0, _) => Err(MetricError::Empty),
        _ => Ok(()),
    }
}

fn check_finite(values: &[f32]) -> Result<()> {
    match values.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(MetricError::NotFinite {
            index,
            value: values[index],
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: Result<f64>, b: f64) {
        let a = a.unwrap();
        assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn top_k_counts_labels_among_the_highest() {
        let scores = [0.1, 0.7, 0.2, 0.5, 0.3, 0.2];
        close(top_k_accuracy(&scores, &[1, 1], 1), 0.5);
        close(top_k_accuracy(&scores, &[2, 2], 2), 0.5);
        close(top_k_accuracy(&scores, &[0, 2], 3), 1.0);
        close(top_k_accuracy(&scores, &[1, 0], 0), 0.0);
        // Of equal scores the first is taken, so a model that says nothing is right for class 0 alone.
        close(top_k_accuracy(&[0.5; 4], &[0, 1], 1), 0.5);
    }

    #[test]
    fn auc_is_the_share_of_ordered_pairs() {
        // Pairs (positive, negative): 0.8 > 0.1, 0.8 > 0.4, 0.35 > 0.1, 0.35 < 0.4.
        close(auc(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1]), 0.75);
        close(auc(&[0.5, 0.5], &[0, 1]), 0.5);
        close(auc(&[-0.0, 0.0, 1.0], &[1, 0, 0]), 0.25);
        assert_eq!(
            auc(&[0.5, 0.6], &[1, 1]),
            Err(MetricError::OneClass { label: 1 })
        );
        assert_eq!(
            auc(&[0.5], &[2]),
            Err(MetricError::Label {
                label: 2,
                sample: 0,
                classes: 2
            })
        );
    }

    #[test]
    fn decibels_are_means_over_samples() {
        // Errors 0.1 and 0.01 on peak 1: 20 dB and 40 dB.
        close(
            psnr_db(&[1.0, 0.0, 0.5, 0.5], &[0.9, 0.1, 0.51, 0.49], 2, 1.0),
            30.0,
        );
        close(psnr_db(&[0.5; 3], &[0.5; 3], 1, 255.0), 120.0);
        // Signal 4, noise 0.04; then signal 1, noise 1.
        close(sqnr_db(&[2.0, 1.0], &[1.8, 0.0], 2), 10.0);
        close(sqnr_db(&[3.0, 4.0], &[3.0, 4.0], 1), 120.0);
        close(sqnr_db(&[0.0], &[1.0], 1), -300.0);
        assert_eq!(
            psnr_db(&[1.0], &[1.0], 1, 0.0),
            Err(MetricError::Peak { peak: 0.0 })
        );
    }

    #[test]
    fn iou_compares_masks_and_classes() {
        close(
            iou_mask(&[1.0, 1.0, 0.0, 0.0], &[0.9, 0.5, 0.6, 0.1]),
            1.0 / 3.0,
        );
        close(iou_mask(&[0.0], &[0.5]), 1.0);
        // Predicted 0, 1, 1 for 0, 0, 1; class 2 does not occur: (1/2 + 1/2) / 2.
        let scores = [0.9, 0.1, 0.0, 0.2, 0.8, 0.0, 0.1, 0.9, 0.0];
        close(iou_classes(&scores, &[0, 0, 1]), 0.5);
    }

    #[test]
    fn differences_by_hand() {
        let (a, b) = ([3.0, 4.0], [4.0, 1.0]);
        close(mse(&a, &b), 5.0);
        close(mae(&a, &b), 2.0);
        close(max_abs(&a, &b), 3.0);
        close(cosine(&a, &b, 1), 16.0 / (5.0 * 17f64.sqrt()));
        close(cosine(&a, &[-3.0, -4.0], 1), -1.0);
        close(cosine(&a, &[-3.0, 4.0], 2), 0.0);
        close(cosine(&[0.0], &[0.0], 1), 1.0);
        close(cosine(&[0.0], &[1.0], 1), 0.0);
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
    }

    #[test]
    fn refuses_what_does_not_belong_together() {
        assert_eq!(
            mse(&[1.0], &[]),
            Err(MetricError::Length {
                expected: 1,
                actual: 0
            })
        );
        assert_eq!(cosine(&[], &[], 1), Err(MetricError::Empty));
        assert_eq!(
            sqnr_db(&[1.0; 3], &[1.0; 3], 2),
            Err(MetricError::Samples { len: 3, samples: 2 })
        );
        assert_eq!(sqnr_db(&[1.0; 3], &[1.0; 3], 0), Err(MetricError::Empty));
        assert_eq!(top_k_accuracy(&[1.0; 3], &[], 1), Err(MetricError::Empty));
        assert_eq!(top_k_accuracy(&[], &[1], 1), Err(MetricError::Empty));
        assert_eq!(
            top_k_accuracy(&[1.0; 3], &[0, 0], 1),
            Err(MetricError::Samples { len: 3, samples: 2 })
        );
        assert_eq!(
            iou_classes(&[1.0; 2], &[-1]),
            Err(MetricError::Label {
                label: -1,
                sample: 0,
                classes: 2
            })
        );
        let error = iou_mask(&[1.0], &[f32::NAN]).unwrap_err();
        assert!(
            matches!(error, MetricError::NotFinite { index: 0, .. }),
            "{error}"
        );
    }
}
