"""More operators on one element or one row at a time, and the int16 forms of those in elementwise.py."""
import numpy as np

from .writer import ACT, Q, q_for

ALL_INT8 = np.arange(-128, 128)


def positive_q(dtype, scale):
    """Parameters of a tensor without negative values."""
    return {"int8": Q(scale, -128), "int16": Q(scale, 0)}.get(dtype)


def functions(zoo):
    """Operators of one operand."""
    for family, options, dtypes in (
        ("floor", None, ()), ("ceil", None, ()), ("round", None, ()), ("square", "SquareOptions", ()), ("sin", None, ()),
        ("cos", "CosOptions", ()), ("neg", "NegOptions", ("int8", "int16", "int32", "int64")), ("sign", None, ("int32",)),
    ):
        for dtype in ("float32", *dtypes):
            c = zoo.case(family, "", dtype)
            x = c.input((2, 3, 7), dtype)
            c.op(family.upper(), [x], [c.output(dtype)], options, version=2 if (family, dtype) == ("sign", "int32") else 1)
    for family in ("round", "floor", "ceil"):
        c = zoo.case(family, "ties", "float32")
        x = c.input((16,), "float32", feed=[-2.5, -1.5, -0.5, -0.0, 0.5, 1.5, 2.5, 3.5, 0.49999997, 8388607.5, 8388609, 3e9, -3e9, 1e30, 2.4, -2.6])
        c.op(family.upper(), [x], [c.output("float32")])

    for dtype, version in (("float32", 1), ("int8", 2), ("int16", 3), ("int32", 5)):
        c = zoo.case("abs", "", dtype)
        x = c.input((1, 3, 6, 7), dtype, q_for(dtype, 0.047, -11))
        c.op("ABS", [x], [c.output(dtype, q_for(dtype, 0.031, -100))], "AbsOptions", version=version)
    c = zoo.case("abs", "same_scale", "int8")
    c.op("ABS", [c.input((256,), "int8", Q(0.05, 17), feed=ALL_INT8)], [c.output("int8", Q(0.05, -128))], "AbsOptions", version=2)
    c = zoo.case("abs", "plain", "int16")
    c.op("ABS", [c.input((3, 5), "int16")], [c.output("int16")], "AbsOptions", version=4)

    # Family, options, fields, (scale, zero point) of the result in int8, scale of operand and result in int16.
    for family, variant, options, fields, so, i16 in (
        ("exp", "", "ExpOptions", {}, (0.7, -128), (0.00012, 0.0016)),
        ("elu", "", None, {}, (0.033, -90), None),
        ("gelu", "exact", "GeluOptions", {"approximate": False}, (0.031, -122), (0.00021, 0.00018)),
        ("gelu", "approximate", "GeluOptions", {"approximate": True}, (0.031, -122), (0.00021, 0.00018)),
    ):
        for dtype in ("float32", "int8") + (("int16",) if i16 else ()) + (("uint8",) if family == "gelu" else ()):
            c = zoo.case(family, variant, dtype)
            qi = Q(i16[0]) if dtype == "int16" else q_for(dtype, 0.047, -11)
            qo = Q(i16[1]) if dtype == "int16" else q_for(dtype, *so)
            version = None if family != "elu" and not (family == "gelu" and dtype == "int16") else 1
            if family == "gelu" and dtype == "uint8":
                version = 2
            c.op(family.upper(), [c.input((3, 5, 9), dtype, qi)], [c.output(dtype, qo)], options, version=version, **fields)
        c = zoo.case(family, f"{variant}_all_values".strip("_"), "int8")
        x = c.input((256,), "int8", Q(0.071, 5), feed=ALL_INT8)
        c.op(family.upper(), [x], [c.output("int8", Q(so[0] * 1.3, so[1]))], options, version=1 if family == "elu" else 2, **fields)
    for family in ("gelu", "elu", "exp", "logistic", "tanh"):
        c = zoo.case(family, "wide", "float32")
        feed = np.concatenate([np.linspace(-100, 80, 91), np.linspace(-1, 1, 41), [0, -0.0, 1e-30, -1e-30, 9, -9, 17]]).astype(np.float32)
        fields = {"approximate": False} if family == "gelu" else {}
        options = {"gelu": "GeluOptions", "exp": "ExpOptions"}.get(family)
        feed = np.minimum(feed, 20) if family == "exp" else feed
        c.op(family.upper(), [c.input(feed.shape, "float32", feed=feed)], [c.output("float32")], options, **fields)

    for family, qo, i16 in (("log", (0.041, 20), 0.00031), ("sqrt", (0.013, -120), 0.00007), ("rsqrt", (0.021, -110), 0.0011)):
        for dtype in ("float32", "int8", "int16"):
            c = zoo.case(family, "", dtype)
            if dtype == "float32":
                x = c.input((3, 5, 7), dtype, low=0.01, high=30)
            else:
                low = -128 if dtype == "int8" else 0
                high = np.iinfo(dtype).max + 1
                feed = c.rng.integers(low + (family == "rsqrt"), high, (3, 5, 7))
                x = c.input((3, 5, 7), dtype, positive_q(dtype, 0.029 if dtype == "int8" else 0.00023), feed=feed)
            result = Q(i16) if dtype == "int16" else q_for(dtype, *qo)
            version = 3 if (family, dtype) == ("rsqrt", "int16") else None
            c.op(family.upper(), [x], [c.output(dtype, result)], version=version)
        c = zoo.case(family, "all_values", "int8")
        x = c.input((256,), "int8", Q(0.11, -128), feed=ALL_INT8)
        c.op(family.upper(), [x], [c.output("int8", Q(qo[0] * 1.7, qo[1]))])
    c = zoo.case("log", "negative", "int8")
    c.op("LOG", [c.input((256,), "int8", Q(0.05, -20), feed=ALL_INT8)], [c.output("int8", Q(0.03, 60))])

    for dtype in ("float32", "int8", "uint8"):
        c = zoo.case("relu_0_to_1", "", dtype)
        c.op("RELU_0_TO_1", [c.input((1, 3, 6, 7), dtype, q_for(dtype, 0.017, -11))], [c.output(dtype, q_for(dtype, 1 / 255, -128))], version=1)


