#!/bin/bash
# A disk that fails under gptdist-train, at a call of its checkpoints, its metrics or its log, or that kills it there: the code it
# leaves with, a file named, no hang; then the same line again, on the disk mended, ends in the state of a run that nothing
# disturbed. Six random calls; EVERY=N: every N-th. One rank's disk alone; a read refused on one rank alone.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../numerics/lib.sh"
RANDOM=${SEED:-1}
faults=$work/faults.so
cc -shared -fPIC -O1 -I"$source" -o "$faults" "$source/tests/fault/faults.c" -ldl || { echo "faults.c does not compile"; exit 1; }
settings="run.steps=6 checkpoint.interval_steps=2 checkpoint.keep=1 validation.interval_steps=3 batch.global=8 precision.dtype=fp32"

# struck NAME RANKS VARIABLE=VALUE... -- settings...   a run under a faulty disk; prints nothing
struck() {
  local name=$1 ranks=$2 variables=() code
  shift 2
  while [ "$1" != -- ]; do variables+=("$1"); shift; done
  shift
  (
    export LD_PRELOAD=$faults ASAN_OPTIONS=verify_asan_link_order=0:${ASAN_OPTIONS:-}
    export "${variables[@]}"
    LIMIT=60 train "$name" "$ranks" gpt2 "$@"
  ) > /dev/null 2>&1
}
whole_or_none() { # NAME: what is there is whole, and nothing was called damaged
  [ -z "$(ls "$work/$1/checkpoints" 2> /dev/null | grep '\.bad')" ] || return 1
  ls "$work/$1/checkpoints" 2> /dev/null | grep -qE '^step-[0-9]*$' || return 0
  "$bin/gptdist-ckpt" verify "$work/$1" > /dev/null
}
named() { grep -qF "$work/$1/" "$work/$1.out" || { tail -3 "$work/$1.out"; false; }; }

# goes_on NAME RANKS TEXT: the same line again on a good disk
# shellcheck disable=SC2086
goes_on() {
  train "$1" "$2" gpt2 $settings || { echo "FAILED  $3: the next start"; return 1; }
  same_state whole "$1" && { [ "${4:-}" = without-lines ] || same_curve whole "$1"; }
}

# one_call N VARIABLE=VALUE...: whether a run struck at its N-th call met all that is promised
# shellcheck disable=SC2086
one_call() {
  local n=$1 code lines=
  shift
  rm -rf "$work/one"
  struck one 1 "GD_FAULT_PATH=$work/one/" "GD_FAULT_NTH=$n" "$@" -- $settings
  code=$?
  case $code in
    0 | 137) ;;
    74) named one || return 1 ;;
    *) echo "call $n $*: left with $code"; tail -3 "$work/one.out"; return 1 ;;
  esac
  whole_or_none one || { echo "call $n $*: checkpoints suffered"; ls "$work/one/checkpoints"; return 1; }
  # Metrics that cannot be written do not end a run: it says that it goes on without them.
  grep -q 'warning: .*metrics.jsonl' "$work/one.out" && lines=without-lines
  goes_on one 1 "call $n $*" $lines || { echo "call $n $*: went on to another state"; return 1; }
}

