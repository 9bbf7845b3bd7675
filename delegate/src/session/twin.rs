//! What the CPU path computes in place of an operator that a vendor's compiler made: the operators of the original between the
//! same tensors.
//!
//! The compiler keeps the names of tensors at the boundary. Where the operator is the whole model, the places of inputs and outputs
//! tell as well.

use bantam_model::{Model, NodeId, Subgraph, TensorId};

use crate::partition::{Partition, extract};

/// The part of `original` that computes what `partition` of `compiled` does, with the same inputs and outputs in the same order;
/// `None` where there is none.
pub(super) fn of_partition(
    compiled: &Subgraph,
    partition: &Partition,
    original: &Model,
) -> Option<Model> {
    let source = original.subgraphs.first()?;
    let inputs = find(compiled, source, &partition.inputs, |s| &s.inputs)?;
    let outputs = find(compiled, source, &partition.outputs, |s| &s.outputs)?;
    let nodes = between(source, &inputs, &outputs)?;
    let found = Partition {
        nodes,
        inputs,
        outputs,
    };
    Some(extract(original, 0, &found))
}

/// The tensors of `source` that are those of `compiled`: of the same name, or at the same place of the boundary.
fn find(
    compiled: &Subgraph,
    source: &Subgraph,
    ids: &[TensorId],
    boundary: impl Fn(&Subgraph) -> &Vec<TensorId>,
) -> Option<Vec<TensorId>> {
    let one = |id: &TensorId| {
        let tensor = &compiled[*id];
        let is_same = |other: &TensorId| {
            let other = &source[*other];
            let scales = |q: &Option<bantam_model::Quantization>| {
                let q = q.as_ref().filter(|q| !q.scale.is_empty());
                q.map(|q| (q.scale.clone(), q.zero_point.clone()))
            };
            (other.dtype, &other.shape) == (tensor.dtype, &tensor.shape)
                && scales(&other.quantization) == scales(&tensor.quantization)
        };
        let place = boundary(compiled).iter().position(|at| at == id);
        let at_boundary = place.and_then(|place| boundary(source).get(place).copied());
        let mut named = (0..source.tensors.len() as u32)
            .map(TensorId)
            .filter(|id| source[*id].name == tensor.name && is_same(id));
        match (named.next(), named.next()) {
            (Some(found), None) => Some(found),
            _ => at_boundary.filter(is_same),
        }
    };
    ids.iter().map(one).collect()
}

/// The operators that compute `outputs` from `inputs` and constants alone, in order; `None` where that takes more, or a state.
fn between(source: &Subgraph, inputs: &[TensorId], outputs: &[TensorId]) -> Option<Vec<NodeId>> {
    let producers = source.producers();
    let mut is_needed = vec![false; source.nodes.len()];
    let mut open = outputs.to_vec();
    while let Some(id) = open.pop() {
        if inputs.contains(&id) || source[id].is_constant() {
            continue;
        }
        let producer = producers[id.index()]?;
        if !std::mem::replace(&mut is_needed[producer.index()], true) {
            if crate::partition::shares_state(source, &source[producer]) {
                return None;
            }
            open.extend(source[producer].inputs.iter().flatten());
        }
    }
    let needed = is_needed.iter().zip(0u32..).filter(|(needed, _)| **needed);
    Some(needed.map(|(_, index)| NodeId(index)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bantam_model::ops::{self, Custom, Op};
    use bantam_model::{DType, Node, Tensor};

    /// `y = logistic(relu(x) + relu(x))`, `z = relu(y)`.
    fn original() -> Model {
        let mut s = Subgraph::default();
        let mut add = |name: &str| s.add_tensor(Tensor::new(name, DType::F32, [1, 4]));
        let [x, a, b, y, z] = ["x", "a", "b", "y", "z"].map(&mut add);
        s.nodes = vec![
            Node::new(ops::Relu, &[x], &[a]),
            Node::new(ops::Add::default(), &[a, a], &[b]),
            Node::new(ops::Logistic, &[b], &[y]),
            Node::new(ops::Relu, &[y], &[z]),
        ];
        (s.inputs, s.outputs) = (vec![x], vec![z]);
        Model {
            subgraphs: vec![s],
            ..Model::default()
        }
    }

    /// One operator from `input` to `output`.
    fn compiled(input: &str, output: &str) -> (Subgraph, Partition) {
        let mut s = Subgraph::default();
        let from = s.add_tensor(Tensor::new(input, DType::F32, [1, 4]));
        let to = s.add_tensor(Tensor::new(output, DType::F32, [1, 4]));
        let custom = Op::Custom(Box::new(Custom {
            name: "edgetpu-custom-op".into(),
            version: 1,
            options: Vec::new().into(),
        }));
        s.nodes = vec![Node::new(custom, &[from], &[to])];
        (s.inputs, s.outputs) = (vec![from], vec![to]);
        let partition = Partition::of(&s, vec![NodeId(0)]);
        (s, partition)
    }

    fn ops_between(input: &str, output: &str) -> Option<Vec<String>> {
        let (subgraph, partition) = compiled(input, output);
        let model = of_partition(&subgraph, &partition, &original())?;
        let nodes = &model.subgraphs[0].nodes;
        Some(nodes.iter().map(|node| node.op.to_string()).collect())
    }

    #[test]
    fn the_operators_between_the_same_tensors_are_the_twin() {
        let between = |a, b| ops_between(a, b).unwrap().join(" ");
        assert_eq!(between("a", "y"), "ADD LOGISTIC");
        assert_eq!(between("x", "z"), "RELU ADD LOGISTIC RELU");
        assert_eq!(between("y", "z"), "RELU");
    }

    #[test]
    fn names_at_the_boundary_may_differ() {
        assert_eq!(ops_between("serving:0", "out:0").unwrap().len(), 4);
    }

    #[test]
    fn what_needs_more_than_its_inputs_has_no_twin() {
        // From z nothing is computed, and y needs x.
        assert_eq!(ops_between("z", "y"), None);
    }
}
