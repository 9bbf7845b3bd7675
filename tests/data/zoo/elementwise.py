"""Pointwise and broadcasting operators, reductions, quantization and type changes."""
import numpy as np

from .writer import ACT, Q, TYPES, q_for

BINARY = {"add": "AddOptions", "sub": "SubOptions", "mul": "MulOptions"}


def binary(zoo, family, variant, dtype, a, b, act="none", const_b=False, scales=(0.043, 0.017, 0.049)):
    c = zoo.case(family, variant, dtype)
    sa, sb, so = scales
    if family == "mul":
        so = sa * sb * (10000 if dtype == "int16" else 50)
    qa, qb, qo = (q_for(dtype, scale, z) for scale, z in ((sa, 13), (sb, -21), (so, -5)))
    x = c.input(a, dtype, qa)
    y = c.const(c.random(b, dtype), dtype, qb) if const_b else c.input(b, dtype, qb)
    c.op(family.upper(), [x, y], [c.output(dtype, qo)], BINARY[family], fusedActivationFunction=ACT[act])


def arithmetic(zoo):
    for family in BINARY:
        for dtype in ("float32", "int8", "uint8", "int32"):
            binary(zoo, family, "same_shape", dtype, (2, 3, 5, 7), (2, 3, 5, 7))
        for dtype in ("float32", "int8", "int32"):
            binary(zoo, family, "scalar_const", dtype, (1, 3, 5, 7), (), const_b=True)
            binary(zoo, family, "broadcast_rank4", dtype, (2, 1, 5, 1), (1, 3, 1, 4))
        for dtype in ("float32", "int8"):
            binary(zoo, family, "scalar_first", dtype, (1,), (1, 4, 3, 5))
            binary(zoo, family, "per_channel_const_relu", dtype, (1, 4, 5, 19), (19,), act="relu", const_b=True)
            binary(zoo, family, "per_channel_first", dtype, (1, 1, 1, 6), (2, 3, 3, 6))
            binary(zoo, family, "rank2_relu6", dtype, (5, 33), (5, 33), act="relu6", scales=(0.09, 0.06, 0.04))
            binary(zoo, family, "broadcast_rank3_relu_n1", dtype, (3, 1, 9), (4, 1), act="relu_n1_to_1", scales=(0.011, 0.02, 0.013))
            binary(zoo, family, "broadcast_rank5", dtype, (2, 1, 3, 1, 4), (1, 3, 1, 2, 4))
            binary(zoo, family, "broadcast_rank5_rank3", dtype, (2, 3, 1, 2, 5), (3, 1, 5))
        binary(zoo, family, "unequal_scales", "int8", (1, 6, 6, 5), (1, 6, 6, 5), scales=(0.0007, 0.31, 0.29))
        binary(zoo, family, "saturating", "int8", (1, 6, 6, 5), (1, 6, 6, 5), scales=(0.11, 0.09, 0.021))
        binary(zoo, family, "relu", "uint8", (1, 4, 4, 5), (5,), act="relu", const_b=True)
        binary(zoo, family, "same_shape", "int16", (1, 4, 5, 7), (1, 4, 5, 7))


def extremes(zoo):
    for family in ("maximum", "minimum"):
        for dtype in ("float32", "int8", "int32"):
            q = q_for(dtype, 0.037, 9)
            for variant, a, b, const_b in (
                ("same_shape", (2, 3, 4, 5), (2, 3, 4, 5), False),
                ("broadcast_rank4", (2, 1, 4, 1), (1, 3, 1, 5), False),
                ("scalar_const", (3, 17), (), True),
                ("broadcast_rank5", (2, 1, 3, 1, 2), (3, 1, 4, 1), False),
            ):
                c = zoo.case(family, variant, dtype)
                x = c.input(a, dtype, q)
                y = c.const(c.random(b, dtype), dtype, q) if const_b else c.input(b, dtype, q)
                c.op(family.upper(), [x, y], [c.output(dtype, q)], "MaximumMinimumOptions")


