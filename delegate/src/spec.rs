//! Which driver takes partitions, as users write it: `edgetpu:usb:0`,
//! `tflite:/usr/lib/libvx_delegate.so?cache_path=/tmp`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Which driver takes partitions of the model. [`fmt::Display`] writes what [`FromStr`] reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DriverSpec {
    /// `cpu`: none; every operator runs on the CPU path.
    #[default]
    Cpu,
    /// `edgetpu[:usb:N|:pci:N|:PATH][?key=value]`: the Edge TPU's runtime library.
    EdgeTpu {
        /// Which device.
        device: EdgeTpuDevice,
        /// Options of the runtime.
        options: DriverOptions,
    },
    /// `tflite:/path/lib.so[?key=value]`: a delegate for TFLite that is a library of its own.
    Tflite(Library),
    /// `bantam:/path/lib.so[?key=value]`: a library that implements `bantam_driver.h`.
    Bantam(Library),
    /// `virtual[:chip][?key=value]`: the reference accelerator, which accepts what a chip's pack
    /// accepts.
    Virtual {
        /// The name of a target, or the path of a pack; `None` for what the driver takes by default.
        chip: Option<String>,
        /// Faults to show, among others.
        options: DriverOptions,
    },
    /// `gpu[:/path/lib.so][?key=value]`: partitions of float16 on a GPU.
    Gpu {
        /// The vendor's delegate; `None` where there is none.
        library: Option<PathBuf>,
        /// Options of the delegate.
        options: DriverOptions,
    },
}

/// An Edge TPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EdgeTpuDevice {
    /// The first that is there.
    #[default]
    Any,
    /// `usb` or `usb:N`: the Nth on USB, from 0.
    Usb(u32),
    /// `pci` or `pci:N`: the Nth on PCI Express, from 0.
    Pci(u32),
    /// The path by which the runtime lists it.
    Path(String),
}

/// A library and what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Where it is.
    pub path: PathBuf,
    /// What it is told.
    pub options: DriverOptions,
}

/// Keys and values for a driver, in the order given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DriverOptions(pub Vec<(String, String)>);

/// Why a text names no driver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The word in front is not known.
    #[error("there is no driver {0:?}; there are cpu, edgetpu, tflite, bantam, virtual and gpu")]
    Kind(String),
    /// A library is needed.
    #[error("{kind} needs the path of a library, as in {kind}:/usr/lib/libexample.so")]
    Path {
        /// The driver.
        kind: &'static str,
    },
    /// An option has no value.
    #[error("option {0:?} is not of the form key=value")]
    Option(String),
    /// The driver has no options, or nothing to choose.
    #[error("{kind} takes nothing behind it, and {rest:?} is")]
    Rest {
        /// The driver.
        kind: &'static str,
        /// What is behind it.
        rest: String,
    },
    /// A device has no number.
    #[error("{0:?} is not the number of a device, such as usb:0")]
    Device(String),
}

impl DriverOptions {
    /// The last value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let mut pairs = self.0.iter().rev();
        pairs.find(|(k, _)| k == key).map(|(_, value)| &value[..])
    }

    fn parse(text: Option<&str>) -> Result<Self, SpecError> {
        let pairs = text
            .into_iter()
            .flat_map(|text| text.split('&'))
            .filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| match pair.split_once('=') {
                Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
                _ => Err(SpecError::Option(pair.to_owned())),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl DriverSpec {
    /// The word in front: `cpu`, `edgetpu`, `tflite`, `bantam`, `virtual`, `gpu`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::EdgeTpu { .. } => "edgetpu",
            Self::Tflite(_) => "tflite",
            Self::Bantam(_) => "bantam",
            Self::Virtual { .. } => "virtual",
            Self::Gpu { .. } => "gpu",
        }
    }
}

impl FromStr for EdgeTpuDevice {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let number = |text: &str| match text.strip_prefix(':') {
            None if text.is_empty() => Some(Ok(0)),
            None => None,
            Some(number) => Some(
                number
                    .parse()
                    .map_err(|_| SpecError::Device(number.to_owned())),
            ),
        };
        let numbered = |bus: &str| text.strip_prefix(bus).and_then(number);
        Ok(match (numbered("usb"), numbered("pci")) {
            _ if text.is_empty() => Self::Any,
            (Some(number), _) => Self::Usb(number?),
            (_, Some(number)) => Self::Pci(number?),
            _ => Self::Path(text.to_owned()),
        })
    }
}

