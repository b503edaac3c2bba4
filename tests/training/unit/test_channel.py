"""What training processes and their parent tell each other, and what the parent makes of errors."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from torch.distributed import DistNetworkError, DistStoreError

from rft_cli.errors import GateNotMet, Interrupted, OutOfMemory, RftError, RunFailed, UsageError, UsageErrors
from rft_cli.events import Finished, Note
from rft_cli.training.distributed.channel import (
    Cause,
    Receiver,
    Reporter,
    cause_of,
    error_from_json,
    error_to_json,
)


@pytest.fixture
def pair() -> Iterator[tuple[Receiver, socket.socket]]:
    """The parent's side of one process, and the process's end."""
    ours, theirs = socket.socketpair()
    with ours:
        yield Receiver([ours]), theirs


def received(receiver: Receiver, count: int) -> list[Any]:
    rows: list[Any] = []
    end = time.monotonic() + 10
    while len(rows) < count and time.monotonic() < end:
        rows += receiver.take(0.1)
    return rows


def as_raised(error: BaseException) -> RftError:
    return error_from_json(json.loads(json.dumps(error_to_json(error, rank=1))))


@pytest.mark.parametrize(
    ("error", "kind", "code", "message", "fix"),
    [
        (UsageError("no model", "give one"), UsageError, 2, "no model", "give one"),
        (UsageErrors([UsageError("one"), UsageError("two")]), UsageErrors, 2, "one\ntwo", None),
        (RunFailed("the grader fails", "look into it"), RunFailed, 3, "the grader fails", "look into it"),
        (GateNotMet("too little"), GateNotMet, 1, "too little", None),
        (OutOfMemory("none left", "take less"), OutOfMemory, 3, "none left", "take less"),
        (Interrupted(15, "stopped"), Interrupted, 143, "stopped", None),
        (ZeroDivisionError("by zero"), RunFailed, 3, "process 1 raised ZeroDivisionError: by zero", None),
        (KeyboardInterrupt(), RunFailed, 3, "process 1 raised KeyboardInterrupt: ", None),
    ],
)
def test_errors_keep_their_exit_code(
    error: BaseException, kind: type[RftError], code: int, message: str, fix: str | None
) -> None:
    raised = as_raised(error)
    assert type(raised) is kind
    assert (raised.exit_code, raised.message, raised.fix) == (code, message, fix)


def test_an_error_names_its_place() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        message = as_raised(error).message
    assert message.startswith("process 1 raised JSONDecodeError: Expecting property name")
    assert message.endswith(" in raw_decode)") or message.endswith(" in decode)")


def test_every_problem_keeps_its_fix() -> None:
    raised = as_raised(UsageErrors([UsageError("one", "do this"), UsageError("two")]))
    assert isinstance(raised, UsageErrors)
    assert [(p.message, p.fix) for p in raised.problems] == [("one", "do this"), ("two", None)]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        # As gloo and TCPStore of torch 2.13 say it.
        (RuntimeError("[../pair.cc:543] Connection closed by peer [127.0.0.1]:48021"), Cause.LOST_PEER),
        (RuntimeError("[a.cc:78] Timed out waiting 15000ms for recv operation to complete"), Cause.TIMED_OUT),
        (DistStoreError("Timed out after 6 seconds waiting for clients. 1/2 joined."), Cause.TIMED_OUT),
        (DistNetworkError("The client socket has timed out after 5000ms while trying to"), Cause.TIMED_OUT),
        (DistStoreError("wait timeout after 1000ms, keys: /a"), Cause.TIMED_OUT),
        (ConnectionResetError(104, "Connection reset by peer"), Cause.LOST_PEER),
        (TimeoutError("the read operation timed out"), Cause.OWN),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Cause.OWN),
        (ValueError("connection closed by peer"), Cause.OWN),
    ],
)
def test_errors_that_only_say_what_another_process_did(error: Exception, cause: Cause) -> None:
    assert cause_of(error) is cause
    assert error_to_json(error, 0)["cause"] == cause


def test_what_a_process_sends_arrives_in_order_with_its_rank() -> None:
    (ours, theirs), (other, _theirs) = socket.socketpair(), socket.socketpair()
    receiver = Receiver([other, ours])
    reporter = Reporter(theirs.detach(), 1, lambda _: None)
    reporter.event(Note("hello"))
    reporter.event(Finished({"status": "done"}))
    reporter.goodbye()
    reporter._socket.shutdown(socket.SHUT_RDWR)
    lines = received(receiver, 4)
    assert [line.rank for line in lines] == [1] * 4
    assert [line.row for line in lines] == [
        {"event": "Note", "text": "hello", "level": "info", "step": None, "tripwire": None},
        {"event": "Finished", "result": {"status": "done"}},
        {"goodbye": True},
        None,
    ]


def test_a_stop_reaches_a_process_that_starts_to_read_later(pair: tuple[Receiver, socket.socket]) -> None:
    receiver, theirs = pair
    asked = queue.SimpleQueue[int]()
    receiver.stop(15)
    reporter = Reporter(theirs.detach(), 0, asked.put)
    assert asked.get(timeout=10) == 15
    receiver.stop(2)
    assert asked.get(timeout=10) == 2
    reporter.goodbye()
    reporter._socket.shutdown(socket.SHUT_RDWR)


CHILD = """
import sys, time
from rft_cli.events import Note
from rft_cli.training.distributed.channel import Reporter
reporter = Reporter(int(sys.argv[1]), 0, lambda _: None)
reporter.event(Note("here"))
time.sleep(60)
"""


def test_a_process_whose_parent_is_gone_ends_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        number = theirs.fileno()
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(number)], pass_fds=[number])
        assert received(Receiver([ours]), 1)
    assert child.wait(5) == 1


def test_a_line_in_two_pieces_is_one_and_a_cut_one_is_left_out(pair: tuple[Receiver, socket.socket]) -> None:
    receiver, theirs = pair
    with theirs:
        theirs.sendall(b'{"event": "No')
        assert receiver.take(0.1) == []
        theirs.sendall(b'te"}\n{"event": "Cu')
        assert [line.row for line in received(receiver, 1)] == [{"event": "Note"}]
    assert [line.row for line in received(receiver, 1)] == [None]
    assert receiver.take(0.1) == []
