#!/usr/bin/env bash
# lm_eval on an hf-llama export: that it runs, on a task of its own that needs no download.
#   bash lm_eval_check.sh EXPORT
set -euo pipefail
export=$(realpath "$1")
python=${PYTHON:-python}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for i in 1 2 3 4 5 6 7 8; do
	echo '{"question": "package main\n\nimport \"fmt\"\n\nfunc main() {\n\tfmt.", "choices": ["Println(", "zebra zebra"], "gold": 0}'
done >"$dir/items.jsonl"
cat >"$dir/tiny.yaml" <<YAML
task: tiny
dataset_path: json
dataset_kwargs: {data_files: {test: $dir/items.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{gold}}"
target_delimiter: ""
metric_list: [{metric: acc}]
YAML
HF_HUB_OFFLINE=1 HF_DATASETS_CACHE="$dir/cache" "$python" -m lm_eval --model hf --model_args "pretrained=$export,dtype=float32" \
	--tasks tiny --include_path "$dir" --device cpu --batch_size 4
