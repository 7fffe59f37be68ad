#!/usr/bin/env python3
"""Reference values for tests/numerics: an independent GPT-2 and Llama in PyTorch, in float64.

Run with PyTorch (Debian's python3-torch, 1.13, was used; 2.2 for the tasks, 2.15 for qwen2):  python3 make_reference.py [SHAPE...]
Writes next to itself, for each shape in SHAPES, or those that are named:
  SHAPE/config.json, SHAPE/model.safetensors   the weights as a Hugging Face folder, F32, every value exact in bfloat16 too
  SHAPE/reference.safetensors                  all F32: tokens, targets, weights [3 * B, T] (three batches; integers as floats),
                                               logits [T, V] of the first sequence, gradients.NAME (of the mean loss of batch 0),
                                               updated.NAME (parameters after three AdamW steps, one batch each), and what
                                               reference.json says: loss_mean [3], ..., summed.gradients.NAME [2], ...
                                               of a task also starts [3 * B, T], the index where each token's document begins;
                                               of a classifier classifier.weight [classes, C] to begin with, and label_rows,
                                               labels and label_weights of the documents of each sequence, [3 * B, DOCUMENTS]
                                               (labels: [3 * B, DOCUMENTS * classes] where each class is by itself)
  SHAPE/reference.json                         loss sums, target counts, gradient norms, settings, sensitivities, for people

Sensitivities: how far the results move when roundings do. Two kinds of error are put in, at their largest size, signs random:
  stored  every stored tensor of docs/rounding.md, forward and backward, times (1 +- u): what storing in a dtype does
  summed  every element of every product, forward and backward, +- u * (sum of the sizes of its terms): what the order of a sum does
The change of the results divided by u is written, the largest of TRIALS trials, at a small u (the linear response) and, for
`stored`, at u = 2^-8 (bfloat16's unit roundoff, where the response is no longer quite linear). A test allows a small multiple
of sensitivity x roundoff (docs/rounding.md): tolerances come from the model's own conditioning, not from what the code under
test happens to give.
"""
import json
import math
import os
import struct
import sys

import torch

B, T, V, STEPS = 4, 16, 61, 3
TRIALS = 16
LR, BETAS, EPSILON, DECAY, CLIP = 1e-3, (0.9, 0.95), 1e-4, 0.1, 1.0
# epsilon is larger than usual: Adam divides noise by noise where a gradient is zero but for rounding (the key biases), and
# that would say nothing. With 1e-4 an error d of a gradient moves a parameter by at most about lr * d / epsilon.
SHAPES = {
    "gpt2": dict(kind="gpt2", L=2, H=4, KV=4, C=32, F=128, tied=True, seed=1),
    "llama": dict(kind="llama", L=2, H=4, KV=2, C=24, F=64, tied=False, seed=2),
    "llama_tied": dict(kind="llama", L=1, H=4, KV=2, C=24, F=64, tied=True, seed=3),
    # biases of query, key and value; rotary positions as Llama 3.1 stretches them, with each kind of frequency among the four
    "qwen2": dict(kind="llama", L=1, H=4, KV=2, C=32, F=64, tied=True, seed=4, qkv_bias=True, theta=20.0,
                  rope=dict(factor=8.0, low=1.0, high=2.0, original=16)),
    # Tasks: several documents a sequence, each by itself. classes: cross entropy over them; labels: each by itself.
    "gpt2_sft": dict(kind="gpt2", L=1, H=4, KV=4, C=16, F=32, tied=True, seed=4, task="sft"),
    "gpt2_labels": dict(kind="gpt2", L=1, H=4, KV=4, C=16, F=32, tied=True, seed=5, task="labels", classes=3, smoothing=0.1),
    "llama_classes": dict(kind="llama", L=1, H=4, KV=2, C=16, F=32, tied=True, seed=6, task="classes", classes=5, smoothing=0.2),
}
DOCUMENTS = 4  # of a sequence, at most


