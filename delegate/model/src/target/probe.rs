//! Tiny models on both sides of every limit of a pack, with which somebody who has the device or the
//! vendor's compiler can confirm it. Models are made by trying: a few hundred variations of each
//! operator are measured, and one is taken that sits where the limit is and keeps every other rule.

use std::collections::BTreeSet;

use super::condition::{Check, Condition, Outcome, Value};
use super::quantity::Measured;
use super::view::View;
use super::{Effect, Rule, Table, Target, parse};
use crate::graph::{Model, Node, Subgraph, TensorId};
use crate::ops::{self, Op, Padding, Pool2d, Signature};
use crate::quant::{PerTensor, Quantization};
use crate::tensor::{DType, Tensor, element_count};

/// A model of one operator beside a limit.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The rule that has the limit.
    pub rule: String,
    /// The operator.
    pub op: String,
    /// What the rule measures.
    pub measure: &'static str,
    /// What it measures on this model.
    pub value: i64,
    /// Whether that is inside the limit, so that the target takes the operator.
    pub is_inside: bool,
    /// The model.
    pub model: Model,
}

/// The probes of a target.
#[derive(Debug, Clone, Default)]
pub struct Probes {
    /// Models.
    pub made: Vec<Probe>,
    /// Rules with a number, and operators, for which no model was found on both sides.
    pub missing: Vec<(String, String)>,
}

impl Probe {
    /// A name for the model's file.
    pub fn file_name(&self) -> String {
        let (op, side) = (
            self.op.to_lowercase(),
            if self.is_inside { "in" } else { "out" },
        );
        format!(
            "{}-{op}-{}-{}-{side}.tflite",
            self.rule, self.measure, self.value
        )
    }
}

impl Target {
    /// Models beside the limits of every rule that requires a number.
    pub fn probes(&self) -> Probes {
        let mut probes = Probes::default();
        let Table::Entries(entries) = &self.table else {
            return probes;
        };
        for rule in self
            .rules
            .iter()
            .filter(|rule| rule.effect == Effect::Refuse)
        {
            let checks = numeric(&rule.require);
            if checks.is_empty() {
                continue;
            }
            for entry in entries
                .iter()
                .filter(|e| !e.is_custom && rule.is_on(&e.name))
            {
                let variations = variations(&entry.name, &checks);
                for &check in &checks {
                    let found = self.beside(rule, check, &entry.name, &variations);
                    let sides: BTreeSet<bool> = found.iter().map(|probe| probe.is_inside).collect();
                    if sides.len() < 2 {
                        probes.missing.push((rule.id.clone(), entry.name.clone()));
                    }
                    probes.made.extend(found);
                }
            }
        }
        probes
    }

    /// The models nearest to the bounds of `check`: up to two inside of each and one outside.
    fn beside(&self, rule: &Rule, check: &Check, op: &str, variations: &[Model]) -> Vec<Probe> {
        let mut candidates: Vec<(f64, bool, &Model)> = Vec::new();
        for model in variations {
            let Some((value, is_inside)) = self.measured(rule, check, model) else {
                continue;
            };
            if !candidates.iter().any(|c| c.0 == value) {
                candidates.push((value, is_inside, model));
            }
        }
        let mut chosen: Vec<(f64, bool, &Model)> = Vec::new();
        for bound in check.bounds.numbers() {
            candidates.sort_by(|a, b| (a.0 - bound).abs().total_cmp(&(b.0 - bound).abs()));
            for (side, count) in [(true, 2), (false, 1)] {
                let near = candidates.iter().filter(|c| c.1 == side).take(count);
                for candidate in near {
                    if !chosen.iter().any(|c| c.0 == candidate.0) {
                        chosen.push(*candidate);
                    }
                }
            }
        }
        chosen.sort_by(|a, b| a.0.total_cmp(&b.0));
        let probe = |(value, is_inside, model): (f64, bool, &Model)| Probe {
            rule: rule.id.clone(),
            op: op.to_owned(),
            measure: check.quantity.name(),
            value: value as i64,
            is_inside,
            model: model.clone(),
        };
        chosen.into_iter().map(probe).collect()
    }

