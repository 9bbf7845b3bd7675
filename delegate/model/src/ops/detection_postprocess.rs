//! `TFLite_Detection_PostProcess`, a custom operator: decodes boxes and keeps the best that do not overlap.
//!
//! Operands, float32 or uint8: box encodings [1, boxes, 4 or more] (y, x, height, width, relative to the anchor), scores
//! [1, boxes, classes], perhaps with a background class first, and anchors [boxes, 4] (y, x, height, width). Results, all
//! float32: boxes [1, n, 4] (top, left, bottom, right), their classes [1, n] and scores [1, n], and how many are valid
//! [1]; the others are 0.
//!
//! Fast suppression looks at each box's best score, regular suppression at each class on its own. Of classes of equal
//! score the first comes first; LiteRT leaves that to the C++ library where a detection has several classes.

use super::flexbuffer::Map;
use super::movement::{count, size};
use super::non_max_suppression::overlap;
use super::{OpError, Operator, Signature, Value};
use crate::cpu::{Inputs, Kernel, Run};
use crate::quant::PerTensor;
use crate::tensor::{DType, Shape};

const BOXES: usize = 0;
const SCORES: usize = 1;
const ANCHORS: usize = 2;

/// The options, as a flexbuffer map holds them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DetectionPostprocess {
    max_detections: usize,
    max_classes_per_detection: usize,
    detections_per_class: usize,
    is_regular: bool,
    score_threshold: f32,
    overlap_threshold: f32,
    classes: usize,
    /// Of y, x, height and width.
    scales: [f64; 4],
}

impl DetectionPostprocess {
    /// The options in `bytes`; what is not there is 0, as in LiteRT.
    pub fn read(bytes: &[u8]) -> Result<Self, OpError> {
        let map =
            Map::root(bytes).ok_or_else(|| OpError::Attribute("options that are no map".into()))?;
        let number = |name: &str| size(map.number(name).unwrap_or(0.0) as i64, name);
        let real = |name: &str| map.number(name).unwrap_or(0.0) as f32;
        let options = Self {
            max_detections: number("max_detections")?,
            max_classes_per_detection: number("max_classes_per_detection")?,
            detections_per_class: match map.number("detections_per_class") {
                Some(_) => number("detections_per_class")?,
                None => 100,
            },
            is_regular: map.number("use_regular_nms").is_some_and(|v| v != 0.0),
            score_threshold: real("nms_score_threshold"),
            overlap_threshold: real("nms_iou_threshold"),
            classes: number("num_classes")?,
            scales: ["y_scale", "x_scale", "h_scale", "w_scale"].map(|name| real(name).into()),
        };
        if !(options.overlap_threshold > 0.0 && options.overlap_threshold <= 1.0) {
            return Err(OpError::Attribute(format!(
                "nms_iou_threshold {}",
                options.overlap_threshold
            )));
        }
        if options.max_classes_per_detection == 0
            || (options.is_regular && options.detections_per_class == 0)
        {
            return Err(OpError::Attribute("no classes or detections".into()));
        }
        Ok(options)
    }

    /// The number of boxes, elements of an encoding, and classes with the background.
    fn dimensions(&self, io: &Signature) -> Result<[usize; 3], OpError> {
        let (boxes, scores, anchors) = (io.input(BOXES)?, io.input(SCORES)?, io.input(ANCHORS)?);
        let mismatch = || {
            let shapes = (&boxes.shape, &scores.shape, &anchors.shape, self.classes);
            OpError::Shape(format!(
                "boxes {:?}, scores {:?}, anchors {:?} for {} classes",
                shapes.0, shapes.1, shapes.2, shapes.3
            ))
        };
        let ([1, count, encoding], [1, scored, classes], [anchored, 4]) =
            (&*boxes.shape, &*scores.shape, &*anchors.shape)
        else {
            return Err(mismatch());
        };
        let has_classes =
            self.classes > 0 && (self.classes..=self.classes.saturating_add(1)).contains(classes);
        match *encoding >= 4 && count == scored && count == anchored && has_classes {
            true => Ok([*count, *encoding, *classes]),
            false => Err(mismatch()),
        }
    }

    /// How many detections there can be.
    fn capacity(&self) -> Result<usize, OpError> {
        count(&[self.max_detections, self.max_classes_per_detection])
    }
}

