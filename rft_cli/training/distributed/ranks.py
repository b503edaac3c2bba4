"""The training processes: started side by side as children of this process, and ended with it.

`accelerate launch` only sets a few environment variables for one machine. A child of our own shows which signal killed
it, dies with its parent, and needs no launcher's memory and time.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from time import sleep
from typing import IO

import psutil

from rft_cli.training.distributed.channel import SOCKET, Receiver

PARENT = "RFT_INTERNAL_PARENT"
DUMP_SIGNAL = signal.SIGUSR2
"""Makes a process write the stacks of its threads to its log, even while it hangs in C."""
DUMP_S = 0.5
"""Seconds that writing them takes at most, unless the process waits for a drive."""
_PR_SET_PDEATHSIG = 1


class Ranks:
    """Processes of one job, numbered from 0."""

    def __init__(
        self, children: Sequence[subprocess.Popen[bytes]], sockets: Sequence[socket.socket], log: IO[bytes]
    ) -> None:
        self._children, self._log = children, log
        self.receiver = Receiver(sockets)

    def __len__(self) -> int:
        return len(self._children)

    def ended(self, rank: int) -> int | None:
        """The exit code, negative where a signal killed it; None while it runs."""
        return self._children[rank].poll()

    def pid(self, rank: int) -> int:
        return self._children[rank].pid

    def is_stopped(self, rank: int) -> bool:
        """Whether it was stopped by a signal (SIGSTOP), or by a debugger."""
        try:
            return psutil.Process(self.pid(rank)).status() in (
                psutil.STATUS_STOPPED,
                psutil.STATUS_TRACING_STOP,
            )
        except psutil.NoSuchProcess:
            return False

    def dump(self, rank: int) -> None:
        """Have this process write the stacks of its threads to the log."""
        self._log.write(f"process {rank} (pid {self.pid(rank)}) is at:\n".encode())
        self._log.flush()
        # A stopped process handles the first signal once the second continues it.
        for number in (DUMP_SIGNAL, signal.SIGCONT):
            self._children[rank].send_signal(number)
        sleep(DUMP_S)

    def kill(self) -> None:
        """End them all, with what they started in their sessions, and wait until they are gone."""
        for child in self._children:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        for child in self._children:
            child.wait()


@contextmanager
def started(arguments: Sequence[str], processes: int, output: IO[bytes]) -> Iterator[Ranks]:
    """Run `python ARGUMENTS` as so many ranks of one process group; all have ended when the block is left."""
    port = _free_port()
    children: list[subprocess.Popen[bytes]] = []
    sockets: list[socket.socket] = []
    try:
        for rank in range(processes):
            ours, theirs = socket.socketpair()
            sockets.append(ours)
            with theirs:
                number = theirs.fileno()
                children.append(
                    subprocess.Popen(
                        [sys.executable, *arguments],
                        env={**os.environ, **environment(rank, processes, port), SOCKET: str(number)},
                        pass_fds=[number],
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        yield Ranks(children, sockets, output)
    finally:
        Ranks(children, [], output).kill()
        for end in sockets:
            end.close()


def environment(rank: int, processes: int, port: int) -> dict[str, str]:
    """What torch's `env://` and accelerate read; cores are shared out, because torch would use all in each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // processes))),
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "PYTHONUNBUFFERED": "1",
        PARENT: str(os.getpid()),
    }


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, even while it is stopped (Linux).

    Elsewhere the closed socket ends it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # It may have died before the call above.
        if os.getppid() != int(os.environ[PARENT]):
            os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
