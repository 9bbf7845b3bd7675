//! Delegates for TFLite and the Edge TPU's library through the command: in processes of their own, `devices` and `doctor`.

mod common;
#[path = "../../delegate/tests/common/compiled.rs"]
mod compiled;
#[path = "../../delegate/tests/common/mod.rs"]
mod libraries;

use std::sync::Arc;

use bantam_delegate::driver::{Driver, DriverError};
use bantam_delegate::{Action, OffloadOptions, Options, Session};
use bantam_model::{DType, Model, Node, Subgraph, Tensor, ops};
use common::{Folder, fails, json};
use libraries::{Libraries, open_spec};

const HELPER: &str = env!("CARGO_BIN_EXE_bantam");

/// `y = relu(x + x) * x`.
fn model() -> Model {
    let mut s = Subgraph::default();
    let mut add = |name: &str| s.add_tensor(Tensor::new(name, DType::F32, [2, 3]));
    let [x, sum, y] = ["x", "sum", "y"].map(&mut add);
    let relu = ops::Add {
        activation: ops::Activation::Relu,
        ..ops::Add::default()
    };
    s.nodes = vec![
        Node::new(relu, &[x, x], &[sum]),
        Node::new(ops::Mul::default(), &[sum, x], &[y]),
    ];
    (s.inputs, s.outputs) = (vec![x], vec![y]);
    Model {
        subgraphs: vec![s],
        ..Model::default()
    }
}

fn session(model: &Model, driver: Box<dyn Driver>) -> Session {
    let options = Options {
        offload: OffloadOptions::default(),
        ..Options::default()
    };
    Session::with_driver(model, Arc::from(driver), &options).unwrap()
}

#[test]
fn a_delegate_that_ends_its_process_is_refused_by_name() {
    let libraries = Libraries::new();
    for (fault, how) in [
        ("behind", "signal 11 (SIGSEGV)"),
        ("aborts", "signal 6 (SIGABRT)"),
    ] {
        let path = libraries.delegate(fault);
        for isolate in ["", "&isolate=1"] {
            let spec = format!("tflite:{}?helper={HELPER}{isolate}", path.display());
            let error = open_spec(&spec).err().unwrap();
            assert!(matches!(error, DriverError::Unavailable { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains(path.to_str().unwrap()), "{text}");
            assert!(
                text.contains(how) && text.contains("in TFLite alone"),
                "{text}"
            );
        }
        let folder = Folder::new();
        let file = folder.write("m.tflite", &model().to_bytes());
        let input = folder.floats("x.npy", &[2, 3], &[1.0, -2.0, 3.0, 4.0, 5.0, 6.0]);
        let spec = format!("tflite:{}", path.display());
        let output = folder.path("y.npz");
        let error = fails(
            &bantam!("run", &file, "-i", &input, "-o", &output, "--driver", &spec),
            4,
            "BNT-V001",
        );
        assert!(error.contains(how), "{error}");
        // `doctor` looks from a safe distance.
        let output = bantam!("doctor", "--driver", &spec, "--format", "json");
        assert!(String::from_utf8_lossy(&output.stdout).contains(how));
    }
}

#[test]
fn a_delegate_in_a_process_of_its_own_computes_the_same() {
    let libraries = Libraries::new();
    let path = libraries.delegate("");
    let input: Vec<u8> = [1f32, -2.0, 3.0, 4.0, 5.0, 6.0]
        .iter()
        .flat_map(|x| x.to_ne_bytes())
        .collect();
    let mut plain = Session::new(&model(), &Options::default()).unwrap();
    plain.set_input(0, &input).unwrap();
    plain.run().unwrap();
    let spec = format!("tflite:{}?isolate=1&helper={HELPER}", path.display());
    let mut session = session(&model(), open_spec(&spec).unwrap());
    assert_eq!(session.placement().delegated, 2);
    for _ in 0..2 {
        session.set_input(0, &input).unwrap();
        session.run().unwrap();
        assert_eq!(session.output(0), plain.output(0));
    }
    assert_eq!(session.report().events, []);
}

#[test]
fn an_edge_tpu_whose_library_aborts_leaves_the_work_to_the_original() {
    let libraries = Libraries::new();
    let path = libraries.edgetpu("aborts", &["-DFAULT=\"aborts\""]);
    let isolated = format!("isolate=1&helper={HELPER}");
    let spec = format!("edgetpu:usb:0?library={}&{isolated}", path.display());
    let mut session = session(&compiled::pair(), open_spec(&spec).unwrap());
    session.set_input(0, &[7; 4]).unwrap();
    session.run().unwrap();
    assert_eq!(session.output(0), [7; 4]);
    let report = session.report();
    assert_eq!(report.counters[0].on_cpu, 1);
    let [first, second, ..] = &report.events[..] else {
        panic!("{:?}", report.events);
    };
    assert_eq!(
        (&first.action, &second.action),
        (&Action::Retried, &Action::FellBack)
    );
    let text = first.error.to_string();
    assert!(text.contains("signal 6 (SIGABRT)"), "{text}");
}

#[test]
fn a_state_is_reset_in_another_process_too() {
    let libraries = Libraries::new();
    let path = libraries.edgetpu("state", &[]);
    let spec = format!(
        "edgetpu?library={}&isolate=1&helper={HELPER}",
        path.display()
    );
    let mut session = session(&compiled::with_state(), open_spec(&spec).unwrap());
    let next = |session: &mut Session| {
        session.set_input(0, &[0; 4]).unwrap();
        session.run().unwrap();
        session.output(0)[0]
    };
    assert_eq!([next(&mut session), next(&mut session)], [11, 13]);
    session.reset_variables();
    assert_eq!(next(&mut session), 11);
    assert_eq!(session.report().counters[0].reopened, 0);
}

#[test]
fn devices_and_doctor_speak_of_the_edge_tpu() {
    let libraries = Libraries::new();
    let path = libraries.edgetpu("fake", &[]);
    let spec = format!("edgetpu?library={}&Performance=Max", path.display());
    let report = json(&bantam!("devices", "--driver", &spec, "--format", "json"));
    assert_eq!(report["devices"][1]["id"], "usb:1");
    assert_eq!(report["name"], "libedgetpu");
    assert_eq!(report["version"], "runtime 13 (CL 317268237)");
    let report = json(&bantam!("doctor", "--driver", &spec, "--format", "json"));
    let checks = report["checks"].as_array().unwrap();
    let find = |name: &str| checks.iter().find(|check| check["check"] == name).unwrap();
    assert_eq!(find("driver")["health"], "good");
    assert_eq!(find("devices")["health"], "good");
    // The library would drop options of a device that is not named.
    assert_eq!(find("options")["health"], "doubtful");
    assert_eq!(find("options")["try"], "name one: edgetpu:usb:0");
    let missing = "edgetpu?library=/nowhere/libedgetpu.so.1";
    let error = fails(&bantam!("devices", "--driver", missing), 4, "BNT-V001");
    assert!(error.contains("cannot open shared object file"), "{error}");
    assert!(error.contains("install the Edge TPU runtime"), "{error}");
    let error = fails(
        &bantam!("devices", "--driver", "edgetpu?Performance=Turbo"),
        4,
        "BNT-V001",
    );
    assert!(
        error.contains("it is none of Low, Medium, High, Max"),
        "{error}"
    );
}
