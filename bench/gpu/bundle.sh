#!/bin/sh
# Builds gpu-bench.tar.gz: everything that measures training on a machine with a GPU and neither network nor compiler. See README.md.
#
#   bundle.sh OUT [DATA]     DATA: a file or folder of text, JSON Lines or Parquet; go:std (default) is the Go installation's source
set -e
out=$1 data=${2:-go:std} here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
mkdir -p "$out"
out=$(cd "$out" && pwd)
stage=$out/gpu-bench
rm -rf "$stage" && mkdir "$stage"

cd "$root"
go build -tags nolingua -ldflags '-s -w' -o "$stage/pretrain" ./cmd/pretrain
cp "$here"/*.py "$here"/run.sh "$here"/*.yaml bench/golden/peer_train.py bench/golden/minicpm.py "$stage"
printf '{"commit": "%s", "data": "%s"}\n' "$(git describe --always --dirty)" "$data" >"$stage/bundle.json"

# A vocabulary of 32,768 keeps tokens in two bytes each; the models' tables are larger. The Go library makes 5 million of them.
cat >"$out/data.yaml" <<END
output: $out/prepared
sources: {text: {path: "$data", domain: code}}
language: {mode: "off"}
tokenizer: {vocab_size: 32768}
END
"$stage/pretrain" data prepare --config "$out/data.yaml"
mkdir "$stage/shards"
cp -r "$out"/prepared/shards/text/. "$stage/shards"
cp "$out/prepared/shards/text/tokenizer.json" "$stage"

cd "$out"
tar -c --owner=0 --group=0 --sort=name gpu-bench | gzip -9 >gpu-bench.tar.gz
size=$(wc -c <gpu-bench.tar.gz)
echo "$out/gpu-bench.tar.gz: $((size / 1000000)) MB"
[ "$size" -lt 67108864 ] || { echo "bundle: more than 64 MB: take less text" >&2; exit 1; }
