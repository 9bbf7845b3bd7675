#!/usr/bin/env python3
"""Runs models in LiteRT: litert.py DIR

For each DIR/NAME.tflite with inputs DIR/NAME.in.npz ("0", "1", ..., and "runs", how often it runs) and each set of
kernels, writes DIR/NAME.KERNELS.npz with the outputs or DIR/NAME.KERNELS.txt with the reason why there are none.
Each runs in a process of its own, because LiteRT can abort. Needs ai-edge-litert and numpy."""
import os
import pathlib
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

KERNELS = {
    "reference": OpResolverType.BUILTIN_REF,
    "optimized": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "xnnpack": OpResolverType.AUTO,
}


def run(model, kernels, inputs, outputs):
    interpreter = Interpreter(str(model), experimental_op_resolver_type=KERNELS[kernels], num_threads=1)
    interpreter.allocate_tensors()
    arrays = np.load(inputs)
    for index, detail in enumerate(interpreter.get_input_details()):
        interpreter.set_tensor(detail["index"], arrays[str(index)])
    for _ in range(arrays["runs"]):
        interpreter.invoke()
    results = {str(i): interpreter.get_tensor(d["index"]) for i, d in enumerate(interpreter.get_output_details())}
    np.savez(outputs, **results)


def main(folder):
    for model in sorted(folder.glob("*.tflite")):
        for kernels in KERNELS:
            result = model.with_suffix(f".{kernels}.npz")
            reason = model.with_suffix(f".{kernels}.txt")
            child = os.fork()
            if child == 0:
                try:
                    run(model, kernels, model.with_suffix(".in.npz"), result)
                except (RuntimeError, ValueError) as error:
                    reason.write_text(str(error))
                os._exit(0)
            _, status = os.waitpid(child, 0)
            if status:
                reason.write_text(f"the process died with status {status}")


main(pathlib.Path(sys.argv[1]))
