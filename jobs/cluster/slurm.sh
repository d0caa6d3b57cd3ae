#!/usr/bin/env bash
# One Ray over the nodes of a Slurm allocation, one study on it:
#   sbatch --nodes=4 --cpus-per-task=32 jobs/cluster/slurm.sh STUDY [arguments of sweep run]
#   sbatch --array=1-3 jobs/cluster/slurm.sh LIST [arguments of sweep run]    # task n runs the study on line n of LIST
# Options of sbatch override those below. README.md beside this file says the rest.
#SBATCH --job-name=noisesweep
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --no-kill
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@90
set -euo pipefail

study=${1:?usage: sbatch jobs/cluster/slurm.sh STUDY [arguments of sweep run]}
shift
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  study=$(sed -n "${SLURM_ARRAY_TASK_ID}p" "$study")
fi
[ -f "$study" ] || { echo "no study '$study' (in an array: a file that lists studies, one a line)" >&2; exit 1; }
PATH=$PWD/.venv/bin:$PATH
within=${NOISESWEEP_WITHIN:-}  # what python, ray and sweep are run with, as "apptainer exec image.sif"

export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
RAY_AUTH_TOKEN=$($within python -c 'import secrets; print(secrets.token_hex(32))')
unset SLURM_CPUS_PER_TASK SLURM_TRES_PER_TASK  # or some versions of srun give no more of a node than this
nodes=$SLURM_JOB_NUM_NODES

# Where the other nodes reach this one. Its own name may stand for 127.0.1.1 here.
host=127.0.0.1
if [ "$nodes" -gt 1 ]; then
  second=$(scontrol show node "$(scontrol show hostnames | sed -n 2p)" | grep -oP 'NodeAddr=\K\S+')
  host=$(ip route get "$(getent ahostsv4 "$second" | awk '{print $1; exit}')" | grep -oP ' src \K\S+' || true)
  case $host in 127.* | '') host=$(hostname -I | awk '{print $1}') ;; esac
fi

# The first port from one of this job's own on which nobody listens; Ray chooses all others at random.
answers() { (: <>"/dev/tcp/$host/$1") 2>/dev/null; }
port=$((20000 + SLURM_JOB_ID % 5000 * 2))
while answers "$port" || answers $((port + 1)); do port=$((port + 2)); done
address=$host:$port

# Ray on a node of the allocation, with the cores and GPUs that it has there, until TERM.
node() {
  local folder stopped=''
  folder=$(mktemp -d "/tmp/noisesweep-$SLURM_JOB_ID-XXXX")  # short: sockets lie in it
  # shellcheck disable=SC2086
  $within ray start "$@" --block --temp-dir="$folder" --num-cpus="$SLURM_CPUS_ON_NODE" \
    --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0 \
    >"$folder/start.log" 2>&1 &
  trap "stopped=1; kill $!" TERM
  wait $! || [ -n "$stopped" ] || tail "$folder/start.log" >&2
  wait
  rm -rf "$folder"
  [ -n "$stopped" ]
}

# Another node than the first. With --no-kill, Slurm goes on with a job whose first node is lost, though nothing of it
# goes on: then the others put it into the queue again.
other() {
  node --address="$address" && return
  sleep 10
  if [ -z "$(timeout 10 bash -c "answers $port && echo yes")" ]; then scontrol requeue "$SLURM_JOB_ID"; fi
}
export -f node other answers
export within host port address

ray=() driver='' stopped='' again='' before=''
finish() {
  status=$?
  trap '' TERM USR1
  # TERM to the other nodes, unless all is cancelled. srun, if it got TERM, would kill them.
  [ ${#ray[@]} -lt 2 ] || scancel --signal=TERM "$SLURM_JOB_ID" 2>/dev/null || true
  kill "${ray[@]::1}" 2>/dev/null || true
  for _ in {1..20}; do kill -0 "${ray[@]}" 2>/dev/null && sleep 1 || break; done
  if [ -n "$again" ] && [ "$status" != 0 ]; then
    if [ "$(done_so_far)" = "$before" ] && [ "${SLURM_RESTART_COUNT:-0}" -ge 2 ]; then
      echo "job $SLURM_JOB_ID: the time is nearly up, and nothing was finished in it; give it more, by --time"
    else
      echo "job $SLURM_JOB_ID: the time is nearly up; queued again, to go on"
      scontrol requeue "$SLURM_JOB_ID"
    fi
  fi
}
# Of the run, in a text that changes with every trial.
done_so_far() { $within sweep status "$out" 2>/dev/null | grep -E '^(trials|means) ' || true; }
stop() { stopped=1; if [ -n "$driver" ]; then kill -TERM "$driver" 2>/dev/null || true; else exit 1; fi; }
trap finish EXIT
trap stop TERM                # scancel
trap 'again=1; stop' USR1     # the time limit

# Run a command that TERM is passed on to, unless TERM was there before.
attend() {
  [ -z "$stopped" ] || exit 143
  "$@" &
  driver=$!
  [ -z "$stopped" ] || stop  # it came just now
  while kill -0 "$driver" 2>/dev/null; do wait "$driver" || true; done
  wait "$driver"
}

out=results/$(sed -n 's/^name *= *"\(.*\)".*/\1/p' "$study" | head -n 1) option=''
for argument; do
  case $option$argument in --out=*) out=${argument#--out=} ;; --out?*) out=$argument ;; esac
  option=$([ "$argument" = --out ] && echo --out || true)
done
before=$(done_so_far)
echo "job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)): $study on $nodes node(s), $SLURM_JOB_NODELIST"
echo "results in $out; how far: sweep status $out"
echo "this text in $(scontrol show job "$SLURM_JOB_ID" | grep -oP 'StdOut=\K.*')"
echo "Ray at $address; its logs in $(hostname):/tmp/noisesweep-$SLURM_JOB_ID-*/session_latest/logs while the job runs"

node --head --node-ip-address="$host" --port="$port" --ray-client-server-port=$((port + 1)) --include-dashboard=false &
ray+=($!)
until answers "$port"; do
  kill -0 "${ray[0]}" 2>/dev/null && [ $SECONDS -lt 300 ] || { echo "Ray's head did not start" >&2; exit 1; }
  sleep 1
done
if [ "$nodes" -gt 1 ]; then
  srun --export=ALL --no-kill --kill-on-bad-exit=0 --cpu-bind=none --relative=1 --nodes=$((nodes - 1)) \
    --ntasks=$((nodes - 1)) --ntasks-per-node=1 bash -c other \
    2> >(grep -v ' CANCELLED AT ' >&2) &  # as `finish` does
  ray+=($!)
fi

joined='
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
end = time.monotonic() + 300
while (found := sum(node["Alive"] for node in ray.nodes())) < int(sys.argv[2]) and time.monotonic() < end:
    time.sleep(1)
print(f"{found} of {sys.argv[2]} nodes have joined", flush=True)
'
# shellcheck disable=SC2086
attend $within python -c "$joined" "$address" "$nodes"
# shellcheck disable=SC2086
attend $within sweep run "$study" --address "$address" "$@"
