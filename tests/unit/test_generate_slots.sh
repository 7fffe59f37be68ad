#!/usr/bin/env bash
# Texts in slots: prompts together give what each gives alone, on one rank and on two; lines come back in their order, as they come;
# what is no use is told with file and line and costs no other record; samples, lengths, talks.
set -u
build=$1
llama=$(cd "$(dirname "$0")/../.." && pwd)/../shared/data/models/stories260K
[ -d "$llama" ] || { echo "skipped: no ../shared/data"; exit 77; }
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

python3 - "$build/bin/gptdist-generate" "$llama" <<'PY' || exit 1
import json, math, os, signal, subprocess, sys, tempfile, threading
program, model = sys.argv[1:]
common = ["--checkpoint", model, "--tokenizer", f"llama2c:{model}/tok512.bin", "--threads", "1"]
folder = tempfile.TemporaryDirectory()
bad = 0

def fail(*words):
    global bad
    bad += 1
    print("FAILED:", *words)

def run(*options, ranks=1, text=None, code=0):
    start = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)] if ranks > 1 else []
    done = subprocess.run([*start, program, *common, *map(str, options)], input=text, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL if text is None else None)
    if done.returncode != code:
        fail("exit code", done.returncode, "expected", code, options, done.stderr)
    return done

def write(records):
    path = os.path.join(folder.name, "in.jsonl")
    with open(path, "w") as out:
        for record in records:
            print(record if isinstance(record, str) else json.dumps(record), file=out)
    return path

def answers(done):
    return [json.loads(line) for line in done.stdout.splitlines()]

# ---- eight together are each alone ----
prompts = ["Once upon a time", "The dog", "Lily and Tom went to the park. They saw a big tree and", "", "He said: \"No", "A",
           "One day, a little girl found a shiny stone near the river and she wanted to show it to her mother, but", "Why"]
def alone(ranks, *options):
    out = []
    for i, prompt in enumerate(prompts if ranks == 1 else prompts[:4]):
        extra = ["--seed", 100 + i, "--max-new-tokens", 20 + 9 * i]
        out.append(answers(run("--prompt", prompt, "--json", *extra, *options, ranks=ranks))[0]["token_ids"])
    return out
records = [{"prompt": p, "seed": 100 + i, "max_new_tokens": 20 + 9 * i, "id": i} for i, p in enumerate(prompts)]
path = write(records)
drawn = ["--temperature", 0.9, "--top-k", 40, "--repetition-penalty", 1.2, "--min-new-tokens", 3]
for ranks, options in ((1, drawn), (2, drawn), (1, ["--dtype", "bfloat16", "--top-p", 0.9])):
    want = alone(ranks, *options)
    for batch in (8, 3, 1) if ranks == 1 and options is drawn else (8,):
        got = answers(run("--jsonl", path, "--batch", batch, *options, ranks=ranks))
        if [a["id"] for a in got] != list(range(8)):
            fail("batch", batch, "other records or another order", [a.get("id") for a in got])
        elif [a["token_ids"] for a in got][:len(want)] != want:
            fail(ranks, "ranks, batch", batch, options, "texts differ from those alone")

# ---- prompts that are read together, over several calls, have the bits of each by itself ----
lengths = [1, 127, 128, 129, 200, 3, 60, 130, 2, 300, 128, 128, 1, 64, 64, 5]
path = write([{"token_ids": [1 + (7 * i + 11 * k * k) % 510 for i in range(n)], "max_new_tokens": 6 + k % 3, "id": k} for k, n in enumerate(lengths)])
for more in (["--samples", 3], [], ["--dtype", "bfloat16"], ["--max-new-tokens", 1]):
    want = run("--jsonl", path, "--batch", 1, "--rank-by", "loglikelihood", *more).stdout
    for batch in (8, 5, 16):
        if run("--jsonl", path, "--batch", batch, "--rank-by", "loglikelihood", *more).stdout != want:
            fail("batch", batch, more, "other bits than one at a time")
if want.count("loglikelihood") != len(lengths):
    fail("too few texts", want)

