//! Shapes that do not vary: inputs get fixed ones, and everything that was computed from shapes becomes a constant.

use std::collections::HashSet;

use bantam_model::cpu::{Options, Plan, RunError};
use bantam_model::ops::{Op, OpError, Reshape};
use bantam_model::tensor::Shape;
use bantam_model::{DType, Model, Subgraph, Tensor, TensorId};

use super::LegalizeError;
use super::draft::integers;

/// The most bytes of tensors in a plan that only gives shapes.
const MEMORY_LIMIT: usize = 1 << 30;

/// Results of at most so many elements are folded where they are no shapes.
const LARGEST_FOLD: usize = 1024;

/// The shape that an input shall have.
#[derive(Debug, Clone, PartialEq)]
pub struct InputShape {
    /// The input's name; `None` for the first that was not named.
    pub name: Option<String>,
    /// Its dimensions.
    pub shape: Shape,
}

/// A shape that was fixed.
#[derive(Debug, Clone, PartialEq)]
pub struct Frozen {
    /// The tensor's name.
    pub name: String,
    /// What it was, -1 for what could vary.
    pub from: Vec<i32>,
    /// What it is.
    pub to: Shape,
}

/// Fixes the shapes of the first subgraph's inputs, and of all that follows from them; what was fixed.
pub(super) fn freeze(
    model: &mut Model,
    wanted: &[InputShape],
) -> Result<Vec<Frozen>, LegalizeError> {
    let graph = &model.subgraphs[0];
    let shapes = input_shapes(graph, wanted)?;
    let varies = |tensor: &Tensor| {
        tensor
            .shape_signature
            .as_ref()
            .is_some_and(|s| s.contains(&-1))
    };
    let options = Options {
        input_shapes: shapes.iter().cloned().map(Some).collect(),
        memory_limit: MEMORY_LIMIT,
        ..Options::default()
    };
    let plan = match Plan::new(model, &options) {
        Ok(plan) => plan,
        Err(error) => {
            let changes = graph.inputs.iter().zip(&shapes);
            let mut changes = changes.map(|(&id, shape)| (&graph[id], shape));
            if !changes.any(|(tensor, shape)| varies(tensor) || tensor.shape != *shape) {
                // A model that cannot be run here may still be for the chip, with the shapes that it has.
                return match data_dependent(graph, &error) {
                    Some(error) => Err(error),
                    None => Ok(Vec::new()),
                };
            }
            return Err(data_dependent(graph, &error).unwrap_or_else(|| {
                let why = match &error {
                    RunError::Op { source, .. } => format!("{error}: {source}"),
                    _ => error.to_string(),
                };
                LegalizeError::Shape(format!("the model does not fit its inputs' shapes: {why}"))
            }));
        }
    };
    let mut frozen = Vec::new();
    let graph = &mut model.subgraphs[0];
    for (index, tensor) in graph.tensors.iter_mut().enumerate() {
        let shape = &plan.value(TensorId(index as u32)).shape;
        let is_input = graph.inputs.contains(&TensorId(index as u32));
        if is_input && (varies(tensor) || tensor.shape != *shape) {
            let old = tensor.shape.iter().map(|&d| d as i32).collect();
            frozen.push(Frozen {
                name: tensor.name.clone(),
                from: tensor.shape_signature.clone().unwrap_or(old),
                to: shape.clone(),
            });
        }
        if !tensor.is_constant() {
            tensor.shape.clone_from(shape);
            tensor.shape_signature = None;
        }
    }
    fold(graph, &plan);
    fix_reshapes(graph);
    Ok(frozen)
}

