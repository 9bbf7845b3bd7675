//! `bantam benchmark`: how long a run takes, and nothing but the run.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bantam_delegate::{Session, TensorInfo, Timed};
use bantam_model::cpu::RunError;
use bantam_model::tensor::DType;
use bantam_model::{Model, NodeId};
use serde_json::{Value, json};

use crate::args::{Format, SessionArgs};
use crate::error::{self, Failure};
use crate::output::{self, dims};
use crate::{data, placement};

/// Time a model on random inputs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The .tflite model
    model: PathBuf,
    /// Runs to time
    #[arg(long, value_name = "R", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Runs before those
    #[arg(long, value_name = "W", default_value_t = 10)]
    warmup: u32,
    /// Time the subgraph of this signature, not the first one; `bantam inspect` lists them
    #[arg(long, value_name = "KEY")]
    signature: Option<String>,
    /// Also time each operator, in runs of their own
    #[arg(long)]
    profile: bool,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    session: SessionArgs,
}

/// What was measured.
struct Times {
    load: Duration,
    prepare: Duration,
    first: Duration,
    /// Of the timed runs, shortest first.
    runs: Vec<Duration>,
    /// Each operator's place and its mean time; empty without a profile.
    ops: Vec<OpTime>,
}

/// The mean time that an operator or a partition takes of a run, all rounds of a loop together.
struct OpTime {
    what: Timed,
    time: Duration,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let start = Instant::now();
    let model = data::open_model(&args.model)?;
    let load = start.elapsed();
    let mut options = args.session.options();
    options.subgraph = data::entry(&args.model, &model, args.signature.as_deref())?;
    let start = Instant::now();
    let mut session =
        Session::new(&model, &options).map_err(|error| error::session(&args.model, &error))?;
    let prepare = start.elapsed();
    for index in 0..session.inputs().len() {
        let bytes = random_input(&session.inputs()[index], index as u64);
        let set = session.set_input(index, &bytes);
        set.map_err(|error| error::run(&args.model, &error))?;
    }
    let times = measure(args, &mut session, load, prepare)
        .map_err(|error| error::run(&args.model, &error))?;
    placement::say(&session);
    match args.format {
        Format::Json => output::print_json("benchmark", report(args, &model, &session, &times)),
        Format::Text => output::print(&text(args, &model, &session, &times)),
    }
}

fn measure(
    args: &Args,
    session: &mut Session,
    load: Duration,
    prepare: Duration,
) -> Result<Times, RunError> {
    let timed = |session: &mut Session| {
        let start = Instant::now();
        session.run()?;
        Ok(start.elapsed())
    };
    let first = timed(session)?;
    let bar = output::progress("benchmark");
    for _ in 0..args.warmup {
        session.run()?;
    }
    let mut runs: Vec<Duration> = (0..args.runs)
        .map(|_| timed(session))
        .collect::<Result<_, _>>()?;
    runs.sort_unstable();
    let ops = match args.profile {
        true => profile(args, session)?,
        false => Vec::new(),
    };
    bar.finish_and_clear();
    Ok(Times {
        load,
        prepare,
        first,
        runs,
        ops,
    })
}

fn profile(args: &Args, session: &mut Session) -> Result<Vec<OpTime>, RunError> {
    let mut places = HashMap::new();
    let mut ops: Vec<OpTime> = Vec::new();
    for _ in 0..args.runs {
        session.run_timed(|what, time| {
            let place = *places.entry(what).or_insert(ops.len());
            match ops.get_mut(place) {
                Some(op) => op.time += time,
                None => ops.push(OpTime { what, time }),
            }
        })?;
    }
    for op in &mut ops {
        op.time /= args.runs;
    }
    Ok(ops)
}

fn us(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

impl Times {
    /// The shortest time that `percent` of the runs do not exceed.
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.runs.len() * percent).div_ceil(100).max(1);
        self.runs[rank - 1]
    }

    fn mean(&self) -> Duration {
        self.runs.iter().sum::<Duration>() / self.runs.len() as u32
    }
}

fn op_name(model: &Model, what: Timed) -> String {
    match what {
        Timed::Op { subgraph, index } => model.subgraphs[subgraph][NodeId(index as u32)]
            .op
            .to_string(),
        Timed::Partition(number) => format!("partition {number}"),
    }
}

/// The subgraph that it is in.
fn subgraph(session: &Session, what: Timed) -> usize {
    match what {
        Timed::Op { subgraph, .. } => subgraph,
        Timed::Partition(number) => session.placement().partitions[number].subgraph,
    }
}

fn report(args: &Args, model: &Model, session: &Session, times: &Times) -> Value {
    let mut report = json!({
        "driver": args.session.options().driver.to_string(),
        "first_us": us(times.first),
        "latency_us": {
            "max": us(times.percentile(100)),
            "mean": us(times.mean()),
            "min": us(times.percentile(0)),
            "p50": us(times.percentile(50)),
            "p90": us(times.percentile(90)),
            "p99": us(times.percentile(99)),
        },
        "load_us": us(times.load),
        "model": args.model.display().to_string(),
        "numerics": args.session.numerics_name(),
        "peak_rss_bytes": peak_rss(),
        "placement": session.report_json(),
        "prepare_us": us(times.prepare),
        "runs": args.runs,
        "threads": args.session.threads,
        "warmup": args.warmup,
    });
    if args.profile {
        let ops = times.ops.iter().map(|op| match op.what {
            Timed::Op { subgraph, index } => json!({
                "index": index,
                "op": op_name(model, op.what),
                "partition": null,
                "subgraph": subgraph,
                "us": us(op.time),
            }),
            Timed::Partition(number) => json!({
                "index": null,
                "op": op_name(model, op.what),
                "partition": number,
                "subgraph": subgraph(session, op.what),
                "us": us(op.time),
            }),
        });
        report["ops"] = ops.collect();
    }
    report
}

