//! What a library says of operators and models, and what it compiles.

use std::collections::BTreeSet;

use bantam_driver_abi::raw;
use bantam_model::target::Verdict;
use bantam_model::tensor::DType;

use super::tools::{Result, check, compile, during, skipped, with_text};
use crate::conformance::models::Numbers;
use crate::conformance::{Suite, models};
use crate::driver::Driver;

pub(super) fn every_operator(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    for dtype in [DType::I8, DType::F32] {
        for model in models::every_kind(dtype).iter().chain([&models::empty()]) {
            let op = match model.subgraphs[0].nodes.first() {
                Some(node) => node.op.to_string(),
                None => "no operator".to_owned(),
            };
            let first = during(&format!("supports on {op}"), driver.supports(model, 0))?;
            let second = during(&format!("supports on {op}"), driver.supports(model, 0))?;
            check(first == second, || {
                format!("{op} got {first:?} and then {second:?}")
            })?;
        }
        for (name, model) in models::runnable(dtype) {
            during(&format!("supports on {name}"), driver.supports(&model, 0))?;
        }
    }
    Ok(())
}

/// Bytes that are no model, or one that is cut off or has wrong bits.
fn broken() -> Vec<Vec<u8>> {
    let good: Vec<Vec<u8>> = [DType::I8, DType::F32]
        .into_iter()
        .flat_map(|dtype| {
            let models = models::runnable(dtype).into_iter();
            models.filter(|(name, _)| name.contains("ADD") || name.contains("CONV_2D"))
        })
        .map(|(_, model)| model.to_bytes())
        .collect();
    let mut numbers = Numbers(77);
    let mut all = vec![Vec::new(), vec![0], b"TFL3".to_vec(), vec![0xff; 64]];
    all.push((0..512).map(|_| numbers.draw() as u8).collect());
    for model in &good {
        let cuts = (0..24).map(|i| model[..model.len() * i / 24].to_vec());
        all.extend(cuts);
        for _ in 0..120 {
            let mut bytes = model.clone();
            for _ in 0..1 + numbers.draw() % 4 {
                let place = numbers.draw() as usize % bytes.len();
                bytes[place] ^= 1 << (numbers.draw() % 8);
            }
            all.push(bytes);
        }
    }
    all
}

/// What may come of a model that is broken, or is not broken after all.
const POSSIBLE: [raw::Status; 5] = [
    raw::OK,
    raw::FAILED,
    raw::REFUSED,
    raw::INVALID,
    raw::NO_DEVICE,
];

pub(super) fn broken_supports(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    for (index, bytes) in broken().iter().enumerate() {
        let reply = instance.supports(bytes, 0);
        check(POSSIBLE.contains(&reply.status), || {
            format!("broken model {index} got the status {}", reply.status)
        })?;
        check(index > 4 || reply.status != raw::OK, || {
            format!("{} bytes that are no model were taken for one", bytes.len())
        })?;
    }
    let reply = instance.supports(&models::empty().to_bytes(), 7);
    check(reply.status != raw::OK, || {
        "a subgraph that does not exist got verdicts".to_owned()
    })
}

pub(super) fn broken_compile(suite: &Suite) -> Result {
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    for (index, bytes) in broken().iter().enumerate() {
        let (reply, executable) = instance.compile(bytes, None);
        check(POSSIBLE.contains(&reply.status), || {
            format!("broken model {index} got the status {}", reply.status)
        })?;
        check(index > 4 || executable.is_none(), || {
            format!("{} bytes that are no model were compiled", bytes.len())
        })?;
        check(reply.status != raw::OK || executable.is_some(), || {
            format!("broken model {index} was compiled to nothing")
        })?;
    }
    Ok(())
}

pub(super) fn refused_partition(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    let probe = suite.probe()?;
    let instance = suite.instance(&probe)?;
    let mut tried = BTreeSet::new();
    for dtype in [DType::I8, DType::F32] {
        let runnable = models::runnable(dtype).into_iter().map(|(_, model)| model);
        for model in models::every_kind(dtype).into_iter().chain(runnable) {
            let verdicts = during("supports", driver.supports(&model, 0))?;
            if verdicts.iter().all(Verdict::is_supported) {
                continue;
            }
            let name = model.subgraphs[0].nodes[0].op.to_string();
            let (reply, executable) = instance.compile(&model.to_bytes(), None);
            check(executable.is_none(), || {
                format!("{name} is not supported, and was compiled")
            })?;
            with_text(&format!("compile of {name}"), &reply, raw::REFUSED)?;
            tried.insert(name);
        }
    }
    match tried.is_empty() {
        true => Err(skipped("it takes every operator")),
        false => Ok(()),
    }
}

pub(super) fn compile_supported(suite: &Suite) -> Result {
    let driver = suite.driver()?;
    for taken in suite.taken(&driver)? {
        compile(&driver, &taken)?;
    }
    Ok(())
}
