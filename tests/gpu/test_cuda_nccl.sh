#!/usr/bin/env bash
# Several ranks with run.device: cuda and NCCL where there is no GPU: the real device and groups on a fake runtime and a fake NCCL whose
# ranks reach each other (tests/gpu/fake). `invariant` has the bits of one rank; in `fast` NCCL adds the gradients, and as this one adds in
# the order of the exchange, the bits are those of as many ranks on the CPU. Skipped where the build has no CUDA.
programs=gptdist-ckpt
. "$(dirname "${BASH_SOURCE[0]}")/fake.sh"
export FAKE_NCCL_MOVES=1 FAKE_CUDA_DEVICES=8

collectives() { GPTDIST_CUDA_LIBRARY=$fake LIMIT=60 launch "$1" "$build/tests/gpu/check_collectives" >"$work/out" 2>&1 || { tail -5 "$work/out"; false; }; }
for ranks in 2 3 4; do
  check "every collective of NCCL, $ranks ranks" collectives $ranks
done

drawn() { "$build/tests/read_timeline" "$work/$1"/timeline/rank-*.json >"$work/spans" && [ "$(cut -d' ' -f1 "$work/spans" | sort -u | wc -l)" = "$2" ]; }
# Calls of NCCL that a run's timeline names: CALL in the rows that reduce.
calls() { cat "$work/$1"/timeline/rank-*.json | grep '"cat": "call"' | grep '"bucket"' | grep -c "\"name\": \"$2\""; }
run() { # NAME RANKS CONFIG settings...
  local name=$1
  train "$@" run.device=cuda log.timeline=2 || return
  check "$name: a timeline of each rank, which parses" drawn "$name" "$2"
  check "$name: over NCCL" [ "$(grep -cE 'go over MPI|no GPU' "$work/$name.out")" = 0 ]
}

train one 1 gpt2
#      name        ranks settings
runs="two          2     parallel.zero=1
      four         4     parallel.tensor=2 parallel.zero=0 batch.micro=3"
while read -r name ranks settings; do
  GPTDIST_DEVICE_GUARD=1 run "$name" "$ranks" gpt2 $settings
  check "$name ranks, invariant: the losses and norms of one" same_curve one "$name"
  check "$name ranks, invariant: its state" same_state one "$name"
  check "$name ranks, invariant: NCCL adds nothing" [ "$(calls "$name" reduce_scatter)" = 0 ]
done <<<"$runs"

#      name        ranks zero tensor
runs="fast-2-zero1 2     1    1
      fast-2-zero0 2     0    1
      fast-3       3     1    1
      fast-4-zero1 4     1    1
      fast-4-zero0 4     0    1
      fast-4-both  4     1    2
      fast-6       6     1    1"
while read -r name ranks zero tensor; do
  settings="numerics=fast parallel.zero=$zero parallel.tensor=$tensor batch.micro=2"
  train "$name-cpu" "$ranks" gpt2 $settings
  GPTDIST_DEVICE_GUARD=1 run "$name" "$ranks" gpt2 $settings
  check "$name: the losses and norms of the CPU's $ranks ranks" same_curve "$name-cpu" "$name"
  check "$name: their state" same_state "$name-cpu" "$name"
  # Two steps of 2 layers, final norm, token and position table and the tied head on each rank.
  check "$name: NCCL adds each bucket" [ "$(calls "$name" reduce_scatter)" = $((2 * 6 * ranks)) ]
  check "$name: and nothing is exchanged there" [ "$(calls "$name" exchange)" = 0 ]
done <<<"$runs"
finish
