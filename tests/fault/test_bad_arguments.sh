#!/usr/bin/env bash
# Random command lines, from a seed, for every program: none crashes or hangs, each leaves with a documented exit code, and one that
# fails says one clear line. Usage: test_bad_arguments.sh BUILD [SEED [LINES A PROGRAM]]
set -u
command -v python3 >/dev/null || { echo 'skipped: no python3'; exit 77; }
bin=$(cd "$1/bin" && pwd) || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export OMP_NUM_THREADS=1
for i in $(seq 60); do echo "Line $i of a small text."; done >text.txt
{
  "$bin/gptdist-data" prepare --tokenizer bytes --output data text.txt && echo 'run: {steps: 1, directory: run, device: cpu}' >run.yaml &&
    "$bin/gptdist-train" --config run.yaml --set data.path=data --set model.layers=1 --set model.heads=2 --set model.width=16 \
      --set model.context=16 --set batch.global=1
} >out 2>&1 || { cat out; exit 1; }
python3 - "$bin" "${2:-1}" "${3:-14}" <<'END'
import os, random, re, subprocess, sys

bin, seed, lines = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(seed)
documented = {0, 1, 64, 65, 71, 74}
# What one may give for a value. No path leads out of this folder but to files that cannot be harmed.
values = ["", "0", "-1", "1", "2", "3.5", "nan", "inf", "-inf", "1e999", "1e-999", "0x10", "7seven", "9223372036854775808",
          "-9223372036854775809", "18446744073709551616", "%s%n%d", "a" * 300, "b" * 5000, "\xff\xfe", "=", "==", ",", ":", "-", "--",
          "tru", "null", "~", "[1, 2]", "{a: 1}", "&x *x", "'", '"', "\t", "nowhere", "nowhere/at/all", "text.txt", "text.txt/x", "run",
          "data", "data/train", "run.yaml", ".", "/dev/null", "/proc/self/mem", "gpt2:data", "tiktoken:text.txt", "hf:run.yaml",
          "llama2c:run.yaml", "bytes", "bytes:x", "chars", "chars:text.txt", "perplexity", "logits", "lambada", "piqa", "hellaswag",
          "1 2 3", "1 2 999999999999", "float32", "bfloat16", "cpu", "cuda", "auto", "90s", "-2h", "1d1"]
keys = [k + "=" for k in ("model.layers", "model.width", "model.heads", "run.steps", "run.seed", "data.path", "batch.global", "batch.micro",
                          "optimizer.lr", "numerics", "parallel.tensor", "model.init_from", "run", "", "x.y", "model.")]


def options(program, *verb):
    text = subprocess.run([f"{bin}/{program}", *verb, "--help"], capture_output=True, text=True).stdout
    found = re.findall(r"^  (-[-\w]+)(?: (\S+))? ", text, re.M)
    return [(name, word) for name, word in found if name not in ("--help", "--help-config", "--doctor", "--doctor-rank")]


def good(word):
    if "|" in word:
        return random.choice(word.split("|"))
    return random.choice({"DIR": ["run", "data", "new"], "FILE": ["text.txt", "run.yaml"], "F": ["text.txt", "data/train"], "TEXT": ["Line"],
                          "SPEC": ["bytes", "data"], "IDS": ["1 2 3"], "TASK": ["perplexity", "logits"], "X": ["0.1"], "P": ["0.5"],
                          "SECTION.KEY=VALUE": ["run.seed=3"], "T": ["1", "5s"], "A,B:4": ["a:2"]}.get(word, ["1", "2", "8"]))


def one_line(known, first=(), last=()):
    line = list(first)
    for _ in range(random.randrange(1, 5)):
        kind = random.random()
        name, word = random.choice(known)
        value = good(word) if kind < 0.7 else random.choice(values)
        if kind > 0.97:
            name = name + random.choice("xX-_ ")
        if kind > 0.95:
            line.append(random.choice(values))
        elif name == "--set" and kind > 0.4:
            line += ["--set", random.choice(keys) + random.choice(values)]
        elif not word:
            line.append(name)
        else:
            line += [name + "=" + value] if kind * 10 % 1 < 0.3 else [name, value]
    return line + list(last)


def command_lines():
    for program, first, last in (
            ("gptdist-train", [], []), ("gptdist-train", ["--config", "run.yaml", "--set", "data.path=data", "--set", "model.context=16"], ["--dry-run"]), ("gptdist-ckpt", [], []),
            ("gptdist-ckpt", ["inspect", "run"], []), ("gptdist-generate", [], []),
            ("gptdist-generate", ["--checkpoint", "run", "--max-new-tokens", "1"], []), ("gptdist-eval", [], []),
            ("gptdist-eval", ["--checkpoint", "run", "--task", "perplexity", "--data", "text.txt"], []),
            ("gptdist-eval", ["--checkpoint", "run", "--task", "logits", "--token-ids", "1 2"], []), ("gptdist-run", ["--print"], []),
            ("gptdist-run", ["--print"], ["--", "gptdist-train"]), ("gptdist-data", [], []),
            *(("gptdist-data", [verb], last) for verb, last in
              (("prepare", ["text.txt"]), ("train-tokenizer", ["text.txt"]), ("encode", []), ("decode", []), ("inspect", []),
               ("verify", []), ("at", [])))):
        verb = first if program == "gptdist-data" else []
        known = options(program, *verb)
        for i in range(lines if not verb else lines // 2):
            yield [program, *one_line(known, first, last)]


bad = count = 0
for line in command_lines():
    count += 1
    try:
        done = subprocess.run([f"{bin}/{line[0]}", *[os.fsencode(w.encode("latin-1")) for w in line[1:]]], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=60)
        code, said = done.returncode, done.stderr.decode("latin-1")
    except subprocess.TimeoutExpired:
        code, said = "a hang of 60 s", ""
    told = [row for row in said.splitlines() if row and not row.startswith(("  ", "device: ", "data: ", line[0] + ": warning: "))]
    clear = code in (0, 1) or (len(told) == 1 and told[0].startswith(line[0] + ": ") and len(told[0]) > len(line[0]) + 12)
    if code not in documented or not clear or re.search(r"\.[ch]:\d+|AddressSanitizer|runtime error", said):
        bad += 1
        print("FAILED:", [w[:60] for w in line], "left with", code, "and said", said[:500])
print(f"{count} command lines, seed {seed}: {bad} bad")
sys.exit(bad > 0)
END
