"""The first signal is answered at once, while the step that it came in goes on to its end."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from rft_cli.commands.signals import signals_ask
from rft_cli.errors import Interrupted
from rft_cli.stopping import Stop
from tests.faults.jobs import Process, WarmJobs, run_outside

Start = Callable[..., Process]
SOON_S = 1.5
"""Seconds in which an answer is there, on a machine that has other work; a step takes longer."""


def write_job(folder: Path) -> list[str]:
    """A job whose grades wait, once the file `slow` is there."""
    (folder / "scorer.py").write_text(
        "import pathlib, time\ndef score(completion, example):\n"
        f"    if pathlib.Path({str(folder / 'slow')!r}).exists():\n        time.sleep(0.6)\n"
        "    return sum(map(ord, completion)) % 7 / 7\n"
    )
    rows = [{"prompt": f"Say {n}.", "output": str(n)} for n in range(4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "val.jsonl").write_text(json.dumps({"prompt": "Say 9.", "output": "9"}) + "\n")
    settings = {
        "rollout.prompts_per_batch": 4, "rollout.group_size": 2, "rollout.max_completion_tokens": 4,
        "grader.workers": 1, "pilot.prompts": 0, "ppo.passes": 1, "ppo.minibatches": 1, "optim.n_epochs": 30,
        "validation.every_epochs": 30, "grader.audit": "none",
    }  # fmt: skip
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    job = ["create", "-t", "rows.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py", "--name", "job"]
    return [*job, *sets]


class Running:
    """A job of which one reads what it says as it comes: on a terminal, or into the file of its standard error."""

    def __init__(self, folder: Path, start: Start, terminal: bool = False) -> None:
        self.folder = folder
        self._drawn = bytearray()
        self._terminal = terminal
        if not terminal:
            self.process = start()
            return
        self._reads, self._writes = pty.openpty()
        self.process = start(terminal=Path(os.ttyname(self._writes)), TERM="xterm")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                self._drawn += os.read(self._reads, 4096)
            except OSError:  # a terminal that nobody writes to any more
                return

    @property
    def said(self) -> str:
        return self._drawn.decode(errors="replace") if self._terminal else self.process.said

    def wait_for(self, text: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.said:
            assert time.monotonic() < deadline, self.said
            assert self.process.alive or text in self.said, self.said
            time.sleep(0.02)

    def wait_for_a_step(self) -> None:
        metrics = self.folder / "runs" / "job" / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not metrics.exists() or not metrics.read_text():
            assert time.monotonic() < deadline, self.said
            assert self.process.alive, self.said
            time.sleep(0.02)

    def end(self) -> int:
        return self.process.wait(120).code

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.alive:
            self.process.signal(signal.SIGKILL)
            self.process.wait(30)
        if self._terminal:
            os.close(self._writes)


@pytest.mark.parametrize(
    ("number", "more", "terminal"),
    [
        (signal.SIGINT, [], True),
        (signal.SIGTERM, ["--num-processes", "2"], False),
    ],
    ids=["terminal", "processes"],
)
def test_the_answer_comes_while_the_step_goes_on(
    tmp_path: Path, warm: WarmJobs, number: signal.Signals, more: list[str], terminal: bool
) -> None:
    # The processes of a job are of the real command, from a terminal it is one in a warm child.
    start = warm.start if terminal else run_outside
    with Running(tmp_path, partial(start, tmp_path, [*write_job(tmp_path), *more]), terminal) as running:
        running.wait_for_a_step()
        (tmp_path / "slow").touch()
        time.sleep(1.0)  # a step takes 8 x 0.6 s now
        running.process.signal(number)
        running.wait_for(f"{number.name}: finishing ", SOON_S)
        assert running.process.alive
        (tmp_path / "slow").unlink()
        assert running.end() == 128 + number
        time.sleep(0.2)
    assert running.said.count(f"{number.name}: finishing ") == 1
    again = "a second Ctrl-C" if number == signal.SIGINT else "Ctrl-C"
    assert f"and its checkpoint, then the job ends; {again} drops it and ends at once" in " ".join(
        running.said.split()
    )
    steps = [
        int(path.name.removeprefix("step-")) for path in (tmp_path / "runs/job/checkpoints").glob("step-*")
    ]
    assert max(steps) >= 1
    assert f"error: interrupted by {number.name}: step {max(steps)} is saved" in " ".join(
        running.said.split()
    )


def test_a_second_one_drops_the_step(tmp_path: Path, warm: WarmJobs) -> None:
    """And the first one is answered under --quiet, too."""
    with Running(tmp_path, partial(warm.start, tmp_path, [*write_job(tmp_path), "--quiet"])) as running:
        running.wait_for_a_step()
        (tmp_path / "slow").touch()
        time.sleep(1.0)
        running.process.signal(signal.SIGINT)
        running.wait_for("SIGINT: finishing ", SOON_S)
        steps = len((tmp_path / "runs/job/metrics.jsonl").read_text().splitlines())
        running.process.signal(signal.SIGINT)
        assert running.end() == 130
    assert len((tmp_path / "runs/job/metrics.jsonl").read_text().splitlines()) == steps


def test_it_comes_in_the_middle_of_a_long_call() -> None:
    """Python would run a handler behind it; a backward pass of a large model is such a call."""
    stop, answered = Stop(), []
    started = time.monotonic()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    with (
        signals_ask(stop, lambda number: answered.append((number, time.monotonic() - started))),
        stop.finishing(),
    ):
        timer.start()
        hashlib.pbkdf2_hmac("sha512", b"x", b"y", 2_000_000)
        took = time.monotonic() - started
    assert [number for number, _ in answered] == [signal.SIGINT] == [stop.number]
    assert answered[0][1] < 0.8 * took


def test_nothing_is_said_where_nothing_is_to_be_finished() -> None:
    stop, answered = Stop(), list[int]()

    def begin() -> None:
        with signals_ask(stop, answered.append):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)

    with pytest.raises(Interrupted, match="SIGTERM"):
        begin()
    assert answered == []
    assert signal.set_wakeup_fd(-1) == -1
