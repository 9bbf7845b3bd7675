//! PACK as a RESHAPE of each operand and CONCATENATION.
//!
//! The elements stay what they are, whatever their type.

use bantam_model::ops::{Activation, Concatenation, Op};

use super::draft::{Draft, Proof, Site, axis, is_alike};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    draft(site).into_iter().collect()
}

fn draft(site: &Site) -> Option<Draft> {
    let (Op::Pack(op), result) = (&site.node().op, site.result()?) else {
        return None;
    };
    let along = axis(i64::from(op.axis), result.shape.len())?;
    let mut shape = result.shape.clone();
    shape[along] = 1;
    let mut draft = site.draft(Proof::Same);
    let mut parts = Vec::new();
    for &input in &site.node().inputs {
        let input = input?;
        let tensor = &site.graph[input];
        if !is_alike(tensor, result) {
            return None;
        }
        let part = draft.value(tensor, "part", &shape);
        draft.reshape(input, part, &shape)?;
        parts.push(part);
    }
    let join = Concatenation {
        axis: along as i32,
        activation: Activation::None,
    };
    draft.push(join, &parts, &[site.output()?]);
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::DType;
    use bantam_model::ops::Pack;

    use super::super::testing::{Graph, kinds, legalized, noise, run};

    #[test]
    fn operands_are_joined_along_a_new_axis() {
        for (axis, to) in [
            (0, [3, 2, 5]),
            (1, [2, 3, 5]),
            (2, [2, 5, 3]),
            (-1, [2, 5, 3]),
        ] {
            let mut graph = Graph::default();
            let inputs: Vec<_> = (0..3)
                .map(|_| graph.input(DType::I8, &[2, 5], (0.1, 4)))
                .collect();
            let y = graph.output(DType::I8, &to, (0.1, 4));
            let op = Pack {
                values_count: 3,
                axis,
            };
            graph.push(op, &inputs, &[y]);
            let model = graph.model();
            let (legal, _) = legalized(&model, &["PACK"]);
            assert_eq!(
                kinds(&legal),
                ["RESHAPE", "RESHAPE", "RESHAPE", "CONCATENATION"]
            );
            let data = [noise(10, 1), noise(10, 2), noise(10, 3)];
            assert_eq!(run(&model, &data), run(&legal, &data), "{axis}");
        }
    }
}
