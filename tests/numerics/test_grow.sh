#!/bin/bash
# Special tokens that data have behind those of the weights to begin with: table and head get rows for them, which begin as the mean of
# the others, with the same bits on every layout; nothing else may differ.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
bin=$(cd "$bin" && pwd) ckpt=$bin/gptdist-ckpt
cd "$work" || exit 1
for i in $(seq 40); do
  printf '{"messages": [{"role": "user", "content": "line %d"}, {"role": "assistant", "content": "says %d"}]}\n' "$i" $((i % 7))
done > talks.jsonl
talks() { # FOLDER TOKENIZER ADDED
  "$bin/gptdist-data" prepare --task sft --template chatml --columns messages=messages --tokenizer "$2" --add-special "$3" --output "$1" talks.jsonl > prepare.out 2>&1 &&
    return
  cat prepare.out
  return 1
}
many=$(for i in $(seq 70); do printf ',<|extra %d|>' "$i"; done)
both='<|im_start|>,<|im_end|>'
settings=(validation.interval_steps=0 model.context=64 batch.global=12)
base() { # CONFIG
  train "base-$1" 1 "$1" "${settings[@]}" run.steps=2 precision.dtype=fp32
}

base gpt2
base llama
check "talks with two more tokens" talks talks base-gpt2 "$both"
check "the tokenizer that is written has them behind the others" grep -qF '"added": ["<|im_start|>", "<|im_end|>"]' talks/tokenizer/gptdist-tokenizer.json
check "talks with seventy more" talks wide base-llama "$both$many"

# runs CONFIG DATA LAYOUT...   every layout has the bits of one rank
runs() {
  local config=$1 data=$2 dtype=$3 ranks tensor zero micro
  local begin=("${settings[@]}" "model.init_from=$work/base-$config" "data.path=$work/$data" "precision.dtype=$dtype" run.steps=4 checkpoint.at_start=true)
  train "$config-$dtype" 1 "$config" "${begin[@]}"
  while read -r ranks tensor zero micro; do
    train "layout" "$ranks" "$config" "${begin[@]}" "parallel.tensor=$tensor" "parallel.zero=$zero" "batch.micro=$micro"
    check "$config $dtype: $ranks ranks, tensor $tensor, ZeRO $zero: the one-rank run's bits" same_curve "$config-$dtype" layout
    check "$config $dtype: $ranks ranks, tensor $tensor, ZeRO $zero: state" same_state "$config-$dtype" layout
    check "$config $dtype: $ranks ranks: the first state" [ "$("$ckpt" hash "$config-$dtype@0")" = "$("$ckpt" hash layout@0)" ]
    rm -rf layout
  done
}
# 257 and 2 are 259 of 320 with padding; 257 and 72 are 329 of 384: a block more than the base had
runs gpt2 talks fp32 <<< "4 4 0 3
2 1 1 6
3 1 1 4"
runs llama wide $half <<< "2 2 1 12
4 2 0 2"
check "it is told" grep -qF "the 257 rows of $work/base-gpt2 for tokens get 2 more, which begin as their mean" gpt2-fp32.out

# The rows themselves, where there is a Python to read them.
command -v python3 > /dev/null || echo "left out: no python3 to compare new rows with the base's mean"
train llama-wide 1 llama "${settings[@]}" "model.init_from=$work/base-llama" "data.path=$work/wide" run.steps=2 checkpoint.at_start=true
for pair in gpt2:gpt2-fp32:transformer.wte llama:llama-wide:model.embed_tokens llama:llama-wide:lm_head; do
  IFS=: read -r config run tensor <<< "$pair"
  for of in "base-$config" "$run@0"; do "$ckpt" export-hf "$of" "rows-$of" > out 2>&1 || cat out; done
  ! command -v python3 > /dev/null || check "$config: $tensor has the base's rows and their mean" python3 "$here/grown_rows.py" "rows-base-$config/model.safetensors" "rows-$run@0/model.safetensors" $tensor.weight
  rm -rf rows-*
done

# Stopped, gone on elsewhere; and by its own config.yaml.
again=("${settings[@]}" "model.init_from=$work/base-gpt2" "data.path=$work/talks" checkpoint.at_start=true)
train halves 2 gpt2 "${again[@]}" run.steps=4 parallel.tensor=2 checkpoint.interval_steps=1 > out
rm -rf halves/checkpoints/step-0000000[34]
train halves 4 gpt2 "${again[@]}" run.steps=4 checkpoint.interval_steps=1 parallel.zero=1
check "a resumed run has the bits of the whole one" same_state gpt2-fp32 halves
rm -rf halves/checkpoints/step-0000000[34]
check "and by its own config.yaml" eval '"$bin/gptdist-train" --config halves/config.yaml > own.out 2>&1'
check "the same bits" same_state gpt2-fp32 halves

