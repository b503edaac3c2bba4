"""`rft grade --progress json`: what is said to people, as one JSON object a line on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from rft_cli.events import Finished, Note
from rft_cli.runs.files import finite

EVERY_S = 1.0
"""Seconds between two lines of progress."""


class JsonLines:
    """Prints events in the form that all commands have."""

    def __init__(self) -> None:
        self._printed = float("-inf")

    def note(self, text: str) -> None:
        """A message, or what the scorer printed."""
        _print(Note(text).to_json())

    def progress(self, done: int, total: int | None) -> None:
        """Grades so far, now and then. `total`: None where rows are read as they come."""
        if time.monotonic() - self._printed >= EVERY_S or done == total:
            self._printed = time.monotonic()
            _print({"event": "Progress", "what": "grades", "done": done, "total": total})

    def finished(self, result: Mapping[str, Any]) -> None:
        """The summary, last."""
        _print(Finished(dict(result)).to_json())


def _print(line: Mapping[str, Any]) -> None:
    print(json.dumps(finite(line)), file=sys.stderr, flush=True)
