//! Conversion, with samples from the caller.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ::bantam_model::Model;
use ::bantam_model::target::Target;
use bantam_converter::legalize::{Allowance, LegalizeReport, Options, legalize};
use bantam_converter::samples::SampleError;
use bantam_converter::{ConvertError, IoType, Mode, Recipe, Report, Source};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as NameError;
use serde_json::{Value, json};

use crate::error::{Failure, bantam_error, bantam_status, status};
use crate::guard::{as_out, as_ref, guard, optional_str};
use crate::model::bantam_model;
use crate::run::bantam_output;
use crate::string::c_string;
use crate::struct_size::{self, SizeFirst};

/// See the header.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the header documents them")]
pub struct bantam_convert_options {
    pub struct_size: usize,
    pub mode: *const c_char,
    pub input_type: *const c_char,
    pub output_type: *const c_char,
    pub recipe: *const c_char,
    pub signature: *const c_char,
    pub sample_count: usize,
    pub threads: u32,
    pub allow_inexact: i32,
    pub target: *const c_char,
}

// SAFETY: `repr(C)`, the size comes first, zero is a value of every field, and the end has no padding.
unsafe impl SizeFirst for bantam_convert_options {
    const NAME: &'static str = "bantam_convert_options";
    const FIRST: usize = offset_of!(bantam_convert_options, target);
}

/// `bantam_sample_fn` of the header; `None` is NULL.
pub type bantam_sample_fn =
    Option<unsafe extern "C-unwind" fn(*mut c_void, usize, *const bantam_output, usize) -> i32>;

/// The caller's samples.
struct Callback {
    call: bantam_sample_fn,
    user: *mut c_void,
    count: usize,
    /// The size of each input.
    sizes: Vec<usize>,
    /// One thread at a time, as the header says.
    turn: Mutex<()>,
    is_stopped: AtomicBool,
}

// SAFETY: the header says that any thread may make the call, with this pointer, one at a time.
unsafe impl Sync for Callback {}

impl Source for Callback {
    fn len(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> Result<Vec<Vec<u8>>, SampleError> {
        let mut sample: Vec<Vec<u8>> = self.sizes.iter().map(|&size| vec![0; size]).collect();
        let buffers: Vec<bantam_output> = sample
            .iter_mut()
            .map(|input| bantam_output {
                data: input.as_mut_ptr().cast(),
                size: input.len(),
            })
            .collect();
        let _turn = self.turn.lock().unwrap_or_else(|p| p.into_inner());
        let is_stopped = self.is_stopped.load(Ordering::Relaxed)
            || self.call.is_none_or(|call| {
                // SAFETY: the header's contract; the buffers live during the call.
                unsafe { call(self.user, index, buffers.as_ptr(), buffers.len()) != 0 }
            });
        if is_stopped {
            self.is_stopped.store(true, Ordering::Relaxed);
            return Err(SampleError::Cancelled);
        }
        Ok(sample)
    }
}

/// A value by the name that recipes have for it.
fn named<'de, T: Deserialize<'de>>(what: &str, name: &'de str) -> Result<T, Failure> {
    T::deserialize(IntoDeserializer::<NameError>::into_deserializer(name))
        .map_err(|error| Failure::argument(format!("{what}: {error}")))
}

/// # Safety
///
/// The strings of `given` are as the header says.
unsafe fn read_recipe(
    given: &bantam_convert_options,
    model: &bantam_model,
) -> Result<Recipe, Failure> {
    // SAFETY: passed on to the caller.
    let (recipe, mode, input, output, signature) = unsafe {
        (
            optional_str(given.recipe, "recipe")?,
            optional_str(given.mode, "mode")?,
            optional_str(given.input_type, "input_type")?,
            optional_str(given.output_type, "output_type")?,
            optional_str(given.signature, "signature")?,
        )
    };
    let mut recipe = match recipe {
        None => Recipe::default(),
        Some("best") => Recipe::best(),
        Some(text) if text.trim_start().starts_with('{') => Recipe::from_json(text)?,
        Some(text) => Recipe::from_toml(text)?,
    };
    if let Some(mode) = mode {
        recipe.mode = named::<Mode>("mode", mode)?;
    }
    if let Some(name) = input {
        recipe.input_type = Some(named::<IoType>("input_type", name)?);
    }
    if let Some(name) = output {
        recipe.output_type = Some(named::<IoType>("output_type", name)?);
    }
    if signature.is_some() {
        recipe.subgraph = model.subgraph(signature)?;
    }
    Ok(recipe)
}

/// The accelerator that the result is for, and how far its numbers may change.
struct Goal {
    target: Target,
    options: Options,
}

impl Goal {
    /// # Safety
    ///
    /// The strings of `given` are as the header says.
    unsafe fn read(given: &bantam_convert_options) -> Result<Option<Self>, Failure> {
        // SAFETY: passed on to the caller.
        let Some(name) = (unsafe { optional_str(given.target, "target") })? else {
            return Ok(None);
        };
        let allow = match given.allow_inexact {
            -1 => Allowance::Any,
            steps => Allowance::Steps(u32::try_from(steps).map_err(|_| {
                Failure::argument(format!(
                    "allow_inexact is {steps}, which is no number of steps"
                ))
            })?),
        };
        Ok(Some(Self {
            target: Target::open(name)?,
            options: Options {
                allow,
                ..Options::default()
            },
        }))
    }

