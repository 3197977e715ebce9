"""The critical batch size at a checkpoint, by branching ("Critical batch size revisited", 2505.23971).

    python3 bench/science/critical_batch.py --pretrain bin/pretrain --from runs/trunk@1000 --out runs/cbs --window 400ktok

Branches the checkpoint with 1, 2, 4, … times its batch and √ of that times its learning rate, trains each for the same tokens, at a
constant rate or with a decay at the end, and compares the loss on held-out text: the critical batch is the largest
whose loss is within a tolerance of the smallest batch's. At a constant rate the loss has the noise of the updates in it, of which a
larger batch has less; with --decay what is compared has little of it. One seed: differences of the size of the noise between seeds
say nothing. Run again, it goes on where it stopped.
"""

import argparse
import json
import math
import pathlib
import re
import subprocess
import sys

UNITS = {"": 1, "k": 1e3, "M": 1e6, "B": 1e9}


def tokens(text):
    m = re.fullmatch(r"([0-9.]+)([kMB]?)tok", text)
    if not m:
        raise SystemExit(f"{text}: want tokens, such as 400ktok")
    return int(float(m[1]) * UNITS[m[2]])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--pretrain", required=True)
    p.add_argument("--from", dest="trunk", required=True, help="RUN@STEP, in the stable phase")
    p.add_argument("--out", required=True, type=pathlib.Path)
    p.add_argument("--window", required=True, type=tokens, help="to train each branch for, such as 400ktok")
    p.add_argument("--decay", default="0%", help="how much of the window is a decay, such as 50%%")
    p.add_argument("--factors", default="1,2,4,8", help="of the trunk's batch")
    p.add_argument("--tolerance", type=float, default=0.01, help="of the loss, in nats per token")
    args = p.parse_args()

    run, step = args.trunk.rsplit("@", 1)
    config = json.loads(subprocess.run([args.pretrain, "config", "show", "--config", f"{run}/config.yaml", "--json"], check=True, capture_output=True, text=True).stdout)
    config = config.get("config", config)
    batch, lr = tokens(config["batch"]["tokens"]), float(config["schedule"]["peak_lr"])
    start = next(r for r in map(json.loads, open(f"{run}/metrics.jsonl")) if r["step"] == int(step) - 1)["tokens"]
    decay = int(float(args.decay.rstrip("%")) / 100 * args.window)
    rows = []
    for k in map(int, args.factors.split(",")):
        out = args.out / f"x{k}"
        end = start + args.window
        end += -end % (batch * k)  # whole batches
        steps = round(decay / batch / k)
        subprocess.run([
            args.pretrain, "branch", "--from", args.trunk, "--run-dir", str(out), "--set", f"batch.tokens={batch * k}tok",
            "--set", f"schedule.peak_lr={lr * math.sqrt(k):.6g}", "--set", "schedule.kind=wsd", "--set", f"schedule.decay.length={steps} steps",
            "--set", f"train.tokens={end}tok", "--set", "sample.tokens=0", "--set", "checkpoint.at=[]",
        ], check=True, stdout=sys.stderr)
        loss = json.loads((out / "result.json").read_text())["val_loss"]
        rows.append({"factor": k, "batch_tokens": batch * k, "lr": lr * math.sqrt(k), "val_loss": loss})
    critical = max(r["batch_tokens"] for r in rows if r["val_loss"] <= rows[0]["val_loss"] + args.tolerance)
    print("| batch (tokens) | learning rate | loss after the window | above the smallest |\n|---:|---:|---:|---:|")
    for r in rows:
        print(f"| {r['batch_tokens']} | {r['lr']:.4g} | {r['val_loss']:.4f} | {r['val_loss'] - rows[0]['val_loss']:+.4f} |")
    bound = " or more" if critical == rows[-1]["batch_tokens"] else ""
    print(f"\ncritical batch after step {step}: {critical} tokens{bound}, at a tolerance of {args.tolerance} nats")
    (args.out / "critical_batch.json").write_text(json.dumps({"from": args.trunk, "critical_tokens": critical, "tolerance": args.tolerance, "rows": rows}, indent=1) + "\n")


main()
