//! Sessions: what they take and give, when they are busy, and where their operators run.

use std::ffi::{CString, c_char, c_void};
use std::mem::offset_of;
use std::ptr::{null, null_mut};
use std::sync::mpsc;
use std::thread;

use crate::bindings::*;
use crate::common::{
    Error, Model, Session, buffers, convert_options, converted_digits, digits, dims,
    integer_digits, refused, reshape, room, session_options, text,
};

fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect()
}

#[test]
fn tensors_are_described() {
    let model = integer_digits();
    let session = model.session();
    // SAFETY: the pointers live until the session is run.
    unsafe {
        assert_eq!(bantam_session_input_count(session.0), 1);
        assert_eq!(bantam_session_output_count(session.0), 1);
        let input = session.input(0).unwrap();
        assert!(!text(input.name).is_empty());
        let shape = std::slice::from_raw_parts(input.shape, input.rank);
        assert_eq!(input.type_ as u32, BANTAM_FLOAT32);
        assert_eq!(input.byte_size, shape.iter().product::<usize>() * 4);
        assert_eq!(input.scale_count, 0);
    }
    refused(
        session.input(1),
        "BANTAM_INVALID_ARGUMENT",
        "input 1 of a model with 1 inputs",
    );
    refused(session.output(9), "BANTAM_INVALID_ARGUMENT", "output 9");
}

#[test]
fn a_shape_that_depends_on_data_is_that_of_the_last_run() {
    let session = reshape().session();
    let x = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    for shape in [[3, 2], [1, 6]] {
        let y = session.run(&[&x, &dims(shape)]).unwrap();
        assert_eq!(y, std::slice::from_ref(&x));
        let output = session.output(0).unwrap();
        // SAFETY: the session was not run since.
        let found = unsafe { std::slice::from_raw_parts(output.shape, output.rank) };
        assert_eq!(found, shape.map(|dim| dim as usize));
    }
}

#[test]
fn a_session_that_failed_runs_again() {
    let session = reshape().session();
    let x = floats(&[0.5; 6]);
    let failed = session.run(&[&x, &dims([0, 0])]);
    refused(failed, "BANTAM_RUN", "operator 0 (RESHAPE)");
    refused(
        session.run(&[&x]),
        "BANTAM_INVALID_ARGUMENT",
        "1 inputs for a model with 2",
    );
    let short = session.run(&[&x[1..], &dims([2, 3])]);
    refused(
        short,
        "BANTAM_INVALID_ARGUMENT",
        "input 0 takes 24 bytes, not 23",
    );
    let small = session.run_into(&[&x, &dims([2, 3])], &mut [vec![0; 23]]);
    refused(
        small,
        "BANTAM_INVALID_ARGUMENT",
        "output 0 takes 24 bytes, not 23",
    );
    let mut y = [vec![0; 24]];
    session.run_into(&[&x, &dims([2, 3])], &mut y).unwrap();
    assert_eq!(y[0], x);
}

#[test]
fn outputs_that_share_memory_are_refused() {
    let session = reshape().session();
    let mut bytes = [0u8; 24 + 8];
    let data = bytes.as_mut_ptr();
    let shape = dims([2, 3]);
    let inputs = [
        bantam_input {
            data: data.cast(),
            size: 24,
        },
        bantam_input {
            data: shape.as_ptr().cast(),
            size: 8,
        },
    ];
    let output = bantam_output {
        data: data.wrapping_add(8).cast(),
        size: 24,
    };
    let run = call!(bantam_session_run(
        session.0,
        inputs.as_ptr(),
        2,
        &output,
        1
    ));
    refused(run, "BANTAM_INVALID_ARGUMENT", "output 0 shares memory");
}

