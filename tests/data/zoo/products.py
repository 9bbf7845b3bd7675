"""Convolutions, fully connected layers and pools."""
import numpy as np

from .writer import ACT, PAD, Q, q_for

IN_SCALE, IN_ZERO = 0.031, -11
OUT_SCALE, OUT_ZERO = 0.067, -7
FLOAT, INT, ALL = ("float32",), ("int8",), ("float32", "int8")
EVERY = ("float32", "int8", "uint8")


def weights(c, dtype, shape, fan_in, channels, axis, per_axis):
    """(weights, their scales): outputs spread about as far as the output range, so that some saturate."""
    if dtype == "float32":
        return c.const(c.rng.standard_normal(shape) * 1.3 / np.sqrt(fan_in), dtype, name="weights"), None
    scale = 4 / (IN_SCALE * 74 * 74 * np.sqrt(fan_in))
    if dtype == "uint8":
        return c.const(c.random(shape, dtype), dtype, Q(scale, 119), "weights"), np.float32([scale])
    scales = np.float32(scale * c.rng.uniform(0.4, 1.6, channels if per_axis else 1))
    return c.const(c.random(shape, dtype, -127, 128), dtype, Q(scales, 0, axis if per_axis else 0), "weights"), scales


def bias(c, dtype, units, scales):
    if dtype == "float32":
        return c.const(c.rng.uniform(-3, 3, units), dtype, name="bias")
    scales = np.float32(IN_SCALE) * scales
    return c.const(np.round(c.rng.uniform(-3, 3, units) / scales), "int32", Q(scales), "bias")


def tensors(c, dtype, shape, fan_in, weight_shape, units, axis, per_axis, with_bias):
    x = c.input(shape, dtype, q_for(dtype, IN_SCALE, IN_ZERO))
    w, scales = weights(c, dtype, weight_shape, fan_in, units, axis, per_axis)
    b = [bias(c, dtype, units, scales)] if with_bias else []
    return x, w, b, c.output(dtype, q_for(dtype, OUT_SCALE, OUT_ZERO))


def conv(zoo, variant, dtypes, shape, units, kernel, stride=(1, 1), pad="same", dilation=(1, 1), act="none",
         per_axis=True, with_bias=True, groups=1):
    for dtype in dtypes:
        c = zoo.case("conv_2d", variant, dtype)
        depth = shape[3] // groups
        x, w, b, y = tensors(c, dtype, shape, depth * kernel[0] * kernel[1], (units, *kernel, depth), units, 0, per_axis, with_bias)
        version = 6 if groups > 1 else {"int8": 3}.get(dtype, 2 if dilation != (1, 1) else 1)
        c.op("CONV_2D", [x, w, *b], [y], "Conv2DOptions", version, padding=PAD[pad], strideH=stride[0], strideW=stride[1],
             dilationHFactor=dilation[0], dilationWFactor=dilation[1], fusedActivationFunction=ACT[act])


