//! GELU as `x * logistic(1.702 x)`.
//!
//! Another function, at most 0.0204 away: how many steps that is depends on the result's scale. In integers
//! `1.702 x` is `x` with the same integers under a scale so much larger.

use bantam_model::DType;
use bantam_model::ops::{Logistic, Mul, Op};
use bantam_model::quant::PerTensor;

use super::draft::{Draft, Proof, Site, is_real};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    draft(site).into_iter().collect()
}

fn draft(site: &Site) -> Option<Draft> {
    let (Op::Gelu(_), x, input) = (&site.node().op, site.input(0)?, site.tensor(0)?) else {
        return None;
    };
    if !is_real(input) || !is_real(site.result()?) {
        return None;
    }
    let mut draft = site.draft(Proof::Approximate);
    let steep = draft.times(input, x, 1.702);
    let gate = draft.value(input, "gate", &input.shape);
    draft.set_parameters(
        gate,
        match input.dtype {
            DType::F32 => None,
            DType::U8 => Some(PerTensor::new(1.0 / 256.0, 0)),
            _ => Some(PerTensor::new(1.0 / 256.0, -128)),
        },
    );
    draft.push(Logistic, &[steep], &[gate]);
    draft.push(Mul::default(), &[x, gate], &[site.output()?]);
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::Gelu;

    use super::super::Exactness;
    use super::super::testing::{kinds, legalized, over_all_bytes, unary};

    #[test]
    fn all_integers_stay_within_the_steps_that_are_said() {
        for approximate in [false, true] {
            for (from, to) in [((0.05, 0), (0.026, -121)), ((0.03, -10), (0.018, -118))] {
                let model = unary(Gelu { approximate }, from, to);
                let (legal, report) = legalized(&model, &["GELU"]);
                assert_eq!(kinds(&legal), ["MUL", "LOGISTIC", "MUL"]);
                let found = over_all_bytes(&model, &legal);
                assert_eq!(report.exactness(), Exactness::steps(found));
                assert!((1..=2).contains(&found), "{from:?} {to:?}: {found}");
            }
        }
    }
}
