# eval_checks.sh - shared by the scripts that try gptdist-eval. Source it with the build folder in $1: it sets `bin` and works in a
# scratch folder, removed at the end. Skips without python3.
set -u
command -v python3 >/dev/null || { echo 'skipped: no python3'; exit 77; }
bin=$(cd "$1/bin" && pwd) || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
failed=0
fail() { echo "FAILED: $*"; failed=1; }
prepare() { # prepare OUTPUT OPTION...: of bytes, unless an option names another tokenizer
  "$bin/gptdist-data" prepare --tokenizer bytes --output "$@" >out 2>&1 || { cat out; exit 1; }
}
train() { # train RUN DATA KEY=VALUE...: 12 steps of a small model, whose shape the caller names
  local name=$1 data=$2 settings=() s
  shift 2
  for s in "$@"; do settings+=(--set "$s"); done
  echo 'run: {steps: 12, device: cpu, threads: 1}' >run.yaml
  "$bin/gptdist-train" --config run.yaml --set run.directory="$name" --set data.path="$data" --set model.heads=2 --set model.width=32 \
    --set batch.global=8 --set optimizer.lr=1e-2 --set schedule.kind=constant --set schedule.warmup_steps=0 --set model.dropout=0 \
    "${settings[@]}" >out 2>&1 || { cat out; exit 1; }
}
