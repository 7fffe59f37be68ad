#!/usr/bin/env bash
# One rank dies, stops or gives up in the middle of a run: the report names it and the call, comes once, the exit code is right,
# and no process is left behind.
set -u
program=$1/tests/test_session
[ -x "$program" ] || { echo "skipped: no $program"; exit 77; }
command -v mpirun >/dev/null || { echo "skipped: no mpirun"; exit 77; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
host=$(hostname)
bad=0
side_by_side=${SIDE_BY_SIDE:-4} # most of a scene is waiting

complain() {
  echo "FAILED $scene: $1" >> "$log.bad"
  sed 's/^/  | /' "$log" >> "$log.bad"
}

# Reports in $log; that a rank had no processor for a while is none.
reports() { grep '^LOG ' "$log" | grep -vc ': this process stood still for '; }

# start SCENE: $scene and $log for what follows
start() {
  scene=$1
  log=$out/${1// /-}
}

# play SCENE RANK WATCHDOG_S CODES TEXT [PATTERN [FORBIDDEN]]: runs the scene on 4 ranks; CODES: allowed exit codes; TEXT: what the
# one line must hold; PATTERN, FORBIDDEN: what the output must, and must not hold.
play() {
  start "$1 of rank $2"
  local started=$SECONDS code
  OMP_NUM_THREADS=1 timeout -k 5 60 mpirun --allow-run-as-root --oversubscribe --bind-to none -np 4 "$program" "$1" "$2" "$3" \
    >"$log" 2>&1
  code=$?
  case " $4 " in
    *" $code "*) ;;
    *) complain "exit code $code, expected one of: $4" ;;
  esac
  local lines
  lines=$(reports)
  [ "$lines" -eq 1 ] || complain "$lines reports, expected one"
  grep -qF -- "$5" "$log" || complain "no line with: $5"
  [ -z "${6:-}" ] || grep -qE -- "$6" "$log" || complain "no line like: $6"
  [ -z "${7:-}" ] || ! grep -qE -- "$7" "$log" || complain "a line like: $7"
  [ $((SECONDS - started)) -le $(($3 + 20)) ] || complain "took $((SECONDS - started)) s"
  sleep 0.2
  local left
  if left=$(pgrep -f "^$program $1 $2 $3\$"); then complain "processes left behind: $left"; fi
  case $1 in slow | agree-slow | dead-disk | two-abort-unheard) return ;; esac
  # Who tells it: rank 0, and where that is gone or silent the lowest rank that is not.
  local teller=0
  [ "$2" -ne 0 ] || case $1 in kill | *stop | *stop-between) teller=1 ;; esac
  [ "$2" -ne 0 ] || case $1 in two-*) teller=2 ;; esac
  [ "$(grep -c '^HOOK ' "$log")" -eq 1 ] && grep -q "^HOOK rank $teller: " "$log" ||
    complain "the exit hook did not run once, on rank $teller"
  [ $teller -eq 0 ] || grep -qF "(told by rank $teller on $host)" "$log" || complain "not told by rank $teller"
  [ "$1" = stop ] || return
  for ((r = 0; r < 4; r++)); do # who can still write leaves its last calls in its log
    [ $r -eq "$2" ] || grep -q "^DEBUG rank $r: call: .*, group world, #20, all_gather of 8 bytes a rank, took " "$log" ||
      complain "rank $r left no calls"
  done
}

scene() {
  play "$@" &
  while [ "$(jobs -rp | wc -l)" -ge "$side_by_side" ]; do wait -n; done
}

# mpirun itself gives the signal of the killed rank (137) or the first code it saw.
position="step (19|20), phase [a-z]+, (in|after) all_gather #2[01] of group world"
scene kill 2 40 '137 76' "rank 2 on $host: connection lost"
scene kill 0 40 '137 76' "rank 0 on $host: connection lost, its process has ended; its last sign was " \
  "; rank 1 is in $position \(told by rank 1"
scene kill 1 40 '137 76' "rank 1 on $host: connection lost, its process has ended; its last sign was " "; rank 0 is in $position"
scene late-kill 2 40 '137 76' "rank 2 on $host: connection lost, its process has ended; its last sign was " '' 'last sign was 0\.0 s ago'
scene agree-kill 3 40 '137 76' "rank 3 on $host: connection lost"
scene exit 1 40 '3 76' "rank 1 on $host: connection lost"
scene abort 2 40 65 'the corpus is broken'
scene abort 0 40 65 'LOG rank 0: the corpus is broken'
scene two-abort-unheard 0 40 65 'LOG rank 1: the corpus is broken' "^HOOK rank 1: "
scene everyone-aborts 2 40 74 "LOG rank 0: rank 2 on $host: disk of rank 2 is full"
# The place in the source is for the log, not for the terminal.
scene fault 2 40 74 "LOG rank 0: rank 2 on $host: the disk is gone" \
  "^DEBUG rank 0: raised at .*\.c:[0-9]* misbehave, rank 2 on $host" '^LOG.*\.c:[0-9]'
