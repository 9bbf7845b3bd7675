//! From a [`DriverSpec`] to a driver.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bantam::BantamDriver;
use super::edgetpu::EdgeTpu;
use super::gpu::Gpu;
use super::tflite::TfliteDriver;
use super::{Driver, DriverError};
use crate::{DriverOptions, DriverSpec};

/// The path of the virtual accelerator's library, where it is not next to the executable.
pub const VIRTUAL_DRIVER: &str = "BANTAM_VIRTUAL_DRIVER";

/// Options that are for us, whatever the library is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostOptions {
    /// Whether the library runs in a process of its own: `isolate`.
    pub isolate: bool,
    /// The device to compile for where the caller does not say another: `device`.
    pub device: Option<String>,
    /// The `bantam` command that holds the library in a process of its own: `helper`.
    pub helper: Option<PathBuf>,
    /// The time for one run in a process of its own: `deadline`, in milliseconds.
    pub deadline: Duration,
    /// The time for any other call: `setup-deadline`, in milliseconds.
    pub setup_deadline: Duration,
    /// Whether a delegate for TFLite is tried out in a process of its own first: `try`.
    pub tries: bool,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            isolate: false,
            device: None,
            helper: None,
            deadline: Duration::from_secs(60),
            setup_deadline: Duration::from_secs(300),
            tries: true,
        }
    }
}

/// Opens the driver that `spec` names.
///
/// Whatever the library, these options are for us, and the others go to the library: `device=ID`, `isolate=1` (run it in a process
/// of its own), and with that `deadline=MS` (of a run), `setup-deadline=MS` (of any other call) and `helper=PATH` (the `bantam`
/// command that holds it, where it is not to be looked for).
///
/// A delegate for TFLite is shown a small model in a process of its own before it is loaded, where there is a `bantam` command to
/// hold it; `try=0` does without. `device` is its own option.
///
/// # Errors
///
/// The library cannot be loaded or opened, an option makes no sense, or this version has no such driver.
pub fn open(spec: &DriverSpec) -> Result<Box<dyn Driver>, DriverError> {
    let (host, spec) = HostOptions::split(spec)?;
    if matches!(spec, DriverSpec::Tflite(_))
        && host.tries
        && (host.helper.is_some() || can_isolate())
    {
        try_out(&spec, &host)?;
    }
    if host.isolate {
        return isolated(&spec, host);
    }
    match &spec {
        DriverSpec::Bantam(library) => {
            // SAFETY: whoever names a library as a driver vouches that it is one.
            #[allow(unsafe_code, reason = "loads a vendor's library")]
            let driver = unsafe { BantamDriver::load(&library.path, &library.options.0) }?;
            Ok(Box::new(driver.on(host.device)))
        }
        DriverSpec::Virtual { chip, options } => {
            let mut options = options.0.clone();
            options.extend(chip.clone().map(|chip| ("chip".to_owned(), chip)));
            Ok(Box::new(open_virtual(&options)?.on(host.device)))
        }
        DriverSpec::Gpu {
            library: None,
            options,
        } => match options.0.first() {
            None => Ok(Box::new(Gpu)),
            Some((key, value)) => Err(DriverError::Option {
                option: format!("{key}={value}"),
                cause: "gpu without a library has no options".to_owned(),
            }),
        },
        DriverSpec::Tflite(library) => {
            // SAFETY: whoever names a library as a driver vouches that it is one.
            #[allow(unsafe_code, reason = "loads a vendor's library")]
            let driver = unsafe { TfliteDriver::load(&library.path, &library.options.0) }?;
            Ok(Box::new(driver))
        }
        DriverSpec::EdgeTpu { device, options } => {
            let device = match &host.device {
                None => device.clone(),
                Some(id) => id.parse().map_err(|_| DriverError::Option {
                    option: format!("device={id}"),
                    cause: "it is no device of an Edge TPU, such as usb:0".to_owned(),
                })?,
            };
            // SAFETY: whoever names the Edge TPU vouches that the library is its.
            #[allow(unsafe_code, reason = "loads a vendor's library")]
            let driver = unsafe { EdgeTpu::load(&device, options) }?;
            Ok(Box::new(driver))
        }
        DriverSpec::Cpu => Err(DriverError::Unavailable {
            spec: spec.to_string(),
            cause: "it is the CPU path, which needs no driver".to_owned(),
        }),
        spec => Err(DriverError::Unavailable {
            spec: spec.to_string(),
            cause: "this version does not have it yet".to_owned(),
        }),
    }
}

