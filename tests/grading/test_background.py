"""Grades in the background: in turn, raised where they are awaited, and ended by `close` whatever is under way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import RunFailed
from rft_cli.grading.background import BackgroundGrader, in_background
from rft_cli.grading.open import open_grader
from rft_cli.grading.protocol import Grader
from rft_cli.grading.stats import GraderStats
from rft_cli.types import Grade, GradeRequest
from tests.grading.judge.servers import MODEL, Act, JudgeServer, settings_of

MESSAGES = [{"role": "user", "content": "{{sample.output_text}}"}]
SLOW = """
import time
def score(completion):
    time.sleep(float(completion))
    return float(completion)
"""


def requests(*seconds: float) -> list[GradeRequest]:
    return [GradeRequest(str(s), {}) for s in seconds]


def background(path: str, **settings: Any) -> BackgroundGrader:
    grader = in_background(open_grader(GraderConfig(path=path, workers=1, **settings), log_path=None))
    assert isinstance(grader, BackgroundGrader)
    return grader


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("grading")]


def test_batches_are_graded_in_turn_while_the_caller_does_something_else(write_scorer: Any) -> None:
    with background(write_scorer(SLOW)) as grader:
        began = time.monotonic()
        first, second = grader.start(requests(0.2, 0.1)), grader.start(requests(0.15))
        assert time.monotonic() - began < 0.2
        assert not second.done()
        # Who asks meanwhile waits for both.
        assert [grade.reward for grade in grader.grade(requests(0.0))] == [0.0]
        assert first.done()
        assert second.done()
        assert [grade.reward for grade in first.result().grades] == [0.2, 0.1]
        # Its own time, without that before its turn.
        assert 0.15 <= second.result().seconds < first.result().seconds + 0.2
        assert grader.stats.total == 4
    assert threads() == []


def test_closing_it_ends_what_is_being_graded(write_scorer: Any) -> None:
    # Tests before may have left a warm server.
    others = psutil.Process().children(recursive=True)
    grader = background(write_scorer(SLOW), timeout_s=60)
    running, waiting = grader.start(requests(0.0, 50.0, 0.0)), grader.start(requests(0.0))
    time.sleep(0.5)
    workers = [child for child in psutil.Process().children(recursive=True) if child not in others]
    assert workers
    began = time.monotonic()
    grader.close()
    assert time.monotonic() - began < 5
    assert waiting.cancelled()
    with pytest.raises(RunFailed, match="closed while it graded"):
        running.result(timeout=5)
    assert threads() == []
    assert psutil.wait_procs(workers, timeout=5)[1] == []
    grader.close()


def test_a_judge_that_is_asked_can_be_closed(tmp_path: Path) -> None:
    server = JudgeServer()
    server.default = lambda body: Act(wait_s=30.0)
    grader = BackgroundGrader(
        open_grader(
            GraderConfig(
                spec={"type": "score_model", "name": "q", "model": MODEL, "input": MESSAGES},
                judge=settings_of(server, tmp_path, api_key_env="none"),
            ),
            log_path=None,
        )
    )
    future = grader.start(requests(1.0, 2.0))
    time.sleep(0.5)
    began = time.monotonic()
    grader.close()
    assert time.monotonic() - began < 5
    assert future.exception(timeout=5) is not None or future.cancelled()
    assert threads() == []
    server.close()


class Spent(Grader):
    """Computes in this process, until its budget is spent."""

    def __init__(self, in_place: bool) -> None:
        self.stats, self.signature, self.sha256, self.log_path = GraderStats(), "spent", "", None
        self.in_place = in_place

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        raise RunFailed("the budget is spent")

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        yield self.grade([*requests])

    def close(self) -> None:
        """Nothing to end."""


@pytest.mark.parametrize("in_place", [False, True])
def test_what_a_grader_raises_is_raised_where_its_grades_are_awaited(in_place: bool) -> None:
    with in_background(Spent(in_place)) as grader:
        assert isinstance(grader, Spent) == in_place, "a grader on the device that trains stays in its thread"
        future = grader.start(requests(1.0))
        assert future.done() or not in_place
        with pytest.raises(RunFailed, match="the budget is spent"):
            future.result(timeout=5)
