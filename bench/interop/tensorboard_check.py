"""Serves a run's event files with the real TensorBoard and compares what it shows with the run's metrics.jsonl.

    pip install tensorboard==2.20.0 setuptools==80.9.0
    pretrain --config quickstart --run-dir RUN --set metrics.tensorboard=true …
    python tensorboard_check.py RUN
"""

import json
import math
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

PORT = 16006


def get(path):
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/{path}", timeout=10) as answer:
        return json.load(answer)


def main():
    run = Path(sys.argv[1])
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", run / "tensorboard", "--port", str(PORT), "--host", "127.0.0.1", "--load_fast", "false",
         "--samples_per_plugin", "scalars=100000"],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(120):
            try:
                tags = get("data/plugin/scalars/tags")
                if any(tags.values()):
                    break
            except (urllib.error.URLError, ConnectionError):
                pass
            time.sleep(0.5)
        (name, shown), = tags.items()
        compared = 0
        for tag in sorted(shown):
            key = tag.replace("/", "_") if tag.startswith("val/") else tag.split("/")[-1]
            points = get(f"data/plugin/scalars/scalars?tag={urllib.request.quote(tag, safe='')}&run={urllib.request.quote(name, safe='')}")
            by_step = {step: value for _, step, value in points}
            ours = {r["step"]: r[key] for r in records if isinstance(r.get(key), (int, float))}
            if not ours:
                print(f"{tag}: {len(points)} points, no key of metrics.jsonl")
                continue
            offset = min(by_step) - min(ours)
            assert len(points) == len(ours), f"{tag}: {len(points)} points shown, {len(ours)} in metrics.jsonl"
            for step, value in ours.items():
                assert math.isclose(by_step[step + offset], value, rel_tol=1e-6), f"{tag} at step {step}: {by_step[step + offset]} shown, {value} written"
            compared += len(ours)
            print(f"{tag}: {len(points)} points equal")
        assert compared, "nothing was compared"
    finally:
        server.terminate()
        server.wait()
    print(f"TensorBoard shows {compared} values as they were written")


if __name__ == "__main__":
    main()
