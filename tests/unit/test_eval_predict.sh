#!/usr/bin/env bash
# gptdist-eval --task predict: labels of new texts are those of --task classification, bit for bit, however many are asked at once and on
# any number of data ranks; records come back whole and in order, a line in is a line out; what is no use costs no other; mistakes.
. "$(dirname "${BASH_SOURCE[0]}")/eval_checks.sh"

# Texts that name their colour, or two properties, among other letters; some are cut.
awk 'BEGIN { split("red green blue", name, " "); for (i = 0; i < 60; i++) {
  k = i % 3 + 1; printf "%s\t%s%s\n", name[i % 11 == 0 ? 1 : k], substr("abcdefghij \"k\\lmn", 1, 1 + i * 7 % 17), name[k] } }' >colours.tsv
awk 'BEGIN { for (i = 0; i < 40; i++) printf "%d\t%d\t%s%s%s\n", i % 2, int(i / 2) % 2, substr("abcdefghij", 1, 1 + i * 7 % 10),
  i % 2 ? "warm" : "", int(i / 2) % 2 ? "wet" : "" }' >weather.tsv
sed 's/^red/blue/' colours.tsv >two.tsv
prepare colours --task classification --columns label=1,text=2 --max-tokens 12 --cut head --repeated keep --validation colours.tsv colours.tsv
prepare weather --task classification --columns label=1,label=2,text=3 --repeated keep --validation weather.tsv weather.tsv
prepare two --task classification --columns label=1,text=2 --max-tokens 16 --repeated keep --validation two.tsv two.tsv
cut -f2 colours.tsv >colours.txt
prepare plain colours.txt
small=(model.layers=2 model.context=48 validation.interval_steps=0)
train one colours "${small[@]}"
# The same data as a program wrote them that did not note how texts were cut.
cp -r colours old
for split in old/train old/validation; do
  text=$(sed -z 's/,\n  "max_tokens": 12,\n  "cut": "head"//; s/,\n  "digest".*//' $split/index.json)
  printf '%s,\n  "digest": "%s"\n}\n' "$text" "$(printf %s "$text" | sha256sum | cut -d' ' -f1)" >$split/index.json
  grep -q '"cut"' $split/index.json && fail "the index of old data notes how texts were cut"
done
train before old "${small[@]}" batch.sequence=16
train several weather "${small[@]}"
train binary two "${small[@]}" finetune.loss=sigmoid batch.sequence=16 run.steps=30
train language plain "${small[@]}" run.steps=1
"$bin/gptdist-ckpt" export-hf one folder --dtype float32 >out 2>&1 || { cat out; exit 1; }

cat >check.py <<'END'
import json, os, signal, subprocess, sys, threading, time
bin, bad = sys.argv[1], 0


def check(good, *text):
    global bad
    if not good:
        print("FAILED:", *text)
        bad = 1


def command(*options, ranks=1):
    start = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)] if ranks > 1 else []
    return [*start, f"{bin}/gptdist-eval", "--threads", "1", *map(str, options)]


def run(*options, ranks=1, text="", code=0):
    done = subprocess.run(command(*options, ranks=ranks), capture_output=True, text=True, input=text)
    check(done.returncode == code, "exit code", done.returncode, "expected", code, options, done.stderr)
    return done


def predict(name, *options, **more):
    return run("--checkpoint", name, "--task", "predict", *options, **more)


def lines(records):
    return "".join(json.dumps(r) + "\n" if not isinstance(r, str) else r + "\n" for r in records)


ANSWERS = ("predicted", "probability", "probabilities")


def answers(text):  # the numbers as they are written
    return [{key: a[key] for key in ANSWERS if key in a} for a in map(lambda line: json.loads(line, parse_float=str), text.splitlines())]


# ---- those of --task classification, in any company ----
def same(name, data, cut, dtype):
    texts = [line.split("\t")[-1] for line in open(f"{data}.tsv").read().splitlines()]
    dtype = ["--dtype", dtype]
    run("--checkpoint", name, "--task", "classification", "--data", f"{data}/validation", "--predictions", f"{name}.jsonl", *dtype)
    want = answers(open(f"{name}.jsonl").read())
    check(len({a["predicted"] if isinstance(a["predicted"], str) else tuple(a["predicted"]) for a in want}) > 1, name, "says one thing to all texts")
    records = lines({"id": i, "text": t} for i, t in enumerate(texts))
    first = predict(name, *cut, *dtype, text=records).stdout
    check(answers(first) == want, name, dtype, "other answers than --task classification")
    check([json.loads(line)["id"] for line in first.splitlines()] == list(range(len(texts))), name, "another order")
    for batch in (1, 3, 64):
        check(predict(name, *cut, *dtype, "--batch", batch, text=records).stdout == first, name, dtype, "--batch", batch, "gives other answers")
    for i in (0, 9, 23):
        alone = predict(name, *cut, *dtype, text=lines([{"id": i, "text": texts[i]}])).stdout
        check(alone == first.splitlines(True)[i], name, dtype, "text", i, "alone", alone)
    return records, first


