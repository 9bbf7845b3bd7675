//! NEG as MUL by -1, SQUARE as MUL by itself, DIV by a constant as MUL by its reciprocal.

use bantam_model::ops::{Activation, Mul, Op};
use bantam_model::{DType, Tensor};

use super::draft::{Draft, Proof, Site, is_real, parameters};
use crate::quantize::values;

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    match &site.node().op {
        Op::Neg(_) => neg(site).into_iter().collect(),
        Op::Square(_) => square(site).into_iter().collect(),
        Op::Div(op) => div(site, op.activation).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn is_real_op(site: &Site) -> Option<()> {
    (is_real(site.tensor(0)?) && is_real(site.result()?)).then_some(())
}

fn neg(site: &Site) -> Option<Draft> {
    is_real_op(site)?;
    let mut draft = site.draft(Proof::Pointwise);
    let minus_one = draft.factor(site.tensor(0)?, -1.0);
    draft.push(
        Mul::default(),
        &[site.input(0)?, minus_one],
        &[site.output()?],
    );
    Some(draft)
}

fn square(site: &Site) -> Option<Draft> {
    is_real_op(site)?;
    let x = site.input(0)?;
    let mut draft = site.draft(Proof::Pointwise);
    draft.push(Mul::default(), &[x, x], &[site.output()?]);
    Some(draft)
}

fn div(site: &Site, activation: Activation) -> Option<Draft> {
    is_real_op(site)?;
    let reciprocal = 1.0 / constant(site.tensor(1)?)?;
    if !reciprocal.is_finite() {
        return None;
    }
    let mut draft = site.draft(Proof::Pointwise);
    let factor = draft.factor(site.tensor(0)?, reciprocal);
    draft.push(
        Mul { activation },
        &[site.input(0)?, factor],
        &[site.output()?],
    );
    Some(draft)
}

/// The one real value of a constant.
fn constant(tensor: &Tensor) -> Option<f32> {
    match (tensor.dtype, tensor.data.as_deref()?) {
        (DType::F32, _) => match *values(tensor) {
            [value] => Some(value),
            _ => None,
        },
        (DType::I8, &[byte]) => Some(parameters(tensor)?.dequantize(i32::from(byte as i8))),
        (DType::U8, &[byte]) => Some(parameters(tensor)?.dequantize(i32::from(byte))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bantam_model::DType;
    use bantam_model::ops::Div;

    use super::super::Exactness;
    use super::super::testing::{Graph, kinds, legalized, over_all_bytes};

    #[test]
    fn all_quotients_by_a_constant_are_measured() {
        for (divisor, scale) in [(100, 0.03), (-7, 0.5), (127, 0.0078)] {
            let mut graph = Graph::default();
            let x = graph.input(DType::I8, &[1, 256], (0.05, 3));
            let by = graph.constant(&[], &[divisor], (scale, 0));
            let y = graph.output(DType::I8, &[1, 256], (0.03, -5));
            graph.push(Div::default(), &[x, by], &[y]);
            let model = graph.model();
            let (legal, report) = legalized(&model, &["DIV"]);
            assert_eq!(kinds(&legal), ["MUL"]);
            let found = over_all_bytes(&model, &legal);
            assert_eq!(report.exactness(), Exactness::steps(found));
            assert!(found <= 1, "{divisor} {scale}: {found}");
        }
    }
}
