"""Writes the models whose graphs are the point: models.py DIR, with a Python that has ai-edge-litert."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "data"))
from zoo.writer import Case


def where():
    """A shape that depends on data, and operators after it that a delegate may take once the shape is known."""
    case = Case("interop", "where")
    source = case.input((2, 5), "bool")
    places = case.middle((1, 2), "int64")
    case.op("WHERE", [source], [places])
    numbers = case.middle((1, 2), "float32")
    case.op("CAST", [places], [numbers], "CastOptions", inDataType=4, outDataType=0)
    size = case.middle((1, 2), "float32")
    case.op("ABS", [numbers], [size])
    case.op("ADD", [size, size], [case.output("float32")], "AddOptions")
    return case.model([(1, 2)])


def reshape():
    """A shape that is computed of another tensor's shape: known before a run if both are in one partition."""
    case = Case("interop", "reshape")
    source, other = case.input((2, 6), "float32"), case.input((3, 4), "float32")
    shape = case.middle((2,), "int32")
    case.op("SHAPE", [other], [shape], "ShapeOptions", outType=2)
    shaped = case.middle((3, 4), "float32")
    case.op("RESHAPE", [source, shape], [shaped])
    case.op("ABS", [shaped], [case.output("float32")])
    return case.model([(3, 4)])


def outputs():
    """Outputs that the model reads as well, and a result that nobody reads."""
    case = Case("interop", "outputs")
    source = case.input((2, 6), "float32")
    first, second = case.output("float32"), case.output("float32")
    case.op("ABS", [source], [first])
    case.op("NEG", [first], [second])
    axis = case.const(1, "int32")
    unread, third = case.middle((2, 3), "float32"), case.output("float32")
    case.op("SPLIT", [axis, second], [unread, third], "SplitOptions", numSplits=2)
    return case.model([(2, 6), (2, 6), (2, 3)])


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for model in (where, reshape, outputs):
        (folder / f"{model.__name__}.tflite").write_bytes(model())


main(pathlib.Path(sys.argv[1]))
