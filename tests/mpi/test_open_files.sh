#!/usr/bin/env bash
# Rank 0 holds a connection to every rank: a job of more ranks than the soft limit of open files starts all the same, since the
# limit is raised to what the system allows.
. "$(dirname "${BASH_SOURCE[0]}")/../numerics/lib.sh"
if [ "$(ulimit -Hn)" != unlimited ] && [ "$(ulimit -Hn)" -lt 200 ]; then
  echo "skipped: the hard limit of open files is $(ulimit -Hn)"
  exit 77
fi
check "48 ranks with a soft limit of 60 open files" timeout 240 mpirun --oversubscribe --bind-to none --mca btl self,vader -np 48 \
  bash -c 'ulimit -Sn 60 && exec "$@"' with "$bin/gptdist-train" --config "$work/gpt2.yaml" --set run.steps=2 --set batch.global=48 \
  --set validation.interval_steps=0 --set "run.directory=$work/many"
check "... which trained" grep -q '"event": *"end"' "$work/many/metrics.jsonl"
finish
