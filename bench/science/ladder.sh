#!/bin/sh
# The ladder of docs/science/scaling.md: five sizes, each a trunk with decays that end at the same numbers of tokens; the law is
# fitted to the four smaller ones and predicts the largest. Stopped, the same command goes on.
#
#   bench/science/ladder.sh DATA OUT [WIDTH:LAYERS:MTOK,MTOK…]…
#
# DATA is text that no run sees twice (here 28 MB of English books), OUT the folder of the runs. Sizes and
# lengths, in millions of tokens, may be given instead of those below.
set -eu
[ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 out=$2 here=$(dirname "$0") all=0.5,1,2,4
shift 2
[ $# -gt 0 ] || set -- 64:2:$all 96:3:$all 128:4:$all 192:4:$all 288:5:0.5,1,2,2.75
for size in "$@"; do
	IFS=: read -r width layers lengths <<-END
	$size
	END
	# The decay is the last fifth of each length. N as MiniCPM counts it, without the embedding.
	at=$(echo "$lengths" | awk -F, -v d="$width" -v l="$layers" '{
		n = l * (11.5 * d * d + 2 * d) + d
		for (i = 1; i <= NF; i++) printf "%s%.6g", (i > 1 ? ", " : ""), 0.8e6 * $i / n
	}')
	"${PRETRAIN:-pretrain}" branch --plan "$here/ladder.yaml" --run-dir "$out/d$width-l$layers" --set "data.path=$data" \
		--set "model.d_model=$width" --set "model.num_layers=$layers" --set "at=[$at]"
done
"${PRETRAIN:-pretrain}" scaling fit --runs "$out" --holdout largest --svg "$out/fit.svg"
