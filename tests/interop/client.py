"""Runs our external delegate inside one runtime; called by run.py with that runtime's Python.

    client.py PLAN.json

Prints one JSON object a check: its name, whether it holds, and what was seen."""
import base64
import ctypes as c
import gc
import hashlib
import json
import os
import random
import struct
import sys
import threading

import delegates
import runtimes

NULLS = 200
CYCLES = 1000
INTERPRETERS = 100


def inputs(index, size, dtype):
    """The same bytes in every runtime: numbers of a kind that no operator chokes on."""
    source = random.Random(index + 1)
    if dtype == "float32":
        return struct.pack(f"{size // 4}f", *(source.gauss(0, 1) for _ in range(size // 4)))
    if dtype in ("int32", "int64"):
        width = 4 if dtype == "int32" else 8
        return b"".join(source.randrange(2).to_bytes(width, sys.byteorder) for _ in range(size // width))
    if dtype == "bool":
        return bytes(source.randrange(2) for _ in range(size))
    if dtype in ("int8", "uint8", "int16"):
        return source.randbytes(size)
    raise NotImplementedError(f"inputs of {dtype}")


def digest(outputs):
    return hashlib.sha256(b"".join(outputs)).hexdigest()


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def in_child(body):
    """What `body` returns, in a process of its own because it may crash; or None and what happened."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = body()
        except RuntimeError:
            text = ""
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        return None, f"it crashes with signal {os.WTERMSIG(status)}"
    return (text, "") if text else (None, "it is refused")


class Checks:
    def __init__(self, plan):
        self.plan = plan
        self.library = plan["library"]
        self.report = plan["report"]
        self.runtime = runtimes.make(plan["kind"], plan["where"])
        self.answers = plan["answers"]

    def delegate(self, **options):
        return self.runtime.load(self.library, options)

    def graphs(self):
        with open(self.report) as file:
            return json.load(file)["graphs"]

    def exact(self):
        """The bytes of LiteRT's reference kernels, from our kernels inside this runtime."""
        same, different, refused, shared, claimed, offered = 0, [], 0, 0, 0, 0
        for model in self.plan["models"]:
            if self.plan["is_oracle"]:
                try:
                    self.answers[model] = digest(self.runtime.run(model, inputs, reference=True))
                except (RuntimeError, ValueError, NotImplementedError):
                    continue
            if model not in self.answers:
                continue
            try:
                delegate = self.delegate(numerics="reference", report=self.report)
                outputs = self.runtime.run(model, inputs, delegate, reference=self.plan["is_oracle"])
            except (RuntimeError, ValueError):
                # Without a delegate it does not run either: an operator that is newer than the runtime.
                try:
                    self.runtime.run(model, inputs)
                    different.append(os.path.basename(model))
                except (RuntimeError, ValueError):
                    refused += 1
                continue
            graph = self.graphs()[-1]
            claimed += graph["claimed"]
            offered += graph["offered"]
            if digest(outputs) == self.answers[model]:
                same += 1
            # A runtime computes what we leave with kernels that need not be the oracle's.
            elif self.plan["is_oracle"] or graph["claimed"] == graph["offered"]:
                different.append(os.path.basename(model))
            else:
                shared += 1
        if self.plan["is_oracle"]:
            self.answer_for_node()
        text = f"{same} models equal, {claimed} of {offered} operators claimed"
        if refused:
            text += f", {refused} that the runtime cannot load"
        if shared:
            text += f", {shared} shared with kernels of the runtime's that are not the oracle's"
        if different:
            text += f", DIFFERENT: {' '.join(different[:5])}"
        # Equal bytes say nothing where the runtime computed them.
        return same > 0 and not different and claimed * 10 > offered * 9, text

    def answer_for_node(self):
        """Node has tensors of float32 only, and other random numbers: one model, with its input."""
        delegate, given = self.delegate(numerics="reference"), []

        def kept(*what):
            given.append(inputs(*what))
            return given[-1]

        self.answers["digits"] = digest(self.runtime.run(self.plan["bridged"], kept, delegate))
        self.answers["digits_input"] = base64.b64encode(given[0]).decode()

    def resized(self):
        """Other shapes than the file's, twice: planned anew each time."""
        model = self.plan["resizable"]
        shapes = self.runtime.input_shapes(model)
        steps = [[[batch, *rest] for _, *rest in shapes] for batch in (3, 2)]
        delegate = self.delegate(numerics="reference", report=self.report)
        got = digest(self.runtime.run(model, inputs, delegate, shapes=steps))
        if self.plan["is_oracle"]:
            self.answers["resized"] = digest(self.runtime.run(model, inputs, reference=True, shapes=steps))
        claimed = self.graphs()[-1]["claimed"]
        return claimed > 0 and got == self.answers["resized"], f"batch 1, 3, 2: {claimed} operators claimed"

    def odd_graphs(self):
        """Shapes that depend on data, outputs that are read as well, partitions cut by the user."""
        wrong, claimed = [], 0
        for name, options in [
            ("where", {}),
            ("reshape", {}),
            ("reshape", {"deny": "op:SHAPE"}),
            ("reshape", {"allow": "op:ABS,op:SHAPE"}),
            ("outputs", {}),
            ("outputs", {"deny": "index:1"}),
            ("outputs", {"driver": f"tflite:{self.library}"}),
        ]:
            model = os.path.join(self.plan["graphs"], f"{name}.tflite")
            if self.plan["is_oracle"]:
                self.answers[name] = digest(self.runtime.run(model, inputs, reference=True))
            delegate = self.delegate(report=self.report, **options)
            if digest(self.runtime.run(model, inputs, delegate)) != self.answers[name]:
                wrong.append(f"{name} with {options}")
            claimed += self.graphs()[-1]["claimed"]
        return not wrong and claimed == 3 + 3 + 1 + 2 + 3 + 2 + 3, f"{claimed} operators claimed {' '.join(wrong)}"

    def wrong_options(self):
        for options, part in [
            ({"thread": "2"}, "thread=2"),
            ({"driver": "tflite:/nowhere.so"}, "/nowhere.so"),
            ({"options": "threads"}, "KEY=VALUE"),
            ({"report": "/nowhere/report.json"}, "/nowhere/report.json"),
            ({"inner": "/nowhere.so"}, "/nowhere.so"),
        ]:
            try:
                self.delegate(**options)
                return False, f"{options} made a delegate"
            except RuntimeError as error:
                if part not in str(error):
                    return False, f"{options} reported {error}"
        return True, "each is named in the runtime's error"

    def nulls(self):
        lib = c.CDLL(self.library)
        create, destroy = lib.tflite_plugin_create_delegate, lib.tflite_plugin_destroy_delegate
        create.restype, pointer = c.c_void_p, c.c_void_p
        for _ in range(NULLS):
            destroy(pointer())
            made = pointer(create(None, None, c.c_size_t(0), None))
            # Prepare is the second word of the struct.
            prepare = c.CFUNCTYPE(c.c_int, pointer, pointer)(c.cast(made, c.POINTER(pointer))[1])
            if prepare(None, made) != 1 or prepare(None, None) != 1:
                return False, "Prepare of NULL went well"
            destroy(made)
            if create(None, None, c.c_size_t(3), None):
                return False, "a delegate of three options that are not there"
        return True, "refused"

    def cycles(self):
        for _ in range(50):
            delegates.Delegate(self.library, {"threads": "1"})
        before = resident()
        for _ in range(CYCLES):
            delegates.Delegate(self.library, {"threads": "1"})
        grown = (resident() - before) // 1024
        return grown < 2048, f"{CYCLES} delegates: {grown} KiB more"

    def interpreters(self):
        model = self.plan["resizable"]
        delegate = self.delegate()
        before = 0
        for index in range(INTERPRETERS + 10):
            if index == 10:
                gc.collect()
                before = resident()
            self.runtime.run(model, inputs, delegate)
        gc.collect()
        grown = (resident() - before) // 1024
        return grown < 4096, f"{INTERPRETERS} interpreters with one delegate: {grown} KiB more"

    def threads(self):
        """Two interpreters on two threads, with one delegate between them and with one each."""
        model = self.plan["resizable"]
        answer = digest(self.runtime.run(model, inputs, self.delegate()))
        shared, seen = self.delegate(threads="2"), []

        def work(delegate):
            for _ in range(20):
                seen.append(digest(self.runtime.run(model, inputs, delegate)))

        for pair in [(shared, shared), (self.delegate(), self.delegate())]:
            workers = [threading.Thread(target=work, args=[delegate]) for delegate in pair]
            [worker.start() for worker in workers]
            [worker.join() for worker in workers]
        return seen == [answer] * 80, f"{seen.count(answer)} of 80 runs equal"

    def ours_in_ours(self):
        """Our delegate, hosted by our driver for delegates, inside this runtime."""
        model = self.plan["resizable"]
        answer = digest(self.runtime.run(model, inputs, self.delegate(numerics="reference")))
        delegate = self.delegate(driver=f"tflite:{self.library}?numerics=reference", report=self.report)
        same = digest(self.runtime.run(model, inputs, delegate)) == answer
        claimed = self.graphs()[-1]["claimed"]
        return same and claimed > 0, f"{claimed} operators claimed"

    def spy(self):
        model = self.plan["resizable"]
        answer = digest(self.runtime.run(model, inputs, self.delegate(numerics="reference")))
        delegate = self.delegate(options=f"inner={self.library};report={self.report};numerics:reference")
        same = digest(self.runtime.run(model, inputs, delegate)) == answer
        graph = self.graphs()[-1]
        invoked = sum(partition["invoke"]["count"] for partition in graph["partitions"])
        return same and graph["claimed"] > 0 and invoked > 0, f"{graph['claimed']} claimed, {invoked} runs timed"

    def bridge(self):
        """XNNPACK of TensorFlow Lite 2.9 inside this runtime, through our driver for delegates, and watched."""
        plug, library = self.plan["xnnpack_plugin"], self.plan["xnnpack_library"]
        model = self.plan["bridged"]
        options = {"driver": f"tflite:{plug}?library={library}", "report": self.report}
        bridged = digest(self.runtime.run(model, inputs, self.delegate(**options)))
        graph = self.graphs()[-1]
        text = f"{graph['claimed']} of {graph['offered']} operators claimed by XNNPACK 2.9"
        watched = {"inner": plug, "library": library, "report": self.report}
        spied, said = in_child(lambda: digest(self.runtime.run(model, inputs, self.delegate(**watched))))
        plain, bare = in_child(
            lambda: digest(self.runtime.run(model, inputs, self.runtime.load(plug, {"library": library})))
        )
        if spied is None:
            text += f"; watched {said}"
        if plain is None:
            text += f"; without us {bare}"
        # A spy leaves the delegate on the runtime's own context, for which it may be too new.
        holds = graph["claimed"] > 0 and plain in (None, bridged) and spied in (plain, bridged)
        # What XNNPACK leaves, each runtime computes with kernels of its own.
        if graph["claimed"] == graph["offered"]:
            holds = holds and self.answers.setdefault("bridged", bridged) == bridged
        return holds, text


CHECKS = "exact resized odd_graphs wrong_options nulls cycles interpreters threads ours_in_ours spy bridge".split()


def main(plan):
    checks = Checks(plan)
    for name in CHECKS:
        if name == "bridge" and not plan.get("xnnpack_library"):
            continue
        print(json.dumps({"check": name, "begins": True}), flush=True)
        try:
            holds, text = getattr(checks, name)()
        except Exception as error:  # whatever it is, it is the result
            holds, text = False, f"{type(error).__name__}: {error}"
        print(json.dumps({"check": name, "holds": holds, "text": text}), flush=True)
    print(json.dumps({"answers": checks.answers}), flush=True)


with open(sys.argv[1]) as file:
    main(json.load(file))
