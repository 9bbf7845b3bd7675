//! Between the samples that users bring and the tensors of a session.

use std::path::Path;

use bantam_converter::samples::{self, ElementType, InputSpec};
use bantam_delegate::TensorInfo;
use bantam_model::tensor::{Bytes, DType};
use bantam_model::{Model, Quantization, ReadError, TensorId};

use crate::error::{self, Failure};

/// Reads the model at `path`.
pub fn open_model(path: &Path) -> Result<Model, Failure> {
    Model::open(path).map_err(|error| error::read(path, &error))
}

/// The bytes of the model at `path`, which need not be sound.
pub fn read_model(path: &Path) -> Result<Bytes, Failure> {
    let bytes = std::fs::read(path).map_err(|source| {
        let path = path.to_owned();
        error::read(&path.clone(), &ReadError::File { path, source })
    })?;
    Ok(Bytes::from(bytes))
}

/// The element type under numpy's names, for types that numpy has.
pub fn element_type(dtype: DType) -> Option<ElementType> {
    Some(match dtype {
        DType::Bool => ElementType::Bool,
        DType::I8 => ElementType::I8,
        DType::I16 => ElementType::I16,
        DType::I32 => ElementType::I32,
        DType::I64 => ElementType::I64,
        DType::U8 => ElementType::U8,
        DType::U16 => ElementType::U16,
        DType::U32 => ElementType::U32,
        DType::U64 => ElementType::U64,
        DType::F16 => ElementType::F16,
        DType::F32 => ElementType::F32,
        DType::F64 => ElementType::F64,
        _ => return None,
    })
}

/// The same, or the failure for a model whose input or output `name` has no such type.
pub fn numpy_type(path: &Path, name: &str, dtype: DType) -> Result<ElementType, Failure> {
    element_type(dtype).ok_or_else(|| {
        error::MODEL_OP.failure(
            format!("{} cannot be run", path.display()),
            format!("tensor {name} has the type {dtype}, which arrays do not have"),
            "take a model with numbers as inputs and outputs",
        )
    })
}

/// What data has to be for each of `inputs`.
pub fn specs(path: &Path, inputs: &[TensorInfo]) -> Result<Vec<InputSpec>, Failure> {
    let spec = |input: &TensorInfo| {
        Ok(InputSpec {
            name: input.name.clone(),
            shape: input.shape.clone(),
            dtype: numpy_type(path, &input.name, input.dtype)?,
            quantization: scale_and_zero_point(input.quantization.as_ref()),
        })
    };
    inputs.iter().map(spec).collect()
}

/// The subgraph that the signature `key` enters, or the first one.
pub fn entry(path: &Path, model: &Model, key: Option<&str>) -> Result<usize, Failure> {
    let Some(key) = key else {
        return Ok(0);
    };
    let mut signatures = model.signatures.iter();
    if let Some(signature) = signatures.find(|signature| signature.key == key) {
        return Ok(signature.subgraph as usize);
    }
    let keys = model.signatures.iter().map(|s| format!("{:?}", s.key));
    let keys: Vec<String> = keys.collect();
    Err(error::USAGE.failure(
        format!("{} has no signature {key:?}", path.display()),
        match keys.is_empty() {
            true => "it has none at all".into(),
            false => format!("it has {}", keys.join(", ")),
        },
        "leave --signature away for the first subgraph",
    ))
}

/// The inputs of a subgraph of `model` as its file has them.
pub fn model_inputs(model: &Model, subgraph: usize) -> Vec<TensorInfo> {
    let Some(subgraph) = model.subgraphs.get(subgraph) else {
        return Vec::new();
    };
    let info = |&id: &TensorId| {
        let tensor = &subgraph[id];
        TensorInfo {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            quantization: tensor.quantization.clone(),
        }
    };
    subgraph.inputs.iter().map(info).collect()
}

fn scale_and_zero_point(quantization: Option<&Quantization>) -> Option<(f32, i64)> {
    let per_tensor = quantization?.per_tensor().ok()?;
    Some((per_tensor.scale, per_tensor.zero_point.into()))
}

/// The real values of `bytes`: those of a float, those that quantized integers stand for, the
/// integers themselves where nothing says what they stand for.
pub fn reals(info: &TensorInfo, dtype: ElementType, bytes: &[u8]) -> Vec<f32> {
    let tensor = samples::Tensor {
        shape: vec![bytes.len() / dtype.size()],
        dtype,
        bytes: bytes.to_vec(),
    };
    let mut values = tensor.to_f32();
    if let Some((scale, zero_point)) = scale_and_zero_point(info.quantization.as_ref())
        && !dtype.is_float()
    {
        for value in &mut values {
            *value = (f64::from(scale) * (f64::from(*value) - zero_point as f64)) as f32;
        }
    }
    values
}
