"""Compiles training steps for a GPU that is not there, and says what the compiler made of them: JSON lines, then a table.

    python compile.py --pretrain bin/pretrain --gpu h100 --sizes 1.2b --batches 4 8 --remat none layer --out aot.jsonl
    python compile.py --table aot.jsonl

The program is our binary's own: capture.c stands in for the plugin and writes down what is to be compiled for CUDA. JAX's CUDA plugin
(pip install jax[cuda13]==0.11.2, the version that internal/plugin pins) then compiles it for the GPU described below, without one. What
that shows is which kernels and dtypes the compiler chose and the memory it assigned. It shows no time, no autotuned choice, and not
that cuDNN takes the calls: that is decided on the device.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import hlo
import shapes

# What the compiler asks of a device, as XLA's own descriptions of these two have it (xla/backends/gpu/target_config/specs).
TARGET = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 registers_per_core_limit: 65536
  registers_per_block_limit: 65536 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  memory_bandwidth: {bandwidth} device_memory_size: {memory}
  cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }}
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }} runtime_version {{ major: 13 minor: 0 }} device_description_str: "{name}"
"""
GPUS = {
    "h100": {"name": "NVIDIA H100 80GB HBM3", "memory": 84942979072, "bandwidth": 3352320000000},
    "h200": {"name": "NVIDIA H200", "memory": 150021210112, "bandwidth": 4800000000000},
}


def capture(a, case, folder):
    """The program of our step: StableHLO text, and how many devices it is for."""
    library = folder / "capture_cuda.so"
    include = subprocess.run(["go", "list", "-m", "-f", "{{.Dir}}", "github.com/gomlx/go-xla"], capture_output=True, text=True, check=True, cwd=HERE).stdout.strip()
    subprocess.run(["cc", "-shared", "-fPIC", f"-I{include}/pjrt", "-o", library, HERE / "capture.c"], check=True)
    s = shapes.SHAPES[case["size"]]
    sets = {f"model.{k}": v for k, v in vars(s).items() if k != "seq_len"} | {
        "name": "aot", "model.max_seq_len": s.seq_len, "batch.tokens": f"{case['batch'] * s.seq_len}tok", "batch.micro_batch": case["batch"],
        "train.tokens": "100Mtok", "train.remat": case["remat"], **dict(x.split("=", 1) for x in case["set"]),
    }
    args = [a.pretrain, "plan", "--memory", "--backend", f"xla:{library}", "--config", HERE.parent / "base.yaml"]
    env = os.environ | {"CAPTURE_PLUGIN": a.cpu_plugin or cpu_plugin(a.pretrain), "CAPTURE_OUT": str(folder), "CAPTURE_DEVICES": str(case["devices"])}
    done = subprocess.run([str(x) for x in args + [x for k, v in sets.items() for x in ("--set", f"{k}={v}")]], env=env, capture_output=True, text=True)
    if not (folder / "0.mlir").exists():
        raise RuntimeError(done.stderr)
    return (folder / "0.mlir").read_text()


def cpu_plugin(pretrain):
    return json.loads(subprocess.run([pretrain, "doctor", "--backend", "cpu", "--json"], capture_output=True, text=True).stdout)["backend"]["plugin"]


def compile_for(gpu, devices, lower):
    """Compiles what lower(devices of the absent GPUs) gives: StableHLO text, or something of JAX's that is lowered already."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax.experimental import topologies
    from jaxlib.mlir import ir

    topology = topologies.get_topology_desc(platform="cuda", target_config=TARGET.format(**GPUS[gpu]), topology=f"1x1x{devices}")
    program = lower(topology.devices)
    began = time.monotonic()
    if isinstance(program, str):
        options = xla_client.CompileOptions()
        options.num_replicas, options.num_partitions = 1, devices
        if devices > 1:
            options.executable_build_options.use_spmd_partitioning = True
            options.executable_build_options.use_shardy_partitioner = True
        with mlir.make_ir_context():
            client = topology.devices[0].client
            done = client.compile(ir.Module.parse(program), executable_devices=xla_client.DeviceList(tuple(topology.devices)), compile_options=options)
        stats, text = done.get_compiled_memory_stats(), done.hlo_modules()[0].to_string()
    else:
        done = program.compile()
        stats, text = done.memory_analysis(), done.as_text()
    sizes = {name: getattr(stats, f"{name}_size_in_bytes") for name in ("argument", "output", "alias", "temp")}
    return text, {
        "compile_seconds": round(time.monotonic() - began, 1), **{f"{k}_bytes": v for k, v in sizes.items()},
        "peak_bytes": sizes["argument"] + sizes["output"] - sizes["alias"] + sizes["temp"],
    }


def peer(case, devices):
    """The peer's step, lowered for the same device."""
    import jax
    import peer_jax
    from jax.sharding import SingleDeviceSharding

    s = peer_jax.options(vars(shapes.SHAPES[case["size"]]), remat=case["remat"])
    step, args = peer_jax.abstract(s, case["batch"])
    on_device = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=SingleDeviceSharding(devices[0]))
    return step.lower(*jax.tree.map(on_device, args))