head = ["--max-tokens", 12, "--cut", "head"]
records, first = same("one", "colours", head, "float32")
check(all(float(a["probability"]) == max(map(float, a["probabilities"])) for a in answers(first)), "the probability is not the largest")
check(all(a["predicted"] == ["blue", "green", "red"][a["probabilities"].index(a["probability"])] for a in answers(first)), "another label than the likeliest")
same("several", "weather", [], "float32")
same("binary", "two", [], "float32")  # batch.sequence
same("one", "colours", head, "bfloat16")
check(predict("one", text=records).stdout == first, "texts are cut otherwise than those of the training were")
for other in (["--cut", "tail"], ["--max-tokens", 16]):
    check(answers(predict("one", *other, text=records).stdout) != answers(first), *other, "changes nothing")
check(answers(predict("one", "--cut", "head", text=records).stdout) == answers(first), "--cut head is not --cut head")
out = predict("before", text=records)
check(out.stdout == predict("before", "--max-tokens", 16, "--cut", "tail", text=records).stdout and "of them cut to 16 tokens" in out.stderr, "a checkpoint of before cuts its texts otherwise")
check(predict("before", *head, text=records).stdout != out.stdout, "--max-tokens and --cut change nothing")
for name, what in (("one", True), ("before", False)):
    told = subprocess.run([f"{bin}/gptdist-ckpt", "inspect", name], capture_output=True, text=True).stdout
    check(("texts            cut to 12 tokens by their heads" in told) == what, name, "is inspected as", told)
check("of them cut to 16 tokens" in predict("binary", text=records).stderr, "texts are cut to another length than a sequence of the training")
check(predict("folder", *head, text=records).stdout == first, "a model folder gives other answers")
check(predict("one", *head, "--tensor", 1, text=records, ranks=2).stdout == first, "two data ranks give other answers")
check(predict("one", *head, "--tensor", 1, "--batch", 2, text=records, ranks=3).stdout == first, "three data ranks give other answers")
shared = predict("one", *head, text=records, ranks=2).stdout
check([a["predicted"] for a in answers(shared)] == [a["predicted"] for a in answers(first)], "two tensor ranks give other labels")
check(predict("one", *head, "--tensor", 2, text=records, ranks=4).stdout == shared, "tensor 2 x data 2 is another than tensor 2")
check(predict("one", *head, "--limit", 7, text=records).stdout == "".join(first.splitlines(True)[:7]), "--limit")

# ---- records come back whole, an answer of before is replaced; other fields, other forms ----
text = '{"probability": 7, "text":"abcred","id" : 12345678901234567890, "more":{"text":[1.10,"}"]}, "predicted":"x" ,"probabilities":[1]}\n'
out = predict("one", text=text).stdout
check(out.startswith('{"text":"abcred","id" : 12345678901234567890,"more":{"text":[1.10,"}"]},"predicted":"') and out.count("probabilit") == 2, "a record is another:", out)
check(predict("one", text=out).stdout == out, "its answer labelled again is another")
one = answers(out)
open("new.txt", "w").write('abcred\nsay "blue"\\\n\nlast')
for options, stdin in ((["--data", "new.txt"], ""), (["--format", "text"], open("new.txt").read()), (["--format", "text", "--data", "-"], open("new.txt").read())):
    out = predict("one", *options, text=stdin, code=65).stdout.splitlines()
    check([json.loads(o).get("text") for o in out] == ["abcred", 'say "blue"\\', None, "last"] and answers(out[0]) == one, options, out)
    check(json.loads(out[2]) == {"line": 3, "error": "the text is empty"}, "an empty line of a text:", out)
open("new.jsonl", "w").write('{"text": 1, "body": "abcred"}\r\n\n{"body": "abcred"}')
out = predict("one", "--data", "new.jsonl", "--text-field", "body").stdout
check(answers(out) == one * 2, "--text-field:", out)
out = predict("one", "--text-field", "predicted", text='{"predicted": "abcred"}').stdout
check(answers(out) == one and out.startswith('{"predicted":"'), "a record of nothing else:", out)
out = predict("one", "--data", "new.txt", "--text-field", "body", code=65).stdout
check("valid JSON" in json.loads(out.splitlines()[0])["error"], "a named field makes a file JSON Lines:", out)

