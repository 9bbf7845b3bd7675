//! Runs: their results, and the buffers.

use bantam_driver_abi::raw;

use super::tools::{
    Checked, Result, Taken, check, compile, difference, during, expected, failed, inputs, outputs,
    run, run_of,
};
use crate::conformance::Suite;
use crate::driver::Executable;
use crate::driver::bantam::BantamExecutable;

pub(super) fn exact(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    for taken in suite.taken(&driver)? {
        let mut executable = compile(&driver, &taken)?;
        for round in 0..8 {
            let wanted = expected(&taken.model, &inputs(&taken.model, round))?;
            let found = run_of(&taken, &mut executable, round)?;
            if let Some(text) = difference(&taken.model, &found, &wanted, suite.tolerance) {
                return Err(failed(format!("{}: {text}", taken.name)));
            }
        }
    }
    Ok(())
}

pub(super) fn deterministic(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    for taken in suite.taken(&driver)? {
        let mut executable = compile(&driver, &taken)?;
        let inputs = inputs(&taken.model, 5);
        let mut first: Option<Vec<Vec<u8>>> = None;
        for fill in [0x00, 0xff, 0x55] {
            let found = run(&mut executable, &taken.model, &inputs, fill);
            let found = during(&format!("run of {}", taken.name), found)?;
            let first = first.get_or_insert_with(|| found.clone());
            check(*first == found, || {
                format!("{}: the results of equal runs differ", taken.name)
            })?;
        }
    }
    Ok(())
}

/// Bytes with others around them, at an address that is a multiple of `alignment` and of no more.
struct Guarded {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

const GUARD: usize = 64;

impl Guarded {
    fn new(content: &[u8], alignment: usize) -> Self {
        let mut bytes = vec![0xee; content.len() + 2 * GUARD + 2 * alignment];
        let from = bytes.as_ptr().addr() + GUARD;
        let start = GUARD + alignment.wrapping_sub(from) % (2 * alignment);
        bytes[start..start + content.len()].copy_from_slice(content);
        Self {
            bytes,
            start,
            len: content.len(),
        }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }

    fn is_intact(&self) -> bool {
        let (front, back) = (
            &self.bytes[..self.start],
            &self.bytes[self.start + self.len..],
        );
        front.iter().chain(back).all(|&byte| byte == 0xee)
    }
}

/// Runs on guarded buffers: the results, if nothing else was changed.
fn guarded(
    taken: &Taken,
    executable: &mut BantamExecutable,
    alignment: usize,
) -> Checked<Vec<Vec<u8>>> {
    let name = &taken.name;
    let contents = inputs(&taken.model, 3);
    let ins: Vec<Guarded> = contents
        .iter()
        .map(|c| Guarded::new(c, alignment))
        .collect();
    let room = outputs(&taken.model, 0xee);
    let mut outs: Vec<Guarded> = room.iter().map(|c| Guarded::new(c, alignment)).collect();
    let views: Vec<&[u8]> = ins.iter().map(Guarded::get).collect();
    let mut places: Vec<&mut [u8]> = outs.iter_mut().map(Guarded::get_mut).collect();
    during(
        &format!("run of {name}"),
        executable.run(&views, &mut places),
    )?;
    let same = ins
        .iter()
        .zip(&contents)
        .all(|(g, c)| g.get() == c && g.is_intact());
    check(same, || format!("{name}: an input was changed"))?;
    check(outs.iter().all(Guarded::is_intact), || {
        format!("{name}: bytes beside an output were changed")
    })?;
    Ok(outs.iter().map(|g| g.get().to_vec()).collect())
}

pub(super) fn buffers_untouched(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    for taken in suite.taken(&driver)? {
        guarded(&taken, &mut compile(&driver, &taken)?, 64)?;
    }
    Ok(())
}

pub(super) fn odd_addresses(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let alignment = driver.alignment();
    for taken in suite.taken(&driver)? {
        let mut executable = compile(&driver, &taken)?;
        let wanted = run_of(&taken, &mut executable, 3)?;
        let found = guarded(&taken, &mut executable, alignment)?;
        check(found == wanted, || {
            format!("{}: other results at such addresses", taken.name)
        })?;
    }
    Ok(())
}

pub(super) fn wrong_buffers(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    for taken in suite.taken(&driver)? {
        let name = &taken.name;
        let (reply, executable) = instance.compile(&taken.model.to_bytes(), None);
        let executable =
            executable.ok_or_else(|| failed(format!("compile of {name} answered {reply:?}")))?;
        let good = inputs(&taken.model, 2);
        let room = outputs(&taken.model, 0);
        let refuse = |what: &str, ins: Vec<Option<Vec<u8>>>, outs: Vec<Option<Vec<u8>>>| {
            let views: Vec<Option<&[u8]>> = ins.iter().map(Option::as_deref).collect();
            let mut outs = outs;
            let mut places: Vec<Option<&mut [u8]>> =
                outs.iter_mut().map(Option::as_deref_mut).collect();
            let status = executable.run(&views, &mut places).status;
            check(status == raw::INVALID || status == raw::FAILED, || {
                format!("run of {name} with {what} answered {status}")
            })
        };
        let some = |list: &[Vec<u8>]| list.iter().cloned().map(Some).collect::<Vec<_>>();
        let mut short = some(&good);
        short[0].as_mut().map(Vec::pop);
        refuse("an input that is too short", short, some(&room))?;
        let mut long = some(&good);
        long[0].iter_mut().for_each(|bytes| bytes.push(0));
        refuse("an input that is too long", long, some(&room))?;
        let mut small = some(&room);
        small[0].as_mut().map(Vec::pop);
        refuse("an output that is too short", some(&good), small)?;
        refuse("an input too few", some(&good[1..]), some(&room))?;
        refuse("no outputs", some(&good), Vec::new())?;
        let mut more = some(&good);
        more.push(Some(vec![0; 8]));
        refuse("an input too many", more, some(&room))?;
        let mut null = some(&good);
        null[0] = None;
        refuse("an input that is NULL", null, some(&room))?;
        let mut null = some(&room);
        null[0] = None;
        refuse("an output that is NULL", some(&good), null)?;
        let status = executable.run_without_arrays(good.len(), room.len());
        check(status == raw::INVALID, || {
            format!("run of {name} without arrays answered {status}")
        })?;
    }
    Ok(())
}
