//! What users bring as data becomes samples for a model's inputs.
//!
//! [`Samples::open`] guesses the kind of data from the path (an array, an archive of arrays, a folder, a list,
//! raw bytes), checks it against the inputs and prints in one line what it took it for. [`Samples::get`] gives
//! one sample in the model's own element types. Only what is asked for is decoded, so that a folder or an
//! array may be larger than memory.

use std::fmt;
use std::path::{Path, PathBuf};

mod array;
mod convert;
mod element;
mod error;
mod files;
mod images;
mod labels;
mod names;
mod npy;
mod npz;
mod preprocess;
mod source;
mod write;

pub use element::ElementType;
pub use error::SampleError;
pub use labels::{LabelError, Labels, packed_classes};
pub use names::Names;
pub use preprocess::{ChannelOrder, Normalize, Preprocess, Resize};
pub use source::array_shapes;
pub use write::{Tensor, read_npy, read_npz, write_npy, write_npz};

use array::Axis;
use convert::{Treatment, convert};
use element::{Dims, byte_len};
use source::Source;

/// One input of the model that is to be fed.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// The tensor's name.
    pub name: String,
    /// Shape of one sample as the model takes it, with its batch axis of 1: `[1, 224, 224, 3]`.
    pub shape: Vec<usize>,
    /// Type of its elements.
    pub dtype: ElementType,
    /// Scale and zero point, if the input is quantized; a scale that is not above 0 counts as none.
    pub quantization: Option<(f32, i64)>,
}

impl InputSpec {
    fn usable_quantization(&self) -> Option<(f32, i64)> {
        self.quantization
            .filter(|(scale, _)| scale.is_finite() && *scale > 0.0)
    }
}

/// What a path was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A `.npy` file.
    Npy,
    /// An `.npz` file.
    Npz,
    /// One picture, a folder of them, or one for each class.
    Images,
    /// A folder of `.npy` files, each one sample.
    NpyFolder,
    /// A text file of paths, each one sample.
    List,
    /// A file of elements of the input's type, in this machine's byte order.
    Raw,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Npy => "npy",
            Self::Npz => "npz",
            Self::Images => "images",
            Self::NpyFolder => "npy folder",
            Self::List => "list",
            Self::Raw => "raw",
        })
    }
}

/// Samples for the inputs of one model. Any number of threads may [`get`](Self::get) at once.
///
/// How a value reaches an input depends on the two element types:
///
/// * a float input: converted to float32, then [`Normalize`]d;
/// * an integer input, data of the very same type: as stored, neither normalized nor quantized;
/// * a quantized input, data of another type: taken as real values (a pixel is 0 to 255), normalized, then
///   quantized with the input's scale and zero point, halves away from zero, clamped. So pixels for an int8
///   input need the normalization that the float model had;
/// * an integer input without quantization (ids, flags): whole numbers that exist in its type, or an error.
///
/// Infinity and NaN are errors. The shape of a sample is that of the input but for axes of length 1, or
/// flattened; the same axes in another order are an error.
#[derive(Debug)]
pub struct Samples {
    inputs: Vec<InputSpec>,
    preprocess: Preprocess,
    kind: Kind,
    /// Element type of the data of each input; for files, by the first of them.
    data_types: Vec<ElementType>,
    source: Source,
}

impl Samples {
    /// Opens `path` as many samples: the first axis of an array counts them. At most `limit` are used, the
    /// first ones in the order of the array, the list, or the file names as people count (`9` before `10`).
    ///
    /// # Errors
    ///
    /// The data cannot be read, holds no samples, or does not fit the inputs. Of a folder or a list, the
    /// first file is decoded here, the others when asked for.
    pub fn open(
        path: &Path,
        inputs: &[InputSpec],
        preprocess: &Preprocess,
        limit: Option<usize>,
    ) -> Result<Self, SampleError> {
        Self::open_as(
            path,
            inputs,
            preprocess,
            Axis::Samples(limit.unwrap_or(usize::MAX)),
        )
    }

    /// Opens `path` as tensors that are fed as they are: an array, an entry or a raw file is one sample. A
    /// folder or a list still has one a file.
    ///
    /// # Errors
    ///
    /// Those of [`Samples::open`].
    pub fn open_single(
        path: &Path,
        inputs: &[InputSpec],
        preprocess: &Preprocess,
    ) -> Result<Self, SampleError> {
        Self::open_as(path, inputs, preprocess, Axis::Single)
    }

