#!/bin/bash
# log.timeline: each rank writes a file that parses; exchanges of a bucket lie beside the backward of the layers below it; ranks' clocks
# agree; no bit changes; nothing is written without the key.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
reader=$build/tests/read_timeline
if [ ! -x "$reader" ]; then
  echo "skipped: no $reader"
  exit 77
fi
settings="run.steps=8 model.layers=4 model.width=64 checkpoint.interval_steps=0"

train plain 2 gpt2 $settings parallel.zero=1 batch.micro=3
train drawn 2 gpt2 $settings parallel.zero=1 batch.micro=3 log.timeline=6
check "no file without the key" test ! -e "$work/plain/timeline"
check "the same losses" same_curve plain drawn
check "the same state" same_state plain drawn
spans() { # NAME RANKS
  local name=$1 ranks=$2 files
  files=$(ls "$work/$name/timeline" | wc -l)
  [ "$files" -eq "$ranks" ] || { echo "$files files"; return 1; }
  "$reader" "$work/$name"/timeline/rank-*.json >"$work/$name.spans" || return 1
}
check "a file a rank, each of which parses" spans drawn 2

# Of a step of four layers, 12 sequences a rank in four micro-batches: 4 forward, 4 head, 3 backward and the last one's 4, vote, update;
# a reduce for each bucket, of gradients (token table, position table, layers, final norm, tied head), a gather for all but the head's.
rows() {
  awk '$3 == "row" { count[$1 " " $4 " " $2 " " $12]++ }
    END { for (rank = 0; rank < 2; rank++) for (step = 1; step <= 6; step++) {
        at = rank " " step
        bad += count[at " compute forward"] != 4 || count[at " compute head"] != 4 || count[at " compute backward"] != 7
        bad += count[at " compute vote"] != 1 || count[at " compute update"] != 1
        bad += count[at " communication reduce"] != 8 || count[at " communication gather"] != 7 }
      for (key in count) if (key ~ / [78] [a-z]/) bad++
      exit bad > 0 }' "$work/drawn.spans"
}
check "six steps with all their rows, on their streams" rows
micros() { [ "$(awk '$12 == "forward" && $1 == 1 && $4 == 2 { printf "%s ", $6 }' "$work/drawn.spans")" = "0 1 2 3 " ]; }
check "micro-batches are numbered" micros

# Of each layer: its reduce begins behind its backward; some reduce lies beside the backward of a layer below it.
beside() {
  awk -v ranks="$2" '$3 == "row" && $2 == "compute" && $12 == "backward" && $13 != "" { layer = substr($13, 8); at = $1 " " $4 " " layer; from[at] = $10; to[at] = $11; known[at] = 1 }
    $3 == "row" && $12 == "reduce" && $7 ~ /^layers\.[0-9]+$/ { at = $1 " " $4 " " substr($7, 8); begin[at] = $10; end[at] = $11 }
    END {
      for (at in begin) {
        split(at, part, " ")
        if (!known[at] || begin[at] < to[at] - 0.002) { print "the reduce of " at " begins before its backward ends"; bad = 2 }
        for (below = 0; below < part[3]; below++) {
          other = part[1] " " part[2] " " below
          if (known[other] && begin[at] < to[other] && end[at] > from[other]) { beside[part[1]]++; break }
        }
      }
      for (rank = 0; rank < ranks; rank++) { print "rank " rank ": " beside[rank] + 0 " reduces beside a backward"; if (!beside[rank] && !bad) bad = 1 }
      exit bad }' "$work/$1.spans"
}
# On a busy machine a rank's communication may come to a core behind all of its backward: three runs may show it.
beside_in_three() {
  local code
  for run in 1 2 3; do
    beside drawn 2
    code=$?
    [ $code -eq 1 ] && [ $run -lt 3 ] || return $code
    rm -rf "$work/drawn"
    train drawn 2 gpt2 $settings parallel.zero=1 batch.micro=3 log.timeline=6 && spans drawn 2 || return
  done
}
check "exchanges lie beside later backwards" beside_in_three

