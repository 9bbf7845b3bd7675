//! HARD_SWISH, `x * min(max(x + 3, 0), 6) / 6`, as ADD, two MULs and, in float, the fused clamp.
//!
//! In integers the sum's tensor holds 0 to 6 and no more, so that storing it clamps, and `x / 6` is `x` with the
//! same integers under a sixth of its scale. What remains is the rounding of the sum to a 255th of 6.

use bantam_model::DType;
use bantam_model::ops::{Activation, Add, Mul, Op};

use super::draft::{Draft, Proof, Site, is_real};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    draft(site).into_iter().collect()
}

fn draft(site: &Site) -> Option<Draft> {
    let (Op::HardSwish(_), x, input) = (&site.node().op, site.input(0)?, site.tensor(0)?) else {
        return None;
    };
    if !is_real(input) || !is_real(site.result()?) {
        return None;
    }
    let mut draft = site.draft(Proof::Pointwise);
    let gate = draft.covering(input, "gate", 0.0, 6.0);
    let three = draft.factor(input, 3.0);
    let activation = match input.dtype {
        DType::F32 => Activation::Relu6,
        _ => Activation::None,
    };
    let add = Add {
        activation,
        ..Add::default()
    };
    draft.push(add, &[x, three], &[gate]);
    let sixth = draft.times(input, x, 1.0 / 6.0);
    draft.push(Mul::default(), &[sixth, gate], &[site.output()?]);
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::HardSwish;

    use super::super::Exactness;
    use super::super::testing::{kinds, legalized, over_all_bytes, unary};

    #[test]
    fn all_integers_stay_within_the_steps_that_are_said() {
        for (from, to) in [
            ((0.05, 0), (0.026, -114)),
            ((0.047, -3), (0.0245, -112)),
            ((0.1234, 17), (0.064, -122)),
            ((0.011, 5), (0.0061, -70)),
        ] {
            let model = unary(HardSwish, from, to);
            let (legal, report) = legalized(&model, &["HARD_SWISH"]);
            assert_eq!(kinds(&legal), ["ADD", "MUL", "MUL"]);
            let found = over_all_bytes(&model, &legal);
            assert_eq!(report.exactness(), Exactness::steps(found));
            assert!(found <= 2, "{from:?} {to:?}: {found}");
        }
    }
}
