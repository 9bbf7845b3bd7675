//! Conversion, with samples from here.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bindings::*;
use crate::common::{
    Error, Model, Session, convert_options, digits, integer_digits, pixels, refused, take_json,
};

fn float() -> Model {
    Model::open(digits().to_str().unwrap()).unwrap()
}

fn convert(
    model: &Model,
    options: &bantam_convert_options,
    sample: bantam_sample_fn,
) -> Result<(Model, serde_json::Value), Error> {
    let (mut made, mut report) = (null_mut(), null_mut());
    let done = call!(bantam_convert(
        model.0,
        options,
        sample,
        null_mut(),
        &mut made,
        &mut report
    ));
    assert_eq!(report.is_null(), done.is_err());
    let made = Model::made(made, done)?;
    Ok((made, take_json(report)))
}

#[test]
fn modes_types_recipes_and_targets_are_taken() {
    let float = float();
    let text = |text: &'static CStr| text.as_ptr();
    let options = bantam_convert_options {
        sample_count: 4,
        threads: 2,
        ..convert_options()
    };
    let (made, report) = convert(&float, &options, Some(pixels)).unwrap();
    assert_eq!(
        (&report["mode"], &report["schema"]),
        (&"int8".into(), &"bantam.convert".into())
    );
    assert!(made.bytes().len() < float.bytes().len());

    let strict = bantam_convert_options {
        mode: text(c"int8-only"),
        input_type: text(c"uint8"),
        ..options
    };
    let (made, _) = convert(&float, &strict, Some(pixels)).unwrap();
    let input = made.session().input(0).unwrap();
    assert_eq!((input.type_ as u32, input.scale_count), (BANTAM_UINT8, 1));

    let small = bantam_convert_options {
        mode: text(c"dynamic-range"),
        ..convert_options()
    };
    assert_eq!(
        convert(&float, &small, None).unwrap().1["mode"],
        "dynamic-range"
    );

    let recipe = bantam_convert_options {
        recipe: text(c"mode = \"float16\""),
        ..convert_options()
    };
    assert_eq!(convert(&float, &recipe, None).unwrap().1["mode"], "float16");
    let recipe = bantam_convert_options {
        recipe: text(c"{\"mode\": \"float\"}"),
        ..convert_options()
    };
    assert_eq!(convert(&float, &recipe, None).unwrap().1["mode"], "float");
    let best = bantam_convert_options {
        recipe: text(c"best"),
        ..options
    };
    let (tuned, report) = convert(&float, &best, Some(pixels)).unwrap();
    assert_eq!(report["mode"], "int8");
    assert_ne!(tuned.bytes(), integer_digits().bytes());

    let target = bantam_convert_options {
        target: text(c"edgetpu"),
        ..options
    };
    let (fitted, report) = convert(&float, &target, Some(pixels)).unwrap();
    assert_eq!(report["target"]["integer"]["target"], "edgetpu");
    let session = Session::on(&fitted, "virtual:edgetpu").unwrap();
    assert!(session.report()["delegated"].as_u64() > Some(0));
}

#[test]
fn what_is_not_known_is_refused() {
    let float = float();
    let wrong = |field: fn(&mut bantam_convert_options) -> &mut *const c_char, part: &str| {
        let mut options = bantam_convert_options {
            sample_count: 1,
            ..convert_options()
        };
        *field(&mut options) = c"nonsense".as_ptr();
        refused(
            convert(&float, &options, Some(pixels)),
            "BANTAM_INVALID_ARGUMENT",
            part,
        );
    };
    wrong(|o| &mut o.mode, "mode: ");
    wrong(|o| &mut o.input_type, "input_type: ");
    wrong(|o| &mut o.output_type, "output_type: ");
    wrong(|o| &mut o.recipe, "");
    wrong(|o| &mut o.signature, "\"nonsense\"");
    wrong(|o| &mut o.target, "nonsense");
    let options = bantam_convert_options {
        target: c"edgetpu".as_ptr(),
        allow_inexact: -2,
        ..convert_options()
    };
    refused(
        convert(&float, &options, None),
        "BANTAM_INVALID_ARGUMENT",
        "allow_inexact is -2",
    );
}

#[test]
fn a_model_that_is_integer_already_is_not_converted() {
    let options = bantam_convert_options {
        sample_count: 1,
        ..convert_options()
    };
    let twice = convert(&integer_digits(), &options, Some(pixels));
    refused(twice, "BANTAM_UNSUPPORTED", "");
}

#[test]
fn a_callback_stops_the_conversion() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C" fn stop(_: *mut c_void, _: usize, _: *const bantam_output, _: usize) -> i32 {
        i32::from(CALLS.fetch_add(1, Ordering::Relaxed) == 1)
    }
    let options = bantam_convert_options {
        sample_count: 50,
        ..convert_options()
    };
    let stopped = convert(&float(), &options, Some(stop));
    refused(
        stopped,
        "BANTAM_CANCELLED",
        "the callback stopped the conversion",
    );
    assert_eq!(CALLS.load(Ordering::Relaxed), 2);
}

#[test]
fn a_callback_that_panics_is_an_internal_error() {
    unsafe extern "C-unwind" fn panics(
        _: *mut c_void,
        _: usize,
        _: *const bantam_output,
        _: usize,
    ) -> i32 {
        panic!("no sample today")
    }
    type Unwinding =
        unsafe extern "C-unwind" fn(*mut c_void, usize, *const bantam_output, usize) -> i32;
    // SAFETY: the library calls it by an ABI that unwinds, which bindgen has no way to know.
    let panics: bantam_sample_fn = unsafe { std::mem::transmute(panics as Unwinding) };
    for threads in [1, 2] {
        let options = bantam_convert_options {
            sample_count: 4,
            threads,
            ..convert_options()
        };
        let result = convert(&float(), &options, panics);
        refused(result, "BANTAM_INTERNAL", "no sample today");
    }
    // Nothing is left of it.
    assert_eq!(integer_digits().bytes(), integer_digits().bytes());
}

#[test]
fn the_result_depends_on_nothing_else() {
    let mut made = null_mut();
    let float = float();
    let bare = call!(bantam_convert(
        float.0,
        null(),
        Some(pixels),
        null_mut(),
        &mut made,
        null_mut()
    ));
    // Without options there is no number of samples.
    refused(bare, "BANTAM_INVALID_ARGUMENT", "at least one sample");
}
