#!/bin/bash
# Strangers at the door: while a job of one host trains none of its ranks listens; connections (silent, one byte, random bytes, HTTP,
# closed at once) on every TCP port that a rank opens at any time of its run change nothing: it ends in the state of a run that
# nobody disturbed. The port of the join is open for a moment only; test_control holds it open and has 200 strangers there. Left
# out: mpirun's own ports, through which strangers can hold up the start and the end of any job of Open MPI 4.
#   CONNECTIONS=200 (default 50) on each port, STEPS=20000 (200), RANKS="2 4" (2):  the long form
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../numerics/lib.sh"
connections=${CONNECTIONS:-50}
settings="run.steps=${STEPS:-200} validation.interval_steps=0 checkpoint.interval_steps=0 batch.global=8 precision.dtype=fp32"
unset OMPI_MCA_btl
export HWLOC_HIDE_ERRORS=2

descendants() { # PID: itself and all below
  local child
  echo "$1"
  for child in $(cat /proc/"$1"/task/*/children 2> /dev/null); do descendants "$child"; done
}
ports() { # PID...: the ports on which those of them that are ranks listen
  local pid inodes=
  for pid in "$@"; do
    [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = gptdist-train ] || continue
    inodes+=" $(find "/proc/$pid/fd" -lname 'socket:*' -printf '%l ' 2> /dev/null | tr -dc '0-9 ')"
  done
  awk -v inodes="$inodes" 'BEGIN { n = split(inodes, list, " "); for (i = 1; i <= n; i++) mine[list[i]] = 1 }
    $4 == "0A" && $10 in mine { n = split($2, part, ":"); print part[n] }' /proc/net/tcp /proc/net/tcp6 2> /dev/null |
    while read -r port; do echo $((16#$port)); done | sort -u
}

declare -a held=()
visits=0 all_visits=0 runs=0
visit() { # PORT: so many connections of five kinds; all but the closed ones are held
  local i fd
  for ((i = 0; i < connections; i++)); do
    { exec {fd}<> "/dev/tcp/127.0.0.1/$1"; } 2> /dev/null || return
    visits=$((visits + 1)) all_visits=$((all_visits + 1))
    case $((i % 5)) in
      0) ;;
      1) printf x >&"$fd" ;;
      2) head -c 36 /dev/urandom >&"$fd" ;;
      3) printf 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n' >&"$fd" ;;
      4) exec {fd}>&- && continue ;;
    esac 2> /dev/null
    held+=("$fd")
  done
}

# shellcheck disable=SC2086
for ranks in ${RANKS:-2}; do
  train "whole-$ranks" "$ranks" gpt2 $settings parallel.tensor=2 || finish
  for launcher in "$bin/gptdist-run -n $ranks --" "mpirun --oversubscribe --bind-to none -np $ranks"; do
    name=${launcher%% *}
    name=${name##*/}-$ranks
    runs=$((runs + 1))
    line=(--config "$work/gpt2.yaml" --set "run.directory=$work/$name" --set parallel.tensor=2)
    for setting in $settings; do line+=(--set "$setting"); done
    $launcher "$bin/gptdist-train" "${line[@]}" > "$work/$name.out" 2>&1 < /dev/null &
    main=$!
    declare -A seen=()
    visits=0
    rank_ports=0 steps=0 last=0 still=0
    for ((i = 0; i < 6000; i++)); do
      kill -0 $main 2> /dev/null || break
      # shellcheck disable=SC2046
      mine=$(ports $(descendants $main))
      for port in $mine; do
        [ -z "${seen[$port]:-}" ] || continue
        seen[$port]=1
        visit "$port"
      done
      now=$(grep -c '"train"' "$work/$name/metrics.jsonl" 2> /dev/null)
      if [ "${now:-0}" -gt 0 ] && [ "$steps" -eq 0 ]; then
        steps=$now
        rank_ports=$(wc -w <<< "$mine")
      fi
        [ "${now:-0}" -eq "$last" ] && still=$((still + 1)) || still=0
      last=${now:-0}
      [ $still -lt 100 ] || break # a run that stands still
      sleep 0.05
    done
    for fd in "${held[@]}"; do exec {fd}>&-; done
    held=()
    kill -0 $main 2> /dev/null && [ $still -ge 100 ] && kill -TERM $main
    wait $main
    check "$name: $visits visits to ${#seen[@]} ports: the run ends well" [ $? -eq 0 ]
    check "$name: while it trains no rank listens" [ "$rank_ports" -eq 0 ]
    check "$name: it was looked at while it trained" [ "$steps" -gt 0 ]
    check "$name: the same losses" same_curve "whole-$ranks" "$name"
    check "$name: the same state" same_state "whole-$ranks" "$name"
    echo "longest step: $(grep -oE '"ms": [0-9.]+' "$work/$name/metrics.jsonl" | sort -k2 -g | tail -1)"
  done
done
evidence strangers $((all_visits + runs)) $failed visits $all_visits
finish
