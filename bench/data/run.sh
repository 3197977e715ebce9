#!/usr/bin/env bash
# Measurements of data preparation: run.sh DATA [PART…], all of them where no PART is named. PYTHON is a Python with requirements.txt;
# bin/pretrain is built.
set -euo pipefail
data=$(cd "${1:?usage: run.sh DATA [PART…]}" && pwd); shift
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || set -- chain compare rules injected revisions html megatron lm classifier memory
python=${PYTHON:-python3}
temp=$(mktemp -d); trap 'rm -rf "$temp"' EXIT
at() { for f in "$@"; do echo "$data/$f.jsonl.zst"; done; }
run() { CGO_ENABLED=0 go run "$@"; }

for part in "$@"; do
	echo; echo "# $part"; echo
	case $part in
	chain) # the whole chain, step by step, on one core
		GOMAXPROCS=1 RAYON_NUM_THREADS=1 go run ./bench/data/chain -data "$data" ;;
	compare) # rules and deduplication, in turn with datatrove
		"$python" bench/data/compare.py --data "$data" ;;
	rules) # verdicts beside datatrove's
		"$python" bench/data/datatrove_rules.py --data "$data" --out "$temp/verdicts"
		run ./bench/data/rules "$temp/verdicts" ;;
	injected) # near-duplicates among documents
		run ./bench/data/dedup injected $(at en-openstax-cc-by zh-d2l zh-oi-wiki en-rust-rfcs) ;;
	revisions) # of books
		run ./bench/data/dedup revisions $(at dirty-gutenberg-revisions en-gutenberg-books) ;;
	html) # main texts of web pages, beside trafilatura's
		run ./bench/data/html $(at dirty-readability-html) >"$temp/html"
		"$python" bench/data/html_trafilatura.py $(at dirty-readability-html) "$temp/html" ;;
	megatron) # shards of both widths, read by Megatron's own code
		bench/data/megatron.sh bin/pretrain "$temp" $(at en-openstax-cc-by) ;;
	lm) # characters of tinyshakespeare
		run ./bench/data/lm $(at en-tinyshakespeare) ;;
	classifier) # beside fastText
		"$python" bench/data/classifier.py bin/pretrain $(at dirty-toxic-en dirty-toxic-zh-cold dirty-zh-reviews) ;;
	memory) # of inputs of 1, 3 and 10 GB
		for n in 13 39 129; do go run ./bench/data/chain -data "$data" -repeat $n -program bin/pretrain; done ;;
	*) echo "run.sh: no measurement $part" >&2; exit 2 ;;
	esac
done
