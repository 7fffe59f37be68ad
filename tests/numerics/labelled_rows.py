"""labelled_rows.py BASE NEW FRESH LABEL...: of three folders of gptdist-ckpt export-hf: NEW's classifier has BASE's row of each label of BASE,
whatever its number, and FRESH's row of each of the LABELs, bit for bit; it has no others"""
import json
import sys


def read(folder):
    """label: its row of float32 as it lies there"""
    config = json.load(open(f"{folder}/config.json"))
    data = open(f"{folder}/model.safetensors", "rb").read()
    length = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8:8 + length])["score.weight"]
    assert entry["dtype"] == "F32"
    first, end = (8 + length + offset for offset in entry["data_offsets"])
    rows, cols = entry["shape"]
    return {config["id2label"][str(r)]: data[first:end][r * cols * 4:(r + 1) * cols * 4] for r in range(rows)}


base, new, fresh = map(read, sys.argv[1:4])
assert list(new) == list(fresh), "not the labels of a fresh one"
assert set(new) == set(base) | set(sys.argv[4:]), f"labels {list(new)}"
assert len(set(base.values())) == len(base) > 1, "rows of the base are equal"
for label, row in base.items():
    assert new[label] == row, f"the row of {label} is another"
for label in sys.argv[4:]:
    assert new[label] == fresh[label], f"the row of {label} is not that of a fresh classifier"
