#!/usr/bin/env bash
# Hours of random faults: ranks, mpirun and gptdist-run are killed, ranks are stopped, one or all, the job is asked to stop, its newest
# checkpoint is damaged. The same line is started again each time; at the end the job is asked to stop, and a run of as many steps that
# nobody disturbs has the same hash. The last line is JSON, with the effective time: the steps that were kept, in % of the whole time.
#   HOURS=3 tests/fault/soak.sh [BUILD]    of faults; the undisturbed run comes after them (build/ unless named)
#   EVERY=120    seconds between two faults, on average      SEED=1    which of them first, and when     RANKS=2     WATCHDOG=10    run.watchdog_s
# Not a part of tests/run.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
set -- "${1:-$here/../../build}"
. "$here/../numerics/lib.sh"
RANDOM=${SEED:-1}
ranks=${RANKS:-2} every=${EVERY:-120}
seconds=$(awk -v h="${HOURS:-3}" 'BEGIN { printf "%d", 3600 * h }')
# Steps of some 20 ms. A constant learning rate: how many steps there will be is not known before.
settings=("parallel.tensor=$ranks" model.layers=4 model.width=128 model.context=64 optimizer.lr=0.001 schedule.kind=constant
  validation.interval_steps=0 checkpoint.interval_steps=100 checkpoint.keep=6 log.interval_steps=100 "run.watchdog_s=${WATCHDOG:-10}")
now_ms() { date +%s%3N; }

# run NAME STEPS: in the background, as often as gptdist-run can; $launcher
run() {
  local set=(--set "run.steps=$2") setting
  for setting in "${settings[@]}"; do set+=(--set "$setting"); done
  "$bin/gptdist-run" -n "$ranks" --max-restarts 1000 --restart-pause 1s -- "$bin/gptdist-train" --config "$work/gpt2.yaml" \
    --set "run.directory=$work/$1" "${set[@]}" >> "$work/$1.out" 2>&1 < /dev/null &
  launcher=$!
}
ranks_now() { pgrep -f "gptdist-train --config .*run.directory=$work/soak( |\$)" | while read -r pid; do
  [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = gptdist-train ] && echo "$pid"; done; }
one_rank() { ranks_now | sed -n "$((1 + RANDOM % ranks))p"; }
starter() { pgrep -P "$launcher" -x mpirun; }

declare -A times=()
faults=0 starts=1 code=0 requested=no
strike() {
  local kinds=(kill_rank kill_rank kill_all kill_mpirun kill_launcher stop_rank stop_all ask damage) kind newest
  kind=${kinds[$(((faults + ${SEED:-1}) % ${#kinds[@]}))]}
  local victims
  mapfile -t victims < <(ranks_now)
  [ ${#victims[@]} -gt 0 ] || return
  case $kind in
    kill_rank) victims=("$(one_rank)"); kill -KILL "${victims[@]}" ;;
    kill_all) kill -KILL "${victims[@]}" ;;
    kill_mpirun) kill -KILL "$(starter)" ;;
    kill_launcher) kill -KILL "$launcher" ;;
    stop_rank) victims=("$(one_rank)"); kill -STOP "${victims[@]}" ;;
    stop_all) kill -STOP "${victims[@]}" ;;
    ask) requested=yes; kill -USR1 "$launcher" ;;
    damage)
      newest=$(ls -d "$work"/soak/checkpoints/step-???????? | tail -n 1)/rank-00000.h5
      printf '\377\377\377\377' | dd of="$newest" bs=1 seek=$((4096 + RANDOM)) conv=notrunc
      kill -KILL "${victims[@]}"
      ;;
  esac 2> /dev/null
  faults=$((faults + 1))
  times[$kind]=$((${times[$kind]:-0} + 1))
}

began=$(now_ms)
run soak 1000000000
SECONDS=0
next=$((1 + RANDOM % (2 * every))) asked=no
for (( ; ; )); do
  if [ $SECONDS -ge "$seconds" ] && [ $asked = no ]; then
    asked=yes requested=yes
    kill -USR1 "$launcher" 2> /dev/null
  fi
  if ! kill -0 $launcher 2> /dev/null; then
    { wait $launcher; code=$?; } 2> /dev/null
    # 75: it was asked; 137: it was killed, and its job saves and leaves; 74: that one is not gone yet; 76: asked, and then stopped
    # before it had saved: who was asked to end starts nothing anew
    case $code-$requested in
      75-*) [ $asked = no ] || break ;;
      74-* | 137-* | 76-yes) ;;
      *) echo "        left with $code"; tail -n 6 "$work/soak.out"; break ;;
    esac
    sleep 1
    run soak 1000000000
    starts=$((starts + 1)) asked=no requested=no
  fi
  if [ $SECONDS -ge $next ] && [ $asked = no ]; then
    strike
    next=$((SECONDS + 1 + RANDOM % (2 * every)))
  fi
  sleep 0.2
done
disturbed=$(($(now_ms) - began))
for kind in "${!times[@]}"; do echo "$kind: ${times[$kind]}"; done | sort
check "it saved when it was asked" [ "$code" -eq 75 ]
check "faults struck" [ $faults -gt 0 ]
steps=$(($(sed 's/^step-0*//' "$work/soak/checkpoints/LATEST")))
# Of each step that was kept its line says how long it took: one second at most counts, for a step may have waited for a stopped rank
effective=$(grep '"event": *"train"' "$work/soak/metrics.jsonl" | grep -o '"ms": *[0-9.e+]*' |
  awk -v all=$disturbed '{ split($0, part, ": *"); sum += part[2] < 1000 ? part[2] : 1000 } END { printf "%.1f", 100 * sum / all }')
echo "$steps steps in $((disturbed / 1000)) s; undisturbed as well:"
began=$(now_ms)
run whole "$steps"
wait $launcher || { tail -n 5 "$work/whole.out"; echo "FAILED  the undisturbed run"; exit 1; }
undisturbed=$(($(now_ms) - began))
check "the state of the undisturbed run" same_state whole soak
check "its curve" same_curve whole soak
evidence soak $faults $failed seed "${SEED:-1}" steps "$steps" disturbed_s $((disturbed / 1000)) undisturbed_s $((undisturbed / 1000)) \
  starts $starts effective_percent "$effective"
finish
