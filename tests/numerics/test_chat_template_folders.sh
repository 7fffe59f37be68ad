#!/bin/bash
# The template of what a model was trained on goes out as chat_template and is known again; what it brings is what talks are laid out by;
# a chat_template that is none of ours is named, and one must be chosen.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
bin=$(cd "$bin" && pwd) ckpt=$bin/gptdist-ckpt
cd "$work" || exit 1
fails() { # CODE TEXT COMMAND...   leaves with CODE and says TEXT
  local code=$1 said=$2
  shift 2
  "$@" > out 2>&1 < /dev/null
  [ $? -eq "$code" ] && grep -qF -- "$said" out && [ ! -e never ] && return
  cat out
  return 1
}
says() { # TEXT COMMAND...
  local said=$1
  shift
  "$@" > out 2>&1 < /dev/null && grep -qF -- "$said" out && return
  cat out
  return 1
}
cat > talks.jsonl << 'JSON'
{"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]}
{"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "three"}, {"role": "assistant", "content": "four"}]}
JSON
tune() { "$bin/gptdist-data" prepare --task sft --columns messages=messages "$@" talks.jsonl > tune.out; }
# With special tokens: a tokenizer.json of bytes and those of the table.
cat > own.json << 'JSON'
{"name": "mine", "begin": "B", "user": ["<u>", "\n"], "assistant": ["<a>", "\n"], "end": "<|endoftext|>", "generation": "<g>"}
JSON
for name in plain own.json; do
  base=${name%.json}
  check "$name: talks" tune --template $name --tokenizer bytes --output "talks-$base"
  check "$name: a run" train "run-$base" 1 gpt2 "data.path=$work/talks-$base" validation.interval_steps=0 run.steps=2 model.context=64 model.dropout=0
  check "$name: out" says ', tokenizer.json with its chat template' "$ckpt" export-hf "run-$base" "$base-hf"
done
check "the table is there as Jinja" grep -qF '"chat_template": "{{ \"B\" }}{% for message in messages %}' own-hf/tokenizer_config.json
check "one of ours is known again" says ', template plain' "$ckpt" import-hf plain-hf plain-in
check "and told" says 'task             sft, template plain' "$ckpt" inspect plain-in
check "and goes out again" "$ckpt" export-hf plain-in plain-again
check "the same folder" diff -r plain-hf plain-again
check "a run without talks has none" train words 1 gpt2 validation.interval_steps=0 run.steps=2
check "nothing to tell" says '"chat_template": false' "$ckpt" export-hf words words-hf --json
check "no key" eval '! grep -q chat_template words-hf/tokenizer_config.json'
check "none is none" says '"template": null' "$ckpt" import-hf words-hf words-in --json

# One that is none of ours.
stranger='own-hf/tokenizer_config.json: its chat_template ("{{ "B" }}{% for message in messages %}'
check "it is named" fails 64 "$stranger" "$ckpt" import-hf own-hf never
check "what there is" fails 64 'is none of plain, alpaca, chatml or llama3; choose one of them or a file with --template, or none' "$ckpt" import-hf own-hf never
check "a file is chosen" says ', template mine' "$ckpt" import-hf own-hf own-in --template own.json
check "and goes out" "$ckpt" export-hf own-in own-again
check "the same folder with it" diff -r own-hf own-again
check "none is chosen" says ', with its tokenizer' "$ckpt" import-hf own-hf bare-in --template none
check "and none is kept" eval '! "$ckpt" inspect bare-in | grep -q ^task'
check "one that the tokenizer cannot" fails 64 'template chatml: names the token <|im_start|>' "$ckpt" import-hf own-hf never --template chatml
check "none of that name" fails 64 'template "jinja": neither a file' "$ckpt" import-hf own-hf never --template jinja
check "without a tokenizer" fails 64 '--template: needs the tokenizer' "$ckpt" import-hf own-hf never --template plain --no-tokenizer
check "a table in its place" fails 65 'chat_template: found neither a text nor a list' eval \
  'cp -r own-hf odd; sed -i "s/\"chat_template\": .*/\"chat_template\": {},/" odd/tokenizer_config.json; "$ckpt" import-hf odd never'

# What is brought is what talks are laid out by.
layout() { "$bin/gptdist-data" inspect --json "$1/train" | sed 's/.*"template"://; s/"system".*//'; }
same_layout() { [ -n "$(layout "$1")" ] && [ "$(layout "$1")" = "$(layout "$2")" ]; }
for spec in plain-in plain-hf hf:plain-hf/tokenizer.json run-plain run-plain@2 talks-plain; do
  check "$spec brings it" tune --tokenizer $spec --output again --force
  check "$spec: the same" same_layout again talks-plain
done
check "one that is named goes before" tune --template alpaca --tokenizer run-plain --output again --force
check "it is another" eval '! same_layout again talks-plain'
check "nothing is brought" tune --tokenizer words-hf --output again --force
check "that is alpaca" eval 'layout again | grep -q alpaca'
check "none of ours is brought" fails 64 "$stranger" tune --tokenizer own-hf --output never
check "by a tokenizer.json" fails 64 "$stranger" tune --tokenizer hf:own-hf/tokenizer.json --output never

asks() { printf '%s\n' "$2" | "$bin/gptdist-generate" --checkpoint "$1" --jsonl - --max-new-tokens 1 --threads 1 2> err; }
turn='{"messages": [{"role": "user", "content": "ab"}]}'
check "a run brings it" eval 'asks run-own "$turn" | grep -q "\"prompt_tokens\":10"' # B<u>ab\n<g>
check "a checkpoint that came in" eval 'asks own-in "$turn" | grep -q "\"prompt_tokens\":10"'
check "a folder: plain" eval 'asks plain-hf "$turn" | grep -q "\"prompt_tokens\":3"'
check "a folder: none of ours" eval 'asks own-hf "$turn" | grep -q "none of plain, alpaca, chatml or llama3"'
check "text needs none" eval 'asks own-hf "{\"prompt\": \"ab\"}" | grep -q "\"prompt_tokens\":2"'
finish
