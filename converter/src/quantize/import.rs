//! What is done to a float graph before it is quantized. Ids and the order of operators stay.

use bantam_model::ops::Dequantize;
use bantam_model::{DType, Node, Op, Subgraph, Tensor};
use half::f16;

/// Makes constants that a DEQUANTIZE reads as float16 constants of float32; the operators stay,
/// without a purpose.
pub(super) fn widen_halves(subgraph: &mut Subgraph) {
    for node in subgraph.nodes.clone() {
        let (Op::Dequantize(Dequantize), Some(input), [output]) =
            (&node.op, node.input(0), &*node.outputs)
        else {
            continue;
        };
        let half = &subgraph[input];
        let Some(data) = half.data.as_ref().filter(|_| half.dtype == DType::F16) else {
            continue;
        };
        let fits = half.shape == subgraph[*output].shape && subgraph[*output].dtype == DType::F32;
        if !fits || half.sparsity.is_some() || subgraph.outputs.contains(output) {
            continue;
        }
        let values = data.as_chunks().0.iter();
        let bytes: Vec<u8> = values
            .flat_map(|&b| f16::from_le_bytes(b).to_f32().to_le_bytes())
            .collect();
        subgraph[*output].data = Some(bytes.into());
    }
}

/// Whether `widen_halves` made `node` superfluous.
pub(super) fn is_superfluous(subgraph: &Subgraph, node: &Node) -> bool {
    matches!(node.op, Op::Dequantize(_)) && node.outputs.iter().all(|&o| subgraph[o].is_constant())
}

/// Gives convolutions without a bias one of zeros: LiteRT has no `CONV_2D` without one, and
/// XNNPACK no `DEPTHWISE_CONV_2D`.
pub(super) fn add_biases(subgraph: &mut Subgraph) {
    for index in 0..subgraph.nodes.len() {
        let node = &subgraph.nodes[index];
        let axis = match node.op {
            Op::Conv2d(_) => 0,
            Op::DepthwiseConv2d(_) => 3,
            _ => continue,
        };
        let (None, Some(weights)) = (node.input(2), node.input(1)) else {
            continue;
        };
        let weights = &subgraph[weights];
        let Some(&units) = weights.shape.get(axis) else {
            continue;
        };
        let elements = weights.data.as_ref().map_or(0, |data| data.len() / 4);
        if weights.dtype != DType::F32 || elements < units {
            continue;
        }
        let name = format!("{}_bias", weights.name);
        let bias = Tensor::constant(name, DType::F32, [units], vec![0; 4 * units]);
        let bias = subgraph.add_tensor(bias);
        let inputs = &mut subgraph.nodes[index].inputs;
        inputs.truncate(2);
        inputs.push(Some(bias));
    }
}

#[cfg(test)]
mod tests {
    use bantam_model::ops;

    use super::*;

    #[test]
    fn convolution_without_bias_gets_zeros() {
        let mut subgraph = Subgraph::default();
        let x = subgraph.add_tensor(Tensor::new("x", DType::F32, [1, 1, 1, 2]));
        let w = Tensor::constant("w", DType::F32, [3, 1, 1, 2], vec![0; 24]);
        let w = subgraph.add_tensor(w);
        let y = subgraph.add_tensor(Tensor::new("y", DType::F32, [1, 1, 1, 3]));
        for absent in [false, true] {
            let mut node = Node::new(ops::Conv2d::default(), &[x, w], &[y]);
            node.inputs.extend(absent.then_some(None));
            subgraph.nodes.push(node);
        }
        add_biases(&mut subgraph);
        for node in &subgraph.nodes {
            let bias = &subgraph[node.input(2).unwrap()];
            assert_eq!(
                (&*bias.shape, &**bias.data.as_ref().unwrap()),
                (&[3][..], &[0; 12][..])
            );
        }
    }

    #[test]
    fn shape_without_elements_promises_no_bias() {
        let mut subgraph = Subgraph::default();
        let x = subgraph.add_tensor(Tensor::new("x", DType::F32, [1, 1, 1, 0]));
        let w = Tensor::constant("w", DType::F32, [usize::MAX / 4, 1, 1, 0], vec![]);
        let w = subgraph.add_tensor(w);
        let node = Node::new(ops::Conv2d::default(), &[x, w], &[x]);
        subgraph.nodes.push(node);
        add_biases(&mut subgraph);
        assert_eq!(subgraph.nodes[0].inputs.len(), 2);
    }

    #[test]
    fn half_constants_become_float() {
        let mut subgraph = Subgraph::default();
        let bytes = f16::from_f32(1.5).to_le_bytes().to_vec();
        let half = subgraph.add_tensor(Tensor::constant("h", DType::F16, [1], bytes));
        let float = subgraph.add_tensor(Tensor::new("f", DType::F32, [1]));
        subgraph
            .nodes
            .push(Node::new(Dequantize, &[half], &[float]));
        let mut visible = subgraph.clone();
        visible.outputs = vec![float];
        for (subgraph, folded) in [(&mut subgraph, true), (&mut visible, false)] {
            widen_halves(subgraph);
            assert_eq!(is_superfluous(subgraph, &subgraph.nodes[0]), folded);
        }
        assert_eq!(
            **subgraph[float].data.as_ref().unwrap(),
            1.5f32.to_le_bytes()
        );
    }
}