#[test]
fn options_are_checked() {
    let model = reshape();
    let refuse = |options: bantam_session_options, status: &str, part: &str| {
        refused(Session::new(&model, &options), status, part);
    };
    let wrong = "BANTAM_INVALID_ARGUMENT";
    let options = session_options();
    let with = |driver: &'static std::ffi::CStr| bantam_session_options {
        driver: driver.as_ptr(),
        ..session_options()
    };
    refuse(
        bantam_session_options {
            struct_size: 0,
            ..options
        },
        wrong,
        "_INIT",
    );
    refuse(
        bantam_session_options {
            numerics: 2,
            ..options
        },
        wrong,
        "numerics 2",
    );
    refuse(with(c"quantum"), wrong, "quantum");
    refuse(with(c"bantam:/nowhere.so"), "BANTAM_DRIVER", "/nowhere.so");
    let signature = c"other".as_ptr();
    refuse(
        bantam_session_options {
            signature,
            ..options
        },
        wrong,
        "\"other\"; there is reshape",
    );
    let full = bantam_session_options {
        require_full_delegation: 1,
        ..options
    };
    refuse(full, "BANTAM_NOT_DELEGATED", "1 op on the CPU path");
    let selectors = [c"op:RESHAPE".as_ptr(), c"what".as_ptr()];
    let deny = bantam_session_options {
        deny: selectors.as_ptr(),
        deny_len: 2,
        ..options
    };
    refuse(deny, wrong, "deny: \"what\"");
    let allow = bantam_session_options {
        allow_len: 1,
        ..options
    };
    refuse(allow, wrong, "allow is NULL");
    let nothing = [null::<c_char>()];
    let allow = bantam_session_options {
        allow: nothing.as_ptr(),
        allow_len: 1,
        ..options
    };
    refuse(allow, wrong, "allow is NULL");
}

#[test]
fn the_first_version_of_the_options_still_serves() {
    let model = integer_digits();
    let options = bantam_session_options {
        struct_size: offset_of!(bantam_session_options, min_partition_ops),
        driver: c"virtual".as_ptr(),
        // Behind the size, so not there.
        min_partition_ops: 1000,
        deny_len: 1000,
        ..session_options()
    };
    let session = Session::new(&model, &options).unwrap();
    assert!(session.report()["delegated"].as_u64() > Some(0));
}

#[test]
fn an_option_of_a_later_version_is_refused_and_its_absence_is_not() {
    #[repr(C)]
    struct Later {
        options: bantam_session_options,
        later: usize,
    }
    let model = reshape();
    let mut later = Later {
        options: bantam_session_options {
            struct_size: size_of::<Later>(),
            ..session_options()
        },
        later: 0,
    };
    let made = |later: &Later| {
        let mut session = null_mut();
        let made = call!(bantam_session_new(
            model.0,
            (&raw const *later).cast(),
            &mut session
        ));
        made.map(|()| Session(session))
    };
    assert!(made(&later).is_ok());
    later.later = 1;
    refused(made(&later), "BANTAM_INVALID_ARGUMENT", "does not know");
}

#[test]
fn numerics_threads_and_a_signature_are_taken() {
    let float = Model::open(digits().to_str().unwrap()).unwrap();
    let pixels: Vec<f32> = (0..64).map(|at| (at % 17) as f32).collect();
    let expected = float.session().run(&[&floats(&pixels)]).unwrap();
    let options = bantam_session_options {
        threads: 2,
        ..session_options()
    };
    let session = Session::new(&float, &options).unwrap();
    assert_eq!(session.run(&[&floats(&pixels)]).unwrap(), expected);
    let options = bantam_session_options {
        numerics: 1,
        ..session_options()
    };
    let session = Session::new(&integer_digits(), &options).unwrap();
    assert_eq!(
        session.run(&[&floats(&pixels)]).unwrap()[0].len(),
        expected[0].len()
    );
    let options = bantam_session_options {
        signature: c"reshape".as_ptr(),
        ..session_options()
    };
    assert!(Session::new(&reshape(), &options).is_ok());
}

/// All operators of a session, as (name, placed, reason).
fn placements(session: &Session) -> Vec<(String, u32, Option<String>)> {
    // SAFETY: the session lives.
    let count = unsafe { bantam_session_op_count(session.0) };
    let each = (0..count).map(|index| {
        let mut placement = bantam_placement {
            struct_size: size_of::<bantam_placement>(),
            // SAFETY: zero is a value of each field.
            ..unsafe { std::mem::zeroed() }
        };
        call!(bantam_session_placement(session.0, index, &mut placement)).unwrap();
        let is_placed = placement.placed as u32 == BANTAM_PLACED_PARTITION;
        assert_eq!(placement.partition >= 0, is_placed);
        // SAFETY: the session lives, and was not resized.
        unsafe {
            let reason = (!placement.reason.is_null()).then(|| text(placement.reason));
            (text(placement.op), placement.placed as u32, reason)
        }
    });
    each.collect()
}

