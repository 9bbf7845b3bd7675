//! A fused activation as an operator of its own, and an activation of its own fused into the operator before.
//!
//! Both are a clamp of the same integers where the two tensors have the same parameters: the result between has them
//! too, and what its type cannot hold the clamp would have cut off as well.

use bantam_model::ops::{Activation, Op, Relu, Relu6, ReluN1To1};

use super::draft::{Draft, Proof, Site, is_alike, is_real};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    lift(site).or_else(|| fuse(site)).into_iter().collect()
}

/// The fused activation of operators that have one.
fn fused(op: &mut Op) -> Option<&mut Activation> {
    match op {
        Op::Add(op) => Some(&mut op.activation),
        Op::AveragePool2d(op) => Some(&mut op.0.activation),
        Op::Concatenation(op) => Some(&mut op.activation),
        Op::Conv2d(op) => Some(&mut op.activation),
        Op::DepthwiseConv2d(op) => Some(&mut op.activation),
        Op::Div(op) => Some(&mut op.activation),
        Op::FullyConnected(op) => Some(&mut op.activation),
        Op::MaxPool2d(op) => Some(&mut op.0.activation),
        Op::Mul(op) => Some(&mut op.activation),
        Op::Sub(op) => Some(&mut op.activation),
        Op::TransposeConv(op) => Some(&mut op.activation),
        _ => None,
    }
}

fn lift(site: &Site) -> Option<Draft> {
    let mut node = site.node().clone();
    let activation = std::mem::take(fused(&mut node.op)?);
    let clamp = match activation {
        Activation::Relu => Op::from(Relu),
        Activation::Relu6 => Relu6.into(),
        Activation::ReluN1To1 => ReluN1To1.into(),
        _ => return None,
    };
    let result = site.result()?;
    if !is_real(result) {
        return None;
    }
    let mut draft = site.draft(Proof::Same);
    let before = draft.value(result, "before_activation", &result.shape);
    node.outputs = vec![before];
    draft.nodes.push(node);
    draft.push(clamp, &[before], &[site.output()?]);
    Some(draft)
}

fn fuse(site: &Site) -> Option<Draft> {
    let activation = match &site.node().op {
        Op::Relu(_) => Activation::Relu,
        Op::Relu6(_) => Activation::Relu6,
        Op::ReluN1To1(_) => Activation::ReluN1To1,
        _ => return None,
    };
    let input = site.input(0)?;
    let source = site.producer(input)?;
    let mut node = source.node().clone();
    let slot = fused(&mut node.op)?;
    let alike = is_real(site.result()?) && is_alike(site.tensor(0)?, site.result()?);
    if *slot != Activation::None || !alike || !site.is_private(input) {
        return None;
    }
    *slot = activation;
    node.outputs = vec![site.output()?];
    let mut draft = site.draft(Proof::Same);
    draft.removes.push(source.id);
    draft.nodes.push(node);
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::{Add, AveragePool2d, Padding, Pool2d};
    use bantam_model::{DType, Model, Node, Verdict};

    use super::super::testing::{Graph, difference, kinds, noise, run};
    use super::super::{Chip, Options, legalize_for};
    use super::*;

    /// A chip that takes no fused activations, or no others.
    struct Fused(bool);

    impl Chip for Fused {
        fn name(&self) -> &str {
            "fused"
        }

        fn verdicts(&self, model: &Model) -> Vec<Verdict> {
            let verdict = |node: &Node| {
                let has = fused(&mut node.op.clone()).is_some_and(|a| *a != Activation::None);
                let refused = if self.0 {
                    matches!(node.op, Op::Relu6(_))
                } else {
                    has
                };
                match refused {
                    true => Verdict::Unknown("activation".into()),
                    false => Verdict::Supported,
                }
            };
            model.subgraphs[0].nodes.iter().map(verdict).collect()
        }

        fn max_version(&self, _: &Op) -> Option<i32> {
            None
        }
    }

    #[test]
    fn lifting_changes_no_integer() {
        for q in [(0.05, -128), (0.05, -20), (0.02, 100)] {
            for activation in [Activation::Relu, Activation::Relu6, Activation::ReluN1To1] {
                let mut graph = Graph::default();
                let x = graph.input(DType::I8, &[1, 4, 4, 3], q);
                let y = graph.output(DType::I8, &[1, 3, 3, 3], q);
                let pool = Pool2d {
                    padding: Padding::Valid,
                    stride_h: 1,
                    stride_w: 1,
                    filter_h: 2,
                    filter_w: 2,
                    activation,
                };
                graph.push(AveragePool2d(pool), &[x], &[y]);
                let model = graph.model();
                let (legal, _) = legalize_for(&model, &Fused(false), &Options::default()).unwrap();
                assert_eq!(kinds(&legal).len(), 2);
                for seed in 0..10 {
                    let data = [noise(48, seed)];
                    assert_eq!(
                        run(&model, &data),
                        run(&legal, &data),
                        "{q:?} {activation:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn fusing_needs_the_same_scale() {
        for (scale, ops) in [(0.05, 1), (0.04, 2)] {
            let mut graph = Graph::default();
            let a = graph.input(DType::I8, &[1, 256], (0.05, 3));
            let b = graph.input(DType::I8, &[1, 256], (0.03, -4));
            let sum = graph.tensor("sum", DType::I8, &[1, 256], (0.05, -9));
            let y = graph.output(DType::I8, &[1, 256], (scale, -9));
            graph.push(Add::default(), &[a, b], &[sum]);
            graph.push(Relu6, &[sum], &[y]);
            let model = graph.model();
            let (legal, _) = legalize_for(&model, &Fused(true), &Options::default()).unwrap();
            let inputs = [noise(256, 1), noise(256, 2)];
            assert_eq!(difference(&run(&model, &inputs), &run(&legal, &inputs)), 0);
            let is_fused = kinds(&legal) == ["ADD"];
            assert_eq!(is_fused, ops == 1, "{:?}", kinds(&legal));
        }
    }
}
