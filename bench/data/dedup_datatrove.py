"""Deduplicates JSON Lines files with datatrove's MinHash in its default setting (5-grams, 14 buckets of 8), on one core, and says how much
processor time each step took: `python dedup_datatrove.py OUT FILE...`. See dedup.sh."""

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
    out, files = sys.argv[1], sys.argv[2:]
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
    text = documents = 0
    for document in reader.run():
        text += len(document.text.encode())
        documents += 1
    total = 0
    for name, (pipeline, tasks) in steps.items():
        before, wall = processor(), time.time()
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{out}/log-{name}", skip_completed=False).run()
        spent = processor() - before
        total += spent
        print(f"{name}: {spent:.2f} s of processor, {time.time() - wall:.2f} s of wall clock", flush=True)
        if name == "sign":
            print(f"sign: {text / 1e6 / spent:.2f} MB/s of processor")
    kept = sum(1 for name in os.listdir(out + "/kept") for _ in open(f"{out}/kept/{name}"))
    print(f"end to end: {text / 1e6:.1f} MB of text, {total:.2f} s of processor, {text / 1e6 / total:.2f} MB/s of processor")
    print(json.dumps({"documents": documents, "dropped": documents - kept, "mb_per_s": text / 1e6 / total}))


main()
