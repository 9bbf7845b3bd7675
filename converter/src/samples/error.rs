//! What can be wrong with the data a user brings.

use std::io;
use std::path::{Path, PathBuf};

use zip::result::ZipError;

use super::{ElementType, element::Dims};

/// Why samples could not be opened, read, converted or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The file or folder cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// What was read.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The `.npz` file is not a readable archive.
    #[error("{path} is not a readable .npz archive")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The archive reader's reason.
        #[source]
        source: io::Error,
    },
    /// The picture cannot be decoded.
    #[error("{path} is not a readable image")]
    Image {
        /// The picture.
        path: PathBuf,
        /// The decoder's reason.
        #[source]
        source: image::ImageError,
    },
    /// The `.npy` header is not one that numpy writes.
    #[error("{path} has no valid .npy header: {reason}")]
    Header {
        /// The file, or the archive and its entry.
        path: PathBuf,
        /// What the header lacks.
        reason: &'static str,
    },
    /// The header promises more data than there is.
    #[error(
        "{path} is truncated: its header promises {expected} bytes of data, {actual} are there"
    )]
    Truncated {
        /// The file, or the archive and its entry.
        path: PathBuf,
        /// Bytes of data by the header; [`u64::MAX`] if beyond any file.
        expected: u64,
        /// Bytes of data present.
        actual: u64,
    },
    /// The array's elements are of a kind no model takes (complex, text, records, objects).
    #[error("{path} holds elements of numpy type {descr}, which no model takes")]
    ArrayType {
        /// The file, or the archive and its entry.
        path: PathBuf,
        /// The `descr` of the header.
        descr: String,
    },
    /// The array is stored column by column.
    #[error("{path} is in Fortran order; save it again with numpy.ascontiguousarray")]
    FortranOrder {
        /// The file, or the archive and its entry.
        path: PathBuf,
    },
    /// A compressed entry is too large to unpack into memory.
    #[error(
        "{path} unpacks to {size} bytes, the limit is {limit}; limit the samples or save with numpy.savez"
    )]
    TooLarge {
        /// The archive and its entry.
        path: PathBuf,
        /// Bytes needed.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A sample does not have the input's shape.
    #[error(
        "a sample of {path} is {}, input {input} takes {}{hint}",
        Dims(found),
        Dims(expected)
    )]
    Shape {
        /// The file, or the archive and its entry.
        path: PathBuf,
        /// The model's input.
        input: String,
        /// Shape of one sample in the file.
        found: Vec<usize>,
        /// Shape of the input.
        expected: Vec<usize>,
        /// What may be the cause, starting with `; `, or empty.
        hint: &'static str,
    },
    /// The model's input has a shape without elements or beyond memory.
    #[error("input {input} has the shape {}, which holds no sample", Dims(shape))]
    InputShape {
        /// The model's input.
        input: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Pictures cannot feed an input of this shape.
    #[error(
        "input {input} has the shape {}, an image needs height, width and 1 or 3 channels",
        Dims(shape)
    )]
    NotImageInput {
        /// The model's input.
        input: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The picture does not have the input's size, and resizing was not asked for.
    #[error("{path} is {} wide and {} high, the input takes {} by {}; resize with fit or crop", found.0, found.1, expected.0, expected.1)]
    ImageSize {
        /// The picture.
        path: PathBuf,
        /// Its width and height.
        found: (usize, usize),
        /// The input's width and height.
        expected: (usize, usize),
    },
    /// One array cannot feed a model of several inputs.
    #[error(
        "{path} feeds one input, the model has {inputs}; bring an .npz with one entry an input"
    )]
    InputCount {
        /// What was opened.
        path: PathBuf,
        /// How many inputs the model has.
        inputs: usize,
    },
    /// The archive has nothing for an input.
    #[error(
        "{path} has no entry for input {input}: neither `{input}` nor `{position}`; it holds {}",
        found.join(", ")
    )]
    MissingEntry {
        /// The archive.
        path: PathBuf,
        /// The model's input.
        input: String,
        /// Its position.
        position: usize,
        /// The entries of the archive.
        found: Vec<String>,
    },
    /// The archive has nothing that an output could be judged by.
    #[error("{path} has neither an entry `{output}` nor `0`, and not one alone; it holds {}", found.join(", "))]
    MissingLabels {
        /// The archive.
        path: PathBuf,
        /// The model's output.
        output: String,
        /// The entries of the archive.
        found: Vec<String>,
    },
    /// The entries of an archive differ in their first axis.
    #[error("{path} has {found} samples for input {input} and {expected} for the one before")]
    SampleCount {
        /// The archive.
        path: PathBuf,
        /// The model's input.
        input: String,
        /// Samples for this input.
        found: usize,
        /// Samples for the inputs before.
        expected: usize,
    },
    /// There is nothing to feed.
    #[error("{path} holds no samples")]
    NoSamples {
        /// What was opened.
        path: PathBuf,
    },
    /// A folder holds both pictures and arrays.
    #[error("{path} holds both images ({image}) and arrays ({array})")]
    MixedFolder {
        /// The folder.
        path: PathBuf,
        /// One of the pictures.
        image: String,
        /// One of the arrays.
        array: String,
    },
    /// A raw file's size is not that of whole samples.
    #[error(
        "{path} has {size} bytes, which is not {expected} bytes ({} {dtype}) a sample",
        Dims(shape)
    )]
    RawSize {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// Bytes of one sample.
        expected: u64,
        /// Shape of the input.
        shape: Vec<usize>,
        /// Element type of the input.
        dtype: ElementType,
    },
    /// A list or a folder names a file that is not one sample.
    #[error("{path} is in a list of samples and is itself a list or a folder")]
    NestedList {
        /// The file in the list.
        path: PathBuf,
    },
    /// A value is infinite or not a number, or becomes so in the input's type.
    #[error("sample {sample} has the value {value} in input {input}, no finite {dtype}")]
    NotFinite {
        /// Index of the sample.
        sample: usize,
        /// The model's input.
        input: String,
        /// The value after preprocessing.
        value: f64,
        /// Element type of the input.
        dtype: ElementType,
    },
    /// A value does not exist in the input's integer type, which has no quantization.
    #[error("sample {sample} has the value {value} in input {input}, which takes {dtype}")]
    Unrepresentable {
        /// Index of the sample.
        sample: usize,
        /// The model's input.
        input: String,
        /// The value.
        value: f64,
        /// Element type of the input.
        dtype: ElementType,
    },
    /// A sample was asked for that does not exist.
    #[error("there is no sample {index} among {len}")]
    Index {
        /// The index asked for.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// The preprocessing has a number that makes no sense.
    #[error("preprocessing {what} is {value}")]
    Preprocess {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: f32,
    },
    /// The bytes to be written are not those of the shape and type.
    #[error(
        "entry {name} has {actual} bytes, {} {dtype} needs {expected}",
        Dims(shape)
    )]
    EntrySize {
        /// Name of the entry.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its element type.
        dtype: ElementType,
        /// Bytes of that shape and type; [`u64::MAX`] if beyond memory.
        expected: u64,
        /// Bytes given.
        actual: u64,
    },
    /// Whoever gives the samples wants no more of them to be asked for.
    #[error("the source of the samples stopped")]
    Cancelled,
}

impl SampleError {
    /// For `map_err` after reading from `path`.
    pub(super) fn reading(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    /// For `map_err` after reading the archive at `path`.
    pub(super) fn archive(path: &Path) -> impl Fn(ZipError) -> Self {
        |source| Self::Archive {
            path: path.to_owned(),
            source: source.into(),
        }
    }
}
