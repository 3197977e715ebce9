#!/bin/sh
# Measures training on this machine's GPU beside JAX and PyTorch. Needs nothing but this folder and a Python that has JAX with its
# CUDA plugin, and PyTorch: no network, no build. Results go to $OUT (default ./results) after every part.
#
#   ./run.sh                         9 minutes; PARTS="ours/1.2b jax/1.2b" for some parts, MINUTES=4 for another limit
#   DONE=results.json ./run.sh       go on: leaves out the parts that an earlier run has done
#   SMOKE=1 BACKEND=cpu ./run.sh     the same on a CPU with tiny models, to see that everything runs
cd "$(dirname "$0")" || exit 1
python=${PYTHON:-python3}
if [ -z "$BACKEND" ]; then
	# JAX's own plugin and the NVIDIA libraries beside it in site-packages, which the plugin finds by its RPATH.
	plugin=$("$python" -c 'import os, sys
paths = [os.path.join(p, "jax_plugins", name, "xla_cuda_plugin.so") for name in ("xla_cuda13", "xla_cuda12") for p in sys.path]
print(next(filter(os.path.exists, paths), ""))')
	[ -n "$plugin" ] || { echo "run.sh: $python has no JAX with a CUDA plugin: set PYTHON to one that has, or BACKEND=xla:/path/to/plugin.so" >&2; exit 1; }
	BACKEND="xla:$plugin"
fi
export BACKEND
exec "$python" bench.py --out "${OUT:-results}" --minutes "${MINUTES:-9}" ${DONE:+--done "$DONE"} ${SMOKE:+--smoke} ${PARTS:+--parts $PARTS}
