"""The first signal is answered at once, while the step that it came in goes on to its end."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from rft_cli.commands.signals import signals_ask
from rft_cli.errors import Interrupted
from rft_cli.stopping import Stop
from tests.command import RFT, environment

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
    return [*RFT, *job, *sets]


class Running:
    """A job whose standard error is read as it comes."""

    def __init__(self, command: list[str], folder: Path, terminal: bool = False) -> None:
        self.folder = folder
        self.said = ""
        reads, writes = pty.openpty() if terminal else os.pipe()
        env = environment(TERM="xterm" if terminal else "dumb")
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=writes, start_new_session=True
        )
        os.close(writes)
        self._reads = reads
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._reads, 4096)
            except OSError:  # a terminal that nobody writes to any more
                return
            if not part:
                return
            self.said += part.decode(errors="replace")

    def wait_for(self, text: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.said:
            assert time.monotonic() < deadline, self.said
            assert self.process.poll() is None or text in self.said, self.said
            time.sleep(0.02)

    def wait_for_a_step(self) -> None:
        metrics = self.folder / "runs" / "job" / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not metrics.exists() or not metrics.read_text():
            assert time.monotonic() < deadline, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.02)

    def end(self) -> int:
        return self.process.wait(timeout=120)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize(
    ("number", "more", "terminal"),
    [
        (signal.SIGINT, [], True),
        (signal.SIGTERM, ["--num-processes", "2"], False),
    ],
    ids=["terminal", "processes"],
)
def test_the_answer_comes_while_the_step_goes_on(
    tmp_path: Path, number: signal.Signals, more: list[str], terminal: bool
) -> None:
    with Running([*write_job(tmp_path), *more], tmp_path, terminal) as running:
        running.wait_for_a_step()
        (tmp_path / "slow").touch()
        time.sleep(1.0)  # a step takes 8 x 0.6 s now
        running.process.send_signal(number)
        running.wait_for(f"{number.name}: finishing ", SOON_S)
        assert running.process.poll() is None
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


def test_a_second_one_drops_the_step(tmp_path: Path) -> None:
    """And the first one is answered under --quiet, too."""
    with Running([*write_job(tmp_path), "--quiet"], tmp_path) as running:
        running.wait_for_a_step()
        (tmp_path / "slow").touch()
        time.sleep(1.0)
        running.process.send_signal(signal.SIGINT)
        running.wait_for("SIGINT: finishing ", SOON_S)
        steps = len((tmp_path / "runs/job/metrics.jsonl").read_text().splitlines())
        running.process.send_signal(signal.SIGINT)
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
