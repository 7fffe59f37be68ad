#!/usr/bin/env bash
# One rule for files in every program: what a person named and is not there is 64; a file that another file names and that is
# missing, or whose bytes are wrong, is 65; what the system refuses (rights, a failing device) is 74. One clear line, which names
# the path and no source file.
set -u
bin=$(cd "$1/bin" && pwd) || exit 1
folder=$(mktemp -d) || exit 1
# mpirun itself complains in a container without /sys; that is not what is counted here.
export HWLOC_HIDE_ERRORS=2
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export OMP_NUM_THREADS=1
failed=0

for i in $(seq 120); do echo "Line $i of a small text that says the same again, $((i % 7)) times."; done >text.txt
small="--set run.device=cpu --set data.path=data --set model.layers=1 --set model.heads=2 --set model.width=32 --set model.context=16
  --set batch.global=2"
{
  "$bin/gptdist-data" prepare --tokenizer bytes --output data text.txt &&
    echo 'run: {steps: 2}' >run.yaml && echo 'include: lost.yaml' >including.yaml && printf 'run: {steps\n' >broken.yaml &&
    # shellcheck disable=SC2086
    "$bin/gptdist-train" --config run.yaml $small --set run.directory=run
} >out 2>&1 || { cat out; exit 1; }

# Damaged copies, and what rights forbid.
mkdir empty locked && : >locked/file
cp -r data data-lost && rm data-lost/train/00000.h5
cp -r data data-cut && truncate -s -100 data-cut/train/00000.h5
cp -r data data-noindex && rm data-noindex/train/index.json
checkpoint=run/checkpoints/step-00000002
cp -r $checkpoint lost && rm lost/rank-00000.h5
cp -r $checkpoint cut && truncate -s -100 cut/rank-00000.h5
cp -r $checkpoint unmanifest && echo 'nonsense' >unmanifest/MANIFEST.pb
mkdir hf && echo '{"architectures":["GPT2Model"],"n_embd":4,"n_head":2,"n_layer":1,"vocab_size":3}' >hf/config.json
mkdir hf-index && cp hf/config.json hf-index && echo '{"weight_map":{"wte.weight":"a.safetensors"}}' >hf-index/model.safetensors.index.json
mkdir hf-cut && cp hf/config.json hf-cut && echo 'cut' >hf-cut/model.safetensors
cp -r hf-cut hf-locked && chmod 000 hf-locked/model.safetensors
mkdir gpt2 && echo '{' >gpt2/vocab.json && echo x >gpt2/merges.txt
echo '{"text": 3}' >items.jsonl
printf 'a\377b\n' >bytes.txt
head -c 40 /dev/urandom >cut.txt.gz
for name in config.yaml text.txt items.jsonl; do cp run.yaml "locked-$name"; chmod 000 "locked-$name"; done
cp -r data data-locked && chmod 000 data-locked/train/00000.h5
cp -r $checkpoint checkpoint-locked && chmod 000 checkpoint-locked/rank-00000.h5
chmod 000 locked
chmod 755 .
as_nobody=()
if [ "$(id -u)" = 0 ]; then # root's rights do not end at a file's mode
  as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups env "HOME=$folder")
  cp "$bin"/gptdist-* . && "${as_nobody[@]}" ./gptdist-ckpt --version >/dev/null 2>&1 || { echo 'setpriv does not work here'; as_nobody=(); }
fi

