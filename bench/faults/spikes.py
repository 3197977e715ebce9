#!/usr/bin/env python3
"""Trains a small model on made-up sentences, clean and with poison, under each policy of `spikes`, and prints a table.

    bench/faults/spikes.py --pretrain bin/pretrain --dir DIR [--seeds 3] [--steps 1000] [--set key=value ...]

Poison is random letters that the tokenizer knows as bytes only, a dozen of them repeated some twenty times: one sequence in a
hundred, so that one step in 25 has one among its four. The figure is the mean training loss of the last eighth of the steps,
those with poison in them left out (the source's epoch in metrics.jsonl says which), so that all runs are measured on the
same kind of text. Runs that are there already are not made again.
"""
import argparse
import json
import pathlib
import random
import statistics
import subprocess

CONFIG = """
name: spikes
model: {{d_model: 64, head_dim: 32, num_layers: 2, max_seq_len: 64, init_std: 0.03}}
tokenizer: {{{tokenizer}}}
data:
  max_epochs: 1000
  sources: {{text: {{path: text}}{source}}}
  stages: [{{until: 100%, mix: {{text: {text}{mix}}}}}]
batch: {{tokens: 256tok}}
schedule: {{peak_lr: 0.01, warmup: 40 steps, decay: {{length: 20%}}}}
train: {{tokens: {tokens}tok}}
eval: {{every: never, at_end: false, tokens: 2ktok}}
checkpoint: {{every: 50 steps}}
sample: {{tokens: 0tok}}
spikes: {{policy: {policy}, skip_before: 4, skip_after: 4, budget: 32}}
"""


def write(path, texts):
    path.mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(texts):
        (path / f"{i:03}.txt").write_text(text)


def sentences(r):
    for _ in range(150):
        number = r.randrange(1000)
        yield (f"the {r.choice(['quick', 'lazy', 'small', 'old'])} {r.choice(['fox', 'dog', 'crow', 'whale'])} "
               f"{r.choice(['sees', 'likes', 'follows'])} {r.choice(['some', 'about', 'at least'])} {number} "
               f"{r.choice(['trees', 'rivers', 'friends'])}, and {number + 1} more.\n")


def corpora(path):
    r = random.Random(3)
    write(path / "text", ("".join(sentences(r)) for _ in range(200)))
    words = ("".join(chr(r.randrange(0x4E00, 0x9E00)) for _ in range(12)) * 20 for _ in range(300))
    write(path / "poison", ["".join(words)])


def train(args, name, policy, poisoned, seed):
    run = args.dir / f"{name}-{seed}"
    config = args.dir / f"{name}.yaml"
    config.write_text(CONFIG.format(
        policy=policy, tokens=256 * args.steps, text=0.99 if poisoned else 1,
        tokenizer="path: clean-1/tokenizer.json" if (args.dir / "clean-1/tokenizer.json").exists() else "vocab_size: 512",
        source=", poison: {path: poison}" if poisoned else "", mix=", poison: 0.01" if poisoned else ""))
    if not (run / "result.json").exists():
        command = [args.pretrain, "--config", config, "--run-dir", run, "--set", f"seed={seed}"]
        for s in args.set:
            command += ["--set", s]
        log = subprocess.run(command, capture_output=True, text=True)
        if log.returncode:
            return None, log.stderr.strip().splitlines()[-1]
    records = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    clean, bad, before = [], 0, 0
    for r in records:
        has = r["epoch"].get("poison", 0) > before
        before = r["epoch"].get("poison", 0)
        bad += has
        if not has and r["step"] >= args.steps * 7 // 8 and r["loss"] is not None:
            clean.append(r["loss"])
    last = records[-1]
    return (statistics.mean(clean) if clean else float("nan"), bad, last["spikes"], last["skipped"]), None


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pretrain", default="bin/pretrain", type=pathlib.Path)
    p.add_argument("--dir", required=True, type=pathlib.Path)
    p.add_argument("--seeds", default=3, type=int)
    p.add_argument("--steps", default=1000, type=int)
    p.add_argument("--set", action="append", default=[])
    args = p.parse_args()
    args.dir.mkdir(parents=True, exist_ok=True)
    args.pretrain = args.pretrain.resolve()
    corpora(args.dir)
    print("| run | loss at the end, by seed | mean | steps with poison | spikes | updates left out |")
    print("|---|---|---|---|---|---|")
    for name, policy, poisoned in [
        ("clean", "off", False), ("clean-skip", "skip", False),
        ("off", "off", True), ("skip", "skip", True), ("rollback", "rollback", True),
    ]:
        results = []
        for seed in range(1, args.seeds + 1):
            r, error = train(args, name, policy, poisoned, seed)
            if error:
                print(f"| {name} | seed {seed}: {error} | | | | |")
            else:
                results.append(r)
        if results:
            losses, bad, spikes, skipped = zip(*results)
            show = lambda values: ", ".join(str(v) for v in values)
            print(f"| {name} | {', '.join(f'{l:.3f}' for l in losses)} | {statistics.mean(losses):.3f} | {show(bad)} | {show(spikes)} | {show(skipped)} |", flush=True)


if __name__ == "__main__":
    main()
