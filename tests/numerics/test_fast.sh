#!/bin/bash
# numerics: fast - layouts differ by rounding only. Twenty steps without dropout: at every step the loss of a layout is no further from
# the one-rank run than the runs whose initial weights were moved by one unit in the last place (docs/rounding.md, "Twenty steps"). The
# bound of the first step, with all gradients, is tests/mpi/test_reference.c.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
command -v python3 > /dev/null || { echo "skipped: no python3 to move weights by an ulp"; exit 77; }

start=$here/reference
settings="numerics=fast run.steps=20 batch.global=24 batch.sequence=16 model.dropout=0 validation.interval_steps=0 \
  checkpoint.interval_steps=0 optimizer.lr=0.003"

# Weights of a Hugging Face folder, each moved up or down by one unit in the last place.
nudge() { # FROM TO SEED
  python3 - "$@" << 'PY'
import json, os, random, shutil, struct, sys
source, target, seed = sys.argv[1:]
random.seed(int(seed))
os.makedirs(target)
shutil.copy(os.path.join(source, "config.json"), target)
raw = open(os.path.join(source, "model.safetensors"), "rb").read()
(length,) = struct.unpack("<Q", raw[:8])
count = (len(raw) - 8 - length) // 4
words = struct.unpack(f"<{count}I", raw[8 + length :])
words = [w + random.choice((-1, 1)) if w & 0x7FFFFFFF else w for w in words]
with open(os.path.join(target, "model.safetensors"), "wb") as f:
    f.write(raw[: 8 + length] + struct.pack(f"<{count}I", *words))
PY
}

losses() {
  curve "$1" | grep '"train"' | sed -E 's/.*"loss": ([-+.e0-9]+).*/\1/'
}

# within WHOLE LAYOUT NEIGHBOUR...: |layout - whole| <= the largest |neighbour - whole| so far + float32's unit roundoff of the loss,
# since the first steps' spread can be smaller than what one sum of the loss loses.
within() {
  local whole=$1 layout=$2 n
  shift 2
  paste <(losses "$whole") <(losses "$layout") $(for n in "$@"; do losses "$n" > "$work/$n.losses"; echo "$work/$n.losses"; done) |
    awk '
      function size(x) { return x < 0 ? -x : x }
      { for (i = 3; i <= NF; i++) if (size($i - $1) > spread) spread = size($i - $1)
        d = size($2 - $1); if (d > most) most = d
        if (d > spread + size($1) / 16777216) { bad = 1; printf "step %d: %.3g apart, spread %.3g\n", NR, d, spread } }
      END { printf "        largest difference %.3g, spread of neighbours %.3g\n", most, spread; exit bad || NR != 20 }'
}

# The reference models have a vocabulary of 61: the corpus is written in characters.
for shape in gpt2 llama; do
  tr -cd '[:print:]\n' < "$work/text.txt" > "$work/chars.txt"
  [ -d "$work/chars" ] || "$bin/gptdist-data" prepare --tokenizer chars --output "$work/chars" "$work/chars.txt" > "$work/chars.log" 2>&1 ||
    { cat "$work/chars.log"; check "characters" false; finish; }
  case $shape in
    gpt2) model="model.layers=2 model.heads=4 model.width=32 model.ffn=128 model.context=16" ;;
    llama) model="model.layers=2 model.heads=4 model.kv_heads=2 model.head_size=6 model.width=24 model.ffn=64 model.context=16" ;;
  esac
  common="$settings $model model.vocabulary=61 data.path=$work/chars"
  # shellcheck disable=SC2086
  {
    train $shape-whole 1 $shape $common model.init_from=$start/$shape parallel.zero=0 || finish
    neighbours=
    for seed in 1 2 3 4; do
      nudge "$start/$shape" "$work/$shape-weights-$seed" $seed
      train $shape-near-$seed 1 $shape $common "model.init_from=$work/$shape-weights-$seed" parallel.zero=0 || finish
      neighbours+=" $shape-near-$seed"
    done
    for layout in "2 2 0 24" "2 1 1 5" "3 1 1 8" "4 2 1 6"; do
      read -r ranks tensor zero micro <<< "$layout"
      name=$shape-n$ranks-t$tensor
      train $name $ranks $shape $common model.init_from=$start/$shape parallel.tensor=$tensor parallel.zero=$zero batch.micro=$micro || finish
      check "$shape fast: $ranks ranks, tensor $tensor, ZeRO $zero, micro-batch $micro: within the spread of one-ulp neighbours" \
        within $shape-whole $name $neighbours
    done
    check "$shape: the losses do fall" awk 'NR == 1 { first = $1 } END { exit !($1 < first - 0.5) }' <(losses $shape-whole)
  }
done
finish
