#!/usr/bin/env bash
# MinHash deduplication beside datatrove's, on the same files, on one core each, one after the other.
#
#   bench/data/dedup.sh DATA [FILE…]
#
# DATA is a folder of JSON Lines files of {"id", "text"}; FILEs are named within it. Needs a Python with requirements.txt (PYTHON).
set -euo pipefail
data=${1:?usage: dedup.sh DATA [FILE…]}; shift
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- en-openstax-cc-by.jsonl.zst en-rust-rfcs.jsonl.zst zh-oi-wiki.jsonl.zst code-go-hugo.jsonl.zst
files=(); for f in "$@"; do files+=("$data/$f"); done
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
(cd "$here/../.." && CGO_ENABLED=0 go build -o "$tmp/dedup" ./bench/data/dedup)
echo "== pretrain"; "$tmp/dedup" speed -out "$tmp/ours" "${files[@]}"
echo "== datatrove"; "${PYTHON:-python3}" "$here/dedup_datatrove.py" "$tmp/theirs" "$tmp/ours" "${files[@]}" 2>"$tmp/log" || { tail -20 "$tmp/log" >&2; exit 1; }
