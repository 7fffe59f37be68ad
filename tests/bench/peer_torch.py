#!/usr/bin/env python3
"""The same whole training steps as tests/bench/bench_run in Debian's PyTorch (apt install python3-torch), for comparison on one machine.

usage: python3 peer_torch.py [--steps N] [--models 124M,30M] [--threads 1,2] [--dtypes fp32,autocast,bf16] [--processes 1,2]
A step: forward, cross entropy, backward, global-norm clipping, AdamW on float32 parameters (bf16: on bfloat16 parameters).
  autocast  torch.autocast bfloat16, float32 parameters      bf16  parameters and activations bfloat16
--processes 2 adds two processes of one thread, half the batch each, gradients summed with gloo (DistributedDataParallel).
PyTorch multiplies float32 matrices with the BLAS that libblas.so.3 points to; with Debian's reference libblas3 it is tens of times slower:
install libopenblas0-pthread first, and unset OPENBLAS_CORETYPE where it is set.
Prints one line a case: the median of the steps after the second, in tokens/s.
"""
import argparse
import os
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

MODELS = {  # layers, heads, width, context, batch, sequence; V = 50257 padded to 50304
    "124M": (12, 12, 768, 1024, 4, 64),
    "30M": (6, 6, 384, 1024, 8, 256),
}
VOCABULARY = 50304


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, mask):
        b, t, c = x.shape
        q, k, v = (y.view(b, t, self.heads, c // self.heads).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(c, dim=2))
        scores = (q @ k.transpose(-2, -1)) * (c // self.heads) ** -0.5
        weights = torch.softmax(scores.masked_fill(mask, float("-inf")), dim=-1)
        x = x + self.projection((weights @ v).transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Model(nn.Module):
    def __init__(self, layers, heads, width, context):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens, targets, mask):
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x, mask)
        logits = self.norm(x) @ self.tokens.weight.T
        return F.cross_entropy(logits.view(-1, VOCABULARY).float(), targets.view(-1))


def measure(name, dtype, threads, steps, rank=0, processes=1):
    layers, heads, width, context, batch, sequence = MODELS[name]
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = Model(layers, heads, width, context)
    if dtype == "bf16":
        model = model.to(torch.bfloat16)
    run = model
    if processes > 1:
        run = nn.parallel.DistributedDataParallel(model)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([dict(params=matrices, weight_decay=0.1), dict(params=vectors, weight_decay=0.0)],
                                  lr=6e-4, betas=(0.9, 0.95), foreach=False)
    mask = torch.ones(sequence, sequence, dtype=torch.bool).triu(1)
    times = []
    for _ in range(steps):
        text = torch.randint(0, 50257, (batch // processes, sequence + 1))
        began = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "autocast"):
            loss = run(text[:, :-1], text[:, 1:].contiguous(), mask)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - began)
    if rank == 0:
        median = statistics.median(times[2:])
        kind = f"{processes} processes x {threads} threads" if processes > 1 else f"{threads} threads"
        print(f"{name:5} {dtype:9} {kind:24} {batch * sequence / median:8.0f} tokens/s   {1000 * median:7.0f} ms a step", flush=True)


def worker(rank, processes, name, dtype, steps):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29617")
    torch.distributed.init_process_group("gloo", rank=rank, world_size=processes)
    measure(name, dtype, 1, steps, rank, processes)
    torch.distributed.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--models", default="124M,30M")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--dtypes", default="fp32,autocast,bf16")
    parser.add_argument("--processes", default="1,2")
    options = parser.parse_args()
    print("PyTorch", torch.__version__)
    for name in options.models.split(","):
        for dtype in options.dtypes.split(","):
            for processes in map(int, options.processes.split(",")):
                if processes == 1:
                    for threads in map(int, options.threads.split(",")):
                        measure(name, dtype, threads, options.steps)
                else:
                    torch.multiprocessing.spawn(worker, (processes, name, dtype, options.steps), nprocs=processes)


if __name__ == "__main__":
    main()
