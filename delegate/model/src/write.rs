//! A [`Model`] to `.tflite` bytes: what was read and not changed keeps its meaning, constants
//! that were shared stay shared, and operators get the lowest version that means what they do.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use flatbuffers::{FlatBufferBuilder, Push, PushAlignment, WIPOffset};

use crate::graph::{Model, Node, SignatureDef, Subgraph, TensorId};
use crate::ops::{Op, Signature, Value};
use crate::quant::Quantization;
use crate::schema::tfl;
use crate::tensor::{Bytes, Tensor};

/// A byte of a vector that starts at a multiple of 16, as the format asks of buffers.
struct BufferByte;

impl Push for BufferByte {
    type Output = u8;

    #[expect(unsafe_code, reason = "the trait's signature; nothing here is unsafe")]
    unsafe fn push(&self, _: &mut [u8], _: usize) {}

    fn alignment() -> PushAlignment {
        PushAlignment::new(16)
    }
}

/// Bytes that are copied as one.
struct Chunk<'a>(&'a [u8; CHUNK]);

const CHUNK: usize = 256;

impl Push for Chunk<'_> {
    type Output = [u8; CHUNK];

    #[expect(unsafe_code, reason = "the trait's signature; nothing here is unsafe")]
    unsafe fn push(&self, to: &mut [u8], _: usize) {
        to.copy_from_slice(self.0);
    }

    fn alignment() -> PushAlignment {
        PushAlignment::new(1)
    }
}

type Builder = FlatBufferBuilder<'static>;

impl Model {
    /// The bytes of a `.tflite` file.
    pub fn to_bytes(&self) -> Vec<u8> {
        Writer::default().write(self)
    }

    /// Writes a file: whole or, after an error, not at all. An existing one is replaced.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        save(path, &self.to_bytes())
    }
}

