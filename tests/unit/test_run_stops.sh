#!/usr/bin/env bash
# gptdist-run between a person and mpirun: which signal is passed on as what, which end of a job is worth another start, and whom it
# believes. mpirun is a stand-in that notes its starts and signals, and ends as the next line of ./plan says.
set -u
bin=$(cd "$1/bin" && pwd) || exit 1
export tell=$bin/../tests/test_run_watch
folder=$(mktemp -d) || exit 1
runner=
trap '[ -z "$runner" ] || kill -9 "$runner" 2>/dev/null; rm -rf "$folder"' EXIT
cd "$folder" || exit 1
unset SLURM_JOB_ID SLURM_NTASKS
mkdir run fake
printf 'run:\n  directory: run\n' >run.yaml
printf '#!/bin/sh\nexit 0\n' >gptdist-train
printf '#!/bin/sh\n[ "$2" = show ] && echo "JobId=$4 JobState=${JOB_STATE-RUNNING} Reason=None" || echo "$@" >>requeued\n' >fake/scontrol
cat >fake/mpirun <<'SH2'
#!/usr/bin/env bash
# A line of the plan: CODE, what exit.json says ("" = not written). CODE "work": goes on until a signal makes it leave.
says() { echo "${1%\}}, \"launch\": \"${LAUNCH-$GPTDIST_LAUNCH}\"}" >run/exit.json.new && mv run/exit.json.new run/exit.json; }
trap 'echo USR1 >>seen; eval "${ON_USR1-}"' USR1
trap 'echo TERM >>seen; eval "${ON_TERM-}"' TERM
sleep 300 &
echo $! >grandchild
trap 'kill "$(cat grandchild)"' EXIT
[ -n "${MUTE-}" ] || "$tell" tell
echo start >>seen
number=$(grep -c start seen)
read -r code said < <(sed -n "${number}p" plan)
[ -z "$said" ] || says "$said"
eval "${ON_START-}"
[ "$code" != killed ] || kill -9 $$
[ "$code" = work ] || exit "$code"
while [ -e plan ]; do sleep 0.05; done
SH2
chmod +x gptdist-train fake/scontrol fake/mpirun
export PATH="$folder/fake:$PATH"

complain() {
  echo "FAILED $scene: $1"
  echo "  seen: $(tr '\n' ' ' <seen)"
  sed 's/^/  | /' out
  exit 1
}
seen() { # seen WORD...: exactly what the stand-in noted
  [ "$(tr '\n' ' ' <seen)" = "$* " ] || complain "expected to see: $*"
}
begin() { # begin PLAN ARGUMENT...: starts gptdist-run in the background
  printf '%s\n' "$1" >plan
  shift
  rm -f seen out run/exit.json requeued
  : >seen
  "$bin/gptdist-run" "$@" -- ./gptdist-train --config run.yaml >out 2>&1 </dev/null &
  runner=$!
}
until_seen() { # until_seen FILE TEXT: waits for a line
  for _ in $(seq 300); do
    grep -qF -- "$2" "$1" 2>/dev/null && return
    kill -0 "$runner" 2>/dev/null || break
    sleep 0.05
  done
  grep -qF -- "$2" "$1" || complain "never came: $2"
}
ends() { # ends CODE: gptdist-run leaves with it, in time
  local got i
  for ((i = 0; i < 600; i++)); do
    kill -0 "$runner" 2>/dev/null || break
    sleep 0.05
  done
  [ $i -lt 600 ] || complain "still runs"
  wait "$runner"
  got=$?
  runner=
  [ "$got" = "$1" ] || complain "left with $got, expected $1"
}
whole() { # whole CODE PLAN ARGUMENT...: a job that nobody stops
  local code=$1
  shift
  begin "$@"
  ends "$code"
}
asked_early() { # asked_early SIGNAL: as soon as there is a job
  until_seen seen start
  kill -"$1" "$runner"
}
asked() { # asked SIGNAL...: one after the other, 5 s apart, each when the one before has arrived
  local i=0
  until_seen seen start
  for signal in "$@"; do
    [ $i -eq 0 ] || sleep 5.2
    kill -"$signal" "$runner"
    i=$((i + 1))
    [ $i -gt 2 ] || until_times USR1 $i
  done
}
until_times() { # until_times TEXT N: the stand-in noted it so often
  for _ in $(seq 300); do
    [ "$(grep -cF -- "$1" seen)" -ge "$2" ] && return
    sleep 0.05
  done
  complain "never came $2 times: $1"
}

# ---- stops ----

scene="the first signal is passed on as USR1, and the job's word counts"
for signal in INT TERM USR1; do
  ON_USR1='says "{\"code\": 75, \"reason\": \"saved\"}"; exit 1' begin work --max-restarts 3 --restart-pause 0
  asked $signal
  ends 75
  seen start USR1
done

scene="a request that comes before the ranks can hear it waits for their first sign of life"
MUTE=yes ON_START='sleep 2; echo ready >>seen; "$tell" tell' ON_USR1='exit 75' begin work
asked_early TERM
ends 75
seen start ready USR1

