//! A float operator between DEQUANTIZE and QUANTIZE as the integer operator.
//!
//! Other quantizers leave such islands. An operator that moves elements gives the same integers where both sides have
//! the same parameters; one that works element by element is tried on all integers.

use bantam_model::ops::{Op, Results, Role};
use bantam_model::{DType, NodeId};

use super::draft::{Draft, Proof, Site, is_alike, is_byte, parameters};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    draft(site).into_iter().collect()
}

/// Why the integer operator computes what the float one does.
fn proof(op: &Op) -> Option<Proof> {
    match op {
        Op::Abs(_)
        | Op::Add(_)
        | Op::Elu(_)
        | Op::Exp(_)
        | Op::Gelu(_)
        | Op::HardSwish(_)
        | Op::LeakyRelu(_)
        | Op::Logistic(_)
        | Op::Mul(_)
        | Op::Relu(_)
        | Op::Relu0To1(_)
        | Op::Relu6(_)
        | Op::ReluN1To1(_)
        | Op::SquaredDifference(_)
        | Op::Sub(_)
        | Op::Tanh(_) => Some(Proof::Pointwise),
        Op::Concatenation(_)
        | Op::DepthToSpace(_)
        | Op::ExpandDims(_)
        | Op::MaxPool2d(_)
        | Op::Pack(_)
        | Op::Reshape(_)
        | Op::Slice(_)
        | Op::SpaceToDepth(_)
        | Op::Squeeze(_)
        | Op::StridedSlice(_)
        | Op::Tile(_)
        | Op::Transpose(_) => Some(Proof::Same),
        _ => None,
    }
}

fn draft(site: &Site) -> Option<Draft> {
    let node = site.node();
    let proof = proof(&node.op)?;
    let rule = node.op.operator().ok()?.quant_rule()?;
    let float = site.output()?;
    if site.result()?.dtype != DType::F32 || !site.is_private(float) {
        return None;
    }
    let reader = site
        .graph
        .nodes
        .iter()
        .position(|n| n.input(0) == Some(float))?;
    let quantize = &site.graph.nodes[reader];
    let (Op::Quantize(_), &[result]) = (&quantize.op, &*quantize.outputs) else {
        return None;
    };
    let integer = &site.graph[result];
    let to = parameters(integer)?;
    match rule.results {
        Results::Fixed(fixed) if integer.dtype != DType::I8 || fixed != to => return None,
        Results::Plain => return None,
        _ if !is_byte(integer.dtype) => return None,
        _ => {}
    }
    let mut draft = site.draft(proof);
    let mut new = node.clone();
    let mut sources: Vec<(NodeId, bool)> = Vec::new();
    for (index, input) in new.inputs.iter_mut().enumerate() {
        let Some(id) = *input else { continue };
        if rule.role(index) != Role::Activation || site.graph[id].dtype != DType::F32 {
            continue;
        }
        let source = site.producer(id)?;
        let (Op::Dequantize(_), Some(from)) = (&source.node().op, source.input(0)) else {
            return None;
        };
        let tensor = &site.graph[from];
        let fits =
            tensor.dtype == integer.dtype && parameters(tensor).is_some() && !tensor.is_constant();
        let same = rule.results != Results::SameAsInputs && proof != Proof::Same;
        if !fits || !(same || is_alike(tensor, integer)) {
            return None;
        }
        *input = Some(from);
        if !sources.iter().any(|(known, _)| *known == source.id) {
            sources.push((source.id, site.is_private(id)));
        }
    }
    if sources.is_empty() {
        return None;
    }
    for (id, is_private) in sources {
        match is_private {
            true => draft.removes.push(id),
            false => draft.context.push(id),
        }
    }
    draft.removes.push(NodeId(reader as u32));
    new.outputs = vec![result];
    draft.nodes.push(new);
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::Model;
    use bantam_model::ops::{DepthToSpace, Dequantize, LeakyRelu, Logistic, Quantize};

    use super::super::Exactness;
    use super::super::testing::{Graph, difference, kinds, legalized, noise, run};
    use super::*;

    fn island(op: impl Into<Op>, from: (f32, i32), to: (f32, i32), shapes: [&[usize]; 2]) -> Model {
        let mut graph = Graph::default();
        let x = graph.input(DType::I8, shapes[0], from);
        let float = graph.tensor("float", DType::F32, shapes[0], from);
        let result = graph.tensor("result", DType::F32, shapes[1], to);
        let y = graph.output(DType::I8, shapes[1], to);
        graph.push(Dequantize, &[x], &[float]);
        graph.push(op, &[float], &[result]);
        graph.push(Quantize, &[result], &[y]);
        graph.model()
    }

    #[test]
    fn functions_become_integer_and_are_measured() {
        let shapes: [&[usize]; 2] = [&[1, 256]; 2];
        let ops = [Op::from(LeakyRelu { alpha: 0.1 }), Logistic.into()];
        for (op, wanted) in ops
            .into_iter()
            .zip([&["QUANTIZE", "MUL", "MAXIMUM"][..], &["LOGISTIC"]])
        {
            let to = (1.0 / 256.0, -128);
            let model = island(op, (0.05, 3), to, shapes);
            let (legal, report) = legalized(&model, &["LEAKY_RELU"]);
            assert_eq!(kinds(&legal), wanted);
            let all = [(0..=255).collect()];
            let found = difference(&run(&model, &all), &run(&legal, &all));
            assert_eq!(report.exactness(), Exactness::steps(found));
            assert!(found <= 1, "{found}");
        }
    }

    #[test]
    fn elements_are_moved_as_integers_where_the_scale_is_the_same() {
        for (scale, ops) in [(0.05, 1), (0.04, 3)] {
            let shapes: [&[usize]; 2] = [&[1, 2, 3, 8], &[1, 4, 6, 2]];
            let model = island(
                DepthToSpace { block_size: 2 },
                (0.05, 3),
                (scale, 3),
                shapes,
            );
            let (legal, report) = legalized(&model, &[]);
            assert_eq!(kinds(&legal).len(), ops);
            assert_eq!(report.exactness(), Exactness::Exact);
            let data = [noise(48, 1)];
            assert_eq!(run(&model, &data), run(&legal, &data));
        }
    }
}
