//! Several executables and instances, asynchronous runs, and what is left behind.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bantam_driver_abi::raw;

use super::tools::{
    Result, Taken, check, compile, during, failed, inputs, open_files, run, run_of, skipped,
    with_text,
};
use crate::conformance::Suite;
use crate::driver::bantam::BantamExecutable;
use crate::driver::{DriverError, Executable};

pub(super) fn many_executables(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let taken = suite.taken(&driver)?;
    let mut held = Vec::new();
    for part in taken.iter().chain(&taken) {
        held.push((part, compile(&driver, part)?));
    }
    let mut first: Vec<Vec<Vec<u8>>> = Vec::new();
    for (part, executable) in &mut held {
        first.push(run_of(part, executable, 4)?);
    }
    for ((part, executable), wanted) in held.iter_mut().zip(&first).rev() {
        let found = run_of(part, executable, 4)?;
        check(found == *wanted, || {
            format!("{}: other results while others were there", part.name)
        })?;
    }
    // Every other one goes, the rest must be as good as before.
    let kept: Vec<_> = held.into_iter().zip(first).skip(1).step_by(2).collect();
    for ((part, mut executable), wanted) in kept {
        let found = run_of(part, &mut executable, 4)?;
        check(found == wanted, || {
            format!("{}: other results after others were freed", part.name)
        })?;
    }
    Ok(())
}

/// Runs the executables at the same time, each on a thread, and compares with what each gave before.
fn at_once(held: Vec<(&Taken, BantamExecutable, Vec<Vec<u8>>)>) -> Result {
    thread::scope(|scope| {
        let threads: Vec<_> = held
            .into_iter()
            .map(|(part, mut executable, wanted)| {
                scope.spawn(move || {
                    for _ in 0..50 {
                        let found = run_of(part, &mut executable, 6)?;
                        check(found == wanted, || {
                            format!("{}: other results beside another run", part.name)
                        })?;
                    }
                    Ok(())
                })
            })
            .collect();
        let mut ended = threads.into_iter().map(|thread| thread.join());
        ended.try_for_each(|end| end.unwrap_or_else(|_| Err(failed("a thread panicked"))))
    })
}

pub(super) fn instances(suite: &Suite) -> Result {
    let (one, two) = (suite.driver()?, suite.driver()?);
    let taken = suite.taken(&one)?;
    let mut held = Vec::new();
    for driver in [&one, &two] {
        let part = &taken[0];
        let mut executable = match driver.compile_here(&part.model, None) {
            Err(DriverError::NoDevice { .. }) if !held.is_empty() => {
                return Err(skipped("the device cannot be had twice"));
            }
            other => during(&format!("compile of {}", part.name), other)?,
        };
        let wanted = run_of(part, &mut executable, 6)?;
        held.push((part, executable, wanted));
    }
    at_once(held)
}

pub(super) fn parallel(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    if !driver.is_parallel() {
        return Err(skipped("it does not set BANTAM_DRIVER_PARALLEL"));
    }
    let taken = suite.taken(&driver)?;
    let mut held = Vec::new();
    for part in taken.iter().cycle().take(taken.len().clamp(2, 6)) {
        let mut executable = compile(&driver, part)?;
        let wanted = run_of(part, &mut executable, 6)?;
        held.push((part, executable, wanted));
    }
    at_once(held)
}

pub(super) fn submit(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let taken = suite.taken(&driver)?;
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    let (reply, executable) = instance.compile(&taken[0].model.to_bytes(), None);
    let raw_one = executable.ok_or_else(|| failed(format!("compile answered {reply:?}")))?;
    match raw_one.wait_for_nothing() {
        None => return Err(skipped("it has no submit and wait")),
        Some(status) => check(status == raw::INVALID, || {
            format!("wait for nothing answered {status}")
        })?,
    }
    for part in &taken {
        let mut executable = compile(&driver, part)?;
        let wanted = run_of(part, &mut executable, 3)?;
        let contents = inputs(&part.model, 3);
        let views: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let mut submission = executable.submit(&views).map_err(|(_, error)| {
            failed(match error {
                Some(error) => format!("submit of {}: {error}", part.name),
                None => "submit is gone".to_owned(),
            })
        })?;
        match submission.wait(Duration::from_secs(30)) {
            Some(result) => during(&format!("wait for {}", part.name), result)?,
            None => return Err(failed(format!("{} did not end within 30 s", part.name))),
        }
        let found = submission.outputs().unwrap_or_default();
        check(found == wanted, || {
            format!("{}: other results when submitted", part.name)
        })?;
    }
    Ok(())
}

