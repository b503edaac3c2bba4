#!/usr/bin/env bash
# Checks a GPU in under eight minutes, without a network: what rft needs is there, a job at 0.5 B and 7 B (random
# weights), its speed and memory, kill and resume, export, vLLM where it is installed.
#
#   scripts/gpu_check.sh [--out DIR] [--wheels DIR] [--device cpu --shapes tiny]
#
# --wheels: packages that are missing there, as wheels; they are installed beside the others and change none of them.
# --device cpu --shapes tiny: the same lines on a machine without a GPU. PYTHON=... chooses the interpreter.
# Writes gpu-check.json and gpu-check.md into DIR (build/gpu-check). Exit code 1: a job failed; 2: something is missing.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
device=cuda
out=$root/build/gpu-check
rest=()
while [ $# -gt 0 ]; do
  case $1 in
    --wheels) wheels=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --device) device=$2; rest+=("$1" "$2"); shift 2 ;;
    --shapes | --seconds) rest+=("$1" "$2"); shift 2 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1 OMP_WAIT_POLICY=PASSIVE
if [ -n "${wheels:-}" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
  export PYTHONPATH=$PYTHONPATH:$site
fi

"$python" - "$device" <<'PYTHON' || exit 2
import importlib.util
import sys

needed = ("torch transformers trl peft accelerate datasets safetensors pydantic yaml typer rich jinja2 psutil filelock "
          "jsonlines numpy").split()
missing = [name for name in needed if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"missing: {', '.join(missing)}; put their wheels into a folder and name it with --wheels")
import torch

if sys.argv[1] == "cuda" and not torch.cuda.is_available():
    sys.exit("torch sees no GPU; --device cpu --shapes tiny runs the same lines without one")
PYTHON

"$python" -m benchmarks.gpu_check --out "$out" "${rest[@]}"
