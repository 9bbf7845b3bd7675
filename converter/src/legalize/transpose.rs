//! TRANSPOSE of a tensor that is too large as SLICEs, a TRANSPOSE of each and CONCATENATION.
//!
//! The elements stay what they are, whatever their type.

use bantam_model::ops::{Activation, Concatenation, Op, Transpose};

use super::draft::{Draft, Proof, Site};

/// The most parts that are worth their operators.
const PARTS: [usize; 4] = [2, 4, 8, 16];

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    let rank = site.tensor(0).map_or(0, |t| t.shape.len());
    let ways = PARTS
        .into_iter()
        .flat_map(|parts| (0..rank).map(move |axis| (parts, axis)));
    ways.filter_map(|(parts, axis)| draft(site, parts, axis))
        .collect()
}

fn draft(site: &Site, parts: usize, along: usize) -> Option<Draft> {
    let (Op::Transpose(_), input, result) = (&site.node().op, site.tensor(0)?, site.result()?)
    else {
        return None;
    };
    let order = site.integers(1)?;
    let len = *input.shape.get(along)?;
    if len < parts || len % parts != 0 {
        return None;
    }
    let to = order
        .iter()
        .position(|&axis| usize::try_from(axis) == Ok(along))?;
    let mut from_shape = input.shape.clone();
    let mut to_shape = result.shape.clone();
    from_shape[along] = len / parts;
    *to_shape.get_mut(to)? = len / parts;
    let mut draft = site.draft(Proof::Same);
    let mut turned = Vec::new();
    for part in 0..parts {
        let slice = draft.value(input, "part", &from_shape);
        draft.slice(
            site.input(0)?,
            slice,
            &from_shape,
            along,
            (part * len / parts, len / parts),
        )?;
        let to = draft.value(result, "turned", &to_shape);
        draft.push(Transpose, &[slice, site.input(1)?], &[to]);
        turned.push(to);
    }
    let join = Concatenation {
        axis: to as i32,
        activation: Activation::None,
    };
    draft.push(join, &turned, &[site.output()?]);
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::{DType, Model, Subgraph, TensorId, Verdict};

    use super::super::testing::{Graph, kinds, noise, run};
    use super::super::{Chip, Options, legalize_for};
    use super::*;

    /// A chip that takes TRANSPOSE up to a number of elements.
    struct Small(usize);

    impl Chip for Small {
        fn name(&self) -> &str {
            "small"
        }

        fn verdicts(&self, model: &Model) -> Vec<Verdict> {
            let graph: &Subgraph = &model.subgraphs[0];
            let len = |id: TensorId| graph[id].shape.iter().product::<usize>();
            let nodes = graph.nodes.iter();
            let verdict = |node: &bantam_model::Node| match &node.op {
                Op::Transpose(_) if len(node.outputs[0]) > self.0 => {
                    Verdict::Unknown("size".into())
                }
                _ => Verdict::Supported,
            };
            nodes.map(verdict).collect()
        }

        fn max_version(&self, _: &Op) -> Option<i32> {
            None
        }
    }

    #[test]
    fn parts_of_every_permutation_join_to_the_whole() {
        for order in [[0, 2, 1], [2, 1, 0], [1, 2, 0], [2, 0, 1], [1, 0, 2]] {
            let shape = [4usize, 6, 8];
            let to: Vec<usize> = order.iter().map(|&axis| shape[axis as usize]).collect();
            let mut graph = Graph::default();
            let x = graph.input(DType::I8, &shape, (0.1, 4));
            let operand = graph.integers(&order);
            let y = graph.output(DType::I8, &to, (0.1, 4));
            graph.push(Transpose, &[x, operand], &[y]);
            let model = graph.model();
            let (legal, report) = legalize_for(&model, &Small(50), &Options::default()).unwrap();
            assert!(report.left.is_empty(), "{order:?}");
            assert!(kinds(&legal).len() > 6, "{:?}", kinds(&legal));
            let data = [noise(192, 3)];
            assert_eq!(run(&model, &data), run(&legal, &data), "{order:?}");
        }
    }
}