/// How an operand becomes real.
#[derive(Debug, Clone, Copy)]
enum Real {
    F32,
    U8(PerTensor),
}

impl Real {
    fn of(value: &Value, index: usize) -> Result<Self, OpError> {
        match value.dtype {
            DType::F32 => Ok(Self::F32),
            DType::U8 => Ok(Self::U8(value.per_tensor()?)),
            dtype => Err(OpError::UnsupportedType {
                what: format!("input {index}"),
                dtype,
            }),
        }
    }

    fn get(self, inputs: &Inputs<'_>, index: usize, element: usize) -> f32 {
        match self {
            Self::F32 => inputs.get::<f32>(index)[element],
            Self::U8(p) => {
                (f32::from(inputs.bytes(index)[element]) - p.zero_point as f32) * p.scale
            }
        }
    }
}

/// Row of the box, class, bits of the score.
type Detection = [u32; 3];

/// Everything known before running.
struct Task {
    options: DetectionPostprocess,
    /// Boxes, elements of an encoding, classes with the background.
    dimensions: [usize; 3],
    real: [Real; 3],
    /// Words of scratch: corners of boxes, scores of boxes, an order of boxes or classes, detections.
    words: [usize; 4],
    scratch: usize,
}

impl Task {
    fn new(options: DetectionPostprocess, io: &Signature) -> Result<Self, OpError> {
        let dimensions @ [boxes, _, classes] = options.dimensions(io)?;
        let extra = options.detections_per_class.min(options.max_detections);
        let detections = count(&[3, options.capacity()?.saturating_add(extra)])?;
        let words = [count(&[4, boxes])?, boxes, boxes.max(classes), detections];
        let total = words
            .iter()
            .try_fold(0usize, |sum, &words| sum.checked_add(words));
        let scratch = total.and_then(|total| total.checked_mul(4));
        let scratch =
            scratch.ok_or_else(|| OpError::Shape(format!("{boxes} boxes are too many")))?;
        let real = |index| Real::of(io.input(index)?, index);
        Ok(Self {
            options,
            dimensions,
            real: [real(BOXES)?, real(SCORES)?, real(ANCHORS)?],
            words,
            scratch,
        })
    }

    fn run(&self, run: &mut Run<'_>) {
        let parts = run.parts::<f32>(0);
        let words: &mut [u32] = bytemuck::cast_slice_mut(&mut parts.scratch[..self.scratch]);
        let (corners, rest) = words.split_at_mut(self.words[0]);
        let (scores, rest) = rest.split_at_mut(self.words[1]);
        let (order, detections) = rest.split_at_mut(self.words[2]);
        let (corners, _) = bytemuck::cast_slice_mut::<u32, f32>(corners).as_chunks_mut();
        let scores: &mut [f32] = bytemuck::cast_slice_mut(scores);
        let (detections, _) = detections.as_chunks_mut();
        self.decode(&parts.inputs, corners);
        let (valid, found) = match self.options.is_regular {
            true => self.by_class(&parts.inputs, corners, scores, order, detections),
            false => self.by_box(&parts.inputs, corners, scores, order, detections),
        };
        parts.output.fill(0.0);
        let (output, _) = parts.output.as_chunks_mut::<4>();
        for (output, [row, ..]) in output.iter_mut().zip(&detections[..found]) {
            *output = corners[*row as usize];
        }
        let start = self.words[..3].iter().sum::<usize>();
        for (index, value) in [(1, class as fn(&Detection) -> f32), (2, score)] {
            let parts = run.parts::<f32>(index);
            let words: &[u32] = bytemuck::cast_slice(&parts.scratch[..self.scratch]);
            let (detections, _) = words[start..].as_chunks();
            parts.output.fill(0.0);
            for (output, detection) in parts.output.iter_mut().zip(&detections[..found]) {
                *output = value(detection);
            }
        }
        run.parts::<f32>(3).output.fill(valid as f32);
    }

