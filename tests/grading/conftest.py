"""Scorers written to a temporary folder, and what is left of their processes."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

WriteScorer = Callable[..., str]


@pytest.fixture
def write_scorer(tmp_path: Path) -> WriteScorer:
    """Write `source` (dedented) into a file beside other test files; gives its path as a user would."""

    def write(source: str, name: str = "scorer.py") -> str:
        path = tmp_path / name
        path.write_text(textwrap.dedent(source))
        return str(path)

    return write
