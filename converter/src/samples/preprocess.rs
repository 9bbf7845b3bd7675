//! What is done to raw values and pictures before a model takes them.

use std::fmt;

use super::SampleError;

/// How raw data becomes real values. The default changes nothing: values as stored, RGB, exact size.
///
/// Displayed in one line that a report can echo: `x*0.007843138-1; rgb; resize exact`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Preprocess {
    /// Applied to each value.
    pub normalize: Normalize,
    /// Order in which the model takes the channels of a picture.
    pub channel_order: ChannelOrder,
    /// How a picture gets the input's size.
    pub resize: Resize,
}

/// The affine step of a [`Preprocess`], in float32 with a rounding after each operation, as numpy does it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalize {
    /// `x * scale + bias`.
    ScaleBias {
        /// Factor.
        scale: f32,
        /// Summand.
        bias: f32,
    },
    /// `(x - mean) / std`.
    MeanStd {
        /// Subtrahend.
        mean: f32,
        /// Divisor, not 0.
        std: f32,
    },
}

/// Order of a picture's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelOrder {
    /// Red first, as image files store them.
    #[default]
    Rgb,
    /// Blue first, as OpenCV gives them.
    Bgr,
}

/// How a picture gets the input's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resize {
    /// It must have that size already.
    #[default]
    Exact,
    /// Stretched to that size; the aspect ratio may change.
    Fit,
    /// Scaled until the short side fits, then cut to the centre.
    Crop,
}

impl Default for Normalize {
    fn default() -> Self {
        Self::ScaleBias {
            scale: 1.0,
            bias: 0.0,
        }
    }
}

impl Normalize {
    /// The value that the model takes for the raw value `x`.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::ScaleBias { scale, bias } => x * scale + bias,
            Self::MeanStd { mean, std } => (x - mean) / std,
        }
    }

    /// Whether every value stays as it is.
    pub fn is_identity(self) -> bool {
        matches!(
            self,
            Self::ScaleBias {
                scale: 1.0,
                bias: 0.0
            } | Self::MeanStd {
                mean: 0.0,
                std: 1.0
            }
        )
    }

    pub(super) fn check(self) -> Result<(), SampleError> {
        let numbers = match self {
            Self::ScaleBias { scale, bias } => [("scale", scale), ("bias", bias)],
            Self::MeanStd { mean, std } => [("mean", mean), ("std", std)],
        };
        for (what, value) in numbers {
            if !value.is_finite() || (value == 0.0 && matches!(what, "scale" | "std")) {
                return Err(SampleError::Preprocess { what, value });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            _ if self.is_identity() => f.write_str("x"),
            Self::ScaleBias { scale, bias } => write!(f, "x*{scale}{bias:+}"),
            Self::MeanStd { mean, std } => write!(f, "(x{:+})/{std}", -mean),
        }
    }
}

impl fmt::Display for ChannelOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
        })
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Fit => "fit",
            Self::Crop => "crop",
        })
    }
}

impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; {}; resize {}",
            self.normalize, self.channel_order, self.resize
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_computes() {
        let scale_bias = Normalize::ScaleBias {
            scale: 0.5,
            bias: -1.0,
        };
        let mean_std = Normalize::MeanStd {
            mean: 127.5,
            std: 128.0,
        };
        assert_eq!(
            (scale_bias.to_string().as_str(), scale_bias.apply(4.0)),
            ("x*0.5-1", 1.0)
        );
        assert_eq!(
            (mean_std.to_string().as_str(), mean_std.apply(127.5)),
            ("(x-127.5)/128", 0.0)
        );
        assert_eq!(Preprocess::default().to_string(), "x; rgb; resize exact");
    }

    #[test]
    fn refuses_numbers_that_erase_the_data() {
        assert!(Normalize::default().check().is_ok());
        for bad in [
            Normalize::MeanStd {
                mean: 0.0,
                std: 0.0,
            },
            Normalize::ScaleBias {
                scale: 0.0,
                bias: 1.0,
            },
            Normalize::ScaleBias {
                scale: 1.0,
                bias: f32::NAN,
            },
            Normalize::MeanStd {
                mean: f32::INFINITY,
                std: 1.0,
            },
        ] {
            assert!(
                matches!(bad.check(), Err(SampleError::Preprocess { .. })),
                "{bad:?}"
            );
        }
    }
}
