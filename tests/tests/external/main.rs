//! The external delegate: under our own host for delegates, what it claims and computes; in a fake runtime, what it does with
//! what no runtime should do.

mod fake;

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Mutex};

use bantam::{tflite_plugin_create_delegate as create, tflite_plugin_destroy_delegate as destroy};
use bantam_delegate::driver::tflite::abi::{self, Context, Delegate, PluginCreate, PluginDestroy};
use bantam_delegate::driver::tflite::{Plugin, TfliteDriver};
use bantam_delegate::{Options, Session};
use bantam_model::cpu::{self, Staged};
use bantam_model::{Model, Numerics};
use bantam_tests::{Case, cases};
use fake::Fake;
use serde_json::Value;

fn ours() -> Plugin {
    // SAFETY: the entry points have the types that the interface gives them.
    let (create, destroy) = unsafe {
        (
            std::mem::transmute::<*const (), PluginCreate>(create as *const ()),
            destroy as PluginDestroy,
        )
    };
    // SAFETY: they are a plug-in's.
    unsafe { Plugin::linked("ours", create, destroy) }
}

/// A session whose driver is our delegate.
fn session(model: &Model, options: &[(&str, &str)]) -> Result<Session, String> {
    let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
    let options: Vec<_> = options.iter().map(owned).collect();
    let driver = TfliteDriver::new(ours(), &options).map_err(|e| e.to_string())?;
    let options = Options {
        numerics: Numerics::Reference,
        ..Options::default()
    };
    Session::with_driver(model, Arc::new(driver), &options).map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    })
}

fn run(session: &mut Session, case: &Case) -> Vec<Vec<u8>> {
    for (index, input) in case.inputs.iter().enumerate() {
        session.set_input(index, &input.bytes).unwrap();
    }
    for _ in 0..case.runs {
        session.run().unwrap();
    }
    let outputs = 0..session.outputs().len();
    outputs.map(|i| session.output(i).to_vec()).collect()
}

fn on_cpu(model: &Model, case: &Case) -> Option<Vec<Vec<u8>>> {
    let options = cpu::Options {
        numerics: Numerics::Reference,
        ..cpu::Options::default()
    };
    let mut staged = Staged::new(model, &options).ok()?;
    for (index, input) in case.inputs.iter().enumerate() {
        staged.set_input(index, &input.bytes).unwrap();
    }
    for _ in 0..case.runs {
        staged.run().unwrap();
    }
    let outputs = (0..).map_while(|index| staged.output(index));
    Some(outputs.map(|(_, bytes)| bytes.to_vec()).collect())
}

