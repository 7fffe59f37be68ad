#!/usr/bin/env bash
# Several ranks with run.device: cuda where there is no GPU: the real device, and MPI through pinned memory or NCCL, on a fake runtime
# (tests/gpu/fake) that runs one host task at a time, with the CPU's kernels as its tasks. Ranks that share a GPU have the bits of one; a
# rank that dies in a collective frees the others. Skipped where the build has no CUDA.
programs=gptdist-ckpt
. "$(dirname "${BASH_SOURCE[0]}")/fake.sh"
host=$(hostname)

collectives() { GPTDIST_CUDA_LIBRARY=$fake LIMIT=60 launch "$1" "$build/tests/gpu/check_collectives" staged >"$work/out" 2>&1 || { tail -5 "$work/out"; false; }; }
for ranks in 1 2 3; do
  check "every collective of a GPU's memory over MPI, $ranks ranks" collectives $ranks
done

export GPTDIST_TEST_SHARE_GPU=1
for config in gpt2 llama; do train $config 1 $config; done
#      name    config ranks tensor zero micro
runs="tensor   gpt2   2     2      0    12
      data     llama  2     1      1    5
      both     gpt2   4     2      1    3"
while read -r name config ranks tensor zero micro; do
  GPTDIST_DEVICE_GUARD=1 train "$name" "$ranks" "$config" run.device=cuda "parallel.tensor=$tensor" "parallel.zero=$zero" "batch.micro=$micro"
  check "$name: a GPU that $ranks ranks share" grep -q 'device: GPU 0 of 1' "$work/$name.out"
  check "$name: over MPI, and why" grep -q 'go over MPI through host memory, which is slow: ranks 0 and 1 share GPU 0, and NCCL takes one' "$work/$name.out"
  check "$name: the losses and norms of one rank on the CPU" same_curve $config "$name"
  check "$name: and its state" same_state $config "$name"
done <<<"$runs"
# The second half again, on other ranks.
rm -rf "$work/both/checkpoints/step-00000004" "$work/both/checkpoints/LATEST"
train both 2 gpt2 run.device=cuda parallel.tensor=1 parallel.zero=0
check "resumed by other ranks on a GPU" grep -q 'step 2' "$work/both.out"
check "the state of one rank" same_state gpt2 both
unset GPTDIST_TEST_SHARE_GPU

# GPUs of their own, but no NCCL.
echo nonsense >"$work/lib/libnccl.so.2"
FAKE_CUDA_DEVICES=2 train without 2 gpt2 run.device=cuda parallel.tensor=2
check "without NCCL: over MPI, and why" grep -q 'over MPI through host memory, which is slow: rank 0: several GPUs need NCCL, which does not open' "$work/without.out"
check "without NCCL: the state of one rank" same_state gpt2 without
cp "${fake%/*}/libnccl.so.2" "$work/lib/"

# killed NAME VARIABLE=VALUE... -- key=value...   rank 1 of two dies while the other waits for it; NCCL's collectives never end there
killed() {
  local name=$1 settings=() code started=$SECONDS
  shift
  while [ "$1" != -- ]; do settings+=("$1") && shift; done
  shift
  (export "${settings[@]}" && attempt "$name" 2 gpt2 run.device=cuda parallel.tensor=2 "$@") >"$work/$name.attempt" 2>&1
  code=$?
  { [ $code = 76 ] || [ $code = 137 ]; } && [ $((SECONDS - started)) -lt 30 ] && grep -aq "rank 1 on $host: connection lost" "$work/$name.out" && return 0
  echo "left with $code after $((SECONDS - started)) s"
  cat "$work/$name.attempt"
  return 1
}
lost_over_mpi() {
  check "a rank that dies in a collective over MPI frees the other" \
    killed dies GPTDIST_TEST_SHARE_GPU=1 -- --inject=kill@step=2,rank=1,phase=backward run.watchdog_s=20
}
lost_over_nccl() {
  check "a rank that dies in a collective of NCCL frees the other" \
    killed dies-nccl FAKE_CUDA_DEVICES=2 FAKE_NCCL_HANGS=1 -- --inject=kill@step=1,rank=1,phase=backward run.watchdog_s=20
}
# A collective of NCCL that never ends, with nobody dead: the deadline ends it.
hung() {
  local code
  FAKE_CUDA_DEVICES=2 FAKE_NCCL_HANGS=1 attempt hangs 2 gpt2 run.device=cuda parallel.tensor=2 run.watchdog_s=1 >"$work/hangs.attempt" 2>&1
  code=$?
  [ $code = 76 ] && grep -aq 'error: watchdog: no progress for 1 s' "$work/hangs.out" &&
    grep -aqE '^rank 1 on .* in exchange #[0-9]+ of group tensor' "$work/hangs.out" && return 0
  echo "left with $code"
  tail -5 "$work/hangs.out"
  return 1
}
hangs_in_nccl() { check "a collective of NCCL that hangs is named within the deadline" hung; }
together lost_over_mpi lost_over_nccl hangs_in_nccl
finish
