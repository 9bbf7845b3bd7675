#!/usr/bin/env python3
"""Makes the single-operator models under ops/ and what three sets of LiteRT kernels answer. See README.md.

    make_goldens.py [FAMILY ...]    only these families; all without arguments
    make_goldens.py --report        how far the oracles are from each other, from the committed files
"""
import os
import pathlib
import sys
import tempfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from zoo import control, elementwise, mixed, movement, pointwise, products, recurrent, selection, writer

OPS = pathlib.Path(__file__).resolve().parent / "ops"
KERNELS = {
    "ref": OpResolverType.BUILTIN_REF,
    "opt": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "xnn": OpResolverType.AUTO,
}


def run(model, feeds, kernels, runs=1):
    """(outputs, None) or (None, why), from a child process: LiteRT can abort."""
    with tempfile.TemporaryDirectory() as d:
        pid = os.fork()
        if pid == 0:
            log = os.open(f"{d}/log", os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            try:
                i = Interpreter(model_content=model, experimental_op_resolver_type=KERNELS[kernels], num_threads=1)
                i.allocate_tensors()
                for detail, feed in zip(i.get_input_details(), feeds, strict=True):
                    i.set_tensor(detail["index"], feed)
                for _ in range(runs):
                    i.invoke()
                out = [i.get_tensor(o["index"]) for o in i.get_output_details()]
                np.savez(f"{d}/out.npz", *out)
                os._exit(0)
            except Exception as e:
                print(str(e).replace("\n", " "), flush=True)
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            lines = pathlib.Path(f"{d}/log").read_text(errors="replace").strip().splitlines()
            return None, f"died with {status}: " + " | ".join(lines[-2:])
        with np.load(f"{d}/out.npz") as z:
            return [z[f"arr_{k}"] for k in range(len(z.files))], None


def shapes(case):
    for kernels in ("opt", "ref"):
        out, why = run(case.model([[]] * len(case.outputs), zero_bias=True), case.feeds, kernels, case.runs)
        if out is not None:
            return [o.shape for o in out]
    raise RuntimeError(f"{case.name}: {why}")


def make(case):
    """(file, arrays by key) of a case."""
    inferred, arrays = shapes(case), {}
    asked = case.model(inferred, zero_bias=True)
    for k, feed in enumerate(case.feeds):
        arrays[f"in{k}"] = feed
    if case.runs > 1:
        arrays["runs"] = np.asarray([case.runs], np.uint8)
    for kernels in KERNELS:
        out, why = run(asked, case.feeds, kernels, case.runs)
        if out is None:
            print(f"{case.name}: no {kernels}: {why}")
            continue
        for k, o in enumerate(out):
            arrays[f"{kernels}{k}"] = o
    return case.model(inferred), arrays


def report():
    for family in sorted(OPS.glob("*/golden.npz")):
        z = np.load(family)
        for name in sorted({k.rsplit("/", 1)[0] for k in z.files}):
            keys = {k.rsplit("/", 1)[1] for k in z.files if k.startswith(name + "/")}
            line = []
            for a, b in (("ref", "opt"), ("ref", "xnn"), ("opt", "xnn")):
                for k in sorted(x for x in keys if x.startswith(a)):
                    other = b + k[3:]
                    if other in keys:
                        x, y = z[f"{name}/{k}"].astype(np.float64), z[f"{name}/{other}"].astype(np.float64)
                        d = np.abs(np.where(x == y, 0, x - y))
                        if d.size and not d.max() <= (1e-5 * max(1, np.abs(x).max()) if name.endswith("_f32") else 0):
                            line.append(f"{k}/{b} max {d.max():.3g} on {np.mean(d > 0):.4f}")
            missing = [a for a in KERNELS if a + "0" not in keys]
            if missing:
                line.append("no " + ", ".join(missing))
            if line:
                print(f"{name}: " + "; ".join(line))


def main(wanted):
    zoo, failed = writer.Zoo(), 0
    for module in (elementwise, products, movement, pointwise, mixed, selection, recurrent, control):
        module.cases(zoo)
    for family in sorted({c.family for c in zoo.cases}):
        if wanted and family not in wanted:
            continue
        directory, golden = OPS / family, {}
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.iterdir():
            old.unlink()
        cases = [c for c in zoo.cases if c.family == family]
        for case in cases:
            try:
                model, arrays = make(case)
            except RuntimeError as e:
                print(f"FAILED {e}")
                failed += 1
                continue
            (directory / f"{case.name}.tflite").write_bytes(model)
            golden |= {f"{case.name}/{k}": v for k, v in arrays.items()}
        np.savez_compressed(directory / "golden.npz", **golden)
        print(f"{family}: {len(cases)} cases, golden.npz {(directory / 'golden.npz').stat().st_size} bytes", flush=True)
    return failed


if __name__ == "__main__":
    if sys.argv[1:] == ["--report"]:
        report()
    else:
        sys.exit(1 if main(sys.argv[1:]) else 0)
