"""Operators that run subgraphs, and variables."""
import numpy as np

from .writer import Q


def product(g, rng, x, units, depth, name):
    """FULLY_CONNECTED of `x` [1, depth] to [1, units], small weights, with a bias."""
    w = g.const(rng.uniform(-0.6, 0.6, (units, depth)), "float32", name=name)
    b = g.const(rng.uniform(-0.2, 0.2, units), "float32", name=name)
    y = g.middle((1, units), "float32")
    g.op("FULLY_CONNECTED", [x, w, b], [y], "FullyConnectedOptions")
    return y


def unary(g, code, x, dtype="float32"):
    y = g.middle(g.tensors[x].shape, dtype)
    g.op(code, [x], [y])
    return y


def binary(g, code, a, b, options):
    y = g.middle(np.broadcast_shapes(g.tensors[a].shape, g.tensors[b].shape), g.tensors[a].dtype)
    g.op(code, [a, b], [y], options)
    return y


def add(g, a, b):
    return binary(g, "ADD", a, b, "AddOptions")


def is_not_zero(g, variables):
    """A subgraph of the loop `variables`: whether the first is not 0."""
    inputs = [g.argument(shape, dtype) for shape, dtype in variables]
    g.outputs = [unary(g, "CAST", inputs[0], "bool")]


def count_down(g, n):
    return binary(g, "SUB", n, g.const(1, "int32"), "SubOptions")


