"""A delegate out of a plug-in's own entry points, with ctypes alone."""
import ctypes as c

REPORT = c.CFUNCTYPE(None, c.c_char_p)


class Delegate:
    """Freed with this object. Raises RuntimeError with what the library reports."""

    def __init__(self, library, options):
        self.raw = None
        self.lib = c.CDLL(library)
        create = self.lib.tflite_plugin_create_delegate
        create.restype = c.c_void_p
        create.argtypes = [c.POINTER(c.c_char_p), c.POINTER(c.c_char_p), c.c_size_t, REPORT]
        self.lib.tflite_plugin_destroy_delegate.argtypes = [c.c_void_p]
        keys = (c.c_char_p * len(options))(*(str(k).encode() for k in options))
        values = (c.c_char_p * len(options))(*(str(v).encode() for v in options.values()))
        messages = []
        self.raw = create(keys, values, len(options), REPORT(lambda text: messages.append(text.decode())))
        if not self.raw:
            raise RuntimeError("\n".join(messages) or "no delegate and no reason")

    def __del__(self):
        if self.raw:
            self.lib.tflite_plugin_destroy_delegate(self.raw)
