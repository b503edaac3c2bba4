#!/bin/bash
# Starts this machine's share of a job on several machines. The files beside it call it on every machine of theirs.
#
#   NODES=2 NODE_RANK=0 HEAD=node-a GPUS=8 RUN=/shared/runs/my-job bash configs/cluster/launch.sh
#   NODES=2 NODE_RANK=1 HEAD=node-a GPUS=8 RUN=/shared/runs/my-job bash configs/cluster/launch.sh
#
# RUN is on a drive that all machines mount at the same path, and so are the rows and the scorer that JOB_FILE names.
# Started again, the same lines resume the run from its last checkpoint.
set -eu

: "${NODES:?how many machines}" "${NODE_RANK:?which of them this is, from 0}" "${HEAD:?host name or address of machine 0}"
: "${GPUS:?GPUs on this machine}" "${RUN:?the run directory, on a shared drive}"
JOB_FILE=${JOB_FILE:-configs/fsdp.yaml}
LAUNCHER_FILE=${LAUNCHER_FILE:-configs/accelerate/fsdp2.yaml}

if [ -e "$RUN/run.json" ]; then
  job=(--resume "$RUN")
else
  job=("$JOB_FILE" --output-dir "$(dirname "$RUN")" --name "$(basename "$RUN")")
fi
exec accelerate launch --config_file "$LAUNCHER_FILE" \
  --num_machines "$NODES" --machine_rank "$NODE_RANK" --num_processes "$((NODES * GPUS))" \
  --main_process_ip "$HEAD" --main_process_port "${PORT:-29500}" \
  -m rft_cli train "${job[@]}"
