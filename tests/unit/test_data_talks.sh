#!/bin/bash
# gptdist-data prepare --task sft: prompts and responses, Alpaca fields and turns become examples whose targets are the responses.
. "$(dirname "${BASH_SOURCE[0]}")/data_checks.sh"
tokenizer=bytes
tune() { "$data" prepare --task sft --tokenizer "$tokenizer" "$@"; }
# shows DATASET ROW TEXT: the tokens of a row in order, and those of its targets in brackets, are this text
shows() {
  printf 'run: {directory: run, steps: 2, device: cpu}\nmodel: {layers: 1, heads: 2, width: 8, context: 256}\ndata: {path: %s}\nbatch: {global: 1, order: sequential}\nfinetune: {pack: false}\n' "$1" >run.yaml
  "$data" at --config run.yaml --step "$2" --json >row || fail "at $1 $2"
  local tokens targets texts found='' inside=0 i
  tokens=($(sed 's/.*"tokens": \[//; s/\].*//; s/,//g' row))
  targets=($(sed 's/.*"targets": \[//; s/\].*//; s/,//g' row))
  mapfile -t texts < <(printf '[%s]\n' "${tokens[@]}" | "$data" decode --jsonl --tokenizer "$tokenizer" | sed 's/^"//; s/"$//; s#\\n#/#g')
  for i in "${!tokens[@]}"; do
    [ "${targets[i]}" = $inside ] || { [ $inside = 0 ] && found+='[' || found+=']'; }
    inside=${targets[i]}
    found+=${texts[i]}
  done
  [ $inside = 0 ] || found+=']'
  [ "$found" = "$3" ] || fail "row $2 of $1 is $found, expected $3"
}