/// Through two translations, of our model to a runtime's structs and back, nothing is lost that matters to any operator.
#[test]
fn every_case_gives_what_the_cpu_path_gives() {
    let (mut claimed, mut failures) = (0, Vec::new());
    for case in cases().expect("the test data") {
        let model = Model::open(&case.model).unwrap();
        let Some(wanted) = on_cpu(&model, &case) else {
            continue;
        };
        let mut session = match session(&model, &[("numerics", "reference")]) {
            Ok(session) => session,
            Err(error) => {
                failures.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        let got = run(&mut session, &case);
        let report = session.report();
        if got != wanted {
            failures.push(format!("{}: other bytes", case.name));
        } else if let Some(event) = report.events.first() {
            failures.push(format!("{}: {event}", case.name));
        }
        claimed += usize::from(session.placement().delegated > 0);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(claimed > 1200, "only {claimed} were claimed at all");
}

fn case(name: &str) -> (Case, Model) {
    let mut all = cases().unwrap().into_iter();
    let case = all.find(|case| case.name.ends_with(name)).unwrap();
    let model = Model::open(&case.model).unwrap();
    (case, model)
}

fn report(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_report_says_what_ran_and_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let text = path.to_str().unwrap();
    let (case, model) = case("conv_2d_3x3_d16_o65_int8");
    let mut run_session = session(&model, &[("report", text)]).unwrap();
    run(&mut run_session, &case);
    drop(run_session);
    let ran = report(&path);
    assert_eq!(
        (&ran["schema"], &ran["driver"]),
        (&"bantam.external".into(), &"cpu-kernels".into())
    );
    let graph = ran["graphs"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&graph["claimed"], &graph["offered"]),
        (&1.into(), &1.into())
    );
    let partition = &graph["partitions"][0];
    assert_eq!(partition["invoke"]["count"], 1);
    assert_eq!(partition["nodes"], serde_json::json!([0]));
    assert!(partition["invoke"]["min_us"].as_f64().unwrap() > 0.0);

    let denied = session(&model, &[("report", text), ("deny", "op:CONV_2D")]).unwrap();
    assert_eq!(denied.placement().delegated, 0);
    let graph = &report(&path)["graphs"][0];
    assert_eq!(graph["nodes"][0]["reason"], "it is denied by op:CONV_2D");
}

#[test]
fn a_variable_stays_with_the_runtime() {
    let mut with_state = cases().unwrap();
    with_state.retain(|case| {
        let model = Model::open(&case.model).unwrap();
        model.subgraphs[0].tensors.iter().any(|t| t.is_variable)
    });
    assert!(!with_state.is_empty());
    for case in with_state.iter().take(20) {
        let model = Model::open(&case.model).unwrap();
        let session = session(&model, &[]).unwrap();
        let nodes = session.placement().nodes.iter();
        let mut delegated =
            nodes.filter(|n| matches!(n.placed, bantam_delegate::Placed::Partition(_)));
        let subgraph = &model.subgraphs[0];
        assert!(delegated.all(|place| {
            let mut inputs = subgraph.nodes[place.index].inputs.iter().flatten();
            inputs.all(|&id| !subgraph[id].is_variable)
        }));
    }
}

#[test]
fn full_delegation_is_enforced() {
    let (_, model) = case("conv_2d_3x3_d16_o65_int8");
    let required = ("require_full_delegation", "1");
    let error = session(&model, &[required, ("deny", "index:0")])
        .err()
        .unwrap();
    assert!(
        error.contains("operator 0 (CONV_2D) is not claimed: it is denied"),
        "{error}"
    );
    assert!(session(&model, &[required]).is_ok());
}

#[test]
fn a_driver_may_be_a_delegate_that_is_ours() {
    let (case, model) = case("conv_2d_3x3_d16_o65_int8");
    let mut virtual_ = session(&model, &[("driver", "virtual:edgetpu")]).unwrap();
    assert_eq!(virtual_.placement().delegated, 1);
    assert_eq!(run(&mut virtual_, &case), on_cpu(&model, &case).unwrap());
}

/// What the entry point says of options.
fn refusal(pairs: &[(&str, &str)]) -> String {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static TURN: Mutex<()> = Mutex::new(());
    unsafe extern "C" fn keep(message: *const c_char) {
        // SAFETY: a message is a string.
        let message = unsafe { CStr::from_ptr(message) };
        SAID.lock()
            .unwrap()
            .push(message.to_str().unwrap().to_owned());
    }
    let _turn = TURN.lock().unwrap();
    let strings: Vec<[CString; 2]> = pairs
        .iter()
        .map(|&(key, value)| [key, value].map(|text| CString::new(text).unwrap()))
        .collect();
    let column = |which: usize| {
        strings
            .iter()
            .map(move |pair| pair[which].as_ptr().cast_mut())
    };
    let (mut keys, mut values): (Vec<_>, Vec<_>) = (column(0).collect(), column(1).collect());
    // SAFETY: as many strings as their number says.
    let made = unsafe {
        create(
            keys.as_mut_ptr(),
            values.as_mut_ptr(),
            keys.len(),
            Some(keep),
        )
    };
    assert!(made.is_null(), "{pairs:?}");
    let said = std::mem::take(&mut *SAID.lock().unwrap());
    assert_eq!(said.len(), 1, "{said:?}");
    said.concat()
}

#[test]
fn every_refusal_is_reported() {
    for (pairs, part) in [
        (
            &[("thread", "2")][..],
            "bantam: option thread=2: it is not known",
        ),
        (&[("threads", "-1")], "it is not a number from 1"),
        (
            &[("driver", "bantam:/nowhere.so")],
            "cannot load /nowhere.so: ",
        ),
        (&[("driver", "tpu")], "there is no driver \"tpu\""),
        (
            &[("report", "/nowhere/r.json")],
            "cannot write report /nowhere/r.json: ",
        ),
        (
            &[("inner", "/nowhere.so"), ("anything", "goes")],
            "cannot load /nowhere.so: ",
        ),
    ] {
        let said = refusal(pairs);
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn null_is_refused_everywhere() {
    // SAFETY: NULL is what all of these are specified for.
    unsafe {
        destroy(ptr::null_mut());
        assert!(create(ptr::null_mut(), ptr::null_mut(), 1, None).is_null());
        let mut keys = [ptr::null_mut()];
        assert!(create(keys.as_mut_ptr(), keys.as_mut_ptr(), 1, None).is_null());
        let delegate: *mut Delegate = create(ptr::null_mut(), ptr::null_mut(), 0, None);
        let prepare = (*delegate).prepare.unwrap();
        assert_eq!(prepare(ptr::null_mut(), delegate), abi::ERROR);
        // A context without functions.
        let mut words = [0u64; size_of::<Context>() / 8];
        assert_eq!(prepare(words.as_mut_ptr().cast(), delegate), abi::ERROR);
        destroy(delegate);
    }
}

#[test]
fn delegates_come_and_go() {
    for _ in 0..1000 {
        // SAFETY: no options.
        unsafe { destroy(create(ptr::null_mut(), ptr::null_mut(), 0, None)) };
    }
}

#[test]
fn two_threads_run_at_a_time() {
    let (case, model) = case("conv_2d_3x3_d16_o65_int8");
    let wanted = on_cpu(&model, &case).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let mut session = session(&model, &[("numerics", "reference")]).unwrap();
                    assert_eq!(run(&mut session, &case), wanted);
                }
            });
        }
    });
}

