#!/usr/bin/env python3
"""Asks Vela, Arm's compiler for Ethos-U, where it places operators: vela.py [--config ethos-u55-128] [--list FILE] [MODEL...]

Prints one line of JSON for each model: {"model": path, "cpu": {tensor: reason}}, the first output of each operator that the
compiled file still has for the CPU, with Vela's words for why, empty where it gives none; or {"model": path, "error": text}
where Vela ends without an answer. An operator with a fused activation goes by its own output's name, to which Vela adds `_act`.
Each model is compiled in a process of its own, because Vela can abort. Needs ethos-u-vela 5.2.0."""
import argparse
import json
import os
import pathlib
import re
import sys
import tempfile

from ethosu.vela import vela
from ethosu.vela.tflite.Model import Model

WARNING = re.compile(r"Warning \(supported operators\) operator: \S+, (?:ofm|tensor): '(.*)'\n(?:Reason: (.*)\n)?(?:(\S.*)\n)?")


def compile_apart(model, config, folder):
    """(exit status, what Vela wrote)"""
    log = pathlib.Path(folder, "log")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            file = os.open(log, os.O_WRONLY | os.O_CREAT)
            os.dup2(file, 1)
            os.dup2(file, 2)
            status = vela.main(["--accelerator-config", config, "--output-dir", folder, model]) or 0
            sys.stdout.flush()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(status)
    _, status = os.waitpid(child, 0)
    return status, log.read_text(errors="replace")


def on_cpu(compiled):
    """The first output of each operator that is not the accelerator's."""
    model = Model.GetRootAsModel(compiled.read_bytes(), 0)
    for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        for op in (graph.Operators(i) for i in range(graph.OperatorsLength())):
            if model.OperatorCodes(op.OpcodeIndex()).CustomCode() != b"ethos-u" and op.OutputsLength():
                yield graph.Tensors(op.Outputs(0)).Name().decode()


def ask(model, config):
    with tempfile.TemporaryDirectory() as folder:
        status, text = compile_apart(model, config, folder)
        if os.WIFSIGNALED(status):
            return {"model": model, "error": f"signal {os.WTERMSIG(status)}"}
        if status:
            lines = [line for line in text.splitlines() if re.search("error", line, re.I)]
            return {"model": model, "error": (lines or [f"status {os.WEXITSTATUS(status)}"])[-1].removeprefix("RuntimeError: ")}
        reasons = {}
        for name, reason, rule in WARNING.findall(text):
            reasons.setdefault(name, reason or rule)
            reasons.setdefault(name.removesuffix("_act"), reason or rule)
        compiled = pathlib.Path(folder, f"{pathlib.Path(model).stem}_vela.tflite")
        return {"model": model, "cpu": {name: reasons.get(name, "") for name in on_cpu(compiled)}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="ethos-u55-128")
    parser.add_argument("--list", type=pathlib.Path, help="a file with the path of one model a line")
    parser.add_argument("models", nargs="*")
    a = parser.parse_args()
    listed = a.list.read_text().splitlines() if a.list else []
    for model in [*a.models, *listed]:
        print(json.dumps(ask(model, a.config)), flush=True)


main()
