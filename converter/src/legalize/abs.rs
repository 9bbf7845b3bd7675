//! ABS as MAXIMUM of the operand and its negative.
//!
//! Both are rounded as the kernel rounds; all integers are tried.

use bantam_model::ops::{Maximum, Mul, Op};

use super::draft::{Draft, Proof, Rescale, Site, is_real};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    Rescale::ALL
        .into_iter()
        .filter_map(|how| draft(site, how))
        .collect()
}

fn draft(site: &Site, how: Rescale) -> Option<Draft> {
    let (Op::Abs(_), x, result) = (&site.node().op, site.input(0)?, site.result()?) else {
        return None;
    };
    if !is_real(site.tensor(0)?) || !is_real(result) {
        return None;
    }
    let mut draft = site.draft(Proof::Pointwise);
    let right = draft.rescaled(site.graph, x, result, how);
    let minus_one = draft.factor(site.tensor(0)?, -1.0);
    let left = draft.value(result, "negative", &result.shape);
    draft.push(Mul::default(), &[x, minus_one], &[left]);
    draft.push(Maximum, &[right, left], &[site.output()?]);
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::Abs;

    use super::super::Exactness;
    use super::super::testing::{legalized, over_all_bytes, unary};

    #[test]
    fn the_magnitudes_of_all_integers_are_measured() {
        for (from, to) in [((0.05, 0), (0.05, -128)), ((0.04, 30), (0.0247, -128))] {
            let model = unary(Abs, from, to);
            let (legal, report) = legalized(&model, &["ABS"]);
            assert!(report.left.is_empty());
            let found = over_all_bytes(&model, &legal);
            assert_eq!(report.exactness(), Exactness::steps(found));
            assert!(found <= 1, "{from:?} {to:?}: {found}");
        }
    }
}
