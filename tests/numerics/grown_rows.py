"""grown_rows.py BASE GROWN TENSOR: of two safetensors files, the tensor has the base's rows and behind them their mean, bit for bit"""
import json
import struct
import sys


def read(path, name):
    """rows of float32 as they lie there"""
    data = open(path, "rb").read()
    length = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8:8 + length])[name]
    assert entry["dtype"] == "F32"
    first, end = (8 + length + offset for offset in entry["data_offsets"])
    rows, cols = entry["shape"]
    return [data[first:end][r * cols * 4:(r + 1) * cols * 4] for r in range(rows)]


base, grown = (read(path, sys.argv[3]) for path in sys.argv[1:3])
sums = [0.0] * (len(base[0]) // 4)
for row in base:
    sums = [a + b for a, b in zip(sums, struct.unpack(f"<{len(sums)}f", row))]
mean = struct.pack(f"<{len(sums)}f", *(s / len(base) for s in sums))
assert len(grown) > len(base), "no row is new"
assert grown[:len(base)] == base, "a row of the base is another one"
assert all(row == mean for row in grown[len(base):]), "a new row is not their mean"
