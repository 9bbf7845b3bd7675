"""Operators that move, repeat or interpolate elements."""
import numpy as np

from .writer import TYPES, q_for

INT, BOTH = ("int8",), ("float32", "int8")
FOUR = ("float32", "int8", "int32", "int64")
THREE, FIVE = BOTH + ("int16",), FOUR + ("int16",)


def q(dtype):
    """The one quantization of inputs and outputs here: these operators do not rescale."""
    return q_for(dtype, 0.047, -13)


class Move:
    """A case whose inputs and outputs share a type."""

    def __init__(self, zoo, family, variant, dtype):
        self.case, self.dtype, self.family = zoo.case(family, variant, dtype), dtype, family

    def x(self, shape):
        return self.case.input(shape, self.dtype, q(self.dtype))

    def n(self, values, dtype="int32"):
        return self.case.const(values, dtype)

    def go(self, inputs, options=None, outputs=1, **fields):
        ys = [self.case.output(self.dtype, q(self.dtype)) for _ in range(outputs)]
        self.case.op(self.family.upper(), inputs, ys, options, **fields)


def each(zoo, family, table):
    """`table` rows: variant, types, then what the caller needs."""
    for variant, dtypes, *rest in table:
        for dtype in dtypes:
            yield Move(zoo, family, variant, dtype), *rest


def shapes(zoo):
    for m, shape, tensor, option in each(zoo, "reshape", (
        ("by_options", FIVE, (2, 3, 4), None, (4, 6)),
        ("by_options_minus_1", BOTH, (2, 3, 5), None, (-1, 5)),
        ("by_tensor", FOUR + ("uint8",), (1, 4, 6), (3, 8), None),
        ("by_tensor_minus_1", BOTH, (2, 3, 4, 5), (2, -1), None),
        ("by_both", BOTH, (2, 3, 4), (6, 4), (6, 4)),
        ("to_rank5", BOTH, (4, 18), (1, 2, 2, 3, 6), None),
        ("to_rank1", BOTH, (2, 3, 3), (-1,), None),
    )):
        inputs = [m.x(shape)] + ([m.n(tensor)] if tensor else [])
        m.go(inputs, "ReshapeOptions" if option else None, **({"newShape": np.asarray(option, np.int32)} if option else {}))
    for m, shape, dims in each(zoo, "squeeze", (
        ("all", THREE, (1, 3, 1, 5, 1), ()), ("dim1", FOUR, (1, 1, 4, 5), (1,)), ("dims_hw", BOTH, (2, 1, 1, 9), (1, 2)),
        ("negative", BOTH, (2, 3, 1), (-1,)),
    )):
        m.go([m.x(shape)], "SqueezeOptions", squeezeDims=np.asarray(dims, np.int32))
    for m, shape, axis in each(zoo, "expand_dims", (
        ("first", FIVE, (3, 5), 0), ("last", BOTH, (2, 3, 4), -1), ("middle", BOTH, (2, 3, 4), 2),
    )):
        m.go([m.x(shape), m.n(axis)], "ExpandDimsOptions")
    for variant, shape, dtype, out in (
        ("rank4", (2, 3, 4, 5), "float32", "int32"), ("rank2", (7, 3), "int8", "int32"), ("rank5_int64_out", (1, 2, 3, 4, 5), "int8", "int64"),
        ("rank1", (9,), "int32", "int32"),
    ):
        c = zoo.case("shape", variant, dtype)
        c.op("SHAPE", [c.input(shape, dtype, q(dtype))], [c.output(out)], "ShapeOptions", outType=TYPES[out])


