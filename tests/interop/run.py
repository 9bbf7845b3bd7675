#!/usr/bin/env python3
"""Loads our external delegate into TensorFlow Lite's runtimes and prints what holds: runtime x check x result.

    cargo build -p bantam-ffi && tests/interop/run.py [--models DIR] [--only NAME] [--large] [--markdown]

Each runtime is installed under target/interop, from PyPI, npm or crates.io, the first time it is wanted. The wheels of 2.14
are for Python 3.11 at the latest; the C libraries need npm and cargo, the bridge gcc. What cannot be installed is a row of
its own, and a failure unless --available is given; the first runtime, whose answers the others are held to, must be there."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Operators of whose files each runtime loads at least some.
FAMILIES = (
    "add average_pool_2d concatenation conv_2d depthwise_conv_2d fully_connected logistic max_pool_2d mean mul"
    " pad reshape resize_bilinear softmax strided_slice sub tanh transpose_conv unidirectional_sequence_lstm"
)


class Missing(Exception):
    pass


def call(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        tail = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Missing(f"{command[0]} {command[1]}: {' '.join(tail)}")
    return done.stdout


def is_minor(interpreter, minor):
    """Whether it runs and is 3.minor; a name that a version manager keeps may not run."""
    try:
        said = call(interpreter, "-c", "import ensurepip, sys; print(sys.version_info[1])")
    except Missing:
        return False
    return said.strip() == str(minor)


def python(versions):
    """A Python of one of these minor versions of 3, newest first."""
    for minor in versions:
        for name in [f"python3.{minor}", sys.executable, "python3"]:
            found = shutil.which(name)
            if found and is_minor(found, minor):
                return found
    raise Missing(f"there is no python3.{versions[0]}")


def wheel(name, *packages, versions=(13, 12, 11, 10)):
    """A virtual environment with these packages; its Python."""

    def install(folder):
        inside = folder / name / "bin" / "python"
        if not (folder / name / "complete").exists():
            shutil.rmtree(folder / name, ignore_errors=True)
            call(python(versions), "-m", "venv", folder / name)
            call(inside, "-m", "pip", "install", "--quiet", *packages)
            (folder / name / "complete").touch()
        return inside

    return install


def tflitec(folder):
    """TensorFlow Lite 2.6.0, which the crate tflitec carries for the builds of its documentation."""
    library = folder / "c-2.6" / "libtensorflowlite_c.so"
    if not library.exists():
        project = folder / "c-2.6" / "project"
        (project / "src").mkdir(parents=True, exist_ok=True)
        (project / "src" / "lib.rs").touch()
        (project / "Cargo.toml").write_text(
            '[package]\nname = "fetch"\nversion = "0.0.0"\n[workspace]\n[dependencies]\ntflitec = "=0.7.0"\n'
        )
        call("cargo", "vendor", "--quiet", "vendor", cwd=project)
        with zipfile.ZipFile(project / "vendor" / "tflitec" / "build-res" / "docsrs_res.zip") as archive:
            member = next(n for n in archive.namelist() if n.endswith("libtensorflowlite_c.so"))
            library.write_bytes(archive.read(member))
        shutil.rmtree(project)
    return library


def tfjs(folder):
    """TensorFlow Lite 2.9.0, which the package tfjs-tflite-node carries."""
    library = folder / "c-2.9" / "libtensorflowlite_c.so"
    if not library.exists():
        (folder / "c-2.9").mkdir(parents=True, exist_ok=True)
        name = call("npm", "pack", "--silent", "tfjs-tflite-node@0.0.2", cwd=folder / "c-2.9").strip()
        archive = folder / "c-2.9" / name
        with tarfile.open(archive) as tar:
            member = tar.extractfile("package/cc_deps/linux_amd64/libtensorflowlite_c.so")
            library.write_bytes(member.read())
        archive.unlink()
    return library


def node(folder):
    """Node's binding, which has the same library behind an addon that is compiled here."""
    place = folder / "node"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        packages = ["tfjs-tflite-node@0.0.2", "@tensorflow/tfjs-core@3.21.0", "@tensorflow/tfjs-backend-cpu@3.21.0"]
        packages.append("@tensorflow/tfjs-tflite@0.0.1-alpha.9")
        call("npm", "install", "--no-audit", "--no-fund", "--legacy-peer-deps", *packages, cwd=place)
        call("npm", "rebuild", "tfjs-tflite-node", cwd=place)
        (place / "complete").touch()
    return place


