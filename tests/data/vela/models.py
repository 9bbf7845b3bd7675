#!/usr/bin/env python3
"""Writes random models of one or a few operators, near the limits of Arm's Ethos-U55 and U65: models.py DIR [--seed N] [--count N]

The files are the same for the same seed, byte for byte. Needs ai-edge-litert, flatbuffers and numpy."""
import argparse
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from zoo.writer import ACT, PAD, TYPES, Case, Q, Tensor  # noqa: E402

MODELS = {}


def family(weight):
    """Registers a function that adds operators to a `Random`; it is drawn `weight` times as often as one of weight 1."""
    def register(function):
        MODELS[function.__name__] = (weight, function)
        return function
    return register


class Random(Case):
    """A model with dice."""

    def __init__(self, name, rng):
        super().__init__("vela", name)
        self.rng = rng
        self.types = ["int8"] * 8 + ["uint8", "int16", "int16", "int32", "float32"]
        self.dtype = str(rng.choice(self.types))

    def one(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def chance(self, probability):
        return self.rng.random() < probability

    def dims(self, rank, high=17):
        return [int(self.rng.integers(1, high)) for _ in range(rank)]

    def image(self, high=17):
        """Height, width and depth behind a batch that is mostly 1."""
        return [self.one(1, 1, 1, 1, 2, 3), *self.dims(3, high)]

    def shape(self, low=1, high=5):
        """Any rank; the dimensions are few enough that Vela is quick."""
        rank = int(self.rng.integers(low, high + 1))
        shape = self.dims(rank, {1: 300, 2: 60, 3: 20}.get(rank, 8))
        if self.chance(0.5):
            shape[0] = 1
        return shape

    def quantized(self, dtype, zero_point=None, scale=None):
        """Parameters for the type; a few times out of a hundred something that Vela may not take."""
        if dtype == "float32" or dtype == "bool":
            return None
        scale = float(2.0 ** self.rng.uniform(-8, -2)) if scale is None else scale
        roll = self.rng.random()
        if roll < 0.015:
            return None
        if zero_point is None:
            zero_point = {"int8": int(self.rng.integers(-128, 128)), "uint8": int(self.rng.integers(0, 256))}.get(dtype, 0)
            if dtype in ("int32", "int16") and roll < 0.1:
                zero_point = 3
        return Q(scale, zero_point)

    def map(self, shape, dtype=None, q=None):
        """An input of the model."""
        dtype = dtype or self.dtype
        if q is None:
            q = self.quantized(dtype)
            if q is not None and len(shape) and shape[-1] > 1 and self.chance(0.015):
                q = Q(np.full(shape[-1], q.scale[0]), q.zero_point, len(shape) - 1)
        return self.argument(shape, dtype, q)

    def result(self, shape, dtype=None, q=None):
        t = self._add(Tensor([int(d) for d in shape], dtype or self.dtype, q or self.quantized(dtype or self.dtype), None, f"out{len(self.outputs)}"))
        self.outputs.append(t)
        return t

    def parameter(self, values, dtype="int32", constant=0.97):
        """A tensor of integers, now and then not a constant."""
        values = np.asarray(values)
        if self.chance(constant):
            return self.const(values, dtype, name="parameter")
        return self.argument(values.shape, dtype)

    def fused(self):
        return ACT[self.one("none", "none", "none", "relu", "relu6", "relu_n1_to_1", "tanh")]

    def weights(self, shape, axis, dtype=None):
        dtype = dtype or ("float32" if self.dtype == "float32" else "uint8" if self.dtype == "uint8" else self.one(*["int8"] * 12, "uint8", "int16"))
        if dtype == "float32":
            return self.const(np.zeros(shape), dtype)
        q = self.quantized(dtype, 119 if dtype == "uint8" else 0)
        if q is not None and dtype == "int8" and shape[axis] < 100 and self.chance(0.5):
            q = Q(self.rng.uniform(0.01, 0.02, shape[axis]), 0, axis)
        fill = np.full(shape, self.one(0, 1, -127 if dtype != "uint8" else 1, 127), dtype)
        if self.chance(0.03):
            return self.argument(shape, dtype, q)
        return self.const(fill, dtype, q, "weights")

    def bias(self, units):
        """A list with the bias, or an empty one."""
        roll = self.rng.random()
        dtype = "float32" if self.dtype == "float32" else "int64" if self.dtype == "int16" else "int32"
        if roll < 0.1:
            return []
        shape = [1, units] if roll < 0.13 else [units, 1] if roll < 0.15 else [units]
        if roll > 0.97:
            dtype = self.one("int16", "int8", "float32", "int64")
        q = None if dtype == "float32" else Q(0.001)
        if 0.9 < roll < 0.93:
            return [self.argument(shape, dtype, q)]
        big = dtype == "int64" and self.chance(0.2)
        return [self.const(np.full(shape, (1 << 40) if big else 7), dtype, q, "bias")]


def windows(size, kernel, stride, dilation, pad):
    reach = (kernel - 1) * dilation + 1
    return -(-size // stride) if pad == "same" else -(-(size - reach + 1) // stride)


def placed(c, shape, kernel, stride, dilation, pad):
    """The height and width of what a window gives, or None where it does not fit."""
    out = [windows(shape[1 + i], kernel[i], stride[i], dilation[i], pad) for i in (0, 1)]
    return out if min(out) > 0 else None


def window(c, large, dilate=True):
    while True:
        shape = c.image(24)
        kernel = [c.one(1, 1, 2, 3, 3, 5, 7, 8, 9, *large), c.one(1, 1, 2, 3, 3, 5, 7, 8, 9, *large)]
        stride = [c.one(1, 1, 1, 2, 2, 3, 3, 4, 5), 0]
        stride[1] = stride[0] if c.chance(0.7) else c.one(1, 2, 3, 4, 5)
        dilation = [1, 1]
        if dilate and c.chance(0.25):
            dilation = [c.one(1, 2, 3, 4), c.one(1, 2, 3)]
        pad = c.one("same", "valid")
        for i in (0, 1):
            if kernel[i] > 20 or c.chance(0.1):
                shape[1 + i] = kernel[i] * dilation[i] + c.one(-1, 0, 1, 5)
        out = placed(c, shape, kernel, stride, dilation, pad)
        if min(shape) > 0 and out:
            return shape, kernel, stride, dilation, pad, out


@family(6)
def conv_2d(c):
    shape, kernel, stride, dilation, pad, out = window(c, (16, 40))
    units = c.one(1, 3, 8, 17)
    x = c.map(shape)
    w = c.weights((units, *kernel, shape[3]), 0)
    c.op("CONV_2D", [x, w, *(c.bias(units) or [-1])], [c.result([shape[0], *out, units])], "Conv2DOptions", padding=PAD[pad], strideH=stride[0],
         strideW=stride[1], dilationHFactor=dilation[0], dilationWFactor=dilation[1], fusedActivationFunction=c.fused())


@family(1)
def heavy_conv_2d(c):
    """Near the greatest sum of weights: 127 * 65536."""
    depth = c.one(65535, 65536, 65537, 66000)
    x = c.map([1, 1, 1, depth], "int8")
    w = c.const(np.full((1, 1, 1, depth), c.one(127, -127, -128, 1)), "int8", Q(0.01))
    c.op("CONV_2D", [x, w, c.const([0], "int32", Q(0.001))], [c.result([1, 1, 1, 1], "int8")], "Conv2DOptions", padding=PAD["valid"], strideH=1, strideW=1)


@family(5)
def depthwise_conv_2d(c):
    shape, kernel, stride, dilation, pad, out = window(c, (16,))
    times = c.one(1, 1, 1, 2, 4)
    x = c.map(shape)
    w = c.weights((1, *kernel, shape[3] * times), 3)
    c.op("DEPTHWISE_CONV_2D", [x, w, *(c.bias(shape[3] * times) or [-1])], [c.result([shape[0], *out, shape[3] * times])], "DepthwiseConv2DOptions",
         padding=PAD[pad], strideH=stride[0], strideW=stride[1], depthMultiplier=times, dilationHFactor=dilation[0], dilationWFactor=dilation[1],
         fusedActivationFunction=c.fused())


@family(4)
def transpose_conv(c):
    shape = c.image(9)
    if c.chance(0.3):
        shape[c.one(1, 2)] = 1
    kernel = [c.one(1, 2, 3, 5), c.one(1, 2, 3, 5)]
    stride = [c.one(1, 2, 2, 3), 0]
    stride[1] = stride[0] if c.chance(0.6) else c.one(1, 2, 3)
    pad = c.one("same", "valid")
    out = [shape[1 + i] * stride[i] + (max(kernel[i] - stride[i], 0) if pad == "valid" else 0) for i in (0, 1)]
    if c.chance(0.15):
        out = [max(1, d - c.one(0, 1)) for d in out]
    units = c.one(1, 3, 8)
    result = [shape[0], *out, units]
    c.op("TRANSPOSE_CONV", [c.const(result, "int32"), c.weights((units, *kernel, shape[3]), 0), c.map(shape), *c.bias(units)], [c.result(result)],
         "TransposeConvOptions", padding=PAD[pad], strideH=stride[0], strideW=stride[1])


@family(5)
def fully_connected(c):
    depth, units = c.one(1, 5, 16, 100, 1000), c.one(1, 3, 10, 33)
    if c.chance(0.15):
        depth = c.one(65535, 65536, 65537)
    elif c.chance(0.1):
        units = c.one(65535, 65536, 65537)
        depth = 1
    batch = c.one(1, 1, 1, 2, 8)
    shape = c.one([batch, depth], [batch, depth], [1, batch, depth], [batch, 1, 1, depth], [1, 1, batch, depth], [depth] if batch == 1 else [batch, depth])
    keep = c.chance(0.3)
    out = [*shape[:-1], units] if keep else [batch, units]
    x = c.map(shape)
    if c.chance(0.2):
        dtype = c.one("int8", c.dtype)
        w = c.argument([units, depth], dtype, c.quantized(dtype))
    else:
        w = c.weights(c.one((units, depth), (units, depth), (units, depth), (units, 1, 1, depth)) if depth < 60000 else (units, depth), 0)
    c.op("FULLY_CONNECTED", [x, w, *(c.bias(units) or [-1])], [c.result(out)], "FullyConnectedOptions", keepNumDims=keep, fusedActivationFunction=c.fused())


@family(6)
def pool(c):
    shape, kernel, stride, _, pad, out = window(c, (60, 255, 256, 257), dilate=False)
    shape[3] = c.one(1, 2, 3, 8)
    c.op(c.one("AVERAGE_POOL_2D", "MAX_POOL_2D"), [c.map(shape)], [c.result([shape[0], *out, shape[3]])], "Pool2DOptions", padding=PAD[pad], strideH=stride[0],
         strideW=stride[1], filterHeight=kernel[0], filterWidth=kernel[1], fusedActivationFunction=c.fused())


def reduced(shape, axes, keep):
    axes = {a % len(shape) for a in axes}
    return [1 if i in axes else d for i, d in enumerate(shape) if keep or i not in axes]


@family(7)
def mean(c):
    shape = c.shape(1, 4)
    if c.chance(0.5):
        shape = c.image()
    axes = sorted(set(int(a) for a in c.rng.integers(0, len(shape), c.one(1, 1, 2, 2, 3))))
    if c.chance(0.5) and len(shape) == 4:
        axes = c.one([1, 2], [1, 2], [3], [1], [2], [1, 2, 3])
    if c.chance(0.3):
        shape = [d if i in axes else c.one(1, 2) for i, d in enumerate(shape)]
        shape[axes[0]] = c.one(4095, 4096, 4097, 5000)
        if c.chance(0.3) and len(axes) > 1:
            shape[axes[1]] = c.one(16, 17, 20)
    if c.chance(0.3):
        axes = [a - len(shape) for a in axes]
    keep = c.chance(0.5)
    axis = c.parameter(axes[0] if len(axes) == 1 and c.chance(0.3) else axes)
    c.op("MEAN", [c.map(shape), axis], [c.result(reduced(shape, axes, keep))], "ReducerOptions", keepDims=keep)


@family(5)
def reduce(c):
    shape = c.shape(1, 4)
    axes = sorted(set(int(a) for a in c.rng.integers(0, len(shape), c.one(1, 1, 1, 2))))
    if c.chance(0.2):
        shape[axes[0]] = c.one(65535, 65536, 65537)
        shape = [d if i == axes[0] else 1 for i, d in enumerate(shape)]
    if c.chance(0.3):
        axes = [a - len(shape) for a in axes]
    keep = c.chance(0.5)
    code = c.one("SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
    x = c.map(shape)
    q = c.tensors[x].q if code != "SUM" and c.chance(0.8) else None
    c.op(code, [x, c.parameter(axes)], [c.result(reduced(shape, axes, keep), q=q)], "ReducerOptions", keepDims=keep)


@family(4)
def softmax(c):
    shape = c.shape(1, 4)
    if c.chance(0.35):
        shape = c.one([1, 256, 256, 2], [1, 256, 257, 2], [65535, 2], [65537, 2], [2, 200, 330, 1], [1, 70000, 2], [70000], [2, 70000], [300, 300, 2])
    q = c.one(Q(1 / 256, -128), None) if c.dtype == "int8" else None
    c.op("SOFTMAX", [c.map(shape)], [c.result(shape, q=q)], "SoftmaxOptions", beta=c.one(1.0, 1.0, 0.5, 2.0))


@family(4)
def arg_max(c):
    shape = c.shape(1, 4)
    axis = len(shape) - 1 if c.chance(0.75) else int(c.rng.integers(0, len(shape)))
    if c.chance(0.5):
        shape[axis] = c.one(126, 127, 128, 129)
    if c.chance(0.4):
        axis -= len(shape)
    out_type = c.one("int32", "int64")
    dtype = c.dtype if c.dtype != "int32" else "int8"
    c.op("ARG_MAX", [c.map(shape, dtype), c.const(axis if c.chance(0.5) else [axis], "int32")],
         [c._add(Tensor([d for i, d in enumerate(shape) if i != axis % len(shape)], out_type, c.one(None, Q(1.0)), None, "out0"))],
         "ArgMaxOptions", outputType=TYPES[out_type])
    c.outputs.append(len(c.tensors) - 1)


@family(8)
def resize(c):
    shape = c.image(12)
    if c.chance(0.2):
        shape[c.one(1, 2)] = 1
    if c.chance(0.1):
        shape[1] = shape[2] = 1
    times = c.one(1, 2, 2, 2, 3, 4, 8, 16)
    align, half = c.chance(0.35), c.chance(0.35)
    if align and half:
        half = False
    out = [(d - 1) * times + 1 if align else d * times for d in shape[1:3]]
    roll = c.rng.random()
    if roll < 0.15:
        out[c.one(0, 1)] += c.one(1, 2)
    elif roll < 0.25:
        out = [c.one(1, 2, 5, 8, 16), c.one(1, 4, 6, 16)]
    elif roll < 0.3:
        out = [max(1, d // 2) for d in shape[1:3]]
    code = c.one("RESIZE_BILINEAR", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
    options = "ResizeBilinearOptions" if code == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions"
    x = c.map(shape)
    c.op(code, [x, c.parameter(out)], [c.result([shape[0], *out, shape[3]], q=c.tensors[x].q)], options, version=3, alignCorners=align, halfPixelCenters=half)


@family(4)
def concatenation(c):
    shape = c.shape(1, 5)
    axis = int(c.rng.integers(0, len(shape)))
    parts = [[c.one(1, 2, 5, 16) if i == axis else d for i, d in enumerate(shape)] for _ in range(c.one(1, 2, 2, 3, 5))]
    out = [sum(p[axis] for p in parts) if i == axis else d for i, d in enumerate(shape)]
    inputs = [c.map(p) for p in parts]
    if c.chance(0.2):
        inputs[-1] = c.const(np.zeros(parts[-1]), c.dtype, c.quantized(c.dtype))
    c.op("CONCATENATION", inputs, [c.result(out)], "ConcatenationOptions", axis=axis if c.chance(0.6) else axis - len(shape),
         fusedActivationFunction=c.one(0, 0, 0, 1, 3))


@family(4)
def pack_unpack(c):
    shape = c.shape(1, 4)
    axis = int(c.rng.integers(0, len(shape) + 1))
    count = c.one(1, 2, 3, 4)
    packed = [*shape[:axis], count, *shape[axis:]]
    written = axis if c.chance(0.7) else axis - len(packed)
    if c.chance(0.5):
        c.op("PACK", [c.map(shape) for _ in range(count)], [c.result(packed)], "PackOptions", axis=written, valuesCount=count)
    else:
        c.op("UNPACK", [c.map(packed)], [c.result(shape) for _ in range(count)], "UnpackOptions", axis=written, num=count)


@family(4)
def split(c):
    shape = c.shape(1, 5)
    axis, count = int(c.rng.integers(0, len(shape))), c.one(1, 2, 3)
    written = axis if c.chance(0.7) else axis - len(shape)
    if c.chance(0.5):
        shape[axis] = count * c.one(1, 2, 4)
        part = [d // count if i == axis else d for i, d in enumerate(shape)]
        c.op("SPLIT", [c.const(written, "int32"), c.map(shape)], [c.result(part) for _ in range(count)], "SplitOptions", numSplits=count)
    else:
        sizes = [c.one(1, 2, 5) for _ in range(count)]
        shape[axis] = sum(sizes)
        parts = [[n if i == axis else d for i, d in enumerate(shape)] for n in sizes]
        c.op("SPLIT_V", [c.map(shape), c.const(sizes, "int32"), c.const(written, "int32")], [c.result(p) for p in parts], "SplitVOptions", numSplits=count)


@family(3)
def slices(c):
    shape = c.shape(1, 5)
    begin = [int(c.rng.integers(0, d)) for d in shape]
    size = [int(c.rng.integers(1, d - b + 1)) for d, b in zip(shape, begin)]
    written = [s if b + s < d or c.chance(0.5) else -1 for s, b, d in zip(size, begin, shape)]
    x = c.map(shape)
    dtype = c.one("int32", "int32", "int64")
    c.op("SLICE", [x, c.parameter(begin, dtype), c.parameter(written, dtype)], [c.result(size, q=c.tensors[x].q)], "SliceOptions")


@family(7)
def strided_slice(c):
    shape = c.shape(1, 5)
    used = int(c.rng.integers(1, len(shape) + 1)) if c.chance(0.3) else len(shape)
    begin, end, strides, out = [], [], [], []
    shrink = masks = ends = 0
    for i, d in enumerate(shape):
        if i >= used:
            out.append(d)
            continue
        b = int(c.rng.integers(0, d))
        e = int(c.rng.integers(b + 1, d + 1))
        stride = c.one(1, 1, 1, 1, 2, 3) if c.chance(0.6) else 1
        if c.chance(0.1):
            shrink |= 1 << i
            e, stride = b + 1, 1
        elif c.chance(0.2):
            masks |= 1 << i
            b = 0
        elif c.chance(0.2):
            ends |= 1 << i
            e = d
        elif c.chance(0.05):
            b, e, stride = d - 1, 0, -1
        if not shrink >> i & 1:
            out.append(len(range(b, e, stride)))
        begin.append(b - d if c.chance(0.1) else b)
        end.append(e - d if e < d and e > 0 and stride > 0 and c.chance(0.2) else e)
        strides.append(stride)
    x = c.map(shape)
    if min(out, default=1) < 1:
        begin, end, strides, out, masks, ends, shrink = [0], [shape[0]], [1], shape, 0, 0, 0
    c.op("STRIDED_SLICE", [x, c.parameter(begin), c.parameter(end), c.parameter(strides)], [c.result(out, q=c.tensors[x].q)], "StridedSliceOptions",
         beginMask=masks, endMask=ends, shrinkAxisMask=shrink)


@family(5)
def pad(c):
    shape = c.shape(1, 5) if c.chance(0.5) else c.image()
    before = [[c.one(0, 0, 1, 2), c.one(0, 0, 1, 3)] for _ in shape]
    if c.chance(0.5) and len(shape) == 4:
        before[0] = before[3] = [0, 0]
    code = c.one("PAD", "PAD", "PADV2", "MIRROR_PAD")
    fields, options = {}, "PadOptions" if code == "PAD" else "PadV2Options"
    if code == "MIRROR_PAD":
        before = [[min(p, d - 1) for p in both] for both, d in zip(before, shape)]
        fields, options = {"mode": c.one(0, 1)}, "MirrorPadOptions"
    x = c.map(shape)
    inputs = [x, c.parameter(before, c.one("int32", "int32", "int64"))]
    q = c.tensors[x].q
    if code == "PADV2":
        inputs.append(c.const([5], c.dtype, q) if c.chance(0.8) else c.argument([1], c.dtype, q))
    c.op(code, inputs, [c.result([d + sum(p) for d, p in zip(shape, before)], q=q if c.chance(0.8) else None)], options, **fields)


def regrouped(c, shape):
    total = int(np.prod(shape))
    return c.one([total], [1, total], [total, 1], [1, *shape], [1, 1, total, 1], [d for d in shape if d > 1] or [1])


@family(5)
def reshape(c):
    shape = c.shape(1, 5)
    if c.chance(0.2):
        shape = c.one([1, 256, 256], [1, 65537], [3, 65537], [2, 300, 300], [1, 1, 65536, 2], [70000])
    x = c.map(shape)
    q = c.tensors[x].q if c.chance(0.85) else None
    code = c.one("RESHAPE", "RESHAPE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS")
    if code == "RESHAPE":
        out = regrouped(c, shape)
        inputs = [x, c.parameter(out)] if c.chance(0.8) else [x]
        c.op(code, inputs, [c.result(out, q=q)], "ReshapeOptions", newShape=np.asarray(out, np.int32))
    elif code == "SQUEEZE":
        c.tensors[x].shape = shape = [1, *shape[1:]]
        c.op(code, [x], [c.result(shape[1:] or [1], q=q)], "SqueezeOptions", squeezeDims=np.asarray([0], np.int32))
    else:
        axis = int(c.rng.integers(0, len(shape) + 1))
        c.op(code, [x, c.parameter([axis])], [c.result([*shape[:axis], 1, *shape[axis:]], q=q)], "ExpandDimsOptions")


@family(6)
def transpose(c):
    shape = c.shape(2, 6)
    if len(shape) == 6:
        shape = [min(d, 4) for d in shape]
    if c.chance(0.3):
        shape = c.one([1, 65536, 2], [1, 65537, 2], [1, 1, 2, 65537], [2, 65537], [65537, 2], [4, 300, 300, 2], [300, 300, 2, 2], [1, 2, 3, 32769],
                      [1, 2, 3, 16385], [2, 256, 256, 3], [2, 2, 2, 40000])
    order = [int(i) for i in c.rng.permutation(len(shape))]
    if c.chance(0.15):
        order = list(range(len(shape)))
    x = c.map(shape)
    c.op("TRANSPOSE", [x, c.parameter(order)], [c.result([shape[i] for i in order], q=c.tensors[x].q)], "TransposeOptions")


@family(3)
def tile(c):
    shape = c.shape(1, 5)
    times = [c.one(1, 1, 2, 3) for _ in shape]
    x = c.map(shape)
    c.op("TILE", [x, c.parameter(times)], [c.result([d * t for d, t in zip(shape, times)], q=c.tensors[x].q)], "TileOptions")


@family(3)
def reverse_v2(c):
    shape = c.shape(1, 4)
    axes = sorted({int(a) for a in c.rng.integers(0, len(shape), c.one(1, 1, 2))})
    if c.chance(0.3):
        axes = [a - len(shape) for a in axes]
    x = c.map(shape)
    c.op("REVERSE_V2", [x, c.const(axes, "int32")], [c.result(shape, q=c.tensors[x].q)], "ReverseV2Options")


@family(4)
def batch_matmul(c):
    rank = c.one(2, 3, 3, 4)
    lead = c.dims(rank - 2, 4)
    rows, depth, columns = c.one(1, 4, 9), c.one(1, 8, 17), c.one(1, 5, 16)
    if c.chance(0.15):
        depth = c.one(65535, 65536, 65537)
    elif c.chance(0.15):
        columns = c.one(65535, 65536, 65537)
    adj_x, adj_y = c.chance(0.3), c.chance(0.3)
    a = [*lead, *((depth, rows) if adj_x else (rows, depth))]
    b = [*(lead if c.chance(0.8) else [1] * len(lead)), *((columns, depth) if adj_y else (depth, columns))]
    right = c.map(b) if c.chance(0.7) or c.dtype not in ("int8", "int16") else c.const(np.ones(b), c.dtype, c.quantized(c.dtype))
    c.op("BATCH_MATMUL", [c.map(a), right], [c.result([*lead, rows, columns])], "BatchMatMulOptions", adjX=adj_x, adjY=adj_y)


def broadcast(c, shape):
    roll = c.rng.random()
    if roll < 0.4:
        return list(shape)
    if roll < 0.6:
        return [1] * len(shape)
    if roll < 0.7:
        return [shape[-1]]
    if roll < 0.75:
        return []
    return [d if c.chance(0.5) else 1 for d in shape]


@family(6)
def binary(c):
    code, options, fused = c.one(("ADD", "AddOptions", 1), ("SUB", "SubOptions", 1), ("MUL", "MulOptions", 1), ("SQUARED_DIFFERENCE", "SquaredDifferenceOptions", 0),
                                 ("DIV", "DivOptions", 1), ("FLOOR_DIV", "FloorDivOptions", 0), ("POW", "PowOptions", 0))
    shape = c.shape(1, 5)
    x, other = c.map(shape), broadcast(c, shape)
    y = c.map(other) if c.chance(0.6) else c.const(np.ones(other), c.dtype, c.quantized(c.dtype))
    inputs = [x, y] if c.chance(0.8) else [y, x]
    out = c.dtype if c.chance(0.93) else c.one("int8", "int16", "int32")
    c.op(code, inputs, [c.result(shape, out)], options, **({"fusedActivationFunction": c.fused()} if fused else {}))


@family(5)
def extremum(c):
    shape = c.shape(1, 5)
    x = c.map(shape)
    q = c.tensors[x].q
    same = c.chance(0.7)
    other = broadcast(c, shape)
    y = c.map(other, q=q if same else None) if c.chance(0.6) else c.const(np.zeros(other), c.dtype, q if same else c.quantized(c.dtype))
    c.op(c.one("MAXIMUM", "MINIMUM"), [x, y], [c.result(shape, q=q if same or c.chance(0.5) else None)], "MaximumMinimumOptions")


UNARY = {"RELU": None, "RELU6": None, "RELU_N1_TO_1": None, "RELU_0_TO_1": None, "HARD_SWISH": "HardSwishOptions", "LOGISTIC": None, "TANH": None,
         "ELU": None, "GELU": "GeluOptions", "EXP": "ExpOptions", "LOG": None, "RSQRT": None, "ABS": "AbsOptions", "NEG": "NegOptions",
         "LEAKY_RELU": "LeakyReluOptions", "SQRT": None, "SQUARE": "SquareOptions", "SIN": None, "COS": "CosOptions", "FLOOR": None, "ROUND": None,
         "LOG_SOFTMAX": "LogSoftmaxOptions", "L2_NORMALIZATION": "L2NormOptions", "SIGN": "SignOptions", "CEIL": None}


@family(9)
def unary(c):
    code = c.one(*UNARY, *list(UNARY)[:15])
    shape = c.shape(1, 5)
    fields = {"alpha": c.one(0.1, 0.3, 1.5, -0.2)} if code == "LEAKY_RELU" else {"approximate": c.chance(0.5)} if code == "GELU" else {}
    out = c.dtype if c.chance(0.93) else c.one("int8", "uint8", "int16")
    c.op(code, [c.map(shape)], [c.result(shape, out)], UNARY[code], **fields)


@family(3)
def prelu(c):
    shape = c.shape(2, 4)
    alpha = [1] * (len(shape) - 2) + [shape[-1]] if c.chance(0.5) else shape[1:]
    q = c.quantized(c.dtype)
    a = c.const(np.ones(alpha), c.dtype, q) if c.chance(0.8) else c.argument(alpha, c.dtype, q)
    c.op("PRELU", [c.map(shape), a], [c.result(shape)], None)


@family(5)
def quantize(c):
    shape = c.shape(1, 5)
    source, target = c.one("int8", "uint8", "int16", "int32", "float32", c.dtype), c.one("int8", "int8", "uint8", "int16", "int32")
    roll = c.rng.random()
    if roll < 0.6:
        c.op("QUANTIZE", [c.map(shape, source)], [c.result(shape, target)], "QuantizeOptions")
    elif roll < 0.8:
        c.op("DEQUANTIZE", [c.map(shape, c.one("int8", "uint8", "int16"))], [c.result(shape, "float32")], "DequantizeOptions")
    else:
        c.op("CAST", [c.map(shape, source)], [c.result(shape, c.one("float32", "int32", "int8"))], "CastOptions")


@family(4)
def never(c):
    """Operators that the list does not have, with operands that TFLite takes."""
    shape = c.image(6)
    q = Q(0.05, 3)
    c.dtype = "int8"
    x = c.map(shape, q=q)
    roll = c.rng.integers(9)
    if roll == 0:
        c.op("GATHER", [x, c.const([0], "int32")], [c.result([1, *shape[1:]], q=q)], "GatherOptions", axis=0)
    elif roll == 1:
        c.op("SPACE_TO_DEPTH", [c.map([1, 4, 4, 3], q=q)], [c.result([1, 2, 2, 12], q=q)], "SpaceToDepthOptions", blockSize=2)
        c.op("ABS", [x], [c.result(shape)], "AbsOptions")
    elif roll == 2:
        c.op("DEPTH_TO_SPACE", [c.map([1, 4, 4, 8], q=q)], [c.result([1, 8, 8, 2], q=q)], "DepthToSpaceOptions", blockSize=2)
        c.op("ABS", [x], [c.result(shape)], "AbsOptions")
    elif roll == 3:
        c.op("BROADCAST_TO", [c.map([1, 1, 1, shape[3]], q=q), c.const(shape, "int32")], [c.result(shape, q=q)], "BroadcastToOptions")
        c.op("ABS", [x], [c.result(shape)], "AbsOptions")
    elif roll == 4:
        y = c._add(Tensor(shape, "bool", None, None, "out0"))
        c.outputs.append(y)
        c.op(c.one("EQUAL", "GREATER", "LESS", "NOT_EQUAL"), [x, c.map(shape, q=q)], [y], None)
    elif roll == 5:
        c.op("SHAPE", [x], [c.result([4], "int32", Q(1.0))], "ShapeOptions")
    elif roll == 6:
        c.op("SELECT_V2", [c.argument(shape, "bool"), x, c.map(shape, q=q)], [c.result(shape, q=q)], "SelectV2Options")
    elif roll == 7:
        c.op("ADD_N", [x, c.map(shape, q=q)], [c.result(shape, q=q)], "AddNOptions")
    else:
        c.op("CUMSUM", [x, c.const(1, "int32")], [c.result(shape, q=q)], "CumsumOptions")


@family(3)
def space_to_batch(c):
    """A dilated convolution as older converters wrote it; now and then something else reads what is between."""
    block = [c.one(2, 3, 4), c.one(2, 3, 4)]
    block[1] = block[0] if c.chance(0.6) else block[1]
    depth, kernel = c.one(1, 4, 8), c.one(1, 3)
    high, wide = block[0] * c.one(2, 4), block[1] * c.one(2, 4)
    crop = [[0, 0], [0, 0]]
    q = Q(0.05, 3)
    c.dtype = c.one("int8", "int8", "uint8", "int16")
    if c.dtype != "int8":
        q = Q(0.05, 0)
    batch = block[0] * block[1]
    small = [batch, high // block[0], wide // block[1], depth]
    x = c.map([1, high, wide, depth], q=q)
    a = c.middle(small, c.dtype, q)
    b = c.middle(small, c.dtype, Q(0.1, 0))
    out = c.result([1, high, wide, depth], q=Q(0.1, 0))
    c.op("SPACE_TO_BATCH_ND", [x, c.const(block, "int32"), c.const(crop, "int32")], [a], "SpaceToBatchNDOptions")
    bias = c.const(np.zeros(depth), "int64" if c.dtype == "int16" else "int32", Q(0.001))
    wide_type = "uint8" if c.dtype == "uint8" else "int8"
    if c.chance(0.5):
        w = c.const(np.ones((1, kernel, kernel, depth)), wide_type, Q(0.02, 0))
        c.op("DEPTHWISE_CONV_2D", [a, w, bias], [b], "DepthwiseConv2DOptions", padding=PAD["same"], strideH=1, strideW=1, depthMultiplier=1,
             fusedActivationFunction=c.one(0, 0, 1))
    else:
        w = c.const(np.ones((depth, kernel, kernel, depth)), wide_type, Q(0.02, 0))
        c.op("CONV_2D", [a, w, bias], [b], "Conv2DOptions", padding=PAD["same"], strideH=1, strideW=1, fusedActivationFunction=c.one(0, 0, 1))
    c.op("BATCH_TO_SPACE_ND", [b, c.const(block, "int32"), c.const(crop, "int32")], [out], "BatchToSpaceNDOptions")
    if c.chance(0.3):
        c.op("ABS", [c.one(a, b)], [c.result(small)], "AbsOptions")


@family(6)
def chain(c):
    """Several operators, some of which Vela refuses, so that what stands around a refused one is seen."""
    shape, dtype = c.image(12), c.dtype
    c.dtype = dtype = "int8" if dtype in ("int32", "float32") else dtype
    q = Q(0.05, 0)
    x = c.argument(shape, "float32") if c.chance(0.3) else c.map(shape, q=q)
    if c.tensors[x].dtype == "float32":
        y = c.middle(shape, dtype, q)
        c.op("QUANTIZE", [x], [y], "QuantizeOptions")
        x = y
    for _ in range(c.one(2, 3, 4)):
        y = c.middle(shape, dtype, q)
        roll = c.rng.integers(7)
        if roll == 0:
            w = c.const(np.ones((shape[3], 1, 1, shape[3])), "uint8" if dtype == "uint8" else "int8", Q(0.02))
            b = c.const(np.zeros(shape[3]), "int64" if dtype == "int16" else "int32", Q(0.001))
            stride = c.one(1, 1, 1, 4)
            out = [shape[0], -(-shape[1] // stride), -(-shape[2] // stride), shape[3]]
            c.tensors[y].shape = shape = out
            c.op("CONV_2D", [x, w, b], [y], "Conv2DOptions", padding=PAD["same"], strideH=stride, strideW=stride, dilationHFactor=1,
                 dilationWFactor=1, fusedActivationFunction=c.one(0, 1, 3))
        elif roll == 1:
            c.op("ADD", [x, x], [y], "AddOptions", fusedActivationFunction=c.one(0, 1))
        elif roll == 2:
            c.op(c.one("RELU", "RELU6", "TANH", "LOGISTIC", "ABS"), [x], [y])
        elif roll == 3:
            c.op(c.one("SQRT", "SIN", "CEIL"), [x], [y])
        elif roll == 4:
            c.op("MAXIMUM", [x, x], [y], "MaximumMinimumOptions")
        elif roll == 5:
            flat = c.middle([1, int(np.prod(shape))], dtype, q)
            c.op("RESHAPE", [x, c.const([1, int(np.prod(shape))], "int32")], [flat], "ReshapeOptions")
            c.op("RESHAPE", [flat, c.const(shape, "int32")], [y], "ReshapeOptions")
        else:
            c.op("MAX_POOL_2D", [x], [y], "Pool2DOptions", padding=PAD["same"], strideH=1, strideW=1, filterHeight=2, filterWidth=2,
                 fusedActivationFunction=c.one(0, 0, 1))
        x = y
    if c.chance(0.3):
        c.op("DEQUANTIZE", [x], [c.result(shape, "float32")], "DequantizeOptions")
    else:
        c.outputs.append(x)


def generate(seed, count):
    """Yields (name, file): each model depends on the seed and its number alone."""
    names = [name for name, (weight, _) in MODELS.items() for _ in range(weight)]
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        name = names[rng.integers(len(names))]
        c = Random(f"{name}_{seed}_{number:04}", rng)
        MODELS[name][1](c)
        yield c.name, c.model([])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=600)
    a = parser.parse_args()
    a.folder.mkdir(parents=True, exist_ok=True)
    for name, model in generate(a.seed, a.count):
        (a.folder / f"{name}.tflite").write_bytes(model)


if __name__ == "__main__":
    main()