def padding(zoo):
    for family, table in (
        ("pad", (
            ("hw", THREE + ("uint8", "int32"), (1, 4, 5, 3), ((0, 0), (1, 1), (2, 1), (0, 0)), "int32"),
            ("every_axis", BOTH, (2, 2, 3, 2), ((1, 0), (0, 2), (1, 1), (2, 1)), "int32"),
            ("before_only_int64", BOTH, (1, 3, 4, 5), ((0, 0), (1, 0), (1, 0), (0, 0)), "int64"),
            ("rank2", BOTH, (3, 7), ((1, 2), (0, 3)), "int32"), ("rank5", BOTH, (1, 2, 2, 3, 2), ((0, 0), (1, 0), (0, 1), (1, 1), (0, 1)), "int32"),
            ("none", INT, (1, 3, 3, 2), ((0, 0),) * 4, "int32"),
        )),
        ("padv2", (
            ("hw", THREE + ("int32",), (1, 4, 5, 3), ((0, 0), (1, 1), (2, 1), (0, 0)), "int32"),
            ("every_axis", BOTH, (2, 2, 3, 2), ((1, 0), (0, 2), (1, 1), (2, 1)), "int32"), ("rank2", BOTH, (3, 7), ((1, 2), (0, 3)), "int32"),
        )),
    ):
        for m, shape, pads, kind in each(zoo, family, table):
            value = []
            if family == "padv2":
                value = [m.case.const({"float32": [-1.75], "int8": [-101], "int16": [-30001], "int32": [77]}[m.dtype], m.dtype, q(m.dtype))]
            m.go([m.x(shape), m.n(pads, kind), *value], "PadOptions" if family == "pad" else "PadV2Options")
    for m, shape, pads, mode in each(zoo, "mirror_pad", (
        ("reflect_hw", THREE, (1, 4, 5, 3), ((0, 0), (1, 2), (3, 1), (0, 0)), 0), ("symmetric_hw", THREE, (1, 4, 5, 3), ((0, 0), (1, 2), (3, 1), (0, 0)), 1),
        ("reflect_widest", BOTH, (3, 4), ((2, 2), (3, 3)), 0), ("symmetric_widest", BOTH, (3, 4), ((3, 3), (4, 4)), 1),
        ("reflect_every_axis", INT, (2, 2, 3, 3), ((1, 0), (0, 1), (2, 1), (1, 2)), 0),
    )):
        m.go([m.x(shape), m.n(pads)], "MirrorPadOptions", mode=mode)


def joining(zoo):
    for m, parts, axis in each(zoo, "concatenation", (
        ("channels_2", FIVE + ("uint8",), ((1, 3, 4, 5), (1, 3, 4, 2)), 3), ("negative_axis_3", BOTH, ((2, 3, 1), (2, 3, 7), (2, 3, 4)), -1),
        ("batch_4", BOTH, ((1, 3, 5), (2, 3, 5), (1, 3, 5), (3, 3, 5)), 0), ("height_2", THREE + ("uint8",), ((2, 3, 2, 5), (2, 1, 2, 5)), 1),
        ("rank1", ("float32", "int32"), ((4,), (3,)), 0), ("rank5", BOTH, ((1, 2, 1, 3, 2), (1, 2, 4, 3, 2)), 2),
    )):
        m.go([m.x(p) for p in parts], "ConcatenationOptions", axis=axis)
    c = zoo.case("concatenation", "unequal_scales", "uint8")
    c.op("CONCATENATION", [c.input((2, 5), "uint8", q_for("uint8", 0.05, -13)), c.input((2, 7), "uint8", q_for("uint8", 0.021, 30))],
         [c.output("uint8", q_for("uint8", 0.043, 4))], "ConcatenationOptions", axis=1)
    for m, shape, axis, parts in each(zoo, "split", (
        ("channels_3", FIVE, (1, 3, 4, 6), 3, 3), ("height_2", BOTH, (2, 4, 3, 5), 1, 2), ("negative_axis_4", BOTH, (3, 8), -1, 4), ("one", INT, (2, 3), 0, 1),
    )):
        m.go([m.n(axis), m.x(shape)], "SplitOptions", parts, numSplits=parts)
    for m, shape, axis, sizes in each(zoo, "split_v", (
        ("channels", FIVE, (1, 3, 4, 9), 3, (2, 4, 3)), ("rest", BOTH, (2, 7, 3), 1, (1, -1, 4)), ("negative_axis", BOTH, (3, 8), -2, (2, 1)),
    )):
        m.go([m.x(shape), m.n(sizes), m.n(axis)], "SplitVOptions", len(sizes), numSplits=len(sizes))
    for m, shape, axis, parts in each(zoo, "pack", (
        ("first_3", FIVE, (4, 5), 0, 3), ("last_2", BOTH, (2, 3, 4), -1, 2), ("middle_2", BOTH, (3, 4, 2), 1, 2), ("rank1_4", BOTH, (5,), 1, 4),
    )):
        m.go([m.x(shape) for _ in range(parts)], "PackOptions", valuesCount=parts, axis=axis)
    for m, shape, axis in each(zoo, "unpack", (
        ("first", THREE + ("int32",), (3, 4, 5), 0), ("last", BOTH, (2, 3, 4), -1), ("middle", BOTH, (2, 3, 2, 4), 1),
    )):
        m.go([m.x(shape)], "UnpackOptions", shape[axis], num=shape[axis], axis=axis)


