//! The reference accelerator, behind `bantam_driver.h` like a vendor's. It takes what a chip's pack takes and computes with the
//! arithmetic of LiteRT's reference kernels, so that a model can be placed, run and tested without the chip; and it fails, hangs,
//! lies, loses its device or dies where it is asked to, so that what is around it can be tested as well.
//!
//! | option | |
//! |---|---|
//! | `chip` | the name of a target, or the path of a pack; `edgetpu` if none is given |
//! | `devices` | how many it has, from 0 to 64; 1 |
//! | `alignment` | of the buffers that it asks for; 1 |
//! | `fault` | what goes wrong, `KIND` or `KIND:SHARE`, with commas between; of 1 call, or of that share of calls |
//! | `at` | in which calls: `open`, `devices`, `supports`, `compile`, `run`, `cost`, with commas between; `run` |
//! | `after` | how many of these calls are good before |
//! | `times` | how many go wrong before the rest is good |
//! | `seed` | of the numbers that decide which call goes wrong, and of garbage; 0 |
//! | `delay` | milliseconds of the fault `delay`; 100 |
//!
//! Faults: `fail` (an error), `delay` (late but right), `hang` (never ends, but a run can be cancelled), `stuck` (never ends),
//! `garbage` (a wrong answer that looks right), `lost` (the device is gone until something is compiled for it again), `die`
//! (aborts the process, which is yours if the library is not isolated).
//!
//! What a run costs is reckoned by a simple model, see [`Cost`].

#![forbid(unsafe_code)]

mod cost;
mod driver;
mod fault;

pub use cost::Cost;
pub use driver::{Run, Virtual};

/// The entry point of `bantam_driver.h` for the use of this accelerator without a library of its own.
pub const ENTRY: bantam_driver_abi::raw::GetFn = bantam_driver_abi::get::<Virtual>;
