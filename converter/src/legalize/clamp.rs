//! RELU, RELU6, RELU_N1_TO_1 and RELU_0_TO_1 as MAXIMUM and MINIMUM with a constant.
//!
//! A limit that the result's type has anyway needs no operator. A result with a scale of its own is rescaled first,
//! by the ratio that the kernel uses.

use bantam_model::ops::{Maximum, Minimum, Op};
use bantam_model::{DType, Tensor};

use super::draft::{Draft, Proof, Rescale, Site, is_real, limits, parameters};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    Rescale::ALL
        .into_iter()
        .filter_map(|how| draft(site, how))
        .collect()
}

fn draft(site: &Site, how: Rescale) -> Option<Draft> {
    let (low, high) = match &site.node().op {
        Op::Relu(_) => (0.0, f32::INFINITY),
        Op::Relu6(_) => (0.0, 6.0),
        Op::ReluN1To1(_) => (-1.0, 1.0),
        Op::Relu0To1(_) => (0.0, 1.0),
        _ => return None,
    };
    let (x, result) = (site.input(0)?, site.result()?);
    if !is_real(site.tensor(0)?) || !is_real(result) {
        return None;
    }
    let mut draft = site.draft(Proof::Pointwise);
    let mut last = draft.rescaled(site.graph, x, result, how);
    let (by_low, by_high) = binding(result, low, high)?;
    // One operator at least has to write the result.
    if by_low || !by_high {
        let level = draft.level(result, low)?;
        let to = if by_high {
            draft.value(result, "above", &result.shape)
        } else {
            site.output()?
        };
        draft.push(Maximum, &[last, level], &[to]);
        last = to;
    }
    if by_high {
        let level = draft.level(result, high)?;
        draft.push(Minimum, &[last, level], &[site.output()?]);
    }
    Some(draft)
}

/// Whether each limit is inside what the type holds.
fn binding(result: &Tensor, low: f32, high: f32) -> Option<(bool, bool)> {
    if result.dtype == DType::F32 {
        return Some((true, high.is_finite()));
    }
    let (min, max) = limits(result.dtype)?;
    let parameters = parameters(result)?;
    let low = parameters.quantize(low, min, max) > min;
    let high = high.is_finite() && parameters.quantize(high, min, max) < max;
    Some((low, high))
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::{Op, Relu, Relu0To1, Relu6, ReluN1To1};

    use super::super::Exactness;
    use super::super::testing::{kinds, legalized, over_all_bytes, unary};

    #[test]
    fn all_integers_are_clamped_alike() {
        let ops = [
            Op::from(Relu),
            Relu6.into(),
            ReluN1To1.into(),
            Relu0To1.into(),
        ];
        let refused = &["RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"];
        for op in ops {
            for (from, to) in [
                ((0.05, 0), (0.05, 0)),
                ((0.05, -3), (0.0235, -128)),
                ((0.0417, 12), (0.00392, -128)),
                ((0.011, 40), (0.012, -128)),
                ((0.5, 0), (0.007, 0)),
            ] {
                let model = unary(op.clone(), from, to);
                let (legal, report) = legalized(&model, refused);
                assert_eq!(over_all_bytes(&model, &legal), 0, "{op} {from:?} {to:?}");
                assert_eq!(report.exactness(), Exactness::Exact);
                assert!(report.left.is_empty());
            }
        }
    }

    #[test]
    fn a_limit_of_the_type_needs_no_operator() {
        let model = unary(Relu, (0.05, 0), (0.05, -128));
        let (legal, _) = legalized(&model, &["RELU"]);
        assert_eq!(kinds(&legal), ["QUANTIZE", "MAXIMUM"]);
    }
}