def unary(zoo):
    for family, options, qo in (
        ("logistic", None, (1 / 256, -128)), ("tanh", None, (1 / 128, 0)),
        ("relu", None, (0.033, -128)), ("relu6", None, (6 / 255, -128)), ("relu_n1_to_1", None, (2 / 255, 1)),
    ):
        for dtype in ("float32", "int8") + (("uint8",) if family in ("logistic", "tanh", "relu") else ()):
            for variant, shape, scale, zero in (("rank4", (1, 5, 6, 7), 0.047, -11), ("rank2_wide_scale", (3, 67), 0.21, 35)):
                c = zoo.case(family, variant, dtype)
                x = c.input(shape, dtype, q_for(dtype, scale, zero))
                c.op(family.upper(), [x], [c.output(dtype, q_for(dtype, *qo))])
        c = zoo.case(family, "all_values", "int8")
        x = c.input((256,), "int8", Q(0.083, 17), feed=np.arange(-128, 128))
        c.op(family.upper(), [x], [c.output("int8", Q(*qo))])
    for family in ("relu", "relu6", "relu_n1_to_1"):
        c = zoo.case(family, "same_scale", "int8")
        x = c.input((1, 4, 4, 9), "int8", Q(0.05, -30))
        c.op(family.upper(), [x], [c.output("int8", Q(0.05, -30))])

    for variant, alpha, so in (("a01", 0.1, 0.05), ("a03", 0.3, 0.021), ("a_negative", -0.4, 0.06), ("a_above_1", 1.7, 0.08)):
        for dtype in ("float32", "int8"):
            c = zoo.case("leaky_relu", variant, dtype)
            x = c.input((1, 4, 6, 11), dtype, q_for(dtype, 0.047, -11))
            c.op("LEAKY_RELU", [x], [c.output(dtype, q_for(dtype, so, 6))], "LeakyReluOptions", alpha=alpha)
    for dtype in ("float32", "int8"):
        for variant, shape, alpha in (("per_channel", (2, 3, 4, 9), (1, 1, 9)), ("full", (2, 3, 4, 5), (3, 4, 5)), ("shared", (1, 5, 5, 3), (1, 1, 1))):
            c = zoo.case("prelu", variant, dtype)
            x = c.input(shape, dtype, q_for(dtype, 0.047, -11))
            a = c.const(c.random(alpha, dtype, *((-1.5, 1.5) if dtype == "float32" else (-128, 128))), dtype, q_for(dtype, 0.009, 20))
            c.op("PRELU", [x, a], [c.output(dtype, q_for(dtype, 0.051, 6))])
        for variant, si, zi, so, zo in (("typical", 0.047, -1, 0.0265, -114), ("narrow_in", 0.012, 5, 0.009, -90), ("wide_in", 0.17, -40, 0.11, -126)):
            c = zoo.case("hard_swish", variant, dtype)
            x = c.input((1, 5, 4, 13), dtype, q_for(dtype, si, zi))
            c.op("HARD_SWISH", [x], [c.output(dtype, q_for(dtype, so, zo))], "HardSwishOptions")
    c = zoo.case("hard_swish", "all_values", "int8")
    c.op("HARD_SWISH", [c.input((1, 256), "int8", Q(0.06, 3), feed=[np.arange(-128, 128)])], [c.output("int8", Q(0.04, -118))], "HardSwishOptions")

    for dtype in ("float32", "int8", "uint8"):
        for variant, shape, scale, beta in (
            ("rank2", (3, 10), 0.06, 1.0), ("rank4", (1, 4, 5, 21), 0.12, 1.0), ("beta_half", (2, 33), 0.21, 0.5),
            ("wide_scale", (4, 7), 1.3, 1.0), ("narrow_scale", (1, 3, 2, 5), 0.003, 1.0), ("rank1", (12,), 0.09, 1.0),
        ):
            if dtype == "uint8" and variant not in ("rank2", "rank4"):
                continue
            c = zoo.case("softmax", variant, dtype)
            x = c.input(shape, dtype, q_for(dtype, scale, 25))
            c.op("SOFTMAX", [x], [c.output(dtype, q_for(dtype, 1 / 256, -128))], "SoftmaxOptions", beta=beta)


