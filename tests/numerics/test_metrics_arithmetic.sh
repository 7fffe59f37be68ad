#!/bin/bash
# What metrics.jsonl and the terminal say of tokens, speed and work, against arithmetic from the settings alone, on one rank and on
# four, before and behind a resume.
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

# Products of a token, forward and twice that backward, 2 operations each: query, key, value, projection, the mlp and the head; and
# scores and weighted values over a whole sequence of 32.
vocabulary=257 # bytes, and the end of a text
gpt2=$((3 * 2 * (2 * (32 * 96 + 32 * 32 + 32 * 128 + 128 * 32) + vocabulary * 32) + 3 * 2 * 2 * 2 * 32 * 32))
llama=$((3 * 2 * (2 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 96) + vocabulary * 64) + 3 * 2 * 2 * 2 * 32 * 64))
# shellcheck disable=SC2086
for config in gpt2 llama; do
  train "$config-1" 1 $config $settings
  train "$config-4" 4 $config $settings parallel.tensor=2
  check "$config: one rank" arithmetic "$config-1" "${!config}"
  check "$config: one rank, printed" printed "$config-1"
  check "$config: four ranks" arithmetic "$config-4" "${!config}"
  check "$config: four ranks, printed" printed "$config-4"
  train "$config-again" 2 $config $settings run.steps=4 schedule.decay_steps=6
  train "$config-again" 1 $config $settings schedule.decay_steps=6
  check "$config: stopped and resumed" arithmetic "$config-again" "${!config}"
done
finish
