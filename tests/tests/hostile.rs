//! Broken and hostile models: whatever the bytes, reading, planning and running end with a result
//! or an error.

use std::sync::Arc;

use bantam_converter::{Mode, Recipe, convert};
use bantam_model::cpu::{Options, Plan, RunError, Runner};
use bantam_model::{DType, Model, Node, Subgraph, Tensor, TensorId};
use bantam_tests::cases;

/// Enough for every case, little enough that hostile sizes do not slow the test.
const MEMORY_LIMIT: usize = 16 << 20;

/// Enough for every case, and soon reached.
const CALL_LIMIT: u64 = 1000;

/// Numbers that are as good as random, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Makes the constants of `model` smaller in every way that needs no samples.
fn shrink(model: &Model) {
    for mode in [Mode::Float16, Mode::WeightOnly, Mode::DynamicRange] {
        let mut recipe = Recipe::new(mode);
        recipe.equalize = true;
        recipe.defaults.min_elements = Some(0);
        if let Ok((small, _)) = convert(model, &[][..], &recipe, 1, &|_, _| {}) {
            Model::read(small.to_bytes().into()).expect("what was converted can be written");
        }
    }
}

/// Reads, converts, plans and runs `bytes` as far as that goes.
fn use_up(bytes: Vec<u8>) -> bool {
    let Ok(model) = Model::read(bytes.into()) else {
        return false;
    };
    let again = Model::read(model.to_bytes().into()).expect("what was read can be written");
    assert_eq!(again.subgraphs.len(), model.subgraphs.len());
    shrink(&model);
    let options = Options {
        memory_limit: MEMORY_LIMIT,
        call_limit: CALL_LIMIT,
        ..Options::default()
    };
    let Ok(plan) = Plan::new(&model, &options) else {
        return false;
    };
    let mut runner = Runner::new(Arc::new(plan)).expect("the plan fits memory");
    let outcome = runner.run();
    assert!(matches!(outcome, Ok(()) | Err(RunError::Endless { .. })));
    true
}

/// What `try_out` makes of `broken`; one that panics is kept in a file.
fn survive(name: &str, broken: &[u8], try_out: impl Fn(Vec<u8>) -> bool) -> bool {
    let attempt = std::panic::AssertUnwindSafe(|| try_out(broken.to_vec()));
    std::panic::catch_unwind(attempt).unwrap_or_else(|_| {
        let path = std::env::temp_dir().join("bantam-hostile.tflite");
        std::fs::write(&path, broken).unwrap();
        panic!("a mutation of {name} panics; it is in {}", path.display());
    })
}

#[test]
fn truncated_models_are_errors() {
    for case in cases().expect("the test data").iter().step_by(7) {
        let bytes = std::fs::read(&case.model).unwrap();
        let mut random = Random(bytes.len() as u64 | 1);
        for _ in 0..12 {
            let len = random.below(bytes.len());
            use_up(bytes[..len].to_vec());
        }
    }
}

#[test]
fn mutated_models_do_no_harm() {
    let (mut run, mut refused) = (0, 0);
    for (number, case) in cases().expect("the test data").iter().enumerate() {
        let bytes = std::fs::read(&case.model).unwrap();
        let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (number as u64 + 1));
        for _ in 0..20 {
            let mut broken = bytes.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(broken.len());
                match random.below(3) {
                    0 => broken[at] ^= 1 << random.below(8),
                    1 => broken[at] = random.next() as u8,
                    _ => {
                        let extreme =
                            [0u32, 1, u32::MAX, i32::MAX as u32, 0x8000_0000, 0x7F80_0000];
                        let value = extreme[random.below(extreme.len())].to_le_bytes();
                        let at = at & !3;
                        broken
                            .iter_mut()
                            .skip(at)
                            .zip(value)
                            .for_each(|(b, v)| *b = v);
                    }
                }
            }
            match survive(&case.name, &broken, use_up) {
                true => run += 1,
                false => refused += 1,
            }
        }
    }
    assert!(
        run > 100 && refused > 100,
        "{run} ran and {refused} were refused"
    );
}

/// Runs and converts `bytes` as far as that goes; whether it was converted.
fn convert_up(bytes: Vec<u8>, inputs: &[Vec<u8>]) -> bool {
    let Ok(model) = Model::read(bytes.into()) else {
        return false;
    };
    let Ok(plan) = plan(&model) else {
        return false;
    };
    let mut runner = Runner::new(Arc::new(plan)).expect("the plan fits memory");
    for (index, input) in inputs.iter().enumerate() {
        if runner.set_input(index, input).is_err() {
            return false;
        }
    }
    if runner.run().is_err() {
        return false;
    }
    let sample = [inputs.to_vec()];
    let quiet = |_: usize, _: usize| {};
    let Ok((converted, _)) = convert(&model, &sample[..], &Recipe::default(), 1, &quiet) else {
        return false;
    };
    let plan = Plan::new(&converted, &Options::default()).expect("what was converted can be run");
    drop(Runner::new(Arc::new(plan)).expect("the plan fits memory"));
    true
}

