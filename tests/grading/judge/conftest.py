"""A misbehaving server for each test, and judges that ask it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rft_cli.grading.judge import JudgeBook, JudgeGrader, JudgeTask, open_judge
from tests.grading.judge.servers import JudgeServer, book_of, render, score_task, settings_of


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    server = JudgeServer()
    yield server
    server.close()


OpenJudge = Callable[..., JudgeGrader]


@pytest.fixture
def judge(server: JudgeServer, tmp_path: Path) -> Iterator[OpenJudge]:
    """Open a judge at the server: `judge(task, book=None, **settings)`; closed at the end of the test."""
    opened: list[JudgeGrader] = []

    def open_it(task: JudgeTask | None = None, book: JudgeBook | None = None, **settings: Any) -> JudgeGrader:
        config = settings_of(server, tmp_path, **settings)
        book = book or book_of(config)
        opened.append(open_judge(task or score_task(), render, config, book))
        return opened[-1]

    yield open_it
    for grader in opened:
        grader.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "rft-judge"]