job=() # before the program
# row CODE TEXT PROGRAM ARGUMENT...: its exit code, and the one line (with lines of context below) that says TEXT
row() {
  local code=$1 text=$2 got program=$3
  shift 3
  if [ "$code" = 74 ] && [ "$(id -u)" = 0 ] && [ ${#as_nobody[@]} -gt 0 ]; then
    timeout 60 "${as_nobody[@]}" "./gptdist-$program" "$@" 2>out >/dev/null </dev/null
  elif [ "$code" = 74 ] && [ "$(id -u)" = 0 ]; then
    return
  else
    timeout 60 "${job[@]}" "$bin/gptdist-$program" "$@" 2>out >/dev/null </dev/null
  fi
  got=$?
  grep -v -e '^device: ' -e '^data: ' -e '^  ' out >said
  if [ "$got" != "$code" ] || [ "$(wc -l <said)" != 1 ] || ! grep -qF -- "$text" said || grep -q '\.[ch]:[0-9]' said; then
    echo "FAILED: gptdist-$program $* left with $got, expected $code and one line with: $text"
    cat out
    failed=1
  fi
}

train() { # shellcheck disable=SC2086
  row "$1" "$2" train --config run.yaml $small --set "run.directory=new" "${@:3}"
}
generate() { row "$1" "$2" generate --max-new-tokens 1 "${@:3}"; }
evaluate() { row "$1" "$2" eval --checkpoint $checkpoint "${@:3}"; }

row 64 'nowhere.yaml' train --config nowhere.yaml
row 64 'lost.yaml' train --config including.yaml
row 64 'broken.yaml:' train --config broken.yaml
row 64 'data: found a folder' train --config data
row 74 'locked-config.yaml' train --config locked-config.yaml
row 74 '/proc/self/mem: read' train --config /proc/self/mem
train 64 'nowhere: No such file' --set data.path=nowhere
train 65 'data-lost/train/00000.h5' --set data.path=data-lost
train 65 'data-noindex' --set data.path=data-noindex
train 65 'empty: no train/' --set data.path=empty
train 64 'nowhere: No such file' --set model.init_from=nowhere
train 65 'empty: found neither' --set model.init_from=empty
train 65 'hf: found neither' --set model.init_from=hf
train 65 'a.safetensors' --set model.init_from=hf-index
train 65 'model.safetensors' --set model.init_from=hf-cut
train 65 'lost/rank-00000.h5' --set model.init_from=lost
train 64 'nowhere: No such file' --resume nowhere
train 65 'empty: found no checkpoint' --resume empty
train 65 'cut/rank-00000.h5' --resume cut
train 74 'cannot make the folder' --set run.directory=/proc/new
row 74 'locked' train --config run.yaml --set data.path=locked --set run.directory=new

for verb in inspect verify hash; do
  row 64 'nowhere: No such file' ckpt $verb nowhere
  row 64 'text.txt: found a file' ckpt $verb text.txt
  row 65 'empty: found no checkpoint' ckpt $verb empty
  row 65 'lost/rank-00000.h5' ckpt $verb lost
  row 65 'unmanifest' ckpt $verb unmanifest
  row 74 'locked: Permission denied' ckpt $verb locked
  row 74 'rank-00000.h5: Permission denied' ckpt $verb checkpoint-locked
done
row 64 'nowhere: No such file' ckpt diff $checkpoint nowhere

generate 64 'nowhere: No such file' --checkpoint nowhere
generate 64 'text.txt: found a file' --checkpoint text.txt
generate 65 'empty: found neither' --checkpoint empty
generate 65 'cut/rank-00000.h5' --checkpoint cut
generate 74 'locked: Permission denied' --checkpoint locked
generate 64 'nowhere.txt: No such file' --checkpoint $checkpoint --prompt-file nowhere.txt
generate 64 'data: found a folder' --checkpoint $checkpoint --prompt-file data
generate 74 'locked-text.txt: Permission denied' --checkpoint $checkpoint --prompt-file locked-text.txt
generate 74 '/proc/self/mem: Input/output error' --checkpoint $checkpoint --prompt-file /proc/self/mem
generate 74 'hf-locked/model.safetensors: Permission denied' --checkpoint hf-locked --token-ids 1
generate 65 'hf-cut/model.safetensors' --checkpoint hf-cut --token-ids 1
generate 64 'nowhere: No such file' --checkpoint $checkpoint --tokenizer gpt2:nowhere
generate 74 'locked-text.txt: Permission denied' --checkpoint $checkpoint --tokenizer tiktoken:locked-text.txt

evaluate 64 'nowhere: No such file' --task perplexity --data nowhere
evaluate 65 'empty: found neither index.json nor validation/' --task perplexity --data empty
evaluate 65 'data-lost/train/00000.h5' --task perplexity --data data-lost/train
evaluate 74 'locked-text.txt: Permission denied' --task perplexity --data locked-text.txt
evaluate 64 'nowhere.jsonl: No such file' --task lambada --data nowhere.jsonl
evaluate 64 'data: found a folder' --task lambada --data data
evaluate 65 'expected "text"' --task lambada --data items.jsonl
evaluate 74 'locked-items.jsonl: Permission denied' --task lambada --data locked-items.jsonl
evaluate 64 'nowhere.model: No such file' --task lambada --data items.jsonl --tokenizer tiktoken:nowhere.model
row 64 'nowhere: No such file' eval --task logits --token-ids 1 --checkpoint nowhere

for verb in inspect verify; do
  row 64 'nowhere: No such file' data $verb nowhere
  row 65 'empty: no train/' data $verb empty
  row 65 'data-lost/train/00000.h5' data $verb data-lost
  row 74 'locked: Permission denied' data $verb locked
done
row 65 'data-cut/train/00000.h5' data verify data-cut
row 74 'data-locked/train/00000.h5: Permission denied' data verify data-locked
row 64 'nowhere.txt: No such file' data prepare --tokenizer bytes --output new-data nowhere.txt
row 65 'cut.txt.gz' data prepare --tokenizer bytes --output new-data cut.txt.gz
row 74 'locked-text.txt' data prepare --tokenizer bytes --output /tmp/none-$$ locked-text.txt
row 64 'nowhere: No such file' data prepare --tokenizer gpt2:nowhere --output new-data text.txt
row 65 'empty: expected encoder.json' data prepare --tokenizer gpt2:empty --output new-data text.txt
row 65 'gpt2/vocab.json' data prepare --tokenizer gpt2:gpt2 --output new-data text.txt
row 64 'nowhere: No such file' data encode --tokenizer tiktoken:nowhere
row 64 'nowhere.yaml' data at --config nowhere.yaml --step 1
row 64 '/nowhere/program' run -n 1 -- /nowhere/program

# A limit on the size of files is what a full disk is.
(ulimit -f 1; exec "$bin/gptdist-data" prepare --tokenizer bytes --output limited text.txt) >out 2>&1
code=$?
[ $code = 74 ] && grep -qF 'File too large' out || { echo "FAILED: a file beyond ulimit -f: left with $code"; cat out; failed=1; }

# The same on two ranks: agreed, told once.
if command -v mpirun >/dev/null; then
  job=(mpirun --allow-run-as-root --oversubscribe --bind-to none --quiet -np 2)
  row 64 'nowhere.yaml' train --config nowhere.yaml
  train 64 'nowhere: No such file' --set data.path=nowhere
  train 64 'nowhere: No such file' --set model.init_from=nowhere
  train 65 'a.safetensors' --set model.init_from=hf-index
  train 64 'nowhere: No such file' --resume nowhere
  train 65 'empty: found no checkpoint' --resume empty
  generate 64 'nowhere: No such file' --checkpoint nowhere
  generate 64 'nowhere.txt: No such file' --checkpoint $checkpoint --prompt-file nowhere.txt
  evaluate 64 'nowhere: No such file' --task perplexity --data nowhere
  evaluate 65 'expected "text"' --task lambada --data items.jsonl
  row 64 'nowhere.txt: No such file' data prepare --tokenizer bytes --output new-data nowhere.txt
fi
exit $failed