#[test]
fn every_operator_is_placed_with_a_reason() {
    let model = integer_digits();
    let session = Session::on(&model, "virtual").unwrap();
    let all = placements(&session);
    assert!(
        all.iter()
            .any(|(_, placed, _)| *placed == BANTAM_PLACED_PARTITION)
    );
    assert!(
        session.summary().contains("on virtual"),
        "{}",
        session.summary()
    );
    let report = session.report();
    assert_eq!(report["schema"], "bantam.session");
    assert_eq!(report["nodes"].as_array().unwrap().len(), all.len());

    let kind = all
        .iter()
        .find(|(_, placed, _)| *placed == BANTAM_PLACED_PARTITION)
        .unwrap();
    let deny = CString::new(format!("op:{}", kind.0)).unwrap();
    let deny = [deny.as_ptr()];
    let options = bantam_session_options {
        driver: c"virtual".as_ptr(),
        deny: deny.as_ptr(),
        deny_len: 1,
        ..session_options()
    };
    let session = Session::new(&model, &options).unwrap();
    for (op, placed, reason) in placements(&session).iter().filter(|(op, ..)| *op == kind.0) {
        assert_eq!(
            (*placed, reason.is_some()),
            (BANTAM_PLACED_CPU, true),
            "{op}"
        );
    }

    let options = bantam_session_options {
        driver: c"virtual".as_ptr(),
        min_partition_ops: 1000,
        ..session_options()
    };
    let session = Session::new(&model, &options).unwrap();
    assert_eq!(session.report()["delegated"], 0);
    let reasons: Vec<_> = placements(&session)
        .into_iter()
        .filter_map(|(.., r)| r)
        .collect();
    assert!(
        reasons
            .iter()
            .any(|r| r.contains("smaller than the least of 1000")),
        "{reasons:?}"
    );

    let past = call!(bantam_session_placement(session.0, 1000, null_mut()));
    refused(past, "BANTAM_INVALID_ARGUMENT", "operator 1000 of");
}

/// The names of all keys in `value`.
fn keys(value: &serde_json::Value, all: &mut std::collections::BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                all.insert(key.clone());
                // These are the driver's names.
                if key != "driver_cost" {
                    keys(value, all);
                }
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| keys(value, all)),
        _ => {}
    }
}

