//! DEPTH_TO_SPACE as TRANSPOSE_CONV with filters of a single 1.
//!
//! Windows as large as the stride do not overlap, so each result is one operand times one step of a filter whose
//! scale is 1: the sums, and their rounding by a ratio of 1, change nothing.

use bantam_model::ops::{Activation, Op, Padding, TransposeConv};
use bantam_model::{DType, Quantization, Tensor};

use super::draft::{Draft, Proof, Site, is_alike, is_real};

/// A filter for each channel of the result sees every channel of the operand; beyond this many weights it costs
/// more than the CPU would.
const LARGEST: usize = 1 << 20;

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    draft(site).into_iter().collect()
}

fn draft(site: &Site) -> Option<Draft> {
    let (Op::DepthToSpace(op), input, result) = (&site.node().op, site.tensor(0)?, site.result()?)
    else {
        return None;
    };
    let block = usize::try_from(op.block_size).ok().filter(|&b| b > 0)?;
    let (&[_, _, _, depth], &[_, _, _, channels]) = (&*input.shape, &*result.shape) else {
        return None;
    };
    let is_even = channels.checked_mul(block * block) == Some(depth);
    let weights = channels.checked_mul(block * block)?.checked_mul(depth)?;
    if !is_even
        || weights > LARGEST
        || !is_real(input)
        || !is_alike(input, result)
        || input.dtype == DType::U8
    {
        return None;
    }
    let mut draft = site.draft(Proof::Same);
    let shape: Vec<i64> = result.shape.iter().map(|&d| d as i64).collect();
    let shape = draft.integers("output_shape", &shape)?;
    let filter = draft.add(filter(input, channels, block, depth));
    let conv = TransposeConv {
        padding: Padding::Valid,
        stride_h: op.block_size,
        stride_w: op.block_size,
        activation: Activation::None,
        ..TransposeConv::default()
    };
    draft.push(conv, &[shape, filter, site.input(0)?], &[site.output()?]);
    Some(draft)
}

/// For channel `c` of the result and place `(y, x)` of a block: 1 at channel `(y * block + x) * channels + c`.
fn filter(input: &Tensor, channels: usize, block: usize, depth: usize) -> Tensor {
    let mut ones = vec![false; channels * block * block * depth];
    for channel in 0..channels {
        for place in 0..block * block {
            ones[(channel * block * block + place) * depth + place * channels + channel] = true;
        }
    }
    let shape = [channels, block, block, depth];
    let name = format!("{}/places", input.name);
    if input.dtype == DType::F32 {
        let bytes = ones
            .iter()
            .flat_map(|&one| f32::from(u8::from(one)).to_le_bytes());
        return Tensor::constant(name, DType::F32, shape, bytes.collect::<Vec<u8>>());
    }
    let bytes: Vec<u8> = ones.into_iter().map(u8::from).collect();
    let scales = Quantization::symmetric(vec![1.0; channels], 0);
    Tensor::constant(name, DType::I8, shape, bytes).quantized(scales)
}

#[cfg(test)]
mod tests {
    use bantam_model::DType;
    use bantam_model::ops::DepthToSpace;

    use super::super::Exactness;
    use super::super::testing::{Graph, kinds, legalized, noise, run};

    #[test]
    fn places_of_blocks_are_those_of_filters() {
        for (block, channels, q) in [
            (2, 1, (0.05, 3)),
            (2, 3, (0.0039, -128)),
            (3, 2, (0.7, 0)),
            (1, 4, (0.1, 127)),
        ] {
            let depth = channels * block * block;
            let mut graph = Graph::default();
            let x = graph.input(DType::I8, &[1, 2, 3, depth], q);
            let y = graph.output(DType::I8, &[1, 2 * block, 3 * block, channels], q);
            let op = DepthToSpace {
                block_size: block as i32,
            };
            graph.push(op, &[x], &[y]);
            let model = graph.model();
            let (legal, report) = legalized(&model, &["DEPTH_TO_SPACE"]);
            assert_eq!(kinds(&legal), ["TRANSPOSE_CONV"]);
            assert_eq!(report.exactness(), Exactness::Exact);
            for seed in 0..8 {
                let data = [noise(6 * depth, seed)];
                assert_eq!(run(&model, &data), run(&legal, &data), "{block} {channels}");
            }
        }
    }
}