scene="... but not for ever: there may be no rank on this host"
SECONDS=0
MUTE=yes ON_USR1='exit 75' begin work
asked_early TERM
ends 75
seen start USR1
[ $SECONDS -ge 9 ] || complain "passed on after $SECONDS s"

scene="a job that ends well after the first signal has ended well"
ON_USR1='exit 0' begin work --max-restarts 3 --restart-pause 0
asked TERM
ends 0

scene="a job that dies of the first signal is not started again, and the code tells of the signal"
ON_USR1='exit 76' begin work --max-restarts 3 --restart-pause 0
asked TERM
ends 143
seen start USR1
grep -qF "starting it again" out && complain "a restart was promised to who asked for a stop"

scene="a save that fails after the first signal is told as what it is"
ON_USR1='says "{\"code\": 74, \"reason\": \"the disk\"}"; exit 1' begin work
asked TERM
ends 74

scene="the same signal again later ends the job at once, with 128 + the signal"
ON_TERM='exit 1' begin work --max-restarts 3 --restart-pause 0
asked TERM TERM
ends 143
seen start USR1 USR1 TERM
grep -qF "stopping at once" out || complain "nothing said at the second signal"
ON_USR1='[ "$(grep -c USR1 seen)" -lt 2 ] || exit 138' begin work --max-restarts 3 --restart-pause 0
asked INT INT
ends 130
seen start USR1 USR1

scene="a job that was saved when the second signal came says so"
ON_TERM='says "{\"code\": 75, \"reason\": \"saved\"}"; exit 1' begin work
asked TERM TERM
ends 75

scene="a third signal kills what does not end, and all that it started"
begin work
asked TERM TERM
until_seen seen TERM
kill -TERM "$runner"
ends 143
seen start USR1 USR1 TERM
for _ in $(seq 100); do # dead, though perhaps nobody has fetched it yet
  grep -qs '^State:.[^Z]' "/proc/$(cat grandchild)/status" || break
  sleep 0.05
done
grep -qs '^State:.[^Z]' "/proc/$(cat grandchild)/status" && complain "a process of the job was left behind"

scene="signals that come together are one request, and so is another one later"
begin work
asked TERM
kill -TERM "$runner"; kill -USR1 "$runner"; kill -INT "$runner"
until_seen out "stopping already"
sleep 5.2
kill -INT "$runner" # the first of its kind came a moment before: 5 s ago now
until_times USR1 2
kill -9 "$(cat grandchild)"; kill -TERM "$runner"
ends 143
grep -c "stopping already" out | grep -qx 1 || complain "the second Ctrl-C was no second one"

scene="one signal alone kills nothing"
begin work
asked TERM
kill -USR1 "$runner"
sleep 6
kill -0 "$runner" 2>/dev/null || complain "the job was not left to finish its step"
seen start USR1
kill -TERM "$runner"; until_times USR1 2; kill -TERM "$runner"
ends 143

# ---- restarts ----

scene="so many restarts and no more"
for most in 0 1 3; do
  whole 76 "$(printf '76\n76\n76\n76\n76')" --max-restarts $most --restart-pause 0
  [ "$(grep -c start seen)" = $((most + 1)) ] || complain "--max-restarts $most: $(grep -c start seen) starts"
done

scene="a start that ends well is the last"
whole 0 "$(printf '76\n76\n0\n76')" --max-restarts 9 --restart-pause 0
seen start start start

scene="a fault of the machine is worth a restart"
for code in 71 74 76 134 137 139; do
  whole 0 "$(printf '%s\n0' $code)" --max-restarts 1 --restart-pause 0
  seen start start
done

scene="what would only come again is not"
for code in 1 64 65 70 75 77; do
  whole $code "$(printf '%s\n0' $code)" --max-restarts 1 --restart-pause 0
  seen start
done

scene="exit.json decides, not mpirun's code"
whole 64 "$(printf '76 {"code": 64, "reason": "a key"}\n0')" --max-restarts 1 --restart-pause 0
seen start
whole 0 "$(printf '1 {"code": 74, "reason": "the disk"}\n0')" --max-restarts 1 --restart-pause 0
seen start start
grep -qF "the job left with 74: the disk; starting it again" out || complain "the reason is not told"
whole 0 "$(printf '137 {"code": 0, "reason": "done"}\n76')" --max-restarts 1 --restart-pause 0
seen start

scene="an exit.json of the start before says nothing about this one"
whole 137 "$(printf '74 {"code": 74, "reason": "the disk"}\n137\n137')" --max-restarts 2 --restart-pause 0
seen start start start
grep -qF '"code": 137, "reason": "a rank was ended by signal 9' run/exit.json || complain "exit.json: $(cat run/exit.json)"

scene="what another start writes meanwhile says nothing about this one, and is left alone"
LAUNCH=of-another whole 74 '74 {"code": 0, "reason": "done"}'
running='{"state": "running", "pid": 4711, "host": "node7", "start": "2026-01-02T03:04:05Z"}'
LAUNCH=of-another whole 74 "74 $running"
grep -qF '"running"' run/exit.json || complain "exit.json: $(cat run/exit.json)"