/// Writes `bytes` to a temporary file beside `path`, then renames it; removes it on failure. A link keeps
/// pointing where it does; a device such as `/dev/null` is written to, not replaced.
pub fn save(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if target.exists() && !target.is_file() {
        return File::options().write(true).open(&target)?.write_all(bytes);
    }
    let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = target.with_file_name(temporary);
    let written = File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, &target));
    if written.is_err() {
        // The first error is the one to report; the file may never have been made.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[derive(Default)]
struct Writer {
    /// Buffer 0 is empty, for all that are no constants.
    buffers: Vec<Bytes>,
    /// Where in `buffers` bytes at an address are.
    known: HashMap<(usize, usize), u32>,
    codes: Vec<tfl::OperatorCodeT>,
    code_index: HashMap<(i32, Option<String>, i32), u32>,
}

impl Writer {
    fn write(mut self, model: &Model) -> Vec<u8> {
        self.buffers.push(Vec::new().into());
        let mut fbb = Builder::with_capacity(1 << 16);
        let subgraphs: Vec<_> = model.subgraphs.iter().map(|s| self.subgraph(s)).collect();
        let metadata: Vec<_> = model
            .metadata
            .iter()
            .map(|m| tfl::MetadataT {
                name: Some(m.name.clone()),
                buffer: self.buffer(&m.data),
            })
            .collect();
        let metadata_buffer: Vec<i32> = model
            .metadata_buffers
            .iter()
            .map(|b| self.buffer(b) as i32)
            .collect();
        let signatures: Vec<_> = model.signatures.iter().map(signature).collect();

        let buffers: Vec<_> = self
            .buffers
            .iter()
            .map(|bytes| buffer(&mut fbb, bytes))
            .collect();
        let buffers = fbb.create_vector(&buffers);
        let subgraphs = pack(&mut fbb, &subgraphs, |s, fbb| s.pack(fbb));
        let codes = pack(&mut fbb, &self.codes, |c, fbb| c.pack(fbb));
        let metadata = pack_some(&mut fbb, &metadata, |m, fbb| m.pack(fbb));
        let signature_defs = pack_some(&mut fbb, &signatures, |s, fbb| s.pack(fbb));
        let metadata_buffer =
            (!metadata_buffer.is_empty()).then(|| fbb.create_vector(&metadata_buffer));
        let description = model.description.as_ref().map(|d| fbb.create_string(d));
        let root = tfl::Model::create(
            &mut fbb,
            &tfl::ModelArgs {
                version: 3,
                operator_codes: Some(codes),
                subgraphs: Some(subgraphs),
                description,
                buffers: Some(buffers),
                metadata_buffer,
                metadata,
                signature_defs,
                ..tfl::ModelArgs::default()
            },
        );
        tfl::finish_model_buffer(&mut fbb, root);
        let (mut bytes, start) = fbb.collapse();
        bytes.drain(..start);
        bytes
    }

    /// The index of a buffer with `bytes`, the same for bytes that were shared when read.
    fn buffer(&mut self, bytes: &Bytes) -> u32 {
        let next = self.buffers.len() as u32;
        let index = match bytes.len() {
            0 => next,
            len => *self
                .known
                .entry((bytes.as_ptr() as usize, len))
                .or_insert(next),
        };
        if index == next {
            self.buffers.push(bytes.clone());
        }
        index
    }

    fn subgraph(&mut self, subgraph: &Subgraph) -> tfl::SubGraphT {
        tfl::SubGraphT {
            tensors: Some(subgraph.tensors.iter().map(|t| self.tensor(t)).collect()),
            inputs: Some(indices(&subgraph.inputs)),
            outputs: Some(indices(&subgraph.outputs)),
            operators: Some(
                subgraph
                    .nodes
                    .iter()
                    .map(|n| self.operator(subgraph, n))
                    .collect(),
            ),
            name: (!subgraph.name.is_empty()).then(|| subgraph.name.clone()),
            debug_metadata_index: subgraph.debug_metadata_index,
        }
    }

    fn tensor(&mut self, tensor: &Tensor) -> tfl::TensorT {
        tfl::TensorT {
            shape: Some(tensor.shape.iter().map(|&d| d as i32).collect()),
            type_: tensor.dtype.code(),
            buffer: tensor.data.as_ref().map_or(0, |data| self.buffer(data)),
            name: Some(tensor.name.clone()),
            quantization: tensor.quantization.as_ref().map(quantization),
            is_variable: tensor.is_variable,
            sparsity: tensor.sparsity.clone(),
            shape_signature: tensor.shape_signature.clone(),
            has_rank: tensor.has_rank,
            variant_tensors: tensor.variant_tensors.clone(),
            external_buffer: 0,
        }
    }

    fn operator(&mut self, subgraph: &Subgraph, node: &Node) -> tfl::OperatorT {
        let (builtin_options, builtin_options_2) = node.op.options();
        let custom_options = match &node.op {
            Op::Custom(custom) if !custom.options.is_empty() => Some(custom.options.to_vec()),
            _ => None,
        };
        tfl::OperatorT {
            opcode_index: self.code(&node.op, version(subgraph, node)),
            inputs: Some(
                node.inputs
                    .iter()
                    .map(|i| i.map_or(-1, |i| i.0 as i32))
                    .collect(),
            ),
            outputs: Some(indices(&node.outputs)),
            builtin_options,
            builtin_options_2,
            custom_options,
            mutating_variable_inputs: (!node.mutating_variable_inputs.is_empty())
                .then(|| node.mutating_variable_inputs.clone()),
            intermediates: (!node.intermediates.is_empty()).then(|| indices(&node.intermediates)),
            debug_metadata_index: node.debug_metadata_index,
            ..tfl::OperatorT::default()
        }
    }

    fn code(&mut self, op: &Op, version: i32) -> u32 {
        /// Marks, in the old field of 8 bits, that the new one counts.
        const PLACEHOLDER: i32 = 127;
        let custom_code = match op {
            Op::Custom(custom) => Some(custom.name.clone()),
            _ => None,
        };
        let builtin_code = op.code();
        let next = self.codes.len() as u32;
        let key = (builtin_code.0, custom_code.clone(), version);
        let index = *self.code_index.entry(key).or_insert(next);
        if index == next {
            self.codes.push(tfl::OperatorCodeT {
                deprecated_builtin_code: builtin_code.0.min(PLACEHOLDER) as i8,
                custom_code,
                version,
                builtin_code,
            });
        }
        index
    }
}

/// The version of `node`'s operator: the lowest for what we model, as read for the rest.
pub fn version(subgraph: &Subgraph, node: &Node) -> i32 {
    let value = |id: TensorId| {
        let tensor = &subgraph[id];
        Value {
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            quantization: tensor.quantization.clone(),
            data: tensor.data.clone(),
        }
    };
    match &node.op {
        Op::Opaque(op) => op.version,
        Op::Custom(op) => op.version,
        op => op.operator().map_or(1, |operator| {
            operator.version(&Signature {
                inputs: node.inputs.iter().map(|i| i.map(value)).collect(),
                outputs: node.outputs.iter().copied().map(value).collect(),
                intermediates: node.intermediates.iter().copied().map(value).collect(),
                threads: 1,
                ..Signature::default()
            })
        }),
    }
}

fn indices(ids: &[TensorId]) -> Vec<i32> {
    ids.iter().map(|id| id.0 as i32).collect()
}

fn quantization(q: &Quantization) -> Box<tfl::QuantizationParametersT> {
    Box::new(tfl::QuantizationParametersT {
        min: q.min.clone(),
        max: q.max.clone(),
        scale: (!q.scale.is_empty()).then(|| q.scale.clone()),
        zero_point: (!q.zero_point.is_empty()).then(|| q.zero_point.clone()),
        details: q.details.clone(),
        quantized_dimension: q.axis,
    })
}

fn signature(signature: &SignatureDef) -> tfl::SignatureDefT {
    let names = |list: &[(String, TensorId)]| {
        let map = |(name, id): &(String, TensorId)| tfl::TensorMapT {
            name: Some(name.clone()),
            tensor_index: id.0,
        };
        Some(list.iter().map(map).collect())
    };
    tfl::SignatureDefT {
        inputs: names(&signature.inputs),
        outputs: names(&signature.outputs),
        signature_key: Some(signature.key.clone()),
        deprecated_tag: None,
        subgraph_index: signature.subgraph,
    }
}

type Tables<T> = WIPOffset<flatbuffers::Vector<'static, flatbuffers::ForwardsUOffset<T>>>;

fn pack<S, T>(
    fbb: &mut Builder,
    items: &[S],
    pack: impl Fn(&S, &mut Builder) -> WIPOffset<T>,
) -> Tables<T> {
    let items: Vec<_> = items.iter().map(|item| pack(item, fbb)).collect();
    fbb.create_vector(&items)
}

fn pack_some<S, T>(
    fbb: &mut Builder,
    items: &[S],
    each: impl Fn(&S, &mut Builder) -> WIPOffset<T>,
) -> Option<Tables<T>> {
    (!items.is_empty()).then(|| pack(fbb, items, each))
}

/// A buffer whose data starts at a multiple of 16 bytes.
fn buffer(fbb: &mut Builder, bytes: &[u8]) -> WIPOffset<tfl::Buffer<'static>> {
    let data = (!bytes.is_empty()).then(|| {
        fbb.start_vector::<BufferByte>(bytes.len());
        // The builder writes from the end to the start.
        let (chunks, rest) = bytes.as_chunks::<CHUNK>();
        for &byte in rest.iter().rev() {
            fbb.push(byte);
        }
        for chunk in chunks.iter().rev() {
            fbb.push(Chunk(chunk));
        }
        fbb.end_vector::<u8>(bytes.len())
    });
    tfl::Buffer::create(
        fbb,
        &tfl::BufferArgs {
            data,
            ..tfl::BufferArgs::default()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn a_model_survives_writing_and_reading() {
        let mut subgraph = Subgraph {
            name: "main".into(),
            debug_metadata_index: -1,
            ..Subgraph::default()
        };
        let weights = Bytes::from((0..1000).map(|v| v as u8).collect::<Vec<_>>());
        let a = subgraph.add_tensor(Tensor::constant("a", DType::U8, [1000], weights.clone()));
        subgraph.add_tensor(Tensor::constant("b", DType::U8, [10, 100], weights));
        let out = subgraph.add_tensor(Tensor::new("out", DType::U8, [1000]));
        let op = crate::ops::Reshape {
            new_shape: Some(vec![1000]),
        };
        subgraph.nodes.push(Node::new(op, &[a], &[out]));
        subgraph.outputs.push(out);
        let model = Model {
            description: Some("test".into()),
            subgraphs: vec![subgraph],
            ..Model::default()
        };
        let bytes = model.to_bytes();
        assert!(bytes.len() < 2000, "shared bytes are written once");
        let read = Model::read(Bytes::from(bytes)).unwrap();
        assert_eq!(read, model);
    }
}
