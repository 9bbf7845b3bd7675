//! Two models on the same samples, tensor by tensor: what quantization cost, and where.

use std::collections::HashMap;
use std::sync::Arc;

use bantam_model::cpu::{Options, Plan, Runner};
use bantam_model::ops::{Results, Value};
use bantam_model::{DType, Model, Numerics, Op, Subgraph, TensorId};

use crate::advice::Advice;
use crate::calibrate::Source;
use crate::error::ConvertError;

/// Into how many equal parts [`TensorError::histogram`] splits what a tensor can hold.
pub const BINS: usize = 64;

/// How far a tensor of the second model is from that of the first, over all samples.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorError {
    /// The tensor's name.
    pub name: String,
    /// Its subgraph in the first model.
    pub subgraph: usize,
    /// The operator of the first model that computes it, by its place there; `None` for an input.
    pub node: Option<usize>,
    /// Signal to noise, the mean over samples; 120 where there is no noise.
    pub sqnr_db: f64,
    /// Cosine of the angle between both, the mean over samples.
    pub cosine: f64,
    /// The largest absolute difference.
    pub max_abs: f64,
    /// The mean squared difference.
    pub mse: f64,
    /// The smallest and largest value in the first model.
    pub range: (f64, f64),
    /// The smallest and largest value that the second model's integers stand for, if it has any.
    pub covered: Option<(f64, f64)>,
    /// How many of the first model's values lie in each of [`BINS`] equal parts of `covered`, those
    /// beyond it in the outermost; empty without `covered`.
    pub histogram: Vec<u64>,
    /// The share of the first model's values that lie beyond `covered` by more than a step.
    pub clipped: f64,
    /// Whether the operator's kernel demands `covered`, so that calibration has no say in it.
    pub is_fixed: bool,
    /// How much worse this is than the worst operand of its operator, in dB; `None` where no operand
    /// was compared.
    pub loss_db: Option<f64>,
}

impl TensorError {
    /// What probably went wrong here and what to try; `None` where nothing stands out.
    pub fn advice(&self) -> Option<Advice> {
        Advice::of(self)
    }
}

/// What [`compare()`] found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// The models' outputs, by position.
    pub outputs: Vec<TensorError>,
    /// Every computed tensor that both models have by name, worst first.
    pub tensors: Vec<TensorError>,
    /// How many results in subgraphs that operators run were left out: of rounds that only one of the
    /// models has, of another size than in the other, or beyond the room for one sample's.
    pub left_out: u64,
}

/// Runs both models on all of `samples` and compares the real values of their outputs, and of all
/// tensors of the same name and size, those of subgraphs that operators run among them: there each
/// run of the subgraph counts as a sample does elsewhere. `samples` are for the inputs of `a`; those
/// of `b` get the same real values in their own type.
pub fn compare(
    a: &Model,
    b: &Model,
    samples: &(impl Source + ?Sized),
    numerics: Numerics,
    progress: &dyn Fn(usize, usize),
) -> Result<Comparison, ConvertError> {
    compare_entries((a, 0), (b, 0), samples, numerics, progress)
}

/// The same for the subgraph `entry` of both, which runs instead of the first one.
pub fn compare_subgraph(
    a: &Model,
    b: &Model,
    entry: usize,
    samples: &(impl Source + ?Sized),
    numerics: Numerics,
    progress: &dyn Fn(usize, usize),
) -> Result<Comparison, ConvertError> {
    compare_entries((a, entry), (b, entry), samples, numerics, progress)
}

