//! The cases.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bantam_driver_abi::raw;
use bantam_model::cpu::{self, Staged};
use bantam_model::target::Verdict;
use bantam_model::tensor::DType;
use bantam_model::{Model, Numerics};

use super::models::{self, Numbers};
use super::{Case, Stop, Suite};
use crate::driver::bantam::probe::{Probe, Reply};
use crate::driver::bantam::{BantamDriver, BantamExecutable};
use crate::driver::{Driver, DriverError, Executable};
use crate::partition::{extract, partition};

type Result = std::result::Result<(), Stop>;
type Checked<T> = std::result::Result<T, Stop>;

macro_rules! cases {
    ($($name:literal $run:ident $about:literal;)*) => {
        pub(super) const CASES: &[Case] = &[$(Case { name: $name, about: $about, run: $run }),*];
    };
}

cases! {
    "load" load "the library loads, and its table is complete";
    "version" version "other versions are refused, and the library's own is named";
    "structure-sizes" structure_sizes "a structure that is longer or shorter than expected is not overrun";
    "nulls" nulls "a NULL is refused where it must be and does nothing where it may be";
    "unknown-option" unknown_option "an option that does not exist is refused, with a text";
    "open-close" open_close "200 instances one after the other leave no files open";
    "devices" devices "the list of devices is in order and the same each time";
    "unknown-device" unknown_device "a device that is not there is refused, with a text";
    "every-operator" every_operator "each operator that the format knows gets one verdict, the same each time";
    "broken-models-supports" broken_supports "asked about bytes that are no model, the library refuses them";
    "broken-models-compile" broken_compile "given bytes that are no model, the library refuses them";
    "refused-partition" refused_partition "a partition with an operator that is not supported is refused, with a text";
    "compile-supported" compile_supported "what is supported can be compiled";
    "exact" exact "the results are those of the CPU path";
    "deterministic" deterministic "the same inputs give the same results, whatever the outputs held before";
    "buffers-untouched" buffers_untouched "a run changes nothing but its outputs";
    "odd-addresses" odd_addresses "buffers may lie wherever the alignment that is asked for allows";
    "wrong-buffers" wrong_buffers "buffers of a wrong number or size are refused";
    "many-executables" many_executables "executables that live at the same time do not disturb each other";
    "instances" instances "two instances on two threads do not disturb each other";
    "parallel" parallel "runs of different executables overlap";
    "submit" submit "a run that is submitted gives the results of one that is not";
    "cancel" cancel "a run can be cancelled, and the next one is good";
    "cost" cost "the cost has names and finite figures";
    "errors" errors "errors have texts in UTF-8, and may be ignored";
    "leaks" leaks "300 times compiled, run and freed, memory does not grow";
}

fn failed(text: impl Into<String>) -> Stop {
    Stop::Failed(text.into())
}

fn skipped(text: impl Into<String>) -> Stop {
    Stop::Skipped(text.into())
}

/// A condition, and what it means if it does not hold.
fn check(holds: bool, text: impl FnOnce() -> String) -> Result {
    holds.then_some(()).ok_or_else(|| failed(text()))
}

fn during<T>(what: &str, result: std::result::Result<T, DriverError>) -> Checked<T> {
    result.map_err(|error| failed(format!("{what}: {error}")))
}

/// A model that the library takes as a whole.
struct Taken {
    name: String,
    model: Model,
}

impl Suite {
    fn driver(&self) -> Checked<BantamDriver> {
        // SAFETY: whoever has a library tested vouches that it is meant for this interface.
        #[allow(unsafe_code, reason = "loads a vendor's library")]
        let driver = unsafe { BantamDriver::load(&self.library, &self.options.0) };
        during("it cannot be opened", driver)
    }

    fn probe(&self) -> Checked<Probe> {
        // SAFETY: as for `driver`.
        #[allow(unsafe_code, reason = "loads a vendor's library")]
        let probe = unsafe { Probe::load(&self.library) };
        during("it cannot be loaded", probe)
    }

    fn options(&self) -> Vec<(&str, &str)> {
        let pairs = self.options.0.iter();
        pairs.map(|(k, v)| (k.as_str(), v.as_str())).collect()
    }

