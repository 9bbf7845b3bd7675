#!/usr/bin/env python3
"""Writes vela/models.zip, random models, and vela/placement.json, where Vela places their operators and those of ops/.

make_vela.py --vela PYTHON, the Python that has ethos-u-vela 5.2.0; itself needs ai-edge-litert, flatbuffers and numpy."""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "vela"))
import models  # noqa: E402

CONFIGS = ("ethos-u55-128", "ethos-u65-256")
SEED, COUNT = 1, 1000


def place(python, paths, root):
    """{name: {tensor: reason} or the text of an error}, the same for every configuration."""
    answers = []
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(map(str, paths)))
        listed.flush()
        for config in CONFIGS:
            command = [python, str(HERE.parent / "peers/vela.py"), "--config", config, "--list", listed.name]
            lines = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines()
            found = {}
            for answer in map(json.loads, lines):
                name = str(pathlib.Path(answer["model"]).relative_to(root).with_suffix(""))
                found[name] = answer.get("cpu", answer.get("error"))
            answers.append(found)
    differing = [name for name, answer in answers[0].items() if any(other[name] != answer for other in answers[1:])]
    if differing:
        raise SystemExit(f"{CONFIGS} disagree on {differing}")
    return answers[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vela", required=True, metavar="PYTHON")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(HERE / "vela/models.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        paths = []
        for name, model in models.generate(SEED, COUNT):
            archive.writestr(zipfile.ZipInfo(f"{name}.tflite", (2000, 1, 1, 0, 0, 0)), model, zipfile.ZIP_DEFLATED, 9)
            paths.append(pathlib.Path(folder, f"{name}.tflite"))
            paths[-1].write_bytes(model)
        random = place(a.vela, paths, folder)
    ops = place(a.vela, sorted((HERE / "ops").glob("*/*.tflite")), HERE / "ops")
    placement = {"vela": "5.2.0", "configs": CONFIGS, "random": random, "ops": ops}
    text = json.dumps(placement, indent=0, ensure_ascii=False).replace("{\n}", "{}")
    (HERE / "vela/placement.json").write_text(text + "\n")


main()
