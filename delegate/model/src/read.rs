//! `.tflite` bytes to a [`Model`]: everything is verified, constants stay where they are.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use flatbuffers::{InvalidFlatbuffer, VerifierOptions};

use crate::graph::{Metadata, Model, Node, SignatureDef, Subgraph, TensorId};
use crate::ops::{Custom, Op, OpError};
use crate::quant::Quantization;
use crate::schema::tfl;
use crate::tensor::{Bytes, DType, Tensor};

/// Why bytes are not a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The bytes do not start like a `.tflite` file.
    #[error("not a .tflite file: the identifier TFL3 is not at byte 4")]
    Identifier,
    /// The flatbuffer is broken.
    #[error("the flatbuffer is truncated or corrupt: {0}")]
    Flatbuffer(Box<InvalidFlatbuffer>),
    /// The tables are sound but what they say is not.
    #[error("{0}")]
    Content(String),
    /// One operator's attributes make no sense.
    #[error("operator {index} of subgraph {subgraph} ({op})")]
    Op {
        /// The subgraph.
        subgraph: usize,
        /// The place in the order of execution.
        index: usize,
        /// Its kind.
        op: String,
        /// Why.
        #[source]
        source: OpError,
    },
}

fn content<T>(message: impl Into<String>) -> Result<T, ReadError> {
    Err(ReadError::Content(message.into()))
}

impl Model {
    /// Reads the file at `path`. It is mapped into memory, not copied: it must not be changed
    /// while the model or anything made from it is in use.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let error = |source| ReadError::File {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(error)?;
        if file.metadata().map_err(error)?.len() == 0 {
            return Err(ReadError::Identifier);
        }
        #[expect(unsafe_code, reason = "the memory map")]
        // SAFETY: the map is only read, and this function's documentation passes on to the
        // caller that the file must not change meanwhile.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(error)?;
        Self::read(Bytes::new(map))
    }

    /// Reads `bytes`, which the model keeps for its constants.
    pub fn read(bytes: Bytes) -> Result<Self, ReadError> {
        Reader::new(&bytes, verified(&bytes)?)?.model()
    }
}

fn verified(bytes: &[u8]) -> Result<tfl::Model<'_>, ReadError> {
    if bytes.len() < 8 || &bytes[4..8] != b"TFL3" {
        return Err(ReadError::Identifier);
    }
    let options = VerifierOptions {
        max_depth: 64,
        max_tables: 1 << 24,
        ignore_missing_null_terminator: true,
        max_apparent_size: bytes.len().saturating_mul(16).max(1 << 30),
    };
    tfl::root_as_model_with_opts(&options, bytes)
        .map_err(|error| ReadError::Flatbuffer(Box::new(error)))
}

/// The version that a file names for each operator of each subgraph, in order. A [`Model`] does not
/// keep them: it is written with the lowest that mean what the operators do.
pub fn operator_versions(bytes: &[u8]) -> Result<Vec<Vec<i32>>, ReadError> {
    let model = verified(bytes)?;
    let codes: Vec<i32> = model
        .operator_codes()
        .into_iter()
        .flatten()
        .map(|c| c.version())
        .collect();
    let version =
        |op: tfl::Operator<'_>| codes.get(op.opcode_index() as usize).copied().unwrap_or(1);
    let of = |subgraph: tfl::SubGraph<'_>| {
        subgraph
            .operators()
            .into_iter()
            .flatten()
            .map(version)
            .collect()
    };
    Ok(model.subgraphs().into_iter().flatten().map(of).collect())
}

struct Reader<'a> {
    bytes: &'a Bytes,
    model: tfl::Model<'a>,
    codes: Vec<Code>,
    buffers: Vec<Option<Bytes>>,
}

/// An entry of the file's list of operator kinds.
struct Code {
    builtin: tfl::BuiltinOperator,
    custom: Option<String>,
    version: i32,
}

