"""Operators that index, scatter, count and select."""
import numpy as np
from flatbuffers import flexbuffers

from .movement import each, q
from .writer import Q, TYPES, q_for

QUANTIZED = ("float32", "int8", "int16")
WIDE = ("float32", "int8", "int16", "int64", "bool")


def version(dtype, **by_type):
    return by_type.get(dtype, by_type.get("other", 1))


def indexing(zoo):
    for m, shape, indices, kind in each(zoo, "gather_nd", (
        ("elements", WIDE, (3, 4, 2), ((2, 3, 1), (0, 0, 0), (1, 2, 1)), "int32"), ("rows", QUANTIZED, (4, 5), (((3,), (0,)), ((1,), (1,))), "int64"),
        ("int16_indices", ("float32", "int8"), (3, 2, 5), ((2, 1), (0, 0)), "int16"),
    )):
        v = 4 if kind == "int16" else version(m.dtype, int16=3, bool=5)
        m.case.op("GATHER_ND", [m.x(shape), m.n(indices, kind)], [m.case.output(m.dtype, q(m.dtype))], "GatherNdOptions", version=v)
    for m, indices, updates, shape in each(zoo, "scatter_nd", (
        ("slices", ("float32", "int8", "uint8", "int32", "int64", "bool"), ((1,), (3,), (1,)), (3, 4), (5, 4)), ("elements", ("float32", "int32"), ((0, 1), (2, 2), (0, 1), (1, 0)), (4,), (3, 3)),
    )):
        m.case.op("SCATTER_ND", [m.n(indices), m.x(updates), m.n(shape)], [m.case.output(m.dtype, q(m.dtype))], "ScatterNdOptions", version=1)
    for m, shape, high, depth, axis, kind in each(zoo, "one_hot", (
        ("last", ("float32", "int8", "uint8", "int32", "int64", "bool"), (2, 3), 7, 5, -1, "int32"), ("first", ("float32",), (4,), 4, 3, 0, "int64"), ("middle", ("int8",), (3, 2), 4, 4, 1, "int32"),
    )):
        values = {"float32": (1.5, -0.5), "bool": (True, False), "uint8": (200, 3)}.get(m.dtype, (77, -9))
        on, off = (m.case.const(v, m.dtype, q(m.dtype)) for v in values)
        m.case.op("ONE_HOT", [m.case.input(shape, kind, low=-1, high=high), m.n(depth), on, off], [m.case.output(m.dtype, q(m.dtype))], "OneHotOptions", version=1, axis=axis)
    for m, shape, count in each(zoo, "embedding_lookup", (
        ("rank2", ("float32", "int8", "int16", "int32"), (7, 5), 4), ("rank3", ("float32", "int8"), (4, 2, 3), 6),
    )):
        rows = m.case.input((count,), "int32", low=0, high=shape[0])
        table = m.case.const(m.case.random(shape, m.dtype), m.dtype, q(m.dtype))
        m.case.op("EMBEDDING_LOOKUP", [rows, table], [m.case.output(m.dtype, q(m.dtype))], version=1)
    for variant, scale in (("per_tensor", 0.031), ("per_row", np.linspace(0.01, 0.07, 7))):
        c = zoo.case("embedding_lookup", variant, "int8", "float32")
        rows = c.input((5,), "int32", low=0, high=7)
        c.op("EMBEDDING_LOOKUP", [rows, c.const(c.random((7, 9), "int8"), "int8", Q(scale))], [c.output("float32")], version=4 if np.size(scale) > 1 else 1)
    for m, indices, values, shape, kind in each(zoo, "sparse_to_dense", (
        ("rows", ("float32", "int8", "uint8", "int32", "int64"), ((0, 1), (1, 0), (2, 3)), (3,), (3, 4), "int32"), ("vector_scalar", ("float32",), (0, 4, 2), (), (6,), "int64"),
        ("rank4", ("int32",), ((0, 1, 0, 2), (1, 0, 1, 0)), (2,), (2, 2, 2, 3), "int32"),
    )):
        default = m.case.const(3, m.dtype, q(m.dtype))
        m.case.op("SPARSE_TO_DENSE", [m.n(indices, kind), m.n(shape, kind), m.x(values), default], [m.case.output(m.dtype, q(m.dtype))], "SparseToDenseOptions",
                  version=version(m.dtype, int8=3, uint8=3, int64=2))
    for m, shape, update, start, kind in each(zoo, "dynamic_update_slice", (
        ("inside", WIDE, (3, 4, 5), (2, 1, 3), (1, 2, 0), "int32"), ("clamped", ("float32", "int8"), (4, 6), (2, 3), (9, -2), "int64"), ("whole", ("float32",), (2, 3), (2, 3), (1, 1), "int32"),
    )):
        v = 2 if kind == "int64" else version(m.dtype, int16=4)
        m.case.op("DYNAMIC_UPDATE_SLICE", [m.x(shape), m.x(update), m.case.input((len(start),), kind, feed=start)], [m.case.output(m.dtype, q(m.dtype))], "DynamicUpdateSliceOptions", version=v)