#[test]
fn a_runtime_is_served_again_after_each_resize() {
    let mut runtime = Fake::new();
    assert_eq!((runtime.offer(), runtime.kernels()), (abi::OK, 1));
    for _ in 0..3 {
        assert_eq!(runtime.prepare(), abi::OK);
    }
    assert_eq!(runtime.invoke(), abi::OK);
    assert_eq!(runtime.sum(), [31, 42]);
    // One element to each of the other's two.
    runtime.set_shape(0, &[1]);
    runtime.tensor(0).bytes = 4;
    assert_eq!((runtime.prepare(), runtime.invoke()), (abi::OK, abi::OK));
    assert_eq!(runtime.sum(), [31, 41]);
    runtime.set_shape(1, &[1]);
    runtime.tensor(1).bytes = 4;
    assert_eq!((runtime.prepare(), runtime.invoke()), (abi::OK, abi::OK));
    assert_eq!(runtime.sum(), [31]);
    assert_eq!(runtime.said(), "");
}

/// A graph that is offered, changed by the first function: what becomes of it, and what is said.
#[test]
fn a_graph_that_is_not_sound_is_an_error_or_not_claimed() {
    type Change = fn(&mut Fake);
    const WRONG: &[(&str, Change)] = &[
        (
            "the runtime's graph is not sound: a node is on tensor 7",
            |r| r.rewire(&[0, 7], &[2]),
        ),
        ("a node is on tensor -2", |r| r.rewire(&[0, -2], &[2])),
        ("it gives no execution plan", |r| r.loses_plan = true),
        ("it does not give node 0", |r| r.forget_node()),
    ];
    for (said, change) in WRONG {
        let mut runtime = Fake::new();
        change(&mut runtime);
        assert_eq!(runtime.offer(), abi::DELEGATE_ERROR, "{said}");
        let message = runtime.said();
        assert!(message.contains(said), "{message}");
    }
    const LEFT: &[Change] = &[
        |r| r.tensor(0).dtype = 99,
        |r| r.tensor(1).is_variable = true,
        |r| r.tensor(1).allocation_type = abi::allocation::DYNAMIC,
        |r| r.tensor(2).quantization.kind = 2,
        |r| r.tensor(1).sparsity = ptr::dangling_mut(),
        |r| r.set_shape(0, &[-1]),
        |r| r.set_shape(0, &[3]),
        |r| r.rewire(&[0], &[2]),
        |r| r.rewire(&[0, -1], &[2]),
        |r| r.rewire(&[], &[]),
        |r| r.node().node.builtin_data = ptr::null_mut(),
        |r| r.node().node.delegate = ptr::dangling_mut(),
        |r| r.node().node.inputs = ptr::null_mut(),
        |r| r.node().registration.builtin_code = 9999,
        |r| r.node().registration.builtin_code = -5,
        |r| r.node().registration.builtin_code = abi::BUILTIN_CUSTOM,
    ];
    for (index, change) in LEFT.iter().enumerate() {
        let mut runtime = Fake::new();
        change(&mut runtime);
        assert_eq!(
            (runtime.offer(), runtime.kernels()),
            (abi::OK, 0),
            "change {index}"
        );
        assert_eq!(runtime.said(), "", "change {index}");
    }
}

