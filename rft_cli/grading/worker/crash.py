"""Describes why a worker died, and where in the scorer."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from rft_cli.grading.isolation.output import MOST, output_path, shorten
from rft_cli.grading.isolation.process import fault_path
from rft_cli.grading.wire.messages import Outcome, ScorerSource, late_message
from rft_cli.grading.worker.child import Ending

_GARBLED = "broke or garbled the pipe by which it answers, so rft ended the process"
_TRACE_CHARS = 4000
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


@dataclass(frozen=True, slots=True)
class Crash:
    """How a process died. `late`: its time was over. `place` is the scorer's file:line where that is known.

    `output`: what the scorer printed last, where that is kept. `exact` is false where the process may have begun other
    completions after the one at fault.
    """

    late: bool
    place: str
    text: str
    trace: str = ""
    output: str = ""
    exact: bool = True

    def outcome(self, timeout_s: float) -> Outcome:
        """The failed grade of the completion that the process had begun."""
        if self.late:
            message = late_message(self.place, timeout_s)
            return Outcome(None, {}, "timeout", message, self.trace, timeout_s, self.output)
        return Outcome(None, {}, "died", f"{self.place}: {self.text}", self.trace, 0.0, self.output)


def read_crash(
    folder: str, source: ScorerSource, ending: Ending, doing: str, output: str | None = None
) -> Crash:
    """Describe the end of the process of this folder. `doing` completes the sentence "… ended the process".

    `output` is what the scorer printed; None: it is read from the folder.
    """
    trace = _read(fault_path(folder))[:_TRACE_CHARS]
    if output is None:
        output = _read(output_path(folder))
    frame = next((m for m in _FRAME.finditer(trace) if m["file"] == source.path), None)
    place = source.shown if frame is None else f"{source.shown}:{frame['line']}"
    late = ending.late or trace.startswith("Timeout (")
    return Crash(late, place, _ended(doing, ending), trace, output, not ending.garbled)


def _ended(doing: str, ending: Ending) -> str:
    if ending.garbled:
        return f"{doing} {_GARBLED}"
    if ending.code == -signal.SIGSTOP:
        return f"{doing} stopped the process (SIGSTOP), so rft ended it"
    return f"{doing} ended the process ({_exit_words(ending.code)})"


def _exit_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", perhaps out of memory" if name == "SIGKILL" else ""
    return f"{name}{hint}"


def _read(path: Path) -> str:
    """The beginning of a file that a worker wrote; empty where there is none."""
    try:
        with path.open("rb") as file:
            return shorten(file.read(MOST + 1))
    except OSError:
        return ""
