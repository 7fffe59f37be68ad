#!/bin/bash
# gptdist-data prepare --task: rows with labels become examples, dealt to splits; bad input is one message and the right exit code.
. "$(dirname "${BASH_SOURCE[0]}")/data_checks.sh"
dump() { # dump TEXT ARGUMENT...: h5dump's output without its line ends holds the text
  command -v h5dump >/dev/null || return 0
  h5dump "${@:2}" 2>&1 | tr -d '\n' | tr -s ' ' >dumped
  grep -qF -- "$1" dumped || fail "no $1 in $(cat dumped)"
}
warned() { # warned TEXT: the last command said so, in one line
  { [ "$(grep -c warning err)" = 1 ] && grep -qF -- "warning: $1" err; } || fail "no warning \"$1\" in $(cat err)"
}
classify() { "$data" prepare --task classification --tokenizer bytes "$@"; }

# ---- classification ----
for i in $(seq 1 60); do
  printf 'c%d\ttext number %d\n' $((i % 3)) "$i"
  [ $((i % 10)) = 0 ] && printf 'c%d\ttext number %d\n' $((i % 3)) "$i" # repeated
done >rows.tsv
check "a split" classify --columns label=1,text=2 --split 0.5,0.25,0.25 --output set --json rows.tsv
has '"train_documents": 33, '
has '"task": "classification", '
has '"cut": 0, "repeated": 0, "disputed": 0, "labels": [{"label": "c0", "train": 1'
check "verify" "$data" verify set
check "inspect" "$data" inspect --json set
has '"task": "classification", "longest": 14, "label_kind": "single", "labels": ["c0", "c1", "c2"]'
[ "$(grep -c '"task"' out)" = 3 ] || fail "inspect does not show three splits: $(cat out)"
check "again" classify --columns label=1,text=2 --split 0.5,0.25,0.25 --output again rows.tsv
diff -r set again >/dev/null || fail "the same line gives another dataset"
check "on two ranks" mpirun --allow-run-as-root --oversubscribe --bind-to none -np 2 "$data" prepare --task classification --tokenizer bytes \
  --columns label=1,text=2 --split 0.5,0.25,0.25 --output ranks rows.tsv
diff -r set ranks >/dev/null || fail "the folder depends on the number of ranks"
check "another seed" classify --columns label=1,text=2 --split 0.5,0.25,0.25 --seed 1 --output other rows.tsv
diff -r set/train other/train >/dev/null && fail "--seed changes nothing"
# the same rows in every form, by name
awk -F'\t' 'BEGIN { print "text,sentiment" } { printf "\"%s\",%s\r\n", $2, $1 }' rows.tsv >rows.csv
awk -F'\t' '{ printf "{\"sentiment\": \"%s\", \"text\": \"%s\"}\n", $1, $2 }' rows.tsv >rows.jsonl
sed '1s/^/[/; $!s/$/,/; $s/$/]/' rows.jsonl >rows.json
for form in csv jsonl json; do
  check ".$form" classify --columns label=sentiment,text=text --split 0.5,0.25,0.25 --output "as-$form" "rows.$form"
  diff -r set "as-$form" >/dev/null || fail ".$form gives other examples than .tsv"
