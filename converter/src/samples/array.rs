//! An array of samples in a file, read one sample at a time.
//!
//! An uncompressed array stays in its file and each sample is read where it lies, so that memory does not
//! grow with the data. A compressed `.npz` entry has no such place: it is unpacked into memory as far as needed.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::element::{byte_len, elements};
use super::npy::Header;
use super::{ElementType, InputSpec, SampleError};

/// Most that compressed entries are unpacked to.
const MAX_UNPACKED: u64 = 2 << 30;

/// How an array's first axis is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Axis {
    /// The array is one sample.
    Single,
    /// The first axis counts the samples, of which at most so many are used.
    Samples(usize),
}

/// Samples for one input, all of one shape and type.
#[derive(Debug)]
pub(super) struct Array {
    /// The file; of an archive, with the entry's name appended.
    pub(super) path: PathBuf,
    pub(super) layout: Layout,
    store: Store,
}

#[derive(Debug)]
enum Store {
    File { file: Mutex<File>, offset: u64 },
    Memory(Vec<u8>),
}

impl Array {
    /// Opens a `.npy` file.
    pub(super) fn open_npy(path: &Path, axis: Axis) -> Result<Self, SampleError> {
        let file = File::open(path).map_err(SampleError::reading(path))?;
        let header = Header::read(&mut BufReader::new(&file), path)?;
        Self::in_file(path.to_owned(), header, axis, file, 0, u64::MAX)
    }

    /// Opens a file of nothing but elements of the input's type, in this machine's byte order.
    pub(super) fn open_raw(
        path: &Path,
        input: &InputSpec,
        axis: Axis,
    ) -> Result<Self, SampleError> {
        let file = File::open(path).map_err(SampleError::reading(path))?;
        let size = file.metadata().map_err(SampleError::reading(path))?.len();
        let expected = byte_len(&input.shape, input.dtype).unwrap_or(usize::MAX) as u64;
        let samples = size / expected.max(1);
        if samples * expected != size || (axis == Axis::Single && samples != 1) {
            return Err(SampleError::RawSize {
                path: path.to_owned(),
                size,
                expected,
                shape: input.shape.clone(),
                dtype: input.dtype,
            });
        }
        let mut shape = input.shape.clone();
        if axis != Axis::Single {
            shape.insert(0, samples as usize);
        }
        let header = Header {
            dtype: input.dtype,
            swapped: false,
            shape,
            len: 0,
        };
        Self::in_file(path.to_owned(), header, axis, file, 0, u64::MAX)
    }

    /// An array that lies in `file` as numpy wrote it: `header` at `start`, the data behind it, `size` bytes
    /// in all if the file does not end before.
    pub(super) fn in_file(
        path: PathBuf,
        header: Header,
        axis: Axis,
        file: File,
        start: u64,
        size: u64,
    ) -> Result<Self, SampleError> {
        let file_size = file.metadata().map_err(SampleError::reading(&path))?.len();
        let offset = start.saturating_add(header.len);
        let end = start.saturating_add(size).min(file_size);
        let layout = Layout::new(&path, header, axis, end.saturating_sub(offset))?;
        let store = Store::File {
            file: Mutex::new(file),
            offset,
        };
        Ok(Self {
            path,
            layout,
            store,
        })
    }

    /// An array whose elements come out of `data`, which is said to give `available` bytes.
    pub(super) fn unpacked(
        path: PathBuf,
        header: Header,
        axis: Axis,
        data: impl Read,
        available: u64,
    ) -> Result<Self, SampleError> {
        let layout = Layout::new(&path, header, axis, available)?;
        let size = layout.sample_bytes as u64 * layout.samples as u64;
        if size > MAX_UNPACKED {
            return Err(SampleError::TooLarge {
                path,
                size,
                limit: MAX_UNPACKED,
            });
        }
        let mut bytes = vec![];
        match data.take(size).read_to_end(&mut bytes) {
            Err(source) => Err(SampleError::Archive { path, source }),
            Ok(read) if (read as u64) < size => Err(SampleError::Truncated {
                path,
                expected: size,
                actual: read as u64,
            }),
            Ok(_) => Ok(Self {
                path,
                layout,
                store: Store::Memory(bytes),
            }),
        }
    }

