//! Delegates made for TensorFlow Lite, as shared libraries: `tflite:/path/lib.so?key=value`.
//!
//! The delegate is shown a context that is not TFLite's but ours (`host`), laid out as the library expects it
//! ([`abi`]). A delegate that looks behind the context, into TFLite's own objects, cannot be hosted by anybody but TFLite: it
//! follows a NULL pointer. [`super::open`] tries a library in a process of its own first, and refuses such a one by name.

pub mod abi;
pub mod array;
pub mod builtin_data;
mod graph;
mod host;

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use bantam_model::Model;
use bantam_model::target::{PartitionPolicy, Refusal, Verdict};
use libloading::Library;

use super::{Device, Driver, DriverError, DriverInfo, Executable, edgetpu, loader_text};
pub(super) use abi::Stride;
use abi::{Context, Delegate, PluginCreate, PluginDestroy};
use host::Host;

/// A delegate's library, and what its delegates are made with.
pub struct TfliteDriver {
    plugin: Arc<Plugin>,
    options: Vec<(String, String)>,
    stride: Stride,
}

/// The entry points of a library of delegates.
pub struct Plugin {
    path: String,
    create: PluginCreate,
    destroy: PluginDestroy,
    /// As it was compiled, as far as its version tells.
    stride: Stride,
}

/// A delegate, destroyed when dropped.
pub struct Instance {
    raw: NonNull<Delegate>,
    destroy: PluginDestroy,
}

// SAFETY: it is used by one thread at a time, and a delegate has no business with which one.
unsafe impl Send for Instance {}

impl Instance {
    /// # Safety
    ///
    /// `raw` is a delegate that `destroy` frees, the library of both stays loaded, and nobody else frees it.
    pub unsafe fn new(raw: NonNull<Delegate>, destroy: PluginDestroy) -> Self {
        Self { raw, destroy }
    }

    /// The delegate, which stays this one's.
    pub fn as_ptr(&self) -> *mut Delegate {
        self.raw.as_ptr()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: whoever made this vouched for both, and it is dropped once.
        unsafe { (self.destroy)(self.raw.as_ptr()) }
    }
}

/// A delegate that has looked at a subgraph. The host goes first: its kernels belong to the delegate.
pub(super) struct Offered {
    host: Host,
    _instance: Instance,
}

impl Offered {
    /// Shows `instance` the subgraph `subgraph` of `model`, with tensors `stride` apart.
    pub fn new(
        instance: Instance,
        model: &Model,
        subgraph: usize,
        stride: Stride,
    ) -> Result<Self, DriverError> {
        let mut host = Host::new(model, subgraph, stride)?;
        // SAFETY: the delegate is dropped after the host.
        unsafe { host.offer(instance.raw) }?;
        Ok(Self {
            host,
            _instance: instance,
        })
    }

    /// Which operators the delegate claims, in order.
    pub fn claims(&self) -> Vec<bool> {
        self.host.claims()
    }

    /// Prepares all of them to run.
    ///
    /// # Errors
    ///
    /// The delegate left some, or cannot run them.
    pub fn prepare(&mut self) -> Result<(), DriverError> {
        let claims = self.host.claims();
        let left = claims.iter().filter(|claimed| !**claimed).count();
        if left > 0 {
            return Err(DriverError::Refused(format!(
                "of {} operators the delegate left {left}",
                claims.len()
            )));
        }
        self.host.prepare()
    }
}

