//! Detectors: what is on the images, and how well the boxes that a model found fit it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use bantam_converter::detection::{
    AnnotatedImage, AnnotationError, Annotations, Detection, DetectorError, Found, Outputs,
    Precision, mean_average_precision,
};
use bantam_converter::samples::{Names, Resize, Samples};
use bantam_delegate::Session;

use crate::error::{self, Failure};
use crate::labels::{counted, some};
use crate::{data, output};

/// The images that are judged, with what is on them.
pub struct Truth {
    /// In the order of the samples.
    images: Vec<AnnotatedImage>,
    /// Which samples they are.
    pub places: Vec<usize>,
    categories: Categories,
}

/// Which category a class of the model is.
enum Categories {
    /// The class and this number.
    Offset(i64),
    /// One for each class, where there is one.
    List(Vec<Option<i64>>),
}

impl Categories {
    fn of(&self, class: u32) -> Option<i64> {
        match self {
            Self::Offset(offset) => i64::from(class).checked_add(*offset),
            Self::List(list) => *list.get(class as usize)?,
        }
    }
}

/// Refuses preprocessing after which a box of the model has no place on the image.
pub fn check_resize(resize: Resize) -> Result<(), Failure> {
    match resize {
        // Both keep each place at the same part of the height and of the width.
        Resize::Exact | Resize::Fit => Ok(()),
        Resize::Crop => Err(error::USAGE.failure(
            "--metric map does not go with --resize crop",
            "the model does not see what is cut off, so that it could not find what lies there",
            "say --resize fit, which stretches the whole image",
        )),
    }
}

impl Truth {
    /// Reads the annotations at `path` for those of `samples` that have some, at most `limit`.
    pub fn read(
        path: &Path,
        samples: &Samples,
        limit: Option<usize>,
        offset: Option<i64>,
        classes: Option<&[String]>,
    ) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            error::DATA_FILE.failure(
                format!("cannot read {}", path.display()),
                error.to_string(),
                "give the annotations in COCO's JSON format",
            )
        })?;
        let annotations = Annotations::read(&text).map_err(|error| failure(path, &error))?;
        let categories = match classes {
            Some(classes) => list(path, classes, &annotations)?,
            None => Categories::Offset(offset.unwrap_or_else(|| default_offset(&annotations))),
        };
        let mut found = match samples.names() {
            Some(names) => by_name(path, annotations.images, &names)?,
            None => in_order(path, annotations.images, samples.len())?,
        };
        found.truncate(limit.unwrap_or(usize::MAX));
        let (places, images) = found.into_iter().unzip();
        Ok(Self {
            images,
            places,
            categories,
        })
    }

    /// Judges the boxes of the images in `range`; `None` if there is nothing to find on them.
    pub fn judge(&self, found: &[Vec<Found>], range: Range<usize>) -> Option<Precision> {
        let images = &self.images[range];
        let truths = images.iter().flat_map(|image| &image.truths);
        let known: BTreeSet<i64> = truths.map(|truth| truth.category).collect();
        let mut fits = false;
        let mut by_id: Vec<(&AnnotatedImage, &Vec<Found>)> = images.iter().zip(found).collect();
        by_id.sort_by_key(|(image, _)| image.id);
        let judged: Vec<(Vec<Detection>, _)> = by_id
            .into_iter()
            .map(|(image, found)| {
                let detections = found.iter().filter_map(|found| {
                    let category = self.categories.of(found.class)?;
                    fits |= known.contains(&category);
                    Some(found.on((image.width, image.height), category))
                });
                (detections.collect(), image.truths.clone())
            })
            .collect();
        if !fits && found.iter().any(|found| !found.is_empty()) {
            output::warn(
                "warning: no box is of a category that is on the images; --label-offset or --classes says which \
                 class is which",
            );
        }
        mean_average_precision(&judged)
    }

    /// Says which class is taken for which category.
    pub fn describe(&self) {
        match &self.categories {
            Categories::Offset(offset) => output::warn(&format!(
                "categories: the model's class {offset:+}; {}",
                counted(self.images.len(), "image", "images")
            )),
            Categories::List(list) => output::warn(&format!(
                "categories: {} of {} classes have one; {}",
                list.iter().flatten().count(),
                list.len(),
                counted(self.images.len(), "image", "images")
            )),
        }
    }
}

/// 1, as COCO counts from there; 0 where a box has the category 0.
fn default_offset(annotations: &Annotations) -> i64 {
    let mut truths = annotations.images.iter().flat_map(|image| &image.truths);
    i64::from(!truths.any(|truth| truth.category == 0))
}