#[test]
fn the_guide_has_every_key_of_the_report() {
    let session = Session::on(&integer_digits(), "virtual?fault=fail").unwrap();
    session.run(&[&floats(&[3.0; 64])]).unwrap();
    let mut all = std::collections::BTreeSet::new();
    keys(&session.report(), &mut all);
    let guide = include_str!("../../../docs/c-api.md");
    for key in all {
        assert!(guide.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn without_a_driver_nothing_was_asked() {
    let session = reshape().session();
    assert_eq!(placements(&session), []);
    assert_eq!(session.summary(), "cpu: 1 op on the CPU path");
}

#[test]
fn a_driver_that_lies_is_found_out() {
    let model = integer_digits();
    let pixels = floats(&[3.0; 64]);
    let expected = {
        let options = bantam_session_options {
            numerics: 1,
            ..session_options()
        };
        Session::new(&model, &options)
            .unwrap()
            .run(&[&pixels])
            .unwrap()
    };
    let options = bantam_session_options {
        driver: c"virtual?fault=garbage".as_ptr(),
        numerics: 1,
        check_every: 1,
        ..session_options()
    };
    let session = Session::new(&model, &options).unwrap();
    assert_eq!(session.run(&[&pixels]).unwrap(), expected);
    let runs = &session.report()["partitions"][0]["runs"];
    assert!(runs["wrong"].as_u64() > Some(0), "{runs}");
}

#[test]
fn a_driver_that_fails_is_made_up_for_unless_that_is_forbidden() {
    let model = integer_digits();
    let pixels = floats(&[3.0; 64]);
    let session = Session::on(&model, "virtual?fault=fail").unwrap();
    assert!(session.run(&[&pixels]).is_ok());
    assert!(session.report()["events"].as_array().unwrap().len() > 1);

    let options = bantam_convert_options {
        mode: c"int8-only".as_ptr(),
        ..convert_options()
    };
    let model = converted_digits(&options);
    let options = bantam_session_options {
        driver: c"virtual?fault=fail&after=1".as_ptr(),
        require_full_delegation: 1,
        ..session_options()
    };
    let session = Session::new(&model, &options).unwrap();
    session.run(&[&[3; 64]]).unwrap();
    let failed = session.run(&[&[3; 64]]);
    refused(
        failed,
        "BANTAM_NOT_DELEGATED",
        "would have to run on the CPU path",
    );
}

#[test]
fn an_input_takes_another_shape_or_the_session_stays() {
    let session = reshape().session();
    let resize = |index, shape: &[usize]| {
        call!(bantam_session_resize_input(
            session.0,
            index,
            shape.as_ptr(),
            shape.len()
        ))
    };
    let x = floats(&[1.0; 6]);
    refused(
        resize(2, &[4, 3]),
        "BANTAM_INVALID_ARGUMENT",
        "input 2 of a model with 2 inputs",
    );
    assert!(resize(0, &[12]).is_err());
    refused(
        resize(0, &[usize::MAX, usize::MAX]),
        "BANTAM_UNSUPPORTED",
        "",
    );
    refused(resize(0, &[1 << 40, 1 << 20]), "BANTAM_UNSUPPORTED", "");
    assert_eq!(session.run(&[&x, &dims([3, 2])]).unwrap(), [x]);
    resize(0, &[4, 3]).unwrap();
    assert_eq!(session.input(0).unwrap().byte_size, 48);
    let x = floats(&[2.0; 12]);
    let mut y = [vec![0; 48]];
    session.run_into(&[&x, &dims([6, 2])], &mut y).unwrap();
    assert_eq!(y, [x]);
}

#[test]
fn variables_are_kept_between_runs_until_they_are_reset() {
    let path = "/../tests/data/ops/variable/variable_running_sum_4_runs_f32.tflite";
    let model = Model::open(&format!("{}{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let session = model.session();
    let ones = floats(&vec![1.0; session.input(0).unwrap().byte_size / 4]);
    let first = session.run(&[&ones]).unwrap();
    let second = session.run(&[&ones]).unwrap();
    assert_ne!(first, second);
    call!(bantam_session_reset_variables(session.0)).unwrap();
    assert_eq!(session.run(&[&ones]).unwrap(), first);
}

/// What `done` was told, and by whom.
type Told = (bantam_status, Option<String>, thread::ThreadId);

unsafe extern "C" fn tell(user: *mut c_void, status: bantam_status, error: *const bantam_error) {
    // SAFETY: a sender that outlives the run, and an error that lives during the call.
    unsafe {
        let told = &*user.cast::<mpsc::Sender<Told>>();
        let message = (!error.is_null()).then(|| text(bantam_error_message(error)));
        told.send((status, message, thread::current().id()))
            .unwrap();
    }
}

/// Begins a run on another thread.
fn begin(
    session: &Session,
    inputs: &[&[u8]],
    outputs: &mut [Vec<u8>],
    done: bantam_done_fn,
    user: *mut c_void,
) -> Result<(), Error> {
    let (given, taken) = (buffers(inputs), room(outputs));
    call!(bantam_session_run_async(
        session.0,
        given.as_ptr(),
        given.len(),
        taken.as_ptr(),
        taken.len(),
        done,
        user
    ))
}

#[test]
fn a_run_on_another_thread_tells_when_it_is_over() {
    let session = reshape().session();
    let (sender, receiver) = mpsc::channel::<Told>();
    let user = (&raw const sender).cast_mut().cast();
    let x = floats(&[2.0; 6]);
    let (shape, wrong) = (dims([6, 1]), dims([5, 5]));
    for done in [None, Some(tell as _)] {
        let mut y = [vec![0; 24]];
        begin(&session, &[&x, &shape], &mut y, done, user).unwrap();
        call!(bantam_session_wait(session.0)).unwrap();
        assert_eq!(y[0], x);
    }
    let (status, message, by) = receiver.recv().unwrap();
    assert_eq!((status as u32, message), (BANTAM_OK, None));
    assert_ne!(by, thread::current().id());

    let mut y = [vec![0; 24]];
    begin(&session, &[&x, &wrong], &mut y, Some(tell), user).unwrap();
    refused(
        call!(bantam_session_wait(session.0)),
        "BANTAM_RUN",
        "RESHAPE",
    );
    let (status, message, _) = receiver.recv().unwrap();
    assert_eq!(status as u32, BANTAM_RUN);
    assert!(message.unwrap().contains("RESHAPE"));
    call!(bantam_session_wait(session.0)).unwrap();
    assert!(receiver.try_recv().is_err());
}

#[test]
fn a_panic_of_done_is_the_status_of_the_run() {
    unsafe extern "C-unwind" fn panics(_: *mut c_void, _: bantam_status, _: *const bantam_error) {
        panic!("done for")
    }
    type Unwinding = unsafe extern "C-unwind" fn(*mut c_void, bantam_status, *const bantam_error);
    // SAFETY: the library calls it by an ABI that unwinds, which bindgen has no way to know.
    let panics: bantam_done_fn = unsafe { std::mem::transmute(panics as Unwinding) };
    let session = reshape().session();
    let (x, shape) = (floats(&[2.0; 6]), dims([6, 1]));
    let mut y = [vec![0; 24]];
    begin(&session, &[&x, &shape], &mut y, panics, null_mut()).unwrap();
    refused(
        call!(bantam_session_wait(session.0)),
        "BANTAM_INTERNAL",
        "done for",
    );
    session.run(&[&x, &shape]).unwrap();
}

#[test]
fn a_session_is_busy_while_it_runs_and_is_freed_after() {
    let model = integer_digits();
    let session = Session::on(&model, "virtual?fault=delay&delay=400").unwrap();
    let pixels = floats(&[1.0; 64]);
    let size = session.output(0).unwrap().byte_size;
    let ops = {
        // SAFETY: the session lives.
        unsafe { bantam_session_op_count(session.0) }
    };
    assert!(ops > 0);
    let (mut slow, mut quick) = ([vec![0xaa; size]], [vec![0; size]]);
    begin(&session, &[&pixels], &mut slow, None, null_mut()).unwrap();
    refused(
        session.run_into(&[&pixels], &mut quick),
        "BANTAM_BUSY",
        "in use",
    );
    let again = begin(&session, &[&pixels], &mut quick, None, null_mut());
    refused(again, "BANTAM_BUSY", "in use");
    refused(session.input(0), "BANTAM_BUSY", "in use");
    refused(
        call!(bantam_session_reset_variables(session.0)),
        "BANTAM_BUSY",
        "in use",
    );
    // SAFETY: the session lives.
    unsafe {
        assert_eq!(bantam_session_input_count(session.0), 1);
        assert_eq!(bantam_session_output_count(session.0), 1);
        assert_eq!(bantam_session_op_count(session.0), 0);
    }
    assert_eq!(session.summary(), "");
    drop(session);
    assert_ne!(slow[0], vec![0xaa; size]);
}

#[test]
fn two_sessions_run_on_two_threads() {
    let model = Model::open(digits().to_str().unwrap()).unwrap();
    let expected: Vec<_> = (0..8)
        .map(|at| model.session().run(&[&floats(&[at as f32; 64])]).unwrap())
        .collect();
    thread::scope(|scope| {
        for _ in 0..2 {
            let session = model.session();
            let expected = &expected;
            scope.spawn(move || {
                let session = session;
                for round in 0..40 {
                    let at = round % expected.len();
                    let found = session.run(&[&floats(&[at as f32; 64])]).unwrap();
                    assert_eq!(found, expected[at]);
                }
            });
        }
    });
}