def reductions(zoo):
    axes = {
        "hw_keep": ((2, 5, 6, 7), (1, 2), True), "hw": ((2, 5, 6, 7), (1, 2), False), "channel": ((1, 3, 4, 19), (3,), False),
        "channel_negative_keep": ((1, 3, 4, 19), (-1,), True), "batch_width": ((3, 4, 5, 6), (0, 2), True),
        "all": ((2, 3, 4, 5), (0, 1, 2, 3), False), "rank2": ((5, 33), (1,), False), "rank3_middle": ((3, 7, 5), (1,), True),
        "hw_7x7_keep": ((1, 7, 7, 24), (1, 2), True),
    }
    for family, names, (so, zo) in (
        ("mean", axes, (0.023, -9)), ("sum", ("hw_keep", "channel", "batch_width", "all", "rank2"), (0.31, -9)),
        ("reduce_min", ("hw_keep", "channel"), (0.041, 12)), ("reduce_max", ("hw_keep", "hw", "channel", "all", "rank3_middle"), (0.041, 12)),
    ):
        for variant in names:
            shape, axis, keep = axes[variant]
            more = ("int16",) if variant in ("hw_keep", "channel") else ()
            more += ("uint8",) if more and family == "mean" else ()
            for dtype in ("float32", "int8") + more:
                c = zoo.case(family, variant, dtype)
                x = c.input(shape, dtype, q_for(dtype, 0.041, 12))
                a = c.const(axis, "int32")
                out = q_for(dtype, so if variant != "all" or family != "sum" else 0.9, zo)
                c.op(family.upper(), [x, a], [c.output(dtype, out)], "ReducerOptions", keepDims=keep)
    for variant, keep in (("same_scale_hw_keep", True), ("same_scale_hw", False)):
        c = zoo.case("mean", variant, "int8")
        x = c.input((1, 5, 4, 9), "int8", Q(0.041, 12))
        c.op("MEAN", [x, c.const((1, 2), "int32")], [c.output("int8", Q(0.041, 12))], "ReducerOptions", keepDims=keep)
    c = zoo.case("mean", "scalar_axis", "int8")
    x = c.input((2, 9), "int8", Q(0.041, 12))
    c.op("MEAN", [x, c.const(1, "int32")], [c.output("int8", Q(0.02, -3))], "ReducerOptions", keepDims=False)
    for family in ("sum", "reduce_max"):
        c = zoo.case(family, "hw_keep", "int32")
        c.op(family.upper(), [c.input((1, 3, 4, 5), "int32"), c.const((1, 2), "int32")], [c.output("int32")], "ReducerOptions", keepDims=True)

    for dtype in ("float32", "int8", "uint8", "int32"):
        for variant, shape, axis, out in (
            ("last", (2, 3, 4, 21), -1, "int32"), ("last_int64_out", (3, 19), 1, "int64"),
            ("height", (1, 7, 3, 5), 1, "int32"), ("rank1", (40,), 0, "int64"), ("ties", (4, 9), 1, "int32"),
        ):
            if dtype in ("uint8", "int32") and variant not in ("last", "height"):
                continue
            c = zoo.case("arg_max", variant, dtype)
            feed = c.rng.integers(0, 3, shape) if variant == "ties" else None
            x = c.input(shape, dtype, q_for(dtype, 0.05, 3), feed=feed)
            c.op("ARG_MAX", [x, c.const(axis, "int32")], [c.output(out)], "ArgMaxOptions", outputType=TYPES[out])


