//! `edgetpu_c.h`: the functions of a `libedgetpu`, and what its version says.

use std::env;
use std::ffi::{CStr, CString, OsString, c_char, c_int};
use std::fmt;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::{self, NonNull};

use libloading::Symbol;

use crate::driver::tflite::abi::Delegate;
use crate::driver::tflite::{Instance, Stride};
use crate::driver::{DriverError, loader_text};

/// The path of the library, where the option `library` does not say it.
pub const LIBRARY: &str = "BANTAM_LIBEDGETPU";

/// What the library is called where nobody says.
const NAMES: &[&str] = if cfg!(windows) {
    &["edgetpu.dll"]
} else if cfg!(target_os = "macos") {
    &[
        "libedgetpu.1.dylib",
        "libedgetpu.1.0.dylib",
        "libedgetpu.dylib",
    ]
} else {
    &["libedgetpu.so.1", "libedgetpu.so.1.0", "libedgetpu.so"]
};

type ListDevices = unsafe extern "C" fn(*mut usize) -> *mut RawDevice;
type FreeDevices = unsafe extern "C" fn(*mut RawDevice);
type CreateDelegate =
    unsafe extern "C" fn(c_int, *const c_char, *const RawOption, usize) -> *mut Delegate;
type FreeDelegate = unsafe extern "C" fn(*mut Delegate);
type Verbosity = unsafe extern "C" fn(c_int);
type GetVersion = unsafe extern "C" fn() -> *const c_char;

/// The functions of the library.
pub(super) struct Library {
    list_devices: ListDevices,
    free_devices: FreeDevices,
    create_delegate: CreateDelegate,
    free_delegate: FreeDelegate,
    verbosity: Verbosity,
    version: Version,
    /// Never unloaded: it has threads of its own.
    _library: ManuallyDrop<libloading::Library>,
}

/// `edgetpu_device`.
#[repr(C)]
struct RawDevice {
    bus: c_int,
    path: *const c_char,
}

/// `edgetpu_option`.
#[repr(C)]
struct RawOption {
    name: *const c_char,
    value: *const c_char,
}

/// How a device is attached: `edgetpu_device_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bus {
    Pci,
    Usb,
}

/// A device that the library has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attached {
    pub bus: Bus,
    pub path: String,
}

/// What `edgetpu_version` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// The whole text.
    pub text: String,
    /// The runtime's version: models say which they need.
    pub runtime: Option<i32>,
    /// The change of the source that it was made from.
    pub change: Option<u64>,
}

impl Version {
    /// The change that the library of 2020-07 names.
    const OF_2020: u64 = 317_268_237;

    /// Reads the text.
    pub fn read(text: &str) -> Self {
        let number = |key: &str| {
            let (_, rest) = text.split_once(key)?;
            let end = rest.find(|c: char| !c.is_ascii_digit());
            rest[..end.unwrap_or(rest.len())].parse::<u64>().ok()
        };
        Self {
            runtime: number("RuntimeVersion(").and_then(|n| i32::try_from(n).ok()),
            change: number("CL_NUMBER="),
            text: text.to_owned(),
        }
    }

    /// The distances of tensors that a library of this version may have been compiled with, the likeliest first. Measured
    /// for the one of 2020; the others are asked.
    pub(crate) fn strides(&self) -> &'static [Stride] {
        match (self.change, self.runtime) {
            (Some(Self::OF_2020), _) => &[Stride::Bytes104],
            (_, Some(..=13)) => &[Stride::Bytes104, Stride::Bytes112],
            _ => &[Stride::Bytes112, Stride::Bytes104],
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.runtime, self.change) {
            (Some(runtime), Some(change)) => write!(f, "runtime {runtime} (CL {change})"),
            (Some(runtime), None) => write!(f, "runtime {runtime}"),
            _ => f.write_str(&self.text),
        }
    }
}

impl Library {
    /// Loads `path`, or what the environment names, or what the system has.
    ///
    /// # Safety
    ///
    /// It is a `libedgetpu`.
    pub unsafe fn load(path: Option<&Path>) -> Result<Self, DriverError> {
        let named = path.map(|path| path.as_os_str().to_owned());
        let named = named.or_else(|| env::var_os(LIBRARY).filter(|path| !path.is_empty()));
        let names: Vec<OsString> = match named {
            Some(path) => vec![path],
            None => NAMES.iter().map(OsString::from).collect(),
        };
        let mut errors = Vec::new();
        for name in &names {
            // SAFETY: the caller vouches for the library.
            match unsafe { libloading::Library::new(name) } {
                // SAFETY: as above.
                Ok(library) => return unsafe { Self::resolve(library, &name.to_string_lossy()) },
                Err(error) => {
                    errors.push((name.to_string_lossy().into_owned(), loader_text(&error)))
                }
            }
        }
        // A library that is there and lacks another tells more than one that is not there.
        let is_absent = |error: &&(String, String)| error.1.starts_with(&error.0[..]);
        let told = errors.iter().find(|error| !is_absent(error));
        let (path, cause) = told.or(errors.first()).cloned().unwrap_or_default();
        Err(DriverError::Load { path, cause })
    }

