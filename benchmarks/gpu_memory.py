"""The most memory that was in use while something ran: the GPU's by nvidia-smi, else that of the child processes."""

from __future__ import annotations

import subprocess
import threading
from types import TracebackType

import psutil

EVERY_S = 0.25


class MemoryWatch:
    """While open, asks again and again; `peak` is in bytes, above what was in use before."""

    def __init__(self, device: str) -> None:
        self._read = _gpu_bytes if device == "cuda" else _children_bytes
        self.peak = 0
        self._before = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._before = self._read()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(EVERY_S):
            self.peak = max(self.peak, self._read() - self._before)


def _gpu_bytes() -> int:
    """What all processes use of GPU 0."""
    asked = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0")
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    return int(done.stdout.strip()) * 2**20


def _children_bytes() -> int:
    found = 0
    for process in psutil.Process().children(recursive=True):
        try:
            found += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return found
