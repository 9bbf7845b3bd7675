//! The answer as SARIF 2.1.0, which code scanning services show beside the model file.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Checked, json::measure, verdict_name};

impl Checked<'_> {
    /// A log of one run: a result for each operator on the CPU.
    pub(super) fn sarif(&self) -> Value {
        let mut rules: BTreeMap<&str, Value> = BTreeMap::new();
        for (_, reason) in self.whys() {
            let id = reason.rule.as_deref().unwrap_or("unknown");
            let about = self
                .target
                .rule_says(id)
                .unwrap_or("nothing is known of the operator");
            let mut rule = json!({ "id": id, "shortDescription": { "text": about } });
            if let Some(evidence) = &reason.evidence {
                rule["fullDescription"] = json!({ "text": format!("{about} ({evidence})") });
            }
            rules.insert(id, rule);
        }
        let ids: Vec<&str> = rules.keys().copied().collect();
        let uri = uri(&self.path);
        let results: Vec<Value> = self
            .check
            .ops
            .iter()
            .enumerate()
            .filter_map(|(index, op)| {
                let reason = op.reason.as_ref()?;
                let id = reason.rule.as_deref().unwrap_or("unknown");
                let name = format!("{} at {index}", self.graph.nodes[index].op);
                Some(json!({
                    "level": if op.verdict.is_supported() { "note" } else { "warning" },
                    "locations": [{
                        "logicalLocations": [{
                            "fullyQualifiedName": format!("subgraph {}/{}", self.subgraph, self.output_name(index)),
                            "kind": "object",
                            "name": name,
                        }],
                        "physicalLocation": { "artifactLocation": { "uri": uri } },
                    }],
                    "message": { "text": format!("{name} stays on the CPU: {}", reason.text) },
                    "properties": {
                        "limit": reason.limit.as_ref().map(measure),
                        "measured": reason.measured.as_ref().map(measure),
                        "verdict": verdict_name(&op.verdict),
                    },
                    "ruleId": id,
                    "ruleIndex": ids.iter().position(|&other| other == id),
                }))
            })
            .collect();
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "runs": [{
                "results": results,
                "tool": { "driver": {
                    "name": "bantam",
                    "rules": rules.into_values().collect::<Vec<_>>(),
                    "version": env!("CARGO_PKG_VERSION"),
                } },
            }],
            "version": "2.1.0",
        })
    }
}

/// A path as the reference that SARIF asks for: percent-encoded, with `/` between folders.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.replace('\\', "/").bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(byte.into())
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("a b/c@1.tflite"), "a%20b/c%401.tflite");
    }
}
