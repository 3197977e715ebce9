"""An hf-llama export in fp32 in transformers: logits and greedy text of 128 tokens against the program's own.

    PRETRAIN=bin/pretrain python transformers_check.py RUN EXPORT
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from common import PROMPTS, ask

run, export = sys.argv[1:]
torch.set_num_threads(2)
tokenizer = AutoTokenizer.from_pretrained(export)
model = AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32).eval()

stdin = "".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS)
ours = ask("generate", "--checkpoint", run, "--precision", "fp32", "--greedy", "--tokens", "128", "--ignore-eos", "--logits", "--prompts", "-", "--json", stdin=stdin)

same, worst = 0, 0.0
for prompt, line in zip(PROMPTS, ours):
    ids = [tokenizer.bos_token_id] + tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert ids == line["prompt_tokens"], (prompt, ids, line["prompt_tokens"])
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1]
        worst = max(worst, (logits - torch.tensor(line["logits"])).abs().max().item())
        text = model.generate(torch.tensor([ids]), max_new_tokens=128, min_new_tokens=128, do_sample=False, eos_token_id=None)
    theirs = text[0, len(ids):].tolist()
    same += theirs == line["tokens"]
    if theirs != line["tokens"]:
        at = next(i for i, (a, b) in enumerate(zip(theirs, line["tokens"])) if a != b)
        print(f"  {prompt!r}: differs at token {at}")
print(f"transformers: greedy text of 128 tokens identical for {same} of {len(PROMPTS)} prompts; largest difference of the first logits {worst:.2g}")
sys.exit(same != len(PROMPTS) or worst > 1e-4)