impl Executable for Offered {
    fn run(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DriverError> {
        self.host.run(inputs, outputs)
    }

    fn reset(&mut self) -> Result<(), DriverError> {
        self.host.reset();
        Ok(())
    }
}

/// Options that are for us and not for the library.
pub(super) const STRIDE: &str = "tensor-stride";

thread_local! {
    /// What a library reports while it creates a delegate; its callback has no other way back.
    static REPORTED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C" fn keep_report(message: *const c_char) {
    if !message.is_null() {
        // SAFETY: a message is a string that lives during the call.
        let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
        // A callback from the destructor of another thread's variable has nowhere to report to.
        let _ = REPORTED.try_with(|list| list.borrow_mut().push(text.trim_end().to_owned()));
    }
}

impl Plugin {
    /// Loads the library at `path`, for ever: it may have threads of its own.
    ///
    /// # Safety
    ///
    /// The library is a plug-in for TFLite: its initializers may run, and its entry points have their types.
    ///
    /// # Errors
    ///
    /// The library cannot be loaded, or has no entry points.
    pub unsafe fn load(path: &Path) -> Result<Self, DriverError> {
        let text = path.display().to_string();
        // SAFETY: the caller vouches for the library.
        let library = unsafe { Library::new(path) }.map_err(|error| DriverError::Load {
            path: text.clone(),
            cause: loader_text(&error),
        })?;
        let library = ManuallyDrop::new(library);
        let missing = |symbol: &str| DriverError::Symbol {
            path: text.clone(),
            symbol: symbol.to_owned(),
        };
        // SAFETY: the caller vouches for the types.
        let (create, destroy) = unsafe {
            (
                *library
                    .get::<PluginCreate>(c"tflite_plugin_create_delegate")
                    .map_err(|_| missing("tflite_plugin_create_delegate"))?,
                *library
                    .get::<PluginDestroy>(c"tflite_plugin_destroy_delegate")
                    .map_err(|_| missing("tflite_plugin_destroy_delegate"))?,
            )
        };
        Ok(Self {
            create,
            destroy,
            stride: known_stride(&library),
            path: text,
        })
    }

    /// Entry points that are linked into this program, under a name for messages.
    ///
    /// # Safety
    ///
    /// They are those of a plug-in for TFLite.
    pub unsafe fn linked(name: &str, create: PluginCreate, destroy: PluginDestroy) -> Self {
        Self {
            path: name.to_owned(),
            create,
            destroy,
            stride: Stride::Bytes112,
        }
    }

    /// Makes a delegate.
    ///
    /// # Errors
    ///
    /// The library makes none, with what it says of that; or an option has a zero byte.
    pub fn create(self: &Arc<Self>, options: &[(String, String)]) -> Result<Instance, DriverError> {
        let c_string = |text: &str| {
            CString::new(text).map_err(|_| DriverError::Option {
                option: text.replace('\0', "\\0"),
                cause: "it has a zero byte".to_owned(),
            })
        };
        let mut texts = Vec::new();
        for (key, value) in options {
            texts.push((c_string(key)?, c_string(value)?));
        }
        let (mut keys, mut values): (Vec<*mut c_char>, Vec<*mut c_char>) = texts
            .iter()
            .map(|(key, value)| (key.as_ptr().cast_mut(), value.as_ptr().cast_mut()))
            .unzip();
        // A library of ours may load another inside: what that one reports is not for us.
        let outer = REPORTED.with(|list| list.take());
        // SAFETY: as many keys and values as their number says, alive during the call.
        let raw = unsafe {
            (self.create)(
                keys.as_mut_ptr(),
                values.as_mut_ptr(),
                keys.len(),
                Some(keep_report),
            )
        };
        let reported = REPORTED.with(|list| list.replace(outer));
        let Some(raw) = NonNull::new(raw) else {
            let cause = match reported.is_empty() {
                true => "the library made no delegate and gave no reason".to_owned(),
                false => reported.join("; "),
            };
            return Err(DriverError::Load {
                path: self.path.clone(),
                cause,
            });
        };
        // SAFETY: the two entry points are of one library, which is never unloaded.
        Ok(unsafe { Instance::new(raw, self.destroy) })
    }
}

unsafe extern "C" {
    fn bantam_set_overheard_sink(sink: unsafe extern "C" fn(*mut Context, *const c_char));
    fn bantam_overhear_error(context: *mut Context, format: *const c_char, ...);
}

/// A function to stand in a context's `report_error`, which formats each message and hands it to `sink`; one sink for the
/// whole program.
pub fn overhear(sink: unsafe extern "C" fn(*mut Context, *const c_char)) -> *const c_void {
    // SAFETY: a function lives for ever.
    unsafe { bantam_set_overheard_sink(sink) };
    bantam_overhear_error as *const c_void
}

impl TfliteDriver {
    /// Loads the library at `path`. The option `tensor-stride` (104 or 112; by itself the one of the library's version
    /// where that is known, otherwise 112) is for us, the others go to the library.
    ///
    /// # Safety
    ///
    /// As of [`Plugin::load`].
    ///
    /// # Errors
    ///
    /// The library cannot be loaded, or has no entry points.
    pub unsafe fn load(path: &Path, options: &[(String, String)]) -> Result<Self, DriverError> {
        // SAFETY: passed on to the caller.
        Self::new(unsafe { Plugin::load(path) }?, options)
    }

