#!/bin/sh
# Kills one run 100 times at random and aimed moments and compares it with one that was left alone, bit for bit. Some minutes.
#
#   bench/faults/kills.sh [PRETRAIN [KILLS]]
set -eu
pretrain=$(realpath "${1:-bin/pretrain}")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir text
i=0
while [ $i -lt 40 ]; do
	seq -f "the fox sees %g trees, and the crow likes $i rivers." $((i * 100)) $((i * 100 + 80)) >text/$i.txt
	i=$((i + 1))
done
cat >kills.yaml <<'EOF'
model: {d_model: 32, head_dim: 16, num_layers: 2, max_seq_len: 32}
tokenizer: {vocab_size: 300}
data: {path: text, max_epochs: 1000}
batch: {tokens: 128tok}
schedule: {peak_lr: 0.01, warmup: 10 steps}
train: {tokens: 64ktok, precision: fp32}
eval: {every: 20 steps, tokens: 1ktok}
checkpoint: {every: 7 steps}
sample: {tokens: 0tok}
EOF
PRETRAIN_CACHE="$dir/cache" "$pretrain" verify-resume --config kills.yaml --kills "${2:-100}" --dir runs --json
