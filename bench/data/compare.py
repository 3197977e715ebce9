"""Ours and datatrove in turn, on the same files, each on one core, in processor time: the rules with the masking of private data, the signing
of MinHash, and MinHash deduplication from JSON Lines to JSON Lines.

  python compare.py --data DIR [--rounds 3]

Prints the medians over the rounds, and the ratio with its range. Needs Go, and a Python with requirements.txt. DIR holds the JSON
Lines files that are named below.
"""

import argparse
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version

RULES = ["en-openstax-cc-by.jsonl.zst"]
DEDUP = ["en-openstax-cc-by.jsonl.zst", "zh-vue-docs.jsonl.zst", "code-py-flask.jsonl.zst"]

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True, type=pathlib.Path)
parser.add_argument("--rounds", type=int, default=3)
args = parser.parse_args()
here = pathlib.Path(__file__).resolve().parent
root = here.parent.parent
temp = tempfile.TemporaryDirectory()
environment = os.environ | {"GOMAXPROCS": "1", "CGO_ENABLED": "0", "OMP_NUM_THREADS": "1"}
for name in ("rules", "dedup"):
    subprocess.run(["go", "build", "-o", f"{temp.name}/{name}", f"./bench/data/{name}"], cwd=root, env=environment, check=True)


def paths(names):
    return [str(args.data / n) for n in names]


def measure(*command):
    """The lines "@ WHAT FIGURE" that a command prints; what else it says goes on to stderr."""
    done = subprocess.run([str(c) for c in command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr[-4000:]}")
    figures = {}
    for line in done.stdout.splitlines():
        if line.startswith("@ "):
            what, figure = line[2:].rsplit(" ", 1)
            figures[what] = float(figure)
        else:
            print("  ", line, file=sys.stderr)
    return figures


def ours():
    return measure(f"{temp.name}/rules", "speed", *paths(RULES)) | measure(f"{temp.name}/dedup", "speed", "-out", f"{temp.name}/ours", *paths(DEDUP))


def theirs():
    return measure(sys.executable, here / "datatrove_chain.py", "--data", args.data) | measure(
        sys.executable, here / "dedup_datatrove.py", f"{temp.name}/theirs", f"{temp.name}/ours", *paths(DEDUP)
    )


rounds = [(ours(), theirs()) for _ in range(args.rounds)]
commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, stdout=subprocess.PIPE, text=True).stdout.strip()
processor = platform.processor()
if os.path.exists("/proc/cpuinfo"):
    processor = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), processor)
print(f"commit {commit}, datatrove {version('datatrove')}, Python {platform.python_version()}, {processor}, {args.rounds} rounds in turn\n")
print("| MB/s a core | pretrain | datatrove | ratio | of the rounds |\n|---|---:|---:|---:|---:|")
for what in rounds[0][1]:
    a, b = ([r[side][what] for r in rounds] for side in (0, 1))
    ratios = [x / y for x, y in zip(a, b)]
    print(f"| {what} | {statistics.median(a):.1f} | {statistics.median(b):.2f} | {statistics.median(ratios):.0f}x | {min(ratios):.0f} to {max(ratios):.0f} |")
