#!/bin/sh
# What documents of a label are worth: a classifier, a preparation that labels one pool of text and makes a source of each label's
# choice, and the ablation label-value over those sources (docs/ablations.md).
#
#   bench/science/labels/run.sh DATA OUT
#
# DATA has the files that prepare.yaml names, and those that teach the labels: textbooks (1) against chat, novels and proposals (0) for
# label.edu, a textbook for lm.bucket. None of these is in the pool. Interrupted, the same command goes on.
set -eu
[ $# -eq 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 out=$2 here=$(dirname "$0") pretrain=${PRETRAIN:-pretrain}
mkdir -p "$out"
if [ ! -s "$out/edu.label" ]; then
	for file in 1:en-openstax-cc-by 1:en-progit2 1:en-rust-book 0:dirty-nltk-webtext 0:en-standardebooks 0:en-ethereum-eips; do
		zstd -dc "$data/${file#*:}.jsonl.zst" | sed "s/^{/{\"label\": ${file%%:*}, /"
	done >"$out/edu.jsonl"
	"$pretrain" data train-classifier --input "$out/edu.jsonl" --out "$out/edu.label"
fi
"$pretrain" data prepare --config "$here/prepare.yaml" --set "output=$out/prepared" --set "labels.classifiers=[{name: edu, model: '$out/edu.label', value: '1'}]" \
	--set "perplexity.reference=['$data/en-openstax-cc-by.jsonl.zst']" --set "sources.ordinary.path=$data" --set "sources.edu.path=$data" \
	--set "sources.not-edu.path=$data" --set "sources.head.path=$data" --set "sources.tail.path=$data"
"$pretrain" ablate --config label-value --set "data.root=$out/prepared/shards" --out "$out/ablation"
