#!/usr/bin/env bash
# kill -9 of gptdist-run, of its mpirun or of a rank in the first moments of a job: nothing of the job stays. Ranks that lost
# gptdist-run save and leave; mpirun that lost its ranks is ended, with a word; and the next start goes on to the losses and the state of
# an undisturbed run. The last line is JSON.
#   tests/fault/test_killed_at_start.sh BUILD                    the quick form
#   DELAYS="0 0.005 0.01 ..." TRIALS=5 tests/fault/test_killed_at_start.sh BUILD      the long form: so often at each of them, seconds
. "$(dirname "${BASH_SOURCE[0]}")/../numerics/lib.sh"
trials=${TRIALS:-1} side_by_side=${SIDE_BY_SIDE:-4}
ranks_to_try=${RANKS:-1 2} victims=${VICTIMS:-gptdist-run mpirun rank} delays=${DELAYS:-0 0.03}
results=$work/results steps=800
: > "$results"
settings="validation.interval_steps=0 schedule.kind=constant checkpoint.interval_steps=20 log.interval_steps=1000000"

# shellcheck disable=SC2086
train whole 1 gpt2 $settings run.steps=$steps checkpoint.keep=1000 || finish
curve whole > "$work/whole.curve"

of_job() { pgrep -f "gptdist-.*run.directory=$work/$1( |\$)"; }
child_of() { # child_of PID: its first child, as soon as there is one
  until pgrep -P "$1" | head -1 | grep .; do
    kill -0 "$1" 2> /dev/null || return 1
  done
}
newest() { find "$work/$1/checkpoints" -maxdepth 1 -name 'step-????????' 2> /dev/null | sort | tail -1 | sed 's/.*step-0*//'; }

# trial NAME RANKS VICTIM DELAY: one line in $results
trial() {
  local name=$1 ranks=$2 victim=$3 delay=$4 why='' launcher pid='' code i step last setting set=()
  for setting in $settings; do set+=(--set "$setting"); done
  "$bin/gptdist-run" -n "$ranks" -- "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/$name" "${set[@]}" \
    --set run.steps=1000000 > "$work/$name.out" 2>&1 < /dev/null &
  launcher=$!
  pid=$(child_of $launcher)
  [ "$victim" != rank ] || pid=$(child_of "$pid")
  [ "$victim" != gptdist-run ] || pid=$launcher
  sleep "$delay"
  kill -9 "$pid" || why+=" nothing was killed;"
  # The ranks have a beat a second; mpirun that runs no rank has 30 s, and 10 to end.
  for ((i = 0; i < 600; i++)); do
    of_job "$name" > /dev/null || break
    sleep 0.1
  done
  [ $i -lt 600 ] || why+=" after 60 s it lives on;"
  [ "$victim" = rank ] || [ $i -lt 200 ] || why+=" it lived on for $((i / 10)) s;"
  [ $i -lt 600 ] || of_job "$name" | xargs -r kill -9
  wait $launcher
  code=$?
  [[ $victim$code =~ ^(gptdist-run137|mpirun137|rank137|rank76)$ ]] || why+=" left with $code;"
  [ "$victim" = gptdist-run ] || grep -q 'gptdist-run: error: ' "$work/$name.out" || why+=" not a word;"
  if [ "$victim" = gptdist-run ] && [ -s "$work/$name/exit.json" ]; then # the ranks came as far as that
    grep -q '"state": "ended", "code": 75' "$work/$name/exit.json" || why+=" $(cat "$work/$name/exit.json");"
  fi
  step=$(newest "$name")
  last=$(((${step:-0} / 20 + 1) * 20))
  if [ $last -gt $steps ]; then
    why+=" it trained on to step $step;"
  else
    # shellcheck disable=SC2086
    attempt "$name" 1 gpt2 $settings "run.steps=$last" > "$work/$name.next" || why+=" the next start: $(tail -1 "$work/$name.next");"
    cmp -s <(curve "$name") <(head -n $last "$work/whole.curve") || why+=" other losses;"
    [ "$(state "$name")" = "$(state "whole@$last")" ] || why+=" another state;"
  fi
  if [ -n "$why" ]; then
    { echo "bad $victim of $ranks ranks after $delay s:$why"; tail -8 "$work/$name.out" | sed 's/^/  | /'; } >> "$results"
  else
    echo "ok" >> "$results"
    rm -rf "${work:?}/$name" "$work/$name.out"
  fi
}

# mpirun that has lost its ranks and does not know it, for certain
lost() {
  mkdir "$work/fake"
  printf '#!/bin/sh\nexec sleep 100\n' > "$work/fake/mpirun"
  chmod +x "$work/fake/mpirun"
  PATH=$work/fake:$PATH "$bin/gptdist-run" -n 2 -- "$bin/gptdist-train" > "$work/lost.out" 2>&1 < /dev/null
  echo $? > "$work/lost.code"
}

number=0
lost &
for ((round = 0; round < trials; round++)); do
  for victim in $victims; do
    for ranks in $ranks_to_try; do
      for delay in $delays; do
        number=$((number + 1))
        trial trial-$number "$ranks" "$victim" "$delay" 2> /dev/null &
        fewer_jobs_than "$side_by_side"
      done
    done
  done
done
wait
grep -v '^ok' "$results"
check "each of $number jobs ended, and went on" [ "$(grep -c '^ok' "$results")" -eq "$number" ]
check "mpirun that runs no rank is ended" grep -qx 76 "$work/lost.code"
check "... with a word" grep -q 'gptdist-run: error: mpirun runs no rank and has not ended' "$work/lost.out"
evidence killed_at_start "$number" "$(grep -c '^bad' "$results")"
finish
