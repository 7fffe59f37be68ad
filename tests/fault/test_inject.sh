#!/usr/bin/env bash
# gptdist-train --inject: each fault happens where it was asked for, and the job does what is promised of it. A NaN in one gradient of
# one rank: all ranks skip the same step, on every layout, and the run that gives up names tensor and rank.
. "$(dirname "${BASH_SOURCE[0]}")/../numerics/lib.sh"

# start NAME RANKS CONFIG ...   as attempt, beside the others; its exit code goes to $work/NAME.code
start() {
  { attempt "$@"; echo $? > "$work/$1.code"; } > /dev/null &
  fewer_jobs_than "${SIDE_BY_SIDE:-6}"
}
left() { [ "$(cat "$work/$1.code")" = "$2" ] || { echo "$1: left with $(cat "$work/$1.code")"; tail -5 "$work/$1.out"; false; }; }
told() { grep -qE "$2" "$work/$1.out" || { tail -5 "$work/$1.out"; false; }; }
# The words of the step at which a run's ranks struck, in their log files: "RANK STEP" a line
strikes() { sed -nE 's/.*--inject .*: struck on rank ([0-9]+), step ([0-9]+)/\1 \2/p' "$work/$1"/log/rank-*.log | sort -u | tr "\n" ","; }
same_text() { [ "$1" = "$2" ] || { echo "found \"$1\", expected \"$2\""; false; }; }

short="run.steps=3 checkpoint.interval_steps=1 checkpoint.keep=9 validation.interval_steps=0 batch.global=8"
nan="--inject=nan@step=2,rank="
mlp=tensor=layers.1.mlp.up.weight
give_up="guard.max_bad_steps=1"

