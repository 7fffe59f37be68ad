#!/usr/bin/env bash
# Threads that nobody asked for are the cores that a rank may use: its affinity mask, shared by the ranks that have the same.
. "$(dirname "${BASH_SOURCE[0]}")/../numerics/lib.sh"
cores=$(env -u OMP_NUM_THREADS nproc)
if [ "$cores" -lt 2 ]; then
  echo "skipped: one core"
  exit 77
fi

# threads NAME COMMAND...   of the run NAME, started by COMMAND with the training's words behind it
threads() {
  local name=$1
  shift
  timeout 120 "$@" "$bin/gptdist-train" --config "$work/gpt2.yaml" --set run.steps=2 --set run.threads=0 \
    --set "run.directory=$work/$name" > "$work/$name.out" 2>&1 < /dev/null || tail -5 "$work/$name.out"
  sed -n 's/^ *threads: *//p' "$work/$name/config.yaml"
}
is() { [ "$1" = "$2" ] || { echo "$1 threads, expected $2"; return 1; }; }

first=$(taskset -cp $$ | sed -E 's/.*: ([0-9]+).*/\1/')
check "a rank on all cores has a thread for each" is "$(threads all env)" "$cores"
check "a rank bound to one core has one" is "$(threads bound taskset -c "$first")" 1
check "two ranks on the same cores share them" is "$(threads shared mpirun --oversubscribe --bind-to none -np 2)" $((cores / 2))
check "two ranks bound to one core each have one" is "$(threads each mpirun --bind-to core -np 2)" 1
check "more ranks than cores have one each" is "$(threads many mpirun --oversubscribe --bind-to none -np $((cores + 1)) env X=1)" 1
finish
