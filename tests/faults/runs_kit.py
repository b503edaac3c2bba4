"""Small real jobs for tests of run directories: few rows, completions of eight tokens, a checkpoint every step."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from typer.testing import CliRunner

from rft_cli.cli import app
from rft_cli.runs import Run

ROOT = Path(__file__).parents[2]
SETS = (
    "rollout.group_size=2", "rollout.max_completion_tokens=8", "ppo.passes=1", "ppo.minibatches=1",
    "grader.workers=1", "grader.audit=none", "checkpoint.every_steps=1", "checkpoint.keep_last=3",
    "optim.learning_rate=1e-3",
)  # fmt: skip
SMALL = tuple(part for item in SETS for part in ("--set", item))
FILES = ("-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py")
SCORER = """
from helper import reward


def score(completion, example):
    return reward(completion)
"""
HELPER = """
def reward(completion):
    return min(1.0, len(completion) / 40)
"""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """Its messages: lines that begin with `error`."""
        return [line for line in self.err.splitlines() if line.startswith(("error", "internal error"))]


def make_files(folder: Path) -> Path:
    """train.jsonl, val.jsonl, scorer.py and the module that it imports."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, start in (("train", 0), ("val", 100)):
        rows = ({"task": "Add.", "input": f"{n} + 1", "output": str(n + 1)} for n in range(start, start + 4))
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "scorer.py").write_text(SCORER)
    (folder / "helper.py").write_text(HELPER)
    return folder


def environment(**more: str) -> dict[str, str]:
    """This process's environment, for a child that takes rft from this checkout and asks no network."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RFT_")}
    return {**kept, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **more}


def start(folder: Path, *args: str, **env: str) -> subprocess.Popen[str]:
    """`rft ARGS` in `folder`, as a terminal starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "rft_cli", *args],
        cwd=folder,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_signals_as_in_a_terminal,
    )


def rft(folder: Path, *args: str, **env: str) -> Done:
    """`rft ARGS` in `folder`, to its end."""
    child = start(folder, *args, **env)
    out, err = child.communicate(timeout=280)
    return Done(child.returncode, out, err)


def rft_here(folder: Path, *args: str) -> Done:
    """`rft ARGS` in `folder`, in this process: what it imports is imported once."""
    before = Path.cwd()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.chdir(folder)
    try:
        found = CliRunner().invoke(app, list(args), prog_name="rft")
    finally:
        os.chdir(before)
    return Done(found.exit_code, found.stdout, found.stderr)


@cache
def _finished() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="rft-faults-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    done = create(make_files(folder), "a")
    assert done.code == 0, done.err
    return folder


def finished(folder: Path) -> Run:
    """A copy of a finished job's folder, in which the run `a` has trained two epochs of one step each."""
    shutil.copytree(_finished(), folder, symlinks=True, dirs_exist_ok=True)
    text = (folder / "runs" / "a" / "config.yaml").read_text()
    (folder / "runs" / "a" / "config.yaml").write_text(text.replace(str(_finished()), str(folder)))
    run = Run(folder / "runs" / "a")
    settings = json.loads(json.dumps(run.info["settings"]).replace(str(_finished()), str(folder)))
    run.update(settings=settings, path=str(run.path))
    return run


def create(folder: Path, name: str, *more: str, epochs: int = 2, **env: str) -> Done:
    """A small job called `name`."""
    return rft(folder, "create", *FILES, *SMALL, "--n-epochs", str(epochs), "--name", name, *more, **env)


def tree(folder: Path, but: Sequence[str] = ()) -> dict[str, tuple[object, ...]]:
    """Every path under `folder` with its kind, mode, times and content: what no refusal may change."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted([folder, *folder.rglob("*")]):
        name = path.relative_to(folder).as_posix()
        if name in but:
            continue
        stat = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[name] = (stat.st_mode, stat.st_mtime_ns, stat.st_size if path.is_file() else 0, content)
    return found


def _signals_as_in_a_terminal() -> None:
    # A shell's background jobs begin with SIGINT ignored, and rft leaves it so.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
