"""A misbehaving server for each test, and judges that ask it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rft_cli.grading.judge.grader import JudgeGrader
from rft_cli.grading.judge.session import JudgeSession
from rft_cli.grading.openai.schema import JudgeModel
from tests.grading.judge.servers import JudgeServer, score_spec, session_of, settings_of


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    server = JudgeServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The openai client's first wait before a retry: 0.01 s instead of 0.5."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


OpenJudge = Callable[..., JudgeGrader]


@pytest.fixture
def judge(server: JudgeServer, tmp_path: Path) -> Iterator[OpenJudge]:
    """Open a judge at the server: `judge(spec, session=None, **settings)`; closed at the end of the test."""
    opened: list[JudgeGrader] = []

    def open_it(
        spec: JudgeModel | None = None, session: JudgeSession | None = None, **settings: Any
    ) -> JudgeGrader:
        config = settings_of(server, tmp_path, **settings)
        session = session or session_of(config)
        opened.append(JudgeGrader(spec or score_spec(), session))
        return opened[-1]

    yield open_it
    for grader in opened:
        grader.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "rft-judge"]
