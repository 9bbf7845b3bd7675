//! What the user of a runtime asks of the delegate.
//!
//! A runtime hands over keys and values. Some hand over one value for all: under the key `options` a value has several
//! pairs, separated by `;` or `,`, each split at its first `:` or `=`.

use std::path::PathBuf;
use std::time::Duration;

use ::bantam_model::Numerics;
use bantam_delegate::{Deadline, DriverSpec, Selector};

use crate::error::Failure;

/// The keys, in the order in which they are documented.
const KEYS: [&str; 13] = [
    "driver",
    "target",
    "device",
    "threads",
    "numerics",
    "min_ops",
    "allow",
    "deny",
    "deadline_ms",
    "require_full_delegation",
    "report",
    "inner",
    "options",
];

/// The key of many pairs.
const MANY: &str = "options";
/// The key that makes it a spy.
const INNER: &str = "inner";

/// What a delegate shall be.
#[derive(Debug)]
pub(super) enum Request {
    Offload(Options),
    Spy(SpyOptions),
}

/// Who computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Computes {
    /// Our own kernels.
    CpuKernels,
    /// A driver, and our kernels where it fails.
    Driver(DriverSpec),
}

/// Which operators are claimed, and how they run.
#[derive(Debug)]
pub(super) struct Options {
    pub computes: Computes,
    pub device: Option<String>,
    /// `None` for what the runtime recommends.
    pub threads: Option<usize>,
    pub numerics: Numerics,
    pub min_ops: Option<usize>,
    pub allow: Vec<Selector>,
    pub deny: Vec<Selector>,
    pub deadline: Option<Deadline>,
    pub requires_full_delegation: bool,
    pub report: Option<PathBuf>,
}

/// Whose delegate is watched.
#[derive(Debug)]
pub(super) struct SpyOptions {
    pub library: PathBuf,
    /// What is for that delegate.
    pub options: Vec<(String, String)>,
    pub report: Option<PathBuf>,
}

fn wrong(key: &str, value: &str, cause: impl std::fmt::Display) -> Failure {
    Failure::argument(format!("option {key}={value}: {cause}"))
}

/// The spelling that counts: `_` for `-`.
fn plain(key: &str) -> String {
    key.trim().replace('-', "_")
}

/// Splits a value of many pairs.
fn split(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for piece in text.split([';', ',']).map(str::trim) {
        if piece.is_empty() {
            continue;
        }
        let unreadable =
            || Failure::argument(format!("option {piece:?} is not of the form KEY=VALUE"));
        let (key, value) = piece.split_once([':', '=']).ok_or_else(unreadable)?;
        // One more selector of a list, and no option.
        let continues = matches!(key, "op" | "tensor" | "index");
        match pairs.last_mut() {
            Some((last, list)) if continues && matches!(&plain(last)[..], "allow" | "deny") => {
                *list += ",";
                *list += piece;
            }
            _ if key.trim().is_empty() => return Err(unreadable()),
            _ => pairs.push((key.trim().to_owned(), value.trim().to_owned())),
        }
    }
    Ok(pairs)
}

impl Request {
    pub fn parse(given: &[(String, String)]) -> Result<Self, Failure> {
        let mut pairs = Vec::new();
        for (key, value) in given {
            match &plain(key)[..] {
                MANY => pairs.extend(split(value)?),
                _ => pairs.push((key.clone(), value.clone())),
            }
        }
        match pairs.iter().any(|(key, _)| plain(key) == INNER) {
            true => SpyOptions::parse(pairs).map(Self::Spy),
            false => Options::parse(&pairs).map(Self::Offload),
        }
    }
}

impl SpyOptions {
    fn parse(pairs: Vec<(String, String)>) -> Result<Self, Failure> {
        let (mut library, mut report, mut options) = (PathBuf::new(), None, Vec::new());
        for (key, value) in pairs {
            match &plain(&key)[..] {
                INNER => library = value.into(),
                "report" => report = Some(value.into()),
                _ => options.push((key, value)),
            }
        }
        Ok(Self {
            library,
            options,
            report,
        })
    }
}

