//! Intermediates: values inside an operator whose ranges integer kernels need.

use std::borrow::Cow;

use bantam_model::ops::{QuantRule, Role};
use bantam_model::{DType, Model, Node, Tensor};

/// The model with as many intermediates at each operator as calibration of it needs; those that
/// are missing are new float tensors behind all others of their subgraph, so that ids stay.
pub(crate) fn with_intermediates(model: &Model) -> Cow<'_, Model> {
    let mut model = Cow::Borrowed(model);
    for number in 0..model.subgraphs.len() {
        for index in 0..model.subgraphs[number].nodes.len() {
            let node = &model.subgraphs[number].nodes[index];
            for intermediate in node.intermediates.len()..needed(node) {
                let subgraph = &mut model.to_mut().subgraphs[number];
                let name = format!("intermediate_{index}_{intermediate}");
                let tensor = subgraph.add_tensor(Tensor::new(name, DType::F32, [0]));
                subgraph.nodes[index].intermediates.push(tensor);
            }
        }
    }
    model
}

/// The format's intermediates, and those that only calibration sees.
fn needed(node: &Node) -> usize {
    let Ok(operator) = node.op.operator() else {
        return 0;
    };
    let Some(QuantRule { roles, .. }) = operator.quant_rule() else {
        return 0;
    };
    let seen = roles.iter().map(|role| match role {
        Role::CellState { intermediate } => intermediate + 1,
        _ => 0,
    });
    seen.max()
        .unwrap_or(0)
        .max(operator.quant_intermediates().len())
}
