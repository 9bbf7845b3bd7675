//! The driver passes the suite that vendors run. Copy this along with the crate.

use std::env;

use bantam_delegate::conformance::{Outcome, Suite};

#[test]
fn keeps_the_contract() {
    let tests = env::current_exe().unwrap();
    let name = format!(
        "{}bantam_driver_template{}",
        env::consts::DLL_PREFIX,
        env::consts::DLL_SUFFIX
    );
    let suite = Suite::new(tests.parent().unwrap().join(name));
    for case in Suite::cases() {
        match suite.run_case(case) {
            Outcome::Passed => {}
            Outcome::Skipped(_) if case.name == "cost" => {}
            other => panic!("{}: {other}", case.name),
        }
    }
}
