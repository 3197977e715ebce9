#!/bin/sh
# Chinchilla's points as Epoch AI read them off the figure (data/svg_extracted_data.csv of Besiroglu et al., 2404.10102), fitted as
# they do: without the five of the highest loss, and with them. The wanted values are in docs/science/scaling.md.
#
#   bench/science/epoch.sh CSV [BOOTSTRAP]
set -eu
[ $# -ge 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
for options in "--drop-highest 5 --compute 5.76e23" "" "--drop-highest 5 --method least-squares" "--drop-highest 5 --form kaplan" "--drop-highest 5 --form isoflop"; do
	echo "== $options"
	# shellcheck disable=SC2086 # options are words
	"${PRETRAIN:-pretrain}" scaling fit --csv "$1" --n-col "Model Size" --c-col "Training FLOP" --bootstrap "${2:-4000}" $options
done
