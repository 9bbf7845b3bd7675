//! The same for programs.

use bantam_model::Verdict;
use bantam_model::target::Measure;
use serde_json::{Map, Value, json};

use super::Session;
use super::report::{OpPlacement, PartitionPlacement, Placed, Placement, Report};

impl Session {
    /// Where every operator runs and why, what the partitions are, and what happened in runs, as one object.
    pub fn report_json(&self) -> Value {
        json(self.placement(), &self.report())
    }
}

fn json(placement: &Placement, report: &Report) -> Value {
    let partitions = placement.partitions.iter().enumerate();
    let partitions = partitions.map(|(index, placed)| {
        let mut partition = partition(index, placed);
        if let Some(counters) = report.counters.get(index) {
            partition["runs"] = json!({
                "checked": counters.checked,
                "delegated": counters.delegated,
                "failed_calls": counters.failed_calls,
                "late_calls": counters.late_calls,
                "lost": counters.lost,
                "on_cpu": counters.on_cpu,
                "reopened": counters.reopened,
                "retired": counters.retired,
                "total": counters.runs,
                "wrong": counters.wrong,
            });
        }
        partition
    });
    let events = report.events.iter().map(|event| {
        json!({
            "action": event.action.to_string(),
            "error": event.error.to_string(),
            "partition": event.partition,
            "run": event.run,
        })
    });
    json!({
        "delegated": placement.delegated,
        "driver": placement.driver,
        "events": events.collect::<Value>(),
        "more_events": report.more_events,
        "nodes": placement.nodes.iter().map(node).collect::<Value>(),
        "ops": placement.ops,
        "partitions": partitions.collect::<Value>(),
        "text": placement.to_string(),
    })
}

fn partition(index: usize, partition: &PartitionPlacement) -> Value {
    let costs = partition.driver_cost.iter();
    let costs: Map<String, Value> = costs
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({
        "constant_bytes": partition.cost.constant_bytes,
        "device": partition.device,
        "driver_cost": costs,
        "has_twin": partition.has_twin,
        "index": index,
        "inputs": partition.inputs,
        "ops": partition.ops,
        "outputs": partition.outputs,
        "subgraph": partition.subgraph,
        "transfer_bytes": partition.cost.transfer_bytes,
        "work": partition.cost.work,
    })
}

fn node(node: &OpPlacement) -> Value {
    let (placement, partition) = match node.placed {
        Placed::Partition(number) => ("driver", Some(number)),
        Placed::Cpu => ("cpu", None),
        Placed::Constant => ("constant", None),
    };
    let refusal = node.verdict.as_ref().and_then(Verdict::refusal);
    let measure = |measure: Option<&Measure>| match measure {
        Some(Measure::Number(number)) => json!(number),
        Some(Measure::Text(text)) => json!(text),
        None => Value::Null,
    };
    json!({
        "index": node.index,
        "limit": measure(refusal.and_then(|refusal| refusal.limit.as_ref())),
        "measured": measure(refusal.and_then(|refusal| refusal.measured.as_ref())),
        "op": node.op,
        "outputs": node.outputs,
        "partition": partition,
        "placement": placement,
        "reason": node.reason,
        "rule": node.rule(),
        "subgraph": node.subgraph,
        "verdict": node.verdict.as_ref().map(|verdict| match verdict {
            Verdict::Supported => "supported",
            Verdict::Unsupported(_) => "unsupported",
            Verdict::Unknown(_) => "unknown",
        }),
    })
}
