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
whole() { "$bin/gptdist-ckpt" verify "$work/$1" > "$work/verify" 2>&1 && grep -q whole "$work/verify" || { cat "$work/verify"; return 1; }; }

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
together removed replaced_1 replaced_2 terminal reader closed
finish
