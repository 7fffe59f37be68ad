#!/usr/bin/env bash
# tests/gpu/bench runs from end to end on the emulation of CUDA, tiny, and prints all of its parts; PyTorch's lines are there where a Python
# with torch is, else it is told; what fails is told, and where there is no GPU that is told. Needs no GPU; skipped where the build has no CUDA.
tried=(bench)
. "$(dirname "${BASH_SOURCE[0]}")/emulated.sh"
says() { grep -qE -- "$1" "$work/said" || { sed 's/^/  | /' "$work/said"; return 1; }; }

# A Python whose torch is not there, and one that has it and prints a line.
mkdir "$work/none" "$work/torch" "$work/blind" "$work/slow"
printf '#!/bin/sh\nexit 1\n' >"$work/none/python3"
printf '#!/bin/sh\n[ "$1" = -c ] || echo "asked for $*"\n' >"$work/torch/python3"
# One whose torch sees no GPU, and one that is not ready with a model in time.
printf '#!/bin/sh\ncase "$2" in *is_available*) exit 1 ;; esac\n[ "$1" = -c ] || echo "asked for $*"\n' >"$work/blind/python3"
printf '#!/bin/sh\ncase "$1" in *peer_torch.py) echo "tiny one way 5 tokens/s"; exit 124 ;; esac\n' >"$work/slow/python3"
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
check "attention, which needs no PyTorch" says '^attention 1x2x64x32 ours +forward +[0-9.]+ ms +[0-9.]+ TFLOP/s +backward +[0-9.]+ ms'
check "all is measured beside a PyTorch" runs 0 PYTHON="$work/torch/python3" --emulated "$build"
check "which has the same sizes" says '^PyTorch: asked for .*peer_torch.py --device cpu --models tiny --batch 2 --sequence 32'
check "and attention of them" says '^PyTorch: asked for .*peer_attention.py --device cpu 1x2x64x32'
# A program that notes what it has left behind. At 1558M a checkpoint is 18.7 GB.
mkdir -p "$work/watched/bin" "$work/watched/tests"
cp -rl "$emulated/lib" "$work/watched/lib"
cp -l "$emulated"/bin/* "$work/watched/bin/"
ln -s "$build/tests/gpu" "$work/watched/tests/gpu"
mv "$work/watched/bin/gptdist-train" "$work/watched/bin/trains"
cat >"$work/watched/bin/gptdist-train" <<PROGRAM
#!/bin/sh
"$work/watched/bin/trains" "\$@"
code=\$?
for word; do case \$word in run.directory=*) ls "\${word#*=}" "\${word#*=}/checkpoints" >>"$work/left" 2>/dev/null ;; esac; done
exit \$code
PROGRAM
chmod +x "$work/watched/bin/gptdist-train"
check "with programs that are watched" runs 0 PYTHON="$work/slow/python3" --small "$work/watched"
check "which were" grep -q metrics.jsonl "$work/left"
check "nothing is saved" [ "$(grep -c step- "$work/left")" = 0 ]
check "a PyTorch that has not compiled in time is no failure" says '^PyTorch: tiny is measured in part'
check "nor is one that sees no GPU" runs 0 PYTHON="$work/blind/python3" --emulated "$build"
check "which is told" says '^PyTorch: that of .*blind/python3 sees no GPU'
# Ceilings and attention that fail hide nothing.
mkdir -p "$work/limping/tests/gpu"
cp -rl "$emulated/lib" "$emulated/bin" "$work/limping/"
printf '#!/bin/sh\necho "device made up"\necho "no such kernel"\nexit 1\n' >"$work/limping/tests/gpu/bench_ceilings"
chmod +x "$work/limping/tests/gpu/bench_ceilings"
check "what fails first is told, and the code says so" runs 1 PYTHON="$work/none/python3" --small "$work/limping"
check "the ceilings" says '^the ceilings are not measured: left with 1'
check "attention" says '^attention is not measured'
check "but kernels are measured" says '^tiny +matmul +[0-9]+ +[0-9.]+ '
check "and steps" says '^tiny +whole steps, bfloat16 fast +[0-9]+ tokens/s'
check "what has no time left is told, and the code says so" runs 1 SECONDS_LEFT=0 PYTHON="$work/none/python3" --emulated "$build"
check "which is the end of the table" says 'no time is left|NOT ALL measured'
check "no GPU is no failure" runs 77 CUDA_VISIBLE_DEVICES=-1 "$build"
check "and is told" says 'skipped: no GPU \(+no (GPU|CUDA driver): '
finish
