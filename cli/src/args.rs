//! Flags that several verbs share.

use std::ffi::OsString;
use std::time::Duration;

use bantam_converter::samples::{ChannelOrder, Normalize, Preprocess, Resize};
use bantam_delegate::{
    Check, Deadline, DriverSpec, Economy, OffloadOptions, Options, Selector, Steering,
};
use bantam_model::Numerics;
use clap::{Args, ValueEnum};

/// `--calib_limit` and `--calib-limit` are the same flag; values are left as they are.
pub fn normalize(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut flags = true;
    args.map(|arg| {
        let Some(text) = arg.to_str().filter(|a| flags && a.starts_with("--")) else {
            return arg;
        };
        flags = text != "--";
        let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
        OsString::from(name.replace('_', "-") + value)
    })
    .collect()
}

/// How results are printed on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Which integer arithmetic the CPU path follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum NumericsArg {
    /// XNNPACK's integer arithmetic
    #[default]
    Fast,
    /// The integer arithmetic of LiteRT's reference kernels
    Reference,
}

impl From<NumericsArg> for Numerics {
    fn from(arg: NumericsArg) -> Self {
        match arg {
            NumericsArg::Fast => Self::Fast,
            NumericsArg::Reference => Self::Reference,
        }
    }
}

/// How a session runs.
#[derive(Debug, Args)]
pub struct SessionArgs {
    /// Integer arithmetic of the CPU path, exact to the bit either way
    #[arg(long, value_enum, default_value_t)]
    numerics: NumericsArg,
    /// Threads that one run may use
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads_parser())]
    pub threads: u64,
    #[command(flatten)]
    offload: OffloadArgs,
}

/// What leaves the CPU path.
#[derive(Debug, Args)]
#[command(next_help_heading = "Offloading")]
struct OffloadArgs {
    /// What takes operators off the CPU path: cpu (nothing), `edgetpu[:usb:N|:pci:N|:PATH]`,
    /// tflite:LIBRARY, bantam:LIBRARY, `virtual[:CHIP]`, `gpu[:LIBRARY]`; options as ?key=value&...
    #[arg(long, value_name = "SPEC", default_value = "cpu")]
    driver: DriverSpec,
    /// Device of the driver; of several, each takes the next partition
    #[arg(long, value_name = "NAME")]
    device: Vec<String>,
    /// Give up a call of the driver after so long, and go on without
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    deadline: Option<u64>,
    /// Fail where an operator would run on the CPU path, now or in a run
    #[arg(long)]
    require_full_delegation: bool,
    /// Offload only op:KIND, tensor:REGEX (names of results) or index:[SUBGRAPH/]FIRST[-LAST]
    #[arg(long, value_name = "SELECTOR")]
    allow: Vec<Selector>,
    /// Do not offload these; stronger than --allow
    #[arg(long, value_name = "SELECTOR")]
    deny: Vec<Selector>,
    /// Fewest operators of a partition [default: as the driver says]
    #[arg(long, value_name = "N")]
    min_partition_ops: Option<usize>,
    /// Offload no partition whose data takes longer to move than the CPU path takes for its work,
    /// by the estimate in docs/partitioning.md
    #[arg(long)]
    cost_aware: bool,
    /// Compare the driver's results of the first N runs with the CPU path's, bit for bit
    #[arg(long, value_name = "N", default_value_t = 0)]
    check_runs: u64,
}

impl OffloadArgs {
    fn options(&self) -> OffloadOptions {
        let deadline = self.deadline.map(Duration::from_millis);
        OffloadOptions {
            devices: self.device.clone(),
            steering: Steering {
                allow: self.allow.clone(),
                deny: self.deny.clone(),
                min_ops: self.min_partition_ops,
                economy: self.cost_aware.then(Economy::default),
            },
            deadline: deadline.map(Deadline::new),
            check: Check {
                first: self.check_runs,
                every: 0,
            },
            requires_full_delegation: self.require_full_delegation,
            ..OffloadOptions::default()
        }
    }
}

impl SessionArgs {
    /// The options of a session with these flags.
    pub fn options(&self) -> Options {
        Options {
            driver: self.offload.driver.clone(),
            offload: self.offload.options(),
            numerics: self.numerics.into(),
            threads: self.threads as usize,
            ..Options::default()
        }
    }

    /// The name of the integer arithmetic, for reports.
    pub fn numerics_name(&self) -> &'static str {
        match self.numerics {
            NumericsArg::Fast => "fast",
            NumericsArg::Reference => "reference",
        }
    }
}

/// How many threads work at once.
#[derive(Debug, Args)]
pub struct Threads {
    /// Threads to work with [default: as many as there are cores]
    #[arg(long, value_name = "N", value_parser = threads_parser())]
    threads: Option<u64>,
}

impl Threads {
    /// The number asked for, or that of the cores.
    pub fn get(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(cores, |threads| threads as usize)
    }
}

/// A number of threads that a machine might have.
fn threads_parser() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=1024)
}

/// What happens to data before a model takes it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Preprocessing")]
pub struct PreprocessArgs {
    /// Each value x becomes x*S + B
    #[arg(long, value_name = "S", allow_negative_numbers = true, conflicts_with_all = ["mean", "std"])]
    input_scale: Option<f32>,
    /// Each value x becomes x*S + B
    #[arg(long, value_name = "B", allow_negative_numbers = true, conflicts_with_all = ["mean", "std"])]
    input_bias: Option<f32>,
    /// Each value x becomes (x-M)/D
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    mean: Option<f32>,
    /// Each value x becomes (x-M)/D
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    std: Option<f32>,
    /// Order in which the model takes the channels of an image
    #[arg(long, value_name = "ORDER", value_enum, default_value_t)]
    channel_order: ChannelOrderArg,
    /// How an image gets the input's size: it must have it, stretched, or scaled and cut
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    resize: ResizeArg,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum ChannelOrderArg {
    #[default]
    Rgb,
    Bgr,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum ResizeArg {
    #[default]
    Exact,
    Fit,
    Crop,
}

impl PreprocessArgs {
    /// The preprocessing that the flags ask for.
    pub fn preprocess(&self) -> Preprocess {
        let normalize = if self.mean.is_some() || self.std.is_some() {
            Normalize::MeanStd {
                mean: self.mean.unwrap_or(0.0),
                std: self.std.unwrap_or(1.0),
            }
        } else {
            Normalize::ScaleBias {
                scale: self.input_scale.unwrap_or(1.0),
                bias: self.input_bias.unwrap_or(0.0),
            }
        };
        Preprocess {
            normalize,
            channel_order: match self.channel_order {
                ChannelOrderArg::Rgb => ChannelOrder::Rgb,
                ChannelOrderArg::Bgr => ChannelOrder::Bgr,
            },
            resize: match self.resize {
                ResizeArg::Exact => Resize::Exact,
                ResizeArg::Fit => Resize::Fit,
                ResizeArg::Crop => Resize::Crop,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_in_flags_are_hyphens_and_values_stay() {
        let args = [
            "bantam",
            "run",
            "--calib_limit",
            "a_b",
            "--input_type=my_type",
            "--",
            "--a_b",
        ];
        let normal = normalize(args.into_iter().map(OsString::from));
        assert_eq!(
            normal,
            [
                "bantam",
                "run",
                "--calib-limit",
                "a_b",
                "--input-type=my_type",
                "--",
                "--a_b"
            ]
        );
    }
}
