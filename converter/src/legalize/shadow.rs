//! A float graph as a chip would see it once it is int8: what a rewrite before quantization is judged by.

use bantam_model::ops::{Results, Role};
use bantam_model::quant::PerTensor;
use bantam_model::tensor::element_count;
use bantam_model::{DType, Model, Quantization, Subgraph, Tensor};

use crate::quantize::weight_scales;

/// What every activation has; rules that compare parameters see them equal.
const NOMINAL: PerTensor = PerTensor::new(1.0 / 32.0, 0);

/// Whether nothing in `model` is quantized yet.
pub(super) fn is_float(model: &Model) -> bool {
    let tensors = model.subgraphs.iter().flat_map(|s| &s.tensors);
    let mut integers = tensors.filter(|t| matches!(t.dtype, DType::I8 | DType::U8 | DType::I16));
    !integers.any(|t| t.quantization.as_ref().is_some_and(|q| !q.scale.is_empty()))
}

/// `graph` with the types that quantization to int8 gives to the tensors of each operator that can be; the integers
/// of constants are 0.
pub(super) fn as_int8(graph: &Subgraph) -> Subgraph {
    let mut shadow = graph.clone();
    for node in &graph.nodes {
        let given = |index: usize| node.input(index).is_some();
        let operator = node.op.operator().ok();
        let Some(rule) = operator
            .filter(|operator| operator.quant_obstacle(&given).is_none())
            .and_then(|operator| operator.quant_rule())
        else {
            continue;
        };
        for (index, id) in node.inputs.iter().enumerate() {
            let Some(tensor) = id.map(|id| &mut shadow.tensors[id.index()]) else {
                continue;
            };
            if tensor.dtype == DType::F32 {
                become_integer(tensor, rule.role(index));
            }
        }
        for id in &node.outputs {
            let tensor = &mut shadow.tensors[id.index()];
            match rule.results {
                _ if tensor.dtype != DType::F32 => {}
                Results::Plain => {}
                Results::Fixed(parameters) => set(tensor, DType::I8, parameters.into()),
                Results::Calibrated | Results::SameAsInputs | Results::SymmetricAsInputs => {
                    become_integer(tensor, Role::Activation)
                }
            }
        }
    }
    shadow
}

fn become_integer(tensor: &mut Tensor, role: Role) {
    match role {
        Role::Weights { axis } if tensor.is_constant() => {
            let scales = weight_scales(tensor, axis);
            set(
                tensor,
                DType::I8,
                Quantization::symmetric(scales, axis.unwrap_or(0)),
            );
        }
        Role::Bias { .. } => set(tensor, DType::I32, PerTensor::new(1.0 / 1024.0, 0).into()),
        Role::Activation | Role::State { .. } => set(tensor, DType::I8, NOMINAL.into()),
        _ => {}
    }
}

fn set(tensor: &mut Tensor, dtype: DType, quantization: Quantization) {
    tensor.dtype = dtype;
    tensor.quantization = Some(quantization);
    if tensor.is_constant() {
        let len = element_count(&tensor.shape).unwrap_or(0) * dtype.size().unwrap_or(1);
        tensor.data = Some(vec![0; len].into());
    }
}
