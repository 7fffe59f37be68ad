#!/bin/bash
# The validation loss of training is the one that gptdist-eval finds for the same weights, window by window on the path of
# generation: the whole split, its last window shorter, on one rank and on tensor 2 x data 2.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
[ -x "$bin/gptdist-eval" ] || { echo "skipped: no $bin/gptdist-eval"; exit 77; }

# The last validation loss of a run, and gptdist-eval's of its last checkpoint: equal to float32's rounding.
same_loss() {
  local trained evaluated
  trained=$(curve "$1" | grep '"validation"' | tail -1 | sed -E 's/.*"loss": ?([-+.e0-9]+).*/\1/')
  evaluated=$("$bin/gptdist-eval" --checkpoint "$work/$1" --task perplexity --data "$corpus" --json | sed -E 's/.*"loss": ?([-+.e0-9]+).*/\1/')
  awk -v a="$trained" -v b="$evaluated" 'BEGIN { d = a - b; if (d < 0) d = -d; if (!(a > 1 && d < 2e-6 * a)) { print a " is not " b; exit 1 } }'
}
whole="precision.dtype=fp32 validation.batches=0 run.steps=2"
for config in gpt2 llama; do
  # shellcheck disable=SC2086
  {
    train $config-one 1 $config $whole
    check "$config, one rank" same_loss $config-one
    train $config-four 4 $config $whole parallel.tensor=2
    check "$config, tensor 2 x data 2" same_loss $config-four
  }
done
[ $((passed + failed)) -eq 4 ] || check "all four runs" false
finish
