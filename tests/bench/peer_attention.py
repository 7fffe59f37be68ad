#!/usr/bin/env python3
"""PyTorch's causal attention in bfloat16, one line a shape and kernel: its flash and its cuDNN kernel, forward and backward by themselves.

usage: python3 peer_attention.py [--device cpu|cuda] [--kernels flash,cudnn] BxHxTxD...
TFLOP/s: 4 B H T T D operations forward, half of them for the causal mask, and 2.5 times that backward. A kernel that a build or a device
lacks is told. The best of three tries of ten.
"""
import argparse
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

KERNELS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def seconds(run, settle, times=10):
    """Of one run, the best of three tries; the first try warms up."""
    best = float("inf")
    for attempt in range(4):
        settle()
        began = time.perf_counter()
        for _ in range(times):
            run()
        settle()
        if attempt:
            best = min(best, (time.perf_counter() - began) / times)
    return best


def measure(shape, device):
    batch, heads, length, size = map(int, shape.split("x"))
    settle = torch.cuda.synchronize if device == "cuda" else lambda: None
    torch.manual_seed(1)
    draw = lambda: torch.rand(batch, heads, length, size, device=device, dtype=torch.bfloat16).sub_(0.5).requires_grad_()
    q, k, v, dout = draw(), draw(), draw(), draw().detach()
    forward = lambda: scaled_dot_product_attention(q, k, v, is_causal=True)
    with torch.no_grad():
        first = seconds(forward, settle)
    out = forward()
    second = seconds(lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True), settle)
    operations = 2.0 * batch * heads * length * length * size
    return (f"forward {1e3 * first:8.3f} ms {operations / first / 1e12:7.1f} TFLOP/s   "
            f"backward {1e3 * second:8.3f} ms {2.5 * operations / second / 1e12:7.1f} TFLOP/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--kernels", default="flash,cudnn")
    parser.add_argument("shapes", nargs="+")
    options = parser.parse_args()
    for shape in options.shapes:
        for name in options.kernels.split(","):
            try:
                with sdpa_kernel([KERNELS[name]]):
                    told = measure(shape, options.device)
            except RuntimeError as fault:
                told = "not here: " + str(fault).strip().split("\n")[0][:120]
            print(f"attention {shape} {name:6} {told}", flush=True)


if __name__ == "__main__":
    main()
