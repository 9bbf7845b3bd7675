//! What edgetpu_compiler puts into its custom operator, as far as it can be read: the oldest runtime
//! that loads it, its parameters, and its inputs and outputs. The operators inside and the
//! instructions cannot.
//!
//! The options are a FlexBuffers map whose entry `4` is a FlatBuffer with the identifier `DWN1`; that
//! holds another, with an executable or two, each a FlatBuffer again. The layout is that of
//! `executable/executable.fbs` in libedgetpu's source; fields are read by their slots, and every
//! offset is checked.

use crate::ops::flexbuffer::Map;

/// The custom operator's code.
pub const OPERATOR: &str = "edgetpu-custom-op";

/// More than any compiled model has; what claims more is broken.
const MAX_EXECUTABLES: usize = 16;
const MAX_LAYERS: usize = 1024;
const MAX_CHUNKS: usize = 1 << 16;
const MAX_NAME: usize = 4096;

/// Why a package cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The options are no FlexBuffers map.
    #[error("the options are not a map")]
    NotAMap,
    /// The file was compiled before packages were introduced.
    #[error(
        "the package has the layout of the first compiler, without DWN1; compile the model again"
    )]
    Old,
    /// There is nothing under the key that holds the package.
    #[error("there is no package in the options")]
    Missing,
    /// An offset or a length points outside, or a number is absurd.
    #[error("the package is truncated or corrupt: {0}")]
    Corrupt(&'static str),
}

/// A compiled partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// The oldest runtime that loads it: 10 to 14.
    pub min_runtime_version: i32,
    /// What the compiler calls itself; mostly blank.
    pub compiler: String,
    /// The whole package.
    pub bytes: u64,
    /// One, or two: the second loads the parameters into the cache.
    pub executables: Vec<Executable>,
}

/// What an executable is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All in one.
    StandAlone,
    /// It loads parameters, which the chip keeps.
    ParameterCaching,
    /// It runs on parameters that are on the chip.
    ExecutionOnly,
    /// A number that is not defined.
    Other(i16),
}

/// Instructions and parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Executable {
    /// What it is for.
    pub kind: Kind,
    /// The chip's code name.
    pub chip: String,
    /// Bytes of instructions.
    pub instruction_bytes: u64,
    /// Bytes of parameters that it brings.
    pub parameter_bytes: u64,
    /// Bytes of activation memory that it uses of each tile.
    pub tile_bytes: i32,
    /// Bytes of the host's memory that it works in.
    pub scratch_bytes: i32,
    /// Executables with the same one share the cache.
    pub caching_token: u64,
    /// What it reads.
    pub inputs: Vec<Layer>,
    /// What it gives.
    pub outputs: Vec<Layer>,
}

/// An input or output.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// The tensor's name.
    pub name: String,
    /// Height, width and depth.
    pub shape: [i32; 3],
    /// Bytes, with the padding of the depth.
    pub bytes: i32,
    /// The number of the element type in the package's schema: 0 is uint8, 8 is int8.
    pub data_type: i16,
    /// The zero point on the chip, which counts without signs: 128 more than that of int8.
    pub zero_point: Option<i32>,
    /// Real value of one step.
    pub scale: Option<f32>,
}

impl Package {
    /// The package in the options of a custom operator.
    pub fn read(options: &[u8]) -> Result<Self, PackageError> {
        let map = Map::root(options).ok_or(PackageError::NotAMap)?;
        let bytes = map.bytes("4").ok_or(PackageError::Missing)?;
        if bytes.get(4..8) != Some(b"DWN1") {
            return Err(match map.bytes("2") {
                Some(b"beagle") => PackageError::Old,
                _ => PackageError::Corrupt("the identifier is not DWN1"),
            });
        }
        let package = Table::root(bytes)?;
        let nested = package.vector(1)?.ok_or(PackageError::Missing)?;
        let mut executables = Vec::new();
        for at in Table::root(nested)?.references(0, MAX_EXECUTABLES)? {
            executables.push(executable(string_at(nested, at)?)?);
        }
        Ok(Self {
            min_runtime_version: package.i32(0)?.unwrap_or(0),
            compiler: package.text(4)?,
            bytes: bytes.len() as u64,
            executables,
        })
    }

    /// Bytes of parameters that the chip keeps from run to run.
    pub fn cached_bytes(&self) -> u64 {
        self.parameters(|kind| kind == Kind::ParameterCaching)
    }

    /// Bytes of parameters that are sent for every run.
    pub fn streamed_bytes(&self) -> u64 {
        self.parameters(|kind| kind != Kind::ParameterCaching)
    }