    fn open_as(
        path: &Path,
        inputs: &[InputSpec],
        preprocess: &Preprocess,
        axis: Axis,
    ) -> Result<Self, SampleError> {
        preprocess.normalize.check()?;
        if inputs.is_empty() {
            return Err(SampleError::InputCount {
                path: path.to_owned(),
                inputs: 0,
            });
        }
        for input in inputs {
            if byte_len(&input.shape, input.dtype).is_none_or(|n| n == 0) {
                return Err(SampleError::InputShape {
                    input: input.name.clone(),
                    shape: input.shape.clone(),
                });
            }
        }
        let (kind, source) = Source::open(path, inputs, axis)?;
        let (inputs, preprocess) = (inputs.to_vec(), *preprocess);
        let mut samples = Self {
            inputs,
            preprocess,
            kind,
            data_types: vec![],
            source,
        };
        // Bad data should stop a long run at its start.
        let first = samples
            .source
            .load(0, &samples.inputs, &samples.preprocess)?;
        samples.data_types = first.iter().map(|(dtype, _)| *dtype).collect();
        samples.convert(first, 0)?;
        Ok(samples)
    }

    /// How many samples there are, at least one.
    #[expect(
        clippy::len_without_is_empty,
        reason = "it is never empty: opening nothing is an error"
    )]
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// The names of the files, where each is one sample: below the folder or beside the list that was opened,
    /// with `/` between folders.
    pub fn names(&self) -> Option<Vec<String>> {
        let files = self.source.files()?;
        let name = |path: &PathBuf| {
            let path = path.strip_prefix(&files.base).unwrap_or(path);
            let parts = path
                .components()
                .map(|part| part.as_os_str().to_string_lossy());
            parts.collect::<Vec<_>>().join("/")
        };
        Some(files.paths.iter().map(name).collect())
    }

    /// The names of the folders that hold the samples of one class each, in the order of their code points, which
    /// is how trainers number them; empty where the samples lie otherwise.
    pub fn class_folders(&self) -> &[String] {
        self.source.files().map_or(&[], |files| &files.classes)
    }

    /// What the path was taken for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// One line for the user: `npy: 100 samples of 224x224x3 uint8; x*0.007843138-1`.
    pub fn describe(&self) -> String {
        let mut parts = vec![];
        for (index, (input, &dtype)) in self.inputs.iter().zip(&self.data_types).enumerate() {
            let name = if self.inputs.len() == 1 {
                String::new()
            } else {
                format!("{}: ", input.name)
            };
            let shape = Dims(self.source.sample_shape(index, input));
            let treatment = Treatment::of(dtype, input, self.preprocess.normalize);
            parts.push(format!(
                "{name}{shape} {dtype}; {}",
                treatment.describe(input.dtype)
            ));
        }
        let plural = if self.len() == 1 { "sample" } else { "samples" };
        let folders = match self.class_folders().len() {
            0 => String::new(),
            count => format!(" in {count} folders"),
        };
        let mut line = format!(
            "{}{folders}: {} {plural} of {}",
            self.kind,
            self.len(),
            parts.join(", ")
        );
        if self.source.has_images() {
            let Preprocess {
                channel_order,
                resize,
                ..
            } = self.preprocess;
            line += &format!("; {channel_order}; resize {resize}");
        }
        line
    }

    /// What looks like a mistake though it can be fed: uint8 data (pixels) that a float input takes as 0 to
    /// 255, or whose values a quantized input would clamp for the most part. One line each, mostly none.
    pub fn warnings(&self) -> Vec<String> {
        let data = self
            .inputs
            .iter()
            .zip(&self.data_types)
            .filter(|(_, dtype)| **dtype == ElementType::U8);
        data.filter_map(|(input, &dtype)| {
            Treatment::of(dtype, input, self.preprocess.normalize).pixel_warning(input)
        })
        .collect()
    }

    /// The preprocessing that the samples were opened with.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Sample `index`: for each input its native-endian bytes in the model's own element type.
    ///
    /// # Errors
    ///
    /// There is no such sample, its file cannot be read or does not fit, or it has a value that the input
    /// cannot take.
    pub fn get(&self, index: usize) -> Result<Vec<Vec<u8>>, SampleError> {
        self.convert(
            self.source.load(index, &self.inputs, &self.preprocess)?,
            index,
        )
    }

    fn convert(
        &self,
        raw: Vec<(ElementType, Vec<u8>)>,
        index: usize,
    ) -> Result<Vec<Vec<u8>>, SampleError> {
        let normalize = self.preprocess.normalize;
        let inputs = self.inputs.iter().zip(raw);
        inputs
            .map(|(input, (dtype, bytes))| convert(bytes, dtype, input, normalize, index))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    pub(super) fn input(name: &str, shape: &[usize], dtype: ElementType) -> InputSpec {
        InputSpec {
            name: name.into(),
            shape: shape.to_vec(),
            dtype,
            quantization: None,
        }
    }

    pub(super) fn half() -> Preprocess {
        Preprocess {
            normalize: Normalize::ScaleBias {
                scale: 0.5,
                bias: -1.0,
            },
            ..Preprocess::default()
        }
    }

    pub(super) fn floats(bytes: &[u8]) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(bytes)
    }

    #[test]
    fn an_array_holds_samples_along_its_first_axis() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        write_npy(&path, &[3, 1, 2], ElementType::U8, &[0, 1, 2, 3, 4, 5]).unwrap();
        let inputs = [input("x", &[1, 1, 2, 1], ElementType::F32)];
        let samples = Samples::open(&path, &inputs, &half(), None).unwrap();
        assert_eq!((samples.len(), samples.kind()), (3, Kind::Npy));
        assert_eq!(samples.describe(), "npy: 3 samples of 1x2 uint8; x*0.5-1");
        assert_eq!(floats(&samples.get(2).unwrap()[0]), [1.0, 1.5]);
        assert!(matches!(
            samples.get(3),
            Err(SampleError::Index { index: 3, len: 3 })
        ));
        assert_eq!(
            Samples::open(&path, &inputs, &half(), Some(2))
                .unwrap()
                .len(),
            2
        );
        let none = Samples::open(&path, &inputs, &half(), Some(0));
        assert!(matches!(none, Err(SampleError::NoSamples { .. })));

        let whole = [input("x", &[1, 6], ElementType::U8)];
        let single = Samples::open_single(&path, &whole, &half()).unwrap();
        assert_eq!(single.get(0).unwrap(), [[0, 1, 2, 3, 4, 5]]);
        assert_eq!(single.describe(), "npy: 1 sample of 3x1x2 uint8; as stored");
    }

    #[test]
    fn an_archive_feeds_inputs_by_name_or_position() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npz");
        let ids = [7i64, 8, 9].iter().flat_map(|x| x.to_ne_bytes()).collect();
        write_npz(
            &path,
            &[
                ("arr_1", vec![3], ElementType::I64, ids),
                (
                    "image:0",
                    vec![3, 2],
                    ElementType::U8,
                    vec![0, 1, 2, 3, 4, 5],
                ),
                ("unused", vec![0], ElementType::U8, vec![]),
            ],
        )
        .unwrap();
        let inputs = [
            input("image:0", &[1, 2], ElementType::F32),
            input("ids", &[1], ElementType::I32),
        ];
        let samples = Samples::open(&path, &inputs, &half(), None).unwrap();
        let last = samples.get(2).unwrap();
        assert_eq!(
            (floats(&last[0]), &last[1][..]),
            (vec![1.0, 1.5], &9i32.to_ne_bytes()[..])
        );
        assert_eq!(
            samples.describe(),
            "npz: 3 samples of image:0: 2 uint8; x*0.5-1, ids: scalar int64; whole numbers as int32"
        );

        let three = [&inputs[..], &[input("mask", &[1], ElementType::F32)]].concat();
        let error = Samples::open(&path, &three, &half(), None).unwrap_err();
        assert!(error.to_string().contains("`image:0`"), "{error}");
        let short = [
            input("image:0", &[1, 2], ElementType::F32),
            input("unused", &[1], ElementType::U8),
        ];
        assert!(Samples::open(&path, &short, &half(), None).is_err());
    }

    #[test]
    fn threads_get_samples_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        let values: Vec<u8> = (0..=255).flat_map(|x| [x; 64]).collect();
        write_npy(&path, &[256, 64], ElementType::U8, &values).unwrap();
        let samples = Samples::open(
            &path,
            &[input("x", &[1, 64], ElementType::U8)],
            &half(),
            None,
        )
        .unwrap();
        assert!(
            (0..256)
                .into_par_iter()
                .all(|i| samples.get(i).unwrap()[0] == [i as u8; 64])
        );
    }

    #[test]
    fn refuses_what_cannot_be_fed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        write_npy(
            &path,
            &[2],
            ElementType::F32,
            bytemuck::cast_slice(&[1.0, f32::NAN]),
        )
        .unwrap();
        let two = ["a", "b"].map(|name| input(name, &[1], ElementType::F32));
        let open = |path: &Path, inputs: &[InputSpec]| {
            Samples::open(path, inputs, &Preprocess::default(), None)
        };
        assert!(matches!(
            open(&path, &two),
            Err(SampleError::InputCount { inputs: 2, .. })
        ));
        assert!(matches!(
            open(&path, &[]),
            Err(SampleError::InputCount { inputs: 0, .. })
        ));
        assert!(matches!(
            open(dir.path().join("no.npy").as_path(), &two[..1]),
            Err(SampleError::Read { .. })
        ));
        let samples = open(&path, &two[..1]).unwrap();
        assert!(matches!(
            samples.get(1),
            Err(SampleError::NotFinite { sample: 1, .. })
        ));
        for shape in [vec![1, 0], vec![usize::MAX, 8]] {
            let error = open(&path, &[input("x", &shape, ElementType::F32)]).unwrap_err();
            assert!(matches!(error, SampleError::InputShape { .. }), "{error}");
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(
            open(empty.path(), &two[..1]),
            Err(SampleError::NoSamples { .. })
        ));
    }
}