def make_parameters(s):
    """Our logical names -> float64 tensors whose values are exact in bfloat16."""
    g = torch.Generator().manual_seed(s["seed"])
    D = s["C"] // s["H"]
    p = {}

    def add(name, *shape, std=None, mean=0.0):
        std = std if std is not None else 1.3 / math.sqrt(shape[-1])
        p[name] = (mean + std * torch.randn(*shape, generator=g, dtype=torch.float64)).to(torch.bfloat16).double()

    bias = s["kind"] == "gpt2"

    def linear(name, rows, cols, biased=bias):
        add(name + ".weight", rows, cols)
        if biased:
            add(name + ".bias", rows, std=0.1)

    def norm(name):
        add(name + ".weight", s["C"], std=0.2, mean=1.0)
        if bias:
            add(name + ".bias", s["C"], std=0.1)

    add("token_embedding.weight", V, s["C"], std=0.4)
    if bias:
        add("position_embedding.weight", T, s["C"], std=0.3)
    for l in range(s["L"]):
        n = f"layers.{l}."
        norm(n + "norm1")
        for part, heads in (("query", s["H"]), ("key", s["KV"]), ("value", s["KV"])):
            linear(n + "attention." + part, heads * D, s["C"], bias or s.get("qkv_bias", False))
        linear(n + "attention.projection", s["C"], s["H"] * D)
        norm(n + "norm2")
        if not bias:
            linear(n + "mlp.gate", s["F"], s["C"])
        linear(n + "mlp.up", s["F"], s["C"])
        linear(n + "mlp.down", s["C"], s["F"])
    norm("final_norm")
    if not s["tied"]:
        add("head.weight", V, s["C"])
    if "classes" in s:
        add("classifier.weight", s["classes"], s["C"])
    return p


class Errors:
    """The size of each kind of error, and how many elements took one."""

    def __init__(self, stored=0.0, summed=0.0):
        self.stored, self.summed, self.count = stored, summed, 0

    def sign(self, x):
        self.count += x.numel()
        return 2.0 * torch.randint(0, 2, x.shape).to(x.dtype) - 1.0

    def store(self, x):
        return x * (1 + self.stored * self.sign(x)) if self.stored else x

    def add(self, y, sizes):
        return y + self.summed * self.sign(y) * sizes() if self.summed else y


class Stored(torch.autograd.Function):
    """A stored tensor: its value (where forward is true) and its gradient are rounded."""

    @staticmethod
    def forward(ctx, x, errors, forward):
        ctx.errors = errors
        return errors.store(x) if forward else x.clone()

    @staticmethod
    def backward(ctx, dy):
        return ctx.errors.store(dy), None, None


class Product(torch.autograd.Function):
    """a [.., m, k] times b [.., k, n], equal leading dimensions: three products, each a sum over its inner dimension."""

    @staticmethod
    def forward(ctx, a, b, errors):
        ctx.save_for_backward(a, b)
        ctx.errors = errors
        return errors.add(a @ b, lambda: a.abs() @ b.abs())

    @staticmethod
    def backward(ctx, dy):
        a, b = ctx.saved_tensors
        at, bt = a.transpose(-1, -2), b.transpose(-1, -2)
        da = ctx.errors.add(dy @ bt, lambda: dy.abs() @ bt.abs())
        db = ctx.errors.add(at @ dy, lambda: at.abs() @ dy.abs())
        return da, db, None


def rotary(x, positions, s):
    """x [B, heads, T, D], positions [B, T]: elements i and i + D/2 turn by position * theta^(-2i/D), or as Llama 3.1 stretches that."""
    half = x.shape[-1] // 2
    frequency = s.get("theta", 10000.0) ** (-torch.arange(half, dtype=torch.float64) / half)
    if "rope" in s:
        factor, low, high, original = (s["rope"][k] for k in ("factor", "low", "high", "original"))
        share = ((original * frequency / (2 * math.pi) - low) / (high - low)).clamp(0, 1)
        frequency = (1 - share) * frequency / factor + share * frequency
    angle = (positions.double()[:, None, :, None] * frequency).to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], dim=-1)


