"""Runs a model on zeros with the C library and nothing but ctypes.

    python3 run.py /path/libbantam.so MODEL.tflite
"""

import ctypes as c
import sys


class TensorInfo(c.Structure):
    _fields_ = [
        ("struct_size", c.c_size_t),
        ("name", c.c_char_p),
        ("type", c.c_int32),
        ("rank", c.c_size_t),
        ("shape", c.POINTER(c.c_size_t)),
        ("byte_size", c.c_size_t),
        ("scale_count", c.c_size_t),
        ("scales", c.POINTER(c.c_float)),
        ("zero_points", c.POINTER(c.c_int64)),
        ("quantized_dimension", c.c_int32),
    ]


class Buffer(c.Structure):
    _fields_ = [("data", c.c_void_p), ("size", c.c_size_t)]


def main(library, path):
    lib = c.CDLL(library)
    lib.bantam_error_message.restype = c.c_char_p
    lib.bantam_session_summary.restype = c.c_char_p
    for name in ("input_count", "output_count"):
        getattr(lib, f"bantam_session_{name}").restype = c.c_size_t

    def call(function, *arguments):
        error = c.c_void_p()
        if getattr(lib, function)(*arguments, c.byref(error)):
            message = lib.bantam_error_message(error).decode()
            lib.bantam_error_free(error)
            raise SystemExit(f"{function}: {message}")

    model, session = c.c_void_p(), c.c_void_p()
    call("bantam_model_open", path.encode(), c.byref(model))
    call("bantam_session_new", model, None, c.byref(session))
    lib.bantam_model_free(model)

    def buffers(what):
        made = []
        for index in range(getattr(lib, f"bantam_session_{what}_count")(session)):
            info = TensorInfo(struct_size=c.sizeof(TensorInfo))
            call(f"bantam_session_{what}", session, c.c_size_t(index), c.byref(info))
            print(what, info.name.decode(), [info.shape[i] for i in range(info.rank)])
            made.append(c.create_string_buffer(info.byte_size))
        array = (Buffer * len(made))(*[Buffer(c.addressof(b), len(b)) for b in made])
        return made, array

    inputs, input_array = buffers("input")
    outputs, output_array = buffers("output")
    call(
        "bantam_session_run", session,
        input_array, c.c_size_t(len(inputs)), output_array, c.c_size_t(len(outputs)),
    )
    for output in outputs:
        print("first bytes", list(output.raw[:8]))
    print(lib.bantam_session_summary(session).decode())
    lib.bantam_session_free(session)


if __name__ == "__main__":
    main(*sys.argv[1:])
