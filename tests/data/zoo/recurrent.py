"""Operators that keep state between runs: LSTM, RNN, SVDF. All are run three times."""
import numpy as np

from .writer import ACT, Q

NONE = -1
LSTM_OPTIONS = {
    "lstm": ("LSTM", "LSTMOptions"),
    "unidirectional_sequence_lstm": ("UNIDIRECTIONAL_SEQUENCE_LSTM", "UnidirectionalSequenceLSTMOptions"),
}


class Parts:
    """Constants and states of a case of one kind: f32, hybrid (int8 weights), asymmetric (the same) or int8."""

    def __init__(self, zoo, family, variant, kind):
        self.kind = kind
        tag = {"f32": "", "int8": ""}.get(kind, f"_{kind}")
        self.case = zoo.case(family, variant + tag, "int8" if kind == "int8" else "float32")
        self.case.runs = 3
        self.state_q = Q(0.0117, 9)

    @property
    def asymmetric(self):
        return self.kind == "asymmetric"

    def version(self, hybrid, asymmetric, float_or_int8=1):
        return {"hybrid": hybrid, "asymmetric": asymmetric}.get(self.kind, float_or_int8)

    def input(self, shape):
        if self.kind == "int8":
            return self.case.input(shape, "int8", Q(0.021, -7))
        return self.case.input(shape, "float32", low=-2, high=2)

    def weights(self, shape, scale=0.006):
        """Real values within 127 times the scale."""
        if self.kind == "f32":
            return self.case.const(self.case.random(shape, "float32", -127 * scale, 127 * scale), "float32")
        scale *= self.case.rng.uniform(0.7, 1.3)
        return self.case.const(self.case.random(shape, "int8", -127, 128), "int8", Q(scale))

    def scale(self, t):
        return float(self.case.tensors[t].q.scale[0])

    def bias(self, shape, scale=None):
        """Real values within about 0.5."""
        if self.kind == "int8":
            limit = int(0.5 / scale)
            return self.case.const(self.case.random(shape, "int32", -limit, limit + 1), "int32", Q(scale))
        return self.case.const(self.case.random(shape, "float32", -0.5, 0.5), "float32")

    def vector(self, shape, scale, low=-1, high=1, int8=False):
        """Peephole weights (int8 in hybrid operators) or coefficients of layer normalization."""
        if self.kind == "int8":
            return self.case.const(self.case.random(shape, "int16", int(low * 32767), int(high * 32767)), "int16", Q(scale))
        if int8 and self.kind != "f32":
            return self.weights(shape, scale * 256)
        return self.case.const(self.case.random(shape, "float32", low * 32767 * scale, high * 32767 * scale), "float32")

    def state(self, shape):
        return self.case.variable(shape, "int8" if self.kind == "int8" else "float32", self.state_q if self.kind == "int8" else None)


def cell(p, batch, inputs, cells, outputs, cifg, peephole, projection, norm, diagonal=False, aux=0):
    """The operands of an LSTM cell by their kind."""
    gates = range(1 if cifg else 0, 4)
    each = lambda make: [make() if g in gates else NONE for g in range(4)]
    int8 = p.kind == "int8"
    w = each(lambda: p.weights((cells, inputs)))
    r = each(lambda: p.weights((cells,)) if diagonal else p.weights((cells, outputs)))
    peep = [p.vector((cells,), 2e-5, int8=True) if g in gates else NONE for g in (0, 1, 3)] if peephole else [NONE] * 3
    coefficients = each(lambda: p.vector((cells,), 4e-5, low=0.2)) if norm else [NONE] * 4
    scales = [None] * 4
    if int8:
        scales = [g in gates and (p.scale(coefficients[g]) / 1024 if norm else 0.021 * p.scale(w[g])) for g in range(4)]
    biases = [p.bias((cells,), scales[g]) if g in gates else NONE for g in range(4)]
    hidden = Q(0.0079, -11) if projection else p.state_q
    proj = [NONE, NONE]
    if projection:
        proj[0] = p.weights((outputs, cells), 0.005)
        if projection == "bias":
            proj[1] = p.bias((outputs,), int8 and p.scale(proj[0]) * 0.0079)
    states = [p.state((batch, outputs)), p.case.variable((batch, cells), "int16", Q(2.0 ** -11)) if int8 else p.state((batch, cells))]
    auxiliary = each(lambda: p.weights((cells, aux))) if aux else [NONE] * 4
    return dict(w=w, r=r, peep=peep, bias=biases, proj=proj, states=states, norm=coefficients, hidden=hidden, aux=auxiliary)