    /// # Safety
    ///
    /// `library` is a `libedgetpu`.
    unsafe fn resolve(library: libloading::Library, path: &str) -> Result<Self, DriverError> {
        /// The function of this name, or its name among the missing.
        ///
        /// # Safety
        ///
        /// `T` is its type.
        unsafe fn find<T: Copy>(
            library: &libloading::Library,
            name: &CStr,
            missing: &mut Vec<String>,
        ) -> Option<T> {
            // SAFETY: the caller vouches for the type.
            let symbol: Result<Symbol<'_, T>, _> = unsafe { library.get(name) };
            match symbol {
                Ok(symbol) => Some(*symbol),
                Err(_) => {
                    missing.push(name.to_string_lossy().into_owned());
                    None
                }
            }
        }
        let mut missing = Vec::new();
        // SAFETY: these are the types of `edgetpu_c.h`.
        let found = unsafe {
            (
                find::<ListDevices>(&library, c"edgetpu_list_devices", &mut missing),
                find::<FreeDevices>(&library, c"edgetpu_free_devices", &mut missing),
                find::<CreateDelegate>(&library, c"edgetpu_create_delegate", &mut missing),
                find::<FreeDelegate>(&library, c"edgetpu_free_delegate", &mut missing),
                find::<Verbosity>(&library, c"edgetpu_verbosity", &mut missing),
                find::<GetVersion>(&library, c"edgetpu_version", &mut missing),
            )
        };
        let (
            Some(list_devices),
            Some(free_devices),
            Some(create_delegate),
            Some(free_delegate),
            Some(verbosity),
            Some(version),
        ) = found
        else {
            return Err(DriverError::Symbol {
                path: path.to_owned(),
                symbol: missing.join(", "),
            });
        };
        // SAFETY: it takes nothing, and gives NULL or a string that lives for ever.
        let text = unsafe {
            let text = version();
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        };
        Ok(Self {
            list_devices,
            free_devices,
            create_delegate,
            free_delegate,
            verbosity,
            version: Version::read(&text.unwrap_or_default()),
            _library: ManuallyDrop::new(library),
        })
    }

    pub fn version(&self) -> &Version {
        &self.version
    }

    /// How much the library writes to standard error: 0 to 10.
    pub fn set_verbosity(&self, verbosity: u8) {
        // SAFETY: any number of this range is one.
        unsafe { (self.verbosity)(c_int::from(verbosity)) }
    }

    /// The devices that are there now.
    pub fn devices(&self) -> Vec<Attached> {
        let mut len = 0;
        // SAFETY: `len` is a place for the number.
        let raw = unsafe { (self.list_devices)(&mut len) };
        if raw.is_null() {
            return Vec::new();
        }
        // SAFETY: not NULL, so as many devices as it says, until they are freed.
        let raw_devices = unsafe { std::slice::from_raw_parts(raw, len) };
        let device = |raw: &RawDevice| {
            let bus = match raw.bus {
                0 => Bus::Pci,
                1 => Bus::Usb,
                _ => return None,
            };
            if raw.path.is_null() {
                return None;
            }
            // SAFETY: a path is a string that lives until the devices are freed.
            let path = unsafe { CStr::from_ptr(raw.path) };
            let path = path.to_string_lossy().into_owned();
            Some(Attached { bus, path })
        };
        let devices = raw_devices.iter().filter_map(device).collect();
        // SAFETY: it is what was listed, and nothing points to it any more.
        unsafe { (self.free_devices)(raw) };
        devices
    }

    /// A delegate on `device`, which was listed; `None` where the library makes none, which it never explains. `options` have
    /// been checked.
    pub fn create(
        &self,
        device: &Attached,
        options: &[(String, String)],
    ) -> Result<Option<Instance>, DriverError> {
        let c_string = |text: &str| {
            CString::new(text).map_err(|_| DriverError::Option {
                option: text.replace('\0', "\\0"),
                cause: "it has a zero byte".to_owned(),
            })
        };
        let path = c_string(&device.path)?;
        let mut texts = Vec::new();
        for (name, value) in options {
            texts.push((c_string(name)?, c_string(value)?));
        }
        let raw_options: Vec<RawOption> = texts
            .iter()
            .map(|(name, value)| RawOption {
                name: name.as_ptr(),
                value: value.as_ptr(),
            })
            .collect();
        let bus = match device.bus {
            Bus::Pci => 0,
            Bus::Usb => 1,
        };
        let options = match raw_options.is_empty() {
            true => ptr::null(),
            false => raw_options.as_ptr(),
        };
        // SAFETY: strings and as many options as their number says, alive during the call.
        let raw = unsafe { (self.create_delegate)(bus, path.as_ptr(), options, raw_options.len()) };
        // SAFETY: the library made it, is never unloaded, and nobody else has it.
        Ok(NonNull::new(raw).map(|raw| unsafe { Instance::new(raw, self.free_delegate) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_says_runtime_and_layout() {
        let text = "BuildLabel(COMPILER=5.4.0 20160609,DATE=redacted,TIME=redacted,CL_NUMBER=317268237), RuntimeVersion(13)";
        let version = Version::read(text);
        assert_eq!(version.to_string(), "runtime 13 (CL 317268237)");
        assert_eq!(version.strides(), [Stride::Bytes104]);
        let newer = Version::read("BuildLabel(COMPILER=x,CL_NUMBER=1), RuntimeVersion(14)");
        assert_eq!(newer.strides(), [Stride::Bytes112, Stride::Bytes104]);
        let strange = Version::read("RuntimeVersion(99999999999)");
        assert_eq!((strange.runtime, strange.change), (None, None));
        assert_eq!(strange.to_string(), "RuntimeVersion(99999999999)");
    }

    #[test]
    fn every_name_of_a_missing_function_is_told() {
        // SAFETY: it has no function that is called.
        let error = unsafe { Library::load(Some(Path::new("libm.so.6"))) };
        let error = error.err().unwrap().to_string();
        assert!(
            error.contains("edgetpu_list_devices, edgetpu_free_devices"),
            "{error}"
        );
        assert!(
            error.ends_with("edgetpu_verbosity, edgetpu_version"),
            "{error}"
        );
    }
}
