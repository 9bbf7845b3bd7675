//! Test data, and the direct loops that the portable set is compared with.

use crate::{ConvGeometry, Multiplier, OutputStage, Requantize, quantize_multiplier};

/// xorshift64*.
pub(crate) struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// All values of i8 in `-127..=127`, the extremes often.
    pub fn i8s(&mut self, len: usize) -> Vec<i8> {
        let value = |bits: u64| {
            if bits & 7 == 0 {
                [-128, 127][(bits >> 60) as usize & 1]
            } else {
                (bits >> 40) as i8
            }
        };
        (0..len).map(|_| value(self.bits())).collect()
    }

    pub fn i32s(&mut self, len: usize) -> Vec<i32> {
        (0..len)
            .map(|_| (self.bits() >> 50) as i32 - 8000)
            .collect()
    }

    /// All values of i16, the extremes often.
    pub fn i16s(&mut self, len: usize) -> Vec<i16> {
        let value = |bits: u64| {
            if bits & 7 == 0 {
                [i16::MIN, i16::MAX][(bits >> 60) as usize & 1]
            } else {
                (bits >> 40) as i16
            }
        };
        (0..len).map(|_| value(self.bits())).collect()
    }

    /// Of 41 bits, with a sign.
    pub fn i64s(&mut self, len: usize) -> Vec<i64> {
        (0..len).map(|_| self.bits() as i64 >> 23).collect()
    }

    /// In `[-1, 1)`.
    pub fn f32s(&mut self, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0)
            .collect()
    }

    /// A stage of each kind that spreads sums of `depth` products over the outputs.
    pub fn stages(&mut self, depth: usize, columns: usize) -> [OutputStage; 3] {
        let base = 1.0 / (80.0 * (depth as f64).sqrt());
        let scale: Vec<f64> = self
            .f32s(columns)
            .iter()
            .map(|&x| base * (1.5 + f64::from(x)))
            .collect();
        let multiplier: Vec<Multiplier> = scale
            .iter()
            .map(|&scale| quantize_multiplier(scale))
            .collect();
        let stage = |requantize| OutputStage {
            requantize,
            zero_point: -7,
            min: -120,
            max: 111,
        };
        [
            stage(Requantize::Float {
                scale: scale.iter().map(|&scale| scale as f32).collect(),
            }),
            stage(Requantize::Fixed { multiplier }),
            stage(Requantize::Double { scale }),
        ]
    }
}

impl Random {
    /// A stage to int16 of each kind that spreads sums of `depth` products over the outputs.
    pub fn stages_i16(&mut self, depth: usize, columns: usize) -> [OutputStage; 3] {
        let [_, fixed, double] = self.stages(depth, columns);
        let stage = |requantize| OutputStage {
            requantize,
            zero_point: 0,
            min: -30000,
            max: 32767,
        };
        let Requantize::Fixed { multiplier } = fixed.requantize else {
            unreachable!("the second stage has multipliers");
        };
        let wide = Requantize::Wide {
            multiplier: multiplier.clone(),
        };
        [
            stage(wide),
            stage(Requantize::Fixed { multiplier }),
            stage(double.requantize),
        ]
    }
}

/// Sums the products under the filter for each output element; `depthwise` takes `groups` to be `in_depth` and weights as
/// `filter_h, filter_w, out_depth`. `term` multiplies an input with a weight, by their indices.
pub(crate) fn direct<A: Clone>(
    geometry: &ConvGeometry,
    depthwise: bool,
    zero: A,
    term: impl Fn(&mut A, usize, usize),
) -> Vec<A> {
    let g = geometry;
    let groups = if depthwise { g.in_depth } else { g.groups };
    let (group_in, group_out) = (g.in_depth / groups, g.out_depth / groups);
    let mut sums = vec![zero; g.output_len()];
    for (index, sum) in sums.iter_mut().enumerate() {
        let (column, pixel) = (index % g.out_depth, index / g.out_depth);
        let (x, y, batch) = (
            pixel % g.out_w,
            pixel / g.out_w % g.out_h,
            pixel / g.out_w / g.out_h,
        );
        for filter_y in 0..g.filter_h {
            for filter_x in 0..g.filter_w {
                let in_y = (y * g.stride_h + filter_y * g.dilation_h).wrapping_sub(g.pad_top);
                let in_x = (x * g.stride_w + filter_x * g.dilation_w).wrapping_sub(g.pad_left);
                if in_y >= g.in_h || in_x >= g.in_w {
                    continue;
                }
                for depth in 0..group_in {
                    let channel = column / group_out * group_in + depth;
                    let input = ((batch * g.in_h + in_y) * g.in_w + in_x) * g.in_depth + channel;
                    let tap = filter_y * g.filter_w + filter_x;
                    let weight = if depthwise {
                        tap * g.out_depth + column
                    } else {
                        (column * g.filter_h * g.filter_w + tap) * group_in + depth
                    };
                    term(sum, input, weight);
                }
            }
        }
    }
    sums
}

/// A geometry by its distinct numbers: input, filter and depths; stride, dilation, `pad` on all sides.
pub(crate) fn geometry(
    (batch, in_h, in_w, in_depth): (usize, usize, usize, usize),
    (filter_h, filter_w, out_depth): (usize, usize, usize),
    (stride, dilation, pad, groups): (usize, usize, usize, usize),
) -> ConvGeometry {
    let out = |size, filter| (size + 2 * pad - (filter - 1) * dilation - 1) / stride + 1;
    ConvGeometry {
        batch,
        in_h,
        in_w,
        in_depth,
        out_h: out(in_h, filter_h),
        out_w: out(in_w, filter_w),
        out_depth,
        filter_h,
        filter_w,
        stride_h: stride,
        stride_w: stride,
        dilation_h: dilation,
        dilation_w: dilation,
        pad_top: pad,
        pad_left: pad,
        groups,
    }
}

/// Calls `test` inside a pool, as sessions do.
pub(crate) fn in_pool(test: impl FnOnce() + Send) {
    rayon::ThreadPoolBuilder::new()
        .num_threads(3)
        .build()
        .expect("a pool")
        .install(test);
}

/// Asserts that float sums agree: within 2e-5, for some hundred products of values within 1.
pub(crate) fn assert_close(actual: &[f32], expected: &[f32], what: &str) {
    assert_eq!(actual.len(), expected.len());
    for (index, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (actual - expected).abs() <= 2e-5,
            "{what}: element {index} is {actual}, not {expected}"
        );
    }
}
