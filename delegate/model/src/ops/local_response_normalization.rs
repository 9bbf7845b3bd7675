//! `LOCAL_RESPONSE_NORMALIZATION`: `output = x * (bias + alpha * sum(x^2))^-beta`, the sum over the
//! channels within `radius` of each.
//!
//! One operand, float32, NHWC. LiteRT's reference kernel leaves the last of those channels out
//! (`c - radius..c + radius`), its optimized one does not; each numerics follows its own.

use super::pointwise::{unary_shapes, unary_type};
use super::{Attributes, Numerics, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `LOCAL_RESPONSE_NORMALIZATION`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LocalResponseNormalization {
    /// How many channels to each side count.
    pub radius: i32,
    /// Added to the sum.
    pub bias: f32,
    /// Factor of the sum.
    pub alpha: f32,
    /// The power of the divisor.
    pub beta: f32,
}

impl Attributes for LocalResponseNormalization {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_local_response_normalization_options();
        let options = options.cloned().unwrap_or_default();
        Ok(Self {
            radius: options.radius,
            bias: options.bias,
            alpha: options.alpha,
            beta: options.beta,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        let options = tfl::LocalResponseNormalizationOptionsT {
            radius: self.radius,
            bias: self.bias,
            alpha: self.alpha,
            beta: self.beta,
        };
        tfl::BuiltinOptionsT::LocalResponseNormalizationOptions(Box::new(options))
    }
}

impl Operator for LocalResponseNormalization {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        io.input(0)?.shape_n::<4>()?;
        unary_shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let [.., depth] = io.input(0)?.shape_n::<4>()?;
        if unary_type(io)? != DType::F32 {
            return Err(io.unsupported(0));
        }
        let before = usize::try_from(self.radius)
            .map_err(|_| OpError::Attribute(format!("radius {}", self.radius)))?;
        let after = match io.numerics {
            Numerics::Reference => before,
            Numerics::Fast => before + 1,
        };
        let Self {
            bias, alpha, beta, ..
        } = *self;
        let depth = depth.max(1);
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<f32>(0);
            let rows = parts.inputs.get::<f32>(0).chunks_exact(depth);
            for (row, out) in rows.zip(parts.output.chunks_exact_mut(depth)) {
                for (channel, out) in out.iter_mut().enumerate() {
                    let end = channel.saturating_add(after).min(depth);
                    let near = &row[channel.saturating_sub(before).min(end)..end];
                    let sum: f32 = near.iter().map(|x| x * x).sum();
                    *out = row[channel] * (bias + alpha * sum).powf(-beta);
                }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval_with, signature};

    #[test]
    fn counts_the_channels_of_each_numerics() {
        let op = LocalResponseNormalization {
            radius: 1,
            bias: 1.0,
            alpha: 2.0,
            beta: 1.0,
        };
        let output = |numerics| {
            let input = Case::f32([1, 1, 1, 3], [1.0, 2.0, 3.0]);
            eval_with(numerics, op, &[input], &[Case::result(DType::F32)])[0].get::<f32>()
        };
        let expected = [1.0 / 3.0, 2.0 / 11.0, 3.0 / 27.0];
        assert!(
            output(Numerics::Reference)
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
        let expected = [1.0 / 11.0, 2.0 / 29.0, 3.0 / 27.0];
        assert!(
            output(Numerics::Fast)
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
    }

    #[test]
    fn takes_any_radius_but_a_negative_one() {
        let op = |radius| LocalResponseNormalization {
            radius,
            ..LocalResponseNormalization::default()
        };
        let input = || Case::f32([1, 1, 1, 2], [1.0, 2.0]);
        for radius in [0, i32::MAX] {
            for numerics in [Numerics::Reference, Numerics::Fast] {
                eval_with(
                    numerics,
                    op(radius),
                    &[input()],
                    &[Case::result(DType::F32)],
                );
            }
        }
        let io = signature(&[input()], &[Case::result(DType::F32)]);
        assert!(matches!(op(-1).prepare(&io), Err(OpError::Attribute(_))));
    }
}