def filling(zoo):
    for m, shape, kind in each(zoo, "fill", (("rank3", WIDE, (2, 3, 4), "int32"), ("scalar_int64", ("float32",), (), "int64"))):
        m.case.op("FILL", [m.n(np.asarray(shape, kind).reshape(len(shape)), kind), m.x(())], [m.case.output(m.dtype, q(m.dtype))], "FillOptions", version=version(m.dtype, int8=3, int16=3, bool=2))
    for m, shape, to in each(zoo, "broadcast_to", (
        ("rank4", WIDE, (2, 1, 3), (2, 2, 4, 3)), ("scalar", QUANTIZED, (), (3, 2)), ("rank5", ("float32", "int8"), (1, 3, 1, 2, 1), (2, 3, 2, 2, 4)), ("same", ("int8",), (2, 3), (2, 3)),
    )):
        m.case.op("BROADCAST_TO", [m.x(shape), m.n(to)], [m.case.output(m.dtype, q(m.dtype))], "BroadcastToOptions", version=version(m.dtype, int8=3, int16=3, other=2))
    for variant, a, b, dtype in (("rank3_rank2", (7, 1, 5), (3, 1), "int32"), ("int64", (1, 4), (2, 1, 1), "int64")):
        c = zoo.case("broadcast_args", variant, dtype)
        c.op("BROADCAST_ARGS", [c.input((len(a),), dtype, feed=a), c.input((len(b),), dtype, feed=b)], [c.output(dtype)], version=1)
    for variant, dtype, bounds in (("up", "int32", (2, 17, 3)), ("down", "int64", (5, -4, -2)), ("thirds", "float32", (0.1, 2.3, 0.3)), ("float_down", "float32", (2, -1, -0.75))):
        c = zoo.case("range", variant, dtype)
        c.op("RANGE", [c.const(v, dtype) for v in bounds], [c.output(dtype)], "RangeOptions", version=version(dtype, int64=2))
    for variant, shape, dtype in (("rank3", (2, 3, 4), "float32"), ("scalar", (), "int8"), ("rank5", (1, 1, 2, 1, 1), "int32")):
        c = zoo.case("rank", variant, dtype)
        c.op("RANK", [c.input(shape, dtype, q(dtype))], [c.output("int32")], "RankOptions", version=1)
    for dtype in ("float32", "int32", "int64"):
        c = zoo.case("zeros_like", "rank2", dtype)
        c.op("ZEROS_LIKE", [c.input((2, 3), dtype)], [c.output(dtype)], "ZerosLikeOptions", version=1)
    for m, shape in each(zoo, "matrix_diag", (("rank2", ("float32", "int8", "uint8", "int16", "int32", "int64"), (3, 4)), ("rank1", ("float32",), (5,)))):
        m.case.op("MATRIX_DIAG", [m.x(shape)], [m.case.output(m.dtype, q(m.dtype))], "MatrixDiagOptions", version=1)
    for m, shape in each(zoo, "matrix_set_diag", (
        ("square", ("float32", "int8", "uint8", "int16", "int32", "int64"), (2, 3, 3)), ("wide", ("float32",), (3, 5)), ("tall", ("int8",), (2, 4, 3)),
    )):
        diagonal = (*shape[:-2], min(shape[-2:]))
        m.case.op("MATRIX_SET_DIAG", [m.x(shape), m.x(diagonal)], [m.case.output(m.dtype, q(m.dtype))], "MatrixSetDiagOptions", version=1)


