//! Element types, their numpy names, and how shapes are counted and printed.

use std::fmt;

/// Type of a tensor's elements, as far as numpy and `.tflite` both know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// One byte, 0 or 1.
    Bool,
    /// 8-bit signed integer.
    I8,
    /// 16-bit signed integer.
    I16,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit unsigned integer.
    U64,
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl ElementType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// Whether this is one of the floating-point types.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }

    /// Smallest and largest value of an integer type (0 and 1 for bool); nothing for a float.
    pub(super) fn integer_range(self) -> Option<(i128, i128)> {
        Some(match self {
            Self::Bool => (0, 1),
            Self::I8 => (i8::MIN.into(), i8::MAX.into()),
            Self::I16 => (i16::MIN.into(), i16::MAX.into()),
            Self::I32 => (i32::MIN.into(), i32::MAX.into()),
            Self::I64 => (i64::MIN.into(), i64::MAX.into()),
            Self::U8 => (0, u8::MAX.into()),
            Self::U16 => (0, u16::MAX.into()),
            Self::U32 => (0, u32::MAX.into()),
            Self::U64 => (0, u64::MAX.into()),
            Self::F16 | Self::F32 | Self::F64 => return None,
        })
    }

    /// Kind and size in a numpy `descr`, without the byte order: `f4`.
    pub(super) fn numpy_code(self) -> &'static str {
        match self {
            Self::Bool => "b1",
            Self::I8 => "i1",
            Self::I16 => "i2",
            Self::I32 => "i4",
            Self::I64 => "i8",
            Self::U8 => "u1",
            Self::U16 => "u2",
            Self::U32 => "u4",
            Self::U64 => "u8",
            Self::F16 => "f2",
            Self::F32 => "f4",
            Self::F64 => "f8",
        }
    }

    pub(super) fn from_numpy_code(code: &str) -> Option<Self> {
        const ALL: [ElementType; 12] = [
            ElementType::Bool,
            ElementType::I8,
            ElementType::I16,
            ElementType::I32,
            ElementType::I64,
            ElementType::U8,
            ElementType::U16,
            ElementType::U32,
            ElementType::U64,
            ElementType::F16,
            ElementType::F32,
            ElementType::F64,
        ];
        ALL.into_iter().find(|t| t.numpy_code() == code)
    }
}

/// numpy's name: `float32`, `uint8`.
impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        })
    }
}

/// Prints a shape as `224x224x3`, a scalar's as `scalar`.
pub(super) struct Dims<'a>(pub &'a [usize]);

impl fmt::Display for Dims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("scalar");
        }
        for (i, dim) in self.0.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { "x" })?;
        }
        Ok(())
    }
}

/// Elements of a shape, or nothing if there are more than memory could hold.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim))
}

/// Bytes of a shape, or nothing if there are more than memory could hold.
pub(super) fn byte_len(shape: &[usize], dtype: ElementType) -> Option<usize> {
    let bytes = elements(shape)?.checked_mul(dtype.size())?;
    (bytes <= isize::MAX as usize).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_bytes_without_overflow() {
        assert_eq!(byte_len(&[2, 3], ElementType::F32), Some(24));
        assert_eq!(byte_len(&[], ElementType::I64), Some(8));
        assert_eq!(byte_len(&[usize::MAX, 0], ElementType::I64), Some(0));
        assert_eq!(byte_len(&[usize::MAX, 2], ElementType::U8), None);
        assert_eq!(byte_len(&[usize::MAX / 4], ElementType::F64), None);
    }

    #[test]
    fn reads_every_numpy_code_it_writes() {
        for code in [
            "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8",
        ] {
            let dtype = ElementType::from_numpy_code(code).unwrap();
            assert_eq!(dtype.numpy_code(), code);
            assert!(code.ends_with(&dtype.size().to_string()));
        }
        assert_eq!(ElementType::from_numpy_code("c8"), None);
    }
}
