#!/usr/bin/env bash
# --json: in every program each line of stdout is one JSON document with the fields that docs/formats.md names.
set -u
command -v python3 >/dev/null || { echo 'skipped: no python3'; exit 77; }
bin=$(cd "$1/bin" && pwd) || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export OMP_NUM_THREADS=1
failed=0
: >in # standard input of the programs

# expect LINES FIELDS PROGRAM ARGUMENT...: so many documents (N+: at least), each with all FIELDS of the first that fits: "a,b" or
# "event=start:a,b event=train:c" (by a field's value)
expect() {
  local lines=$1 fields=$2 program=$3
  shift 3
  timeout 100 "$bin/gptdist-$program" "$@" >out 2>said <in
  python3 - "$lines" "$fields" <<'END' || { echo "FAILED: gptdist-$program $*"; tail -3 said; failed=1; }
import json, sys
lines, groups = sys.argv[1], sys.argv[2].split()
text = open("out").read()
assert text.endswith("\n"), "stdout is empty or its last line has no end"
documents = []
for line in text.splitlines():
    try:
        documents.append(json.loads(line, parse_constant=int))  # int("NaN") fails
    except ValueError as fault:
        sys.exit(f"not JSON: {line[:120]} ({fault})")
assert all(isinstance(d, dict) for d in documents), "a line is no object"
count = int(lines.rstrip("+"))
assert len(documents) == count or (lines.endswith("+") and len(documents) > count), f"{len(documents)} documents, expected {lines}"
seen = set()
for d in documents:
    for group in groups:
        which, _, names = group.rpartition(":")
        key, _, value = which.partition("=")
        if which and str(d.get(key)) != value:
            continue
        seen.add(group)
        missing = [name for name in names.split(",") if name not in d]
        assert not missing, f"{d} lacks {missing}"
assert seen == set(groups), f"no document for {set(groups) - seen}"
END
}

for i in $(seq 120); do echo "Line $i of a \"small\" text\\that says the same again, $((i % 7)) times."; done >text.txt
echo 'run: {steps: 2, directory: run}' >run.yaml
settings=(--config run.yaml --set run.device=cpu --set data.path=data --set model.layers=1 --set model.heads=2 --set model.width=32
  --set model.context=16 --set batch.global=2)
echo '{"text": "a small word"}' >lambada.jsonl
echo '{"text": "a b"}' >lambada-short.jsonl
echo '{"goal": "say", "sol1": "the same", "sol2": "times", "label": 0}' >piqa.jsonl

expect 1 output,bytes,vocabulary,train_tokens,train_documents,validation_tokens,validation_documents,seconds data prepare --json --tokenizer bytes --validation-fraction 0.2 --output data text.txt
expect 3+ 'event=start:step,tokens event=train:step,tokens,loss,lr,grad_norm,ms,tokens_per_s,tflops,mfu,memory_bytes,skipped
  event=validation:loss,ms event=checkpoint:step,ms event=end:step,tokens
  event=profile:step,tokens,steps,seconds,peak_operations_per_s,copy_bytes_per_s,kernels,products' \
  train "${settings[@]}" --json --set log.profile=true --set validation.interval_steps=1 --set validation.batches=1
python3 - <<'END' || { echo 'FAILED: stdout of training is not metrics.jsonl'; failed=1; }
assert open("out").read() == open("run/metrics.jsonl").read()
END
expect 1 event,parameters,vocabulary,padded_vocabulary,ranks,data,tensor,zero,blocks,threads,dtype,numerics,sequences,micro,sequence,memory_bytes,gpu_bytes,snapshot_bytes,checkpoint_bytes,step_tokens,step_flops,data_bytes_sent,tensor_bytes_sent,document_bytes_sent,step_rows \
  train "${settings[@]}" --dry-run --json
for program in train data generate eval ckpt run; do
  expect 60+ key,type,unit,default,help,options $program --help-config --json
  expect 60+ 'key=optimizer.lr_scale:minimum,maximum type=number:key type=choice:choices type=integer:minimum,maximum' $program --json --help-config
  expect 1 program,version $program --json --version
