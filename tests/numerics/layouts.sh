# layouts.sh - sourced by test_layouts.sh and sweep: one invariant run on a layout against the one-rank run.

extra=() # further settings of all runs

# same_bits CONFIG DTYPE RANKS TENSOR ZERO MICRO THREADS   compares with the run $work/CONFIG-DTYPE
same_bits() {
  local config=$1 dtype=$2 ranks=$3 tensor=$4 zero=$5 micro=$6 threads=$7
  local name=$config-$dtype-n$ranks-t$tensor-z$zero-m$micro-x$threads
  local text="$config $dtype: $ranks ranks, tensor $tensor, ZeRO $zero, micro-batch $micro, $threads threads: the one-rank run's bits"
  if train "$name" "$ranks" "$config" "precision.dtype=$dtype" "parallel.tensor=$tensor" "parallel.zero=$zero" \
    "batch.micro=$micro" "run.threads=$threads" "${extra[@]}"; then
    check "$text" same_curve "$config-$dtype" "$name"
    check "$text, state" same_state "$config-$dtype" "$name"
  else
    check "$text" false
  fi
  [ -n "${KEEP:-}" ] || rm -rf "${work:?}/$name"
}

# one_rank CONFIG DTYPE
one_rank() {
  train "$1-$2" 1 "$1" "precision.dtype=$2" parallel.tensor=1 parallel.zero=0 batch.micro=0 run.threads=1 "${extra[@]}" || {
    check "$1 $2: the one-rank run" false
    finish
  }
}