def convolutions(zoo):
    conv(zoo, "1x1_d16_o16", EVERY, (1, 5, 6, 16), 16, (1, 1), act="none")
    conv(zoo, "1x1_d40_o65_relu6", ALL, (1, 3, 4, 40), 65, (1, 1), act="relu6")
    conv(zoo, "1x1_s2_d5_o7", ALL, (1, 7, 6, 5), 7, (1, 1), (2, 2), "valid")
    conv(zoo, "1x1_one_pixel_d65_o10", ALL, (1, 1, 1, 65), 10, (1, 1))
    conv(zoo, "3x3_d3_o16_relu", EVERY, (1, 6, 5, 3), 16, (3, 3), act="relu")
    conv(zoo, "3x3_valid_d3_o16", ALL, (1, 6, 7, 3), 16, (3, 3), pad="valid")
    conv(zoo, "3x3_s2_d3_o16_relu6", EVERY, (1, 10, 11, 3), 16, (3, 3), (2, 2), act="relu6")
    conv(zoo, "3x3_s2_even_d16_o7", ALL, (1, 8, 8, 16), 7, (3, 3), (2, 2))
    conv(zoo, "3x3_s2_valid_d5_o7_relu_n1", ALL, (1, 9, 8, 5), 7, (3, 3), (2, 2), "valid", act="relu_n1_to_1")
    conv(zoo, "3x3_dilated_d5_o7", ALL, (1, 8, 9, 5), 7, (3, 3), dilation=(2, 2))
    conv(zoo, "3x3_dilated_valid_d16_o1", ALL, (1, 9, 7, 16), 1, (3, 3), pad="valid", dilation=(2, 2))
    conv(zoo, "3x3_dilated_3x2_d3_o4", INT, (1, 9, 9, 3), 4, (3, 3), dilation=(3, 2))
    conv(zoo, "3x3_d40_o7", INT, (1, 6, 5, 40), 7, (3, 3))
    conv(zoo, "3x3_d16_o65", INT, (1, 4, 4, 16), 65, (3, 3))
    conv(zoo, "3x3_d1_o8", ALL, (1, 7, 7, 1), 8, (3, 3))
    conv(zoo, "5x2_s1x2_d3_o1_relu", ALL, (1, 8, 9, 3), 1, (5, 2), (1, 2), act="relu")
    conv(zoo, "4x4_s3_d3_o5", ALL, (1, 11, 10, 3), 5, (4, 4), (3, 3))
    conv(zoo, "7x7_s2_d3_o8", INT, (1, 13, 14, 3), 8, (7, 7), (2, 2))
    conv(zoo, "whole_image_valid_d5_o16", ALL, (1, 4, 5, 5), 16, (4, 5), pad="valid")
    conv(zoo, "kernel_over_image_d3_o4", ALL, (1, 2, 3, 3), 4, (5, 5))
    conv(zoo, "3x3_batch2_d16_o7", ALL, (2, 5, 4, 16), 7, (3, 3))
    conv(zoo, "3x3_no_bias_d5_o16", ALL, (1, 5, 5, 5), 16, (3, 3), with_bias=False)
    conv(zoo, "1x1_no_bias_d16_o7", INT, (1, 5, 5, 16), 7, (1, 1), with_bias=False)
    conv(zoo, "3x3_per_tensor_d5_o7", INT, (1, 6, 5, 5), 7, (3, 3), per_axis=False)
    conv(zoo, "1x1_per_tensor_d16_o16_relu", INT, (1, 5, 5, 16), 16, (1, 1), act="relu", per_axis=False)
    conv(zoo, "3x3_grouped_d8_o6", ALL, (1, 5, 6, 8), 6, (3, 3), groups=2)

    c = zoo.case("conv_2d", "zero_point_low", "int8")
    x = c.input((1, 5, 5, 4), "int8", Q(0.02, -128))
    w = c.const(c.random((3, 3, 3, 4), "int8", -127, 128), "int8", Q([0.004, 0.001, 0.0085]), "weights")
    b = c.const([900, -2000, 40], "int32", Q(np.float32(0.02) * np.float32([0.004, 0.001, 0.0085])), "bias")
    c.op("CONV_2D", [x, w, b], [c.output("int8", Q(0.03, -128))], "Conv2DOptions", 3, padding=PAD["same"], strideH=1, strideW=1,
         dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=ACT["relu"])
    c = zoo.case("conv_2d", "multiplier_above_1", "int8")
    x = c.input((1, 4, 4, 2), "int8", Q(0.5, 3))
    w = c.const(c.random((3, 1, 1, 2), "int8", -3, 4), "int8", Q([0.4, 0.25, 1.0]), "weights")
    c.op("CONV_2D", [x, w], [c.output("int8", Q(0.1, 0))], "Conv2DOptions", 3, padding=PAD["valid"], strideH=1, strideW=1,
         dilationHFactor=1, dilationWFactor=1)


