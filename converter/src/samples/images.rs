//! Pictures as samples: decoded, given the input's size and channels, as uint8.
//!
//! EXIF orientation is not applied, alpha is dropped without blending, and grey is
//! `0.299 R + 0.587 G + 0.114 B`: all as in Pillow and TensorFlow.

use std::path::Path;

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};

use super::{ChannelOrder, InputSpec, Preprocess, Resize, SampleError};

/// Most that one decoded picture may take.
const MAX_IMAGE_BYTES: u64 = 256 << 20;

/// An input that takes pictures.
#[derive(Debug, PartialEq)]
struct Frame {
    height: u32,
    width: u32,
    channels: usize,
    channels_first: bool,
}

impl Frame {
    /// `[1, H, W, C]`, or `[1, C, H, W]` where only that reading gives 1 or 3 channels; the axes of a batch
    /// and of one channel may be absent.
    fn of(input: &InputSpec) -> Result<Self, SampleError> {
        let (height, width, channels, channels_first) = match *input.shape {
            [1, h, w, c @ (1 | 3)] => (h, w, c, false),
            [1, c @ (1 | 3), h, w] => (h, w, c, true),
            [h, w, c @ (1 | 3)] => (h, w, c, false),
            [1, h, w] | [h, w] => (h, w, 1, false),
            _ => (0, 0, 0, false),
        };
        match (u32::try_from(height), u32::try_from(width)) {
            (Ok(height), Ok(width))
                if height > 0
                    && width > 0
                    && u64::from(height) * u64::from(width) <= MAX_IMAGE_BYTES / 3 =>
            {
                Ok(Self {
                    height,
                    width,
                    channels,
                    channels_first,
                })
            }
            _ => Err(SampleError::NotImageInput {
                input: input.name.clone(),
                shape: input.shape.clone(),
            }),
        }
    }
}

/// The picture at `path` as uint8 elements in the order of `input`'s shape.
pub(super) fn read(
    path: &Path,
    input: &InputSpec,
    preprocess: &Preprocess,
) -> Result<Vec<u8>, SampleError> {
    let frame = Frame::of(input)?;
    let picture = resize(decode(path, &frame, preprocess.resize)?, &frame);
    Ok(elements(&picture, &frame, preprocess.channel_order))
}

/// Decodes, and cuts to the frame's aspect ratio if asked to.
fn decode(path: &Path, frame: &Frame, how: Resize) -> Result<RgbImage, SampleError> {
    let image_error = |source| SampleError::Image {
        path: path.to_owned(),
        source,
    };
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_IMAGE_BYTES);
    let mut reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(SampleError::reading(path))?;
    reader.limits(limits.clone());
    let decoder = reader.into_decoder().map_err(image_error)?;
    let (width, height) = decoder.dimensions();
    let wrong_size = how == Resize::Exact && (width, height) != (frame.width, frame.height);
    if wrong_size || width == 0 || height == 0 {
        return Err(SampleError::ImageSize {
            path: path.to_owned(),
            found: (width as usize, height as usize),
            expected: (frame.width as usize, frame.height as usize),
        });
    }
    limits.reserve(decoder.total_bytes()).map_err(image_error)?;
    let picture = DynamicImage::from_decoder(decoder)
        .map_err(image_error)?
        .into_rgb8();
    if how != Resize::Crop {
        return Ok(picture);
    }
    // Cutting before scaling is the same picture and keeps a long strip from becoming a huge one.
    let (w, h) = centre_region((width, height), (frame.width, frame.height));
    Ok(imageops::crop_imm(&picture, (width - w) / 2, (height - h) / 2, w, h).to_image())
}

/// The largest region of the aspect ratio of `target` in a picture of size `(width, height)`.
fn centre_region((width, height): (u32, u32), target: (u32, u32)) -> (u32, u32) {
    let (w, h) = (u64::from(width), u64::from(height));
    let (tw, th) = (u64::from(target.0), u64::from(target.1));
    let rounded = |a: u64, b: u64| ((a + b / 2) / b).max(1) as u32;
    if w * th > h * tw {
        (rounded(h * tw, th).min(width), height)
    } else {
        (width, rounded(w * th, tw).min(height))
    }
}

fn resize(picture: RgbImage, frame: &Frame) -> RgbImage {
    if picture.dimensions() == (frame.width, frame.height) {
        return picture;
    }
    imageops::resize(&picture, frame.width, frame.height, FilterType::Triangle)
}

fn elements(picture: &RgbImage, frame: &Frame, order: ChannelOrder) -> Vec<u8> {
    if frame.channels == 1 {
        return picture.pixels().map(|p| grey(p.0)).collect();
    }
    let ordered = |[r, g, b]: [u8; 3]| {
        if order == ChannelOrder::Bgr {
            [b, g, r]
        } else {
            [r, g, b]
        }
    };
    if frame.channels_first {
        return (0..3)
            .flat_map(|c| picture.pixels().map(move |p| ordered(p.0)[c]))
            .collect();
    }
    picture.pixels().flat_map(|p| ordered(p.0)).collect()
}