def picking(zoo):
    for m, shape, begin, size, kind in each(zoo, "slice", (
        ("rank4", FIVE, (2, 4, 5, 6), (1, 0, 2, 3), (1, 3, 2, 2), "int32"), ("rest", BOTH, (2, 4, 5, 6), (0, 1, 0, 2), (-1, -1, 3, -1), "int32"),
        ("rank2_int64", BOTH, (5, 9), (2, 1), (2, 7), "int64"), ("rank5", BOTH, (2, 3, 2, 4, 3), (1, 1, 0, 2, 0), (1, 2, 2, 2, 3), "int32"),
        ("rank1", BOTH, (11,), (4,), (-1,), "int32"),
    )):
        m.go([m.x(shape), m.n(begin, kind), m.n(size, kind)], "SliceOptions")
    for m, shape, begin, end, strides, masks in each(zoo, "strided_slice", (
        ("rank4", FIVE, (2, 5, 6, 4), (0, 1, 0, 1), (2, 4, 6, 4), (1, 1, 2, 2), {}),
        ("begin_end_masks", BOTH, (2, 5, 6, 4), (1, 2, 3, 1), (2, 3, 5, 2), (1, 1, 2, 1), {"beginMask": 0b0101, "endMask": 0b1010}),
        ("negative_stride", THREE, (3, 6, 4), (2, 5, 3), (0, 1, 0), (-1, -2, -1), {}),
        ("negative_stride_masks", BOTH, (4, 7), (0, 0), (0, 0), (-1, -3), {"beginMask": 3, "endMask": 3}),
        ("negative_bounds", BOTH, (5, 7), (-3, -6), (-1, -2), (1, 2), {}),
        ("bounds_outside", BOTH, (5, 7), (-9, 2), (99, 50), (1, 3), {}),
        ("shrink", FOUR, (3, 4, 5), (1, 0, 2), (2, 4, 3), (1, 1, 1), {"shrinkAxisMask": 0b101}),
        ("shrink_negative", BOTH, (3, 4), (-1, 1), (0, 4), (1, 1), {"shrinkAxisMask": 1}),
        ("ellipsis", BOTH, (2, 3, 4, 5), (1, 0, 1), (2, 0, 4), (1, 1, 2), {"ellipsisMask": 0b010}),
        ("ellipsis_shrink", BOTH, (2, 3, 4, 5), (0, 2), (0, 3), (1, 1), {"ellipsisMask": 0b01, "shrinkAxisMask": 0b10}),
        ("new_axis", BOTH, (3, 4, 5), (0, 0, 1), (0, 3, 4), (1, 2, 1), {"newAxisMask": 0b001}),
        ("new_axis_ellipsis", BOTH, (3, 4), (0, 1, 0), (0, 3, 0), (1, 1, 1), {"newAxisMask": 0b100, "ellipsisMask": 0b001}),
        ("fewer_than_rank", BOTH, (4, 3, 5), (1,), (3,), (1,), {}),
        ("rank5", BOTH, (2, 3, 2, 4, 3), (0, 1, 0, 0, 0), (2, 3, 2, 4, 3), (1, 1, 1, 2, 2), {}),
    )):
        m.go([m.x(shape), m.n(begin), m.n(end), m.n(strides)], "StridedSliceOptions", **masks)
    for m, shape, indices, axis, batch, kind in each(zoo, "gather", (
        ("axis0", FIVE, (6, 5), (5, 0, 3, 3), 0, 0, "int32"), ("axis_last", BOTH, (2, 3, 7), (6, 1), -1, 0, "int32"),
        ("axis1_rank2_indices", BOTH, (2, 5, 3), ((4, 0), (2, 2), (1, 3)), 1, 0, "int32"), ("int64_indices", BOTH, (6, 4), (1, 5, 0), 0, 0, "int64"),
        ("batch_dims_1", THREE, (3, 5, 2), ((4, 0), (2, 2), (1, 3)), 1, 1, "int32"),
        ("batch_dims_1_axis2", BOTH, (2, 3, 4), ((3, 0, 1), (2, 2, 0)), 2, 1, "int32"), ("scalar_index", BOTH, (4, 6), 2, 0, 0, "int32"),
    )):
        m.go([m.x(shape), m.n(indices, kind)], "GatherOptions", axis=axis, batchDims=batch)
    c = zoo.case("gather", "indices_as_input", "float32")
    c.op("GATHER", [c.input((5, 4), "float32"), c.input((3,), "int32", feed=[4, 1, 1])], [c.output("float32")], "GatherOptions", axis=0)


