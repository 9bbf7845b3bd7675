//! The `.npy` header: what numpy writes, read without trust.
//!
//! Format: numpy's `lib/format.py`, versions 1.0 to 3.0: magic, version, length, then a Python dictionary
//! of exactly `descr`, `fortran_order` and `shape`.

use std::io::{self, Read};
use std::path::Path;

use super::{ElementType, SampleError};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// numpy itself refuses headers over 10,000 characters unless told otherwise.
const MAX_HEADER: usize = 1 << 16;

/// What a header says.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    pub(super) dtype: ElementType,
    /// Whether the bytes of an element are in the other order than this machine's.
    pub(super) swapped: bool,
    pub(super) shape: Vec<usize>,
    /// Bytes from the start of the file to the first element.
    pub(super) len: u64,
}

impl Header {
    /// Reads the header at the start of `reader`, and nothing behind it. `path` is for errors.
    pub(super) fn read(reader: &mut impl Read, path: &Path) -> Result<Self, SampleError> {
        let invalid = |reason| SampleError::Header {
            path: path.to_owned(),
            reason,
        };
        let mut fill = |buffer: &mut [u8], reason| {
            reader
                .read_exact(buffer)
                .map_err(|source| match source.kind() {
                    io::ErrorKind::UnexpectedEof => invalid(reason),
                    _ => SampleError::reading(path)(source),
                })
        };

        let mut start = [0; 8];
        fill(&mut start, "it is shorter than the magic number")?;
        if &start[..6] != MAGIC {
            return Err(invalid("the magic number is missing"));
        }
        let (text_len, prefix_len) = match start[6] {
            1 => {
                let mut len = [0; 2];
                fill(&mut len, "it ends before its length")?;
                (usize::from(u16::from_le_bytes(len)), 10)
            }
            2 | 3 => {
                let mut len = [0; 4];
                fill(&mut len, "it ends before its length")?;
                (u32::from_le_bytes(len) as usize, 12)
            }
            _ => return Err(invalid("its version is none of 1, 2 and 3")),
        };
        if text_len > MAX_HEADER {
            return Err(invalid("it is longer than 65536 bytes"));
        }
        let mut text = vec![0; text_len];
        fill(&mut text, "it is shorter than it says")?;
        let text = std::str::from_utf8(&text).map_err(|_| invalid("it is not text"))?;

        let fields = Parser { rest: text }.dictionary().map_err(invalid)?;
        let unsupported = |descr: &str| SampleError::ArrayType {
            path: path.to_owned(),
            descr: descr.to_owned(),
        };
        let Descr::Plain(descr) = fields.descr else {
            return Err(unsupported("record"));
        };
        let (dtype, swapped) = element_type(descr).ok_or_else(|| unsupported(descr))?;
        // With at most one axis longer than 1 both orders are the same.
        if fields.fortran_order && fields.shape.iter().filter(|&&dim| dim != 1).count() > 1 {
            return Err(SampleError::FortranOrder {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            dtype,
            swapped,
            shape: fields.shape,
            len: (text_len + prefix_len) as u64,
        })
    }
}

/// The header that numpy writes for a C-order array of this machine's byte order, padded to 64 bytes.
pub(super) fn header_bytes(shape: &[usize], dtype: ElementType) -> Vec<u8> {
    let order = match (dtype.size(), cfg!(target_endian = "big")) {
        (1, _) => '|',
        (_, false) => '<',
        (_, true) => '>',
    };
    let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let dictionary = format!(
        "{{'descr': '{order}{}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        dtype.numpy_code(),
        dims.join(", ")
    );
    let mut header = MAGIC.to_vec();
    let mut text_len = (10 + dictionary.len() + 1).next_multiple_of(64) - 10;
    if let Ok(len) = u16::try_from(text_len) {
        header.extend_from_slice(&[1, 0]);
        header.extend_from_slice(&len.to_le_bytes());
    } else {
        text_len = (12 + dictionary.len() + 1).next_multiple_of(64) - 12;
        header.extend_from_slice(&[2, 0]);
        header.extend_from_slice(&(text_len as u32).to_le_bytes());
    }
    header.extend_from_slice(format!("{dictionary:<width$}\n", width = text_len - 1).as_bytes());
    header
}

fn element_type(descr: &str) -> Option<(ElementType, bool)> {
    let order = descr.chars().next()?;
    let code = descr.get(order.len_utf8()..)?;
    let dtype = ElementType::from_numpy_code(code)?;
    let swapped = match order {
        '<' => cfg!(target_endian = "big"),
        '>' => cfg!(target_endian = "little"),
        '|' | '=' => false,
        _ => return None,
    };
    Some((dtype, swapped && dtype.size() > 1))
}

enum Descr<'a> {
    Plain(&'a str),
    Record,
}

struct Fields<'a> {
    descr: Descr<'a>,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// Reads the one kind of Python dictionary that a header is.
struct Parser<'a> {
    rest: &'a str,
}

type Parsed<T> = Result<T, &'static str>;

