//! Why a model cannot be converted or judged.

use bantam_model::DType;
use bantam_model::cpu::RunError;

use crate::samples::SampleError;

/// Why a conversion or comparison stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The float model cannot be run, so it cannot be calibrated.
    #[error("the model cannot be run for calibration")]
    Run(#[from] RunError),
    /// A sample cannot be read.
    #[error("sample {index}")]
    Sample {
        /// Which.
        index: usize,
        /// Why.
        #[source]
        source: SampleError,
    },
    /// The mode needs samples and there are none.
    #[error("calibration needs at least one sample")]
    NoSamples,
    /// A saved calibration cannot be used.
    #[error("{0}")]
    Calibration(String),
    /// The model is integer already, or has nothing that can be quantized.
    #[error("{0}")]
    Nothing(String),
    /// Operators that would stay float where all must be integer.
    #[error("{} of the model's operators cannot be {dtype}: {}", floats.len(), list(floats))]
    Float {
        /// What all should be.
        dtype: DType,
        /// Each with its reason.
        floats: Vec<KeptFloat>,
    },
    /// Two models whose outputs cannot be compared.
    #[error("{0}")]
    Mismatch(String),
}

/// An operator that stays float.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptFloat {
    /// Its subgraph.
    pub subgraph: usize,
    /// Its place in that subgraph of the float model.
    pub index: usize,
    /// Its kind.
    pub op: String,
    /// The name of its first result.
    pub name: String,
    /// Why it cannot be integer.
    pub reason: String,
}

fn list(floats: &[KeptFloat]) -> String {
    let each = floats.iter().map(|f| {
        let inner = of_subgraph(f.subgraph);
        format!("operator {}{inner} ({}): {}", f.index, f.op, f.reason)
    });
    each.collect::<Vec<_>>().join("; ")
}

/// What is said of an operator beside its place, where it is not in the first subgraph.
pub(crate) fn of_subgraph(subgraph: usize) -> String {
    match subgraph {
        0 => String::new(),
        _ => format!(" of subgraph {subgraph}"),
    }
}
