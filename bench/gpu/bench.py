"""Runs the parts of the GPU benchmark, most worth first, each under a limit and all under one; see run.sh.

Every part is a process of its own that says what each step took: ours by its metrics.jsonl, the peers by JSON lines. Their first step
is compilation, the next --warmup are not timed, the median of the rest is the figure. results.json and table.md are written
after every part, so that a run that is cut short leaves what it has.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

import hlo
import report
import shapes

HERE = pathlib.Path(__file__).resolve().parent
BINARY = str(HERE / "pretrain")
WARMUP = 3  # steps after the first that are not timed
STEPS = 12  # timed

# In the order of their worth: a device may be there for some minutes only. A part's seconds are what it may take at most.
PARTS = [
    ("doctor/0.1b", 60), ("ours/1.2b", 150), ("train/2.4b", 240), ("jax/1.2b", 90), ("torch/1.2b", 120), ("ours/0.5b", 100), ("ours/0.1b", 80),
    ("deterministic/1.2b", 110), ("exact/0.1b", 150), ("resume/2.4b", 150),
    ("jax/0.5b", 80), ("torch/0.5b", 90), ("jax/2.4b", 100), ("torch/2.4b", 120), ("jax/0.1b", 60), ("torch/0.1b", 80),
    ("memory/0.5b", 80), ("documents/0.5b", 100), ("remat-layer/0.5b", 80), ("decomposed/0.5b", 90), ("decomposed-attention/0.5b", 90),
]
LEAST = 30  # seconds: a part is not begun with fewer left


class GPU:
    """The device as nvidia-smi has it; a CPU has none."""

    def __init__(self):
        line = self.ask("name,memory.total,driver_version").split(", ")
        self.name, self.memory_gb, self.driver = (line[0], float(line[1]) * 2**20 / 1e9, line[2]) if len(line) == 3 else ("", 80.0, "")

    def ask(self, what):
        try:
            return subprocess.run(["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=10).stdout.split("\n")[0]
        except (OSError, subprocess.TimeoutExpired):
            return ""

    def used(self):
        value = self.ask("memory.used")
        return int(value) * 2**20 if value.isdigit() else 0


class Peak:
    """The most memory that was in use on the device at once, looked at four times a second."""

    def __init__(self, gpu):
        self.gpu, self.before, self.bytes, self.stop = gpu, gpu.used() if gpu else 0, 0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self):
        while self.gpu and not self.stop.wait(0.25):
            self.bytes = max(self.bytes, self.gpu.used() - self.before)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def json_lines(path):
    """The whole lines of a file that is being written."""
    if not path.exists():
        return []
    text = path.read_text(errors="replace")
    return [json.loads(l) for l in text[: text.rfind("\n") + 1].splitlines() if l.startswith("{")]


class Bench:
    def __init__(self, a):
        self.a, self.gpu = a, GPU()
        self.out = pathlib.Path(a.out).resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.work = HERE / "work"  # not among the results: checkpoints of 33 GB
        self.deadline = time.monotonic() + 60 * a.minutes
        self.shapes = shapes.SMOKE if a.smoke else shapes.SHAPES
        self.steps, self.warmup = (3, 1) if a.smoke else (STEPS, WARMUP)
        self.results = {"machine": self.machine(), "parts": {}}
        if a.done:
            self.results["parts"] = {k: v for k, v in json.load(open(a.done))["parts"].items() if "error" not in v}

    def machine(self):
        bundle = json.load(open(HERE / "bundle.json"))
        return {
            "date": datetime.date.today().isoformat(), "commit": bundle["commit"], "gpu": self.gpu.name, "driver": self.gpu.driver,
            "memory_gb": round(self.gpu.memory_gb, 1), "cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(),
            "python": platform.python_version(), "backend": self.a.backend,
        }

    def save(self):
        for name, text in (("results.json", json.dumps(self.results, indent=1)), ("table.md", report.table(self.results, self.shapes))):
            new = self.out / (name + ".new")
            new.write_text(text + "\n")
            new.rename(self.out / name)

    def run(self):
        self.save()
        for name, limit in PARTS:
            left, limit = self.deadline - time.monotonic(), limit * (4 if self.a.smoke else 1)  # a CPU that others use as well
            if name in self.results["parts"] or self.a.parts and name not in self.a.parts:
                continue
            if left < LEAST:
                self.results["parts"][name] = {"error": "not begun: no time left"}
                continue
            kind, size = name.split("/")
            print(f"{name}: at most {min(limit, left):.0f} s", flush=True)
            began = time.monotonic()
            try:
                part = self.part(kind, size, min(limit, left))
            except Exception as e:  # one part's failure must not take the others with it
                part = {"error": f"{type(e).__name__}: {e}"}
            part["wall_seconds"] = round(time.monotonic() - began, 1)
            if "error" in part:
                self.keep_log(name)
            self.results["parts"][name] = part
            self.save()
            print("   ", json.dumps({k: v for k, v in part.items() if k not in ("losses", "step_seconds")}), flush=True)
        self.save()
        print(report.table(self.results, self.shapes))

    def keep_log(self, name):
        """Adds the end of the last program's output to errors.txt: what is in the table is cut."""
        log = max(self.work.glob("*/log"), key=lambda p: p.stat().st_mtime, default=None)
        if log:
            with open(self.out / "errors.txt", "a") as f:
                f.write(f"===== {name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-200:])[-50000:] + "\n")

    def part(self, kind, size, limit):
        sequences, remat = shapes.batch(size, self.gpu.memory_gb)
        sequences = 2 if self.a.smoke else sequences
        if kind in ("jax", "torch"):
            return self.peer(kind, size, sequences, remat, limit)
        if kind == "doctor":
            return self.doctor(limit)
        if kind == "exact":
            return self.exact(limit)
        if kind == "deterministic":
            return self.ours(size, sequences, remat, limit, options="deterministic")
        if kind == "documents":
            return self.ours(size, sequences, "layer", limit, ["model.document_mask=true"])
        if kind == "memory":
            return self.ours(size, sequences, remat, limit, options="allocator=cuda_async", watch=True)
        if kind in ("decomposed", "decomposed-attention"):  # cuDNN's attention keeps nothing that remat: attention could save
            return self.ours(size, sequences, "attention" if kind.endswith("attention") else "layer", limit, ["train.attention=decomposed"])
        if kind == "remat-layer":
            return self.ours(size, sequences, "layer", limit)
        if kind in ("train", "resume"):
            return self.train(size, sequences, remat, limit, kind == "resume")
        return self.ours(size, sequences, remat, limit)

    def sets(self, s, sequences, remat, steps):
        tokens = sequences * s.seq_len
        values = {
            "name": "gpu-bench", "batch.tokens": f"{tokens}tok", "batch.micro_batch": sequences, "train.tokens": f"{steps * tokens}tok", "train.remat": remat,
            "model.d_model": s.d_model, "model.d_ff": s.d_ff, "model.num_layers": s.num_layers, "model.num_heads": s.num_heads,
            "model.num_kv_heads": s.num_kv_heads, "model.head_dim": s.head_dim, "model.vocab_size": s.vocab_size, "model.max_seq_len": s.seq_len,
        }
        return [f"{k}={v}" for k, v in values.items()]

    def doctor(self, limit):
        """Does the backend open, compute, and run the attention kernel with the right numbers?"""
        run = self.fresh()
        self.process([BINARY, "doctor", "--json", "--backend", self.a.backend], self.environment(run), run / "log", limit, lambda: False)
        report = json_lines(run / "log")[-1]
        problems = [f"{p['what']}: {p['mend']}" for p in report["problems"] or [] if not p["optional"]]
        if problems:
            return {"error": " / ".join(problems), "report": report}
        return {"note": f"opens in {report['open_seconds']:.1f} s, computes as it should", "report": report}

    def exact(self, limit):
        """A small model, killed and resumed: does it end in the same bits as one that was not?"""
        run, s = self.fresh(), self.shapes["0.1b"] if self.a.smoke else shapes.SMALL
        steps = 24
        sets = self.sets(s, 8, "none", steps) + ["checkpoint.every=8 steps", "checkpoint.keep=2"]
        args = [BINARY, "verify-resume", "--short", "--json", "--dir", str(run / "runs"), "--backend", self.backend("deterministic,preallocate=false"), "--config", str(HERE / "base.yaml")]
        part = self.process(args + [x for v in sets for x in ("--set", v)], self.environment(run), run / "log", limit, lambda: False)
        found = json_lines(run / "log")
        if not found:
            return {**part, "error": "not ended: " + part.get("cut_short", "see errors.txt")}
        difference = found[-1]["difference"]
        return {**part, "error": f"resumed, it differs: {difference}"} if difference else {**part, "note": f"{steps} steps, killed 5 times: the same bits"}

    def ours(self, size, sequences, remat, limit, more=(), options=None, watch=False):
        """A run of the program, ended as soon as it has made its steps: what comes after the last is not measured."""
        run = self.fresh()
        steps = 1 + self.warmup + self.steps
        args = ["--config", str(HERE / "base.yaml")] + [x for s in [*self.sets(self.shapes[size], sequences, remat, 1000), *more] for x in ("--set", s)]
        part = self.pretrain(run, args, limit, until=steps, options=options, watch=watch)
        return {"sequences": sequences, "remat": remat, **part}

    def train(self, size, sequences, remat, limit, resume):
        """configs/2b.yaml for 56 steps, saved by its end; and from there, in another process, 4 steps more."""
        run, first = self.work / "2b", 16 if self.a.smoke else 56
        if not resume:
            run = self.fresh("2b")
        elif not (run / "run" / "checkpoints").exists():
            return {"error": "there is no run to resume: train/2.4b did not end"}
        steps = first + 4 if resume else first
        args = ["--config", str(HERE / "2b.yaml")] + [x for s in self.sets(self.shapes[size], sequences, remat, steps) for x in ("--set", s)]
        part = self.pretrain(run, args, limit, skip=first if resume else 0)
        part |= {"sequences": sequences, "remat": remat, "ended": part.pop("exit") == 0, "steps_in_all": steps}
        if resume:
            part["resumed_at_step"] = first
            shutil.rmtree(run)
        return part

    def fresh(self, name="run"):
        run = self.work / name
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
        return run

    def backend(self, options=None):
        # The program takes a GPU's memory beforehand, as JAX does; how much is in use can then not be seen from outside, so one part has an
        # allocator that takes what it needs.
        return f"{self.a.backend},{options}" if options and self.gpu.name else self.a.backend

    def environment(self, run):
        # What XLA found to be fast is kept with the run: a part begins knowing nothing.
        return {"PRETRAIN_CACHE": str(run / "cache")}

    def pretrain(self, run, args, limit, until=None, skip=0, options=None, watch=False):
        dump = run / "hlo"
        shutil.rmtree(dump, ignore_errors=True)
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={dump} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=train_step"
        args = [BINARY, "--backend", self.backend(options), "--run-dir", str(run / "run"), *args]
        metrics = run / "run" / "metrics.jsonl"
        more = lambda: [r for r in json_lines(metrics) if r["step"] >= skip]
        part = self.process(args, self.environment(run) | {"XLA_FLAGS": flags.strip()}, run / "log", limit, lambda: until is not None and len(more()) >= until, watch=watch)
        records = more()
        return {**part, **self.summary([r["step_ms"] / 1e3 for r in records], [r["loss"] for r in records], records[0]["batch_tokens"] if records else 0, run / "log"), **hlo.read(dump)}

    def peer(self, kind, size, sequences, remat, limit):
        """A peer recomputes nothing where ours does not, unless it runs out of memory so."""
        began = time.monotonic()
        part = self.peer_once(kind, size, sequences, remat, limit)
        left = limit - (time.monotonic() - began)
        if remat == "none" and left > LEAST and re.search("out of memory|RESOURCE_EXHAUSTED", part.get("error", ""), re.IGNORECASE):
            part = self.peer_once(kind, size, sequences, "layer", left)
        return part

    def peer_once(self, kind, size, sequences, remat, limit):
        run, s = self.fresh(), self.shapes[size]
        args = [sys.executable, str(HERE / f"peer_{kind}.py"), "--shape", json.dumps(vars(s)), "--batch", sequences, "--remat", "layer" if remat == "layer" else "none",
                "--chunk", 2048, "--steps", 1 + self.warmup + self.steps, "--tokens", str(HERE / "shards" / "train"), "--device", "cuda" if self.gpu.name else "cpu"]
        # A cache of its own: one that another run was killed over can hold halves of libraries.
        env = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92", "TORCHINDUCTOR_CACHE_DIR": str(run / "inductor")}
        part = self.process([str(x) for x in args], env, run / "log", limit, lambda: False)
        lines = json_lines(run / "log")
        steps = [l for l in lines if "seconds" in l]
        about = {k: v for l in lines if "peer" in l for k, v in l.items()}
        return {"sequences": sequences, "remat": remat, **about, **part, **self.summary([l["seconds"] for l in steps], [l["loss"] for l in steps], sequences * s.seq_len, run / "log")}

    def process(self, args, env, log, limit, enough, watch=False):
        """Runs a program until it ends, has done enough or its time is over; watch looks at the device's memory meanwhile."""
        end = time.monotonic() + limit
        with open(log, "w") as f, Peak(self.gpu if watch else None) as peak:
            p = subprocess.Popen(args, cwd=HERE, stdout=f, stderr=subprocess.STDOUT, env={**os.environ, **env}, start_new_session=True)
            while p.poll() is None and time.monotonic() < end and not enough():
                time.sleep(0.1)
            stopped = p.poll() is None
            if stopped:
                os.killpg(p.pid, signal.SIGKILL)
                p.wait()
        part = {"exit": None if stopped else p.returncode, "device_memory_bytes": peak.bytes or None}
        if stopped and time.monotonic() >= end:
            part["cut_short"] = f"after {limit:.0f} s"
        return part

    def summary(self, seconds, losses, tokens, log):
        timed = seconds[1 + self.warmup :]
        if not timed:
            return {"error": "no step was timed: " + " / ".join(log.read_text(errors="replace").strip().splitlines()[-4:])[-1000:]}
        median = statistics.median(timed)
        return {
            "tokens_per_second": round(tokens / median, 1), "step_seconds_median": round(median, 5), "timed_steps": len(timed), "tokens_per_step": tokens,
            # The first step of ours waits for compilation alone; before it are reading the data and drawing the weights.
            "compile_seconds": round(seconds[0] - median, 2), "first_loss": losses[0], "last_loss": losses[-1], "losses": losses, "step_seconds": seconds,
        }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--backend", default=os.environ.get("BACKEND"), help="of our program, as its own --backend (default $BACKEND)")
    p.add_argument("--out", default="results")
    p.add_argument("--minutes", type=float, default=9, help="for everything together")
    p.add_argument("--done", help="results.json of an earlier run, whose parts are not run again")
    p.add_argument("--parts", nargs="+", metavar="PART", choices=[name for name, _ in PARTS], help="only these")
    p.add_argument("--smoke", action="store_true", help="tiny models, to see that everything runs")
    bench = Bench(p.parse_args())
    bench.run()
    failed = [name for name, part in bench.results["parts"].items() if "error" in part]
    if failed:
        sys.exit("failed: " + ", ".join(failed))


if __name__ == "__main__":
    main()