done
check "shards" classify --columns label=1,text=2 --shard-tokens 100 --output shards rows.tsv
check "verify them" "$data" verify shards
[ "$(ls shards/train | wc -l)" -gt 5 ] || fail "--shard-tokens makes $(ls shards/train)"
check "both ends" classify --columns label=1,text=2 --max-tokens 9 --json --output tail rows.tsv
has '"cut": 66,'
check "the head" classify --columns label=1,text=2 --max-tokens 9 --cut head --output head rows.tsv
dump '116, 101, 120, 116, 32, 110, 117, 109, 98' -d tokens -s 0 -c 9 tail/train/00000.h5
dump '32, 110, 117, 109, 98, 101, 114, 32, 49' -d tokens -s 0 -c 9 head/train/00000.h5
awk 'NR <= 12' rows.tsv >held.tsv
check "a split beside a file for the test" classify --columns label=1,text=2 --split 0.8,0.2 --test held.tsv --repeated keep --json --output beside rows.tsv
has '"train_documents": 53, '
has '"validation_documents": 13, '
has '"test_documents": 12, "cut": 0, "repeated": 12,'
check "the split alone" classify --columns label=1,text=2 --split 0.8,0.2 --output alone rows.tsv
for split in train validation; do diff -r beside/$split alone/$split >/dev/null || fail "--test changes $split"; done
check "no text in two splits" classify --columns label=1,text=2 --split 0.8,0.2 --test held.tsv --json --output apart rows.tsv
has '"test_documents": 12, "cut": 0, "repeated": 12,'
has '"train_documents": 42, '
has '"validation_documents": 12, '
said() { grep -qF -- "$1" out || fail "said nothing of \"$1\": $(cat out)"; }
check "the same in words" classify --columns label=1,text=2 --split 0.8,0.2 --test held.tsv --output apart --force rows.tsv
said '12 rows left out: their text or prompt stands in a later split, too'
expect 65 'rows.tsv:1: this text or prompt stands in the rows for the test, too' classify --columns label=1,text=2 --test held.tsv --repeated refuse --output x rows.tsv
expect 65 'no row is left for training: the text or prompt of each of the 66 stands in the rows for validation or the test, too; --repeated keep keeps them' classify --columns label=1,text=2 --validation rows.tsv --output x rows.tsv
expect 65 'no row is left for validation: the text or prompt of each of the 12 stands in the rows for the test, too' classify --columns label=1,text=2 --validation held.tsv --test held.tsv --output x rows.tsv
expect 64 '--repeated: found "never", expected drop, keep or refuse' classify --columns label=1,text=2 --test held.tsv --repeated never --output x rows.tsv
expect 64 '--repeated: no text stands in two splits without --validation or --test' classify --columns label=1,text=2 --split 0.8,0.2 --repeated keep --output x rows.tsv
expect 64 '--repeated: belongs to a task; see --task' "$data" prepare --tokenizer bytes --repeated keep --output x rows.tsv
printf '10\ta\n9\tb\n10\tc\n' >numbers.tsv
check "numbers as labels" classify --columns label=1,text=2 --output numbers numbers.tsv
check "inspect" "$data" inspect --json numbers
has '"labels": ["9", "10"]'
dump '(0,0): 1, (1,0): 0, (2,0): 1' -d labels numbers/train/00000.h5
printf '{"text": "a", "rude": 1, "loud": false}\n{"text": "b", "rude": "0", "loud": true}\n{"text": "c", "rude": 0.25, "loud": 1}\n' >several.jsonl
check "several labels" classify --columns label=rude,label=loud,text=text --output several --json several.jsonl
has '"labels": [{"label": "rude", "train": 2, "validation": 0, "test": 0}, {"label": "loud", "train": 2,'
dump '(0,0): 1, 0, (1,0): 0, 1, (2,0): 0.25, 1' -d labels several/train/00000.h5
printf 'c9\tone\nc1\ttwo\na0\tthree\nc9\tfour\n' >more.tsv
printf 'c2\tfive\n' >later.tsv
check "labels keep their numbers" classify --columns label=1,text=2 --labels set --validation later.tsv --output more --json more.tsv
has '"labels": [{"label": "c0", "train": 0, "validation": 0, "test": 0}, {"label": "c1", "train": 1, "validation": 0, "test": 0}, {"label": "c2", "train": 0, "validation": 1,'
has '{"label": "a0", "train": 1, "validation": 0, "test": 0}, {"label": "c9", "train": 2,'
dump '(0,0): 4, (1,0): 1, (2,0): 3, (3,0): 4' -d labels more/train/00000.h5
warned 'no row for training has the labels "c0", "c2"; --labels keeps them'
check "again, from a split" classify --columns label=1,text=2 --labels more/train --output same rows.tsv
check "inspect" "$data" inspect --json same
has '"labels": ["c0", "c1", "c2", "a0", "c9"]'
printf '{"text": "a", "late": 0, "loud": 1, "rude": 0.5}\n{"text": "b", "late": 1, "loud": 0, "rude": 1}\n' >late.jsonl
printf '1\tx\n2\ty\n' >all.tsv
for i in $(seq 3 12); do printf '%d\tt%d\n' "$i" "$i"; done >>all.tsv
check "twelve labels" classify --columns label=1,text=2 --output twelve all.tsv
check "one is gone" classify --columns label=1,text=2 --labels twelve --output x1 <(tail -11 all.tsv) --format tsv
warned 'no row for training has the label "1"; --labels keeps it'
check "ten are" classify --columns label=1,text=2 --labels twelve --output x2 <(head -2 all.tsv) --format tsv
warned 'no row for training has the labels "3", "4", "5", "6", "7", "8", "9", "10" and 2 more; --labels keeps them'
check "none is" classify --columns label=1,text=2 --labels twelve --output x3 all.tsv
[ ! -s err ] || fail "a warning of nothing: $(cat err)"
check "columns too" classify --columns label=late,label=loud,label=rude,text=text --labels several --output late late.jsonl
check "inspect" "$data" inspect --json late
has '"labels": ["rude", "loud", "late"]'
dump '(0,0): 0.5, 1, 0, (1,0): 1, 0, 1' -d labels late/train/00000.h5
expect 64 '--labels: there is no column for its label "rude", expected one for each' classify --columns label=late,label=loud,text=text --labels several --output x late.jsonl
expect 64 '--labels: its texts have any number of labels, those here one label each' classify --columns label=1,text=2 --labels several --output x rows.tsv
expect 64 'x: No such file or directory, expected a dataset, a checkpoint or a run directory' classify --columns label=1,text=2 --labels x --output x rows.tsv
expect 64 '--labels: belongs to a task; see --task' "$data" prepare --tokenizer bytes --labels set --output x rows.tsv
check "a dataset as tokenizer" "$data" prepare --task classification --tokenizer set --columns label=1,text=2 --split 0.5,0.25,0.25 --output by-set rows.tsv
diff -r set by-set >/dev/null || fail "--tokenizer set gives other tokens"
head -3 rows.tsv >held.tsv
printf 'c1\tnew\nc0\tnew\n' >>held.tsv
check "files of their own" classify --columns label=1,text=2 --validation held.tsv --test held.tsv --repeated keep --json --output held rows.tsv
has '"validation_documents": 5, '
has '"test_documents": 5, "cut": 0, "repeated": 8, "disputed": 2,'
check "characters" "$data" prepare --task classification --tokenizer chars --columns label=1,text=2 --test held.tsv --output chars rows.tsv
check "verify" "$data" verify chars