printf 'prompt,response\nask,"say, so"\n"two\nl",x\n' >pairs.csv
check "pairs" tune --columns prompt=prompt,response=response --template plain --output pairs --json pairs.csv
has '"train_documents": 2, '
has '"task": "sft", "test_tokens": 0, "test_documents": 0, "cut": 0, "repeated": 0, "dropped_long": 0, "joined_differently": 0, "train_targets": 10,'
check "verify" "$data" verify pairs
shows pairs 0 'ask/[say, so<|endoftext|>]'
shows pairs 1 'two/l/[x<|endoftext|>]'
check "all" tune --columns prompt=prompt,response=response --template plain --loss all --output all pairs.csv
shows all 0 'a[sk/say, so<|endoftext|>]'
cat >alpaca.json <<'JSON'
[{"instruction": "do", "input": "", "output": "done"}, {"instruction": "spell", "input": "<|endoftext|>", "output": "no"}, {"instruction": "a", "output": "b"}]
JSON
check "Alpaca fields" tune --output alpaca alpaca.json
intro='Below is an instruction that describes a task. Write a response that appropriately completes the request.//### Instruction:/'
shows alpaca 0 "${intro}do//### Response:/[done<|endoftext|>]"
"$data" inspect --json alpaca | grep -qF '"template": {"name":"alpaca","begin":"Below is' || fail "inspect shows no template"
"$data" at --config run.yaml --step 1 --json >row
grep -q '256.*256' row && fail "contents became a special token"
cat >talks.jsonl <<'JSON'
{"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "u1"}, {"role": "assistant", "content": "a1", "weight": 0}, {"role": "user", "content": "u2"}, {"role": "assistant", "content": "a2"}, {"role": "user", "content": "bye"}]}
{"messages": [{"role": "user", "content": "u1"}, {"role": "assistant", "content": "a1"}, {"role": "user", "content": "u2"}, {"role": "assistant", "content": "a2", "weight": 1}]}
JSON
check "turns" tune --columns messages=messages --template plain --output talks talks.jsonl
shows talks 0 'be/u1/a1<|endoftext|>/u2/[a2<|endoftext|>]'
shows talks 1 'u1/[a1<|endoftext|>]/u2/[a2<|endoftext|>]'

# Too long: 0 has 16 tokens, 14 without its system, 9 without its first turns
check "cut" tune --columns messages=messages --template plain --max-tokens 9 --long cut --json --output cut talks.jsonl
has '"cut": 2, '
has '"dropped_long": 0, '
shows cut 0 'be/u2/[a2<|endoftext|>]'
shows cut 1 'u2/[a2<|endoftext|>]'
check "cut more" tune --columns messages=messages --template plain --max-tokens 8 --long cut --output more talks.jsonl
shows more 0 'u2/[a2<|endoftext|>]'
expect 65 'no row is left for training: 2 longer than --max-tokens and 0 with an empty column were left out' tune --columns messages=messages --template plain --max-tokens 5 --long cut --output x talks.jsonl
check "drop" tune --columns prompt=prompt,response=response --template plain --max-tokens 11 --json --output drop pairs.csv
has '"train_documents": 1, '
has '"dropped_long": 1, '
expect 65 'pairs.csv:2: the example has 12 tokens, expected at most 11; --long drop or cut goes on' \
  tune --columns prompt=prompt,response=response --template plain --max-tokens 11 --long refuse --output x pairs.csv

# A tokenizer with the tokens of a talk
for i in $(seq 200); do echo "a line of words, number $i; user and assistant say so"; done >text.txt
"$data" train-tokenizer --vocab-size 300 --output bpe text.txt >/dev/null || fail "train-tokenizer"
sed 's#"added_tokens": *\[#&{"id": 300, "content": "<|im_start|>", "special": true}, {"id": 301, "content": "<|im_end|>", "special": true}, #' \
  bpe/tokenizer.json >chat.json
tokenizer=hf:$work/chat.json
check "chatml" tune --columns messages=messages --template chatml --json --output chat talks.jsonl
shows chat 1 '<|im_start|>user/u1<|im_end|>/<|im_start|>assistant/[a1<|im_end|>]/<|im_start|>user/u2<|im_end|>/<|im_start|>assistant/[a2<|im_end|>]'
printf 'prompt,response\nx<|im_end|>y,z\n' >typed.csv
check "typed marks" tune --columns prompt=prompt,response=response --template chatml --output typed typed.csv
shows typed 0 '<|im_start|>user/x<|im_end|>y<|im_end|>/<|im_start|>assistant/[z<|im_end|>]'
[ "$(grep -o '301' row | wc -l)" = 2 ] || fail "what a user types became a token: $(cat row)"
printf 'prompt,response\na line of wor,ds\n' >joined.csv
printf '{"user": ["", ""], "assistant": ["", ""]}' >bare.json
check "joined" tune --columns prompt=prompt,response=response --template bare.json --json --output joined joined.csv
has '"joined_differently": 1,'
expect 64 'template llama3: names the token <|begin_of_text|>, which the tokenizer (gpt2, ' tune --columns messages=messages --template llama3 --output x talks.jsonl
tokenizer=bytes

# Splits: what asks the same stays together
for i in $(seq 40); do printf 'question %d,answer %d\n' $((i / 4)) "$i"; done | sed '1i prompt,response' >asked.csv
check "splits" tune --columns prompt=prompt,response=response --template plain --split 0.5,0.25,0.25 --output asked --json asked.csv
has '"train_documents": 2'
for split in train validation test; do
  printf 'data: {path: asked/%s}\nrun: {directory: run, steps: 2, device: cpu}\nmodel: {layers: 1, heads: 2, width: 8, context: 64}\nbatch: {global: 40, order: sequential}\nfinetune: {pack: false}\n' $split >run.yaml
  "$data" at --config run.yaml --step 0 --json | grep '"epoch": 0' | sed 's/.*"tokens": \(.*\), 10, .*/\1]/; s/], "targets.*/]/' |
    "$data" decode --jsonl --tokenizer bytes | sed "s/\$/ $split/"
done | sort -u >seen
printf 'prompt,response\nquestion 0,yes\nquestion 11,no\n' >own.csv
check "no prompt in two splits" tune --columns prompt=prompt,response=response --template plain --test own.csv --output apart --json asked.csv
has '"train_documents": 37, '
has '"repeated": 3, '
[ "$(grep -c . seen)" = 11 ] || fail "a question lies in two splits: $(cat seen)"

expect 64 'template "jinja": neither a file nor plain, alpaca, chatml or llama3' tune --template jinja --output x alpaca.json
expect 64 'tokenizer chars: has no token that ends a response' "$data" prepare --task sft --tokenizer chars --output x alpaca.json
expect 64 'expected prompt and response, instruction and output' tune --columns prompt=prompt --output x pairs.csv
expect 64 'expected prompt and response, instruction and output' tune --columns prompt=prompt,response=response,messages=m --output x pairs.csv
expect 64 '--loss: found "none", expected responses or all' tune --loss none --output x alpaca.json
expect 64 '--long: found "keep", expected drop, cut or refuse' tune --long keep --max-tokens 5 --output x alpaca.json
expect 64 '--long: nothing is too long without --max-tokens' tune --long cut --output x alpaca.json
expect 64 '--cut: belongs to --task classification; sft has --long' tune --cut head --output x alpaca.json
expect 64 '--template: belongs to --task sft' "$data" prepare --task classification --tokenizer bytes --columns label=1,text=2 --template plain --output x pairs.csv
expect 65 'pairs.csv:1: no column "instruction" in the header "prompt,response"' tune --output x pairs.csv
printf '{"messages": [{"role": "user", "content": "a"}]}\n' >ask.jsonl
expect 65 'ask.jsonl:1: no turn of the assistant to learn from' tune --columns messages=messages --output x ask.jsonl
printf '\n{"messages": [{"role": "tool", "content": "a"}]}\n' >role.jsonl
expect 65 'role.jsonl:2: turn 1 of the messages has no role system, user or assistant' tune --columns messages=messages --output x role.jsonl
printf '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}\n' >empty.jsonl
expect 65 'empty.jsonl:1: turn 2 is empty; --empty drop leaves out and counts such rows' tune --columns messages=messages --output x empty.jsonl
cat talks.jsonl >>empty.jsonl
check "--empty drop" tune --columns messages=messages --template plain --empty drop --json --output dropped empty.jsonl
has '"train_documents": 2, '
has '"dropped_empty": 1, '
printf '{"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]}\n' >weight.jsonl
expect 65 'weight.jsonl:1: turn 1 of the messages has another weight than 0 or 1' tune --columns messages=messages --output x weight.jsonl
printf '{"messages": "hello"}\n' >text.jsonl
expect 65 'text.jsonl:1: the messages are no list of turns' tune --columns messages=messages --output x text.jsonl

if [ -f "$shared/instruct/instructions_1100.json" ]; then
  check "instructions" "$data" prepare --task sft --tokenizer "gpt2:$shared/tokenizer/gpt2" --split 0.8,0.1,0.1 --json --output real "$shared/instruct/instructions_1100.json"
  has '"train_documents": 880, '
  has '"joined_differently": 0, "train_targets": 11394,'
else
  echo "skipped: no ../shared/data"
fi
exit $failed
