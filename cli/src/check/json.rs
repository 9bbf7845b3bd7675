//! The answer for programs.

use bantam_model::target::Measure;
use bantam_model::{NodeId, TensorId};
use serde_json::{Value, json};

use super::{Checked, verdict_name};
use crate::package;

impl Checked<'_> {
    pub(super) fn json(&self) -> Value {
        let names = |ids: &[TensorId]| {
            ids.iter()
                .map(|&id| self.graph[id].name.clone())
                .collect::<Vec<_>>()
        };
        let ops: Vec<Value> = self
            .graph
            .nodes
            .iter()
            .zip(&self.check.ops)
            .enumerate()
            .map(|(index, (node, op))| {
                let reason = op.reason.as_ref();
                json!({
                    "evidence": reason.and_then(|r| r.evidence.clone()),
                    "index": index,
                    "inferred": reason.is_some_and(|r| r.is_inferred),
                    "limit": reason.and_then(|r| r.limit.as_ref()).map(measure),
                    "measured": reason.and_then(|r| r.measured.as_ref()).map(measure),
                    "op": node.op.to_string(),
                    "outputs": names(&node.outputs),
                    "partition": op.partition,
                    "placement": if op.partition.is_some() { "target" } else { "cpu" },
                    "reason": reason.map(|r| r.text.clone()),
                    "rule": reason.and_then(|r| r.rule.clone()),
                    "verdict": verdict_name(&op.verdict),
                    "version": op.version,
                })
            })
            .collect();
        let partitions: Vec<Value> = self
            .check
            .partitions
            .iter()
            .enumerate()
            .map(|(index, partition)| {
                json!({
                    "index": index,
                    "inputs": names(&partition.inputs),
                    "ops": partition.nodes.iter().map(|n| n.0).collect::<Vec<_>>(),
                    "outputs": names(&partition.outputs),
                })
            })
            .collect();
        json!({
            "memory": self.memory_json(),
            "model": self.path,
            "ops": ops,
            "packages": package::packages(self.graph).iter().map(|(i, p)| package::json(*i, p)).collect::<Vec<_>>(),
            "partitions": partitions,
            "subgraph": self.subgraph,
            "summary": {
                "mapped": self.check.mapped(),
                "ops": self.check.ops.len(),
                "partitions": self.check.partitions.len(),
            },
            "target": self.target.name(),
        })
    }

    /// Empty where the target's memory is not known, or nothing is offloaded.
    fn memory_json(&self) -> Value {
        let Some(memory) = &self.check.memory else {
            return json!({});
        };
        let range = |[low, high]: [u64; 2]| json!({ "max": high, "min": low });
        json!({
            "activation_bytes_of_a_tile": memory.tile,
            "cache_bytes": memory.cache,
            "fits": memory.fits(),
            "largest_activation_bytes": memory.largest_activations,
            "largest_activation_op": memory.largest_at.map(|NodeId(at)| at),
            "on_chip_parameter_bytes": range(memory.on_chip),
            "parameter_bytes": memory.parameters,
            "streamed_bytes": range(memory.streamed),
            "streams": memory.streams,
        })
    }
}

/// A number, or a text.
pub(super) fn measure(measure: &Measure) -> Value {
    match measure {
        Measure::Number(number) => json!(number),
        Measure::Text(text) => json!(text),
    }
}