# ---- rows of CSV and TSV: as gptdist-data reads them, a row in, a line out ----
texts = [line.split("\t")[1] for line in open("colours.tsv").read().splitlines()]
out = predict("one", "--data", "colours.tsv", "--text-column", 2).stdout
check(answers(out) == answers(first), "rows have other answers than records")
check([json.loads(o)["2"] for o in out.splitlines()] == texts and list(json.loads(out.splitlines()[0]))[:2] == ["1", "2"], "columns by number", out)
with open("new.csv", "wb") as file:
    file.write(b'\xef\xbb\xbfid,label,,body,predicted\r\n7,,x,"abc\r\n""red"", 1",old\r\n\r\n8,"a,b",y,"",old\r\n9,c,z,abcred\n10,c,z,abc\xff,o\n11,c,z,abc"red,o\n12,c,z,"ab"red,o\n13,,,"abc\nmore')
for ranks in (1, 2):
    done = predict("one", "--data", "new.csv", "--text-field", "body", "--tensor", 1, code=65, ranks=ranks)
    got = [json.loads(o) for o in done.stdout.splitlines()]
    check([g.get("line") for g in got] == [None, 5, 6, 7, None, None, 10], "rows of CSV", done.stdout, done.stderr)
    check({key: got[0][key] for key in ("id", "label", "body")} == {"id": "7", "label": "", "body": 'abc\r\n"red", 1'} and got[0]["predicted"] != "old" and len(got[0]) == 6, "a row comes back as", got[0])
    check([g["body"] for g in got[4:6]] == ['abc"red', "abred"], "quotes inside fields", got)
    for answer, text in zip(got[1:4] + got[6:], ("the text is empty", "the row has 4 fields, expected 5 as in the first one", "no UTF-8", "the quote that opens in this row is never closed")):
        check(text in answer["error"] and f"new.csv:{answer['line']}: " in done.stderr, "expected", text, "found", answer)
    check(got[1].get("id") == "8" and "4 of 7 rows were no use; the first: new.csv:5: the text is empty" in done.stderr, "the summary of rows", got[1], done.stderr)
    if ranks == 1:
        want = answers(done.stdout.splitlines()[0])
        check(answers(predict("one", text=lines([{"text": 'abc\r\n"red", 1'}])).stdout) == want, "a row's text is not that of a record")
    else:
        check(answers(done.stdout.splitlines()[0]) == want, "two data ranks read rows otherwise")
check(len(predict("one", "--format", "tsv", "--text-column", 1, "--limit", 2, text="abcred\t1\nabc\t2\nx\t3\n").stdout.splitlines()) == 2, "--limit of rows")
out = predict("one", "--format", "csv", "--text-column", 3, text="a,b\n", code=65).stdout
check("no column 3, see --text-column" in json.loads(out)["error"], "a column that is not there", out)
check(predict("one", "--format", "csv", text="").stdout == "", "nothing is no row")
out = predict("one", "--format", "csv", text="text\n\0abc\n \t\nabc\n", code=65).stdout
check(["found a zero byte" in o for o in out.splitlines()] == [True, False], "a row that begins with a zero byte is none", out)
open("twice.csv", "w").write("a,text,a\n1,2,3\n")
open("open.csv", "w").write('a,"text\n1,2\n')
for name in ("new.json", "new.csv.gz"):
    open(name, "w").write("[]")

# ---- what is no use ----
good = {"text": "abcred", "id": "x"}
records = [good, '{"text": ', {"body": "x"}, "", {"text": 5, "id": 7}, {"text": " \t\n"}, "[1]", '"abcred"', {"text": ""}, b"\x80".decode("latin1"), '{"text":"abc\tred"}',
           '{"text":"abcred","n":01}', '{"text":"abcred","text":"abcblue"}', good]
path = "bad.jsonl"
with open(path, "wb") as file:
    for r in records:
        file.write(b'{"text": "\xff"}\n' if r == "\x80" else lines([r]).encode())
want = [(2, "expected valid JSON"), (3, 'no "text", see --text-field'), (5, '"text": expected a string'), (6, "the text is empty"), (7, "expected an object"),
        (8, "expected an object"), (9, "the text is empty"), (10, "no UTF-8"), (11, "bare control character"), (12, "a number such as 01"), (13, '"text" stands there twice')]
