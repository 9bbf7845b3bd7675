//! Where samples lie: in arrays, one an input, or in files, one a sample.

use std::path::Path;

use super::array::{Array, Axis};
use super::files::{self, FileKind, Files};
use super::npz::open_npz;
use super::{ElementType, InputSpec, Kind, Preprocess, SampleError, images};

/// The data that a path stands for.
#[derive(Debug)]
pub(super) enum Source {
    /// All of the same number of samples, at least one array.
    Arrays(Vec<Array>),
    /// At least one.
    Files(Files),
}

impl Source {
    /// Takes `path` for what it most likely is, and checks arrays against the inputs that they feed.
    pub(super) fn open(
        path: &Path,
        inputs: &[InputSpec],
        axis: Axis,
    ) -> Result<(Kind, Self), SampleError> {
        let limit = if let Axis::Samples(limit) = axis {
            limit
        } else {
            usize::MAX
        };
        let arrays = |kind| Ok((kind, Self::Arrays(open_arrays(path, inputs, axis)?)));
        let base = || path.parent().unwrap_or(Path::new("")).to_owned();
        let files = |kind, paths| Files {
            kind,
            paths,
            base: base(),
            classes: vec![],
        };
        let mut files = match FileKind::of(path) {
            _ if path.is_dir() => files::folder(path)?,
            FileKind::List => files(Kind::List, files::list(path, limit)?),
            FileKind::Image => files(Kind::Images, vec![path.to_owned()]),
            FileKind::Npy => return arrays(Kind::Npy),
            FileKind::Npz => return arrays(Kind::Npz),
            FileKind::Raw => return arrays(Kind::Raw),
        };
        files.paths.truncate(limit);
        if files.paths.is_empty() {
            return Err(SampleError::NoSamples {
                path: path.to_owned(),
            });
        }
        Ok((files.kind, Self::Files(files)))
    }

    /// The files, where each is one sample.
    pub(super) fn files(&self) -> Option<&Files> {
        match self {
            Self::Arrays(_) => None,
            Self::Files(files) => Some(files),
        }
    }

    /// How many samples there are, at least one.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Arrays(arrays) => arrays.first().map_or(0, |array| array.layout.samples),
            Self::Files(files) => files.paths.len(),
        }
    }

    /// Shape of the data for input `index`, which is `input`.
    pub(super) fn sample_shape<'a>(&'a self, index: usize, input: &'a InputSpec) -> &'a [usize] {
        match self {
            Self::Arrays(arrays) => arrays
                .get(index)
                .map_or(&input.shape, |array| &array.layout.sample_shape),
            Self::Files(_) => input.shape.strip_prefix(&[1]).unwrap_or(&input.shape),
        }
    }

    /// Whether any sample is a picture.
    pub(super) fn has_images(&self) -> bool {
        match self {
            Self::Arrays(_) => false,
            Self::Files(files) => files
                .paths
                .iter()
                .any(|file| FileKind::of(file) == FileKind::Image),
        }
    }

    /// Sample `index` as stored: for each input the type and the native-endian bytes.
    pub(super) fn load(
        &self,
        index: usize,
        inputs: &[InputSpec],
        preprocess: &Preprocess,
    ) -> Result<Vec<(ElementType, Vec<u8>)>, SampleError> {
        match self {
            Self::Arrays(arrays) => read_all(arrays, index),
            Self::Files(files) => {
                let path = files.paths.get(index).ok_or(SampleError::Index {
                    index,
                    len: files.paths.len(),
                })?;
                if FileKind::of(path) == FileKind::Image {
                    let input = only_input(path, inputs)?;
                    return Ok(vec![(
                        ElementType::U8,
                        images::read(path, input, preprocess)?,
                    )]);
                }
                read_all(&open_arrays(path, inputs, Axis::Single)?, 0)
            }
        }
    }
}

fn read_all(arrays: &[Array], index: usize) -> Result<Vec<(ElementType, Vec<u8>)>, SampleError> {
    arrays
        .iter()
        .map(|array| Ok((array.layout.dtype, array.read(index)?)))
        .collect()
}

/// The shapes of the arrays that `path` holds for `inputs`, as they are in the file, so that a model can
/// be resized to them; `None` for pictures, folders, lists and raw files, which have the input's shape.
///
/// # Errors
///
/// The file cannot be read, or has no array for one of the inputs.
pub fn array_shapes(
    path: &Path,
    inputs: &[InputSpec],
) -> Result<Vec<Option<Vec<usize>>>, SampleError> {
    let arrays = match FileKind::of(path) {
        _ if path.is_dir() => return Ok(vec![None; inputs.len()]),
        FileKind::Npz => open_npz(path, inputs, Axis::Single)?,
        FileKind::Npy => {
            only_input(path, inputs)?;
            vec![Array::open_npy(path, Axis::Single)?]
        }
        _ => return Ok(vec![None; inputs.len()]),
    };
    let shapes = arrays
        .into_iter()
        .map(|array| Some(array.layout.sample_shape));
    Ok(shapes.collect())
}