#[test]
fn a_context_that_lacks_a_function_is_not_used() {
    for word in [1, 4, 5, 7, 8] {
        let mut runtime = Fake::new();
        runtime.context_words()[word] = 0;
        assert_eq!((runtime.offer(), runtime.kernels()), (abi::ERROR, 0));
    }
}

#[test]
fn a_kernel_does_not_run_on_what_it_must_not() {
    type Change = fn(&mut Fake);
    const WRONG: &[(&str, Change)] = &[
        ("tensor 2 has no memory", |r| {
            r.tensor(2).data = ptr::null_mut()
        }),
        ("in memory that is in use", |r| {
            r.tensor(2).data = r.tensor(0).data
        }),
        ("takes 8 bytes, not 4", |r| r.tensor(1).bytes = 4),
        ("takes 8 bytes, not 4", |r| r.tensor(2).bytes = 4),
    ];
    for (said, change) in WRONG {
        let mut runtime = Fake::new();
        assert_eq!((runtime.offer(), runtime.prepare()), (abi::OK, abi::OK));
        change(&mut runtime);
        assert_eq!(runtime.invoke(), abi::ERROR, "{said}");
        let message = runtime.said();
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn what_cannot_be_prepared_is_an_error_and_no_crash() {
    let mut runtime = Fake::new();
    assert_eq!(runtime.offer(), abi::OK);
    runtime.set_shape(0, &[3]);
    runtime.set_shape(1, &[3]);
    runtime.refuses_resize = true;
    assert_eq!(runtime.prepare(), abi::ERROR);
    assert!(runtime.said().contains("refuses to resize a tensor to [3]"));
    runtime.set_shape(1, &[2]);
    assert_eq!(runtime.prepare(), abi::ERROR);
    assert!(!runtime.said().is_empty());
    drop(runtime);

    let mut runtime = Fake::new();
    runtime.init_without_params = true;
    assert_eq!((runtime.offer(), runtime.kernels()), (abi::OK, 1));
    assert!(runtime.said().contains("a kernel without parameters"));
    assert_eq!(
        (runtime.prepare(), runtime.invoke()),
        (abi::ERROR, abi::ERROR)
    );
}