/// The same for a subgraph of each, such as those of one signature.
pub fn compare_entries(
    a: (&Model, usize),
    b: (&Model, usize),
    samples: &(impl Source + ?Sized),
    numerics: Numerics,
    progress: &dyn Fn(usize, usize),
) -> Result<Comparison, ConvertError> {
    let plan = |(model, subgraph): (&Model, usize)| {
        let options = Options {
            numerics,
            subgraph,
            keep_all: true,
            ..Options::default()
        };
        Plan::new(model, &options).map(Arc::new)
    };
    let plans = (plan(a)?, plan(b)?);
    let mut runners = (
        Runner::new(Arc::clone(&plans.0))?,
        Runner::new(Arc::clone(&plans.1))?,
    );
    if samples.is_empty() {
        return Err(ConvertError::NoSamples);
    }
    let graphs = Graph::both((a.0, &plans.0), (b.0, &plans.1));
    let (output_pairs, tensor_pairs) = pairs(&graphs)?;
    let outputs = output_pairs.len();
    let pairs = [output_pairs, tensor_pairs].concat();
    let mut sums: Vec<Sums> = pairs
        .iter()
        .map(|pair| Sums::new(graphs[pair.graph].1.quantized(pair.tensors.1)))
        .collect();
    let mut bodies = Bodies::new(&pairs, &graphs);
    for index in 0..samples.len() {
        let sample = samples
            .get(index)
            .map_err(|source| ConvertError::Sample { index, source })?;
        for (input, bytes) in sample.iter().enumerate() {
            runners.0.set_input(input, bytes)?;
            let from = plans.0.value(plans.0.inputs()[input]);
            let to = plans.1.value(plans.1.inputs()[input]);
            runners.1.set_input(input, &translate(bytes, from, to)?)?;
        }
        runners.0.reset_variables();
        runners.1.reset_variables();
        bodies.run(&mut runners, &pairs, &mut sums)?;
        for (pair, sums) in pairs.iter().zip(&mut sums) {
            if pair.graph == ENTRY {
                let (left, right) = pair.tensors;
                sums.add(
                    &real(&pair.values.0, runners.0.tensor(left)),
                    &real(&pair.values.1, runners.1.tensor(right)),
                );
            }
        }
        progress(index + 1, samples.len());
    }
    let mut errors = errors(&pairs, &sums, &graphs);
    let mut tensors = errors.split_off(outputs);
    tensors.retain(|(runs, _)| *runs > 0);
    tensors.sort_by(|(_, x), (_, y)| x.sqnr_db.total_cmp(&y.sqnr_db));
    let alone = |errors: Vec<(u64, TensorError)>| errors.into_iter().map(|(_, e)| e).collect();
    Ok(Comparison {
        outputs: alone(errors),
        tensors: alone(tensors),
        left_out: bodies.left_out,
    })
}

/// The place of the entered subgraphs among those that are compared.
const ENTRY: usize = 0;

/// A tensor of each model that are compared.
#[derive(Debug, Clone)]
struct Pair {
    /// The place of their subgraphs among those that are compared.
    graph: usize,
    tensors: (TensorId, TensorId),
    values: (Value, Value),
}

/// The outputs, and the computed tensors that both models have.
fn pairs(graphs: &[(Graph<'_>, Graph<'_>)]) -> Result<(Vec<Pair>, Vec<Pair>), ConvertError> {
    let (a, b) = &graphs[ENTRY];
    let (inputs, outputs) = (a.plan.inputs().len(), a.plan.outputs().len());
    if inputs != b.plan.inputs().len() || outputs != b.plan.outputs().len() {
        return Err(ConvertError::Mismatch(format!(
            "the models have {inputs} and {} inputs, {outputs} and {} outputs",
            b.plan.inputs().len(),
            b.plan.outputs().len()
        )));
    }
    let pair = |graph: usize, tensors: (TensorId, TensorId)| {
        let (a, b) = &graphs[graph];
        let values = (a.plan.value(tensors.0), b.plan.value(tensors.1));
        Pair {
            graph,
            tensors,
            values: (values.0.clone(), values.1.clone()),
        }
    };
    let both = a.plan.outputs().iter().zip(b.plan.outputs());
    let output_pairs: Vec<Pair> = both.map(|(&x, &y)| pair(ENTRY, (x, y))).collect();
    for Pair {
        tensors, values, ..
    } in &output_pairs
    {
        let (x, y) = (values.0.len(), values.1.len());
        if x != y {
            let name = &a.subgraph[tensors.0].name;
            return Err(ConvertError::Mismatch(format!(
                "output {name:?} has {x} and {y} elements"
            )));
        }
    }
    let common = graphs.iter().enumerate().flat_map(|(graph, (a, b))| {
        let tensors = common(a, b).into_iter();
        tensors.map(move |tensors| (graph, tensors))
    });
    let tensor_pairs = common.map(|(graph, tensors)| pair(graph, tensors));
    Ok((output_pairs, tensor_pairs.collect()))
}

