"""Tokens/s of our training step beside JAX's and PyTorch's, in turn on one machine: JSON lines, then a table.

    python bench/peers/compare.py --binary bin/pretrain --sizes quickstart 9m --rounds 2 --out peers.json

Each round runs every program once for each size and precision, so that whatever else the machine does meets all of them;
what counts is the ratio within a round. The peers get random tokens, ours the Go standard library's text through its own
feed, with everything that training does but evaluation and checkpoints; all take the median step after warm-up.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SIZES = {  # name: d_model, layers, vocabulary, sequences of 256
    "quickstart": (192, 4, 4096, 16),
    "9m": (320, 8, 8192, 16),
    "30m": (512, 12, 8192, 8),
}
T = 256


def ours(a, size, precision):
    d, layers, vocab, sequences = SIZES[size]
    with tempfile.TemporaryDirectory() as run:
        total = a.warmup + a.steps
        sets = {
            "model": f"{{d_model: {d}, num_layers: {layers}, head_dim: 64, max_seq_len: {T}}}", "tokenizer.vocab_size": vocab,
            "batch.tokens": f"{sequences * T}tok", "train.tokens": f"{total * sequences * T}tok", "train.precision": precision,
            "optimizer": "{kind: adamw}", "schedule.peak_lr": 0.01, "schedule.warmup": "1 steps", "eval": "{every: never, at_end: false, tokens: 1ktok}",
            "checkpoint": "{every: never}", "sample.tokens": "0tok", "name": "peer",
        }
        config = pathlib.Path(run, "peer.yaml")
        config.write_text("data: {path: go:std}\n")
        args = [x for k, v in sets.items() for x in ("--set", f"{k}={v}")]
        subprocess.run([a.binary, "--config", config, "--run-dir", f"{run}/run", *args], check=True, capture_output=True, text=True)
        records = [json.loads(line) for line in open(f"{run}/run/metrics.jsonl")][a.warmup:]
    ms = [r["step_ms"] for r in records]
    return {"peer": "pretrain", "mode": "", "precision": precision, "steps": len(ms),
            "tokens_per_second": round(sequences * T * 1e3 / statistics.median(ms), 1), "last_loss": records[-1]["loss"]}


def peer(a, script, size, precision, *extra):
    d, layers, vocab, sequences = SIZES[size]
    args = [sys.executable, HERE / script, "--precision", precision, "--d-model", d, "--num-layers", layers, "--vocab-size", vocab,
            "-B", sequences, "-T", T, "--steps", a.steps, "--warmup", a.warmup, *extra]
    done = subprocess.run([str(x) for x in args], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def machine(binary):
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    return {"date": datetime.date.today().isoformat(), "commit": commit, "cpu": cpu, "cores": os.cpu_count(), "load": os.getloadavg()[0]}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", default="bin/pretrain")
    p.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    p.add_argument("--precisions", nargs="+", default=["bf16", "fp32"])
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--steps", type=int, default=8)
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--out", default="peers.json")
    a = p.parse_args()
    torch = "../golden/peer_train.py"
    programs = {
        "torch eager": lambda *x: peer(a, torch, *x, "--mode", "eager"),
        "torch.compile": lambda *x: peer(a, torch, *x, "--mode", "compile"),
        "jax": lambda *x: peer(a, "peer_jax.py", *x),
        "ours": lambda *x: ours(a, *x),
    }
    for size in a.sizes:
        for precision in a.precisions:
            for round in range(a.rounds):
                row = {"size": size, "round": round, **machine(a.binary)}
                order = list(programs)[round % 4:] + list(programs)[:round % 4]
                for name in order:
                    row[name] = programs[name](size, precision)
                row["precision"] = precision
                with open(a.out, "a") as f:
                    f.write(json.dumps(row) + "\n")
                speed = {name: row[name]["tokens_per_second"] for name in programs}
                ratios = {name: round_(speed["ours"] / s) for name, s in speed.items() if name != "ours"}
                print(f"| {size} | {precision} | " + " | ".join(f"{speed[n]:,.0f}" for n in programs) + " | " + " | ".join(str(r) for r in ratios.values()) + " |", flush=True)


def round_(x):
    return float(f"{x:.2f}")


if __name__ == "__main__":
    main()
