//! Drivers in processes of their own, the conformance suite on libraries with faults, `devices` and `doctor`.

mod common;
#[path = "../../delegate/tests/common/mod.rs"]
mod libraries;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bantam_delegate::driver::{Driver, DriverError, Executable};
use common::{fails, json, stdout};
use libraries::{Libraries, model, open_spec, run};
use serde_json::json;

fn isolated(rest: &str) -> Result<Box<dyn Driver>, DriverError> {
    let sign = if rest.contains('?') { '&' } else { '?' };
    let helper = env!("CARGO_BIN_EXE_bantam");
    open_spec(&format!("{rest}{sign}isolate=1&helper={helper}"))
}

fn isolated_library(path: &Path, options: &str) -> Result<Box<dyn Driver>, DriverError> {
    isolated(&format!("bantam:{}?{options}", path.display()))
}

fn compiled(driver: &dyn Driver) -> Box<dyn Executable> {
    driver.compile(&model(), None).unwrap()
}

#[test]
fn a_process_of_its_own_computes_the_same() {
    let libraries = Libraries::new();
    let library = libraries.template();
    let here = libraries::open(&library).unwrap();
    let there = isolated_library(&library, "").unwrap();
    assert_eq!(here.info(), there.info());
    assert_eq!(here.devices(), there.devices());
    assert_eq!(here.policy(), there.policy());
    assert_eq!(here.supports(&model(), 0), there.supports(&model(), 0));
    let expected = run(&mut *compiled(&*here)).unwrap();
    let (mut one, mut two) = (compiled(&*there), compiled(&*there));
    for _ in 0..2 {
        assert_eq!(run(&mut *one).unwrap(), expected);
        assert_eq!(run(&mut *two).unwrap(), expected);
    }
    drop(one);
    assert_eq!(run(&mut *two).unwrap(), expected);
    let error = there.compile(&model(), Some("cpu:9")).err().unwrap();
    assert_eq!(error, here.compile(&model(), Some("cpu:9")).err().unwrap());
    let error = two.run(&[&[0; 5]], &mut []).unwrap_err();
    assert!(matches!(error, DriverError::Failed(_)));
    assert!(!there.devices().unwrap().is_empty());
}

#[test]
fn a_library_that_ends_its_process_costs_one_call() {
    let libraries = Libraries::new();
    for (fault, wanted) in [
        ("dies", "the driver's process ended: signal 6 (SIGABRT)"),
        (
            "segfaults",
            "the driver's process ended: signal 11 (SIGSEGV)",
        ),
        ("exits", "the driver's process ended: exit code 3"),
    ] {
        let driver = isolated_library(&libraries.faulty(fault), "").unwrap();
        let mut other = compiled(&*driver);
        for _ in 0..2 {
            let mut executable = compiled(&*driver);
            let error = run(&mut *executable).unwrap_err();
            assert_eq!(error.to_string(), wanted);
            for old in [&mut executable, &mut other] {
                let error = run(&mut **old).unwrap_err();
                assert!(matches!(error, DriverError::DeviceLost(_)), "{error}");
            }
            assert_eq!(driver.devices().unwrap().len(), 1);
        }
    }
}

#[test]
fn a_library_that_hangs_is_ended() {
    let libraries = Libraries::new();
    let library = libraries.faulty("hangs");
    let driver = isolated_library(&library, "deadline=200").unwrap();
    for _ in 0..2 {
        let start = Instant::now();
        let error = run(&mut *compiled(&*driver)).unwrap_err();
        assert_eq!(error, DriverError::Deadline { milliseconds: 200 });
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    assert_eq!(driver.devices().unwrap().len(), 1);
}

#[test]
fn what_a_library_prints_stays_out_of_the_results() {
    let libraries = Libraries::new();
    let driver = isolated_library(&libraries.faulty("prints"), "").unwrap();
    let mut executable = compiled(&*driver);
    run(&mut *executable).unwrap();
    run(&mut *executable).unwrap();
}

#[test]
fn every_call_may_fail_come_late_or_never_return() {
    let attempt = |spec: &str| -> Result<[Vec<u8>; 2], DriverError> {
        let driver = isolated(spec)?;
        driver.devices()?;
        driver.supports(&model(), 0)?;
        let mut executable = driver.compile(&model(), None)?;
        let result = run(&mut *executable)?;
        assert_eq!(
            executable.cost().is_empty(),
            spec.contains("at=cost&fault=fail")
        );
        Ok(result)
    };
    let good = attempt("virtual:cpu").unwrap();
    for call in ["open", "devices", "supports", "compile", "run"] {
        let spec = |fault| format!("virtual:cpu?at={call}&fault={fault}");
        let error = attempt(&spec("fail")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the driver failed: a fault was asked for"
        );
        assert_eq!(attempt(&spec("delay&delay=30")), Ok(good.clone()), "{call}");
        let error = attempt(&spec("die")).unwrap_err();
        assert!(matches!(error, DriverError::Died(_)), "{call}: {error}");
        let limits = "hang&deadline=2000&setup-deadline=2000";
        let error = attempt(&spec(limits)).unwrap_err();
        assert!(
            matches!(error, DriverError::Deadline { .. }),
            "{call}: {error}"
        );
    }
    assert_eq!(attempt("virtual:cpu?at=cost&fault=fail"), Ok(good.clone()));
    for (fault, is_expected) in [
        ("at=devices&fault=garbage", true),
        ("at=supports&fault=garbage", true),
    ] {
        let error = attempt(&format!("virtual:cpu?{fault}")).unwrap_err();
        let is_garbage = matches!(error, DriverError::Garbage(_));
        assert_eq!(is_garbage, is_expected, "{fault}: {error}");
    }
    assert_ne!(attempt("virtual:cpu?fault=garbage").unwrap(), good);
    let error = attempt("virtual:cpu?fault=lost").unwrap_err();
    assert!(matches!(error, DriverError::DeviceLost(_)), "{error}");
}

#[test]
fn a_lost_device_comes_back_when_it_is_compiled_for() {
    for isolate in [false, true] {
        let spec = "virtual:cpu?fault=lost&after=1&times=1";
        let driver = match isolate {
            true => isolated(spec).unwrap(),
            false => open_spec(spec).unwrap(),
        };
        let (mut first, mut second) = (compiled(&*driver), compiled(&*driver));
        let good = run(&mut *first).unwrap();
        for executable in [&mut first, &mut second] {
            let error = run(&mut **executable).unwrap_err();
            assert!(matches!(error, DriverError::DeviceLost(_)), "{error}");
        }
        assert_eq!(run(&mut *compiled(&*driver)).unwrap(), good);
    }
}

#[test]
fn a_run_is_cancelled_or_its_process_is_ended() {
    for (fault, is_isolated) in [("hang", false), ("hang", true), ("stuck", true)] {
        let spec = format!("virtual:cpu?times=1&fault={fault}");
        let driver = match is_isolated {
            true => isolated(&spec).unwrap(),
            false => open_spec(&spec).unwrap(),
        };
        let mut executable = compiled(&*driver);
        let cancel = executable.canceller().unwrap();
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(300));
                cancel();
            });
            let error = run(&mut *executable).unwrap_err();
            assert_eq!(error, DriverError::Cancelled, "{fault}");
        });
        assert!(start.elapsed() >= Duration::from_millis(300));
        // What was cancelled is good again; what was ended has to be compiled again.
        match fault {
            "hang" => drop(run(&mut *executable).unwrap()),
            _ => assert!(run(&mut *executable).is_err()),
        }
    }
}

