"""Scores the same model with pretrain eval and with EleutherAI's lm-evaluation-harness, and compares them item by item.

    pip install lm_eval==0.4.13 torch==2.15.0 transformers==5.23.0
    python bench/eval/harness.py --pretrain bin/pretrain --checkpoint runs/quickstart --data EVALSETS --limit 500

EVALSETS holds mc-piqa, mc-arc_easy, mc-arc_challenge and cloze-lambada_openai as .jsonl or .jsonl.zst. The model is exported as
hf-llama in fp32; the harness loads it with transformers. The hub is not asked for anything: its tasks are defined here, on local
JSON files, with the harness's own prompts. Both see a document's end before the text, as the model did in training.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

CHOICE = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "</s>{{{{query.strip()}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
CLOZE = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "</s>{{{{context}}}}"
doc_to_target: "{{{{target}}}}"
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""
FILES = {"piqa": "mc-piqa", "arc_easy": "mc-arc_easy", "arc_challenge": "mc-arc_challenge", "lambada_openai": "cloze-lambada_openai"}


def lines(folder, stem):
    path = folder / f"{stem}.jsonl"
    if path.exists():
        return path.read_text().splitlines()
    return subprocess.run(["zstd", "-dc", f"{path}.zst"], check=True, capture_output=True, text=True).stdout.splitlines()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--pretrain", required=True)
    p.add_argument("--checkpoint", required=True)
    p.add_argument("--data", required=True, type=pathlib.Path)
    p.add_argument("--limit", type=int, default=500)
    p.add_argument("--out", type=pathlib.Path, help="where to write the comparison as JSON")
    args = p.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="harness-"))

    (work / "tasks").mkdir()
    for name, stem in FILES.items():
        items = [json.loads(line) for line in lines(args.data, stem)[: args.limit]]
        if name == "lambada_openai":
            items = [{k: i[k] for k in ("id", "task", "context", "target")} for i in items]
        else:
            items = [{k: i[k] for k in ("id", "task", "query", "choices", "gold")} for i in items]
        file = work / f"{name}.jsonl"
        file.write_text("".join(json.dumps(i, ensure_ascii=False) + "\n" for i in items))
        template = CLOZE if name == "lambada_openai" else CHOICE
        (work / "tasks" / f"{name}.yaml").write_text(template.format(name=f"local_{name}", file=file))

    subprocess.run([args.pretrain, "export", "--checkpoint", args.checkpoint, "--format", "hf-llama", "--dtype", "fp32", "--out", str(work / "hf")], check=True)
    command = [args.pretrain, "eval", "--checkpoint", args.checkpoint, "--precision", "fp32", "--tokens", "256", "--out", str(work / "ours.json")]
    for name in FILES:
        command += ["--data", str(work / f"{name}.jsonl")]
    subprocess.run(command, check=True)
    ours = {t["task"]: t for t in json.loads((work / "ours.json").read_text())["tasks"]}

    for name in FILES:  # an item whose choice is longer than the window is left out
        file, kept = work / f"{name}.jsonl", {i["id"] for i in ours[name]["items"]}
        file.write_text("".join(line + "\n" for line in file.read_text().splitlines() if json.loads(line)["id"] in kept))

    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = HFLM(pretrained=str(work / "hf"), dtype="float32", device="cpu", batch_size=16)
    theirs = lm_eval.simple_evaluate(
        model=model, tasks=[f"local_{n}" for n in FILES], task_manager=TaskManager(include_path=str(work / "tasks")), bootstrap_iters=0, log_samples=True,
    )

    table = []
    for name in FILES:
        mine, samples = ours[name], sorted(theirs["samples"][f"local_{name}"], key=lambda s: s["doc_id"])
        assert len(mine["items"]) == len(samples), (name, len(mine["items"]), len(samples))
        worst, flips = 0.0, 0
        for item, sample in zip(mine["items"], samples):
            assert item["id"] == sample["doc"]["id"]
            scores = [float(r[0][0] if isinstance(r[0], (list, tuple)) else r[0]) for r in sample["resps"]]
            own = item.get("loglikelihoods") or [-item["values"]["target_nats"]]
            worst = max([worst] + [abs(a - b) for a, b in zip(own, scores)])
            flips += item["values"]["acc"] != float(sample["acc"])
        for metric in ("acc", "acc_norm"):
            if metric in mine["metrics"]:
                a, b = 100 * mine["metrics"][metric]["value"], 100 * theirs["results"][f"local_{name}"][f"{metric},none"]
                table.append({"task": name, "metric": metric, "items": len(samples), "pretrain": a, "lm_eval": b, "difference": a - b, "largest_loglikelihood_error": worst, "other_verdicts": flips})
    print("| task | metric | items | pretrain eval | lm_eval | difference (points) | largest error of a log-likelihood (nats) |\n|---|---|---:|---:|---:|---:|---:|")
    for r in table:
        print(f"| {r['task']} | {r['metric']} | {r['items']} | {r['pretrain']:.1f} | {r['lm_eval']:.1f} | {r['difference']:+.1f} | {r['largest_loglikelihood_error']:.1e} |")
    if args.out:
        args.out.write_text(json.dumps(table, indent=1) + "\n")
    if any(abs(r["difference"]) > 0.2 for r in table):
        raise SystemExit("harness: a score differs by more than 0.2 points")


main()
