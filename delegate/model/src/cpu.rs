//! The CPU path: a subgraph is planned once (shapes, kernels, memory), then run without
//! allocating. [`Staged`] runs one in which shapes depend on data as well.

mod arena;
mod control;
mod custom;
mod kernel;
mod plan;
mod runner;
mod staged;

pub use arena::AlignedBytes;
pub(crate) use control::Frame;
pub use custom::{CustomError, CustomOp, CustomOps};
pub use kernel::{Inputs, Kernel, Parts, Run};
pub use plan::{Options, Plan};
pub use runner::Runner;
pub use staged::Staged;

use crate::ops::OpError;

/// Why a model cannot be planned or run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The graph itself is not sound.
    #[error("{0}")]
    Graph(String),
    /// Operators of the subgraph, or of those that it runs, that the CPU path does not compute.
    #[error("there is no kernel on the CPU path for {}", operators.join(", "))]
    NoKernel {
        /// The kinds of operator, each once, by name.
        operators: Vec<String>,
    },
    /// One operator cannot be prepared.
    #[error("operator {index} ({op})")]
    Op {
        /// Its place in the order of execution.
        index: usize,
        /// Its kind.
        op: String,
        /// Why.
        #[source]
        source: OpError,
    },
    /// The tensors would take more memory than allowed.
    #[error("the model needs {needed} bytes for its tensors, more than the limit of {limit}")]
    Memory {
        /// Bytes asked for.
        needed: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The caller's data does not fit the model.
    #[error("{0}")]
    Data(String),
    /// A loop does not end, or not soon enough; the outputs and variables are then unspecified.
    #[error("the model runs its subgraphs more than {limit} times in one run")]
    Endless {
        /// How often it may.
        limit: u64,
    },
    /// A kernel from outside failed; the outputs and variables are then unspecified.
    #[error("operator {index} of subgraph {subgraph} failed")]
    Custom {
        /// The subgraph that it is in.
        subgraph: usize,
        /// Its place in the order of execution.
        index: usize,
        /// Why.
        #[source]
        source: CustomError,
    },
    /// The threads could not be started.
    #[error("cannot start threads: {0}")]
    Threads(String),
}
