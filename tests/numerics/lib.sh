# lib.sh - shared by the scripts of tests/numerics. Source it with the build folder in $1: it sets
#   bin      the programs' folder          work   a scratch folder, removed at the end (kept where KEEP=1), or $resume_in, which may
#                                                 hold what an earlier start of the script left
#   corpus   a small dataset of bytes      source the source folder
# and leaves with 77 where a program is missing.
set -u
build=${1:?usage: $0 BUILD_FOLDER}
bin=$build/bin
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export OMP_NUM_THREADS=1
# numerics: invariant refuses bf16 where the processor has no products of it: float32 stands in there.
half=fp32
grep -q avx512_bf16 /proc/cpuinfo && [ "${GPTDIST_ISA:-avx512bf16}" = avx512bf16 ] && half=bf16
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

for program in gptdist-train gptdist-data gptdist-ckpt; do
  if [ ! -x "$bin/$program" ]; then
    echo "skipped: no $bin/$program"
    exit 77
  fi
done
work=${resume_in:-$(mktemp -d "${TMPDIR:-/tmp}/gptdist-numerics.XXXXXX")}
passed=0 failed=0 finished=no
# A script that does not reach finish() has failed, whatever its last command said.
leave() {
  local code=$?
  [ -n "${KEEP:-}" ] && echo "kept: $work" || rm -rf "$work"
  if [ $finished = no ] && [ $code -ne 77 ]; then
    echo "FAILED  the script ended before its last check"
    [ $code -ne 0 ] || code=1
  fi
  exit $code
}
trap leave EXIT

# A text that a small model finds easy to begin and hard to finish: numbers written out, with a check digit. 60 kB.
awk 'BEGIN { s = 1; for (i = 0; i < 1500; i++) { s = (s * 1103515245 + 12345) % 2147483648;
       printf "line %d says %d and %d makes %d.\n", i, s % 97, i % 89, (s % 97) + (i % 89) } }' > "$work/text.txt"
corpus=$work/corpus
[ -d "$corpus" ] || "$bin/gptdist-data" prepare --tokenizer bytes --output "$corpus" --validation-fraction 0.05 "$work/text.txt" \
  > "$work/prepare.log" 2>&1 || { cat "$work/prepare.log"; echo "gptdist-data prepare failed"; exit 1; }

# Two tiny models, both with 4 canonical blocks, dropout and clipping.
cat > "$work/gpt2.yaml" <<YAML
run: {steps: 4, seed: 7, device: cpu, threads: 1}
model: {layers: 2, heads: 4, width: 32, context: 32, dropout: 0.1, init_std: 0.1}
data: {path: $corpus}
batch: {global: 24}
optimizer: {lr: 0.01, min_lr: 0.001, clip: 0.5}
schedule: {warmup_steps: 2}
numerics: invariant
checkpoint: {interval_steps: 2}
validation: {interval_steps: 2, batches: 2}
log: {interval_steps: 1, tensorboard: false}
YAML
cat > "$work/llama.yaml" <<YAML
include: gpt2.yaml
model: {layers: 2, heads: 8, kv_heads: 4, width: 64, head_size: 8, ffn: 96, context: 32, dropout: 0.1, init_std: 0.1, norm: rmsnorm,
        activation: swiglu, position: rotary, bias: false, tied_head: false}
YAML

# launch RANKS PROGRAM...   under mpirun, or directly for one rank; one that TERM does not end is killed
launch() {
  local ranks=$1
  shift
  if [ "$ranks" -eq 1 ]; then
    timeout -k 10 "${LIMIT:-120}" "$@" < /dev/null
  else
    timeout -k 10 "${LIMIT:-120}" mpirun --oversubscribe --bind-to none -np "$ranks" "$@" < /dev/null
  fi
}

# train NAME RANKS CONFIG key=value...   a run in $work/NAME; one that fails counts as a failed check, with its output, whatever
# the caller makes of the exit code
train() {
  attempt "$@" && return 0
  local code=$?
  failed=$((failed + 1))
  echo "FAILED  the run $1"
  return $code
}

