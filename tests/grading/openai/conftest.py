"""Specs as inline graders, the command line as a user runs it, and a WordNet of two words for METEOR."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rft_cli.config.schema import GraderConfig
from rft_cli.grading.open import open_grader
from rft_cli.types import Grade, GradeRequest
from tests.command import Ended
from tests.command import rft as rft_outside
from tests.grading.openai.embeddings_server import Embeddings

_NOUN = "00000000 00 n 02 car 0 auto 0 000 | a motor vehicle  \n"
_EMPTY = [f"{kind}.{part}" for kind in ("index", "data") for part in ("verb", "adj", "adv")]
_EMPTY += [f"{part}.exc" for part in ("noun", "verb", "adj", "adv")] + ["index.sense", "cntlist.rev"]

Rft = Callable[..., Ended]


@pytest.fixture(scope="session")
def graded() -> Any:
    """Grade completions of one row by a spec that stands in the configuration."""

    def grade(spec: dict[str, Any], completions: Sequence[str] = ("",), **row: Any) -> list[Grade]:
        with open_grader(GraderConfig(spec=spec, workers=1), log_path=None) as grader:
            return grader.grade([GradeRequest(text, row) for text in completions])

    return grade


@pytest.fixture
def rft(tmp_path: Path) -> Rft:
    """Run `python -m rft_cli` in the test's folder; `env` adds variables."""

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        return rft_outside(*arguments, folder=tmp_path, env={"COLUMNS": "200", **(env or {})})

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], str]:
    """Write a file into the test's folder: text as it is, lists as JSON lines, all else as JSON."""

    def write(name: str, content: Any) -> str:
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        elif not isinstance(content, str):
            content = json.dumps(content, indent=2)
        (tmp_path / name).write_text(content)
        return name

    return write


@pytest.fixture
def embeddings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Embeddings]:
    """An embeddings endpoint of the test's own."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = Embeddings()
    yield server
    server.close()


@pytest.fixture
def small_wordnet(tmp_path: Path) -> Path:
    """A folder of NLTK data with WordNet's files, in which car and auto are synonyms and nothing else stands."""
    folder = tmp_path / "nltk_data" / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    for name in _EMPTY:
        (folder / name).write_text("")
    (folder / "lexnames").write_text("00\tadj.all\t3\n")
    (folder / "data.noun").write_text(_NOUN)
    (folder / "index.noun").write_text("car n 1 0 1 0 00000000  \nauto n 1 0 1 0 00000000  \n")
    return tmp_path / "nltk_data"
