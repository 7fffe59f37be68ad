#!/usr/bin/env bash
# tests/fault/soak.sh in four starts: ended by itself, killed, asked to end while nobody disturbs, and to its end. Each goes on where the
# one before was, leaves nothing running (of a killed one the job saves and leaves), and the two runs end with the same hash.
. "$(dirname "${BASH_SOURCE[0]}")/../numerics/lib.sh"
kept=$work/kept
of_job() { pgrep -f "gptdist-.*run.directory=$kept/" > /dev/null; }
soak() { # soak LEG: in the background, $script
  KEEP=$kept LEG=$1 HOURS=0.003 EVERY=2 RANKS=1 bash "$source/tests/fault/soak.sh" "$build" >> "$work/soak.out" 2>&1 < /dev/null &
  script=$!
}
counted() { grep -qE "$1" "$kept/counted" 2> /dev/null; }
until_that() { # until_that COMMAND...: while the script is there
  until "$@"; do
    kill -0 $script 2> /dev/null || return 1
    sleep 0.1
  done
}
ended() { # ended CODE
  local code
  { wait $script; code=$?; } 2> /dev/null
  [ $code -eq "$1" ] && return
  echo "left with $code"
  tail -n 20 "$work/soak.out"
  return 1
}

soak 0.07
check "after so many minutes it leaves with 75" ended 75
check "... and nothing of it runs" eval '! of_job'
check "... and what passed is counted" counted 'ms=.*\[soak\]="[1-9][0-9]{3}'
soak 3
check "the next start has a job" until_that of_job
{ kill -KILL $script; wait $script; } 2> /dev/null
soak 3
check "the one after a killed start comes to the undisturbed run" until_that [ -s "$kept/whole/metrics.jsonl" ]
kill -TERM $script
check "asked to end it leaves with 75" ended 75
check "... and nothing of it runs" eval '! of_job'
check "... and the undisturbed run is not done" counted 'phase="whole"'
soak 3
check "the last start ends" ended 0
check "... with equal runs, counted over all starts" \
  grep -qE '"failures": 0, .*"disturbed_s": [1-9][0-9].*"starts": ([3-9]|[1-9][0-9]), "starts_of_soak": 4,' "$work/soak.out"
finish
