#!/usr/bin/env bash
# tests/gpu/bench runs from end to end on the emulation of CUDA, tiny, and prints all of its parts; PyTorch's lines are there where a Python
# with torch is, else it is told; what fails is told, and where there is no GPU that is told. Needs no GPU; skipped where the build has no CUDA.
tried=(bench)
. "$(dirname "${BASH_SOURCE[0]}")/emulated.sh"
says() { grep -qE -- "$1" "$work/said" || { sed 's/^/  | /' "$work/said"; return 1; }; }

# A Python whose torch is not there, and one that has it and prints a line.
mkdir "$work/none" "$work/torch"
printf '#!/bin/sh\nexit 1\n' >"$work/none/python3"
printf '#!/bin/sh\n[ "$1" = -c ] || echo "asked for $*"\n' >"$work/torch/python3"
chmod +x "$work"/*/python3
check "all is measured" runs 0 PYTHON="$work/none/python3" --emulated "$build"
check "the ceilings first" eval '[ "$(grep -n ceiling: "$work/said" | head -n 3 | cut -d : -f 3 | tr -d " " | cut -c 1-4 | tr "\n" " ")" = "copy prod prod " ]'
for kernel in matmul attention_forward attention_backward norm_backward update; do
  check "a row of $kernel with its ceiling" says "^tiny +$kernel +[0-9]+ +[0-9.]+ .*[0-9.]+ % of (copy|product)\$|^tiny +$kernel .*no more than launch and wait"
done
check "the time outside of kernels" says '^tiny +outside of kernels +[0-9.]+  all in all [0-9.]+ ms a step'
check "whole steps, fast" says '^tiny +whole steps, bfloat16 fast +[0-9]+ tokens/s'
check "whole steps, invariant" says '^tiny +whole steps, bfloat16 invariant +[0-9]+ tokens/s'
check "no PyTorch is told" says '^PyTorch: no Python with torch here'
check "all is measured beside a PyTorch" runs 0 PYTHON="$work/torch/python3" --emulated "$build"
check "which has the same sizes" says '^PyTorch: asked for .*peer_torch.py --device cpu --models tiny --batch 2 --sequence 32'
check "what has no time left is told, and the code says so" runs 1 SECONDS_LEFT=0 PYTHON="$work/none/python3" --emulated "$build"
check "which is the end of the table" says 'no time is left|NOT ALL measured'
check "no GPU is no failure" runs 77 CUDA_VISIBLE_DEVICES=-1 "$build"
check "and is told" says 'skipped: no GPU \(+no (GPU|CUDA driver): '
finish