def conversions(zoo):
    shape = (2, 5, 4, 7)
    for dtype, q in (("int8", Q(0.05, -13)), ("uint8", Q(0.05, 115)), ("int16", Q(0.0003, 0))):
        c = zoo.case("quantize", "", "float32", dtype)
        c.op("QUANTIZE", [c.input(shape, "float32")], [c.output(dtype, q)], "QuantizeOptions")
        c = zoo.case("quantize", "ties", "float32", dtype)
        feed = np.concatenate([np.arange(-140, 140) + 0.5, np.arange(-140, 140)]).astype(np.float32)
        c.op("QUANTIZE", [c.input((560,), "float32", feed=feed * np.float32(0.25))], [c.output(dtype, Q(0.25, q.zero_point))], "QuantizeOptions")
        c = zoo.case("dequantize", "", dtype)
        c.op("DEQUANTIZE", [c.input(shape, dtype, q)], [c.output("float32")], "DequantizeOptions")
    for variant, a, qa, b, qb in (
        ("narrower", "int8", Q(0.05, -13), "int8", Q(0.031, 7)), ("wider", "int8", Q(0.05, -13), "int8", Q(0.123, 40)),
        ("much_narrower", "int8", Q(0.5, 3), "int8", Q(0.03, -1)),
        ("same_scale", "int8", Q(0.05, -13), "int8", Q(0.05, -13)), ("same_scale_other_zero", "int8", Q(0.05, -13), "int8", Q(0.05, 20)),
        ("offset_128", "int8", Q(0.05, -13), "uint8", Q(0.05, 115)), ("offset_128", "uint8", Q(0.05, 115), "int8", Q(0.05, -13)),
        ("rescale", "int8", Q(0.05, -13), "uint8", Q(0.07, 99)), ("rescale", "uint8", Q(0.05, 115), "int8", Q(0.03, -20)),
        ("rescale", "uint8", Q(0.05, 115), "uint8", Q(0.03, 101)),
        ("", "int16", Q(0.0004), "int8", Q(0.09, 4)), ("", "int8", Q(0.09, 4), "int16", Q(0.0004)), ("rescale", "int16", Q(0.0004), "int16", Q(0.0003)),
        ("", "int32", Q(0.0007), "int8", Q(0.09, 4)),
    ):
        c = zoo.case("quantize", variant, a, b)
        c.op("QUANTIZE", [c.input((2, 3, 5, 11), a, qa)], [c.output(b, qb)], "QuantizeOptions")
    c = zoo.case("dequantize", "const", "float16")
    c.op("DEQUANTIZE", [c.const(c.random((3, 5, 7), "float16"), "float16")], [c.output("float32")], "DequantizeOptions", version=3)
    c = zoo.case("dequantize", "const_then_add", "float16")
    half, full = c.const(c.random((1, 1, 9), "float16"), "float16"), c.middle((1, 1, 9), "float32")
    c.op("DEQUANTIZE", [half], [full], "DequantizeOptions", version=3)
    c.op("ADD", [c.input((4, 3, 9), "float32"), full], [c.output("float32")], "AddOptions")
    c = zoo.case("dequantize", "per_axis_const", "int8")
    w = c.const(c.random((3, 2, 4), "int8"), "int8", Q([0.01, 0.2, 0.033], 0, 0))
    c.op("DEQUANTIZE", [w], [c.output("float32")], "DequantizeOptions", version=5)
    for a, b in (
        ("float32", "int32"), ("int32", "float32"), ("float32", "int8"), ("int8", "float32"), ("float32", "uint8"), ("uint8", "float32"),
        ("float32", "bool"), ("bool", "float32"), ("float32", "int64"), ("int64", "float32"), ("int32", "int64"), ("int64", "int32"),
        ("int32", "bool"), ("bool", "int32"), ("int32", "int8"), ("int8", "int32"), ("uint8", "int32"), ("float32", "int16"), ("int16", "float32"),
    ):
        c = zoo.case("cast", "", a, b)
        low, high = (0, 200) if b == "uint8" else (-100, 100)
        if a == "float32":
            feed = c.rng.uniform(low, high, (3, 40)).astype(np.float32)
            feed[0, :4] = (0, 0.5, 1.5, 99.75)
            if b != "uint8":
                feed[0, 4:8] = (-0.5, -1.5, -0.0, -99.25)
        else:
            feed = None if a == "bool" or b == "float32" else c.rng.integers(max(low, np.iinfo(a).min), high, (3, 40))
        x = c.input((3, 40), a, feed=feed)
        c.op("CAST", [x], [c.output(b)], "CastOptions", inDataType=TYPES[a], outDataType=TYPES[b])


def cases(zoo):
    arithmetic(zoo)
    extremes(zoo)
    unary(zoo)
    reductions(zoo)
    conversions(zoo)
