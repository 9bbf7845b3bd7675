//! The entries of an `.npz` archive: one array an input, stored or compressed.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::array::{Array, Axis};
use super::npy::Header;
use super::{InputSpec, SampleError};

/// Opens the entries of an `.npz` file that feed `inputs`: by name, by position (`0`), or by numpy's name for
/// a position (`arr_0`).
pub(super) fn open_npz(
    path: &Path,
    inputs: &[InputSpec],
    axis: Axis,
) -> Result<Vec<Array>, SampleError> {
    let file = File::open(path).map_err(SampleError::reading(path))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(SampleError::archive(path))?;
    let mut arrays = vec![];
    for (position, input) in inputs.iter().enumerate() {
        let Some(index) = entry_for(&archive, &input.name, position) else {
            return Err(SampleError::MissingEntry {
                path: path.to_owned(),
                input: input.name.clone(),
                position,
                found: entry_names(&archive),
            });
        };
        arrays.push(open_entry(path, &mut archive, index, axis)?);
    }
    Ok(arrays)
}

/// Opens the entry for the output `name`, by that name, as the first by position, or as the only one.
pub(super) fn open_entry_of(path: &Path, name: &str) -> Result<Array, SampleError> {
    let file = File::open(path).map_err(SampleError::reading(path))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(SampleError::archive(path))?;
    let index = entry_for(&archive, name, 0).or((archive.len() == 1).then_some(0));
    let index = index.ok_or_else(|| SampleError::MissingLabels {
        path: path.to_owned(),
        output: name.to_owned(),
        found: entry_names(&archive),
    })?;
    open_entry(path, &mut archive, index, Axis::Single)
}

/// The place of the entry that is called `name` or by its position.
fn entry_for(archive: &ZipArchive<BufReader<File>>, name: &str, position: usize) -> Option<usize> {
    let names = [
        name.to_owned(),
        position.to_string(),
        format!("arr_{position}"),
    ];
    names
        .iter()
        .find_map(|name| archive.index_for_name(&format!("{name}.npy")))
}

fn open_entry(
    path: &Path,
    archive: &mut ZipArchive<BufReader<File>>,
    index: usize,
    axis: Axis,
) -> Result<Array, SampleError> {
    let archive_error = SampleError::archive(path);
    let mut entry = archive.by_index(index).map_err(&archive_error)?;
    let label = path.join(entry.name().map_err(&archive_error)?.as_ref());
    let header = Header::read(&mut entry, &label)?;
    match entry.data_start() {
        Some(start) if entry.compression() == CompressionMethod::Stored && !entry.encrypted() => {
            let file = File::open(path).map_err(SampleError::reading(path))?;
            Array::in_file(label, header, axis, file, start, entry.size())
        }
        _ => {
            let available = entry.size().saturating_sub(header.len);
            Array::unpacked(label, header, axis, entry, available)
        }
    }
}

fn entry_names(archive: &ZipArchive<BufReader<File>>) -> Vec<String> {
    const SHOWN: usize = 10;
    let mut names: Vec<String> = archive
        .file_names_raw()
        .take(SHOWN)
        .map(|name| {
            let name = String::from_utf8_lossy(name);
            format!("`{}`", name.strip_suffix(".npy").unwrap_or(&name))
        })
        .collect();
    match archive.len() {
        0 => names.push("nothing".to_owned()),
        SHOWN.. => names.push("...".to_owned()),
        _ => {}
    }
    names
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::super::npy::header_bytes;
    use super::super::{ElementType, write_npz};
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

    fn packed(path: &Path, contents: &[u8], method: CompressionMethod) {
        let mut archive = ZipWriter::new(File::create(path).unwrap());
        let options = SimpleFileOptions::DEFAULT.compression_method(method);
        archive.start_file("x.npy", options).unwrap();
        archive.write_all(contents).unwrap();
        archive.finish().unwrap();
    }

    #[test]
    fn reads_compressed_and_stored_entries_alike() {
        let dir = tempfile::tempdir().unwrap();
        let (deflated, stored) = (
            dir.path().join("deflated.npz"),
            dir.path().join("stored.npz"),
        );
        let values: Vec<u8> = (0..200).collect();
        packed(
            &deflated,
            &[header_bytes(&[20, 10], ElementType::U8), values.clone()].concat(),
            CompressionMethod::Deflated,
        );
        write_npz(&stored, &[("x", [20, 10], ElementType::U8, &values)]).unwrap();
        for path in [&deflated, &stored] {
            let [array] = &open_npz(path, &[input(&[1, 10])], Axis::Samples(3)).unwrap()[..] else {
                panic!("one input gives one array");
            };
            assert_eq!(
                (array.layout.samples, array.path.as_path()),
                (3, path.join("x.npy").as_path())
            );
            assert_eq!(array.read(2).unwrap(), (20..30).collect::<Vec<u8>>());
            assert!(array.read(3).is_err());
        }
    }

    #[test]
    fn damaged_archives_give_errors_or_data_but_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npz");
        let inputs = [input(&[1, 10])];
        let contents = [header_bytes(&[20, 10], ElementType::U8), vec![7; 200]].concat();
        packed(&path, &contents, CompressionMethod::Deflated);
        let deflated = fs::read(&path).unwrap();
        write_npz(&path, &[("x", [20, 10], ElementType::U8, [7; 200])]).unwrap();
        let stored = fs::read(&path).unwrap();
        for whole in [deflated, stored] {
            for at in 0..whole.len() {
                fs::write(&path, &whole[..at]).unwrap();
                assert!(open_npz(&path, &inputs, ALL).is_err(), "cut at {at}");
                for bits in [0x01, 0x80] {
                    let mut damaged = whole.clone();
                    damaged[at] ^= bits;
                    fs::write(&path, damaged).unwrap();
                    for array in open_npz(&path, &inputs, ALL).unwrap_or_default() {
                        let _ = array.read(array.layout.samples - 1);
                    }
                }
            }
        }
    }

    #[test]
    fn a_header_promises_no_more_than_its_entry_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npz");
        for shape in [&[9][..], &[1 << 40, 10], &[usize::MAX, usize::MAX]] {
            let contents = [header_bytes(shape, ElementType::U8), vec![7; 8]].concat();
            for method in [CompressionMethod::Deflated, CompressionMethod::Stored] {
                packed(&path, &contents, method);
                let error = open_npz(&path, &[input(&[1])], Axis::Samples(1)).unwrap_err();
                assert!(
                    matches!(error, SampleError::Truncated { actual: 8, .. }),
                    "{shape:?}: {error}"
                );
            }
        }
    }
}