/// The shape of each input.
fn input_shapes(graph: &Subgraph, wanted: &[InputShape]) -> Result<Vec<Shape>, LegalizeError> {
    let mut shapes: Vec<Option<&Shape>> = vec![None; graph.inputs.len()];
    for InputShape { name, shape } in wanted {
        let place = match name {
            Some(name) => graph.inputs.iter().position(|&id| graph[id].name == *name),
            None => shapes.iter().position(Option::is_none),
        };
        let Some(place) = place else {
            let names: Vec<&str> = graph.inputs.iter().map(|&id| &*graph[id].name).collect();
            return Err(LegalizeError::Shape(match name {
                Some(name) => format!("no input is named {name:?}; there are {names:?}"),
                None => format!("{} shapes for {} inputs", wanted.len(), names.len()),
            }));
        };
        let rank = graph[graph.inputs[place]].shape.len();
        if shape.len() != rank {
            return Err(LegalizeError::Shape(format!(
                "shape {shape:?} for input {:?}, which has {rank} dimensions",
                graph[graph.inputs[place]].name
            )));
        }
        shapes[place] = Some(shape);
    }
    let inputs = graph.inputs.iter().zip(shapes);
    let fixed = inputs.map(|(&id, wanted)| {
        let tensor = &graph[id];
        let signature = tensor.shape_signature.as_deref().unwrap_or_default();
        match wanted {
            Some(shape) => Ok(shape.clone()),
            None if signature.iter().skip(1).any(|&d| d < 0) => Err(LegalizeError::Input {
                name: tensor.name.clone(),
                signature: signature.to_vec(),
            }),
            None => {
                let mut shape = tensor.shape.clone();
                if let (Some(-1), Some(batch)) = (signature.first(), shape.first_mut()) {
                    *batch = 1;
                }
                Ok(shape)
            }
        }
    });
    fixed.collect()
}

/// The error for an operator whose result's shape depends on data.
fn data_dependent(graph: &Subgraph, error: &RunError) -> Option<LegalizeError> {
    let RunError::Op { index, op, source } = error else {
        return None;
    };
    if !matches!(source, OpError::NotConstant(_)) {
        return None;
    }
    let output = graph.nodes.get(*index).and_then(|n| n.outputs.first());
    Some(LegalizeError::Dynamic {
        index: *index,
        op: op.clone(),
        tensor: output.map_or_else(String::new, |&id| graph[id].name.clone()),
        reason: source.to_string(),
    })
}

/// Operators whose results the plan knows become constants.
fn fold(graph: &mut Subgraph, plan: &Plan) {
    let runs: HashSet<usize> = plan.nodes().collect();
    let nodes = std::mem::take(&mut graph.nodes);
    let mut kept = Vec::new();
    for (index, node) in nodes.into_iter().enumerate() {
        let value = match *node.outputs {
            [output] if !runs.contains(&index) && !graph.outputs.contains(&output) => {
                Some((output, plan.value(output)))
            }
            _ => None,
        };
        let data = value.and_then(|(output, value)| {
            let is_index = matches!(value.dtype, DType::I32 | DType::I64 | DType::Bool);
            let folds = is_index || value.len() <= LARGEST_FOLD;
            let data = value
                .data
                .clone()
                .filter(|_| folds && !graph[output].is_variable)?;
            Some((output, data))
        });
        match data {
            Some((output, data)) => graph[output].data = Some(data),
            None => kept.push((index, node)),
        }
    }
    // What the plan does not run and does not keep, only folded operators read.
    let mut read: HashSet<TensorId> = graph.outputs.iter().copied().collect();
    for (index, node) in kept.into_iter().rev() {
        if runs.contains(&index) || node.outputs.iter().any(|id| read.contains(id)) {
            read.extend(node.inputs.iter().flatten());
            graph.nodes.push(node);
        }
    }
    graph.nodes.reverse();
}

