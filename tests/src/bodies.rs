//! Models that run another model's subgraph as the body of a loop or as a branch.

use bantam_model::ops::{Add, If, Less, While};
use bantam_model::{DType, Model, Node, Subgraph, Tensor, TensorId};

/// Runs the only subgraph of `model` in `rounds` rounds of a loop, each on the model's inputs; the
/// results are those of the last round.
///
/// # Panics
///
/// If `model` has another number of subgraphs.
pub fn in_loop(model: &Model, rounds: i32) -> Model {
    let mut body = only(model).clone();
    let (operands, results) = (body.inputs.clone(), body.outputs.clone());
    let counter = body.add_tensor(Tensor::new("round", DType::I32, []));
    let one = body.add_tensor(number("one", 1));
    let next = body.add_tensor(Tensor::new("next_round", DType::I32, []));
    body.nodes
        .push(Node::new(Add::default(), &[counter, one], &[next]));
    let before: Vec<TensorId> = results
        .iter()
        .map(|&id| {
            body.add_tensor(Tensor {
                name: format!("{}_before", body[id].name),
                ..body[id].clone()
            })
        })
        .collect();
    body.inputs = [&[counter][..], &operands, &before].concat();
    body.outputs = [&[next][..], &operands, &results].concat();

    let mut condition = variables(&body);
    let limit = condition.add_tensor(number("rounds", rounds));
    let more = condition.add_tensor(Tensor::new("more", DType::Bool, []));
    let first = condition.inputs[0];
    condition
        .nodes
        .push(Node::new(Less, &[first, limit], &[more]));
    condition.outputs = vec![more];

    let mut main = variables(&body);
    for (position, &id) in main.inputs.clone().iter().enumerate() {
        if position == 0 || position > operands.len() {
            let tensor = &mut main[id];
            let len = tensor.dtype.byte_len(&tensor.shape).unwrap_or(0);
            tensor.data = Some(vec![0; len].into());
        }
    }
    let taken = main.inputs.clone();
    let given: Vec<TensorId> = taken
        .iter()
        .map(|&id| {
            main.add_tensor(Tensor {
                name: format!("{}_after", main[id].name),
                data: None,
                ..main[id].clone()
            })
        })
        .collect();
    let op = While {
        condition: 1,
        body: 2,
    };
    main.nodes.push(Node::new(op, &taken, &given));
    main.inputs = taken[1..=operands.len()].to_vec();
    main.outputs = given[1 + operands.len()..].to_vec();
    with_subgraphs(vec![main, condition, body])
}

/// Runs the only subgraph of `model` in both branches, each with variables of its own; the first
/// input chooses one.
///
/// # Panics
///
/// If `model` has another number of subgraphs.
pub fn in_branches(model: &Model) -> Model {
    let branch = only(model);
    let mut main = variables(branch);
    let given: Vec<TensorId> = branch
        .outputs
        .iter()
        .map(|&id| main.add_tensor(branch[id].clone()))
        .collect();
    let condition = main.add_tensor(Tensor::new("condition", DType::Bool, [1]));
    main.inputs.insert(0, condition);
    let op = If {
        then: 1,
        otherwise: 2,
    };
    main.nodes.push(Node::new(op, &main.inputs, &given));
    main.outputs = given;
    with_subgraphs(vec![main, branch.clone(), branch.clone()])
}

fn only(model: &Model) -> &Subgraph {
    let [subgraph] = &model.subgraphs[..] else {
        panic!("{} subgraphs", model.subgraphs.len());
    };
    subgraph
}

/// An empty subgraph with the inputs of `subgraph`.
fn variables(subgraph: &Subgraph) -> Subgraph {
    let mut empty = Subgraph::default();
    let inputs = subgraph.inputs.iter().map(|&id| subgraph[id].clone());
    empty.inputs = inputs.map(|tensor| empty.add_tensor(tensor)).collect();
    empty
}

fn number(name: &str, value: i32) -> Tensor {
    Tensor::constant(name, DType::I32, [], value.to_le_bytes().to_vec())
}

fn with_subgraphs(subgraphs: Vec<Subgraph>) -> Model {
    Model {
        subgraphs,
        ..Model::default()
    }
}
