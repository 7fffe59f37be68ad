#!/bin/bash
# gptdist-ckpt export-hf and import-hf: what was trained goes out and comes back with every byte, in one file or several, in each dtype;
# the folder generates what the run does; what ends a turn comes along; a folder is there whole or not at all, and what is wrong with
# one is named with the right exit code.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
bin=$(cd "$bin" && pwd) ckpt=$bin/gptdist-ckpt
cd "$work" || exit 1

cat > qwen.yaml <<YAML
include: llama.yaml
model: {bias: qkv, rope_kind: llama3, rope_factor: 4, rope_low: 1, rope_high: 4, rope_original: 16, rope_theta: 100}
YAML
cat > biased.yaml <<YAML
include: llama.yaml
model: {bias: true, rope_kind: linear, rope_factor: 2}
precision: {dtype: $half}
YAML

text() { # FOLDER
  "$bin/gptdist-generate" --checkpoint "$1" --prompt "line 1" --temperature 0 --max-new-tokens 24 --dtype float32 --threads 1 2> generate.err
}
same_text() { [ -n "$(text "$1")" ] && [ "$(text "$1")" = "$(text "$2")" ]; }
# fails CODE TEXT COMMAND...   leaves with CODE and says TEXT
fails() {
  local code=$1 said=$2
  shift 2
  "$@" > out 2>&1 < /dev/null
  [ $? -eq "$code" ] && grep -qF -- "$said" out && return
  cat out
  return 1
}
nothing() { [ ! -e "$1" ] && [ ! -e "$1.tmp-new" ]; }

round_trip() { # SHAPE
  local shape=$1
  train "$shape" 1 "$shape" run.steps=3 model.dropout=0 validation.interval_steps=0 > "$shape.log" || { cat "$shape.log"; return 1; }
  "$ckpt" export-hf "$shape" "$shape-hf" > "$shape.out" 2>&1 && "$ckpt" import-hf "$shape-hf" "$shape-back" >> "$shape.out" 2>&1 &&
    "$ckpt" export-hf "$shape-back" "$shape-again" >> "$shape.out" 2>&1 && "$ckpt" verify "$shape-back" >> "$shape.out" && return 0
  cat "$shape.out"
  return 1
}
gpt2() { check "gpt2: out, in, out" round_trip gpt2; }
llama() { check "llama: out, in, out" round_trip llama; }
qwen() { check "llama3 rotary, biases of query, key and value: out, in, out" round_trip qwen; }
biased() { check "linear rotary, all biases, bfloat16: out, in, out" round_trip biased; }
together gpt2 llama qwen biased
for shape in gpt2 llama qwen biased; do
  check "$shape: the same folder twice" diff -r "$shape-hf" "$shape-again"
  check "$shape: run and folder generate the same" same_text "$shape" "$shape-hf"
done
check "the checkpoint that came in generates the same" same_text qwen qwen-back
check "the shape is Qwen2's" grep -q '"Qwen2ForCausalLM"' qwen-hf/config.json
"$bin/gptdist-data" prepare --tokenizer qwen-back --output own text.txt > out 2>&1 || cat out
cp -r qwen-hf plain && sed -i 's/"rope_type": "llama3"/"rope_type": "default"/' plain/config.json
check "without llama3 it is another model" eval '! same_text qwen-hf plain'
check "an initial model for training, with data of its tokenizer" train begun 1 qwen "data.path=$work/own" run.steps=2 \
  "model.init_from=$work/qwen-back" validation.interval_steps=0

# Weights of the run, whatever was made of them on the way.
weights() { "$ckpt" diff "$1" "$2" --json | grep -c '"kind": *"weights"'; }
check "every weight of the run is there" [ "$(weights qwen qwen-back)" = 0 ]
"$ckpt" export-hf llama shards --max-shard-size 20KB > out 2>&1
check "several files" [ "$(ls shards/*.safetensors | wc -l)" -gt 3 ]
check "several files come in" "$ckpt" import-hf shards shards-back
check "and are the same model" [ "$("$ckpt" hash shards-back)" = "$("$ckpt" hash llama-back)" ]
for dtype in fp16 bf16; do
  "$ckpt" export-hf llama "$dtype" --dtype $dtype > out 2>&1 && "$ckpt" import-hf "$dtype" "$dtype-back" > out 2>&1 &&
    "$ckpt" export-hf "$dtype-back" "$dtype-again" > out 2>&1
  check "$dtype: the same bytes again" cmp "$dtype/model.safetensors" "$dtype-again/model.safetensors"
  check "$dtype: half the size" [ $((2 * $(stat -c %s "$dtype/model.safetensors"))) -lt $(($(stat -c %s llama-hf/model.safetensors) + 8000)) ]
done

