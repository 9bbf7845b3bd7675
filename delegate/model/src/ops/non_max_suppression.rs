//! What NON_MAX_SUPPRESSION_V4 and V5 share: boxes in the order of their scores, but for those that overlap a better one.
//!
//! Operands: boxes [count, 4] of two opposite corners (y, x, y, x), scores [count], the largest number of results (a
//! constant), the overlap (intersection over union) from which on a box is left out, the score above which a box counts,
//! and in V5 the sigma of soft suppression, which lowers scores by the overlap instead; 0 for none. All float32.

use super::movement::{integer, size};
use super::{OpError, Signature};
use crate::cpu::Kernel;
use crate::tensor::{DType, Shape};

const BOXES: usize = 0;
const SCORES: usize = 1;
const MAX_OUTPUT: usize = 2;
const OVERLAP: usize = 3;
const THRESHOLD: usize = 4;
const SIGMA: usize = 5;

/// The number of boxes and the largest number of results.
fn counts(io: &Signature) -> Result<(usize, usize), OpError> {
    let (boxes, scores) = (io.input(BOXES)?, io.input(SCORES)?);
    let [count, 4] = *boxes.shape else {
        return Err(OpError::Shape(format!("boxes of shape {:?}", boxes.shape)));
    };
    if scores.shape != [count] {
        return Err(OpError::Shape(format!(
            "scores of shape {:?} for {count} boxes",
            scores.shape
        )));
    }
    Ok((
        count,
        size(
            integer(io, MAX_OUTPUT, "the number of results")?,
            "number of results",
        )?,
    ))
}

/// The shapes of the results: indices, scores where `soft`, and how many there are.
pub(super) fn shapes(io: &Signature, soft: bool) -> Result<Vec<Shape>, OpError> {
    let (_, most) = counts(io)?;
    let mut shapes = vec![vec![most]; 1 + usize::from(soft)];
    shapes.push(Shape::new());
    Ok(shapes)
}

/// The kernel of V4, or of V5 where `soft`; results past the number found are 0.
pub(super) fn prepare(io: &Signature, soft: bool) -> Result<Kernel, OpError> {
    let (count, most) = counts(io)?;
    let scalars = if soft {
        OVERLAP..=SIGMA
    } else {
        OVERLAP..=THRESHOLD
    };
    for index in [BOXES, SCORES].into_iter().chain(scalars) {
        let operand = io.input(index)?;
        if operand.dtype != DType::F32 {
            return Err(io.unsupported(index));
        }
        if index >= OVERLAP && operand.len() != 1 {
            return Err(OpError::Shape(format!(
                "a threshold of shape {:?}",
                operand.shape
            )));
        }
    }
    let types = [
        (0, DType::I32),
        (1, if soft { DType::F32 } else { DType::I32 }),
        (1 + usize::from(soft), DType::I32),
    ];
    for (index, wanted) in types {
        let dtype = io.output(index)?.dtype;
        if dtype != wanted {
            return Err(OpError::UnsupportedType {
                what: format!("output {index}"),
                dtype,
            });
        }
    }
    let most = most.min(count);
    let scratch = count
        .checked_mul(2)
        .map(|boxes| boxes * size_of::<Candidate>());
    let scratch = scratch.ok_or_else(|| OpError::Shape(format!("{count} boxes")))?;
    Ok(Kernel::with_scratch(scratch, move |run| {
        let parts = run.parts::<i32>(0);
        let scalar = |index| {
            parts
                .inputs
                .get::<f32>(index)
                .first()
                .copied()
                .unwrap_or(0.0)
        };
        let limits = Limits {
            overlap: scalar(OVERLAP),
            threshold: scalar(THRESHOLD),
            sigma: if soft { scalar(SIGMA) } else { 0.0 },
        };
        let words: &mut [Candidate] = bytemuck::cast_slice_mut(&mut parts.scratch[..scratch]);
        let (heap, selected) = words.split_at_mut(count);
        let (boxes, _) = parts.inputs.get::<f32>(BOXES).as_chunks();
        let found = suppress(
            boxes,
            parts.inputs.get(SCORES),
            &limits,
            heap,
            &mut selected[..most],
        );
        let found = &selected[..found];
        parts.output.fill(0);
        parts
            .output
            .iter_mut()
            .zip(found)
            .for_each(|(output, &[index, ..])| *output = index as i32);
        let number = found.len() as i32;
        if soft {
            let parts = run.parts::<f32>(1);
            let words: &[Candidate] = bytemuck::cast_slice(&parts.scratch[..scratch]);
            parts.output.fill(0.0);
            let found = &words[count..][..number as usize];
            parts
                .output
                .iter_mut()
                .zip(found)
                .for_each(|(output, candidate)| *output = score(candidate));
        }
        run.parts::<i32>(1 + usize::from(soft)).output.fill(number);
    }))
}

struct Limits {
    overlap: f32,
    threshold: f32,
    sigma: f32,
}

/// Number of the box, bits of its score, and how many of those selected it was compared with.
type Candidate = [u32; 3];

fn score(candidate: &Candidate) -> f32 {
    f32::from_bits(candidate[1])
}

