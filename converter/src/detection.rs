//! Mean average precision of boxes, as COCO's own evaluation computes it: ten thresholds of overlap from 0.50 to
//! 0.95, precision at 101 points of recall, mean over classes, at most 100 detections an image.
//!
//! Agrees with pycocotools' `COCOeval` (`stats[0]`, `stats[1]`) to the last bits; see `tests/data/make_detection.py`.

mod detector;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

pub use detector::{DetectorError, Found, Outputs};

/// The thresholds of overlap, as `numpy.linspace` rounds them.
const THRESHOLDS: [f64; 10] = [
    0.5,
    0.55,
    0.6,
    0.65,
    0.7,
    0.75,
    0.8,
    0.85,
    0.899_999_999_999_999_9,
    0.95,
];

/// Recall is looked at in steps of a hundredth.
const RECALLS: usize = 101;

/// The most detections of an image that count, the best first.
const MOST: usize = 100;

/// A box with its corner at `x`, `y`; in pixels, or any other unit that all boxes share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    /// The left edge.
    pub x: f64,
    /// The upper edge.
    pub y: f64,
    /// The width.
    pub width: f64,
    /// The height.
    pub height: f64,
}

impl Rect {
    fn area(&self) -> f64 {
        self.width * self.height
    }

    /// The area that both cover, over that which either does; over `self`'s own where `other` is a crowd.
    fn overlap(&self, other: &Self, crowd: bool) -> f64 {
        let extent = |start: f64, length: f64, other: f64, other_length: f64| {
            (start + length).min(other + other_length) - start.max(other)
        };
        let width = extent(self.x, self.width, other.x, other.width);
        let height = extent(self.y, self.height, other.y, other.height);
        if width <= 0.0 || height <= 0.0 {
            return 0.0;
        }
        let both = width * height;
        let all = if crowd {
            self.area()
        } else {
            self.area() + other.area() - both
        };
        both / all
    }
}

/// A box that a model found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// What is in it.
    pub category: i64,
    /// How sure the model is.
    pub score: f32,
    /// Where.
    pub rect: Rect,
}

/// A box that is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// What is in it.
    pub category: i64,
    /// Where.
    pub rect: Rect,
    /// Whether it stands for many of its kind: then it is neither found nor missed, however many detections lie in
    /// it.
    pub is_crowd: bool,
}

/// The two figures that are usually quoted. A category without any box is left out of the means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Precision {
    /// Mean over thresholds and categories.
    pub mean: f64,
    /// Mean over categories at a threshold of 0.5.
    pub at_50: f64,
}

/// Mean average precision of `images`, each with what was found and what is there; `None` if nothing is there. Of
/// detections with equal scores those of an earlier image rank higher; pycocotools has images in the order of
/// their ids.
pub fn mean_average_precision(images: &[(Vec<Detection>, Vec<Truth>)]) -> Option<Precision> {
    let truths = images.iter().flat_map(|(_, truths)| truths);
    let categories: BTreeSet<i64> = truths.map(|t| t.category).collect();
    let per_category: Vec<[f64; THRESHOLDS.len()]> = categories
        .into_iter()
        .filter_map(|category| average_precision(images, category))
        .collect();
    if per_category.is_empty() {
        return None;
    }
    let count = per_category.len() as f64;
    let mean = |threshold: usize| per_category.iter().map(|p| p[threshold]).sum::<f64>() / count;
    let all: f64 = (0..THRESHOLDS.len()).map(mean).sum();
    Some(Precision {
        mean: all / THRESHOLDS.len() as f64,
        at_50: mean(0),
    })
}

/// What becomes of a detection at one threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Match {
    Right,
    Wrong,
    /// In a crowd.
    Ignored,
}