fn text(args: &Args, model: &Model, session: &Session, times: &Times) -> String {
    let inputs: Vec<String> = session
        .inputs()
        .iter()
        .map(|i| format!("{} {}", dims(&i.shape), i.dtype))
        .collect();
    let ms = |time: Duration| format!("{:.3} ms", us(time) / 1e3);
    let rows = [
        ("inputs", inputs.join(", ")),
        ("threads", args.session.threads.to_string()),
        ("load", ms(times.load)),
        ("prepare", ms(times.prepare)),
        ("first run", ms(times.first)),
        ("runs", args.runs.to_string()),
        ("min", ms(times.percentile(0))),
        ("p50", ms(times.percentile(50))),
        ("p90", ms(times.percentile(90))),
        ("p99", ms(times.percentile(99))),
        ("max", ms(times.percentile(100))),
        ("mean", ms(times.mean())),
        ("peak memory", peak_rss().map_or("-".into(), output::bytes)),
    ];
    let rows = rows.map(|(name, value)| [name.to_owned(), value]);
    let mut text = output::table(&["", ""], &rows).trim_start().to_owned();
    if args.profile {
        // The operators of other subgraphs are part of those that run them.
        let outer = times
            .ops
            .iter()
            .filter(|op| subgraph(session, op.what) == 0);
        let total: f64 = outer.map(|op| us(op.time)).sum();
        let rows: Vec<[String; 5]> = times
            .ops
            .iter()
            .map(|op| {
                let share = 100.0 * us(op.time) / total.max(f64::MIN_POSITIVE);
                let index = match op.what {
                    Timed::Op { index, .. } => index.to_string(),
                    Timed::Partition(_) => "-".into(),
                };
                [
                    subgraph(session, op.what).to_string(),
                    index,
                    op_name(model, op.what),
                    format!("{:.1}", us(op.time)),
                    format!("{share:.1} %"),
                ]
            })
            .collect();
        text.push('\n');
        let columns = ["subgraph", "index", "op", "us", "share"];
        text.push_str(&output::table(&columns, &rows));
    }
    text
}

/// The most memory that this process has had, where the system says so.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

/// The same bytes each time: floats from a normal distribution, small numbers where they may be
/// indices, the full range of quantized integers.
fn random_input(info: &TensorInfo, seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d);
    let count: usize = info.shape.iter().product();
    let mut bytes = Vec::new();
    for _ in 0..count {
        match info.dtype {
            DType::F32 => bytes.extend(random.normal().to_ne_bytes()),
            DType::F64 => bytes.extend(f64::from(random.normal()).to_ne_bytes()),
            DType::I32 | DType::U32 => bytes.extend(((random.next() % 16) as u32).to_ne_bytes()),
            DType::I64 | DType::U64 => bytes.extend((random.next() % 16).to_ne_bytes()),
            DType::Bool => bytes.push((random.next() % 2) as u8),
            // Halves with these bits are between 0.5 and 1, of either sign.
            DType::F16 => bytes.extend(((random.next() as u16 & 0x83ff) | 0x3800).to_ne_bytes()),
            dtype => {
                let size = dtype.size().unwrap_or(0);
                bytes.extend(random.next().to_ne_bytes().iter().cycle().take(size));
            }
        }
    }
    bytes
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Twelve uniform numbers make one that is near enough to normal.
    fn normal(&mut self) -> f32 {
        let sum: f64 = (0..12)
            .map(|_| (self.next() >> 11) as f64 / (1u64 << 53) as f64)
            .sum();
        (sum - 6.0) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_runs() {
        let times = Times {
            load: Duration::ZERO,
            prepare: Duration::ZERO,
            first: Duration::ZERO,
            runs: (1..=10).map(Duration::from_micros).collect(),
            ops: Vec::new(),
        };
        let at = |p| times.percentile(p).as_micros();
        assert_eq!((at(0), at(50), at(90), at(99), at(100)), (1, 5, 9, 10, 10));
        assert_eq!(us(times.mean()), 5.5);
    }

    #[test]
    fn inputs_are_the_same_each_time_and_in_range() {
        let info = |dtype| TensorInfo {
            name: "x".into(),
            dtype,
            shape: vec![1000],
            quantization: None,
        };
        for dtype in [
            DType::F32,
            DType::I32,
            DType::I64,
            DType::I8,
            DType::Bool,
            DType::F16,
        ] {
            let bytes = random_input(&info(dtype), 3);
            assert_eq!(bytes.len(), 1000 * dtype.size().unwrap());
            assert_eq!(bytes, random_input(&info(dtype), 3));
            assert_ne!(bytes, random_input(&info(dtype), 4));
        }
        assert!(
            random_input(&info(DType::I32), 0)
                .chunks(4)
                .all(|c| c[0] < 16 && c[1..] == [0; 3])
        );
    }
}
