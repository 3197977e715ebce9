"""A gguf export in llama.cpp (llama-cpp-python, built from source): greedy text and tokenization against the program's own; with
ROUNDS instead tokens/s of both on this processor, in turn, so many times.

    PRETRAIN=bin/pretrain python llama_check.py RUN MODEL.gguf [ROUNDS]
"""

import json
import os
import sys
import time
import urllib.request

import llama_cpp
import numpy as np
from llama_cpp import Llama

from common import PROMPTS, ask, greedy_texts, llama_greedy, mixed_strings, server

COUNT = 192

run, path = sys.argv[1:3]
rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 0
model = Llama(path, n_ctx=256, n_threads=2, n_threads_batch=2, verbose=False, logits_all=False)


def compare():
    """Whether all greedy texts and all tokens are the same."""
    ours = greedy_texts(run)
    same = 0
    for prompt, line in zip(PROMPTS, ours, strict=True):
        ids = model.tokenize(prompt.encode(), add_bos=True, special=False)
        if ids != line["prompt_tokens"]:
            print(f"  {prompt!r}: tokens {ids}, ours {line['prompt_tokens']}")
        theirs = llama_greedy(model, ids, 128)
        same += theirs == line["tokens"]
        if theirs != line["tokens"]:
            print(f"  {prompt!r}: differs at token {next(i for i, (a, b) in enumerate(zip(theirs, line['tokens'])) if a != b)}")
    print(f"llama.cpp: greedy text of 128 tokens identical for {same} of {len(PROMPTS)} prompts")

    strings = mixed_strings(2000)
    stdin = "".join(json.dumps({"prompt": s}) + "\n" for s in strings)
    ours = ask("generate", "--checkpoint", run, "--tokens", "1", "--prompts", "-", "--json", stdin=stdin)
    tokens = sum(model.tokenize(s.encode(), add_bos=False, special=False) == line["prompt_tokens"][1:] for s, line in zip(strings, ours, strict=True))
    print(f"llama.cpp: tokens of {tokens} of {len(strings)} mixed strings identical")
    return same == len(PROMPTS) and tokens == len(strings)


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Speed: one text of 192 tokens, both warm, in turn. llama.cpp without its Python sampler, on one thread and on two; where other
# jobs share the processors its threads wait for one another, so one thread and processor seconds say more.
def decode(context, ids, count):
    """llama.cpp's C functions: decode, take the largest logit. Returns the number of tokens."""
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    tokens = (llama_cpp.llama_token * len(ids))(*ids)
    for _ in range(count):
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(tokens))) != 0:
            sys.exit("llama_decode failed")
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), (model.n_vocab(),))
        tokens = (llama_cpp.llama_token * 1)(int(logits.argmax()))
    return count


def timed(generate, pid, times=3):
    generate(COUNT)
    wall, cpu, count = time.perf_counter(), cpu_seconds(pid), 0
    for _ in range(times):
        count += generate(COUNT)
    return f"{count / (time.perf_counter() - wall):.0f} tokens/s, {count / max(0.01, cpu_seconds(pid) - cpu):.0f} per processor second"


def speed():
    with server(run, "--precision", "fp32", "--name", "tiny") as (process, url):
        def serve(count):
            body = json.dumps({"prompt": "package ", "max_tokens": count, "temperature": 0, "ignore_eos": True}).encode()
            request = urllib.request.Request(f"{url}/completions", body, {"Content-Type": "application/json"})
            return json.load(urllib.request.urlopen(request))["usage"]["completion_tokens"]

        ids = model.tokenize(b"package ", add_bos=True, special=False)
        for i in range(rounds):
            for threads in (1, 2):
                llama_cpp.llama_set_n_threads(model.ctx, threads, threads)
                print(f"round {i + 1}: llama.cpp, threads {threads}: {timed(lambda n: decode(model.ctx, ids, n), os.getpid())}")
            print(f"round {i + 1}: pretrain: {timed(serve, process.pid)}", flush=True)


if rounds:
    speed()
else:
    sys.exit(not compare())
