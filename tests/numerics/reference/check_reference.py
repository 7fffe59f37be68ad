#!/usr/bin/env python3
"""Checks the PyTorch model of make_reference.py itself against two real models, in ../shared/data/models next to the source folder:
the logits of stories260K (a trained Llama shape) and tiny_gpt2, whose reference.json files come from other programs.
Prints the largest differences; leaves with 1 when one is above 1e-5, with 77 where the data is missing."""
import json
import os
import struct
import sys

import torch

import make_reference as model

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.normpath(os.path.join(HERE, "../../../../shared/data/models"))


def read_safetensors(path):
    with open(path, "rb") as f:
        raw = f.read()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    out = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + length + x for x in entry["data_offsets"])
            out[name] = torch.frombuffer(bytearray(raw[begin:end]), dtype=torch.float32).reshape(entry["shape"]).double()
    return out


def load(folder):
    with open(os.path.join(folder, "reference.json")) as f:
        return read_safetensors(os.path.join(folder, "model.safetensors")), json.load(f)


def logits(shape, parameters, tokens, vocabulary):
    model.V, model.T = vocabulary, len(tokens)
    return model.forward(shape, parameters, torch.tensor([tokens]), model.Errors())[0]


def largest_difference(a, b):
    return (a - torch.tensor(b, dtype=torch.float64)).abs().max().item()


def check_llama():
    t, reference = load(os.path.join(MODELS, "stories260K"))
    shape = dict(kind="llama", L=5, H=8, KV=4, C=64, F=172, tied=True)
    names = {"norm1": "input_layernorm", "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj",
             "attention.value": "self_attn.v_proj", "attention.projection": "self_attn.o_proj",
             "norm2": "post_attention_layernorm", "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj"}
    p = {"token_embedding.weight": t["model.embed_tokens.weight"], "final_norm.weight": t["model.norm.weight"]}
    for l in range(shape["L"]):
        for ours, theirs in names.items():
            p[f"layers.{l}.{ours}.weight"] = t[f"model.layers.{l}.{theirs}.weight"]
    return largest_difference(logits(shape, p, reference["greedy_ids_from_bos"], 512)[:4], reference["logits_first_4_positions"])


def check_gpt2():
    t, reference = load(os.path.join(MODELS, "tiny_gpt2"))
    shape = dict(kind="gpt2", L=1, H=1, KV=1, C=2, F=8, tied=True)
    p = {"token_embedding.weight": t["wte.weight"], "position_embedding.weight": t["wpe.weight"]}
    for ours, theirs in (("layers.0.norm1", "h.0.ln_1"), ("layers.0.norm2", "h.0.ln_2"), ("final_norm", "ln_f")):
        p[ours + ".weight"], p[ours + ".bias"] = t[theirs + ".weight"], t[theirs + ".bias"]
    for part, rows in (("query", slice(0, 2)), ("key", slice(2, 4)), ("value", slice(4, 6))):
        p[f"layers.0.attention.{part}.weight"] = t["h.0.attn.c_attn.weight"].T[rows]
        p[f"layers.0.attention.{part}.bias"] = t["h.0.attn.c_attn.bias"][rows]
    for ours, theirs in (("attention.projection", "attn.c_proj"), ("mlp.up", "mlp.c_fc"), ("mlp.down", "mlp.c_proj")):
        p[f"layers.0.{ours}.weight"], p[f"layers.0.{ours}.bias"] = t[f"h.0.{theirs}.weight"].T, t[f"h.0.{theirs}.bias"]
    return max(largest_difference(logits(shape, p, tokens, 21), reference["logits_tied_head"][i])
               for i, tokens in enumerate(reference["inputs"]))


def main():
    if not os.path.isdir(MODELS):
        print("skipped: no ../shared/data")
        return 77
    worst = dict(stories260K=check_llama(), tiny_gpt2=check_gpt2())
    print(*(f"{name}: largest difference of a logit {value:.2e}" for name, value in worst.items()), sep="\n")
    return 1 if max(worst.values()) > 1e-5 else 0


if __name__ == "__main__":
    sys.exit(main())
