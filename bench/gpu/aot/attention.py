"""Is our cuDNN attention the call that JAX makes? Compares forward and backward, field by field: dtypes and layouts of operands and
results, and the whole configuration of the kernel.

    python attention.py STEP.mlir       a program that capture.c wrote down: `compile.py --program STEP.mlir` keeps one
"""

import json
import os
import re
import sys

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from jax._src.interpreters import mlir
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from jaxlib.mlir import ir

import compile


def calls(text):
    """The distinct attention calls of a StableHLO program: target, types, layouts, configuration."""
    found = {}

    def look(op):
        if op.name == "stablehlo.custom_call" and "__cudnn$fmha" in str(op.attributes["call_target_name"]):
            types = [str(x.type) for x in [*op.operands, *op.results]]
            layouts = [str(op.attributes[name]) for name in ("operand_layouts", "result_layouts")]
            config = json.loads(ir.StringAttr(op.attributes["backend_config"]).value)
            found[op.attributes["call_target_name"].value] = {"types": types, "layouts": layouts, "config": config}
        return ir.WalkResult.ADVANCE

    with mlir.make_ir_context():
        ir.Module.parse(text).operation.walk(look)
    return found


def jax_calls(shape, kv_heads):
    """Those of JAX for queries of this shape [B, H, T, E], as for the training step."""
    cudnn.check_cudnn_version = lambda *_: 91000  # would ask the GPU
    cudnn.check_compute_capability = lambda *_: True
    topology = topologies.get_topology_desc(platform="cuda", target_config=compile.TARGET.format(**compile.GPUS["h100"]), topology="1x1x1")

    def both(q, k, v, do):
        attend = lambda *x: cudnn.dot_product_attention(*x, scale=shape[3] ** -0.5, mask_type=cudnn.MaskType.CAUSAL, qkv_layout="BNTH")
        o, back = jax.vjp(attend, q, k, v)
        return o, back(do)

    on = lambda heads: jax.ShapeDtypeStruct((shape[0], heads, *shape[2:]), jnp.bfloat16, sharding=SingleDeviceSharding(topology.devices[0]))
    return calls(jax.jit(both).lower(on(shape[1]), on(kv_heads), on(kv_heads), on(shape[1])).as_text())


def main():
    ours = calls(open(sys.argv[1]).read())
    if not ours:
        sys.exit("no attention call of cuDNN in the program")
    dims = lambda i: [int(n) for n in re.findall(r"(\d+)x", ours["__cudnn$fmhaSoftmax"]["types"][i])]
    theirs = jax_calls(dims(0), dims(1)[1])
    for target in sorted(ours | theirs):
        same = ours.get(target) == theirs.get(target)
        print(target, "is JAX's" if same else f"differs:\n  ours   {ours.get(target)}\n  JAX's  {theirs.get(target)}")
        if not same:
            sys.exit(1)


if __name__ == "__main__":
    main()
