"""An hf-llama export in fp32 in transformers: logits, greedy text of 128 tokens, tokens and chat template, against the program's
own. REFERENCE is what `pretrain export --reference` wrote.

    PRETRAIN=bin/pretrain python transformers_check.py RUN EXPORT REFERENCE
"""

import json
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from common import PROMPTS, ask, greedy_texts

run, export, reference = sys.argv[1:]
torch.set_num_threads(2)
tokenizer = AutoTokenizer.from_pretrained(export)
model = AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32).eval()

expected = load_file(reference)
with torch.no_grad():
    logits = model(expected["tokens"].long()).logits
error = (logits - expected["logits"]).abs()
top = (logits.argmax(-1) == expected["logits"].argmax(-1)).float().mean().item()
print(f"transformers, {logits.shape[0]} x {logits.shape[1]} positions: largest difference of a logit {error.max():.2g}, mean {error.mean():.2g}, same first choice {top:.5f}")

ours = greedy_texts(run)
same = 0
for prompt, line in zip(PROMPTS, ours, strict=True):
    ids = [tokenizer.bos_token_id] + tokenizer(prompt, add_special_tokens=False)["input_ids"]
    if ids != line["prompt_tokens"]:
        sys.exit(f"{prompt!r}: tokens {ids}, ours {line['prompt_tokens']}")
    with torch.no_grad():
        text = model.generate(torch.tensor([ids]), max_new_tokens=128, do_sample=False, eos_token_id=-1, pad_token_id=0)
    theirs = text[0, len(ids):].tolist()
    same += theirs == line["tokens"]
    if theirs != line["tokens"]:
        print(f"  {prompt!r}: differs at token {next(i for i, (a, b) in enumerate(zip(theirs, line['tokens'])) if a != b)}")
print(f"transformers: greedy text of 128 tokens identical for {same} of {len(PROMPTS)} prompts")

chats = 0
if tokenizer.chat_template:
    talks = [[{"role": "user", "content": "Hello"}], [{"role": "system", "content": "Be kind."}, {"role": "user", "content": " 你好 "}],
             [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]]
    stdin = "".join(json.dumps({"messages": m}) + "\n" for m in talks)
    ours = ask("generate", "--checkpoint", run, "--chat-template", sys.argv[4] if len(sys.argv) > 4 else "chatml", "--tokens", "1", "--prompts", "-", "--json", stdin=stdin)
    for talk, line in zip(talks, ours, strict=True):
        ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
        chats += ids == line["prompt_tokens"]
        if ids != line["prompt_tokens"]:
            print(f"  {talk}: {ids}, ours {line['prompt_tokens']}")
    print(f"transformers: chat template identical for {chats} of {len(talks)} conversations")
    chats = chats != len(talks)

sys.exit(bool(same != len(PROMPTS) or error.max() > 1e-4 or chats))
