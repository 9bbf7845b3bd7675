//! Element types, shapes and bytes: what a tensor is before any operator looks at it.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::quant::Quantization;
use crate::schema::tfl;

/// The dimensions of a tensor, outermost first.
pub type Shape = Vec<usize>;

/// The number of elements of `shape`, or `None` where it does not fit `usize`.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

macro_rules! dtypes {
    ($($(#[$doc:meta])* $name:ident = $code:ident, $text:literal, $bytes:expr;)*) => {
        /// The type of a tensor's elements.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DType {
            $($(#[$doc])* $name,)*
            /// A type that this version does not know, by its number in the format.
            Other(i8),
        }

        impl DType {
            /// The type with the format's number `code`.
            pub fn from_code(code: tfl::TensorType) -> Self {
                match code {
                    $(tfl::TensorType::$code => Self::$name,)*
                    other => Self::Other(other.0),
                }
            }

            /// The type's number in the format.
            pub fn code(self) -> tfl::TensorType {
                match self {
                    $(Self::$name => tfl::TensorType::$code,)*
                    Self::Other(code) => tfl::TensorType(code),
                }
            }

            /// The size of one element in bytes; `None` for strings, lists and types
            /// that pack several elements into a byte.
            pub fn size(self) -> Option<usize> {
                match self {
                    $(Self::$name => $bytes,)*
                    Self::Other(_) => None,
                }
            }
        }

        impl fmt::Display for DType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($text),)*
                    Self::Other(code) => write!(f, "type {code}"),
                }
            }
        }
    };
}

dtypes! {
    /// IEEE 754 binary32.
    F32 = FLOAT32, "float32", Some(4);
    /// IEEE 754 binary16.
    F16 = FLOAT16, "float16", Some(2);
    /// IEEE 754 binary64.
    F64 = FLOAT64, "float64", Some(8);
    /// The upper half of a binary32.
    BF16 = BFLOAT16, "bfloat16", Some(2);
    /// Signed, 8 bits.
    I8 = INT8, "int8", Some(1);
    /// Signed, 16 bits.
    I16 = INT16, "int16", Some(2);
    /// Signed, 32 bits.
    I32 = INT32, "int32", Some(4);
    /// Signed, 64 bits.
    I64 = INT64, "int64", Some(8);
    /// Unsigned, 8 bits.
    U8 = UINT8, "uint8", Some(1);
    /// Unsigned, 16 bits.
    U16 = UINT16, "uint16", Some(2);
    /// Unsigned, 32 bits.
    U32 = UINT32, "uint32", Some(4);
    /// Unsigned, 64 bits.
    U64 = UINT64, "uint64", Some(8);
    /// One byte, 0 or 1.
    Bool = BOOL, "bool", Some(1);
    /// Signed, two elements to a byte.
    I4 = INT4, "int4", None;
    /// Two binary32.
    Complex64 = COMPLEX64, "complex64", Some(8);
    /// Two binary64.
    Complex128 = COMPLEX128, "complex128", Some(16);
    /// Byte strings with a table of offsets.
    String = STRING, "string", None;
    /// A handle to a variable or table: its number, as int32.
    Resource = RESOURCE, "resource", Some(4);
    /// A handle to a list.
    Variant = VARIANT, "variant", None;
}

impl DType {
    /// The number of bytes of a tensor of this type and `shape`; `None` where elements
    /// have no fixed size or the product does not fit `usize`.
    pub fn byte_len(self, shape: &[usize]) -> Option<usize> {
        element_count(shape)?.checked_mul(self.size()?)
    }
}

/// Immutable bytes, shared: part of a memory map, of the caller's buffer, or owned.
/// Cloning copies no data.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes {
    /// All bytes of `owner`, which is kept until the last clone is dropped.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let range = 0..owner.as_ref().len();
        Self {
            owner: Arc::new(owner),
            range,
        }
    }

    /// The bytes in `range`, or `None` where it is not inside.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        Some(Self {
            owner: Arc::clone(&self.owner),
            range: self.range.start + range.start..self.range.start + range.end,
        })
    }

    /// The part of these bytes that `part`, a slice borrowed from them, covers.
    pub(crate) fn slice_ref(&self, part: &[u8]) -> Option<Self> {
        let start = (part.as_ptr() as usize).checked_sub(self.as_ptr() as usize)?;
        self.slice(start..start.checked_add(part.len())?)
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        (*self.owner)
            .as_ref()
            .get(self.range.clone())
            .unwrap_or(&[])
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(&**self, &**other) || **self == **other
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// A typed, shaped value of a subgraph; a constant if it has data.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The name by which users know it.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The shape stored in the file; a dimension that may vary holds 1 here.
    pub shape: Shape,
    /// The shape with -1 for dimensions that may vary, where the file has one.
    pub shape_signature: Option<Vec<i32>>,
    /// Whether the file knows the rank; a scalar has a rank, of 0.
    pub has_rank: bool,
    /// The value, if it is a constant.
    pub data: Option<Bytes>,
    /// How integers stand for real values.
    pub quantization: Option<Quantization>,
    /// Whether it keeps its value between runs.
    pub is_variable: bool,
    /// How a sparse constant is packed.
    pub sparsity: Option<Box<tfl::SparsityParametersT>>,
    /// What a variant tensor holds.
    pub variant_tensors: Option<Vec<tfl::VariantSubTypeT>>,
}

impl Tensor {
    /// A value that some operator computes.
    pub fn new(name: impl Into<String>, dtype: DType, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Self {
            name: name.into(),
            dtype,
            has_rank: false,
            shape,
            shape_signature: None,
            data: None,
            quantization: None,
            is_variable: false,
            sparsity: None,
            variant_tensors: None,
        }
    }

    /// A constant with the bytes `data`.
    pub fn constant(
        name: impl Into<String>,
        dtype: DType,
        shape: impl Into<Shape>,
        data: impl Into<Bytes>,
    ) -> Self {
        Self {
            data: Some(data.into()),
            ..Self::new(name, dtype, shape)
        }
    }

    /// The same with `quantization`.
    #[must_use]
    pub fn quantized(mut self, quantization: Quantization) -> Self {
        self.quantization = Some(quantization);
        self
    }

    /// Whether its value is in the file.
    pub fn is_constant(&self) -> bool {
        self.data.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_len_refuses_overflow() {
        assert_eq!(DType::F32.byte_len(&[usize::MAX, 2]), None);
        assert_eq!(DType::F32.byte_len(&[]), Some(4));
        assert_eq!(DType::I16.byte_len(&[3, 0]), Some(0));
    }

    #[test]
    fn slices_stay_inside() {
        let bytes = Bytes::from(vec![1, 2, 3, 4]);
        let part = bytes.slice(1..3).unwrap();
        assert_eq!(&*part, [2, 3]);
        assert!(part.slice(1..3).is_none());
        assert_eq!(
            bytes.slice_ref(&bytes[2..]).unwrap().as_ptr(),
            bytes[2..].as_ptr()
        );
    }
}