#[test]
fn mutated_subgraphs_are_converted_or_refused() {
    let with_bodies = |name: &str| {
        let families = ["while/", "if/", "stablehlo_composite/", "variable/"];
        families.iter().any(|family| name.starts_with(family))
    };
    let (mut converted, mut refused) = (0, 0);
    for case in cases().expect("the test data") {
        if !with_bodies(&case.name) {
            continue;
        }
        let bytes = std::fs::read(&case.model).unwrap();
        let inputs: Vec<Vec<u8>> = case.inputs.iter().map(|i| i.bytes.clone()).collect();
        let mut random = Random(bytes.len() as u64 | 1);
        for _ in 0..200 {
            let mut broken = bytes.clone();
            let at = random.below(broken.len());
            broken[at] = random.next() as u8 % 8;
            match survive(&case.name, &broken, |bytes| convert_up(bytes, &inputs)) {
                true => converted += 1,
                false => refused += 1,
            }
        }
    }
    assert!(
        converted > 100 && refused > 100,
        "{converted} converted and {refused} refused"
    );
}

fn chain(nodes: &[(u32, u32)], tensors: usize) -> Model {
    let mut subgraph = Subgraph {
        debug_metadata_index: -1,
        ..Subgraph::default()
    };
    for index in 0..tensors {
        subgraph.add_tensor(Tensor::new(format!("t{index}"), DType::F32, [4]));
    }
    let op = bantam_model::ops::Reshape {
        new_shape: Some(vec![4]),
    };
    for &(from, to) in nodes {
        subgraph
            .nodes
            .push(Node::new(op.clone(), &[TensorId(from)], &[TensorId(to)]));
    }
    subgraph.inputs = vec![TensorId(0)];
    subgraph.outputs = vec![TensorId(tensors as u32 - 1)];
    Model {
        subgraphs: vec![subgraph],
        ..Model::default()
    }
}

fn plan(model: &Model) -> Result<Plan, RunError> {
    Plan::new(
        model,
        &Options {
            memory_limit: MEMORY_LIMIT,
            call_limit: CALL_LIMIT,
            ..Options::default()
        },
    )
}

#[test]
fn cycles_are_refused() {
    assert!(plan(&chain(&[(0, 1), (1, 2)], 3)).is_ok());
    assert!(matches!(
        plan(&chain(&[(2, 1), (1, 2)], 3)),
        Err(RunError::Graph(_))
    ));
    assert!(matches!(
        plan(&chain(&[(0, 1), (1, 1), (1, 2)], 3)),
        Err(RunError::Graph(_))
    ));
}

/// `links[i]` are the subgraphs that subgraph `i` runs, one after the other.
fn calls(links: &[Vec<u32>]) -> Model {
    let mut model = Model::default();
    for links in links {
        let mut part = chain(&[], links.len() + 1);
        let subgraph = &mut part.subgraphs[0];
        for (at, &link) in links.iter().enumerate() {
            let (from, to) = (TensorId(at as u32), TensorId(at as u32 + 1));
            let op = bantam_model::ops::Call { subgraph: link };
            subgraph.nodes.push(Node::new(op, &[from], &[to]));
        }
        model.subgraphs.extend(part.subgraphs);
    }
    model
}

/// Whether subgraph `from` gets back to one that runs it.
fn has_cycle(links: &[Vec<u32>], from: usize, open: &mut Vec<usize>) -> bool {
    if open.contains(&from) {
        return true;
    }
    open.push(from);
    let cyclic = links[from]
        .iter()
        .any(|&to| has_cycle(links, to as usize, open));
    open.pop();
    cyclic
}

#[test]
fn subgraphs_in_cycles_are_refused_and_no_others() {
    let mut random = Random(7);
    let (mut refused, mut run) = (0, 0);
    for _ in 0..400 {
        let count = 1 + random.below(5);
        let mut list = |_| {
            let links = random.below(3);
            (0..links).map(|_| random.below(count) as u32).collect()
        };
        let links: Vec<Vec<u32>> = (0..count).map(&mut list).collect();
        let outcome = plan(&calls(&links));
        if has_cycle(&links, 0, &mut Vec::new()) {
            assert!(matches!(outcome, Err(RunError::Op { .. })), "{links:?}");
            refused += 1;
        } else {
            let plan = outcome.unwrap_or_else(|error| panic!("{links:?}: {error}"));
            Runner::new(Arc::new(plan)).unwrap().run().unwrap();
            run += 1;
        }
    }
    assert!(
        refused > 100 && run > 100,
        "{refused} refused and {run} run"
    );
}

#[test]
fn a_tensor_computed_twice_is_refused() {
    assert!(matches!(
        plan(&chain(&[(0, 1), (0, 1), (1, 2)], 3)),
        Err(RunError::Graph(_))
    ));
}

#[test]
fn an_output_that_nothing_computes_is_refused() {
    assert!(matches!(
        plan(&chain(&[(0, 1)], 3)),
        Err(RunError::Graph(_))
    ));
}

#[test]
fn sizes_beyond_memory_are_refused() {
    let mut model = chain(&[(0, 1)], 2);
    for tensor in &mut model.subgraphs[0].tensors {
        tensor.shape = vec![1 << 20, 1 << 20];
    }
    model.subgraphs[0].nodes[0].op = bantam_model::ops::Reshape {
        new_shape: Some(vec![1 << 20, 1 << 20]),
    }
    .into();
    assert!(matches!(
        plan(&model),
        Err(RunError::Memory { .. } | RunError::Graph(_))
    ));
}
