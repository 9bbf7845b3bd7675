"""Writes small .tflite models with the generated FlatBuffers schema."""
import zlib

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as s

TYPES = {
    "float32": s.TensorType.FLOAT32, "float16": s.TensorType.FLOAT16, "int8": s.TensorType.INT8,
    "uint8": s.TensorType.UINT8, "int16": s.TensorType.INT16, "int32": s.TensorType.INT32,
    "int64": s.TensorType.INT64, "bool": s.TensorType.BOOL, "resource": s.TensorType.RESOURCE,
}
SHORT = {"float32": "f32", "float16": "f16"}
ACT = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3, "tanh": 4, "sign_bit": 5}
PAD = {"same": 0, "valid": 1}

# Operators LiteRT registers at version 1 only, whatever the type.
VERSION_1 = {
    "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "PRELU", "HARD_SWISH", "SHAPE", "RELU_N1_TO_1", "CAST", "TILE",
    "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "QUANTIZE",
    "DEPTH_TO_SPACE", "WHILE", "IF",
}


def _pack_buffer(self, builder):
    """`BufferT.Pack` with the 16-byte alignment the schema asks for, which the Python generator leaves out."""
    data = b"" if self.data is None else bytes(self.data)
    vector = None
    if data:
        builder.StartVector(1, len(data), 16)
        builder.head -= len(data)
        builder.Bytes[builder.head:builder.head + len(data)] = data
        vector = builder.EndVector()
    s.BufferStart(builder)
    if vector is not None:
        s.BufferAddData(builder, vector)
    return s.BufferEnd(builder)


s.BufferT.Pack = _pack_buffer


class Q:
    """Affine quantization: one scale, or one for each index of `axis`."""

    def __init__(self, scale, zero_point=0, axis=0):
        self.scale = np.atleast_1d(np.asarray(scale, np.float32))
        self.zero_point, self.axis = zero_point, axis


def q_for(dtype, scale, zero_point):
    """Parameters given for int8, moved to `dtype`; None where the type takes none."""
    if dtype == "int8":
        return Q(scale, zero_point)
    if dtype == "uint8":
        return Q(scale, zero_point + 128)
    return Q(scale, 0) if dtype == "int16" else None


class Tensor:
    def __init__(self, shape, dtype, q, data, name, variable=False):
        self.shape, self.dtype, self.q, self.data, self.name, self.variable = shape, dtype, q, data, name, variable


class Graph:
    """One subgraph."""

    def __init__(self, name):
        self.name = name
        self.tensors, self.inputs, self.outputs, self.ops = [], [], [], []

    def _add(self, tensor):
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def argument(self, shape, dtype, q=None):
        t = self._add(Tensor(list(shape), dtype, q, None, f"arg{len(self.inputs)}"))
        self.inputs.append(t)
        return t

    def const(self, data, dtype, q=None, name="const"):
        data = np.asarray(data, dtype)
        return self._add(Tensor(list(data.shape), dtype, q, data, f"{name}{len(self.tensors)}"))

    def middle(self, shape, dtype, q=None):
        return self._add(Tensor(list(shape), dtype, q, None, f"mid{len(self.tensors)}"))

    def variable(self, shape, dtype, q=None):
        """A tensor that keeps its value between runs."""
        return self._add(Tensor(list(shape), dtype, q, None, f"state{len(self.tensors)}", variable=True))

    def handle(self, name):
        """The handle of the variable `name`."""
        t = self.middle((), "resource")
        self.op("VAR_HANDLE", [], [t], "VarHandleOptions", sharedName=name)
        return t

    def op(self, code, inputs, outputs, options=None, version=None, intermediates=(), **fields):
        if version is None:
            narrow = any(i >= 0 and self.tensors[i].dtype in ("int8", "int16") for i in inputs)
            version = 2 if narrow and code not in VERSION_1 else 1
        self.ops.append((code, inputs, outputs, options, version, intermediates, fields))

    def custom(self, name, options, inputs, outputs):
        """An operator that the format knows by `name` only, with `options` in a format of its own."""
        self.ops.append((name, inputs, outputs, None, 1, (), {"custom": bytes(options)}))


