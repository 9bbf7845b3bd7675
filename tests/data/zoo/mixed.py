"""Products whose operands differ in type, or are both computed: int16 with int8 weights, float32 with int8 weights, matrices; 3-D."""
import numpy as np

from .writer import ACT, PAD, Q, q_for

IN_SCALE, OUT_SCALE = 0.000123, 0.00031
BIAS_TYPE = {"int32": 2, "int64": 4}


def weights(c, shape, channels, axis, per_axis, activations, fan_in):
    """(int8 weights, their scales): with int16 activations, outputs spread about as far as the output range."""
    scale = OUT_SCALE * 30000 / (IN_SCALE * 19000 * 74 * np.sqrt(fan_in)) if activations == "int16" else 0.02 / np.sqrt(fan_in)
    scales = np.float32(scale * c.rng.uniform(0.4, 1.6, channels if per_axis else 1))
    return c.const(c.random(shape, "int8", -127, 128), "int8", Q(scales, 0, axis if per_axis else 0), "weights"), scales


def bias(c, activations, units, scales, dtype):
    if activations == "float32":
        return c.const(c.rng.uniform(-3, 3, units), "float32", name="bias")
    scales = np.float32(IN_SCALE) * scales
    return c.const(np.round(c.rng.uniform(-3, 3, units) / scales), dtype, Q(scales), "bias")


def operands(c, activations, shape, weight_shape, units, axis, fan_in, per_axis, bias_type):
    x = c.input(shape, activations, q_for(activations, IN_SCALE, 0))
    w, scales = weights(c, weight_shape, units, axis, per_axis, activations, fan_in)
    b = [bias(c, activations, units, scales, bias_type)] if bias_type else []
    return x, w, b, c.output(activations, q_for(activations, OUT_SCALE, 0))


def case(zoo, activations, variant):
    return zoo.case("int16x8" if activations == "int16" else "hybrid", variant, activations)


def conv(zoo, activations, variant, shape, units, kernel, stride=1, pad="same", dilation=1, act="none", per_axis=True, bias_type="int64", groups=1):
    c = case(zoo, activations, f"conv_2d_{variant}")
    depth = shape[3] // groups
    x, w, b, y = operands(c, activations, shape, (units, *kernel, depth), units, 0, depth * kernel[0] * kernel[1], per_axis, bias_type)
    version = 3 if activations == "int16" else 5 if per_axis else 2
    if groups > 1:
        version = 6
    more = {"quantizedBiasType": BIAS_TYPE[bias_type]} if bias_type == "int32" and activations == "int16" else {}
    c.op("CONV_2D", [x, w, *b], [y], "Conv2DOptions", version, padding=PAD[pad], strideH=stride, strideW=stride,
         dilationHFactor=dilation, dilationWFactor=dilation, fusedActivationFunction=ACT[act], **more)


def depthwise(zoo, activations, variant, shape, multiplier, kernel, stride=1, pad="same", dilation=1, act="none", bias_type="int64", per_axis=True):
    c = case(zoo, activations, f"depthwise_conv_2d_{variant}")
    units = shape[3] * multiplier
    x, w, b, y = operands(c, activations, shape, (1, *kernel, units), units, 3, kernel[0] * kernel[1], per_axis, bias_type)
    c.op("DEPTHWISE_CONV_2D", [x, w, *b], [y], "DepthwiseConv2DOptions", 3 if activations == "int16" else 6 if per_axis else 4, padding=PAD[pad],
         strideH=stride, strideW=stride, depthMultiplier=multiplier, dilationHFactor=dilation, dilationWFactor=dilation,
         fusedActivationFunction=ACT[act])


