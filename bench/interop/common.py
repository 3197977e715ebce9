"""What the interop checks share: asking the program, and the strings and prompts they use."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys

PRETRAIN = os.environ.get("PRETRAIN", "pretrain")


def ask(*args, stdin=None):
    """Runs the program and returns what it prints, as JSON."""
    done = subprocess.run([PRETRAIN, *args], input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(args)}: exit code {done.returncode}\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def greedy_texts(run):
    """What the program writes greedily in fp32 after each of PROMPTS, 128 tokens, end of text or not."""
    stdin = "".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS)
    return ask("generate", "--checkpoint", run, "--precision", "fp32", "--greedy", "--tokens", "128", "--ignore-eos", "--prompts", "-", "--json", stdin=stdin)


def llama_greedy(model, ids, count):
    """What llama.cpp writes greedily: count tokens after ids, end of text or not."""
    model.reset()
    out = []
    for token in model.generate(ids, temp=0.0, repeat_penalty=1.0, top_k=1):
        out.append(token)
        if len(out) == count:
            return out


@contextlib.contextmanager
def server(run, *args):
    """`pretrain serve` while the block runs: the process and its base URL. It has to drain and end well."""
    process = subprocess.Popen([PRETRAIN, "serve", "--checkpoint", run, "--listen", "127.0.0.1:0", *args], stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if found := re.search(r"http://\S+/v1", line):
                yield process, found.group()
                break
        else:
            sys.exit("the server did not start")
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
    assert code == 0, "the server drains and ends"


def mixed_strings(count, seed=1):
    """Strings of Chinese, English, code, digits, spaces and odd characters, from nothing but a seed."""
    r = random.Random(seed)
    words = "the of and model token learning rate don't I'll we've can't THEY'RE naïve café Straße".split()
    chinese = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经"
    code = ["func main() {\n", "\tif err != nil {\n\t\treturn err\n\t}\n", "x := a[i:j]", "for i, v := range xs {", "def f(x):\n    return x**2\n",
            "// TODO(me): fix\n", "#include <stdio.h>\n", "a->b.c(&d, 0x1F)", "SELECT * FROM t;", "\r\n", "</s>", "<|im_end|>", "{{}}"]
    odd = ["  ", "   ", "\t", "\n\n", " \n", "😀", "👩‍👩‍👧", "é", "\u00a0", "\u3000", "，。！？", "½", "٣", "1234567", "3.14159", "2026年11月25日", "'s", "''", "—", "…", "\u200b"]
    out = []
    for _ in range(count):
        parts = []
        for _ in range(r.randint(1, 40)):
            kind = r.randint(0, 4)
            if kind == 0:
                parts.append(" ".join(r.choice(words) for _ in range(r.randint(1, 6))))
            elif kind == 1:
                parts.append("".join(r.choice(chinese) for _ in range(r.randint(1, 12))))
            elif kind == 2:
                parts.append(r.choice(code))
            elif kind == 3:
                parts.append(r.choice(odd))
            else:
                parts.append(str(r.randint(0, 10 ** r.randint(1, 12))))
            if r.random() < 0.5:
                parts.append(" ")
        out.append("".join(parts))
    return out


PROMPTS = ["package ", "// Read reads ", "func ", "import (\n\t\"fmt\"\n", "type Reader struct {\n", "中文", "\treturn nil, err\n}\n\n", "var "]
