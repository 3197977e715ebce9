#!/usr/bin/env bash
# All measurements of data preparation: run.sh DATA. PYTHON is a Python with requirements.txt; bin/pretrain is built.
set -euo pipefail
data=$(cd "${1:?usage: run.sh DATA}" && pwd)
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
at() { for f in "$@"; do echo "$data/$f.jsonl.zst"; done; }
run() { CGO_ENABLED=0 go run "$@"; }

echo "# Deduplication beside datatrove"
bench/data/dedup.sh "$data"
echo "# Injected near-duplicates"
run ./bench/data/dedup injected $(at en-openstax-cc-by zh-d2l zh-oi-wiki en-rust-rfcs)
echo "# Revisions of books"
run ./bench/data/dedup revisions $(at dirty-gutenberg-revisions en-gutenberg-books)
echo "# Characters of tinyshakespeare"
run ./bench/data/lm $(at en-tinyshakespeare)
echo "# Classifier beside fastText"
"$python" bench/data/classifier.py bin/pretrain $(at dirty-toxic-en dirty-toxic-zh-cold dirty-zh-reviews)