def lstm(zoo, family, variant, kind, batch=2, time=4, inputs=5, cells=7, outputs=None, cifg=False, peephole=False, projection=None,
         norm=False, time_major=False, cell_clip=0.0, proj_clip=0.0, act="tanh", diagonal=False):
    p = Parts(zoo, family, variant, kind)
    outputs = outputs or cells
    if projection:
        p.state_q = Q(0.031, 9)
    code, options = LSTM_OPTIONS[family]
    x = p.input((batch, inputs) if family == "lstm" else (time, batch, inputs) if time_major else (batch, time, inputs))
    c = cell(p, batch, inputs, cells, outputs, cifg, peephole, projection, norm, diagonal)
    operands = [x, *c["w"], *c["r"], *c["peep"], *c["bias"], *c["proj"], *c["states"], *c["norm"]]
    intermediates = []
    if kind == "int8":
        y = p.case.output("int8", p.state_q)
        for g in range(4):
            intermediates.append(p.case.middle((0,), "int16", Q(0.00031 * (g + 1)) if norm else Q(2.0 ** -12)))
        intermediates.append(p.case.middle((0,), "int8", c["hidden"]))
    else:
        y = p.case.output("float32")
    fields = {} if family == "lstm" else dict(timeMajor=time_major, diagonalRecurrentTensors=diagonal)
    version = 4 if diagonal else p.version(3, 4) if family == "lstm" else p.version(2, 3)
    p.case.op(code, operands, [y], options, version=version, intermediates=intermediates, fusedActivationFunction=ACT[act],
              cellClip=cell_clip, projClip=proj_clip, asymmetricQuantizeInputs=p.asymmetric, **fields)


def basic_lstm(zoo, variant, batch, inputs, cells):
    p = Parts(zoo, "lstm", variant, "f32")
    c = p.case
    operands = [p.input((batch, inputs)), c.variable((batch, cells), "float32"), p.weights((4 * cells, inputs + cells)),
                p.bias((4 * cells,)), c.variable((batch, cells), "float32")]
    c.op("LSTM", operands, [c.output("float32") for _ in range(4)], "LSTMOptions", version=2, fusedActivationFunction=ACT["tanh"],
         kernelType=1)


def basic_lstm_uint8(zoo, variant, batch, inputs, cells):
    c = zoo.case("lstm", variant, "uint8")
    c.runs = 3
    activation, state, sums = Q(1 / 128, 128), Q(2.0 ** -11), Q(2.0 ** -12)
    operands = [c.input((batch, inputs), "uint8", activation), c.variable((batch, cells), "uint8", activation),
                c.const(c.random((4 * cells, inputs + cells), "uint8", 60, 200), "uint8", Q(0.011, 131)),
                c.const(c.random((4 * cells,), "int32", -9000, 9000), "int32", Q(0.011 / 128)), c.variable((batch, cells), "int16", state)]
    results = [c.output("uint8", activation), c.output("int16", state), c.output("uint8", activation), c.output("int16", sums)]
    c.op("LSTM", operands, results, "LSTMOptions", version=2, fusedActivationFunction=ACT["tanh"], kernelType=1)


