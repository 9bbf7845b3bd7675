//! The virtual accelerator, through its C interface, on the cases of single operators: what it takes it computes as LiteRT's
//! reference kernels do.

use bantam_delegate::driver;
use bantam_model::cpu::{Options, Plan};
use bantam_model::{Model, Numerics};
use bantam_tests::cases;

/// Integer types, in which results must be equal to the bit.
fn is_integer(model: &Model) -> bool {
    let graph = &model.subgraphs[0];
    graph
        .outputs
        .iter()
        .all(|&id| !graph[id].dtype.to_string().starts_with("float"))
}

#[test]
fn computes_what_litert_does() {
    for (chip, least) in [("edgetpu", 200), ("cpu", 800)] {
        let driver = driver::open(&format!("virtual:{chip}").parse().unwrap()).unwrap();
        let mut taken = 0;
        for case in cases().unwrap() {
            let model = Model::open(&case.model).unwrap();
            let verdicts = driver.supports(&model, 0).unwrap();
            assert_eq!(verdicts.len(), model.subgraphs[0].nodes.len());
            let is_whole = verdicts.iter().all(|verdict| verdict.is_supported());
            let options = Options {
                numerics: Numerics::Reference,
                ..Options::default()
            };
            // Inputs may resize a model, shapes may depend on data, and variables stay from run to run: not partitions.
            // The reference kernel of SUM reads int8 as uint8; the optimized one is right.
            let answers = match case.name.starts_with("sum/") {
                true => &case.optimized,
                false => &case.reference,
            };
            let Ok(plan) = Plan::new(&model, &options) else {
                continue;
            };
            let sizes = |ids: &[bantam_model::TensorId]| -> Vec<usize> {
                let values = ids.iter().map(|&id| plan.value(id));
                values
                    .map(|v| v.dtype.byte_len(&v.shape).unwrap())
                    .collect()
            };
            let (ins, outs) = (sizes(plan.inputs()), sizes(plan.outputs()));
            let fits = case
                .inputs
                .iter()
                .map(|i| i.bytes.len())
                .eq(ins.iter().copied())
                && case
                    .reference
                    .iter()
                    .map(|o| o.bytes.len())
                    .eq(outs.iter().copied());
            if !is_whole || !fits || case.runs != 1 || !is_integer(&model) {
                continue;
            }
            let Ok(mut executable) = driver.compile(&model, None) else {
                panic!("{}: supported, and not compiled", case.name);
            };
            let inputs: Vec<&[u8]> = case.inputs.iter().map(|i| &i.bytes[..]).collect();
            let mut outputs: Vec<Vec<u8>> = outs.iter().map(|&len| vec![0; len]).collect();
            let mut places: Vec<&mut [u8]> = outputs.iter_mut().map(|o| &mut o[..]).collect();
            executable.run(&inputs, &mut places).unwrap();
            let wanted = answers.iter().map(|o| &o.bytes);
            assert!(outputs.iter().eq(wanted), "{}", case.name);
            taken += 1;
        }
        assert!(taken >= least, "{chip}: only {taken} cases");
        println!("{chip}: {taken} cases");
    }
}
