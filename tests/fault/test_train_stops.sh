#!/bin/bash
# Stopping a run: signals and --max-time save and leave with 75, the same line goes on to the same bits; a run that diverges leaves
# with 77; a run directory that is locked, foreign or unwritable is refused with one clear line.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../numerics/lib.sh"

long="run.steps=40 validation.interval_steps=0 checkpoint.interval_steps=0 parallel.tensor=2"
says() { grep -q -E "$2" "$work/$1.out" || { tail -3 "$work/$1.out"; false; }; }
once() { [ "$(grep -c -E "$2" "$work/$1.out")" -eq 1 ] || { cat "$work/$1.out"; false; }; }

# expect CODE NAME RANKS CONFIG settings...: a run that must leave with CODE
expect() {
  local code=$1 got
  shift
  attempt "$@" > /dev/null
  got=$?
  [ "$got" -eq "$code" ] && return 0
  echo "left with $got, expected $code"
  tail -3 "$work/$1.out"
  return 1
}

# shellcheck disable=SC2086
{
  train whole 2 gpt2 $long || finish

  # The first signal: finish the step, save, leave with 75.
  "$bin/gptdist-run" -n 2 -- "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/term" --set run.steps=100000 \
    --set parallel.tensor=2 --set validation.interval_steps=0 --set checkpoint.interval_steps=0 > "$work/term.out" 2>&1 &
  child=$!
  for ((i = 0; i < 600; i++)); do grep -q '"train"' "$work/term/metrics.jsonl" 2> /dev/null && break; sleep 0.1; done
  kill -TERM $child
  wait $child
  check "TERM leaves with 75" [ $? -eq 75 ]
  check "TERM says that the same command goes on" says term 'stopped at step [0-9]+ of 100000 \(signal\), checkpointed'
  check "exit.json has the code" grep -q '"code": 75' "$work/term/exit.json"
  check "a checkpoint is there" eval '"$bin/gptdist-ckpt" verify "$work/term" > /dev/null'

  check "--max-time leaves with 75" expect 75 timed 2 gpt2 $long run.steps=100000 --max-time=2s
  check "--max-time saves" says timed 'stopped at step .*--max-time.*checkpointed'

  # In pieces: whatever the stop hit, the rest of the run has the bits of the whole one.
  for stop in 5 17; do expect 0 pieces 2 gpt2 $long run.steps=$stop schedule.decay_steps=38 || check "the piece up to $stop" false; done
  train whole-decay 2 gpt2 $long schedule.decay_steps=38
  train pieces 2 gpt2 $long schedule.decay_steps=38
  check "three pieces end in the state of the whole run" same_state whole-decay pieces

  check "a loss that stays bad leaves with 77" expect 77 bad 2 gpt2 $long optimizer.lr=1000 optimizer.min_lr=1000 optimizer.weight_decay=100 schedule.warmup_steps=0 optimizer.clip=0 guard.max_bad_steps=3
  check "77 is explained" says bad 'not finite for 3 steps in a row'

  check "another model in the directory is refused" expect 64 whole 2 gpt2 $long model.layers=3
  check "the key is named, once" once whole 'model.layers: found 3, expected 2'
  check "the run it refused still loads" eval '"$bin/gptdist-ckpt" verify "$work/whole" > /dev/null'

  "$bin/gptdist-data" prepare --tokenizer bytes --output "$work/other" "$source/README.md" > /dev/null 2>&1
  check "other data in the directory is refused" expect 64 whole 2 gpt2 $long "data.path=$work/other"
  check "the data is named, once" once whole 'data.path: run directory .* other data'

  "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/held" --set run.steps=100000 > "$work/holder.out" 2>&1 &
  holder=$!
  for ((i = 0; i < 600; i++)); do grep -q '"train"' "$work/held/metrics.jsonl" 2> /dev/null && break; sleep 0.1; done
  check "a run directory in use is refused with 74" expect 74 held 2 gpt2
  check "the process that holds it is named, once" once held "$holder"
  check "exit.json says that it runs, who and where" \
    grep -qE "^\{\"state\": \"running\", \"pid\": $holder, \"host\": \"$(uname -n)\", \"start\": \"20[0-9TZ:-]+\"\}$" "$work/held/exit.json"
  kill -9 $holder
  wait $holder 2> /dev/null
  check "a run directory whose process died is free" expect 0 held 2 gpt2 run.steps=4 --resume=none

  # All ranks and mpirun killed: who started them says what became of the run.
  "$bin/gptdist-run" -n 2 -- "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/whole" --set run.steps=100000 \
    --set parallel.tensor=2 > "$work/killed.out" 2>&1 &
  child=$!
  for ((i = 0; i < 600; i++)); do grep -q '"running"' "$work/whole/exit.json" && break; sleep 0.1; done
  check "the next start does not say done any more" [ "$i" -lt 600 ]
  launcher=$(cat /proc/$child/task/*/children)
  kill -9 $(cat /proc/${launcher% }/task/*/children) ${launcher}
  wait $child
  check "kill -9 of all leaves with 137" [ $? -eq 137 ]
  check "exit.json says so" grep -qE '"state": "ended", "code": 137, "reason": ".*signal 9' "$work/whole/exit.json"
  check "a refused start says so, too" eval 'expect 64 whole 2 gpt2 model.layers=3; grep -q "\"code\": 64, .*model.layers" "$work/whole/exit.json"'

  # Before the run directory is held: its file is of an earlier start.
  says_exit() { grep -qE "\"state\": \"ended\", \"code\": $1, \"reason\": \".*$2" "$work/whole/exit.json" || { cat "$work/whole/exit.json"; false; }; }
  check "a key that is not known: exit.json does not go on about an earlier start" eval 'expect 64 whole 2 gpt2 modl.layers=3; says_exit 64 modl.layers'
  cp -r "$corpus" "$work/torn" && echo >> "$work/torn/train/index.json"
  check "... nor where the data is damaged" eval 'expect 65 whole 2 gpt2 "data.path=$work/torn"; says_exit 65 "index.json: is damaged"'
  printf '#!/bin/sh\nkill -9 $$\n' > "$work/gptdist-train" && chmod +x "$work/gptdist-train"
  "$bin/gptdist-run" -n 2 -- "$work/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/whole" > "$work/early.out" 2>&1
  check "... nor where no rank came so far" eval '[ $? -eq 137 ]; says_exit 137 "signal 9"'
  check "a folder that holds no run gets no word of it" eval 'mkdir "$work/empty"; expect 64 empty 2 gpt2 modl.layers=3; [ -z "$(ls "$work/empty")" ]'

  echo > "$work/file"
  check "a directory that cannot be made is refused with 74" expect 74 nowhere 2 gpt2 $long "run.directory=$work/file/run"
  check "the path is named, once" once nowhere "$work/file"
}
finish
