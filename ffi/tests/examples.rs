//! The examples and the package, built and run as a user does it.

#[allow(
    non_camel_case_types,
    dead_code,
    missing_docs,
    reason = "made from the header, as it is"
)]
#[path = "api/bindings.rs"]
mod bindings;
#[path = "api/common.rs"]
mod common;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{digits, integer_digits};
use tempfile::TempDir;

const FFI: &str = env!("CARGO_MANIFEST_DIR");

/// Where cargo puts `libbantam.so` and `libbantam.a` for the tests.
fn library_folder() -> PathBuf {
    let folder = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned();
    for name in ["libbantam.so", "libbantam.a"] {
        assert!(
            folder.join(name).exists(),
            "{name} is not in {}",
            folder.display()
        );
    }
    folder
}

/// Runs a program that must succeed; what it prints.
#[track_caller]
fn run(command: &mut Command) -> String {
    // Cargo's own would find a library that an earlier build has left beside this one.
    const SEARCHED: &str = "LD_LIBRARY_PATH";
    if command.get_envs().all(|(key, _)| key != SEARCHED) {
        command.env_remove(SEARCHED);
    }
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// The compiler that `variable` names, or the usual one.
fn compiler(variable: &str, usual: &str) -> Command {
    Command::new(std::env::var(variable).unwrap_or_else(|_| usual.to_owned()))
}

fn c() -> Command {
    let mut cc = compiler("CC", "cc");
    cc.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-g"]);
    cc
}

fn example(name: &str) -> PathBuf {
    Path::new(FFI).join("examples").join(name)
}

/// Adds the library where cargo puts it.
fn with_library(compiler: &mut Command) -> &mut Command {
    let folder = library_folder();
    let path = folder.display();
    compiler
        .args([
            format!("-I{FFI}/include"),
            format!("-L{path}"),
            "-lbantam".into(),
        ])
        .arg(format!("-Wl,-rpath,{path}"))
}

fn int8(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("int8.tflite");
    std::fs::write(&path, integer_digits().bytes()).unwrap();
    path
}

fn c_example(folder: &TempDir) -> PathBuf {
    let program = folder.path().join("run");
    let mut cc = c();
    cc.arg(example("run.c")).arg("-o").arg(&program);
    run(with_library(&mut cc));
    program
}

/// What the C example must print on the model in int8.
#[track_caller]
fn is_right(printed: &str, summary: &str) {
    let parts = [
        "input ",
        ": 256 bytes\n",
        "output ",
        ": first byte ",
        summary,
    ];
    assert!(parts.iter().all(|part| printed.contains(part)), "{printed}");
}

#[test]
fn the_c_example_runs_with_and_without_a_driver() {
    let folder = tempfile::tempdir().unwrap();
    let (program, model) = (c_example(&folder), int8(&folder));
    is_right(&run(Command::new(&program).arg(&model)), "on the CPU path");
    is_right(
        &run(Command::new(&program).arg(&model).arg("virtual")),
        "on virtual in 1 partition",
    );

    let failed = Command::new(&program)
        .arg("/nowhere.tflite")
        .output()
        .unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let told = String::from_utf8(failed.stderr).unwrap();
    assert!(
        told.starts_with("BANTAM_IO: ") && told.contains("/nowhere.tflite"),
        "{told}"
    );
}

#[test]
fn the_program_of_the_guide_runs() {
    let folder = tempfile::tempdir().unwrap();
    let guide = include_str!("../../docs/c-api.md");
    let code = guide
        .split_once("```c\n")
        .unwrap()
        .1
        .split_once("```")
        .unwrap()
        .0;
    let (source, program) = (folder.path().join("guide.c"), folder.path().join("guide"));
    std::fs::write(&source, code).unwrap();
    let mut cc = c();
    cc.arg(&source).arg("-o").arg(&program);
    run(with_library(&mut cc));
    let printed = run(Command::new(&program).arg(int8(&folder)));
    assert!(printed.contains("on virtual in 1 partition"), "{printed}");
}

/// The numbers of an array file.
fn array(name: &str) -> Vec<u8> {
    let bytes = std::fs::read(format!("{FFI}/../cli/assets/{name}.npy")).unwrap();
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[10 + header..].to_vec()
}

#[test]
fn the_cpp_example_converts_saves_and_runs() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("convert");
    let mut cxx = compiler("CXX", "c++");
    cxx.args(["-std=c++17", "-Wall", "-Wextra", "-Werror"]);
    cxx.arg(example("convert.cpp")).arg("-o").arg(&program);
    run(with_library(&mut cxx));

    // The first of them is a digit that the model must know.
    let samples = array("digits_test");
    let raw = folder.path().join("samples.raw");
    std::fs::write(&raw, &samples[..100 * 256]).unwrap();
    for target in [None, Some("edgetpu")] {
        let made = folder.path().join("made.tflite");
        let args = [&digits(), &raw, &made];
        let printed = run(Command::new(&program).args(args).args(target));
        let (report, scores) = printed.split_once('\n').unwrap();
        let report: serde_json::Value = serde_json::from_str(report).unwrap();
        assert_eq!(report["mode"], "int8");
        assert_eq!(report["target"].is_object(), target.is_some());
        let scores: Vec<f32> = scores
            .split_whitespace()
            .map(|s| s.parse().unwrap())
            .collect();
        let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        assert_eq!(
            best,
            Some(usize::from(array("digits_labels")[0])),
            "{scores:?}"
        );
        assert!(made.metadata().unwrap().len() < digits().metadata().unwrap().len());
        std::fs::remove_file(made).unwrap();
    }
}

