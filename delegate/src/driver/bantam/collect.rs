//! The callbacks that a library is given: each item is checked and copied, and the first that is wrong is remembered.

use std::ffi::c_void;

use bantam_driver_abi::raw;
use bantam_model::target::{Measure, Refusal, Verdict};

use super::api::{optional, required};
use crate::driver::{Device, DriverError};

/// What a callback has got so far.
pub(super) struct Collector<T> {
    items: Vec<T>,
    most: usize,
    problem: Option<String>,
}

impl<T> Collector<T> {
    /// One that takes at most `most` items.
    pub fn new(most: usize) -> Self {
        Self {
            items: Vec::new(),
            most,
            problem: None,
        }
    }

    /// What the callback is given.
    pub fn user(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }

    fn add(&mut self, item: Result<T, String>) {
        match item {
            _ if self.problem.is_some() => {}
            Ok(_) if self.items.len() == self.most => {
                self.problem = Some(format!("more than {} items", self.most));
            }
            Ok(item) => self.items.push(item),
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// The items, if all were right; `call` is for the message.
    pub fn finish(self, call: &str) -> Result<Vec<T>, DriverError> {
        match self.problem {
            Some(problem) => Err(DriverError::Garbage(format!("{call} gave {problem}"))),
            None => Ok(self.items),
        }
    }
}

/// A copy of the structure at `pointer`, if it is one of this version.
///
/// # Safety
///
/// `pointer` is NULL or points to a structure that starts with its size and is as long as that says; `T` starts so as well.
unsafe fn read<T: Copy>(pointer: *const T, what: &str) -> Result<T, String> {
    if pointer.is_null() {
        return Err(format!("a {what} that is NULL"));
    }
    // SAFETY: not NULL, so its first member is there.
    let size = unsafe { pointer.cast::<usize>().read() };
    if size < size_of::<T>() {
        return Err(format!(
            "a {what} of {size} bytes, fewer than {}",
            size_of::<T>()
        ));
    }
    // SAFETY: it is large enough, by its own word.
    Ok(unsafe { pointer.read() })
}

/// # Safety
///
/// `user` is a live collector of devices that nothing else uses, and `device` is as the header says.
pub(super) unsafe extern "C" fn on_device(user: *mut c_void, device: *const raw::Device) {
    // SAFETY: the caller vouches for it.
    let Some(collector) = (unsafe { user.cast::<Collector<Device>>().as_mut() }) else {
        return;
    };
    let item = || {
        // SAFETY: as above.
        let device = unsafe { read(device, "device") }?;
        // SAFETY: texts of the structure are NULL or valid for this call.
        let id = unsafe { required(device.id) };
        // SAFETY: as above.
        let description = unsafe { required(device.description) };
        Ok(Device {
            id: id.map_err(|cause| format!("a device whose id {cause}"))?,
            description: description
                .map_err(|cause| format!("a device whose description {cause}"))?,
        })
    };
    collector.add(item());
}

/// # Safety
///
/// `user` is a live collector of operators and verdicts that nothing else uses, and `verdict` is as the header says.
pub(super) unsafe extern "C" fn on_verdict(user: *mut c_void, verdict: *const raw::Verdict) {
    // SAFETY: the caller vouches for it.
    let Some(collector) = (unsafe { user.cast::<Collector<(u32, Verdict)>>().as_mut() }) else {
        return;
    };
    let item = || {
        // SAFETY: as above.
        let verdict = unsafe { read(verdict, "verdict") }?;
        let (op, kind) = (verdict.op, verdict.verdict);
        let about = |what: &str, cause| format!("operator {op} a {what} that {cause}");
        let verdict = match kind {
            raw::SUPPORTED => Verdict::Supported,
            raw::UNKNOWN => {
                // SAFETY: texts of the structure are NULL or valid for this call.
                let reason = unsafe { optional(verdict.reason) };
                let reason = reason.map_err(|cause| about("reason", cause))?;
                Verdict::Unknown(reason.unwrap_or_else(|| "the driver does not know it".to_owned()))
            }
            raw::UNSUPPORTED => {
                // SAFETY: as above.
                let rule = unsafe { required(verdict.rule) };
                // SAFETY: as above.
                let reason = unsafe { required(verdict.reason) };
                // SAFETY: as above.
                let measured = unsafe { optional(verdict.measured) };
                // SAFETY: as above.
                let limit = unsafe { optional(verdict.limit) };
                let measured = measured.map_err(|cause| about("measured value", cause))?;
                let limit = limit.map_err(|cause| about("limit", cause))?;
                Verdict::Unsupported(Box::new(Refusal {
                    rule: rule.map_err(|cause| about("rule", cause))?,
                    reason: reason.map_err(|cause| about("reason", cause))?,
                    measured: measured.map(measure),
                    limit: limit.map(measure),
                    evidence: None,
                    is_inferred: false,
                }))
            }
            other => return Err(format!("operator {op} the verdict {other}")),
        };
        Ok((op, verdict))
    };
    collector.add(item());
}

/// # Safety
///
/// `user` is a live collector of figures that nothing else uses, and `cost` is as the header says.
pub(super) unsafe extern "C" fn on_cost(user: *mut c_void, cost: *const raw::Cost) {
    // SAFETY: the caller vouches for it.
    let Some(collector) = (unsafe { user.cast::<Collector<(String, f64)>>().as_mut() }) else {
        return;
    };
    let item = || {
        // SAFETY: as above.
        let cost = unsafe { read(cost, "figure") }?;
        // SAFETY: the text is NULL or valid for this call.
        let name = unsafe { required(cost.name) };
        let name = name.map_err(|cause| format!("a figure whose name {cause}"))?;
        if !cost.value.is_finite() {
            return Err(format!("{name} the value {}", cost.value));
        }
        Ok((name, cost.value))
    };
    collector.add(item());
}

/// A number if the text is one.
fn measure(text: String) -> Measure {
    match text.parse() {
        Ok(number) => Measure::Number(number),
        Err(_) => Measure::Text(text),
    }
}