def transposed(zoo, activations, variant, shape, units, kernel, stride, pad, out, act="none", bias_type="int64", per_axis=True):
    c = case(zoo, activations, f"transpose_conv_{variant}")
    size = c.const([shape[0], *out, units], "int32", name="size")
    fan_in = shape[3] * max(1, kernel[0] * kernel[1] // (stride * stride))
    x, w, b, y = operands(c, activations, shape, (units, *kernel, shape[3]), units, 0, fan_in, per_axis, bias_type)
    more = {"quantizedBiasType": BIAS_TYPE[bias_type]} if bias_type and activations == "int16" else {}
    c.op("TRANSPOSE_CONV", [size, w, x, *b], [y], "TransposeConvOptions", 4 if act != "none" else 3, padding=PAD[pad], strideH=stride,
         strideW=stride, fusedActivationFunction=ACT[act], **more)


def dense(zoo, activations, variant, shape, units, keep=False, act="none", per_axis=True, bias_type="int64", asymmetric=False, feed=None):
    c = case(zoo, activations, f"fully_connected_{variant}")
    x, w, b, y = operands(c, activations, shape, (units, shape[-1]), units, 0, shape[-1], per_axis, bias_type)
    if feed is not None:
        c.feeds[0] = feed
    more = {"quantizedBiasType": BIAS_TYPE[bias_type]} if bias_type and activations == "int16" else {}
    c.op("FULLY_CONNECTED", [x, w, *(b or [-1])], [y], "FullyConnectedOptions", 9 if activations == "float32" and not per_axis else 12 if activations == "float32" else 11,
         keepNumDims=keep, fusedActivationFunction=ACT[act], asymmetricQuantizeInputs=asymmetric, **more)


def convolutions(zoo, activations):
    def add(f, *args, **kwargs):
        f(zoo, activations, *args, **kwargs)
    add(conv, "1x1_d16_o65_relu6", (1, 3, 4, 16), 65, (1, 1), act="relu6")
    add(conv, "1x1_d5_o7", (1, 5, 4, 5), 7, (1, 1))
    add(conv, "3x3_d3_o16_s2", (1, 7, 6, 3), 16, (3, 3), 2)
    add(conv, "3x3_d17_o9_batch2_relu", (2, 5, 4, 17), 9, (3, 3), act="relu")
    add(conv, "3x3_dilated_valid_d8_o4", (1, 7, 6, 8), 4, (3, 3), pad="valid", dilation=2)
    add(conv, "3x3_grouped_d8_o6", (1, 5, 5, 8), 6, (3, 3), groups=2)
    add(conv, "1x1_d600_o9", (1, 1, 2, 600), 9, (1, 1))
    add(conv, "3x3_per_tensor_d5_o7", (1, 4, 4, 5), 7, (3, 3), per_axis=False)
    add(conv, "1x1_per_tensor_batch2", (2, 2, 2, 9), 5, (1, 1), per_axis=False)
    add(depthwise, "3x3_d17_relu6", (1, 5, 6, 17), 1, (3, 3), act="relu6")
    add(depthwise, "3x3_s2_d33_batch2", (2, 5, 5, 33), 1, (3, 3), 2)
    add(depthwise, "5x5_dilated_d4", (1, 9, 9, 4), 1, (5, 5), dilation=2)
    add(depthwise, "3x3_m3_d5_relu", (1, 4, 5, 5), 3, (3, 3), act="relu")
    add(depthwise, "2x4_valid_d16", (1, 4, 6, 16), 1, (2, 4), pad="valid")
    add(transposed, "3x3_s2_d5_o4", (1, 3, 4, 5), 4, (3, 3), 2, "same", (6, 8))
    add(transposed, "3x3_s2_valid_batch2_relu", (2, 2, 3, 4), 3, (3, 3), 2, "valid", (5, 7), act="relu")
    add(transposed, "2x2_s3_gaps", (1, 2, 2, 3), 4, (2, 2), 3, "valid", (5, 5))
    add(dense, "b1_k33_u10", (1, 33), 10)
    add(dense, "b5_k16_u65_relu", (5, 16), 65, act="relu")
    add(dense, "b2_k600_u3", (2, 600), 3)
    add(dense, "rank3_keep", (2, 3, 9), 7, keep=True)
    add(dense, "per_tensor_b3", (3, 20), 9, per_axis=False)
    add(dense, "no_bias", (3, 20), 9, bias_type=None)


def int16(zoo):
    convolutions(zoo, "int16")
    conv(zoo, "int16", "int32_bias", (1, 4, 4, 5), 7, (3, 3), bias_type="int32")
    transposed(zoo, "int16", "int32_bias", (1, 3, 3, 4), 5, (3, 3), 2, "same", (6, 6), bias_type="int32")
    dense(zoo, "int16", "int32_bias", (4, 30), 11, bias_type="int32")
    dense(zoo, "int16", "int32_bias_per_tensor", (4, 30), 11, bias_type="int32", per_axis=False)


def hybrid(zoo):
    convolutions(zoo, "float32")
    dense(zoo, "float32", "asymmetric_b5_k40_u17", (5, 40), 17, asymmetric=True)
    dense(zoo, "float32", "asymmetric_per_tensor", (3, 33), 8, asymmetric=True, per_axis=False)
    dense(zoo, "float32", "zeros", (2, 9), 5, feed=np.zeros((2, 9), "float32"))
    dense(zoo, "float32", "positive_asymmetric", (2, 50), 5, asymmetric=True, feed=np.random.default_rng(3).uniform(1, 9, (2, 50)).astype("float32"))


def matmul(zoo, variant, dtype, left, right, adj_x=False, adj_y=False, constant=False, right_zero=0):
    c = zoo.case("batch_matmul", variant, dtype)
    depth = left[-2 if adj_x else -1]
    scale = {"int8": (0.03, 0.02, 0.03 * 0.02 * 74 * np.sqrt(depth)), "int16": (1e-4, 2e-4, 2e-8 * 19000 * np.sqrt(depth))}.get(dtype)
    q = scale and [q_for(dtype, scale[0], -11), q_for(dtype, scale[1], right_zero), q_for(dtype, scale[2], 5)] or [None] * 3
    x = c.input(left, dtype, q[0])
    y = c.const(c.random(right, dtype), dtype, q[1], "right") if constant else c.input(right, dtype, q[1])
    c.op("BATCH_MATMUL", [x, y], [c.output(dtype, q[2])], "BatchMatMulOptions", {"int8": 2, "int16": 3}.get(dtype, 1), adjX=adj_x, adjY=adj_y)


def hybrid_matmul(zoo, variant, left, right, adj_y, asymmetric, per_axis=False):
    c = zoo.case("batch_matmul", f"hybrid_{variant}", "float32")
    axis = len(right) - (2 if adj_y else 1)
    scales = np.float32(0.01 * c.rng.uniform(0.5, 1.5, right[axis] if per_axis else 1))
    w = c.const(c.random(right, "int8", -127, 128), "int8", Q(scales, 0, axis if per_axis else 0), "right")
    c.op("BATCH_MATMUL", [c.input(left, "float32"), w], [c.output("float32")], "BatchMatMulOptions", 4, adjX=False, adjY=adj_y,
         asymmetricQuantizeInputs=asymmetric)


def matmuls(zoo):
    for dtype in ("float32", "int8", "int16"):
        matmul(zoo, "b2_m5_k9_n7", dtype, (2, 5, 9), (2, 9, 7))
        matmul(zoo, "adj_y_m3_k16_n33", dtype, (2, 3, 16), (2, 33, 16), adj_y=True)
        matmul(zoo, "adj_x_m6_k5_n4", dtype, (2, 5, 6), (2, 5, 4), adj_x=True)
        matmul(zoo, "adj_xy_m6_k5_n4", dtype, (5, 6), (4, 5), adj_x=True, adj_y=True)
        matmul(zoo, "broadcast_right", dtype, (3, 2, 4, 5), (5, 6))
        matmul(zoo, "broadcast_both", dtype, (3, 1, 4, 5), (1, 2, 5, 6))
        matmul(zoo, "constant_k20_n17", dtype, (2, 3, 20), (20, 17), constant=True)
        matmul(zoo, "constant_b2_adj_y", dtype, (2, 3, 8), (2, 9, 8), adj_y=True, constant=True)
        matmul(zoo, "m1_k40_n18", dtype, (1, 1, 40), (1, 40, 18))
    matmul(zoo, "right_zero_point", "int8", (2, 5, 9), (2, 9, 7), right_zero=-30)
    matmul(zoo, "constant_right_zero_point", "int8", (2, 5, 9), (9, 7), constant=True, right_zero=100)
    hybrid_matmul(zoo, "k9_n7", (2, 5, 9), (9, 7), False, False)
    hybrid_matmul(zoo, "asymmetric_k9_n7", (2, 5, 9), (9, 7), False, True)
    hybrid_matmul(zoo, "asymmetric_adj_y_b2", (2, 5, 16), (2, 7, 16), True, True)


def volumes(zoo):
    for family, code in (("conv_3d", "CONV_3D"), ("conv_3d_transpose", "CONV_3D_TRANSPOSE")):
        for variant, shape, units, kernel, stride, pad, dilation, act, with_bias in (
            ("2x3x3_d4_o5", (1, 4, 5, 6, 4), 5, (2, 3, 3), (1, 1, 1), "same", (1, 1, 1), "none", True),
            ("3x3x3_s2_d3_o7_relu", (2, 5, 4, 5, 3), 7, (3, 3, 3), (2, 2, 2), "same", (1, 1, 1), "relu", True),
            ("3x2x2_valid_s1x2x1", (1, 5, 5, 4, 3), 4, (3, 2, 2), (1, 2, 1), "valid", (1, 1, 1), "relu6", False),
            ("2x2x3_dilated", (1, 5, 6, 7, 2), 3, (2, 2, 3), (1, 1, 1), "same", (1, 2, 1), "none", True),
            ("1x1x1_d9_o6", (1, 2, 3, 4, 9), 6, (1, 1, 1), (1, 1, 1), "valid", (1, 1, 1), "none", True),
        ):
            c = zoo.case(family, variant, "float32")
            fan_in = shape[4] * np.prod(kernel)
            fields = dict(padding=PAD[pad], strideD=stride[0], strideH=stride[1], strideW=stride[2], dilationDFactor=dilation[0],
                          dilationHFactor=dilation[1], dilationWFactor=dilation[2], fusedActivationFunction=ACT[act])
            b = [c.const(c.rng.uniform(-3, 3, units), "float32", name="bias")] if with_bias else []
            if code == "CONV_3D":
                w = c.const(c.rng.standard_normal((*kernel, shape[4], units)) * 1.3 / np.sqrt(fan_in), "float32", name="weights")
                c.op(code, [c.input(shape, "float32"), w, *b], [c.output("float32")], "Conv3DOptions", 1, **fields)
            else:
                w = c.const(c.rng.standard_normal((*kernel, units, shape[4])) * 1.3 / np.sqrt(fan_in), "float32", name="weights")
                extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
                out = [n * s if pad == "same" else (n - 1) * s + e for n, s, e in zip(shape[1:4], stride, extent)]
                size = c.const([shape[0], *out, units], "int32", name="size")
                c.op(code, [size, w, c.input(shape, "float32"), *b], [c.output("float32")], "Conv3DOptions", 1, **fields)


def cases(zoo):
    int16(zoo)
    hybrid(zoo)
    matmuls(zoo)
    volumes(zoo)