#[test]
#[ignore = "needs python3"]
fn the_python_example_runs() {
    let folder = tempfile::tempdir().unwrap();
    let python = std::env::var("BANTAM_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let printed = run(Command::new(python)
        .arg(example("run.py"))
        .arg(library_folder().join("libbantam.so"))
        .arg(int8(&folder)));
    let parts = ["input ", "output ", "first bytes [", "on the CPU path"];
    assert!(parts.iter().all(|part| printed.contains(part)), "{printed}");
}

#[test]
#[ignore = "needs valgrind"]
fn valgrind_finds_no_leak_and_no_error_in_the_c_example() {
    let folder = tempfile::tempdir().unwrap();
    let (program, model) = (c_example(&folder), int8(&folder));
    for driver in ["cpu", "virtual"] {
        run(Command::new("valgrind")
            .args([
                "--quiet",
                "--leak-check=full",
                "--errors-for-leak-kinds=definite,indirect",
            ])
            .arg("--error-exitcode=9")
            .args([&program, &model])
            .arg(driver));
    }
}

#[test]
#[ignore = "needs a C compiler with AddressSanitizer"]
fn the_c_example_is_clean_under_address_sanitizer() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("run");
    let mut cc = c();
    cc.arg("-fsanitize=address").arg(format!("-I{FFI}/include"));
    cc.arg(example("run.c"))
        .arg(library_folder().join("libbantam.a"));
    cc.args([
        "-lgcc_s",
        "-lutil",
        "-lrt",
        "-lpthread",
        "-lm",
        "-ldl",
        "-o",
    ])
    .arg(&program);
    run(&mut cc);
    let printed = run(Command::new(&program).arg(int8(&folder)));
    is_right(&printed, "on the CPU path");
}

#[test]
fn the_symbol_script_has_every_function() {
    let names = |text: &str, before: &str, behind: char| -> BTreeSet<String> {
        let lines = text.lines().map(str::trim);
        let names = lines.filter_map(|line| line.strip_prefix(before)?.split_once(behind));
        names.map(|(name, _)| name.to_owned()).collect()
    };
    let script = include_str!("../dist/bantam.map");
    assert!(script.contains("  tflite_plugin_*;\n"));
    assert_eq!(
        names(script, "bantam_", ';'),
        names(include_str!("api/bindings.rs"), "pub fn bantam_", '(')
    );
}

