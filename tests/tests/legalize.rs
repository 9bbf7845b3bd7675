//! Legalized models against the originals: exact where the report says so, within its steps where it gives some; and
//! whatever the bytes, legalization ends with a model or an error.

use std::sync::Arc;

use bantam_converter::legalize::{Allowance, Exactness, Options, legalize};
use bantam_model::cpu::{Options as Run, Plan, Runner};
use bantam_model::target::Target;
use bantam_model::{DType, Model, Numerics};
use bantam_tests::cases;

/// A chip with few operators, so that much has to be rewritten.
const FEW: &str = r#"
name = "few"
title = "A chip of few operators"
about = "For tests."

[partition]
which = "all"

[[ops]]
names = ["ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "QUANTIZE",
  "RESHAPE", "SLICE", "SUB", "TILE", "TRANSPOSE_CONV"]
"#;

fn targets() -> Vec<Target> {
    let mut targets: Vec<Target> = ["edgetpu", "cpu"]
        .map(|name| Target::open(name).unwrap())
        .into();
    targets.push(Target::parse(FEW, "few").unwrap());
    targets
}

fn options() -> Options {
    Options {
        allow: Allowance::Any,
        ..Options::default()
    }
}

fn run(model: &Model, inputs: &[Vec<u8>]) -> Option<Vec<(DType, Vec<u8>)>> {
    let options = Run {
        numerics: Numerics::Reference,
        ..Run::default()
    };
    let plan = Plan::new(model, &options).ok()?;
    let mut runner = Runner::new(Arc::new(plan)).ok()?;
    for (index, input) in inputs.iter().enumerate() {
        runner.set_input(index, input).ok()?;
    }
    runner.run().ok()?;
    let outputs = model.subgraphs[0].outputs.iter().enumerate();
    let outputs = outputs.map(|(i, &id)| (model.subgraphs[0][id].dtype, runner.output(i).to_vec()));
    Some(outputs.collect())
}

/// The largest difference of integers, and of floats in parts of the largest value.
fn differences(a: &[(DType, Vec<u8>)], b: &[(DType, Vec<u8>)]) -> (i64, f32) {
    let (mut steps, mut real) = (0, 0f32);
    for ((dtype, a), (other, b)) in a.iter().zip(b) {
        assert_eq!((dtype, a.len()), (other, b.len()));
        let pairs = a.iter().zip(b);
        match dtype {
            _ if a == b => {}
            DType::I8 => {
                let each = pairs.map(|(&a, &b)| (i64::from(a as i8) - i64::from(b as i8)).abs());
                steps = steps.max(each.max().unwrap_or(0));
            }
            DType::U8 => {
                let each = pairs.map(|(&a, &b)| i64::from(a.abs_diff(b)));
                steps = steps.max(each.max().unwrap_or(0));
            }
            DType::F32 => {
                let floats = |bytes: &[u8]| -> Vec<f32> {
                    let chunks = bytes.as_chunks().0.iter();
                    chunks.map(|&c| f32::from_le_bytes(c)).collect()
                };
                let (a, b) = (floats(a), floats(b));
                let largest = a.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
                let each = a.iter().zip(&b).map(|(a, b)| (a - b).abs() / largest);
                real = real.max(each.fold(0.0, f32::max));
            }
            _ => steps = i64::MAX,
        }
    }
    (steps, real)
}

#[test]
fn legalized_operators_compute_what_the_report_says() {
    let (mut rewritten, mut exact, mut names) = (0, 0, std::collections::BTreeSet::new());
    for case in cases().unwrap() {
        let model = Model::open(&case.model).unwrap();
        let inputs: Vec<Vec<u8>> = case.inputs.iter().map(|a| a.bytes.clone()).collect();
        let Some(before) = run(&model, &inputs) else {
            continue;
        };
        for target in targets() {
            let (name, chip) = (&case.name, target.name());
            // The compiler of some chips cannot read what some cases are about.
            let Ok((legal, report)) = legalize(&model, &target, &options()) else {
                continue;
            };
            let read = Model::read(legal.to_bytes().into()).unwrap();
            assert_eq!(read, legal, "{name} for {chip}");
            if report.applied.is_empty() {
                continue;
            }
            rewritten += 1;
            names.extend(report.applied.iter().map(|a| a.rewrite));
            let after =
                run(&legal, &inputs).unwrap_or_else(|| panic!("{name} for {chip} does not run"));
            let (steps, real) = differences(&before, &after);
            match report.exactness() {
                Exactness::Exact => assert_eq!((steps, real), (0, 0.0), "{name} for {chip}"),
                Exactness::Rounding => assert!(real < 1e-5, "{name} for {chip}: {real}"),
                Exactness::Within(k) => assert!(steps <= k.into(), "{name} for {chip}: {steps}"),
                Exactness::Changed => assert!(real < 0.1, "{name} for {chip}: {real}"),
            }
            exact += usize::from(report.exactness() <= Exactness::Rounding);
        }
    }
    assert!(
        rewritten > 60 && exact > 40,
        "{rewritten} rewritten, {exact} exact"
    );
    for name in [
        "clamp",
        "hard-swish",
        "leaky-relu",
        "mean",
        "split",
        "pack",
        "reshape",
        "transpose",
        "gelu",
    ] {
        assert!(names.contains(name), "{name} was never applied: {names:?}");
    }
}

#[test]
fn broken_models_are_legalized_or_refused() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit.max(1) as u64) as usize
    };
    let few = Target::parse(FEW, "few").unwrap();
    let mut legalized = 0;
    for case in cases().unwrap().iter().step_by(5) {
        let bytes = std::fs::read(&case.model).unwrap();
        for _ in 0..4 {
            let mut broken = bytes.clone();
            for _ in 0..1 + random(4) {
                let place = random(broken.len());
                broken[place] ^= 1 << random(8);
            }
            if let Ok(model) = Model::read(broken.into()) {
                legalized += usize::from(legalize(&model, &few, &options()).is_ok());
            }
        }
    }
    assert!(legalized > 20, "{legalized}");
}