    /// The whole number that `check` measures on `model` and whether it is inside, if nothing but
    /// this check decides about the operator.
    fn measured(&self, rule: &Rule, check: &Check, model: &Model) -> Option<(f64, bool)> {
        let graph = model.subgraphs.first()?;
        let node = graph.nodes.first()?;
        let version = crate::write::version(graph, node);
        if self.max_version(&node.op).is_some_and(|max| version > max) {
            return None;
        }
        let view = View::new(graph, node, version);
        let Measured::Known(readings) = check.quantity.read(&view, &check.what) else {
            return None;
        };
        let numbers: Option<Vec<i64>> = readings.iter().map(|r| r.value.integer()).collect();
        let numbers = numbers?;
        let outside = |n: &&i64| check.bounds.excludes(&Value::Number(**n as f64));
        let worst = numbers.iter().find(outside);
        let value = *worst.or_else(|| match check.bounds.max {
            Some(_) => numbers.iter().max(),
            None => numbers.iter().min(),
        })?;
        let holds = |c: &Condition| c.test(&view) == Outcome::Holds;
        let fails = |c: &Condition| matches!(c.test(&view), Outcome::Fails(_));
        let applies =
            rule.when.as_ref().is_none_or(holds) && rule.unless.as_ref().is_none_or(fails);
        let others = self.rules_on(&node.op).filter(|other| other.id != rule.id);
        let parts = numeric(&rule.require)
            .into_iter()
            .filter(|&other| other != check);
        let alone = others
            .into_iter()
            .all(|other| other.test(&view) == Outcome::Holds)
            && parts
                .into_iter()
                .all(|part| holds(&Condition::Check(Box::new(part.clone()))));
        (applies && alone).then_some((value as f64, worst.is_none()))
    }
}

/// The checks of numbers that all have to hold.
fn numeric(condition: &Condition) -> Vec<&Check> {
    match condition {
        Condition::Check(check) if !check.some && check.quantity.is_number() => {
            if check.bounds.numbers().is_empty() {
                Vec::new()
            } else {
                vec![check]
            }
        }
        Condition::All(parts) => parts.iter().flat_map(numeric).collect(),
        _ => Vec::new(),
    }
}

/// What models are made with.
#[derive(Debug, Clone)]
struct Seed {
    shape: Vec<usize>,
    kernel: [usize; 2],
    stride: [i32; 2],
    dilation: [i32; 2],
    padding: Padding,
    axis: usize,
    factor: usize,
    operands: usize,
    weight: i8,
}

impl Default for Seed {
    fn default() -> Self {
        Self {
            shape: vec![1, 8, 8, 4],
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding::Valid,
            axis: 2,
            factor: 2,
            operands: 2,
            weight: 1,
        }
    }
}

/// Models of the operator `name` around the numbers that `checks` name.
fn variations(name: &str, checks: &[&Check]) -> Vec<Model> {
    let mut numbers: BTreeSet<usize> = BTreeSet::from([1, 2, 3, 4, 8]);
    for bound in checks.iter().flat_map(|check| check.bounds.numbers()) {
        if (0.0..=1e7).contains(&bound) {
            let bound = bound as usize;
            let around = [bound.saturating_sub(1), bound, bound + 1, bound + 2];
            // Half of it, for what two tensors have together.
            numbers.extend(
                around
                    .into_iter()
                    .chain([bound / 2, bound / 2 + 1, (bound / 2).saturating_sub(1)])
                    .filter(|&n| n > 0),
            );
        }
    }
    let mut seeds = vec![Seed::default()];
    let mut add = |change: &dyn Fn(&mut Seed)| {
        let mut seed = Seed::default();
        change(&mut seed);
        seeds.push(seed);
    };
    for axis in 0..4 {
        add(&|seed| seed.axis = axis);
    }
    for &n in &numbers {
        for shape in [
            vec![n],
            vec![1, n],
            vec![1, 1, n],
            vec![n, 8, 8, 4],
            vec![1, n, 8, 4],
            vec![1, 8, n, 4],
            vec![1, 8, 8, n],
        ] {
            for axis in [shape.len() - 1, shape.len().saturating_sub(2)] {
                add(&|seed| (seed.shape, seed.axis) = (shape.clone(), axis));
            }
        }
        add(&|seed| seed.shape = vec![1, n, n, 1]);
        if n > 512 {
            continue;
        }
        let wide = |seed: &mut Seed| seed.shape = vec![1, 2 * n + 2, 2 * n + 2, 1];
        for padding in [Padding::Valid, Padding::Same] {
            for side in [[n, 1], [1, n], [n, n]] {
                add(&|seed| {
                    wide(seed);
                    (seed.kernel, seed.padding) = (side, padding);
                });
                add(&|seed| {
                    wide(seed);
                    (seed.stride, seed.padding) = (side.map(|s| s as i32), padding);
                });
                add(&|seed| {
                    wide(seed);
                    (seed.dilation, seed.kernel, seed.padding) =
                        (side.map(|s| s as i32), [2, 2], padding);
                });
            }
        }
        add(&|seed| seed.factor = n);
        add(&|seed| seed.operands = n);
    }
    seeds.iter().filter_map(|seed| model(name, seed)).collect()
}