# attempt NAME RANKS CONFIG key=value...   the same for a run that may or should fail: the caller checks the exit code
attempt() {
  local name=$1 ranks=$2 config=$3 setting arguments=()
  shift 3
  for setting in "$@"; do
    case $setting in
      --*) arguments+=("$setting") ;;
      *) arguments+=(--set "$setting") ;;
    esac
  done
  launch "$ranks" "$bin/gptdist-train" --config "$work/$config.yaml" --set "run.directory=$work/$name" "${arguments[@]}" \
    > "$work/$name.out" 2>&1
  local code=$?
  [ $code -eq 0 ] || { echo "--- $name: gptdist-train left with $code"; tail -15 "$work/$name.out"; }
  return $code
}

# The lines of a run's metrics that carry results, without the fields that are times: equal text is equal bits.
curve() {
  grep -E '"event": ?"(train|validation)"' "$work/$1/metrics.jsonl" | sed -E 's/, ?"ms".*//'
}

# SHA-256 of the last checkpoint: weights, moments and run state, whatever the layout that wrote it.
state() {
  "$bin/gptdist-ckpt" hash "$work/$1" | grep -oE '[0-9a-f]{64}'
}

check() { # check TEXT COMMAND...
  local text=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
    echo "ok      $text"
  else
    failed=$((failed + 1))
    echo "FAILED  $text"
  fi
}

same_curve() {
  local a b
  a=$(curve "$1") b=$(curve "$2")
  [ -n "$a" ] && [ "$a" = "$b" ] && return 0
  diff <(echo "$a") <(echo "$b") | head -4
  return 1
}

same_state() {
  local a b
  a=$(state "$1") b=$(state "$2")
  [ -n "$a" ] && [ "$a" = "$b" ] && return 0
  echo "$a is not $b"
  return 1
}

# evidence TEST TRIALS FAILURES [FIELD VALUE]...   one line of JSON. bound95: failures of more than this share are excluded with 95 %
# confidence, by bisection of the binomial's lower tail (3 / trials where there was none).
evidence() {
  local test=$1 trials=$2 failures=$3 more='' bound
  shift 3
  for ((; $# > 1;)); do more+=", \"$1\": $2"; shift 2; done
  bound=$(awk -v n="$trials" -v f="$failures" 'BEGIN {
    low = n ? f / n : 0; high = 1
    for (i = 0; i < 60; i++) {
      p = (low + high) / 2; term = exp(n * log(1 - p)); sum = 0
      for (k = 0; k <= f && p < 1; k++) { sum += term; term *= (n - k) / (k + 1) * p / (1 - p) }
      if (sum > 0.05) low = p; else high = p
    }
    printf "%.4f", high }')
  echo "{\"test\": \"$test\", \"trials\": $trials, \"failures\": $failures, \"bound95\": $bound$more}"
}

finish() {
  finished=yes
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
  exit
}

# fewer_jobs_than N   waits until so few run in the background
fewer_jobs_than() {
  while [ "$(jobs -rp | wc -l)" -ge "$1" ]; do wait -n; done
}

# labelled N LABEL...   so many short texts of each label, which name it, as a table: label, text
labelled() {
  awk -v count="$1" -v labels="${*:2}" 'BEGIN { n = split(labels, name, " "); for (i = 0; i < count * n; i++) {
    k = i % n + 1; printf "%s\t%s%s\n", name[k], substr("abcdefghij", 1, 1 + i * 7 % 10), name[k] } }'
}

# together FUNCTION...   side by side, each in a process of its own, for checks that mostly wait; their lines one after the other
together() {
  local name good bad
  for name in "$@"; do
    {
      passed=0 failed=0
      "$name"
      echo "$passed $failed" > "$work/$name.counts"
    } > "$work/$name.lines" 2>&1 &
  done
  wait
  for name in "$@"; do
    cat "$work/$name.lines"
    if read -r good bad < "$work/$name.counts"; then
      passed=$((passed + good)) failed=$((failed + bad))
    else
      failed=$((failed + 1))
      echo "FAILED  $name ended before its last check"
    fi
  done
}