/// What was measured of each pair, and in how many runs of its subgraph.
fn errors(
    pairs: &[Pair],
    sums: &[Sums],
    graphs: &[(Graph<'_>, Graph<'_>)],
) -> Vec<(u64, TensorError)> {
    let error = |(pair, sums): (&Pair, &Sums)| {
        let (graph, _) = &graphs[pair.graph];
        let node = graph.producers[pair.tensors.0.index()];
        let nodes = &graph.subgraph.nodes;
        let error = TensorError {
            name: graph.subgraph[pair.tensors.0].name.clone(),
            subgraph: graph.plan.subgraph(),
            node,
            is_fixed: node.is_some_and(|node| has_fixed(&nodes[node].op)),
            ..sums.error()
        };
        (sums.runs, error)
    };
    let mut errors: Vec<(u64, TensorError)> = pairs.iter().zip(sums).map(error).collect();
    let measured = pairs.iter().zip(&errors).filter(|(_, (runs, _))| *runs > 0);
    let db: HashMap<(usize, TensorId), f64> = measured
        .map(|(pair, (_, error))| ((pair.graph, pair.tensors.0), error.sqnr_db))
        .collect();
    for (pair, (_, error)) in pairs.iter().zip(&mut errors) {
        let nodes = &graphs[pair.graph].0.subgraph.nodes;
        let operands = error.node.map_or(&[][..], |node| &nodes[node].inputs);
        let operands = operands.iter().flatten();
        let worst = operands.filter_map(|&id| db.get(&(pair.graph, id)));
        error.loss_db = worst
            .copied()
            .reduce(f64::min)
            .map(|worst| worst - error.sqnr_db);
    }
    errors
}

/// Compares tensors of subgraphs that operators run, where a tensor has one value in each round of a loop.
struct Bodies {
    /// The pairs of each tensor, by its subgraph.
    left: HashMap<(usize, TensorId), Vec<usize>>,
    right: HashMap<(usize, TensorId), Vec<usize>>,
    /// For each pair, what the first model computed in the runs of the subgraph for one sample.
    trace: Vec<Vec<Vec<u8>>>,
    /// See [`Comparison::left_out`].
    left_out: u64,
}

/// How many bytes of one sample's trace are kept; runs of subgraphs beyond that are left out.
const TRACE: usize = 256 << 20;

impl Bodies {
    fn new(pairs: &[Pair], graphs: &[(Graph<'_>, Graph<'_>)]) -> Self {
        let mut bodies = Self {
            left: HashMap::new(),
            right: HashMap::new(),
            trace: vec![Vec::new(); pairs.len()],
            left_out: 0,
        };
        for (index, pair) in pairs.iter().enumerate().filter(|(_, p)| p.graph != ENTRY) {
            let (a, b) = &graphs[pair.graph];
            let left = (a.plan.subgraph(), pair.tensors.0);
            let right = (b.plan.subgraph(), pair.tensors.1);
            bodies.left.entry(left).or_default().push(index);
            bodies.right.entry(right).or_default().push(index);
        }
        bodies
    }

