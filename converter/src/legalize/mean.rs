//! MEAN over several axes as one MEAN after another, or as AVERAGE_POOL_2D.
//!
//! The mean of means over equal parts is the mean. In integers the means of the first axis are rounded to the
//! operand's scale, half a step that the second cannot enlarge, and both sides round the result by half a step.
//! AVERAGE_POOL_2D rounds to the operand's scale too, so it stands only where the result has the same.

use bantam_model::ops::{Activation, AveragePool2d, Mean, Op, Padding, Pool2d};

use super::draft::{Draft, Proof, Site, axis, is_alike, is_real, parameters};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    let Op::Mean(op) = &site.node().op else {
        return Vec::new();
    };
    let orders = [false, true]
        .into_iter()
        .filter_map(|last_first| split(site, op, last_first));
    pool(site).into_iter().chain(orders).collect()
}

/// The reduced axes, ascending, each once.
fn axes(site: &Site) -> Option<Vec<usize>> {
    let rank = site.tensor(0)?.shape.len();
    let axes = site.integers(1)?.into_iter().map(|a| axis(a, rank));
    let mut axes: Vec<usize> = axes.collect::<Option<_>>()?;
    axes.sort_unstable();
    axes.dedup();
    Some(axes)
}

fn split(site: &Site, op: &Mean, last_first: bool) -> Option<Draft> {
    let (input, result) = (site.tensor(0)?, site.result()?);
    if !is_real(input) || !is_real(result) {
        return None;
    }
    let axes = axes(site)?;
    let long = axes.iter().filter(|&&axis| input.shape[axis] > 1);
    let mut long: Vec<usize> = long.copied().collect();
    if long.len() < 2 {
        return None;
    }
    if last_first {
        long.reverse();
    }
    let mut draft = site.draft(Proof::Bound(rounding(site, long.len() - 1)?));
    let (mut last, mut shape) = (site.input(0)?, input.shape.clone());
    let (&final_axis, first) = long.split_last()?;
    for &axis in first {
        shape[axis] = 1;
        let mean = draft.value(input, "mean", &shape);
        let operand = draft.integers("axes", &[axis as i64])?;
        draft.push(Mean { keep_dims: true }, &[last, operand], &[mean]);
        last = mean;
    }
    // All axes are named where their dimensions shall go; those of 1 change nothing.
    let named: Vec<i64> = match op.keep_dims {
        true => vec![final_axis as i64],
        false => axes.iter().map(|&a| a as i64).collect(),
    };
    let operand = draft.integers("axes", &named)?;
    let op = Mean {
        keep_dims: op.keep_dims,
    };
    draft.push(op, &[last, operand], &[site.output()?]);
    Some(draft)
}

/// The most steps of the result that rounding `times` more makes.
fn rounding(site: &Site, times: usize) -> Option<u32> {
    match (parameters(site.tensor(0)?), parameters(site.result()?)) {
        (Some(input), Some(result)) => {
            let ratio = f64::from(input.scale) / f64::from(result.scale);
            let steps = 0.5 * ratio * times as f64 + 1.0;
            (steps < 256.0).then_some(steps as u32)
        }
        _ => Some(0),
    }
}

