#!/usr/bin/env python3
"""The same whole training steps as tests/bench/bench_run in PyTorch, each way that may be its fastest, for comparison on one machine.

usage: python3 peer_torch.py [--venv FOLDER] [--steps N] [--models 124M,30M] [--precisions fp32,autocast,master]
                             [--modes eager,default] [--layouts 1x1,1x2,2x1] [--device cpu|cuda] [--batch B] [--sequence T]
  --venv FOLDER  a virtual environment with torch to run in; made there, with the newest torch that pip finds, where none is yet
A step: forward, cross entropy, backward, global-norm clipping, AdamW on float32 weights: scaled_dot_product_attention, fused AdamW
(foreach where a build lacks it).
  fp32      all of it
  autocast  bfloat16: torch.autocast, float32 parameters
  master    bfloat16: parameters, activations and gradients bfloat16, the optimizer on a float32 copy of the weights
--device cuda: on the first GPU, in one process. --batch, --sequence: in place of the model's own sizes.
--modes: eager, and modes of torch.compile (default, max-autotune-no-cudagraphs, ...); one that fails is told, and its case runs eager.
--layouts: processes x threads; more than one process has its part of the batch, gradients summed with gloo (DistributedDataParallel).
Prints one line a case, the median of the steps after the third (the first ones compile) in tokens/s, then the best of each group.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv

MODELS = {  # layers, heads, width, context, batch, sequence; V = 50257 padded to 50304
    "124M": (12, 12, 768, 1024, 4, 64),
    "1558M": (48, 25, 1600, 1024, 4, 64),
    "30M": (6, 6, 384, 1024, 8, 256),
    "tiny": (2, 2, 32, 64, 4, 32),  # to see that everything runs
}
VOCABULARY = 50304
UNCOUNTED = 3
VENV_BYTES = 12 << 30  # a wheel with CUDA libraries, and what pip keeps while it unpacks


def make_model(layers, heads, width, context):
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            b, t, c = x.shape
            q, k, v = (y.view(b, t, heads, c // heads).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(c, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.projection(y.transpose(1, 2).reshape(b, t, c))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(context, width)
            self.blocks = nn.ModuleList(Block() for _ in range(layers))
            self.norm = nn.LayerNorm(width)
            for p in self.parameters():
                if p.dim() == 2:
                    nn.init.normal_(p, std=0.02)

        def forward(self, tokens, targets):
            x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
            for block in self.blocks:
                x = block(x)
            logits = F.linear(self.norm(x), self.tokens.weight)
            return F.cross_entropy(logits.view(-1, VOCABULARY).float(), targets.view(-1))

    return Model()


class Weights:
    """What the optimizer works on: the parameters, or float32 copies of bfloat16 ones."""

    def __init__(self, model, precision):
        import torch

        self.parameters = list(model.parameters())
        self.masters = self.parameters
        if precision == "master":
            model.to(torch.bfloat16)
            self.masters = [p.detach().float().requires_grad_() for p in self.parameters]
        groups = [dict(params=[m for m in self.masters if m.dim() == 2], weight_decay=0.1),
                  dict(params=[m for m in self.masters if m.dim() == 1], weight_decay=0.0)]
        settings = dict(lr=6e-4, betas=(0.9, 0.95))
        try:
            self.optimizer, self.kind = torch.optim.AdamW(groups, fused=True, **settings), "fused"
        except (RuntimeError, TypeError):
            self.optimizer, self.kind = torch.optim.AdamW(groups, foreach=True, **settings), "foreach"

    def update(self):
        import torch

        copies = self.masters is not self.parameters
        if copies:
            for master, p in zip(self.masters, self.parameters):
                master.grad = p.grad.float()
        torch.nn.utils.clip_grad_norm_(self.masters, 1.0)
        self.optimizer.step()
        if copies:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, self.masters)
        for p in self.parameters:
            p.grad = None


def sizes(name, batch, sequence):
    """Those of the model, where they are 0."""
    return batch or MODELS[name][4], sequence or MODELS[name][5]


def measure(name, precision, mode, processes, threads, steps, device, batch, sequence):
    """Seconds of each counted step, and the kind of optimizer."""
    import torch

    layers, heads, width, context = MODELS[name][:4]
    batch, sequence = sizes(name, batch, sequence)
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    with torch.device(device):  # where its numbers are drawn, too: 1.5 billion of them take long on a CPU
        model = make_model(layers, heads, width, context)
    weights = Weights(model, precision)
    run = model
    if processes > 1:
        run = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=True)
    if mode != "eager":
        run = torch.compile(run, mode=None if mode == "default" else mode)
    times = []
    for _ in range(steps + UNCOUNTED):
        text = torch.randint(0, 50257, (batch // processes, sequence + 1), device=device)
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "autocast"):
            loss = run(text[:, :-1], text[:, 1:].contiguous())
        loss.backward()
        weights.update()
        loss = loss.item()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    if not loss == loss or loss > 20:
        raise ArithmeticError(f"the loss is {loss}")
    return times[UNCOUNTED:], weights.kind


def worker(rank, processes, threads, name, precision, mode, steps, device, batch, sequence, folder):
    """One process of a case; the first one leaves its result in folder/result."""
    import torch

    if processes > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes)
    times, kind = measure(name, precision, mode, processes, threads, steps, device, batch, sequence)
    if rank == 0:
        with open(f"{folder}/result", "w") as out:
            print(statistics.median(times), kind, file=out)
    if processes > 1:
        torch.distributed.destroy_process_group()


def run_case(name, precision, mode, processes, threads, options):
    """(seconds a step, kind of optimizer) in fresh processes, so that no case finds another's threads and compiled code; or a text."""
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), GLOO_SOCKET_IFNAME="lo")
        if options.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        environment.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large pages for tensors
        jobs = [subprocess.Popen([sys.executable, __file__, "--worker", str(rank), str(processes), str(threads), name, precision, mode,
                                  str(options.steps), options.device, str(options.batch), str(options.sequence), folder], env=environment, stdout=subprocess.DEVNULL, stderr=open(f"{folder}/said-{rank}", "w"))
                for rank in range(processes)]
        while any(job.poll() is None for job in jobs):
            if any(job.poll() not in (None, 0) for job in jobs):
                for job in jobs:
                    job.kill()
            time.sleep(0.2)
        if all(job.returncode == 0 for job in jobs):
            median, kind = open(f"{folder}/result").read().split()
            return float(median), kind
        failed = next((r for r in range(processes) if jobs[r].returncode > 0), 0)
        said = [line.strip() for line in open(f"{folder}/said-{failed}") if line.strip()]
        faults = [line for line in said if "Error" in line] or said
        return (faults or [f"left with {jobs[failed].returncode}"])[-1][:160]


