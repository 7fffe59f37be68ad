#!/usr/bin/env bash
# Hours of random faults: ranks, mpirun and gptdist-run are killed, ranks are stopped, one or all, the job is asked to stop, its newest
# checkpoint is damaged. The same line is started again each time; at the end the job is asked to stop, and a run of as many steps that
# nobody disturbs has the same hash. The last line is JSON, with the effective time: the steps that were kept, in % of the whole time.
#   HOURS=3 tests/fault/soak.sh [BUILD]    of faults; the undisturbed run comes after them (build/ unless named)
#   EVERY=120    seconds between two faults, on average      SEED=1    which of them first, and when     RANKS=2     WATCHDOG=10    run.watchdog_s
#   KEEP=FOLDER HOURS=3 tests/fault/soak.sh [BUILD]    in several starts: TERM or Ctrl-C, or LEG=MINUTES, make it leave with 75 once the
#     job has saved, and the same line goes on, with faults or undisturbed, until it has compared. HOURS are those in which the job was
#     under way. FOLDER/counted has what is counted, written after each fault; a start whose script was killed counts up to its last step.
# Not a part of tests/run.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
ending=no
trap 'ending=yes' TERM INT
set -- "${1:-$here/../../build}"
resume_in=
if [ "${KEEP:-1}" != 1 ]; then
  mkdir -p "$KEEP" && resume_in=$(cd "$KEEP" && pwd) && exec 9> "$resume_in/lock" || exit 74
  flock -w 2 9 || { echo "another soak goes on in $resume_in"; exit 74; }
fi
. "$here/../numerics/lib.sh"
ranks=${RANKS:-2} every=${EVERY:-120} seed=${SEED:-1}
wanted=$(awk -v h="${HOURS:-3}" 'BEGIN { printf "%d", 3600000 * h }') # ms
leg=$(awk -v m="${LEG:-1000000}" 'BEGIN { printf "%d", 60 * m }')
# Steps of some 20 ms. A constant learning rate: how many steps there will be is not known before.
settings=("parallel.tensor=$ranks" model.layers=4 model.width=128 model.context=64 optimizer.lr=0.001 schedule.kind=constant
  validation.interval_steps=0 checkpoint.interval_steps=100 checkpoint.keep=6 log.interval_steps=100 "run.watchdog_s=${WATCHDOG:-10}")
now_ms() { date +%s%3N; }

# What is counted, over all starts with this folder. ms: how long each run was under way, up to the time `at`; next: the fault, in these ms
declare -A times=() ms=([soak]=0 [whole]=0)
phase=soak running=no faults=0 starts=0 starts_of_soak=0 steps=0 next=0 at=0
[ ! -e "$work/counted" ] || . "$work/counted"
write_down() {
  declare -p times ms phase running faults starts starts_of_soak steps next at failed > "$work/counted.new" && mv "$work/counted.new" "$work/counted"
}
count() {
  local before=$at
  at=$(now_ms)
  ms[$phase]=$((ms[$phase] + at - before))
}
RANDOM=$((seed + faults))
set_next() { next=$((ms[soak] + 1000 * (1 + RANDOM % (2 * every)))); }
[ "$next" -gt 0 ] || set_next

# start NAME STEPS: in the background, as often as gptdist-run can; $launcher. Should this script be killed, the job saves and leaves.
start() {
  local set=(--set "run.steps=$2") setting
  for setting in "${settings[@]}"; do set+=(--set "$setting"); done
  [ $phase = whole ] || starts=$((starts + 1))
  write_down
  setpriv --pdeathsig USR1 "$bin/gptdist-run" -n "$ranks" --max-restarts 1000 --restart-pause 1s -- "$bin/gptdist-train" \
    --config "$work/gpt2.yaml" --set "run.directory=$work/$1" "${set[@]}" >> "$work/$1.out" 2>&1 < /dev/null 9>&- &
  launcher=$! asked=no requested=no
}
of_job() { pgrep -f "$1.*run.directory=$work/(soak|whole)( |\$)"; }
ranks_now() { of_job gptdist-train | while read -r pid; do
  [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = gptdist-train ] && echo "$pid"; done; }
one_rank() { ranks_now | sed -n "$((1 + RANDOM % ranks))p"; }
starter() { pgrep -P "$launcher" -x mpirun; }
# Waits until nothing of the job is left: ranks that lost gptdist-run save and leave. After a minute it is killed.
gone() {
  local i
  of_job '^[^ ]*/gptdist-run ' | xargs -r kill -USR1
  for ((i = 0; i < 600; i++)); do of_job gptdist- > /dev/null || return; sleep 0.1; done
  of_job gptdist- | xargs -r kill -KILL
}

