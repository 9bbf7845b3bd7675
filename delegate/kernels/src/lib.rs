//! Inner loops on slices: int8, int16, float32 and hybrid (float32 by int8) products, convolutions and depthwise convolutions, and the arithmetic that turns
//! accumulators into outputs. Knows no graph: shapes and constants come in at construction, where weights are packed; running
//! allocates nothing.
//!
//! Lengths that do not match the shapes panic; the caller has checked them. [`Isa`] picks the set of loops; the integer ones
//! give the same bits in every set, for every number of threads.

mod aligned;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod conv;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "forms that only vector sets use")
)]
mod depthwise;
pub mod elementwise;
mod geometry;
pub mod hybrid;
mod isa;
pub mod matmul;
pub mod parallel;
mod portable;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        unused_variables,
        reason = "forms and orders that only vector sets use"
    )
)]
mod product;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "forms that only vector sets use")
)]
pub mod requantize;
#[cfg(test)]
mod testing;

pub use conv::{ConvF32, ConvHybrid, ConvI8, ConvI16, ProductF32, ProductI8};
pub use depthwise::{DepthwiseF32, DepthwiseI8, DepthwiseI16};
pub use geometry::ConvGeometry;
pub use hybrid::{Quantizer, RowScales, Scaling};
#[cfg(target_arch = "x86_64")]
pub use isa::{Avx2, Avx512};
pub use isa::{Isa, Work};
pub use requantize::{Multiplier, OutputStage, Requantize, quantize_multiplier};
