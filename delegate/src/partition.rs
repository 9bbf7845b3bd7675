//! Which operators are offloaded together: a pure function of the graph and of what a driver takes.
//!
//! The rule is that of TFLite's delegates. Operators join the current epoch when all their operands
//! are there; epochs are the driver's and the CPU's in turn, the driver's first; each of the
//! driver's that is not empty is a partition. An operand from a later epoch cannot occur, so neither
//! can a cycle between partitions. Operators that share a state (variables, handles, subgraphs that
//! may use them) keep their order among themselves besides.

use std::collections::{BTreeMap, HashMap};

use bantam_model::target::{PartitionPolicy, Which};
use bantam_model::tensor::DType;
use bantam_model::{Model, Node, NodeId, Subgraph, TensorId};

mod cost;

pub use cost::{Cost, Economy};

/// Operators that are offloaded together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// In order of execution.
    pub nodes: Vec<NodeId>,
    /// What the operators read that is neither a constant nor a variable nor computed by one of
    /// them, in order of first use.
    pub inputs: Vec<TensorId>,
    /// What they compute that others read or the subgraph gives, in order of computation.
    pub outputs: Vec<TensorId>,
}

impl Partition {
    /// `nodes` of `subgraph`, with what goes in and out.
    pub fn of(subgraph: &Subgraph, mut nodes: Vec<NodeId>) -> Self {
        nodes.sort_unstable();
        nodes.dedup();
        let inside = |id: NodeId| nodes.binary_search(&id).is_ok();
        let mut state = vec![TensorState::Outside; subgraph.tensors.len()];
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for &output in nodes.iter().flat_map(|&id| &subgraph[id].outputs) {
            state[output.index()] = TensorState::Computed;
        }
        for &input in nodes
            .iter()
            .flat_map(|&id| subgraph[id].inputs.iter().flatten())
        {
            let tensor = &subgraph[input];
            let given = tensor.is_constant() || tensor.is_variable;
            if state[input.index()] == TensorState::Outside && !given {
                state[input.index()] = TensorState::Input;
                inputs.push(input);
            }
        }
        let mut is_read_outside = vec![false; subgraph.tensors.len()];
        let nodes_and_ids = subgraph.nodes.iter().zip(0..).map(|(n, i)| (n, NodeId(i)));
        for (node, _) in nodes_and_ids.filter(|&(_, id)| !inside(id)) {
            for input in node.inputs.iter().flatten() {
                is_read_outside[input.index()] = true;
            }
        }
        for output in &subgraph.outputs {
            is_read_outside[output.index()] = true;
        }
        for &output in nodes.iter().flat_map(|&id| &subgraph[id].outputs) {
            let tensor = &subgraph[output];
            let given = tensor.is_constant() || tensor.is_variable;
            if is_read_outside[output.index()] && !given && !outputs.contains(&output) {
                outputs.push(output);
            }
        }
        Self {
            nodes,
            inputs,
            outputs,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum TensorState {
    Outside,
    Computed,
    Input,
}

/// The partitions of `subgraph` for a driver that takes the operators marked in `takes`, in order
/// of execution. An operator without a mark is not taken.
///
/// `policy` drops partitions of too few operators and, where it says so, all but the first of the
/// others.
pub fn partition(subgraph: &Subgraph, takes: &[bool], policy: &PartitionPolicy) -> Vec<Partition> {
    let epochs = epochs(subgraph, takes);
    let partitions = epochs.into_iter().step_by(2);
    let partitions = partitions.filter(|nodes| nodes.len() >= policy.min_ops.max(1));
    let wanted = match policy.which {
        Which::First => 1,
        Which::All => usize::MAX,
    };
    partitions
        .take(wanted)
        .map(|nodes| Partition::of(subgraph, nodes))
        .collect()
}

/// The operators of each epoch, the driver's at even places. Those whose operands never come are in
/// none.
fn epochs(subgraph: &Subgraph, takes: &[bool]) -> Vec<Vec<NodeId>> {
    let dependencies = Dependencies::new(subgraph);
    let mut is_done = vec![false; subgraph.nodes.len()];
    let mut left = is_done.len();
    let mut epochs = Vec::new();
    let mut last_was_empty = false;
    while left > 0 {
        let is_drivers = epochs.len() % 2 == 0;
        let mut epoch = Vec::new();
        loop {
            let before = epoch.len();
            for index in 0..is_done.len() {
                let is_right = takes.get(index).copied().unwrap_or(false) == is_drivers;
                if !is_done[index] && is_right && dependencies.are_met(index, &is_done) {
                    is_done[index] = true;
                    epoch.push(NodeId(index as u32));
                }
            }
            if epoch.len() == before {
                break;
            }
        }
        if epoch.is_empty() && last_was_empty {
            break;
        }
        last_was_empty = epoch.is_empty();
        left -= epoch.len();
        epoch.sort_unstable();
        epochs.push(epoch);
    }
    epochs
}

/// What has to run before each operator.
pub(crate) struct Dependencies(Vec<Vec<usize>>);

impl Dependencies {
    pub fn new(subgraph: &Subgraph) -> Self {
        let mut producers = subgraph.producers();
        for input in &subgraph.inputs {
            producers[input.index()] = None;
        }
        let mut stateful = None;
        let nodes = subgraph.nodes.iter().enumerate();
        Self(
            nodes
                .map(|(index, node)| {
                    let operands = node.inputs.iter().flatten();
                    let mut before: Vec<usize> = operands
                        .filter(|&&id| !subgraph[id].is_constant())
                        .filter_map(|id| producers[id.index()])
                        .map(NodeId::index)
                        .filter(|&producer| producer != index)
                        .collect();
                    if shares_state(subgraph, node) {
                        before.extend(stateful.replace(index));
                    }
                    before.sort_unstable();
                    before.dedup();
                    before
                })
                .collect(),
        )
    }

    /// What has to run before operator `index`, without repetition.
    pub fn of(&self, index: usize) -> &[usize] {
        &self.0[index]
    }

    fn are_met(&self, index: usize, is_done: &[bool]) -> bool {
        self.0[index].iter().all(|&before| is_done[before])
    }
}

/// Whether `node` reads or changes what other operators may change.
pub(crate) fn shares_state(subgraph: &Subgraph, node: &Node) -> bool {
    let tensors = node.inputs.iter().flatten().chain(&node.outputs);
    let is_state = |id: &TensorId| {
        let tensor = &subgraph[*id];
        let is_handle = matches!(tensor.dtype, DType::Resource | DType::Variant);
        (tensor.is_variable && !tensor.is_constant()) || is_handle
    };
    let operator = node.op.operator();
    operator.is_ok_and(|op| op.memory().is_some() || !op.bodies().is_empty())
        || tensors.into_iter().any(is_state)
}

/// The operators in `partition` of subgraph `subgraph` as a model of their own: their tensors with
/// names, types and quantization, the constants that they read, and the subgraphs that they run.
///
/// The inputs and outputs of its first subgraph are those of the partition, in order. Tensors that
/// one of the operators computes are none that are given, even if `model` holds their value.
pub fn extract(model: &Model, subgraph: usize, partition: &Partition) -> Model {
    let Some(source) = model.subgraphs.get(subgraph) else {
        return Model::default();
    };
    let mut first = Subgraph {
        name: source.name.clone(),
        debug_metadata_index: -1,
        ..Subgraph::default()
    };
    let mut tensors = HashMap::new();
    let mut add = |first: &mut Subgraph, id: TensorId| {
        *tensors
            .entry(id)
            .or_insert_with(|| first.add_tensor(source[id].clone()))
    };
    first.inputs = partition
        .inputs
        .iter()
        .map(|&id| add(&mut first, id))
        .collect();
    for &id in &partition.nodes {
        let node = &source[id];
        let mut node = Node {
            debug_metadata_index: -1,
            ..node.clone()
        };
        for id in node.inputs.iter_mut().flatten() {
            *id = add(&mut first, *id);
        }
        for id in &mut node.intermediates {
            *id = add(&mut first, *id);
        }
        for id in &mut node.outputs {
            *id = add(&mut first, *id);
            if !first[*id].is_variable {
                first[*id].data = None;
            }
        }
        first.nodes.push(node);
    }
    first.outputs = partition
        .outputs
        .iter()
        .map(|&id| add(&mut first, id))
        .collect();
    Model {
        description: model.description.clone(),
        subgraphs: with_bodies(model, first),
        ..Model::default()
    }
}

/// `first` and the subgraphs of `model` that its operators run, renumbered.
fn with_bodies(model: &Model, first: Subgraph) -> Vec<Subgraph> {
    let mut numbers: BTreeMap<i32, i32> = BTreeMap::new();
    let mut subgraphs = vec![first];
    let mut next = 0;
    while let Some(subgraph) = subgraphs.get(next) {
        let bodies = subgraph.nodes.iter().flat_map(|node| node.op.bodies());
        let bodies: Vec<i32> = bodies.map(|body| body.subgraph).collect();
        for body in bodies {
            let source = usize::try_from(body).ok();
            let Some(source) = source.and_then(|body| model.subgraphs.get(body)) else {
                continue;
            };
            if let std::collections::btree_map::Entry::Vacant(entry) = numbers.entry(body) {
                entry.insert(subgraphs.len() as i32);
                subgraphs.push(source.clone());
            }
        }
        next += 1;
    }
    for node in subgraphs.iter_mut().flat_map(|s| &mut s.nodes) {
        node.op
            .renumber_bodies(|body| numbers.get(&body).copied().unwrap_or(i32::MAX));
    }
    subgraphs
}

/// Something that runs as one in a subgraph that was partitioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// An operator that is in no partition.
    Node(NodeId),
    /// The partition at this place.
    Partition(usize),
}

/// The operators and `partitions` of `subgraph` in an order in which they can run, as near to the
/// file's as that allows. Partitions may be any subset of those that [`partition`] gives.
pub fn schedule(subgraph: &Subgraph, partitions: &[Partition]) -> Vec<Unit> {
    let graph = Units::new(subgraph, partitions);
    let mut is_done = vec![false; graph.units.len()];
    let mut order = Vec::new();
    // A malformed file may have operators that wait for each other: in the file's order at last,
    // so that the plan, which knows of what is wrong, names it.
    while let Some(next) = (0..is_done.len())
        .find(|&unit| !is_done[unit] && graph.is_ready(unit, &is_done))
        .or_else(|| is_done.iter().position(|done| !done))
    {
        is_done[next] = true;
        order.push(graph.units[next]);
    }
    order
}

/// What runs as one, by the place of its first operator, and what has to run before each.
pub(crate) struct Units {
    pub units: Vec<Unit>,
    before: Vec<Vec<usize>>,
}

impl Units {
    pub fn new(subgraph: &Subgraph, partitions: &[Partition]) -> Self {
        let mut partition_of = vec![None; subgraph.nodes.len()];
        for (number, partition) in partitions.iter().enumerate() {
            for id in &partition.nodes {
                partition_of[id.index()] = Some(number);
            }
        }
        let mut units = Vec::new();
        let mut place_of_partition = vec![None; partitions.len()];
        let mut unit_of = Vec::new();
        for (index, partition) in partition_of.iter().enumerate() {
            let place = match partition {
                Some(number) => *place_of_partition[*number].get_or_insert(units.len()),
                None => units.len(),
            };
            unit_of.push(place);
            if place == units.len() {
                units.push(match partition {
                    Some(number) => Unit::Partition(*number),
                    None => Unit::Node(NodeId(index as u32)),
                });
            }
        }
        let dependencies = Dependencies::new(subgraph);
        let mut before = vec![Vec::new(); units.len()];
        for (index, &unit) in unit_of.iter().enumerate() {
            let needed = dependencies.of(index).iter().map(|&node| unit_of[node]);
            before[unit].extend(needed.filter(|&needed| needed != unit));
        }
        Self { units, before }
    }

    /// Whether all that has to run before `unit` is done.
    pub fn is_ready(&self, unit: usize, is_done: &[bool]) -> bool {
        self.before[unit].iter().all(|&before| is_done[before])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bantam_model::cpu::{self, Plan, Runner};
    use bantam_model::{Tensor, ops};
    use proptest::prelude::*;

    use super::*;

    /// A graph of int32 tensors of four elements: for each operator which earlier tensors it adds.
    /// Tensor 0 is the input, tensor 1 a constant.
    fn sums(operands: &[(usize, usize)], outputs: &[usize]) -> Model {
        let mut s = Subgraph::default();
        let x = s.add_tensor(Tensor::new("x", DType::I32, [4]));
        let data: Vec<u8> = (1..=4i32).flat_map(i32::to_ne_bytes).collect();
        s.add_tensor(Tensor::constant("c", DType::I32, [4], data));
        for (index, &(a, b)) in operands.iter().enumerate() {
            let result = s.add_tensor(Tensor::new(format!("t{index}"), DType::I32, [4]));
            let [a, b] = [a, b].map(|id| TensorId(id as u32));
            let node = match index % 2 {
                0 => Node::new(ops::Add::default(), &[a, b], &[result]),
                _ => Node::new(ops::Sub::default(), &[a, b], &[result]),
            };
            s.nodes.push(node);
        }
        s.inputs = vec![x];
        s.outputs = outputs.iter().map(|&id| TensorId(id as u32)).collect();
        Model {
            subgraphs: vec![s],
            ..Model::default()
        }
    }

    const ALL: PartitionPolicy = PartitionPolicy {
        which: Which::All,
        min_ops: 1,
    };

    fn nodes(partitions: &[Partition]) -> Vec<Vec<u32>> {
        let ids = |p: &Partition| p.nodes.iter().map(|id| id.0).collect();
        partitions.iter().map(ids).collect()
    }

    fn run(model: &Model, inputs: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let plan = Plan::new(model, &cpu::Options::default()).unwrap();
        let mut runner = Runner::new(Arc::new(plan)).unwrap();
        for (index, input) in inputs.iter().enumerate() {
            runner.set_input(index, input).unwrap();
        }
        runner.run().unwrap();
        let count = model.subgraphs[0].outputs.len();
        (0..count).map(|i| runner.output(i).to_vec()).collect()
    }

    /// Runs each unit as a model of its own.
    fn run_in_parts(model: &Model, partitions: &[Partition], input: &[u8]) -> Vec<Vec<u8>> {
        let s = &model.subgraphs[0];
        let mut values: HashMap<TensorId, Vec<u8>> = HashMap::new();
        values.insert(s.inputs[0], input.to_vec());
        let mut seen = Vec::new();
        for unit in schedule(s, partitions) {
            let part = match unit {
                Unit::Node(id) => Partition::of(s, vec![id]),
                Unit::Partition(number) => partitions[number].clone(),
            };
            seen.extend(part.nodes.iter().map(|id| id.0));
            let given: Vec<Vec<u8>> = part.inputs.iter().map(|id| values[id].clone()).collect();
            let results = run(&extract(model, 0, &part), &given);
            values.extend(part.outputs.iter().copied().zip(results));
        }
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..s.nodes.len() as u32));
        let value = |id: &TensorId| match &s[*id].data {
            Some(data) => data.to_vec(),
            None => values[id].clone(),
        };
        s.outputs.iter().map(value).collect()
    }

    #[test]
    fn a_diamond_makes_no_cycle() {
        // 0 feeds 1 and 2, the driver does not take 2, both feed 3.
        let model = sums(&[(0, 1), (2, 2), (2, 1), (3, 4)], &[5]);
        let partitions = partition(&model.subgraphs[0], &[true, true, false, true], &ALL);
        assert_eq!(nodes(&partitions), [vec![0, 1], vec![3]]);
        let ids = |ids: &[u32]| ids.iter().map(|&id| TensorId(id)).collect::<Vec<_>>();
        assert_eq!(partitions[0].inputs, ids(&[0]));
        assert_eq!(partitions[0].outputs, ids(&[2, 3]));
        assert_eq!(partitions[1].inputs, ids(&[3, 4]));
    }

    #[test]
    fn parallel_branches_are_one_partition() {
        let model = sums(&[(0, 1), (0, 0), (2, 3)], &[4]);
        let partitions = partition(&model.subgraphs[0], &[true, true, false], &ALL);
        assert_eq!(nodes(&partitions), [vec![0, 1]]);
        assert_eq!(partitions[0].outputs.len(), 2);
    }

    #[test]
    fn an_operator_that_waits_for_the_cpu_goes_to_a_later_partition() {
        let model = sums(&[(0, 1), (0, 0), (3, 1), (2, 1)], &[4, 5]);
        let takes = [false, true, true, true];
        let partitions = partition(&model.subgraphs[0], &takes, &ALL);
        assert_eq!(nodes(&partitions), [vec![1, 2], vec![3]]);
    }

    #[test]
    fn the_policy_drops_small_partitions_and_later_ones() {
        let model = sums(&[(0, 1), (2, 1), (3, 1), (4, 1), (5, 1)], &[6]);
        let takes = [true, false, true, true, false];
        let wanted = |which, min_ops| {
            let policy = PartitionPolicy { which, min_ops };
            nodes(&partition(&model.subgraphs[0], &takes, &policy))
        };
        assert_eq!(wanted(Which::All, 1), [vec![0], vec![2, 3]]);
        assert_eq!(wanted(Which::First, 1), [vec![0]]);
        assert_eq!(wanted(Which::First, 2), [vec![2, 3]]);
        assert!(wanted(Which::All, 3).is_empty());
    }

    #[test]
    fn operators_that_share_a_state_keep_their_order() {
        // Assign waits for the driver, the read behind it for nothing.
        let mut model = sums(&[(0, 1)], &[]);
        let s = &mut model.subgraphs[0];
        let handle = s.add_tensor(Tensor::new("v", DType::Resource, []));
        let value = s.add_tensor(Tensor::new("value", DType::I32, [4]));
        s.nodes.insert(
            0,
            Node::new(
                ops::VarHandle {
                    container: None,
                    shared_name: Some("v".into()),
                },
                &[],
                &[handle],
            ),
        );
        let sum = s.nodes[1].outputs[0];
        s.nodes
            .push(Node::new(ops::AssignVariable, &[handle, sum], &[]));
        s.nodes
            .push(Node::new(ops::ReadVariable, &[handle], &[value]));
        s.outputs = vec![value];
        let partitions = partition(s, &[false, true, false, false], &ALL);
        let nodes = [0, 2, 3].map(|id| Unit::Node(NodeId(id)));
        let [handle, assign, read] = nodes;
        let wanted = [handle, Unit::Partition(0), assign, read];
        assert_eq!(schedule(s, &partitions), wanted);
    }

    #[test]
    fn a_graph_that_waits_for_itself_ends() {
        let model = sums(&[(3, 1), (2, 1), (0, 1)], &[4]);
        let s = &model.subgraphs[0];
        let partitions = partition(s, &[true; 3], &ALL);
        assert_eq!(nodes(&partitions), [vec![2]]);
        assert_eq!(schedule(s, &partitions).len(), 3);
    }

    #[test]
    fn extract_takes_the_subgraphs_that_it_runs_and_no_others() {
        let body = |name: &str, call: Option<u32>| {
            let mut s = Subgraph {
                name: name.into(),
                ..Subgraph::default()
            };
            let x = s.add_tensor(Tensor::new("x", DType::I32, [4]));
            let y = s.add_tensor(Tensor::new("y", DType::I32, [4]));
            s.nodes.push(match call {
                Some(subgraph) => Node::new(ops::Call { subgraph }, &[x], &[y]),
                None => Node::new(ops::Add::default(), &[x, x], &[y]),
            });
            (s.inputs, s.outputs) = (vec![x], vec![y]);
            s
        };
        let model = Model {
            subgraphs: vec![
                body("main", Some(3)),
                body("unused", None),
                body("inner", None),
                body("outer", Some(2)),
            ],
            ..Model::default()
        };
        let part = Partition::of(&model.subgraphs[0], vec![NodeId(0)]);
        let part = extract(&model, 0, &part);
        let names: Vec<&str> = part.subgraphs.iter().map(|s| &s.name[..]).collect();
        assert_eq!(names, ["main", "outer", "inner"]);
        let input: Vec<u8> = [1i32, 2, 3, 4]
            .into_iter()
            .flat_map(i32::to_ne_bytes)
            .collect();
        assert_eq!(
            run(&part, std::slice::from_ref(&input)),
            run(&model, &[input])
        );
    }

    #[test]
    fn extract_keeps_names_constants_and_quantization() {
        let mut model = sums(&[(0, 0), (2, 1)], &[3]);
        let parameters = bantam_model::quant::PerTensor::new(0.5, 3);
        model.subgraphs[0].tensors[2].quantization = Some(parameters.into());
        let part = Partition::of(&model.subgraphs[0], vec![NodeId(1)]);
        let extracted = extract(&model, 0, &part);
        let s = &extracted.subgraphs[0];
        assert_eq!(s[s.inputs[0]], model.subgraphs[0].tensors[2]);
        assert_eq!(
            s[s.nodes[0].input(1).unwrap()],
            model.subgraphs[0].tensors[1]
        );
        assert_eq!(s.tensors.len(), 3);
        let written = extracted.to_bytes();
        assert!(Model::read(written.into()).is_ok());
    }

    prop_compose! {
        fn graphs()(operators in prop::collection::vec((any::<u16>(), any::<u16>(), any::<bool>()), 1..24))
            (outputs in prop::collection::vec(0..operators.len() + 2, 1..4), operators in Just(operators))
            -> (Model, Vec<bool>) {
            let operands: Vec<(usize, usize)> = operators
                .iter()
                .enumerate()
                .map(|(index, &(a, b, _))| (usize::from(a) % (index + 2), usize::from(b) % (index + 2)))
                .collect();
            let takes = operators.iter().map(|&(.., takes)| takes).collect();
            (sums(&operands, &outputs), takes)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn parts_compute_what_the_whole_does(
            (model, takes) in graphs(),
            x in any::<[u8; 16]>(),
            first in any::<bool>(),
            min_ops in 1usize..4,
        ) {
            let which = if first { Which::First } else { Which::All };
            let policy = PartitionPolicy { which, min_ops };
            let partitions = partition(&model.subgraphs[0], &takes, &policy);
            for id in partitions.iter().flat_map(|p| &p.nodes) {
                prop_assert!(takes[id.index()]);
            }
            if min_ops == 1 && !first {
                let offloaded = partitions.iter().map(|p| p.nodes.len()).sum::<usize>();
                prop_assert_eq!(offloaded, takes.iter().filter(|&&t| t).count());
            }
            prop_assert_eq!(run_in_parts(&model, &partitions, &x), run(&model, &[x.to_vec()]));
        }
    }
}
