#!/usr/bin/env bash
# One Ray over machines that ssh reaches, one study on it; the first machine is this one, and runs the command:
#
#   jobs/cluster/ssh.sh "10.0.0.5 10.0.0.6 10.0.0.7" jobs/thousands.toml
#
# NOISESWEEP says where noisesweep's environment is on every machine (~/noisesweep/.venv). The token goes to the others
# by standard input, so no list of processes shows it. At the end, each machine ends what was started here: its Ray lives
# as long as its ssh connection.
set -euo pipefail

usage='usage: jobs/cluster/ssh.sh "HOST HOST …" STUDY [arguments of sweep run]'
read -r -a hosts <<<"${1:?$usage}"
study=${2:?$usage}
shift 2
place=${NOISESWEEP:-'~/noisesweep/.venv'}
port=${PORT:-6379}
read -r -a ssh <<<"${SSH:-ssh -o BatchMode=yes -o ServerAliveInterval=15}"
head=${hosts[0]}

export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')

# A machine runs what it reads: Ray, until what it reads ends, because this script has ended, in whatever way.
pipes=$(mktemp -d)
open=()
finish() {
  for pipe in "${open[@]}"; do exec {pipe}>&-; done
  rm -rf "$pipes"
  wait
}
trap finish EXIT
start() { # ARGUMENTS of ray start, then -- and what runs a script that it reads
  local arguments=() pipe="$pipes/${#open[@]}"
  while [ "$1" != -- ]; do arguments+=("$1"); shift; done
  shift
  mkfifo "$pipe"
  "$@" bash -s <"$pipe" &
  exec {pipe}>"$pipe"
  open+=("$pipe")
  printf 'export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_TOKEN=%s\n' "$RAY_AUTH_TOKEN" >&"$pipe"
  printf '%s/bin/ray start %s --block >/dev/null </dev/null & ray=$!\n' "$place" "${arguments[*]}" >&"$pipe"
  printf 'cat >/dev/null; kill $ray; wait $ray\n' >&"$pipe"
}

start --head --node-ip-address="$head" --port="$port" --include-dashboard=false -- env
for _ in $(seq 60); do
  if (: <"/dev/tcp/$head/$port") 2>/dev/null; then break; fi
  sleep 1
done
for host in "${hosts[@]:1}"; do
  start --address="$head:$port" --node-ip-address="$host" -- "${ssh[@]}" "$host"
done

"${place/#\~/$HOME}/bin/sweep" run "$study" --address "$head:$port" --wait-for-nodes "${#hosts[@]}" "$@" &
run=$!
trap 'kill -TERM "$run"' INT TERM HUP
status=0
while kill -0 "$run" 2>/dev/null; do
  status=0
  wait "$run" || status=$?
done
exit "$status"
