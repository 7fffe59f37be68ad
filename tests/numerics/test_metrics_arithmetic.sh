#!/bin/bash
# What metrics.jsonl and the terminal say of tokens, speed and work, against arithmetic from the settings alone, on one rank and on
# four, before and behind a resume; and that the profile of the kernels adds up to it.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
settings="run.steps=6 batch.global=12 batch.sequence=32 checkpoint.interval_steps=2 validation.interval_steps=0 precision.dtype=fp32"

# arithmetic NAME FLOPS_PER_TOKEN: every train line of the file
arithmetic() {
  grep '"event": "train"' "$work/$1/metrics.jsonl" | awk -v flops="$2" '
    function field(name) { match($0, "\"" name "\": [^,}]*"); return substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 4) + 0 }
    function near(a, b) { return a > b * (1 - 1e-6) && a < b * (1 + 1e-6) }
    function wrong(what, found, expected) { print "step " field("step") ": " what " is " found ", expected " expected; bad = 1 }
    { lines++
      if (field("step") != lines) wrong("step", field("step"), lines)
      if (field("tokens") != lines * 12 * 32) wrong("tokens", field("tokens"), lines * 12 * 32)
      speed = 12 * 32 / (field("ms") / 1000)
      if (!near(field("tokens_per_s"), speed)) wrong("tokens_per_s", field("tokens_per_s"), speed)
      if (!near(field("tflops"), speed * flops / 1e12)) wrong("tflops", field("tflops"), speed * flops / 1e12)
      if (lines == 1 || lines == 5) peak = field("tflops") / field("mfu") # measured once a start
      else if (!near(field("tflops") / field("mfu"), peak)) wrong("mfu", field("mfu"), field("tflops") / peak)
      if (field("mfu") <= 0 || field("mfu") >= 1) wrong("mfu", field("mfu"), "a share")
      if (field("memory_bytes") < 1e6) wrong("memory_bytes", field("memory_bytes"), "megabytes") }
    END { if (lines != 6) { print lines " lines"; bad = 1 } exit bad }'
}

# printed NAME: each line of a step on the terminal says what its line of the file says, to the digits that it prints
printed() {
  awk -v file="$work/$1/metrics.jsonl" '
    function field(text, name) { match(text, "\"" name "\": [^,}]*"); return substr(text, RSTART + length(name) + 4, RLENGTH - length(name) - 4) + 0 }
    BEGIN { while ((getline text < file) > 0) if (text ~ /"event": "train"/) line[field(text, "step")] = text }
    match($0, /step [0-9]+\/6  loss/) {
      split(substr($0, RSTART), word, /[ \/]+/)
      text = line[word[2]]
      wanted = sprintf("loss %.4f  lr %.3g  norm %.3g  %.0f tok/s  %.3f TFLOP/s (%.0f%% of peak)", field(text, "loss"), field(text, "lr"),
                       field(text, "grad_norm"), field(text, "tokens_per_s"), field(text, "tflops"), 100 * field(text, "mfu"))
      seen++
      if (index($0, wanted) == 0) { print "printed: " $0; print "expected: " wanted; bad = 1 } }
    END { if (!seen) print "no line of a step"; exit bad || !seen }' "$work/$1.out"
}

# profiled NAME RANKS FLOPS_PER_TOKEN WIDTH QUERIES: operations and calls of log.profile in the 5 steps behind the first. They are the
# figure of the train lines but for two differences: the vocabulary is multiplied with its padding (257 to 320), and attention is
# counted for the keys that a query sees, 33 of 2 * 32 on average, with the scores computed again in backward (14 for 12).
profiled() {
  grep '"event": "profile"' "$work/$1/metrics.jsonl" | awk -v ranks="$2" -v flops="$3" -v width="$4" -v queries="$5" '
    function field(text, name) { match(text, "\"" name "\": [^,}]*"); return substr(text, RSTART + length(name) + 4, RLENGTH - length(name) - 4) + 0 }
    function wrong(what, found, expected) { if (found != expected) { printf "%s: found %.0f, expected %.0f\n", what, found, expected; bad = 1 } }
    { lines++
      tokens = 5 * 12 * 32 / ranks
      attention = 12 * 2 * queries * 32
      wrong("steps", field($0, "steps"), 5)
      split($0, half, "\"products\":")
      count = split(half[1], part, "{")
      for (i = 3; i <= count; i++) { # 1 and 2: the line itself
        name = part[i]; sub(/^[^:]*: "/, "", name); sub(/".*/, "", name)
        calls[name] = field(part[i], "calls"); work[name] = field(part[i], "operations")
        seconds += field(part[i], "seconds") }
      count = split(half[2], part, "{")
      for (i = 2; i <= count; i++) { shape_calls += field(part[i], "calls"); shape_work += field(part[i], "operations") }
      wrong("products", work["matmul"], tokens * (flops - attention + 6 * (320 - 257) * width))
      wrong("attention forward", work["attention_forward"], tokens * attention / 3 * 33 / 64)
      wrong("attention backward", work["attention_backward"], tokens * attention / 3 * 33 / 64 * 10 / 4)
      wrong("calls of attention", calls["attention_forward"], 5 * 2 * 4 / (ranks > 1 ? 2 : 1))
      wrong("calls, by shape", shape_calls, calls["matmul"])
      wrong("products, by shape", shape_work, work["matmul"])
      if (seconds <= 0 || seconds > field($0, "seconds")) wrong("seconds in kernels", seconds, field($0, "seconds")) }
    END { if (lines != 1) { print lines + 0 " lines"; bad = 1 } exit bad }'
}

