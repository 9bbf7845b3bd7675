//! Drivers in processes of their own leave nothing behind. Alone in its file, for it counts what the whole process has.

#![cfg(target_os = "linux")]

mod common;
#[path = "../../delegate/tests/common/mod.rs"]
mod libraries;

use std::fs;

use libraries::{model, open_spec, run};

/// Open files, maps of shared memory, and children, zombies among them.
fn held() -> [usize; 3] {
    let count = |path: &str| fs::read_dir(path).unwrap().count();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let children: usize = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .map(|list| list.split_whitespace().count())
        .sum();
    [
        count("/proc/self/fd"),
        maps.lines().filter(|line| line.contains("bantam-")).count(),
        children,
    ]
}

#[test]
fn nothing_is_left_behind() {
    let attempt = |options: &str| {
        let helper = env!("CARGO_BIN_EXE_bantam");
        let spec = format!("virtual:cpu?isolate=1&helper={helper}&{options}");
        let Ok(driver) = open_spec(&spec) else { return };
        let _ = driver.devices();
        let _ = driver.supports(&model(), 0);
        for _ in 0..2 {
            let Ok(mut executable) = driver.compile(&model(), None) else {
                return;
            };
            let _ = run(&mut *executable);
            let _ = executable.cost();
        }
    };
    attempt("");
    let before = held();
    assert_eq!(before[1..], [0, 0]);
    for options in [
        "",
        "fault=fail",
        "fault=die",
        "fault=die&at=open",
        "fault=die&at=compile",
        "fault=stuck&deadline=100",
        "fault=stuck&at=compile&setup-deadline=2000",
        "fault=lost",
        "colour=red",
    ] {
        attempt(options);
        assert_eq!(held(), before, "{options}");
    }
}
