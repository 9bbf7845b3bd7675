//! What CONV_3D and CONV_3D_TRANSPOSE share: their attributes.

use super::{Activation, Padding};
use crate::schema::tfl;

/// Attributes of an operator with windows in three dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// How the edges are padded.
    pub padding: Padding,
    /// From one window to the next: depth, height and width.
    pub stride: [i32; 3],
    /// From one tap to the next: depth, height and width.
    pub dilation: [i32; 3],
    /// The fused activation.
    pub activation: Activation,
}

impl Default for Volume {
    fn default() -> Self {
        Self {
            padding: Padding::Same,
            stride: [1; 3],
            dilation: [1; 3],
            activation: Activation::None,
        }
    }
}

impl Volume {
    pub(super) fn read(options: &tfl::BuiltinOptionsT) -> Self {
        let o = options.as_conv_3_doptions().cloned().unwrap_or_default();
        Self {
            padding: Padding::from_code(o.padding),
            stride: [o.stride_d, o.stride_h, o.stride_w],
            dilation: [
                o.dilation_d_factor,
                o.dilation_h_factor,
                o.dilation_w_factor,
            ],
            activation: Activation::from_code(o.fused_activation_function),
        }
    }

    pub(super) fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::Conv3DOptions(Box::new(tfl::Conv3DOptionsT {
            padding: self.padding.code(),
            stride_d: self.stride[0],
            stride_h: self.stride[1],
            stride_w: self.stride[2],
            fused_activation_function: self.activation.code(),
            dilation_d_factor: self.dilation[0],
            dilation_h_factor: self.dilation[1],
            dilation_w_factor: self.dilation[2],
        }))
    }
}
