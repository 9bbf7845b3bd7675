//! `gpu`: the route of float16 models where there is no GPU runtime.
//!
//! It takes the operators that a GPU delegate would be asked for, so that placement shows what would be offloaded, and refuses to
//! compile them, so that they run on the CPU path and the reason is reported.

use bantam_model::target::{PartitionPolicy, Refusal, Verdict};
use bantam_model::tensor::DType;
use bantam_model::{Model, Node, Subgraph};

use super::{Device, Driver, DriverError, DriverInfo, Executable};

/// The driver without a GPU.
pub(crate) struct Gpu;

/// What [`Gpu`] says when it is to compile.
const NO_RUNTIME: &str =
    "no GPU runtime is present; gpu:/path/lib.so names a vendor's delegate for one";

impl Driver for Gpu {
    fn info(&self) -> DriverInfo {
        DriverInfo {
            name: "gpu without a runtime".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: None,
        }
    }

    fn devices(&self) -> Result<Vec<Device>, DriverError> {
        Ok(Vec::new())
    }

    fn supports(&self, model: &Model, subgraph: usize) -> Result<Vec<Verdict>, DriverError> {
        let Some(graph) = model.subgraphs.get(subgraph) else {
            return Err(DriverError::Refused(format!("no subgraph {subgraph}")));
        };
        let tensors = model.subgraphs.iter().flat_map(|s| &s.tensors);
        let is_float16 = tensors.clone().any(|t| t.dtype == DType::F16);
        let verdict = |node| match is_float16 {
            true => verdict(graph, node),
            false => refused(
                "gpu-float16",
                "the model has no float16 values".to_owned(),
                None,
            ),
        };
        Ok(graph.nodes.iter().map(verdict).collect())
    }

    fn policy(&self) -> PartitionPolicy {
        PartitionPolicy::default()
    }

    fn compile(&self, _: &Model, _: Option<&str>) -> Result<Box<dyn Executable>, DriverError> {
        Err(DriverError::Refused(NO_RUNTIME.to_owned()))
    }
}

fn refused(rule: &str, reason: String, measured: Option<DType>) -> Verdict {
    use bantam_model::target::Measure;
    Verdict::Unsupported(Box::new(Refusal {
        rule: rule.to_owned(),
        reason,
        measured: measured.map(|dtype| Measure::Text(dtype.to_string())),
        limit: None,
        evidence: None,
        is_inferred: false,
    }))
}

fn verdict(graph: &Subgraph, node: &Node) -> Verdict {
    let is_float = |dtype| matches!(dtype, DType::F16 | DType::F32);
    let variable = node
        .inputs
        .iter()
        .flatten()
        .find(|&&id| !graph[id].is_constant());
    let results = node.outputs.iter().chain(variable).map(|&id| &graph[id]);
    if let Some(other) = results.map(|t| t.dtype).find(|&dtype| !is_float(dtype)) {
        let reason = format!("a GPU computes float values, not {other}");
        return refused("gpu-float", reason, Some(other));
    }
    match node.op.operator() {
        Err(_) => Verdict::Unknown(format!("nothing is known of {} on a GPU", node.op)),
        Ok(operator) if operator.memory().is_some() || !operator.bodies().is_empty() => refused(
            "gpu-control-flow",
            format!("{} runs subgraphs or keeps a state", node.op),
            None,
        ),
        Ok(_) => Verdict::Supported,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bantam_model::{Tensor, ops};

    fn model(weights: DType) -> Model {
        let mut subgraph = Subgraph::default();
        let data = vec![0; 4 * weights.size().unwrap()];
        let w = subgraph.add_tensor(Tensor::constant("w", weights, [4], data));
        let x = subgraph.add_tensor(Tensor::new("x", DType::F32, [4]));
        let wide = subgraph.add_tensor(Tensor::new("wide", DType::F32, [4]));
        let y = subgraph.add_tensor(Tensor::new("y", DType::F32, [4]));
        let index = subgraph.add_tensor(Tensor::new("index", DType::I32, [4]));
        let cast = ops::Cast::default();
        subgraph.nodes = vec![
            Node::new(ops::Dequantize, &[w], &[wide]),
            Node::new(ops::Add::default(), &[x, wide], &[y]),
            Node::new(cast, &[y], &[index]),
        ];
        (subgraph.inputs, subgraph.outputs) = (vec![x], vec![index]);
        Model {
            subgraphs: vec![subgraph],
            ..Model::default()
        }
    }

    #[test]
    fn takes_float16_partitions_and_says_why_it_does_not_run_them() {
        let model = model(DType::F16);
        let verdicts = Gpu.supports(&model, 0).unwrap();
        assert!(verdicts[0].is_supported() && verdicts[1].is_supported());
        assert_eq!(verdicts[2].refusal().unwrap().rule, "gpu-float");
        let error = Gpu.compile(&model, None).err().unwrap().to_string();
        assert!(error.contains("no GPU runtime is present"), "{error}");
        assert!(Gpu.devices().unwrap().is_empty());
        assert!(Gpu.supports(&model, 1).is_err());
    }

    #[test]
    fn refuses_models_without_float16() {
        let verdicts = Gpu.supports(&model(DType::I8), 0).unwrap();
        let rules = verdicts.iter().map(|v| &v.refusal().unwrap().rule[..]);
        assert!(rules.eq(["gpu-float16"; 3]));
    }
}
