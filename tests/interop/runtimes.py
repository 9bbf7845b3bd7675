"""One face for TensorFlow Lite's runtimes: Python wheels, and C libraries through ctypes.

A runtime loads a delegate, and runs a model on bytes. Nothing here knows what the delegate is."""
import ctypes as c
import importlib

import delegates



class Wheel:
    """A package with TensorFlow Lite's Interpreter class."""

    def __init__(self, package):
        self.module = importlib.import_module(package)
        self.numpy = importlib.import_module("numpy")

    def load(self, library, options):
        try:
            return self.module.load_delegate(library, options)
        except ValueError as error:
            raise RuntimeError(str(error)) from None

    def run(self, model, inputs, delegate=None, reference=False, shapes=None):
        """`inputs` makes bytes of a size and a type's name; the bytes of the outputs."""
        kinds = self.module.OpResolverType
        kind = kinds.BUILTIN_REF if reference else kinds.AUTO
        interpreter = self.module.Interpreter(
            model, experimental_delegates=[delegate] if delegate else [], experimental_op_resolver_type=kind
        )
        details = interpreter.get_input_details()
        for shape in shapes or []:
            for detail, size in zip(details, shape):
                interpreter.resize_tensor_input(detail["index"], size)
            interpreter.allocate_tensors()
        interpreter.allocate_tensors()
        for index, detail in enumerate(interpreter.get_input_details()):
            shape, dtype = detail["shape"], self.numpy.dtype(detail["dtype"])
            size = int(self.numpy.prod(shape)) * dtype.itemsize
            array = self.numpy.frombuffer(inputs(index, size, dtype.name), dtype).reshape(shape)
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(d["index"]).tobytes() for d in interpreter.get_output_details()]

    def input_shapes(self, model):
        return [list(map(int, d["shape"])) for d in self.module.Interpreter(model).get_input_details()]


class CLibrary:
    """A libtensorflowlite_c.so; delegates are made by their own entry points, as a C program would."""

    NAMES = {1: "float32", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float16"}

    def __init__(self, path):
        lib = self.lib = c.CDLL(path)
        pointers = (
            "TfLiteModelCreateFromFile TfLiteInterpreterOptionsCreate TfLiteInterpreterCreate"
            " TfLiteInterpreterGetInputTensor TfLiteInterpreterGetOutputTensor TfLiteTensorData"
        )
        for name in pointers.split():
            getattr(lib, name).restype = c.c_void_p
        lib.TfLiteTensorByteSize.restype = c.c_size_t

    def load(self, library, options):
        return delegates.Delegate(library, options)

    def run(self, model, inputs, delegate=None, reference=False, shapes=None):
        if reference:
            raise NotImplementedError("the C interface has no choice of kernels")
        lib, pointer = self.lib, c.c_void_p
        file = pointer(lib.TfLiteModelCreateFromFile(model.encode()))
        options = pointer(lib.TfLiteInterpreterOptionsCreate())
        if delegate:
            lib.TfLiteInterpreterOptionsAddDelegate(options, pointer(delegate.raw))
        interpreter = pointer(lib.TfLiteInterpreterCreate(file, options))
        try:
            if not interpreter:
                raise RuntimeError("TfLiteInterpreterCreate gave NULL")
            count = lib.TfLiteInterpreterGetInputTensorCount(interpreter)
            for shape in shapes or []:
                for index, size in enumerate(shape):
                    dims = (c.c_int * len(size))(*size)
                    self.check(lib.TfLiteInterpreterResizeInputTensor(interpreter, index, dims, len(size)))
                self.check(lib.TfLiteInterpreterAllocateTensors(interpreter))
            self.check(lib.TfLiteInterpreterAllocateTensors(interpreter))
            for index in range(count):
                tensor = pointer(lib.TfLiteInterpreterGetInputTensor(interpreter, index))
                size = lib.TfLiteTensorByteSize(tensor)
                data = inputs(index, size, self.NAMES[lib.TfLiteTensorType(tensor)])
                self.check(lib.TfLiteTensorCopyFromBuffer(tensor, data, c.c_size_t(size)))
            self.check(lib.TfLiteInterpreterInvoke(interpreter))
            outputs = []
            for index in range(lib.TfLiteInterpreterGetOutputTensorCount(interpreter)):
                tensor = pointer(lib.TfLiteInterpreterGetOutputTensor(interpreter, index))
                size = lib.TfLiteTensorByteSize(tensor)
                outputs.append(c.string_at(lib.TfLiteTensorData(tensor), size))
            return outputs
        finally:
            if interpreter:
                lib.TfLiteInterpreterDelete(interpreter)
            lib.TfLiteInterpreterOptionsDelete(options)
            lib.TfLiteModelDelete(file)

    @staticmethod
    def check(status):
        if status:
            raise RuntimeError(f"status {status}")

    def input_shapes(self, model):
        lib, pointer = self.lib, c.c_void_p
        file = pointer(lib.TfLiteModelCreateFromFile(model.encode()))
        interpreter = pointer(lib.TfLiteInterpreterCreate(file, None))
        shapes = []
        for index in range(lib.TfLiteInterpreterGetInputTensorCount(interpreter)):
            tensor = pointer(lib.TfLiteInterpreterGetInputTensor(interpreter, index))
            shapes.append([lib.TfLiteTensorDim(tensor, axis) for axis in range(lib.TfLiteTensorNumDims(tensor))])
        lib.TfLiteInterpreterDelete(interpreter)
        lib.TfLiteModelDelete(file)
        return shapes


def make(kind, where):
    return Wheel(where) if kind == "wheel" else CLibrary(where)