impl Options {
    fn parse(pairs: &[(String, String)]) -> Result<Self, Failure> {
        let mut options = Self {
            computes: Computes::CpuKernels,
            device: None,
            threads: None,
            numerics: Numerics::default(),
            min_ops: None,
            allow: Vec::new(),
            deny: Vec::new(),
            deadline: None,
            requires_full_delegation: false,
            report: None,
        };
        let mut target = None;
        for (key, value) in pairs {
            let wrong = |cause: &dyn std::fmt::Display| wrong(key, value, cause);
            let number = |least: usize| match value.parse::<usize>() {
                Ok(number) if number >= least => Ok(number),
                _ => Err(wrong(&format!("it is not a number from {least}"))),
            };
            match &plain(key)[..] {
                "driver" => options.computes = computes(value).map_err(|e| wrong(&e))?,
                "target" => target = Some(value),
                "device" if value.is_empty() => return Err(wrong(&"it names no device")),
                "device" => options.device = Some(value.clone()),
                "threads" => options.threads = Some(number(1)?),
                "numerics" => {
                    options.numerics = match &value[..] {
                        "fast" => Numerics::Fast,
                        "reference" => Numerics::Reference,
                        _ => return Err(wrong(&"it is neither fast nor reference")),
                    }
                }
                "min_ops" => options.min_ops = Some(number(0)?),
                "allow" => options
                    .allow
                    .extend(selectors(value).map_err(|e| wrong(&e))?),
                "deny" => options
                    .deny
                    .extend(selectors(value).map_err(|e| wrong(&e))?),
                "deadline_ms" => {
                    let time = Duration::from_millis(number(0)? as u64);
                    options.deadline = (!time.is_zero()).then(|| Deadline::new(time));
                }
                "require_full_delegation" => {
                    options.requires_full_delegation = match &value[..] {
                        "1" | "true" => true,
                        "0" | "false" => false,
                        _ => return Err(wrong(&"it is neither 0 nor 1")),
                    }
                }
                "report" => options.report = Some(value.into()),
                _ => {
                    let known = KEYS.join(", ");
                    return Err(wrong(&format!("it is not known; there are {known}")));
                }
            }
        }
        if let Some(target) = target {
            match &mut options.computes {
                Computes::Driver(DriverSpec::Virtual { chip, .. })
                    if chip.is_none() && !target.is_empty() =>
                {
                    *chip = Some(target.clone());
                }
                _ => {
                    let cause = "it chooses the chip of driver=virtual, where that names none";
                    return Err(wrong("target", target, cause));
                }
            }
        }
        Ok(options)
    }
}

fn computes(value: &str) -> Result<Computes, impl std::fmt::Display> {
    match value {
        "cpu-kernels" | "cpu_kernels" | "cpu" => Ok(Computes::CpuKernels),
        spec => spec.parse().map(Computes::Driver),
    }
}

fn selectors(list: &str) -> Result<Vec<Selector>, impl std::fmt::Display> {
    list.split(',').map(|text| text.trim().parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Request, String> {
        let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        let pairs: Vec<_> = pairs.iter().map(owned).collect();
        Request::parse(&pairs).map_err(|failure| failure.to_string())
    }

    fn offload(pairs: &[(&str, &str)]) -> Options {
        match parse(pairs).unwrap() {
            Request::Offload(options) => options,
            Request::Spy(spy) => panic!("{spy:?}"),
        }
    }

    #[test]
    fn our_kernels_compute_by_default() {
        let options = offload(&[]);
        assert_eq!(options.computes, Computes::CpuKernels);
        assert_eq!((options.threads, options.min_ops), (None, None));
    }

    #[test]
    fn one_value_may_have_all_pairs() {
        let text =
            "driver:tflite:/x.so?a=b;threads=2, deny=op:ADD,index:3-4;min-ops:2;numerics=reference";
        let options = offload(&[("options", text)]);
        let Computes::Driver(driver) = options.computes else {
            panic!("our kernels");
        };
        assert_eq!(driver.to_string(), "tflite:/x.so?a=b");
        assert_eq!((options.threads, options.min_ops), (Some(2), Some(2)));
        let deny: Vec<String> = options.deny.iter().map(Selector::to_string).collect();
        assert_eq!(deny, ["op:ADD", "index:3-4"]);
        assert_eq!(options.numerics, Numerics::Reference);
    }

    #[test]
    fn a_target_is_a_chip_of_the_virtual_driver() {
        let options = offload(&[("target", "edgetpu"), ("driver", "virtual")]);
        let virtual_ = "virtual:edgetpu".parse().unwrap();
        assert_eq!(options.computes, Computes::Driver(virtual_));
        for driver in ["cpu-kernels", "virtual:ethos-u55", "tflite:/x.so"] {
            let message = parse(&[("target", "edgetpu"), ("driver", driver)]).unwrap_err();
            assert!(message.starts_with("option target=edgetpu: "), "{message}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (key, value, part) in [
            (
                "thread",
                "2",
                "option thread=2: it is not known; there are driver",
            ),
            (
                "threads",
                "0",
                "option threads=0: it is not a number from 1",
            ),
            ("threads", "many", "many"),
            ("driver", "tpu", "there is no driver \"tpu\""),
            ("numerics", "exact", "neither fast nor reference"),
            ("allow", "ADD", "option allow=ADD: "),
            ("device", "", "it names no device"),
            ("require_full_delegation", "yes", "neither 0 nor 1"),
            (
                "options",
                "threads",
                "\"threads\" is not of the form KEY=VALUE",
            ),
            ("options", "=2", "\"=2\" is not of the form KEY=VALUE"),
            ("options", "op:ADD", "option op=ADD: it is not known"),
        ] {
            let message = parse(&[(key, value)]).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_spy_hands_on_what_is_not_for_it() {
        let request = parse(&[(
            "options",
            "inner=/x.so;report=r.json;device:usb:0;threads=3",
        )]);
        let Ok(Request::Spy(options)) = request else {
            panic!("{request:?}");
        };
        let wanted = [("device", "usb:0"), ("threads", "3")];
        assert!(
            options
                .options
                .iter()
                .map(|(k, v)| (&k[..], &v[..]))
                .eq(wanted)
        );
        assert_eq!(options.library, PathBuf::from("/x.so"));
        assert_eq!(options.report, Some(PathBuf::from("r.json")));
    }
}