    fn instance<'a>(
        &self,
        probe: &'a Probe,
    ) -> Checked<crate::driver::bantam::probe::Instance<'a>> {
        let (reply, instance) = probe.open(&self.options());
        instance.ok_or_else(|| failed(format!("open answered {reply:?}")))
    }

    /// The partitions of the suite's and the user's models that the library takes.
    fn taken(&self, driver: &BantamDriver) -> Checked<Vec<Taken>> {
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
fn inputs(model: &Model, round: u64) -> Vec<Vec<u8>> {
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
fn outputs(model: &Model, fill: u8) -> Vec<Vec<u8>> {
    let graph = &model.subgraphs[0];
    let tensors = graph.outputs.iter().map(|&id| &graph[id]);
    tensors
        .map(|t| vec![fill; t.dtype.byte_len(&t.shape).unwrap_or(0)])
        .collect()
}

fn run(
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
fn expected(model: &Model, inputs: &[Vec<u8>]) -> Checked<Vec<Vec<u8>>> {
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
fn difference(
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

fn value(dtype: DType, bytes: &[u8]) -> f64 {
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

fn compile(driver: &BantamDriver, taken: &Taken) -> Checked<BantamExecutable> {
    let compiled = driver.compile_here(&taken.model, None);
    during(&format!("compile of {}", taken.name), compiled)
}

fn run_of(taken: &Taken, executable: &mut BantamExecutable, round: u64) -> Checked<Vec<Vec<u8>>> {
    let inputs = inputs(&taken.model, round);
    let result = run(executable, &taken.model, &inputs, 0);
    during(&format!("run of {}", taken.name), result)
}

fn load(suite: &Suite) -> Result {
    suite.probe()?;
    suite.driver().map(drop)
}

fn version(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    for version in [0, raw::VERSION + 1, u32::MAX] {
        let (status, theirs, has_table) = probe.negotiate(version);
        check(status == raw::VERSION_MISMATCH, || {
            format!("asked for version {version} it answered {status}")
        })?;
        check(theirs == raw::VERSION, || {
            format!("asked for version {version} it called itself version {theirs}")
        })?;
        check(!has_table, || {
            format!("asked for version {version} it gave a table")
        })?;
    }
    let nothing = probe.negotiate_nothing();
    check(nothing.iter().all(|&s| s == raw::INVALID), || {
        format!("bantam_driver_get with a NULL answered {nothing:?}")
    })?;
    let again = probe.negotiate(raw::VERSION);
    check(again == (raw::OK, raw::VERSION, true), || {
        format!("asked again it answered {again:?}")
    })
}

fn structure_sizes(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    for size in [size_of::<raw::Info>(), size_of::<raw::Info>() + 64] {
        let around = instance.info_of_size(size);
        check(around.status == raw::OK, || {
            format!("info of {size} bytes answered {}", around.status)
        })?;
        check(!around.is_overrun, || {
            format!("info of {size} bytes was written behind what version 1 has")
        })?;
        check(around.size == size, || {
            format!(
                "info of {size} bytes has the size {} afterwards",
                around.size
            )
        })?;
    }
    let around = instance.info_of_size(size_of::<usize>());
    check(!around.is_overrun, || {
        "info of 8 bytes was written behind its end".to_owned()
    })?;
    check(around.status == raw::INVALID, || {
        format!("info of 8 bytes answered {}", around.status)
    })
}

fn nulls(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    let model = models::empty().to_bytes();
    let mut replies = probe.nulls();
    replies.extend(instance.nulls(&model));
    for (call, status) in replies {
        check(status == raw::INVALID, || {
            format!("{call} answered {status}")
        })?;
    }
    Ok(())
}

fn with_text(call: &str, reply: &Reply, wanted: raw::Status) -> Result {
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

fn unknown_option(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    let mut options = suite.options();
    options.push(("bantam-conformance-no-such-option", "1"));
    let (reply, instance) = probe.open(&options);
    check(instance.is_none(), || "it was accepted".to_owned())?;
    with_text("open", &reply, raw::BAD_OPTION)
}

/// Open files of this process, where the system shows them.
fn open_files() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

fn open_close(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    for _ in 0..20 {
        suite.instance(&probe)?;
    }
    let before = open_files();
    for _ in 0..200 {
        suite.instance(&probe)?;
    }
    let after = open_files();
    check(after <= before, || {
        format!("there were {before:?} files open before and {after:?} after")
    })
}

fn devices(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let first = during("devices", driver.devices())?;
    let second = during("devices", driver.devices())?;
    check(first == second, || {
        format!("it listed {first:?} and then {second:?}")
    })
}

fn unknown_device(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let taken = suite.taken(&driver)?;
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    let bytes = taken[0].model.to_bytes();
    let (reply, _) = instance.compile(&bytes, Some("no such device"));
    with_text("compile", &reply, raw::NO_DEVICE)
}

fn every_operator(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    for dtype in [DType::I8, DType::F32] {
        for model in models::every_kind(dtype).iter().chain([&models::empty()]) {
            let op = match model.subgraphs[0].nodes.first() {
                Some(node) => node.op.to_string(),
                None => "no operator".to_owned(),
            };
            let first = during(&format!("supports on {op}"), driver.supports(model, 0))?;
            let second = during(&format!("supports on {op}"), driver.supports(model, 0))?;
            check(first == second, || {
                format!("{op} got {first:?} and then {second:?}")
            })?;
        }
        for (name, model) in models::runnable(dtype) {
            during(&format!("supports on {name}"), driver.supports(&model, 0))?;
        }
    }
    Ok(())
}

/// Bytes that are no model, or one that is cut off or has wrong bits.
fn broken() -> Vec<Vec<u8>> {
    let good: Vec<Vec<u8>> = [DType::I8, DType::F32]
        .into_iter()
        .flat_map(|dtype| {
            let models = models::runnable(dtype).into_iter();
            models.filter(|(name, _)| name.contains("ADD") || name.contains("CONV_2D"))
        })
        .map(|(_, model)| model.to_bytes())
        .collect();
    let mut numbers = Numbers(77);
    let mut all = vec![Vec::new(), vec![0], b"TFL3".to_vec(), vec![0xff; 64]];
    all.push((0..512).map(|_| numbers.draw() as u8).collect());
    for model in &good {
        let cuts = (0..24).map(|i| model[..model.len() * i / 24].to_vec());
        all.extend(cuts);
        for _ in 0..120 {
            let mut bytes = model.clone();
            for _ in 0..1 + numbers.draw() % 4 {
                let place = numbers.draw() as usize % bytes.len();
                bytes[place] ^= 1 << (numbers.draw() % 8);
            }
            all.push(bytes);
        }
    }
    all
}

/// What may come of a model that is broken, or is not broken after all.
const POSSIBLE: [raw::Status; 5] = [
    raw::OK,
    raw::FAILED,
    raw::REFUSED,
    raw::INVALID,
    raw::NO_DEVICE,
];

fn broken_supports(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    for (index, bytes) in broken().iter().enumerate() {
        let reply = instance.supports(bytes, 0);
        check(POSSIBLE.contains(&reply.status), || {
            format!("broken model {index} got the status {}", reply.status)
        })?;
        check(index > 4 || reply.status != raw::OK, || {
            format!("{} bytes that are no model were taken for one", bytes.len())
        })?;
    }
    let reply = instance.supports(&models::empty().to_bytes(), 7);
    check(reply.status != raw::OK, || {
        "a subgraph that does not exist got verdicts".to_owned()
    })
}

fn broken_compile(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    for (index, bytes) in broken().iter().enumerate() {
        let (reply, executable) = instance.compile(bytes, None);
        check(POSSIBLE.contains(&reply.status), || {
            format!("broken model {index} got the status {}", reply.status)
        })?;
        check(index > 4 || executable.is_none(), || {
            format!("{} bytes that are no model were compiled", bytes.len())
        })?;
        check(reply.status != raw::OK || executable.is_some(), || {
            format!("broken model {index} was compiled to nothing")
        })?;
    }
    Ok(())
}

fn refused_partition(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    let mut tried = BTreeSet::new();
    for dtype in [DType::I8, DType::F32] {
        let runnable = models::runnable(dtype).into_iter().map(|(_, model)| model);
        for model in models::every_kind(dtype).into_iter().chain(runnable) {
            let verdicts = during("supports", driver.supports(&model, 0))?;
            if verdicts.iter().all(Verdict::is_supported) {
                continue;
            }
            let name = model.subgraphs[0].nodes[0].op.to_string();
            let (reply, executable) = instance.compile(&model.to_bytes(), None);
            check(executable.is_none(), || {
                format!("{name} is not supported, and was compiled")
            })?;
            with_text(&format!("compile of {name}"), &reply, raw::REFUSED)?;
            tried.insert(name);
        }
    }
    match tried.is_empty() {
        true => Err(skipped("it takes every operator")),
        false => Ok(()),
    }
}

fn compile_supported(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    for taken in suite.taken(&driver)? {
        compile(&driver, &taken)?;
    }
    Ok(())
}

fn exact(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    for taken in suite.taken(&driver)? {
        let mut executable = compile(&driver, &taken)?;
        for round in 0..8 {
            let wanted = expected(&taken.model, &inputs(&taken.model, round))?;
            let found = run_of(&taken, &mut executable, round)?;
            if let Some(text) = difference(&taken.model, &found, &wanted, suite.tolerance) {
                return Err(failed(format!("{}: {text}", taken.name)));
            }
        }
    }
    Ok(())
}

fn deterministic(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    for taken in suite.taken(&driver)? {
        let mut executable = compile(&driver, &taken)?;
        let inputs = inputs(&taken.model, 5);
        let mut first: Option<Vec<Vec<u8>>> = None;
        for fill in [0x00, 0xff, 0x55] {
            let found = run(&mut executable, &taken.model, &inputs, fill);
            let found = during(&format!("run of {}", taken.name), found)?;
            let first = first.get_or_insert_with(|| found.clone());
            check(*first == found, || {
                format!("{}: the results of equal runs differ", taken.name)
            })?;
        }
    }
    Ok(())
}

/// Bytes with others around them, at an address that is a multiple of `alignment` and of no more.
struct Guarded {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

const GUARD: usize = 64;

impl Guarded {
    fn new(content: &[u8], alignment: usize) -> Self {
        let mut bytes = vec![0xee; content.len() + 2 * GUARD + 2 * alignment];
        let from = bytes.as_ptr().addr() + GUARD;
        let start = GUARD + alignment.wrapping_sub(from) % (2 * alignment);
        bytes[start..start + content.len()].copy_from_slice(content);
        Self {
            bytes,
            start,
            len: content.len(),
        }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }

    fn is_intact(&self) -> bool {
        let (front, back) = (
            &self.bytes[..self.start],
            &self.bytes[self.start + self.len..],
        );
        front.iter().chain(back).all(|&byte| byte == 0xee)
    }
}

/// Runs on guarded buffers: the results, if nothing else was changed.
fn guarded(
    taken: &Taken,
    executable: &mut BantamExecutable,
    alignment: usize,
) -> Checked<Vec<Vec<u8>>> {
    let name = &taken.name;
    let contents = inputs(&taken.model, 3);
    let ins: Vec<Guarded> = contents
        .iter()
        .map(|c| Guarded::new(c, alignment))
        .collect();
    let room = outputs(&taken.model, 0xee);
    let mut outs: Vec<Guarded> = room.iter().map(|c| Guarded::new(c, alignment)).collect();
    let views: Vec<&[u8]> = ins.iter().map(Guarded::get).collect();
    let mut places: Vec<&mut [u8]> = outs.iter_mut().map(Guarded::get_mut).collect();
    during(
        &format!("run of {name}"),
        executable.run(&views, &mut places),
    )?;
    let same = ins
        .iter()
        .zip(&contents)
        .all(|(g, c)| g.get() == c && g.is_intact());
    check(same, || format!("{name}: an input was changed"))?;
    check(outs.iter().all(Guarded::is_intact), || {
        format!("{name}: bytes beside an output were changed")
    })?;
    Ok(outs.iter().map(|g| g.get().to_vec()).collect())
}

fn buffers_untouched(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    for taken in suite.taken(&driver)? {
        guarded(&taken, &mut compile(&driver, &taken)?, 64)?;
    }
    Ok(())
}

fn odd_addresses(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let alignment = driver.alignment();
    for taken in suite.taken(&driver)? {
        let mut executable = compile(&driver, &taken)?;
        let wanted = run_of(&taken, &mut executable, 3)?;
        let found = guarded(&taken, &mut executable, alignment)?;
        check(found == wanted, || {
            format!("{}: other results at such addresses", taken.name)
        })?;
    }
    Ok(())
}

fn wrong_buffers(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    for taken in suite.taken(&driver)? {
        let name = &taken.name;
        let (reply, executable) = instance.compile(&taken.model.to_bytes(), None);
        let executable =
            executable.ok_or_else(|| failed(format!("compile of {name} answered {reply:?}")))?;
        let good = inputs(&taken.model, 2);
        let room = outputs(&taken.model, 0);
        let refuse = |what: &str, ins: Vec<Option<Vec<u8>>>, outs: Vec<Option<Vec<u8>>>| {
            let views: Vec<Option<&[u8]>> = ins.iter().map(Option::as_deref).collect();
            let mut outs = outs;
            let mut places: Vec<Option<&mut [u8]>> =
                outs.iter_mut().map(Option::as_deref_mut).collect();
            let status = executable.run(&views, &mut places).status;
            check(status == raw::INVALID || status == raw::FAILED, || {
                format!("run of {name} with {what} answered {status}")
            })
        };
        let some = |list: &[Vec<u8>]| list.iter().cloned().map(Some).collect::<Vec<_>>();
        let mut short = some(&good);
        short[0].as_mut().map(Vec::pop);
        refuse("an input that is too short", short, some(&room))?;
        let mut long = some(&good);
        long[0].iter_mut().for_each(|bytes| bytes.push(0));
        refuse("an input that is too long", long, some(&room))?;
        let mut small = some(&room);
        small[0].as_mut().map(Vec::pop);
        refuse("an output that is too short", some(&good), small)?;
        refuse("an input too few", some(&good[1..]), some(&room))?;
        refuse("no outputs", some(&good), Vec::new())?;
        let mut more = some(&good);
        more.push(Some(vec![0; 8]));
        refuse("an input too many", more, some(&room))?;
        let mut null = some(&good);
        null[0] = None;
        refuse("an input that is NULL", null, some(&room))?;
        let mut null = some(&room);
        null[0] = None;
        refuse("an output that is NULL", some(&good), null)?;
        let status = executable.run_without_arrays(good.len(), room.len());
        check(status == raw::INVALID, || {
            format!("run of {name} without arrays answered {status}")
        })?;
    }
    Ok(())
}

fn many_executables(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let taken = suite.taken(&driver)?;
    let mut held = Vec::new();
    for part in taken.iter().chain(&taken) {
        held.push((part, compile(&driver, part)?));
    }
    let mut first: Vec<Vec<Vec<u8>>> = Vec::new();
    for (part, executable) in &mut held {
        first.push(run_of(part, executable, 4)?);
    }
    for ((part, executable), wanted) in held.iter_mut().zip(&first).rev() {
        let found = run_of(part, executable, 4)?;
        check(found == *wanted, || {
            format!("{}: other results while others were there", part.name)
        })?;
    }
    // Every other one goes, the rest must be as good as before.
    let kept: Vec<_> = held.into_iter().zip(first).skip(1).step_by(2).collect();
    for ((part, mut executable), wanted) in kept {
        let found = run_of(part, &mut executable, 4)?;
        check(found == wanted, || {
            format!("{}: other results after others were freed", part.name)
        })?;
    }
    Ok(())
}

/// Runs the executables at the same time, each on a thread, and compares with what each gave before.
fn at_once(held: Vec<(&Taken, BantamExecutable, Vec<Vec<u8>>)>) -> Result {
    thread::scope(|scope| {
        let threads: Vec<_> = held
            .into_iter()
            .map(|(part, mut executable, wanted)| {
                scope.spawn(move || {
                    for _ in 0..50 {
                        let found = run_of(part, &mut executable, 6)?;
                        check(found == wanted, || {
                            format!("{}: other results beside another run", part.name)
                        })?;
                    }
                    Ok(())
                })
            })
            .collect();
        let mut ended = threads.into_iter().map(|thread| thread.join());
        ended.try_for_each(|end| end.unwrap_or_else(|_| Err(failed("a thread panicked"))))
    })
}

fn instances(suite: &Suite) -> Result {
    let (one, two) = (suite.driver()?, suite.driver()?);
    let taken = suite.taken(&one)?;
    let mut held = Vec::new();
    for driver in [&one, &two] {
        let part = &taken[0];
        let mut executable = match driver.compile_here(&part.model, None) {
            Err(DriverError::NoDevice { .. }) if !held.is_empty() => {
                return Err(skipped("the device cannot be had twice"));
            }
            other => during(&format!("compile of {}", part.name), other)?,
        };
        let wanted = run_of(part, &mut executable, 6)?;
        held.push((part, executable, wanted));
    }
    at_once(held)
}

fn parallel(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    if !driver.is_parallel() {
        return Err(skipped("it does not set BANTAM_DRIVER_PARALLEL"));
    }
    let taken = suite.taken(&driver)?;
    let mut held = Vec::new();
    for part in taken.iter().cycle().take(taken.len().clamp(2, 6)) {
        let mut executable = compile(&driver, part)?;
        let wanted = run_of(part, &mut executable, 6)?;
        held.push((part, executable, wanted));
    }
    at_once(held)
}

fn submit(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let taken = suite.taken(&driver)?;
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    let (reply, executable) = instance.compile(&taken[0].model.to_bytes(), None);
    let raw_one = executable.ok_or_else(|| failed(format!("compile answered {reply:?}")))?;
    match raw_one.wait_for_nothing() {
        None => return Err(skipped("it has no submit and wait")),
        Some(status) => check(status == raw::INVALID, || {
            format!("wait for nothing answered {status}")
        })?,
    }
    for part in &taken {
        let mut executable = compile(&driver, part)?;
        let wanted = run_of(part, &mut executable, 3)?;
        let contents = inputs(&part.model, 3);
        let views: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let mut submission = executable.submit(&views).map_err(|(_, error)| {
            failed(match error {
                Some(error) => format!("submit of {}: {error}", part.name),
                None => "submit is gone".to_owned(),
            })
        })?;
        match submission.wait(Duration::from_secs(30)) {
            Some(result) => during(&format!("wait for {}", part.name), result)?,
            None => return Err(failed(format!("{} did not end within 30 s", part.name))),
        }
        let found = submission.outputs().unwrap_or_default();
        check(found == wanted, || {
            format!("{}: other results when submitted", part.name)
        })?;
    }
    Ok(())
}

fn cancel(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let taken = suite.taken(&driver)?;
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    let (reply, executable) = instance.compile(&taken[0].model.to_bytes(), None);
    let raw_one = executable.ok_or_else(|| failed(format!("compile answered {reply:?}")))?;
    if raw_one.cancel_nothing().is_none() {
        return Err(skipped("it has no cancel"));
    }
    for part in &taken {
        let mut executable = compile(&driver, part)?;
        let wanted = run_of(part, &mut executable, 3)?;
        let Some(cancel) = executable.canceller() else {
            return Err(skipped("it has no cancel"));
        };
        cancel();
        let found = run_of(part, &mut executable, 3)?;
        check(found == wanted, || {
            format!("{}: cancelling nothing spoilt the next run", part.name)
        })?;
        let (done, ended) = mpsc::channel::<()>();
        thread::scope(|scope| -> Result {
            scope.spawn(move || {
                while let Err(mpsc::RecvTimeoutError::Timeout) =
                    ended.recv_timeout(Duration::from_micros(200))
                {
                    cancel();
                }
            });
            for _ in 0..30 {
                let contents = inputs(&part.model, 3);
                match run(&mut executable, &part.model, &contents, 0) {
                    Ok(found) => check(found == wanted, || {
                        format!("{}: a run that was to be cancelled is wrong", part.name)
                    })?,
                    Err(DriverError::Cancelled) => {}
                    Err(error) => {
                        return Err(failed(format!("a cancelled run of {}: {error}", part.name)));
                    }
                }
            }
            drop(done);
            Ok(())
        })?;
        let found = run_of(part, &mut executable, 3)?;
        check(found == wanted, || {
            format!("{}: the run after a cancelled one is wrong", part.name)
        })?;
    }
    Ok(())
}

fn cost(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    for taken in suite.taken(&driver)? {
        let executable = compile(&driver, &taken)?;
        let figures = during(&format!("cost of {}", taken.name), executable.try_cost())?;
        if figures.is_empty() {
            return Err(skipped("it says nothing of cost"));
        }
    }
    Ok(())
}

fn errors(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    let (reply, executable) = instance.compile(b"this is not a model, is it?", None);
    check(executable.is_none(), || {
        "a sentence was compiled".to_owned()
    })?;
    with_text("compile", &reply, reply.status)?;
    let status = instance.compile_without_error(b"this is not a model, is it?");
    check(status == reply.status, || {
        format!("compile answered {status} with nowhere to put a text")
    })
}

/// Resident memory of this process in bytes, where the system shows it.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn leaks(suite: &Suite) -> Result {
    const ALLOWED: u64 = 3 << 20;
    let driver = suite.driver()?;
    let taken = suite.taken(&driver)?;
    let cycle = |count: usize| -> Result {
        for part in taken.iter().cycle().take(count) {
            let mut executable = compile(&driver, part)?;
            run_of(part, &mut executable, 2)?;
        }
        Ok(())
    };
    cycle(100)?;
    let (files, Some(before)) = (open_files(), resident()) else {
        return Err(skipped("this system does not show how much memory is used"));
    };
    cycle(300)?;
    let grown = resident().unwrap_or(0).saturating_sub(before);
    check(grown <= ALLOWED, || format!("{grown} bytes more are used"))?;
    let after = open_files();
    check(after <= files, || {
        format!("there were {files:?} files open before and {after:?} after")
    })
}
