//! The layouts of `bantam_driver.h`, version 1, which says what everything means. Asserted here for 64-bit machines; a test
//! compares them with what a C compiler makes of the header.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;

/// The version of the interface.
pub const VERSION: u32 = 1;

/// `bantam_driver_status`.
pub type Status = i32;

/// `BANTAM_DRIVER_OK`
pub const OK: Status = 0;
/// `BANTAM_DRIVER_FAILED`
pub const FAILED: Status = 1;
/// `BANTAM_DRIVER_REFUSED`
pub const REFUSED: Status = 2;
/// `BANTAM_DRIVER_NO_DEVICE`
pub const NO_DEVICE: Status = 3;
/// `BANTAM_DRIVER_DEVICE_LOST`
pub const DEVICE_LOST: Status = 4;
/// `BANTAM_DRIVER_BAD_OPTION`
pub const BAD_OPTION: Status = 5;
/// `BANTAM_DRIVER_CANCELLED`
pub const CANCELLED: Status = 6;
/// `BANTAM_DRIVER_PENDING`
pub const PENDING: Status = 7;
/// `BANTAM_DRIVER_INVALID`
pub const INVALID: Status = 8;
/// `BANTAM_DRIVER_VERSION_MISMATCH`
pub const VERSION_MISMATCH: Status = 9;

/// `BANTAM_DRIVER_PARALLEL`
pub const PARALLEL: u32 = 1;
/// `BANTAM_DRIVER_ALL_PARTITIONS`
pub const ALL_PARTITIONS: u32 = 0;
/// `BANTAM_DRIVER_FIRST_PARTITION`
pub const FIRST_PARTITION: u32 = 1;
/// `BANTAM_DRIVER_UNKNOWN`
pub const UNKNOWN: u32 = 0;
/// `BANTAM_DRIVER_SUPPORTED`
pub const SUPPORTED: u32 = 1;
/// `BANTAM_DRIVER_UNSUPPORTED`
pub const UNSUPPORTED: u32 = 2;

/// The largest alignment that a driver may ask for.
pub const MAX_ALIGNMENT: u32 = 4096;

/// `bantam_driver_instance`, the driver's own.
pub type Instance = c_void;
/// `bantam_driver_executable`, the driver's own.
pub type Executable = c_void;

/// `bantam_driver_option`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the header documents the members")]
pub struct DriverOption {
    pub key: *const c_char,
    pub value: *const c_char,
}

/// `bantam_driver_input`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the header documents the members")]
pub struct Input {
    pub data: *const c_void,
    pub size: usize,
}

/// `bantam_driver_output`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the header documents the members")]
pub struct Output {
    pub data: *mut c_void,
    pub size: usize,
}

/// `bantam_driver_info`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the header documents the members")]
pub struct Info {
    pub size: usize,
    pub target: *const c_char,
    pub flags: u32,
    pub partitions: u32,
    pub min_ops: u32,
    pub alignment: u32,
}

/// `bantam_driver_device`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the header documents the members")]
pub struct Device {
    pub size: usize,
    pub id: *const c_char,
    pub description: *const c_char,
}

/// `bantam_driver_verdict`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the header documents the members")]
pub struct Verdict {
    pub size: usize,
    pub op: u32,
    pub verdict: u32,
    pub rule: *const c_char,
    pub reason: *const c_char,
    pub measured: *const c_char,
    pub limit: *const c_char,
}

/// `bantam_driver_cost`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the header documents the members")]
pub struct Cost {
    pub size: usize,
    pub name: *const c_char,
    pub value: f64,
}

/// `bantam_driver_on_device`
pub type OnDevice = unsafe extern "C" fn(user: *mut c_void, device: *const Device);
/// `bantam_driver_on_verdict`
pub type OnVerdict = unsafe extern "C" fn(user: *mut c_void, verdict: *const Verdict);
/// `bantam_driver_on_cost`
pub type OnCost = unsafe extern "C" fn(user: *mut c_void, cost: *const Cost);

