//! SQUARED_DIFFERENCE as SUB and MUL of the difference by itself.
//!
//! The difference gets the smallest range that loses nothing: neither what the operands can be apart, nor a square
//! beyond what the result holds. Both results of 65,536 pairs of integers are compared.

use bantam_model::ops::{Mul, Op, Sub};

use super::draft::{Draft, Proof, Site, is_real, span};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    draft(site).into_iter().collect()
}

fn draft(site: &Site) -> Option<Draft> {
    let (Op::SquaredDifference(_), result) = (&site.node().op, site.result()?) else {
        return None;
    };
    let (a, b) = (site.tensor(0)?, site.tensor(1)?);
    if ![a, b, result].into_iter().all(is_real) {
        return None;
    }
    let mut draft = site.draft(Proof::Pointwise);
    let apart = match (span(a), span(b), span(result)) {
        (Some(a), Some(b), Some(result)) => {
            let largest = result.1.max(0.0).sqrt();
            ((a.0 - b.1).max(-largest), (a.1 - b.0).min(largest))
        }
        _ => (0.0, 0.0),
    };
    let difference = draft.covering(result, "difference", apart.0, apart.1);
    draft.push(
        Sub::default(),
        &[site.input(0)?, site.input(1)?],
        &[difference],
    );
    draft.push(Mul::default(), &[difference, difference], &[site.output()?]);
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::DType;
    use bantam_model::ops::SquaredDifference;

    use super::super::Exactness;
    use super::super::testing::{Graph, difference, kinds, legalized, run};

    #[test]
    fn all_pairs_of_integers_stay_within_the_steps_that_are_said() {
        for (a, b, to) in [
            ((0.05, 0), (0.05, 0), (0.1, -128)),
            ((0.02, -10), (0.031, 20), (0.05, -128)),
            ((0.01, 0), (0.01, 0), (0.0256, -128)),
        ] {
            let mut graph = Graph::default();
            let x = graph.input(DType::I8, &[1, 65536], a);
            let y = graph.input(DType::I8, &[1, 65536], b);
            let z = graph.output(DType::I8, &[1, 65536], to);
            graph.push(SquaredDifference, &[x, y], &[z]);
            let model = graph.model();
            let (legal, report) = legalized(&model, &["SQUARED_DIFFERENCE"]);
            assert_eq!(kinds(&legal), ["SUB", "MUL"]);
            let pairs = [
                (0..65536).map(|i| i as u8).collect(),
                (0..65536).map(|i| (i >> 8) as u8).collect(),
            ];
            let found = difference(&run(&model, &pairs), &run(&legal, &pairs));
            assert_eq!(report.exactness(), Exactness::steps(found));
            assert!(found <= 4, "{a:?} {b:?} {to:?}: {found}");
        }
    }
}