def run(a, case):
    with tempfile.TemporaryDirectory() as folder:
        if case["program"] == "jax":
            text, result = compile_for(case["gpu"], 1, lambda devices: peer(case, devices))
        else:
            program = capture(a, case, pathlib.Path(folder))
            if a.program:
                pathlib.Path(a.program).write_text(program)
            text, result = compile_for(case["gpu"], case["devices"], lambda _: program)
    if a.hlo:
        pathlib.Path(a.hlo).write_text(text)
    return case | result | hlo.program(text)


def table(path):
    rows = [json.loads(line) for line in open(path)]
    print("| model | program | GPU | sequences | remat | arguments, GB | temporaries, GB | peak, GB | cuDNN attention | products |")
    print("|---" * 10 + "|")
    for r in rows:
        head = [r["size"], " ".join([r["program"], *r["set"]]), r["gpu"] + (f" x {r['devices']}" if r["devices"] > 1 else ""), r["batch"], r["remat"]]
        if "error" in r:
            print("| " + " | ".join(map(str, head)) + " | | | | | " + r["error"] + " |")
            continue
        calls = ", ".join(f"{n} {t.removeprefix('__cudnn$')}" for t, n in r["cudnn_attention"].items()) or "none"
        memory = [f"{r[k] / 1e9:.1f}" for k in ("argument_bytes", "temp_bytes", "peak_bytes")]
        print("| " + " | ".join(map(str, head + memory + [calls, ", ".join(f"{n} {d}" for d, n in r["dots"].items())])) + " |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pretrain", default="bin/pretrain")
    p.add_argument("--cpu-plugin", help="default: what the program finds")
    p.add_argument("--gpu", choices=GPUS, default="h100")
    p.add_argument("--devices", type=int, default=1, help="GPUs, for --set train.mesh.…")
    p.add_argument("--programs", nargs="+", choices=("ours", "jax"), default=["ours"])
    p.add_argument("--sizes", nargs="+", choices=shapes.SHAPES, default=list(shapes.SHAPES))
    p.add_argument("--batches", nargs="+", type=int, default=[4], help="sequences at once")
    p.add_argument("--remat", nargs="+", choices=("none", "attention", "layer", "full"), default=["layer"])
    p.add_argument("--set", action="append", default=[], help="of our configuration, as key=value")
    p.add_argument("--out", default="aot.jsonl", help="results are added to this file")
    p.add_argument("--program", metavar="FILE", help="also write what was to be compiled")
    p.add_argument("--hlo", metavar="FILE", help="and what it was compiled to")
    p.add_argument("--limit", type=float, default=900, help="seconds for one compilation")
    p.add_argument("--table", metavar="FILE", help="compile nothing: print a file of results as Markdown")
    p.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)  # one case, in a process of its own
    a = p.parse_args()
    if a.table:
        return table(a.table)
    if a.case:
        print(json.dumps(run(a, a.case)))
        return
    for size in a.sizes:
        for program in a.programs:
            for remat in a.remat:
                for batch in a.batches:
                    case = {"size": size, "program": program, "gpu": a.gpu, "devices": a.devices, "batch": batch, "remat": remat, "set": a.set}
                    args = [sys.executable, __file__, "--pretrain", a.pretrain, "--case", json.dumps(case), *(["--cpu-plugin", a.cpu_plugin] if a.cpu_plugin else []), *(["--hlo", a.hlo] if a.hlo else []), *(["--program", a.program] if a.program else [])]
                    try:
                        done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=a.limit)
                        row = json.loads(done.stdout) if done.returncode == 0 else case | {"error": done.stderr.strip().splitlines()[-1][:300]}
                    except subprocess.TimeoutExpired:
                        row = case | {"error": f"not compiled in {a.limit:g} s"}
                    with open(a.out, "a") as f:
                        f.write(json.dumps(row) + "\n")
                    print(json.dumps(row), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
