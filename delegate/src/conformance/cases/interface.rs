//! The interface itself: versions, sizes, NULL, options, devices.

use bantam_driver_abi::raw;

use super::tools::{Result, check, during, open_files, with_text};
use crate::conformance::{Suite, models};
use crate::driver::Driver;

pub(super) fn load(suite: &Suite) -> Result {
    suite.probe()?;
    suite.driver().map(drop)
}

pub(super) fn version(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    for version in [0, raw::VERSION + 1, u32::MAX] {
        let (status, theirs, has_table) = probe.negotiate(version);
        check(status == raw::VERSION_MISMATCH, || {
            format!("asked for version {version} it answered {status}")
        })?;
        check(theirs == raw::VERSION, || {
            format!("asked for version {version} it called itself version {theirs}")
        })?;
        check(!has_table, || {
            format!("asked for version {version} it gave a table")
        })?;
    }
    let nothing = probe.negotiate_nothing();
    check(nothing.iter().all(|&s| s == raw::INVALID), || {
        format!("bantam_driver_get with a NULL answered {nothing:?}")
    })?;
    let again = probe.negotiate(raw::VERSION);
    check(again == (raw::OK, raw::VERSION, true), || {
        format!("asked again it answered {again:?}")
    })
}

pub(super) fn structure_sizes(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    for size in [size_of::<raw::Info>(), size_of::<raw::Info>() + 64] {
        let around = instance.info_of_size(size);
        check(around.status == raw::OK, || {
            format!("info of {size} bytes answered {}", around.status)
        })?;
        check(!around.is_overrun, || {
            format!("info of {size} bytes was written behind what version 1 has")
        })?;
        check(around.size == size, || {
            format!(
                "info of {size} bytes has the size {} afterwards",
                around.size
            )
        })?;
    }
    let around = instance.info_of_size(size_of::<usize>());
    check(!around.is_overrun, || {
        "info of 8 bytes was written behind its end".to_owned()
    })?;
    check(around.status == raw::INVALID, || {
        format!("info of 8 bytes answered {}", around.status)
    })
}

pub(super) fn nulls(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    let model = models::empty().to_bytes();
    let mut replies = probe.nulls();
    replies.extend(instance.nulls(&model));
    for (call, status) in replies {
        check(status == raw::INVALID, || {
            format!("{call} answered {status}")
        })?;
    }
    Ok(())
}

pub(super) fn unknown_option(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    let mut options = suite.options();
    options.push(("bantam-conformance-no-such-option", "1"));
    let (reply, instance) = probe.open(&options);
    check(instance.is_none(), || "it was accepted".to_owned())?;
    with_text("open", &reply, raw::BAD_OPTION)
}

pub(super) fn open_close(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    for _ in 0..20 {
        suite.instance(&probe)?;
    }
    let before = open_files();
    for _ in 0..200 {
        suite.instance(&probe)?;
    }
    let after = open_files();
    check(after <= before, || {
        format!("there were {before:?} files open before and {after:?} after")
    })
}

pub(super) fn devices(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let first = during("devices", driver.devices())?;
    let second = during("devices", driver.devices())?;
    check(first == second, || {
        format!("it listed {first:?} and then {second:?}")
    })
}

pub(super) fn unknown_device(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let taken = suite.taken(&driver)?;
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    let bytes = taken[0].model.to_bytes();
    let (reply, _) = instance.compile(&bytes, Some("no such device"));
    with_text("compile", &reply, raw::NO_DEVICE)
}