# shellcheck disable=SC2086
{
  train whole 1 gpt2 $settings || finish
  struck counted 1 "GD_FAULT_PATH=$work/counted/" "GD_FAULT_LOG=$work/calls" -- $settings
  calls=$(wc -l < "$work/calls")
  check "a run that is only watched is the same ($calls calls)" same_state whole counted
  check "the shim sees the calls" [ "$calls" -gt 200 ]
  if [ -n "${EVERY:-}" ]; then
    chosen=$(seq 1 "$EVERY" "$calls")
  else
    chosen=$(for ((i = 0; i < 6; i++)); do echo $((RANDOM % calls + 1)); done)
  fi
  struck_calls=0 before=$failed
  for n in $chosen; do
    check "call $n of $calls refused: EIO" one_call "$n" GD_FAULT_ERRNO=5
    check "call $n of $calls kills" one_call "$n" GD_FAULT_KILL=1
    struck_calls=$((struck_calls + 2))
  done
  evidence faulty_disk $struck_calls $((failed - before))
  # A start that fails or dies where it notes its data must not look like damage to the next one.
  for way in GD_FAULT_ERRNO=28 GD_FAULT_KILL=1; do
    rm -rf "$work/one"
    struck one 1 GD_FAULT_PATH=data.sha256 GD_FAULT_CALLS=write GD_FAULT_NTH=1 $way -- $settings
    check "the note of the data is not written, $way: the next start goes on" goes_on one 1 "data.sha256 $way"
  done

  # Four ranks, and the disk of one of them is full for its second checkpoint (of step 3, which validates best): all go on.
  struck full 4 "GD_FAULT_PATH=step-00000004" "GD_FAULT_CALLS=write fsync" GD_FAULT_NTH=1 GD_FAULT_STICKY=1 GD_FAULT_ERRNO=28 \
    GD_FAULT_RANK=2 -- $settings parallel.tensor=2
  check "the full disk of one rank of four, for one checkpoint: the run goes on" [ $? -eq 0 ]
  check "its file is named, once" [ "$(grep -c 'rank-00002.h5.*No space left on device' "$work/full.out")" -eq 1 ]
  check "and the step that was not saved" grep -q 'the checkpoint of step 4 was not written; older ones are untouched' "$work/full.out"
  check "and that training goes on" grep -q 'training goes on (1 of 3 failed saves in a row' "$work/full.out"
  check "nothing of the failed one stays" eval '! ls "$work/full/checkpoints" | grep -qE "tmp|step-00000004"'
  check "the same losses" same_curve whole full
  check "the next save worked: the same state" same_state whole full

  # It stays full: three failed saves in a row, not all at the same call, are the end.
  many="run.steps=12 checkpoint.interval_steps=2 checkpoint.keep=1 validation.interval_steps=0 batch.global=8 precision.dtype=fp32 parallel.tensor=2"
  train many 4 gpt2 $many
  struck counted-4 4 "GD_FAULT_PATH=rank-00002.h5" "GD_FAULT_CALLS=write fsync" "GD_FAULT_LOG=$work/writes" GD_FAULT_RANK=2 -- $many
  first=$(grep -c 'step-00000002' "$work/writes")
  check "the shim sees the writes of the first checkpoint" [ "$first" -gt 3 ]
  struck full3 4 "GD_FAULT_PATH=rank-00002.h5" "GD_FAULT_CALLS=write fsync" "GD_FAULT_NTH=$((first + 1))" GD_FAULT_STICKY=1 \
    GD_FAULT_ERRNO=28 GD_FAULT_RANK=2 -- $many
  check "three failed saves in a row: 74" [ $? -eq 74 ]
  check "each is told, once" [ "$(grep -c 'rank-00002.h5.*No space left on device' "$work/full3.out")" -eq 3 ]
  check "the last is the end" grep -q '3 saves in a row failed: the run ends here' "$work/full3.out"
  check "exit.json says so, too" grep -q '"code": 74.*No space left on device' "$work/full3/exit.json"
  check "the older checkpoint is whole" eval '"$bin/gptdist-ckpt" verify "$work/full3" | grep -q "step-00000002: whole"'
  check "nothing of the failed ones stays" eval '! ls "$work/full3/checkpoints" | grep -q tmp'
  train full3 4 gpt2 $many || check "the next start" false
  check "the same line goes on to the same state" same_state many full3

  # Two fail, one works, two fail, and the one that is tried again for the last step works: never three in a row.
  struck some 4 "GD_FAULT_PATH=/step-" GD_FAULT_CALLS=rename GD_FAULT_NTH=2 GD_FAULT_STICKY=1 GD_FAULT_PASS=3 GD_FAULT_ERRNO=28 \
    GD_FAULT_RANK=0 -- $many checkpoint.keep=9
  check "four failed saves, never three in a row: the run goes on" [ $? -eq 0 ]
  check "each is told" [ "$(grep -c 'No space left on device' "$work/some.out") $(grep -c 'training goes on (2 of 3' "$work/some.out")" = "4 2" ]
  check "the same state" same_state many some

  # The last save of a run has no next one.
  struck last 4 "GD_FAULT_PATH=step-00000006" "GD_FAULT_CALLS=write fsync" GD_FAULT_NTH=1 GD_FAULT_STICKY=1 GD_FAULT_ERRNO=28 \
    GD_FAULT_RANK=2 -- $settings parallel.tensor=2
  check "the last save fails: 74" [ $? -eq 74 ]
  check "and it says so" grep -q 'it was the last one of this run' "$work/last.out"
  check "the same line goes on" goes_on last 1 'after a last save that failed'

  # Rank 0's own steps of a save: the folder, the manifest, the new name; and the mark of the best.
  for call in "mkdir step-00000004.tmp" "write MANIFEST.pb" "rename step-00000004" "write BEST"; do
    struck one-of 2 "GD_FAULT_PATH=${call#* }" "GD_FAULT_CALLS=${call% *}" GD_FAULT_NTH=1 GD_FAULT_ERRNO=28 GD_FAULT_RANK=0 -- $settings
    check "a full disk at $call: the run goes on" [ $? -eq 0 ]
    check "$call: told" grep -q 'No space left on device' "$work/one-of.out"
    check "$call: the same state" same_state whole one-of
    rm -rf "$work/one-of"
  done

  # exit.json is written over where there is no block for a new one.
  struck exit 1 "GD_FAULT_PATH=exit.json.tmp" GD_FAULT_CALLS=write GD_FAULT_NTH=2 GD_FAULT_ERRNO=28 -- $settings
  check "no room for a new exit.json: the run ends well" [ $? -eq 0 ]
  check "and the old one is written over" eval 'grep -qE "^{\"state\": \"ended\", \"code\": 0, .*}$" "$work/exit/exit.json"'

  # Metrics and TensorBoard are never a reason to stop.
  for file in metrics.jsonl tfevents; do
    struck lines 2 "GD_FAULT_PATH=$file" GD_FAULT_CALLS=write GD_FAULT_NTH=4 GD_FAULT_STICKY=1 GD_FAULT_ERRNO=28 GD_FAULT_RANK=0 -- \
      $settings log.tensorboard=true
    check "no room for lines of $file: the run goes on" [ $? -eq 0 ]
    check "$file: one warning, and how many were lost" \
      [ "$(grep -c "$file.*No space left on device; the run goes on" "$work/lines.out") $(grep -cE "$file.*to the end: [0-9]+ lines were lost" "$work/lines.out")" = "1 1" ]
    check "$file: the same state" same_state whole lines
    rm -rf "$work/lines"
  done
  (exec > /dev/full; launch 1 "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/lines" --json 2> "$work/lines.out")
  check "--json to a full disk: the run goes on" [ $? -eq 0 ]
  check "and says so, once" [ "$(grep -c 'standard output: No space left on device' "$work/lines.out")" -eq 1 ]

  # A read refused on one rank of two: no checkpoint is called damaged, and the code is the system's.
  train read 2 gpt2 $settings
  for error in 5 24 13; do
    struck read 2 "GD_FAULT_PATH=rank-00001.h5" "GD_FAULT_CALLS=open read stat" GD_FAULT_NTH=1 GD_FAULT_STICKY=1 \
      GD_FAULT_ERRNO=$error GD_FAULT_RANK=1 -- $settings run.steps=8
    check "errno $error at a read of one rank: 74" [ $? -eq 74 ]
    check "errno $error: the file is named" grep -q 'rank-00001.h5' "$work/read.out"
    check "errno $error: nothing is set aside" eval '! ls "$work/read/checkpoints" | grep -qF .bad'
  done
  check "the same checkpoint loads afterwards" train read 2 gpt2 $settings run.steps=8

  # A look that the system refuses does not say that nothing is there.
  struck looks 1 "GD_FAULT_PATH=$work/looks/" GD_FAULT_CALLS=stat "GD_FAULT_LOG=$work/looked" -- $settings
  best=$(grep -n 'checkpoints/step-00000003$' "$work/looked" | cut -d: -f1)
  check "the best checkpoint is looked at, more than once" [ "$(wc -w <<< "$best")" -gt 1 ]
  for n in $best; do check "look $n, at the best checkpoint, refused" one_call "$n" GD_FAULT_CALLS=stat GD_FAULT_ERRNO=5; done
  look_at() { # look_at FILE
    cp "$work/looks/$1" "$work/before"
    struck looks 1 "GD_FAULT_PATH=$work/looks/$1" GD_FAULT_CALLS=stat GD_FAULT_NTH=1 GD_FAULT_ERRNO=5 -- $settings run.steps=8
  }
  look_at data.sha256
  check "a look at data.sha256, refused: 74" [ $? -eq 74 ]
  check "data.sha256 is named" grep -qF "$work/looks/data.sha256: Input/output error" "$work/looks.out"
  check "data.sha256 is as it was" cmp -s "$work/looks/data.sha256" "$work/before"
  look_at metrics.jsonl
  check "a look at metrics.jsonl, refused: the run goes on" [ $? -eq 0 ]
  check "metrics.jsonl is named" grep -qF "$work/looks/metrics.jsonl: Input/output error; the run goes on without" "$work/looks.out"
  steps_of() { grep -o '"event": *"train", "step": [1-6],' "$1"; }
  check "metrics.jsonl has the lines that it had" cmp -s <(steps_of "$work/looks/metrics.jsonl") <(steps_of "$work/before")
  check "... some" [ "$(steps_of "$work/before" | wc -l)" -eq 6 ]

  # The tokenizer belongs to a checkpoint.
  spoilt=$(ls -d "$work"/whole/checkpoints/step-* | tail -1)/tokenizer
  spoilt=$spoilt/$(ls "$spoilt" | head -1)
  verify() { "$bin/gptdist-ckpt" verify "$work/whole" > "$work/verify.out" 2>&1; }
  check "a checkpoint with its tokenizer verifies" verify
  printf x >> "$spoilt"
  verify
  check "one with another tokenizer file does not: 65" [ $? -eq 65 ]
  check "and the file is named" grep -qF "$spoilt" "$work/verify.out"
  rm "$spoilt"
  verify
  check "nor one without it: 65" [ $? -eq 65 ]
  check "and it is named, too" grep -qF "$spoilt: is missing" "$work/verify.out"
}
finish
