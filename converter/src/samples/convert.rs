//! From the element type of the data to that of the model's input.

use half::f16;

use super::{ElementType, InputSpec, Normalize, SampleError};

/// What happens to the values on their way into one input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Treatment {
    /// Same integer type on both sides: the bytes as they are.
    Raw,
    /// Real values for a float input, after preprocessing.
    Real(Normalize),
    /// Real values for a quantized input, after preprocessing: `round(x / scale) + zero_point`, halves away from zero.
    Quantize {
        normalize: Normalize,
        scale: f32,
        zero_point: i64,
    },
    /// Whole numbers (ids, flags) for an integer input without quantization; each must exist in its type.
    Whole,
}

impl Treatment {
    pub(super) fn of(from: ElementType, to: &InputSpec, normalize: Normalize) -> Self {
        if to.dtype.is_float() {
            return Self::Real(normalize);
        }
        if from == to.dtype {
            return Self::Raw;
        }
        match to.usable_quantization() {
            Some((scale, zero_point)) => Self::Quantize {
                normalize,
                scale,
                zero_point,
            },
            None => Self::Whole,
        }
    }

    /// Why pixels (0 to 255) most likely come without the normalization that the float model had.
    pub(super) fn pixel_warning(self, to: &InputSpec) -> Option<String> {
        if let Self::Real(normalize) = self
            && normalize.apply(255.0) == 255.0
            && normalize.apply(0.0) == 0.0
        {
            return Some(format!(
                "pixels go into input {} as 0 to 255; if the model was trained on 0 to 1 or -1 to 1, \
                 say so: --std 255, or --mean 127.5 --std 127.5",
                to.name
            ));
        }
        let Self::Quantize {
            normalize,
            scale,
            zero_point,
        } = self
        else {
            return None;
        };
        let (low, high) = to.dtype.integer_range()?;
        let real = |q: i128| (q - i128::from(zero_point)) as f32 * scale;
        let (black, white) = (normalize.apply(0.0), normalize.apply(255.0));
        if (white - black).abs() <= 2.0 * (real(high) - real(low)) {
            return None;
        }
        Some(format!(
            "values 0 to 255 become {black} to {white} for input {}, which takes {} to {}",
            to.name,
            real(low),
            real(high)
        ))
    }

    /// For a line that tells the user: `x*0.5-1, quantized to int8`.
    pub(super) fn describe(self, to: ElementType) -> String {
        match self {
            Self::Raw => "as stored".to_owned(),
            Self::Real(normalize) => normalize.to_string(),
            Self::Quantize { normalize, .. } => format!("{normalize}, quantized to {to}"),
            Self::Whole => format!("whole numbers as {to}"),
        }
    }
}

/// The values of one sample, native-endian, as the input `to` takes them. `sample` is for errors.
pub(super) fn convert(
    bytes: Vec<u8>,
    from: ElementType,
    to: &InputSpec,
    normalize: Normalize,
    sample: usize,
) -> Result<Vec<u8>, SampleError> {
    let not_finite = |value: f64| SampleError::NotFinite {
        sample,
        input: to.name.clone(),
        value,
        dtype: to.dtype,
    };
    match Treatment::of(from, to, normalize) {
        Treatment::Raw => Ok(bytes),
        Treatment::Real(normalize) => {
            if from == to.dtype && normalize.is_identity() {
                let mut values: Box<dyn Iterator<Item = f64>> = match from {
                    ElementType::F64 => Box::new(map(&bytes, |x: f64| x).into_iter()),
                    _ => Box::new(reals(from, &bytes).into_iter().map(f64::from)),
                };
                return match values.find(|x| !x.is_finite()) {
                    Some(x) => Err(not_finite(x)),
                    None => Ok(bytes),
                };
            }
            let values: Vec<f32> = reals(from, &bytes)
                .into_iter()
                .map(|x| normalize.apply(x))
                .collect();
            encode_float(&values, to.dtype).map_err(not_finite)
        }
        Treatment::Quantize {
            normalize,
            scale,
            zero_point,
        } => {
            let (low, high) = to.dtype.integer_range().unwrap_or((0, 0));
            let mut out = Vec::with_capacity(bytes.len() / from.size() * to.dtype.size());
            for x in reals(from, &bytes) {
                let x = normalize.apply(x);
                if !x.is_finite() {
                    return Err(not_finite(x.into()));
                }
                let q = f64::from((x / scale).round()) + zero_point as f64;
                push_integer(&mut out, i128::from(q as i64).clamp(low, high), to.dtype);
            }
            Ok(out)
        }
        Treatment::Whole => {
            let unrepresentable = |value| SampleError::Unrepresentable {
                sample,
                input: to.name.clone(),
                value,
                dtype: to.dtype,
            };
            let (low, high) = to.dtype.integer_range().unwrap_or((0, 0));
            let mut out = Vec::with_capacity(bytes.len() / from.size() * to.dtype.size());
            for x in wholes(from, &bytes).map_err(unrepresentable)? {
                if x < low || x > high {
                    return Err(unrepresentable(x as f64));
                }
                push_integer(&mut out, x, to.dtype);
            }
            Ok(out)
        }
    }
}

