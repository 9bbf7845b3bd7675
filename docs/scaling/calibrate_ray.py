#!/usr/bin/env python3
"""Calibrates a model on many workers with Ray, then converts it once.

    calibrate_ray.py MODEL.tflite SAMPLES OUT.tflite [--shards N] [--address ray://HOST:10001] [-- FLAG ...]

Each worker runs `bantam convert --save-calib` on its shard of SAMPLES; the statistics come back as bytes and are
merged by `bantam convert --load-calib`. The model that comes out is, to the byte, that of one run over all samples.
MODEL and SAMPLES must be at the same path on every worker, as on a shared file system, and `bantam` on its PATH
(or at $BANTAM). Flags after `--` go to both commands. Needs ray: pip install ray
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import ray

BANTAM = os.environ.get("BANTAM", "bantam")


@ray.remote(num_cpus=1, max_retries=3)
def calibrate(model, samples, shard, shards, flags):
    """The statistics of one shard. A worker that dies is replaced and starts the shard anew."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "part.calib"
        argv = [BANTAM, "convert", model, "--calib", samples, "--shard", f"{shard}/{shards}", "--save-calib", str(file),
                "--threads", "1", *flags]
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return file.read_bytes()


def main():
    own, flags = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, flags = own[:at], own[at + 1:]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("samples")
    parser.add_argument("output")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--address", help="a running cluster; without it Ray starts on this machine")
    args = parser.parse_args(own)

    ray.init(address=args.address, log_to_driver=False)
    model, samples = os.path.abspath(args.model), os.path.abspath(args.samples)
    parts = ray.get([calibrate.remote(model, samples, shard + 1, args.shards, flags) for shard in range(args.shards)])
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, part in enumerate(parts):
            files.append(pathlib.Path(folder) / f"{number}.calib")
            files[-1].write_bytes(part)
        argv = [BANTAM, "convert", model, "-o", args.output, "--load-calib", *map(str, files), *flags]
        sys.exit(subprocess.run(argv).returncode)


if __name__ == "__main__":
    main()