def reversing(zoo):
    for m, shape, axes in each(zoo, "reverse_v2", (
        ("last", WIDE, (3, 4, 5), (2,)), ("first", QUANTIZED, (4, 3), (0,)), ("two", ("float32", "int8"), (2, 3, 4, 2), (1, 2)), ("negative", ("int8",), (2, 5), (-1,)),
    )):
        m.case.op("REVERSE_V2", [m.x(shape), m.n(np.asarray(axes, np.int32))], [m.case.output(m.dtype, q(m.dtype))], "ReverseV2Options", version=version(m.dtype, int8=3, bool=2))
    for m, shape, lengths, sequence, batch, kind in each(zoo, "reverse_sequence", (
        ("along_1", ("float32", "uint8", "int16", "int32", "int64"), (3, 5, 2), (2, 5, 1), 1, 0, "int32"), ("along_0", ("float32",), (4, 2, 3), (3, 0, 4), 0, 2, "int64"),
        ("along_2", ("int32",), (2, 3, 4), (4, 1, 3), 2, 1, "int32"),
    )):
        inputs = [m.x(shape), m.case.input((len(lengths),), kind, feed=lengths)]
        m.case.op("REVERSE_SEQUENCE", inputs, [m.case.output(m.dtype, q(m.dtype))], "ReverseSequenceOptions", version=1, seqDim=sequence, batchDim=batch)
    for variant, dtype, shape, axis, fields in (
        ("last", "float32", (3, 7), 1, {}), ("exclusive", "float32", (2, 3, 4), 1, {"exclusive": True}), ("reverse", "int32", (5, 3), 0, {"reverse": True}),
        ("both", "int64", (2, 6), -1, {"exclusive": True, "reverse": True}), ("rank1", "int32", (9,), 0, {}),
    ):
        c = zoo.case("cumsum", variant, dtype)
        c.op("CUMSUM", [c.input(shape, dtype), c.const(axis, "int32")], [c.output(dtype)], "CumsumOptions", version=1, **fields)
    for variant, dtype, shape, segments in (("rank2", "float32", (6, 3), (0, 0, 1, 2, 2, 2)), ("rank1", "int32", (5,), (0, 1, 1, 2, 3)), ("rank3", "int32", (3, 2, 2), (0, 0, 0))):
        c = zoo.case("segment_sum", variant, dtype)
        c.op("SEGMENT_SUM", [c.input(shape, dtype), c.const(segments, "int32")], [c.output(dtype)], "SegmentSumOptions", version=1)
    for variant, a, b in (("same_size", "float32", "int32"), ("narrower", "int32", "int8"), ("wider", "uint8", "float32"), ("halves", "int64", "int16")):
        c = zoo.case("bitcast", variant, a, b)
        shape = (2, 3) if variant != "wider" else (2, 3, 4)
        feed = c.rng.standard_normal((2, 3)).astype(np.float32).view(np.uint8).reshape(2, 3, 4) if variant == "wider" else None
        c.op("BITCAST", [c.input(shape, a, feed=feed)], [c.output(b)], "BitcastOptions", version=1)


