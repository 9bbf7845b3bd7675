//! What integer operators hand on to those behind them, so that none runs again for each of these.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bantam_model::cpu::Plan;
use bantam_model::ops::Value;
use bantam_model::{DType, Model, Node, Subgraph, TensorId};

use crate::calibrate::Source;
use crate::compare::translate;
use crate::error::ConvertError;
use crate::probe::{each, plan};
use crate::samples::SampleError;

/// The bytes of a tensor, sample after sample.
pub(super) type Rows = Arc<Vec<Vec<u8>>>;

/// The place in a subgraph up to which operators have run, and what those behind it read.
pub(super) struct Front {
    entry: usize,
    /// The whole subgraph, with the data of all that does not depend on samples.
    whole: Arc<Plan>,
    /// Whether it can be run in parts.
    can_stop: bool,
    /// How many operators have run.
    done: usize,
    samples: usize,
    tensors: BTreeMap<TensorId, Rows>,
}

impl Front {
    /// The front of the subgraph `entry` of `model` before anything runs on the samples `indexes`,
    /// which are for inputs like `inputs`.
    pub fn new(
        model: &Model,
        entry: usize,
        inputs: &[Value],
        samples: &(impl Source + ?Sized),
        indexes: &[usize],
    ) -> Result<Self, ConvertError> {
        let whole = plan(model, entry, true)?;
        let mut rows = vec![Vec::with_capacity(indexes.len()); inputs.len()];
        for &index in indexes {
            let sample = samples.get(index);
            let sample = sample.map_err(|source| ConvertError::Sample { index, source })?;
            let ends = inputs.iter().zip(whole.inputs());
            for ((rows, bytes), (from, &to)) in rows.iter_mut().zip(sample).zip(ends) {
                rows.push(translate(&bytes, from, whole.value(to))?);
            }
        }
        let rows = rows.into_iter().map(Arc::new);
        Ok(Self {
            entry,
            can_stop: can_stop(&model.subgraphs[entry]),
            done: 0,
            samples: indexes.len(),
            tensors: whole.inputs().iter().copied().zip(rows).collect(),
            whole,
        })
    }

    /// What `tensor` holds when the operator `node` of `model` runs, which reads it. Operators run
    /// once: those that earlier calls passed must be as they were.
    pub fn at(
        &mut self,
        model: &Model,
        node: usize,
        tensor: TensorId,
        threads: usize,
    ) -> Result<(Value, Rows), ConvertError> {
        if node > self.done {
            self.advance(model, node, threads)?;
        }
        let rows = self.tensors.get(&tensor).cloned().unwrap_or_default();
        Ok((self.whole.value(tensor).clone(), rows))
    }

    /// Runs the operators up to `node`.
    fn advance(&mut self, model: &Model, node: usize, threads: usize) -> Result<(), ConvertError> {
        let mut part = model.clone();
        let graph = &mut part.subgraphs[self.entry];
        let behind = reads(&graph.nodes[node..]);
        let runs: Vec<Node> = self
            .whole
            .nodes()
            .filter(|index| (self.done..node).contains(index))
            .map(|index| graph.nodes[index].clone())
            .collect();
        let results: BTreeSet<TensorId> = runs.iter().flat_map(|n| &n.outputs).copied().collect();
        let read = reads(&runs);
        for &id in &read {
            let value = self.whole.value(id);
            let tensor = &mut graph[id];
            tensor.shape.clone_from(&value.shape);
            if !tensor.is_constant() && !results.contains(&id) {
                tensor.data.clone_from(&value.data);
            }
        }
        graph.nodes = runs;
        graph.inputs = self.tensors.keys().copied().collect();
        graph
            .inputs
            .retain(|id| read.contains(id) && !results.contains(id));
        graph.outputs = results.intersection(&behind).copied().collect();
        let found = self.run(&part, threads)?;
        if self.can_stop {
            self.done = node;
            self.tensors.retain(|id, _| behind.contains(id));
        }
        self.tensors.extend(found);
        Ok(())
    }

