"""Small real jobs: their files, the command line in a process of its own, in a warm child or in this process.

Importing torch and TRL takes longer than a small job itself. So a server process imports them once and forks: each
child calls the command line's own entry point with its arguments. What is about the outside starts the real command.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from typer.testing import CliRunner

from rft_cli.cli import app
from rft_cli.runs import Run

ROOT = Path(__file__).resolve().parents[2]
FULL = os.environ.get("RFT_FAULTS") == "full"
"""Whether all of the suite runs, not the short version."""
FILES = ("-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py")
SCORER = '''"""Long completions are better; the second component has values of many digits."""

from helper import reward


def score(completion, example):
    return {"reward": reward(completion), "letters": len(set(completion)) / 7}
'''
HELPER = "def reward(completion):\n    return 1 - 1 / (1 + len(completion) / 20)\n"
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
RESUME = ("train", "--resume", "runs/job")


def sets(settings: Mapping[str, Any]) -> list[str]:
    """`--set` for each of these settings."""
    return [
        word
        for key, value in settings.items()
        for word in ("--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    ]


SMALL = tuple(sets({
    "rollout.group_size": 2, "rollout.max_completion_tokens": 8, "ppo.passes": 1, "ppo.minibatches": 1,
    "grader.workers": 1, "grader.audit": "none", "checkpoint.every_steps": 1, "checkpoint.keep_last": 3,
    "optim.learning_rate": 0.001,
}))  # fmt: skip
"""One optimizer step an epoch, each with its checkpoint, for four rows."""


def make_files(folder: Path, rows: int = 8) -> Path:
    """train.jsonl, val.jsonl, scorer.py and the module that it imports."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, start in (("train", 0), ("val", 100)):
        values = (
            {"task": "Add.", "input": f"{n} + 1", "output": str(n + 1)} for n in range(start, start + rows)
        )
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in values))
    (folder / "scorer.py").write_text(SCORER)
    (folder / "helper.py").write_text(HELPER)
    return folder


def create_arguments(settings: Mapping[str, Any], name: str = "job") -> list[str]:
    """`rft create` with these settings over `SETTINGS`."""
    return ["create", *FILES, "--name", name, *sets({**SETTINGS, **settings})]


def environment(traced: bool = True, **more: str) -> dict[str, str]:
    """This process's environment, for a child that takes rft from this checkout and asks no network.

    `traced` False: without coverage, which costs time and memory of its own.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RFT_")}
    if not traced:
        kept = {name: value for name, value in kept.items() if not name.startswith("COVERAGE_")}
    fixed = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "100"}
    return {**kept, **fixed, "PYTHONPATH": str(ROOT), **more}


@dataclass(frozen=True)
class Ended:
    """How a command ended. `peak_mb` is the most memory that it, or one of its children, had at a time."""

    code: int
    stdout: bytes
    stderr: bytes
    seconds: float = 0.0
    peak_mb: float = 0.0

    @property
    def out(self) -> str:
        return self.stdout.decode()

    @property
    def err(self) -> str:
        """Standard error as text, which it must be."""
        return self.stderr.decode()

    @property
    def errors(self) -> list[str]:
        """Its messages, as they stand there."""
        return [line for line in self.err.splitlines() if line.startswith(("error", "internal error"))]

    @property
    def problems(self) -> list[str]:
        """The messages behind `error: `, without their fixes."""
        return [line[7:] for line in self.err.splitlines() if line.startswith("error: ")]


class Process:
    """One command that is under way; it leads a session of its own. `out` and `err` hold what it says."""

    def __init__(self, pid: int, out: Path, err: Path, reap: Callable[[float], int]) -> None:
        self.pid, self._out, self._err, self._reap = pid, out, err, reap
        self._began = time.monotonic()
        self._family: list[psutil.Process] = []

    @property
    def alive(self) -> bool:
        return psutil.pid_exists(self.pid) and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE

    def rank(self, number: int) -> psutil.Process:
        """The training process of this rank."""
        return self.ranks()[number]

    def ranks(self) -> dict[int, psutil.Process]:
        """The training processes that were started so far."""
        children = psutil.Process(self.pid).children()
        trained = [child for child in children if "rft_cli.training.worker" in child.cmdline()]
        return {int(child.environ()["RANK"]): child for child in trained}

    def family(self) -> list[psutil.Process]:
        """Everyone that it has started, and they in turn."""
        self._family = psutil.Process(self.pid).children(recursive=True) if self.alive else []
        return self._family

    def signal(self, number: int) -> None:
        """Send it this signal; whom it has started by then must be gone soon after its end."""
        self.family()
        os.kill(self.pid, number)

    def wait(self, seconds: float = 240) -> Ended:
        """Wait for its end, and for that of all that it started; the test fails where that takes too long."""
        code = self._reap(seconds)
        took = time.monotonic() - self._began
        wait_for(lambda: not self.left(), 20)
        return Ended(code, self._out.read_bytes(), self._err.read_bytes(), took)

    def left(self) -> list[psutil.Process]:
        """Processes of the job that live though it has ended."""
        return [p for p in self._family if lives(p)] + [p for p in psutil.process_iter() if self._leads(p)]

    def _leads(self, process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == self.pid and process.pid != self.pid and lives(process)
        except (ProcessLookupError, PermissionError):
            return False


def lives(process: psutil.Process) -> bool:
    """Whether it runs still."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(what: Callable[[], object], seconds: float) -> None:
    """Ask until it is so; the test fails where that takes too long."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def signals_as_in_a_terminal() -> None:
    """A shell's background jobs begin with SIGINT ignored, and rft leaves it so."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