def pairs(zoo):
    """Operators of two operands."""
    shapes = (("same_shape", (2, 3, 11), (2, 3, 11)), ("broadcast", (2, 1, 5, 1), (1, 3, 1, 4)), ("scalar", (3, 17), ()), ("scalar_first", (1,), (4, 9)))

    def nonzero(c, shape, dtype, zero=0):
        x = c.random(shape, dtype)
        return np.where(x == zero, np.asarray(zero + 1, dtype), x) if dtype != "float32" else np.where(np.abs(x) < 0.05, np.float32(0.5), x)

    for variant, a, b in shapes:
        for dtype in ("float32", "int8", "uint8", "int16", "int32"):
            if dtype in ("uint8", "int16", "int32") and variant.startswith("scalar") or (variant, dtype) == ("broadcast", "uint8"):
                continue
            c = zoo.case("div", variant, dtype)
            zero = {"int8": -21, "uint8": 107}.get(dtype, 0)
            scales = (0.0043, 0.0017, 0.00049) if dtype == "int16" else (0.043, 0.017, 0.049)
            qa, qb, qo = (q_for(dtype, s, z) for s, z in zip(scales, (13, -21, -5)))
            x = c.input(a, dtype, qa)
            y = c.input(b, dtype, qb, feed=nonzero(c, b, dtype, zero))
            c.op("DIV", [x, y], [c.output(dtype, qo)], "DivOptions", version=1, fusedActivationFunction=ACT["none"])
        for dtype in ("float32", "int8", "int32"):
            if variant.startswith("scalar") and dtype != "int8":
                continue
            c = zoo.case("squared_difference", variant, dtype)
            qa, qb, qo = (q_for(dtype, s, z) for s, z in ((0.043, 13), (0.017, -21), (0.21, -100)))
            c.op("SQUARED_DIFFERENCE", [c.input(a, dtype, qa), c.input(b, dtype, qb)], [c.output(dtype, qo)], "SquaredDifferenceOptions")
        for family, options, dtypes in (("floor_div", "FloorDivOptions", ("float32", "int8", "int16", "int32")),
                                        ("floor_mod", "FloorModOptions", ("float32", "int8", "int16", "int32", "int64"))):
            for dtype in dtypes:
                if variant.startswith("scalar") or variant == "broadcast" and dtype not in ("float32", "int32"):
                    continue
                c = zoo.case(family, variant, dtype)
                x = c.input(a, dtype)
                y = c.input(b, dtype, feed=nonzero(c, b, dtype))
                version = {"floor_div": {"int8": 3, "int16": 3, "float32": 2}, "floor_mod": {"int8": 2, "int16": 2}}[family].get(dtype, 1)
                c.op(family.upper(), [x, y], [c.output(dtype)], options, version=version)
        if variant == "scalar_first":
            continue
        c = zoo.case("pow", variant, "float32")
        x, y = c.input(a, "float32", low=0.1, high=4), c.input(b, "float32", low=-3, high=3)
        c.op("POW", [x, y], [c.output("float32")], "PowOptions")
        c = zoo.case("pow", variant, "int32")
        x, y = c.input(a, "int32", low=-9, high=10), c.input(b, "int32", low=0, high=7)
        c.op("POW", [x, y], [c.output("int32")], "PowOptions")
        for family in ("logical_and", "logical_or") if variant != "scalar" else ():
            c = zoo.case(family, variant, "bool")
            options = "LogicalAndOptions" if family == "logical_and" else "LogicalOrOptions"
            c.op(family.upper(), [c.input(a, "bool"), c.input(b, "bool")], [c.output("bool")], options)
    for act, dtype in (("relu", "int8"), ("relu6", "float32"), ("relu6", "int16")):
        c = zoo.case("div", act, dtype)
        scales = (0.0043, 0.0017, 0.00049) if dtype == "int16" else (0.043, 0.017, 0.049)
        qa, qb, qo = (q_for(dtype, s, z) for s, z in zip(scales, (13, -128, -5)))
        x = c.input((5, 19), dtype, qa)
        y = c.input((5, 19), dtype, qb, feed=nonzero(c, (5, 19), dtype, -128 if dtype == "int8" else 0))
        c.op("DIV", [x, y], [c.output(dtype, qo)], "DivOptions", version=1, fusedActivationFunction=ACT[act])
    c = zoo.case("div", "broadcast_rank5", "float32")
    x, y = c.input((2, 1, 3, 1, 4), "float32"), c.input((3, 1, 2, 4), "float32", low=0.5, high=3)
    c.op("DIV", [x, y], [c.output("float32")], "DivOptions", version=2, fusedActivationFunction=0)
    c = zoo.case("logical_not", "", "bool")
    c.op("LOGICAL_NOT", [c.input((3, 5), "bool")], [c.output("bool")], "LogicalNotOptions")
    for dtype in ("float32", "int32"):
        for count in (2, 5):
            c = zoo.case("add_n", str(count), dtype)
            c.op("ADD_N", [c.input((3, 7), dtype) for _ in range(count)], [c.output(dtype)], "AddNOptions")