    /// Top, left, bottom and right of each box.
    fn decode(&self, inputs: &Inputs<'_>, corners: &mut [[f32; 4]]) {
        let ([_, encoding, _], [y_scale, x_scale, h_scale, w_scale]) =
            (self.dimensions, self.options.scales);
        for (row, corners) in corners.iter_mut().enumerate() {
            let of = |index: usize, width: usize| -> [f64; 4] {
                std::array::from_fn(|i| self.real[index].get(inputs, index, row * width + i).into())
            };
            let ([y, x, h, w], [anchor_y, anchor_x, anchor_h, anchor_w]) =
                (of(BOXES, encoding), of(ANCHORS, 4));
            let center_y = (y / y_scale * anchor_h + anchor_y) as f32;
            let center_x = (x / x_scale * anchor_w + anchor_x) as f32;
            let half_h = (0.5 * (h / h_scale).exp() * anchor_h) as f32;
            let half_w = (0.5 * (w / w_scale).exp() * anchor_w) as f32;
            *corners = [
                center_y - half_h,
                center_x - half_w,
                center_y + half_h,
                center_x + half_w,
            ];
        }
    }

    fn score(&self, inputs: &Inputs<'_>, row: usize, class: usize) -> f32 {
        let [_, _, classes] = self.dimensions;
        let background = classes - self.options.classes;
        self.real[SCORES].get(inputs, SCORES, row * classes + background + class)
    }

    /// Moves the rows of the best boxes to the front of `order` and returns how many: at most `most`.
    fn suppress(
        &self,
        corners: &[[f32; 4]],
        scores: &[f32],
        order: &mut [u32],
        most: usize,
    ) -> usize {
        let mut len = 0;
        for (row, _) in scores
            .iter()
            .enumerate()
            .filter(|&(_, &score)| score >= self.options.score_threshold)
        {
            order[len] = row as u32;
            len += 1;
        }
        order[..len].sort_unstable_by(|&a, &b| {
            scores[b as usize]
                .total_cmp(&scores[a as usize])
                .then(a.cmp(&b))
        });
        let mut found = 0;
        while found < len.min(most) {
            let best = &corners[order[found] as usize];
            found += 1;
            let mut kept = found;
            for next in found..len {
                if overlap(best, &corners[order[next] as usize]) <= self.options.overlap_threshold {
                    order[kept] = order[next];
                    kept += 1;
                }
            }
            len = kept;
        }
        found
    }

    /// Fast suppression. Returns the numbers of boxes and of detections.
    fn by_box(
        &self,
        inputs: &Inputs<'_>,
        corners: &[[f32; 4]],
        scores: &mut [f32],
        order: &mut [u32],
        detections: &mut [Detection],
    ) -> (usize, usize) {
        let Self {
            options:
                DetectionPostprocess {
                    classes,
                    max_detections,
                    max_classes_per_detection,
                    ..
                },
            ..
        } = self;
        for (row, best) in scores.iter_mut().enumerate() {
            let all = (0..*classes).map(|class| self.score(inputs, row, class));
            *best = all.fold(f32::NEG_INFINITY, f32::max);
        }
        let found = self.suppress(corners, scores, &mut order[..scores.len()], *max_detections);
        let each = *max_classes_per_detection;
        detections[..found * each].fill([0; 3]);
        for (row, detections) in order[..found].iter().zip(detections.chunks_exact_mut(each)) {
            detections[0][0] = *row;
        }
        for detections in detections[..found * each].chunks_exact_mut(each) {
            let row = detections[0][0];
            let classes = &mut order[..*classes];
            classes
                .iter_mut()
                .zip(0..)
                .for_each(|(class, index)| *class = index);
            let score = |class: u32| self.score(inputs, row as usize, class as usize);
            classes.sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
            for (detection, &class) in detections.iter_mut().zip(&*classes) {
                *detection = [row, class, score(class).to_bits()];
            }
        }
        (found, found * each)
    }

    /// Regular suppression. Returns the number of detections, twice.
    fn by_class(
        &self,
        inputs: &Inputs<'_>,
        corners: &[[f32; 4]],
        scores: &mut [f32],
        order: &mut [u32],
        detections: &mut [Detection],
    ) -> (usize, usize) {
        let most = self.options.max_detections;
        let each = self.options.detections_per_class.min(most);
        let mut len = 0;
        for class in 0..self.options.classes {
            for (row, value) in scores.iter_mut().enumerate() {
                *value = self.score(inputs, row, class);
            }
            let found = self.suppress(corners, scores, &mut order[..scores.len()], each);
            let mut end = len;
            for &row in &order[..found] {
                let new = scores[row as usize];
                let place = detections[..end].partition_point(|old| score(old) >= new);
                detections.copy_within(place..end, place + 1);
                detections[place] = [row, class as u32, new.to_bits()];
                end += 1;
            }
            len = end.min(most);
        }
        (len, len)
    }
}

