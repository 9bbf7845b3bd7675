//! Functions of int16 values by a table of 512 steps with straight lines between them, as in LiteRT.

/// The values at 513 points of the whole int16 range.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table16(Box<[i16; 513]>);

const STEPS: usize = 512;

macro_rules! populate {
    ($(#[$doc:meta])* $name:ident, $float:ty) => {
        $(#[$doc])*
        pub fn $name(
            (input_min, input_max): ($float, $float),
            output_scale: $float,
            f: impl Fn($float) -> $float,
        ) -> Self {
            let step = (input_max - input_min) / STEPS as $float;
            let range = output_scale * 32767.0 - output_scale * -32768.0;
            let inverse_scale = 65536.0 / range;
            let quantized = |x: $float| f(x) * inverse_scale;
            let clamp = |y: $float| y.clamp(-32768.0, 32767.0) as i16;
            let mut table = [0; STEPS + 1];
            for (i, entry) in table.iter_mut().enumerate() {
                let x = input_min + i as $float * step;
                let sample = quantized(x).round();
                let next = quantized(input_min + (i + 1) as $float * step);
                let error = ((next + sample) / 2.0).round() - quantized(x + step / 2.0).round();
                *entry = clamp(sample - (error / 2.0).round());
            }
            table[STEPS] = clamp(quantized(input_max).round());
            Self(Box::new(table))
        }
    };
}

impl Table16 {
    populate! {
        /// Of `f` over `input_min..=input_max`, in steps of `output_scale` around 0: LiteRT's
        /// `LUTPopulate` in float32. Half of the error midway is taken off each entry.
        new, f32
    }
    populate! {
        /// The same in float64.
        new_f64, f64
    }

    /// Of `f` between two symmetric int16 tensors with these scales.
    pub fn between(input_scale: f32, output_scale: f32, f: impl Fn(f32) -> f32) -> Self {
        let range = (input_scale * -32768.0, input_scale * 32767.0);
        Self::new(range, output_scale, f)
    }

    /// The value at `x`: 9 bits for the step, 7 for the place in it.
    #[inline]
    pub fn look_up(&self, x: i16) -> i16 {
        let step = (256 + (i32::from(x) >> 7)) as usize;
        let base = self.0[step];
        let slope = i32::from(self.0[step + 1].wrapping_sub(base));
        let delta = (slope * i32::from(x & 0x7f) + 64) >> 7;
        base.wrapping_add(delta as i16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn straight_lines_are_exact() {
        let table = Table16::between(0.5, 1.0, |x| x);
        for x in [-32768, -32767, -129, -128, 0, 1, 2, 127, 32766, 32767] {
            let error = f32::from(table.look_up(x)) - f32::from(x) / 2.0;
            assert!(error.abs() <= 1.0, "{x}: {error}");
        }
    }

    #[test]
    fn what_is_beyond_the_range_saturates() {
        let table = Table16::between(1.0, 1.0, |x| if x < 0.0 { -1e9 } else { 1e9 });
        assert_eq!((table.look_up(-300), table.look_up(300)), (-32768, 32767));
    }
}