# Name, kind, how to get it, the module of a wheel, whether it is large. The first is the oracle.
RUNTIMES = [
    ("ai-edge-litert 2.3.0", "wheel", wheel("litert-2.3", "ai-edge-litert==2.3.0", "numpy"), "ai_edge_litert.interpreter", False),
    ("tensorflow-cpu 2.21.0", "wheel", wheel("tensorflow-2.21", "tensorflow-cpu==2.21.0"), "tensorflow.lite.python.interpreter", True),
    ("tflite-runtime 2.14.0", "wheel", wheel("tflite-2.14", "tflite-runtime==2.14.0", "numpy<2", versions=(11, 10)), "tflite_runtime.interpreter", False),
    ("tfjs-tflite-node 0.0.2", "node", node, None, False),
    ("libtensorflowlite_c 2.9.0", "c", tfjs, None, False),
    ("libtensorflowlite_c 2.6.0", "c", tflitec, None, False),
]


def models(extra):
    found = [path for family in FAMILIES.split() for path in sorted((ROOT / "tests/data/ops" / family).glob("*_int8.tflite"))]
    if extra:
        found += sorted(pathlib.Path(extra).glob("*int8.tflite"))
    return [str(path) for path in found]


def plugin(folder):
    target = folder / "libxnnpack_plugin.so"
    call("gcc", "-O1", "-Wall", "-shared", "-fPIC", HERE / "xnnpack_plugin.c", "-o", target, "-ldl")
    return str(target)


def run(name, kind, place, module, plan, folder):
    """Yields check, whether it holds, and what was seen; at last the answers of the oracle."""
    command, cwd = [place if kind == "wheel" else sys.executable, HERE / "client.py"], None
    if kind == "node":
        command, cwd = ["node", HERE / "client.js"], place
    plan = {**plan, "kind": kind, "where": module or str(place), "report": str(folder / "report.json")}
    file = folder / "plan.json"
    file.write_text(json.dumps(plan))
    command = [str(part) for part in [*command, file]]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    begun = "start"
    for line in process.stdout:
        if not line.startswith("{"):
            continue
        said = json.loads(line)
        if "answers" in said:
            plan["answers"].update(said["answers"])
        elif "begins" in said:
            begun = said["check"]
        else:
            begun = None
            yield said["check"], said["holds"], said["text"]
    if process.wait() or begun:
        yield begun or "end", False, f"the process ended with status {process.returncode}"


def print_table(table):
    """A row for each runtime; the numbers of the check that has the most to tell."""
    checks = list(dict.fromkeys(check for row in table.values() for check in row))
    print("| runtime | " + " | ".join(check.replace("_", " ") for check in checks) + " |")
    print("|---" * (len(checks) + 1) + "|")
    for name, row in table.items():
        cells = [row.get(check, ("-", "")) for check in checks]
        cells = [seen if check in ("exact", "bridge") and result == "holds" else result for check, (result, seen) in zip(checks, cells)]
        print(f"| {name} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", default=ROOT / "target/debug/libbantam.so", type=pathlib.Path)
    parser.add_argument("--models", help="a folder with more *int8.tflite")
    parser.add_argument("--only", action="append", help="part of a runtime's name; the oracle always runs")
    parser.add_argument("--large", action="store_true", help="TensorFlow's own package as well")
    parser.add_argument("--available", action="store_true", help="what cannot be installed is no failure")
    parser.add_argument("--markdown", action="store_true", help="the table as docs/interop.md has it")
    arguments = parser.parse_args()
    library = arguments.library.resolve()
    if not library.exists():
        sys.exit(f"{library} is not there: cargo build -p bantam-ffi")
    folder = ROOT / "target/interop"
    folder.mkdir(parents=True, exist_ok=True)
    resizable = ROOT / "tests/data/ops/conv_2d"
    plan = {
        "library": str(library),
        "models": models(arguments.models),
        "resizable": str(sorted(resizable.glob("*3x3*_int8.tflite"))[0]),
        "bridged": str(ROOT / "cli/assets/digits.tflite"),
        "answers": {},
    }
    try:
        plan["xnnpack_library"] = str(tfjs(folder))
        plan["xnnpack_plugin"] = plugin(folder)
    except Missing as missing:
        plan.pop("xnnpack_library", None)
        print(f"no bridge: {missing}", file=sys.stderr)
    failures = 0
    table = {}

    def say(name, check, result, seen):
        table.setdefault(name, {})[check] = (result, seen)
        if not arguments.markdown:
            print(f"{name:<26} {check:<14} {result:<7} {seen}", flush=True)

    for index, (name, kind, install, module, is_large) in enumerate(RUNTIMES):
        is_wanted = not arguments.only or any(part in name for part in arguments.only)
        if index > 0 and not is_wanted or is_large and not arguments.large:
            continue
        try:
            place = install(folder)
        except Missing as missing:
            failures += not arguments.available or index == 0
            say(name, "install", "missing", str(missing))
            if index == 0:
                break
            continue
        plan["is_oracle"] = index == 0
        if index == 0:
            call(place, HERE / "models.py", folder / "models")
            plan["graphs"] = str(folder / "models")
        for check, holds, text in run(name, kind, place, module, plan, folder):
            failures += not holds
            say(name, check, "holds" if holds else "FAILS", text)
    if arguments.markdown:
        print_table(table)
    sys.exit(1 if failures else 0)


main()