def run_outside(folder: Path, arguments: Sequence[str], **env: str) -> Process:
    """The real `rft` command, started as a terminal starts it."""
    out, err = folder / "job.out", folder / "job.err"
    with out.open("wb") as output, err.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "rft_cli", *arguments],
            cwd=folder, env=environment(**env), stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
            start_new_session=True, preexec_fn=signals_as_in_a_terminal,
        )  # fmt: skip

    def reap(seconds: float) -> int:
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise

    return Process(child.pid, out, err, reap)


class WarmServer:
    """A process that has imported torch and TRL, and forks one child for each command (see `server.py`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py"))],
            env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def start(self, folder: Path, arguments: Sequence[str], before: str = "", **env: str) -> Process:
        """Run this command line in a child. `before` is Python that the child runs first: it may break something."""
        out, err = folder / "job.out", folder / "job.err"
        request = {"folder": str(folder), "arguments": list(arguments), "out": str(out), "err": str(err)}
        pid = self._ask({**request, "before": before, "environment": env})
        return Process(pid, out, err, lambda seconds: self._ask({"wait": pid, "seconds": seconds}))

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


_MEASURED = """
import os, resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
os.write(int(sys.argv[1]), str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss).encode())
sys.exit(code)
"""


def rft(
    *args: str | Path,
    folder: Path,
    given: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
    traced: bool = True,
) -> Ended:
    """The real `rft` command in `folder`, to its end, with `given` as its standard input, and its memory measured."""
    read, write = os.pipe()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(write), sys.executable, "-m", "rft_cli", *map(os.fspath, args)],
        cwd=folder, input=given, capture_output=True, env=environment(traced, **(env or {})), timeout=timeout,
        pass_fds=[write],
    )  # fmt: skip
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        return Ended(done.returncode, done.stdout, done.stderr, peak_mb=int(pipe.read()) / 1024)


def rft_here(folder: Path, *args: str) -> Ended:
    """`rft ARGS` in `folder`, in this process: what it imports is imported once."""
    before = Path.cwd()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.chdir(folder)
    try:
        found = CliRunner().invoke(app, list(args), prog_name="rft")
    finally:
        os.chdir(before)
    return Ended(found.exit_code, found.stdout_bytes, found.stderr_bytes)


def small_arguments(name: str, epochs: int = 2) -> list[str]:
    """`rft create` for the job with one step an epoch."""
    return ["create", *FILES, *SMALL, "--n-epochs", str(epochs), "--name", name]


def moved(run: Run, before: Path, now: Path) -> Run:
    """Make a copied run name its files where the copy has them."""
    config = run.path / "config.yaml"
    config.write_text(config.read_text().replace(str(before), str(now)))
    settings = json.loads(json.dumps(run.info["settings"]).replace(str(before), str(now)))
    run.update(settings=settings, path=str(run.path))
    return run


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """Every path under `folder` with its kind, mode, times and content: what no refusal may change."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted([folder, *folder.rglob("*")]):
        stat = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[path.relative_to(folder).as_posix()] = (
            stat.st_mode, stat.st_mtime_ns, stat.st_size if path.is_file() else 0, content,
        )  # fmt: skip
    return found
