# hosts.sh - pretended hosts on this machine: network namespaces behind one bridge, each with a host name and an address. Source it.
#   hosts_can              0 where that is permitted, else says why not
#   hosts_up FOLDER N      hosts ${host[0]} to ${host[N-1]} at 10.77.0.1 and on; FOLDER is for the agent that mpirun calls in place of ssh
#   hosts_down             takes them away again, with what still runs in them
#   on I COMMAND...        in host I; mpirun and gptdist-run there reach the others
#   link I up|down         the cable of host I;  limit I RATE: at most so much (20mbit) leaves it;  loss I PERCENT: so much that comes is dropped
#   calm I                 neither any more

host=()
hosts_count=0
hosts_folder=
bridge=

hosts_can() {
  local try=gd$$try
  [ "$(id -u)" = 0 ] || { echo "network namespaces are made as root"; return 1; }
  for program in ip tc nft unshare mpirun; do
    command -v "$program" > /dev/null || { echo "no $program here (Debian: iproute2, nftables, openmpi-bin)"; return 1; }
  done
  ip netns add $try 2> /dev/null || { echo "no network namespace may be made here"; return 1; }
  ip -n $try link add bridge0 type bridge 2> /dev/null && ip netns exec $try unshare --uts hostname pretended 2> /dev/null
  local code=$?
  ip netns del $try
  [ $code = 0 ] || { echo "no bridge or host name may be made in a network namespace here"; return 1; }
}

hosts_up() {
  local i
  hosts_folder=$1 bridge=gd$$b
  ip netns add $bridge && ip -n $bridge link set lo up && ip -n $bridge link add bridge0 type bridge && ip -n $bridge link set bridge0 up || return 1
  for ((i = 0; i < $2; i++)); do
    host[i]=gd$$h$i
    hosts_count=$((i + 1))
    ip netns add "${host[i]}" && ip -n "${host[i]}" link set lo up || return 1
    ip -n $bridge link add sw$i type veth peer name eth0 netns "${host[i]}" && ip -n $bridge link set sw$i master bridge0 up || return 1
    ip -n "${host[i]}" addr add 10.77.0.$((i + 1))/24 dev eth0 && ip -n "${host[i]}" link set eth0 up || return 1
  done
  # Its own session, and the name that mpirun knows the host by.
  cat > "$hosts_folder/agent" << 'SH'
#!/bin/sh
name=$1
shift
exec ip netns exec "$name" unshare --uts sh -c 'hostname "$0"; exec setsid sh -c "$*"' "$name" "$@"
SH
  chmod +x "$hosts_folder/agent"
  # The hosts do not know that they share two cores.
  export OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent=$hosts_folder/agent OMPI_MCA_oob_tcp_if_include=eth0 OMPI_MCA_btl_tcp_if_include=eth0 \
    OMPI_MCA_btl=self,tcp OMPI_MCA_mpi_yield_when_idle=1
}

hosts_down() {
  local i pids
  for ((i = 0; i < hosts_count; i++)); do
    mapfile -t pids < <(ip netns pids "${host[i]}" 2> /dev/null)
    [ ${#pids[@]} -eq 0 ] || kill -KILL "${pids[@]}" 2> /dev/null
    ip netns del "${host[i]}" 2> /dev/null
  done
  [ -z "$bridge" ] || ip netns del $bridge 2> /dev/null
  hosts_count=0 bridge=
}

on() {
  local name=${host[$1]}
  shift
  ip netns exec "$name" unshare --uts sh -c 'hostname "$0"; exec "$@"' "$name" "$@"
}
left_in() { ip netns pids "${host[$1]}" 2> /dev/null | wc -l; }
link() { ip -n $bridge link set sw$1 "$2"; }
limit() { tc -n "${host[$1]}" qdisc replace dev eth0 root tbf rate "$2" burst 64kb latency 50ms; }
loss() {
  ip netns exec "${host[$1]}" nft "add table inet loss; flush table inet loss; add chain inet loss in { type filter hook input priority 0; };
    add rule inet loss in ip saddr 10.77.0.0/24 numgen random mod 100 < $2 counter drop"
}
dropped() { ip netns exec "${host[$1]}" nft list table inet loss | grep -oE 'packets [0-9]+' | cut -d' ' -f2; }
calm() {
  tc -n "${host[$1]}" qdisc del dev eth0 root 2> /dev/null
  ip netns exec "${host[$1]}" nft delete table inet loss 2> /dev/null
  link "$1" up
}