# Products of a token, forward and twice that backward, 2 operations each: query, key, value, projection, the mlp and the head; and
# scores and weighted values over a whole sequence of 32.
vocabulary=257 # bytes, and the end of a text
gpt2=$((3 * 2 * (2 * (32 * 96 + 32 * 32 + 32 * 128 + 128 * 32) + vocabulary * 32) + 3 * 2 * 2 * 2 * 32 * 32))
llama=$((3 * 2 * (2 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 96) + vocabulary * 64) + 3 * 2 * 2 * 2 * 32 * 64))
# shellcheck disable=SC2086
for config in gpt2 llama; do
  train "$config-1" 1 $config $settings log.profile=true
  train "$config-4" 4 $config $settings log.profile=true parallel.tensor=2
  check "$config: one rank" arithmetic "$config-1" "${!config}"
  check "$config: one rank, printed" printed "$config-1"
  check "$config: four ranks" arithmetic "$config-4" "${!config}"
  check "$config: four ranks, printed" printed "$config-4"
  read -r width queries <<< "$([ $config = gpt2 ] && echo 32 32 || echo 64 64)"
  check "$config: one rank, its kernels" profiled "$config-1" 1 "${!config}" "$width" "$queries"
  check "$config: four ranks, the first one's kernels" profiled "$config-4" 4 "${!config}" "$width" "$queries"
  check "$config: the table is printed" grep -q "^kernels of rank 0 in 5 steps, " "$work/$config-1.out"
  train "$config-again" 2 $config $settings run.steps=4 schedule.decay_steps=4
  train "$config-again" 1 $config $settings schedule.decay_steps=4
  check "$config: the same numbers without a profile" same_curve "$config-1" "$config-again"
  check "$config: stopped and resumed" arithmetic "$config-again" "${!config}"
done

# A token without a target has no head: of prompts and padding it is left out of the operations. `tokens` counts targets.
awk 'BEGIN { for (i = 0; i < 40; i++) printf "%s\t%d\n", substr("one two three four five", 1, 1 + i * 11 % 23), i }' > "$work/counts.tsv"
"$bin/gptdist-data" prepare --tokenizer bytes --task sft --template plain --columns prompt=1,response=2 --output "$work/counts" "$work/counts.tsv" > "$work/prepare.log" 2>&1
body=$((3 * 2 * 2 * (32 * 96 + 32 * 32 + 32 * 128 + 128 * 32) + 3 * 2 * 2 * 2 * 256 * 32)) # sequences of 256
taught() {
  grep '"event": "train"' "$work/$1/metrics.jsonl" | awk -v body="$body" -v head=$((6 * vocabulary * 32)) '
    function field(name) { match($0, "\"" name "\": [^,}]*"); return substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 4) + 0 }
    { lines++
      targets = field("tokens") - before; before = field("tokens")
      expected = (12 * 256 * body + targets * head) / (field("ms") / 1000) / 1e12
      if (targets <= 0 || targets >= 12 * 256) { print targets " targets"; bad = 1 }
      if ((field("tflops") / expected - 1) ^ 2 > 1e-12) { print "tflops " field("tflops") ", expected " expected; bad = 1 } }
    END { exit bad || lines != 6 }'
}
# shellcheck disable=SC2086
train responses 1 gpt2 $settings "data.path=$work/counts" finetune.pack=false model.context=256 batch.sequence=256 numerics=fast log.profile=true
check "responses: the head of what is taught" taught responses
rows=$(grep -oE '"NT [0-9]+ x 272 x 32", "calls": [0-9]+' "$work/responses/metrics.jsonl" | awk '{ rows += $2 * $NF } END { print rows + 0 }')
check "... which multiplies $rows rows of $((5 * 12 * 256))" [ "$rows" -gt 0 -a "$rows" -le $((5 * 12 * 48)) ] # a tile or two of 16 each
finish
