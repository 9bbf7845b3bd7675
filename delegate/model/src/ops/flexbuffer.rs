//! Numbers and bytes of a map in the FlexBuffers format, which custom operators use for their options.
//!
//! Values are at the end, and point backwards: the last byte is the root's width, the one before its type; a map is its
//! values, each as wide as its type says, after the place of its keys, their width and their number, and before the types.

/// A map with text for keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Map<'a> {
    bytes: &'a [u8],
    values: usize,
    width: usize,
    keys: usize,
    keys_width: usize,
    len: usize,
}

const INT: u8 = 1;
const UINT: u8 = 2;
const FLOAT: u8 = 3;
const INDIRECT_INT: u8 = 6;
const INDIRECT_UINT: u8 = 7;
const INDIRECT_FLOAT: u8 = 8;
const MAP: u8 = 9;
const STRING: u8 = 5;
const BLOB: u8 = 25;
const BOOL: u8 = 26;

fn unsigned(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let mut wide = [0; 8];
    wide.get_mut(..width)?
        .copy_from_slice(bytes.get(at..at.checked_add(width)?)?);
    Some(u64::from_le_bytes(wide))
}

/// The place that the offset at `at` points back to.
fn target(bytes: &[u8], at: usize, width: usize) -> Option<usize> {
    at.checked_sub(usize::try_from(unsigned(bytes, at, width)?).ok()?)
}

fn number(bytes: &[u8], at: usize, width: usize, kind: u8) -> Option<f64> {
    let bits = unsigned(bytes, at, width)?;
    match kind {
        INT => {
            let unused = 64 - 8 * width as u32;
            Some((((bits << unused) as i64) >> unused) as f64)
        }
        UINT | BOOL => Some(bits as f64),
        FLOAT if width == 4 => Some(f32::from_bits(bits as u32).into()),
        FLOAT if width == 8 => Some(f64::from_bits(bits)),
        _ => None,
    }
}

impl<'a> Map<'a> {
    /// The map that `bytes` hold; `None` where they hold something else.
    pub fn root(bytes: &'a [u8]) -> Option<Self> {
        let [before @ .., kind, width] = bytes else {
            return None;
        };
        let root = before.len().checked_sub((*width).into())?;
        if kind >> 2 != MAP {
            return None;
        }
        let (values, element) = (target(bytes, root, (*width).into())?, 1 << (kind & 3));
        let header = |back: usize| values.checked_sub(back * element);
        Some(Self {
            bytes,
            values,
            width: element,
            keys: target(bytes, header(3)?, element)?,
            keys_width: unsigned(bytes, header(2)?, element)?.try_into().ok()?,
            len: unsigned(bytes, header(1)?, element)?.try_into().ok()?,
        })
    }

    /// The place, kind and width of the value that has the key `name`.
    fn find(&self, name: &str) -> Option<(usize, u8, usize)> {
        let place =
            |start: usize, index: usize, width: usize| start.checked_add(index.checked_mul(width)?);
        let has_name = |index: usize| {
            let key = target(
                self.bytes,
                place(self.keys, index, self.keys_width)?,
                self.keys_width,
            )?;
            let key = self.bytes.get(key..)?.strip_prefix(name.as_bytes())?;
            (key.first() == Some(&0)).then_some(index)
        };
        let index = (0..self.len.min(self.bytes.len())).find_map(has_name)?;
        let kind = *self
            .bytes
            .get(place(self.values, self.len, self.width)?.checked_add(index)?)?;
        let at = place(self.values, index, self.width)?;
        Some((at, kind >> 2, 1 << (kind & 3)))
    }

    /// The number or bool that has the key `name`, if there is one.
    pub fn number(&self, name: &str) -> Option<f64> {
        let (at, kind, width) = self.find(name)?;
        match kind {
            INDIRECT_INT | INDIRECT_UINT | INDIRECT_FLOAT => {
                let direct = kind - INDIRECT_INT + INT;
                let at = target(self.bytes, at, self.width)?;
                number(self.bytes, at, width, direct)
            }
            _ => number(self.bytes, at, self.width, kind),
        }
    }

    /// The text or bytes that have the key `name`, if there are any.
    pub fn bytes(&self, name: &str) -> Option<&'a [u8]> {
        let (at, kind, width) = self.find(name)?;
        if kind != STRING && kind != BLOB {
            return None;
        }
        let start = target(self.bytes, at, self.width)?;
        let len = unsigned(self.bytes, start.checked_sub(width)?, width)?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        self.bytes.get(start..end)
    }
}

/// A map of float32 and int32 values, for tests; keys in ascending order.
#[cfg(test)]
pub(super) fn map(entries: &[(&str, Result<f32, i32>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let word = |bytes: &mut Vec<u8>, value: usize| bytes.extend((value as u32).to_le_bytes());
    let keys: Vec<usize> = entries
        .iter()
        .map(|(key, _)| {
            let place = bytes.len();
            bytes.extend(key.bytes().chain([0]));
            place
        })
        .collect();
    word(&mut bytes, entries.len());
    let start = bytes.len();
    for key in keys {
        let back = bytes.len() - key;
        word(&mut bytes, back);
    }
    let back = bytes.len() - start;
    for value in [back, 4, entries.len()] {
        word(&mut bytes, value);
    }
    let values = bytes.len();
    for (_, value) in entries {
        bytes.extend(value.map_or_else(i32::to_le_bytes, f32::to_le_bytes));
    }
    let kinds = entries
        .iter()
        .map(|(_, value)| if value.is_ok() { FLOAT } else { INT });
    bytes.extend(kinds.map(|kind| kind << 2 | 2));
    let back = bytes.len() - values;
    word(&mut bytes, back);
    bytes.extend([MAP << 2 | 2, 4]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_numbers_by_their_keys() {
        let bytes = map(&[("a", Ok(1.5)), ("ab", Err(-7))]);
        let map = Map::root(&bytes).unwrap();
        assert_eq!(
            ["a", "ab", "b"].map(|key| map.number(key)),
            [Some(1.5), Some(-7.0), None]
        );
    }

    #[test]
    fn reads_what_the_format_s_own_library_writes() {
        // {"is": true, "n": 300, "x": 0.5, "y": -2}, by FlexBuffers for Python.
        let bytes = [
            105, 115, 0, 110, 0, 120, 0, 121, 0, 4, 10, 8, 7, 6, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0, 4,
            0, 0, 0, 1, 0, 0, 0, 44, 1, 0, 0, 0, 0, 0, 63, 254, 255, 255, 255, 106, 6, 14, 6, 20,
            38, 1,
        ];
        let map = Map::root(&bytes).unwrap();
        let values = ["is", "n", "x", "y", "z"].map(|key| map.number(key));
        assert_eq!(
            values,
            [Some(1.0), Some(300.0), Some(0.5), Some(-2.0), None]
        );
    }

    #[test]
    fn refuses_what_is_no_map() {
        for bytes in [&[][..], &[4], &[1, 4, 1], &[0; 8], &[255; 8]] {
            assert!(Map::root(bytes).is_none());
        }
    }
}
