#!/bin/bash
# numerics: invariant - the text of every loss and the hash of the final state are those of the one-rank run, for tensor x data x
# ZeRO stage x micro-batch x threads on 1, 2, 3, 4 and 8 ranks; both shapes, float32 and bfloat16, dropout and clipping on.
# A covering set: each value of each axis meets each shape and dtype; `tests/numerics/sweep BUILD` runs all combinations.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/layouts.sh"

#           ranks tensor zero micro threads
one="       1 1 0 5 2
            2 2 1 12 1
            3 1 1 3 1
            4 2 0 5 1
            8 4 1 12 1"
two="       1 1 0 1 2
            2 1 1 4 1
            4 4 0 24 1
            4 1 0 6 1
            8 2 1 2 1"
sweep_of() { # CONFIG DTYPE LAYOUTS
  local line
  one_rank "$1" "$2"
  while read -r line; do
    # shellcheck disable=SC2086
    same_bits "$1" "$2" $line
  done <<< "$3"
}
sweep_of gpt2 fp32 "$one"
sweep_of llama fp32 "$two"
if [ $half = bf16 ]; then
  sweep_of gpt2 bf16 "$two"
  sweep_of llama bf16 "$one"
else
  echo "bf16 skipped: this processor has no products of it"
fi
# Two different seeds must not agree, or the comparison above says nothing.
train other-seed 1 gpt2 run.seed=8 precision.dtype=fp32
[ -s "$work/other-seed/metrics.jsonl" ] || check "the run with another seed" false
check "another seed gives other bits" eval '! same_curve gpt2-fp32 other-seed > /dev/null'
# Sequences of 32 tokens in 4 time blocks: a vector leaf has 2 rows.
one_block=$(curve llama-fp32)
extra=(parallel.time_blocks=4)
rm -rf "$work"/gpt2-fp32 "$work"/llama-fp32
sweep_of llama fp32 "$one"
sweep_of gpt2 fp32 "$two"
check "time blocks belong to the numbers" [ "$one_block" != "$(curve llama-fp32)" ]
finish
