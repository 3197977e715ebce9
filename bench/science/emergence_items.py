"""Cloze items for `pretrain analyze emergence`, from text that the models were not trained on.

    python3 bench/science/emergence_items.py --text CACHE/data/KEY/validation.txt --items 12 > items.jsonl

KEY is the folder of a run's prepared data; validation.txt is what it held out. An item's target is the last word of a sentence,
and has stood in its context before, as in LAMBADA (1606.06031): a model that can look back finds it there, one that cannot has to
guess among all words. Chance is 0. Words and places are drawn by a seed and by nothing that a model says of them.
"""

import argparse
import json
import random
import re
import sys


def candidates(text, chars, letters):
    """Every (place, context, target): the target ends a sentence, begins in lower case, and is a word of the context."""
    low, high = letters
    for m in re.finditer(r"(?<= )([a-z]{%d,%d})(?=[.?!][ \n”])" % (low, high), text):
        before = text[max(0, m.start() - chars) : m.start()]
        if len(before) < chars or "\n\n\n" in before:
            continue
        before = before[before.index(" ") + 1 :].rstrip(" ")  # from a word's beginning on
        if re.search(r"\b%s\b" % m[1], before):
            yield m.start(), before, " " + m[1]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--text", required=True, help="a file of plain text that no model of the ladder has seen")
    p.add_argument("--items", type=int, default=12)
    p.add_argument("--chars", type=int, default=220, help="of the context; it has to fit into the models' windows")
    p.add_argument("--letters", default="5-7", help="how long a target is")
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()

    with open(args.text, encoding="utf-8") as f:
        found = list(candidates(f.read(), args.chars, tuple(map(int, args.letters.split("-")))))
    random.Random(args.seed).shuffle(found)
    seen, kept = set(), []
    for place, context, target in found:  # each word once
        if target not in seen:
            seen.add(target)
            kept.append((place, context, target))
    if len(kept) < args.items:
        sys.exit(f"{args.text}: {len(kept)} items, want {args.items}: a longer text, --chars or --letters gives more")
    for place, context, target in sorted(kept[: args.items]):
        print(json.dumps({"id": f"{target.strip()}-{place}", "task": "last-word", "context": context, "target": target}, ensure_ascii=False))


main()
