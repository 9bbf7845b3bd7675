#!/usr/bin/env python3
"""What int8 costs, ours and a peer's: gains.py --bantam BIN --float DIR --data DIR --manifest FILE [--other DIR] [NAME...]

For each model DIR/NAME.tflite, `bantam convert` (by default and with `--recipe best`) and litert-quantizer, each with 100
samples; --other holds files that another converter made, NAME.tf_int8.tflite. All run in LiteRT with XNNPACK on up to
200 samples that calibration did not see. Prints, as a table, the mean signal to noise of the outputs in dB and the
seconds of each conversion as a whole process. The manifest (JSON) says of each NAME which arrays of the data calibrate
and judge, "calib" and "eval", and how they become inputs: data * scale + bias.

Needs ai-edge-litert, litert-quantizer and numpy."""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter

PEER = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from litert_quantizer import quantizer, recipe
model, samples, result = sys.argv[1:]
key, signature = next(iter(Interpreter(model).get_signature_list().items()))
tool = quantizer.Quantizer(model, recipe.static_wi8_ai8())
seen = tool.calibrate({key: [{signature["inputs"][0]: x[None]} for x in np.load(samples)]})
open(result, "wb").write(tool.quantize(seen, enable_progress_report=False).quantized_model)
"""


def outputs(model, samples):
    """The real outputs for each sample, each from a fresh state."""
    interpreter = Interpreter(str(model))
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    found = []
    for sample in samples:
        interpreter.reset_all_variables()
        scale, zero_point = detail["quantization"]
        if scale:
            ends = np.iinfo(detail["dtype"])
            sample = np.clip(np.round(sample / scale) + zero_point, ends.min, ends.max)
        interpreter.set_tensor(detail["index"], sample[None].astype(detail["dtype"]))
        interpreter.invoke()
        results = []
        for result in interpreter.get_output_details():
            scale, zero_point = result["quantization"]
            values = interpreter.get_tensor(result["index"]).astype(np.float64)
            results.append((values - zero_point) * scale if scale else values)
        found.append(results)
    return found


def sqnr(expected, found):
    """The mean over samples and outputs; outputs are paired by shape, the nearest first."""
    ratios = []
    for left, right in zip(expected, found):
        right = list(right)
        for output in left:
            noise = [((output - r) ** 2).sum() if r.shape == output.shape else np.inf for r in right]
            best = int(np.argmin(noise))
            signal = (output**2).sum()
            ratios.append(10 * np.log10(signal / max(noise[best], 1e-12 * signal + 1e-30) + 1e-30))
            right.pop(best)
    return float(np.mean(ratios))


def timed(command):
    start = time.perf_counter()
    ran = subprocess.run([str(part) for part in command], capture_output=True)
    return time.perf_counter() - start if ran.returncode == 0 else None


def rows(args, name, entry):
    model = args.float / f"{name}.tflite"
    detail = Interpreter(str(model)).get_input_details()[0]

    def load(key, limit):
        data = np.load(args.data / f"{entry[key]}.npy")
        data = data[np.arange(limit) % len(data)] if key == "calib" else data[:limit]
        data = data.astype(np.float32) * np.float32(entry["scale"]) + np.float32(entry["bias"])
        return data.reshape(len(data), *detail["shape"][1:]).astype(np.float32)

    judges = load("eval", 200)
    expected = outputs(model, judges)
    with tempfile.TemporaryDirectory() as folder:
        samples, result = pathlib.Path(folder) / "x.npy", pathlib.Path(folder) / "result.tflite"
        np.save(samples, load("calib", 100))
        ours = [args.bantam.resolve(), "convert", model, "-o", result, "--calib", samples]
        commands = {
            "default": ours,
            "best": [*ours, "--recipe", "best"],
            "peer": [sys.executable, "-c", PEER, model, samples, result],
        }
        for who, command in commands.items():
            seconds = timed(command)
            yield who, sqnr(expected, outputs(result, judges)) if seconds else None, seconds
            result.unlink(missing_ok=True)
    made = args.other / f"{name}.tf_int8.tflite" if args.other else None
    yield "other", sqnr(expected, outputs(made, judges)) if made and made.exists() else None, None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bantam", required=True, type=pathlib.Path)
    for name in ("float", "data", "manifest"):
        parser.add_argument(f"--{name}", required=True, type=pathlib.Path)
    parser.add_argument("--other", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    manifest = json.loads(args.manifest.read_text())
    print("| model | other | litert-quantizer | default | `--recipe best` | best over the better | s peer | s default | s best |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in args.names or manifest:
        found = {who: (db, seconds) for who, db, seconds in rows(args, name, manifest[name])}
        db = {who: value for who, (value, _) in found.items()}
        peers = [value for value in (db["other"], db["peer"]) if value is not None]
        show = lambda value, form: "-" if value is None else format(value, form)
        gain = db["best"] - max(peers) if peers and db["best"] is not None else None
        cells = [show(db[who], ".1f") for who in ("other", "peer", "default", "best")]
        cells += [show(gain, "+.1f")] + [show(found[who][1], ".2f") for who in ("peer", "default", "best")]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


main()
