#!/usr/bin/env bash
# gptdist-eval --task bleu, rouge and exact: what is printed for text and JSON Lines, one and several references, and what is said to mistakes.
# The numbers themselves: test_scores.
set -u
bin=$(cd "$1/bin" && pwd) || exit 1
shared=$(cd "$(dirname "$0")/../.." && pwd)/../shared
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0
fail() { echo "FAILED: $*"; failed=1; }
evaluate() { "$bin/gptdist-eval" "$@"; }

# prints WANTED ARGUMENT...: standard output, and nothing on standard error.
prints() {
  local wanted=$1 got
  shift
  got=$(evaluate "$@" 2>err) || fail "left with $?: $* ($(cat err))"
  [ "$got" = "$wanted" ] || fail "$*: found \"$got\", expected \"$wanted\""
  [ ! -s err ] || fail "$*: $(cat err)"
}

# refuses CODE TEXT ARGUMENT...: one line on standard error, nothing on standard output.
refuses() {
  local code=$1 text=$2 got
  shift 2
  evaluate "$@" >out 2>err
  got=$?
  [ "$got" = "$code" ] || fail "left with $got, expected $code: $* ($(cat err))"
  [ "$(wc -l <err)" = 1 ] && grep -qF -- "$text" err || fail "expected one line with \"$text\": $* ($(cat err))"
  [ ! -s out ] || fail "a result of bad input: $* ($(cat out))"
}

# The example of sacreBLEU's own tests: 48.53.
printf "The dog bit the man.\nIt wasn't surprising.\nThe man had just bitten him.\n" >hypotheses
printf 'The dog bit the man.\nIt was not unexpected.\nThe man bit him first.\n' >first
printf 'The dog had bit the man.\r\nNo one was surprised.\r\nThe man had bitten the dog.' >second
version=version:gptdist-$("$bin/gptdist-eval" --version | cut -d' ' -f2)
line="BLEU|nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|$version = 48.53 82.4/50.0/45.5/37.5 (BP = 0.943 ratio = 0.944 hyp_len = 17 ref_len = 18)"$'\nof 3 texts'
prints "$line" --task bleu --hypotheses hypotheses --references first second
prints "$line" --task bleu --references first --hypotheses=hypotheses --references second
prints "$line" --task bleu --hypotheses - --references first second <hypotheses
paste -d'|' first <(tr -d '\r' <second) | sed 's/\(.*\)|\(.*\)/{"wanted": ["\1", "\2"]}\n/' >both.jsonl
sed 's/.*/{"out": "&"}/' hypotheses | gzip >hypotheses.jsonl.gz
prints "$line" --task bleu --hypotheses hypotheses.jsonl.gz --hypothesis-field out --references both.jsonl --reference-field wanted
prints "$line" --task bleu --hypotheses - --hypothesis-field out --references first second < <(zcat hypotheses.jsonl.gz)
prints "BLEU|nrefs:1|case:mixed|eff:no|tok:none|smooth:floor[0.50]|$version = 100.00 100.0/100.0/100.0/100.0 (BP = 1.000 ratio = 1.000 hyp_len = 14 ref_len = 14)"$'\nof 3 texts' \
  --task bleu --hypotheses first --references first --tokenize none --smooth floor --smooth-value 0.5
prints "BLEU|nrefs:1|case:mixed|eff:yes|tok:char|smooth:exp|$version = 100.00 100.0/100.0/0.0/0.0 (BP = 1.000 ratio = 1.000 hyp_len = 2 ref_len = 2)"$'\nof 1 texts' \
  --task bleu --hypotheses <(echo 中文) --references <(echo 中文) --tokenize char --effective-order
json=$(evaluate --task bleu --hypotheses hypotheses --references first second --json 2>&1)
grep -qF '"correct":[14,7,5,3],"total":[17,14,11,8],"signature":"nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|'"$version"'","texts":3}' <<<"$json" ||
  fail "--task bleu --json: $json"

