"""Small real jobs: their files, the command line in a process of its own, in a warm child or in this process.

Importing torch and TRL takes longer than a small job itself. So a server process imports them once and forks: each
child calls the command line's own entry point with its arguments. What is about the outside starts the real command.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from typer.testing import CliRunner

from rft_cli.cli import app
from rft_cli.runs import Run
from tests.command import RFT, ROOT, Ended, environment, sets
from tests.warm import WarmServer

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
    "pilot.prompts": 0,
}
"""Three epochs of two rollout batches with four optimizer steps each: checkpoints fall inside of batches."""
LORA = {"lora.enabled": True, "lora.dropout": 0.1, "ppo.critic": "mlp"}
RESUME = ("train", "--resume", "runs/job")


SMALL = tuple(sets({
    "rollout.group_size": 2, "rollout.max_completion_tokens": 8, "ppo.passes": 1, "ppo.minibatches": 1,
    "grader.workers": 1, "grader.audit": "none", "checkpoint.every_steps": 1, "checkpoint.keep_last": 3,
    "optim.learning_rate": 0.001, "pilot.prompts": 0,
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


class Process:
    """One command that is under way; it leads a session of its own. `out` and `err` hold what it says."""

    def __init__(self, pid: int, out: Path, err: Path, reap: Callable[[float], int]) -> None:
        self.pid, self._out, self._err, self._reap = pid, out, err, reap
        self._began = time.monotonic()
        self._family: list[psutil.Process] = []

    @property
    def alive(self) -> bool:
        return psutil.pid_exists(self.pid) and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE

    @property
    def said(self) -> str:
        """Standard error so far."""
        return self._err.read_bytes().decode(errors="replace")

    def rank(self, number: int) -> psutil.Process:
        """The training process of this rank."""
        return self.ranks()[number]

    def ranks(self) -> dict[int, psutil.Process]:
        """The training processes that were started so far."""
        children = psutil.Process(self.pid).children()
        trained = [child for child in children if "rft_cli.training.rank_main" in child.cmdline()]
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


def run_outside(folder: Path, arguments: Sequence[str], traced: bool = True, **env: str) -> Process:
    """The real `rft` command, started as a terminal starts it; `traced` False: without coverage."""
    out, err = folder / "job.out", folder / "job.err"
    with out.open("wb") as output, err.open("wb") as errors:
        child = subprocess.Popen(
            [*RFT, *arguments],
            cwd=folder, env=environment(traced, **env), stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
            start_new_session=True,
        )  # fmt: skip

    def reap(seconds: float) -> int:
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise

    return Process(child.pid, out, err, reap)


class WarmJobs:
    """Starts jobs in forked children of a warm server."""

    def __init__(self, server: WarmServer) -> None:
        self._server = server

    def start(
        self,
        folder: Path,
        arguments: Sequence[str],
        before: str = "",
        terminal: Path | None = None,
        **env: str,
    ) -> Process:
        """Run this command line in a child. `before` is Python that the child runs first: it may break something.

        Where `terminal` is given, standard error goes there and not into a file.
        """
        out, err = folder / "job.out", folder / "job.err"
        err.touch()
        pid = self._server.start(
            folder, arguments, out, terminal or err, environment(traced=False, **env), before=before
        )
        return Process(pid, out, err, lambda seconds: self._server.wait(pid, seconds))


def rft_here(folder: Path, *args: str | Path) -> Ended:
    """`rft ARGS` in `folder`, in this process: what it imports is imported once.

    Workers that it starts are not traced: tests/grading measures them.
    """
    unset = {name: None for name in os.environ if name.startswith(("RFT_", "COVERAGE_"))}
    with contextlib.chdir(folder):
        found = CliRunner().invoke(
            app, [*map(os.fspath, args)], prog_name="rft", env={**unset, **environment(traced=False)}
        )
    return Ended(found.exit_code, found.stdout_bytes, found.stderr_bytes)


def in_child(work: Callable[[], object]) -> Callable[[], tuple[int, str]]:
    """Begin `work` in a forked child, and give what waits for it: its exit code, and what `work` returned as text.

    The code is 0, or 1 where it raised: then the text is the exception's.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            said = str(work())
            code = 0
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(code)
    os.close(write)

    def end() -> tuple[int, str]:
        with os.fdopen(read) as pipe:
            said = pipe.read()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said

    return end


def small_arguments(name: str, epochs: int = 2) -> list[str]:
    """`rft create` for the job with one step an epoch, each validated."""
    each = sets({"validation.every_completions": 8})
    return ["create", *FILES, *SMALL, *each, "--n-epochs", str(epochs), "--name", name]


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


PLANTS = """
import signal, time
def go_to_sleep(*_): time.sleep(1e6)
def go_wrong(*_): raise ZeroDivisionError("planted")
signal.signal(signal.SIGRTMIN + 1, go_to_sleep)
signal.signal(signal.SIGRTMIN + 2, go_wrong)
"""
SLEEP, RAISE = signal.SIGRTMIN + 1, signal.SIGRTMIN + 2


def plant(folder: Path) -> dict[str, str]:
    """Variables with which every Python process falls asleep, or raises, at a signal: from a `sitecustomize.py`."""
    (folder / "plants").mkdir(exist_ok=True)
    (folder / "plants" / "sitecustomize.py").write_text(PLANTS)
    return {"PYTHONPATH": f"{folder / 'plants'}:{ROOT}"}