/// Pillow's mode L.
fn grey([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use image::{ImageFormat, Luma, Rgb, Rgba};

    use super::super::{ElementType, Normalize};
    use super::*;

    fn input(shape: &[usize]) -> InputSpec {
        InputSpec {
            name: "image".into(),
            shape: shape.to_vec(),
            dtype: ElementType::U8,
            quantization: None,
        }
    }

    fn with(channel_order: ChannelOrder, resize: Resize) -> Preprocess {
        Preprocess {
            normalize: Normalize::default(),
            channel_order,
            resize,
        }
    }

    fn save(dir: &tempfile::TempDir, name: &str, picture: impl Into<DynamicImage>) -> PathBuf {
        let path = dir.path().join(name);
        picture.into().save(&path).unwrap();
        path
    }

    #[test]
    fn orders_channels_and_layouts() {
        let dir = tempfile::tempdir().unwrap();
        let picture =
            RgbImage::from_fn(2, 1, |x, _| Rgb(if x == 0 { [1, 2, 3] } else { [4, 5, 6] }));
        let path = save(&dir, "a.bmp", picture);
        let exact = |order, shape: &[usize]| {
            read(&path, &input(shape), &with(order, Resize::Exact)).unwrap()
        };
        assert_eq!(exact(ChannelOrder::Rgb, &[1, 1, 2, 3]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(exact(ChannelOrder::Bgr, &[1, 2, 3]), [3, 2, 1, 6, 5, 4]);
        assert_eq!(exact(ChannelOrder::Rgb, &[1, 3, 1, 2]), [1, 4, 2, 5, 3, 6]);
        assert_eq!(exact(ChannelOrder::Rgb, &[1, 1, 2, 1]), [2, 5]);
    }

    #[test]
    fn drops_alpha_and_spreads_grey() {
        let dir = tempfile::tempdir().unwrap();
        let clear = save(
            &dir,
            "a.png",
            image::RgbaImage::from_pixel(1, 1, Rgba([9, 8, 7, 0])),
        );
        let dark = save(
            &dir,
            "b.png",
            image::GrayImage::from_pixel(1, 1, Luma([77])),
        );
        let deep = save(
            &dir,
            "c.png",
            DynamicImage::from(image::ImageBuffer::from_pixel(1, 1, Luma([0x4d4du16]))),
        );
        let exact = Preprocess::default();
        assert_eq!(
            read(&clear, &input(&[1, 1, 1, 3]), &exact).unwrap(),
            [9, 8, 7]
        );
        assert_eq!(
            read(&dark, &input(&[1, 1, 1, 3]), &exact).unwrap(),
            [77, 77, 77]
        );
        assert_eq!(read(&dark, &input(&[1, 1, 1, 1]), &exact).unwrap(), [77]);
        assert_eq!(read(&deep, &input(&[1, 1]), &exact).unwrap(), [77]);
        assert_eq!(
            [
                grey([255, 0, 0]),
                grey([0, 255, 0]),
                grey([0, 0, 255]),
                grey([255; 3])
            ],
            [76, 150, 29, 255]
        );
    }

    #[test]
    fn reads_every_format_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::Bmp,
            ImageFormat::WebP,
        ] {
            let path = dir.path().join("misnamed.jpg");
            RgbImage::from_pixel(8, 8, Rgb([128; 3]))
                .save_with_format(&path, format)
                .unwrap();
            let pixels = read(&path, &input(&[1, 8, 8, 3]), &Preprocess::default()).unwrap();
            assert!(pixels.iter().all(|p| p.abs_diff(128) <= 1), "{format:?}");
        }
    }

    #[test]
    fn crop_keeps_the_centre_and_fit_keeps_all() {
        let dir = tempfile::tempdir().unwrap();
        // Columns 10, 20, 20, 10, each 2 wide and high.
        let striped = RgbImage::from_fn(8, 2, |x, _| {
            Rgb(if (2..6).contains(&x) {
                [20; 3]
            } else {
                [10; 3]
            })
        });
        let path = save(&dir, "a.png", striped);
        let get = |how, shape: &[usize]| read(&path, &input(shape), &with(ChannelOrder::Rgb, how));
        assert_eq!(get(Resize::Crop, &[1, 2, 4, 1]).unwrap(), [20; 8]);
        assert_eq!(get(Resize::Crop, &[1, 1, 1, 1]).unwrap(), [20]);
        let fit = get(Resize::Fit, &[1, 2, 2, 1]).unwrap();
        assert!(fit.iter().all(|&p| (11..20).contains(&p)), "{fit:?}");
        let error = get(Resize::Exact, &[1, 2, 2, 1]).unwrap_err();
        assert!(
            matches!(
                error,
                SampleError::ImageSize {
                    found: (8, 2),
                    expected: (2, 2),
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn crops_strips_to_at_least_one_pixel() {
        assert_eq!(centre_region((500, 375), (224, 224)), (375, 375));
        assert_eq!(centre_region((375, 500), (224, 112)), (375, 188));
        assert_eq!(centre_region((1, 30000), (224, 1)), (1, 1));
        assert_eq!(centre_region((u32::MAX, 1), (1, u32::MAX)), (1, 1));
    }

    #[test]
    fn refuses_inputs_that_take_no_picture() {
        for shape in [
            &[1, 640][1..],
            &[1, 8, 8, 4],
            &[2, 8, 8, 3],
            &[1, 0, 8, 3],
            &[1, 1 << 20, 1 << 20, 3],
        ] {
            assert!(
                matches!(
                    Frame::of(&input(shape)),
                    Err(SampleError::NotImageInput { .. })
                ),
                "{shape:?}"
            );
        }
    }

    #[test]
    fn a_cut_picture_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = save(
            &dir,
            "a.png",
            RgbImage::from_fn(16, 16, |x, y| Rgb([x as u8, y as u8, 3])),
        );
        let whole = std::fs::read(&path).unwrap();
        for len in [0, 4, 20, whole.len() / 2] {
            std::fs::write(&path, &whole[..len]).unwrap();
            let error = read(&path, &input(&[1, 16, 16, 3]), &Preprocess::default()).unwrap_err();
            assert!(matches!(error, SampleError::Image { .. }), "{len}: {error}");
        }
    }
}