/// Selects boxes into `selected` and returns how many; `heap` holds as many as there are boxes.
fn suppress(
    boxes: &[[f32; 4]],
    scores: &[f32],
    limits: &Limits,
    heap: &mut [Candidate],
    selected: &mut [Candidate],
) -> usize {
    let mut len = 0;
    for (index, &score) in scores
        .iter()
        .enumerate()
        .filter(|&(_, &score)| score > limits.threshold)
    {
        push(heap, len, [index as u32, score.to_bits(), 0]);
        len += 1;
    }
    let scale = if limits.sigma > 0.0 {
        -0.5 / limits.sigma
    } else {
        0.0
    };
    let most = selected.len().min(len);
    let mut found = 0;
    while found < most && len > 0 {
        let mut next = pop(&mut heap[..len]);
        len -= 1;
        let original = score(&next);
        let compared = next[2] as usize;
        let mut current = original;
        let mut is_left_out = false;
        for better in selected[compared..found].iter().rev() {
            let overlap =
                intersection_over_union(&boxes[next[0] as usize], &boxes[better[0] as usize]);
            if overlap >= limits.overlap {
                is_left_out = true;
                break;
            }
            if limits.sigma > 0.0 {
                current *= (scale * overlap * overlap).exp();
            }
            if current <= limits.threshold {
                break;
            }
        }
        next = [next[0], current.to_bits(), found as u32];
        if is_left_out {
            continue;
        }
        if current == original {
            selected[found] = next;
            found += 1;
        }
        // One that was selected too, as in LiteRT: it meets itself then, and only an empty box is taken again.
        if current > limits.threshold {
            push(heap, len, next);
            len += 1;
        }
    }
    found
}

/// Of two boxes given by any opposite corners; 0 where one is empty.
fn intersection_over_union(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let edges = |b: &[f32; 4]| {
        [
            b[0].min(b[2]),
            b[1].min(b[3]),
            b[0].max(b[2]),
            b[1].max(b[3]),
        ]
    };
    overlap(&edges(a), &edges(b))
}

/// Intersection over union of two boxes given by top, left, bottom and right; 0 where one is empty.
pub(super) fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let area = |b: &[f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    let (area_a, area_b) = (area(a), area(b));
    if area_a <= 0.0 || area_b <= 0.0 {
        return 0.0;
    }
    let height = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let width = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let intersection = height * width;
    intersection / (area_a + area_b - intersection)
}

/// Adds to a heap, the best first, at its free place `hole`. This and [`pop`] walk as the C++ library's heaps do, which
/// decides among equal scores.
fn push(heap: &mut [Candidate], mut hole: usize, new: Candidate) {
    while hole > 0 && score(&heap[(hole - 1) / 2]) < score(&new) {
        heap[hole] = heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    heap[hole] = new;
}

/// Takes the best from a heap that is not empty; its last place is free then.
fn pop(heap: &mut [Candidate]) -> Candidate {
    let (best, last) = (heap[0], heap.len() - 1);
    let moved = heap[last];
    let mut hole = 0;
    while 2 * hole + 1 < last {
        let (left, right) = (2 * hole + 1, 2 * hole + 2);
        let child = if right < last && score(&heap[right]) >= score(&heap[left]) {
            right
        } else {
            left
        };
        heap[hole] = heap[child];
        hole = child;
    }
    push(heap, hole, moved);
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heap_gives_the_best_first() {
        let mut heap = [[0; 3]; 7];
        for (len, value) in [3.0f32, -1.0, 5.0, 5.0, 0.0, 4.0, 2.0]
            .into_iter()
            .enumerate()
        {
            push(&mut heap, len, [len as u32, value.to_bits(), 0]);
        }
        let order = (1..=7)
            .rev()
            .map(|len| score(&pop(&mut heap[..len])))
            .collect::<Vec<_>>();
        assert_eq!(order, [5.0, 5.0, 4.0, 3.0, 2.0, 0.0, -1.0]);
    }

    #[test]
    fn an_empty_box_is_selected_again_but_not_more_often_than_there_are_candidates() {
        let boxes = [[0.0; 4], [0.0, 0.0, 1.0, 1.0], [0.0; 4]];
        let limits = Limits {
            overlap: 0.5,
            threshold: 0.2,
            sigma: 0.0,
        };
        let (mut heap, mut selected) = ([[0; 3]; 3], [[0; 3]; 3]);
        let found = suppress(&boxes, &[0.9, 0.5, 0.1], &limits, &mut heap, &mut selected);
        assert_eq!((found, selected[0][0], selected[1][0]), (2, 0, 0));
    }

    #[test]
    fn overlap_takes_corners_in_any_order() {
        assert_eq!(
            intersection_over_union(&[0.0, 0.0, 2.0, 2.0], &[2.0, 1.0, 0.0, 3.0]),
            1.0 / 3.0
        );
        assert_eq!(
            intersection_over_union(&[0.0, 0.0, 2.0, 0.0], &[0.0, 0.0, 1.0, 1.0]),
            0.0
        );
    }
}
