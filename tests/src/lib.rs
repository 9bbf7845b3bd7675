//! Cases for the runners in `tests/`: single operators with LiteRT's answers.

pub mod bodies;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use npyz::NpyFile;
use zip::ZipArchive;

/// An array of a golden file, as bytes in native order.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// The dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Vec<u8>,
}

/// One single-operator model, its inputs, and what LiteRT's kernels make of them.
#[derive(Debug)]
pub struct Case {
    /// The family and the name, such as `conv_2d/conv_2d_1x1_int8`.
    pub name: String,
    /// The model.
    pub model: PathBuf,
    /// The inputs, in the model's order.
    pub inputs: Vec<Array>,
    /// How often the model is run before its outputs are taken.
    pub runs: usize,
    /// The outputs of LiteRT's reference kernels; empty where they refuse the model.
    pub reference: Vec<Array>,
    /// The outputs of its optimized kernels.
    pub optimized: Vec<Array>,
    /// The outputs with XNNPACK.
    pub xnnpack: Vec<Array>,
}

/// Where the test data is.
pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// All single-operator cases, by name.
pub fn cases() -> Result<Vec<Case>, Box<dyn Error>> {
    let mut cases = Vec::new();
    let mut families: Vec<_> = std::fs::read_dir(data().join("ops"))?
        .map(|e| Ok(e?.path()))
        .collect::<std::io::Result<_>>()?;
    families.sort();
    for family in families {
        let arrays = arrays(&family.join("golden.npz"))?;
        let mut models: Vec<_> = std::fs::read_dir(&family)?
            .map(|e| Ok(e?.path()))
            .collect::<std::io::Result<_>>()?;
        models.retain(|path| path.extension().is_some_and(|e| e == "tflite"));
        models.sort();
        for model in models {
            let stem = model
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let list = |key: &str| {
                (0..)
                    .map_while(|i| arrays.get(&format!("{stem}/{key}{i}")).cloned())
                    .collect()
            };
            cases.push(Case {
                name: format!(
                    "{}/{stem}",
                    family.file_name().unwrap_or_default().to_string_lossy()
                ),
                inputs: list("in"),
                runs: arrays
                    .get(&format!("{stem}/runs"))
                    .map_or(1, |runs| usize::from(runs.bytes[0])),
                reference: list("ref"),
                optimized: list("opt"),
                xnnpack: list("xnn"),
                model,
            });
        }
    }
    Ok(cases)
}

/// Every array of an `.npz` file, by name.
pub fn arrays(path: &Path) -> Result<BTreeMap<String, Array>, Box<dyn Error>> {
    let mut archive = ZipArchive::new(File::open(path)?)?;
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        let name = entry.name()?.trim_end_matches(".npy").to_owned();
        let array = array(NpyFile::new(entry)?).map_err(|error| format!("{name}: {error}"))?;
        arrays.insert(name, array);
    }
    Ok(arrays)
}

fn array(npy: NpyFile<impl Read>) -> Result<Array, Box<dyn Error>> {
    let shape = npy
        .shape()
        .iter()
        .map(|&d| usize::try_from(d))
        .collect::<Result<_, _>>()?;
    let kind = npy.dtype().descr();
    macro_rules! bytes {
        ($ty:ty) => {
            npy.into_vec::<$ty>()?
                .into_iter()
                .flat_map(|v| v.to_ne_bytes())
                .collect()
        };
    }
    let bytes = match kind.trim_matches('\'').trim_start_matches(['<', '|', '=']) {
        "f4" => bytes!(f32),
        "f8" => bytes!(f64),
        "i1" => bytes!(i8),
        "u1" => bytes!(u8),
        "i2" => bytes!(i16),
        "u2" => bytes!(u16),
        "i4" => bytes!(i32),
        "u4" => bytes!(u32),
        "i8" => bytes!(i64),
        "u8" => bytes!(u64),
        "b1" => npy.into_vec::<bool>()?.into_iter().map(u8::from).collect(),
        other => return Err(format!("elements of type {other}").into()),
    };
    Ok(Array { shape, bytes })
}
