//! `bantam inspect`: what is in a model.

use std::fmt::Write;
use std::path::PathBuf;

use bantam_model::write::version;
use bantam_model::{Model, Op, Quantization, Subgraph, Tensor, TensorId};
use serde_json::{Value, json};

use crate::args::Format;
use crate::data;
use crate::error::Failure;
use crate::output::{self, dims};
use crate::package;

/// List a model's operators, tensors, quantization, signatures and metadata
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The .tflite model
    model: PathBuf,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let model = data::open_model(&args.model)?;
    let size = std::fs::metadata(&args.model).map_or(0, |m| m.len());
    match args.format {
        Format::Json => output::print_json("inspect", report(args, &model, size)),
        Format::Text => output::print(&text(args, &model, size)),
    }
}

fn constant_bytes(subgraph: &Subgraph) -> u64 {
    let constants = subgraph.tensors.iter().filter_map(|t| t.data.as_ref());
    constants.map(|data| data.len() as u64).sum()
}

fn report(args: &Args, model: &Model, size: u64) -> Value {
    let indices = |ids: &[TensorId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let names = |list: &[(String, TensorId)]| -> Value {
        list.iter()
            .map(|(name, id)| json!({ "name": name, "tensor": id.0 }))
            .collect()
    };
    let subgraphs: Vec<Value> = model
        .subgraphs
        .iter()
        .map(|subgraph| {
            let operators: Vec<Value> = subgraph
                .nodes
                .iter()
                .enumerate()
                .map(|(index, node)| {
                    json!({
                        "index": index,
                        "inputs": node.inputs.iter().map(|i| i.map(|i| i.0)).collect::<Vec<_>>(),
                        "op": node.op.to_string(),
                        "outputs": indices(&node.outputs),
                        "subgraphs": node.op.bodies().iter().map(|b| b.subgraph).collect::<Vec<_>>(),
                        "version": version(subgraph, node),
                    })
                })
                .collect();
            json!({
                "constant_bytes": constant_bytes(subgraph),
                "inputs": indices(&subgraph.inputs),
                "name": subgraph.name,
                "operators": operators,
                "outputs": indices(&subgraph.outputs),
                "packages": package::packages(subgraph).iter().map(|(i, p)| package::json(*i, p)).collect::<Vec<_>>(),
                "tensors": subgraph.tensors.iter().enumerate().map(tensor).collect::<Vec<_>>(),
            })
        })
        .collect();
    let metadata: Vec<Value> = model
        .metadata
        .iter()
        .map(|m| json!({ "bytes": m.data.len(), "name": m.name }))
        .collect();
    let signatures: Vec<Value> = model
        .signatures
        .iter()
        .map(|s| {
            json!({
                "inputs": names(&s.inputs),
                "key": s.key,
                "outputs": names(&s.outputs),
                "subgraph": s.subgraph,
            })
        })
        .collect();
    json!({
        "description": model.description,
        "metadata": metadata,
        "model": args.model.display().to_string(),
        "signatures": signatures,
        "size_bytes": size,
        "subgraphs": subgraphs,
    })
}

fn tensor((index, tensor): (usize, &Tensor)) -> Value {
    let quantization = used(tensor).map(|q| {
        json!({
            "axis": q.axis,
            "scale": q.scale.iter().map(|&s| output::number(s.into())).collect::<Vec<_>>(),
            "zero_point": q.zero_point,
        })
    });
    json!({
        "bytes": tensor.data.as_ref().map_or(tensor.dtype.byte_len(&tensor.shape), |d| Some(d.len())),
        "constant": tensor.is_constant(),
        "index": index,
        "name": tensor.name,
        "quantization": quantization,
        "shape": tensor.shape,
        "shape_signature": tensor.shape_signature,
        "type": tensor.dtype.to_string(),
        "variable": tensor.is_variable,
    })
}

/// The quantization of a tensor that has a scale.
fn used(tensor: &Tensor) -> Option<&Quantization> {
    tensor.quantization.as_ref().filter(|q| !q.scale.is_empty())
}

fn text(args: &Args, model: &Model, size: u64) -> String {
    let mut text = format!("{}: {}\n", args.model.display(), output::bytes(size));
    // Writing to a String cannot fail.
    if let Some(description) = model.description.as_ref().filter(|d| !d.is_empty()) {
        let _ = writeln!(text, "description: {description}");
    }
    for metadata in &model.metadata {
        let _ = writeln!(
            text,
            "metadata {}: {} bytes",
            metadata.name,
            metadata.data.len()
        );
    }
    for signature in &model.signatures {
        let names = |list: &[(String, TensorId)]| {
            let names: Vec<String> = list
                .iter()
                .map(|(name, id)| format!("{name} (tensor {})", id.0))
                .collect();
            names.join(", ")
        };
        let (inputs, outputs) = (names(&signature.inputs), names(&signature.outputs));
        let _ = writeln!(text, "signature {}: {inputs} -> {outputs}", signature.key);
    }
    for (index, subgraph) in model.subgraphs.iter().enumerate() {
        let name = if subgraph.name.is_empty() {
            String::new()
        } else {
            format!(" {}", subgraph.name)
        };
        let _ = writeln!(
            text,
            "\nsubgraph {index}{name}: {} operators, {} tensors, {} of constants",
            subgraph.nodes.len(),
            subgraph.tensors.len(),
            output::bytes(constant_bytes(subgraph)),
        );
        text.push_str(&ends(subgraph));
        for (index, package) in package::packages(subgraph) {
            let _ = writeln!(text, "{}", package::line(index, &package));
        }
        text.push('\n');
        text.push_str(&operators(subgraph));
        text.push('\n');
        text.push_str(&tensors(subgraph));
    }
    text
}

fn ends(subgraph: &Subgraph) -> String {
    let mut text = String::new();
    for (what, ids) in [("input", &subgraph.inputs), ("output", &subgraph.outputs)] {
        for (position, &id) in ids.iter().enumerate() {
            let tensor = &subgraph[id];
            let _ = writeln!(
                text,
                "{what} {position}: {} {} {} {}",
                tensor.name,
                shape(tensor),
                tensor.dtype,
                quantization(tensor),
            );
        }
    }
    text
}

fn operators(subgraph: &Subgraph) -> String {
    let list = |ids: &mut dyn Iterator<Item = Option<TensorId>>| {
        let ids: Vec<String> = ids
            .map(|id| id.map_or("-".into(), |id| id.0.to_string()))
            .collect();
        ids.join(",")
    };
    let rows: Vec<[String; 5]> = subgraph
        .nodes
        .iter()
        .enumerate()
        .map(|(index, node)| {
            [
                index.to_string(),
                operator(&node.op),
                version(subgraph, node).to_string(),
                list(&mut node.inputs.iter().copied()),
                list(&mut node.outputs.iter().map(|&o| Some(o))),
            ]
        })
        .collect();
    output::table(
        &["index", "operator", "version", "inputs", "outputs"],
        &rows,
    )
}

/// The operator's name, and the subgraphs that it runs.
fn operator(op: &Op) -> String {
    let bodies: Vec<String> = op.bodies().iter().map(|b| b.subgraph.to_string()).collect();
    match bodies.len() {
        0 => op.to_string(),
        1 => format!("{op} (subgraph {})", bodies[0]),
        _ => format!("{op} (subgraphs {})", bodies.join(", ")),
    }
}

fn tensors(subgraph: &Subgraph) -> String {
    let rows: Vec<[String; 6]> = subgraph
        .tensors
        .iter()
        .enumerate()
        .map(|(index, tensor)| {
            let kind = match (tensor.is_constant(), tensor.is_variable) {
                (true, _) => "constant",
                (_, true) => "variable",
                _ => "",
            };
            [
                index.to_string(),
                tensor.dtype.to_string(),
                shape(tensor),
                kind.to_owned(),
                quantization(tensor),
                tensor.name.clone(),
            ]
        })
        .collect();
    output::table(
        &["tensor", "type", "shape", "kind", "quantization", "name"],
        &rows,
    )
}

/// The shape, with `?` for dimensions that may vary.
fn shape(tensor: &Tensor) -> String {
    match &tensor.shape_signature {
        Some(signature) if signature.contains(&-1) && signature.len() == tensor.shape.len() => {
            let dims: Vec<String> = signature
                .iter()
                .map(|&d| if d < 0 { "?".to_owned() } else { d.to_string() })
                .collect();
            dims.join("x")
        }
        _ => dims(&tensor.shape),
    }
}

fn quantization(tensor: &Tensor) -> String {
    match used(tensor) {
        None => String::new(),
        Some(q) => match (&*q.scale, &*q.zero_point) {
            ([scale], [zero_point]) => format!("scale {scale} zero point {zero_point}"),
            (scales, _) => format!("{} scales on axis {}", scales.len(), q.axis),
        },
    }
}