    /// Runs both models and adds what they compute in bodies.
    fn run(
        &mut self,
        runners: &mut (Runner, Runner),
        pairs: &[Pair],
        sums: &mut [Sums],
    ) -> Result<(), ConvertError> {
        if self.left.is_empty() {
            runners.0.run()?;
            runners.1.run()?;
            return Ok(());
        }
        let Self {
            left,
            right,
            trace,
            left_out,
        } = self;
        trace.iter_mut().for_each(Vec::clear);
        let mut room = TRACE;
        runners.0.run_observed(|subgraph, tensor, bytes| {
            for &pair in left.get(&(subgraph, tensor)).into_iter().flatten() {
                // Nothing after the first that has no room, or rounds would not belong together.
                room = room.saturating_sub(bytes.len());
                match room > 0 {
                    true => trace[pair].push(bytes.to_vec()),
                    false => *left_out += 1,
                }
            }
        })?;
        let mut rounds = vec![0; pairs.len()];
        runners.1.run_observed(|subgraph, tensor, bytes| {
            for &index in right.get(&(subgraph, tensor)).into_iter().flatten() {
                let pair = &pairs[index];
                let round = rounds[index];
                rounds[index] += 1;
                let Some(other) = trace[index].get(round) else {
                    // Without room, this one is the other half of one that is counted already.
                    *left_out += u64::from(room > 0);
                    continue;
                };
                let (x, y) = (real(&pair.values.0, other), real(&pair.values.1, bytes));
                // Operands of another shape may make another size.
                match x.len() == y.len() {
                    true => sums[index].add(&x, &y),
                    false => *left_out += 1,
                }
            }
        })?;
        for (trace, rounds) in trace.iter().zip(rounds) {
            *left_out += trace.len().saturating_sub(rounds) as u64;
        }
        Ok(())
    }
}

/// One subgraph of one of the two models.
struct Graph<'a> {
    subgraph: &'a Subgraph,
    plan: &'a Plan,
    /// The operator that computes each tensor.
    producers: Vec<Option<usize>>,
    /// For the result of a DEQUANTIZE, its operand.
    dequantized: HashMap<TensorId, TensorId>,
}

impl<'a> Graph<'a> {
    /// The subgraphs of both that are entered, and then those that operators run, where both models have as many.
    fn both(a: (&'a Model, &'a Plan), b: (&'a Model, &'a Plan)) -> Vec<(Self, Self)> {
        let numbers = |(model, plan): (&Model, &Plan)| model.reachable(plan.subgraph());
        let (left, right) = (numbers(a), numbers(b));
        let count = if left.len() == right.len() {
            left.len()
        } else {
            1
        };
        let both = left.into_iter().zip(right).take(count);
        both.filter_map(|(x, y)| Some((Self::of(a, x)?, Self::of(b, y)?)))
            .collect()
    }

    /// The subgraph `number`, unless it never runs.
    fn of((model, entry): (&'a Model, &'a Plan), number: usize) -> Option<Self> {
        let plan = match number == entry.subgraph() {
            true => entry,
            false => entry
                .bodies()
                .into_iter()
                .find(|p| p.subgraph() == number)?,
        };
        let subgraph = model.subgraphs.get(number)?;
        let producers = subgraph.producers().into_iter();
        Some(Self {
            subgraph,
            plan,
            producers: producers.map(|node| node.map(|n| n.index())).collect(),
            dequantized: dequantized(subgraph),
        })
    }

    /// The tensors that operators compute.
    fn computed(&self) -> impl Iterator<Item = TensorId> + '_ {
        let nodes = self.plan.nodes();
        nodes.flat_map(|node| self.subgraph.nodes[node].outputs.iter().copied())
    }

    /// The quantized tensor whose values `tensor` has, itself or what it was dequantized from.
    fn quantized(&self, tensor: TensorId) -> Option<&Value> {
        let tensor = self.dequantized.get(&tensor).unwrap_or(&tensor);
        let value = self.plan.value(*tensor);
        (value.dtype != DType::F32 && value.per_tensor().is_ok()).then_some(value)
    }
}

