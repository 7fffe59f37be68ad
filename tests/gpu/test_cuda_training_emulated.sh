#!/bin/bash
# One fingerprint: a float32 training with numerics: invariant on the emulation of CUDA (tests/gpu/emulation) gives the CPU's losses,
# gradient norms and state bit for bit, in one micro-batch or several, on several ranks (MPI through pinned memory), and from a CPU's
# checkpoint on; in bfloat16 the same bits in any micro-batches and on any ranks, and in `fast` the CPU's numbers nearly, the same bits each time. The
# emulation's streams are lazy: what does not wait for another one's work goes without it. Needs no GPU; skipped where the build has no CUDA.
gpu=$(cd "$(dirname "$0")" && pwd)
for need in g++ gcc python3; do
  command -v "$need" >/dev/null || { echo "skipped: no $need"; exit 77; }
done
[ -x "$1/tests/gpu/check_kernels" ] || { echo "skipped: built without CUDA"; exit 77; }
. "$gpu/../numerics/lib.sh"

# A program opens the libgptdist-cuda.so that lies beside it.
cpu_programs=$bin emulated=$work/emulated
mkdir -p "$emulated"
PLAIN=1 bash "$gpu/emulation/build" "$work/emulation" || exit 1
cp "$bin/gptdist-train" "$emulated/"
cp "$work/emulation/emulated.so" "$emulated/libgptdist-cuda.so"

# All memory lies between guards.
export GPTDIST_DEVICE_GUARD=1
train_emulated() { # NAME CONFIG key=value...   on $ranks ranks; a pass of it may take long on a machine that is busy
  local name=$1 config=$2 code
  shift 2
  bin=$emulated
  LIMIT=300 train "$name" "${ranks:-1}" "$config" run.device=cuda run.watchdog_s=250 "$@"
  code=$?
  bin=$cpu_programs
  [ $code -eq 0 ] && check "$name: on the emulated GPU" grep -q "emulated on the CPU" "$work/$name.out"
  return $code
}

for config in gpt2 llama; do
  train "$config-cpu" 1 $config || finish
  if train_emulated "$config-cuda" $config; then
    check "$config: the CPU's losses and norms" same_curve $config-cpu $config-cuda
    check "$config: the CPU's state" same_state $config-cpu $config-cuda
  fi
done
if train_emulated gpt2-cuda-5 gpt2 batch.micro=5; then
  check "gpt2, micro-batches of 5: the CPU's losses and norms" same_curve gpt2-cpu gpt2-cuda-5
  check "gpt2, micro-batches of 5: the CPU's state" same_state gpt2-cpu gpt2-cuda-5
fi
# bfloat16: other bits than the CPU's, the same in any micro-batches.
if train_emulated half gpt2 precision.dtype=bf16 run.steps=2 && train_emulated half-5 gpt2 precision.dtype=bf16 run.steps=2 batch.micro=5; then
  check "gpt2 in bfloat16, micro-batches of 5: the losses and norms of one" same_curve half half-5
  check "gpt2 in bfloat16, micro-batches of 5: the state of one" same_state half half-5
fi
# bfloat16 and `fast`: GELU in the products, both ways; the CPU's losses and norms as near as bfloat16 has them.
near() { # NAME NAME   up to 0.1 %
  paste -d ' ' <(curve "$1") <(curve "$2") | awk '
    function field(text, name) { match(text, "\"" name "\": [^,}]*"); return substr(text, RSTART + length(name) + 4, RLENGTH - length(name) - 4) + 0 }
    function far(a, b) { return !(a > 0 && b > 0 && (a / b - 1) ^ 2 < 1e-6) }
    { half = index(substr($0, 2), "{\"") ; a = substr($0, 1, half); b = substr($0, half + 1)
      if (far(field(a, "loss"), field(b, "loss")) || (a ~ /grad_norm/ && far(field(a, "grad_norm"), field(b, "grad_norm")))) { print; bad = 1 } }
    END { exit bad || NR < 2 }'
}
train fast-cpu 1 gpt2 precision.dtype=bf16 numerics=fast run.steps=2 || finish
if train_emulated fast gpt2 precision.dtype=bf16 numerics=fast run.steps=2 log.profile=true; then
  check "gpt2, fast in bfloat16: the CPU's losses and norms up to 0.1 %" near fast-cpu fast
  check "gpt2, fast in bfloat16: products with GELU" grep -q 'NT [0-9x ]*, gelu"' "$work/fast/metrics.jsonl"
  check "gpt2, fast in bfloat16: products with its derivative" grep -q 'NN [0-9x ]*, dgelu"' "$work/fast/metrics.jsonl"
fi
# Once more, in other memory
if GPTDIST_DEVICE_GUARD=0 train_emulated fast-again gpt2 precision.dtype=bf16 numerics=fast run.steps=2; then
  check "gpt2, fast in bfloat16: the same losses and norms each time" same_curve fast fast-again
  check "gpt2, fast in bfloat16: the same state each time" same_state fast fast-again
fi
# Ranks that share the GPU
export GPTDIST_TEST_SHARE_GPU=1
one_gpu() { # RANKS NAME REFERENCE CONFIG key=value...
  local ranks=$1 name=$2 reference=$3
  train_emulated "$name" "${@:4}" || return
  check "$name, $ranks ranks: the losses and norms of $reference" same_curve "$reference" "$name"
  check "$name, $ranks ranks: the state of $reference" same_state "$reference" "$name"
}
one_gpu 2 gpt2-tensor gpt2-cpu gpt2 parallel.tensor=2 parallel.zero=0 batch.micro=12
one_gpu 4 llama-both llama-cpu llama parallel.tensor=2 parallel.zero=1 batch.micro=5
one_gpu 2 half-data half gpt2 precision.dtype=bf16 run.steps=2 parallel.zero=1
ranks=2 train_emulated fast-two gpt2 precision.dtype=bf16 numerics=fast run.steps=2 batch.micro=6 &&
  GPTDIST_DEVICE_GUARD=0 one_gpu 2 fast-two-again fast-two gpt2 precision.dtype=bf16 numerics=fast run.steps=2 batch.micro=6
# The second half again, on other ranks.
rm -rf "$work/llama-both/checkpoints/step-00000004" "$work/llama-both/checkpoints/LATEST"
one_gpu 2 llama-both llama-cpu llama parallel.zero=0
check "llama-both did resume" grep -q "step 2" "$work/llama-both.out"
unset GPTDIST_TEST_SHARE_GPU
# The second half again, on the other device.
mkdir -p "$work/moved"
cp -r "$work/gpt2-cpu/checkpoints" "$work/moved/"
rm -rf "$work/moved/checkpoints/step-00000004" "$work/moved/checkpoints/LATEST"
if train_emulated moved gpt2; then
  check "gpt2, from the CPU's step 2 on: it did resume" grep -q "step 2" "$work/moved.out"
  check "gpt2, from the CPU's step 2 on: the CPU's state" same_state gpt2-cpu moved
fi
finish