/// The members `run` and `submit`.
pub type RunFn = unsafe extern "C" fn(
    executable: *mut Executable,
    inputs: *const Input,
    inputs_count: usize,
    outputs: *const Output,
    outputs_count: usize,
    error: *mut *mut c_char,
) -> Status;
/// The member `open`.
pub type OpenFn = unsafe extern "C" fn(
    options: *const DriverOption,
    options_count: usize,
    instance: *mut *mut Instance,
    error: *mut *mut c_char,
) -> Status;
/// The member `close`.
pub type CloseFn = unsafe extern "C" fn(instance: *mut Instance);
/// The member `error_free`.
pub type ErrorFreeFn = unsafe extern "C" fn(error: *mut c_char);
/// The member `info`.
pub type InfoFn = unsafe extern "C" fn(
    instance: *mut Instance,
    info: *mut Info,
    error: *mut *mut c_char,
) -> Status;
/// The member `devices`. The callback is nullable so that passing NULL can be tested.
pub type DevicesFn = unsafe extern "C" fn(
    instance: *mut Instance,
    on_device: Option<OnDevice>,
    user: *mut c_void,
    error: *mut *mut c_char,
) -> Status;
/// The member `supports`.
pub type SupportsFn = unsafe extern "C" fn(
    instance: *mut Instance,
    model: *const c_void,
    model_size: usize,
    subgraph: u32,
    on_verdict: Option<OnVerdict>,
    user: *mut c_void,
    error: *mut *mut c_char,
) -> Status;
/// The member `compile`.
pub type CompileFn = unsafe extern "C" fn(
    instance: *mut Instance,
    device: *const c_char,
    model: *const c_void,
    model_size: usize,
    executable: *mut *mut Executable,
    error: *mut *mut c_char,
) -> Status;
/// The members `executable_free` and `cancel`.
pub type ExecutableFn = unsafe extern "C" fn(executable: *mut Executable);
/// The member `wait`.
pub type WaitFn = unsafe extern "C" fn(
    executable: *mut Executable,
    milliseconds: u32,
    error: *mut *mut c_char,
) -> Status;
/// The member `cost`.
pub type CostFn = unsafe extern "C" fn(
    executable: *mut Executable,
    on_cost: Option<OnCost>,
    user: *mut c_void,
    error: *mut *mut c_char,
) -> Status;

/// `bantam_driver`; every function is nullable here, for a library may leave out what it must not.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the header documents the members")]
pub struct Driver {
    pub size: usize,
    pub name: *const c_char,
    pub version: *const c_char,
    pub open: Option<OpenFn>,
    pub close: Option<CloseFn>,
    pub error_free: Option<ErrorFreeFn>,
    pub info: Option<InfoFn>,
    pub devices: Option<DevicesFn>,
    pub supports: Option<SupportsFn>,
    pub compile: Option<CompileFn>,
    pub executable_free: Option<ExecutableFn>,
    pub run: Option<RunFn>,
    pub submit: Option<RunFn>,
    pub wait: Option<WaitFn>,
    pub cancel: Option<ExecutableFn>,
    pub cost: Option<CostFn>,
}

/// `bantam_driver_get_function`
pub type GetFn =
    unsafe extern "C" fn(version: u32, theirs: *mut u32, driver: *mut *const Driver) -> Status;

/// A structure of the header in C's words: its name, its size, and its members with their places.
pub type Layout = (&'static str, usize, &'static [(&'static str, usize)]);

macro_rules! layouts {
    ($($c:literal $name:ident = $size:literal { $($member:ident $offset:literal)* })*) => {
        /// Every structure, for the test that asks a C compiler.
        pub const LAYOUTS: &[Layout] = &[$((
            $c,
            size_of::<$name>(),
            &[$((stringify!($member), offset_of!($name, $member))),*],
        )),*];

        #[cfg(target_pointer_width = "64")]
        const _: () = {
            $(assert!(size_of::<$name>() == $size);
            $(assert!(offset_of!($name, $member) == $offset);)*)*
        };
    };
}

layouts! {
    "bantam_driver_option" DriverOption = 16 { key 0 value 8 }
    "bantam_driver_input" Input = 16 { data 0 size 8 }
    "bantam_driver_output" Output = 16 { data 0 size 8 }
    "bantam_driver_info" Info = 32 { size 0 target 8 flags 16 partitions 20 min_ops 24 alignment 28 }
    "bantam_driver_device" Device = 24 { size 0 id 8 description 16 }
    "bantam_driver_verdict" Verdict = 48 { size 0 op 8 verdict 12 rule 16 reason 24 measured 32 limit 40 }
    "bantam_driver_cost" Cost = 24 { size 0 name 8 value 16 }
    "bantam_driver" Driver = 128 {
        size 0 name 8 version 16 open 24 close 32 error_free 40 info 48 devices 56 supports 64 compile 72
        executable_free 80 run 88 submit 96 wait 104 cancel 112 cost 120
    }
}