done
expect 2 folder,tokenizer,tokenizer_digest,vocabulary,eot,tokens,documents,shards,digest data inspect --json data
expect 2+ folder data verify --json data
expect 2 row,draw,source,epoch,window,token,file data at "${settings[@]}" --step 0 --json
echo 'a "word"' >in
expect 1 ids data encode --tokenizer bytes --json
printf '97, 34\n10 98\n' >in
expect 2 text data decode --tokenizer bytes --json
: >in
expect 1 output,vocabulary,merges,bytes,words,seconds data train-tokenizer --vocab-size 300 --output words --json text.txt
expect 1 prompt_tokens,text,token_ids,stopped_by,tokens_per_s generate --checkpoint run --prompt 'Line "1"' --max-new-tokens 3 --json
expect 1 task,loss,perplexity,tokens,windows,tokens_per_s eval --checkpoint run --task perplexity --data data --json
expect 1 task,loss,perplexity,bits_per_byte eval --checkpoint run --task perplexity --data text.txt --json
expect 2 position,token,logits eval --checkpoint run --task logits --token-ids '1 2' --json
expect 1 task,accuracy,standard_error,perplexity,items eval --checkpoint run --task lambada --data lambada.jsonl --json
expect 1 task,accuracy,standard_error,accuracy_by_byte,items eval --checkpoint run --task piqa --data piqa.jsonl --json
python3 - <<'END'
import json, os, struct
shapes = {"wte.weight": [257, 2], "wpe.weight": [8, 2], "ln_f.weight": [2], "ln_f.bias": [2]}
for name, shape in (("ln_1", [2]), ("ln_2", [2])):
    shapes |= {f"h.0.{name}.weight": shape, f"h.0.{name}.bias": shape}
for name, out, width in (("attn.c_attn", 6, 2), ("attn.c_proj", 2, 2), ("mlp.c_fc", 8, 2), ("mlp.c_proj", 2, 8)):
    shapes |= {f"h.0.{name}.weight": [width, out], f"h.0.{name}.bias": [out]}
header, data = {}, b""
for name, shape in shapes.items():
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * count]}
    data += struct.pack(f"<{count}f", *[float("nan") if name == "ln_f.bias" else 0.5] * count)
text = json.dumps(header).encode()
os.mkdir("nan")
open("nan/model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
json.dump({"architectures": ["GPT2Model"], "n_embd": 2, "n_head": 1, "n_layer": 1, "n_positions": 8, "vocab_size": 257},
          open("nan/config.json", "w"))
END
expect 1 loss=None:perplexity,bits_per_byte eval --checkpoint nan --tokenizer bytes --task perplexity --data text.txt --json
expect 2 position,logits eval --checkpoint nan --task logits --token-ids '1 2' --json
expect 1 perplexity=None:accuracy eval --checkpoint nan --tokenizer bytes --task lambada --data lambada-short.jsonl --json
expect 1 path,step,tokens,draws,applied_steps,bad_steps,metric,best_step,validated_step,wait,lr_wait,lr_factor,mesh,files,tokenizer,kinds,tensors,settings ckpt inspect run --settings --json
expect 1+ path,whole,reason ckpt verify run --json
expect 1 hash,step ckpt hash run --json
cp -r run other && "$bin/gptdist-train" "${settings[@]}" --set run.directory=other --set run.steps=3 >said 2>&1
expect 1 equal,equal_tensors,differences ckpt diff run run --json
expect 2+ 'kind=state:name,difference equal=False:equal_tensors,differences' ckpt diff run other --json
expect 1 line,words run -n 2 --print --json -- gptdist-train --config 'a "file"'
expect 7+ 'check=mpi:check,good,text check=links:check,good,text check=link:ranks,hosts,bytes_per_s,of_median,latency_us
  check=rank:rank,host,operations_per_s,copy_bytes_per_s,of_median' run --doctor --json -n 2

# ---- an output that the system refuses: 74, told once; a line of training is a warning (tests/fault/test_faulty_disk.sh) ----
refused() { # PROGRAM ARGUMENT...
  [ -c /dev/full ] || return 0
  timeout 100 "$bin/gptdist-$1" "${@:2}" >/dev/full 2>said <in
  local code=$?
  [ "$code $(grep -c 'standard output: ' said)" = '74 1' ] || { echo "FAILED: to a full disk, $code: gptdist-$*"; tail -3 said; failed=1; }
}
python3 -c 'import json; print(json.dumps({"token_ids": [1], "id": "x" * 9000}))' >long.jsonl # more than what waits for a write
refused generate --checkpoint run --jsonl long.jsonl --max-new-tokens 1
refused generate --checkpoint run --prompt a --max-new-tokens 3
refused generate --checkpoint run --prompt a --max-new-tokens 3 --json
refused eval --checkpoint run --task logits --token-ids '1 2' --json
refused eval --checkpoint run --task perplexity --data data
refused eval --task exact --hypotheses text.txt --references text.txt
refused data inspect data
refused data at "${settings[@]}" --step 0
refused ckpt inspect run
refused ckpt diff run other
refused run -n 2 --print -- gptdist-train
refused train --help-config
refused data --help
exit $failed
