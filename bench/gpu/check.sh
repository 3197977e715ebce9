#!/bin/sh
# Runs the GPU benchmark as it would be on the machine with the GPU: from the archive, in an empty home folder, with nothing of
# the environment; but with tiny models, on the CPU.
#
#   PYTHON=/path/to/python check.sh ARCHIVE      a Python with JAX and PyTorch
set -e
archive=$(realpath "$1") python=${PYTHON:-python3}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/home"
tar xzf "$archive" -C "$dir"
here=$(git -C "$(dirname "$0")" describe --always --dirty)
grep -q "\"$here\"" "$dir/gpu-bench/bundle.json" || echo "the archive is of another commit than $here: make gpu-bench packs it anew" >&2
plugin=$("$dir/gpu-bench/pretrain" doctor --backend cpu --json | "$python" -c 'import json, sys; print(json.load(sys.stdin)["backend"]["plugin"])')
env -i PATH="$PATH" HOME="$dir/home" PYTHON="$python" BACKEND="xla:$plugin" SMOKE=1 MINUTES=30 OUT="$dir/results" "$dir/gpu-bench/run.sh"
"$python" - "$dir/results/results.json" "$dir/gpu-bench" <<'END'
import json, sys
sys.path.insert(0, sys.argv[2])
import bench, shapes
parts = json.load(open(sys.argv[1]))["parts"]
assert list(parts) == [name for name, _ in bench.PARTS], list(parts)
for name, part in parts.items():
    kind, size = name.split("/")
    if kind in ("doctor", "exact"):
        assert part["note"] and "error" not in part, (name, part)
        continue
    assert part["timed_steps"] >= 1 and "error" not in part and "cut_short" not in part, (name, part)
    if kind not in ("jax", "torch"):
        # On the CPU no product is of cuBLAS, but all that XLA left as such are of bfloat16.
        assert list(part["dots"]) == ["bf16 x bf16 -> f32"], (name, part)
    if kind != "resume":
        # ln V + (25.6/√d)²/2 at the beginning (docs/model.md), whoever the program is; batches are small.
        assert abs(part["first_loss"] - 15.5) < 1 and part["last_loss"] < part["first_loss"] + 1, (name, part)
train, resume = parts["train/2.4b"], parts["resume/2.4b"]
assert train["last_loss"] < train["first_loss"] - 3 and train["ended"], train
assert resume["resumed_at_step"] == 16 and len(resume["losses"]) == 4 and resume["first_loss"] < train["first_loss"] - 3, resume
print("every part ran")
END
