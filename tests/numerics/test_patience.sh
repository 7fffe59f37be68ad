#!/bin/bash
# Validations decide when a run ends and how fast it learns: the early end and every learning rate are those that arithmetic of its own makes of
# the losses in metrics.jsonl; a kill in mid-patience and a resume on another layout change nothing; RUN@best, @last and @STEP; bad input.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

# A rate that soon gains little: 4 validations in a row without a gain of 0.04 end the run, 2 cut the rate, down to 0.02.
patience=4 lr_patience=2 gain=0.04
waits="run.steps=60 schedule.kind=plateau schedule.factor=0.7 schedule.patience=$lr_patience schedule.warmup_steps=3 optimizer.lr=0.05
  optimizer.min_lr=0.02 validation.interval_steps=1 validation.patience=$patience validation.min_gain=$gain batch.global=4 precision.dtype=fp32
  checkpoint.interval_steps=1 checkpoint.keep=90 checkpoint.background=false"
field() { # field CHECKPOINT NAME   of the manifest's state
  "$bin/gptdist-ckpt" inspect "$1" --json 2> /dev/null | grep -oE "\"$2\": ?\"?[-0-9a-z_.e+]+" | sed -E 's/.*: ?"?//'
}
# as_defined RUN   the run file's rule, applied to the losses: the rate of every step (one in 1.2e-7: float32), and where it ends
as_defined() {
  curve "$1" | sed -E 's/.*"event": ?"(train|validation)", ?"step": ?([0-9]+).*"loss": ?([-+.e0-9]+)(, ?"lr": ?([-+.e0-9]+))?.*/\1 \2 \3 \5/' |
    awk -v patience=$patience -v lr_patience=$lr_patience -v gain=$gain '
      BEGIN { best = 1e9; factor = 1 }
      ended { print "step " $2 " comes after the end, " ended; bad = 1 }
      $1 == "train" {
        rate = 0.05 * factor; if (rate < 0.02) rate = 0.02
        if ($2 <= 3) rate *= $2 / 4
        if (($4 - rate) ^ 2 > (1.2e-7 * rate) ^ 2) { printf "step %d: %.9g, not %.9g\n", $2, $4, rate; bad = 1 }
        steps = $2
      }
      $1 == "validation" {
        if (best - $3 >= gain) wait = lr_wait = 0; else { wait++; lr_wait++ }
        if ($3 < best) best = $3
        if (lr_wait == lr_patience) { lr_wait = 0; if (0.05 * factor > 0.02) { factor *= 0.7; cuts++ } }
        if (wait == patience) ended = $2
      }
      END { if (ended != steps || steps >= 60 || cuts < 2) { print "ended at " steps ", should have at " ended ", " cuts " cuts"; bad = 1 } exit bad }'
}
# shellcheck disable=SC2086
train whole 1 gpt2 $waits checkpoint.at_start=true || finish
last=$(field "$work/whole@last" step) best=$(field "$work/whole@best" step)
echo "        stopped at step $last, best $best"
check "rates and early end are those of the losses" as_defined whole
check "the terminal says so and names the best" grep -q \
  "stopped early at step $last of 60: $patience validations in a row without a gain in loss .*; the best, .*, is step $best: $work/whole@best" "$work/whole.out"
check "so does exit.json, with code 0" grep -q "\"code\": 0, \"reason\": \"stopped early at step $last" "$work/whole/exit.json"
check "so does a line of metrics.jsonl" \
  grep -q "\"event\": \"stopped\", \"step\": $last, .*\"metric\": \"loss\", \"waited\": $patience, \"best_step\": $best" "$work/whole/metrics.jsonl"
