#!/usr/bin/env bash
# What is pulled away from under a run: its directory, its terminal, who reads its output, its standard files. The work goes on or is
# saved; no run writes into the directory of another, no log line into a file.
. "$(dirname "${BASH_SOURCE[0]}")/../numerics/lib.sh"
settings="validation.interval_steps=0 schedule.kind=constant checkpoint.interval_steps=20"
for setting in $settings; do set+=(--set "$setting"); done

await() { # await SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.05; done
}
line() { cat "$work/$1/metrics.jsonl" 2> /dev/null | wc -l; }
begins() { await 30 eval "[ \$(line $1) -gt 25 ]" || { tail -3 "$work/$1.out"; echo "$1 does not train"; return 1; }; }
ends() { # ends PID CODE
  local code
  await 30 eval "! kill -0 $1 2> /dev/null" || kill -9 "$1"
  wait "$1"
  code=$?
  [ $code -eq "$2" ] || { echo "left with $code"; return 1; }
}
start() { # start NAME RANKS [OPTION...]: $child, which trains when this returns
  local name=$1 ranks=$2 line=("$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/$1" --set run.steps=1000000 "${set[@]}" "${@:3}")
  [ "$ranks" -eq 1 ] || line=("$bin/gptdist-run" -n "$ranks" -- "${line[@]}")
  "${line[@]}" > "$work/$name.out" 2>&1 < /dev/null &
  child=$!
  begins "$name"
}
# Its own file: scenes run side by side.
whole() { "$bin/gptdist-ckpt" verify "$work/$1" > "$work/$1.verify" 2>&1 && grep -q whole "$work/$1.verify" || { cat "$work/$1.verify"; return 1; }; }

removed() {
  start removed 1 || { check "removed starts" false; return; }
  mv "$work/removed" "$work/gone" # in one step, unlike rm -r
  check "removed: the run goes on there" await 30 test -e "$work/removed/checkpoints/LATEST"
  check "... and says so, once" [ "$(grep -c "warning: run directory $work/removed was removed or moved away" "$work/removed.out")" -eq 1 ]
  attempt removed 1 gpt2 > "$work/second"
  check "... holds it against others" grep -q "$work/removed is in use by process $child " "$work/removed.out" "$work/second"
  kill -TERM $child
  check "... and is stopped like any other" ends $child 75
  check "... with whole checkpoints" whole removed
  check "... and a resolved run file" test -s "$work/removed/config.yaml"
}

replaced() { # replaced RANKS
  local name=replaced-$1 first kept
  mkdir "$work/old-$name" "$work/new-$name"
  ln -s "old-$name" "$work/$name" # a link: another folder takes the place of the first in one step
  echo "process 1 on elsewhere" > "$work/new-$name/lock"
  echo '{"other": 1}' > "$work/new-$name/exit.json"
  # A save that is under way in this moment would still go there.
  start "$name" "$1" --set checkpoint.interval_steps=0 || { check "$name starts" false; return; }
  first=$child
  ln -s "new-$name" "$work/link-$name"
  mv -T "$work/link-$name" "$work/$name"
  check "$name: the first run stops" ends $first 64
  check "... and says why" [ "$(grep -c 'error: run directory .* another run has begun in its place' "$work/$name.out")" -eq 1 ]
  kept=$(cat "$work/$name/exit.json")
  check "... and leaves it alone" [ "$kept$(ls "$work/new-$name" | tr '\n' ' ')" = '{"other": 1}exit.json lock ' ]
}
replaced_1() { replaced 1; }
replaced_2() { replaced 2; }

# The lock file alone. Where another run takes it before this one does, that one has the directory.
unlocked() {
  start unlocked 1 || { check "unlocked starts" false; return; }
  rm "$work/unlocked/lock"
  check "a lock that is removed: the run takes it again" await 30 test -e "$work/unlocked/lock"
  check "... and says so" await 10 grep -q "warning: the lock of run directory $work/unlocked was removed while this run worked there: it is locked again" "$work/unlocked.out"
  check "... and of no removed directory" eval '! grep -q "was removed or moved away" "$work/unlocked.out"'
  attempt unlocked 1 gpt2 > "$work/unlocked.second"
  check "... holds the directory against others" grep -q "$work/unlocked is in use by process $child " "$work/unlocked.out"
  kill -TERM $child
  check "... and is stopped like any other" ends $child 75
  check "... with whole checkpoints" whole unlocked
}

