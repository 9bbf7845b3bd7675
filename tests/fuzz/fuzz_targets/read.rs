//! Any bytes: an error or a model; what was read is written and read again as the same.
#![no_main]

use bantam_model::Model;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(model) = Model::read(bytes.to_vec().into()) {
        let again = Model::read(model.to_bytes().into()).expect("what was read can be written");
        assert_eq!(model.to_bytes(), again.to_bytes());
    }
});