impl<'a> Parser<'a> {
    fn dictionary(mut self) -> Parsed<Fields<'a>> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect("{", "it is not a dictionary")?;
        while !self.take("}") {
            let key = self.string()?;
            self.expect(":", "a key has no value")?;
            match key {
                "descr" if self.peek("[") => {
                    // A record's fields may hold anything; what follows cannot be found safely, nor is it needed.
                    return Ok(Fields {
                        descr: Descr::Record,
                        fortran_order: false,
                        shape: vec![],
                    });
                }
                "descr" => descr = Some(Descr::Plain(self.string()?)),
                "fortran_order" => fortran_order = Some(self.boolean()?),
                "shape" => shape = Some(self.tuple()?),
                _ => return Err("it has an unknown key"),
            }
            if !self.take(",") && !self.peek("}") {
                return Err("it is not a dictionary");
            }
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => Ok(Fields {
                descr,
                fortran_order,
                shape,
            }),
            _ => Err("it lacks descr, fortran_order or shape"),
        }
    }

    fn peek(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.starts_with(token)
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.peek(token);
        if let Some(rest) = self.rest.strip_prefix(token) {
            self.rest = rest;
        }
        found
    }

    fn expect(&mut self, token: &str, reason: &'static str) -> Parsed<()> {
        if self.take(token) {
            Ok(())
        } else {
            Err(reason)
        }
    }

    fn string(&mut self) -> Parsed<&'a str> {
        let quote = if self.take("'") {
            '\''
        } else {
            self.expect("\"", "a text is not quoted")?;
            '"'
        };
        let (text, rest) = self.rest.split_once(quote).ok_or("a quote is not closed")?;
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Parsed<bool> {
        if self.take("True") {
            return Ok(true);
        }
        self.expect("False", "fortran_order is neither True nor False")?;
        Ok(false)
    }

    fn tuple(&mut self) -> Parsed<Vec<usize>> {
        let mut dims = vec![];
        self.expect("(", "shape is not a tuple")?;
        while !self.take(")") {
            self.rest = self.rest.trim_start();
            let end = self
                .rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(self.rest.len());
            let (digits, rest) = self.rest.split_at(end);
            dims.push(
                digits
                    .parse()
                    .map_err(|_| "shape holds something other than sizes")?,
            );
            // Python 2 wrote long integers as 3L.
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            if !self.take(",") && !self.peek(")") {
                return Err("shape is not a tuple");
            }
        }
        Ok(dims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dictionary: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(dictionary.len() as u16).to_le_bytes());
        bytes.extend_from_slice(dictionary.as_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Header, SampleError> {
        Header::read(&mut &bytes[..], Path::new("x.npy"))
    }

    #[test]
    fn reads_what_it_writes() {
        for shape in [vec![], vec![5], vec![2, 3], vec![1, 224, 224, 3]] {
            for dtype in [
                ElementType::F32,
                ElementType::U8,
                ElementType::Bool,
                ElementType::F16,
            ] {
                let bytes = header_bytes(&shape, dtype);
                assert_eq!(bytes.len() % 64, 0);
                assert_eq!(bytes.last(), Some(&b'\n'));
                let len = bytes.len() as u64;
                assert_eq!(
                    read(&bytes).unwrap(),
                    Header {
                        dtype,
                        swapped: false,
                        shape: shape.clone(),
                        len
                    }
                );
            }
        }
    }

    #[test]
    fn reads_other_spellings() {
        let big = read(&file(
            "{\"shape\":(2L,3),\"fortran_order\":False,\"descr\":\">i2\"}",
        ))
        .unwrap();
        assert_eq!(
            (big.dtype, big.swapped, big.shape),
            (ElementType::I16, cfg!(target_endian = "little"), vec![2, 3])
        );
        let column = file("{'descr': '<f4', 'fortran_order': True, 'shape': (7, 1), }   \n");
        assert_eq!(read(&column).unwrap().shape, [7, 1]);
    }

    #[test]
    fn refuses_what_it_would_misread() {
        let fortran = read(&file(
            "{'descr': '<f4', 'fortran_order': True, 'shape': (7, 2), }",
        ))
        .unwrap_err();
        assert!(
            matches!(fortran, SampleError::FortranOrder { .. }),
            "{fortran}"
        );
        for descr in [
            "'<c8'",
            "'|O'",
            "'<U3'",
            "'?'",
            "''",
            "'é4'",
            "[('a', '<f4')]",
        ] {
            let error = read(&file(&format!(
                "{{'descr': {descr}, 'fortran_order': False, 'shape': ()}}"
            )))
            .unwrap_err();
            assert!(
                matches!(error, SampleError::ArrayType { .. }),
                "{descr}: {error}"
            );
        }
    }

    #[test]
    fn refuses_hostile_headers() {
        for text in [
            "",
            "{",
            "{}",
            "{'descr'",
            "{'descr': '<f4",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': ((((((",
            "{'descr': '<f4', 'fortran_order': False, 'shape': 3}",
            "{'descr': '<f4' 'fortran_order': False, 'shape': ()}",
            "{'other': '<f4'}",
        ] {
            let error = read(&file(text)).unwrap_err();
            assert!(
                matches!(error, SampleError::Header { .. }),
                "{text}: {error}"
            );
        }
        assert!(matches!(
            read(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
            Err(SampleError::Header { .. })
        ));
        assert!(matches!(
            read(b"\x93NUMPY\x09\x00\x00\x00"),
            Err(SampleError::Header { .. })
        ));
    }

    #[test]
    fn every_cut_of_a_header_is_an_error() {
        let whole = header_bytes(&[3, 4], ElementType::I32);
        for len in 0..whole.len() {
            assert!(
                matches!(read(&whole[..len]), Err(SampleError::Header { .. })),
                "{len}"
            );
        }
    }
}