overtaken() {
  local first
  start overtaken 1 --set checkpoint.interval_steps=0 || { check "overtaken starts" false; return; }
  first=$child
  kill -STOP $first
  rm "$work/overtaken/lock"
  "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/overtaken" --set run.steps=1000000 "${set[@]}" > "$work/overtaker.out" 2>&1 < /dev/null &
  child=$!
  check "another run takes a lock that was removed" await 30 grep -q "^step " "$work/overtaker.out"
  kill -CONT $first
  check "... then the first run stops" ends $first 64
  check "... and says why" [ "$(grep -c "error: the lock of run directory $work/overtaken was removed while this run worked there, and another run has begun in its place" "$work/overtaken.out")" -eq 1 ]
  check "... and leaves it alone" grep -q '"state": "running", "pid": '$child "$work/overtaken/exit.json"
  kill -TERM $child
  check "... the other has it to the end" ends $child 75
  check "... with whole checkpoints" whole overtaken
}

# A start that is refused took the lock in passing, and left it: the directory is the first run's still.
passed_by() { # passed_by NAME ARGUMENT...   ARGUMENT: of the second start
  local name=$1 first second
  start "$name" 1 || { check "$name starts" false; return; }
  first=$child
  check "$name: there is a checkpoint" await 30 test -e "$work/$name/checkpoints/LATEST"
  kill -STOP $first
  rm "$work/$name/lock"
  "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/$name" --set run.steps=1000000 "${set[@]}" "${@:2}" \
    > "$work/$name.second" 2>&1 < /dev/null &
  second=$!
  check "$name: the second start is refused" ends $second 64
  check "... having taken the lock" grep -q "process $second on " "$work/$name/lock"
  kill -CONT $first
  check "... the first run takes it again" await 30 grep -q "warning: the lock of run directory $work/$name was removed while this run worked there: it is locked again" "$work/$name.out"
  check "... and is what exit.json tells of" await 10 grep -q '"state": "running", "pid": '"$first," "$work/$name/exit.json"
  kill -TERM $first
  check "... goes on, and is stopped like any other" ends $first 75
  check "... with whole checkpoints" whole "$name"
}
passed_with_other_data() { passed_by passed-data --set "data.path=$work/other"; }
passed_with_other_model() { passed_by passed-model --set model.layers=3; }

# A save that was under way as another run took over gets no name, and sets none of the other's aside.
late_save() {
  local first newest
  start late 1 --set checkpoint.interval_steps=1 --set checkpoint.background=false --set batch.global=480 || { check "late starts" false; return; }
  first=$child
  kill -STOP $first
  rm "$work/late/lock"
  "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/late" --set run.steps=1000000 --set checkpoint.interval_steps=1 "${set[@]}" \
    > "$work/late.second" 2>&1 < /dev/null &
  child=$!
  check "late: another run saves there" await 30 eval '[ "$(cat "$work/late.second" 2> /dev/null | grep -c "checkpoint saved")" -gt 30 ]'
  kill -TERM $child
  check "... and has ended" ends $child 75
  newest=$(cat "$work/late/checkpoints/LATEST")
  kill -CONT $first
  check "... then the first one stops" ends $first 64
  check "... and says why" grep -q "another run has begun in its place" "$work/late.out"
  check "... and leaves the other's checkpoints where they are" eval '[ "$(cat "$work/late/checkpoints/LATEST")" = "$newest" ] && ! ls -d "$work"/late/checkpoints/*.old 2> /dev/null'
}

terminal() {
  start terminal 1 || { check "terminal starts" false; return; }
  kill -HUP $child
  check "HUP saves and leaves with 75" ends $child 75
  check "... with whole checkpoints" whole terminal
}

reader() {
  local code
  { timeout 60 "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/reader" --set run.steps=1000000 "${set[@]}" 2>&1
    echo $? > "$work/reader.code"; } | head -n 20 > /dev/null
  code=$(cat "$work/reader.code")
  check "a reader that went away: saves and leaves with 75" [ "$code" = 75 ]
  check "... and says so" grep -q '"code": 75' "$work/reader/exit.json"
  check "... with whole checkpoints" whole reader
}

