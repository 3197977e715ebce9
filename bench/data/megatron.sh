#!/usr/bin/env bash
# Shards of 16 and 32 bits from the same documents, read by Megatron's own code: megatron.sh PROGRAM TEMP FILE. PYTHON is a Python
# with megatron-core and torch; without them only numpy reads.
set -euo pipefail
program=$1 temp=$2 file=$3
here=$(dirname "$0")
python=${PYTHON:-python3}
own=(); ! "$python" -c 'import megatron.core, torch' 2>/dev/null || own=(--megatron)
prepare() { "$program" data prepare --config "$temp/prepare.yaml" --set output="$temp/$1" "${@:2}" >"$temp/log" 2>&1 || { cat "$temp/log" >&2; exit 1; }; }
echo "sources: {text: {path: '$file'}}" >"$temp/prepare.yaml"
prepare narrow --set tokenizer.vocab_size=8192
# The same tokenizer with tokens that no text has, so that the ids need 32 bits and are the same.
"$python" - "$temp/narrow/tokenizer/all/tokenizer.json" "$temp/wide.json" <<'PYTHON'
import json, sys
t = json.load(open(sys.argv[1], encoding="utf-8"))
for i in range(len(t["model"]["vocab"]), 70_000):
    t["model"]["vocab"][f"<unused {i}>"] = i
json.dump(t, open(sys.argv[2], "w", encoding="utf-8"), ensure_ascii=False)
PYTHON
prepare wide --set tokenizer.path="$temp/wide.json"
"$python" "$here/read_shard.py" "${own[@]}" "$temp"/{narrow,wide}/shards/text/{train,validation} 2>"$temp/log" || { tail -3 "$temp/log" >&2; exit 1; }
"$python" - "$temp/narrow/shards/text/train.bin" "$temp/wide/shards/text/train.bin" <<'PYTHON'
import numpy as np, sys
assert np.array_equal(np.fromfile(sys.argv[1], "<u2"), np.fromfile(sys.argv[2], "<i4")), "the ids differ"
print("the tokens of both widths are the same")
PYTHON