prints $'rouge1  precision 0.7500  recall 0.6000  f1 0.6667\nrouge2  precision 0.6667  recall 0.5000  f1 0.5714\nrougeL  precision 0.7500  recall 0.6000  f1 0.6667\nof 1 texts' \
  --task rouge --hypotheses <(echo 'The dog bit him') --references <(echo 'the DOG, bit the man!')
prints '{"task":"rouge","rouge1":{"precision":0.75,"recall":1,"f1":0.857142857},"rouge2":{"precision":0.333333333,"recall":0.5,"f1":0.4},"rougeL":{"precision":0.75,"recall":1,"f1":0.857142857},"texts":1}' \
  --task rouge --hypotheses <(echo 春眠不晓) --references <(echo 春不晓) --tokenize zh --json
prints $'exact match 0.5000  last number 1.0000\nof 2 texts' --task exact --hypotheses <(printf 'The Answer: 5!\nso it is 1,000.00\n') --references <(printf 'answer 5\n#### 1000\n')

# The last number of every answer of GSM8K is the one behind its ####.
gsm8k=$shared/data/instruct/gsm8k_train.jsonl.gz
if [ -f "$gsm8k" ]; then
  zcat "$gsm8k" | grep -o '#### [^"]*' >numbers
  [ "$(wc -l <numbers)" = 7473 ] || fail "gsm8k_train has other lines"
  evaluate --task exact --hypotheses numbers --references "$gsm8k" --reference-field answer >out 2>err
  grep -qF 'last number 1.0000' out && grep -qx 'of 7473 texts' out || fail "GSM8K: $(cat out err)"
fi

# Mistakes.
head -2 first >short
printf 'a\n \nc\n' >blank
printf 'a\nb\n\xff\n' >latin
printf '{"text": "a"}\n{"text": []}\n' >none.jsonl
printf '{"text": "a"}\n{"txt": "b"}\n' >other.jsonl
printf '"a"\n{\n' >broken.jsonl
: >empty
refuses 65 'short has 2 texts, but hypotheses has 3' --task bleu --hypotheses hypotheses --references short
refuses 65 'second has 3 texts, but short has 2' --task exact --hypotheses short --references short second
refuses 65 'blank:2: an empty reference' --task bleu --hypotheses hypotheses --references blank
refuses 65 'blank:2: an empty reference' --task rouge --hypotheses hypotheses --references blank blank
prints $'exact match 0.3333  last number 0.0000\nof 3 texts' --task exact --hypotheses blank --references <(printf 'b\na\nd\n') <(printf 'b\n\nd\n')
refuses 65 'empty: holds no texts' --task bleu --hypotheses hypotheses --references empty
refuses 65 'empty: holds no texts' --task rouge --hypotheses empty --references first
refuses 65 'latin:3: found bytes that are no UTF-8' --task bleu --hypotheses hypotheses --references latin
refuses 65 'none.jsonl:2: found an empty list, expected one reference or more' --task bleu --hypotheses short --references none.jsonl
refuses 65 'other.jsonl:2: expected a string, or an object with such a "text" (--hypothesis-field)' --task bleu --hypotheses other.jsonl --references short
refuses 65 'broken.jsonl:2' --task bleu --hypotheses broken.jsonl --references short
refuses 64 'nowhere' --task bleu --hypotheses nowhere --references first
refuses 64 '--tokenize: found "intl", expected none, 13a, zh or char' --task bleu --hypotheses hypotheses --references first --tokenize intl
refuses 64 '--smooth: found "expo", expected none, floor, add-k or exp' --task bleu --hypotheses hypotheses --references first --smooth expo
refuses 64 '--smooth-value: --smooth exp takes none' --task bleu --hypotheses hypotheses --references first --smooth-value 1
refuses 64 '--hypotheses: not given' --task exact --references first
refuses 64 '--references: not given' --task exact --hypotheses first
refuses 64 '"second": found a word that belongs to no option' --task bleu second --hypotheses first
refuses 64 '"second": found a word that belongs to no option' --task perplexity second --checkpoint x --data first
refuses 64 '--task: found "chrf", expected perplexity, logits, lambada' --task chrf
exit $failed
