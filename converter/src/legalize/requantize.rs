//! DEQUANTIZE followed by QUANTIZE as nothing, or as one QUANTIZE between integers.
//!
//! Nothing where both sides have the same type and parameters: what is computed from an integer and back is that
//! integer. Otherwise one rounding stands for another, and all integers are tried.

use bantam_model::ops::{Op, Quantize};
use bantam_model::{NodeId, TensorId};

use super::draft::{Draft, Proof, Site, is_alike, parameters};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    match &site.node().op {
        Op::Quantize(_) => draft(site).into_iter().collect(),
        Op::Dequantize(_) => {
            let readers = site.graph.nodes.iter().enumerate();
            let readers = readers
                .filter(|(_, n)| n.input(0) == site.output() && matches!(n.op, Op::Quantize(_)));
            let drafts = readers.filter_map(|(index, _)| {
                draft(&Site {
                    graph: site.graph,
                    id: NodeId(index as u32),
                })
            });
            drafts.collect()
        }
        _ => Vec::new(),
    }
}

/// For the QUANTIZE of `site`.
fn draft(site: &Site) -> Option<Draft> {
    let float = site.input(0)?;
    let source = site.producer(float)?;
    let (Op::Dequantize(_), integer) = (&source.node().op, source.input(0)?) else {
        return None;
    };
    let (from, to) = (&site.graph[integer], site.result()?);
    if from.is_constant() || parameters(from).is_none() || parameters(to).is_none() {
        return None;
    }
    let mut draft = site.draft(Proof::Pointwise);
    if site.is_private(float) {
        draft.removes.push(source.id);
    } else {
        draft.context.push(source.id);
    }
    let is_output = |id: TensorId| site.graph.outputs.contains(&id);
    if is_alike(from, to) && !is_output(site.output()?) {
        draft.aliases.push((site.output()?, integer));
    } else {
        draft.push(Quantize, &[integer], &[site.output()?]);
    }
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::{Dequantize, Logistic};
    use bantam_model::{DType, Model};

    use super::super::Exactness;
    use super::super::testing::{Graph, kinds, legalized, over_all_bytes};
    use super::*;

    fn model(from: (f32, i32), to: (f32, i32)) -> Model {
        let mut graph = Graph::default();
        let x = graph.input(DType::I8, &[1, 256], from);
        let float = graph.tensor("float", DType::F32, &[1, 256], from);
        let back = graph.tensor("back", DType::I8, &[1, 256], to);
        let y = graph.output(DType::I8, &[1, 256], (1.0 / 256.0, -128));
        graph.push(Dequantize, &[x], &[float]);
        graph.push(Quantize, &[float], &[back]);
        graph.push(Logistic, &[back], &[y]);
        graph.model()
    }

    #[test]
    fn there_and_back_is_nothing() {
        let model = model((0.05, 3), (0.05, 3));
        let (legal, report) = legalized(&model, &[]);
        assert_eq!(kinds(&legal), ["LOGISTIC"]);
        assert_eq!(report.exactness(), Exactness::Exact);
        assert_eq!(over_all_bytes(&model, &legal), 0);
    }

    #[test]
    fn another_scale_is_measured_on_all_integers() {
        for (from, to) in [
            ((0.05, 3), (0.031, -7)),
            ((0.1, -128), (0.2, -128)),
            ((0.02, 0), (0.033, 11)),
        ] {
            let model = model(from, to);
            let (legal, report) = legalized(&model, &[]);
            assert_eq!(kinds(&legal), ["QUANTIZE", "LOGISTIC"]);
            assert!(
                report.exactness() <= Exactness::Within(1),
                "{from:?} {to:?}"
            );
        }
    }

    #[test]
    fn a_float_that_others_read_stays() {
        let mut model = model((0.05, 3), (0.05, 3));
        model.subgraphs[0].outputs.push(TensorId(1));
        let (legal, _) = legalized(&model, &[]);
        assert_eq!(kinds(&legal), ["DEQUANTIZE", "LOGISTIC"]);
    }
}