closed() {
  "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/closed" --set run.steps=1000000 "${set[@]}" <&- >&- 2>&- &
  child=$!
  begins closed || { check "closed starts" false; return; }
  check "closed standard files are no file of the run" [ "$(readlink /proc/$child/fd/{0,1,2} | sort -u)" = /dev/null ]
  kill -TERM $child
  check "... and it is stopped like any other" ends $child 75
}
put_back() {
  start put-back 1 --set checkpoint.interval_steps=0 || { check "put back starts" false; return; }
  kill -STOP $child
  mv "$work/put-back" "$work/put-away"
  kill -CONT $child
  await 10 grep -q "was removed or moved away" "$work/put-back.out"
  kill -STOP $child
  mv "$work/put-back" "$work/put-further"
  mv "$work/put-away" "$work/put-back"
  kill -CONT $child
  await 10 eval "[ \$(grep -c 'was removed or moved away' '$work/put-back.out') -eq 2 ]"
  kill -TERM $child
  check "a directory that is moved away and put back: the run goes on there" ends $child 75
  check "... with whole checkpoints" whole put-back
}

cleared() {
  local i
  start cleared 1 --set checkpoint.interval_steps=1 || { check "cleared starts" false; return; }
  for i in 1 2 3 4 5 6; do rm -rf "$work/cleared" 2> /dev/null; sleep 0.3; done
  check "a directory that is removed in the middle of saves: the run goes on" kill -0 $child
  kill -TERM $child
  check "... and is stopped like any other" ends $child 75
  # rm may have taken files of an older one before it gave up
  check "... with a whole newest checkpoint" whole cleared@last
}

# A training in a shell that has the variables of a job whose gptdist-run has ended long ago.
inherited() {
  local place mark told
  told=$("$bin/gptdist-run" -n 1 -- bash -c 'echo "$GPTDIST_LAUNCH_PLACE $GPTDIST_LAUNCH"' 2> /dev/null)
  read -r place mark <<< "$told"
  check "there is a mark and a place" [ -n "$mark" ]
  GPTDIST_LAUNCH_PLACE=${place%@*}@$((${place#*@} - 60)) GPTDIST_LAUNCH=$mark \
    attempt inherited 1 gpt2 validation.interval_steps=0 checkpoint.interval_steps=0 run.steps=1000 > "$work/inherited.told"
  check "an earlier job's variables do not stop a training" grep -q "done: 1000 steps" "$work/inherited.out"
}

# What mpirun still holds back for a reader is no reason to call a finished job a failed one.
slow_reader() {
  { "$bin/gptdist-run" -n 1 -- "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/slow-reader" --set run.steps=1500 \
    --set model.width=16 --set model.layers=1 --set model.context=8 --set validation.interval_steps=0 --set checkpoint.interval_steps=0 2>&1
    echo $? > "$work/slow-reader.code"; } | { sleep 45; cat > "$work/slow-reader.out"; }
  check "a reader that does not read for a while: the job is done" [ "$(cat "$work/slow-reader.code")" = 0 ]
}
# Rank 0 waits for who reads its lines, and is stopped for a moment: the thread that gives its signs of life does not wait with it.
slow_and_stopped() {
  local name=slow-stopped pids
  mkfifo "$work/$name.pipe"
  (exec 3< "$work/$name.pipe"; sleep 16; cat <&3 > "$work/$name.out") &
  cat > "$work/$name.sh" << SH
#!/bin/bash
[ \$OMPI_COMM_WORLD_RANK != 0 ] || exec 2> "$work/$name.pipe"
exec "$bin/gptdist-train" "\$@"
SH
  chmod +x "$work/$name.sh"
  mpirun --oversubscribe --bind-to none -np 2 "$work/$name.sh" --config "$work/gpt2.yaml" --set "run.directory=$work/$name" --set run.steps=1000000 \
    --set run.max_time_s=25 --set run.watchdog_s=3 --set checkpoint.interval_steps=0 --set validation.interval_steps=0 --set batch.global=4 \
    > "$work/$name.job" 2>&1 < /dev/null &
  child=$!
  sleep 7
  mapfile -t pids < <(pgrep -f "^$bin/gptdist-train .*run.directory=$work/$name( |\$)")
  kill -STOP "${pids[@]}"
  sleep 1.7
  kill -CONT "${pids[@]}"
  check "a reader that does not read, and ranks that are stopped for a moment: the job is done" ends $child 75
}
sed 's/line/row/' "$work/text.txt" > "$work/other.txt"
"$bin/gptdist-data" prepare --tokenizer bytes --output "$work/other" --validation-fraction 0.05 "$work/other.txt" > /dev/null 2>&1
together slow_and_stopped unlocked overtaken passed_with_other_data passed_with_other_model late_save put_back cleared inherited slow_reader removed replaced_1 replaced_2 terminal reader closed
finish