/// The category of each class by its name, or by its number.
fn list(path: &Path, classes: &[String], annotations: &Annotations) -> Result<Categories, Failure> {
    let category = |class: &String| {
        let mut named = annotations.categories.iter();
        let by_name = named.find(|(_, name)| !name.is_empty() && *name == class);
        let by_number = || {
            let id = class.parse().ok()?;
            annotations.categories.contains_key(&id).then_some(id)
        };
        by_name.map(|(id, _)| *id).or_else(by_number)
    };
    let list: Vec<Option<i64>> = classes.iter().map(category).collect();
    let of_none = classes.iter().zip(&list).filter(|(_, id)| id.is_none());
    let of_none: Vec<String> = of_none.map(|(class, _)| format!("{class:?}")).collect();
    if of_none.len() == classes.len() {
        let names: Vec<String> = annotations.categories.values().cloned().collect();
        return Err(error::ANNOTATIONS.failure(
            format!("no class is a category of {}", path.display()),
            format!(
                "the classes are {}; the categories are {}",
                some(&of_none),
                some(&names)
            ),
            "give a file of --classes with the name or the id of a category on each line",
        ));
    }
    if !of_none.is_empty() {
        output::warn(&format!(
            "warning: no category of {}, {} of {}: {}",
            path.display(),
            of_none.len(),
            counted(classes.len(), "class", "classes"),
            some(&of_none)
        ));
    }
    Ok(Categories::List(list))
}

/// The annotated images among the samples, with their places there.
fn by_name(
    path: &Path,
    images: Vec<AnnotatedImage>,
    names: &[String],
) -> Result<Vec<(usize, AnnotatedImage)>, Failure> {
    let finder = Names::new(names);
    let all = images.len();
    let mut found = BTreeMap::new();
    let mut absent = Vec::new();
    for image in images {
        match finder.find(&image.file_name) {
            Some(place) if !found.contains_key(&place) => {
                found.insert(place, image);
            }
            _ => absent.push(image.file_name),
        }
    }
    if found.is_empty() {
        return Err(error::ANNOTATIONS.failure(
            format!("no image of {} is in the data", path.display()),
            format!("it has {}; the data has {}", some(&absent), some(names)),
            "give the folder of these images with --data",
        ));
    }
    if !absent.is_empty() {
        output::warn(&format!(
            "warning: not in the data, or not under a name of their own, {} of {} of {}: {}",
            absent.len(),
            counted(all, "image", "images"),
            path.display(),
            some(&absent)
        ));
    }
    let samples = names.iter().enumerate();
    let strangers: Vec<String> = samples
        .filter(|(place, _)| !found.contains_key(place))
        .map(|(_, name)| name.clone())
        .collect();
    if !strangers.is_empty() {
        output::warn(&format!(
            "warning: not annotated and left out, {} of {}: {}",
            strangers.len(),
            counted(names.len(), "sample", "samples"),
            some(&strangers)
        ));
    }
    Ok(found.into_iter().collect())
}

/// All images, for samples without names.
fn in_order(
    path: &Path,
    images: Vec<AnnotatedImage>,
    samples: usize,
) -> Result<Vec<(usize, AnnotatedImage)>, Failure> {
    if images.len() != samples {
        return Err(error::ANNOTATIONS.failure(
            format!("{} is of other images", path.display()),
            format!(
                "it has {}, the data has {samples} without names",
                images.len()
            ),
            "give the images as a folder, or as an array in the order of the annotations",
        ));
    }
    Ok(images.into_iter().enumerate().collect())
}

fn failure(path: &Path, error: &AnnotationError) -> Failure {
    error::ANNOTATIONS.failure(
        format!("the annotations of {} cannot be used", path.display()),
        error::chain(error),
        "give COCO's JSON: images, annotations with bbox and category_id, categories",
    )
}

/// A model whose outputs are no boxes.
pub fn detector(path: &Path, error: &DetectorError) -> Failure {
    error::DETECTOR.failure(
        format!("{} gives no boxes", path.display()),
        error::chain(error),
        "look at its outputs with `bantam inspect`; `bantam explain BNT-M007` says what they have to be",
    )
}

/// The boxes of the last run.
pub fn found(path: &Path, session: &Session, outputs: Outputs) -> Result<Vec<Found>, Failure> {
    let values = |index: usize| -> Result<Vec<f32>, Failure> {
        let Some(info) = session.outputs().get(index) else {
            return Ok(Vec::new());
        };
        let dtype = data::numpy_type(path, &info.name, info.dtype)?;
        Ok(data::reals(info, dtype, session.output(index)))
    };
    let found = Found::read(
        &values(outputs.boxes)?,
        &values(outputs.classes)?,
        &values(outputs.scores)?,
        &values(outputs.count)?,
    );
    found.map_err(|error| detector(path, &error))
}