# Two ranks swap halves: the i-th exchange of one ends after that of the other began, or a clock is wrong.
swaps() {
  awk -v slack="$2" '$3 == "call" && $12 == "exchange" { i = count[$1]++; from[$1, i] = $10; to[$1, i] = $11; bytes += $9 }
    END { if (count[0] < 15 || count[0] != count[1] || bytes <= 0) { print count[0] " and " count[1] " exchanges"; exit 1 }
      for (i = 0; i < count[0]; i++) {
        apart = from[0, i] - to[1, i]
        if (from[1, i] - to[0, i] > apart) apart = from[1, i] - to[0, i]
        if (apart > slack) { print "exchange " i ": " apart " us between them"; exit 1 } } }' "$work/$1.spans"
}
check "both ranks are in an exchange at a time" swaps drawn 1

# A rank whose clock began elsewhere, as on another host.
elsewhere() {
  timeout 120 mpirun --oversubscribe --bind-to none -np 1 "$bin/gptdist-train" --config "$work/gpt2.yaml" "${arguments[@]}" : \
    -np 1 unshare -T --monotonic 5000 --fork "$bin/gptdist-train" --config "$work/gpt2.yaml" "${arguments[@]}" </dev/null >"$work/far.out" 2>&1 ||
    { tail -5 "$work/far.out"; false; }
}
if unshare -T --monotonic 5000 --fork true 2>/dev/null; then
  arguments=(--set "run.directory=$work/far" --set log.timeline=3)
  for setting in $settings parallel.zero=1 batch.micro=3; do arguments+=(--set "$setting"); done
  check "a rank with another clock" elsewhere
  check "its file parses" spans far 2
  within=$(sed -n 's/.*clock known within \([0-9]*\) us.*/\1/p' "$work/far/timeline/rank-00001.json")
  check "its times are rank 0's, within ${within:-?} us" swaps far "${within:-0}"
  check "the same state" same_state plain far
fi

# The folder of the files made one, as docs/benchmarks.md says.
{ sed -s '1s/^\[/,/;$d' "$work"/drawn/timeline/rank-*.json | sed '1s/^,/[/'; echo ']'; } >"$work/all.json"
both() { [ "$("$reader" "$work/all.json" | cut -d' ' -f1 | sort -u | tr -d '\n')" = 01 ]; }
check "all ranks in one file" both

# Tensor ranks call on the compute stream; one rank calls nobody; fewer steps than asked for are written at the end.
train tensor 4 gpt2 $settings parallel.tensor=2 parallel.zero=1 log.timeline=100
check "tensor 2 x data 2: a file a rank" spans tensor 4
both_groups() { # the vote aside, which asks all ranks on the compute stream
  awk '$3 == "row" { what = $12 } $3 == "call" && what != "vote" { seen[$2 " " $8]++ }
    END { for (at in seen) print at, seen[at]; exit !(seen["compute tensor"] && seen["communication data"] && !seen["compute data"] && !seen["communication tensor"]) }' "$work/tensor.spans"
}
check "calls of both groups on their streams" both_groups
check "and the same state as two ranks" same_state plain tensor
train alone 1 gpt2 log.timeline=2
check "one rank: a file, without a call" spans alone 1
check "and nothing beside" [ "$(grep -cE 'call|communication' "$work/alone.spans")" = 0 ]

# The same line again has no step to draw: what the first start drew stays.
first=$(sha256sum <"$work/alone/timeline/rank-00000.json")
attempt alone 1 gpt2 log.timeline=2
check "a start without steps keeps the file" eval '[ $? -eq 0 ] && [ "$(sha256sum <"$work/alone/timeline/rank-00000.json")" = "$first" ]'

# A full disk is a warning, and leaves the earlier file.
mkdir -p "$work/full/timeline" && echo earlier >"$work/full/timeline/rank-00000.json"
ln -s /dev/full "$work/full/timeline/rank-00000.json.tmp-new"
train full 1 gpt2 log.timeline=1
check "a full disk: said" grep -q 'warning: .*timeline.*No space left' "$work/full.out"
check "and the earlier file stays" grep -qx earlier "$work/full/timeline/rank-00000.json"

# A folder that cannot be made is a warning.
mkdir "$work/refused" && : >"$work/refused/timeline"
train refused 1 gpt2 log.timeline=1
check "where no file can be written: said" grep -q 'warning: .*timeline' "$work/refused.out"
check "and the run goes on" same_curve alone refused
finish