fn class(detection: &Detection) -> f32 {
    detection[1] as f32
}

fn score(detection: &Detection) -> f32 {
    f32::from_bits(detection[2])
}

impl Operator for DetectionPostprocess {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        self.dimensions(io)?;
        let capacity = self.capacity()?;
        Ok(vec![
            vec![1, capacity, 4],
            vec![1, capacity],
            vec![1, capacity],
            vec![1],
        ])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        for index in 0..4 {
            let dtype = io.output(index)?.dtype;
            if dtype != DType::F32 {
                return Err(OpError::UnsupportedType {
                    what: format!("output {index}"),
                    dtype,
                });
            }
        }
        let task = Task::new(self.clone(), io)?;
        Ok(Kernel::with_scratch(task.scratch, move |run| task.run(run)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::flexbuffer::map;
    use crate::ops::{Custom, Numerics, Op};
    use crate::tensor::Bytes;
    use crate::testing::{Case, eval_with};

    fn options(is_regular: bool, overlap: f32) -> Vec<u8> {
        map(&[
            ("h_scale", Ok(1.0)),
            ("max_classes_per_detection", Err(1)),
            ("max_detections", Err(3)),
            ("nms_iou_threshold", Ok(overlap)),
            ("nms_score_threshold", Ok(0.2)),
            ("num_classes", Err(2)),
            ("use_regular_nms", Err(is_regular.into())),
            ("w_scale", Ok(1.0)),
            ("x_scale", Ok(1.0)),
            ("y_scale", Ok(1.0)),
        ])
    }

    fn run(is_regular: bool) -> Vec<Case> {
        let options = Bytes::from(options(is_regular, 0.5));
        let op = Op::Custom(Box::new(Custom {
            name: "TFLite_Detection_PostProcess".into(),
            version: 1,
            options,
        }));
        let inputs = [
            Case::f32([1, 3, 4], [0.0; 12]),
            Case::f32([1, 3, 3], [0.0, 0.9, 0.3, 0.0, 0.8, 0.7, 0.0, 0.1, 0.6]),
            Case::f32(
                [3, 4],
                [0.5, 0.5, 1.0, 1.0, 0.5, 0.6, 1.0, 1.0, 4.0, 4.0, 2.0, 2.0],
            )
            .constant(),
        ];
        eval_with(
            Numerics::Fast,
            op,
            &inputs,
            &[DType::F32; 4].map(Case::result),
        )
    }

    #[test]
    fn fast_suppression_takes_the_best_class_of_a_box() {
        let outputs = run(false);
        assert_eq!(
            outputs[0].get::<f32>()[..8],
            [0.0, 0.0, 1.0, 1.0, 3.0, 3.0, 5.0, 5.0]
        );
        assert_eq!(outputs[1].get::<f32>(), [0.0, 1.0, 0.0]);
        assert_eq!(outputs[2].get::<f32>(), [0.9, 0.6, 0.0]);
        assert_eq!(outputs[3].get::<f32>(), [2.0]);
    }

    #[test]
    fn regular_suppression_takes_each_class_on_its_own() {
        let outputs = run(true);
        assert_eq!(outputs[1].get::<f32>(), [0.0, 1.0, 1.0]);
        assert_eq!(outputs[2].get::<f32>(), [0.9, 0.7, 0.6]);
        assert_eq!(outputs[3].get::<f32>(), [3.0]);
    }

    #[test]
    fn no_options_make_it_panic() {
        let good = options(true, 0.5);
        for (place, flip) in
            (0..good.len()).flat_map(|place| [1, 0x80, 0xff].map(|flip| (place, flip)))
        {
            let mut bytes = good.clone();
            bytes[place] ^= flip;
            let _ = DetectionPostprocess::read(&bytes);
            let _ = DetectionPostprocess::read(&good[..place]);
        }
    }

    #[test]
    fn rejects_broken_options() {
        for bytes in [
            vec![],
            vec![1, 2, 3],
            options(false, 0.0),
            options(true, 1.5),
        ] {
            assert!(matches!(
                DetectionPostprocess::read(&bytes),
                Err(OpError::Attribute(_))
            ));
        }
    }
}