    fn parameters(&self, wanted: impl Fn(Kind) -> bool) -> u64 {
        let chosen = self.executables.iter().filter(|e| wanted(e.kind));
        chosen.map(|e| e.parameter_bytes).sum()
    }

    /// The executable that computes, whose inputs and outputs are the operator's.
    pub fn main(&self) -> Option<&Executable> {
        self.executables
            .iter()
            .find(|e| e.kind != Kind::ParameterCaching)
    }
}

fn executable(bytes: &[u8]) -> Result<Executable, PackageError> {
    let table = Table::root(bytes)?;
    let len = |vector: Option<&[u8]>| vector.map_or(0, |v| v.len() as u64);
    let mut instruction_bytes = 0u64;
    for chunk in table.tables(5, MAX_CHUNKS)? {
        instruction_bytes = instruction_bytes.saturating_add(len(chunk.vector(0)?));
    }
    let layers = |slot| -> Result<Vec<Layer>, PackageError> {
        table.tables(slot, MAX_LAYERS)?.iter().map(layer).collect()
    };
    Ok(Executable {
        kind: match table.i16(13)?.unwrap_or(0) {
            0 => Kind::StandAlone,
            1 => Kind::ParameterCaching,
            2 => Kind::ExecutionOnly,
            other => Kind::Other(other),
        },
        chip: table.text(10)?,
        instruction_bytes,
        parameter_bytes: len(table.vector(6)?),
        tile_bytes: table.i32(12)?.unwrap_or(0),
        scratch_bytes: table.i32(4)?.unwrap_or(0),
        caching_token: table.field::<8>(14)?.map_or(0, u64::from_le_bytes),
        inputs: layers(8)?,
        outputs: layers(9)?,
    })
}

fn layer(table: &Table) -> Result<Layer, PackageError> {
    let number = |slot| Ok(table.i32(slot)?.unwrap_or(0));
    let numerics = table.table(5)?;
    Ok(Layer {
        name: table.text(0)?,
        bytes: number(1)?,
        shape: [number(2)?, number(3)?, number(4)?],
        data_type: table.i16(6)?.unwrap_or(0),
        zero_point: match &numerics {
            Some(numerics) => Some(numerics.i32(0)?.unwrap_or(0)),
            None => None,
        },
        scale: match &numerics {
            Some(numerics) => numerics.field::<4>(1)?.map(f32::from_le_bytes),
            None => None,
        },
    })
}

/// A FlatBuffers table whose fields are known by their slots.
struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where each field is, from `at`; 0 for one that is not there.
    fields: &'a [u8],
}

const OUTSIDE: PackageError = PackageError::Corrupt("an offset points outside");

fn word(bytes: &[u8], at: usize) -> Result<usize, PackageError> {
    let word = at
        .checked_add(4)
        .and_then(|end| bytes.get(at..end))
        .ok_or(OUTSIDE)?;
    let word = word.try_into().map_err(|_| OUTSIDE)?;
    Ok(u32::from_le_bytes(word) as usize)
}

/// The place that the offset at `at` points to.
fn reference(bytes: &[u8], at: usize) -> Result<usize, PackageError> {
    at.checked_add(word(bytes, at)?).ok_or(OUTSIDE)
}

/// The bytes of the string or vector of bytes at `at`.
fn string_at(bytes: &[u8], at: usize) -> Result<&[u8], PackageError> {
    let (start, len) = (at.checked_add(4), word(bytes, at)?);
    let end = start
        .and_then(|start| start.checked_add(len))
        .ok_or(OUTSIDE)?;
    bytes.get(at + 4..end).ok_or(OUTSIDE)
}

impl<'a> Table<'a> {
    fn root(bytes: &'a [u8]) -> Result<Self, PackageError> {
        Self::at(bytes, reference(bytes, 0)?)
    }

    fn at(bytes: &'a [u8], at: usize) -> Result<Self, PackageError> {
        let back = word(bytes, at)? as u32 as i32;
        let vtable = usize::try_from(at as i64 - i64::from(back)).map_err(|_| OUTSIDE)?;
        let header = vtable
            .checked_add(4)
            .and_then(|end| bytes.get(vtable..end))
            .ok_or(OUTSIDE)?;
        let len = usize::from(u16::from_le_bytes([header[0], header[1]]));
        let fields = vtable
            .checked_add(len)
            .and_then(|end| bytes.get(vtable + 4..end));
        Ok(Self {
            bytes,
            at,
            fields: fields.ok_or(OUTSIDE)?,
        })
    }

