"""Is this GPU ready, and how fast is rft on it? Minutes, no network, random weights; `scripts/gpu_check.sh` starts it.

    python -m benchmarks.gpu_check [--device cuda|cpu] [--shapes 0.5b,7b] [--out DIR] [--seconds 470]

For each shape a PPO job with LoRA through the real command line: seconds of a step by phase, tokens a second, most
memory; the smallest is killed with SIGKILL and resumed, and all are exported. Then the smallest on vLLM, where that is
installed. Writes gpu-check.json and gpu-check.md into DIR; exit code 1 where a job failed. What there is no time left
for is skipped, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.gpu_memory import MemoryWatch
from benchmarks.gpu_report import device_name, figures, table, versions
from benchmarks.workload import Shape

ROOT = Path(__file__).resolve().parent.parent
SCORER = "def score(completion):\n    return len(set(completion)) / (1 + len(completion))\n"
VOCABULARY = 1280
"""That of builtin/tiny's tokenizer."""


@dataclass(frozen=True, slots=True)
class Work:
    """A shape with the batch it samples. `needs_s`: seconds below which its job is not begun."""

    shape: Shape
    prompts: int
    group: int
    completion: int
    micro: int
    needs_s: float


SHAPES = {
    "tiny": Work(Shape("qwen3-tiny", 64, 128, 2, 4, 2, 16, VOCABULARY), 4, 2, 8, 4, 30),
    "0.5b": Work(Shape("qwen3-0.5b", 1024, 3072, 28, 16, 8, 128, VOCABULARY), 16, 8, 128, 32, 60),
    "7b": Work(Shape("qwen3-7b", 4096, 12288, 36, 32, 8, 128, VOCABULARY), 8, 8, 128, 8, 120),
}
"""Layers of Qwen3-0.6B and Qwen3-8B with a small vocabulary: 0.44 B and 6.95 B parameters."""
STEPS = 4
"""Optimizer steps of a job, each a rollout batch; the last two are measured, when everything is warm."""