pub(super) fn cancel(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let taken = suite.taken(&driver)?;
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    let (reply, executable) = instance.compile(&taken[0].model.to_bytes(), None);
    let raw_one = executable.ok_or_else(|| failed(format!("compile answered {reply:?}")))?;
    if raw_one.cancel_nothing().is_none() {
        return Err(skipped("it has no cancel"));
    }
    for part in &taken {
        let mut executable = compile(&driver, part)?;
        let wanted = run_of(part, &mut executable, 3)?;
        let Some(cancel) = executable.canceller() else {
            return Err(skipped("it has no cancel"));
        };
        cancel();
        let found = run_of(part, &mut executable, 3)?;
        check(found == wanted, || {
            format!("{}: cancelling nothing spoilt the next run", part.name)
        })?;
        let (done, ended) = mpsc::channel::<()>();
        thread::scope(|scope| -> Result {
            scope.spawn(move || {
                while let Err(mpsc::RecvTimeoutError::Timeout) =
                    ended.recv_timeout(Duration::from_micros(200))
                {
                    cancel();
                }
            });
            for _ in 0..30 {
                let contents = inputs(&part.model, 3);
                match run(&mut executable, &part.model, &contents, 0) {
                    Ok(found) => check(found == wanted, || {
                        format!("{}: a run that was to be cancelled is wrong", part.name)
                    })?,
                    Err(DriverError::Cancelled) => {}
                    Err(error) => {
                        return Err(failed(format!("a cancelled run of {}: {error}", part.name)));
                    }
                }
            }
            drop(done);
            Ok(())
        })?;
        let found = run_of(part, &mut executable, 3)?;
        check(found == wanted, || {
            format!("{}: the run after a cancelled one is wrong", part.name)
        })?;
    }
    Ok(())
}

pub(super) fn cost(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    for taken in suite.taken(&driver)? {
        let executable = compile(&driver, &taken)?;
        let figures = during(&format!("cost of {}", taken.name), executable.try_cost())?;
        if figures.is_empty() {
            return Err(skipped("it says nothing of cost"));
        }
    }
    Ok(())
}

pub(super) fn errors(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    let (reply, executable) = instance.compile(b"this is not a model, is it?", None);
    check(executable.is_none(), || {
        "a sentence was compiled".to_owned()
    })?;
    with_text("compile", &reply, reply.status)?;
    let status = instance.compile_without_error(b"this is not a model, is it?");
    check(status == reply.status, || {
        format!("compile answered {status} with nowhere to put a text")
    })
}

/// Resident memory of this process in bytes, where the system shows it.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

pub(super) fn leaks(suite: &Suite) -> Result {
    const ALLOWED: u64 = 3 << 20;
    let driver = suite.driver()?;
    let taken = suite.taken(&driver)?;
    let cycle = |count: usize| -> Result {
        for part in taken.iter().cycle().take(count) {
            let mut executable = compile(&driver, part)?;
            run_of(part, &mut executable, 2)?;
        }
        Ok(())
    };
    cycle(100)?;
    let (files, Some(before)) = (open_files(), resident()) else {
        return Err(skipped("this system does not show how much memory is used"));
    };
    cycle(300)?;
    let grown = resident().unwrap_or(0).saturating_sub(before);
    check(grown <= ALLOWED, || format!("{grown} bytes more are used"))?;
    let after = open_files();
    check(after <= files, || {
        format!("there were {files:?} files open before and {after:?} after")
    })
}