def depthwise(zoo, variant, dtypes, shape, multiplier, kernel, stride=(1, 1), pad="same", dilation=(1, 1), act="none",
              per_axis=True, with_bias=True):
    for dtype in dtypes:
        c = zoo.case("depthwise_conv_2d", variant, dtype)
        units = shape[3] * multiplier
        x, w, b, y = tensors(c, dtype, shape, kernel[0] * kernel[1], (1, *kernel, units), units, 3, per_axis, with_bias)
        version = {"int8": 3}.get(dtype, 2 if dilation != (1, 1) else 1)
        c.op("DEPTHWISE_CONV_2D", [x, w, *b], [y], "DepthwiseConv2DOptions", version, padding=PAD[pad], strideH=stride[0],
             strideW=stride[1], depthMultiplier=multiplier, dilationHFactor=dilation[0], dilationWFactor=dilation[1],
             fusedActivationFunction=ACT[act])


def depthwise_convolutions(zoo):
    depthwise(zoo, "3x3_d16_relu6", EVERY, (1, 5, 6, 16), 1, (3, 3), act="relu6")
    depthwise(zoo, "3x3_d3", ALL, (1, 7, 6, 3), 1, (3, 3))
    depthwise(zoo, "3x3_s2_d33_relu", EVERY, (1, 7, 6, 33), 1, (3, 3), (2, 2), act="relu")
    depthwise(zoo, "3x3_s2_even_valid_d16", ALL, (1, 8, 8, 16), 1, (3, 3), (2, 2), "valid")
    depthwise(zoo, "3x3_dilated_d16", ALL, (1, 7, 6, 16), 1, (3, 3), dilation=(2, 2))
    depthwise(zoo, "3x3_dilated_valid_d3_relu_n1", ALL, (1, 8, 9, 3), 1, (3, 3), pad="valid", dilation=(2, 2), act="relu_n1_to_1")
    depthwise(zoo, "3x3_d96", INT, (1, 4, 3, 96), 1, (3, 3))
    depthwise(zoo, "5x5_d64", INT, (1, 5, 4, 64), 1, (5, 5))
    depthwise(zoo, "5x5_s2_d33_relu6", ALL, (1, 6, 5, 33), 1, (5, 5), (2, 2), act="relu6")
    depthwise(zoo, "5x3_s2x1_d5", ALL, (1, 8, 6, 5), 1, (5, 3), (2, 1))
    depthwise(zoo, "3x3_m2_d3", EVERY, (1, 6, 5, 3), 2, (3, 3))
    depthwise(zoo, "3x3_m2_s2_d16", ALL, (1, 5, 4, 16), 2, (3, 3), (2, 2))
    depthwise(zoo, "3x3_m8_d3_relu", ALL, (1, 5, 4, 3), 8, (3, 3), act="relu")
    depthwise(zoo, "3x3_m8_d1", ALL, (1, 5, 6, 1), 8, (3, 3))
    depthwise(zoo, "1x1_d7", ALL, (1, 4, 5, 7), 1, (1, 1))
    depthwise(zoo, "3x3_batch2_d5", ALL, (2, 4, 5, 5), 1, (3, 3))
    depthwise(zoo, "3x3_no_bias_d16", ALL, (1, 4, 5, 16), 1, (3, 3), with_bias=False)
    depthwise(zoo, "3x3_per_tensor_d16", INT, (1, 4, 5, 16), 1, (3, 3), per_axis=False)
    depthwise(zoo, "whole_image_valid_d16", ALL, (1, 4, 4, 16), 1, (4, 4), pad="valid")
    depthwise(zoo, "kernel_over_image_d3", ALL, (1, 2, 2, 3), 1, (5, 5))


