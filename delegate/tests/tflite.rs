//! The host for TFLite's delegates: an ordinary one, one with every fault that need not be fatal, and XNNPACK's.

mod common;

use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bantam_delegate::driver::{Driver, DriverError};
use bantam_delegate::{Options, Session};
use bantam_model::cpu;
use bantam_model::ops;
use bantam_model::{DType, Model, Node, Numerics, Quantization, Subgraph, Tensor};
use common::{Libraries, cc, open_spec, sources};
use libloading::Library;

fn open(path: &Path, options: &str) -> Result<Box<dyn Driver>, DriverError> {
    open_spec(&format!("tflite:{}?try=0{options}", path.display()))
}

/// `a = relu(x + k)`, `b = logistic(a)`, `c = b * a`, `y = c + x`: the logistic stays on the CPU.
fn model() -> Model {
    let mut s = Subgraph::default();
    let k: Vec<u8> = (0..20)
        .flat_map(|i| (i as f32 - 9.5).to_le_bytes())
        .collect();
    let k = s.add_tensor(Tensor::constant("k", DType::F32, [4, 5], k));
    let mut add = |name: &str| s.add_tensor(Tensor::new(name, DType::F32, [4, 5]));
    let [x, a, b, c, y] = ["x", "a", "b", "c", "y"].map(&mut add);
    let relu = ops::Add {
        activation: ops::Activation::Relu,
        ..ops::Add::default()
    };
    s.nodes = vec![
        Node::new(relu, &[x, k], &[a]),
        Node::new(ops::Logistic, &[a], &[b]),
        Node::new(ops::Mul::default(), &[b, a], &[c]),
        Node::new(ops::Add::default(), &[c, x], &[y]),
    ];
    (s.inputs, s.outputs) = (vec![x], vec![y]);
    Model {
        subgraphs: vec![s],
        ..Model::default()
    }
}

fn input() -> Vec<u8> {
    (0..20)
        .flat_map(|i| (0.75f32 * i as f32 - 6.0).to_le_bytes())
        .collect()
}

fn session(driver: Box<dyn Driver>) -> Session {
    Session::with_driver(&model(), Arc::from(driver), &Options::default()).unwrap()
}

fn run(session: &mut Session) -> Result<Vec<u8>, cpu::RunError> {
    session.set_input(0, &input())?;
    session.run()?;
    Ok(session.output(0).to_vec())
}

fn expected() -> Vec<u8> {
    let mut session = Session::new(&model(), &Options::default()).unwrap();
    run(&mut session).unwrap()
}

/// A number that the fixture keeps.
fn number(path: &Path, name: &str) -> c_int {
    // SAFETY: the fixture has no initializers, and its variables are ints.
    unsafe {
        **Library::new(path)
            .unwrap()
            .get::<*const c_int>(name)
            .unwrap()
    }
}

#[test]
fn partitions_constants_and_attributes_reach_a_delegate() {
    let libraries = Libraries::new();
    let path = libraries.delegate("");
    let driver = open(&path, "").unwrap();
    let verdicts = driver.supports(&model(), 0).unwrap();
    let taken: Vec<bool> = verdicts.iter().map(|v| v.is_supported()).collect();
    assert_eq!(taken, [true, false, true, true]);
    assert_eq!(number(&path, "partitions"), 2);
    let mut session = session(driver);
    assert_eq!(session.placement().partitions.len(), 2);
    for _ in 0..2 {
        assert_eq!(run(&mut session).unwrap(), expected());
    }
    assert_eq!(session.report().events.len(), 0);
    drop(session);
    assert_eq!(number(&path, "open_delegates"), 0);
    assert_eq!(number(&path, "open_kernels"), 0);
}