def forward(s, p, tokens, errors, starts=None, rows=None):
    """tokens [B, T] -> logits [B, T, V]. starts [B, T]: where each token's document begins. rows: numbers b * T + t of those whose
    logits [rows, classes] a classifier gives."""
    starts = torch.zeros_like(tokens) if starts is None else starts
    positions = torch.arange(tokens.shape[1]) - starts
    gpt2 = s["kind"] == "gpt2"
    H, KV, D = s["H"], s["KV"], s["C"] // s["H"]
    keep = lambda x: Stored.apply(x, errors, True)
    product = lambda a, b: Product.apply(a, b, errors)

    def norm(x, name):
        if gpt2:
            centred = x - x.mean(-1, keepdim=True)
            y = centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + 1e-5)
            return keep(y * p[name + ".weight"] + p[name + ".bias"])
        return keep(x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * p[name + ".weight"])

    def linear(x, name):
        y = product(x.reshape(-1, x.shape[-1]), p[name + ".weight"].T).view(*x.shape[:-1], -1)
        return y + p[name + ".bias"] if name + ".bias" in p else y

    heads = lambda x, n: x.view(x.shape[0], T, n, D).transpose(1, 2)
    x = p["token_embedding.weight"][tokens]
    if gpt2:
        x = x + p["position_embedding.weight"][positions]
    x = keep(x)
    mask = torch.ones(T, T, dtype=torch.bool).tril() & (torch.arange(T) >= starts[:, None, :, None])
    for l in range(s["L"]):
        n = f"layers.{l}."
        y = norm(x, n + "norm1")
        q = keep(heads(linear(y, n + "attention.query"), H))
        k = keep(heads(linear(y, n + "attention.key"), KV))
        v = keep(heads(linear(y, n + "attention.value"), KV))
        if not gpt2:
            q, k = keep(rotary(q, positions, s)), keep(rotary(k, positions, s))
        k, v = (a.repeat_interleave(H // KV, dim=1) for a in (k, v))
        scores = (product(q, k.transpose(-1, -2)) / math.sqrt(D)).masked_fill(~mask, -math.inf)
        weights = keep(torch.softmax(scores, dim=-1))  # rounded to bfloat16 as an operand of the product
        attended = keep(product(weights, v).transpose(1, 2).reshape(x.shape[0], T, H * D))
        x = keep(x + linear(attended, n + "attention.projection"))
        y = norm(x, n + "norm2")
        if gpt2:
            up = keep(linear(y, n + "mlp.up"))
            activated = 0.5 * up * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
        else:
            gate, up = keep(linear(y, n + "mlp.gate")), keep(linear(y, n + "mlp.up"))
            activated = gate * torch.sigmoid(gate) * up
        x = keep(x + linear(keep(activated), n + "mlp.down"))
    if rows is not None:
        x = norm(x.reshape(-1, x.shape[-1])[rows], "final_norm")
        return Stored.apply(product(x, p["classifier.weight"].T), errors, False)
    x = norm(x, "final_norm")
    # The logits stay float32, their gradient is stored: a relative error of the gradient alone.
    head = p["token_embedding.weight" if s["tied"] else "head.weight"]
    logits = product(x.reshape(-1, x.shape[-1]), head.T).view(*x.shape[:-1], V)
    return Stored.apply(logits, errors, False)


def classifier_loss(s, p, batch, errors):
    documents = batch["label_weights"] > 0
    rows = (batch["label_rows"] + T * torch.arange(B)[:, None])[documents]
    logits = forward(s, p, batch["tokens"], errors, batch["starts"], rows)
    labels, weights = batch["labels"][documents], batch["label_weights"][documents].to(logits.dtype)
    if s["task"] == "classes":
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=s["smoothing"])
    else:
        soft = labels.to(logits.dtype) * (1 - s["smoothing"]) + s["smoothing"] / 2
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, soft, reduction="none").mean(-1)
    return (losses * weights).sum() / weights.sum(), logits[None]


