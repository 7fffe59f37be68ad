#!/bin/bash
# What a process holds (the most that was resident so far, as metrics.jsonl says at each step) is what --dry-run plans, 2 % and the 64 MiB
# of a process: reading a base or a checkpoint takes no copy of a table, and no library comes along that is not used.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
if nm -D "$bin/gptdist-train" 2> /dev/null | grep -qE '__(asan|tsan|msan)_init'; then
  echo "skipped: a sanitizer holds memory of its own"
  exit 77
fi
# run.device is left alone: `auto` must not bring the CUDA part along where there is no driver.
device=cpu
ldconfig -p 2> /dev/null | grep -q 'libcuda\.so\.1' || device=auto
awk 'BEGIN { for (i = 0; i < 60; i++) printf "%s\ttext %d is %s\n", i % 2 ? "odd" : "even", i, i % 2 ? "odd" : "even" }' > "$work/labels.tsv"
"$bin/gptdist-data" prepare --task classification --columns label=1,text=2 --tokenizer bytes --output "$work/labels" "$work/labels.tsv" \
  > "$work/prepare.out" 2>&1 || cat "$work/prepare.out"
settings=("run.device=$device" batch.global=4 validation.interval_steps=0 schedule.warmup_steps=0 model.vocabulary=50000 precision.dtype=fp32
  checkpoint.background=false checkpoint.keep=1)

# holds NAME SAVES RANKS SETTING...   a run, and the most that rank 0 held at its last step; SAVES: one was made before
holds() {
  local name=$1 saves=$2 ranks=$3 setting plan=() planned held
  shift 3
  train "$name" "$ranks" gpt2 "${settings[@]}" "$@"
  for setting in "${settings[@]}" "$@"; do plan+=(--set "$setting"); done
  planned=$("$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/$name-plan" "${plan[@]}" --dry-run --json --ranks "$ranks" 2> "$work/plan.err" |
    awk -v saves="$saves" '{ match($0, /"total": *[0-9]+/); total = substr($0, RSTART, RLENGTH); match($0, /"snapshot_bytes": *[0-9]+/); save = substr($0, RSTART, RLENGTH)
      sub(/.*: */, "", total); sub(/.*: */, "", save); printf "%.0f", total + saves * save }')
  held=$(grep '"train"' "$work/$name/metrics.jsonl" | tail -1 | sed -E 's/.*"memory_bytes": *([0-9]+).*/\1/')
  check "$name, $ranks ranks: planned ${planned:-nothing}, held ${held:-nothing}" awk -v p="${planned:-0}" -v h="${held:-0}" 'BEGIN { exit !(p > 5e7 && h > 0.8 * p && h <= 1.02 * p + 64 * 1048576) }'
}
wide=(model.heads=8 model.width=512 model.head_size=64 model.layers=1)
holds begun 0 1 "${wide[@]}" "data.path=$work/labels" finetune.train=head run.steps=1
cp -r "$work/begun" "$work/base"
holds head 0 1 "${wide[@]}" "model.init_from=$work/base" "data.path=$work/labels" finetune.train=head run.steps=2 checkpoint.interval_steps=0
holds head-saved 1 1 "${wide[@]}" "model.init_from=$work/base" "data.path=$work/labels" finetune.train=head run.steps=2 checkpoint.interval_steps=1
holds head-bf16 0 2 "${wide[@]}" "model.init_from=$work/base" "data.path=$work/labels" finetune.train=head run.steps=1 precision.dtype=$half
if "$bin/gptdist-ckpt" export-hf "$work/base" "$work/folder" > "$work/export.out" 2>&1; then
  holds of-folder 0 1 "${wide[@]}" "model.init_from=$work/folder" "data.path=$work/labels" finetune.train=head run.steps=1
else
  check "a folder of the base" false
fi
rm -rf "$work/base" "$work/folder"
holds whole 0 1 model.width=384 model.layers=1 model.heads=6 model.head_size=64 run.steps=1
holds whole 0 1 model.width=384 model.layers=1 model.heads=6 model.head_size=64 run.steps=2 checkpoint.interval_steps=0
"$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.device=$device" --dry-run > "$work/plan.out" 2> "$work/plan.err"
check "a plan says so" awk '/^  total / { total = $2 } /host memory for a save/ { save = $6 } /a process on the CPU holds about/ { steps = $8; saves = $10 }
  END { exit !(total > 0 && save > 0 && sqrt((steps - total - 64)^2) < 0.15 && sqrt((saves - steps - save)^2) < 0.15) }' "$work/plan.out"
check "it was resumed" grep -q 'resumed at step 1 of 2' "$work/whole.out"
finish
