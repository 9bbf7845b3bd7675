//! The chip that the accelerator stands in for.

use bantam_model::Model;
use bantam_model::target::{PartitionPolicy, Verdict};

/// A chip's limits.
#[derive(Debug)]
pub struct Chip {
    name: String,
}

impl Chip {
    /// The built-in target of that name, or the pack at that path.
    pub fn open(name: &str) -> Result<Self, String> {
        Ok(Self {
            name: name.to_owned(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A verdict for each operator of a subgraph.
    pub fn verdicts(&self, model: &Model, subgraph: usize) -> Vec<Verdict> {
        vec![Verdict::Supported; model.subgraphs[subgraph].nodes.len()]
    }

    /// How operators become partitions.
    pub fn policy(&self) -> PartitionPolicy {
        PartitionPolicy::default()
    }

    /// Bytes of weights that stay on the chip.
    pub fn cache(&self) -> u64 {
        8 << 20
    }
}