/// The average precision of one category at each threshold; `None` if there is nothing to find.
fn average_precision(
    images: &[(Vec<Detection>, Vec<Truth>)],
    category: i64,
) -> Option<[f64; THRESHOLDS.len()]> {
    let mut found: Vec<(f32, [Match; THRESHOLDS.len()])> = Vec::new();
    let mut there = 0;
    for (detections, truths) in images {
        let mut detections: Vec<&Detection> = detections
            .iter()
            .filter(|d| d.category == category)
            .collect();
        detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        detections.truncate(MOST);
        // Crowds last, so that a real box is preferred.
        let mut truths: Vec<&Truth> = truths.iter().filter(|t| t.category == category).collect();
        truths.sort_by_key(|t| t.is_crowd);
        there += truths.iter().filter(|t| !t.is_crowd).count();
        let matches = THRESHOLDS.map(|threshold| matches(&detections, &truths, threshold));
        for (index, detection) in detections.iter().enumerate() {
            let each = std::array::from_fn(|threshold| matches[threshold][index]);
            found.push((detection.score, each));
        }
    }
    if there == 0 {
        return None;
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    Some(std::array::from_fn(|threshold| {
        let matches = found.iter().map(|(_, each)| each[threshold]);
        area_under_curve(matches, there)
    }))
}

/// Gives each detection, best first, the box that it overlaps most, if none took that before.
fn matches(detections: &[&Detection], truths: &[&Truth], threshold: f64) -> Vec<Match> {
    let mut taken = vec![false; truths.len()];
    let take = |detection: &&Detection| {
        let mut best: Option<usize> = None;
        let mut most = threshold.min(1.0 - 1e-10);
        for (index, truth) in truths.iter().enumerate() {
            if taken[index] && !truth.is_crowd {
                continue;
            }
            if best.is_some_and(|best| !truths[best].is_crowd && truth.is_crowd) {
                break;
            }
            let overlap = detection.rect.overlap(&truth.rect, truth.is_crowd);
            if overlap >= most {
                most = overlap;
                best = Some(index);
            }
        }
        match best {
            Some(index) => {
                taken[index] = true;
                if truths[index].is_crowd {
                    Match::Ignored
                } else {
                    Match::Right
                }
            }
            None => Match::Wrong,
        }
    };
    detections.iter().map(take).collect()
}

/// The mean, over the points of recall, of the best precision from there on.
fn area_under_curve(matches: impl Iterator<Item = Match>, there: usize) -> f64 {
    let (mut right, mut wrong) = (0usize, 0usize);
    let mut curve: Vec<(f64, f64)> = Vec::new();
    for found in matches {
        match found {
            Match::Right => right += 1,
            Match::Wrong => wrong += 1,
            Match::Ignored => {}
        }
        // As pycocotools: the smallest float keeps the first division from being by 0.
        let all = (right + wrong) as f64 + f64::EPSILON;
        curve.push((right as f64 / there as f64, right as f64 / all));
    }
    let mut best = 0.0;
    for (_, precision) in curve.iter_mut().rev() {
        best = f64::max(best, *precision);
        *precision = best;
    }
    let at = |step: usize| {
        // As numpy: 35 steps are more than 35 of 100.
        let recall = step as f64 * 0.01;
        let index = curve.partition_point(|(reached, _)| *reached < recall);
        curve.get(index).map_or(0.0, |(_, precision)| *precision)
    };
    (0..RECALLS).map(at).sum::<f64>() / RECALLS as f64
}

/// The boxes of a data set in COCO's JSON format.
#[derive(Debug, Clone, Default)]
pub struct Annotations {
    /// The images in the file's order.
    pub images: Vec<AnnotatedImage>,
    /// The names of all categories by their ids; empty for one that is in use and not in the list.
    pub categories: BTreeMap<i64, String>,
}

/// An image with the boxes that are on it.
#[derive(Debug, Clone)]
pub struct AnnotatedImage {
    /// Its number.
    pub id: i64,
    /// The name of its file.
    pub file_name: String,
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// What is on it, in pixels.
    pub truths: Vec<Truth>,
}

/// Why annotations cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotationError {
    /// The text is not JSON, or lacks a part of COCO's format.
    #[error("not annotations in COCO's format")]
    Format(#[from] serde_json::Error),
    /// A box on an image that is not in the list.
    #[error("annotation {annotation} is on image {image}, which is not in the list")]
    Image {
        /// The place of the annotation.
        annotation: usize,
        /// The id that it names.
        image: i64,
    },
    /// Two images with one id, or one name.
    #[error("the image {file_name:?} (id {image}) is in the list twice")]
    Twice {
        /// Its id.
        image: i64,
        /// Its name.
        file_name: String,
    },
    /// An image without an extent.
    #[error("the image {file_name:?} is {width} wide and {height} high")]
    Size {
        /// Its name.
        file_name: String,
        /// Its width.
        width: f64,
        /// Its height.
        height: f64,
    },
    /// A box with a negative extent.
    #[error("the box of annotation {annotation} is {width} wide and {height} high")]
    Extent {
        /// The place of the annotation.
        annotation: usize,
        /// The width of its box.
        width: f64,
        /// The height of its box.
        height: f64,
    },
}

#[derive(Deserialize)]
struct File {
    images: Vec<FileImage>,
    annotations: Vec<FileAnnotation>,
    #[serde(default)]
    categories: Vec<FileCategory>,
}

#[derive(Deserialize)]
struct FileImage {
    id: i64,
    file_name: String,
    width: f64,
    height: f64,
}

#[derive(Deserialize)]
struct FileAnnotation {
    image_id: i64,
    category_id: i64,
    bbox: [f64; 4],
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct FileCategory {
    id: i64,
    #[serde(default)]
    name: String,
}

impl Annotations {
    /// Reads annotations from COCO's JSON: `images`, `annotations`, `categories`.
    pub fn read(json: &str) -> Result<Self, AnnotationError> {
        let file: File = serde_json::from_str(json)?;
        let mut places = BTreeMap::new();
        let mut names = BTreeSet::new();
        let mut images = Vec::new();
        for image in file.images {
            let known = places.insert(image.id, images.len()).is_some();
            if known || !names.insert(image.file_name.clone()) {
                return Err(AnnotationError::Twice {
                    image: image.id,
                    file_name: image.file_name,
                });
            }
            if image.width <= 0.0 || image.height <= 0.0 {
                return Err(AnnotationError::Size {
                    file_name: image.file_name,
                    width: image.width,
                    height: image.height,
                });
            }
            images.push(AnnotatedImage {
                id: image.id,
                file_name: image.file_name,
                width: image.width,
                height: image.height,
                truths: Vec::new(),
            });
        }
        let named = file.categories.into_iter().map(|c| (c.id, c.name));
        let mut categories: BTreeMap<i64, String> = named.collect();
        for (index, annotation) in file.annotations.iter().enumerate() {
            let place = places.get(&annotation.image_id);
            let place = *place.ok_or(AnnotationError::Image {
                annotation: index,
                image: annotation.image_id,
            })?;
            let [x, y, width, height] = annotation.bbox;
            if width < 0.0 || height < 0.0 {
                return Err(AnnotationError::Extent {
                    annotation: index,
                    width,
                    height,
                });
            }
            categories.entry(annotation.category_id).or_default();
            images[place].truths.push(Truth {
                category: annotation.category_id,
                rect: Rect {
                    x,
                    y,
                    width,
                    height,
                },
                is_crowd: annotation.iscrowd != 0,
            });
        }
        Ok(Self { images, categories })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: f64, width: f64) -> Rect {
        Rect {
            x,
            y: 0.0,
            width,
            height: 10.0,
        }
    }

    fn found(category: i64, score: f32, rect: Rect) -> Detection {
        Detection {
            category,
            score,
            rect,
        }
    }

    fn truth(category: i64, rect: Rect) -> Truth {
        Truth {
            category,
            rect,
            is_crowd: false,
        }
    }

    #[test]
    fn what_is_found_exactly_has_a_precision_of_1() {
        let images = [(
            vec![found(3, 0.9, rect(0.0, 10.0))],
            vec![truth(3, rect(0.0, 10.0))],
        )];
        let precision = mean_average_precision(&images).unwrap();
        assert!((precision.mean - 1.0).abs() < 1e-9 && (precision.at_50 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn an_overlap_of_two_thirds_counts_at_four_thresholds() {
        // 8 of 12 in common: 0.667 reaches 0.50, 0.55, 0.60 and 0.65.
        let images = [(
            vec![found(0, 0.9, rect(2.0, 10.0))],
            vec![truth(0, rect(0.0, 10.0))],
        )];
        let precision = mean_average_precision(&images).unwrap();
        assert!((precision.mean - 0.4).abs() < 1e-9, "{precision:?}");
        assert!((precision.at_50 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_better_scored_miss_halves_precision_and_a_missed_box_halves_recall() {
        let images = [(
            vec![
                found(0, 0.9, rect(100.0, 10.0)),
                found(0, 0.8, rect(0.0, 10.0)),
            ],
            vec![truth(0, rect(0.0, 10.0)), truth(0, rect(50.0, 10.0))],
        )];
        let precision = mean_average_precision(&images).unwrap();
        // Recall reaches a half, 51 of the 101 points, at a precision of a half.
        assert!((precision.at_50 - 0.5 * 51.0 / 101.0).abs() < 1e-9);
    }

    #[test]
    fn points_of_recall_are_those_of_numpy() {
        // pycocotools gives 0.3465..., since 35 of 100 do not reach 35 * 0.01.
        let boxes = |count: u32| (0..count).map(|index| rect(f64::from(index) * 20.0, 10.0));
        let images = [(
            boxes(35).map(|rect| found(0, 0.9, rect)).collect(),
            boxes(100).map(|rect| truth(0, rect)).collect(),
        )];
        let precision = mean_average_precision(&images).unwrap();
        assert!(
            (precision.at_50 - 35.0 / 101.0).abs() < 1e-9,
            "{precision:?}"
        );
    }

    #[test]
    fn a_crowd_is_neither_found_nor_missed() {
        let crowd = Truth {
            is_crowd: true,
            ..truth(0, rect(0.0, 100.0))
        };
        let images = [(
            vec![
                found(0, 0.9, rect(10.0, 10.0)),
                found(0, 0.8, rect(200.0, 10.0)),
            ],
            vec![truth(0, rect(200.0, 10.0)), crowd],
        )];
        let precision = mean_average_precision(&images).unwrap();
        assert!((precision.at_50 - 1.0).abs() < 1e-9);
        assert_eq!(mean_average_precision(&[(Vec::new(), vec![crowd])]), None);
    }

    #[test]
    fn reads_cocos_format_and_says_what_is_missing() {
        let json = r#"{"images": [{"id": 7, "file_name": "a.jpg", "width": 20, "height": 10}],
            "annotations": [{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "iscrowd": 1}]}"#;
        let annotations = Annotations::read(json).unwrap();
        let truth = annotations.images[0].truths[0];
        assert_eq!(
            (truth.category, truth.rect.height, truth.is_crowd),
            (2, 4.0, true)
        );
        let error = Annotations::read(&json.replace("\"image_id\": 7", "\"image_id\": 8"));
        assert!(matches!(
            error,
            Err(AnnotationError::Image {
                annotation: 0,
                image: 8
            })
        ));
        let read = |from: &str, to: &str| Annotations::read(&json.replace(from, to)).unwrap_err();
        let image = r#"{"id": 7, "file_name": "a.jpg", "width": 20, "height": 10}"#;
        let error = read(image, &format!("{image}, {image}"));
        assert!(matches!(error, AnnotationError::Twice { image: 7, .. }));
        let error = read(r#""width": 20"#, r#""width": 0"#);
        assert!(matches!(error, AnnotationError::Size { .. }));
        let error = read("[1, 2, 3, 4]", "[1, 2, -3, 4]");
        assert!(matches!(error, AnnotationError::Extent { .. }));
        for end in 0..json.len() {
            let error = Annotations::read(&json[..end]).unwrap_err();
            assert!(matches!(error, AnnotationError::Format(_)), "{end}");
        }
    }
}
