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
    /// The operator of the first model that computes it, by its place; `None` for an input.
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
}

/// Runs both models on all of `samples` and compares the real values of their outputs, and of all
/// tensors of the same name and size. `samples` are for the inputs of `a`; those of `b` get the
/// same real values in their own type.
pub fn compare(
    a: &Model,
    b: &Model,
    samples: &(impl Source + ?Sized),
    numerics: Numerics,
    progress: &dyn Fn(usize, usize),
) -> Result<Comparison, ConvertError> {
    compare_subgraph(a, b, 0, samples, numerics, progress)
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
    let options = Options {
        numerics,
        subgraph: entry,
        keep_all: true,
        ..Options::default()
    };
    let mut a = Side::new(a, &options)?;
    let mut b = Side::new(b, &options)?;
    if samples.is_empty() {
        return Err(ConvertError::NoSamples);
    }
    let (inputs, outputs) = (a.plan.inputs().len(), a.plan.outputs().len());
    if inputs != b.plan.inputs().len() || outputs != b.plan.outputs().len() {
        return Err(ConvertError::Mismatch(format!(
            "the models have {inputs} and {} inputs, {outputs} and {} outputs",
            b.plan.inputs().len(),
            b.plan.outputs().len()
        )));
    }
    let output_pairs: Vec<(TensorId, TensorId)> = a
        .plan
        .outputs()
        .iter()
        .copied()
        .zip(b.plan.outputs().iter().copied())
        .collect();
    let mut pairs = output_pairs.clone();
    pairs.extend(common(&a, &b));
    for &(left, right) in &pairs {
        let (x, y) = (a.plan.value(left).len(), b.plan.value(right).len());
        if x != y {
            let name = &a.names[left.index()];
            return Err(ConvertError::Mismatch(format!(
                "output {name:?} has {x} and {y} elements"
            )));
        }
    }
    let mut sums: Vec<Sums> = pairs
        .iter()
        .map(|&(_, right)| Sums::new(b.quantized(right)))
        .collect();
    for index in 0..samples.len() {
        let sample = samples
            .get(index)
            .map_err(|source| ConvertError::Sample { index, source })?;
        for (input, bytes) in sample.iter().enumerate() {
            a.runner.set_input(input, bytes)?;
            let from = a.plan.value(a.plan.inputs()[input]).clone();
            let to = b.plan.value(b.plan.inputs()[input]).clone();
            b.runner.set_input(input, &translate(bytes, &from, &to)?)?;
        }
        a.runner.reset_variables();
        b.runner.reset_variables();
        a.runner.run()?;
        b.runner.run()?;
        for (&(left, right), sums) in pairs.iter().zip(&mut sums) {
            sums.add(&a.real(left), &b.real(right));
        }
        progress(index + 1, samples.len());
    }
    let mut errors: Vec<TensorError> = pairs
        .iter()
        .zip(&sums)
        .map(|(&(left, _), sums)| TensorError {
            name: a.names[left.index()].clone(),
            node: a.producers[left.index()],
            is_fixed: a.producers[left.index()].is_some_and(|node| a.fixed[node]),
            ..sums.error(samples.len())
        })
        .collect();
    let db: HashMap<TensorId, f64> = pairs
        .iter()
        .zip(&errors)
        .map(|(&(left, _), error)| (left, error.sqnr_db))
        .collect();
    for error in &mut errors {
        let operands = error.node.map_or(&[][..], |node| &a.operands[node]);
        let worst = operands.iter().flatten().filter_map(|id| db.get(id));
        error.loss_db = worst
            .copied()
            .reduce(f64::min)
            .map(|worst| worst - error.sqnr_db);
    }
    let mut tensors = errors.split_off(output_pairs.len());
    tensors.sort_by(|x, y| x.sqnr_db.total_cmp(&y.sqnr_db));
    Ok(Comparison {
        outputs: errors,
        tensors,
    })
}

/// One of the two models.
struct Side {
    plan: Arc<Plan>,
    runner: Runner,
    names: Vec<String>,
    /// The tensors that operators compute.
    computed: Vec<TensorId>,
    /// The operator that computes each tensor.
    producers: Vec<Option<usize>>,
    /// The operands of each operator.
    operands: Vec<Vec<Option<TensorId>>>,
    /// Whether the parameters of an operator's integer results are given by its kernel.
    fixed: Vec<bool>,
    /// For the result of a DEQUANTIZE, its operand.
    dequantized: HashMap<TensorId, TensorId>,
}

impl Side {
    fn new(model: &Model, options: &Options) -> Result<Self, ConvertError> {
        let plan = Arc::new(Plan::new(model, options)?);
        let subgraph = &model.subgraphs[plan.subgraph()];
        let computed = plan
            .nodes()
            .flat_map(|node| subgraph.nodes[node].outputs.clone())
            .collect();
        let names = subgraph.tensors.iter().map(|t| t.name.clone()).collect();
        let producers = subgraph.producers().into_iter();
        Ok(Self {
            runner: Runner::new(Arc::clone(&plan))?,
            plan,
            names,
            computed,
            producers: producers.map(|node| node.map(|n| n.index())).collect(),
            operands: subgraph.nodes.iter().map(|n| n.inputs.clone()).collect(),
            fixed: subgraph.nodes.iter().map(|n| has_fixed(&n.op)).collect(),
            dequantized: dequantized(subgraph),
        })
    }

    /// The quantized tensor whose values `tensor` has, itself or what it was dequantized from.
    fn quantized(&self, tensor: TensorId) -> Option<&Value> {
        let tensor = self.dequantized.get(&tensor).unwrap_or(&tensor);
        let value = self.plan.value(*tensor);
        (value.dtype != DType::F32 && value.per_tensor().is_ok()).then_some(value)
    }

    fn real(&self, tensor: TensorId) -> Vec<f64> {
        real(self.plan.value(tensor), self.runner.tensor(tensor))
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
fn common(a: &Side, b: &Side) -> Vec<(TensorId, TensorId)> {
    let by_name: HashMap<&str, TensorId> = b
        .computed
        .iter()
        .map(|&id| (b.names[id.index()].as_str(), id))
        .collect();
    let is_real = |value: &Value| {
        value.dtype == DType::F32
            || value
                .quantization
                .as_ref()
                .is_some_and(|q| q.scale.len() == 1)
    };
    a.computed
        .iter()
        .filter(|id| !a.names[id.index()].is_empty())
        .filter_map(|&id| Some((id, *by_name.get(a.names[id.index()].as_str())?)))
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
    fn error(&self, samples: usize) -> TensorError {
        let samples = samples as f64;
        let count = self.count.max(1) as f64;
        let covered = self.covered.as_ref();
        TensorError {
            name: String::new(),
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