def mean_loss(s, p, batch, errors):
    if "classes" in s:
        return classifier_loss(s, p, batch, errors)
    logits = forward(s, p, batch["tokens"], errors, batch.get("starts"))
    rows = torch.nn.functional.cross_entropy(logits.reshape(-1, V), batch["targets"].reshape(-1), reduction="none")
    weights = batch["weights"].reshape(-1).to(rows.dtype)
    return (rows * weights).sum() / weights.sum(), logits


def train(s, initial, batches, dtype, errors=Errors()):
    """Three AdamW steps. In bfloat16 the products see parameters rounded from the master copy: one more error each step."""
    master = {n: torch.nn.Parameter(t.to(dtype).clone()) for n, t in initial.items()}
    matrices = [t for t in master.values() if t.dim() == 2]
    vectors = [t for t in master.values() if t.dim() == 1]
    optimizer = torch.optim.AdamW([dict(params=matrices, weight_decay=DECAY), dict(params=vectors, weight_decay=0.0)],
                                  lr=LR, betas=BETAS, eps=EPSILON)
    out = dict(loss_sum=[], targets=[], gradient_norm=[])
    for step, batch in enumerate(batches):
        stored = master
        if step > 0:  # the first step's weights are exact in bfloat16
            stored = {n: errors.store(t) for n, t in master.items()}
        optimizer.zero_grad()
        loss, logits = mean_loss(s, stored, batch, errors)
        loss.backward()
        gradients = {n: t.grad.detach().clone() for n, t in master.items()}
        norm = torch.sqrt(sum((g * g).sum() for g in gradients.values()))
        if step == 0:
            out["gradients"], out["logits"] = gradients, logits.detach()[0]
        scale = min(1.0, CLIP / norm.item())
        for t in master.values():
            t.grad.mul_(scale)
        optimizer.step()
        count = batch["label_weights" if "classes" in s else "weights"].sum().item()
        out["loss_sum"].append(loss.item() * count)
        out["targets"].append(count)
        out["gradient_norm"].append(norm.item())
    out["updated"] = {n: t.detach() for n, t in master.items()}
    return out


def difference(a, b):
    """Largest differences of two runs: of each tensor the Euclidean norm and the largest element."""
    tensors = lambda x, y: {n: [(x[n].double() - y[n].double()).norm().item(), (x[n].double() - y[n].double()).abs().max().item()]
                            for n in y}
    return dict(loss_mean=[abs(x - y) / n for x, y, n in zip(a["loss_sum"], b["loss_sum"], b["targets"])],
                gradient_norm=[abs(x - y) for x, y in zip(a["gradient_norm"], b["gradient_norm"])],
                logits=(a["logits"].double() - b["logits"].double()).abs().max().item(),
                gradients=tensors(a["gradients"], b["gradients"]), updated=tensors(a["updated"], b["updated"]))


def largest(a, b, scale):
    """Element-wise max(a, b / scale) through nested dicts and lists."""
    if isinstance(b, dict):
        return {k: largest(a[k] if a else None, b[k], scale) for k in b}
    if isinstance(b, list):
        return [largest(a[i] if a else None, b[i], scale) for i in range(len(b))]
    return max(a or 0.0, b / scale)


def sensitivity(s, initial, batches, reference, **sizes):
    worst = None
    for trial in range(TRIALS):
        torch.manual_seed(1000 + trial)
        errors = Errors(**sizes)
        worst = largest(worst, difference(train(s, initial, batches, torch.float64, errors), reference), max(sizes.values()))
    worst["elements"] = errors.count // STEPS
    return worst


def rounded(value):
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.3g}")


def flat(prefix, value):
    """Nested dicts of numbers and lists -> {dotted name: vector}."""
    if isinstance(value, dict):
        return {n: t for k, v in value.items() for n, t in flat(f"{prefix}.{k}", v).items()}
    return {prefix: torch.tensor(value if isinstance(value, list) else [value], dtype=torch.float64)}


