//! FULLY_CONNECTED that keeps the dimensions as one that does not and RESHAPE; with several rows as CONV_2D of 1x1.
//!
//! The sums are the same. LiteRT's reference rounds those of FULLY_CONNECTED once, in double, and those of CONV_2D
//! twice, in fixed point: both are within a step of each other.

use bantam_model::ops::{Conv2d, FullyConnected, Op, Padding};
use bantam_model::schema::tfl::FullyConnectedOptionsWeightsFormat;
use bantam_model::tensor::element_count;
use bantam_model::{DType, Node};

use super::draft::{Draft, Proof, Site, parameters};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    let Op::FullyConnected(op) = &site.node().op else {
        return Vec::new();
    };
    flat(site, op).into_iter().chain(conv(site, op)).collect()
}

/// Rows, depth and units.
fn sizes(site: &Site) -> Option<(usize, usize, usize)> {
    let &[units, depth] = &*site.tensor(1)?.shape else {
        return None;
    };
    let elements = element_count(&site.tensor(0)?.shape)?;
    let rows = elements.checked_div(depth)?;
    (rows * depth == elements).then_some((rows, depth, units))
}

fn flat(site: &Site, op: &FullyConnected) -> Option<Draft> {
    let (rows, _, units) = sizes(site)?;
    let (result, wanted) = (site.result()?, [rows, units]);
    if !op.keep_num_dims || result.shape == wanted {
        return None;
    }
    let mut draft = site.draft(Proof::Same);
    let flat = draft.value(result, "flat", &wanted);
    let mut node = site.node().clone();
    node.op = Op::FullyConnected(FullyConnected {
        keep_num_dims: false,
        ..op.clone()
    });
    node.outputs = vec![flat];
    draft.nodes.push(node);
    draft.reshape(flat, site.output()?, &result.shape)?;
    Some(draft)
}

fn conv(site: &Site, op: &FullyConnected) -> Option<Draft> {
    let (rows, depth, units) = sizes(site)?;
    let (input, weights, result) = (site.tensor(0)?, site.tensor(1)?, site.result()?);
    let is_plain = op.weights_format == FullyConnectedOptionsWeightsFormat::DEFAULT;
    if rows < 2 || !is_plain || input.dtype != weights.dtype || !weights.is_constant() {
        return None;
    }
    let steps = u32::from(parameters(input).is_some());
    if steps == 0 && input.dtype != DType::F32 {
        return None;
    }
    let mut draft = site.draft(Proof::Bound(steps));
    let image = draft.value(input, "rows", &[1, rows, 1, depth]);
    draft.reshape(site.input(0)?, image, &[1, rows, 1, depth])?;
    let mut filter = weights.clone();
    filter.name += "/1x1";
    filter.shape = vec![units, 1, 1, depth];
    filter.shape_signature = None;
    let filter = draft.add(filter);
    let product = draft.value(result, "product", &[1, rows, 1, units]);
    let conv = Conv2d {
        padding: Padding::Valid,
        stride_h: 1,
        stride_w: 1,
        dilation_h: 1,
        dilation_w: 1,
        activation: op.activation,
        quantized_bias_type: op.quantized_bias_type,
    };
    let mut node = Node::new(conv, &[image, filter], &[product]);
    match site.input(2) {
        Some(bias) => node.inputs.push(Some(bias)),
        None => node
            .inputs
            .push(Some(draft.zero_bias(input, weights, units)?)),
    }
    draft.nodes.push(node);
    draft.reshape(product, site.output()?, &result.shape)?;
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::{Model, Node as N, Quantization, Tensor, Verdict};

    use super::super::testing::{Graph, difference, kinds, noise, run};
    use super::super::{Allowance, Chip, Exactness, Options, legalize_for};
    use super::*;

    /// A chip whose FULLY_CONNECTED gives two dimensions, of so many rows at most.
    struct Rows(usize);

    impl Chip for Rows {
        fn name(&self) -> &str {
            "rows"
        }

        fn verdicts(&self, model: &Model) -> Vec<Verdict> {
            let graph = &model.subgraphs[0];
            let verdict = |node: &N| {
                let shape = &graph[node.outputs[0]].shape;
                let fits = shape.len() == 2 && shape[0] <= self.0;
                match &node.op {
                    Op::FullyConnected(_) if !fits => Verdict::Unknown("rows".into()),
                    _ => Verdict::Supported,
                }
            };
            graph.nodes.iter().map(verdict).collect()
        }

        fn max_version(&self, _: &Op) -> Option<i32> {
            None
        }
    }

    fn model(rows: usize, has_bias: bool) -> Model {
        let mut graph = Graph::default();
        let x = graph.input(DType::I8, &[1, rows, 6], (0.05, 7));
        let weights = Tensor::constant("weights", DType::I8, [4, 6], noise(24, 3));
        let weights = weights.quantized(Quantization::symmetric(vec![0.013], 0));
        let weights = graph.0.add_tensor(weights);
        let bias = graph.integers(&[100, -200, 300, 5]);
        let y = graph.output(DType::I8, &[1, rows, 4], (0.21, -3));
        let op = FullyConnected {
            keep_num_dims: true,
            ..FullyConnected::default()
        };
        let operands = [x, weights, bias];
        graph.push(op, &operands[..if has_bias { 3 } else { 2 }], &[y]);
        graph.model()
    }

    #[test]
    fn one_row_is_reshaped_and_several_are_convolved() {
        for (rows, chip, wanted) in [
            (1, 1, &["FULLY_CONNECTED", "RESHAPE"][..]),
            (5, 8, &["FULLY_CONNECTED", "RESHAPE"]),
            (5, 1, &["RESHAPE", "CONV_2D", "RESHAPE"]),
        ] {
            for has_bias in [false, true] {
                let model = model(rows, has_bias);
                let options = Options {
                    allow: Allowance::Steps(1),
                    ..Options::default()
                };
                let (legal, report) = legalize_for(&model, &Rows(chip), &options).unwrap();
                assert_eq!(kinds(&legal), wanted);
                let allowed = match report.exactness() {
                    Exactness::Exact => 0,
                    Exactness::Within(steps) => steps,
                    other => panic!("{other}"),
                };
                for seed in 0..20 {
                    let data = [noise(rows * 6, seed)];
                    assert!(difference(&run(&model, &data), &run(&legal, &data)) <= allowed);
                }
            }
        }
    }
}