#[test]
fn quantization_by_axis_and_the_weights_are_visible() {
    let mut s = Subgraph::default();
    let quantized = |tensor: Tensor, axis, scale: &[f32]| {
        let count = scale.len();
        tensor.quantized(Quantization {
            scale: scale.to_vec(),
            zero_point: vec![0; count],
            axis,
            ..Quantization::default()
        })
    };
    let x = s.add_tensor(quantized(Tensor::new("x", DType::I8, [1, 2]), 0, &[0.5]));
    let w = Tensor::constant("weights", DType::I8, [2, 2], vec![3, 252, 5, 6]);
    let w = s.add_tensor(quantized(w, 0, &[0.25, 0.125]));
    let y = s.add_tensor(quantized(Tensor::new("y", DType::I8, [1, 2]), 0, &[1.0]));
    let product = ops::FullyConnected {
        activation: ops::Activation::Relu6,
        ..ops::FullyConnected::default()
    };
    s.nodes = vec![Node::new(product, &[x, w], &[y])];
    (s.inputs, s.outputs) = (vec![x], vec![y]);
    let model = Model {
        subgraphs: vec![s],
        ..Model::default()
    };
    let libraries = Libraries::new();
    let driver = open(&libraries.delegate("describe"), "").unwrap();
    let error = driver.supports(&model, 0).unwrap_err().to_string();
    let seen = "w weights type 9 constant 1 axis 0 scales 2: 0.25 0.125; one scale 0; activation 3; first bytes 3 -4";
    assert!(error.ends_with(seen), "{error}");
}

#[test]
fn what_a_delegate_asks_for_wrongly_is_an_error() {
    let libraries = Libraries::new();
    for (fault, wanted) in [
        (
            "null-replace",
            "claims operators that do not exist, or twice",
        ),
        ("far-node", "claims operators that do not exist, or twice"),
        (
            "negative-node",
            "claims operators that do not exist, or twice",
        ),
        ("huge-count", "claims operators that do not exist, or twice"),
        (
            "negative-count",
            "claims operators that do not exist, or twice",
        ),
        (
            "replace-twice",
            "claims operators that do not exist, or twice",
        ),
        (
            "replace-kernel",
            "claims operators that do not exist, or twice",
        ),
        ("resize-null", "cannot be resized: the new shape is none"),
        (
            "resize-negative",
            "cannot be resized: the new shape has no size",
        ),
        ("resize-huge", "cannot be resized: there is no memory"),
        ("resize-far", "cannot be resized: it points to no tensor"),
        (
            "resize-between",
            "cannot be resized: it points to no tensor",
        ),
        ("resize-constant", "cannot be resized: it is a constant"),
        ("resize-ranks", "cannot be resized: the new shape is none"),
        ("add-negative", "looking at the graph, status 1"),
        ("add-many", "tensors can be added"),
        ("null-plan", "looking at the graph, status 1"),
        ("null-node", "looking at the graph, status 1"),
        ("null-preview", "looking at the graph, status 1"),
        ("fails", "no chip for 7"),
        ("opaque", "speaks only the opaque interface"),
        ("refuses", "no chip"),
    ] {
        let driver = open(&libraries.delegate(fault), "").unwrap();
        let error = driver.supports(&model(), 0).unwrap_err().to_string();
        assert!(error.contains(wanted), "{fault}: {error}");
    }
}

#[test]
fn what_is_strange_and_harmless_is_allowed() {
    let libraries = Libraries::new();
    for fault in ["add-some", "far-external", "plan-each-run"] {
        let mut session = session(open(&libraries.delegate(fault), "").unwrap());
        assert_eq!(run(&mut session).unwrap(), expected(), "{fault}");
        assert_eq!(session.report().events.len(), 0);
    }
    let count = |fault: &str, taken: [bool; 4]| {
        let path = libraries.delegate(fault);
        let driver = open(&path, "").unwrap();
        let verdicts = driver.supports(&model(), 0).unwrap();
        let claims: Vec<bool> = verdicts.iter().map(|v| v.is_supported()).collect();
        assert_eq!(claims, taken, "{fault}");
        assert_eq!(number(&path, "open_kernels"), 0, "{fault}");
    };
    count("nothing", [false; 4]);
    count("same-node-twice", [true, false, false, false]);
    // A kernel that claims another operator while it is made.
    count("nested", [true, false, true, false]);
}

