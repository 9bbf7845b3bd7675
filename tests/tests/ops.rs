//! Every single-operator case on the CPU path, against LiteRT's kernels.

use bantam_model::cpu::{Options, RunError, Staged};
use bantam_model::{DType, Model, Numerics};
use bantam_tests::{Array, Case, cases};

/// How far the CPU path may be from an oracle.
#[derive(Debug, Clone, Copy)]
struct Tolerance {
    steps: i64,
    relative: f64,
}

/// Cases in which the CPU path is not LiteRT's equal, and why.
const EXCEPTIONS: &[(&str, &str)] = &[];

fn run(case: &Case, numerics: Numerics, threads: usize) -> Result<Vec<(DType, Array)>, String> {
    let model = Model::open(&case.model).map_err(|e| e.to_string())?;
    let options = Options {
        numerics,
        threads,
        ..Options::default()
    };
    let explained = |e: RunError| match std::error::Error::source(&e) {
        Some(source) => format!("{e}: {source}"),
        None => e.to_string(),
    };
    let mut staged = Staged::new(&model, &options).map_err(explained)?;
    for (index, input) in case.inputs.iter().enumerate() {
        staged.set_input(index, &input.bytes).map_err(explained)?;
    }
    for _ in 0..case.runs {
        staged.run().map_err(explained)?;
    }
    let outputs = (0..).map_while(|index| staged.output(index));
    Ok(outputs
        .map(|(value, bytes)| {
            let (shape, bytes) = (value.shape.clone(), bytes.to_vec());
            (value.dtype, Array { shape, bytes })
        })
        .collect())
}

fn integers(dtype: DType, bytes: &[u8]) -> Vec<i64> {
    let each = |size: usize| bytes.chunks_exact(size);
    match dtype {
        DType::I8 => bytes.iter().map(|&b| i64::from(b as i8)).collect(),
        DType::U8 | DType::Bool => bytes.iter().map(|&b| i64::from(b)).collect(),
        DType::I16 => each(2)
            .map(|b| i64::from(i16::from_ne_bytes([b[0], b[1]])))
            .collect(),
        DType::U16 => each(2)
            .map(|b| i64::from(u16::from_ne_bytes([b[0], b[1]])))
            .collect(),
        DType::I32 => each(4)
            .map(|b| i64::from(i32::from_ne_bytes(b.try_into().unwrap())))
            .collect(),
        DType::U32 => each(4)
            .map(|b| i64::from(u32::from_ne_bytes(b.try_into().unwrap())))
            .collect(),
        _ => each(8)
            .map(|b| i64::from_ne_bytes(b.try_into().unwrap()))
            .collect(),
    }
}

/// What is wrong with `got`, if anything is.
fn difference(dtype: DType, got: &Array, want: &Array, tolerance: Tolerance) -> Option<String> {
    if got.shape != want.shape || got.bytes.len() != want.bytes.len() {
        return Some(format!(
            "shape {:?} where LiteRT has {:?}",
            got.shape, want.shape
        ));
    }
    if dtype == DType::F32 {
        let floats = |a: &Array| -> Vec<f64> {
            let each = a.bytes.chunks_exact(4);
            each.map(|b| f64::from(f32::from_ne_bytes(b.try_into().unwrap())))
                .collect()
        };
        let (got, want) = (floats(got), floats(want));
        let largest = want.iter().fold(0.0, |m: f64, v| m.max(v.abs())) + 1e-12;
        let error = got.iter().zip(&want).fold(0.0, |m: f64, (g, w)| {
            if g == w || (g.is_nan() && w.is_nan()) {
                m
            } else {
                m.max((g - w).abs() / largest)
            }
        });
        return (error.is_nan() || error > tolerance.relative)
            .then(|| format!("relative error {error:.2e}"));
    }
    let (got, want) = (integers(dtype, &got.bytes), integers(dtype, &want.bytes));
    let steps = got.iter().zip(&want).map(|(g, w)| (g - w).abs());
    let worst = steps.clone().max().unwrap_or(0);
    let count = steps.filter(|&s| s > 0).count();
    (worst > tolerance.steps).then(|| format!("{count} of {} differ, by up to {worst}", got.len()))
}

