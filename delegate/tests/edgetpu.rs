//! Compiled models on a `libedgetpu` that has no chip: the real one's layouts, its order of calls, and what goes wrong with it.

mod common;
#[path = "common/compiled.rs"]
mod compiled;

use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use bantam_delegate::driver::{Driver, DriverError};
use bantam_delegate::{Deadline, OffloadError, OffloadOptions, Options, Session};
use bantam_model::cpu::RunError;
use bantam_model::ops::{Custom, Op};
use bantam_model::{Model, Node, TensorId};
use common::{Libraries, open_spec};
use compiled::{custom, pair, two_partitions, with_state};
use libloading::Library;

/// The fake library, and what it lets tests see.
struct Fake {
    path: PathBuf,
    library: Library,
    _folder: Libraries,
}

impl Fake {
    fn new(defines: &[&str]) -> Self {
        let folder = Libraries::new();
        let path = folder.edgetpu("fake", defines);
        // SAFETY: it has no initializers.
        let library = unsafe { Library::new(&path) }.unwrap();
        Self {
            path,
            library,
            _folder: folder,
        }
    }

    fn number(&self, name: &str) -> &AtomicI32 {
        // SAFETY: the fixture's variables are ints, and the library stays loaded.
        unsafe { &**self.library.get::<*const AtomicI32>(name).unwrap() }
    }

    fn get(&self, name: &str) -> i32 {
        self.number(name).load(Ordering::SeqCst)
    }

    fn set(&self, name: &str, value: i32) {
        self.number(name).store(value, Ordering::SeqCst);
    }

    fn text(&self, name: &str) -> String {
        // SAFETY: the fixture's texts end in a zero byte.
        let text = unsafe { CStr::from_ptr(*self.library.get::<*const c_char>(name).unwrap()) };
        text.to_str().unwrap().to_owned()
    }

    fn open(&self, rest: &str) -> Result<Box<dyn Driver>, DriverError> {
        let sign = if rest.contains('?') { '&' } else { '?' };
        open_spec(&format!(
            "edgetpu{rest}{sign}library={}",
            self.path.display()
        ))
    }

    fn session(&self, model: &Model, offload: OffloadOptions) -> Session {
        let driver: Arc<dyn Driver> = Arc::from(self.open("").unwrap());
        let options = Options {
            offload,
            ..Options::default()
        };
        Session::with_driver(model, driver, &options).unwrap()
    }
}

fn run(session: &mut Session, input: &[u8]) -> Result<Vec<Vec<u8>>, RunError> {
    session.set_input(0, input)?;
    session.run()?;
    let outputs = 0..session.outputs().len();
    Ok(outputs
        .map(|index| session.output(index).to_vec())
        .collect())
}

#[test]
fn each_compiled_operator_runs_on_the_device_and_the_rest_on_the_cpu() {
    let fake = Fake::new(&[]);
    let mut session = fake.session(&two_partitions(), OffloadOptions::default());
    let placement = session.placement();
    assert_eq!((placement.delegated, placement.ops), (2, 3));
    let reason = placement.first_reason().unwrap().1;
    assert!(reason.contains("not compiled for the Edge TPU"), "{reason}");
    assert_eq!(
        run(&mut session, &[1, 2, 3, 255]).unwrap(),
        [[3, 4, 5, 1]; 2]
    );
    assert_eq!(fake.get("fake_open"), 2);
    drop(session);
    assert_eq!(fake.get("fake_open"), 0);
    assert_eq!(fake.get("fake_freed_kernels"), 2);
}

#[test]
fn the_distance_of_tensors_is_known_or_found_out() {
    let newer = |tensor: &'static str| ["-DVERSION=\"CL_NUMBER=1), RuntimeVersion(14)\"", tensor];
    for defines in [newer("-DTENSOR_BYTES=112"), newer("-DTENSOR_BYTES=104")] {
        let fake = Fake::new(&defines);
        let mut session = fake.session(&two_partitions(), OffloadOptions::default());
        assert_eq!(run(&mut session, &[0; 4]).unwrap()[0], [2; 4]);
        // Found out once.
        let tries = if defines[1].ends_with("104") { 3 } else { 2 };
        assert_eq!(fake.get("fake_created"), tries);
    }
    let fake = Fake::new(&[]);
    let driver = fake.open("?tensor-stride=112").unwrap();
    let error = compile(&*driver, None).unwrap_err().to_string();
    assert!(
        error.contains("Unsupported data type in custom op handler"),
        "{error}"
    );
}

fn compile(driver: &dyn Driver, device: Option<&str>) -> Result<(), DriverError> {
    let mut model = two_partitions();
    model.subgraphs[0].nodes.truncate(1);
    model.subgraphs[0].outputs = vec![TensorId(1)];
    driver.compile(&model, device).map(drop)
}