    fn legalize(&self, model: &Model) -> Result<(Model, LegalizeReport), Failure> {
        Ok(legalize(model, &self.target, &self.options)?)
    }
}

fn input_sizes(model: &Model, subgraph: usize) -> Result<Vec<usize>, Failure> {
    let entry = model.subgraphs.get(subgraph);
    let entry = entry.ok_or_else(|| Failure::argument("the model has no subgraph"))?;
    let sizes = entry.inputs.iter().map(|&id| {
        let tensor = &entry[id];
        let size = tensor.dtype.byte_len(&tensor.shape);
        size.ok_or_else(|| {
            let message = format!("input {:?} has no fixed size", tensor.name);
            Failure::new(status::UNSUPPORTED, message)
        })
    });
    sizes.collect()
}

/// What became of the model.
fn report_json(recipe: &Recipe, report: &Report) -> Value {
    let kept = report.kept_float.iter().map(|k| {
        json!({
            "index": k.index,
            "name": k.name,
            "op": k.op,
            "reason": k.reason,
            "subgraph": k.subgraph,
        })
    });
    json!({
        "kept_float": kept.collect::<Vec<_>>(),
        "mode": recipe.mode.to_string(),
        "ops": report.ops,
        "quantized": report.quantized,
        "schema": "bantam.convert",
        "schema_version": 1,
        "warnings": report.warnings,
    })
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_convert(
    model: *const bantam_model,
    options: *const bantam_convert_options,
    sample: bantam_sample_fn,
    user: *mut c_void,
    converted: *mut *mut bantam_model,
    report: *mut *mut c_char,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            if let Some(report) = report.as_mut() {
                *report = std::ptr::null_mut();
            }
            let place = as_out(converted, "converted")?;
            let model = as_ref(model, "model")?;
            let given = struct_size::read(options)?;
            let (recipe, goal) = match &given {
                Some(given) => (read_recipe(given, model)?, Goal::read(given)?),
                None => (Recipe::default(), None),
            };
            let legal = goal.as_ref().map(|goal| goal.legalize(&model.model));
            let (float, fitted) = match legal.transpose()? {
                Some((float, fitted)) => (float, Some(fitted)),
                None => (model.model.clone(), None),
            };
            let source = Callback {
                call: sample,
                user,
                count: match (sample, &given) {
                    (Some(_), Some(given)) => given.sample_count,
                    _ => 0,
                },
                sizes: match recipe.needs_samples() {
                    true => input_sizes(&float, recipe.subgraph)?,
                    false => Vec::new(),
                },
                turn: Mutex::new(()),
                is_stopped: AtomicBool::new(false),
            };
            let threads = given.map_or(1, |given| given.threads.max(1) as usize);
            let done = bantam_converter::convert(&float, &source, &recipe, threads, &|_, _| ());
            let (mut made, what) = match done {
                Err(ConvertError::Sample {
                    source: SampleError::Cancelled,
                    ..
                }) => {
                    let message = "the callback stopped the conversion";
                    return Err(Failure::new(status::CANCELLED, message));
                }
                other => other?,
            };
            let mut object = report_json(&recipe, &what);
            if let (Some(goal), Some(fitted)) = (&goal, fitted) {
                let (legal, integer) = goal.legalize(&made)?;
                object["target"] = json!({ "float": fitted.json(), "integer": integer.json() });
                made = legal;
            }
            *place = bantam_model::new(made).into_raw();
            if let Some(report) = report.as_mut() {
                *report = c_string(object.to_string()).into_raw();
            }
            Ok(())
        })
    }
}