fn open_virtual(options: &[(String, String)]) -> Result<BantamDriver, DriverError> {
    match virtual_library() {
        // SAFETY: it is ours, or the user has named it as a driver.
        #[allow(unsafe_code, reason = "loads a driver's library")]
        Some(path) => unsafe { BantamDriver::load(&path, options) },
        // SAFETY: the entry is made for the header.
        #[allow(unsafe_code, reason = "calls a driver's functions")]
        None => unsafe { BantamDriver::linked(bantam_virtual::ENTRY, "virtual", options) },
    }
}

/// The virtual accelerator's library: what the environment names, else what is next to the executable. Without one it is used
/// as it is linked in here, through the same table.
pub fn virtual_library() -> Option<PathBuf> {
    if let Some(path) = env::var_os(VIRTUAL_DRIVER).filter(|path| !path.is_empty()) {
        return Some(PathBuf::from(path));
    }
    let name = format!(
        "{}bantam_virtual_driver{}",
        env::consts::DLL_PREFIX,
        env::consts::DLL_SUFFIX
    );
    let beside = env::current_exe().ok()?.parent().map(Path::to_owned)?;
    Some(beside.join(name)).filter(|path| path.is_file())
}

/// Whether a driver can have a process of its own: the `bantam` command is found.
pub(crate) fn can_isolate() -> bool {
    #[cfg(unix)]
    return super::child::helper().is_ok_and(|path| path.is_file());
    #[cfg(not(unix))]
    false
}