# shellcheck disable=SC2086
{
  # One gradient of one rank, once: the step is skipped by all.
  start one 1 gpt2 $short ${nan}0
  start data-0 2 gpt2 $short ${nan}1,$mlp parallel.zero=0
  start data-1 2 gpt2 $short ${nan}1 parallel.zero=1
  start data-3 3 gpt2 $short ${nan}2,tensor=token_embedding.weight batch.global=9
  start three 1 gpt2 $short ${nan}0 batch.global=9
  start tensor 2 gpt2 $short ${nan}1,$mlp parallel.tensor=2
  start both 4 gpt2 $short ${nan}3,tensor=layers.0.attention.projection.weight parallel.tensor=2 batch.micro=2
  start eager 2 gpt2 $short ${nan}1,$mlp run.device=eager
  start llama 1 llama $short ${nan}0
  start llama-2 4 llama $short ${nan}2 parallel.tensor=2
  start alike 2 gpt2 $short ${nan}1,tensor=final_norm.weight parallel.tensor=2
  start llama-4 4 llama $short ${nan}3,tensor=layers.1.norm2.weight parallel.tensor=2
  # A run that gives up
  start up-data 2 gpt2 $short $give_up ${nan}1,$mlp parallel.zero=0
  start up-both 4 gpt2 $short $give_up ${nan}2,tensor=layers.0.attention.key.weight parallel.tensor=2
  start up-head 4 gpt2 $short $give_up ${nan}3
  start up-lazy 2 gpt2 $short $give_up ${nan}1,$mlp run.device=lazy
  start up-fast 2 gpt2 $short $give_up ${nan}1,$mlp numerics=fast batch.micro=2
  start up-later 2 gpt2 $short guard.max_bad_steps=2 "${nan}1,steps=9,$mlp" "--inject=nan@step=3,rank=0,tensor=final_norm.bias"
  start up-alike 2 gpt2 $short $give_up ${nan}1,tensor=layers.0.norm1.bias parallel.tensor=2
  start up-once 2 gpt2 $short $give_up ${nan}1,times=1
  # Other faults
  start kill 2 gpt2 $short --inject=kill@step=2,rank=1,phase=backward
  start stop 2 gpt2 $short --inject=stop@step=2,rank=0 run.watchdog_s=1
  start stall 2 gpt2 $short --inject=stall@step=2,rank=1,seconds=60,phase=vote run.watchdog_s=1
  start short-stall 2 gpt2 $short --inject=stall@step=2,rank=1,seconds=1
  start shard 2 gpt2 $short --inject=corrupt-shard@rank=1,path=train/00000.h5
  start full 2 gpt2 $short --inject=disk-full@step=2,rank=1,path=rank-00001.h5
  start full-once 2 gpt2 $short --inject=disk-full@step=2,rank=1,path=rank-00001.h5,nth=3,times=1 run.steps=6
  start board 2 gpt2 $short log.tensorboard=true --inject=disk-full@path=tensorboard,rank=0
  start slow 2 gpt2 $short --inject=slow-disk@ms=30,path=checkpoints/,times=20
  for call in write fsync rename unlink mkdir read; do
    case $call in read) path=rank-00000.h5 ;; unlink) path=checkpoints/ ;; *) path=step-00000002 ;; esac
    start call-$call 1 gpt2 $short checkpoint.keep=1 --inject=error@call=$call,path=$path,errno=EIO
  done
  # A bit of a weight, in each kind of copy
  compare=guard.replicas_interval_steps
  start flip-data 2 gpt2 $short $compare=1 --inject=flip@step=2,rank=1,tensor=layers.0.mlp.down.weight parallel.zero=0
  start flip-three 3 gpt2 $short batch.global=9 $compare=1 --inject=flip@step=2,rank=1,tensor=layers.0.mlp.down.weight
  start flip-both 4 gpt2 $short $compare=1 --inject=flip@step=2,rank=3,tensor=final_norm.weight parallel.tensor=2 precision.dtype=$half
  start flip-save 2 gpt2 $short checkpoint.interval_steps=2 $compare=100 --inject=flip@step=2,rank=0,tensor=token_embedding.weight
  start flip-lazy 2 gpt2 $short $compare=1 --inject=flip@step=2,rank=1 run.device=lazy parallel.zero=0
  start flip-missed 2 gpt2 $short checkpoint.interval_steps=0 --inject=flip@step=2,rank=1 parallel.zero=0
  start no-flip 4 gpt2 $short $compare=1 parallel.tensor=2 parallel.zero=0 precision.dtype=$half numerics=fast
  start no-flip-llama 4 llama $short $compare=1 parallel.tensor=2
  start no-flip-lazy 3 gpt2 $short $compare=1 run.device=lazy batch.global=9
  start never 2 gpt2 $short --inject=nan@step=2,rank=0 --inject=kill@step=4,rank=1 --inject=nan@step=3,rank=0
  wait

  for run in data-0 data-1 tensor both eager alike; do
    check "$run: a NaN in one gradient of one rank: the run ends" left $run 0
    check "$run: all ranks skip the step of the NaN" same_state one $run
  done
  check "three data ranks, a named part of the tied table: the same" same_state three data-3
  check "another model, a head of its own: the same" same_state llama llama-2
  check "... in a gradient that tensor ranks hold alike, of another than the first" same_state llama llama-4
  check "it struck on that rank in that step" same_text "$(strikes both)" "3 2,"
  weights() { "$bin/gptdist-ckpt" diff "$work/both/checkpoints/step-0000000$1" "$work/both/checkpoints/step-0000000$2" > "$work/diff" 2>&1; }
  weights 1 2
  check "the skipped step has changed no weight and no moment" same_text "$(grep -E '^different: ' "$work/diff")" "different: 108 tensors equal, 4 differences"
  weights 2 3
  check "the one after it has" eval '! grep -q "108 tensors equal" "$work/diff"'

  for run in up-data up-both up-head up-lazy up-fast up-later up-alike up-once; do check "$run: 77" left $run 77; done
  host=$(hostname)
  check "it names the step" told up-data 'step 2: the loss or the gradient norm was not finite for 1 step in a row .last finite before step 2.'
  check "... tensor and rank" told up-data "not finite is that of layers.1.mlp.up.weight on rank 1 .$host.; the newest"
  check "... in the grid of ranks" told up-both "that of layers.0.attention.key.weight on rank 2 "
  check "... of a tied head" told up-head "that of token_embedding.weight, as the head, on rank 3 "
  check "... where the device runs beside the host" told up-lazy "that of layers.1.mlp.up.weight on rank 1 "
  check "... with sums that go on from one micro-batch to the next" told up-fast "that of layers.1.mlp.up.weight on rank 1 "
  check "... the first in the order of the backward pass, of the last of these steps" told up-later "step 3: .* for 2 steps in a row .* that of final_norm.bias on rank 0 "
  check "... of a gradient that tensor ranks hold alike" told up-alike "that of layers.0.norm1.bias on rank 1 "
  check "exit.json says so, too" grep -q '"code": 77.*layers.1.mlp.up.weight on rank 1' "$work/up-data/exit.json"
  check "a fault that does not come again is said to be one" told up-once "done again, the step is finite: a passing fault"

  check "kill: the rank is lost" eval '[ "$(cat "$work/kill.code")" = 137 ] || [ "$(cat "$work/kill.code")" = 76 ]'
  check "kill: and named" told kill "rank 1 on $host: connection lost"
  check "stop: 76" left stop 76
  check "stop: named" told stop "watchdog: rank 0 on $host .*does not answer"
  check "stall: 76" left stall 76
  check "stall: named, with its phase" told stall "rank 1 on $host: step 2, phase vote"
  check "a short stall ends" left short-stall 0
  check "corrupt-shard: 65" left shard 65
  check "corrupt-shard: the file and the rank are named" told shard "rank 1 on $host: .*train/00000.h5: (is damaged|not a whole HDF5 file)"
  check "disk-full: 74" left full 74
  check "disk-full: told" told full 'rank-00001.h5.*No space left on device'
  check "disk-full, one write: the run goes on" left full-once 0
  check "disk-full as an event file is opened: the run goes on" left board 0
  check "... told" told board "warning: cannot write .*tensorboard/.*No space left on device; the run goes on without these metrics"
  check "... the lines are written" grep -q '"event": "end"' "$work/board/metrics.jsonl"
  check "slow-disk: the run ends" left slow 0
  check "slow-disk: told" told slow "slow-disk.*struck"
  for call in write fsync rename unlink mkdir read; do
    check "error@call=$call: the run goes on" left call-$call 0
    check "error@call=$call: told" told call-$call 'Input/output error|is not what was written'
  done
  for run in data three both save lazy; do
    check "flip-$run: 76" left flip-$run 76
    check "flip-$run: nothing of that step is saved" eval '! ls "$work/flip-$run/checkpoints" | grep -q 0000000[23]'
  done
  check "tensor and ranks are named" told flip-data 'after step 2 the copies of layers.0.mlp.down.weight differ: of rank 1 it is not that of rank 0, and nobody can say who is right'
  check "... the odd one where there is a majority" told flip-three 'copies of layers.0.mlp.down.weight differ: of rank 1 it is not that of ranks 0 2;'
  check "... of what all tensor ranks hold, in the grid of ranks" told flip-both 'copies of final_norm.weight differ: of rank 3 it is not that of ranks 0 1 2;'
  check "... before a save that comes first" told flip-save 'after step 2 the copies of token_embedding.weight differ'
  check "without the key nobody looks" left flip-missed 0
  check "it says in which step it struck" same_text "$(strikes flip-missed)" "1 2,"
  for run in no-flip no-flip-llama no-flip-lazy; do check "$run: copies that are the same are no fault" left $run 0; done
  check "a fault that never happened: 1" left never 1
  check "... is named, and alone" same_text "$(grep -cE 'error: --inject kill@step=4,rank=1: never happened' "$work/never.out") $(grep -c 'never happened' "$work/never.out")" "1 1"
  check "... also in exit.json" grep -q '"code": 1, .*never happened' "$work/never/exit.json"

  for signal in kill stop; do
    timeout 100 "$bin/gptdist-run" -n 2 --max-restarts 1 --restart-pause 0 -- "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/again-$signal" \
      $(printf -- '--set %s ' $short) --set run.watchdog_s=1 --inject=$signal@step=3,rank=1 > "$work/again-$signal.out" 2>&1
    check "$signal, and a start after it: has no fault again, and ends" [ $? -eq 0 ]
    check "... after one restart" [ "$(grep -c 'starting it again' "$work/again-$signal.out")" -eq 1 ]
    check "... in the state of the run that nothing stopped" same_state slow again-$signal
  done

  for text in eror kill@ste=3 kill@step=0 kill@step kill@phase=lunch stall slow-disk@path=x error@call=open error@call=write,errno=EWHAT nan@tensor= nan@ms=3; do
    attempt bad 1 gpt2 $short "--inject=$text" > /dev/null
    check "--inject $text: 64" [ $? -eq 64 ]
    check "--inject $text: the kinds are listed" told bad 'kinds kill, .*, error '
  done
  attempt bad 2 gpt2 $short --inject=flip@tensor=layers.9.norm1.weight > /dev/null
  check "a tensor that the model has not: 64" [ $? -eq 64 ]
  check "... and it is named" told bad 'the model has no tensor "layers.9.norm1.weight"'
}
finish