class Check:
    """Runs the jobs in `folder`, within `seconds`."""

    def __init__(self, folder: Path, device: str, seconds: float) -> None:
        self.folder, self.device = folder, device
        self._end = time.monotonic() + seconds
        (folder / "scorer.py").write_text(SCORER)
        for name, rows in (("train", 64), ("val", 8)):
            lines = (json.dumps({"prompt": f"{name} {n}: say something"}) + "\n" for n in range(rows))
            (folder / f"{name}.jsonl").write_text("".join(lines))

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def shape(self, name: str, killed: bool, engine: str = "") -> dict[str, Any]:
        """One job, from random weights to its export."""
        work, run = SHAPES[name], f"{name}-{engine or 'transformers'}"
        found: dict[str, Any] = {"shape": name, "engine": engine or "transformers"}
        if self.left < work.needs_s:
            return {**found, "skipped": f"{max(0, self.left):.0f} s are left, it needs {work.needs_s:.0f} s"}
        began = time.monotonic()
        self._make(name)
        with MemoryWatch(self.device) as memory:
            self._job(work, name, run, engine, killed)
        found |= figures(self.folder / "runs" / run, work.prompts * work.group, self.device)
        found |= {"peak_gb": memory.peak / 1e9, "killed_and_resumed": killed}
        found["export"] = self._export(run, "merged" if killed else "adapter")
        return {**found, "seconds": time.monotonic() - began}

    def _make(self, name: str) -> None:
        """Random weights in a process of its own, which gives its memory back."""
        if not (self.folder / name / "config.json").is_file():
            command = ("benchmarks.random_weights", name, self.folder / name, self.device)
            self._run(f"{name}-weights", "-m", *command)

    def _job(self, work: Work, name: str, run: str, engine: str, killed: bool) -> None:
        settings = {
            "model.path": self.folder / name, "model.dtype": "bfloat16" if self.device == "cuda" else "float32",
            "lora.enabled": "true", "rollout.prompts_per_batch": work.prompts, "rollout.group_size": work.group,
            "rollout.max_completion_tokens": work.completion, "optim.micro_batch_size": work.micro,
            "optim.max_steps": STEPS, "ppo.passes": 1, "ppo.minibatches": 1, "checkpoint.every_steps": 1,
            "validation.samples_per_prompt": 1, "pilot.prompts": 0, "grader.workers": 2, "grader.audit": "none",
            "report_to": "none", **({"rollout.engine": engine} if engine else {}),
        }  # fmt: skip
        begin = [
            "create", "-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py", "--name", run,
            *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")),
        ]  # fmt: skip
        if not killed:
            self._run(run, "-m", "rft_cli", *begin)
            return
        self._kill_at(self.folder / "runs" / run / "checkpoints" / "step-1", run, begin)
        self._run(f"{run}-resumed", "-m", "rft_cli", "train", "--resume", f"runs/{run}")

    def _kill_at(self, checkpoint: Path, name: str, arguments: Sequence[str]) -> None:
        """Start rft, and kill it and all that it started once this checkpoint is there."""
        with (self.folder / f"{name}.log").open("wb") as log:
            job = subprocess.Popen(
                [sys.executable, "-m", "rft_cli", *arguments],
                cwd=self.folder, env=_environment(), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            while not checkpoint.is_dir() and job.poll() is None and self.left > 0:
                time.sleep(0.05)
            if job.poll() is not None:
                raise _failed(self.folder / f"{name}.log", "ended before it could be killed")
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()

    def _export(self, run: str, kind: str) -> str:
        newest = max(
            (self.folder / "runs" / run / "checkpoints").glob("step-*"), key=lambda p: int(p.name[5:])
        )
        step = newest.name.removeprefix("step-")
        self._run(
            f"{run}-export", "-m", "rft_cli", "export", f"runs/{run}", "--checkpoint", step, "--format", kind
        )
        return kind

    def _run(self, name: str, *arguments: str | Path) -> None:
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            try:
                done = subprocess.run(
                    [sys.executable, *map(str, arguments)],
                    cwd=self.folder, env=_environment(), stdout=output, stderr=output, check=False,
                    timeout=max(1.0, self.left),
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise _failed(log, "was cut off: no time was left") from None
        if done.returncode != 0:
            raise _failed(log, f"ended with exit code {done.returncode}")


def _environment() -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}


def _failed(log: Path, how: str) -> RuntimeError:
    end = log.read_text(errors="replace").strip().splitlines()[-8:]
    return RuntimeError(f"{log.stem} {how}:\n" + "\n".join(end))


def _knows_engines() -> bool:
    """Whether this rft samples on vLLM."""
    from rft_cli.config.keys import all_keys

    return "rollout.engine" in all_keys()


def checked(check: Check, names: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of all shapes, the smallest first, then of vLLM."""
    found = []
    jobs = [(name, place == 0, "") for place, name in enumerate(names)]
    has_vllm = find_spec("vllm") is not None and _knows_engines()
    if has_vllm:
        jobs.append((names[0], False, "vllm"))
    for name, killed, engine in jobs:
        try:
            found.append(check.shape(name, killed, engine))
        except RuntimeError as error:
            print(error, file=sys.stderr, flush=True)
            failed = str(error).splitlines()[0].rstrip(":")
            found.append({"shape": name, "engine": engine or "transformers", "failed": failed})
        print(f"{name}: {found[-1]}", file=sys.stderr, flush=True)
    if not has_vllm:
        found.append({"shape": names[0], "engine": "vllm", "skipped": "vLLM is not installed"})
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description="Check a GPU.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shapes", default="0.5b,7b", help=f"of {', '.join(SHAPES)}, the smallest first")
    parser.add_argument("--out", type=Path, default=Path("build/gpu-check"))
    parser.add_argument("--seconds", type=float, default=470.0, help="all of it")
    given = parser.parse_args(arguments)
    names = given.shapes.split(",")
    unknown = [name for name in names if name not in SHAPES]
    if unknown:
        parser.error(f"no shape {', '.join(unknown)}: there are {', '.join(SHAPES)}")
    began = time.monotonic()
    work = (given.out / "work").resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    lines = checked(Check(work, given.device, given.seconds), names)
    document = {
        "schema": "rft.gpu-check/1", "device": device_name(given.device), "versions": versions(), "jobs": lines,
        "seconds": time.monotonic() - began,
    }  # fmt: skip
    (given.out / "gpu-check.json").write_text(json.dumps(document, indent=2) + "\n")
    (given.out / "gpu-check.md").write_text(table(document))
    print(table(document))
    # The weights are gigabytes.
    shutil.rmtree(work)
    return 1 if any("failed" in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