/// Opens a file of arrays, one an input, and checks that they fit.
fn open_arrays(path: &Path, inputs: &[InputSpec], axis: Axis) -> Result<Vec<Array>, SampleError> {
    let arrays = match FileKind::of(path) {
        FileKind::Npz => open_npz(path, inputs, axis)?,
        FileKind::Npy => {
            only_input(path, inputs)?;
            vec![Array::open_npy(path, axis)?]
        }
        _ => vec![Array::open_raw(path, only_input(path, inputs)?, axis)?],
    };
    let expected = arrays.first().map_or(0, |array| array.layout.samples);
    for (array, input) in arrays.iter().zip(inputs) {
        array.check_shape(input)?;
        let found = array.layout.samples;
        if found != expected {
            let (path, input) = (path.to_owned(), input.name.clone());
            return Err(SampleError::SampleCount {
                path,
                input,
                found,
                expected,
            });
        }
    }
    Ok(arrays)
}

fn only_input<'a>(path: &Path, inputs: &'a [InputSpec]) -> Result<&'a InputSpec, SampleError> {
    match inputs {
        [input] => Ok(input),
        _ => Err(SampleError::InputCount {
            path: path.to_owned(),
            inputs: inputs.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{Rgb, RgbImage};

    use super::super::tests::{floats, half, input};
    use super::super::{Samples, write_npy, write_npz};
    use super::*;

    #[test]
    fn entries_must_agree_in_their_number_of_samples() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npz");
        let entries = [
            ("0", vec![2], ElementType::U8, vec![1, 2]),
            ("1", vec![1], ElementType::U8, vec![3]),
        ];
        write_npz(&path, &entries).unwrap();
        let inputs = ["a", "b"].map(|name| input(name, &[1], ElementType::U8));
        let error = Samples::open(&path, &inputs, &half(), None).unwrap_err();
        assert!(
            matches!(
                error,
                SampleError::SampleCount {
                    found: 1,
                    expected: 2,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(
            Samples::open(&path, &inputs, &half(), Some(1))
                .unwrap()
                .get(0)
                .unwrap(),
            [[1], [3]]
        );
    }

    #[test]
    fn folders_and_lists_hold_one_sample_a_file() {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in [("10.png", 10), ("9.png", 9)] {
            RgbImage::from_pixel(2, 1, Rgb([value; 3]))
                .save(dir.path().join(name))
                .unwrap();
        }
        let inputs = [input("x", &[1, 1, 2, 3], ElementType::F32)];
        let samples = Samples::open(dir.path(), &inputs, &half(), None).unwrap();
        assert_eq!(
            samples.describe(),
            "images: 2 samples of 1x2x3 uint8; x*0.5-1; rgb; resize exact"
        );
        assert_eq!(floats(&samples.get(0).unwrap()[0]), [3.5; 6]);
        let one = Samples::open(&dir.path().join("10.png"), &inputs, &half(), None).unwrap();
        assert_eq!(floats(&one.get(0).unwrap()[0]), [4.0; 6]);

        let arrays = dir.path().join("arrays");
        fs::create_dir(&arrays).unwrap();
        write_npy(&arrays.join("a.npy"), &[1, 2, 3], ElementType::U8, &[4; 6]).unwrap();
        let samples = Samples::open(&arrays, &inputs, &half(), None).unwrap();
        assert_eq!(
            samples.describe(),
            "npy folder: 1 sample of 1x2x3 uint8; x*0.5-1"
        );

        let list = dir.path().join("list.txt");
        fs::write(dir.path().join("raw.bin"), bytemuck::cast_slice(&[6f32; 6])).unwrap();
        fs::write(&list, "10.png\narrays/a.npy\nraw.bin\n").unwrap();
        let samples = Samples::open(&list, &inputs, &half(), None).unwrap();
        let values: Vec<f32> = (0..3)
            .map(|i| floats(&samples.get(i).unwrap()[0])[0])
            .collect();
        assert_eq!((samples.kind(), values), (Kind::List, vec![4.0, 1.0, 2.0]));
    }

    #[test]
    fn raw_files_are_whole_samples() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bin");
        let inputs = [input("x", &[1, 2], ElementType::I16)];
        for (size, samples) in [(8, Some(2)), (4, Some(1)), (0, None), (6, None), (9, None)] {
            fs::write(&path, vec![1; size]).unwrap();
            let opened = Samples::open(&path, &inputs, &half(), None);
            assert_eq!(opened.ok().map(|s| s.len()), samples, "{size}");
            let single = Samples::open_single(&path, &inputs, &half());
            assert_eq!(single.is_ok(), size == 4, "{size}");
        }
        fs::write(&path, vec![1; 6]).unwrap();
        let error = Samples::open(&path, &inputs, &half(), None)
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("x.bin has 6 bytes, which is not 4 bytes (1x2 int16) a sample"),
            "{error}"
        );
    }
}