    /// The elements of sample `index`, in this machine's byte order.
    pub(super) fn read(&self, index: usize) -> Result<Vec<u8>, SampleError> {
        let out_of_range = SampleError::Index {
            index,
            len: self.layout.samples,
        };
        if index >= self.layout.samples {
            return Err(out_of_range);
        }
        let start = index * self.layout.sample_bytes;
        let mut bytes = match &self.store {
            Store::Memory(data) => data
                .get(start..start + self.layout.sample_bytes)
                .ok_or(out_of_range)?
                .to_vec(),
            Store::File { file, offset } => {
                let mut bytes = vec![0; self.layout.sample_bytes];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(offset + start as u64))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .map_err(SampleError::reading(&self.path))?;
                bytes
            }
        };
        if self.layout.swapped {
            bytes
                .chunks_exact_mut(self.layout.dtype.size())
                .for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }

    /// Checks that a sample has the input's shape, but for axes of length 1 and for flattening.
    pub(super) fn check_shape(&self, input: &InputSpec) -> Result<(), SampleError> {
        let error = |hint| SampleError::Shape {
            path: self.path.clone(),
            input: input.name.clone(),
            found: self.layout.sample_shape.clone(),
            expected: input.shape.clone(),
            hint,
        };
        let long_axes = |shape: &[usize]| {
            shape
                .iter()
                .copied()
                .filter(|&dim| dim != 1)
                .collect::<Vec<_>>()
        };
        let (mut found, mut expected) = (
            long_axes(&self.layout.sample_shape),
            long_axes(&input.shape),
        );
        if found == expected {
            return Ok(());
        }
        if elements(&self.layout.sample_shape) != elements(&input.shape) {
            let one_sample = elements(&self.layout.sample_shape)
                .zip(elements(&input.shape))
                .is_some_and(|(one, all)| one.checked_mul(self.layout.samples) == Some(all));
            return Err(error(if one_sample {
                "; the first axis counts the samples, put one in front"
            } else {
                ""
            }));
        }
        found.sort_unstable();
        expected.sort_unstable();
        if found == expected {
            Err(error("; the axes are in another order"))
        } else {
            Ok(())
        }
    }
}

/// Where samples lie in the data of an array.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) dtype: ElementType,
    pub(super) sample_shape: Vec<usize>,
    pub(super) samples: usize,
    swapped: bool,
    sample_bytes: usize,
}

