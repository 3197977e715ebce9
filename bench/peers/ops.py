"""Where a step's time goes: runs a program that XLA dumped with jaxlib's CPU client under its profiler, and prints the time of
each kind of operation as Markdown.

    cd train && XLA_FLAGS="--xla_dump_to=DUMP --xla_dump_hlo_as_proto" go test -run '^$' -bench Step/9m/bf16/adamw -benchtime 1x .
    python bench/peers/ops.py DUMP/module_0000.train_step_1.before_optimizations.hlo.pb

The plugin that we train with has no profiler extension, and go-xla no wrapper for one. jaxlib compiles the same program by
the same compiler, a few versions apart.
"""

import argparse
import collections
import glob
import re
import tempfile

import jax
import numpy as np
from jax._src.lib import xla_client
from jaxlib import _hlo, _jax

KINDS = [  # name, pattern over "result kind <- operands", in order
    ("products of the output projection", r",\d{4,}\] dot|dot .*\d{4,},\d{4,}"),
    ("products of attention", r"^\w+\[\d+,\d+,\d+\] dot"),
    ("products of linear layers", r" dot"),
    ("copies transposed for a product", r"slice,transpose,copy|concatenate|^bf16\[\d+,\d+(,\d+)?\] (bitcast,)?convert(,bitcast)? <- f32"),
    ("softmax and loss over the vocabulary", r"\[4096,\d{4,}\].*exponential|^f32\[4096\] reduce"),
    ("attention's softmax, mask", r"\[\d+,\d+,256,256\]|\[\d+,256,256\]"),
    ("heads: rotation, transposition", r"reverse|\[\d+,256,64\]"),
    ("copies of the state", r"^f32\[[\d,]+\] copy$"),
    ("optimizer", r"is-finite|^f32\[\] multiply,reduce"),
]


def module(path):
    """The HloModuleProto that is the first field of an HloProto. (The text of a dump has operands that the parser does not read.)"""
    data = open(path, "rb").read()
    assert data[0] == 0x0A, path
    at, size, shift = 1, 0, 0
    while True:
        size |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return data[at : at + size]


def load(path):
    computation = _hlo.XlaComputation(module(path))
    device = jax.devices("cpu")[0]
    program = device.client.compile_and_load(
        _jax.mlir.xla_computation_to_mlir_module(computation), xla_client.DeviceList((device,)), xla_client.CompileOptions())
    random = np.random.default_rng(0)

    def argument(shape):
        if shape.numpy_dtype() == np.int32:
            return random.integers(0, 4000, shape.dimensions()).astype(np.int32)
        return (random.standard_normal(shape.dimensions()) * 0.02).astype(shape.numpy_dtype())

    def step():
        inputs = [jax.device_put(np.asarray(argument(s)), device) for s in computation.program_shape().parameter_shapes()]
        for out in program.execute_sharded(inputs).disassemble_into_single_device_arrays():
            out[0].block_until_ready()

    return program.hlo_modules()[0].to_string(), step


def describe(text):
    """Each operation of the compiled program's entry as "result kind <- operands"."""
    plain = lambda shape: re.sub(r"\{.*?\}", "", shape)
    bodies, entry, body = {}, [], None
    for line in text.splitlines():
        if m := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line):
            body = bodies[m[2]] = entry if m[1] else []
        elif body is not None:
            body.append(line.strip())
    kinds = {}
    for line in entry:
        m = re.match(r"(?:ROOT )?%?([\w.\-]+) = (\([^)]*\)|\S+) ([\w\-]+)\((.*)", line)
        if not m:
            continue
        kind = m[3]
        if called := re.search(r"calls=%?([\w.\-]+)", m[4]):
            inside = [re.match(r"(?:ROOT )?%?[\w.\-]+ = (\([^)]*\)|\S+) ([\w\-]+)\(", x) for x in bodies[called[1]]]
            inside = [(plain(x[1]), x[2]) for x in inside if x]
            operations = dict.fromkeys(op for _, op in inside if op not in ("parameter", "constant"))
            kind = ",".join(operations) + " <- " + " ".join(shape for shape, op in inside if op == "parameter")
        kinds[m[1]] = f"{plain(m[2])} {kind}"
    return kinds


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("program", help="…before_optimizations.hlo.pb")
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--all", action="store_true", help="each kind of operation by itself")
    a = p.parse_args()
    text, step = load(a.program)
    step(), step()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(a.steps):
                step()
        trace = jax.profiler.ProfileData.from_file(glob.glob(folder + "/**/*.xplane.pb", recursive=True)[0])
    kinds, time, count = describe(text), collections.Counter(), collections.Counter()
    for plane in trace.planes:
        for line in plane.lines:
            for event in line.events:
                if op := dict(event.stats).get("hlo_op"):
                    kind = kinds.get(op, op)
                    if not a.all:
                        kind = next((name for name, pattern in KINDS if re.search(pattern, kind)), "other elementwise operations and sums")
                    time[kind] += event.duration_ns / 1e6 / a.steps
                    count[kind] += 1 / a.steps
    total = sum(time.values())
    print("| operations | number | ms | part |\n|---|---|---|---|")
    for kind, ms in time.most_common():
        print(f"| {kind} | {count[kind]:.0f} | {ms:.1f} | {100 * ms / total:.1f}% |")


if __name__ == "__main__":
    main()
