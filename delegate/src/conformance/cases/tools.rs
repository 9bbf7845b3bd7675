//! What the cases are made of: what they say, the models that a library takes, inputs, and the answers that are right.

use bantam_driver_abi::raw;
use bantam_model::cpu::Staged;
use bantam_model::target::Verdict;
use bantam_model::tensor::DType;
use bantam_model::{Model, Numerics, cpu};

use crate::conformance::models::Numbers;
use crate::conformance::{Stop, Suite, models};
use crate::driver::bantam::probe::{Probe, Reply};
use crate::driver::bantam::{BantamDriver, BantamExecutable};
use crate::driver::{Driver, DriverError, Executable};
use crate::partition::{extract, partition};

pub(super) type Result = std::result::Result<(), Stop>;
pub(super) type Checked<T> = std::result::Result<T, Stop>;

pub(super) fn failed(text: impl Into<String>) -> Stop {
    Stop::Failed(text.into())
}

pub(super) fn skipped(text: impl Into<String>) -> Stop {
    Stop::Skipped(text.into())
}

/// A condition, and what it means if it does not hold.
pub(super) fn check(holds: bool, text: impl FnOnce() -> String) -> Result {
    holds.then_some(()).ok_or_else(|| failed(text()))
}

pub(super) fn during<T>(what: &str, result: std::result::Result<T, DriverError>) -> Checked<T> {
    result.map_err(|error| failed(format!("{what}: {error}")))
}

/// A model that the library takes as a whole.
pub(super) struct Taken {
    pub name: String,
    pub model: Model,
}

impl Suite {
    pub(super) fn driver(&self) -> Checked<BantamDriver> {
        // SAFETY: whoever has a library tested vouches that it is meant for this interface.
        #[allow(unsafe_code, reason = "loads a vendor's library")]
        let driver = unsafe { BantamDriver::load(&self.library, &self.options.0) };
        during("it cannot be opened", driver)
    }

    pub(super) fn probe(&self) -> Checked<Probe> {
        // SAFETY: as for `driver`.
        #[allow(unsafe_code, reason = "loads a vendor's library")]
        let probe = unsafe { Probe::load(&self.library) };
        during("it cannot be loaded", probe)
    }

    pub(super) fn options(&self) -> Vec<(&str, &str)> {
        let pairs = self.options.0.iter();
        pairs.map(|(k, v)| (k.as_str(), v.as_str())).collect()
    }

    pub(super) fn instance<'a>(
        &self,
        probe: &'a Probe,
    ) -> Checked<crate::driver::bantam::probe::Instance<'a>> {
        let (reply, instance) = probe.open(&self.options());
        instance.ok_or_else(|| failed(format!("open answered {reply:?}")))
    }

    /// The partitions of the suite's and the user's models that the library takes.
    pub(super) fn taken(&self, driver: &BantamDriver) -> Checked<Vec<Taken>> {
        let mut models = self.models.clone();
        for dtype in [DType::I8, DType::F32] {
            models.extend(models::runnable(dtype));
        }
        let mut taken = Vec::new();
        for (name, model) in models {
            let verdicts = during(&format!("supports on {name}"), driver.supports(&model, 0))?;
            let takes: Vec<bool> = verdicts.iter().map(Verdict::is_supported).collect();
            for part in partition(&model.subgraphs[0], &takes, &driver.policy()) {
                taken.push(Taken {
                    name: name.clone(),
                    model: extract(&model, 0, &part),
                });
            }
        }
        if taken.is_empty() {
            return Err(skipped("it takes no operator of the suite's models"));
        }
        Ok(taken)
    }
}

/// Inputs for a model: random ones, then the smallest and the largest values.
pub(super) fn inputs(model: &Model, round: u64) -> Vec<Vec<u8>> {
    let graph = &model.subgraphs[0];
    let mut numbers = Numbers(0x1234_5678 + round);
    let extreme = |dtype: DType, len: usize, high: bool| -> Vec<u8> {
        match (dtype, high) {
            (DType::F32, _) => {
                let value = if high { 100.0f32 } else { -100.0 };
                value.to_ne_bytes().repeat(len)
            }
            (DType::I8, true) => vec![127; len],
            (DType::I8, false) => vec![128; len],
            (other, high) => vec![if high { 1 } else { 0 }; len * other.size().unwrap_or(1)],
        }
    };
    let tensors = graph.inputs.iter().map(|&id| &graph[id]);
    tensors
        .map(|tensor| {
            let len = tensor.shape.iter().product();
            match round {
                0 => extreme(tensor.dtype, len, false),
                1 => extreme(tensor.dtype, len, true),
                _ => numbers.elements(tensor.dtype, len),
            }
        })
        .collect()
}