/// Shows a delegate for TFLite one small model in a process of its own. One that reaches into TFLite's own objects ends that
/// process and not this one.
#[cfg(unix)]
fn try_out(spec: &DriverSpec, host: &HostOptions) -> Result<(), DriverError> {
    use super::child::ChildDriver;
    let tried = match ChildDriver::open(spec, host.clone()) {
        Ok(driver) => driver.supports(&smallest(), 0).map(|_| ()),
        Err(error) => Err(error),
    };
    match tried {
        Err(DriverError::Died(how)) => Err(DriverError::Unavailable {
            spec: spec.to_string(),
            cause: format!(
                "it ended its process ({how}) when it was shown an ADD; delegates that look behind the interface into TFLite's \
                 own objects, as XNNPACK does from 2.20, run in TFLite alone"
            ),
        }),
        // What else is wrong with it, it says here as well.
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn try_out(_: &DriverSpec, _: &HostOptions) -> Result<(), DriverError> {
    Ok(())
}

/// A model of one ADD.
#[cfg(unix)]
fn smallest() -> bantam_model::Model {
    use bantam_model::{DType, Model, Node, Subgraph, Tensor, ops};
    let mut subgraph = Subgraph::default();
    let mut add = |name: &str| subgraph.add_tensor(Tensor::new(name, DType::F32, [1, 4]));
    let (a, b, sum) = (add("a"), add("b"), add("sum"));
    (subgraph.inputs, subgraph.outputs) = (vec![a, b], vec![sum]);
    subgraph
        .nodes
        .push(Node::new(ops::Add::default(), &[a, b], &[sum]));
    Model {
        subgraphs: vec![subgraph],
        ..Model::default()
    }
}

#[cfg(unix)]
fn isolated(spec: &DriverSpec, host: HostOptions) -> Result<Box<dyn Driver>, DriverError> {
    Ok(Box::new(super::child::ChildDriver::open(spec, host)?))
}

#[cfg(not(unix))]
fn isolated(_: &DriverSpec, _: HostOptions) -> Result<Box<dyn Driver>, DriverError> {
    Err(DriverError::Option {
        option: "isolate=1".to_owned(),
        cause: "this system has no such processes".to_owned(),
    })
}

impl HostOptions {
    /// Takes our options out of `spec`'s.
    fn split(spec: &DriverSpec) -> Result<(Self, DriverSpec), DriverError> {
        let mut host = Self::default();
        let mut spec = spec.clone();
        let is_tflite = matches!(spec, DriverSpec::Tflite(_));
        let Some(options) = options_mut(&mut spec) else {
            return Ok((host, spec));
        };
        let mut rest = Vec::new();
        for (key, value) in options.0.drain(..) {
            let wrong = |cause: &str| DriverError::Option {
                option: format!("{key}={value}"),
                cause: cause.to_owned(),
            };
            let time = || match value.parse() {
                Ok(milliseconds @ 1..) => Ok(Duration::from_millis(milliseconds)),
                _ => Err(wrong("it is not a number of milliseconds")),
            };
            let flag = || match value.as_str() {
                "0" | "false" => Ok(false),
                "1" | "true" => Ok(true),
                _ => Err(wrong("it is neither 0 nor 1")),
            };
            match key.as_str() {
                "isolate" => host.isolate = flag()?,
                "try" if is_tflite => host.tries = flag()?,
                // Delegates have options of this name.
                "device" if is_tflite => rest.push((key, value)),
                "deadline" => host.deadline = time()?,
                "setup-deadline" => host.setup_deadline = time()?,
                "device" if value.is_empty() => return Err(wrong("it names no device")),
                "helper" => host.helper = Some(PathBuf::from(value)),
                "device" => host.device = Some(value),
                _ => rest.push((key, value)),
            }
        }
        options.0 = rest;
        Ok((host, spec))
    }
}

fn options_mut(spec: &mut DriverSpec) -> Option<&mut DriverOptions> {
    match spec {
        DriverSpec::Bantam(library) | DriverSpec::Tflite(library) => Some(&mut library.options),
        DriverSpec::Virtual { options, .. } | DriverSpec::EdgeTpu { options, .. } => Some(options),
        DriverSpec::Cpu | DriverSpec::Gpu { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Result<(HostOptions, String), DriverError> {
        let (host, spec) = HostOptions::split(&text.parse().unwrap())?;
        Ok((host, spec.to_string()))
    }

    #[test]
    fn our_options_do_not_reach_the_library() {
        let text =
            "bantam:/a.so?isolate=1&x=1&deadline=50&setup-deadline=70&device=d0&helper=/b&y=2";
        let (host, rest) = split(text).unwrap();
        assert_eq!(rest, "bantam:/a.so?x=1&y=2");
        let wanted = HostOptions {
            isolate: true,
            device: Some("d0".to_owned()),
            helper: Some(PathBuf::from("/b")),
            deadline: Duration::from_millis(50),
            setup_deadline: Duration::from_millis(70),
            tries: true,
        };
        assert_eq!(host, wanted);
        for wrong in ["isolate=maybe", "deadline=0", "deadline=x", "device="] {
            let error = split(&format!("virtual?{wrong}")).unwrap_err();
            assert!(matches!(error, DriverError::Option { option, .. } if option == wrong));
        }
    }

    #[test]
    fn delegates_have_fewer_options_of_ours() {
        let (host, rest) = split("tflite:/a.so?device=usb&isolate=1&try=0").unwrap();
        assert_eq!(rest, "tflite:/a.so?device=usb");
        assert!(host.isolate && !host.tries && host.device.is_none());
        let (host, rest) = split("edgetpu:usb:0?isolate=1&Performance=Max").unwrap();
        assert_eq!(rest, "edgetpu:usb:0?Performance=Max");
        assert!(host.isolate);
    }

    #[test]
    fn says_what_is_not_there() {
        let error = |text: &str| open(&text.parse().unwrap()).err().unwrap().to_string();
        assert!(error("cpu").contains("needs no driver"));
        for kind in ["bantam", "tflite"] {
            let missing = error(&format!("{kind}:/nowhere/lib.so"));
            assert!(missing.starts_with("cannot load /nowhere/lib.so: "));
        }
        assert!(error("virtual?colour=red").contains("colour=red"));
    }
}