def bidirectional_lstm(zoo, variant, kind, batch=2, time=3, inputs=5, cells=(6, 6), outputs=None, merge=False, time_major=True, cross=False,
                       aux=0, **parts):
    p = Parts(zoo, "bidirectional_sequence_lstm", variant, kind)
    outputs = outputs or cells
    shape = lambda depth: (time, batch, depth) if time_major else (batch, time, depth)
    x = p.input(shape(inputs))
    other = p.input(shape(inputs if cross else aux)) if cross or aux else NONE
    settings = dict(cifg=False, peephole=False, projection=None) | parts
    fw, bw = (cell(p, batch, inputs, cells[i], outputs[i], norm=False, aux=aux, **settings) for i in (0, 1))
    operands = [x]
    for c in (fw, bw):
        operands += [*c["w"], *c["r"], *c["peep"], *c["bias"], *c["proj"]]
    operands += [*fw["states"], *bw["states"], other, *fw["aux"], *bw["aux"]]
    y = [p.case.output("float32") for _ in range(1 if merge else 2)]
    p.case.op("BIDIRECTIONAL_SEQUENCE_LSTM", operands, y, "BidirectionalSequenceLSTMOptions", version=p.version(2, 3),
              fusedActivationFunction=ACT["tanh"], cellClip=3.0, projClip=0.0, mergeOutputs=merge, timeMajor=time_major,
              asymmetricQuantizeInputs=p.asymmetric)


def rnn(zoo, variant, kind, batch=2, inputs=5, units=6, act="tanh"):
    p = Parts(zoo, "rnn", variant, kind)
    operands = [p.input((batch, inputs)), p.weights((units, inputs)), p.weights((units, units)), p.bias((units,)), p.state((batch, units))]
    p.case.op("RNN", operands, [p.case.output("float32")], "RNNOptions", version=p.version(2, 3), fusedActivationFunction=ACT[act],
              asymmetricQuantizeInputs=p.asymmetric)


def sequence_rnn(zoo, variant, kind, batch=2, time=4, inputs=5, units=6, time_major=False, act="tanh"):
    p = Parts(zoo, "unidirectional_sequence_rnn", variant, kind)
    x = p.input((time, batch, inputs) if time_major else (batch, time, inputs))
    operands = [x, p.weights((units, inputs)), p.weights((units, units)), p.bias((units,)), p.state((batch, units))]
    p.case.op("UNIDIRECTIONAL_SEQUENCE_RNN", operands, [p.case.output("float32")], "SequenceRNNOptions", version=p.version(2, 3),
              timeMajor=time_major, fusedActivationFunction=ACT[act], asymmetricQuantizeInputs=p.asymmetric)


def bidirectional_rnn(zoo, variant, kind, batch=2, time=3, inputs=5, units=(6, 4), merge=False, time_major=False, aux=False, cross=False):
    p = Parts(zoo, "bidirectional_sequence_rnn", variant, kind)
    shape = (time, batch, inputs) if time_major else (batch, time, inputs)
    operands = [p.input(shape)]
    other = p.input(shape) if aux or cross else NONE
    for n in units:
        operands += [p.weights((n, inputs)), p.weights((n, n)), p.bias((n,)), p.state((batch, n))]
    operands += [other] + [p.weights((n, inputs)) if aux else NONE for n in units]
    y = [p.case.output("float32") for _ in range(1 if merge else 2)]
    p.case.op("BIDIRECTIONAL_SEQUENCE_RNN", operands, y, "BidirectionalSequenceRNNOptions", version=p.version(2, 3), timeMajor=time_major,
              fusedActivationFunction=ACT["tanh"], mergeOutputs=merge, asymmetricQuantizeInputs=p.asymmetric)


def svdf(zoo, variant, kind, batch=2, inputs=9, units=4, rank=2, memory=5, bias=True, act="relu"):
    p = Parts(zoo, "svdf", variant, kind)
    filters = units * rank
    x, w = p.input((batch, inputs)), p.weights((filters, inputs))
    if kind == "int8":
        time = p.case.const(p.case.random((filters, memory), "int16", -512, 513), "int16", Q(0.0017))
        state = p.case.variable((batch, filters * memory), "int16", Q(0.0003))
        y, scale = p.case.output("int8", Q(0.023, -128)), 0.0003 * 0.0017
    else:
        time, state = p.weights((filters, memory)), p.state((batch, filters * memory))
        y, scale = p.case.output("float32"), None
    operands = [x, w, time, p.bias((units,), scale) if bias else NONE, state]
    p.case.op("SVDF", operands, [y], "SVDFOptions", version=p.version(2, 4, 3 if kind == "int8" else 1), rank=rank,
              fusedActivationFunction=ACT[act], asymmetricQuantizeInputs=p.asymmetric)