strike() {
  local kinds=(kill_rank kill_rank kill_all kill_mpirun kill_launcher stop_rank stop_all ask damage) kind newest
  kind=${kinds[$(((faults + seed) % ${#kinds[@]}))]}
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
      newest=$(ls -d "$work"/soak/checkpoints/step-???????? | tail -n 1)
      [ -n "$newest" ] || return
      printf '\377\377\377\377' | dd of="$newest/rank-00000.h5" bs=1 seek=$((4096 + RANDOM)) conv=notrunc
      kill -KILL "${victims[@]}"
      ;;
  esac 2> /dev/null
  faults=$((faults + 1))
  times[$kind]=$((${times[$kind]:-0} + 1))
}

# enough: the run with faults, at least one, may be asked to stop for good
enough() { [ $phase = soak ] && [ "${ms[soak]}" -ge "$wanted" ] && [ "$faults" -gt 0 ] && [ -e "$work/soak/checkpoints/LATEST" ]; }
# follow NAME STEPS: until it is done, was asked to stop for good or leaves with what is no fault's: $code. Ends the script when that was asked to end.
follow() {
  at=$(now_ms) running=yes
  start "$@"
  for (( ; ; )); do
    sleep 0.2
    count
    [ $SECONDS -lt "$leg" ] || ending=yes
    if [ $asked = no ] && { [ $ending = yes ] || enough; }; then
      asked=yes requested=yes
      kill -USR1 "$launcher" 2> /dev/null
    fi
    if ! kill -0 "$launcher" 2> /dev/null; then
      { wait "$launcher"; code=$?; } 2> /dev/null
      # 75: it was asked; 137: it was killed, and its job saves and leaves; 74: that one is not gone yet; 76: asked, and then stopped
      # before it had saved: who was asked to end starts nothing anew; 138: asked before gptdist-run could hear
      case $phase-$code-$requested in
        *-75-* | soak-74-* | soak-137-* | *-76-yes | *-138-yes) ;;
        *) break ;;
      esac
      [ $ending = no ] || pause
      [ $code-$asked != 75-yes ] || break
      sleep 1
      start "$@"
    fi
    if [ $phase = soak ] && [ "${ms[soak]}" -ge "$next" ] && [ $asked = no ]; then
      strike
      set_next
      write_down
    fi
  done
  running=no
}
pause() {
  gone
  count
  running=no finished=yes
  write_down
  echo "$((ms[soak] / 1000)) of $((wanted / 1000)) s with faults ($faults), $((ms[whole] / 1000)) s undisturbed"
  [ -n "${KEEP:-}" ] || { echo "FAILED  it was asked to end, and keeps nothing (KEEP=FOLDER does)"; exit 1; }
  exit 75
}
give_up() { # give_up TEXT NAME
  tail -n 6 "$work/$2.out"
  failed=$((failed + 1))
  echo "FAILED  $1: left with $code"
  write_down
  finish
}

gone
if [ $running = yes ]; then # the script was killed
  last=$(date -r "$work/$phase/metrics.jsonl" +%s%3N 2> /dev/null || echo 0)
  [ "$last" -le "$at" ] || ms[$phase]=$((ms[$phase] + last - at))
fi
[ $phase = done ] || starts_of_soak=$((starts_of_soak + 1))
if [ $phase = soak ]; then
  follow soak 1000000000
  [ "$code" -eq 75 ] || give_up "it saved when it was asked" soak
  steps=$(($(sed 's/^step-0*//' "$work/soak/checkpoints/LATEST")))
  phase=whole
  write_down
fi
for kind in "${!times[@]}"; do echo "$kind: ${times[$kind]}"; done | sort
if [ $phase = whole ]; then
  echo "$steps steps in $((ms[soak] / 1000)) s; undisturbed as well:"
  follow whole "$steps"
  [ "$code" -eq 0 ] || give_up "the undisturbed run" whole
  phase=done
  write_down
fi
# Of each step that was kept its line says how long it took: one second at most counts, for a step may have waited for a stopped rank
effective=$(grep '"event": *"train"' "$work/soak/metrics.jsonl" | grep -o '"ms": *[0-9.e+]*' |
  awk -v all="${ms[soak]}" '{ split($0, part, ": *"); sum += part[2] < 1000 ? part[2] : 1000 } END { printf "%.1f", 100 * sum / all }')
check "the state of the undisturbed run" same_state whole soak
check "its curve" same_curve whole soak
evidence soak "$faults" "$failed" seed "$seed" steps "$steps" disturbed_s $((ms[soak] / 1000)) undisturbed_s $((ms[whole] / 1000)) \
  starts "$starts" starts_of_soak "$starts_of_soak" effective_percent "$effective"
finish
