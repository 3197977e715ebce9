"""gguf exports of every type in llama.cpp (llama-cpp-python, built from source): they load, their logits are near the training
graph's, and greedy text of 128 tokens beside the program's own in fp32. REFERENCE is what `pretrain export --reference` wrote.

    PRETRAIN=bin/pretrain python gguf_check.py RUN REFERENCE MODEL-fp32.gguf MODEL-fp16.gguf MODEL-bf16.gguf MODEL-q8_0.gguf
"""

import sys

import llama_cpp
import numpy as np
from llama_cpp import Llama
from safetensors.numpy import load_file

from common import greedy_texts, llama_greedy

# Largest and mean error of a logit and least part of equal first choices, as in an export's receipt, though llama.cpp rounds the
# activations as well; and the least mean number of greedy tokens before the first that differs, of 128.
BOUNDS = {"fp32": (1e-4, 1e-5, 0.999, 128), "fp16": (0.05, 0.003, 0.995, 64), "bf16": (0.5, 0.02, 0.98, 64), "q8_0": (0.7, 0.06, 0.97, 64)}

run, reference = sys.argv[1:3]
expected = load_file(reference)
tokens, logits = expected["tokens"], expected["logits"]
ours = greedy_texts(run)


failed = False
for path in sys.argv[3:]:
    kind = next((k for k in BOUNDS if path.endswith(f"-{k}.gguf")), None) or sys.exit(f"{path}: want a name that ends in -TYPE.gguf")
    # Keys and values in fp32: it is the file that is compared. llama.cpp itself keeps them in fp16.
    model = Llama(path, n_ctx=tokens.shape[1], n_threads=1, n_threads_batch=1, verbose=False, logits_all=True, type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)
    worst, total, first = 0.0, 0.0, 0
    for row, want in zip(tokens, logits, strict=True):
        model.reset()
        model.eval([int(t) for t in row])
        error = np.abs(model.scores[: len(row)] - want)
        worst, total = max(worst, float(error.max())), total + float(error.mean())
        first += int((model.scores[: len(row)].argmax(-1) == want.argmax(-1)).sum())
    mean, top = total / len(tokens), first / tokens.size
    equal = []
    for line in ours:
        theirs = llama_greedy(model, line["prompt_tokens"], 128)
        equal.append(next((i for i, (a, b) in enumerate(zip(theirs, line["tokens"])) if a != b), 128))
    same, before = sum(n == 128 for n in equal), sum(equal) / len(equal)
    b = BOUNDS[kind]
    good = worst <= b[0] and mean <= b[1] and top >= b[2] and before >= b[3]
    failed |= not good
    print(f"{kind}: {tokens.size} positions: largest error {worst:.2g} (bound {b[0]:g}), mean {mean:.2g} (bound {b[1]:g}), same first choice {top:.4f} (bound {b[2]:g}); "
          f"greedy text identical for {same} of {len(equal)} prompts, {before:.0f} tokens before the first other one (bound {b[3]}){'' if good else '  ABOVE THE BOUND'}", flush=True)
sys.exit(failed)