/// Runs every case with an answer of `oracle` and lists those that differ.
fn check(
    numerics: Numerics,
    oracle: impl Fn(&Case) -> &[Array],
    tolerance: impl Fn(&Case) -> Tolerance,
) {
    let mut failures = Vec::new();
    let mut count = 0;
    for case in cases().expect("the test data") {
        let want = oracle(&case);
        if want.is_empty() || EXCEPTIONS.iter().any(|(name, _)| case.name.ends_with(name)) {
            continue;
        }
        count += 1;
        match run(&case, numerics, 1) {
            Err(error) => failures.push(format!("{}: {error}", case.name)),
            Ok(got) if got.len() != want.len() => {
                failures.push(format!(
                    "{}: {} outputs, not {}",
                    case.name,
                    got.len(),
                    want.len()
                ));
            }
            Ok(got) => {
                let pairs = got.iter().zip(want);
                let each = pairs.filter_map(|((dtype, got), want)| {
                    difference(*dtype, got, want, tolerance(&case))
                });
                failures.extend(each.map(|d| format!("{}: {d}", case.name)));
            }
        }
    }
    assert!(count > 600, "only {count} cases");
    assert!(
        failures.is_empty(),
        "{} of {count} cases:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// The reference kernel of SUM reads int8 as uint8; the optimized one is the oracle.
fn reference(case: &Case) -> &[Array] {
    if case.name.starts_with("sum/") {
        &case.optimized
    } else {
        &case.reference
    }
}

fn xnnpack(case: &Case) -> &[Array] {
    if case.name.starts_with("sum/") {
        &case.optimized
    } else {
        &case.xnnpack
    }
}

#[test]
fn reference_numerics_are_those_of_the_reference_kernels() {
    check(Numerics::Reference, reference, |_| Tolerance {
        steps: 0,
        relative: 1e-5,
    });
}

#[test]
fn fast_numerics_are_those_of_xnnpack() {
    const EXACT: &[&str] = &[
        "abs/",
        "add/",
        "add_n/",
        "int16x8/",
        "conv_2d/",
        "depthwise_conv_2d/",
        "dequantize/",
        "div/",
        "elu/",
        "equal/",
        "exp/",
        "floor_div/",
        "floor_mod/",
        "fully_connected/",
        "gelu/",
        "greater/",
        "greater_equal/",
        "hard_swish/",
        "l2_normalization/",
        "leaky_relu/",
        "less/",
        "less_equal/",
        "log/",
        "log_softmax/",
        "logical_and/",
        "logical_not/",
        "logical_or/",
        "logistic/",
        "maximum/",
        "mean/",
        "minimum/",
        "mul/",
        "neg/",
        "not_equal/",
        "pow/",
        "prelu/",
        "quantize/",
        "relu/",
        "relu6/",
        "relu_0_to_1/",
        "relu_n1_to_1/",
        "rsqrt/",
        "select/",
        "select_v2/",
        "sign/",
        "softmax/",
        "sqrt/",
        "squared_difference/",
        "sub/",
        "tanh/",
        "sum/",
        "reduce_prod/",
        "average_pool_2d/",
        "embedding_lookup/",
        "resize_bilinear/",
    ];
    // For operand scales of exactly 2^-12 and 2^-11, LiteRT's optimized kernels compute in 16-bit
    // fixed point; ours take the reference's table.
    const POWERS_OF_TWO: &str = "power_of_two_int16";
    check(Numerics::Fast, xnnpack, |case| {
        // With an int32 bias, the optimized kernel of int16 rounds like none of the others.
        let exact = EXACT.iter().any(|family| case.name.starts_with(family))
            && !case.name.contains("int32_bias");
        let steps = match () {
            _ if case.name.ends_with(POWERS_OF_TWO) => 12,
            _ if exact => 0,
            _ => 1,
        };
        Tolerance {
            steps,
            relative: 1e-5,
        }
    });
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for case in cases().expect("the test data") {
        let one = run(&case, Numerics::Fast, 1);
        let three = run(&case, Numerics::Fast, 3);
        assert_eq!(one, three, "{}", case.name);
    }
}

#[test]
fn every_case_survives_writing_and_reading() {
    for case in cases().expect("the test data") {
        let model = Model::open(&case.model).unwrap();
        let again = Model::read(model.to_bytes().into()).unwrap();
        assert_eq!(model, again, "{}", case.name);
    }
}
