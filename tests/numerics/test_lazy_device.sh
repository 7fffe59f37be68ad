#!/bin/bash
# The lazy test device runs an operation only when something waits for it and poisons its output until then: a training on it must
# give the bits of the CPU device, or a wait is missing somewhere in the step.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

train cpu 1 gpt2 || finish
train lazy-one 1 gpt2 run.device=lazy && check "one rank on the lazy device" same_curve cpu lazy-one
train lazy-four 4 gpt2 run.device=lazy parallel.tensor=2 parallel.zero=1 batch.micro=5 &&
  check "tensor 2 x data 2, ZeRO 1, micro-batches on the lazy device" same_curve cpu lazy-four
check "the same state" same_state cpu lazy-four
finish