fn int8(shape: &[usize]) -> Tensor {
    Tensor::new("x", DType::I8, shape).quantized(PerTensor::new(0.5, 0).into())
}

fn weights(shape: &[usize], value: i8, axis: usize) -> Option<Tensor> {
    let data = vec![value as u8; element_count(shape).filter(|&n| n <= 1 << 24)?];
    let scales = vec![0.25; *shape.get(axis)?];
    Some(
        Tensor::constant("w", DType::I8, shape, data)
            .quantized(Quantization::symmetric(scales, axis)),
    )
}

fn integers(shape: &[usize], values: impl IntoIterator<Item = i32>) -> Tensor {
    let data: Vec<u8> = values.into_iter().flat_map(i32::to_le_bytes).collect();
    Tensor::constant("n", DType::I32, shape, data)
}

fn bias(units: usize) -> Tensor {
    let scales = Quantization::symmetric(vec![0.125; units], 0);
    integers(&[units], vec![0; units]).quantized(scales)
}

/// A model of the operator `name` made with `seed`, where that is possible.
fn model(name: &str, seed: &Seed) -> Option<Model> {
    use crate::schema::tfl::{BuiltinOperator as Code, BuiltinOptions2T, BuiltinOptionsT};
    let code = parse::builtin(name)?;
    let shape = seed.shape.clone();
    let rank = shape.len();
    let x = int8(&shape);
    let image = || <[usize; 4]>::try_from(shape.clone()).ok();
    let ([kh, kw], [sh, sw], [dh, dw]) = (seed.kernel, seed.stride, seed.dilation);
    let plain = || Op::read(code, 1, BuiltinOptionsT::NONE, BuiltinOptions2T::NONE).ok();
    let axis = i32::try_from(seed.axis).ok()?;
    let pool = || Pool2d {
        padding: seed.padding,
        stride_h: sh,
        stride_w: sw,
        filter_h: kh as i32,
        filter_w: kw as i32,
        ..Pool2d::default()
    };
    let (op, inputs): (Op, Vec<Tensor>) = match code {
        Code::CONV_2D => {
            let [.., depth] = image()?;
            let op = ops::Conv2d {
                padding: seed.padding,
                stride_h: sh,
                stride_w: sw,
                dilation_h: dh,
                dilation_w: dw,
                ..ops::Conv2d::default()
            };
            (
                op.into(),
                vec![x, weights(&[4, kh, kw, depth], seed.weight, 0)?, bias(4)],
            )
        }
        Code::DEPTHWISE_CONV_2D => {
            let [.., depth] = image()?;
            let op = ops::DepthwiseConv2d {
                padding: seed.padding,
                stride_h: sh,
                stride_w: sw,
                depth_multiplier: 1,
                dilation_h: dh,
                dilation_w: dw,
                ..ops::DepthwiseConv2d::default()
            };
            (
                op.into(),
                vec![
                    x,
                    weights(&[1, kh, kw, depth], seed.weight, 3)?,
                    bias(depth),
                ],
            )
        }
        Code::TRANSPOSE_CONV => {
            let [batch, h, w, depth] = image()?;
            let out = |size: usize, stride: i32, kernel: usize| {
                let stride = usize::try_from(stride).ok()?;
                match seed.padding {
                    Padding::Same => size.checked_mul(stride),
                    _ => size
                        .checked_sub(1)?
                        .checked_mul(stride)?
                        .checked_add(kernel),
                }
            };
            let sizes = [batch, out(h, sh, kh)?, out(w, sw, kw)?, 4];
            let op = ops::TransposeConv {
                padding: seed.padding,
                stride_h: sh,
                stride_w: sw,
                ..ops::TransposeConv::default()
            };
            let sizes = integers(&[4], sizes.map(|n| n as i32));
            (
                op.into(),
                vec![sizes, weights(&[4, kh, kw, depth], seed.weight, 0)?, x],
            )
        }
        Code::AVERAGE_POOL_2D => (ops::AveragePool2d(pool()).into(), vec![x]),
        Code::MAX_POOL_2D => (ops::MaxPool2d(pool()).into(), vec![x]),
        Code::FULLY_CONNECTED => {
            let &depth = shape.last()?;
            let op = ops::FullyConnected {
                keep_num_dims: rank > 2,
                ..ops::FullyConnected::default()
            };
            (
                op.into(),
                vec![x, weights(&[4, depth], seed.weight, 0)?, bias(4)],
            )
        }
        Code::ADD
        | Code::SUB
        | Code::MUL
        | Code::DIV
        | Code::MAXIMUM
        | Code::MINIMUM
        | Code::SQUARED_DIFFERENCE => (plain()?, vec![x.clone(), x]),
        Code::PRELU => {
            let mut alpha = shape.clone();
            alpha.remove(0);
            let size = alpha.len().checked_sub(1)?;
            (
                plain()?,
                vec![
                    x,
                    Tensor {
                        quantization: Some(PerTensor::new(0.25, 0).into()),
                        ..weights(&alpha, 1, size)?
                    },
                ],
            )
        }
        Code::CONCATENATION => {
            let axis = i32::try_from(rank).ok()? - 1;
            let op = ops::Concatenation {
                axis,
                ..ops::Concatenation::default()
            };
            (op.into(), vec![x; seed.operands])
        }
        Code::PACK => {
            let op = ops::Pack {
                values_count: i32::try_from(seed.operands).ok()?,
                axis,
            };
            (op.into(), vec![x; seed.operands])
        }
        Code::RESHAPE => {
            let count = i32::try_from(element_count(&shape)?).ok()?;
            let op = ops::Reshape {
                new_shape: Some(vec![1, 1, count]),
            };
            (op.into(), vec![x, integers(&[3], [1, 1, count])])
        }
        Code::TRANSPOSE => {
            let mut order: Vec<i32> = (0..i32::try_from(rank).ok()?).collect();
            order.reverse();
            if rank == 4 {
                order = vec![0, 2, 1, 3];
            }
            (plain()?, vec![x, integers(&[rank], order)])
        }
        Code::MEAN | Code::SUM | Code::REDUCE_MAX | Code::REDUCE_MIN => {
            if seed.axis >= rank {
                return None;
            }
            (plain()?, vec![x, integers(&[1], [axis])])
        }
        Code::ARG_MAX => (plain()?, vec![x, integers(&[], [axis])]),
        Code::SPLIT => {
            let op = ops::Split { num_splits: 2 };
            (op.into(), vec![integers(&[], [axis]), x])
        }
        Code::PAD => {
            let mut paddings = vec![0; 2 * rank];
            *paddings.get_mut(2 * seed.axis)? = 1;
            (plain()?, vec![x, integers(&[rank, 2], paddings)])
        }
        Code::STRIDED_SLICE => {
            let ends = shape.iter().map(|&d| d as i32);
            let step = i32::try_from(seed.operands).ok()?;
            let steps = (0..rank).map(|a| if a == seed.axis { step - 1 } else { 1 });
            let list = |values: Vec<i32>| integers(&[rank], values);
            (
                plain()?,
                vec![
                    x,
                    list(vec![0; rank]),
                    list(ends.collect()),
                    list(steps.collect()),
                ],
            )
        }
        Code::RESIZE_BILINEAR | Code::RESIZE_NEAREST_NEIGHBOR => {
            let [_, h, w, _] = image()?;
            let size = [h, w].map(|n| n.saturating_mul(seed.factor) as i32);
            (plain()?, vec![x, integers(&[2], size)])
        }
        Code::RELU
        | Code::RELU6
        | Code::RELU_N1_TO_1
        | Code::LOGISTIC
        | Code::TANH
        | Code::QUANTIZE => (plain()?, vec![x]),
        Code::RSQRT | Code::L2_NORMALIZATION | Code::HARD_SWISH | Code::LEAKY_RELU | Code::ABS => {
            (plain()?, vec![x])
        }
        Code::SOFTMAX => (ops::Softmax { beta: 1.0 }.into(), vec![x]),
        Code::EXPAND_DIMS => (plain()?, vec![x, integers(&[], [0])]),
        Code::SLICE => {
            let size = shape.iter().map(|&d| d as i32);
            (
                plain()?,
                vec![x, integers(&[rank], vec![0; rank]), integers(&[rank], size)],
            )
        }
        Code::SQUEEZE => (plain()?, vec![x]),
        Code::SPACE_TO_DEPTH => (ops::SpaceToDepth { block_size: 2 }.into(), vec![x]),
        Code::TILE => (
            plain()?,
            vec![
                x,
                integers(
                    &[rank],
                    (0..rank).map(|a| if a == seed.axis { 2 } else { 1 }),
                ),
            ],
        ),
        _ => return None,
    };
    finish(op, inputs)
}