def write_safetensors(path, tensors):
    header, data, offset = {}, [], 0
    for name, tensor in tensors.items():
        raw = tensor.detach().to(torch.float32).contiguous().numpy().tobytes()
        header[name] = dict(dtype="F32", shape=list(tensor.shape), data_offsets=[offset, offset + len(raw)])
        data.append(raw)
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(data))


def hugging_face(s, p):
    """config.json and tensors as GPT2LMHeadModel and LlamaForCausalLM name them."""
    t = {}
    if s["kind"] == "gpt2":
        config = dict(architectures=["GPT2LMHeadModel"], model_type="gpt2", activation_function="gelu_new", n_layer=s["L"],
                      n_head=s["H"], n_embd=s["C"], n_inner=s["F"], n_positions=T, vocab_size=V, layer_norm_epsilon=1e-5,
                      tie_word_embeddings=s["tied"])
        t["transformer.wte.weight"], t["transformer.wpe.weight"] = p["token_embedding.weight"], p["position_embedding.weight"]
        for l in range(s["L"]):
            n, h = f"layers.{l}.", f"transformer.h.{l}."
            for ours, theirs in (("norm1", "ln_1"), ("norm2", "ln_2")):
                t[h + theirs + ".weight"], t[h + theirs + ".bias"] = p[n + ours + ".weight"], p[n + ours + ".bias"]
            parts = [n + "attention." + x for x in ("query", "key", "value")]
            t[h + "attn.c_attn.weight"] = torch.cat([p[x + ".weight"] for x in parts]).T
            t[h + "attn.c_attn.bias"] = torch.cat([p[x + ".bias"] for x in parts])
            for ours, theirs in (("attention.projection", "attn.c_proj"), ("mlp.up", "mlp.c_fc"), ("mlp.down", "mlp.c_proj")):
                t[h + theirs + ".weight"], t[h + theirs + ".bias"] = p[n + ours + ".weight"].T, p[n + ours + ".bias"]
        t["transformer.ln_f.weight"], t["transformer.ln_f.bias"] = p["final_norm.weight"], p["final_norm.bias"]
        return config, t
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", hidden_size=s["C"],
                  intermediate_size=s["F"], max_position_embeddings=T, num_attention_heads=s["H"], num_hidden_layers=s["L"],
                  num_key_value_heads=s["KV"], rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=s["tied"], vocab_size=V,
                  torch_dtype="float32")
    if s.get("qkv_bias"):
        config.update(architectures=["Qwen2ForCausalLM"], model_type="qwen2")
    if "rope" in s:
        config.update(rope_theta=s["theta"], rope_scaling=dict(rope_type="llama3", factor=s["rope"]["factor"],
                      low_freq_factor=s["rope"]["low"], high_freq_factor=s["rope"]["high"],
                      original_max_position_embeddings=s["rope"]["original"]))
    t["model.embed_tokens.weight"] = p["token_embedding.weight"]
    for l in range(s["L"]):
        for ours, theirs in (("norm1", "input_layernorm"), ("attention.query", "self_attn.q_proj"),
                             ("attention.key", "self_attn.k_proj"), ("attention.value", "self_attn.v_proj"),
                             ("attention.projection", "self_attn.o_proj"), ("norm2", "post_attention_layernorm"),
                             ("mlp.gate", "mlp.gate_proj"), ("mlp.up", "mlp.up_proj"), ("mlp.down", "mlp.down_proj")):
            t[f"model.layers.{l}.{theirs}.weight"] = p[f"layers.{l}.{ours}.weight"]
            if f"layers.{l}.{ours}.bias" in p:
                t[f"model.layers.{l}.{theirs}.bias"] = p[f"layers.{l}.{ours}.bias"]
    t["model.norm.weight"] = p["final_norm.weight"]
    if not s["tied"]:
        t["lm_head.weight"] = p["head.weight"]
    return config, t


