//! The options of the Edge TPU's library, looked at before it sees them: it aborts the process over some, and drops others
//! without a word.

use std::path::PathBuf;

use crate::DriverOptions;
use crate::driver::DriverError;
use crate::driver::tflite::{STRIDE, Stride};

/// What a spec says behind `edgetpu`.
#[derive(Debug, Default)]
pub(super) struct EdgeTpuOptions {
    /// `library`.
    pub library: Option<PathBuf>,
    /// `verbosity`: 0 to 10.
    pub verbosity: Option<u8>,
    /// `tensor-stride`.
    pub stride: Option<Stride>,
    /// What goes to the library, by the names that it knows, each once.
    pub pairs: Vec<(String, String)>,
}

/// The library's own options and what each may be. Source: `edgetpu.h`, and libedgetpu's parser of 2024-03.
const THEIRS: &[(&str, Values)] = &[
    (
        "Performance",
        Values::OneOf(&["Low", "Medium", "High", "Max"]),
    ),
    ("Usb.AlwaysDfu", Values::OneOf(&["True", "False"])),
    ("Usb.MaxBulkInQueueLength", Values::UpTo(255)),
];

#[derive(Clone, Copy)]
enum Values {
    OneOf(&'static [&'static str]),
    UpTo(u32),
}

impl Values {
    /// `value` as the library spells it.
    fn spelled(self, value: &str) -> Result<String, String> {
        match self {
            Self::OneOf(values) => {
                let mut known = values.iter();
                let found = known.find(|known| known.eq_ignore_ascii_case(value));
                found
                    .map(|found| (*found).to_owned())
                    .ok_or_else(|| format!("it is none of {}", values.join(", ")))
            }
            Self::UpTo(most) => match value.parse::<u32>() {
                Ok(number) if number <= most => Ok(number.to_string()),
                _ => Err(format!("it is not a number from 0 to {most}")),
            },
        }
    }
}

impl EdgeTpuOptions {
    pub fn read(options: &DriverOptions) -> Result<Self, DriverError> {
        let mut read = Self::default();
        for (key, value) in &options.0 {
            let wrong = |cause: String| DriverError::Option {
                option: format!("{key}={value}"),
                cause,
            };
            match key.as_str() {
                "library" if value.is_empty() => return Err(wrong("it names no file".to_owned())),
                "library" => read.library = Some(value.into()),
                "verbosity" => {
                    let level = value.parse().ok().filter(|level| *level <= 10);
                    let level =
                        level.ok_or_else(|| wrong("it is not a number from 0 to 10".into()));
                    read.verbosity = Some(level?);
                }
                STRIDE => read.stride = Some(Stride::read(value)?),
                key => {
                    let theirs = THEIRS
                        .iter()
                        .find(|(name, _)| name.eq_ignore_ascii_case(key));
                    let Some((name, values)) = theirs else {
                        let names: Vec<&str> = THEIRS.iter().map(|(name, _)| *name).collect();
                        return Err(wrong(format!(
                            "there are library, verbosity, {STRIDE}, {}",
                            names.join(", ")
                        )));
                    };
                    let value = values.spelled(value).map_err(wrong)?;
                    read.pairs.retain(|(known, _)| known != name);
                    read.pairs.push(((*name).to_owned(), value));
                }
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)]) -> Result<EdgeTpuOptions, DriverError> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        EdgeTpuOptions::read(&DriverOptions(options.iter().map(own).collect()))
    }

    #[test]
    fn options_reach_the_library_as_it_spells_them() {
        let read = read(&[
            ("performance", "max"),
            ("Usb.MaxBulkInQueueLength", "032"),
            ("verbosity", "3"),
            ("tensor-stride", "104"),
            ("Performance", "Low"),
        ]);
        let read = read.unwrap();
        let pairs: Vec<(&str, &str)> = read.pairs.iter().map(|(k, v)| (&k[..], &v[..])).collect();
        assert_eq!(
            pairs,
            [("Usb.MaxBulkInQueueLength", "32"), ("Performance", "Low")]
        );
        assert_eq!(
            (read.verbosity, read.stride),
            (Some(3), Some(Stride::Bytes104))
        );
    }

    #[test]
    fn what_the_library_would_abort_over_is_an_error() {
        for (key, value, wanted) in [
            (
                "Performance",
                "Turbo",
                "it is none of Low, Medium, High, Max",
            ),
            ("Usb.AlwaysDfu", "yes", "it is none of True, False"),
            (
                "Usb.MaxBulkInQueueLength",
                "256",
                "it is not a number from 0 to 255",
            ),
            (
                "Usb.MaxBulkInQueueLength",
                "-1",
                "it is not a number from 0 to 255",
            ),
            ("verbosity", "11", "it is not a number from 0 to 10"),
            ("tensor-stride", "100", "it is neither 104 nor 112"),
            ("library", "", "it names no file"),
            (
                "colour",
                "red",
                "there are library, verbosity, tensor-stride, Performance",
            ),
        ] {
            let error = read(&[(key, value)]).unwrap_err().to_string();
            let start = format!("driver option {key}={value}: {wanted}");
            assert!(error.starts_with(&start), "{error}");
        }
    }
}
