//! The list of rewrites: one file each, tried in this order.

use super::draft::{Draft, Site};
use super::{
    abs, activation, arithmetic, clamp, depth_to_space, fully_connected, gelu, hard_swish, island,
    leaky_relu, mean, pack, pad, requantize, reshape, resize, split, squared_difference, transpose,
};

/// A way to put other operators in the place of one.
pub struct Rewrite {
    /// Its name, stable over versions.
    pub name: &'static str,
    /// What it does, for people.
    pub summary: &'static str,
    /// Where it is best done.
    pub stage: Stage,
    pub(super) drafts: fn(&Site) -> Vec<Draft>,
}

/// Where a rewrite is best done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In floats as well: what it brings in then gets calibrated ranges.
    Any,
    /// In integers only. In floats its MAXIMUM would force one range on all that it reads and gives; in integers
    /// each keeps its own.
    Integer,
}

macro_rules! rewrites {
    ($($name:literal, $module:ident, $stage:ident, $summary:literal;)*) => {
        pub(super) static REWRITES: &[Rewrite] = &[$(Rewrite {
            name: $name,
            summary: $summary,
            stage: Stage::$stage,
            drafts: $module::drafts,
        }),*];
    };
}

rewrites! {
    "requantize", requantize, Any, "DEQUANTIZE and QUANTIZE become nothing, or one QUANTIZE";
    "island", island, Any, "a float operator between DEQUANTIZE and QUANTIZE becomes integer";
    "activation", activation, Any, "a fused activation becomes an operator, or the reverse";
    "reshape", reshape, Any, "SQUEEZE, EXPAND_DIMS and order-keeping TRANSPOSE become RESHAPE";
    "pad", pad, Any, "PAD becomes the SAME padding of the operator behind it";
    "leaky-relu", leaky_relu, Integer, "LEAKY_RELU becomes MAXIMUM and MUL, or PRELU";
    "clamp", clamp, Integer, "RELU and its kin become MAXIMUM and MINIMUM with constants";
    "hard-swish", hard_swish, Any, "HARD_SWISH becomes ADD and MUL";
    "gelu", gelu, Any, "GELU becomes x * LOGISTIC(1.702 x)";
    "mean", mean, Any, "MEAN over several axes becomes one after another, or AVERAGE_POOL_2D";
    "fully-connected", fully_connected, Any, "FULLY_CONNECTED loses its dimensions, or becomes CONV_2D";
    "split", split, Any, "SPLIT, SPLIT_V and UNPACK become SLICE";
    "pack", pack, Any, "PACK becomes RESHAPE and CONCATENATION";
    "squared-difference", squared_difference, Any, "SQUARED_DIFFERENCE becomes SUB and MUL";
    "abs", abs, Integer, "ABS becomes MAXIMUM and MUL";
    "arithmetic", arithmetic, Any, "NEG, SQUARE and DIV by a constant become MUL";
    "resize", resize, Any, "a resize of one pixel becomes TILE";
    "depth-to-space", depth_to_space, Any, "DEPTH_TO_SPACE becomes TRANSPOSE_CONV";
    "transpose", transpose, Any, "a large TRANSPOSE becomes several small ones";
}

/// All rewrites.
pub fn rewrites() -> impl Iterator<Item = &'static Rewrite> {
    REWRITES.iter()
}