def make_documents(s, batch, g):
    """Cuts each sequence into documents; what is behind the last one is padding. Replaces the weights: no target is in another
    document."""
    starts, rows = torch.zeros(B, T, dtype=torch.long), torch.full((B, DOCUMENTS), -1)
    used = torch.zeros(B, T, dtype=torch.bool)
    for b in range(B):
        at = 0
        for d in range(DOCUMENTS):
            length = int(torch.randint(1, 8, (1,), generator=g))
            if at + length > T:
                break
            starts[b, at : at + length] = at
            used[b, at : at + length - 1] = True
            at += length
            rows[b, d] = at - 1
        starts[b, at:] = at
    batch.update(starts=starts, weights=batch["weights"] * used)
    if "classes" in s:
        classes = s["classes"]
        weights = torch.randint(1, 5, (B, DOCUMENTS), generator=g) / 2
        labels = (torch.randint(0, classes, (B, DOCUMENTS), generator=g) if s["task"] == "classes" else
                  torch.randint(0, 2, (B, DOCUMENTS, classes), generator=g))
        batch.update(label_rows=rows, label_weights=weights * (rows >= 0), labels=labels)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    torch.set_num_threads(1)
    for name in sys.argv[1:] or SHAPES:
        s = SHAPES[name]
        folder = os.path.join(here, name)
        os.makedirs(folder, exist_ok=True)
        initial = make_parameters(s)
        g = torch.Generator().manual_seed(100 + s["seed"])
        batches = []
        for _ in range(STEPS):
            text = torch.randint(0, V, (B, T + 1), generator=g)
            weights = (torch.rand(B, T, generator=g) > 0.15).float()
            batches.append(dict(tokens=text[:, :-1], targets=text[:, 1:], weights=weights))
            if "task" in s:
                make_documents(s, batches[-1], g)
        result = train(s, initial, batches, torch.float64)
        single = train(s, initial, batches, torch.float32)
        config, tensors = hugging_face(s, initial)
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f, indent=1)
            f.write("\n")
        write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
        stored = {k: torch.cat([b[k] for b in batches]) for k in ("tokens", "targets", "weights")}
        if "task" not in s:
            stored["logits"] = result["logits"]
        for key in batches[0].keys() - stored.keys():
            stored[key] = torch.cat([b[key] for b in batches]).reshape(STEPS * B, -1)
        if "classes" in s:
            stored["classifier.weight"] = initial["classifier.weight"]
            stored["smoothing"] = torch.tensor([s["smoothing"]])
        stored.update({"gradients." + n: t for n, t in result["gradients"].items()})
        stored.update({"updated." + n: t for n, t in result["updated"].items()})
        text = dict(batch=B, sequence=T, steps=STEPS, loss_sum=result["loss_sum"],
                    loss_mean=[a / b for a, b in zip(result["loss_sum"], result["targets"])], target_count=result["targets"],
                    gradient_norm=result["gradient_norm"],
                    optimizer=dict(lr=LR, beta1=BETAS[0], beta2=BETAS[1], epsilon=EPSILON, weight_decay=DECAY, clip=CLIP),
                    longest_sum=max(B * T, V, s["C"], s["F"]),
                    sensitivity_summed=rounded(sensitivity(s, initial, batches, result, summed=1e-7)),
                    sensitivity_stored=rounded(sensitivity(s, initial, batches, result, stored=1e-7)),
                    sensitivity_stored_bfloat16=rounded(sensitivity(s, initial, batches, result, stored=2.0**-8)),
                    pytorch_float32_error=rounded(difference(single, result)))
        for key in ("loss_mean", "target_count", "gradient_norm", "longest_sum", "optimizer"):
            stored.update(flat(key, text[key]))
        for key in ("summed", "stored", "stored_bfloat16"):
            stored.update(flat(key, text["sensitivity_" + key]))
        write_safetensors(os.path.join(folder, "reference.safetensors"), stored)
        with open(os.path.join(folder, "reference.json"), "w") as f:
            json.dump(text, f, indent=0)
            f.write("\n")
        print(name, "loss", text["loss_mean"], "norm", text["gradient_norm"])


if __name__ == "__main__":
    main()