impl FromStr for DriverSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (head, options) = match text.split_once('?') {
            Some((head, options)) => (head, Some(options)),
            None => (text, None),
        };
        let (kind, rest) = match head.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest).filter(|rest| !rest.is_empty())),
            None => (head, None),
        };
        let options = DriverOptions::parse(options)?;
        let library = |kind| match rest {
            Some(path) => Ok(Library {
                path: path.into(),
                options: options.clone(),
            }),
            None => Err(SpecError::Path { kind }),
        };
        match kind {
            "cpu" => match text.strip_prefix("cpu") {
                None | Some("") => Ok(Self::Cpu),
                Some(rest) => Err(SpecError::Rest {
                    kind: "cpu",
                    rest: rest.to_owned(),
                }),
            },
            "edgetpu" => Ok(Self::EdgeTpu {
                device: rest.unwrap_or("").parse()?,
                options,
            }),
            "tflite" => library("tflite").map(Self::Tflite),
            "bantam" => library("bantam").map(Self::Bantam),
            "virtual" => Ok(Self::Virtual {
                chip: rest.map(str::to_owned),
                options,
            }),
            "gpu" => Ok(Self::Gpu {
                library: rest.map(PathBuf::from),
                options,
            }),
            other => Err(SpecError::Kind(other.to_owned())),
        }
    }
}

impl fmt::Display for EdgeTpuDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Usb(number) => write!(f, "usb:{number}"),
            Self::Pci(number) => write!(f, "pci:{number}"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

impl fmt::Display for DriverOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.0.iter().enumerate() {
            let sign = if index == 0 { '?' } else { '&' };
            write!(f, "{sign}{key}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DriverSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        let (rest, options) = match self {
            Self::Cpu => return Ok(()),
            Self::EdgeTpu { device, options } => (device.to_string(), options),
            Self::Tflite(library) | Self::Bantam(library) => {
                (library.path.display().to_string(), &library.options)
            }
            Self::Virtual { chip, options } => (chip.clone().unwrap_or_default(), options),
            Self::Gpu { library, options } => {
                let path = library.as_ref().map(|path| path.display().to_string());
                (path.unwrap_or_default(), options)
            }
        };
        if !rest.is_empty() {
            write!(f, ":{rest}")?;
        }
        write!(f, "{options}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DriverSpec {
        text.parse().unwrap()
    }

    #[test]
    fn writes_what_it_reads() {
        for text in [
            "cpu",
            "edgetpu",
            "edgetpu:usb:1",
            "edgetpu:pci:0",
            "edgetpu:/sys/bus/usb/devices/2-1",
            "edgetpu:usb:0?Performance=Max",
            "tflite:/usr/lib/libvx_delegate.so",
            "tflite:relative.so?a=1&b=x=y",
            "bantam:/opt/driver.so?log=",
            "virtual",
            "virtual:ethos-u55?fail=3",
            "gpu",
            "gpu:/usr/lib/libgpu.so",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn a_bus_alone_is_its_first_device() {
        assert_eq!(parse("edgetpu:usb"), parse("edgetpu:usb:0"));
        assert_eq!(parse("edgetpu:pci"), parse("edgetpu:pci:0"));
    }

    #[test]
    fn the_last_of_equal_options_counts() {
        let DriverSpec::Tflite(library) = parse("tflite:x.so?a=1&b=2&a=3") else {
            panic!("another driver");
        };
        assert_eq!(library.options.get("a"), Some("3"));
        assert_eq!(library.options.get("c"), None);
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, wanted) in [
            (
                "tpu",
                "there is no driver \"tpu\"; there are cpu, edgetpu, tflite, bantam, virtual and gpu",
            ),
            (
                "tflite",
                "tflite needs the path of a library, as in tflite:/usr/lib/libexample.so",
            ),
            (
                "bantam:?a=1",
                "bantam needs the path of a library, as in bantam:/usr/lib/libexample.so",
            ),
            (
                "virtual?fast",
                "option \"fast\" is not of the form key=value",
            ),
            ("cpu:0", "cpu takes nothing behind it, and \":0\" is"),
            (
                "edgetpu:usb:x",
                "\"x\" is not the number of a device, such as usb:0",
            ),
        ] {
            let error = text.parse::<DriverSpec>().unwrap_err();
            assert_eq!(error.to_string(), wanted);
        }
    }
}
