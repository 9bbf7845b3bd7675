//! `bantam_driver.h` compiles everywhere, and its layouts are those of the Rust side.

mod common;

use std::fmt::Write;

use bantam_driver_abi::raw;
use common::{Libraries, cc, sources};

#[test]
fn compiles_in_every_dialect_however_often_it_is_included() {
    let folder = Libraries::new();
    let include = format!("-I{}", sources("include").display());
    let source = folder.path("twice.c");
    let text = "#include \"bantam_driver.h\"\n#include \"bantam_driver.h\"\n\
                size_t size_of_table(void) { return sizeof(bantam_driver); }\n";
    std::fs::write(&source, text).unwrap();
    let object = folder.path("twice.o");
    for language in [
        &["-x", "c", "-std=c99"][..],
        &["-x", "c", "-std=c11"],
        &["-x", "c++", "-std=c++17"],
    ] {
        let mut args = language.to_vec();
        args.extend(["-Wall", "-Wextra", "-Wpedantic", "-Werror", &include, "-c"]);
        args.extend([source.to_str().unwrap(), "-o", object.to_str().unwrap()]);
        cc(&args);
    }
}

#[test]
fn layouts_and_numbers_are_those_of_the_rust_side() {
    let folder = Libraries::new();
    let mut text = "#include \"bantam_driver.h\"\n".to_owned();
    let mut expect = |condition: String| {
        writeln!(text, "_Static_assert({condition}, \"{condition}\");").unwrap();
    };
    for (name, size, members) in raw::LAYOUTS {
        expect(format!("sizeof({name}) == {size}"));
        for (member, place) in *members {
            expect(format!("offsetof({name}, {member}) == {place}"));
        }
    }
    for (name, number) in [
        ("OK", raw::OK),
        ("FAILED", raw::FAILED),
        ("REFUSED", raw::REFUSED),
        ("NO_DEVICE", raw::NO_DEVICE),
        ("DEVICE_LOST", raw::DEVICE_LOST),
        ("BAD_OPTION", raw::BAD_OPTION),
        ("CANCELLED", raw::CANCELLED),
        ("PENDING", raw::PENDING),
        ("INVALID", raw::INVALID),
        ("VERSION_MISMATCH", raw::VERSION_MISMATCH),
        ("PARALLEL", raw::PARALLEL as i32),
        ("ALL_PARTITIONS", raw::ALL_PARTITIONS as i32),
        ("FIRST_PARTITION", raw::FIRST_PARTITION as i32),
        ("UNKNOWN", raw::UNKNOWN as i32),
        ("SUPPORTED", raw::SUPPORTED as i32),
        ("UNSUPPORTED", raw::UNSUPPORTED as i32),
        ("VERSION", raw::VERSION as i32),
    ] {
        expect(format!("BANTAM_DRIVER_{name} == {number}"));
    }
    let source = folder.path("layout.c");
    std::fs::write(&source, &text).unwrap();
    let include = format!("-I{}", sources("include").display());
    let object = folder.path("layout.o");
    let args = ["-std=c11", "-c", &include, "-o", object.to_str().unwrap()];
    cc(&[&args[..], &[source.to_str().unwrap()]].concat());
}