fn pool(site: &Site) -> Option<Draft> {
    let (input, result) = (site.tensor(0)?, site.result()?);
    let &[_, height, width, depth] = &*input.shape else {
        return None;
    };
    if axes(site)? != [1, 2] || !is_real(input) || !is_alike(input, result) {
        return None;
    }
    let mut draft = site.draft(Proof::Bound(parameters(input).is_some().into()));
    let pool = AveragePool2d(Pool2d {
        padding: Padding::Valid,
        stride_h: i32::try_from(height).ok()?,
        stride_w: i32::try_from(width).ok()?,
        filter_h: i32::try_from(height).ok()?,
        filter_w: i32::try_from(width).ok()?,
        activation: Activation::None,
    });
    let pooled_shape = [input.shape[0], 1, 1, depth];
    if result.shape == pooled_shape {
        draft.push(pool, &[site.input(0)?], &[site.output()?]);
        return Some(draft);
    }
    let pooled = draft.value(input, "pool", &pooled_shape);
    draft.push(pool, &[site.input(0)?], &[pooled]);
    draft.reshape(pooled, site.output()?, &result.shape)?;
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::{DType, Model, Node, Verdict};

    use super::super::testing::{Graph, difference, kinds, noise, run};
    use super::super::{Allowance, Chip, Exactness, Options, legalize_for};
    use super::*;

    /// A chip that takes no MEAN over two axes, and pools if it has any.
    struct OneAxis {
        pools: bool,
    }

    impl Chip for OneAxis {
        fn name(&self) -> &str {
            "one axis"
        }

        fn verdicts(&self, model: &Model) -> Vec<Verdict> {
            let graph = &model.subgraphs[0];
            let verdict = |node: &Node| {
                let long = |axis: usize, shape: &[usize]| shape[axis] > 1;
                let refused = match &node.op {
                    Op::Mean(_) => {
                        let shape = &graph[node.inputs[0].unwrap()].shape;
                        let axes = super::super::draft::integers(&graph[node.inputs[1].unwrap()]);
                        axes.unwrap()
                            .iter()
                            .filter(|&&a| long(a as usize, shape))
                            .count()
                            > 1
                    }
                    Op::AveragePool2d(_) => !self.pools,
                    _ => false,
                };
                match refused {
                    true => Verdict::Unknown("axes".into()),
                    false => Verdict::Supported,
                }
            };
            graph.nodes.iter().map(verdict).collect()
        }

        fn max_version(&self, _: &Op) -> Option<i32> {
            None
        }
    }

    fn check(
        pools: bool,
        keep_dims: bool,
        shape: [usize; 4],
        to: (f32, i32),
    ) -> (Vec<String>, Exactness, u32) {
        let mut graph = Graph::default();
        let x = graph.input(DType::I8, &shape, (0.05, -20));
        let axes = graph.integers(&[2, 1]);
        let kept = [shape[0], 1, 1, shape[3]];
        let result: &[usize] = if keep_dims {
            &kept
        } else {
            &[shape[0], shape[3]]
        };
        let y = graph.output(DType::I8, result, to);
        graph.push(Mean { keep_dims }, &[x, axes], &[y]);
        let model = graph.model();
        let options = Options {
            allow: Allowance::Any,
            ..Options::default()
        };
        let (legal, report) = legalize_for(&model, &OneAxis { pools }, &options).unwrap();
        assert!(report.left.is_empty());
        let mut worst = 0;
        for seed in 0..40 {
            let mut data = noise(shape.iter().product(), seed);
            if seed % 4 == 0 {
                // Values near each other, where rounding is all there is.
                data.iter_mut().for_each(|v| *v &= 1);
            }
            let data = [data];
            worst = worst.max(difference(&run(&model, &data), &run(&legal, &data)));
        }
        (kinds(&legal), report.exactness(), worst)
    }

    #[test]
    fn two_axes_one_after_the_other_stay_within_the_bound() {
        for keep_dims in [false, true] {
            for shape in [[1, 2, 2, 3], [1, 7, 7, 5], [2, 3, 9, 4]] {
                for scale in [0.05, 0.02, 0.1] {
                    let (kinds, exactness, worst) = check(false, keep_dims, shape, (scale, 5));
                    assert_eq!(kinds, ["MEAN", "MEAN"]);
                    let Exactness::Within(bound) = exactness else {
                        panic!("{exactness}");
                    };
                    assert!(
                        worst <= bound && bound <= 2,
                        "{shape:?} {scale}: {worst} {bound}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_pool_stands_where_the_scales_are_the_same() {
        let (kinds, exactness, worst) = check(true, true, [1, 7, 5, 3], (0.05, -20));
        assert_eq!(
            (kinds, exactness),
            (vec!["AVERAGE_POOL_2D".to_owned()], Exactness::Within(1))
        );
        assert!(worst <= 1);
        let (kinds, _, _) = check(true, false, [1, 7, 5, 3], (0.05, -20));
        assert_eq!(kinds, ["AVERAGE_POOL_2D", "RESHAPE"]);
    }
}
