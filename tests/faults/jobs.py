"""A small job that is stopped in the middle and resumed, and what must come out the same.

Importing torch and TRL takes longer than the job itself. So a server process imports them once and forks: each child
calls the command line's own entry point with its arguments. Some runs start the real command from outside instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from rft_cli.runs import Run

ROOT = Path(__file__).resolve().parents[2]
SCORER = '''"""Short completions are better; the second component has values of many digits."""


def score(completion):
    return {"reward": 1 / (1 + len(completion) / 20), "letters": len(set(completion)) / 7}
'''
SETTINGS = {
    "rollout.group_size": 2,
    "rollout.prompts_per_batch": 4,
    "rollout.max_completion_tokens": 8,
    "grader.workers": 1,
    "grader.audit": "none",
    "checkpoint.every_steps": 3,
    "validation.every_epochs": 1,
    "validation.samples_per_prompt": 1,
    "optim.n_epochs": 3,
    "optim.learning_rate": 0.003,
}
"""Three epochs of two rollout batches with four optimizer steps each: checkpoints fall inside of batches."""
LORA = {"lora.enabled": True, "lora.dropout": 0.1, "ppo.critic": "top"}


@dataclass(frozen=True)
class Ended:
    """How a command ended; `seconds` it took."""

    code: int
    err: str
    seconds: float


def make_files(folder: Path, rows: int = 8) -> None:
    """train.jsonl, val.jsonl and scorer.py."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("train", "val"):
        lines = (ROOT / "sample_data" / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{kind}.jsonl").write_text("".join(lines[:rows]), encoding="utf-8")
    (folder / "scorer.py").write_text(SCORER, encoding="utf-8")


def create_arguments(settings: dict[str, Any], name: str = "job") -> list[str]:
    """`rft create` for the small job, with these settings over `SETTINGS`."""
    words = ["create", "-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py", "--name", name]
    for key, value in (SETTINGS | settings).items():
        words += ["--set", f"{key}={json.dumps(value) if not isinstance(value, str) else value}"]
    return words


def full() -> bool:
    """Whether all of the suite runs, not the short version."""
    return os.environ.get("RFT_FAULTS") == "full"


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RFT_")}
    return kept | {
        "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "NO_COLOR": "1",
    }  # fmt: skip


class Process:
    """One command that is under way; it leads a process group of its own."""

    def __init__(self, pid: int, log: Path, reap: Any) -> None:
        self.pid, self._log, self._reap, self._began = pid, log, reap, time.monotonic()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = 240) -> Ended:
        """Wait for its end; it is killed, and the test fails, where that takes too long."""
        code = self._reap(seconds)
        return Ended(
            code, self._log.read_text(encoding="utf-8", errors="replace"), time.monotonic() - self._began
        )


def run_outside(folder: Path, arguments: Sequence[str], log: str = "out.log") -> Process:
    """The real `rft` command, started from outside."""
    file = folder / log
    with file.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-c", _DEFAULT_SIGNALS, "-m", "rft_cli", *arguments],
            cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip

    def reap(seconds: float) -> int:
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise

    return Process(child.pid, file, reap)


# What starts the tests may ignore SIGINT, as shells do for what they run in the background.
_DEFAULT_SIGNALS = (
    "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "sys.argv = ['rft', *sys.argv[3:]]; runpy.run_module('rft_cli', run_name='__main__', alter_sys=True)"
)


class WarmServer:
    """A process that has imported torch and TRL, and forks one child for each command (see `server.py`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py"))],
            env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def start(
        self, folder: Path, arguments: Sequence[str], log: str = "out.log", before: str = ""
    ) -> Process:
        """Run this command line in a child. `before` is Python that the child runs first: it may break something."""
        file = folder / log
        pid = self._ask(
            {"folder": str(folder), "arguments": list(arguments), "log": str(file), "before": before}
        )
        return Process(pid, file, lambda seconds: self._ask({"wait": pid, "seconds": seconds}))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        reply = json.loads(self._process.stdout.readline())
        if isinstance(reply, str):
            raise TimeoutError(reply)
        return reply


@dataclass(frozen=True)
class State:
    """All that must come out the same: bytes of weights, tensors of optimizers, lines of metrics, samples, warnings."""

    weights: str
    training: str
    metrics: list[dict[str, Any]]
    files: dict[str, str]
    best: int
    warnings: list[dict[str, Any]]


def state_of(run: Run) -> State:
    """What a run has come to."""
    newest = run.checkpoint_path(run.checkpoints()[-1])
    return State(
        _digest({f.name: load_file(f) for f in sorted(newest.glob("*.safetensors"))}),
        _digest({f.name: loaded(f) for f in sorted(newest.glob("*.pt")) + sorted(newest.glob("*.pth"))}),
        [_untimed(line) for line in run.metrics()],
        {f.relative_to(run.path).as_posix(): _samples(f) for f in sorted(run.path.glob("*/*.jsonl"))},
        int(run.info["best_step"]),
        run.info["warnings"],
    )


def loaded(file: Path) -> Any:
    """A file that torch.save wrote."""
    from transformers.trainer_pt_utils import safe_globals

    with safe_globals():
        return torch.load(file, weights_only=True)


def _untimed(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if "seconds" not in key}


def _samples(file: Path) -> str:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["grade"].pop("seconds", None)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _digest(value: Any) -> str:
    found = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            found.update(f"{item.dtype}{tuple(item.shape)}".encode())
            found.update(item.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(item, dict):
            for key in item:
                found.update(repr(key).encode())
                add(item[key])
        elif isinstance(item, list | tuple):
            found.update(f"[{len(item)}".encode())
            for part in item:
                add(part)
        elif hasattr(item, "tobytes"):
            found.update(item.tobytes())
        else:
            found.update(repr(item).encode())

    add(value)
    return found.hexdigest()


def differences(left: State, right: State) -> list[str]:
    """The names of what differs, for a message."""
    found = [
        name
        for name in ("weights", "training", "best", "warnings")
        if getattr(left, name) != getattr(right, name)
    ]
    if len(left.metrics) != len(right.metrics):
        found.append(f"metrics: {len(left.metrics)} and {len(right.metrics)} lines")
    for one, other in zip(left.metrics, right.metrics, strict=False):
        keys = [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]
        if keys:
            found.append(f"metrics of step {one.get('step')}: {sorted(keys)}")
            break
    names = left.files.keys() | right.files.keys()
    return found + sorted(name for name in names if left.files.get(name) != right.files.get(name))


def copied(source: Path, target: Path) -> Path:
    """A job's folder as it is now, elsewhere."""
    shutil.copytree(source, target, symlinks=True)
    return target