    /// The same with a library that is loaded.
    ///
    /// # Errors
    ///
    /// `tensor-stride` is neither 104 nor 112.
    pub fn new(plugin: Plugin, options: &[(String, String)]) -> Result<Self, DriverError> {
        let (ours, options): (Vec<_>, Vec<_>) =
            options.iter().cloned().partition(|(key, _)| key == STRIDE);
        let stride = match ours.last() {
            None => plugin.stride,
            Some((_, value)) => Stride::read(value)?,
        };
        Ok(Self {
            plugin: Arc::new(plugin),
            options,
            stride,
        })
    }

    fn create(&self) -> Result<Instance, DriverError> {
        self.plugin.create(&self.options)
    }
}

/// The stride that the library was compiled with, where that is known: the Edge TPU's may be loaded as a plug-in.
fn known_stride(library: &Library) -> Stride {
    // SAFETY: the Edge TPU's interface has no other function of this name.
    let version =
        unsafe { library.get::<unsafe extern "C" fn() -> *const c_char>(c"edgetpu_version") };
    let Ok(version) = version else {
        return Stride::Bytes112;
    };
    // SAFETY: as above; it returns NULL or a string that lives for ever.
    let text = unsafe {
        let text = version();
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    let version = text.map(|text| edgetpu::Version::read(&text));
    version.map_or(Stride::Bytes112, |version| version.strides()[0])
}

impl Driver for TfliteDriver {
    fn info(&self) -> DriverInfo {
        let name = Path::new(&self.plugin.path).file_name();
        DriverInfo {
            name: name.map_or_else(
                || self.plugin.path.clone(),
                |n| n.to_string_lossy().into_owned(),
            ),
            version: "of a TFLite delegate".to_owned(),
            target: None,
        }
    }

    /// The interface knows none; that a delegate can be made is what there is to say.
    fn devices(&self) -> Result<Vec<Device>, DriverError> {
        self.plugin.create(&self.options)?;
        Ok(vec![Device {
            id: "0".to_owned(),
            description: "what the delegate chooses".to_owned(),
        }])
    }

    fn supports(&self, model: &Model, subgraph: usize) -> Result<Vec<Verdict>, DriverError> {
        let offered = Offered::new(self.create()?, model, subgraph, self.stride)?;
        let verdict = |claimed: bool| match claimed {
            true => Verdict::Supported,
            false => Verdict::Unsupported(Box::new(Refusal {
                rule: "not-claimed".to_owned(),
                reason: "the delegate did not claim it".to_owned(),
                measured: None,
                limit: None,
                evidence: Some(self.plugin.path.clone()),
                is_inferred: false,
            })),
        };
        Ok(offered.claims().into_iter().map(verdict).collect())
    }

    fn policy(&self) -> PartitionPolicy {
        PartitionPolicy::default()
    }

    fn compile(
        &self,
        partition: &Model,
        _: Option<&str>,
    ) -> Result<Box<dyn Executable>, DriverError> {
        let mut offered = Offered::new(self.create()?, partition, 0, self.stride)?;
        offered.prepare()?;
        Ok(Box::new(offered))
    }
}
