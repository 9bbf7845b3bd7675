//! A few operators as a graph of their own: to be judged by a chip, and to be run.

use std::collections::HashMap;

use bantam_model::{Node, NodeId, Subgraph, Tensor, TensorId};

use super::draft::Draft;

/// Operators cut out of a graph.
#[derive(Debug, Clone)]
pub(super) struct Fragment {
    pub graph: Subgraph,
    /// The tensor of the whole graph, or of the draft's new ones after it, that each tensor is.
    pub origin: Vec<TensorId>,
}

impl Fragment {
    /// The operators that `draft` removes, and its context.
    pub fn before(graph: &Subgraph, draft: &Draft) -> Self {
        let mut ids: Vec<NodeId> = draft
            .removes
            .iter()
            .chain(&draft.context)
            .copied()
            .collect();
        ids.sort_unstable();
        let nodes = ids.iter().map(|id| &graph.nodes[id.index()]);
        Self::new(|id| &graph[id], nodes, &results(graph, draft))
    }

    /// The operators that it adds.
    pub fn after(graph: &Subgraph, draft: &Draft) -> Self {
        Self::new(
            |id| draft.tensor(graph, id),
            draft.nodes.iter(),
            &results(graph, draft),
        )
    }

    fn new<'a>(
        tensor: impl Fn(TensorId) -> &'a Tensor,
        nodes: impl Iterator<Item = &'a Node> + Clone,
        outputs: &[TensorId],
    ) -> Self {
        let mut fragment = Self {
            graph: Subgraph {
                debug_metadata_index: -1,
                ..Subgraph::default()
            },
            origin: Vec::new(),
        };
        let mut places = HashMap::new();
        let made: Vec<TensorId> = nodes
            .clone()
            .flat_map(|n| n.outputs.iter().copied())
            .collect();
        for node in nodes {
            let mut node = node.clone();
            let inputs = node.inputs.iter_mut().flatten();
            for id in inputs
                .chain(&mut node.outputs)
                .chain(&mut node.intermediates)
            {
                let outer = *id;
                *id = *places.entry(outer).or_insert_with(|| {
                    let place = fragment.graph.add_tensor(tensor(outer).clone());
                    fragment.origin.push(outer);
                    let tensor = &fragment.graph[place];
                    if !tensor.is_constant() && !tensor.is_variable && !made.contains(&outer) {
                        fragment.graph.inputs.push(place);
                    }
                    place
                });
            }
            fragment.graph.nodes.push(node);
        }
        let outputs = outputs.iter().filter_map(|id| places.get(id).copied());
        fragment.graph.outputs = outputs.collect();
        // Both sides of a rewrite list their inputs alike.
        let mut inputs = std::mem::take(&mut fragment.graph.inputs);
        inputs.sort_by_key(|id| fragment.origin[id.index()]);
        fragment.graph.inputs = inputs;
        fragment
    }
}

/// The results of the removed operators that others read, or the caller.
fn results(graph: &Subgraph, draft: &Draft) -> Vec<TensorId> {
    let stays = |index: usize| !draft.removes.contains(&NodeId(index as u32));
    let others = graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(index, _)| stays(*index));
    let read: Vec<TensorId> = others
        .flat_map(|(_, n)| n.inputs.iter().flatten().copied())
        .collect();
    let removed = draft.removes.iter().map(|id| &graph.nodes[id.index()]);
    let made = removed.flat_map(|n| n.outputs.iter().copied());
    let read = |id: &TensorId| graph.outputs.contains(id) || read.contains(id);
    made.filter(read).collect()
}
