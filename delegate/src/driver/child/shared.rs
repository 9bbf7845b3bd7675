//! Memory that two processes map, and how a partition's tensors lie in it.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::ptr;

use bantam_model::{Model, TensorId};
use memmap2::MmapRaw;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::driver::DriverError;

/// Where a tensor starts is a multiple of this.
const ALIGNMENT: usize = 64;

/// Where the memory can be found, until both have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub path: PathBuf,
    pub len: usize,
}

/// Mapped memory. The file behind it goes away with the name, and the memory with the last map of it.
pub struct Segment {
    map: MmapRaw,
    len: usize,
    name: Option<NamedTempFile>,
}

fn failed(error: std::io::Error) -> DriverError {
    DriverError::Failed(format!("no shared memory: {error}"))
}

impl Segment {
    /// `len` zeros.
    pub fn new(len: usize) -> Result<Self, DriverError> {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => memory.to_owned(),
            false => std::env::temp_dir(),
        };
        let mut builder = tempfile::Builder::new();
        let name = builder
            .prefix("bantam-")
            .tempfile_in(folder)
            .map_err(failed)?;
        // An empty file cannot be mapped.
        name.as_file().set_len(len.max(1) as u64).map_err(failed)?;
        Ok(Self {
            map: MmapRaw::map_raw(name.as_file()).map_err(failed)?,
            len,
            name: Some(name),
        })
    }

    /// A copy of `bytes`.
    pub fn holding(bytes: &[u8]) -> Result<Self, DriverError> {
        let mut segment = Self::new(bytes.len())?;
        segment.write(0..bytes.len(), bytes);
        Ok(segment)
    }

    /// The memory of another process.
    pub fn open(reference: &Reference) -> Result<Self, DriverError> {
        let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
        let file: File = open(&reference.path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        if len < reference.len as u64 {
            let message = format!("shared memory has {len} bytes, not {}", reference.len);
            return Err(DriverError::Garbage(message));
        }
        Ok(Self {
            map: MmapRaw::map_raw(&file).map_err(failed)?,
            len: reference.len,
            name: None,
        })
    }

    /// What the other process opens it by.
    pub fn reference(&self) -> Reference {
        let path = self.name.as_ref().map(|name| name.path().to_owned());
        Reference {
            path: path.unwrap_or_default(),
            len: self.len,
        }
    }

    /// Removes the name, once the other process has opened it, and closes the file.
    pub fn forget_name(&mut self) {
        self.name = None;
    }

    /// Copies `bytes` to `place`, both of one length.
    pub fn write(&mut self, place: Range<usize>, bytes: &[u8]) {
        assert!(place.end <= self.len && place.len() == bytes.len());
        // SAFETY: the place is inside the map, by the line above. The other process may write there at the same time only if it
        // breaks the protocol, and then the bytes, of which any are valid, are unspecified.
        unsafe {
            let to = self.map.as_mut_ptr().add(place.start);
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// Copies `place` to `bytes`, both of one length.
    pub fn read(&self, place: Range<usize>, bytes: &mut [u8]) {
        assert!(place.end <= self.len && place.len() == bytes.len());
        // SAFETY: as for `write`.
        unsafe {
            let from = self.map.as_ptr().add(place.start);
            ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len());
        }
    }

    /// The bytes themselves, for the process that holds the driver.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the map is `len` bytes or longer and lives as long as `self`. The other process touches them only between
        // calls, when no such slice is there.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr(), self.len) }
    }
}

/// Inputs and outputs.
type Buffers<'a> = (Vec<&'a [u8]>, Vec<&'a mut [u8]>);

/// Where a partition's inputs and outputs lie, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    places: Vec<Range<usize>>,
    inputs: usize,
    len: usize,
}

impl Layout {
    /// That of a model's first subgraph. `None` where a size is not known or too large.
    pub fn of(model: &Model) -> Option<Self> {
        let subgraph = model.subgraphs.first()?;
        let size = |id: &TensorId| subgraph[*id].dtype.byte_len(&subgraph[*id].shape);
        let mut len = 0usize;
        let mut places = Vec::new();
        for id in subgraph.inputs.iter().chain(&subgraph.outputs) {
            let start = len.checked_next_multiple_of(ALIGNMENT)?;
            len = start.checked_add(size(id)?)?;
            places.push(start..len);
        }
        Some(Self {
            places,
            inputs: subgraph.inputs.len(),
            len,
        })
    }

