# cluster.sh - a real SLURM on this machine: munged, slurmctld and four slurmd, n0 to n3, each a node of two processors. Source it.
#   cluster_up FOLDER      starts all of it there (an absolute path); sets SLURM_CONF
#   cluster_down           ends what cluster_up started, by the process ids that it wrote down, and jobs first
#   node_start N, node_kill N   the slurmd of nN
# Nothing outside FOLDER is read or written but the folder that srun's PMIx makes for each node's steps (TmpFS, inside FOLDER).
# Partitions: test (default), and urgent, whose jobs preempt those of test.

cluster=
NODES=4

# 0 where a SLURM can be brought up here, else says why not
cluster_can() {
  local program
  [ "$(id -u)" = 0 ] || { echo "SLURM's daemons are started as root"; return 1; }
  for program in munged slurmctld slurmd sbatch srun scontrol squeue; do
    command -v "$program" > /dev/null || { echo "no $program here (Debian: munge, slurm-wlm)"; return 1; }
  done
}

cluster_configure() {
  local name port
  name=$(hostname -s)
  port=$((21000 + $$ % 4000 * 6))
  cat > "$cluster/slurm.conf" << CONF
ClusterName=gptdist
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$cluster/munge.sock,cred_expire=5
SlurmctldPort=$port
StateSaveLocation=$cluster/ctld
SlurmdSpoolDir=$cluster/spool.%n
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd.%n.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/slurmd.%n.log
TmpFS=$cluster/tmp.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=pmix
ReturnToService=2
JobRequeue=1
KillWait=${KILL_WAIT:-10}
SlurmdTimeout=10
MessageTimeout=5
SchedulerParameters=sched_min_interval=100000,bf_interval=1
NodeName=n[0-$((NODES - 1))] NodeHostname=$name NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + NODES))] CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=1000 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
CONF
}

node_start() { mkdir -p "$cluster/tmp.n$1" "$cluster/spool.n$1" && slurmd -N "n$1"; }

# The daemon dies; steps that it started live on.
node_kill() { end_by_file KILL "$cluster/slurmd.n$1.pid"; }

end_by_file() { # end_by_file SIGNAL PIDFILE...: waits for them, and kills those that do not end
  local signal=$1 file i pids=()
  shift
  for file in "$@"; do [ -s "$file" ] && pids+=("$(cat "$file")"); done
  [ ${#pids[@]} -gt 0 ] || return 0
  kill -"$signal" "${pids[@]}" 2> /dev/null
  for ((i = 0; i < 50; i++)); do kill -0 "${pids[@]}" 2> /dev/null || return 0; sleep 0.1; done
  kill -KILL "${pids[@]}" 2> /dev/null
  true
}

cluster_up() {
  local n i
  cluster=$1
  mkdir -p "$cluster/ctld" "$cluster/munge" && chmod 755 "$cluster" "$cluster/munge" || return 1
  head -c 1024 /dev/urandom > "$cluster/munge.key" && chmod 400 "$cluster/munge.key" || return 1
  cluster_configure || return 1
  export SLURM_CONF=$cluster/slurm.conf
  munged --force --key-file="$cluster/munge.key" --socket="$cluster/munge.sock" --pid-file="$cluster/munge/munged.pid" \
    --log-file="$cluster/munge/munged.log" --seed-file="$cluster/munge/munged.seed" > "$cluster/munged.out" 2>&1 || return 1
  slurmctld -c || return 1
  for ((n = 0; n < NODES; n++)); do node_start $n || return 1; done
  for ((i = 0; i < 100; i++)); do
    [ "$(sinfo -h -p test -t idle -o %D 2> /dev/null)" = $NODES ] && return 0
    sleep 0.1
  done
  sinfo
  tail -5 "$cluster"/*.log
  return 1
}

cluster_down() {
  local i
  [ -n "$cluster" ] || return 0
  scancel --signal=KILL --full -u root > /dev/null 2>&1
  scancel -u root > /dev/null 2>&1
  for ((i = 0; i < 150; i++)); do [ -z "$(squeue -h 2> /dev/null)" ] && break; sleep 0.1; done
  end_by_file TERM "$cluster"/slurmd.n*.pid "$cluster/slurmctld.pid"
  end_by_file TERM "$cluster/munge/munged.pid"
  cluster=
}
