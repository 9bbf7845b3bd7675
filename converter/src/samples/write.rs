//! Whole arrays out and in: `.npy` and `.npz` that numpy loads, and `.npy` labels.

use std::io::{self, Cursor, Write};
use std::path::Path;

use bantam_model::write::save;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::array::{Array, Axis};
use super::convert::{reals, wholes};
use super::element::byte_len;
use super::npy::header_bytes;
use super::npz::open_entry_of;
use super::{ElementType, SampleError};

/// A whole array, as [`read_npy`] gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Type of its elements.
    pub dtype: ElementType,
    /// Its elements, native-endian, last axis fastest.
    pub bytes: Vec<u8>,
}

impl Tensor {
    fn of(array: Array) -> Result<Self, SampleError> {
        let bytes = array.read(0)?;
        Ok(Self {
            shape: array.layout.sample_shape,
            dtype: array.layout.dtype,
            bytes,
        })
    }

    /// Every element as float32, rounded where float32 is coarser.
    pub fn to_f32(&self) -> Vec<f32> {
        reals(self.dtype, &self.bytes)
    }

    /// Every element as an integer, or nothing if one is none or is too large.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        wholes(self.dtype, &self.bytes)
            .ok()?
            .into_iter()
            .map(|x| i64::try_from(x).ok())
            .collect()
    }
}

/// Reads a whole `.npy` file, such as the labels of an evaluation.
///
/// # Errors
///
/// The file cannot be read, is truncated, in Fortran order, or of elements that no model takes.
pub fn read_npy(path: &Path) -> Result<Tensor, SampleError> {
    Tensor::of(Array::open_npy(path, Axis::Single)?)
}

/// Reads an entry of an `.npz` file, such as what a model's output should be: the one called `name`, the first
/// by position (`0` or `arr_0`), or the only one.
///
/// # Errors
///
/// The file cannot be read, has no such entry, or the entry is one that [`read_npy`] would refuse.
pub fn read_npz(path: &Path, name: &str) -> Result<Tensor, SampleError> {
    Tensor::of(open_entry_of(path, name)?)
}

/// Writes a `.npy` file; what was at `path` stays there unless all goes well.
///
/// # Errors
///
/// `bytes` is not what `shape` and `dtype` need, or the file cannot be written.
pub fn write_npy(
    path: &Path,
    shape: &[usize],
    dtype: ElementType,
    bytes: &[u8],
) -> Result<(), SampleError> {
    check_entry(&path.display().to_string(), shape, dtype, bytes)?;
    let file = [&header_bytes(shape, dtype), bytes].concat();
    save(path, &file).map_err(writing(path))
}

/// Writes an uncompressed `.npz` file of `(name, shape, type, native-endian bytes)`; what was at `path` stays
/// there unless all goes well. Equal entries give equal files.
///
/// # Errors
///
/// An entry's bytes are not what its shape and type need, two have one name, or the file cannot be written.
pub fn write_npz<N: AsRef<str>, S: AsRef<[usize]>, B: AsRef<[u8]>>(
    path: &Path,
    entries: &[(N, S, ElementType, B)],
) -> Result<(), SampleError> {
    for (name, shape, dtype, bytes) in entries {
        check_entry(name.as_ref(), shape.as_ref(), *dtype, bytes.as_ref())?;
    }
    let file = archive(entries).map_err(writing(path))?;
    save(path, &file).map_err(writing(path))
}

/// The bytes of an `.npz` file.
fn archive<N: AsRef<str>, S: AsRef<[usize]>, B: AsRef<[u8]>>(
    entries: &[(N, S, ElementType, B)],
) -> io::Result<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, shape, dtype, bytes) in entries {
        let bytes = bytes.as_ref();
        let options = SimpleFileOptions::DEFAULT
            .compression_method(CompressionMethod::Stored)
            .large_file(bytes.len() as u64 >= u64::from(u32::MAX) - (1 << 20));
        archive.start_file(format!("{}.npy", name.as_ref()), options)?;
        archive.write_all(&header_bytes(shape.as_ref(), *dtype))?;
        archive.write_all(bytes)?;
    }
    Ok(archive.finish()?.into_inner())
}

fn check_entry(
    name: &str,
    shape: &[usize],
    dtype: ElementType,
    bytes: &[u8],
) -> Result<(), SampleError> {
    let expected = byte_len(shape, dtype);
    if expected == Some(bytes.len()) {
        return Ok(());
    }
    Err(SampleError::EntrySize {
        name: name.to_owned(),
        shape: shape.to_vec(),
        dtype,
        expected: expected.map_or(u64::MAX, |n| n as u64),
        actual: bytes.len() as u64,
    })
}

fn writing(path: &Path) -> impl Fn(io::Error) -> SampleError {
    |source| SampleError::Write {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;

    use super::*;

    fn names(dir: &Path) -> Vec<OsString> {
        fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect()
    }

    #[test]
    fn reads_back_what_it_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("y.npy");
        let bytes: &[u8] = bytemuck::cast_slice(&[7i32, -1, 0]);
        write_npy(&path, &[3], ElementType::I32, bytes).unwrap();
        let tensor = read_npy(&path).unwrap();
        assert_eq!(
            tensor,
            Tensor {
                shape: vec![3],
                dtype: ElementType::I32,
                bytes: bytes.to_vec()
            }
        );
        assert_eq!(tensor.to_i64(), Some(vec![7, -1, 0]));
        assert_eq!(tensor.to_f32(), [7.0, -1.0, 0.0]);
        assert_eq!(names(dir.path()), ["y.npy"]);

        write_npy(&path, &[0, 4], ElementType::F32, &[]).unwrap();
        assert_eq!(read_npy(&path).unwrap().shape, [0, 4]);
        write_npy(&path, &[], ElementType::F32, &0.5f32.to_ne_bytes()).unwrap();
        assert_eq!(read_npy(&path).unwrap().to_i64(), None);
    }

    #[test]
    fn equal_entries_give_equal_files() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.npz"), dir.path().join("b.npz"));
        let entries = [
            ("0", vec![2usize], ElementType::U8, vec![1u8, 2]),
            ("x/y:0", vec![], ElementType::Bool, vec![1]),
        ];
        write_npz(&a, &entries).unwrap();
        write_npz(&b, &entries).unwrap();
        assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        fs::write(&path, b"old").unwrap();
        let twice = [
            ("0", vec![1usize], ElementType::U8, vec![1u8]),
            ("0", vec![1], ElementType::U8, vec![1]),
        ];
        assert!(matches!(
            write_npz(&path, &twice),
            Err(SampleError::Write { .. })
        ));
        let short = [("0", vec![2usize], ElementType::U8, vec![1u8])];
        assert!(matches!(
            write_npz(&path, &short),
            Err(SampleError::EntrySize {
                expected: 2,
                actual: 1,
                ..
            })
        ));
        let huge = write_npy(&path, &[usize::MAX, 2], ElementType::U8, &[]);
        assert!(matches!(
            huge,
            Err(SampleError::EntrySize {
                expected: u64::MAX,
                ..
            })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a.npz"]);
        assert!(write_npy(&dir.path().join("no/where.npy"), &[0], ElementType::U8, &[]).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn writes_through_links_and_into_devices() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.npy"), dir.path().join("link.npy"));
        fs::write(&real, b"").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write_npy(&link, &[1], ElementType::U8, &[5]).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(read_npy(&real).unwrap().bytes, [5]);
        write_npy(Path::new("/dev/null"), &[1], ElementType::U8, &[5]).unwrap();
        assert!(!Path::new("/dev/null").is_file());
    }
}
