"""Whose fault a lost worker was: the pool may name a task that the worker had already finished."""

from __future__ import annotations

import pickle
from concurrent.futures import Future
from typing import Any

from pebble import ProcessExpired

from rft_cli.grading.pool.crash import Crash
from rft_cli.grading.pool.flight import Flight, Freight
from rft_cli.grading.wire.work import Verdict


class Pool:
    """Stands for the worker processes: tasks wait here until a test answers them."""

    workers = 2

    def __init__(self) -> None:
        self.waiting: list[tuple[int, list[str], Future[Any]]] = []

    def schedule(self, task: Any, arguments: tuple[Any, ...], timeout_s: float) -> Future[Any]:
        future: Future[Any] = Future()
        number, packed = arguments
        self.waiting.append((number, pickle.loads(packed), future))
        return future

    def worked(self) -> None:
        """A task came back."""

    def finish(self, place: int = 0) -> list[str]:
        """Answer a waiting task: its texts in capitals."""
        _, texts, future = self.waiting.pop(place)
        future.set_result(pickle.dumps([text.upper() for text in texts]))
        return texts

    def lose(self, place: int = 0) -> None:
        """The worker of a waiting task has died, says the pool."""
        self.waiting.pop(place)[2].set_exception(ProcessExpired("", code=1, pid=7))


def fly(pool: Pool, culprit: Any) -> Flight[str, list[str]]:
    """A flight whose lost workers were at the task that `culprit()` names."""

    def pack(place: int, works: Any) -> Any:
        return pickle.dumps(list(works))

    def failed(place: int, work: str, verdict: Verdict) -> list[str]:
        return [f"{work} {verdict.kind}"]

    def crash(error: BaseException, doing: str) -> Crash:
        return Crash(False, "scorer.py", doing, task=culprit(), blamed=True)

    freight: Freight[str, list[str]] = Freight(lambda task, packed: b"", pack, pickle.loads, failed)
    return Flight(pool, freight, 1.0, crash, 1.0)  # type: ignore[arg-type]


def test_the_task_that_the_worker_was_at_is_the_one_that_fails() -> None:
    pool = Pool()
    evil = 0
    flight = fly(pool, lambda: evil)
    first, second = flight.launch(0, ["a"]), flight.launch(1, ["evil"])
    evil = pool.waiting[1][0]
    pool.lose(0)  # blamed for what the second did
    flight.collect(block=True)
    (again, _, late), *_ = [entry for entry in pool.waiting if entry[1] == ["evil"]]
    assert again == evil
    evil = pool.waiting[1][0]
    assert [texts for _, texts, _ in pool.waiting] == [["evil"], ["evil"], ["a"]]
    pool.lose(1)  # the second is tried again, alone, and fails
    flight.collect(block=True)
    assert pool.finish(1) == ["a"]
    flight.collect(block=True)
    assert (first.parts(), second.parts()) == ([(0, ["A"])], [(0, ["evil died"])])
    late.set_exception(ProcessExpired("", code=1, pid=7))  # the pool's own late verdict on it changes nothing
    flight.collect(block=False)
    assert flight.tasks == {}


def test_a_task_is_excused_only_so_often() -> None:
    pool = Pool()
    flight = fly(pool, lambda: None)  # the worker could not say what it was at
    chunk = flight.launch(0, ["a", "b"])
    rounds = 0
    while chunk.open:
        pool.lose()
        flight.collect(block=True)
        rounds += 1
        assert rounds < 30
    assert chunk.parts() == [(0, ["a died"]), (1, ["b died"])]
    assert rounds == 6 + 2 * 6
