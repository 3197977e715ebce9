"""An hf-minicpm export in fp32 in OpenBMB's own code: logits and greedy text of 128 tokens against the program's own. CODE is a
folder with OpenBMB's configuration_minicpm.py and modeling_minicpm.py, which come with every MiniCPM checkpoint of theirs;
REFERENCE is what `pretrain export --reference` wrote. Their code is of transformers 4: pip install transformers==4.46.3.

    PRETRAIN=bin/pretrain python minicpm_check.py CODE RUN EXPORT REFERENCE
"""

import importlib
import sys
import types

import torch
import transformers
from safetensors.torch import load_file

from common import PROMPTS, greedy_texts

code, run, export, reference = sys.argv[1:]
torch.set_num_threads(1)

# Some copies import the configuration as a neighbour in a package, some as a module.
package = types.ModuleType("openbmb")
package.__path__ = [code]
sys.modules["openbmb"] = package
sys.path.insert(0, code)
module = importlib.import_module("openbmb.modeling_minicpm")
model, loading = module.MiniCPMForCausalLM.from_pretrained(export, torch_dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
model.eval()
for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
    if loading[kind]:
        sys.exit(f"{kind}: {loading[kind]}")
c = model.config
print(f"transformers {transformers.__version__}, {module.MiniCPMForCausalLM.__name__}: scale_emb {c.scale_emb}, scale_depth {c.scale_depth}, dim_model_base {c.dim_model_base}")

expected = load_file(reference)
with torch.no_grad():
    logits = model(expected["tokens"].long(), use_cache=False).logits
error = (logits - expected["logits"]).abs()
top = (logits.argmax(-1) == expected["logits"].argmax(-1)).float().mean().item()
print(f"OpenBMB's code, {logits.shape[0]} x {logits.shape[1]} positions: largest difference of a logit {error.max():.2g}, mean {error.mean():.2g}, same first choice {top:.5f}")

ours = greedy_texts(run)
same = 0
for prompt, line in zip(PROMPTS, ours, strict=True):
    theirs, past, feed = [], transformers.DynamicCache(), line["prompt_tokens"]
    with torch.no_grad():
        while len(theirs) < 128:
            out = model(torch.tensor([feed]), past_key_values=past, use_cache=True)
            feed = [out.logits[0, -1].argmax().item()]
            theirs += feed
    same += theirs == line["tokens"]
    if theirs != line["tokens"]:
        print(f"  {prompt!r}: differs at token {next(i for i, (a, b) in enumerate(zip(theirs, line['tokens'])) if a != b)}")
print(f"OpenBMB's code: greedy text of 128 tokens identical for {same} of {len(PROMPTS)} prompts")
sys.exit(bool(same != len(PROMPTS) or error.max() > 1e-4))
