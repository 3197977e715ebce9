"""datatrove's verdicts on texts, for comparison with data/quality.

  python datatrove_rules.py --data DIR --documents 2000 --out verdicts.jsonl   # real documents: *.jsonl.zst in DIR
  python datatrove_rules.py --synthetic 300 --out ../../data/quality/testdata/datatrove.jsonl

Each line of the output is {"id", "text", "gopher", "repetition", "c4", "c4_text", "fineweb"}: the reason for which the
filter drops the text, "" where it keeps it, and the text that C4 leaves. `go run ./bench/data/rules verdicts.jsonl` compares.
"""

import argparse
import json
import pathlib
import random

from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

FILTERS = {
    "gopher": GopherQualityFilter(),
    "repetition": GopherRepetitionFilter(),
    "c4": C4QualityFilter(filter_no_terminal_punct=False),
    "fineweb": FineWebQualityFilter(),
}


def verdicts(text):
    out = {}
    for name, rule in FILTERS.items():
        doc = Document(text=text, id="x")
        result = rule.filter(doc)
        out[name] = "" if result is True else result[1]
        if name == "c4":
            out["c4_text"] = doc.text if result is True else ""
    return out


def real(folder, n):
    """n documents, the same number of each file, evenly spaced. English prose and web text only: code and Chinese have other words."""
    import zstandard

    files = sorted(p for p in pathlib.Path(folder).glob("*.jsonl.zst") if p.name.startswith(("en-", "dirty-nltk", "dirty-toxic-en", "dirty-gutenberg", "math-hott", "math-stacks", "math-gsm8k")))
    for path in files:
        with zstandard.open(path, "rt", encoding="utf-8") as f:
            texts = [(r["id"], r["text"]) for r in map(json.loads, f) if len(r["text"]) < 100_000 and "\0" not in r["text"]]
        want = -(-n // len(files))
        for i in range(0, len(texts), max(1, len(texts) // want)):
            yield texts[i]


WORDS = """the of and to in that have with for on are this not his from they she which one we were all their has would what out
about up them then some her would like time people could first water been call who now find long down day did get come made may part
don't it's isn't they've we're he'd e.g. Mr. 3.14 42 1,000 well-known http://a.org/x?y=1 foo_bar U.S. state-of-the-art and/or #tag
extraordinarily internationalisation a I""".split()


def sentence(rnd):
    words = [rnd.choice(WORDS) for _ in range(rnd.randint(2, 18))]
    if rnd.random() < 0.3:
        words[rnd.randrange(len(words))] += ","
    if rnd.random() < 0.1:
        words[rnd.randrange(len(words))] = "(" + words[0] + ")"
    if rnd.random() < 0.1:
        words[-1] = '"' + words[-1] + '"'
    return " ".join(words).capitalize() + rnd.choice([".", ".", ".", ".", "!", "?", "...", "…", "", ":", ";"])


def synthetic(n):
    """Texts with a leaning to one fault each, so that every reason occurs and many are near its threshold."""
    rnd = random.Random(1)
    for i in range(n):
        lines = []
        for _ in range(rnd.randint(1, 12)):
            lines.append(" ".join(sentence(rnd) for _ in range(rnd.randint(1, 4))))
        fault = rnd.choice(["none", "none", "bullets", "ellipsis", "hash", "repeat line", "repeat paragraph", "short", "numbers", "ngram", "long", "policy", "lorem", "brace", "lists", "spaces"])
        part = rnd.random()
        for j in range(len(lines)):
            if rnd.random() > part:
                continue
            if fault == "bullets":
                lines[j] = rnd.choice(["- ", "• ", "  - "]) + lines[j]
            elif fault == "ellipsis":
                lines[j] = lines[j].rstrip(".") + rnd.choice(["...", "…"])
            elif fault == "hash":
                lines[j] = "#" * rnd.randint(1, 4) + " " + lines[j]
            elif fault in ("repeat line", "repeat paragraph"):
                lines[j] = lines[0]
            elif fault == "short":
                lines[j] = lines[j][: rnd.randint(1, 40)]
            elif fault == "numbers":
                lines[j] = " ".join(str(rnd.randint(0, 10**6)) for _ in range(10))
            elif fault == "ngram":
                lines[j] += " once upon a time there was a king" * rnd.randint(1, 3)
            elif fault == "long":
                lines[j] += " " + "x" * rnd.choice([20, 60, 1001])
            elif fault == "policy":
                lines[j] += rnd.choice([" Read our privacy policy.", " Enable JavaScript.", " This site uses cookies."])
            elif fault == "lorem":
                lines[j] += " lorem ipsum dolor"
            elif fault == "brace":
                lines[j] += " {x}"
            elif fault == "lists":
                lines[j] = lines[j].replace(" ", "\n", 5)
            elif fault == "spaces":
                lines[j] = lines[j].replace(" ", rnd.choice(["  ", "\t", "\u00a0"]))
        yield f"synthetic-{i}", ("\n\n" if fault == "repeat paragraph" or rnd.random() < 0.3 else "\n").join(lines)


parser = argparse.ArgumentParser()
parser.add_argument("--data")
parser.add_argument("--documents", type=int, default=2000)
parser.add_argument("--synthetic", type=int)
parser.add_argument("--out", required=True)
args = parser.parse_args()
docs = synthetic(args.synthetic) if args.synthetic else real(args.data, args.documents)
with open(args.out, "w", encoding="utf-8") as f:
    for i, (name, text) in enumerate(docs):
        if not args.synthetic and i >= args.documents:
            break
        f.write(json.dumps({"id": name, "text": text} | verdicts(text), ensure_ascii=False) + "\n")