impl Layout {
    /// Splits what `header` describes into samples, of which there is at least one; all the data must be
    /// `available`, so that sizes computed from this cannot overflow.
    fn new(path: &Path, header: Header, axis: Axis, available: u64) -> Result<Self, SampleError> {
        let all = byte_len(&header.shape, header.dtype).map_or(u64::MAX, |n| n as u64);
        if all > available {
            let path = path.to_owned();
            return Err(SampleError::Truncated {
                path,
                expected: all,
                actual: available,
            });
        }
        let (samples, sample_shape) = match (axis, header.shape.split_first()) {
            (Axis::Single, _) => (1, header.shape),
            (Axis::Samples(limit), Some((&count, rest))) => (count.min(limit), rest.to_vec()),
            (Axis::Samples(_), None) => {
                let reason = "the array is a scalar, its first axis must count samples";
                return Err(SampleError::Header {
                    path: path.to_owned(),
                    reason,
                });
            }
        };
        // A first axis of 0 hides the size of a sample from the check above.
        let sample_bytes = byte_len(&sample_shape, header.dtype).filter(|_| samples > 0);
        let Some(sample_bytes) = sample_bytes else {
            return Err(SampleError::NoSamples {
                path: path.to_owned(),
            });
        };
        let Header { dtype, swapped, .. } = header;
        Ok(Self {
            dtype,
            swapped,
            sample_shape,
            samples,
            sample_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::npy::header_bytes;
    use super::super::write_npy;
    use super::*;

    const ALL: Axis = Axis::Samples(usize::MAX);

    fn input(shape: &[usize]) -> InputSpec {
        InputSpec {
            name: "x".into(),
            shape: shape.to_vec(),
            dtype: ElementType::U8,
            quantization: None,
        }
    }

    #[test]
    fn turns_the_other_byte_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        let text = "{'descr': '>i2', 'fortran_order': False, 'shape': (2, 1), }";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(&[0x01, 0x02, 0x03, 0x04]);
        fs::write(&path, bytes).unwrap();
        let array = Array::open_npy(&path, ALL).unwrap();
        assert_eq!(array.read(1).unwrap(), 0x0304i16.to_ne_bytes());
    }

    #[test]
    fn every_cut_of_a_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        write_npy(&path, &[3, 2], ElementType::F32, &[0; 24]).unwrap();
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(Array::open_npy(&path, ALL).is_err(), "{len}");
        }
        let cut = Array::open_npy(&path, ALL).unwrap_err();
        assert!(
            matches!(
                cut,
                SampleError::Truncated {
                    expected: 24,
                    actual: 23,
                    ..
                }
            ),
            "{cut}"
        );
    }

    #[test]
    fn refuses_sizes_that_no_file_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        let with_header = |shape: &[usize]| {
            let header = header_bytes(shape, ElementType::F64);
            fs::write(&path, [header, vec![0; 8]].concat()).unwrap();
            Array::open_npy(&path, Axis::Samples(1)).unwrap_err()
        };
        for shape in [&[usize::MAX, 2][..], &[1 << 40, 10], &[2]] {
            let error = with_header(shape);
            assert!(
                matches!(error, SampleError::Truncated { actual: 8, .. }),
                "{shape:?}: {error}"
            );
        }
        for shape in [&[0, usize::MAX, 8][..], &[0]] {
            let error = with_header(shape);
            assert!(
                matches!(error, SampleError::NoSamples { .. }),
                "{shape:?}: {error}"
            );
        }
        assert!(matches!(with_header(&[]), SampleError::Header { .. }));
    }

    #[test]
    fn compares_shapes_but_for_ones_and_flattening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        let check = |found: &[usize], expected: &[usize]| {
            let shape = [&[1], found].concat();
            write_npy(
                &path,
                &shape,
                ElementType::U8,
                &vec![0; found.iter().product()],
            )
            .unwrap();
            Array::open_npy(&path, ALL)
                .unwrap()
                .check_shape(&input(expected))
                .map_err(|e| e.to_string())
        };
        for found in [&[2, 3, 1][..], &[1, 2, 3, 1], &[2, 3], &[6]] {
            assert_eq!(check(found, &[1, 2, 3, 1]), Ok(()), "{found:?}");
        }
        let order = check(&[3, 2, 4], &[1, 2, 4, 3]).unwrap_err();
        assert!(
            order.ends_with("is 3x2x4, input x takes 1x2x4x3; the axes are in another order"),
            "{order}"
        );
        let size = check(&[3, 2], &[1, 7]).unwrap_err();
        assert!(size.ends_with("is 3x2, input x takes 1x7"), "{size}");
        write_npy(&path, &[2, 3], ElementType::U8, &[0; 6]).unwrap();
        let lone = Array::open_npy(&path, ALL)
            .unwrap()
            .check_shape(&input(&[1, 2, 3]))
            .unwrap_err()
            .to_string();
        assert!(lone.ends_with(
            "is 3, input x takes 1x2x3; the first axis counts the samples, put one in front"
        ));
    }
}