impl Code {
    /// Old files name the operator only in the deprecated field of 8 bits; new ones fill both
    /// where the number fits.
    fn new(code: tfl::OperatorCode<'_>) -> Self {
        let old = i32::from(code.deprecated_builtin_code());
        Self {
            builtin: tfl::BuiltinOperator(code.builtin_code().0.max(old)),
            custom: code.custom_code().map(str::to_owned),
            version: code.version(),
        }
    }
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a Bytes, model: tfl::Model<'a>) -> Result<Self, ReadError> {
        if model.version() != 3 {
            return content(format!(
                "schema version {} where 3 is needed",
                model.version()
            ));
        }
        if model.external_buffers().is_some_and(|b| !b.is_empty()) {
            return content("weights in files beside the model are not supported");
        }
        let codes = model
            .operator_codes()
            .into_iter()
            .flatten()
            .map(Code::new)
            .collect();
        let mut reader = Self {
            bytes,
            model,
            codes,
            buffers: Vec::new(),
        };
        let buffers = reader.model.buffers().into_iter().flatten();
        reader.buffers = buffers
            .map(|buffer| reader.buffer(buffer))
            .collect::<Result<_, _>>()?;
        Ok(reader)
    }

    fn model(&self) -> Result<Model, ReadError> {
        let subgraphs = self.model.subgraphs().into_iter().flatten().enumerate();
        let subgraphs: Vec<Subgraph> = subgraphs
            .map(|(index, s)| self.subgraph(index, s))
            .collect::<Result<_, _>>()?;
        let metadata = self.model.metadata().into_iter().flatten();
        let signatures = self.model.signature_defs().into_iter().flatten();
        let old = self.model.metadata_buffer().into_iter().flatten();
        Ok(Model {
            description: self.model.description().map(str::to_owned),
            metadata: metadata
                .map(|m| {
                    Ok(Metadata {
                        name: m.name().unwrap_or_default().to_owned(),
                        data: self.metadata_buffer(i64::from(m.buffer()))?,
                    })
                })
                .collect::<Result<_, _>>()?,
            metadata_buffers: old
                .map(|index| self.metadata_buffer(i64::from(index)))
                .collect::<Result<_, _>>()?,
            signatures: signatures
                .map(|s| signature(s, &subgraphs))
                .collect::<Result<_, _>>()?,
            subgraphs,
        })
    }

    fn metadata_buffer(&self, index: i64) -> Result<Bytes, ReadError> {
        let buffer = usize::try_from(index)
            .ok()
            .and_then(|i| self.buffers.get(i));
        match buffer {
            Some(Some(bytes)) => Ok(bytes.clone()),
            Some(None) => Ok(Bytes::from(Vec::new())),
            None => content(format!(
                "metadata refers to buffer {index} of {}",
                self.buffers.len()
            )),
        }
    }

    /// The bytes of a buffer; `None` for an empty one. Large ones lie behind the flatbuffer.
    fn buffer(&self, buffer: tfl::Buffer<'a>) -> Result<Option<Bytes>, ReadError> {
        if buffer.offset() > 1 {
            return self.behind(buffer.offset(), buffer.size()).map(Some);
        }
        Ok(buffer
            .data()
            .filter(|data| !data.is_empty())
            .and_then(|data| self.bytes.slice_ref(data.bytes())))
    }

    fn behind(&self, offset: u64, size: u64) -> Result<Bytes, ReadError> {
        let range = usize::try_from(offset)
            .ok()
            .zip(usize::try_from(size).ok())
            .and_then(|(offset, size)| Some(offset..offset.checked_add(size)?));
        range
            .and_then(|range| self.bytes.slice(range))
            .ok_or_else(|| {
                ReadError::Content(format!(
                    "{size} bytes at offset {offset} are outside the file of {} bytes",
                    self.bytes.len()
                ))
            })
    }

    fn subgraph(&self, number: usize, subgraph: tfl::SubGraph<'a>) -> Result<Subgraph, ReadError> {
        let tensors = subgraph.tensors().into_iter().flatten();
        let tensors: Vec<Tensor> = tensors.map(|t| self.tensor(t)).collect::<Result<_, _>>()?;
        let count = tensors.len();
        let list = |what, list: Option<flatbuffers::Vector<'a, i32>>| {
            list.into_iter()
                .flatten()
                .map(|i| tensor_id(what, i, count))
                .collect::<Result<Vec<_>, _>>()
        };
        let operators = subgraph.operators().into_iter().flatten().enumerate();
        let nodes = operators.map(|(index, operator)| {
            let optional = |i: i32| match i {
                -1 => Ok(None),
                i => tensor_id("an operator's input", i, count).map(Some),
            };
            Ok(Node {
                op: self.op(number, index, operator)?,
                inputs: operator
                    .inputs()
                    .into_iter()
                    .flatten()
                    .map(optional)
                    .collect::<Result<_, _>>()?,
                outputs: list("an operator's output", operator.outputs())?,
                intermediates: list("an intermediate", operator.intermediates())?,
                mutating_variable_inputs: operator
                    .mutating_variable_inputs()
                    .into_iter()
                    .flatten()
                    .collect(),
                debug_metadata_index: operator.debug_metadata_index(),
            })
        });
        Ok(Subgraph {
            name: subgraph.name().unwrap_or_default().to_owned(),
            inputs: list("an input", subgraph.inputs())?,
            outputs: list("an output", subgraph.outputs())?,
            nodes: nodes.collect::<Result<_, ReadError>>()?,
            debug_metadata_index: subgraph.debug_metadata_index(),
            tensors,
        })
    }

    fn tensor(&self, tensor: tfl::Tensor<'a>) -> Result<Tensor, ReadError> {
        let name = tensor.name().unwrap_or_default().to_owned();
        let dtype = DType::from_code(tensor.type_());
        let shape = tensor
            .shape()
            .into_iter()
            .flatten()
            .map(|d| match usize::try_from(d) {
                Ok(d) => Ok(d),
                Err(_) if d == -1 => Ok(1),
                Err(_) => content(format!("tensor {name:?} has a dimension of {d}")),
            });
        let shape = shape.collect::<Result<Vec<usize>, _>>()?;
        let buffer = tensor.buffer() as usize;
        let Some(data) = self.buffers.get(buffer).or((buffer == 0).then_some(&None)) else {
            return content(format!(
                "tensor {name:?} refers to buffer {buffer} of {}",
                self.buffers.len()
            ));
        };
        if let (Some(data), Some(len), None) = (data, dtype.byte_len(&shape), tensor.sparsity())
            && data.len() != len
        {
            return content(format!(
                "tensor {name:?} of shape {shape:?} and type {dtype} has {} bytes, not {len}",
                data.len()
            ));
        }
        Ok(Tensor {
            dtype,
            shape,
            shape_signature: tensor.shape_signature().map(|s| s.iter().collect()),
            has_rank: tensor.has_rank(),
            data: data.clone(),
            quantization: tensor.quantization().map(quantization),
            is_variable: tensor.is_variable(),
            sparsity: tensor.sparsity().map(|s| Box::new(s.unpack())),
            variant_tensors: tensor
                .variant_tensors()
                .map(|list| list.iter().map(|v| v.unpack()).collect()),
            name,
        })
    }

    fn op(
        &self,
        subgraph: usize,
        index: usize,
        operator: tfl::Operator<'a>,
    ) -> Result<Op, ReadError> {
        let Some(code) = self.codes.get(operator.opcode_index() as usize) else {
            return content(format!(
                "operator {index} refers to operator code {} of {}",
                operator.opcode_index(),
                self.codes.len()
            ));
        };
        if code.builtin == tfl::BuiltinOperator::CUSTOM {
            let offset = operator.large_custom_options_offset();
            let options = match operator.custom_options() {
                _ if offset > 1 => self.behind(offset, operator.large_custom_options_size())?,
                Some(options) => self
                    .bytes
                    .slice_ref(options.bytes())
                    .unwrap_or_else(|| Vec::new().into()),
                None => Vec::new().into(),
            };
            return Ok(Op::Custom(Box::new(Custom {
                name: code.custom.clone().unwrap_or_default(),
                version: code.version,
                options,
            })));
        }
        let (first, second) = (
            operator.builtin_options_type(),
            operator.builtin_options_2_type(),
        );
        if first.variant_name().is_none() || second.variant_name().is_none() {
            return content(format!(
                "operator {index} has options of a kind ({}, {}) that this version does not know",
                first.0, second.0
            ));
        }
        let unpacked = operator.unpack();
        Op::from_options(
            code.builtin,
            code.version,
            unpacked.builtin_options,
            unpacked.builtin_options_2,
        )
        .map_err(|source| ReadError::Op {
            subgraph,
            index,
            op: code.builtin.variant_name().unwrap_or("unknown").to_owned(),
            source,
        })
    }
}

