//! Float inputs and outputs that become integer: the QUANTIZE and DEQUANTIZE at the edges go.

use bantam_model::ops::Op;
use bantam_model::{Subgraph, TensorId};

/// Makes inputs integer that only a QUANTIZE reads, and outputs that a DEQUANTIZE computes; their names, in order.
/// The tensors keep their places among inputs and outputs, and their names, so signatures hold.
pub(super) fn make_integer(graph: &mut Subgraph) -> Vec<String> {
    let mut changed = Vec::new();
    for edge in graph.inputs.clone() {
        let readers = graph
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, n)| n.inputs.contains(&Some(edge)));
        let readers: Vec<usize> = readers.map(|(index, _)| index).collect();
        let &[reader] = &*readers else { continue };
        let node = &graph.nodes[reader];
        let (Op::Quantize(_), &[integer]) = (&node.op, &*node.outputs) else {
            continue;
        };
        if graph.outputs.contains(&integer) || graph.outputs.contains(&edge) {
            continue;
        }
        graph.nodes.remove(reader);
        become_like(graph, edge, integer);
        replace(graph, integer, edge);
        changed.push(graph[edge].name.clone());
    }
    for edge in graph.outputs.clone() {
        let maker = graph.nodes.iter().position(|n| n.outputs == [edge]);
        let Some(maker) = maker else { continue };
        let node = &graph.nodes[maker];
        let (Op::Dequantize(_), Some(integer)) = (&node.op, node.input(0)) else {
            continue;
        };
        let is_read = graph.nodes.iter().any(|n| n.inputs.contains(&Some(edge)));
        let is_edge = graph.inputs.contains(&integer) || graph.outputs.contains(&integer);
        let tensor = &graph[integer];
        if is_read || is_edge || tensor.is_constant() || tensor.is_variable {
            continue;
        }
        graph.nodes.remove(maker);
        become_like(graph, edge, integer);
        replace(graph, integer, edge);
        changed.push(graph[edge].name.clone());
    }
    changed
}

fn become_like(graph: &mut Subgraph, edge: TensorId, integer: TensorId) {
    let like = graph[integer].clone();
    graph[edge].dtype = like.dtype;
    graph[edge].quantization = like.quantization;
}

fn replace(graph: &mut Subgraph, from: TensorId, to: TensorId) {
    for node in &mut graph.nodes {
        let inputs = node.inputs.iter_mut().flatten();
        inputs
            .chain(&mut node.outputs)
            .filter(|id| **id == from)
            .for_each(|id| *id = to);
    }
}

#[cfg(test)]
mod tests {
    use bantam_model::DType;
    use bantam_model::ops::{Dequantize, Logistic, Quantize};

    use super::super::testing::{Graph, kinds};
    use super::*;

    #[test]
    fn edges_take_the_integers_behind_them_and_keep_their_names() {
        let mut graph = Graph::default();
        let x = graph.input(DType::F32, &[1, 8], (0.0, 0));
        let inner = graph.tensor("inner", DType::I8, &[1, 8], (0.1, 4));
        let gate = graph.tensor("gate", DType::I8, &[1, 8], (1.0 / 256.0, -128));
        let y = graph.output(DType::F32, &[1, 8], (0.0, 0));
        graph.push(Quantize, &[x], &[inner]);
        graph.push(Logistic, &[inner], &[gate]);
        graph.push(Dequantize, &[gate], &[y]);
        let mut model = graph.model();
        assert_eq!(make_integer(&mut model.subgraphs[0]), ["input0", "output0"]);
        assert_eq!(kinds(&model), ["LOGISTIC"]);
        let graph = &model.subgraphs[0];
        let edges = [graph.inputs[0], graph.outputs[0]];
        assert!(edges.iter().all(|&id| graph[id].dtype == DType::I8));
        assert_eq!(edges.map(|id| &*graph[id].name), ["input0", "output0"]);
    }

    #[test]
    fn an_input_that_others_read_as_float_stays() {
        let mut graph = Graph::default();
        let x = graph.input(DType::F32, &[1, 8], (0.0, 0));
        let inner = graph.output(DType::I8, &[1, 8], (0.1, 4));
        let y = graph.output(DType::F32, &[1, 8], (0.0, 0));
        graph.push(Quantize, &[x], &[inner]);
        graph.push(Logistic, &[x], &[y]);
        let mut model = graph.model();
        assert!(make_integer(&mut model.subgraphs[0]).is_empty());
        assert_eq!(kinds(&model), ["QUANTIZE", "LOGISTIC"]);
    }
}