expect 65 'rows.csv:1: no column "label" in the header "text,sentiment", see --columns' classify --columns label=label,text=text --output x rows.csv
printf 'label,text,label\na,b,c\n' >double.csv
expect 65 'double.csv:1: the column "label" stands twice in the header' classify --columns label=label,text=text --output x double.csv
printf 'a\tx\na\ty\n' >one.tsv
expect 65 'all rows for training have the label "a", expected at least two labels' classify --columns label=1,text=2 --output x one.tsv
printf 'c0\tx\nc7\ty\n' >unseen.tsv
expect 65 'unseen.tsv:2: the label "c7" is none of the 3 that training has' classify --columns label=1,text=2 --test unseen.tsv --output x rows.tsv
printf 'a\tx\nb\t \n' >blank.tsv
expect 65 'blank.tsv:2: column 2 is empty; --empty drop leaves out and counts such rows' classify --columns label=1,text=2 --output x blank.tsv
expect 65 'all rows for training have the label "a"' classify --columns label=1,text=2 --empty drop --output x blank.tsv
printf 'a\tx\na\tx\tz\n' >wide.tsv
expect 65 'wide.tsv:2: the row has 3 fields, expected 2 as in the first one' classify --columns label=1,text=2 --output x wide.tsv
printf '{"text": "a", "rude": 1, "loud": "no"}\n' >word.jsonl
expect 65 'word.jsonl:1: the label column holds "no", expected 0 or 1' classify --columns label=rude,label=loud,text=text --output x word.jsonl
printf '{"text": "a", "rude": 1, "loud": 0}\n' >never.jsonl
expect 65 'no row for training has the label "loud"' classify --columns label=rude,label=loud,text=text --output x never.jsonl
sed -i 's/"rude": 1/"rude": 0/' never.jsonl
expect 65 'no row for training has the labels "rude", "loud"' classify --columns label=rude,label=loud,text=text --output x never.jsonl
printf 'a\t\n\tx\n' >blanks.tsv
expect 65 'no row is left for training: 2 with an empty column were left out' classify --columns label=1,text=2 --empty drop --output x blanks.tsv
: >none.tsv
expect 65 'the inputs hold no rows, the first is none.tsv' classify --columns label=1,text=2 --output x none.tsv
expect 65 'none.tsv: holds no rows' classify --columns label=1,text=2 --test none.tsv --output x rows.tsv
expect 64 'nowhere.tsv: No such file' classify --columns label=1,text=2 --test nowhere.tsv --output x rows.tsv
expect 64 'rows.tsv: plain text has no columns' classify --columns label=1,text=2 --format text --output x rows.tsv
expect 64 '--columns: found "body=2", expected ROLE=COLUMN with one of the roles text, label' classify --columns label=1,body=2 --output x rows.tsv
expect 64 '--columns: "text=1": there is a column for text already' classify --columns label=3,text=2,text=1 --output x rows.tsv
expect 64 '--columns: "text=2": this column is named twice' classify --columns label=2,text=2 --output x rows.tsv
expect 64 'expected a text and at least one label' classify --columns text=2 --output x rows.tsv
expect 64 'some columns are named and some numbered' classify --columns label=a,text=2 --output x rows.tsv
expect 64 'rows.jsonl: columns by number are those of csv and tsv' classify --columns label=1,text=2 --output x rows.jsonl
for split in 0.5 0.5,0.6 0.5,x 0,1 0.2,0.2,0.2,0.4; do
  expect 64 "--split: found \"$split\", expected two or three numbers whose sum is 1" classify --columns label=1,text=2 --split $split --output x rows.tsv
