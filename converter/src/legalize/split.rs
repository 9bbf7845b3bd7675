//! SPLIT and SPLIT_V as a SLICE for each part, and UNPACK as a SLICE and a RESHAPE for each.
//!
//! The elements stay what they are, whatever their type.

use bantam_model::ops::Op;

use super::draft::{Draft, Proof, Site, axis};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    let draft = match &site.node().op {
        Op::Split(_) => parts(site, 1, 0),
        Op::SplitV(_) => parts(site, 0, 2),
        Op::Unpack(op) => unpack(site, i64::from(op.axis)),
        _ => None,
    };
    draft.into_iter().collect()
}

fn parts(site: &Site, data: usize, axis_operand: usize) -> Option<Draft> {
    let (input, tensor) = (site.input(data)?, site.tensor(data)?);
    let &[along] = &*site.integers(axis_operand)? else {
        return None;
    };
    let along = axis(along, tensor.shape.len())?;
    let mut draft = site.draft(Proof::Same);
    let mut start = 0;
    for &output in &site.node().outputs {
        let shape = &site.graph[output].shape;
        let len = *shape.get(along)?;
        draft.slice(input, output, shape, along, (start, len))?;
        start += len;
    }
    (start == tensor.shape[along]).then_some(draft)
}

fn unpack(site: &Site, along: i64) -> Option<Draft> {
    let (input, tensor) = (site.input(0)?, site.tensor(0)?);
    let along = axis(along, tensor.shape.len())?;
    let mut shape = tensor.shape.clone();
    shape[along] = 1;
    let mut draft = site.draft(Proof::Same);
    for (index, &output) in site.node().outputs.iter().enumerate() {
        let part = draft.value(&site.graph[output], "part", &shape);
        draft.slice(input, part, &shape, along, (index, 1))?;
        draft.reshape(part, output, &site.graph[output].shape)?;
    }
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::DType;
    use bantam_model::ops::{Op, Split, SplitV, Unpack};

    use super::super::testing::{Graph, kinds, legalized, noise, run};

    fn check(
        op: impl Into<Op>,
        before: &[i32],
        after: &[&[i32]],
        parts: &[&[usize]],
        becomes: &[&str],
    ) {
        let mut graph = Graph::default();
        let mut inputs = Vec::new();
        if !before.is_empty() {
            inputs.push(graph.integers(before));
        }
        inputs.push(graph.input(DType::I8, &[2, 3, 6], (0.1, 4)));
        inputs.extend(
            after
                .iter()
                .map(|values| graph.integers(values))
                .collect::<Vec<_>>(),
        );
        let outputs: Vec<_> = parts
            .iter()
            .map(|shape| graph.output(DType::I8, shape, (0.1, 4)))
            .collect();
        graph.push(op, &inputs, &outputs);
        let model = graph.model();
        let (legal, _) = legalized(&model, &["SPLIT", "SPLIT_V", "UNPACK"]);
        assert_eq!(kinds(&legal), becomes);
        let data = [noise(36, 2)];
        assert_eq!(run(&model, &data), run(&legal, &data));
    }

    #[test]
    fn parts_are_slices() {
        let slices = ["SLICE"; 3];
        check(
            Split { num_splits: 3 },
            &[1],
            &[],
            &[&[2, 1, 6][..]; 3],
            &slices,
        );
        check(
            Split { num_splits: 3 },
            &[-1],
            &[],
            &[&[2, 3, 2][..]; 3],
            &slices,
        );
        let op = SplitV { num_splits: 3 };
        check(
            op,
            &[],
            &[&[1, -1, 3], &[2]],
            &[&[2, 3, 1], &[2, 3, 2], &[2, 3, 3]],
            &slices,
        );
    }

    #[test]
    fn what_is_unpacked_is_sliced_and_reshaped() {
        let op = Unpack { num: 3, axis: 1 };
        check(
            op,
            &[],
            &[],
            &[&[2, 6][..]; 3],
            &["SLICE", "RESHAPE"].repeat(3),
        );
    }
}
