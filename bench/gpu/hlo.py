"""Reads what XLA made of a training step from its dump: which attention runs, in which dtypes its products are, how much memory it takes."""

import collections
import pathlib
import re
import sys

COMPUTATION = re.compile(r"^(?:ENTRY )?%[\w.-]+ .*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\(([^)]*)\)")
TARGET = re.compile(r'custom_call_target="([^"]+)"')


def dtype(shape):
    return re.search(r"\w+(?=\[)", shape)[0]


def program(text):
    """Counts the cuDNN attention calls of a compiled program, and its products by the dtypes of operands and result."""
    attention, dots, types = collections.Counter(), collections.Counter(), {}
    for line in text.splitlines():
        if COMPUTATION.match(line):
            types = {}  # names are a computation's own
        m = INSTRUCTION.match(line)
        if not m:
            continue
        name, shape, op, operands = m.groups()
        types[name] = shape
        target = (TARGET.search(line) or ["", ""])[1]
        if target.startswith("__cudnn$fmha"):
            attention[target] += 1
        elif op == "dot" or target.startswith("__cublas$") or target.startswith("__onednn$matmul"):
            both = [dtype(types[o]) for o in re.findall(r"%([\w.-]+)", operands)[:2]]
            dots[f"{' x '.join(both)} -> {dtype(shape)}"] += 1
    return {"cudnn_attention": dict(attention), "dots": dict(sorted(dots.items()))}


def memory(text):
    """The bytes that XLA's buffer assignment comes to."""
    m = re.search(r"total bytes used: (\d+)|Total bytes: (\d+)", text, re.IGNORECASE)
    return int(m[1] or m[2]) if m else None


def read(folder):
    """What there is of it in a dump; nothing where the program was not compiled so far."""
    out = {}
    for path in pathlib.Path(folder).glob("*after_optimizations*.txt"):
        if path.name.endswith("after_optimizations.txt"):
            out |= program(path.read_text())
        elif path.name.endswith(("-memory-usage-report.txt", "-buffer-assignment.txt")):
            if bytes := memory(path.read_text()):
                out["compiled_memory_bytes"] = bytes
    return out


if __name__ == "__main__":
    print(read(sys.argv[1]))