lowest=$(curve whole | grep '"validation"' | sed -E 's/.*"step": ?([0-9]+).*"loss": ?([-+.e0-9]+).*/\2 \1/' | sort -g | head -1 | cut -d' ' -f2)
check "the best is the lowest of all" [ "$lowest" = "$best" ]
check "RUN means its best" [ "$(field "$work/whole" step)" = "$best" ]
check "@STEP" [ "$(field "$work/whole@7" step)" = 7 ]
check "@0 is there" [ "$(field "$work/whole/checkpoints@0" step)" = 0 ]
"$bin/gptdist-generate" --checkpoint "$work/whole" --prompt "line" --max-new-tokens 2 > "$work/generate.out" 2>&1
check "generation takes the best and says so" grep -q "stopped early at step $last: its best is taken, step $best" "$work/generate.out"

# Two steps before its end, with half of both waits behind it, the run is killed; it goes on on four ranks.
killed() {
  local at=$((last - 2)) key
  # shellcheck disable=SC2086
  attempt killed 1 gpt2 $waits "--inject=kill@step=$at,rank=0" > "$work/killed.log" 2>&1
  check "a run is killed in mid-patience" [ "$(field "$work/killed" wait)" -gt 0 ]
  # shellcheck disable=SC2086
  train killed 4 gpt2 $waits parallel.tensor=2 && check "its losses and rates are those of the whole run" same_curve whole killed
  check "its last state is, bit for bit" [ "$(state whole@last)" = "$(state killed@last)" ]
  for key in metric best_step best_validation validated_step wait lr_wait lr_factor; do
    check "$key is" [ "$(field "$work/whole@last" $key)" = "$(field "$work/killed@last" $key)" ]
  done
}
# The same line again: nothing is left to do; with more patience it goes on.
again() {
  cp -r "$work/whole" "$work/again"
  # shellcheck disable=SC2086
  train again 1 gpt2 $waits && check "a run that has stopped stays so" [ "$(state again@last)" = "$(state whole@last)" ]
  check "its metrics say it once" [ "$(grep -c '"stopped"' "$work/again/metrics.jsonl")" = 1 ]
  # shellcheck disable=SC2086
  train again 1 gpt2 $waits validation.patience=90 && check "with more patience it goes on to the end" [ "$(field "$work/again@last" step)" = 60 ]
}
# A run taken back to an older step, or begun anew, has no best of its former try.
taken_back() {
  train back 1 gpt2 run.steps=6 checkpoint.keep=9 || return
  check "the best of four validations" [ "$(field "$work/back@best" step)" = 6 ]
  train back 1 gpt2 run.steps=6 "--resume=$work/back@2" validation.interval_steps=0 &&
    check "taken back: the best until then" [ "$(field "$work/back@best" step)" = 2 ]
  train back 1 gpt2 run.steps=6 --resume=none validation.interval_steps=0 &&
    check "begun anew: none" refused "$work/back@best: no validation has marked a best one"
}
tokenizer_of() { "$bin/gptdist-data" inspect "$1" --json | head -1 | grep -o '"tokenizer_digest": "[0-9a-f]*"'; }
plain() {
  local from
  train plain 1 gpt2 run.steps=2 validation.interval_steps=0 checkpoint.interval_steps=0 || return
  check "no validation, no @best, and what there is: 64" refused "$work/plain@best: no validation has marked a best one: there is @2 = @last"
  check "a step that is not there: 64" refused "$work/plain@7: there is no checkpoint of that step: there is @2 = @last"
  check "another word: 64" refused "$work/plain@first: expected @best, @last or @ and a step: there is @2 = @last"
  check "no such run: 64" refused "$work/none: No such file or directory, expected a checkpoint" "$work/none@best"
  attempt from 1 gpt2 "model.init_from=$work/plain@best" > "$work/from.log" 2>&1
  check "nor as weights to begin with" [ $? -eq 64 ]
  train from 1 gpt2 run.steps=1 schedule.warmup_steps=0 "model.init_from=$work/plain@2" && check "@STEP as weights to begin with" true
  for from in "$work/plain" "$work/plain@2" "$work/plain/checkpoints/step-00000002" "$corpus"; do
    "$bin/gptdist-data" prepare --tokenizer "$from" --force --output "$work/more" "$work/text.txt" > "$work/more.out" 2>&1
    check "the tokenizer of ${from##*/}" [ "$(tokenizer_of "$work/more")" = "$(tokenizer_of "$corpus")" ]
  done
  check "labels of a run that has none: 64" said_by data "$work/plain: has no labels, expected examples for classification, or a run" \
    prepare --tokenizer bytes --task classification --columns label=1,text=2 --labels "$work/plain" --output "$work/x" "$work/text.txt"
  train onward 1 gpt2 run.steps=3 "--resume=$work/plain@last" && check "@last to resume from" [ "$(field "$work/onward" step)" = 3 ]
}
said_by() { # said_by PROGRAM TEXT ARGUMENT...   leaves with 64 and says it
  local said
  said=$("$bin/gptdist-$1" "${@:3}" 2>&1)
  [ $? -eq 64 ] && [[ $said == *"$2"* ]] || { echo "$said"; return 1; }
}
refused() { # refused TEXT [PATH]   gptdist-ckpt leaves with 64 and says it
  said_by ckpt "$1" inspect "${2:-${1%%:*}}"
}
said() { # said TEXT SETTING...   gptdist-train leaves with 64 and says it
  attempt wrong 1 gpt2 "${@:2}" > "$work/wrong.log" 2>&1
  [ $? -eq 64 ] && grep -qF -- "$1" "$work/wrong.out" || { cat "$work/wrong.log"; return 1; }
}
wrong() { check "64: $1" said "$@"; }
mistakes() {
  wrong "validation.patience: goes by validations, and there are none: validation.interval_steps is 0" validation.patience=2 validation.interval_steps=0
  wrong "schedule.kind: plateau: goes by validations" schedule.kind=plateau validation.interval_steps=0
  wrong "validation.metric: found macro_f1, which is of data for classification; the data here is plain text, which has loss" validation.metric=macro_f1
  wrong "run.epochs: found 2, but run.steps is set too; keep one of them" run.epochs=2
  wrong "validation.interval_epochs: found 0.5, but validation.interval_steps is set too" validation.interval_epochs=0.5
  wrong "optimizer.nesterov: is of optimizer.kind sgd" optimizer.nesterov=true
  "$bin/gptdist-data" prepare --tokenizer bytes --output "$work/all" "$work/text.txt" > /dev/null 2>&1
  wrong "validation.patience: goes by validations, and there are none: data.path has no validation/" validation.patience=2 "data.path=$work/all"
}
# 1,700 windows or so of 32 tokens, 24 a step.
epochs() {
  local windows
  windows=$("$bin/gptdist-data" inspect "$corpus" --json | head -1 | grep -oE '"tokens": [0-9]+' | awk '{ print int(($2 - 1) / 32) }')
  sed -E 's/steps: 4, //; s/interval_steps: 2, (batches)/\1/' "$work/gpt2.yaml" > "$work/epochs.yaml"
  train epochs 1 epochs run.epochs=0.15 validation.interval_epochs=0.05 optimizer.kind=sgd optimizer.nesterov=true \
    checkpoint.at_start=true checkpoint.keep=1 || return
  check "@0 stays whatever checkpoint.keep is" [ "$(field "$work/epochs@0" step)" = 0 ]
  check "epochs are steps, rounded up" [ "$(field "$work/epochs" step)" = "$(awk -v w="$windows" 'BEGIN { s = 0.15 * w / 24; print (s > int(s)) ? int(s) + 1 : s }')" ]
  check "validations too, to the nearest" \
    [ "$(curve epochs | grep -m1 '"validation"' | grep -oE '"step": ?[0-9]+' | grep -oE '[0-9]+')" = "$(awk -v w="$windows" 'BEGIN { print int(0.05 * w / 24 + 0.5) }')" ]
  check "tokens are the targets" [ "$(field "$work/epochs" tokens)" = $(($(field "$work/epochs" step) * 24 * 32)) ]
}
together killed again taken_back plain mistakes epochs
finish
