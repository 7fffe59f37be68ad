#!/usr/bin/env bash
# A rank that stops (SIGSTOP) or dies (SIGKILL) anywhere, rank 0 too: the terminal names it once, with host, step, group, call and the
# call's number; exit.json says the same; gptdist-run leaves with 76 and nothing is left behind. The last line is JSON.
#   tests/fault/test_hangs.sh BUILD                         the quick form: two ranks, each signal, rank and phase once
#   TRIALS=50 RANKS=4 SIDE_BY_SIDE=4 tests/fault/test_hangs.sh BUILD   the long form: each of them 50 times
. "$(dirname "${BASH_SOURCE[0]}")/../numerics/lib.sh"
trials=${TRIALS:-1} ranks=${RANKS:-2} side_by_side=${SIDE_BY_SIDE:-6}
phases=${PHASES:-start load forward backward validation save} # some of them, for a slice of the long form
hangs=$build/tests/hangs/gptdist-train
[ -x "$hangs" ] || { echo "skipped: no $hangs"; exit 77; }
host=$(hostname)
results=$work/results
: > "$results"

# trial NAME SIGNAL PHASE RANK: one line in $results: "ok LATE_MS" or "bad NAME: why"
trial() {
  local name=$1 signal=$2 phase=$3 rank=$4 code why='' text late=-1 still
  local out=$work/$name.out directory=$work/$name step=2 deadline_s=2
  case $phase in
    start) deadline_s=30 ;; # before the run file is read; the run directory is not yet the job's: no exit.json
    load) step=-1 ;;
  esac
  HANG_AT="$rank $phase $step $(kill -l "$signal")" HANG_TIMES=$work/$name.times timeout -k 5 90 \
    "$bin/gptdist-run" -n "$ranks" -- "$hangs" --config "$work/gpt2.yaml" --set "run.directory=$directory" --set run.steps=100000 \
    --set log.interval_steps=1000000 --set run.watchdog_s=$deadline_s --set "parallel.tensor=$ranks" > "$out" 2>&1 < /dev/null
  code=$?
  # Without exit.json it is mpirun's code: the first that it saw, of the killed rank or of the one that told it.
  [ $code -eq 76 ] || [[ $signal$phase$code == KILLstart137 ]] || why+=" left with $code;"
  text=$(grep 'train: error: .*rank [0-9]' "$out")
  [ "$(grep -c 'train: error: ' "$out")" -eq 1 ] || why+=" $(grep -c 'train: error: ' "$out") reports;"
  if [ "$signal" = KILL ]; then
    [[ $text == *"error: rank $rank on $host: connection lost"* ]] || why+=" another rank;"
  else
    [[ $text == *"error: watchdog: rank $rank on $host "* ]] || why+=" another rank;"
    [[ $text == *"does not answer"* ]] || why+=" not silent;"
    # Who could still write has left its last calls where the report says.
    if [ "$phase" != start ]; then
      grep -qF "  the last calls of each rank: $directory/log" "$out" || why+=" the calls' place;"
      [ "$(grep -lE ' call: [0-9.]+ s ago, group [a-z]+, #[0-9]+, [a-z_]+( of .*)?, (took|has not)' "$directory"/log/rank-*.log | wc -l)" -ge $((ranks - 1)) ] || why+=" no calls in the logs;"
    fi
  fi
  [[ $phase =~ start|load ]] || [[ $text =~ step\ [0-9]+ ]] || why+=" no step;"
  [[ $text =~ \ [a-z_]+\ \#[0-9]+\ of\ group\ [a-z]+ ]] || why+=" no call of a group;"
  if [ "$phase" != start ]; then
    grep -q '"code": 76' "$directory/exit.json" 2> /dev/null && grep -qF "rank $rank on $host" "$directory/exit.json" || why+=" exit.json;"
  fi
  touch "$work/$name.times"
  [ "$(grep -c hung "$work/$name.times")" -eq 1 ] || why+=" nothing was stopped;"
  if [ "$signal" = STOP ]; then
    late=$(awk -v d=$deadline_s '{ at[$1] = $2 } END { print at["told"] - at["hung"] - 1000 * d }' "$work/$name.times")
    # A rank that had no processor itself says so, and counts anew from there.
    still=$(grep -hoE 'stood still for [0-9.]+ s' "$directory"/log/rank-*.log 2> /dev/null | awk '$4 > most { most = $4 } END { print 1000 * most }')
    [ "$late" -le $((2000 + still)) ] || why+=" told $late ms after the deadline;"
  fi
  pgrep -f "run.directory=$directory( |\$)" > /dev/null && sleep 1 && pgrep -f "run.directory=$directory( |\$)" > /dev/null &&
    why+=" processes left behind;"
  if [ -n "$why" ]; then
    { echo "bad $signal of rank $rank in $phase:$why"; tail -8 "$out" | sed 's/^/  | /'; } >> "$results"
  else
    echo "ok $late" >> "$results"
    rm -rf "$directory" "$out"
  fi
}

number=0
for ((round = 0; round < trials; round++)); do
  for signal in STOP KILL; do
    for phase in $phases; do
      for ((rank = 0; rank < ranks; rank++)); do
        number=$((number + 1))
        trial trial-$number $signal $phase $rank &
        fewer_jobs_than "$side_by_side"
      done
    done
  done
done
wait
# never RANK: this rank sleeps before MPI_Init, the others say that somebody is missing, and the job ends
never() {
  local code
  HANG_AT="$1 never 0 0" timeout -k 5 60 "$bin/gptdist-run" -n "$ranks" --start-deadline 4s -- "$hangs" --config "$work/gpt2.yaml" \
    --set "run.directory=$work/never" > "$work/never.out" 2>&1 < /dev/null
  code=$?
  [ $code -eq 76 ] && [ "$(grep -c "the job of $ranks ranks has not started for 4 s" "$work/never.out")" -eq 1 ] && return
  echo "left with $code"
  tail -5 "$work/never.out"
  return 1
}
for ((rank = 0; rank < ranks; rank++)); do check "rank $rank never reaches MPI_Init" never $rank; done
grep -v '^ok' "$results"
good=$(grep -c '^ok' "$results")
bad=$(grep -c '^bad' "$results")
latest=$(awk '$1 == "ok" && $2 > most { most = $2 } END { print most + 0 }' "$results")
check "each of $number hung or killed ranks was named" [ "$good" -eq "$number" ]
evidence hangs "$number" "$bad" ranks "$ranks" latest_report_ms_after_deadline "$latest"
finish
