//! SQUEEZE and EXPAND_DIMS as RESHAPE, and TRANSPOSE where it moves nothing but dimensions of 1.
//!
//! The elements stay in their order, whatever their type.

use bantam_model::ops::Op;

use super::draft::{Draft, Proof, Site};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    draft(site).into_iter().collect()
}

fn draft(site: &Site) -> Option<Draft> {
    match &site.node().op {
        Op::Squeeze(_) | Op::ExpandDims(_) => {}
        Op::Transpose(_) if keeps_order(site)? => {}
        _ => return None,
    }
    let mut draft = site.draft(Proof::Same);
    draft.reshape(site.input(0)?, site.output()?, &site.result()?.shape)?;
    Some(draft)
}

fn keeps_order(site: &Site) -> Option<bool> {
    let shape = &site.tensor(0)?.shape;
    let order = site.integers(1)?;
    let moved = order.iter().map(|&axis| usize::try_from(axis).ok());
    let moved: Vec<usize> = moved.collect::<Option<_>>()?;
    let long: Option<Vec<bool>> = moved
        .iter()
        .map(|&axis| shape.get(axis).map(|&d| d > 1))
        .collect();
    let long = moved.iter().zip(long?).filter(|(_, long)| *long);
    Some(long.map(|(axis, _)| axis).is_sorted())
}

#[cfg(test)]
mod tests {
    use bantam_model::DType;
    use bantam_model::ops::{ExpandDims, Op, Squeeze, Transpose};

    use super::super::Exactness;
    use super::super::testing::{Graph, kinds, legalized, noise, run};

    fn check(op: impl Into<Op>, from: &[usize], operand: &[i32], to: &[usize], is_reshape: bool) {
        let mut graph = Graph::default();
        let x = graph.input(DType::I8, from, (0.1, 4));
        let mut inputs = vec![x];
        if !operand.is_empty() {
            inputs.push(graph.integers(operand));
        }
        let y = graph.output(DType::I8, to, (0.1, 4));
        let op = op.into();
        graph.push(op.clone(), &inputs, &[y]);
        let model = graph.model();
        let (legal, report) = legalized(&model, &["SQUEEZE", "EXPAND_DIMS", "TRANSPOSE"]);
        assert_eq!(
            kinds(&legal) == ["RESHAPE"],
            is_reshape,
            "{op} {from:?} {operand:?}"
        );
        assert_eq!(report.exactness(), Exactness::Exact);
        let data = [noise(from.iter().product(), 1)];
        assert_eq!(run(&model, &data), run(&legal, &data));
    }

    #[test]
    fn dimensions_come_and_go() {
        let squeeze = |dims: &[i32]| Squeeze {
            squeeze_dims: Some(dims.to_vec()),
        };
        check(squeeze(&[]), &[1, 3, 1, 5], &[], &[3, 5], true);
        check(squeeze(&[-2]), &[1, 3, 1, 5], &[], &[1, 3, 5], true);
        check(ExpandDims, &[3, 5], &[1], &[3, 1, 5], true);
        check(ExpandDims, &[3, 5], &[-1], &[3, 5, 1], true);
    }

    #[test]
    fn every_permutation_of_small_shapes_becomes_a_reshape_where_order_stays() {
        let shape = [1usize, 3, 1, 4];
        for code in 0..256 {
            let order = [code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6];
            let mut sorted = order;
            sorted.sort_unstable();
            if sorted != [0, 1, 2, 3] {
                continue;
            }
            let to: Vec<usize> = order.iter().map(|&axis| shape[axis as usize]).collect();
            let place = |axis| order.iter().position(|&a| a == axis);
            let keeps = place(1) < place(3);
            check(Transpose, &shape, &order, &to, keeps);
        }
    }
}
