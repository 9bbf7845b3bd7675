//! The cases, in their order, and where each is.

mod compile;
mod interface;
mod life;
mod run;
mod tools;

use super::Case;
use compile::{
    broken_compile, broken_supports, compile_supported, every_operator, refused_partition,
};
use interface::{
    devices, load, nulls, open_close, structure_sizes, unknown_device, unknown_option, version,
};
use life::{cancel, cost, errors, instances, leaks, many_executables, parallel, submit};
use run::{buffers_untouched, deterministic, exact, odd_addresses, wrong_buffers};

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