#[test]
fn faults_fail_the_very_case() {
    let libraries = Libraries::new();
    let template = libraries.template();
    for (fault, case) in [
        ("newer", "load"),
        ("no-table", "load"),
        ("null-instance", "load"),
        ("any-version", "version"),
        ("long-info", "structure-sizes"),
        ("trusting-info", "nulls"),
        ("any-option", "unknown-option"),
        ("silent-option", "unknown-option"),
        ("leaky-open", "open-close"),
        ("twin-devices", "devices"),
        ("restless-devices", "devices"),
        ("crash-devices", "devices"),
        ("any-device", "unknown-device"),
        ("verdict-missing", "every-operator"),
        ("verdict-no-reason", "every-operator"),
        ("moody", "every-operator"),
        ("supports-blindly", "broken-models-supports"),
        ("supports-nothing", "broken-models-supports"),
        ("compile-blindly", "broken-models-compile"),
        ("compile-nothing", "broken-models-compile"),
        ("compile-silent", "refused-partition"),
        ("strange-status", "refused-partition"),
        ("supports-all", "compile-supported"),
        ("compile-never", "compile-supported"),
        ("off-by-one", "exact"),
        ("dies", "exact"),
        ("exits", "exact"),
        ("uneven", "deterministic"),
        ("accumulates", "deterministic"),
        ("overruns", "buffers-untouched"),
        ("spoils-input", "buffers-untouched"),
        ("aligned", "odd-addresses"),
        ("trusting", "wrong-buffers"),
        ("shared-state", "many-executables"),
        ("one-instance", "instances"),
        ("races", "parallel"),
        ("submit-nothing", "submit"),
        ("cancel-next", "cancel"),
        ("nan-cost", "cost"),
        ("compile-latin", "errors"),
        ("needs-error", "errors"),
        ("leaky", "leaks"),
    ] {
        let library = libraries.faulty(fault);
        let output = bantam!(
            "doctor",
            "--conformance",
            &library,
            "--case",
            case,
            "--format",
            "json"
        );
        assert_eq!(output.status.code(), Some(1), "{fault} passed {case}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["cases"][0]["case"], case);
        assert_eq!(report["cases"][0]["outcome"], "failed", "{fault}: {report}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("error[BNT-G001]"));
    }
    // Skipped is not passed.
    let output = bantam!("doctor", "--conformance", &template, "--format", "json");
    let report = json(&output);
    let wanted = json!({ "failed": 0, "passed": 23, "skipped": 3 });
    assert_eq!(report["summary"], wanted);
    let text = stdout(&bantam!(
        "doctor",
        "--conformance",
        &template,
        "--case",
        "cancel"
    ));
    assert!(text.starts_with("skipped  cancel: "), "{text}");
    let unknown = bantam!("doctor", "--conformance", &template, "--case", "dance");
    fails(&unknown, 2, "BNT-U001");
}

#[test]
fn devices_and_doctor_speak_of_the_driver() {
    let report = json(&bantam!(
        "devices",
        "--driver",
        "virtual?devices=2",
        "--format",
        "json"
    ));
    assert_eq!(report["devices"][1]["id"], "virtual:1");
    assert_eq!(report["target"], "edgetpu");
    assert!(stdout(&bantam!("devices", "--driver", "virtual")).contains("virtual:0"));
    let missing = bantam!("devices", "--driver", "bantam:/nowhere.so");
    assert!(fails(&missing, 4, "BNT-V001").contains("No such file"));
    let doctor = json(&bantam!(
        "doctor", "--driver", "virtual", "--format", "json"
    ));
    assert_eq!(doctor["checks"][1]["health"], "good");
    let sick = bantam!("doctor", "--driver", "virtual?at=devices&fault=fail");
    assert_eq!(sick.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&sick.stdout).contains("bad       devices: "));
    fails(&bantam!("driver-host"), 2, "BNT-U001");
}
