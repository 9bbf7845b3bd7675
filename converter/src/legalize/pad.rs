//! PAD or PADV2 before a convolution or MAX_POOL_2D as the SAME padding of that operator.
//!
//! Holds where SAME puts as much before the first element as PAD did and makes as many windows. What PAD adds stands
//! for 0, and so does what a convolution finds beyond the edge. A pool ignores it, which is the same where no element
//! is below it: the integers of the type begin at the zero point.

use bantam_model::ops::{Conv2d, DepthwiseConv2d, MaxPool2d, Op, Padding};
use bantam_model::{DType, NodeId, Tensor};

use super::draft::{Draft, Proof, Site, is_alike, limits, parameters};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    draft(site).into_iter().collect()
}

/// Windows along height and width.
struct Windows {
    filter: [usize; 2],
    stride: [i32; 2],
    dilation: [i32; 2],
}

fn draft(site: &Site) -> Option<Draft> {
    if !matches!(site.node().op, Op::Pad(_) | Op::PadV2(_)) {
        return None;
    }
    let (input, padded) = (site.tensor(0)?, site.output()?);
    let paddings = site.integers(1)?;
    let &[0, 0, top, bottom, left, right, 0, 0] = &*paddings else {
        return None;
    };
    if !site.is_private(padded) || !is_alike(input, site.result()?) || !adds_zero(site)? {
        return None;
    }
    let readers = site.graph.nodes.iter();
    let reader = readers.clone().position(|n| n.input(0) == Some(padded))?;
    let node = &site.graph.nodes[reader];
    let (windows, op) = same(site, node.op.clone(), node.input(1))?;
    if matches!(op, Op::MaxPool2d(_)) && !is_lowest_zero(input) {
        return None;
    }
    for (axis, [before, after]) in [[top, bottom], [left, right]].into_iter().enumerate() {
        let len = *input.shape.get(axis + 1)?;
        let (before, after) = (usize::try_from(before).ok()?, usize::try_from(after).ok()?);
        let stride = usize::try_from(windows.stride[axis])
            .ok()
            .filter(|&s| s > 0)?;
        let dilation = usize::try_from(windows.dilation[axis])
            .ok()
            .filter(|&d| d > 0)?;
        let reach = windows.filter[axis]
            .checked_sub(1)?
            .checked_mul(dilation)?
            .checked_add(1)?;
        let valid = len
            .checked_add(before)?
            .checked_add(after)?
            .checked_sub(reach)?
            / stride
            + 1;
        let same = len.div_ceil(stride);
        let total = ((same.checked_sub(1)?) * stride + reach).saturating_sub(len);
        if valid != same || before != total / 2 {
            return None;
        }
    }
    let mut draft = site.draft(Proof::Same);
    draft.removes.push(NodeId(reader as u32));
    let mut node = node.clone();
    node.op = op;
    *node.inputs.first_mut()? = site.input(0);
    draft.nodes.push(node);
    Some(draft)
}

/// The windows of an operator with VALID padding, and the operator with SAME.
fn same(site: &Site, op: Op, weights: Option<bantam_model::TensorId>) -> Option<(Windows, Op)> {
    let filter = || -> Option<[usize; 2]> {
        match *site.graph[weights?].shape {
            [_, height, width, _] => Some([height, width]),
            _ => None,
        }
    };
    match op {
        Op::Conv2d(op) if op.padding == Padding::Valid => {
            let windows = Windows {
                filter: filter()?,
                stride: [op.stride_h, op.stride_w],
                dilation: [op.dilation_h, op.dilation_w],
            };
            let padding = Padding::Same;
            Some((windows, Conv2d { padding, ..op }.into()))
        }
        Op::DepthwiseConv2d(op) if op.padding == Padding::Valid => {
            let windows = Windows {
                filter: filter()?,
                stride: [op.stride_h, op.stride_w],
                dilation: [op.dilation_h, op.dilation_w],
            };
            let padding = Padding::Same;
            Some((windows, DepthwiseConv2d { padding, ..op }.into()))
        }
        Op::MaxPool2d(MaxPool2d(mut pool)) if pool.padding == Padding::Valid => {
            let windows = Windows {
                filter: [
                    usize::try_from(pool.filter_h).ok()?,
                    usize::try_from(pool.filter_w).ok()?,
                ],
                stride: [pool.stride_h, pool.stride_w],
                dilation: [1, 1],
            };
            pool.padding = Padding::Same;
            Some((windows, MaxPool2d(pool).into()))
        }
        _ => None,
    }
}

