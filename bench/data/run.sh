#!/usr/bin/env bash
# All measurements of data preparation: run.sh DATA. PYTHON is a Python with requirements.txt; bin/pretrain is built.
set -euo pipefail
data=$(cd "${1:?usage: run.sh DATA}" && pwd)
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
at() { for f in "$@"; do echo "$data/$f.jsonl.zst"; done; }
run() { CGO_ENABLED=0 go run "$@"; }

echo "# The whole chain, step by step, on one core"
GOMAXPROCS=1 RAYON_NUM_THREADS=1 go run ./bench/data/chain -data "$data"
echo "# The rules and the masking of private data beside datatrove"
GOMAXPROCS=1 run ./bench/data/rules speed $(at en-openstax-cc-by)
"$python" bench/data/datatrove_chain.py --data "$data"
echo "# The verdicts of the rules beside datatrove's"
verdicts=$(mktemp); trap 'rm -f "$verdicts"' EXIT
"$python" bench/data/datatrove_rules.py --data "$data" --out "$verdicts"
run ./bench/data/rules "$verdicts"
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
