#!/usr/bin/env bash
# A request to stop that comes while the ranks are being started is not lost: the job ends with 75, as at any other time, and the next
# start goes on.
. "$(dirname "${BASH_SOURCE[0]}")/../numerics/lib.sh"

# asked RANKS SECONDS: USR1 so long after mpirun (one rank: the rank) was started; 75 within 60 s
asked() {
  local launcher code end
  "$bin/gptdist-run" -n "$1" -- "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/run-$1" \
    --set run.steps=1000000 --set validation.interval_steps=0 > "$work/out" 2>&1 < /dev/null &
  launcher=$!
  until [ -n "$(pgrep -P $launcher)" ]; do sleep 0.002; done # before, it would die of USR1 as any program
  sleep "$2"
  kill -USR1 $launcher
  end=$((SECONDS + 60))
  while kill -0 $launcher 2> /dev/null; do
    [ $SECONDS -lt $end ] || { kill -9 $launcher; echo "still trains"; }
    sleep 0.05
  done
  wait $launcher
  code=$?
  [ $code -eq 75 ] && grep -q '^stopping: ' "$work/out" && return
  echo "left with $code"
  tail -3 "$work/out"
  return 1
}
for ranks in 1 2; do
  for delay in 0 0.05 0.1 0.3; do check "$ranks ranks, $delay s after the start" asked $ranks $delay; done
done
finish
