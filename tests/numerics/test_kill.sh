#!/bin/bash
# kill -9 at a random moment, then the same line again, as often as it takes: the text of metrics.jsonl and the hash of the final
# state are those of a run that nobody disturbed. Saves are frequent, so many of the kills hit one. TRIALS=N: more of them.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
trials=${TRIALS:-20}
RANDOM=${SEED:-1}
settings="run.steps=40 checkpoint.interval_steps=3 checkpoint.keep=2 validation.interval_steps=20 batch.global=8 precision.dtype=fp32"

# start NAME RANKS: in the background; $! is mpirun or the program
start() {
  local set=() setting
  for setting in $settings parallel.tensor="$2"; do set+=(--set "$setting"); done
  if [ "$2" -eq 1 ]; then
    "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/$1" "${set[@]}" >> "$work/$1.out" 2>&1 < /dev/null &
  else
    mpirun --oversubscribe --bind-to none -np "$2" "$bin/gptdist-train" --config "$work/gpt2.yaml" \
      --set "run.directory=$work/$1" "${set[@]}" >> "$work/$1.out" 2>&1 < /dev/null &
  fi
}
# ended PID: waits for it, and ends an mpirun that does not notice: Open MPI 4.1 can wait for ever for a rank that was killed while
# it connected, in its first milliseconds.
ended() {
  local i
  {
    for ((i = 0; i < 200; i++)); do
      kill -0 "$1" || break
      sleep 0.1
    done
    kill -9 "$1"
    wait "$1"
  } 2> /dev/null
}
now_ms() { date +%s%3N; }

# shellcheck disable=SC2086
train whole 1 gpt2 $settings || finish
declare -A took
for ranks in 1 2; do
  began=$(now_ms)
  start "timed-$ranks" $ranks
  wait $! || { tail -5 "$work/timed-$ranks.out"; check "a run on $ranks ranks" false; finish; }
  took[$ranks]=$(($(now_ms) - began))
  check "undisturbed on $ranks ranks: the same state" same_state whole "timed-$ranks"
done
kills=0 bad=0
for ((trial = 0; trial < trials; trial++)); do
  ranks=$((1 + trial % 2))
  name=kill-$trial
  deaths=0
  for ((attempt = 0; attempt < 2; attempt++)); do
    start $name $ranks
    main=$!
    sleep "$(awk -v ms="${took[$ranks]}" -v r=$RANDOM 'BEGIN { printf "%.3f", ms * r / 32768 / 1000 }')"
    victim=$main
    if [ $ranks -gt 1 ]; then # one rank, by its number
      mapfile -t children < <(pgrep -P "$main" 2>/dev/null)
      [ ${#children[@]} -gt 0 ] && victim=${children[$((RANDOM % ${#children[@]}))]}
    fi
    kill -9 "$victim" 2>/dev/null && deaths=$((deaths + 1))
    ended "$main"
  done
  kills=$((kills + deaths))
  # The ranks that mpirun lost sight of must be gone before the directory is free again.
  for ((wait = 0; wait < 20; wait++)); do
    start $name $ranks
    wait $! && break
    sleep 0.5
  done
  before=$failed
  check "trial $trial: $ranks ranks, killed $deaths times, the same losses" same_curve whole $name
  check "trial $trial: the same state" same_state whole $name
  [ $failed -eq $before ] || bad=$((bad + 1))
  rm -rf "${work:?}/$name"
done
evidence kill "$trials" $bad kills $kills
echo "$kills kills in $trials trials"
check "the kills hit running programs" [ $kills -ge $trials ]
finish