def counting(zoo):
    for family in ("reduce_any", "reduce_all"):
        for variant, shape, axes, keep in (("last", (3, 4), (1,), False), ("two", (2, 3, 2, 2), (1, 3), True), ("all", (2, 2), (0, 1), False), ("negative", (2, 3, 3), (-2,), True)):
            c = zoo.case(family, variant, "bool")
            feed = c.rng.random(shape) < (0.3 if family == "reduce_any" else 0.7)
            c.op(family.upper(), [c.input(shape, "bool", feed=feed), c.const(axes, "int32")], [c.output("bool")], "ReducerOptions", version=1, keepDims=keep)
    for variant, shape, axes, keep in (("last", (5, 4), (1,), False), ("hw", (2, 3, 2, 5), (1, 2), True), ("first", (3, 7), (0,), False), ("outer_and_inner", (2, 3, 4), (0, 2), False), ("none", (2, 3), (), False)):
        more = ("int8", "int16") if axes else ()
        for dtype in ("float32",) + more + (("int32", "int64") if variant == "last" else ()):
            c = zoo.case("reduce_prod", variant, dtype)
            n = int(np.prod([shape[a] for a in axes])) if axes else 1
            narrow = dtype in ("int8", "int16")
            qi = q_for(dtype, 2.4 / (255 if dtype == "int8" else 65535), 7)
            qo = q_for(dtype, 1.7 ** min(n, 4) / (255 if dtype == "int8" else 65535), -11)
            x = c.input(shape, dtype, qi) if narrow else c.input(shape, dtype, low=-3, high=4)
            c.op("REDUCE_PROD", [x, c.const(np.asarray(axes, np.int32), "int32")], [c.output(dtype, qo)], "ReducerOptions", version=2 if narrow else 1, keepDims=keep)
    for variant, dtypes, shape, k in (("last", ("float32", "int8", "uint8", "int16", "int32", "int64"), (4, 9), 3), ("all", ("float32", "int8"), (2, 3, 5), 5), ("one", ("float32",), (7,), 1), ("ties", ("int8",), (3, 40), 17)):
        for dtype in dtypes:
            c = zoo.case("topk_v2", variant, dtype)
            feed = c.rng.integers(-3, 4, shape) if variant == "ties" else None
            c.op("TOPK_V2", [c.input(shape, dtype, q(dtype), feed=feed), c.const(k, "int32")], [c.output(dtype, q(dtype)), c.output("int32")], "TopKV2Options",
                 version=version(dtype, int8=2, int16=3))
    c = zoo.case("topk_v2", "int16_indices", "float32")
    c.op("TOPK_V2", [c.input((3, 8), "float32"), c.const(4, "int16")], [c.output("float32"), c.output("int16")], "TopKV2Options", version=3)
    for dtype in ("bool", "float32", "int8", "uint8", "int32", "int64"):
        c = zoo.case("where", "constant", dtype)
        data = c.rng.integers(0, 2, (3, 2, 4)).astype(dtype)
        c.op("WHERE", [c.const(data, dtype)], [c.output("int64")], "WhereOptions", version=1 if dtype == "bool" else 2)


def boxes(c, count):
    """Corners of boxes that overlap here and there."""
    center, half = c.rng.uniform(0, 1, (count, 2)), c.rng.uniform(0.05, 0.25, (count, 2))
    b = np.concatenate([center - half, center + half], 1).astype(np.float32)
    swap = c.rng.random(count) < 0.3
    b[swap] = b[swap][:, [2, 3, 0, 1]]
    return b