fn has_fixed(op: &Op) -> bool {
    let rule = op
        .operator()
        .ok()
        .and_then(|operator| operator.quant_rule());
    rule.is_some_and(|rule| matches!(rule.results, Results::Fixed(_)))
}

fn dequantized(subgraph: &Subgraph) -> HashMap<TensorId, TensorId> {
    let dequantize = subgraph
        .nodes
        .iter()
        .filter(|n| matches!(n.op, Op::Dequantize(_)));
    dequantize
        .filter_map(|n| Some((*n.outputs.first()?, n.input(0)?)))
        .collect()
}

/// Computed tensors of both with the same name, a usable type and equal sizes.
fn common(a: &Graph<'_>, b: &Graph<'_>) -> Vec<(TensorId, TensorId)> {
    let by_name: HashMap<&str, TensorId> = b
        .computed()
        .map(|id| (b.subgraph[id].name.as_str(), id))
        .collect();
    let is_real = |value: &Value| {
        value.dtype == DType::F32
            || value
                .quantization
                .as_ref()
                .is_some_and(|q| q.scale.len() == 1)
    };
    a.computed()
        .filter(|&id| !a.subgraph[id].name.is_empty())
        .filter_map(|id| Some((id, *by_name.get(a.subgraph[id].name.as_str())?)))
        .filter(|&(left, right)| {
            let (x, y) = (a.plan.value(left), b.plan.value(right));
            x.shape == y.shape && is_real(x) && is_real(y)
        })
        .collect()
}

/// The real values of a tensor; integers without parameters count as they are.
pub fn real(value: &Value, bytes: &[u8]) -> Vec<f64> {
    let parameters = value
        .quantization
        .as_ref()
        .and_then(|q| q.per_tensor().ok());
    let (scale, zero_point) = parameters.map_or((1.0, 0.0), |p| {
        (f64::from(p.scale), f64::from(p.zero_point))
    });
    let quantized = |q: f64| scale * (q - zero_point);
    match value.dtype {
        DType::F32 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| f64::from(f32::from_ne_bytes(b)))
            .collect(),
        DType::I8 => bytes
            .iter()
            .map(|&b| quantized(f64::from(b as i8)))
            .collect(),
        DType::U8 | DType::Bool => bytes.iter().map(|&b| quantized(f64::from(b))).collect(),
        DType::I16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| quantized(f64::from(i16::from_ne_bytes(b))))
            .collect(),
        DType::I32 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| quantized(f64::from(i32::from_ne_bytes(b))))
            .collect(),
        DType::I64 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| i64::from_ne_bytes(b) as f64)
            .collect(),
        _ => Vec::new(),
    }
}

/// The bytes that stand in `to` for the real values that `bytes` are in `from`.
pub(crate) fn translate(bytes: &[u8], from: &Value, to: &Value) -> Result<Vec<u8>, ConvertError> {
    if from.dtype == to.dtype && from.quantization == to.quantization {
        return Ok(bytes.to_vec());
    }
    let values = real(from, bytes);
    let unsupported = || {
        ConvertError::Mismatch(format!(
            "cannot feed {} data to an input of {}",
            from.dtype, to.dtype
        ))
    };
    if to.dtype == DType::F32 {
        return Ok(values
            .into_iter()
            .flat_map(|v| (v as f32).to_ne_bytes())
            .collect());
    }
    let params = to.per_tensor().map_err(|_| unsupported())?;
    let quantized = |min, max| {
        let values = values.iter();
        values.map(move |&v| params.quantize(v as f32, min, max))
    };
    Ok(match to.dtype {
        DType::I8 => quantized(-128, 127).map(|q| q as u8).collect(),
        DType::U8 => quantized(0, 255).map(|q| q as u8).collect(),
        DType::I16 => quantized(-32768, 32767)
            .flat_map(|q| (q as i16).to_ne_bytes())
            .collect(),
        _ => return Err(unsupported()),
    })
}