#[test]
fn devices_are_chosen_by_bus_number_or_path() {
    let fake = Fake::new(&[]);
    fake.set("fake_devices", 4);
    let driver = fake.open("?performance=low&verbosity=2").unwrap();
    assert_eq!(
        driver.info().to_string(),
        "libedgetpu runtime 13 (CL 317268237)"
    );
    let ids: Vec<String> = driver
        .devices()
        .unwrap()
        .into_iter()
        .map(|d| d.id)
        .collect();
    assert_eq!(ids, ["usb:0", "usb:1", "pci:0"]);
    for (device, path) in [
        (None, "/sys/bus/usb/devices/9-1"),
        (Some("usb:1"), "/sys/bus/usb/devices/9-2"),
        (Some("pci"), "/dev/apex_7"),
        (Some("/dev/apex_7"), "/dev/apex_7"),
    ] {
        compile(&*driver, device).unwrap();
        assert_eq!(fake.text("fake_path"), path);
        // The library reads options of a device that is named alone, so it always is.
        assert_eq!(fake.text("fake_options"), "Performance=Low;");
    }
    assert_eq!(fake.get("fake_level"), 2);
    for device in ["usb:2", "pci:1", "/dev/apex_0", "usb:x"] {
        let error = compile(&*driver, Some(device)).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("there is no device {device}; there is ")),
            "{error}"
        );
    }
    let named = fake.open(":usb:1").unwrap();
    compile(&*named, None).unwrap();
    assert_eq!(fake.text("fake_path"), "/sys/bus/usb/devices/9-2");
}

#[test]
fn a_library_that_opens_nothing_is_explained() {
    let fake = Fake::new(&["-DFAULT=\"null\""]);
    let driver = fake.open("").unwrap();
    let error = compile(&*driver, None).unwrap_err().to_string();
    assert!(
        error.contains("/sys/bus/usb/devices/9-1 could not be opened: "),
        "{error}"
    );
    fake.set("fake_devices", 0);
    let error = compile(&*driver, None).unwrap_err().to_string();
    assert!(
        error.starts_with("there is no device Edge TPU; there is none: "),
        "{error}"
    );
    assert!(error.contains("lsusb") || error.contains("/dev"), "{error}");
}

#[test]
fn what_the_library_cannot_run_is_refused_before_it_is_called() {
    let fake = Fake::new(&[]);
    let driver = fake.open("").unwrap();
    let mut model = two_partitions();
    model.subgraphs[0].nodes[0] = Node::new(custom(14), &[TensorId(0)], &[TensorId(1)]);
    let verdicts = driver.supports(&model, 0).unwrap();
    let refusal = verdicts[0].refusal().unwrap();
    assert_eq!(refusal.rule, "runtime-version");
    assert_eq!(
        refusal.reason,
        "it needs runtime 14, and the library is runtime 13"
    );
    assert!(verdicts[2].is_supported());
    let broken = Op::Custom(Box::new(Custom {
        name: "edgetpu-custom-op".into(),
        version: 1,
        options: vec![1, 2, 3].into(),
    }));
    model.subgraphs[0].nodes[0] = Node::new(broken, &[TensorId(0)], &[TensorId(1)]);
    let verdicts = driver.supports(&model, 0).unwrap();
    assert_eq!(verdicts[0].refusal().unwrap().rule, "package");
    assert!(matches!(
        driver.compile(&model, None),
        Err(DriverError::Refused(_))
    ));
    assert_eq!(fake.get("fake_created"), 0);
}

#[test]
fn a_session_says_why_the_library_takes_nothing() {
    let fake = Fake::new(&[]);
    let mut model = two_partitions();
    model.subgraphs[0].nodes[0] = Node::new(custom(14), &[TensorId(0)], &[TensorId(1)]);
    let driver = format!("edgetpu:usb:0?library={}", fake.path.display());
    let options = Options {
        driver: driver.parse().unwrap(),
        ..Options::default()
    };
    let error = Session::new(&model, &options).err().unwrap();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("it needs runtime 14"), "{source}");
}

#[test]
fn a_device_that_fails_is_opened_again_with_all_partitions_on_it() {
    let fake = Fake::new(&[]);
    let mut session = fake.session(&two_partitions(), OffloadOptions::default());
    fake.set("fake_fails", 1);
    assert_eq!(run(&mut session, &[0; 4]).unwrap()[0], [2; 4]);
    // The first was opened again at once, the second when it was its turn.
    assert_eq!(fake.get("fake_created"), 4);
    let report = session.report();
    let reopened: Vec<u64> = report.counters.iter().map(|c| c.reopened).collect();
    assert_eq!(reopened, [1, 1]);
    let texts: Vec<String> = report.events.iter().map(|e| e.error.to_string()).collect();
    assert!(
        texts[0].contains("transfer failed: no such device"),
        "{texts:?}"
    );
    assert!(
        texts[1].contains("another partition on it failed"),
        "{texts:?}"
    );
}