def suppression(zoo):
    for variant, count, most, overlap, threshold, sigma, steps in (
        ("few", 12, 20, 0.4, 0.2, 0.0, None), ("many", 32, 20, 0.5, 0.05, 0.0, None), ("soft", 30, 30, 0.7, 0.1, 0.4, None), ("ties", 40, 30, 0.6, 0.2, 0.0, 4), ("soft_ties", 40, 40, 0.8, 0.05, 0.3, 3),
        ("nothing", 8, 5, 0.5, 2.0, 0.0, None),
    ):
        for v in (4, 5):
            if sigma and v == 4:
                continue
            c = zoo.case(f"non_max_suppression_v{v}", variant, "float32")
            scores = c.rng.uniform(0, 1, count)
            scores = np.round(scores * steps) / steps if steps else scores
            inputs = [c.input((count, 4), "float32", feed=boxes(c, count)), c.input((count,), "float32", feed=scores), c.const(most, "int32"), c.const(overlap, "float32"), c.const(threshold, "float32")]
            outputs = [c.output("int32")]
            if v == 5:
                inputs.append(c.const(sigma, "float32"))
                outputs.append(c.output("float32"))
            c.op(f"NON_MAX_SUPPRESSION_V{v}", inputs, [*outputs, c.output("int32")], f"NonMaxSuppressionV{v}Options", version=1)
    for variant, dtype, count, classes, background, fields in (
        ("fast", "float32", 24, 5, 1, {}), ("fast_no_background", "float32", 25, 3, 0, {}), ("regular", "float32", 24, 5, 1, {"use_regular_nms": True, "detections_per_class": 4}),
        ("fast", "uint8", 24, 5, 1, {}), ("regular", "uint8", 24, 5, 1, {"use_regular_nms": True}),
        ("two_classes", "float32", 30, 4, 1, {"max_classes_per_detection": 2}),
    ):
        c = zoo.case("detection_postprocess", variant, dtype)
        options = {"max_detections": 10, "max_classes_per_detection": 1, "nms_score_threshold": 0.3, "nms_iou_threshold": 0.5, "num_classes": classes,
                   "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0, **fields}
        anchors = np.concatenate([c.rng.uniform(0, 1, (count, 2)), c.rng.uniform(0.1, 0.5, (count, 2))], 1)
        quantized = dtype == "uint8"
        encodings = c.input((1, count, 4), dtype, Q(0.05, 131) if quantized else None, *(() if quantized else (-4, 4)))
        scores = c.input((1, count, classes + background), dtype, Q(1 / 256, 0) if quantized else None, *(() if quantized else (0, 1)))
        data = np.clip(np.round(anchors / 0.005) + 3, 0, 255) if quantized else anchors
        anchors = c.const(data, dtype, Q(0.005, 3) if quantized else None)
        c.custom("TFLite_Detection_PostProcess", flexbuffers.Dumps(options), [encodings, scores, anchors], [c.output("float32") for _ in range(4)])


def data_dependent(zoo):
    """Shapes that depend on what the inputs hold."""
    c = zoo.case("where", "input", "float32")
    feed = c.random((3, 4), "float32") * (c.rng.random((3, 4)) < 0.5)
    c.op("WHERE", [c.input((3, 4), "float32", feed=feed)], [c.output("int64")], "WhereOptions", version=2)
    c = zoo.case("range", "inputs", "int32")
    c.op("RANGE", [c.input((), "int32", feed=v) for v in (3, 20, 4)], [c.output("int32")], "RangeOptions", version=1)
    c = zoo.case("reshape", "input_shape", "float32")
    c.op("RESHAPE", [c.input((2, 6), "float32"), c.input((3,), "int32", feed=(3, -1, 2))], [c.output("float32")], "ReshapeOptions", version=1)
    c = zoo.case("fill", "input_shape", "float32")
    c.op("FILL", [c.input((2,), "int32", feed=(2, 3)), c.input((), "float32")], [c.output("float32")], "FillOptions", version=1)
    for dtype, index in (("int32", "int64"), ("int8", "int32")):
        c = zoo.case("unique", "input", dtype)
        c.op("UNIQUE", [c.input((9,), dtype, low=-2, high=3)], [c.output(dtype), c.output(index)], "UniqueOptions", version=1, idxOutType=TYPES[index])


def cases(zoo):
    data_dependent(zoo)
    indexing(zoo)
    filling(zoo)
    reversing(zoo)
    counting(zoo)
    suppression(zoo)
