#!/usr/bin/env bash
# gptdist-run: the line it builds, whom it believes, when it starts a job again, and how it passes on a stop. The job is a
# stand-in for gptdist-train; mpirun is the real one.
set -u
bin=$(cd "$1/bin" && pwd) || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
unset SLURM_JOB_ID SLURM_NTASKS
failed=0

# expect CODE TEXT COMMAND...: the exit code, and a text in what it says
expect() {
  local code=$1 text=$2 got
  shift 2
  timeout 60 "$@" >out 2>&1 </dev/null
  got=$?
  if [ "$got" != "$code" ] || { [ -n "$text" ] && ! grep -qF -- "$text" out; }; then
    echo "FAILED: $* left with $got (expected $code), expected text: $text"
    cat out
    failed=1
  fi
}
refuse_text() {
  if grep -qF -- "$1" out; then
    echo "FAILED: found \"$1\" in:"
    cat out
    failed=1
  fi
}

cat >gptdist-train <<'SH'
#!/usr/bin/env bash
# Writes what it is told to exit.json, counts its starts, leaves with $JOB_CODE.
[ "${OMPI_COMM_WORLD_RANK:-0}" = 0 ] || exit 0
echo start >>starts
if [ -n "${JOB_WAIT-}" ]; then
  trap 'echo stopped >>starts; echo "{\"code\": 75, \"reason\": \"saved\", \"launch\": \"$GPTDIST_LAUNCH\"}" >run/exit.json; exit 1' USR1
  touch ready
  for i in $(seq 200); do sleep 0.1; done
fi
if [ -n "${JOB_SAYS-}" ]; then
  [ "${JOB_SAYS%\}}" = "$JOB_SAYS" ] || JOB_SAYS="${JOB_SAYS%\}}, \"launch\": \"$GPTDIST_LAUNCH\"}"
  echo "$JOB_SAYS" >run/exit.json.new
  mv run/exit.json.new run/exit.json
fi
exit "${JOB_CODE:-0}"
SH
chmod +x gptdist-train
mkdir -p run
printf 'run:\n  directory: run\n' >run.yaml

# The line.
cores=$(nproc)
expect 0 "mpirun" "$bin/gptdist-run" -n $((cores + 1)) --print -- ./gptdist-train --prompt "it's a test"
for text in "-n $((cores + 1))" "--bind-to none" "--oversubscribe" "mpi_yield_when_idle 1" "'it'\\''s a test'"; do
  grep -qF -- "$text" out || { echo "FAILED: no \"$text\" in: $(cat out)"; failed=1; }
done
if [ "$(id -u)" = 0 ]; then grep -q -- "--allow-run-as-root" out || { echo "FAILED: root needs --allow-run-as-root"; failed=1; }; fi
expect 0 "--bind-to none" "$bin/gptdist-run" -n 1 --print -- ./gptdist-train
refuse_text "--oversubscribe"
expect 0 "$bin/gptdist-run" "$bin/gptdist-run" --print -- gptdist-run
expect 0 "--host a:3,b:3" "$bin/gptdist-run" --hosts a,b -n 6 --print -- ./gptdist-train
expect 0 "oob_tcp_keepalive_time" "$bin/gptdist-run" --hosts a:1,b:4 --print -- ./gptdist-train
grep -qF -- "-n 5 --host a:1,b:4" out || { echo "FAILED: ranks of hosts: $(cat out)"; failed=1; }
expect 0 "--mca btl_tcp_if_include eth1 --mca oob_tcp_if_include eth1 -x GPTDIST_NETWORK=eth1" \
  "$bin/gptdist-run" --hosts a:1,b:4 --network eth1 --print -- ./gptdist-train

# Mistakes.
expect 64 "--network: for a job on several hosts" "$bin/gptdist-run" -n 2 --network eth1 -- ./gptdist-train
expect 64 "found no program to run" "$bin/gptdist-run" -n 2
expect 64 "-n: found \"0\", expected an integer from 1 to" "$bin/gptdist-run" -n 0 -- ./gptdist-train
expect 64 "nonsense: found no such program" "$bin/gptdist-run" -- nonsense
expect 64 "did you mean \"--max-restarts\"?" "$bin/gptdist-run" --max-restart 3 -- ./gptdist-train
expect 64 "--hosts: found \"a:x\"" "$bin/gptdist-run" --hosts a:x -- ./gptdist-train
expect 64 "--hosts has room for 2" "$bin/gptdist-run" --hosts a:1,b:1 -n 3 -- ./gptdist-train

# The job's own word counts, an old one does not.
expect 0 "" "$bin/gptdist-run" -n 2 -- ./gptdist-train --config run.yaml
export JOB_CODE=9
JOB_SAYS='{"code": 75, "reason": "asked to"}' expect 75 "" "$bin/gptdist-run" -n 2 -- ./gptdist-train --config run.yaml
expect 9 "" "$bin/gptdist-run" -n 2 -- ./gptdist-train --config run.yaml
JOB_SAYS='{"code": 65, "reason": "elsewhere"}' expect 65 "" "$bin/gptdist-run" -n 1 -- ./gptdist-train --set run.directory=run
JOB_SAYS='{"code": 7' expect 9 "" "$bin/gptdist-run" -n 1 -- ./gptdist-train --config run.yaml