class Case(Graph):
    """One model with the inputs to run it on, `runs` times. Random numbers depend on the name alone."""

    def __init__(self, family, name):
        super().__init__(name)
        self.family = family
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.feeds, self.subgraphs, self.runs = [], [], 1

    def subgraph(self, name):
        """A further subgraph; the first one made has number 1."""
        self.subgraphs.append(Graph(name))
        return self.subgraphs[-1]

    def random(self, shape, dtype, low=None, high=None):
        """Values over the whole range of the type (both ends included), or [low, high)."""
        shape = tuple(shape)
        if dtype == "bool":
            return self.rng.integers(0, 2, shape).astype(bool)
        if dtype.startswith("float"):
            if low is not None:
                return self.rng.uniform(low, high, shape).astype(dtype)
            x = (self.rng.standard_normal(shape) * 3).astype(dtype)
            ends = (-20, 20)
        else:
            info = np.iinfo(dtype)
            wide = dtype in ("int32", "int64")
            a = low if low is not None else -5000 if wide else info.min
            b = high if low is not None else 5000 if wide else info.max + 1
            x = np.asarray(self.rng.integers(a, b, shape)).astype(dtype)
            ends = (a, b - 1)
        if x.size > 3 and low is None:
            at = self.rng.permutation(x.size)[:2]
            x.reshape(-1)[at] = ends
        return x

    def input(self, shape, dtype, q=None, low=None, high=None, feed=None):
        feed = self.random(shape, dtype, low, high) if feed is None else np.asarray(feed, dtype)
        self.feeds.append(feed)
        t = self._add(Tensor(list(shape), dtype, q, None, f"in{len(self.inputs)}"))
        self.inputs.append(t)
        return t

    def output(self, dtype, q=None):
        """An output; its shape is what LiteRT infers."""
        t = self._add(Tensor(None, dtype, q, None, f"out{len(self.outputs)}"))
        self.outputs.append(t)
        return t

    def model(self, shapes, zero_bias=False):
        """The file, with `shapes` for the outputs that have none.

        `zero_bias` gives convolutions without a bias one of zeros: LiteRT refuses CONV_2D, and crashes in DEPTHWISE_CONV_2D,
        without it."""
        buffers, codes, graphs = [s.BufferT()], [], []
        for graph in (self, *self.subgraphs):
            every, ops = list(graph.tensors), []
            for code, inputs, *rest in graph.ops:
                if zero_bias and code in ("CONV_2D", "DEPTHWISE_CONV_2D") and len(inputs) == 2:
                    x, w = (graph.tensors[i] for i in inputs)
                    zeros = np.zeros(w.shape[0 if code == "CONV_2D" else 3], "float32" if x.q is None else "int32")
                    q = None if x.q is None else Q(x.q.scale * w.q.scale)
                    every.append(Tensor(list(zeros.shape), zeros.dtype.name, q, zeros, "bias"))
                    inputs = [*inputs, len(every) - 1]
                ops.append((code, inputs, *rest))
            tensors = [self._tensor(t, shapes[graph.outputs.index(i)] if t.shape is None else t.shape, buffers)
                       for i, t in enumerate(every)]
            operators = [self._operator(*op, codes) for op in ops]
            graphs.append(s.SubGraphT(
                tensors=tensors, inputs=np.asarray(graph.inputs, np.int32), outputs=np.asarray(graph.outputs, np.int32),
                operators=operators, name="main" if graph is self else graph.name))
        model = s.ModelT(version=3, operatorCodes=codes, subgraphs=graphs, description="", buffers=buffers)
        b = flatbuffers.Builder(4096)
        b.Finish(model.Pack(b), b"TFL3")
        return bytes(b.Output())

    @staticmethod
    def _tensor(t, shape, buffers):
        buffer = 0
        if t.data is not None:
            buffers.append(s.BufferT(data=t.data.tobytes()))
            buffer = len(buffers) - 1
        q = s.QuantizationParametersT()
        if t.q is not None:
            q.scale = t.q.scale
            q.zeroPoint = np.full(len(t.q.scale), t.q.zero_point, np.int64)
            q.quantizedDimension = t.q.axis
        return s.TensorT(shape=np.asarray(shape, np.int32), type=TYPES[t.dtype], buffer=buffer, name=t.name,
                         quantization=q, isVariable=t.variable, hasRank=True)

    @staticmethod
    def _operator(code, inputs, outputs, options, version, intermediates, fields, codes):
        number = s.BuiltinOperator.CUSTOM if "custom" in fields else getattr(s.BuiltinOperator, code)
        name = code if "custom" in fields else None
        codes.append(s.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=version, customCode=name))
        o = s.OperatorT(opcodeIndex=len(codes) - 1, inputs=np.asarray(inputs, np.int32), outputs=np.asarray(outputs, np.int32))
        if "custom" in fields:
            o.customOptions = np.frombuffer(fields["custom"], np.uint8)
        if intermediates:
            o.intermediates = np.asarray(intermediates, np.int32)
        if options:
            table = getattr(s, options + "T")()
            for k, v in fields.items():
                if not hasattr(table, k):
                    raise AttributeError(f"{options}.{k}")
                setattr(table, k, v)
            if hasattr(s.BuiltinOptions, options):
                o.builtinOptionsType, o.builtinOptions = getattr(s.BuiltinOptions, options), table
            else:
                o.builtinOptions2Type, o.builtinOptions2 = getattr(s.BuiltinOptions2, options), table
        return o


class Zoo:
    def __init__(self):
        self.cases = []

    def case(self, family, variant, *dtypes):
        """A case named family_variant_type, or family_variant_type_to_type."""
        name = "_".join(x for x in (family, variant, "_to_".join(SHORT.get(d, d) for d in dtypes)) if x)
        if any(c.name == name for c in self.cases):
            raise ValueError(f"two cases named {name}")
        self.cases.append(Case(family, name))
        return self.cases[-1]