# Out and in.
check "it goes out" "$ckpt" export-hf gpt2-fp32 gpt2-hf
check "what ends a turn goes along" grep -qE '"eos_token_id": \[256, 258\]' gpt2-hf/generation_config.json
check "it comes in" eval '"$ckpt" import-hf gpt2-hf gpt2-in | grep -qF ", template chatml"'
check "the same weights" eval '! "$ckpt" diff gpt2-fp32 gpt2-in | grep -E "weights: [0-9]"'
ask() { printf '{"messages": [{"role": "user", "content": "line 3 <|im_end|>"}]}\n' | "$bin/gptdist-generate" --checkpoint "$1" --jsonl - --max-new-tokens 4 --temperature 0 --threads 1 --dtype float32 2> err; }
check "it answers" eval 'ask gpt2-fp32 | grep -q "\"prompt_tokens\":36"'
check "as the folder does" [ "$(ask gpt2-fp32)" = "$(ask gpt2-hf)" ]

# A model folder to begin with.
"$ckpt" export-hf base-gpt2 base-hf > out 2>&1 || cat out
check "talks of the folder's tokenizer" talks hf-talks base-hf "$both"
train of-folder 1 gpt2 "${settings[@]}" "model.init_from=$work/base-hf" "data.path=$work/hf-talks" precision.dtype=fp32 run.steps=4
check "a folder gives the bits of the checkpoint" same_state gpt2-fp32 of-folder
check "what it wrote is its tokenizer with the tokens" "$ckpt" export-hf of-folder of-hf
check "each in its place" grep -qF '{"id":258,"content":"<|im_end|>",' of-hf/tokenizer.json

# Nothing else.
refused() { # TEXT SETTING...   one message with the text, and 64
  local message=$1
  shift
  attempt refused 1 gpt2 "${settings[@]}" run.steps=2 "$@" > log 2>&1
  check "refused: $message" eval '[ '$?' -eq 64 ] && grep -qF -- "$message" refused.out && [ "$(grep -c "^gptdist-train: [a-z.]*: " refused.out)" -eq 1 ] && [ ! -e refused ]'
}
check "the same tokens in another order" talks turned base-gpt2 '<|im_end|>,<|im_start|>'
check "another tokenizer with them" talks strange "hf:of-hf/tokenizer.json" '<|more|>'
refused "but the weights of model.init_from $work/gpt2-fp32 belong to bytes" "model.init_from=$work/gpt2-fp32" "data.path=$work/turned"
refused "but the weights of model.init_from $work/gpt2-fp32 belong to bytes" "model.init_from=$work/gpt2-fp32" "data.path=$corpus"
refused "but the weights of model.init_from $work/base-gpt2 belong to bytes" "model.init_from=$work/base-gpt2" "data.path=$work/strange"
refused "model.vocabulary: found 300, expected 257 as in model.init_from $work/base-gpt2, or the 259 of the data's tokenizer" \
  "model.init_from=$work/base-gpt2" "data.path=$work/talks" model.vocabulary=300
refused "but the weights of model.init_from $work/base-hf belong to gpt2" "model.init_from=$work/base-hf" "data.path=$work/talks"
cp -r base-gpt2 bare && rm -r bare/checkpoints/step-*/tokenizer
refused "model.vocabulary: found 257 in model.init_from $work/bare, but the data's tokenizer has 259 tokens" "model.init_from=$work/bare" "data.path=$work/talks"
refused "model.vocabulary: found 257, but the data's tokenizer has 259 tokens" "data.path=$work/talks" model.vocabulary=257
# A model folder: the same ids in other files are the same tokenizer, one id that is another text is another; without one that is read
# here the sizes alone are compared, and that is a warning.
cp -r base-hf turned-hf && sed -i 's/"a":/"was a":/; s/"b":/"a":/; s/"was a":/"b":/' turned-hf/tokenizer.json
cp -r base-hf bare-hf && rm bare-hf/tokenizer*.json
cp -r base-hf odd-hf && echo '{"model": {"type": "Unigram"}}' > odd-hf/tokenizer.json
warned() { grep -qE "warning: model.init_from .*no tokenizer to compare with the data's \(bytes, 257 tokens\): .*$1; only the sizes were compared" "$2.out"; }
for folder in base-hf bare-hf odd-hf; do
  train "upon-$folder" 1 gpt2 "${settings[@]}" "model.init_from=$work/$folder" "data.path=$corpus" run.steps=2 precision.dtype=fp32
done
check "a folder is imported" "$ckpt" import-hf base-hf imported
train upon-imported 1 gpt2 "${settings[@]}" "model.init_from=$work/imported" "data.path=$corpus" run.steps=2 precision.dtype=fp32
check "an imported folder is the folder" same_state upon-base-hf upon-imported
check "a folder's tokenizer of the same ids is the data's" eval '! grep -q "only the sizes" upon-base-hf.out'
check "a folder without one is a warning" warned "expected encoder.json and vocab.bpe, or vocab.json and merges.txt there" upon-bare-hf
check "and one of another kind says why" warned 'tokenizer.json: model: found "Unigram", expected BPE' upon-odd-hf
refused "data.path: $corpus was made with tokenizer bytes" "model.init_from=$work/turned-hf" "data.path=$corpus"
# What the model has rows for already keeps them.
train roomy 1 gpt2 "${settings[@]}" run.steps=2 model.vocabulary=300 precision.dtype=fp32
check "talks for it" talks room roomy "$both"
train within 1 gpt2 "${settings[@]}" "model.init_from=$work/roomy" "data.path=$work/room" run.steps=2 checkpoint.at_start=true precision.dtype=fp32
check "rows that are there stay" eval '! "$ckpt" diff roomy within@0 | grep -E "weights: [0-9]"'
finish