/// Whether what is added stands for 0.
fn adds_zero(site: &Site) -> Option<bool> {
    let Some(constant) = site.tensor(2) else {
        return Some(true);
    };
    let data = constant.data.as_deref()?;
    match constant.dtype {
        DType::F32 => Some(data.iter().all(|&b| b == 0)),
        DType::I8 => Some(data == [parameters(constant)?.zero_point as u8]),
        DType::U8 => Some(data == [parameters(constant)?.zero_point as u8]),
        _ => None,
    }
}

/// Whether no integer of the type stands for less than 0.
fn is_lowest_zero(tensor: &Tensor) -> bool {
    let both = limits(tensor.dtype).zip(parameters(tensor));
    both.is_some_and(|((min, _), parameters)| parameters.zero_point == min)
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::{Activation, Pad, Pool2d};
    use bantam_model::{Model, Quantization};

    use super::super::testing::{Graph, kinds, legalized, noise, run};
    use super::*;

    fn conv(
        len: usize,
        [before, after]: [i32; 2],
        filter: usize,
        stride: i32,
        dilation: i32,
    ) -> Option<Model> {
        let reach = (filter - 1) * dilation as usize + 1;
        let padded = len + before as usize + after as usize;
        let windows = padded.checked_sub(reach)? / stride as usize + 1;
        let mut graph = Graph::default();
        let x = graph.input(DType::I8, &[1, len, len, 2], (0.05, 7));
        let paddings = graph.paddings([0, 0, before, after, before, after, 0, 0]);
        let middle = graph.tensor("padded", DType::I8, &[1, padded, padded, 2], (0.05, 7));
        let weights = noise(3 * filter * filter * 2, 9);
        let mut weights = Tensor::constant("weights", DType::I8, [3, filter, filter, 2], weights);
        weights.quantization = Some(Quantization::symmetric(vec![0.01, 0.02, 0.03], 0));
        let weights = graph.0.add_tensor(weights);
        let bias = graph.integers(&[100, -200, 300]);
        let y = graph.output(DType::I8, &[1, windows, windows, 3], (0.5, -3));
        graph.push(Pad, &[x, paddings], &[middle]);
        let op = Conv2d {
            padding: Padding::Valid,
            stride_h: stride,
            stride_w: stride,
            dilation_h: dilation,
            dilation_w: dilation,
            activation: Activation::Relu,
            quantized_bias_type: DType::F32,
        };
        graph.push(op, &[middle, weights, bias], &[y]);
        Some(graph.model())
    }

    #[test]
    fn every_small_convolution_is_folded_only_where_the_sums_are_the_same() {
        let (mut folded, mut kept) = (0, 0);
        for len in 2..=7 {
            for paddings in [[0, 1], [1, 0], [1, 1], [1, 2], [2, 2]] {
                for (filter, stride, dilation) in [
                    (1, 1, 1),
                    (2, 1, 1),
                    (3, 1, 1),
                    (3, 2, 1),
                    (3, 1, 2),
                    (5, 2, 1),
                ] {
                    let Some(model) = conv(len, paddings, filter, stride, dilation) else {
                        continue;
                    };
                    let (legal, _) = legalized(&model, &["PAD"]);
                    match kinds(&legal).len() {
                        1 => folded += 1,
                        _ => kept += 1,
                    }
                    let data = [noise(len * len * 2, 4)];
                    assert_eq!(
                        run(&model, &data),
                        run(&legal, &data),
                        "{len} {paddings:?} {filter} {stride} {dilation}"
                    );
                }
            }
        }
        assert!(folded > 20 && kept > 20, "{folded} folded, {kept} kept");
    }

    #[test]
    fn a_pool_is_folded_where_nothing_is_below_0() {
        for (zero_point, ops) in [(-128, 1), (-127, 2)] {
            let mut graph = Graph::default();
            let x = graph.input(DType::I8, &[1, 6, 6, 2], (0.05, zero_point));
            let paddings = graph.paddings([0, 0, 1, 1, 1, 1, 0, 0]);
            let middle = graph.tensor("padded", DType::I8, &[1, 8, 8, 2], (0.05, zero_point));
            let y = graph.output(DType::I8, &[1, 6, 6, 2], (0.05, zero_point));
            graph.push(Pad, &[x, paddings], &[middle]);
            let pool = Pool2d {
                padding: Padding::Valid,
                stride_h: 1,
                stride_w: 1,
                filter_h: 3,
                filter_w: 3,
                activation: Activation::None,
            };
            graph.push(MaxPool2d(pool), &[middle], &[y]);
            let model = graph.model();
            let (legal, _) = legalized(&model, &["PAD"]);
            assert_eq!(kinds(&legal).len(), ops);
            let data = [noise(72, 5)];
            assert_eq!(run(&model, &data), run(&legal, &data));
        }
    }
}