fn tensor_id(what: &str, index: i32, count: usize) -> Result<TensorId, ReadError> {
    match u32::try_from(index) {
        Ok(id) if (id as usize) < count => Ok(TensorId(id)),
        _ => content(format!("{what} is tensor {index} of {count}")),
    }
}

fn quantization(q: tfl::QuantizationParameters<'_>) -> Quantization {
    let q = q.unpack();
    Quantization {
        scale: q.scale.unwrap_or_default(),
        zero_point: q.zero_point.unwrap_or_default(),
        axis: q.quantized_dimension,
        min: q.min,
        max: q.max,
        details: q.details,
    }
}

fn signature(
    signature: tfl::SignatureDef<'_>,
    subgraphs: &[Subgraph],
) -> Result<SignatureDef, ReadError> {
    let key = signature.signature_key().unwrap_or_default().to_owned();
    let number = signature.subgraph_index();
    let Some(subgraph) = subgraphs.get(number as usize) else {
        return content(format!(
            "signature {key:?} refers to subgraph {number} of {}",
            subgraphs.len()
        ));
    };
    let count = subgraph.tensors.len();
    let names = |map: tfl::TensorMap<'_>| {
        let index = i32::try_from(map.tensor_index()).unwrap_or(-1);
        let id = tensor_id("an entry of a signature", index, count)?;
        Ok((map.name().unwrap_or_default().to_owned(), id))
    };
    Ok(SignatureDef {
        subgraph: number,
        inputs: signature
            .inputs()
            .into_iter()
            .flatten()
            .map(names)
            .collect::<Result<_, _>>()?,
        outputs: signature
            .outputs()
            .into_iter()
            .flatten()
            .map(names)
            .collect::<Result<_, _>>()?,
        key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of two subgraphs with one tensor each, of the same buffer, whose bytes lie at `offset`.
    fn behind(offset: u64, bytes: &[u8]) -> Vec<u8> {
        let tensor = tfl::TensorT {
            shape: Some(vec![bytes.len() as i32]),
            type_: tfl::TensorType::UINT8,
            buffer: 1,
            ..tfl::TensorT::default()
        };
        let subgraph = tfl::SubGraphT {
            tensors: Some(vec![tensor]),
            ..tfl::SubGraphT::default()
        };
        let buffer = tfl::BufferT {
            offset,
            size: bytes.len() as u64,
            ..tfl::BufferT::default()
        };
        let model = tfl::ModelT {
            version: 3,
            subgraphs: Some(vec![subgraph.clone(), subgraph]),
            buffers: Some(vec![tfl::BufferT::default(), buffer]),
            ..tfl::ModelT::default()
        };
        let mut fbb = flatbuffers::FlatBufferBuilder::new();
        let root = model.pack(&mut fbb);
        tfl::finish_model_buffer(&mut fbb, root);
        [fbb.finished_data(), bytes].concat()
    }

    #[test]
    fn all_subgraphs_reach_buffers_behind_the_flatbuffer() {
        let bytes = [1, 2, 3, 4, 5];
        let end = behind(2, &bytes).len() - bytes.len();
        let model = Model::read(behind(end as u64, &bytes).into()).unwrap();
        for subgraph in &model.subgraphs {
            assert_eq!(subgraph.tensors[0].data.as_deref(), Some(&bytes[..]));
        }
        assert_eq!(Model::read(model.to_bytes().into()).unwrap(), model);
        assert!(Model::read(behind(end as u64 + 1, &bytes).into()).is_err());
    }

    #[test]
    fn refuses_what_is_no_model() {
        assert!(matches!(
            Model::read(Bytes::from(vec![0; 4])),
            Err(ReadError::Identifier)
        ));
        assert!(Model::read(b"\0\0\0\0TFL3".to_vec().into()).is_err());
        assert!(matches!(
            Model::open("no such file".as_ref()),
            Err(ReadError::File { .. })
        ));
    }
}