for ranks in (1, 2):
    done = predict("one", "--data", path, "--batch", 2, code=65, ranks=ranks)
    got = [json.loads(line) for line in done.stdout.splitlines()]
    check(len(got) == 13 and got[0] == got[-1] and "predicted" in got[0] and got[0]["id"] == "x", "good records beside bad ones", got)
    for (line, text), answer in zip(want, got[1:-1]):
        check(answer.get("line") == line and text in answer.get("error", "") and f"{path}:{line}: " in done.stderr, "line", line, "expected", text, "found", answer, done.stderr)
    check(got[3].get("id") == 7 and f"11 of 14 lines were no use; the first: {path}:2: " in done.stderr, "the summary of what was no use", done.stderr)

# ---- line in, line out: an answer comes before the next line is there, also to a line that is no use ----
def service(*options, ranks=1):
    pipe = subprocess.PIPE
    started = subprocess.Popen(command("--checkpoint", "one", "--task", "predict", *options, ranks=ranks), stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    watch = threading.Timer(30, started.kill)
    watch.start()
    return started, watch


def say(started, line):
    started.stdin.write(line + "\n")
    started.stdin.flush()
    return started.stdout.readline()


for ranks in (1, 2):
    started, watch = service(ranks=ranks)
    for number in range(3):
        answer = say(started, json.dumps({"text": "abcred", "id": number}))
        check(answer and json.loads(answer)["id"] == number, "no answer to line", number, "before the next", answer)
        answer = say(started, "{")
        check(answer and "error" in json.loads(answer), "no answer to a line that is no use before the next", answer)
    started.stdin.close()
    check(started.wait() == 65, "line in, line out:", started.stderr.read())
    watch.cancel()
started, watch = service("--format", "csv")
started.stdin.write("text,more\n")
for number in range(3):
    answer = say(started, f'"abc\nred",{number}')
    check(answer and json.loads(answer).get("more") == str(number), "no answer to row", number, "before the next", answer)
started.stdin.close()
check(started.wait() == 0, "row in, line out:", started.stderr.read())
watch.cancel()
started, watch = service("--format", "csv")
try:
    started.stdin.write('text\n"')
    for piece in range(258):
        started.stdin.write(("a" * 1023 + "\n") * 1024)
    started.stdin.close()
except BrokenPipeError:
    pass
check(started.wait() == 65 and "standard input:2: found a row of more than 256 MiB; is its quote never closed?" in started.stderr.read(), "an endless row leaves with", started.returncode)
watch.cancel()
started, watch = service()
check(json.loads(say(started, '{"text": "abcred"}'))["predicted"], "no answer before a signal")
started.send_signal(signal.SIGTERM)
check(started.wait() == 128 + signal.SIGTERM and "stopped by a signal behind line 1" in started.stderr.read(), "a signal leaves with", started.returncode)
watch.cancel()

# ---- mistakes ----
for name, options, code, text in (("language", [], 64, "language: is a language model, expected a classifier"),
                                  ("folder", ["--tokenizer", "chars"], 64, "tokenizer chars: only"),
                                  ("one", ["--cut", "middle"], 64, '--cut: found "middle", expected tail or head'),
                                  ("one", ["--format", "parquet"], 64, '--format: found "parquet", expected jsonl, text, csv or tsv'),
                                  ("one", ["--data", "new.json"], 64, "--data: found new.json, expected JSON Lines, CSV, TSV, or texts, one a line"),
                                  ("one", ["--data", "new.csv.gz"], 64, "--data: found new.csv.gz, which is packed"),
                                  ("one", ["--text-column", 2], 64, "--text-column: is for csv and tsv"),
                                  ("one", ["--format", "csv", "--text-column", 2, "--text-field", "x"], 64, "--text-column: stands beside --text-field"),
                                  ("one", ["--data", "colours.tsv"], 65, 'colours.tsv:1: no column "text" in the header "'),
                                  ("one", ["--data", "twice.csv"], 65, 'twice.csv:1: the column "a" stands twice in the header "a,text,a"'),
                                  ("one", ["--data", "open.csv"], 65, "open.csv:1: the quote that opens in the header is never closed"),
                                  ("one", ["--data", "nowhere.jsonl"], 64, "nowhere.jsonl: No such file"),
                                  ("one", ["--max-tokens", 49], 64, "49 tokens: this model has positions for 48"),
                                  ("one@best", [], 64, "one@best: no validation has marked a best one"),
                                  ("nowhere", [], 64, "nowhere: No such file")):
    done = predict(name, *options, text=lines([good]), code=code)
    check(done.stderr.count(text) == 1 and done.stderr.count("gptdist-eval: ") == 1 and not done.stdout, name, options, "expected once", text, "in", done.stderr, done.stdout)
sys.exit(bad)
END
python3 check.py "$bin" || failed=1
exit $failed
