"""How many MB of text a second of processor time datatrove takes through Gopher's and FineWeb's rules and the masking of private data. See
compare.py.

  python datatrove_chain.py --data DIR
"""

import argparse
import json
import pathlib
import time

import zstandard
from datatrove.data import Document
from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.formatters import PIIFormatter

FILES = ["en-openstax-cc-by.jsonl.zst"]

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
args = parser.parse_args()
texts = []
for name in FILES:
    with zstandard.open(pathlib.Path(args.data) / name, "rt", encoding="utf-8") as f:
        texts += [json.loads(line)["text"] for line in f]
size = sum(len(t.encode()) for t in texts)
rules = {"gopher": GopherQualityFilter(), "repetition": GopherRepetitionFilter(), "fineweb": FineWebQualityFilter()}
pii = PIIFormatter()
GopherQualityFilter().filter(Document(text="warm up", id="x"))
begin = time.process_time()
for text in texts:
    doc = Document(text=text, id="x")
    for rule in rules.values():
        rule.filter(doc)
    doc.text = pii.format(doc.text)
took = time.process_time() - begin
print(f"@ rules and PII {size / 1e6 / took:.4f}")
