//! What a detector gives: which of its outputs hold what, and the boxes in them.

use bantam_model::tensor::Shape;
use bantam_model::{Model, Op, Subgraph, TensorId};

use super::{Detection, Rect};

/// The custom operator that most detectors end with.
const POSTPROCESS: &str = "TFLite_Detection_PostProcess";

/// Which of a model's outputs hold the boxes, by their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outputs {
    /// Top, left, bottom and right of each box, as parts of the image's height and width: `[1, n, 4]`.
    pub boxes: usize,
    /// The class of each box, from 0: `[1, n]`.
    pub classes: usize,
    /// The score of each box: `[1, n]`.
    pub scores: usize,
    /// How many boxes there are, at most `n`: `[1]`.
    pub count: usize,
}

/// Why a model's outputs are no boxes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DetectorError {
    /// The model has neither the operator nor four outputs of the usual shapes.
    #[error(
        "without {POSTPROCESS}, four outputs have to be boxes [1, n, 4], classes [1, n], scores [1, n] and their number [1]; these are {shapes:?}"
    )]
    Outputs {
        /// The shapes of the outputs that it has.
        shapes: Vec<Shape>,
    },
    /// The outputs are not for one number of boxes.
    #[error("{boxes} edges, {classes} classes and {scores} scores are not of the same boxes")]
    Length {
        /// Values of the boxes, four each.
        boxes: usize,
        /// Classes.
        classes: usize,
        /// Scores.
        scores: usize,
    },
    /// More boxes than there are, or not a number of boxes.
    #[error("the number of boxes is {count}, there is room for {room}")]
    Count {
        /// The number.
        count: f32,
        /// How many the outputs can hold.
        room: usize,
    },
    /// A class that is none.
    #[error("box {index} has the class {class}, which is not a whole number from 0")]
    Class {
        /// Which box.
        index: usize,
        /// Its class.
        class: f32,
    },
    /// An edge or a score is infinite or not a number.
    #[error("box {index} has the value {value}")]
    NotFinite {
        /// Which box.
        index: usize,
        /// The value.
        value: f32,
    },
}

impl Outputs {
    /// The outputs of subgraph `entry` that have the results of its `TFLite_Detection_PostProcess`, in whatever
    /// order; without that operator, four outputs in the order of its results.
    ///
    /// # Errors
    ///
    /// The model has no such outputs.
    pub fn find(model: &Model, entry: usize) -> Result<Self, DetectorError> {
        let Some(subgraph) = model.subgraphs.get(entry) else {
            return Err(DetectorError::Outputs { shapes: Vec::new() });
        };
        if let Some(outputs) = Self::by_operator(subgraph) {
            return Ok(outputs);
        }
        let shapes: Vec<Shape> = subgraph
            .outputs
            .iter()
            .map(|&id| subgraph[id].shape.clone())
            .collect();
        let is_usual = matches!(&shapes[..], [boxes, classes, scores, count]
            if boxes.last() == Some(&4) && boxes.len() >= 2
                && *classes == boxes[..boxes.len() - 1]
                && classes == scores
                && count.iter().product::<usize>() == 1);
        match is_usual {
            true => Ok(Self {
                boxes: 0,
                classes: 1,
                scores: 2,
                count: 3,
            }),
            false => Err(DetectorError::Outputs { shapes }),
        }
    }

    fn by_operator(subgraph: &Subgraph) -> Option<Self> {
        let is_postprocess = |op: &Op| matches!(op, Op::Custom(op) if op.name == POSTPROCESS);
        let node = subgraph.nodes.iter().find(|n| is_postprocess(&n.op))?;
        let place = |result: usize| {
            let result = *node.outputs.get(result)?;
            let mut outputs = subgraph.outputs.iter();
            outputs.position(|&output| origin(subgraph, output) == result)
        };
        Some(Self {
            boxes: place(0)?,
            classes: place(1)?,
            scores: place(2)?,
            count: place(3)?,
        })
    }
}

/// What has the same values as `tensor`, before they changed their type.
fn origin(subgraph: &Subgraph, mut tensor: TensorId) -> TensorId {
    let producers = subgraph.producers();
    // A tensor of a model that is no graph may be made from itself.
    for _ in 0..subgraph.nodes.len() {
        let Some(node) = producers[tensor.index()].map(|id| &subgraph.nodes[id.index()]) else {
            break;
        };
        let same = matches!(node.op, Op::Quantize(_) | Op::Dequantize(_) | Op::Cast(_));
        match node.input(0) {
            Some(input) if same => tensor = input,
            _ => break,
        }
    }
    tensor
}

/// A box as a detector gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Top, left, bottom and right, as parts of the image's height and width.
    pub edges: [f32; 4],
    /// What the model takes it for, from 0.
    pub class: u32,
    /// How sure the model is.
    pub score: f32,
}

impl Found {
    /// The boxes of one run, from the real values of the four outputs.
    ///
    /// # Errors
    ///
    /// The outputs are not of one number of boxes, or hold what no box has.
    pub fn read(
        boxes: &[f32],
        classes: &[f32],
        scores: &[f32],
        count: &[f32],
    ) -> Result<Vec<Self>, DetectorError> {
        let (edges, rest) = boxes.as_chunks::<4>();
        if !rest.is_empty() || edges.len() != classes.len() || edges.len() != scores.len() {
            return Err(DetectorError::Length {
                boxes: boxes.len(),
                classes: classes.len(),
                scores: scores.len(),
            });
        }
        let room = edges.len();
        let count = count.first().copied().unwrap_or(f32::NAN);
        if !(count >= 0.0 && count.fract() == 0.0 && f64::from(count) <= room as f64) {
            return Err(DetectorError::Count { count, room });
        }
        let rows = edges.iter().zip(classes).zip(scores).take(count as usize);
        rows.enumerate()
            .map(|(index, ((edges, &class), &score))| {
                let [top, left, bottom, right] = *edges;
                Self::from_row([top, left, bottom, right, class, score], index)
            })
            .collect()
    }

