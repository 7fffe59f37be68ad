#!/usr/bin/env bash
# The Python in docs/formats.md reads a checkpoint of four ranks without gptdist and computes the hash that gptdist-ckpt prints, of a run
# that waits for nothing and of one in mid-patience.
set -u
bin=$(cd "$1/bin" && pwd) || exit 1
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd) || exit 1
python=${GPTDIST_TEST_PYTHON:-python3}
"$python" -c 'import h5py, numpy' 2>/dev/null || { echo 'skipped: no Python with h5py and NumPy'; exit 77; }
command -v protoc >/dev/null || { echo 'skipped: no protoc'; exit 77; }
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export OMP_NUM_THREADS=1

for i in $(seq 300); do echo "Line $i of a small text that says the same thing again and again, $((i % 7)) times."; done >text.txt
"$bin/gptdist-data" prepare --tokenizer bytes --validation-fraction 0.1 --output data text.txt >out 2>&1 || { cat out; exit 1; }
cat >run.yaml <<END
run: {directory: run, steps: 2, device: cpu}
data: {path: data}
model: {layers: 2, heads: 4, width: 32, context: 16}
batch: {global: 4}
parallel: {tensor: 2, zero: 1}
checkpoint: {interval_steps: 1}
validation: {interval_steps: 1, batches: 1, patience: 5, min_gain: 100}   # the first validation is a gain, the second is none
END
timeout 100 mpirun --allow-run-as-root --oversubscribe --bind-to none --quiet -np 4 "$bin/gptdist-train" --config run.yaml >out 2>&1 </dev/null ||
  { cat out; exit 1; }

cat >programs.py <<'END'
import re, sys
text = open(sys.argv[1]).read()
programs = re.findall(r"```python\n(.*?)```", text, re.S)
open("read.py", "w").write(programs[0] + programs[1])
open("shard.py", "w").write(programs[2].replace("DIR/", "data/"))
END
"$python" programs.py "$source/docs/formats.md" || exit 1
for step in 1 2; do
  checkpoint=$folder/run/checkpoints/step-0000000$step
  "$bin/gptdist-ckpt" inspect --json "$checkpoint" | grep -q "\"wait\": $((step - 1))," || { echo "FAILED: step $step does not wait as meant"; exit 1; }
  (cd "$checkpoint" && sha256sum -c --quiet SHA256SUMS) || { echo 'FAILED: sha256sum -c'; exit 1; }
  ours=$("$bin/gptdist-ckpt" hash "$checkpoint")
  theirs=$(cd "$source" && "$python" "$folder/read.py" "$checkpoint" | tail -1)
  [ -n "$ours" ] && [ "$ours" = "$theirs" ] || { echo "FAILED: gptdist-ckpt says $ours, Python says $theirs"; exit 1; }
done
"$python" shard.py | grep -q gptdist-tokens || { echo 'FAILED: the shard was not read'; exit 1; }
echo "both say $ours"