#[test]
fn a_lost_device_leaves_the_work_to_the_original() {
    let fake = Fake::new(&[]);
    let mut session = fake.session(&pair(), OffloadOptions::default());
    assert!(session.placement().partitions.iter().all(|p| p.has_twin));
    assert_eq!(run(&mut session, &[7; 4]).unwrap(), [[9; 4]; 2]);
    fake.set("fake_fails", 1);
    fake.set("fake_devices", 0);
    // No device: the original copies what it is given.
    assert_eq!(run(&mut session, &[7; 4]).unwrap(), [[7; 4]; 2]);
    let report = session.report();
    assert!(matches!(report.events[0].error, DriverError::DeviceLost(_)));
    fake.set("fake_devices", 1);
    assert_eq!(run(&mut session, &[7; 4]).unwrap(), [[9; 4]; 2]);
}

#[test]
fn without_the_original_a_lost_device_is_an_error() {
    let fake = Fake::new(&[]);
    let mut session = fake.session(&two_partitions(), OffloadOptions::default());
    fake.set("fake_fails", 2);
    let Err(RunError::Custom { source, .. }) = run(&mut session, &[7; 4]) else {
        panic!("it has run");
    };
    assert!(matches!(source.reason(), Some(OffloadError::NoTwin { .. })));
}

#[test]
fn the_cpu_runs_the_original_of_a_pair() {
    let mut session = Session::new(&pair(), &Options::default()).unwrap();
    assert_eq!(session.outputs()[1].name, "more");
    assert_eq!(run(&mut session, &[5; 4]).unwrap(), [[5; 4]; 2]);
}

#[test]
fn a_state_lasts_from_run_to_run_until_it_is_reset() {
    let fake = Fake::new(&[]);
    let mut session = fake.session(&with_state(), OffloadOptions::default());
    assert!(!session.placement().partitions[0].has_twin);
    let mut next = || run(&mut session, &[0; 4]).map(|y| y[0][0]);
    // One, the zero point of h, and twice the number of earlier runs.
    assert_eq!(
        [next().unwrap(), next().unwrap(), next().unwrap()],
        [11, 13, 15]
    );
    session.reset_variables();
    let mut next = || run(&mut session, &[0; 4]).map(|y| y[0][0]);
    assert_eq!([next().unwrap(), next().unwrap()], [11, 13]);
    // A second try would begin with another state than the first.
    fake.set("fake_fails", 1);
    assert!(next().is_err());
    assert_eq!([next().unwrap(), next().unwrap()], [11, 13]);
    let deadline = Deadline {
        open: std::time::Duration::from_secs(60),
        call: std::time::Duration::from_secs(60),
    };
    let offload = OffloadOptions {
        deadline: Some(deadline),
        ..OffloadOptions::default()
    };
    let mut session = fake.session(&with_state(), offload);
    run(&mut session, &[0; 4]).unwrap();
    session.reset_variables();
    assert_eq!(run(&mut session, &[0; 4]).unwrap()[0][0], 11);
}

#[test]
fn libraries_that_are_none_are_named() {
    let fake = Fake::new(&["-DWITHOUT_FREE"]);
    let error = fake.open("").err().unwrap().to_string();
    assert!(
        error.ends_with("has no symbol edgetpu_free_delegate"),
        "{error}"
    );
    let error = open_spec("edgetpu?library=/nowhere/libedgetpu.so.1").err();
    assert!(
        error
            .unwrap()
            .to_string()
            .starts_with("cannot load /nowhere/libedgetpu.so.1: ")
    );
}

/// A real library, with a device or with a libusb that plays one. It takes the model that `BANTAM_EDGETPU_MODEL` names and must run
/// it twice alike.
#[test]
#[ignore = "needs a libedgetpu (BANTAM_LIBEDGETPU), a device, and a compiled model (BANTAM_EDGETPU_MODEL)"]
fn a_real_library_runs_a_real_model() {
    let model = std::env::var_os("BANTAM_EDGETPU_MODEL").expect("BANTAM_EDGETPU_MODEL");
    let driver: Arc<dyn Driver> = Arc::from(open_spec("edgetpu").unwrap());
    assert!(!driver.devices().unwrap().is_empty());
    let model = Model::open(Path::new(&model)).unwrap();
    let mut session = Session::with_driver(&model, driver, &Options::default()).unwrap();
    assert!(session.placement().delegated > 0);
    let info = &session.inputs()[0];
    let len = info.dtype.byte_len(&info.shape).unwrap();
    let input: Vec<u8> = (0..len).map(|i| i as u8).collect();
    let first = run(&mut session, &input).unwrap();
    assert_eq!(run(&mut session, &input).unwrap(), first);
    assert!(first[0].iter().any(|&byte| byte != first[0][0]));
}
