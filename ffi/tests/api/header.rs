//! The header, its bindings and the library say the same.

use std::collections::BTreeSet;
use std::mem::offset_of;
use std::process::Command;

use crate::bindings;
use crate::common::text;

const HEADER: &str = include_str!("../../include/bantam.h");
const BINDINGS: &str = include_str!("bindings.rs");

/// The words of `text` that `keep` keeps.
fn words(text: &str, keep: impl Fn(&str) -> bool) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| keep(word)).collect()
}

/// The header without its comments.
fn declarations() -> String {
    let mut parts = HEADER.split("/*");
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        text += part.split_once("*/").unwrap().1;
    }
    text
}

#[test]
fn the_bindings_have_every_name_of_the_header() {
    let is_name = |word: &str| {
        let is_ours = ["bantam_", "BANTAM_", "tflite_plugin_"]
            .iter()
            .any(|p| word.starts_with(p));
        is_ours && word != "BANTAM_H" && !word.ends_with("_INIT")
    };
    let header = declarations();
    assert_eq!(
        words(&header, is_name),
        words(BINDINGS, is_name),
        "run cargo run --manifest-path ffi/bindgen/Cargo.toml"
    );
}

/// Size and places of fields, in the bindings and in the library.
macro_rules! same {
    ($name:ident: $($field:ident = $ours:ident),*) => {
        assert_eq!(size_of::<bindings::$name>(), size_of::<bantam::$name>());
        $(assert_eq!(
            offset_of!(bindings::$name, $field),
            offset_of!(bantam::$name, $ours),
            concat!(stringify!($name), "::", stringify!($field))
        );)*
    };
}

#[test]
fn structs_are_laid_out_as_in_the_library() {
    same!(bantam_tensor_info: struct_size = struct_size, name = name, type_ = dtype, rank = rank,
        shape = shape, byte_size = byte_size, scale_count = scale_count, scales = scales,
        zero_points = zero_points, quantized_dimension = quantized_dimension);
    same!(bantam_session_options: struct_size = struct_size, driver = driver, device = device,
        signature = signature, numerics = numerics, threads = threads, deadline_ms = deadline_ms,
        require_full_delegation = require_full_delegation, min_partition_ops = min_partition_ops,
        check_runs = check_runs, check_every = check_every, cost_aware = cost_aware,
        allow = allow, allow_len = allow_len, deny = deny, deny_len = deny_len);
    same!(bantam_convert_options: struct_size = struct_size, mode = mode, input_type = input_type,
        output_type = output_type, recipe = recipe, signature = signature,
        sample_count = sample_count, threads = threads, allow_inexact = allow_inexact,
        target = target);
    same!(bantam_placement: struct_size = struct_size, index = index, subgraph = subgraph, op = op,
        placed = placed, partition = partition, rule = rule, reason = reason);
    same!(bantam_input: data = data, size = size);
    same!(bantam_output: data = data, size = size);
}

#[test]
fn options_have_no_padding_at_their_end() {
    let word = size_of::<usize>();
    let end = offset_of!(bindings::bantam_session_options, deny_len) + word;
    assert_eq!(size_of::<bindings::bantam_session_options>(), end);
    let end = offset_of!(bindings::bantam_convert_options, target) + word;
    assert_eq!(size_of::<bindings::bantam_convert_options>(), end);
}

#[test]
fn versions_are_those_of_the_package() {
    // SAFETY: no arguments.
    unsafe {
        assert_eq!(text(bindings::bantam_version()), env!("CARGO_PKG_VERSION"));
        assert_eq!(bindings::bantam_abi_version(), bindings::BANTAM_ABI_VERSION);
    }
}

#[test]
fn statuses_are_called_as_in_the_header() {
    let start = BINDINGS.find("pub const BANTAM_OK").unwrap();
    let lines = BINDINGS[start..].lines();
    let mut count = 0;
    for line in lines.map_while(|line| line.strip_prefix("pub const ")) {
        let name = line.split(':').next().unwrap();
        // SAFETY: any number is allowed.
        assert_eq!(unsafe { text(bindings::bantam_status_name(count)) }, name);
        count += 1;
    }
    assert_eq!(count as u32, bindings::BANTAM_INTERNAL + 1);
    for unknown in [-1, count, i32::MAX] {
        // SAFETY: as above.
        let name = unsafe { text(bindings::bantam_status_name(unknown)) };
        assert_eq!(name, "unknown status");
    }
}

#[test]
fn compiles_in_every_dialect_however_often_it_is_included() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("twice.c");
    let text = "#include \"bantam.h\"\n#include \"bantam.h\"\n\
                bantam_tensor_info info = BANTAM_TENSOR_INFO_INIT;\n\
                bantam_session_options session = BANTAM_SESSION_OPTIONS_INIT;\n\
                bantam_placement placement = BANTAM_PLACEMENT_INIT;\n\
                bantam_convert_options options = BANTAM_CONVERT_OPTIONS_INIT;\n";
    std::fs::write(&source, text).unwrap();
    for (variable, compiler, language) in [
        ("CC", "cc", &["-x", "c", "-std=c99"][..]),
        ("CC", "cc", &["-x", "c", "-std=c11"]),
        ("CXX", "c++", &["-x", "c++", "-std=c++17"]),
    ] {
        let compiler = std::env::var(variable).unwrap_or_else(|_| compiler.to_owned());
        let output = Command::new(&compiler)
            .args(language)
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-c", "-I"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/include"))
            .arg(&source)
            .arg("-o")
            .arg(folder.path().join("twice.o"))
            .output()
            .unwrap_or_else(|error| panic!("{compiler}, which {variable} may name: {error}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{compiler} {language:?}: {errors}");
    }
}
