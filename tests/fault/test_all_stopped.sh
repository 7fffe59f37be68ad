#!/usr/bin/env bash
# All ranks of a host are stopped (SIGSTOP), so that none is left to tell: gptdist-run says so and ends the job with 76, soon after the
# deadline, or starts it again; a job that is suspended whole, gptdist-run too, goes on where it is woken.
. "$(dirname "${BASH_SOURCE[0]}")/../numerics/lib.sh"

ranks_of() { pgrep -f "gptdist-train --config .*run.directory=$work/$1( |\$)" | while read -r pid; do
  [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = gptdist-train ] && echo "$pid"; done; }
signal() { for pid in $(ranks_of "$2"); do kill -"$1" "$pid"; done; }
line() { cat "$work/$1/metrics.jsonl" 2> /dev/null | wc -l; }
await() { # await SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
}
grows() { [ "$(line "$1")" -gt "$2" ]; }

# start NAME RANKS [OPTION OF gptdist-run...]: $launcher; it trains when this returns
start() {
  local name=$1 ranks=$2
  shift 2
  "$bin/gptdist-run" -n "$ranks" "$@" -- "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/$name" \
    --set run.steps=1000000 --set run.watchdog_s=4 --set checkpoint.interval_steps=20 --set validation.interval_steps=0 \
    > "$work/$name.out" 2>&1 < /dev/null &
  launcher=$!
  await 30 grows "$name" 3 || { cat "$work/$name.out"; echo "$name does not train"; return 1; }
}
ended() { # ended NAME SECONDS: within that time, with 76
  local began=$SECONDS code
  await "$2" eval '! kill -0 $launcher 2> /dev/null' || kill -9 "$launcher"
  wait "$launcher"
  code=$?
  [ $code -eq 76 ] && return
  echo "$1: left with $code after $((SECONDS - began)) s"
  tail -5 "$work/$1.out"
  return 1
}
asked_to_stop() { # within 60 s, with 75
  kill -USR1 "$launcher"
  await 60 eval '! kill -0 $launcher 2> /dev/null' || kill -9 "$launcher"
  wait "$launcher"
  [ $? -eq 75 ]
}
text="no rank on $(hostname) gives a sign of life: the last came [0-9]* s ago from rank [0-9] in [a-z0-9, ]*phase [a-z]*;"

stopped() { # stopped NAME RANKS
  start "$1" "$2" || { check "$1 starts" false; return; }
  signal STOP "$1"
  check "$1: 76, not later than 20 s after the deadline of 4 s" ended "$1" 24
  check "$1: one line says it" [ "$(grep -c "error: $text" "$work/$1.out")" -eq 1 ]
  check "$1: exit.json says so, too" grep -q "\"state\": \"ended\", \"code\": 76, \"reason\": \"$text" "$work/$1/exit.json"
  check "$1: nothing is left behind" [ -z "$(ranks_of "$1")" ]
}
one() { stopped one 1; }
two() { stopped two 2; }

again() {
  start again 2 --max-restarts 1 --restart-pause 0s || { check "again starts" false; return; }
  await 30 test -e "$work/again/checkpoints/step-00000020/MANIFEST.pb"
  signal STOP again
  await 30 grep -q 'starting it again' "$work/again.out"
  local before=$(line again) # it trained on a while, from CONT to its end
  check "--max-restarts: it is started again" grep -q 'the job left with 76: no rank on .*; starting it again' "$work/again.out"
  await 30 grows again $((before + 50))
  check "... and goes on" grows again $((before + 50))
  check "... and is stopped like any other" asked_to_stop
}

# As SLURM does it: scontrol suspend stops every process of a job.
suspended() {
  start suspended 2 || { check "suspended starts" false; return; }
  kill -STOP "$launcher"
  signal STOP suspended
  local before=$(line suspended)
  sleep 12
  kill -CONT "$launcher"
  sleep 1.5 # the longer way round: it is awake before its ranks are
  signal CONT suspended
  await 20 grows suspended $((before + 50))
  check "a job that is suspended whole goes on" grows suspended $((before + 50))
  check "... and is stopped like any other" asked_to_stop
  check "... and says how long it stood still" grep -qE 'warning.*this process stood still for 1[2-9]\.[0-9] s' "$work/suspended.out"
  check "... without an error" [ "$(grep -c 'error' "$work/suspended.out")" -eq 0 ]
}

# No watchdog, no deadline that could begin anew.
unwatched() {
  "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/unwatched" --set run.steps=1000000 --set run.watchdog_s=0 \
    --set validation.interval_steps=0 > "$work/unwatched.out" 2>&1 < /dev/null &
  launcher=$!
  await 30 grows unwatched 3
  kill -STOP "$launcher"
  local before=$(line unwatched)
  sleep 7
  kill -CONT "$launcher"
  await 20 grows unwatched $((before + 50))
  check "a job without a watchdog that stood still goes on" grows unwatched $((before + 50))
  check "... and is stopped like any other" asked_to_stop
  check "... and tells of no deadlines" [ "$(grep -c 'deadlines' "$work/unwatched.out")" -eq 0 ]
}
together one two again suspended unwatched
finish