    /// The outputs of `part`, of which the inputs are here.
    fn run(&self, part: &Model, threads: usize) -> Result<Vec<(TensorId, Rows)>, ConvertError> {
        let graph = &part.subgraphs[self.entry];
        if graph.outputs.is_empty() {
            return Ok(Vec::new());
        }
        let plan = plan(part, self.entry, false)?;
        let value = |&id| plan.value(id).clone();
        let inputs: Vec<Value> = plan.inputs().iter().map(value).collect();
        let held = Held {
            count: self.samples,
            rows: graph.inputs.iter().map(|id| &*self.tensors[id]).collect(),
        };
        let indexes: Vec<usize> = (0..self.samples).collect();
        let found = each(&plan, &inputs, &held, &indexes, threads, |_, runner| {
            runner.run()?;
            let bytes = plan.outputs().iter().map(|&id| runner.tensor(id).to_vec());
            Ok(bytes.collect::<Vec<_>>())
        })?;
        let mut rows = vec![Vec::with_capacity(self.samples); graph.outputs.len()];
        for sample in found {
            rows.iter_mut().zip(sample).for_each(|(r, b)| r.push(b));
        }
        let rows = rows.into_iter().map(Arc::new);
        Ok(graph.outputs.iter().copied().zip(rows).collect())
    }
}

/// Inputs of a part of the graph.
struct Held<'a> {
    count: usize,
    rows: Vec<&'a Vec<Vec<u8>>>,
}

impl Source for Held<'_> {
    fn len(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> Result<Vec<Vec<u8>>, SampleError> {
        Ok(self.rows.iter().map(|rows| rows[index].clone()).collect())
    }
}

fn reads(nodes: &[Node]) -> BTreeSet<TensorId> {
    let inputs = nodes.iter().flat_map(|node| node.inputs.iter().flatten());
    inputs.copied().collect()
}

/// Whether nothing but the tensors that operators hand on leads from one part of `graph` to the next.
fn can_stop(graph: &Subgraph) -> bool {
    let is_handle = |id: &TensorId| graph[*id].dtype == DType::Resource;
    graph.nodes.iter().all(|node| {
        let mut outputs = node.outputs.iter();
        node.op.bodies().is_empty()
            && !node.inputs.iter().flatten().any(is_handle)
            && !outputs.any(|id| is_handle(id) || graph[*id].is_variable)
    })
}

#[cfg(test)]
mod tests {
    use bantam_model::Tensor;
    use bantam_model::ops::Add;

    use super::*;

    #[test]
    fn hands_on_what_is_read_later_and_nothing_else() {
        let mut graph = Subgraph::default();
        let mut add = |name: &str| graph.add_tensor(Tensor::new(name, DType::F32, [1]));
        let [x, a, b, y] = ["x", "a", "b", "y"].map(&mut add);
        let sum = |inputs: &[TensorId], output| Node::new(Add::default(), inputs, &[output]);
        graph.nodes = vec![sum(&[x, x], a), sum(&[a, x], b), sum(&[b, a], y)];
        (graph.inputs, graph.outputs) = (vec![x], vec![y]);
        let model = Model {
            subgraphs: vec![graph],
            ..Model::default()
        };
        let bytes = |value: f32| value.to_ne_bytes().to_vec();
        let samples = [1.0, 10.0, 100.0].map(|v| vec![bytes(v)]);
        let input = plan(&model, 0, false).unwrap().value(x).clone();
        let mut front = Front::new(&model, 0, &[input], &samples[..], &[0, 2]).unwrap();
        let mut at = |node, tensor| front.at(&model, node, tensor, 2).unwrap().1;
        assert_eq!(*at(1, a), [bytes(2.0), bytes(200.0)]);
        assert_eq!(*at(1, x), [bytes(1.0), bytes(100.0)]);
        assert_eq!(*at(2, b), [bytes(3.0), bytes(300.0)]);
        assert_eq!(*at(2, a), [bytes(2.0), bytes(200.0)]);
        assert_eq!(front.tensors.keys().collect::<Vec<_>>(), [&a, &b]);
    }
}
