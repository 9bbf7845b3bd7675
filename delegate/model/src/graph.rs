//! The graph: subgraphs of tensors and operators, with ids that cannot be mixed up.

use std::fmt;
use std::ops::{Index, IndexMut};

use crate::ops::Op;
use crate::tensor::{Bytes, Tensor};

/// A tensor of a subgraph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub u32);

/// An operator of a subgraph, by its place in the order of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl TensorId {
    /// The place in [`Subgraph::tensors`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl NodeId {
    /// The place in [`Subgraph::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor {}", self.0)
    }
}

/// A whole file: what a `.tflite` holds, read or made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Model {
    /// Who made the file.
    pub description: Option<String>,
    /// The first is the one that runs unless another is asked for; some run in operators of others.
    pub subgraphs: Vec<Subgraph>,
    /// Named data that no operator reads.
    pub metadata: Vec<Metadata>,
    /// The old, nameless form of `metadata`.
    pub metadata_buffers: Vec<Bytes>,
    /// Named entry points.
    pub signatures: Vec<SignatureDef>,
}

/// Operators in order of execution, and the tensors between them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Subgraph {
    /// The name, empty where the file has none.
    pub name: String,
    /// All tensors, constants among them.
    pub tensors: Vec<Tensor>,
    /// The operators, in order of execution.
    pub nodes: Vec<Node>,
    /// What the caller gives.
    pub inputs: Vec<TensorId>,
    /// What the caller gets.
    pub outputs: Vec<TensorId>,
    /// The place of its debug information, -1 for none.
    pub debug_metadata_index: i32,
}

/// One operator of a subgraph and its tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Its operands; `None` for an optional one that is not given.
    pub inputs: Vec<Option<TensorId>>,
    /// Its results.
    pub outputs: Vec<TensorId>,
    /// Tensors that only its quantization parameters matter of.
    pub intermediates: Vec<TensorId>,
    /// Which inputs are variables that it changes.
    pub mutating_variable_inputs: Vec<bool>,
    /// The place of its debug information, -1 for none.
    pub debug_metadata_index: i32,
}

/// Named data of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// The key, such as `min_runtime_version`.
    pub name: String,
    /// The value.
    pub data: Bytes,
}

/// A named entry point: names for the inputs and outputs of a subgraph.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SignatureDef {
    /// The key, often `serving_default`.
    pub key: String,
    /// The subgraph it enters.
    pub subgraph: u32,
    /// Names of inputs.
    pub inputs: Vec<(String, TensorId)>,
    /// Names of outputs.
    pub outputs: Vec<(String, TensorId)>,
}

impl Model {
    /// The subgraph `entry`, if there is one, and all that operators of those in the list run.
    pub fn reachable(&self, entry: usize) -> Vec<usize> {
        let count = self.subgraphs.len();
        let mut list = Vec::from_iter((entry < count).then_some(entry));
        let mut at = 0;
        while let Some(&subgraph) = list.get(at) {
            let nodes = self.subgraphs[subgraph].nodes.iter();
            for body in nodes.flat_map(|n| n.op.bodies()) {
                match usize::try_from(body.subgraph) {
                    Ok(body) if body < count && !list.contains(&body) => list.push(body),
                    _ => {}
                }
            }
            at += 1;
        }
        list
    }

    /// Removes tensors that nothing refers to; those that remain get new ids.
    pub fn remove_unused_tensors(&mut self) {
        for (number, subgraph) in self.subgraphs.iter_mut().enumerate() {
            let mut signatures: Vec<_> = self
                .signatures
                .iter_mut()
                .filter(|s| s.subgraph as usize == number)
                .collect();
            let mut ids: Vec<&mut TensorId> = Vec::new();
            ids.extend(subgraph.inputs.iter_mut().chain(&mut subgraph.outputs));
            for node in &mut subgraph.nodes {
                ids.extend(node.inputs.iter_mut().flatten());
                ids.extend(node.outputs.iter_mut().chain(&mut node.intermediates));
            }
            for signature in &mut signatures {
                let names = signature.inputs.iter_mut().chain(&mut signature.outputs);
                ids.extend(names.map(|(_, id)| id));
            }
            let mut used = vec![false; subgraph.tensors.len()];
            ids.iter().for_each(|id| used[id.index()] = true);
            let mut next = 0;
            let new: Vec<u32> = used
                .iter()
                .map(|&used| {
                    let id = next;
                    next += u32::from(used);
                    id
                })
                .collect();
            ids.into_iter().for_each(|id| id.0 = new[id.index()]);
            let mut used = used.into_iter();
            subgraph.tensors.retain(|_| used.next().unwrap_or(false));
        }
    }
}

impl Node {
    /// `op` on `inputs`, none of them absent.
    pub fn new(op: impl Into<Op>, inputs: &[TensorId], outputs: &[TensorId]) -> Self {
        Self {
            op: op.into(),
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: outputs.to_vec(),
            intermediates: Vec::new(),
            mutating_variable_inputs: Vec::new(),
            debug_metadata_index: -1,
        }
    }

    /// The operand at `index`, if it is given.
    pub fn input(&self, index: usize) -> Option<TensorId> {
        self.inputs.get(index).copied().flatten()
    }
}

impl Subgraph {
    /// Adds `tensor`.
    pub fn add_tensor(&mut self, tensor: Tensor) -> TensorId {
        self.tensors.push(tensor);
        TensorId(self.tensors.len() as u32 - 1)
    }

    /// The operator that computes each tensor, by tensor; `None` for inputs and constants.
    pub fn producers(&self) -> Vec<Option<NodeId>> {
        let mut producers = vec![None; self.tensors.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for output in &node.outputs {
                producers[output.index()] = Some(NodeId(index as u32));
            }
        }
        producers
    }

    /// The operators that read each tensor, by tensor, in order of execution.
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.tensors.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for input in node.inputs.iter().flatten() {
                let id = NodeId(index as u32);
                let list: &mut Vec<NodeId> = &mut consumers[input.index()];
                if list.last() != Some(&id) {
                    list.push(id);
                }
            }
        }
        consumers
    }
}

impl Index<TensorId> for Subgraph {
    type Output = Tensor;
    fn index(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.index()]
    }
}

impl IndexMut<TensorId> for Subgraph {
    fn index_mut(&mut self, id: TensorId) -> &mut Tensor {
        &mut self.tensors[id.index()]
    }
}

impl Index<NodeId> for Subgraph {
    type Output = Node;
    fn index(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }
}
