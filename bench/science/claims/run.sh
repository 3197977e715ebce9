#!/bin/sh
# What docs/science/claims.md reports: the learning rate over the width, the schedules, and LAMB's large batch, on somebody's text.
#
#   bench/science/claims/run.sh TEXT [OUT]    TEXT: a file or folder of text, JSONL or Parquet; OUT: default runs/science
#
# 60 runs of 4 to 60 seconds each on two quiet cores. Interrupted, the same command goes on; finished runs are not made again.
# schedule.yaml and lamb.yaml have the peaks that schedule-peaks.yaml and lamb-peaks.yaml found on the text of the page: on other
# text look at those reports first.
set -eu
text=$1 out=${2:-runs/science}
here=$(dirname "$0")
for name in schedule-peaks schedule lr-transfer lamb-peaks lamb; do
	pretrain ablate --config "$here/$name.yaml" --set "data.path=$text" --out "$out/$name"
done