scene stop 2 2 76 "rank 2 on $host has not entered all_gather #21 of group world (step 20, phase backward)"
scene sleep 1 2 76 "in step 20, phase forward; waiting for it: ranks 0 2 3"
scene hang-in-task 3 2 76 "in step 20, phase backward, running long_sum on the communication stream; waiting for it: ranks 0 1 2"
scene stop 0 2 76 "rank 0 on $host has not entered all_gather #21 of group world (step 20, phase backward); it does not answer" \
  "its last sign was [23] s ago in .*; waiting for it: ranks 1 2 3"
scene two-stop 0 2 76 \
  "rank 0 on $host has not entered all_gather #21 of group world (step 20, phase backward); it does not answer" \
  "no answer either from ranks 1 \(told"
scene two-stop 2 2 76 "rank 3 on $host has not entered all_gather #21"
scene agree-stop 0 2 76 "rank 0 on $host has not entered agree #"
scene agree-stop 3 2 76 "rank 3 on $host has not entered agree #3 of group control"
# When mpirun wakes it at the end, rank 0 hears of its own silence before it sees that the others have gone.
scene agree-stop-between 0 2 76 "rank 0 on $host has not entered agree #"
# Who works is not stuck, and who waits for somebody who works is not either.
scene slow 2 2 0 'LOG rank 0: a slow rank was waited for'
scene slow 0 2 0 'LOG rank 0: a slow rank was waited for'
scene agree-slow 1 2 0 'LOG rank 0: a slow rank was waited for'
# A disk that does not answer keeps exit.json from being written, not the ranks from leaving.
scene dead-disk 2 40 65 'LOG rank 0: the corpus is broken'
scene dead-disk 0 40 65 'LOG rank 0: the corpus is broken'

# Rank 0 and the next one die together: the one after them speaks, before mpirun ends it.
two_die() {
  start "death of ranks 0 and 1"
  local run
  OMP_NUM_THREADS=1 timeout -k 5 60 mpirun --allow-run-as-root --oversubscribe --bind-to none -np 4 "$program" two-stop 0 50 \
    >"$log" 2>&1 &
  run=$!
  stopped() { ps -o pid=,stat=,args= -A | awk -v line="$program two-stop 0 50" 'index($0, line) && $3 == "'"$program"'" && $2 ~ /^T/ { print $1 }'; }
  for ((i = 0; i < 200; i++)); do [ "$(stopped | wc -l)" -eq 2 ] && break; sleep 0.1; done
  # shellcheck disable=SC2046
  kill -9 $(stopped) || complain "no two ranks stopped"
  wait $run
  grep -qE "^LOG rank 2: rank 0 on $host: connection lost, .* no answer either from ranks 1 \(told by rank 2 on $host\)" "$log" ||
    complain "not told by rank 2"
  [ "$(reports)" -eq 1 ] || complain "not told once"
}

# Everybody is stopped for longer than the deadline, as SLURM suspends a job, and rank 0 goes on first: it knows nothing of the
# others but that nobody beat while it slept, so they have their whole time again.
pause_of_everybody() {
  start "pause of everybody"
  local run first all
  OMP_NUM_THREADS=1 timeout -k 5 60 mpirun --allow-run-as-root --oversubscribe --bind-to none -np 4 "$program" pause 0 6 \
    >"$log" 2>&1 &
  run=$!
  for ((i = 0; i < 200; i++)); do grep -q '^READY' "$log" 2>/dev/null && break; sleep 0.1; done
  first=$(sed -n 's/^READY //p' "$log")
  all=$(pgrep -f "^$program pause 0 6\$")
  [ "$(echo "$all" | wc -l)" -eq 4 ] || complain "no four ranks: $all"
  # shellcheck disable=SC2086
  {
    kill -STOP $all
    sleep 7
    kill -CONT "$first"
    sleep 4.5
    kill -CONT $all
    sleep 1
    kill -USR1 "$first"
  } || complain "a rank has ended"
  wait $run || complain "exit code $?, expected 0"
  grep -qF 'LOG rank 0: everybody went on' "$log" || complain "no good end"
}

two_die &
pause_of_everybody &
wait
for report in "$out"/*.bad; do
  [ -f "$report" ] || continue
  cat "$report"
  bad=1
done
exit $bad
