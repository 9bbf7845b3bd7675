//! Reads `bantam.h` as a C compiler does and writes what it says as Rust, for the tests of the library. Without an argument
//! it writes `ffi/tests/api/bindings.rs`, with `--check` it compares. `LIBCLANG_PATH` names the folder of libclang where it is
//! not in the usual places.

use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let ffi = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let header = ffi.join("include/bantam.h");
    let place = ffi.join("tests/api/bindings.rs");
    let bindings = bindgen::Builder::default()
        .header(header.to_string_lossy())
        .clang_args(compilers_headers())
        .allowlist_item("(bantam|BANTAM)_.*")
        .allowlist_item("tflite_plugin_.*")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .size_t_is_usize(true)
        .disable_header_comment()
        .raw_line(
            "// Made by `cargo run --manifest-path ffi/bindgen/Cargo.toml`; not to be edited.",
        )
        .formatter(bindgen::Formatter::Rustfmt)
        .rust_target(bindgen::RustTarget::stable(85, 0).map_err(|e| e.to_string())?)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .generate_comments(false)
        .layout_tests(false)
        .merge_extern_blocks(true)
        .generate()?
        .to_string();
    if env::args().nth(1).as_deref() != Some("--check") {
        fs::write(&place, bindings)?;
    } else if fs::read_to_string(&place)? != bindings {
        eprintln!(
            "ffi/tests/api/bindings.rs is not what the header says; run this without --check and commit it"
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the C compiler has `stddef.h`: the libclang of a Python wheel brings no headers of its own.
fn compilers_headers() -> Vec<String> {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let found = Command::new(compiler)
        .arg("-print-file-name=include")
        .output();
    match found {
        Ok(output) => vec![format!(
            "-I{}",
            String::from_utf8_lossy(&output.stdout).trim()
        )],
        Err(_) => Vec::new(),
    }
}
