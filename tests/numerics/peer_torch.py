"""The Python side of test_peer_torch.sh: peer_torch.py PROGRAMS RUN:PREPARED.json...

Trains each run once more in plain PyTorch: a model written here, torch.optim, the batches that gptdist-data at printed into RUN/rows.jsonl, from
the weights that export-hf wrote into RUN/begin. Settings are those of the run's checkpoint; PREPARED is what gptdist-data prepare said of the data, or
{"texts": [..]} of plain text. Loss, gradient norm and learning rate of every step are compared with metrics.jsonl: in float32, as the runs have it,
and in float64, which rounds nothing of its own."""
import fnmatch
import json
import math
import os
import struct
import subprocess
import sys

import torch
from torch.nn import functional as F

FIRST, ALL = 1e-6, 1e-4  # relative differences: the first step's loss; every loss and gradient norm


class Settings:
    """The resolved run file of a run, by dotted key."""

    def __init__(self, programs, run):
        done = subprocess.run([os.path.join(programs, "gptdist-ckpt"), "inspect", run, "--settings", "--json"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"gptdist-ckpt inspect {run}: {done.stderr}")
        self.values = json.loads(done.stdout)["settings"]

    def text(self, key):
        return self.values[key]

    def number(self, key):
        return float(self.values[key])

    def count(self, key):
        return int(float(self.values[key]))

    def yes(self, key):
        return self.values[key] == "true"


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, body = json.loads(file.read(length)), file.read()
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensors[name] = torch.frombuffer(bytearray(body[begin:end]), dtype=torch.float32).view(entry["shape"])
    return tensors


# ---- batches ----


class Batch:
    """A step's rows, [B, T] each; padding is token 0 in a document of its own. Of a classifier the place and the labels of each document."""

    def __init__(self, rows, length, stream, cut, multiple):
        shape = len(rows), length
        self.tokens, self.next = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        self.taught = torch.zeros(shape)
        self.document = torch.zeros(shape, dtype=torch.long)
        self.position = torch.arange(length).repeat(len(rows), 1)
        self.last, labels = [], []  # (row, token) of each document's end
        for b, row in enumerate(rows):
            if "tokens" not in row:  # plain text: a window of the stream
                window = torch.tensor(stream[row["token"] : row["token"] + length + 1])
                self.tokens[b], self.next[b], self.taught[b] = window[:-1], window[1:], 1
                starts = [t for t in range(1, length) if cut is not None and window[t - 1] == cut]
            else:
                used = len(row["tokens"])
                self.tokens[b, :used] = torch.tensor(row["tokens"])
                self.next[b, : used - 1] = self.tokens[b, 1:used]
                self.taught[b, : used - 1] = torch.tensor(row["targets"][1:], dtype=torch.float32)
                starts = row["starts"] + [used]
                self.last += [(b, end - 1) for end in starts[1:]]
                labels += row.get("labels", [])
            for number, start in enumerate(starts):
                self.document[b, start:] = number + 1
                self.position[b, start:] = torch.arange(length - start)
        self.labels = torch.tensor(labels, dtype=torch.float64 if multiple else torch.long)


# ---- the model ----


class Model:
    """GPT-2's and Llama's shapes, by the names of their folders."""

    def __init__(self, settings, tensors, dtype):
        self.s = settings
        self.p = {name: tensor.to(dtype).clone() for name, tensor in tensors.items()}
        self.llama = "model.embed_tokens.weight" in self.p
        self.heads = settings.count("model.heads")
        self.kv_heads = settings.count("model.kv_heads") or self.heads
        self.head_size = settings.count("model.head_size") or settings.count("model.width") // self.heads
        self.epsilon = settings.number("model.norm_epsilon")

    def norm(self, x, name):
        weight = self.p[name + ".weight"]
        if self.s.text("model.norm") == "layernorm":
            return F.layer_norm(x, weight.shape, weight, self.p[name + ".bias"], self.epsilon)
        return F.rms_norm(x, weight.shape, weight, self.epsilon)

    def linear(self, x, name):
        weight, bias = self.p[name + ".weight"], self.p.get(name + ".bias")
        return F.linear(x, weight if self.llama else weight.T, bias)

    def rotary(self, x, positions):
        """x [B, heads, T, D]: elements i and i + D/2 are turned by position * theta^(-2i/D)."""
        half = self.head_size // 2
        turn = self.s.number("model.rope_theta") ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = positions.double()[:, None, :, None] * turn
        cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cosine - b * sine, b * cosine + a * sine], dim=-1)

    def attention(self, q, k, v, batch):
        split = lambda x, n: x.view(*x.shape[:2], n, self.head_size).transpose(1, 2)
        q, k, v = split(q, self.heads), split(k, self.kv_heads), split(v, self.kv_heads)
        if self.llama:
            q, k = self.rotary(q, batch.position), self.rotary(k, batch.position)
        k, v = (x.repeat_interleave(self.heads // self.kv_heads, dim=1) for x in (k, v))
        length = q.shape[2]
        same = batch.document[:, None, :, None] == batch.document[:, None, None, :]
        scores = (q @ k.transpose(-1, -2) / math.sqrt(self.head_size)).masked_fill(
            ~(same & torch.ones(length, length, dtype=torch.bool).tril()), -math.inf)
        return (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).flatten(2)

    def gpt2_layer(self, x, n, batch):
        q, k, v = self.linear(self.norm(x, n + "ln_1"), n + "attn.c_attn").chunk(3, dim=-1)
        x = x + self.linear(self.attention(q, k, v, batch), n + "attn.c_proj")
        how = "tanh" if self.s.text("model.activation") == "gelu_tanh" else "none"
        up = self.linear(self.norm(x, n + "ln_2"), n + "mlp.c_fc")
        return x + self.linear(F.gelu(up, approximate=how), n + "mlp.c_proj")

    def llama_layer(self, x, n, batch):
        y = self.norm(x, n + "input_layernorm")
        q, k, v = (self.linear(y, n + f"self_attn.{part}_proj") for part in "qkv")
        x = x + self.linear(self.attention(q, k, v, batch), n + "self_attn.o_proj")
        y = self.norm(x, n + "post_attention_layernorm")
        return x + self.linear(F.silu(self.linear(y, n + "mlp.gate_proj")) * self.linear(y, n + "mlp.up_proj"), n + "mlp.down_proj")

    def residual(self, batch):
        if self.llama:
            x = F.embedding(batch.tokens, self.p["model.embed_tokens.weight"])
        else:
            x = F.embedding(batch.tokens, self.p["transformer.wte.weight"]) + F.embedding(batch.position, self.p["transformer.wpe.weight"])
        for layer in range(self.s.count("model.layers")):
            x = self.llama_layer(x, f"model.layers.{layer}.", batch) if self.llama else self.gpt2_layer(x, f"transformer.h.{layer}.", batch)
        return self.norm(x, "model.norm" if self.llama else "transformer.ln_f")

    def logits(self, batch):
        """[B, T, V]"""
        tied = "model.embed_tokens.weight" if self.llama else "transformer.wte.weight"
        return F.linear(self.residual(batch), self.p.get("lm_head.weight", self.p[tied]))

    def scores(self, batch):
        """[documents, classes]"""
        rows, places = zip(*batch.last)
        return F.linear(self.residual(batch)[list(rows), list(places)], self.p["score.weight"])


def mean_loss(model, batch, weights):
    """Of the global batch, as it is trained: over its targets, or over its documents by the weights of their labels."""
    smoothing = model.s.number("optimizer.label_smoothing")
    if "score.weight" not in model.p:
        losses = F.cross_entropy(model.logits(batch).flatten(0, 1), batch.next.flatten(), reduction="none", label_smoothing=smoothing)
        taught = batch.taught.flatten().to(losses.dtype)
        return (losses * taught).sum() / taught.sum()
    scores = model.scores(batch)
    if model.s.text("finetune.loss") == "softmax":
        losses = F.cross_entropy(scores, batch.labels, reduction="none", label_smoothing=smoothing)
        weights = weights.to(losses.dtype)[batch.labels]
        return (losses * weights).sum() / weights.sum()
    wanted = batch.labels.to(scores.dtype).view(scores.shape) * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(scores, wanted)


# ---- which tensors learn, and how fast ----

PARTS = {  # of a tensor that is several of ours, the first
    "ln_1": "norm1", "ln_2": "norm2", "attn.c_attn": "attention.query", "attn.c_proj": "attention.projection", "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down", "input_layernorm": "norm1", "post_attention_layernorm": "norm2", "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key", "self_attn.v_proj": "attention.value", "self_attn.o_proj": "attention.projection",
    "mlp.gate_proj": "mlp.gate", "mlp.up_proj": "mlp.up", "mlp.down_proj": "mlp.down", "wte": "token_embedding", "embed_tokens": "token_embedding",
    "wpe": "position_embedding", "ln_f": "final_norm", "norm": "final_norm", "lm_head": "head", "score": "classifier"}


def our_name(theirs):
    path, kind = theirs.split(".", 1)[1].rsplit(".", 1) if theirs.startswith(("transformer.", "model.")) else theirs.rsplit(".", 1)
    if path in PARTS:
        return f"{PARTS[path]}.{kind}"
    _, layer, part = path.split(".", 2)
    return f"layers.{layer}.{PARTS[part]}.{kind}"


def learns(settings, name, tied):
    said = settings.text("finetune.train")
    head = ["final_norm.*", "token_embedding.*" if tied else "head.*", "classifier.*"]
    patterns = []
    for word in json.loads(said) if said.startswith("[") else [said]:
        if word == "all":
            patterns += ["*"]
        elif word == "head" or word.startswith("top:"):
            layers, top = settings.count("model.layers"), int(word[4:] or 0)
            patterns += head + [f"layers.{layer}.*" for layer in range(layers - top, layers)]
        else:
            patterns += [word]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def factor(settings, name):
    """The last one that matches counts."""
    found = [number for pattern, number in json.loads(settings.text("optimizer.lr_scale")).items() if fnmatch.fnmatchcase(name, pattern)]
    return found[-1] if found else 1.0


# ---- the steps ----


def rate(s, step):
    """Of a step, from 0: a linear rise that would reach lr one step behind the warm-up, then the kind's way to min_lr."""
    lr, low, warm, decay = (s.number(key) for key in ("optimizer.lr", "optimizer.min_lr", "schedule.warmup_steps", "schedule.decay_steps"))
    if step < warm:
        return lr * (step + 1) / (warm + 1)
    kind, begin = s.text("schedule.kind"), warm
    if kind == "wsd":
        begin = s.number("run.steps") - decay
    passed = min(max(step - begin, 0) / decay, 1) if decay else 0
    if kind == "cosine":
        return low + (lr - low) * (1 + math.cos(math.pi * passed)) / 2
    return lr if kind == "constant" else lr + (low - lr) * passed


class Optimizer:
    """torch's, a group for each factor of the learning rate and for each decay: of matrices alone, apart from the gradient."""

    def __init__(self, settings, learning):
        self.s, groups = settings, {}
        for tensor, factor in learning:
            groups.setdefault((factor, settings.number("optimizer.weight_decay") if tensor.dim() == 2 else 0.0), []).append(tensor)
        if settings.text("optimizer.kind") == "adamw":
            betas = settings.number("optimizer.beta1"), settings.number("optimizer.beta2")
            made = lambda tensors, decay: torch.optim.AdamW(tensors, betas=betas, eps=settings.number("optimizer.epsilon"), weight_decay=decay)
        else:
            momentum, nesterov = settings.number("optimizer.momentum"), settings.yes("optimizer.nesterov")
            made = lambda tensors, decay: torch.optim.SGD(tensors, lr=1, momentum=momentum, nesterov=nesterov)
        self.parts = [(made(tensors, decay), factor, decay) for (factor, decay), tensors in groups.items()]

    def step(self, lr):
        for optimizer, factor, decay in self.parts:
            for group in optimizer.param_groups:
                group["lr"] = lr * factor
                if isinstance(optimizer, torch.optim.SGD):  # its own weight_decay goes through the momentum
                    with torch.no_grad():
                        torch._foreach_mul_(group["params"], 1 - lr * factor * decay)
            optimizer.step()


def train(settings, tensors, batches, weights, dtype):
    """(loss, gradient norm before it is clipped) of each step."""
    model = Model(settings, tensors, dtype)
    tied = "lm_head.weight" not in tensors and "score.weight" not in tensors
    learning = [(tensor.requires_grad_(), factor(settings, our_name(name))) for name, tensor in model.p.items()
                if learns(settings, our_name(name), tied)]
    optimizer, clip, out = Optimizer(settings, learning), settings.number("optimizer.clip"), []
    for step, batch in enumerate(batches):
        for tensor, _ in learning:
            tensor.grad = None
        loss = mean_loss(model, batch, weights)
        loss.backward()
        norm = torch.sqrt(sum((tensor.grad.double() ** 2).sum() for tensor, _ in learning)).item()
        for tensor, _ in learning:
            tensor.grad *= min(1.0, clip / norm) if clip > 0 else 1.0
        optimizer.step(rate(settings, step))
        out.append((loss.item(), norm))
    return out


# ---- a run ----


def class_weights(settings, prepared):
    """Of a text by its label: 1, a list, or texts / (classes * texts of the class) over the training split."""
    said = settings.text("finetune.class_weights")
    if said == "balanced":
        counts = torch.tensor([float(label["train"]) for label in prepared["labels"]], dtype=torch.float64)
        return counts.sum() / (len(counts) * counts)
    given = json.loads(said) if said.startswith("[") else [1.0] * (settings.count("model.classes") + 1)
    return torch.tensor(given, dtype=torch.float64)


def read_lines(folder, name):
    with open(os.path.join(folder, name)) as file:
        return [json.loads(line) for line in file]


def read_batches(settings, folder, prepared):
    """Plain text is bytes, each document with an end of text, 256; of it `at` tells where the windows are."""
    stream, end = [], 256
    for document in prepared.get("texts", []):
        stream += list(document.encode()) + [end]
    rows, batch = read_lines(folder, "rows.jsonl"), settings.count("batch.global")
    length = settings.count("batch.sequence") or settings.count("model.context")
    cut = end if settings.yes("data.mask_documents") else None
    return [Batch(rows[i : i + batch], length, stream, cut, settings.text("finetune.loss") == "sigmoid") for i in range(0, len(rows), batch)]


def compare(programs, folder, prepared):
    """Prints a line a dtype, and the steps where one fails. Returns how many failed."""
    settings = Settings(programs, folder)
    ours = [event for event in read_lines(folder, "metrics.jsonl") if event["event"] == "train"]
    batches = read_batches(settings, folder, prepared)
    tensors = read_safetensors(os.path.join(folder, "begin", "model.safetensors"))
    apart = lambda a, b: abs(a - b) / abs(b)
    failed = 0
    for dtype in (torch.float32, torch.float64):
        theirs = train(settings, tensors, batches, class_weights(settings, prepared), dtype)
        losses = [apart(event["loss"], loss) for event, (loss, _) in zip(ours, theirs)]
        norms = [apart(event["grad_norm"], norm) for event, (_, norm) in zip(ours, theirs)]
        rates = [apart(event["lr"], rate(settings, step)) for step, event in enumerate(ours)]
        good = len(ours) == len(batches) == settings.count("run.steps") and losses[0] <= FIRST and max(losses + norms) <= ALL and max(rates) <= FIRST
        failed += not good
        print(f"{'ok     ' if good else 'FAILED '} {os.path.basename(folder)}, {str(dtype)[6:]}: {len(theirs)} steps, "
              f"loss {theirs[0][0]:.4f} to {theirs[-1][0]:.4f}; apart by {losses[0]:.1e} in the first loss, {max(losses):.1e} in any, {max(norms):.1e} in a gradient norm", flush=True)
        for step, (event, (loss, norm)) in enumerate(zip(ours, theirs)):
            if not good:
                print(f"        step {step + 1}: loss {event['loss']} and {loss:.9g}, gradient norm {event['grad_norm']} and {norm:.9g}, "
                      f"learning rate {event['lr']} and {rate(settings, step):.9g}")
    return failed


def main():
    programs, *pairs = sys.argv[1:]
    torch.set_num_threads(1)
    failed = 0
    for pair in pairs:
        folder, data = pair.split(":")
        with open(data) as file:
            failed += compare(programs, folder, json.load(file))
    sys.exit(failed > 0)


main()