def rearranging(zoo):
    for m, shape, perm in each(zoo, "transpose", (
        ("10", FIVE, (5, 9), (1, 0)), ("021", BOTH, (2, 5, 7), (0, 2, 1)), ("201", BOTH, (3, 4, 5), (2, 0, 1)), ("0231", BOTH + ("uint8",), (2, 3, 4, 5), (0, 2, 3, 1)),
        ("0312", THREE, (2, 3, 4, 5), (0, 3, 1, 2)), ("3210", BOTH, (2, 3, 4, 5), (3, 2, 1, 0)), ("0213", BOTH, (2, 3, 4, 5), (0, 2, 1, 3)),
        ("identity", INT, (2, 3, 4), (0, 1, 2)), ("04213", THREE, (2, 3, 2, 4, 3), (0, 4, 2, 1, 3)), ("23041", BOTH, (2, 1, 3, 4, 2), (2, 3, 0, 4, 1)),
        ("unit_dims", BOTH, (1, 6, 1, 5), (2, 3, 0, 1)), ("024135", BOTH, (1, 2, 3, 2, 2, 3), (0, 2, 4, 1, 3, 5)),
    )):
        m.go([m.x(shape), m.n(perm)], "TransposeOptions")
    for m, shape, multiples, kind in each(zoo, "tile", (
        ("rank2", THREE + ("int32", "int64"), (2, 3), (3, 2), "int32"), ("rank4", BOTH, (1, 2, 3, 2), (2, 1, 2, 3), "int32"), ("int64_multiples", BOTH, (3, 4), (1, 3), "int64"),
        ("rank1", BOTH, (5,), (4,), "int32"),
    )):
        m.go([m.x(shape), m.n(multiples, kind)], "TileOptions")
    for family, options, table in (
        ("depth_to_space", "DepthToSpaceOptions", (("b2", BOTH, (1, 3, 4, 8), 2), ("b3_batch2", BOTH, (2, 2, 3, 9), 3), ("b2_d12", BOTH, (1, 2, 2, 12), 2))),
        ("space_to_depth", "SpaceToDepthOptions", (("b2", BOTH, (1, 6, 4, 3), 2), ("b3_batch2", BOTH, (2, 3, 6, 1), 3))),
    ):
        for m, shape, block in each(zoo, family, table):
            m.go([m.x(shape)], options, blockSize=block)
    for m, shape, block, pads in each(zoo, "space_to_batch_nd", (
        ("b2", THREE, (1, 4, 6, 3), (2, 2), ((0, 0), (0, 0))), ("padded", THREE, (2, 5, 4, 3), (2, 3), ((1, 0), (0, 2))), ("rank3", BOTH, (2, 6, 5), (3,), ((0, 0),)),
        ("b1", INT, (1, 3, 3, 2), (1, 1), ((1, 1), (0, 1))),
    )):
        m.go([m.x(shape), m.n(block), m.n(pads)], "SpaceToBatchNDOptions")
    for m, shape, block, crops in each(zoo, "batch_to_space_nd", (
        ("b2", THREE, (4, 2, 3, 3), (2, 2), ((0, 0), (0, 0))), ("cropped", THREE, (12, 3, 2, 3), (2, 3), ((1, 0), (0, 2))), ("rank3", BOTH, (6, 2, 5), (3,), ((0, 0),)),
        ("batch2_cropped_all", INT, (8, 3, 3, 2), (2, 2), ((1, 2), (0, 1))),
    )):
        m.go([m.x(shape), m.n(block), m.n(crops)], "BatchToSpaceNDOptions")


def resizing(zoo):
    for family, options in (("resize_bilinear", "ResizeBilinearOptions"), ("resize_nearest_neighbor", "ResizeNearestNeighborOptions")):
        for mode, fields in (("corners", {"alignCorners": True}), ("half_pixel", {"halfPixelCenters": True}), ("plain", {})):
            for variant, dtypes, shape, size in (
                ("up2", BOTH + ("uint8",), (1, 3, 4, 5), (6, 8)), ("up_odd", THREE, (1, 5, 3, 3), (7, 11)), ("down2", BOTH, (1, 8, 6, 5), (4, 3)),
                ("down_odd", THREE, (2, 7, 9, 3), (3, 4)), ("to_one", INT, (1, 5, 4, 3), (1, 1)), ("from_one", INT, (1, 1, 1, 9), (3, 2)),
                ("same", INT, (1, 4, 5, 2), (4, 5)), ("down_then_up", BOTH, (1, 7, 3, 4), (4, 8)),
            ):
                for dtype in dtypes:
                    m = Move(zoo, family, f"{variant}_{mode}", dtype)
                    m.go([m.x(shape), m.n(size)], options, version=3 if mode == "half_pixel" else 2 if dtype == "int8" else 1, **fields)
    c = zoo.case("resize_bilinear", "odd_d19_half_pixel", "int8")
    c.op("RESIZE_BILINEAR", [c.input((1, 5, 7, 19), "int8", q("int8")), c.const((8, 12), "int32")], [c.output("int8", q("int8"))],
         "ResizeBilinearOptions", version=3, halfPixelCenters=True)


def cases(zoo):
    shapes(zoo)
    padding(zoo)
    joining(zoo)
    picking(zoo)
    rearranging(zoo)
    resizing(zoo)
