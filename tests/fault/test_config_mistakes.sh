#!/usr/bin/env bash
# A mistake in the run file or on the command line is told once in the whole job, with file, line, key, what was found and what
# was expected; the program leaves with 64 before it makes anything.
set -u
bin=$(cd "$1/bin" && pwd) || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export OMP_NUM_THREADS=1
failed=0

for i in $(seq 300); do echo "Line $i of a small text that says the same thing again and again, $((i % 7)) times."; done >text.txt
"$bin/gptdist-data" prepare --tokenizer bytes --validation-fraction 0.1 --output data text.txt >out 2>&1 || { cat out; exit 1; }

# refuse TEXT [ARGUMENT...]: two ranks with run.yaml and these arguments
refuse() {
  local text=$1 code times
  shift
  timeout 60 mpirun --allow-run-as-root --oversubscribe --bind-to none --quiet -np 2 "$bin/gptdist-train" "$@" >out 2>&1 </dev/null
  code=$?
  times=$(grep -cF -- "$text" out)
  if [ "$code" != 64 ] || [ "$times" != 1 ]; then
    echo "FAILED: $* left with $code (expected 64) and said $times times (expected once): $text"
    cat out
    failed=1
  fi
  if [ -e run ]; then
    echo "FAILED: $* made the run directory"
    rm -rf run
    failed=1
  fi
}

run_file() { printf 'run: {directory: run, steps: 3, device: cpu}\ndata: {path: data}\nbatch: {global: 4}\n%s\n' "$1" >run.yaml; }

small='model: {layers: 1, heads: 2, width: 16, context: 16}'
refuse '--config: found none, expected --config FILE'
refuse 'none.yaml: cannot read the run file: No such file or directory' --config none.yaml
refuse 'data: found a folder, expected a run file' --config data
run_file 'optimizer: {lrr: 1e-3}'
refuse 'run.yaml:4: optimizer.lrr: unknown key; did you mean "optimizer.lr"?' --config run.yaml
run_file 'optimzer: {lr: 1e-3}'
refuse 'run.yaml:4: optimzer: unknown section; did you mean "optimizer"?' --config run.yaml
run_file 'model: {layers: twelve}'
refuse 'run.yaml:4: model.layers: found "twelve", expected an integer from 1 to 65535' --config run.yaml
run_file 'model: {dropout: 1.5}'
refuse 'run.yaml:4: model.dropout: found "1.5", expected a number from 0 to below 1' --config run.yaml
run_file $'model:\n\tlayers: 3'
refuse 'run.yaml:5: found a tab, expected spaces' --config run.yaml
: >run.yaml
refuse 'run.yaml: the file is empty' --config run.yaml
run_file "$small"
refuse '--set batch.micro: found "all", expected an integer from 0' --config run.yaml --set batch.micro=all
refuse '--micro-batch-sise: unknown option; did you mean "--micro-batch-size"?' --config run.yaml --micro-batch-sise 4
refuse '--lr (optimizer.lr): found "fast", expected a number' --config run.yaml --lr fast

# What no key alone can show: a layout that does not divide, values that contradict each other; the text says whose line it was.
refuse 'batch.global: from run.yaml:3' --config run.yaml --set batch.micro=4
refuse 'parallel.tensor: from --set' --config run.yaml --set parallel.tensor=3
refuse 'expected a multiple of the 2 data-parallel ranks' --config run.yaml --set batch.global=5
refuse 'optimizer.lr: from --lr' --config run.yaml --lr 1e-6
refuse 'model.width 16 is not a multiple of model.heads 3' --config run.yaml --set model.heads=3
refuse 'model.vocabulary: found 7' --config run.yaml --set model.vocabulary=7
refuse 'finetune.train: "layers.7.*" matches no tensor of this model, which has final_norm.bias, final_norm.weight, layers.N.' \
  --config run.yaml --set 'finetune.train=[layers.7.*]'
refuse 'finetune.train: from --set' --config run.yaml --set finetune.train=top:2
refuse 'finetune.train: found an empty list, expected at least one pattern: else everything would be frozen' --config run.yaml --set 'finetune.train=[]'
refuse 'finetune.train: tells layers.0.attention.query.bias from layers.0.attention.key.bias' --config run.yaml --set 'finetune.train=*.query.bias'
refuse 'optimizer.lr_scale: "classifier.*" matches no tensor of this model' --config run.yaml --set 'optimizer.lr_scale={classifier.*: 5}'
refuse 'optimizer.lr_scale: head.*: found "-1", expected a number from 0 to 1e+06' --config run.yaml --set 'optimizer.lr_scale={head.*: -1}'
refuse 'optimizer.lr_scale: final_norm.*: found "nan", expected a number' --config run.yaml --set 'optimizer.lr_scale={final_norm.*: nan}'
exit "$failed"
