"""Deduplicates JSON Lines files with datatrove's MinHash in its default setting (5-grams, 14 buckets of 8), on one core, and says how much
processor time each step took, and how its choice compares with ours in the folder OURS: `python dedup_datatrove.py OUT OURS FILE...`. See
compare.py."""

import json
import os
import resource
import shutil
import sys
import time

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.typeshelper import Languages


def processor():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def main():
    out, ours, files = sys.argv[1], sys.argv[2], sys.argv[3:]
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out + "/in")
    for f in files:
        os.symlink(os.path.abspath(f), f"{out}/in/{os.path.basename(f)}")
    config = MinhashConfig()
    reader = JsonlReader(out + "/in", compression="infer")
    steps = {
        "sign": ([reader, MinhashDedupSignature(output_folder=out + "/signatures", config=config, language=Languages.english)], 1),
        "buckets": ([MinhashDedupBuckets(out + "/signatures", out + "/buckets", config=config)], config.num_buckets),
        "cluster": ([MinhashDedupCluster(out + "/buckets", out + "/remove", config=config)], 1),
        "filter": ([reader, MinhashDedupFilter(out + "/remove"), JsonlWriter(out + "/kept", compression=None)], 1),
    }
    text, documents = 0, set()
    for document in reader.run():
        text += len(document.text.encode())
        documents.add(document.id)
    total = 0
    for name, (pipeline, tasks) in steps.items():
        before, wall = processor(), time.time()
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{out}/log-{name}", skip_completed=False).run()
        spent = processor() - before
        total += spent
        print(f"{name}: {spent:.2f} s of processor, {time.time() - wall:.2f} s of wall clock", flush=True)
        if name == "sign":
            print(f"@ MinHash signatures {text / 1e6 / spent:.4f}")
    print(f"@ MinHash end to end {text / 1e6 / total:.4f}")
    theirs = documents - kept(out + "/kept")
    ours = documents - kept(ours)
    print(f"{len(documents)} documents; dropped by both {len(ours & theirs)}, only by ours {len(ours - theirs)}, only by datatrove {len(theirs - ours)}")


def kept(folder):
    return {json.loads(line)["id"] for name in os.listdir(folder) if name.endswith(".jsonl") for line in open(f"{folder}/{name}")}


main()