/// What is summed up for one pair of tensors.
#[derive(Debug, Clone)]
struct Sums {
    /// How many samples, or runs of a body, were added.
    runs: u64,
    db: f64,
    cosine: f64,
    max_abs: f64,
    squares: f64,
    count: usize,
    range: (f64, f64),
    covered: Option<Covered>,
}

/// The values that integers can stand for, and where those of the first model lie among them.
#[derive(Debug, Clone)]
struct Covered {
    min: f64,
    max: f64,
    step: f64,
    histogram: Vec<u64>,
    beyond: usize,
}

impl Covered {
    fn new(value: &Value) -> Option<Self> {
        let params = value.per_tensor().ok()?;
        let (low, high) = match value.dtype {
            DType::I8 => (-128, 127),
            DType::U8 => (0, 255),
            DType::I16 => (-32767, 32767),
            _ => return None,
        };
        Some(Self {
            min: f64::from(params.dequantize(low)),
            max: f64::from(params.dequantize(high)),
            step: f64::from(params.scale),
            histogram: vec![0; BINS],
            beyond: 0,
        })
    }

    fn add(&mut self, value: f64) {
        let place = (value - self.min) / (self.max - self.min) * BINS as f64;
        // A NaN counts as the lowest.
        let bin = place.clamp(0.0, (BINS - 1) as f64) as usize;
        self.histogram[bin] += 1;
        let beyond = value < self.min - self.step || value > self.max + self.step;
        self.beyond += usize::from(beyond);
    }
}

impl Sums {
    fn new(quantized: Option<&Value>) -> Self {
        Self {
            runs: 0,
            db: 0.0,
            cosine: 0.0,
            max_abs: 0.0,
            squares: 0.0,
            count: 0,
            range: (f64::INFINITY, f64::NEG_INFINITY),
            covered: quantized.and_then(Covered::new),
        }
    }

    /// Adds one sample of the first model's values `a` and the second's `b`.
    fn add(&mut self, a: &[f64], b: &[f64]) {
        let (mut signal, mut noise, mut dot, mut other) = (0.0, 0.0, 0.0, 0.0);
        for (x, y) in a.iter().zip(b) {
            let difference = x - y;
            signal += x * x;
            noise += difference * difference;
            dot += x * y;
            other += y * y;
            self.max_abs = self.max_abs.max(difference.abs());
            self.range = (self.range.0.min(*x), self.range.1.max(*x));
        }
        if let Some(covered) = &mut self.covered {
            a.iter().for_each(|&x| covered.add(x));
        }
        self.runs += 1;
        self.squares += noise;
        self.count += a.len();
        self.db += match noise {
            0.0 => 120.0,
            _ => (10.0 * (signal / noise + 1e-30).log10()).min(120.0),
        };
        let norm = (signal * other).sqrt();
        self.cosine += if norm > 0.0 {
            dot / norm
        } else {
            f64::from(u8::from(signal == other))
        };
    }

    /// The means; what only the graph tells is still to be filled in.
    fn error(&self) -> TensorError {
        let samples = self.runs.max(1) as f64;
        let count = self.count.max(1) as f64;
        let covered = self.covered.as_ref();
        TensorError {
            name: String::new(),
            subgraph: 0,
            node: None,
            sqnr_db: self.db / samples,
            cosine: self.cosine / samples,
            max_abs: self.max_abs,
            mse: self.squares / count,
            range: match self.count {
                0 => (0.0, 0.0),
                _ => self.range,
            },
            covered: covered.map(|c| (c.min, c.max)),
            histogram: covered.map_or_else(Vec::new, |c| c.histogram.clone()),
            clipped: covered.map_or(0.0, |c| c.beyond as f64 / count),
            is_fixed: false,
            loss_db: None,
        }
    }
}