    /// Where the field in `slot` is.
    fn place(&self, slot: usize) -> Option<usize> {
        let offset = self.fields.get(2 * slot..2 * slot + 2)?;
        match u16::from_le_bytes([offset[0], offset[1]]) {
            0 => None,
            offset => self.at.checked_add(offset.into()),
        }
    }

    fn field<const N: usize>(&self, slot: usize) -> Result<Option<[u8; N]>, PackageError> {
        let Some(at) = self.place(slot) else {
            return Ok(None);
        };
        let bytes = at
            .checked_add(N)
            .and_then(|end| self.bytes.get(at..end))
            .ok_or(OUTSIDE)?;
        bytes.try_into().map(Some).map_err(|_| OUTSIDE)
    }

    fn i32(&self, slot: usize) -> Result<Option<i32>, PackageError> {
        Ok(self.field::<4>(slot)?.map(i32::from_le_bytes))
    }

    fn i16(&self, slot: usize) -> Result<Option<i16>, PackageError> {
        Ok(self.field::<2>(slot)?.map(i16::from_le_bytes))
    }

    /// The bytes of a vector of bytes.
    fn vector(&self, slot: usize) -> Result<Option<&'a [u8]>, PackageError> {
        let Some(at) = self.place(slot) else {
            return Ok(None);
        };
        string_at(self.bytes, reference(self.bytes, at)?).map(Some)
    }

    /// A text, empty where it is not there.
    fn text(&self, slot: usize) -> Result<String, PackageError> {
        let bytes = self.vector(slot)?.unwrap_or_default();
        if bytes.len() > MAX_NAME {
            return Err(PackageError::Corrupt("a name is too long"));
        }
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn table(&self, slot: usize) -> Result<Option<Table<'a>>, PackageError> {
        let Some(at) = self.place(slot) else {
            return Ok(None);
        };
        Table::at(self.bytes, reference(self.bytes, at)?).map(Some)
    }

    /// Where the elements of a vector of references point to.
    fn references(&self, slot: usize, most: usize) -> Result<Vec<usize>, PackageError> {
        let Some(at) = self.place(slot) else {
            return Ok(Vec::new());
        };
        let start = reference(self.bytes, at)?;
        let len = word(self.bytes, start)?;
        if len > most {
            return Err(PackageError::Corrupt("a list is too long"));
        }
        let element = |index: usize| reference(self.bytes, start + 4 + 4 * index);
        (0..len).map(element).collect()
    }

    fn tables(&self, slot: usize, most: usize) -> Result<Vec<Table<'a>>, PackageError> {
        let places = self.references(slot, most)?;
        places
            .into_iter()
            .map(|at| Self::at(self.bytes, at))
            .collect()
    }
}

#[cfg(test)]
mod sample;

#[cfg(test)]
mod tests {
    use super::sample::{map, package};
    use super::*;

    #[test]
    fn a_package_says_runtime_parameters_and_boundary() {
        let read = Package::read(&map(&[("4", &package(14))])).unwrap();
        assert_eq!(read.min_runtime_version, 14);
        assert_eq!((read.cached_bytes(), read.streamed_bytes()), (5000, 100));
        let main = read.main().unwrap();
        assert_eq!((main.kind, &*main.chip), (Kind::ExecutionOnly, "beagle"));
        assert_eq!(
            (main.instruction_bytes, main.tile_bytes, main.caching_token),
            (40, 832, 7)
        );
        let input = &main.inputs[0];
        assert_eq!(
            (&*input.name, input.shape, input.data_type),
            ("x", [1, 4, 3], 8)
        );
        assert_eq!((input.zero_point, input.scale), (Some(130), Some(0.5)));
    }

    #[test]
    fn the_first_layout_is_refused_by_name() {
        let old = map(&[("2", b"beagle"), ("4", b"no package at all")]);
        assert_eq!(Package::read(&old), Err(PackageError::Old));
        assert_eq!(
            Package::read(&map(&[("5", b"x")])),
            Err(PackageError::Missing)
        );
        assert_eq!(Package::read(b""), Err(PackageError::NotAMap));
        assert!(matches!(
            Package::read(&map(&[("4", b"12345678")])),
            Err(PackageError::Corrupt(_))
        ));
    }

    #[test]
    fn cut_and_mutated_packages_are_errors_or_packages_and_never_a_panic() {
        let whole = package(14);
        for end in 0..whole.len() {
            let _ = Package::read(&map(&[("4", &whole[..end])]));
        }
        let options = map(&[("4", &whole)]);
        for place in 0..options.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut mutated = options.clone();
                mutated[place] = byte;
                let _ = Package::read(&mutated);
            }
        }
    }
}