/// Room for the outputs of a model, filled with a byte.
pub(super) fn outputs(model: &Model, fill: u8) -> Vec<Vec<u8>> {
    let graph = &model.subgraphs[0];
    let tensors = graph.outputs.iter().map(|&id| &graph[id]);
    tensors
        .map(|t| vec![fill; t.dtype.byte_len(&t.shape).unwrap_or(0)])
        .collect()
}

pub(super) fn run(
    executable: &mut dyn Executable,
    model: &Model,
    inputs: &[Vec<u8>],
    fill: u8,
) -> std::result::Result<Vec<Vec<u8>>, DriverError> {
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let mut results = outputs(model, fill);
    let mut places: Vec<&mut [u8]> = results.iter_mut().map(Vec::as_mut_slice).collect();
    executable.run(&inputs, &mut places)?;
    Ok(results)
}

/// What the CPU path computes.
pub(super) fn expected(model: &Model, inputs: &[Vec<u8>]) -> Checked<Vec<Vec<u8>>> {
    let ours = |error: cpu::RunError| skipped(format!("the CPU path cannot run it: {error}"));
    let options = cpu::Options {
        numerics: Numerics::Reference,
        ..cpu::Options::default()
    };
    let mut stages = Staged::new(model, &options).map_err(ours)?;
    for (index, bytes) in inputs.iter().enumerate() {
        stages.set_input(index, bytes).map_err(ours)?;
    }
    stages.run().map_err(ours)?;
    let outputs = 0..model.subgraphs[0].outputs.len();
    Ok(outputs
        .map(|i| stages.output(i).map_or(Vec::new(), |(_, b)| b.to_vec()))
        .collect())
}

/// The first element that is further from what was expected than allowed.
pub(super) fn difference(
    model: &Model,
    found: &[Vec<u8>],
    wanted: &[Vec<u8>],
    tolerance: u32,
) -> Option<String> {
    let graph = &model.subgraphs[0];
    for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let dtype = graph[graph.outputs[index]].dtype;
        let size = dtype.size().unwrap_or(1).max(1);
        let pairs = found.chunks_exact(size).zip(wanted.chunks_exact(size));
        for (place, (a, b)) in pairs.enumerate() {
            let (a, b) = (value(dtype, a), value(dtype, b));
            let allowed = match dtype {
                // The CPU path's own results are good to 1e-5 of the value.
                DType::F32 | DType::F16 | DType::F64 => {
                    (1e-5 + 1e-3 * f64::from(tolerance)) * b.abs().max(1.0)
                }
                _ => f64::from(tolerance),
            };
            let is_close = (a - b).abs() <= allowed;
            if a != b && !is_close {
                return Some(format!("output {index}, element {place}: {a}, not {b}"));
            }
        }
    }
    None
}

pub(super) fn value(dtype: DType, bytes: &[u8]) -> f64 {
    let integer = |bytes: &[u8]| {
        let mut wide = [if bytes.last().is_some_and(|b| b & 0x80 != 0) {
            0xff
        } else {
            0
        }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        i64::from_le_bytes(wide) as f64
    };
    match (dtype, bytes) {
        (DType::F32, &[a, b, c, d]) => f32::from_ne_bytes([a, b, c, d]).into(),
        (DType::U8 | DType::Bool, &[byte]) => byte.into(),
        _ => integer(bytes),
    }
}

pub(super) fn compile(driver: &BantamDriver, taken: &Taken) -> Checked<BantamExecutable> {
    let compiled = driver.compile_here(&taken.model, None);
    during(&format!("compile of {}", taken.name), compiled)
}

pub(super) fn run_of(
    taken: &Taken,
    executable: &mut BantamExecutable,
    round: u64,
) -> Checked<Vec<Vec<u8>>> {
    let inputs = inputs(&taken.model, round);
    let result = run(executable, &taken.model, &inputs, 0);
    during(&format!("run of {}", taken.name), result)
}

pub(super) fn with_text(call: &str, reply: &Reply, wanted: raw::Status) -> Result {
    check(reply.status == wanted, || {
        format!("{call} answered {}, not {wanted}", reply.status)
    })?;
    match &reply.text {
        Some(Ok(text)) if !text.trim().is_empty() => Ok(()),
        Some(Ok(_)) => Err(failed(format!("{call} gave an empty text"))),
        Some(Err(())) => Err(failed(format!("{call} gave a text that is not UTF-8"))),
        None => Err(failed(format!("{call} gave no text"))),
    }
}

/// Open files of this process, where the system shows them.
pub(super) fn open_files() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}