def comparisons(zoo):
    for family, options in (("equal", "EqualOptions"), ("not_equal", "NotEqualOptions"), ("greater", "GreaterOptions"),
                            ("greater_equal", "GreaterEqualOptions"), ("less", "LessOptions"), ("less_equal", "LessEqualOptions")):
        alike = family.endswith("equal") and family in ("equal", "not_equal")
        for dtype in ("float32", "int8", "uint8", "int16", "int32", "int64") + (("bool",) if alike else ()):
            for variant, a, b in (("same_shape", (2, 3, 11), (2, 3, 11)), ("broadcast", (5, 1), (3, 1, 4))):
                if variant == "broadcast" and dtype != "int8" or dtype in ("uint8", "int64", "bool") and family not in ("equal", "less"):
                    continue
                c = zoo.case(family, variant, dtype)
                scaled = dtype != "int16" or alike
                qa, qb = (q_for(dtype, 0.05, 3), q_for(dtype, 0.025, -20)) if scaled else (None, None)
                low, high = {"float32": (-3, 3), "int32": (-4, 4), "int64": (-4, 4), "uint8": (110, 130), "bool": (0, 2)}.get(dtype, (-9, 9))
                feeds = [c.rng.integers(low, high, shape) for shape in (a, b)]
                if dtype in ("int8", "uint8"):
                    # Equal real values now and then.
                    zero = 128 if dtype == "uint8" else 0
                    feeds = [feeds[0] - zero // 16, np.clip((feeds[1] - (3 + zero)) * 2 - 20 + zero, 0 if zero else -128, 255 if zero else 127)]
                version = {"int16": {"equal": 5, "not_equal": 4, "less": 3, "greater_equal": 3}.get(family, 1)}.get(dtype)
                x, y = (c.input(s, dtype, q, feed=f) for s, q, f in zip((a, b), (qa, qb), feeds))
                c.op(family.upper(), [x, y], [c.output("bool")], options, version=version)


def selections(zoo):
    for dtype in ("float32", "int8", "int16", "int32", "int64", "bool"):
        q = q_for(dtype, 0.037, 9)
        for variant, condition, shape in (("same_shape", (2, 3, 5), (2, 3, 5)), ("rows", (4,), (4, 3, 5)), ("scalar", (), (3, 5))):
            if variant != "same_shape" and dtype != "int8":
                continue
            c = zoo.case("select", variant, dtype)
            x = [c.input(condition, "bool"), c.input(shape, dtype, q), c.input(shape, dtype, q)]
            c.op("SELECT", x, [c.output(dtype, q)], "SelectOptions", version=1)
        for variant, *shapes in (
            ("same_shape", (2, 3, 5), (2, 3, 5), (2, 3, 5)), ("condition_broadcasts", (2, 1, 1), (2, 3, 5), (2, 3, 5)),
            ("all_broadcast", (3, 1), (2, 1, 1), (5,)), ("scalars", (2, 7), (), ()), ("rank5", (2, 1, 3, 1, 2), (3, 1, 4, 1), (4, 2)),
            ("one_condition", (1,), (3, 1), (1, 4)),
        ):
            if variant != "all_broadcast" and dtype != "int8":
                continue
            c = zoo.case("select_v2", variant, dtype)
            x = [c.input(shapes[0], "bool"), c.input(shapes[1], dtype, q), c.input(shapes[2], dtype, q)]
            c.op("SELECT_V2", x, [c.output(dtype, q)], "SelectV2Options", version=1)


def rows(zoo):
    """Operators on the last axis."""
    for variant, shape, scale, zero in (("rank2", (3, 10), 0.06, 25), ("rank4", (1, 3, 2, 21), 0.12, -40), ("wide_scale", (4, 7), 1.3, 0), ("narrow_scale", (2, 90), 0.003, 5)):
        for dtype in ("float32", "int8"):
            c = zoo.case("log_softmax", variant, dtype)
            c.op("LOG_SOFTMAX", [c.input(shape, dtype, q_for(dtype, scale, zero))], [c.output(dtype, q_for(dtype, 1 / 16, 127))], "LogSoftmaxOptions")
        for dtype in ("float32", "int8", "uint8"):
            c = zoo.case("l2_normalization", variant, dtype)
            x = c.input(shape, dtype, q_for(dtype, scale, zero))
            c.op("L2_NORMALIZATION", [x], [c.output(dtype, q_for(dtype, 1 / 128, 0))], "L2NormOptions", fusedActivationFunction=0)
    for variant, shape, radius, bias, alpha, beta in (
        ("typical", (1, 2, 2, 19), 5, 1.0, 0.0001, 0.75), ("half", (2, 2, 2, 6), 2, 2.0, 0.3, 0.5), ("one", (1, 2, 3, 5), 1, 1.0, 1.0, 1.0),
        ("radius_above_depth", (1, 2, 2, 3), 7, 0.5, 0.2, 1.5),
    ):
        c = zoo.case("local_response_normalization", variant, "float32")
        fields = {"radius": radius, "bias": bias, "alpha": alpha, "beta": beta}
        c.op("LOCAL_RESPONSE_NORMALIZATION", [c.input(shape, "float32")], [c.output("float32")], "LocalResponseNormalizationOptions", **fields)


def int16(zoo):
    for family in ("logistic", "tanh"):
        for variant, scale in (("", 0.00031), ("power_of_two", 2 ** -12), ("next_power_of_two", 2 ** -11), ("wide_scale", 0.02), ("narrow_scale", 1e-6)):
            c = zoo.case(family, variant, "int16")
            c.op(family.upper(), [c.input((3, 67), "int16", Q(scale))], [c.output("int16", Q(1 / 32768))], version=3)
    for variant, shape, scale, beta in (("rank2", (3, 10), 0.00031, 1.0), ("rank4", (1, 2, 3, 21), 0.0011, 1.0), ("beta_half", (2, 33), 0.0004, 0.5),
                                        ("long", (1, 300), 1e-5, 1.0), ("one", (5, 1), 0.001, 1.0)):
        c = zoo.case("softmax", variant, "int16")
        c.op("SOFTMAX", [c.input(shape, "int16", Q(scale))], [c.output("int16", Q(1 / 32768))], "SoftmaxOptions", version=3, beta=beta)
    for family, so in (("relu", 0.00021), ("relu6", 6 / 32767)):
        c = zoo.case(family, "", "int16")
        c.op(family.upper(), [c.input((2, 3, 31), "int16", Q(0.0003))], [c.output("int16", Q(so))], version=3)
    for variant, alpha, so in (("a01", 0.1, 0.0004), ("a_negative", -0.4, 0.00021), ("a_above_1", 1.7, 0.0005)):
        c = zoo.case("leaky_relu", variant, "int16")
        c.op("LEAKY_RELU", [c.input((2, 3, 31), "int16", Q(0.0003))], [c.output("int16", Q(so))], "LeakyReluOptions", version=2, alpha=alpha)
    for variant, shape, alpha in (("per_channel", (2, 3, 4, 9), (1, 1, 9)), ("full", (3, 4, 5), (3, 4, 5))):
        c = zoo.case("prelu", variant, "int16")
        a = c.const(c.random(alpha, "int8"), "int8", Q(0.009))
        c.op("PRELU", [c.input(shape, "int16", Q(0.0003)), a], [c.output("int16", Q(0.00025))], version=1)
    for family in ("maximum", "minimum"):
        for variant, a, b in (("same_shape", (3, 4, 5), (3, 4, 5)), ("broadcast_rank4", (2, 1, 4, 1), (1, 3, 1, 5))):
            c = zoo.case(family, variant, "int16")
            q = Q(0.0003)
            c.op(family.upper(), [c.input(a, "int16", q), c.input(b, "int16", q)], [c.output("int16", q)], "MaximumMinimumOptions", version=4)
    for family, options, version in (("add", "AddOptions", 3), ("sub", "SubOptions", 5), ("mul", "MulOptions", 4)):
        for variant, a, b, act in (("broadcast_rank4", (2, 1, 5, 1), (1, 3, 1, 4), "none"), ("relu6", (5, 33), (33,), "relu6")):
            c = zoo.case(family, variant, "int16")
            so = 0.00021 if family != "mul" else 0.0009
            fields = {"potScaleInt16": False} if family != "mul" else {}
            x, y = c.input(a, "int16", Q(0.0003)), c.input(b, "int16", Q(0.00011))
            c.op(family.upper(), [x, y], [c.output("int16", Q(so))], options, version=version, fusedActivationFunction=ACT[act], **fields)


def cases(zoo):
    functions(zoo)
    pairs(zoo)
    comparisons(zoo)
    selections(zoo)
    rows(zoo)
    int16(zoo)