# ---- samples: the first is the one text; ranked by what they are worth ----
one = answers(run("--prompt", "The dog", "--json", "--max-new-tokens", 12))[0]
many = answers(run("--prompt", "The dog", "--json", "--max-new-tokens", 12, "--samples", 6))[0]["samples"]
if many[0]["token_ids"] != one["token_ids"] or len({tuple(s["token_ids"]) for s in many}) < 5:
    fail("samples", many)
ranked = answers(run("--prompt", "The dog", "--json", "--max-new-tokens", 12, "--samples", 6, "--rank-by", "loglikelihood"))[0]["samples"]
if sorted(s["token_ids"] for s in ranked) != sorted(s["token_ids"] for s in many):
    fail("ranked samples are others")
if [s["loglikelihood"] for s in ranked] != sorted((s["loglikelihood"] for s in ranked), reverse=True):
    fail("samples are not in the order of their log-likelihoods")
lines = answers(run("--jsonl", write([{"prompt": "The dog"}, {"prompt": "A"}]), "--batch", 2, "--samples", 6, "--rank-by", "loglikelihood",
                    "--max-new-tokens", 12))
if lines[0]["samples"] != ranked:
    fail("samples of a line differ from those alone")
# The log-likelihood is that of gptdist-eval's logits.
ids = answers(run("--token-ids", "1 291 400", "--json", "--max-new-tokens", 12, "--rank-by", "loglikelihood", "--temperature", 0.8))[0]
rows = [json.loads(l)["logits"] for l in subprocess.run(
    [program.replace("generate", "eval"), "--checkpoint", model, "--task", "logits", "--json", "--threads", "1", "--token-ids",
     " ".join(map(str, [1, 291, 400] + ids["token_ids"]))], capture_output=True, text=True).stdout.splitlines()]
total = 0
for i, token in enumerate(ids["token_ids"]):
    row = rows[2 + i]
    top = max(row)
    total += row[token] - top - math.log(sum(math.exp(x - top) for x in row))
if abs(total - ids["loglikelihood"]) > 1e-5 * abs(total):
    fail("log-likelihood", ids["loglikelihood"], "expected", total)

# ---- lengths ----
for options, count, reason in ((["--max-length", 9], 4, "max_length"), (["--max-length", 3], 0, "max_length"),
                               (["--max-length", 50, "--max-new-tokens", 6], 6, "max_new_tokens"),
                               (["--context", 16, "--max-new-tokens", 90], 12, "context")):
    got = answers(run("--token-ids", "1 403 407 261 378", "--temperature", 0, "--json", *options))[0]
    if len(got["token_ids"]) != count or got["stopped_by"] != reason:
        fail(options, "gave", len(got["token_ids"]), "tokens, ended by", got["stopped_by"])

# ---- the plan counts what the slots take ----
plan = answers(run("--dry-run", "--json", "--jsonl", "-", "--batch", 5, "--samples", 3, "--context", 300))[0]
if plan["slots"] != 15 or plan["memory_bytes"]["keys and values"] != 5 * 15 * 300 * 2 * 32 * 4:
    fail("--dry-run", plan)

# ---- what is no use ----
long = {"prompt": "word " * 600, "id": "long"}
records = [{"prompt": "A", "id": 12345678901234567890}, "{\"prompt\": ", {"promt": "x"}, "", long, {"prompt": "B", "token_ids": [1]}, [1], {"token_ids": [1, 999]},
           {"messages": [{"role": "user", "content": "Hi"}, {"role": "robot", "content": "x"}]}, {"prompt": "B", "seed": -1},
           {"messages": [{"role": "assistant", "content": "Hi"}]}, {"token_ids": {"a": 1}},
           '{"prompt": "A", "prompt": "B"}', {"prompt": "A", "id": 2}]