scene="a lost host is no signal"
whole 205 "$(printf '205\n205')" --max-restarts 1 --restart-pause 0
seen start start
grep -qF 'signal' out && complain "a signal is told"
grep -qF 'the job left with 205: mpirun or srun lost a host' out || complain "the host is not told"

scene="mpirun that was killed is 128 and the signal, and is started again"
whole 137 "$(printf 'killed\nkilled')" --max-restarts 1 --restart-pause 0
seen start start

scene="the pause is waited out"
SECONDS=0
whole 0 "$(printf '76\n0')" --max-restarts 1 --restart-pause 3s
[ $SECONDS -ge 2 ] || complain "started again after $SECONDS s"

scene="a stop during the pause ends it"
begin "$(printf '76\n0')" --max-restarts 1 --restart-pause 1h
until_seen out "starting it again"
kill -TERM "$runner"
ends 76
seen start

scene="a new checkpoint is progress: restarts are counted anew"
whole 76 "$(printf '76\n76\n76\n76\n76\n76')" --max-restarts 2 --restart-pause 0
seen start start start
export ON_START='[ "$number" -gt 3 ] || mkdir -p "run/checkpoints/step-0000000$number"'
whole 76 "$(printf '76\n76\n76\n76\n76\n76\n76')" --max-restarts 2 --restart-pause 0
seen start start start start start
grep -qF "restart 2 of 2 without a new checkpoint" out || complain "what is counted is not told"
unset ON_START
rm -rf run/checkpoints

scene="exit.json of a start that was killed before it could say more is completed"
whole 137 "137 $running"
grep -qF '"state": "ended", "code": 137, "reason": "a rank was ended by signal 9 (Killed), or a host was lost", "pid": 4711, "host": "node7", "start": "2026-01-02T03:04:05Z", "launch": ' run/exit.json ||
  complain "exit.json: $(cat run/exit.json)"
whole 1 "1 $running"
grep -qF '"code": 1, "reason": "the job left with 1 before rank 0 could say why"' run/exit.json || complain "exit.json: $(cat run/exit.json)"

# ---- SLURM: 75 asks for a requeue, but not when a person pressed Ctrl-C ----

export SLURM_JOB_ID=77
scene="75 is handed back to SLURM"
ON_USR1='exit 75' begin work
asked USR1
ends 75
[ "$(cat requeued 2>/dev/null)" = "requeue 77" ] || complain "scontrol was told \"$(cat requeued 2>/dev/null)\""
scene="Ctrl-C is not"
ON_USR1='exit 75' begin work
asked INT
ends 75
[ ! -e requeued ] || complain "scontrol was told \"$(cat requeued)\""

scene="a job that SLURM has cancelled stays so"
for state in CANCELLED COMPLETING PENDING; do
  rm -f requeued
  JOB_STATE=$state ON_USR1='exit 75' begin work
  asked TERM
  ends 75
  [ ! -e requeued ] || complain "scontrol was told \"$(cat requeued)\""
  grep -qF "SLURM ends job 77 itself ($state)" out || complain "nothing said"
done

scene="requeues that bring no new step come to an end"
rm -rf run/checkpoints run/requeues.json
for try in 1 2 3 4; do
  whole 75 75
  if [ $try -le 3 ]; then [ -e requeued ] || complain "requeue $try was not asked for"; fi
done
[ ! -e requeued ] || complain "a fourth requeue at the same step"
grep -qF "3 requeues brought no step behind 0" out || complain "nothing said"
mkdir -p run/checkpoints/step-00000010
whole 75 75
[ -e requeued ] || complain "a new step was made, and no requeue asked for"
for try in 1 2 3; do whole 75 75; done
[ ! -e requeued ] || complain "a fourth requeue at step 10"
SLURM_JOB_ID=78 whole 75 75
[ "$(cat requeued 2>/dev/null)" = "requeue 78" ] || complain "another job pays for the requeues of this one"

scene="srun that leaves with 0 is not believed where no rank says that it was done"
printf '#!/bin/sh\n[ "$1" != --mpi=list ] || exec echo pmix\nexec %s/fake/mpirun "$@"\n' "$folder" >fake/srun
chmod +x fake/srun
export SLURMD_NODENAME=node7
whole 76 "$(printf '0\n0')" --max-restarts 1 --restart-pause 0
seen start start
grep -qF "error: srun left with 0, but no rank said that it was done" out || complain "nothing said"
whole 76 "0 $running"
grep -qF '"state": "ended", "code": 76, "reason": "srun left with 0' run/exit.json || complain "exit.json: $(cat run/exit.json)"
whole 0 "$(printf '0\n0 {"code": 0, "reason": "done"}\n76')" --max-restarts 3 --restart-pause 0
seen start start
whole 75 '0 {"code": 75, "reason": "saved"}'
scene="... but where the line only looks, or rank 0 is on another host"
for word in --dry-run --help -h --help-config --version; do
  printf '0\n' >plan
  : >seen
  rm -f run/exit.json
  "$bin/gptdist-run" -- ./gptdist-train --config run.yaml $word >out 2>&1 || complain "$word: left with $?"
done
unset SLURMD_NODENAME
whole 0 0
exit 0
