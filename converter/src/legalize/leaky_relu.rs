//! LEAKY_RELU as MAXIMUM of the operand and its product with the slope, or as PRELU.
//!
//! Holds for every slope up to 1 (MINIMUM above it): left of 0 `alpha * x` is then the larger, right of it `x`.
//! A constant that stands for the slope with one step multiplies by the very ratio of scales that the kernel uses,
//! so the integers are the same wherever the two parts round alike; all 256 are tried.

use bantam_model::ops::{Maximum, Minimum, Mul, Op, Prelu};

use super::draft::{Draft, Proof, Rescale, Site, is_real};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    let larger = Rescale::ALL
        .into_iter()
        .filter_map(|how| larger_of_both(site, how));
    larger.chain(prelu(site)).collect()
}

fn slope(site: &Site) -> Option<f32> {
    let Op::LeakyRelu(op) = &site.node().op else {
        return None;
    };
    let real = is_real(site.tensor(0)?) && is_real(site.result()?);
    (real && op.alpha.is_finite()).then_some(op.alpha)
}

fn larger_of_both(site: &Site, how: Rescale) -> Option<Draft> {
    let alpha = slope(site)?;
    let (x, input, result) = (site.input(0)?, site.tensor(0)?, site.result()?);
    let mut draft = site.draft(Proof::Pointwise);
    let right = draft.rescaled(site.graph, x, result, how);
    let factor = draft.factor(input, alpha);
    let left = draft.value(result, "leak", &result.shape);
    draft.push(Mul::default(), &[x, factor], &[left]);
    let op = if alpha <= 1.0 {
        Op::from(Maximum)
    } else {
        Minimum.into()
    };
    draft.push(op, &[right, left], &[site.output()?]);
    Some(draft)
}

fn prelu(site: &Site) -> Option<Draft> {
    let alpha = slope(site)?;
    let mut draft = site.draft(Proof::Pointwise);
    let input = site.tensor(0)?;
    let slopes = draft.factors(input, alpha, *input.shape.last()?)?;
    draft.push(Prelu, &[site.input(0)?, slopes], &[site.output()?]);
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::LeakyRelu;

    use super::super::Exactness;
    use super::super::testing::{kinds, legalized, over_all_bytes, unary};

    /// Scales and zero points as calibration gives them, and some that are odd.
    const PAIRS: [((f32, i32), (f32, i32)); 6] = [
        ((0.05, 0), (0.05, 0)),
        ((0.047, -3), (0.0261, -100)),
        ((0.1234, 17), (0.1301, 21)),
        ((0.0078125, -128), (0.0078125, -128)),
        ((0.31, 127), (0.04, 64)),
        ((0.002, -90), (0.011, 5)),
    ];

    #[test]
    fn the_larger_of_both_is_the_same_on_all_integers() {
        for alpha in [0.0, 0.01, 0.1, 0.2, 0.3, 1.0 / 3.0, 0.999, 1.0] {
            for (from, to) in PAIRS {
                let model = unary(LeakyRelu { alpha }, from, to);
                let (legal, report) = legalized(&model, &["LEAKY_RELU"]);
                assert_eq!(over_all_bytes(&model, &legal), 0, "{alpha} {from:?} {to:?}");
                assert_eq!(
                    report.exactness(),
                    Exactness::Exact,
                    "{alpha} {from:?} {to:?}"
                );
                assert!(
                    kinds(&legal).contains(&"MAXIMUM".to_owned()),
                    "{:?}",
                    kinds(&legal)
                );
            }
        }
    }

    #[test]
    fn odd_slopes_and_chips_without_maximum_are_measured() {
        for alpha in [-1.5, -0.25, 0.1, 1.7] {
            for (from, to) in PAIRS {
                let model = unary(LeakyRelu { alpha }, from, to);
                for refused in [&["LEAKY_RELU"][..], &["LEAKY_RELU", "MAXIMUM", "MINIMUM"]] {
                    let (legal, report) = legalized(&model, refused);
                    assert_eq!(report.applied.len(), 1, "{alpha} {from:?} {to:?}");
                    let found = over_all_bytes(&model, &legal);
                    assert_eq!(report.exactness(), Exactness::steps(found));
                    assert!(found <= 1, "{alpha} {from:?} {to:?}: {found}");
                }
            }
        }
    }
}