path = write(records)
for ranks in (1, 2):
    done = run("--jsonl", path, "--batch", 2, "--max-new-tokens", 5, "--temperature", 0, code=65, ranks=ranks)
    got = answers(done)
    want = [(2, "valid JSON"), (3, "found none"), (5, "tokens, but the context"), (6, "found several"), (7, "expected an object"),
            (8, "this model has ids 0 to 511"), (9, "found robot"), (10, '"seed"'), (11, "the last turn is the assistant's"),
            (12, "expected an array of ids"), (13, '"prompt" stands there twice')]
    if len(got) != 13 or got[0]["token_ids"] != got[-1]["token_ids"] or len(got[0]["token_ids"]) != 5 or \
            [got[0]["id"], got[-1]["id"]] != [12345678901234567890, 2]:
        fail("good records beside bad ones", got)
    for (line, text), answer in zip(want, got[1:-1]):
        if answer.get("line") != line or text not in answer.get("error", "") or f"{path}:{line}: " not in done.stderr:
            fail("line", line, "expected", text, "found", answer, done.stderr)
    if got[3].get("id") != "long" or f"11 of 14 lines were no use; the first: {path}:2: " not in done.stderr:
        fail("the summary of what was no use", done.stderr)
for options, text in ((["--jsonl", "/nowhere/x"], "/nowhere/x"), (["--jsonl", path, "--prompt", "x"], "give one of"), (["--beams", 2, "--samples", 2], "--beams: goes with"),
                      (["--rank-by", "luck"], 'found "luck"'), (["--early-stopping", "maybe"], 'found "maybe"'), (["--end-ids", "512"], "this model has ids 0 to 511"),
                      (["--chat", "--template", "chatml"], "does not have"), (["--beams", 64, "--end-ids", "1 2 3 4 5 6 7 8"], "too many for a vocabulary of 512")):
    done = run(*options, code=64)
    if done.stderr.count(text) != 1:
        fail(options, "expected once", text, "in", done.stderr)

# ---- line in, line out: an answer comes before the next line is there ----
def talk(*options, ranks=1):
    start = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)] if ranks > 1 else []
    pipe = subprocess.PIPE
    return subprocess.Popen([*start, program, *common, *map(str, options)], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
for ranks in (1, 2):
    service = talk("--jsonl", "-", "--max-new-tokens", 8, ranks=ranks)
    watch = threading.Timer(60, service.kill)
    watch.start()
    for number in range(3):
        service.stdin.write(json.dumps({"prompt": "Once", "id": number}) + "\n")
        service.stdin.flush()
        answer = service.stdout.readline()
        if not answer or json.loads(answer)["id"] != number:
            fail("no answer to line", number, "before the next", answer)
    service.stdin.close()
    if service.wait() != 0:
        fail("line in, line out:", service.stderr.read())
    watch.cancel()

# ---- a talk: an answer is ended by Ctrl-C, the next turn is answered, and what was said before is known ----
chat = talk("--chat", "--template", "plain", "--temperature", 0, "--max-new-tokens", 10 ** 6, "--context", 10 ** 5, "--ignore-end")
watch = threading.Timer(60, chat.kill)
watch.start()
chat.stdin.write("Once upon a time\n")
chat.stdin.flush()
first = chat.stdout.read(200)
chat.send_signal(signal.SIGINT)
first += chat.stdout.readline()
while not first.endswith("\n"):
    first += chat.stdout.readline()
chat.stdin.write("The dog\n")
chat.stdin.flush()
second = chat.stdout.read(50)
chat.send_signal(signal.SIGINT)
chat.stdin.close()
chat.stdout.read()
if chat.wait() != 0 or len(second) != 50:
    fail("a talk did not go on behind Ctrl-C:", chat.returncode, second, chat.stderr.read())
watch.cancel()
said = run("--chat", "--template", "plain", "--temperature", 0, "--max-new-tokens", 20, "--system", "Tell.", text="Once\n\nThe end\n").stdout
turns = [{"role": "system", "content": "Tell."}, {"role": "user", "content": "Once"}]
reply = answers(run("--jsonl", write([{"messages": turns}]), "--template", "plain", "--temperature", 0, "--max-new-tokens", 20))[0]["text"]
turns += [{"role": "assistant", "content": reply}, {"role": "user", "content": "The end"}]
again = answers(run("--jsonl", write([{"messages": turns}]), "--template", "plain", "--temperature", 0, "--max-new-tokens", 20))[0]["text"]
if said != f"{reply}\n{again}\n":
    fail("a talk and its messages differ:", repr(said), repr(reply), repr(again))
print("failed:", bad)
sys.exit(bad != 0)
PY
