"""Tokens/s of our training step beside JAX's and PyTorch's, in turn on one machine: JSON lines, and a table of them.

    python bench/peers/compare.py --binary bin/pretrain --sizes quickstart 9m --rounds 3 --out bench/peers/results/cpu.jsonl
    python bench/peers/compare.py --table bench/peers/results/cpu.jsonl

Each round runs every program once for each size and precision, in another order each time, so that whatever else the
machine does meets all of them; what counts is the median of the ratios within rounds. The peers get random tokens, ours the
Go standard library's text through its own feed, with everything that training does but evaluation and checkpoints; all take
the median step after warm-up.
"""

import argparse
import datetime
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SIZES = {  # name: d_model, layers, vocabulary, tokens a step
    "quickstart": (192, 4, 4096, 4096),
    "9m": (320, 8, 8192, 4096),
    "30m": (512, 12, 8192, 2048),
}
PROGRAMS = ("torch eager", "torch.compile", "jax", "ours")


def ours(a, size, length, precision):
    d, layers, vocab, tokens = SIZES[size]
    with tempfile.TemporaryDirectory() as run:
        total = a.warmup + a.steps
        sets = {
            "model": f"{{d_model: {d}, num_layers: {layers}, head_dim: 64, max_seq_len: {length}}}", "tokenizer.vocab_size": vocab,
            "batch.tokens": f"{tokens}tok", "train.tokens": f"{total * tokens}tok", "train.precision": precision,
            "optimizer": "{kind: adamw}", "schedule.peak_lr": 0.01, "schedule.warmup": "1 steps", "eval": "{every: never, at_end: false, tokens: 1ktok}",
            "checkpoint": "{every: never}", "sample.tokens": "0tok", "name": "peer",
        }
        config = pathlib.Path(run, "peer.yaml")
        config.write_text("data: {path: go:std}\n")
        args = [x for k, v in sets.items() for x in ("--set", f"{k}={v}")]
        subprocess.run([a.binary, "--config", config, "--run-dir", f"{run}/run", *args], check=True, capture_output=True, text=True)
        records = [json.loads(line) for line in open(f"{run}/run/metrics.jsonl")][a.warmup:]
    ms = [r["step_ms"] for r in records]
    return {"peer": "pretrain", "mode": "", "steps": len(ms), "tokens_per_second": round(tokens * 1e3 / statistics.median(ms), 1),
            "last_loss": records[-1]["loss"]}


def peer(a, script, size, length, precision, *extra):
    d, layers, vocab, tokens = SIZES[size]
    args = [sys.executable, HERE / script, "--precision", precision, "--d-model", d, "--num-layers", layers, "--vocab-size", vocab,
            "-B", tokens // length, "-T", length, "--steps", a.steps, "--warmup", a.warmup, *extra]
    done = subprocess.run([str(x) for x in args], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(a, program, size, length, precision):
    match program:
        case "ours":
            return ours(a, size, length, precision)
        case "jax":
            return peer(a, "peer_jax.py", size, length, precision)
    return peer(a, "../golden/peer_train.py", size, length, precision, "--mode", "eager" if program == "torch eager" else "compile")


def machine(binary):
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    return {"date": datetime.date.today().isoformat(), "commit": commit, "cpu": cpu, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}


def measure(a):
    for size, length, precision in itertools.product(a.sizes, a.lengths, a.precisions):
        for i in range(a.rounds):
            row = {"size": size, "seq_len": length, "precision": precision, **machine(a.binary)}
            k = i % len(PROGRAMS)
            row["programs"] = {name: run(a, name, size, length, precision) for name in PROGRAMS[k:] + PROGRAMS[:k]}
            with open(a.out, "a") as f:
                f.write(json.dumps(row) + "\n")
            print(json.dumps({name: p["tokens_per_second"] for name, p in row["programs"].items()}), file=sys.stderr, flush=True)


def table(path):
    rows = [json.loads(line) for line in open(path)]
    print("| model | T | precision | rounds | " + " | ".join(PROGRAMS) + " | " + " | ".join(f"ours / {p}" for p in PROGRAMS[:-1]) + " |")
    print("|---" * (4 + len(PROGRAMS) * 2 - 1) + "|")
    case = lambda r: (r["size"], r.get("seq_len", 256), r["precision"])
    for size, length, precision in dict.fromkeys(map(case, rows)):
        rounds = [{n: p["tokens_per_second"] for n, p in r["programs"].items()} for r in rows if case(r) == (size, length, precision)]
        speeds = [f"{statistics.median(r[n] for r in rounds):,.0f}" for n in PROGRAMS]
        ratios = [f"{statistics.median(r['ours'] / r[n] for r in rounds):.2f}" for n in PROGRAMS[:-1]]
        print(f"| {size} | {length} | {precision} | {len(rounds)} | " + " | ".join(speeds + ratios) + " |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", default="bin/pretrain")
    p.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    p.add_argument("--lengths", nargs="+", type=int, default=[256], help="tokens of a sequence")
    p.add_argument("--precisions", nargs="+", default=["bf16", "fp32"])
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=8)
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--out", default="peers.jsonl", help="results are added to this file, one JSON object a round")
    p.add_argument("--table", metavar="FILE", help="measure nothing: print the medians of a file of results as Markdown")
    a = p.parse_args()
    if a.table:
        table(a.table)
    else:
        measure(a)


if __name__ == "__main__":
    main()
