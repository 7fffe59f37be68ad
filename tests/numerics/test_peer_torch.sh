#!/bin/bash
# PyTorch as the peer of whole trainings: 20 steps from the same weights on the same batches. Every loss and gradient norm within 1e-4, the
# first loss within 1e-6; text, responses (packed and not), classes, several labels, frozen parts, AdamW and SGD, on two ranks.
# Needs Python with torch: GPTDIST_TEST_PYTHON names the interpreter, else .venv/bin/python of the source folder is tried:
#   python3 -m venv .venv && .venv/bin/pip install torch
here=$(cd "$(dirname "$0")" && pwd)
python=${GPTDIST_TEST_PYTHON:-$here/../../.venv/bin/python}
if ! "$python" -c 'import torch' 2> /dev/null; then
  echo "skipped: no Python with torch (GPTDIST_TEST_PYTHON, or .venv in the source folder)"
  exit 77
fi
. "$here/lib.sh"

# Texts as documents of a JSONL file; sums as prompts and responses of many lengths; texts with one of three labels, unevenly; with two
# labels, one a text and any of both.
awk 'BEGIN { for (i = 0; i < 120; i++) { printf "{\"text\": \""; for (k = 0; k <= i % 5; k++) printf "%d and %d make %d. ", i, k, i + k; print "\"}" } }' > "$work/texts.jsonl"
awk 'BEGIN { for (i = 0; i < 90; i++) { a = i * 37 % 100; printf "%s%d and %d\t%s%d\n", substr("please add up ", 1, i * 5 % 14), a, i,
       substr("that is ", 1, i * 3 % 9), a + i } }' > "$work/sums.tsv"
awk 'BEGIN { split("red red red green green blue", name, " "); for (i = 0; i < 96; i++) {
       k = i % 6 + 1; printf "%s\t%s%s\n", name[k], substr("abcdefghijklmnopqrst", 1, 1 + i * 7 % 20), substr(name[k], 1, 2) } }' > "$work/colours.tsv"
awk 'BEGIN { for (i = 0; i < 80; i++) printf "%d\t%d\t%s%s%s\n", i % 2, int(i / 2) % 2, substr("abcdefghij", 1, 1 + i * 7 % 10),
       i % 2 ? "warm" : "", int(i / 2) % 2 ? "wet" : "" }' > "$work/weather.tsv"
cut -f 1,3 "$work/weather.tsv" > "$work/warm.tsv"
prepare() { # NAME ARGUMENT...   leaves what was said in NAME.json
  "$bin/gptdist-data" prepare --tokenizer bytes --output "$work/$1" --json "${@:2}" > "$work/$1.json" 2> "$work/prepare.log" ||
    { cat "$work/prepare.log"; exit 1; }
}
prepare texts "$work/texts.jsonl"
{ printf '{"texts": ['; sed -E 's/^\{"text": (.*)\}$/\1/' "$work/texts.jsonl" | paste -s -d ,; printf ']}\n'; } > "$work/texts.json"
prepare sums --task sft --template plain --columns prompt=1,response=2 "$work/sums.tsv"
prepare colours --task classification --columns label=1,text=2 "$work/colours.tsv"
prepare weather --task classification --columns label=1,label=2,text=3 "$work/weather.tsv"
prepare warm --task classification --columns label=1,text=2 "$work/warm.tsv"

for shape in gpt2 llama; do
  cat > "$work/peer-$shape.yaml" << YAML
include: $shape.yaml
run: {steps: 20, seed: 5}
model: {context: 48, dropout: 0}
batch: {global: 6, micro: 2}
optimizer: {lr: 0.002, min_lr: 0.0005, clip: 1, weight_decay: 0.2}
schedule: {warmup_steps: 4}
numerics: fast
checkpoint: {at_start: true, interval_steps: 0}
validation: {interval_steps: 0}
YAML
done

runs=()
# peer NAME DATA SHAPE RANKS key=value...   a run, the weights it began with, the rows of its steps
peer() {
  local name=$1 data=$2 shape=$3 ranks=$4
  train "$name" "$ranks" "peer-$shape" "data.path=$work/$data" "${@:5}" || return
  "$bin/gptdist-ckpt" export-hf "$work/$name@0" "$work/$name/begin" > "$work/log" 2>&1 || { cat "$work/log"; check "$name: its first weights go out" false; return; }
  local tensor=$(sed -nE 's/^ +tensor: ([0-9]+).*/\1/p' "$work/$name/config.yaml") # so many ranks see the whole batch
  for step in $(seq 0 19); do
    "$bin/gptdist-data" at --config "$work/$name/config.yaml" --ranks "$tensor" --step "$step" --json || exit 1
  done > "$work/$name/rows.jsonl"
  runs+=("$work/$name:$work/$data.json")
}
peer text texts gpt2 2 schedule.kind=cosine parallel.zero=1
peer documents texts llama 2 parallel.tensor=2 data.mask_documents=true data.reset_positions=true schedule.kind=wsd schedule.decay_steps=8
peer responses_packed sums gpt2 2 parallel.tensor=2 optimizer.label_smoothing=0.1 schedule.kind=linear
peer responses sums llama 2 finetune.pack=false numerics=invariant
peer classes_packed colours gpt2 2 parallel.tensor=2 finetune.class_weights=balanced optimizer.label_smoothing=0.1
peer classes colours llama 1 finetune.pack=false 'finetune.class_weights=[1,2.5,0.5]' model.bias=qkv optimizer.clip=0
peer labels weather llama 2 numerics=invariant optimizer.label_smoothing=0.2
peer frozen_top sums llama 2 parallel.tensor=2 finetune.train=top:1 'optimizer.lr_scale={"layers.*": 0.5, "head.*": 3}' optimizer.lr=0.01
peer frozen_head colours gpt2 2 finetune.train=head 'optimizer.lr_scale={"classifier.*": 5}' optimizer.lr=0.01
peer tied_head sums gpt2 1 finetune.train=head model.activation=gelu
peer one_output warm gpt2 2 optimizer.kind=sgd optimizer.nesterov=true finetune.loss=sigmoid optimizer.lr=0.2 optimizer.min_lr=0.05 parallel.tensor=2
peer momentum texts gpt2 1 optimizer.kind=sgd model.tied_head=false optimizer.lr=0.2 optimizer.min_lr=0.05
check "12 runs" [ ${#runs[@]} = 12 ]
check "PyTorch's steps are ours" "$python" "$here/peer_torch.py" "$bin" "${runs[@]}"
finish
