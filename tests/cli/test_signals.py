"""Signals end a command in good order: one line, 128 + the signal, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from rft_cli.commands.signals import imports_whole, signals_ask, signals_interrupt
from rft_cli.errors import Interrupted
from rft_cli.stopping import Stop, interruption
from tests.command import RFT, environment

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]
COMMANDS = {
    "audit": ["grade", "--reward-model", "scorer.py", "--audit", "rows.jsonl"],
    "validate": ["validate", "-t", "rows.jsonl", "--reward-model", "scorer.py"],
    "create": ["create", "-t", "rows.jsonl", "-v", "rows.jsonl", "--reward-model", "scorer.py"],
}


def start(folder: Path, *command: str, ignored: bool = False) -> subprocess.Popen[str]:
    """`rft` with a scorer that never ends; returns when it grades."""
    (folder / "scorer.py").write_text(
        "import pathlib, time\ndef score(text, row):\n"
        f"    pathlib.Path({str(folder / 'begun')!r}).touch()\n    time.sleep(60)\n"
    )
    (folder / "rows.jsonl").write_text('{"prompt": "p", "output": "a"}\n{"prompt": "q", "output": "b"}\n')
    (folder / "tmp").mkdir()

    def ignore() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    process = subprocess.Popen(
        [*RFT, *command],
        cwd=folder,
        env=environment(TMPDIR=str(folder / "tmp")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=ignore if ignored else None,
    )
    deadline = time.monotonic() + 30
    while not (folder / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (folder / "begun").exists(), process.communicate()
    return process


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "create"])
def test_a_signal_while_a_grader_is_tried(tmp_path: Path, command: str, number: signal.Signals) -> None:
    process = start(tmp_path, *COMMANDS[command])
    process.send_signal(number)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (128 + number, f"error: interrupted by {number.name}\n")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_signal_before_a_job_begins(tmp_path: Path) -> None:
    process = start(tmp_path, *COMMANDS["create"])
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (143, "error: interrupted by SIGTERM\n")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "runs").exists()


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    process = start(tmp_path, *COMMANDS["audit"], "--set", "grader.timeout_s=0.3", ignored=True)
    for number in SIGNALS:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the audit found" in said


def test_a_signal_waits_until_what_is_written_is_whole() -> None:
    done = []

    def write() -> None:
        with signals_interrupt() as signals:
            with signals.held():
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGHUP)  # at once: part of the same wish
                done.append("held")
            done.append("never")

    with pytest.raises(Interrupted, match="interrupted by SIGTERM") as caught:
        write()
    assert (done, caught.value.exit_code) == (["held"], 143)


def test_a_module_that_is_imported_is_imported_whole() -> None:
    done = []

    def load() -> None:
        with signals_interrupt(), imports_whole():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("whole")

    with pytest.raises(Interrupted, match="SIGTERM"):
        load()
    assert done == ["whole"]


def test_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rft_cli.commands.signals.TOGETHER_S", 0.0)
    done = []

    def write() -> None:
        with signals_interrupt() as signals, signals.held():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            done.append("never")

    with pytest.raises(Interrupted, match="SIGHUP"):
        write()
    assert done == []


def test_blocks_share_a_handler_and_give_the_old_ones_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with (
        signals_interrupt() as outer,
        contextlib.suppress(Interrupted),
        signals_interrupt(signal.SIGINT) as inner,
    ):
        assert inner is outer
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_comes_behind_the_first_signal_breaks_off_no_clean_up() -> None:
    """A step was finished because of the first one, and what ends now is written down."""
    stop, done = Stop(), []

    def end() -> None:
        with signals_ask(stop):
            try:
                with stop.finishing():
                    os.kill(os.getpid(), signal.SIGTERM)
                    assert stop.number == signal.SIGTERM
                    raise interruption(stop.number)
            finally:
                for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                    os.kill(os.getpid(), number)
                done.append("written")

    with pytest.raises(Interrupted, match="SIGTERM"):
        end()
    assert done == ["written"]


def test_a_second_interrupt_does_not_wait_for_the_step() -> None:
    stop, done = Stop(), []

    def step() -> None:
        with signals_ask(stop), stop.finishing():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("went on")
            os.kill(os.getpid(), signal.SIGINT)
            done.append("never")

    with pytest.raises(Interrupted, match="SIGTERM"):
        step()
    assert done == ["went on"]
