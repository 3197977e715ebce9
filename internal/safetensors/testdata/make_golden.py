"""Makes the golden file of safetensors_test.go with the reference implementation.

    pip install safetensors==0.6.2 && python3 make_golden.py

The values are those that goldenTensors in the test builds: byte i of the n-th tensor is 17 * n + i.
"""
import safetensors

SPEC = [  # in the order of goldenTensors, deliberately not the order of the file
    ("layers.0.w", "float32", [2, 3], 4),
    ("layers.0.norm", "bfloat16", [5], 2),
    ("half", "float16", [3], 2),
    ("step", "int64", [], 8),
    ("ids", "int32", [2, 1], 4),
    ("seen", "uint32", [3], 4),
    ("bytes", "uint8", [7], 1),
    ("mask", "bool", [3], 1),
    ("exact", "float64", [2], 8),
    ("empty", "float32", [0, 4], 4),
    ("i8", "int8", [1], 1),
    ("i16", "int16", [1], 2),
    ("u16", "uint16", [1], 2),
    ("u64", "uint64", [1], 8),
    ("quote\" é <&>", "float32", [1], 4),
]

tensors = {}
for n, (name, dtype, shape, size) in enumerate(SPEC):
    count = size
    for dim in shape:
        count *= dim
    tensors[name] = {"dtype": dtype, "shape": shape, "data": bytes((17 * n + i) % 256 for i in range(count))}

with open("golden.safetensors", "wb") as f:
    f.write(safetensors.serialize(tensors, {"format": "pt"}))
