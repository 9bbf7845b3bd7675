//! The loader on sound libraries, and on every fault that a library may have.

mod common;

use bantam_delegate::conformance::{Outcome, Suite};
use bantam_delegate::driver::DriverError;
use bantam_model::cpu::{Options, Staged};
use bantam_model::{Model, Numerics};
use common::{Libraries, model, open, open_spec, run};

/// What the CPU path makes of the inputs of [`run`].
fn expected(model: &Model) -> [Vec<u8>; 2] {
    let options = Options {
        numerics: Numerics::Reference,
        ..Options::default()
    };
    let mut stages = Staged::new(model, &options).unwrap();
    let a: Vec<u8> = (0..192).map(|i| (i * 7) as u8).collect();
    let b: Vec<u8> = (0..192).map(|i| (i * 5 + 1) as u8).collect();
    stages.set_input(0, &a).unwrap();
    stages.set_input(1, &b).unwrap();
    stages.run().unwrap();
    [0, 1].map(|i| stages.output(i).unwrap().1.to_vec())
}

#[test]
fn the_template_in_c_computes_what_the_cpu_path_does() {
    let libraries = Libraries::new();
    let driver = open(&libraries.template()).unwrap();
    assert_eq!(driver.info().to_string(), "example driver in C 1.0");
    assert_eq!(driver.devices().unwrap()[0].id, "cpu:0");
    let model = model();
    let verdicts = driver.supports(&model, 0).unwrap();
    assert!(verdicts.iter().all(|v| v.is_supported()), "{verdicts:?}");
    let mut executable = driver.compile(&model, Some("cpu:0")).unwrap();
    assert_eq!(run(&mut *executable).unwrap(), expected(&model));
    let error = driver.compile(&model, Some("cpu:1")).err().unwrap();
    assert_eq!(
        error.to_string(),
        "there is no device cpu:1; there is cpu:0"
    );
    let error = executable.run(&[&[0; 192]], &mut []).unwrap_err();
    assert!(error.to_string().contains("[192, 192]"), "{error}");
    // The executable outlives the driver that compiled it.
    drop(driver);
    assert_eq!(run(&mut *executable).unwrap(), expected(&model));
}

#[test]
fn the_templates_pass_the_suite() {
    let libraries = Libraries::new();
    let suite = Suite::new(libraries.template());
    let mut passed = 0;
    for case in Suite::cases() {
        match suite.run_case(case) {
            Outcome::Passed => passed += 1,
            Outcome::Skipped(why) => {
                assert!(
                    ["submit", "cancel", "cost"].contains(&case.name),
                    "{}: {why}",
                    case.name
                );
            }
            Outcome::Failed(text) => panic!("{}: {text}", case.name),
        }
    }
    assert_eq!(passed, Suite::cases().len() - 3);
}

#[test]
fn libraries_that_cannot_be_used_are_named_with_the_reason() {
    let libraries = Libraries::new();
    for (fault, wanted) in [
        (
            "ancient",
            "speaks version 0 of the interface and this is version 1",
        ),
        (
            "newer",
            "speaks version 7 of the interface and this is version 1",
        ),
        ("failing-get", "bantam_driver_get returned 1"),
        ("no-table", "bantam_driver_get gave no table"),
        (
            "short-table",
            "its table has 40 bytes, fewer than the 128 of version 1",
        ),
        ("no-name", "its name is NULL"),
        ("latin-name", "its name is not UTF-8"),
        ("no-compile", "its table lacks compile, run"),
        ("wait-alone", "its table lacks submit"),
        ("null-instance", "open gave no instance"),
        ("fail-open", "the driver failed: the chip does not answer"),
        ("bad-alignment", "info gave the alignment 3"),
    ] {
        let error = open(&libraries.faulty(fault))
            .err()
            .expect(fault)
            .to_string();
        assert!(error.contains(wanted), "{fault}: {error}");
    }
    let empty = libraries.path("empty.so");
    std::fs::write(&empty, b"").unwrap();
    let error = open(&empty).err().unwrap();
    assert!(matches!(error, DriverError::Load { .. }), "{error}");
    let libm = open_spec("bantam:libm.so.6").err().unwrap();
    let wanted = "libm.so.6 has no symbol bantam_driver_get";
    assert_eq!(libm.to_string(), wanted);
}

#[test]
fn answers_that_cannot_be_right_are_errors() {
    let libraries = Libraries::new();
    for (fault, wanted) in [
        ("twin-devices", "devices lists cpu:0 twice"),
        ("null-devices", "devices gave a device whose id is NULL"),
        (
            "latin-devices",
            "devices gave a device whose id is not UTF-8",
        ),
        (
            "short-devices",
            "devices gave a device of 8 bytes, fewer than 24",
        ),
    ] {
        let error = open(&libraries.faulty(fault))
            .unwrap()
            .devices()
            .unwrap_err();
        assert!(matches!(error, DriverError::Garbage(_)), "{error}");
        assert!(error.to_string().contains(wanted), "{fault}: {error}");
    }
    for (fault, wanted) in [
        ("verdict-missing", "no verdict for operator 0 of 3"),
        ("verdict-twice", "more than 3 items"),
        ("verdict-far", "operator 1000 of 3"),
        ("verdict-strange", "operator 0 the verdict 9"),
    ] {
        let driver = open(&libraries.faulty(fault)).unwrap();
        let error = driver.supports(&model(), 0).unwrap_err();
        assert!(matches!(error, DriverError::Garbage(_)), "{error}");
        assert!(error.to_string().contains(wanted), "{fault}: {error}");
    }
    for (fault, wanted) in [
        (
            "compile-nothing",
            "the driver answered wrongly: compile gave no executable",
        ),
        (
            "strange-status",
            "the driver answered wrongly: compile returned the status 42",
        ),
        ("compile-never", "the driver refused the partition: never"),
    ] {
        let driver = open(&libraries.faulty(fault)).unwrap();
        let error = driver.compile(&model(), None).err().unwrap();
        assert_eq!(error.to_string(), wanted);
    }
    for (fault, wanted) in [
        ("fails", "the driver failed: the chip is too hot"),
        ("lost", "the device was lost: somebody pulled the plug"),
    ] {
        let driver = open(&libraries.faulty(fault)).unwrap();
        let mut executable = driver.compile(&model(), None).unwrap();
        assert_eq!(run(&mut *executable).unwrap_err().to_string(), wanted);
    }
    let driver = open(&libraries.faulty("nan-cost")).unwrap();
    assert!(driver.compile(&model(), None).unwrap().cost().is_empty());
}
