//! What is read of a compiled operator, for people and for programs.

use bantam_model::edgetpu_package::{Layer, OPERATOR, Package, PackageError};
use bantam_model::{Op, Subgraph};
use serde_json::{Value, json};

use crate::output;

/// The compiled operators of `subgraph`, by their places.
pub fn packages(subgraph: &Subgraph) -> Vec<(usize, Result<Package, PackageError>)> {
    let package = |(index, op): (usize, &Op)| match op {
        Op::Custom(custom) if custom.name == OPERATOR => {
            Some((index, Package::read(&custom.options)))
        }
        _ => None,
    };
    let ops = subgraph.nodes.iter().map(|node| &node.op);
    ops.enumerate().filter_map(package).collect()
}

/// One compiled operator for programs.
pub fn json(index: usize, package: &Result<Package, PackageError>) -> Value {
    let package = match package {
        Ok(package) => package,
        Err(error) => return json!({ "error": error.to_string(), "index": index }),
    };
    let layer = |layer: &Layer| {
        json!({
            "bytes": layer.bytes,
            "name": layer.name,
            "scale": layer.scale.map(|s| output::number(s.into())),
            "shape": layer.shape,
            "zero_point_on_chip": layer.zero_point,
        })
    };
    let layers = |layers: &[Layer]| layers.iter().map(layer).collect::<Vec<_>>();
    let main = package.main();
    json!({
        "cached_bytes": package.cached_bytes(),
        "chip": main.map(|e| e.chip.clone()),
        "index": index,
        "inputs": main.map(|e| layers(&e.inputs)),
        "instruction_bytes": package.executables.iter().map(|e| e.instruction_bytes).sum::<u64>(),
        "min_runtime_version": package.min_runtime_version,
        "outputs": main.map(|e| layers(&e.outputs)),
        "package_bytes": package.bytes,
        "scratch_bytes": main.map(|e| e.scratch_bytes),
        "streamed_bytes": package.streamed_bytes(),
        "tile_bytes": main.map(|e| e.tile_bytes),
    })
}

/// The same for people.
pub fn line(index: usize, package: &Result<Package, PackageError>) -> String {
    let package = match package {
        Ok(package) => package,
        Err(error) => return format!("operator {index}, {OPERATOR}: {error}"),
    };
    let (tile, inputs, outputs) = package.main().map_or((0, 0, 0), |e| {
        (e.tile_bytes, e.inputs.len(), e.outputs.len())
    });
    format!(
        "operator {index}, {OPERATOR}: needs runtime {} or newer; {} of parameters cached, {} sent for every run; \
         {} of a tile's activation memory; {inputs} inputs, {outputs} outputs",
        package.min_runtime_version,
        output::bytes(package.cached_bytes()),
        output::bytes(package.streamed_bytes()),
        output::bytes(u64::try_from(tile).unwrap_or(0)),
    )
}