/// The folder of the package, unpacked.
fn package(folder: &TempDir) -> PathBuf {
    let printed = run(Command::new(Path::new(FFI).join("dist.sh"))
        .arg("--from")
        .arg(library_folder())
        .arg("--to")
        .arg(folder.path()));
    let archive = PathBuf::from(printed.trim());
    run(Command::new("tar")
        .arg("-C")
        .arg(folder.path())
        .arg("-xzf")
        .arg(&archive));
    let name = archive.file_name().and_then(OsStr::to_str).unwrap();
    folder.path().join(name.strip_suffix(".tar.gz").unwrap())
}

#[test]
#[ignore = "needs binutils, pkg-config and CMake"]
fn the_package_serves_linkers_pkg_config_and_cmake() {
    let folder = tempfile::tempdir().unwrap();
    let (package, model) = (package(&folder), int8(&folder));
    let lib = package.join("lib");
    for file in [
        "include/bantam.h",
        "share/doc/bantam/LICENSE",
        "share/doc/bantam/c-api.md",
    ] {
        assert!(
            package.join(file).metadata().unwrap().len() > 1000,
            "{file}"
        );
    }
    let licences = package.join("share/doc/bantam/THIRD-PARTY-LICENSES");
    assert!(
        std::fs::read_to_string(licences)
            .unwrap()
            .contains("\n==== rayon-")
    );

    let exports = run(Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(lib.join("libbantam.so")));
    let mut functions = 0;
    for line in exports
        .lines()
        .filter(|line| !line.ends_with(" A BANTAM_0"))
    {
        let name = line.split_whitespace().last().unwrap();
        let name = name
            .strip_suffix("@@BANTAM_0")
            .unwrap_or_else(|| panic!("{name}: no version"));
        functions += usize::from(name.starts_with("bantam_"));
        assert!(
            name.starts_with("bantam_") || name.starts_with("tflite_plugin_"),
            "{name}"
        );
    }
    assert_eq!(
        functions,
        include_str!("api/bindings.rs")
            .matches("pub fn bantam_")
            .count()
    );
    let dynamic = run(Command::new("readelf")
        .arg("-d")
        .arg(lib.join("libbantam.so")));
    assert!(
        dynamic.contains("Library soname: [libbantam.so.0]"),
        "{dynamic}"
    );

    for is_static in [false, true] {
        let program = folder.path().join("packaged");
        let mut flags = Command::new("pkg-config");
        flags
            .args(["--cflags", "--libs", "bantam"])
            .args(is_static.then_some("--static"));
        let flags = run(flags.env("PKG_CONFIG_PATH", lib.join("pkgconfig")));
        let mut cc = c();
        cc.arg(example("run.c")).arg("-o").arg(&program);
        for flag in flags.split_whitespace() {
            // Without the shared library in sight, the linker takes the other.
            match flag {
                "-lbantam" if is_static => cc.arg("-l:libbantam.a"),
                flag => cc.arg(flag),
            };
        }
        run(&mut cc);
        let mut program = Command::new(program);
        if !is_static {
            program.env("LD_LIBRARY_PATH", &lib);
        }
        is_right(&run(program.arg(&model)), "on the CPU path");
    }

    let source = folder.path().join("cmake");
    std::fs::create_dir(&source).unwrap();
    let lists = format!(
        "cmake_minimum_required(VERSION 3.16)\nproject(example C)\nfind_package(bantam {} REQUIRED)\n\
         add_executable(shared {run})\ntarget_link_libraries(shared bantam::bantam)\n\
         add_executable(static {run})\ntarget_link_libraries(static bantam::static)\n",
        env!("CARGO_PKG_VERSION"),
        run = example("run.c").display(),
    );
    std::fs::write(source.join("CMakeLists.txt"), lists).unwrap();
    let build = source.join("build");
    run(Command::new("cmake")
        .arg("-S")
        .arg(&source)
        .arg("-B")
        .arg(&build)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", package.display())));
    run(Command::new("cmake").arg("--build").arg(&build));
    for name in ["shared", "static"] {
        is_right(
            &run(Command::new(build.join(name)).arg(&model)),
            "on the CPU path",
        );
    }
}