/// The model of `op` on `inputs`; its results have the shapes that follow.
fn finish(op: Op, inputs: Vec<Tensor>) -> Option<Model> {
    let mut graph = Subgraph::default();
    let value = |tensor: &Tensor| ops::Value {
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        quantization: tensor.quantization.clone(),
        data: tensor.data.clone(),
    };
    let mut io = Signature {
        inputs: inputs.iter().map(|tensor| Some(value(tensor))).collect(),
        threads: 1,
        ..Signature::default()
    };
    let is_index = matches!(op, Op::ArgMax(_));
    let result = |shape: Vec<usize>| {
        if is_index {
            Tensor::new("y", DType::I32, shape)
        } else {
            int8(&shape)
        }
    };
    io.outputs = vec![value(&result(Vec::new())); if matches!(op, Op::Split(_)) { 2 } else { 1 }];
    let shapes = op.operator().ok()?.infer_shapes(&io).ok()?;
    if shapes
        .iter()
        .any(|shape| element_count(shape).is_none_or(|n| n == 0 || n > 1 << 24))
    {
        return None;
    }
    let (mut ids, mut outputs) = (Vec::new(), Vec::new());
    for (index, tensor) in inputs.into_iter().enumerate() {
        let name = format!("{}{index}", tensor.name);
        let is_constant = tensor.is_constant();
        let id: TensorId = graph.add_tensor(Tensor { name, ..tensor });
        ids.push(id);
        if !is_constant {
            graph.inputs.push(id);
        }
    }
    for (index, shape) in shapes.into_iter().enumerate() {
        let tensor = result(shape);
        outputs.push(graph.add_tensor(Tensor {
            name: format!("y{index}"),
            ..tensor
        }));
    }
    graph.outputs.clone_from(&outputs);
    graph.nodes.push(Node::new(op, &ids, &outputs));
    Some(Model {
        description: Some("a probe of a target's limit".to_owned()),
        subgraphs: vec![graph],
        ..Model::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checker_says_of_every_probe_what_its_number_asks_for() {
        for name in Target::builtin_names() {
            let target = Target::named(name).unwrap();
            for probe in target.probes().made {
                let verdict = target.verdicts(&probe.model, 0).remove(0);
                let refused = verdict.refusal().map(|refusal| refusal.rule.clone());
                let expected = (!probe.is_inside).then(|| probe.rule.clone());
                assert_eq!(
                    refused,
                    expected,
                    "{name}: {}: {verdict:?}",
                    probe.file_name()
                );
                let again = Model::read(probe.model.to_bytes().into()).unwrap();
                assert_eq!(again.subgraphs[0].nodes.len(), 1);
            }
        }
    }

    #[test]
    fn both_sides_of_the_edge_tpu_s_limits_have_models() {
        let probes = Target::named("edgetpu").unwrap().probes();
        let has = |rule: &str, op: &str, value: i64, is_inside: bool| {
            let found = probes.made.iter().any(|p| {
                p.rule == rule && p.op == op && p.value == value && p.is_inside == is_inside
            });
            assert!(found, "{rule} {op} {value}");
        };
        for (value, is_inside) in [(196_607, true), (196_608, true), (196_609, false)] {
            has("reshape-size", "RESHAPE", value, is_inside);
            has("flat-size", "LOGISTIC", value, is_inside);
        }
        for (value, is_inside) in [(196_606, true), (196_608, true), (196_610, false)] {
            has("transpose-size", "TRANSPOSE", value, is_inside);
        }
        for op in ["ADD", "CONV_2D", "MAX_POOL_2D", "RESIZE_NEAREST_NEIGHBOR"] {
            has("max-rank", op, 1, true);
            has("max-rank", op, 2, false);
        }
        has("mean-depth", "MEAN", 4, true);
        has("mean-depth", "MEAN", 3, false);
        has("not-batch", "PAD", 1, true);
        has("not-batch", "PAD", 0, false);
    }
}
