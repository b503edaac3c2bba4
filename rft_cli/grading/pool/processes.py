"""The worker processes of one grader: a Pebble pool on spawn, replaced when it breaks, swept when it ends."""

from __future__ import annotations

import contextlib
import multiprocessing.context
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from pebble import ProcessFuture, ProcessPool

from rft_cli.errors import RunFailed
from rft_cli.grading.pool.crash import CRASH_CODE
from rft_cli.grading.pool.scratch import Scratch
from rft_cli.grading.sandbox.leftovers import kill_leftovers
from rft_cli.grading.wire.terms import Job
from rft_cli.grading.worker.keeper import start_keeper

_MAX_REPLACEMENTS = 5
_main_lock = threading.Lock()


class _SpawnedProcess(multiprocessing.context.SpawnProcess):
    """A spawned process that does not import the parent's main module.

    Spawn runs it again in the child, which costs the import of whatever the user started: torch, perhaps.
    """

    @property
    def exitcode(self) -> int | None:
        """Never 0, which a scorer's exit would give it: no worker ends by itself while its pool is in use."""
        code = super().exitcode
        return CRASH_CODE if code == 0 else code

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        with _main_lock:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                return multiprocessing.context.SpawnProcess._Popen(process_obj)
            finally:
                sys.modules["__main__"] = main


class _SpawnContext(multiprocessing.context.SpawnContext):
    Process = _SpawnedProcess


class Processes:
    """`workers` processes that ran `start_keeper(job)`; `schedule` gives a task to the next free one.

    `make_job` gets the folder for the workers' own folders, and the file for what scorers print. `stopped`: those that
    `end_stopped` ended.
    """

    def __init__(
        self,
        workers: int,
        log_path: Path | None,
        make_job: Callable[[str, str], Job],
    ):
        self.workers = workers
        self._scratch = Scratch()
        self.scratch = self._scratch.path
        self.log_path = self.scratch / "grader.log" if log_path is None else log_path.absolute()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.job = make_job(str(self.scratch), str(self.log_path))
        self.stopped: set[int] = set()
        self._replacements = 0
        self._pool: ProcessPool | None = None

    def schedule(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout_s: float
    ) -> ProcessFuture[Any]:
        """Run `function(*arguments)` in a worker; raises RunFailed when no pool stays alive."""
        while True:
            if self._pool is None:
                self._pool = self._start()
            try:
                future: ProcessFuture[Any] = self._pool.schedule(function, args=arguments, timeout=timeout_s)
                return future
            except RuntimeError:  # the pool is broken: one of its threads ended
                self.replace()

    def worked(self) -> None:
        """A task came back: the pool is alive."""
        self._replacements = 0

    def replace(self) -> None:
        """Drop the pool with its workers; the next task starts another one."""
        self._replacements += 1
        if self._replacements > _MAX_REPLACEMENTS:
            raise RunFailed("the grader's worker processes can't be kept alive", f"see {self.log_path}")
        self._end_pool()
        self.sweep()

    def sweep(self) -> None:
        """End what dead workers left running in their process groups, and remove their folders."""
        for folder in self._folders():
            if not _alive(int(folder.name)):
                _kill_group(int(folder.name))
                shutil.rmtree(folder, ignore_errors=True)

    def end_stopped(self) -> None:
        """Kill processes of the pool that were stopped (SIGSTOP), which would answer never; others take their tasks."""
        for file in self.scratch.glob("*.task"):
            with contextlib.suppress(OSError):  # it has ended, or this is no Linux
                state, parent = Path("/proc", file.stem, "stat").read_bytes().rpartition(b") ")[2].split()[:2]
                # Not where the number belongs to another process by now, which somebody else stopped.
                if state == b"T" and int(parent) == os.getpid():
                    self.stopped.add(int(file.stem))
                    os.kill(int(file.stem), signal.SIGKILL)

    def close(self) -> None:
        """End all workers and what they left; safe to call twice."""
        self._end_pool()
        if self.scratch.exists():
            self.sweep()
            kill_leftovers(self.scratch)
            self._scratch.remove()

    def _start(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self.workers,
            initializer=start_keeper,
            initargs=(self.job,),
            context=_SpawnContext(),
        )

    def _end_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            # Whole groups at once: a child that lives on holds the pipe by which the pool sees its worker's end.
            for folder in self._folders():
                _kill_group(int(folder.name))
            with contextlib.suppress(RuntimeError, OSError):  # a worker that even SIGKILL does not end
                pool.join()

    def _folders(self) -> Iterator[Path]:
        yield from [entry for entry in self.scratch.iterdir() if entry.name.isdigit()]


def _kill_group(pid: int) -> None:
    with contextlib.suppress(OSError):  # nobody is left in it
        os.killpg(pid, signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the number belongs to another user's process by now
        return True
    return True
