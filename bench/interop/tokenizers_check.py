"""Python's tokenizers on an export's tokenizer.json: 2,000 mixed strings, token for token as the program has them, and back.

    PRETRAIN=bin/pretrain python tokenizers_check.py RUN EXPORT
"""

import json
import sys

from tokenizers import Tokenizer

from common import ask, mixed_strings

run, export = sys.argv[1:]
tokenizer = Tokenizer.from_file(f"{export}/tokenizer.json")
tokenizer.encode_special_tokens = True  # as in training: "</s>" in a text is four characters
strings = mixed_strings(2000)
stdin = "".join(json.dumps({"prompt": s}) + "\n" for s in strings)
ours = ask("generate", "--checkpoint", run, "--tokens", "1", "--prompts", "-", "--json", stdin=stdin)
same = 0
for text, line in zip(strings, ours, strict=True):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    back = tokenizer.decode(ids, skip_special_tokens=False)
    same += ids == line["prompt_tokens"][1:] and back == text
    if ids != line["prompt_tokens"][1:]:
        print(f"  {text!r}: {ids}, ours {line['prompt_tokens'][1:]}")
print(f"tokenizers: {same} of {len(strings)} strings identical, and back")
sys.exit(same != len(strings))
