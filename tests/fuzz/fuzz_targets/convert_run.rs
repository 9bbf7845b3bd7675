//! Any model: planned, calibrated on zeros, quantized, and run, as far as that goes.
#![no_main]

use std::sync::Arc;

use bantam_converter::{Recipe, convert};
use bantam_model::Model;
use bantam_model::cpu::{Options, Plan, Runner};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::read(bytes.to_vec().into()) else { return };
    let options = Options { memory_limit: 16 << 20, call_limit: 1000, ..Options::default() };
    let Ok(plan) = Plan::new(&model, &options) else { return };
    let inputs: Vec<Vec<u8>> = plan
        .inputs()
        .iter()
        .map(|&id| vec![0; plan.value(id).dtype.byte_len(&plan.value(id).shape).unwrap_or(0)])
        .collect();
    if Runner::new(Arc::new(plan)).expect("the plan fits memory").run().is_err() {
        return;
    }
    if let Ok((converted, _)) = convert(&model, &[inputs][..], &Recipe::default(), 1, &|_, _| {}) {
        let plan = Plan::new(&converted, &options).expect("what was converted can be planned");
        // Integers may go round a loop more often than floats did.
        let _ = Runner::new(Arc::new(plan)).expect("the plan fits memory").run();
    }
});