    /// The bytes of all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The places of the inputs.
    pub fn inputs(&self) -> &[Range<usize>] {
        &self.places[..self.inputs]
    }

    /// The places of the outputs.
    pub fn outputs(&self) -> &[Range<usize>] {
        &self.places[self.inputs..]
    }

    /// Whether buffers have the sizes of the partition's tensors.
    pub fn check(
        &self,
        inputs: impl Iterator<Item = usize>,
        outputs: impl Iterator<Item = usize>,
    ) -> Result<(), DriverError> {
        let sizes = |places: &[Range<usize>]| places.iter().map(Range::len).collect::<Vec<_>>();
        let (inputs, outputs): (Vec<_>, Vec<_>) = (inputs.collect(), outputs.collect());
        let wanted = (sizes(self.inputs()), sizes(self.outputs()));
        if (&inputs, &outputs) == (&wanted.0, &wanted.1) {
            return Ok(());
        }
        Err(DriverError::Failed(format!(
            "buffers of {inputs:?} and {outputs:?} bytes where the partition has {:?} and {:?}",
            wanted.0, wanted.1
        )))
    }

    /// `memory` cut into the inputs and the outputs.
    pub fn cut<'a>(&self, memory: &'a mut [u8]) -> Option<Buffers<'a>> {
        let (mut rest, mut at) = (memory, 0);
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for (index, place) in self.places.iter().enumerate() {
            let (_, tail) = rest.split_at_mut_checked(place.start - at)?;
            let (bytes, tail) = tail.split_at_mut_checked(place.len())?;
            (rest, at) = (tail, place.end);
            if index < self.inputs {
                inputs.push(&*bytes);
            } else {
                outputs.push(bytes);
            }
        }
        Some((inputs, outputs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bantam_model::tensor::DType;
    use bantam_model::{Subgraph, Tensor};

    #[test]
    fn both_maps_show_the_same_bytes_and_no_file_stays() {
        let mut ours = Segment::holding(b"abcdef").unwrap();
        let reference = ours.reference();
        let mut theirs = Segment::open(&reference).unwrap();
        ours.forget_name();
        assert!(!reference.path.exists());
        theirs.bytes_mut()[1] = b'x';
        let mut seen = [0; 3];
        ours.read(0..3, &mut seen);
        assert_eq!(&seen, b"axc");
        let missing = Segment::open(&reference).err().unwrap().to_string();
        assert!(missing.contains("no shared memory"), "{missing}");
        let ours = Segment::new(10).unwrap();
        let longer = Reference {
            len: 11,
            ..ours.reference()
        };
        assert!(Segment::open(&longer).is_err());
        let empty = Segment::new(0).unwrap();
        assert!(
            Segment::open(&empty.reference())
                .unwrap()
                .bytes_mut()
                .is_empty()
        );
    }

    #[test]
    fn tensors_are_aligned_and_do_not_overlap() {
        let mut subgraph = Subgraph::default();
        for (index, len) in [3, 0, 130, 5].into_iter().enumerate() {
            let tensor = Tensor::new(index.to_string(), DType::I8, [len]);
            let id = subgraph.add_tensor(tensor);
            let list = match index {
                0 | 1 => &mut subgraph.inputs,
                _ => &mut subgraph.outputs,
            };
            list.push(id);
        }
        let model = Model {
            subgraphs: vec![subgraph],
            ..Model::default()
        };
        let layout = Layout::of(&model).unwrap();
        assert_eq!(layout.inputs(), [0..3, 64..64]);
        assert_eq!(layout.outputs(), [64..194, 256..261]);
        let mut memory = vec![0; layout.len()];
        let (inputs, outputs) = layout.cut(&mut memory).unwrap();
        let lens = outputs.iter().map(|o| o.len()).collect::<Vec<_>>();
        assert_eq!((inputs[0].len(), inputs[1].len()), (3, 0));
        assert_eq!(lens, [130, 5]);
        assert!(layout.cut(&mut memory[..200]).is_none());
        assert!(
            layout
                .check([3, 0].into_iter(), [130, 5].into_iter())
                .is_ok()
        );
        assert!(layout.check([3].into_iter(), [130, 5].into_iter()).is_err());
    }
}
