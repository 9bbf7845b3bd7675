//! What a rewrite costs, measured: operators that work element by element on every integer there is, others on
//! random data, both through LiteRT's reference arithmetic.

use std::sync::Arc;

use bantam_model::cpu::{Options, Plan, Runner};
use bantam_model::tensor::element_count;
use bantam_model::{DType, Model, Numerics, Subgraph};

use super::draft::limits;

/// The most elements of a tensor with which something is measured.
const LARGEST: usize = 1 << 24;

/// The most bytes of tensors with which something is measured.
const MEMORY_LIMIT: usize = 1 << 28;

/// The most elements that a trial runs on; beyond them it would take longer than it is worth.
const LARGEST_TRIAL: usize = 1 << 18;

/// The largest difference of the results, in steps, over all integers that the operands can be. `None` where they
/// are not small integers, are more than two, or cannot be run.
pub(super) fn enumerate(before: &Subgraph, after: &Subgraph) -> Option<u32> {
    let trail = trail(before)?.max(trail(after)?);
    let sizes = before.inputs.iter().map(|&id| limits(before[id].dtype));
    let sizes: Vec<(i32, i32)> = sizes.collect::<Option<_>>()?;
    let counts: Vec<usize> = sizes
        .iter()
        .map(|(low, high)| (high - low + 1) as usize)
        .collect();
    let combinations: usize = counts.iter().product();
    let shape = &before[*before.outputs.first()?].shape;
    let trail = &shape[shape.len().checked_sub(trail)?..];
    let channels = element_count(trail)?;
    let is_one_input = before.inputs.len() == 1;
    if combinations == 0 || combinations > 1 << 16 || combinations.checked_mul(channels)? > LARGEST
    {
        return None;
    }
    if !is_one_input && !trail.is_empty() {
        return None;
    }
    let mut inputs = Vec::new();
    let mut repeat = 1;
    for (&id, ((low, _), count)) in before.inputs.iter().zip(sizes.iter().zip(&counts)) {
        let size = before[id].dtype.size()?;
        let steps = (0..combinations).map(|c| low + ((c / repeat) % count) as i32);
        let bytes = steps.flat_map(|q| std::iter::repeat_n(q, channels));
        inputs.push(
            bytes
                .flat_map(|q| q.to_le_bytes()[..size].to_vec())
                .collect::<Vec<u8>>(),
        );
        repeat *= count;
    }
    let mut stretched = vec![combinations];
    stretched.extend(trail);
    let a = run(&stretch(before, &stretched), &inputs)?;
    let b = run(&stretch(after, &stretched), &inputs)?;
    largest_difference(&a, &b)
}

/// How many of the last axes constants differ along, 0 where each has one element.
fn trail(graph: &Subgraph) -> Option<usize> {
    let mut trail = 0;
    for tensor in graph.tensors.iter().filter(|t| t.is_constant()) {
        if element_count(&tensor.shape)? > 1 {
            let first = tensor.shape.iter().position(|&d| d > 1)?;
            trail = trail.max(tensor.shape.len() - first);
        }
    }
    Some(trail)
}

/// The graph with all that is computed of `shape`, constants without leading axes of 1.
fn stretch(graph: &Subgraph, shape: &[usize]) -> Subgraph {
    let mut graph = graph.clone();
    for tensor in &mut graph.tensors {
        if tensor.is_constant() {
            let first = tensor.shape.iter().position(|&d| d > 1);
            tensor.shape.drain(..first.unwrap_or(tensor.shape.len()));
        } else {
            tensor.shape = shape.to_vec();
        }
        tensor.shape_signature = None;
    }
    graph
}

/// The largest difference, in steps, on random data; `u32::MAX` for floats that are not the same.
pub(super) fn difference_on_trial(before: &Subgraph, after: &Subgraph) -> Option<u32> {
    let elements = before.tensors.iter().chain(&after.tensors);
    let elements = elements.map(|t| element_count(&t.shape).unwrap_or(usize::MAX));
    if elements.fold(0, usize::saturating_add) > LARGEST_TRIAL {
        return None;
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let inputs = before.inputs.iter().map(|&id| {
        let tensor = &before[id];
        let len = tensor.dtype.byte_len(&tensor.shape)?;
        Some(random.bytes(tensor.dtype, len))
    });
    let inputs: Vec<Vec<u8>> = inputs.collect::<Option<_>>()?;
    largest_difference(&run(before, &inputs)?, &run(after, &inputs)?)
}

/// The results on `inputs`, each with its type.
fn run(graph: &Subgraph, inputs: &[Vec<u8>]) -> Option<Vec<(DType, Vec<u8>)>> {
    let model = Model {
        subgraphs: vec![graph.clone()],
        ..Model::default()
    };
    let options = Options {
        numerics: Numerics::Reference,
        memory_limit: MEMORY_LIMIT,
        ..Options::default()
    };
    let plan = Plan::new(&model, &options).ok()?;
    let mut runner = Runner::new(Arc::new(plan)).ok()?;
    for (index, input) in inputs.iter().enumerate() {
        runner.set_input(index, input).ok()?;
    }
    runner.run().ok()?;
    let outputs = graph.outputs.iter().enumerate();
    let outputs = outputs.map(|(index, &id)| (graph[id].dtype, runner.output(index).to_vec()));
    Some(outputs.collect())
}

fn largest_difference(a: &[(DType, Vec<u8>)], b: &[(DType, Vec<u8>)]) -> Option<u32> {
    if a.len() != b.len() {
        return None;
    }
    let mut largest = 0;
    for ((dtype, a), (other, b)) in a.iter().zip(b) {
        if dtype != other || a.len() != b.len() {
            return None;
        }
        let difference = match dtype {
            _ if a == b => 0,
            DType::I8 => differences(a, b, |&[x]: &[u8; 1]| i32::from(x as i8)),
            DType::U8 => differences(a, b, |&[x]: &[u8; 1]| i32::from(x)),
            DType::I16 => differences(a, b, |&x: &[u8; 2]| i32::from(i16::from_le_bytes(x))),
            _ => u32::MAX,
        };
        largest = largest.max(difference);
    }
    Some(largest)
}

fn differences<const N: usize>(a: &[u8], b: &[u8], value: impl Fn(&[u8; N]) -> i32) -> u32 {
    let pairs = a.as_chunks().0.iter().zip(b.as_chunks().0);
    pairs
        .map(|(a, b)| value(a).abs_diff(value(b)))
        .max()
        .unwrap_or(0)
}

/// A xorshift generator: the same data in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, dtype: DType, len: usize) -> Vec<u8> {
        match dtype {
            DType::F32 => {
                let mut value = || (self.next() >> 40) as f32 / (1 << 21) as f32 - 4.0;
                (0..len / 4).flat_map(|_| value().to_le_bytes()).collect()
            }
            DType::Bool => (0..len).map(|_| (self.next() & 1) as u8).collect(),
            _ => (0..len).map(|_| (self.next() >> 32) as u8).collect(),
        }
    }
}