/// Every element as float32, rounded where float32 is coarser.
pub(super) fn reals(from: ElementType, bytes: &[u8]) -> Vec<f32> {
    match from {
        ElementType::Bool => bytes.iter().map(|&b| f32::from(u8::from(b != 0))).collect(),
        ElementType::I8 => map(bytes, |x: i8| x.into()),
        ElementType::I16 => map(bytes, |x: i16| x.into()),
        ElementType::I32 => map(bytes, |x: i32| x as f32),
        ElementType::I64 => map(bytes, |x: i64| x as f32),
        ElementType::U8 => map(bytes, |x: u8| x.into()),
        ElementType::U16 => map(bytes, |x: u16| x.into()),
        ElementType::U32 => map(bytes, |x: u32| x as f32),
        ElementType::U64 => map(bytes, |x: u64| x as f32),
        ElementType::F16 => map(bytes, |x: u16| f16::from_bits(x).into()),
        ElementType::F32 => map(bytes, |x: f32| x),
        ElementType::F64 => map(bytes, |x: f64| x as f32),
    }
}

/// Every element as an integer; the first that is none is the error.
pub(super) fn wholes(from: ElementType, bytes: &[u8]) -> Result<Vec<i128>, f64> {
    let whole = |x: f64| {
        if x.fract() == 0.0 {
            Ok(x as i128)
        } else {
            Err(x)
        }
    };
    Ok(match from {
        ElementType::Bool => bytes.iter().map(|&b| i128::from(b != 0)).collect(),
        ElementType::I8 => map(bytes, |x: i8| x.into()),
        ElementType::I16 => map(bytes, |x: i16| x.into()),
        ElementType::I32 => map(bytes, |x: i32| x.into()),
        ElementType::I64 => map(bytes, |x: i64| x.into()),
        ElementType::U8 => map(bytes, |x: u8| x.into()),
        ElementType::U16 => map(bytes, |x: u16| x.into()),
        ElementType::U32 => map(bytes, |x: u32| x.into()),
        ElementType::U64 => map(bytes, |x: u64| x.into()),
        ElementType::F64 => map(bytes, |x: f64| x)
            .into_iter()
            .map(whole)
            .collect::<Result<_, _>>()?,
        ElementType::F16 | ElementType::F32 => reals(from, bytes)
            .into_iter()
            .map(|x| whole(x.into()))
            .collect::<Result<_, _>>()?,
    })
}

fn map<T: bytemuck::AnyBitPattern, U>(bytes: &[u8], f: impl Fn(T) -> U) -> Vec<U> {
    bytes
        .chunks_exact(size_of::<T>())
        .map(|c| f(bytemuck::pod_read_unaligned(c)))
        .collect()
}