def transposed(zoo, variant, dtypes, shape, units, kernel, stride, pad, out, act="none", per_axis=True, with_bias=True):
    for dtype in dtypes:
        c = zoo.case("transpose_conv", variant, dtype)
        size = c.const([shape[0], *out, units], "int32", name="size")
        x, w, b, y = tensors(c, dtype, shape, shape[3] * max(1, kernel[0] * kernel[1] // (stride[0] * stride[1])),
                             (units, *kernel, shape[3]), units, 0, per_axis, with_bias)
        version = 4 if act != "none" else 3 if with_bias else 2 if dtype == "int8" else 1
        c.op("TRANSPOSE_CONV", [size, w, x, *b], [y], "TransposeConvOptions", version, padding=PAD[pad], strideH=stride[0],
             strideW=stride[1], fusedActivationFunction=ACT[act])


def transposed_convolutions(zoo):
    transposed(zoo, "3x3_s1_same", ALL, (1, 4, 5, 5), 7, (3, 3), (1, 1), "same", (4, 5))
    transposed(zoo, "3x3_s1_valid_no_bias", ALL, (1, 4, 3, 3), 5, (3, 3), (1, 1), "valid", (6, 5), with_bias=False)
    transposed(zoo, "3x3_s2_same", EVERY, (1, 3, 4, 8), 6, (3, 3), (2, 2), "same", (6, 8))
    transposed(zoo, "3x3_s2_same_odd_relu", ALL, (1, 3, 4, 5), 3, (3, 3), (2, 2), "same", (5, 7), act="relu")
    transposed(zoo, "3x3_s2_valid", ALL, (1, 3, 4, 5), 3, (3, 3), (2, 2), "valid", (7, 9))
    transposed(zoo, "2x2_s2_same_no_bias", ALL, (1, 4, 3, 16), 4, (2, 2), (2, 2), "same", (8, 6), with_bias=False)
    transposed(zoo, "4x4_s2_same_relu6", ALL, (1, 3, 3, 5), 4, (4, 4), (2, 2), "same", (6, 6), act="relu6")
    transposed(zoo, "5x5_s3_same", ALL, (1, 3, 3, 3), 4, (5, 5), (3, 3), "same", (9, 9))
    transposed(zoo, "2x2_s3_valid_gaps", ALL, (1, 3, 2, 3), 4, (2, 2), (3, 3), "valid", (8, 5))
    transposed(zoo, "3x2_s2x1_valid", ALL, (1, 3, 4, 3), 4, (3, 2), (2, 1), "valid", (7, 5))
    transposed(zoo, "3x3_s2_batch2", ALL, (2, 2, 3, 5), 4, (3, 3), (2, 2), "same", (4, 6))
    transposed(zoo, "3x3_s2_per_tensor", INT, (1, 3, 3, 5), 4, (3, 3), (2, 2), "same", (6, 6), per_axis=False)
    transposed(zoo, "1x1_s1_d40_o17", INT, (1, 3, 3, 40), 17, (1, 1), (1, 1), "same", (3, 3))


def dense(zoo, variant, dtypes, shape, units, keep=False, act="none", per_axis=False, with_bias=True, inputs=None):
    for dtype in dtypes:
        c = zoo.case("fully_connected", variant, dtype)
        k = inputs or shape[-1]
        x, w, b, y = tensors(c, dtype, shape, k, (units, k), units, 0, per_axis, with_bias)
        version = 5 if keep else {"int8": 4}.get(dtype, 1)
        c.op("FULLY_CONNECTED", [x, w, *(b or [-1])], [y], "FullyConnectedOptions", version, keepNumDims=keep, fusedActivationFunction=ACT[act])


def fully_connected(zoo):
    dense(zoo, "b1_k33_u10", EVERY, (1, 33), 10)
    dense(zoo, "b5_k16_u65_relu", EVERY, (5, 16), 65, act="relu")
    dense(zoo, "b5_k64_u1", ALL, (5, 64), 1)
    dense(zoo, "b1_k130_u10_relu6", ALL, (1, 130), 10, act="relu6")
    dense(zoo, "b3_k7_u10_relu_n1", ALL, (3, 7), 10, act="relu_n1_to_1")
    dense(zoo, "b1_k1_u5", ALL, (1, 1), 5)
    dense(zoo, "rank3_keep", ALL, (2, 3, 16), 10, keep=True)
    dense(zoo, "rank3_flat", ALL, (2, 3, 16), 10)
    dense(zoo, "rank4_keep", ALL, (1, 2, 3, 9), 7, keep=True)
    dense(zoo, "rank4_image", ALL, (1, 4, 4, 5), 10, inputs=80)
    dense(zoo, "no_bias", EVERY, (5, 20), 10, with_bias=False)
    dense(zoo, "per_axis_b1_u65", INT, (1, 40), 65, per_axis=True)
    dense(zoo, "per_axis_b5_u10", INT, (5, 33), 10, per_axis=True)
    dense(zoo, "per_axis_no_bias", INT, (4, 17), 9, per_axis=True, with_bias=False)
    dense(zoo, "per_axis_rank4_keep_relu", INT, (1, 2, 2, 24), 11, keep=True, act="relu", per_axis=True)
    dense(zoo, "k600_u3", INT, (2, 600), 3)

    c = zoo.case("fully_connected", "two_inputs", "float32")
    c.op("FULLY_CONNECTED", [c.input((3, 9), "float32"), c.input((4, 9), "float32"), -1], [c.output("float32")], "FullyConnectedOptions", 1)
    c = zoo.case("fully_connected", "two_inputs", "int8")
    c.op("FULLY_CONNECTED", [c.input((3, 9), "int8", Q(0.03, -11)), c.input((4, 9), "int8", Q(0.02, 0)), -1],
         [c.output("int8", Q(0.2, 5))], "FullyConnectedOptions", 4)


def pools(zoo):
    for family, code in (("average_pool_2d", "AVERAGE_POOL_2D"), ("max_pool_2d", "MAX_POOL_2D")):
        for variant, dtypes, shape, kernel, stride, pad, act in (
            ("2x2_s2_valid", EVERY + ("int16",), (1, 6, 7, 9), (2, 2), (2, 2), "valid", "none"),
            ("3x3_s2_same", EVERY + ("int16",), (1, 7, 8, 5), (3, 3), (2, 2), "same", "none"),
            ("3x3_s1_same_relu", ALL, (1, 5, 4, 17), (3, 3), (1, 1), "same", "relu"),
            ("2x3_s1x2_valid_relu6", EVERY + ("int16",), (1, 6, 7, 5), (2, 3), (1, 2), "valid", "relu6"),
            ("3x2_s3_same_relu_n1", ALL, (1, 8, 7, 3), (3, 2), (3, 3), "same", "relu_n1_to_1"),
            ("whole_image", ALL, (1, 7, 7, 10), (7, 7), (1, 1), "valid", "none"),
            ("kernel_over_image_same", ALL, (1, 3, 2, 4), (5, 5), (2, 2), "same", "none"),
            ("1x1_s2_valid", ALL, (1, 5, 6, 4), (1, 1), (2, 2), "valid", "none"),
            ("2x2_batch2_d40", INT, (2, 4, 4, 40), (2, 2), (2, 2), "same", "none"),
        ):
            for dtype in dtypes:
                c = zoo.case(family, variant, dtype)
                q = q_for(dtype, 0.061, -19)
                c.op(code, [c.input(shape, dtype, q)], [c.output(dtype, q)], "Pool2DOptions", padding=PAD[pad], filterHeight=kernel[0],
                     filterWidth=kernel[1], strideH=stride[0], strideW=stride[1], fusedActivationFunction=ACT[act])


def cases(zoo):
    convolutions(zoo)
    depthwise_convolutions(zoo)
    transposed_convolutions(zoo)
    fully_connected(zoo)
    pools(zoo)