    /// The box as top, left, bottom, right, class and score.
    pub fn to_row(self) -> [f32; 6] {
        let [top, left, bottom, right] = self.edges;
        [top, left, bottom, right, self.class as f32, self.score]
    }

    /// What [`Self::to_row`] gave; `index` is for the error.
    pub fn from_row(row: [f32; 6], index: usize) -> Result<Self, DetectorError> {
        let [top, left, bottom, right, class, score] = row;
        let edges = [top, left, bottom, right];
        let mut values = edges.into_iter().chain([score]);
        if let Some(value) = values.find(|value| !value.is_finite()) {
            return Err(DetectorError::NotFinite { index, value });
        }
        // From 2^24 on float32 does not tell neighbours apart.
        if !(class.fract() == 0.0 && (0.0..16_777_216.0).contains(&class)) {
            return Err(DetectorError::Class { index, class });
        }
        Ok(Self {
            edges,
            class: class as u32,
            score,
        })
    }

    /// The box on an image of `width` and `height`, as one of `category`.
    pub fn on(&self, (width, height): (f64, f64), category: i64) -> Detection {
        let [top, left, bottom, right] = self.edges.map(f64::from);
        Detection {
            category,
            score: self.score,
            rect: Rect {
                x: left * width,
                y: top * height,
                width: (right - left) * width,
                height: (bottom - top) * height,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::{Custom, Dequantize};
    use bantam_model::{DType, Node, Tensor};

    use super::*;

    fn model(outputs: &[usize], operator: bool) -> Model {
        let mut subgraph = Subgraph::default();
        let shapes = [vec![1, 3, 4], vec![1, 3], vec![1, 3], vec![1]];
        let ids: Vec<TensorId> = shapes
            .iter()
            .map(|shape| subgraph.add_tensor(Tensor::new("t", DType::F32, shape.clone())))
            .collect();
        if operator {
            let op = Op::Custom(Box::new(Custom {
                name: POSTPROCESS.into(),
                version: 1,
                options: Vec::new().into(),
            }));
            subgraph.nodes.push(Node::new(op, &[], &ids));
        }
        subgraph.outputs = outputs.iter().map(|&index| ids[index]).collect();
        Model {
            subgraphs: vec![subgraph],
            ..Model::default()
        }
    }

    #[test]
    fn outputs_are_found_by_the_operator_and_else_by_their_order() {
        let shuffled = Outputs {
            boxes: 1,
            classes: 3,
            scores: 0,
            count: 2,
        };
        let mut with_operator = model(&[2, 0, 3, 1], true);
        assert_eq!(Outputs::find(&with_operator, 0), Ok(shuffled));
        let usual = Outputs::find(&model(&[0, 1, 2, 3], false), 0).unwrap();
        assert_eq!((usual.boxes, usual.count), (0, 3));
        for outputs in [&[2, 0, 3, 1][..], &[0, 1, 2], &[]] {
            let error = Outputs::find(&model(outputs, false), 0).unwrap_err();
            assert!(matches!(error, DetectorError::Outputs { .. }), "{error}");
        }

        let subgraph = &mut with_operator.subgraphs[0];
        let scores = subgraph.outputs[0];
        let after = subgraph.add_tensor(Tensor::new("after", DType::F32, [1, 3]));
        let dequantize = Node::new(Dequantize, &[scores], &[after]);
        subgraph.nodes.push(dequantize);
        subgraph.outputs[0] = after;
        assert_eq!(Outputs::find(&with_operator, 0), Ok(shuffled));
    }

    #[test]
    fn boxes_are_read_as_far_as_they_are_valid_and_brought_to_the_image() {
        let boxes = [0.25, 0.5, 0.75, 1.0, f32::NAN, 0.0, 0.0, 0.0];
        let found = Found::read(&boxes, &[3.0, 9.5], &[0.5, 0.0], &[1.0]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(Found::from_row(found[0].to_row(), 0), Ok(found[0]));
        let detection = found[0].on((200.0, 100.0), 4);
        let rect = Rect {
            x: 100.0,
            y: 25.0,
            width: 100.0,
            height: 50.0,
        };
        assert_eq!((detection.category, detection.rect), (4, rect));
    }

    #[test]
    fn refuses_what_no_box_has() {
        let read = |boxes: &[f32], classes: &[f32], count: f32| {
            Found::read(boxes, classes, &vec![0.5; classes.len()], &[count])
        };
        assert!(matches!(
            read(&[0.0; 8], &[0.0], 1.0),
            Err(DetectorError::Length { .. })
        ));
        for count in [2.0, -1.0, 0.5, f32::NAN] {
            let error = read(&[0.0; 4], &[0.0], count).unwrap_err();
            assert!(matches!(error, DetectorError::Count { .. }), "{error}");
        }
        for class in [0.5, -1.0, f32::NAN, 1e9] {
            let error = read(&[0.0; 4], &[class], 1.0).unwrap_err();
            assert!(matches!(error, DetectorError::Class { .. }), "{error}");
        }
        let error = read(&[f32::INFINITY; 4], &[0.0], 1.0).unwrap_err();
        assert!(matches!(error, DetectorError::NotFinite { .. }), "{error}");
        assert!(matches!(
            Found::read(&[], &[], &[], &[]),
            Err(DetectorError::Count { .. })
        ));
    }
}