# Restarts: for faults of machines, not for mistakes; so many and no more.
starts() { wc -l <starts; }
rm -f starts
JOB_CODE=76 expect 76 "restart 2 of 2" "$bin/gptdist-run" --max-restarts 2 --restart-pause 0 -- ./gptdist-train --config run.yaml
[ "$(starts)" = 3 ] || { echo "FAILED: $(starts) starts, expected 3"; failed=1; }
rm -f starts
JOB_CODE=64 expect 64 "" "$bin/gptdist-run" --max-restarts 2 --restart-pause 0 -- ./gptdist-train --config run.yaml
[ "$(starts)" = 1 ] || { echo "FAILED: a usage error was started $(starts) times"; failed=1; }
unset JOB_CODE

# A stop asked of gptdist-run reaches the job as USR1, once, and is not followed by a restart.
for signal in INT TERM USR1; do
  rm -f starts ready run/exit.json
  JOB_WAIT=1 "$bin/gptdist-run" -n 2 --max-restarts 3 -- ./gptdist-train --config run.yaml >out 2>&1 &
  runner=$!
  for _ in $(seq 100); do [ -e ready ] && break; sleep 0.1; done
  # A shell starts background jobs with INT ignored; gptdist-run waits for it all the same.
  kill -"$signal" "$runner"
  wait "$runner"
  code=$?
  if [ "$code" != 75 ] || [ "$(tr '\n' ' ' <starts)" != "start stopped " ]; then
    echo "FAILED: after $signal: code $code, $(tr '\n' ' ' <starts)"
    cat out
    failed=1
  fi
done

# A container without /sys: hwloc inside MPI complains there, and nobody is to read it.
if [ -x "$bin/../tests/test_session" ]; then
  cat >bare <<'SH'
mount -t tmpfs none /sys || exit 42
"$1/gptdist-run" -n 2 -- "$1/../tests/test_session"
SH
  timeout 60 unshare -m bash bare "$bin" >out 2>&1 </dev/null
  code=$?
  if grep -q "PASSED" out; then
    [ "$code" = 0 ] || { echo "FAILED: without /sys: $code"; cat out; failed=1; }
    refuse_text "hwloc"
  else
    echo "not looked at: a container without /sys ($(tail -1 out))"
  fi
fi

# In a SLURM job: srun where it speaks PMIx, the job's number of ranks, a requeue after 75.
mkdir fake
cat >fake/srun <<'SH'
#!/bin/sh
if [ "$1" = --mpi=list ]; then echo "MPI plugin types are... pmix"; exit 0; fi
while [ "$1" != -n ]; do shift; done
shift 2
exec "$@"
SH
printf '#!/bin/sh\n[ "$2" = show ] && echo "JobId=$4 JobState=${JOB_STATE-RUNNING} Reason=None" || echo "$@" >>requeued\n' >fake/scontrol
chmod +x fake/srun fake/scontrol
export PATH="$folder/fake:$PATH" SLURM_JOB_ID=77 SLURM_NTASKS=6
expect 0 "srun --mpi=pmix --kill-on-bad-exit=1 --cpu-bind=none -n 6 ./gptdist-train" "$bin/gptdist-run" --print -- ./gptdist-train
expect 0 "env OMPI_MCA_btl_tcp_if_include=10.0.0.0/8 GPTDIST_NETWORK=10.0.0.0/8 srun --mpi=pmix" \
  "$bin/gptdist-run" --network 10.0.0.0/8 --print -- ./gptdist-train
# srun that starts tasks without PMIx: none of them takes the run for its own.
SLURM_STEP_NUM_TASKS=6 SLURM_PROCID=3 expect 64 "start it with srun --mpi=pmix" \
  "$bin/gptdist-train" --config run.yaml --set data.path=data --set run.directory=alone
[ ! -e alone ] || { echo "FAILED: a task that nothing connects made the run directory"; failed=1; }
JOB_SAYS='{"code": 75, "reason": "asked to"}' expect 75 "asked SLURM to start job 77 again" "$bin/gptdist-run" -- ./gptdist-train --config run.yaml
[ "$(cat requeued)" = "requeue 77" ] || { echo "FAILED: scontrol was told \"$(cat requeued)\""; failed=1; }

unset SLURM_JOB_ID SLURM_NTASKS
# The doctor: all well here; a folder that cannot be written is a finding and exit code 1.
expect 0 "ok   mpi" "$bin/gptdist-run" --doctor
grep -q "^ok   ports" out || { echo "FAILED: the doctor did not look for open ports"; failed=1; }
OMPI_MCA_btl=self,vader,tcp expect 1 "BAD  ports" "$bin/gptdist-run" --doctor
expect 1 "BAD  folder" "$bin/gptdist-run" --doctor --folder "$folder/none"
grep -q "^BAD  mpi .*left with 1: a check of theirs is bad" out || { echo "FAILED: a bad folder is told as a fault of mpirun"; failed=1; }
exit "$failed"
