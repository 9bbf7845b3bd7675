//! What a model said of the samples, and the files in which parts of it are kept.

use std::path::{Path, PathBuf};

use bantam_converter::detection::Found;
use bantam_converter::samples::{self, ElementType};

use crate::error::{self, Failure};

/// What the model said of each sample.
pub enum Rows {
    /// The real values of its first output.
    Values(Vec<Vec<f32>>),
    /// The boxes that it found.
    Boxes(Vec<Vec<Found>>),
}

impl Rows {
    /// How many samples they are of.
    pub fn len(&self) -> usize {
        match self {
            Self::Values(rows) => rows.len(),
            Self::Boxes(rows) => rows.len(),
        }
    }

    /// Writes a `.npy` file of float32: a row a sample, or for boxes as many rows as the most that one has, those
    /// behind its last without a score.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let (shape, values) = match self {
            Self::Values(rows) => {
                let size = rows.first().map_or(0, Vec::len);
                (vec![rows.len(), size], rows.concat())
            }
            Self::Boxes(rows) => {
                let most = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
                let mut values = Vec::new();
                for found in rows {
                    values.extend(found.iter().flat_map(|found| found.to_row()));
                    let absent = [0.0, 0.0, 0.0, 0.0, 0.0, f32::NAN];
                    values.extend(absent.repeat(most - found.len()));
                }
                (vec![rows.len(), most, 6], values)
            }
        };
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
        samples::write_npy(path, &shape, ElementType::F32, &bytes)
            .map_err(|error| error::samples(&error))
    }

    /// Reads the files of all parts, of boxes or of values.
    pub fn load(paths: &[PathBuf], is_boxes: bool) -> Result<Self, Failure> {
        let (mut values, mut found) = (Vec::new(), Vec::new());
        for path in paths {
            let part = samples::read_npy(path).map_err(|error| error::samples(&error))?;
            let reals = part.to_f32();
            match (part.dtype, &part.shape[..]) {
                (ElementType::F32, &[_, size]) if !is_boxes && size > 0 => {
                    values.extend(reals.chunks(size).map(<[f32]>::to_vec));
                }
                (ElementType::F32, &[_, count, 6]) if is_boxes && count > 0 => {
                    for (sample, rows) in reals.chunks(6 * count).enumerate() {
                        let rows = rows.as_chunks::<6>().0.iter().enumerate();
                        let rows = rows.filter(|(_, row)| !row[5].is_nan());
                        let boxes = rows.map(|(index, row)| Found::from_row(*row, index));
                        let boxes: Result<Vec<Found>, _> = boxes.collect();
                        found.push(boxes.map_err(|error| {
                            not_outputs(path, format!("of sample {sample}, {error}"))
                        })?);
                    }
                }
                (dtype, shape) => {
                    let why = format!("it is an array of {dtype} with shape {shape:?}");
                    return Err(not_outputs(path, why));
                }
            }
        }
        Ok(match is_boxes {
            true => Self::Boxes(found),
            false => Self::Values(values),
        })
    }
}

/// A file of something else.
pub fn not_outputs(path: &Path, why: impl Into<String>) -> Failure {
    error::DATA_SHAPE.failure(
        format!("{} does not hold outputs", path.display()),
        why,
        "take files that --save-outputs wrote, of the same metric",
    )
}