def cases(zoo):
    floats = ("f32", "hybrid", "asymmetric")
    for family in LSTM_OPTIONS:
        for kind in (*floats, "int8"):
            lstm(zoo, family, "plain", kind, cell_clip=0.9)
            if family == "lstm" and kind in ("hybrid", "asymmetric"):
                continue
            lstm(zoo, family, "cifg_peephole", kind, cifg=True, peephole=True)
            lstm(zoo, family, "norm_projection", kind, cells=8, outputs=6, norm=True, projection="bias", proj_clip=0.7)
            lstm(zoo, family, "all_time_major", kind, batch=3, cells=16, outputs=12, norm=True, peephole=True, projection="no bias",
                 time_major=True)
    for kind in floats:
        lstm(zoo, "unidirectional_sequence_lstm", "relu", kind, act="relu", cell_clip=2.0)
    for kind in ("f32", "int8"):
        lstm(zoo, "unidirectional_sequence_lstm", "cifg_norm_one_step", kind, batch=1, time=1, inputs=1, cells=4, cifg=True, norm=True)
        lstm(zoo, "unidirectional_sequence_lstm", "long_odd", kind, batch=1, time=11, inputs=19, cells=17, time_major=True)
        lstm(zoo, "unidirectional_sequence_lstm", "projection_up", kind, cells=5, outputs=9, projection="bias")
    lstm(zoo, "unidirectional_sequence_lstm", "diagonal", "f32", diagonal=True)
    basic_lstm(zoo, "basic", 2, 5, 6)
    basic_lstm(zoo, "basic_wide", 1, 3, 17)
    basic_lstm_uint8(zoo, "basic", 2, 5, 6)
    basic_lstm_uint8(zoo, "basic_wide", 1, 3, 17)

    for kind in floats:
        bidirectional_lstm(zoo, "apart", kind)
        bidirectional_lstm(zoo, "merged_batch_major", kind, batch=1, merge=True, time_major=False, peephole=True)
        bidirectional_lstm(zoo, "projection_cifg_merged", kind, outputs=(4, 4), merge=True, projection="bias", cifg=True)
        bidirectional_lstm(zoo, "auxiliary", kind, aux=3)
        rnn(zoo, "tanh", kind)
        rnn(zoo, "relu_odd", kind, batch=3, inputs=17, units=9, act="relu")
        sequence_rnn(zoo, "tanh", kind)
        sequence_rnn(zoo, "relu6_time_major", kind, batch=3, inputs=11, units=5, time_major=True, act="relu6")
        bidirectional_rnn(zoo, "apart", kind)
        bidirectional_rnn(zoo, "merged_auxiliary", kind, merge=True, aux=True)
        svdf(zoo, "rank2", kind)
        svdf(zoo, "rank1_no_bias", kind, batch=1, inputs=17, units=5, rank=1, memory=3, bias=False, act="none")
        svdf(zoo, "relu6_long", kind, batch=3, units=3, rank=3, memory=11, act="relu6")
    rnn(zoo, "sign_bit", "f32", act="sign_bit")
    sequence_rnn(zoo, "none", "f32", act="none")
    bidirectional_lstm(zoo, "cross", "f32", cross=True)
    bidirectional_rnn(zoo, "merged_time_major", "f32", merge=True, time_major=True)
    bidirectional_rnn(zoo, "cross_time_major", "f32", time_major=True, cross=True)
    svdf(zoo, "rank2", "int8")
    svdf(zoo, "rank1_no_bias", "int8", batch=1, inputs=17, units=5, rank=1, memory=3, bias=False)
    svdf(zoo, "long", "int8", batch=3, units=3, rank=3, memory=11)