done
expect 64 '--split: stands beside --validation' classify --columns label=1,text=2 --split 0.5,0.5 --validation held.tsv --output x rows.tsv
expect 64 '--split: found "0.5,0.2,0.3" beside --test, expected two' classify --columns label=1,text=2 --split 0.5,0.2,0.3 --test later.tsv --output x rows.tsv
expect 64 '--cut: found "middle", expected tail or head' classify --columns label=1,text=2 --cut middle --output x rows.tsv
expect 64 '--cut: cuts nothing without --max-tokens' classify --columns label=1,text=2 --cut head --output x rows.tsv
expect 64 '--validation-fraction: is for plain text' classify --columns label=1,text=2 --validation-fraction 0.1 --output x rows.tsv
expect 64 '--text-column: is for plain text; a task has --columns' classify --columns label=1,text=2 --text-column 2 --output x rows.tsv
expect 64 '--task classification needs --columns' classify --output x rows.tsv
expect 64 '--split: belongs to a task' "$data" prepare --tokenizer bytes --split 0.5,0.5 --output x rows.tsv
expect 64 '--task: found "tagging", expected' "$data" prepare --tokenizer bytes --task tagging --output x rows.tsv

# ---- rows ----
explained() { # the fault of a key has a line that says where the key is from
  "$@" >out 2>err
  [ $? = 64 ] || fail "no 64: $*"
  grep -qF 'finetune.task: found sft, but data.path set is for classification' err && grep -qF 'finetune.task: from --set' err || fail "$(cat err)"
}
cat >run.yaml <<YAML
run: {directory: run, steps: 2, seed: 3, device: cpu}
model: {layers: 1, heads: 2, width: 8, context: 32}
data: {path: set}
batch: {global: 4}
YAML
check "rows" "$data" at --config run.yaml --step 0 --json
[ "$(wc -l <out)" = 4 ] || fail "at prints $(wc -l <out) rows"
[ "$(grep -c '"documents": \[[0-9]*, [0-9]*\], "starts": \[0, 1[34]\], "tokens": \[116, .*"targets": \[0, 0, .*"labels": \[[012], [012]\]}$' out)" -gt 1 ] ||
  fail "rows: $(cat out)"
cp out rows.out
check "rows of the second rank" "$data" at --config run.yaml --step 0 --json --ranks 2 --rank 1
diff <(sed 's/^{"row": [0-9]*, //' out) <(sed 's/^{"row": [0-9]*, //' rows.out | tail -2) >/dev/null || fail "rows depend on the ranks"
check "one document a row" "$data" at --config run.yaml --step 0 --json --set finetune.pack=false
[ "$(grep -c '"starts": \[0\]' out)" = 4 ] || fail "finetune.pack: $(cat out)"
check "rows as text" "$data" at --config run.yaml --step 0
has '2 documents, 2'
expect 64 'its longest example has 14 tokens, expected at most the 8 of a sequence' "$data" at --config run.yaml --step 0 --set batch.sequence=8
explained "$build/bin/gptdist-train" --config run.yaml --set finetune.task=sft
explained "$build/bin/gptdist-train" --config run.yaml --set finetune.task=sft --dry-run
check "a plan" "$build/bin/gptdist-train" --config run.yaml --dry-run
grep -qE '^ +[0-9]+ +1  head classifier ' out || fail "no classifier in the plan: $(cat out)"

if [ -f "$shared/labelled/sms_spam.tsv" ]; then
  check "SMS spam" classify --columns label=1,text=2 --split 0.7,0.1,0.2 --json --output sms "$shared/labelled/sms_spam.tsv"
  has '"train_documents": 3902, '
  has '"validation_documents": 557, '
  has '"test_documents": 1115, '
  check "banking77" classify --columns label=category,text=text --test "$shared/labelled/banking77_test.csv" --output bank \
    "$shared/labelled/banking77_train.csv"
  has '77 labels, 35 to 187 documents of train each'
  has 'bank/test: '
else
  echo "skipped: no ../shared/data"
fi
exit $failed
