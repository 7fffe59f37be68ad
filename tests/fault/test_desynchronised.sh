#!/usr/bin/env bash
# One rank makes one call of a group otherwise than the others: both ranks and both calls are named, the job ends with 70, and no
# weight was updated from what came of it.
set -u
program=$1/tests/test_calls
[ -x "$program" ] || { echo "skipped: no $program"; exit 77; }
command -v mpirun > /dev/null || { echo "skipped: no mpirun"; exit 77; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
host=$(hostname) deadline=4 side_by_side=${SIDE_BY_SIDE:-6}

# play RANKS TENSOR RANK SCENE TEXT...: what the report must hold
play() {
  local ranks=$1 tensor=$2 who=$3 scene=$4 name=$4-of-$3-in-$1 code text why=''
  shift 4
  OMP_NUM_THREADS=1 timeout -k 5 60 mpirun --allow-run-as-root --oversubscribe --bind-to none -np "$ranks" "$program" "$scene" "$who" \
    "$tensor" $deadline > "$out/$name" 2>&1
  code=$?
  [ $code -eq 70 ] || why+=" left with $code;"
  [ "$(grep -c '^LOG ' "$out/$name")" -eq 1 ] || why+=" $(grep -c '^LOG ' "$out/$name") reports;"
  grep -q '^HOOK code 70, weights as before' "$out/$name" || why+=" weights;"
  text=$(grep -A1 '^LOG .*desynchronised: ranks ' "$out/$name")
  [[ $text == *"rank $who on $host"* ]] || why+=" rank $who is not named;"
  for part in "$@"; do [[ $text == *"$part"* ]] || why+=" no \"$part\";"; done
  [ -z "$why" ] && echo ok > "$out/$name.result" && return
  { echo "FAILED $name:$why"; sed 's/^/  | /' "$out/$name"; } > "$out/$name.result"
}

number=0
try() {
  number=$((number + 1))
  play "$@" &
  while [ "$(jobs -rp | wc -l)" -ge "$side_by_side" ]; do wait -n; done
}
try 2 2 1 sum-for-max 'of group tensor: ' 'float32, max; rank 1 ' 'float32, sum'
try 4 2 2 other-dtype 'of group tensor: ' 'int32, max; rank 3 ' 'float32, max'
try 2 2 0 fewer-elements 'of group tensor: ' 'all_reduce of '
try 4 4 3 gather-instead 'of group tensor: ' 'rank 0 on '"$host"' (and 1 2): all_to_all of ' 'rank 3 on '"$host"': all_gather of '
try 2 1 1 short-gather 'of group data: ' 'all_gather of 32 bytes a rank; ' 'all_gather of 16 bytes a rank'
try 4 1 2 broadcast-instead 'of group data: ' 'rank 2 on '"$host"': broadcast of '
try 2 1 1 short-message ' message #' 'of group data: ' 'send of ' 'receive of '
try 4 1 1 wrong-peer ' message #' 'of group data: ' 'send of ' 'receive of '
try 4 2 1 twice 'of group tensor: '
try 2 2 1 left-out 'of group tensor: '
try 4 1 3 other-sizes 'of group data: ' 'rank 0 on '"$host"' (and 1 2): all_gather_uneven of ' 'rank 3 on '"$host"': all_gather_uneven of '
try 2 1 0 no-receive ' message #' 'of group data: '
try 4 2 2 max-for-sum 'of group world: ' 'int64, sum; rank 2 ' 'int64, max'
try 4 4 0 short-all-to-all 'of group tensor: ' 'all_to_all of ' '(and 2 3)'
wait
cat "$out"/*.result | grep -v '^ok'
good=$(grep -l '^ok' "$out"/*.result | wc -l)
echo "$good of $number named"
[ "$good" -eq "$number" ]