def report(name, precision, mode, processes, threads, modes, options):
    """Runs and prints a case, eager where its mode fails and no other case is. Returns (tokens/s, how) or None."""
    result = run_case(name, precision, mode, processes, threads, options)
    if isinstance(result, str):
        print(f"{name:5} {processes} x {threads} {precision:9} {mode:10} failed: {result}", flush=True)
        return None if "eager" in modes else report(name, precision, "eager", processes, threads, ["eager"], options)
    batch, sequence = sizes(name, options.batch, options.sequence)
    speed = batch * sequence / result[0]
    print(f"{name:5} {processes} x {threads} {precision:9} {mode:10} {speed:9.0f} tokens/s {1000 * result[0]:9.1f} ms a step"
          f"   {result[1]} AdamW", flush=True)
    return speed, f"{precision}, {mode}"


def enter(folder):
    """Goes on in the virtual environment; makes it first where it is none, and fetches torch where it has none."""
    python = os.path.join(os.path.abspath(folder), "bin", "python")
    if os.path.realpath(sys.prefix) == os.path.realpath(folder):
        return
    if not os.path.exists(python):
        os.makedirs(folder, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < VENV_BYTES:
            sys.exit(f"--venv {folder}: {free >> 30} GiB free, expected {VENV_BYTES >> 30}")
        venv.create(folder, with_pip=True)
    if subprocess.run([python, "-c", "import torch"], stderr=subprocess.DEVNULL).returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "torch", "numpy"], check=True)
    os.execv(python, [python, os.path.abspath(__file__)] + sys.argv[1:])


def main():
    if sys.argv[1:2] == ["--worker"]:
        rank, processes, threads, name, precision, mode, steps, device, batch, sequence, folder = sys.argv[2:]
        worker(int(rank), int(processes), int(threads), name, precision, mode, int(steps), device, int(batch), int(sequence), folder)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--models", default="124M,30M")
    parser.add_argument("--precisions", default="fp32,autocast,master")
    parser.add_argument("--modes", default="eager,default")
    parser.add_argument("--layouts", default="1x1,1x2,2x1")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--sequence", type=int, default=0)
    options = parser.parse_args()
    if options.venv:
        enter(options.venv)
    try:
        import torch
    except ImportError:
        sys.exit("no torch here: --venv FOLDER makes a virtual environment with it")
    where = torch.cuda.get_device_name(0) if options.device == "cuda" and torch.cuda.is_available() else "CPU"
    print(f"PyTorch {torch.__version__}, {where}, {torch.backends.cpu.get_cpu_capability()}, "
          f"oneDNN {'there' if torch.backends.mkldnn.is_available() else 'missing'}, {os.cpu_count()} cores")
    for name in options.models.split(","):
        for layout in options.layouts.split(","):
            processes, threads = map(int, layout.split("x"))
            best = {}
            for precision in options.precisions.split(","):
                modes = options.modes.split(",")
                for mode in modes:
                    result = report(name, precision, mode, processes, threads, modes, options)
                    dtype = "fp32" if precision == "fp32" else "bf16"
                    if result and result > best.get(dtype, (0, "")):
                        best[dtype] = result
            if not best:
                sys.exit(f"{name}: no case ran")
            for dtype, (speed, how) in best.items():
                print(f"{name:5} {processes} x {threads} best {dtype}: {speed:.0f} tokens/s ({how})", flush=True)


if __name__ == "__main__":
    main()
