#!/usr/bin/env bash
# Beam search, greedy choice and their penalties give the ids and scores of transformers (tests/numerics/reference/beams.jsonl), on one
# rank and shared by two.
set -u
build=$1
source=$(cd "$(dirname "$0")/../.." && pwd)
llama=$source/../shared/data/models/stories260K
[ -d "$llama" ] || { echo "skipped: no ../shared/data"; exit 77; }
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

python3 - "$build/bin/gptdist-generate" "$llama" "$source/tests/numerics/reference/beams.jsonl" <<'PY' || exit 1
import json, subprocess, sys, tempfile
program, model, reference = sys.argv[1:]
common = ["--checkpoint", model, "--threads", "1", "--temperature", "0", "--json"]
ranks = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2"]
bad = 0

def options(case):
    out = ["--end-ids", " ".join(map(str, case["ends"]))]
    for key, value in case["options"].items():
        name = "--beams" if key == "num_beams" else "--" + key.replace("_", "-")
        out += [name, {False: "no", True: "yes"}[value] if isinstance(value, bool) else str(value)]
    return out

def compare(case, got, what):
    global bad
    want = case["ids"]
    while want and (want[-1] == 0 or want[-1] in case["ends"]):  # padding and the end
        want = want[:-1]
    close = "score" not in case or abs(got["score"] - case["score"]) <= 1e-4 * abs(case["score"])
    if got["token_ids"] != want or not close:
        bad += 1
        print(f"FAILED: {what}: {case['options']} {case['ends']}: expected {want} {case.get('score')}, found", got["token_ids"], got.get("score"))

cases = [json.loads(line) for line in open(reference)]
for number, case in enumerate(cases):
    prompt = ["--token-ids", " ".join(map(str, case["prompt"]))]
    for start in [[], ranks] if number % 23 == 5 else [[]]:
        done = subprocess.run([*start, program, *common, *prompt, *options(case)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"FAILED: {case}: exit code {done.returncode}: {done.stderr}")
        compare(case, json.loads(done.stdout), "two ranks" if start else "alone")

# Searches one after the other, as lines.
same = [c for c in cases if c["options"] == cases[2]["options"] and c["ends"] == cases[2]["ends"]]
with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as lines:
    for case in same:
        print(json.dumps({"token_ids": case["prompt"]}), file=lines, flush=True)
    done = subprocess.run([program, *common, "--jsonl", lines.name, *options(same[0])], capture_output=True, text=True)
    for case, line in zip(same, done.stdout.splitlines()):
        compare(case, json.loads(line), "as lines")
    bad += len(done.stdout.splitlines()) != len(same) or len(same) < 3
print(len(cases), "cases,", bad, "failed")
sys.exit(bad != 0)
PY