# What ends a turn: the fourth token of a text that nothing ends.
generated() { "$bin/gptdist-generate" --checkpoint "$1" --prompt "line 1 says" --temperature 0 --json --threads 1 2> generate.err; }
fourth=$(generated gpt2-hf | sed 's/.*"token_ids":\[//; s/\].*//' | cut -d, -f4)
ended() { generated "$1" | grep -q '"stopped_by":"end"'; }
check "nothing ends the run's own text" eval '[ -n "$fourth" ] && ! ended gpt2-hf'
cp -r gpt2-hf ends && cp -r gpt2-hf ends-config
echo "{\"eos_token_id\": [256, $fourth], \"bos_token_id\": null}" > ends/generation_config.json
sed -i 's/"eos_token_id": 256/"eos_token_id": 255/' ends/config.json
sed -i "s/\"eos_token_id\": 256/\"eos_token_id\": $fourth/" ends-config/config.json
check "an id of generation_config.json ends it" ended ends
check "an id of config.json ends it" ended ends-config
check "they come in" "$ckpt" import-hf ends ends-back
check "the checkpoint ends its texts there" ended ends-back
check "they go out" "$ckpt" export-hf ends-back ends-again
check "as a list" grep -q "\"eos_token_id\": \[256, $fourth, 255\]" ends-again/generation_config.json
cp -r ends-back ends-damaged
sed -i 's/, 255/, 254/' ends-damaged/tokenizer/gptdist-tokenizer.json
check "another list in a tokenizer's folder is damage" fails 65 'gptdist-tokenizer.json: is damaged' \
  "$bin/gptdist-data" encode --tokenizer ends-damaged/tokenizer

# Bad input.
cp -r shards missing && rm missing/model-00002-*
check "a file that was not downloaded" fails 65 'model-00002-of' "$ckpt" import-hf missing never
cp -r shards pointer && printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n' > pointer/model-00002-of-*.safetensors
check "a file whose pointer alone was downloaded" fails 65 'Git LFS' "$ckpt" import-hf pointer never
cp -r llama-hf other && sed -i 's/LlamaForCausalLM/MambaForCausalLM/' other/config.json
check "another architecture" fails 65 'architectures: found "MambaForCausalLM", expected GPT2Model' "$ckpt" import-hf other never
cp -r llama-hf rope && sed -i 's/"rope_type": "default"/"rope_type": "yarn"/' rope/config.json
check "another rotary kind" fails 65 'the rotary kind "yarn", expected default, linear or llama3' "$ckpt" import-hf rope never
cp -r llama-hf fewer && sed -i 's/"num_hidden_layers": 2/"num_hidden_layers": 1/' fewer/config.json
cp -r llama-hf huge && sed -i 's/"rope_theta": 10000.0/"rope_theta": 1e+20/' huge/config.json
check "a number beyond ours" fails 65 'model.rope_theta: found' "$ckpt" import-hf huge never
check "tensors left over" fails 65 'has no use for' "$ckpt" import-hf fewer never
cp -r llama-hf more && sed -i 's/"num_hidden_layers": 2/"num_hidden_layers": 3/' more/config.json
check "a tensor is missing" fails 65 'has no tensor model.layers.2.' "$ckpt" import-hf more never
cp -r llama-hf words && sed -i 's/"normalizer": null/"normalizer": {"type": "Lowercase"}/' words/tokenizer.json
check "another normalizer" fails 65 'normalizer: found "Lowercase", expected NFC' "$ckpt" import-hf words never
check "the model without it" "$ckpt" import-hf words without --no-tokenizer
cp -r llama-hf cut && sed -i 's/"type": "ByteLevel"/"type": "WhitespaceSplit"/' cut/tokenizer.json
check "another split" fails 65 'pre_tokenizer: found "WhitespaceSplit", expected ByteLevel' "$ckpt" import-hf cut never
check "nothing of all that stays" nothing never
check "a folder that is taken" fails 64 'exists already' "$ckpt" export-hf llama llama-hf
check "no folder" fails 64 'No such file' "$ckpt" import-hf nowhere never
check "no model folder" fails 64 'no Hugging Face model folder' "$ckpt" import-hf own never
check "another dtype" fails 64 '--dtype: found "int8"' "$ckpt" export-hf llama never --dtype int8
check "no size" fails 64 '--max-shard-size: found "much"' "$ckpt" export-hf llama never --max-shard-size much
train odd 1 llama run.steps=2 model.position=learned validation.interval_steps=0 > out || cat out
check "a shape that they have not" fails 65 'without model.position rotary' "$ckpt" export-hf odd never

# A disk with room for half of it.
mkdir disk
full() {
  mount -t tmpfs -o size=100k tmpfs disk || return 0
  fails 74 'No space left on device' "$ckpt" export-hf llama disk/hf && nothing disk/hf &&
    fails 74 'No space left on device' "$ckpt" import-hf llama-hf disk/back && nothing disk/back
}
if [ "$(id -u)" = 0 ] && unshare -m true 2> /dev/null; then
  export ckpt work
  export -f full fails nothing
  check "a full disk: nothing under the final name, nothing left" unshare -m bash -c full
fi
# Killed on the way: the next try begins anew.
mkdir never.tmp-new && echo part > never.tmp-new/config.json
check "what a killed try left goes" "$ckpt" export-hf llama never
check "and is not part of the folder" diff -r llama-hf never
finish