#[test]
fn kernels_that_fail_leave_the_work_to_the_cpu() {
    let libraries = Libraries::new();
    for (fault, wanted) in [
        ("no-functions", "a kernel of the delegate has no function"),
        ("wipes-data", "where 80 are wanted"),
        ("shrinks-bytes", "has 1 bytes where 80 are wanted"),
        ("grows-output", "has 8000 bytes where 80 are wanted"),
    ] {
        let mut session = session(open(&libraries.delegate(fault), "").unwrap());
        assert_eq!(run(&mut session).unwrap(), expected(), "{fault}");
        let report = session.report();
        let error = report.events[0].error.to_string();
        assert!(error.contains(wanted), "{fault}: {error}");
    }
    let mut session = session(open(&libraries.delegate("kernel-prepare"), "").unwrap());
    assert_eq!(run(&mut session).unwrap(), expected());
    let placement = session.placement();
    assert_eq!(placement.delegated, 0);
    let reason = placement.first_reason().unwrap().1;
    assert!(
        reason.contains("preparing its operators, status 1"),
        "{reason}"
    );
}

#[test]
fn options_of_a_delegate_reach_it() {
    let libraries = Libraries::new();
    let path = libraries.delegate("");
    open(&path, "&device=usb").unwrap().devices().unwrap();
    let error = open(&path, "&colour=red").unwrap().devices().unwrap_err();
    assert!(error.to_string().ends_with("red"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_delegates_leave_nothing_behind() {
    let libraries = Libraries::new();
    let path = libraries.delegate("");
    let driver = open(&path, "").unwrap();
    let mut first = model();
    first.subgraphs[0].nodes.truncate(1);
    first.subgraphs[0].outputs = first.subgraphs[0].nodes[0].outputs.clone();
    let cycle = || {
        let mut executable = driver.compile(&first, None).unwrap();
        let mut output = vec![0; 80];
        executable.run(&[&input()], &mut [&mut output]).unwrap();
    };
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let pages = || -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse().unwrap()
    };
    (0..100).for_each(|_| cycle());
    let before = (files(), pages());
    (0..1000).for_each(|_| cycle());
    let after = (files(), pages());
    assert!(after.0 <= before.0 + 8, "files: {before:?} {after:?}");
    // Other tests run meanwhile; a leak of the tensors alone would be 1000 pages.
    assert!(after.1 < before.1 + 800, "pages: {before:?} {after:?}");
    assert_eq!(number(&path, "open_delegates"), 0);
    assert_eq!(number(&path, "open_kernels"), 0);
}

/// Models that XNNPACK of 2.6 and 2.9 claims and computes otherwise than LiteRT, whose numbers are ours (tests/data/ops).
const XNNPACK_DIFFERS: &[(&str, &str)] = &[
    ("conv_2d_3x3_grouped", "it claims groups and computes one"),
    (
        "transpose_conv_3x3_s2_same_odd_relu",
        "the activation is newer than it",
    ),
    (
        "transpose_conv_4x4_s2_same_relu6",
        "the activation is newer than it",
    ),
    (
        "prelu_shared",
        "it reads one slope for each channel where there is one",
    ),
    ("mean_same_scale_hw", "it rounds an average to another step"),
];

/// XNNPACK of `BANTAM_TFLITE_C`, a `libtensorflowlite_c.so` of 2.6 to 2.14: a delegate that others made.
#[test]
#[ignore = "needs a libtensorflowlite_c.so of TensorFlow 2.6 to 2.14 (BANTAM_TFLITE_C)"]
fn xnnpack_computes_what_the_cpu_path_does() {
    let library = std::env::var("BANTAM_TFLITE_C").expect("BANTAM_TFLITE_C");
    let folder = Libraries::new();
    let plugin = folder.path("libxnnpack_plugin.so");
    let source = sources("../tests/interop/xnnpack_plugin.c");
    let (from, to) = (source.to_str().unwrap(), plugin.to_str().unwrap());
    cc(&["-shared", "-fPIC", "-O1", "-o", to, from, "-ldl"]);
    let models = real_models();
    assert!(models.len() > 5, "{models:?}");
    let mut delegated = 0;
    let mut wrong = Vec::new();
    for path in models {
        let name = path.to_string_lossy();
        if XNNPACK_DIFFERS.iter().any(|(part, _)| name.contains(part)) {
            continue;
        }
        match compare(&plugin, &library, &path) {
            Ok(count) => delegated += count,
            Err(text) => wrong.push(format!("{}: {text}", path.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(delegated > 100, "{delegated}");
}

/// Every model of the tests' data that runs.
fn real_models() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![sources("../tests/data")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => open.push(path),
                Some(end) if end == "tflite" => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Runs a model with XNNPACK and without; how many operators XNNPACK had, or what differs.
fn compare(plugin: &Path, library: &str, path: &Path) -> Result<usize, String> {
    let Ok(model) = Model::open(path) else {
        return Ok(0);
    };
    let options = Options {
        numerics: Numerics::Fast,
        ..Options::default()
    };
    let Ok(mut plain) = Session::new(&model, &options) else {
        return Ok(0);
    };
    let driver = open(plugin, &format!("&library={library}")).unwrap();
    let session = Session::with_driver(&model, Arc::from(driver), &options);
    let mut session = session.map_err(|error| format!("{error:?}"))?;
    let inputs: Vec<Vec<u8>> = session.inputs().iter().map(numbers).collect();
    for (index, input) in inputs.iter().enumerate() {
        plain.set_input(index, input).unwrap();
        session.set_input(index, input).unwrap();
    }
    if plain.run().is_err() {
        return Ok(0);
    }
    session.run().map_err(|error| format!("{error:?}"))?;
    if let Some(event) = session.report().events.first() {
        return Err(event.error.to_string());
    }
    for (index, info) in plain.outputs().iter().enumerate() {
        let (a, b) = (plain.output(index), session.output(index));
        if info.dtype == DType::F32 {
            let floats = |bytes: &[u8]| -> Vec<f32> {
                let each = bytes.chunks_exact(4);
                each.map(|b| f32::from_ne_bytes(b.try_into().unwrap()))
                    .collect()
            };
            let (a, b) = (floats(a), floats(b));
            let most = a.iter().fold(1f32, |most, v| most.max(v.abs()));
            let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs());
            let apart = apart.fold(0f32, f32::max);
            if apart > 1e-5 * most {
                return Err(format!("{} is {apart} apart, of {most}", info.name));
            }
        } else if a != b {
            let steps = a.iter().zip(b).map(|(a, b)| a.wrapping_sub(*b) as i8);
            let wrong = steps.filter(|step| *step != 0);
            let (count, first) = (wrong.clone().count(), wrong.take(4).collect::<Vec<_>>());
            return Err(format!(
                "{count} of {} differ in {}, by {first:?}",
                a.len(),
                info.name
            ));
        }
    }
    Ok(session.placement().delegated)
}

/// Values for an input: all bytes for integers, numbers from -1 to 1 for floats.
fn numbers(info: &bantam_delegate::TensorInfo) -> Vec<u8> {
    let count: usize = info.shape.iter().product();
    match info.dtype {
        DType::F32 => (0..count)
            .flat_map(|i| (((i * 37) % 201) as f32 / 100.0 - 1.0).to_ne_bytes())
            .collect(),
        dtype => {
            let len = dtype.byte_len(&info.shape).unwrap_or(0);
            (0..len).map(|i| (i * 37) as u8).collect()
        }
    }
}