def recurrent(zoo, rounds):
    """h = tanh(W h + U x + b), `rounds` times, as an RNN over a constant input that is not unrolled."""
    variables = [((), "int32"), ((1, 8), "float32"), ((1, 5), "float32")]
    case = zoo.case("while", f"recurrent_{rounds}_rounds", "float32")
    condition, body = case.subgraph("condition"), case.subgraph("body")
    is_not_zero(condition, variables)
    n, h, x = (body.argument(shape, dtype) for shape, dtype in variables)
    sum_ = add(body, product(body, case.rng, h, 8, 8, "w"), product(body, case.rng, x, 8, 5, "u"))
    body.outputs = [count_down(body, n), unary(body, "TANH", sum_), x]
    inputs = [case.input((), "int32", feed=rounds), case.input((1, 8), "float32", low=-1, high=1),
              case.input((1, 5), "float32", low=-2, high=2)]
    outputs = [case.output(dtype) for _, dtype in variables]
    case.op("WHILE", inputs, outputs, "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)


def branch_in_loop(zoo):
    """In each round a flag chooses RELU or a product; the flag is inverted by the round's number."""
    case = zoo.case("while", "with_if", "float32")
    variables = [((), "int32"), ((1, 6), "float32")]
    condition, body = case.subgraph("condition"), case.subgraph("body")
    then, otherwise = case.subgraph("then"), case.subgraph("else")
    is_not_zero(condition, variables)
    n, x = (body.argument(shape, dtype) for shape, dtype in variables)
    left = count_down(body, n)
    y = body.middle((1, 6), "float32")
    body.op("IF", [unary(body, "CAST", left, "bool"), x], [y], "IfOptions", thenSubgraphIndex=3, elseSubgraphIndex=4)
    body.outputs = [left, y]
    a = then.argument((1, 6), "float32")
    then.outputs = [product(then, case.rng, a, 6, 6, "w")]
    a = otherwise.argument((1, 6), "float32")
    otherwise.outputs = [unary(otherwise, "RELU", a)]
    inputs = [case.input((), "int32", feed=3), case.input((1, 6), "float32")]
    outputs = [case.output(dtype) for _, dtype in variables]
    case.op("WHILE", inputs, outputs, "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)


def quantized_loop(zoo, dtype):
    """A loop over quantized numbers, which keep their scale."""
    case = zoo.case("while", "quantized", dtype)
    q = Q(0.02, 3 if dtype == "int8" else 0)
    condition, body = case.subgraph("condition"), case.subgraph("body")
    is_not_zero(condition, [((), "int32"), ((2, 4), dtype)])
    n, x = body.argument((), "int32"), body.argument((2, 4), dtype, q)
    y = body.middle((2, 4), dtype, q)
    body.op("MUL", [x, body.const([1, 40, 90, 120], dtype, Q(0.009))], [y], "MulOptions")
    body.outputs = [count_down(body, n), y]
    inputs = [case.input((), "int32", feed=2), case.input((2, 4), dtype, q)]
    outputs = [case.output("int32"), case.output(dtype, q)]
    case.op("WHILE", inputs, outputs, "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)


def branches(zoo):
    for condition in (True, False):
        case = zoo.case("if", f"two_results_{condition}".lower(), "float32")
        then, otherwise = case.subgraph("then"), case.subgraph("else")
        for g in (then, otherwise):
            g.argument((2, 3), "float32"), g.argument((3,), "float32")
        then.outputs = [add(then, 0, 1), 0]
        otherwise.outputs = [unary(otherwise, "TANH", 0), otherwise.const(case.random((2, 3), "float32"), "float32")]
        inputs = [case.input((1,), "bool", feed=[condition]), case.input((2, 3), "float32"), case.input((3,), "float32")]
        case.op("IF", inputs, [case.output("float32"), case.output("float32")], "IfOptions",
                thenSubgraphIndex=1, elseSubgraphIndex=2)


def composites(zoo):
    case = zoo.case("stablehlo_composite", "dense", "float32")
    g = case.subgraph("dense.impl")
    x, scale = g.argument((1, 6), "float32"), g.argument((6,), "float32")
    g.outputs = [unary(g, "TANH", product(g, case.rng, binary(g, "MUL", x, scale, "MulOptions"), 4, 6, "w"))]
    inputs = [case.input((1, 6), "float32"), case.const(case.rng.uniform(0.5, 1, 6), "float32")]
    case.op("STABLEHLO_COMPOSITE", inputs, [case.output("float32")], "StableHLOCompositeOptions", name="test.dense",
            decompositionSubgraphIndex=1, compositeAttributes=np.frombuffer(b"\0\0", np.uint8))


def variables(zoo, runs):
    """A running sum that CALL_ONCE starts, and a second variable that only the first run reads as it was made."""
    case = zoo.case("variable", f"running_sum_{runs}_runs", "float32")
    case.runs = runs
    init = case.subgraph("init")
    for name, value in (("sum", [1, 2, 3]), ("last", [7, 8, 9])):
        handle = init.handle(name)
        init.op("ASSIGN_VARIABLE", [handle, init.const(value, "float32")], [], "AssignVariableOptions")
    case.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
    x = case.input((3,), "float32")
    total, last = case.handle("sum"), case.handle("last")
    before = case.output("float32")
    case.op("READ_VARIABLE", [last], [before], "ReadVariableOptions")
    value, after = case.middle((3,), "float32"), case.output("float32")
    case.op("READ_VARIABLE", [total], [value], "ReadVariableOptions")
    case.op("ADD", [x, value], [after], "AddOptions")
    case.op("ASSIGN_VARIABLE", [total, after], [], "AssignVariableOptions")
    case.op("ASSIGN_VARIABLE", [last, x], [], "AssignVariableOptions")


def variable_in_loop(zoo):
    """The handle is a loop variable; the body adds to what it stands for."""
    case = zoo.case("variable", "handle_in_while", "float32")
    case.runs = 3
    init, condition, body = case.subgraph("init"), case.subgraph("condition"), case.subgraph("body")
    init.op("ASSIGN_VARIABLE", [init.handle("v"), init.const([0.5, -0.5], "float32")], [], "AssignVariableOptions")
    is_not_zero(condition, [((), "int32"), ((), "resource")])
    n, handle = body.argument((), "int32"), body.argument((), "resource")
    value = body.middle((2,), "float32")
    body.op("READ_VARIABLE", [handle], [value], "ReadVariableOptions")
    body.op("ASSIGN_VARIABLE", [handle, add(body, value, body.const([1, 0.25], "float32"))], [], "AssignVariableOptions")
    body.outputs = [count_down(body, n), handle]
    case.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
    inputs = [case.input((), "int32", feed=2), case.handle("v")]
    results = [case.middle((), "int32"), case.middle((), "resource")]
    case.op("WHILE", inputs, results, "WhileOptions", condSubgraphIndex=2, bodySubgraphIndex=3)
    case.op("READ_VARIABLE", [results[1]], [case.output("float32")], "ReadVariableOptions")


def cases(zoo):
    for rounds in (0, 1, 6):
        recurrent(zoo, rounds)
    branch_in_loop(zoo)
    for dtype in ("int8", "int16"):
        quantized_loop(zoo, dtype)
    branches(zoo)
    composites(zoo)
    for runs in (1, 4):
        variables(zoo, runs)
    variable_in_loop(zoo)
