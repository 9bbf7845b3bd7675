//! Padding of windows that slide over an image: convolutions and pools.

use super::OpError;
use crate::schema::tfl;

/// How the size of the result follows from that of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Padding {
    /// As many windows as strides begun; padded on both sides, the odd one behind.
    #[default]
    Same,
    /// Only windows that are inside.
    Valid,
    /// A number that the format does not define; kept, but no kernel does it.
    Other(i8),
}

/// Where windows are along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Windows {
    /// How many there are.
    pub count: usize,
    /// From one to the next; 1 where there is only one.
    pub stride: usize,
    /// From one tap to the next; 1 where there is only one.
    pub dilation: usize,
    /// Padding before the first element.
    pub before: usize,
}

impl Padding {
    /// The padding with the format's number `code`.
    pub fn from_code(code: tfl::Padding) -> Self {
        match code {
            tfl::Padding::SAME => Self::Same,
            tfl::Padding::VALID => Self::Valid,
            other => Self::Other(other.0),
        }
    }

    /// The padding's number in the format.
    pub fn code(self) -> tfl::Padding {
        match self {
            Self::Same => tfl::Padding::SAME,
            Self::Valid => tfl::Padding::VALID,
            Self::Other(code) => tfl::Padding(code),
        }
    }

    /// The windows of `filter` taps over `input` elements: LiteRT's `ComputePaddingHeightWidth`.
    pub(super) fn windows(
        self,
        input: usize,
        filter: usize,
        stride: i32,
        dilation: i32,
    ) -> Result<Windows, OpError> {
        let positive = |value: i32, what: &str| match usize::try_from(value) {
            Ok(value) if value > 0 => Ok(value),
            _ => Err(OpError::Attribute(format!("{what} {value} is not above 0"))),
        };
        let (stride, dilation) = (positive(stride, "stride")?, positive(dilation, "dilation")?);
        let extent = filter
            .checked_sub(1)
            .and_then(|gaps| gaps.checked_mul(dilation)?.checked_add(1))
            .ok_or_else(|| {
                OpError::Shape(format!("filter of size {filter} with dilation {dilation}"))
            })?;
        let count = match self {
            Self::Same => input.div_ceil(stride),
            Self::Valid if input == 0 => 0,
            Self::Valid if extent <= input => (input - extent) / stride + 1,
            Self::Valid => {
                return Err(OpError::Shape(format!(
                    "filter of extent {extent} is larger than the input of size {input}"
                )));
            }
            Self::Other(code) => {
                return Err(OpError::Attribute(format!(
                    "padding {code} is not SAME or VALID"
                )));
            }
        };
        let stride = if count > 1 { stride } else { 1 };
        let needed = count.saturating_sub(1) * stride;
        let before = needed.saturating_add(extent).saturating_sub(input) / 2;
        Ok(Windows {
            count,
            stride,
            dilation: if filter > 1 { dilation } else { 1 },
            before: if count > 0 { before } else { 0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(padding: Padding, input: usize, filter: usize, stride: i32) -> (usize, usize) {
        let windows = padding.windows(input, filter, stride, 1).unwrap();
        (windows.count, windows.before)
    }

    #[test]
    fn same_pads_less_in_front() {
        assert_eq!(windows(Padding::Same, 5, 3, 1), (5, 1));
        assert_eq!(windows(Padding::Same, 8, 3, 2), (4, 0));
        assert_eq!(windows(Padding::Same, 7, 3, 2), (4, 1));
        assert_eq!(windows(Padding::Same, 2, 5, 2), (1, 1));
        assert_eq!(windows(Padding::Same, 4, 1, 3), (2, 0));
    }

    #[test]
    fn valid_stays_inside() {
        assert_eq!(windows(Padding::Valid, 8, 3, 2), (3, 0));
        assert_eq!(windows(Padding::Valid, 3, 3, 7), (1, 0));
    }

    #[test]
    fn dilation_widens_the_filter() {
        let dilated = Padding::Valid.windows(9, 3, 1, 4).unwrap();
        assert_eq!((dilated.count, dilated.dilation), (1, 4));
        assert!(matches!(
            Padding::Valid.windows(8, 3, 1, 4),
            Err(OpError::Shape(_))
        ));
    }

    #[test]
    fn rejects_strides_and_dilations_below_1() {
        for (stride, dilation) in [(0, 1), (-1, 1), (1, 0), (1, i32::MIN)] {
            let error = Padding::Same.windows(4, 2, stride, dilation).unwrap_err();
            assert!(matches!(error, OpError::Attribute(_)));
        }
    }

    #[test]
    fn keeps_codes_that_mean_nothing() {
        let padding = Padding::from_code(tfl::Padding(9));
        assert_eq!(padding.code().0, 9);
        assert!(matches!(
            padding.windows(4, 2, 1, 1),
            Err(OpError::Attribute(_))
        ));
    }
}
