//! The list of rewrites: one file each, tried in this order.

use super::draft::{Draft, Site};
use super::{
    activation, arithmetic, clamp, depth_to_space, fully_connected, gelu, hard_swish, leaky_relu,
    mean, pack, pad, requantize, reshape, resize, split, squared_difference, transpose,
};

/// A way to put other operators in the place of one.
pub struct Rewrite {
    /// Its name, stable over versions.
    pub name: &'static str,
    /// What it does, for people.
    pub summary: &'static str,
    pub(super) drafts: fn(&Site) -> Vec<Draft>,
}

macro_rules! rewrites {
    ($($name:literal, $module:ident, $summary:literal;)*) => {
        pub(super) static REWRITES: &[Rewrite] = &[$(Rewrite {
            name: $name,
            summary: $summary,
            drafts: $module::drafts,
        }),*];
    };
}

rewrites! {
    "requantize", requantize, "DEQUANTIZE and QUANTIZE become nothing, or one QUANTIZE";
    "activation", activation, "a fused activation becomes an operator, or the reverse";
    "reshape", reshape, "SQUEEZE, EXPAND_DIMS and order-keeping TRANSPOSE become RESHAPE";
    "pad", pad, "PAD becomes the SAME padding of the operator behind it";
    "leaky-relu", leaky_relu, "LEAKY_RELU becomes MAXIMUM and MUL, or PRELU";
    "clamp", clamp, "RELU and its kin become MAXIMUM and MINIMUM with constants";
    "hard-swish", hard_swish, "HARD_SWISH becomes ADD and MUL";
    "gelu", gelu, "GELU becomes x * LOGISTIC(1.702 x)";
    "mean", mean, "MEAN over several axes becomes one after another, or AVERAGE_POOL_2D";
    "fully-connected", fully_connected, "FULLY_CONNECTED loses its dimensions, or becomes CONV_2D";
    "split", split, "SPLIT, SPLIT_V and UNPACK become SLICE";
    "pack", pack, "PACK becomes RESHAPE and CONCATENATION";
    "squared-difference", squared_difference, "SQUARED_DIFFERENCE becomes SUB and MUL";
    "arithmetic", arithmetic, "NEG, ABS, SQUARE and DIV by a constant become MUL and MAXIMUM";
    "resize", resize, "a resize of one pixel becomes TILE";
    "depth-to-space", depth_to_space, "DEPTH_TO_SPACE becomes TRANSPOSE_CONV";
    "transpose", transpose, "a large TRANSPOSE becomes several small ones";
}

/// All rewrites.
pub fn rewrites() -> impl Iterator<Item = &'static Rewrite> {
    REWRITES.iter()
}