/// A RESHAPE names each dimension: -1, or none at all, is a shape that varies to some compilers.
fn fix_reshapes(graph: &mut Subgraph) {
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (Op::Reshape(op), [output]) = (&node.op, &*node.outputs) else {
            continue;
        };
        let shape: Option<Vec<i32>> = graph[*output]
            .shape
            .iter()
            .map(|&d| i32::try_from(d).ok())
            .collect();
        let Some(shape) = shape else { continue };
        let operand = node.input(1).map(|id| &graph[id]);
        let wide: Vec<i64> = shape.iter().map(|&d| i64::from(d)).collect();
        let is_fixed = match operand {
            Some(operand) => {
                integers(operand).as_deref() == Some(&wide) && operand.dtype == DType::I32
            }
            None => op.new_shape.as_ref() == Some(&shape),
        };
        if is_fixed || node.inputs.is_empty() {
            continue;
        }
        let bytes: Vec<u8> = shape.iter().flat_map(|d| d.to_le_bytes()).collect();
        let name = format!("{}/shape", graph[*output].name);
        let constant = Tensor::constant(name, DType::I32, [shape.len()], bytes);
        let constant = graph.add_tensor(constant);
        let node = &mut graph.nodes[index];
        node.inputs.truncate(1);
        node.inputs.push(Some(constant));
        let new_shape = Some(shape);
        node.op = Reshape { new_shape }.into();
    }
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::{Pack, ShapeOf, StridedSlice};

    use super::super::testing::{Graph, kinds, noise, run};
    use super::*;

    fn dynamic(model: &mut Model, id: TensorId, signature: &[i32]) {
        model.subgraphs[0][id].shape_signature = Some(signature.to_vec());
    }

    /// A reshape to the batch that the input has, as converters write `Flatten`.
    fn flatten() -> Model {
        let mut graph = Graph::default();
        let x = graph.input(DType::I8, &[1, 2, 3], (0.1, 0));
        let shape = graph.tensor("shape", DType::I32, &[3], (0.0, 0));
        let batch = graph.tensor("batch", DType::I32, &[], (0.0, 0));
        let wanted = graph.tensor("wanted", DType::I32, &[2], (0.0, 0));
        let [begin, end, stride, rest] = [[0], [1], [1], [6]].map(|v| graph.integers(&v));
        graph.0[rest].shape = Vec::new();
        let y = graph.output(DType::I8, &[1, 6], (0.1, 0));
        graph.push(
            ShapeOf {
                out_type: DType::I32,
            },
            &[x],
            &[shape],
        );
        let slice = StridedSlice {
            shrink_axis_mask: 1,
            ..StridedSlice::default()
        };
        graph.push(slice, &[shape, begin, end, stride], &[batch]);
        let pack = Pack {
            values_count: 2,
            axis: 0,
        };
        graph.push(pack, &[batch, rest], &[wanted]);
        graph.push(Reshape::default(), &[x, wanted], &[y]);
        let mut model = graph.model();
        dynamic(&mut model, x, &[-1, 2, 3]);
        dynamic(&mut model, y, &[-1, 6]);
        model
    }

    #[test]
    fn a_varying_batch_becomes_1_and_computed_shapes_constants() {
        let model = flatten();
        let mut legal = model.clone();
        let frozen = freeze(&mut legal, &[]).unwrap();
        assert_eq!(frozen[0].from, [-1, 2, 3]);
        assert_eq!(frozen[0].to, [1, 2, 3]);
        assert_eq!(kinds(&legal), ["RESHAPE"]);
        let graph = &legal.subgraphs[0];
        assert!(graph.tensors.iter().all(|t| t.shape_signature.is_none()));
        let data = [noise(6, 1)];
        assert_eq!(run(&model, &data), run(&legal, &data));
    }

    #[test]
    fn another_batch_is_asked_for_by_name_or_place() {
        for name in [None, Some("input0".to_owned())] {
            let mut legal = flatten();
            let shape = vec![4, 2, 3];
            freeze(&mut legal, &[InputShape { name, shape }]).unwrap();
            let output = legal.subgraphs[0].outputs[0];
            assert_eq!(legal.subgraphs[0][output].shape, [4, 6]);
        }
    }

    #[test]
    fn what_varies_beside_the_batch_has_to_be_said() {
        let mut model = flatten();
        dynamic(&mut model, TensorId(0), &[-1, -1, 3]);
        let error = freeze(&mut model.clone(), &[]).unwrap_err();
        assert!(matches!(error, LegalizeError::Input { name, .. } if name == "input0"));
        let shape = |shape: &[usize]| {
            [InputShape {
                name: None,
                shape: shape.to_vec(),
            }]
        };
        assert!(freeze(&mut model.clone(), &shape(&[1, 2, 3])).is_ok());
        assert!(matches!(
            freeze(&mut model.clone(), &shape(&[1, 2])),
            Err(LegalizeError::Shape(_))
        ));
        let nobody = [InputShape {
            name: Some("x".into()),
            shape: vec![1],
        }];
        assert!(matches!(
            freeze(&mut model, &nobody),
            Err(LegalizeError::Shape(_))
        ));
    }

    #[test]
    fn a_shape_that_depends_on_data_is_named() {
        let mut graph = Graph::default();
        let x = graph.input(DType::I32, &[4], (0.0, 0));
        let wanted = graph.input(DType::I32, &[1], (0.0, 0));
        let y = graph.output(DType::I32, &[4], (0.0, 0));
        graph.push(Reshape::default(), &[x, wanted], &[y]);
        let error = freeze(&mut graph.model(), &[]).unwrap_err();
        assert!(
            matches!(error, LegalizeError::Dynamic { index: 0, tensor, .. } if tensor == "output0")
        );
    }
}
