#!/usr/bin/env bash
# What gptdist-eval prints (loss, perplexity, bits per byte, counts, task scores) is what plain arithmetic makes of the model's
# logits, on one rank, with two tensor ranks, and with two of those pairs.
set -u
command -v python3 >/dev/null || { echo 'skipped: no python3'; exit 77; }
bin=$(cd "$1/bin" && pwd) || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export OMP_NUM_THREADS=1

# A small model that knows some of its text: bytes as ids, 256 begins and ends a document.
for i in $(seq 400); do
  line="Tom sat on the mat $((i % 5)) times. Ann ran to the bus $((i % 3)) times."
  [ $((i % 2)) = 0 ] || line=${line#*. }
  echo "$line"
done >text.txt
sed 's/$/\n<|endoftext|>/' text.txt >documents.txt
{
  "$bin/gptdist-data" prepare --tokenizer bytes --output data documents.txt && head -c 333 text.txt >held.txt &&
    "$bin/gptdist-data" prepare --tokenizer bytes --output held held.txt && echo 'run: {steps: 500, directory: run, device: cpu, threads: 1}' >run.yaml &&
    "$bin/gptdist-train" --config run.yaml --set data.path=data --set model.layers=1 --set model.heads=2 --set model.width=32 \
      --set model.context=48 --set batch.global=8 --set optimizer.lr=1e-2 --set optimizer.min_lr=1e-3 --set schedule.warmup_steps=5
} >out 2>&1 || { cat out; exit 1; }

cat >items.py <<'END'
lambada = ["Tom sat on the mat", "Ann ran to the bus", "Tom sat on the rug", "Ann ran to the dog", "the cat sat",
           "Ann ran to the bus 1 times. Tom sat on the mat 2 times. Ann ran to the bus", "Tom sat on the mat 3 times.",
           "Ann ran to the bus 2 times. Tom sat on the mat 1 times. Ann ran to a zebra"]
piqa = [("Tom sat on", "the mat", "the mat 2 times. Ann", 0), ("Tom sat on", "the mat", "the mat 2 times. Ann", 1),
        ("Ann ran to the", "bus", "dog", 0), ("Ann", "ran to the bus 2 times.", "xq", 0), ("Ann ran to the", "dog", "dog 1 times. Tom", 1)]
hellaswag = [("Tom sat", ["on the mat", "on the bus", "q"], 0), ("Tom sat", ["on the rug", "q", "on the rug 1 times. Ann ran"], 2),
             ("Ann ran to", ["the bus", "the mat"], 1)]
END
python3 - "$bin" <<'END'
import json, math, os, signal, subprocess, sys, time

exec(open("items.py").read())
BIN, EOT, CONTEXT = sys.argv[1], 256, 48
bad = 0


def check(good, text):
    global bad
    if not good:
        print("FAILED:", text)
        bad += 1


def evaluate(ranks, *arguments):
    line = [f"{BIN}/gptdist-eval", "--checkpoint", "run", "--dtype", "float32", "--threads", "1", "--json", *arguments]
    if ranks > 1:
        line = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), *line]
    out = subprocess.run(line, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return [json.loads(row) for row in out.stdout.splitlines()]


def scores(tokens, targets):
    """-log p of each target after tokens up to it, and whether it was the most likely one."""
    result = []
    for row, target in zip(evaluate(1, "--task", "logits", "--token-ids", " ".join(map(str, tokens))), targets):
        logits = row["logits"]
        top = max(logits)
        log_sum = top + math.log(math.fsum(math.exp(x - top) for x in logits))
        result.append((log_sum - logits[target], logits.index(top) == target))
    assert len(result) == len(targets)
    return result


def windows(ids, length):
    return [scores(ids[i:i + length][:len(ids) - 1 - i], ids[i + 1:i + 1 + length]) for i in range(0, len(ids) - 1, length)]


def answer(context, text):
    """(sum of log p of the answer's tokens, all greedy): what does not fit the context is cut off its beginning"""
    ids = [EOT] + list(context.encode()) + list(text.encode())
    kept = ids[-(CONTEXT + 1):]
    rows = scores(kept[:-1], kept[1:])[-len(text.encode()):]
    return -math.fsum(loss for loss, _ in rows), all(greedy for _, greedy in rows)


def close(found, wanted):
    return abs(found - wanted) <= 2e-5 * max(1, abs(wanted))


def perplexity(name, ids, data, length, options=(), limit=None, bytes_=None):
    each = windows(ids, length)[:limit]
    total = math.fsum(loss for window in each for loss, _ in window)
    count = sum(map(len, each))
    wanted = {"loss": total / count, "perplexity": math.exp(total / count), "tokens": count, "windows": len(each)}
    if bytes_:
        wanted["bits_per_byte"] = total / bytes_ / math.log(2)
    compare(name, wanted, "--task", "perplexity", "--data", data, "--length", str(length), *options)


def compare(name, wanted, *arguments):
    for ranks, tensor in (1, 1), (2, 2), (4, 2):
        found, = evaluate(ranks, "--tensor", str(tensor), *arguments)
        for key, value in wanted.items():
            good = key in found and (found[key] == value if isinstance(value, int) else close(found[key], value))
            check(good, f"{name}, {ranks} ranks, tensor {tensor}: {key} is {found.get(key)}, arithmetic says {value}")
        check("bits_per_byte" in wanted or "bits_per_byte" not in found, f"{name}: bits per byte of a part of a text")


text = open("held.txt", "rb").read()
perplexity("text", [EOT] + list(text), "held.txt", 40, bytes_=len(text))              # 333 targets: 8 windows and 13 tokens
perplexity("dataset", list(text) + [EOT], "held/train", 37)                                 # the last window is one whole one
perplexity("dataset, odd end", list(text) + [EOT], "held/train", 48)                        # 6 windows and 45 of 48
perplexity("limit", [EOT] + list(text), "held.txt", 40, ("--limit", "3"), 3)

with open("lambada.jsonl", "w") as file:
    for passage in lambada:
        print(json.dumps({"text": passage}), file=file)
rows = [answer(passage[:passage.rindex(" ")], passage[passage.rindex(" "):]) for passage in lambada]

right = sum(greedy for _, greedy in rows) / len(rows)
assert 0 < right < 1, "the items say nothing: the model finds all words or none"
compare("lambada", {"accuracy": right, "standard_error": math.sqrt(right * (1 - right) / (len(rows) - 1)),
                    "perplexity": math.exp(-math.fsum(score for score, _ in rows) / len(rows)), "items": len(rows)},
        "--task", "lambada", "--data", "lambada.jsonl")


def choices(task, items):
    right = by_byte = 0
    for context, texts, label in items:
        sums = [answer(context, " " + text)[0] for text in texts]
        right += sums.index(max(sums)) == label
        means = [s / len((" " + text).encode()) for s, text in zip(sums, texts)]
        by_byte += means.index(max(means)) == label
    assert right != by_byte, f"{task}: the items say nothing: both scores are {right}"
    accuracy = right / len(items)
    compare(task, {"accuracy": accuracy, "accuracy_by_byte": by_byte / len(items), "items": len(items),
                   "standard_error": math.sqrt(accuracy * (1 - accuracy) / (len(items) - 1))},
            "--task", task, "--data", f"{task}.jsonl")


with open("piqa.jsonl", "w") as file:
    for goal, first, second, label in piqa:
        print(json.dumps({"goal": goal, "sol1": first, "sol2": second, "label": label}), file=file)
choices("piqa", [(goal, [first, second], label) for goal, first, second, label in piqa])
with open("hellaswag.jsonl", "w") as file:
    for context, endings, label in hellaswag:
        print(json.dumps({"ctx": context, "endings": endings, "label": str(label)}), file=file)
choices("hellaswag", hellaswag)

# A signal: the score of what is done, said to be a part, and no exit code of success.
line = [f"{BIN}/gptdist-eval", "--checkpoint", "run", "--threads", "1", "--json", "--task", "perplexity", "--data", "text.txt", "--length", "1"]
with open("said", "w") as said:
    run = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=said, text=True)
while "device: " not in open("said").read() and run.poll() is None:
    time.sleep(0.02)
run.send_signal(signal.SIGINT)
found = json.loads(run.communicate()[0])
targets = os.path.getsize("text.txt")
check(run.returncode == 128 + signal.SIGINT, f"a signal: left with {run.returncode}")
check(0 < found["windows"] == found["tokens"] < targets and "bits_per_byte" not in found, f"a signal: {found} of {targets} windows")
check(f"the first {found['windows']} of {targets} windows" in open("said").read(), "a signal: nothing said of a part")
sys.exit(bad > 0)
END