/// The error is the first value that is not finite in `to`.
fn encode_float(values: &[f32], to: ElementType) -> Result<Vec<u8>, f64> {
    let mut out = Vec::with_capacity(values.len() * to.size());
    for &x in values {
        if !x.is_finite() || (to == ElementType::F16 && f16::from_f32(x).is_infinite()) {
            return Err(x.into());
        }
        match to {
            ElementType::F16 => out.extend_from_slice(&f16::from_f32(x).to_ne_bytes()),
            ElementType::F64 => out.extend_from_slice(&f64::from(x).to_ne_bytes()),
            _ => out.extend_from_slice(&x.to_ne_bytes()),
        }
    }
    Ok(out)
}

/// Appends `x`, which lies in the range of the integer type `to`.
fn push_integer(out: &mut Vec<u8>, x: i128, to: ElementType) {
    match to.size() {
        1 => out.push(x as u8),
        2 => out.extend_from_slice(&(x as u16).to_ne_bytes()),
        4 => out.extend_from_slice(&(x as u32).to_ne_bytes()),
        _ => out.extend_from_slice(&(x as u64).to_ne_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Normalize = Normalize::ScaleBias {
        scale: 1.0,
        bias: 0.0,
    };

    fn input(dtype: ElementType, quantization: Option<(f32, i64)>) -> InputSpec {
        InputSpec {
            name: "x".into(),
            shape: vec![1, 2],
            dtype,
            quantization,
        }
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        bytemuck::cast_slice(values).to_vec()
    }

    #[test]
    fn every_type_becomes_float_then_is_normalized() {
        let to = input(ElementType::F32, None);
        let normalize = Normalize::ScaleBias {
            scale: 0.5,
            bias: -1.0,
        };
        let cases: [(ElementType, Vec<u8>); 12] = [
            (ElementType::Bool, vec![0, 1]),
            (ElementType::I8, vec![0, 1]),
            (ElementType::U8, vec![0, 1]),
            (ElementType::I16, bytemuck::cast_slice(&[0i16, 1]).to_vec()),
            (ElementType::U16, bytemuck::cast_slice(&[0u16, 1]).to_vec()),
            (ElementType::I32, bytemuck::cast_slice(&[0i32, 1]).to_vec()),
            (ElementType::U32, bytemuck::cast_slice(&[0u32, 1]).to_vec()),
            (ElementType::I64, bytemuck::cast_slice(&[0i64, 1]).to_vec()),
            (ElementType::U64, bytemuck::cast_slice(&[0u64, 1]).to_vec()),
            (
                ElementType::F16,
                bytemuck::cast_slice(&[0u16, 0x3c00]).to_vec(),
            ),
            (ElementType::F32, floats(&[0.0, 1.0])),
            (
                ElementType::F64,
                bytemuck::cast_slice(&[0f64, 1.0]).to_vec(),
            ),
        ];
        for (from, bytes) in cases {
            assert_eq!(
                convert(bytes, from, &to, normalize, 0).unwrap(),
                floats(&[-1.0, -0.5]),
                "{from}"
            );
        }
    }

    #[test]
    fn quantizes_with_halves_away_from_zero_and_clamps() {
        let to = input(ElementType::I8, Some((0.5, -1)));
        let real = floats(&[0.25, -0.25, 1.0, 1e9, -1e9]);
        let q = convert(real, ElementType::F32, &to, IDENTITY, 0).unwrap();
        assert_eq!(bytemuck::cast_slice::<u8, i8>(&q), [0, -2, 1, 127, -128]);
        let wide = input(ElementType::I16, Some((1.0, 0)));
        let q = convert(floats(&[-2.5, 4e4]), ElementType::F32, &wide, IDENTITY, 0).unwrap();
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, i16>(&q), [-3, 32767]);
    }

    #[test]
    fn pixels_for_an_int8_input_are_real_values() {
        let to = input(ElementType::I8, Some((1.0 / 255.0, -128)));
        let normalize = Normalize::MeanStd {
            mean: 0.0,
            std: 255.0,
        };
        let q = convert(vec![0, 1, 255], ElementType::U8, &to, normalize, 0).unwrap();
        assert_eq!(bytemuck::cast_slice::<u8, i8>(&q), [-128, -127, 127]);
    }

    #[test]
    fn warns_of_pixels_far_outside_the_input() {
        let to = input(ElementType::I8, Some((1.0 / 256.0, -128)));
        let warning = |normalize| Treatment::of(ElementType::U8, &to, normalize).pixel_warning(&to);
        let text = warning(IDENTITY).unwrap();
        assert_eq!(
            text,
            "values 0 to 255 become 0 to 255 for input x, which takes 0 to 0.99609375"
        );
        assert_eq!(
            warning(Normalize::MeanStd {
                mean: 0.0,
                std: 255.0
            }),
            None
        );
        assert_eq!(Treatment::Raw.pixel_warning(&to), None);
        let float = input(ElementType::F32, None);
        let warning =
            |normalize| Treatment::of(ElementType::U8, &float, normalize).pixel_warning(&float);
        assert!(warning(IDENTITY).unwrap().contains("--std 255"));
        let unit = Normalize::MeanStd {
            mean: 0.0,
            std: 255.0,
        };
        assert_eq!(warning(unit), None);
    }

    #[test]
    fn integers_of_the_same_type_pass_untouched() {
        let to = input(ElementType::U8, Some((0.1, 3)));
        let normalize = Normalize::MeanStd {
            mean: 1.0,
            std: 2.0,
        };
        assert_eq!(
            convert(vec![0, 200], ElementType::U8, &to, normalize, 0).unwrap(),
            [0, 200]
        );
    }

    #[test]
    fn whole_numbers_change_their_width_and_nothing_else() {
        let ids = input(ElementType::I32, Some((0.0, 0)));
        let normalize = Normalize::MeanStd {
            mean: 1.0,
            std: 2.0,
        };
        let wide = bytemuck::cast_slice(&[7i64, -1]).to_vec();
        let narrow = convert(wide, ElementType::I64, &ids, normalize, 0).unwrap();
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, i32>(&narrow), [7, -1]);
        let whole = convert(floats(&[3.0]), ElementType::F32, &ids, normalize, 0).unwrap();
        assert_eq!(whole, 3i32.to_ne_bytes());
        let flag = input(ElementType::Bool, None);
        assert_eq!(
            convert(vec![0, 1], ElementType::U8, &flag, normalize, 0).unwrap(),
            [0, 1]
        );
        for (bytes, from, to) in [
            (
                bytemuck::cast_slice(&[1i64 << 40]).to_vec(),
                ElementType::I64,
                &ids,
            ),
            (floats(&[0.5]), ElementType::F32, &ids),
            (floats(&[f32::NAN]), ElementType::F32, &ids),
            (floats(&[f32::INFINITY]), ElementType::F32, &ids),
            (vec![2], ElementType::U8, &flag),
        ] {
            let error = convert(bytes, from, to, normalize, 4).unwrap_err();
            assert!(
                matches!(error, SampleError::Unrepresentable { sample: 4, .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn names_the_sample_and_input_of_a_value_that_is_not_finite() {
        let double = |x: f64| x.to_ne_bytes().to_vec();
        for (bytes, from, to) in [
            (
                floats(&[1.0, f32::NAN]),
                ElementType::F32,
                input(ElementType::F32, None),
            ),
            (
                floats(&[f32::INFINITY]),
                ElementType::F32,
                input(ElementType::I8, Some((1.0, 0))),
            ),
            (
                floats(&[70000.0]),
                ElementType::F32,
                input(ElementType::F16, None),
            ),
            (
                double(1e300),
                ElementType::F64,
                input(ElementType::F32, None),
            ),
            (
                double(f64::NAN),
                ElementType::F64,
                input(ElementType::F64, None),
            ),
        ] {
            let error = convert(bytes, from, &to, IDENTITY, 9).unwrap_err();
            assert!(
                error.to_string().starts_with("sample 9 has the value "),
                "{error}"
            );
            assert!(error.to_string().contains("input x"), "{error}");
        }
        let to = input(ElementType::F64, None);
        assert_eq!(
            convert(double(1e300), ElementType::F64, &to, IDENTITY, 0).unwrap(),
            double(1e300)
        );
    }
}
