"""CPU time of `rft --help` and of a config error against a bare Typer program of as many commands.

Like is compared with like: help with help, and a config error with the bare program running the same command line
and doing nothing, since Typer itself loads pydantic only when a command runs (about twice the cost of its help).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Row, cpu_seconds, main, pair

HELP_LIMIT, ERROR_LIMIT = 1.5, 2.0
PAIRS = 15

RFT = (sys.executable, "-m", "rft_cli")
BARE = (sys.executable, "-m", "benchmarks.bare_typer")


def rows(pairs: int = PAIRS) -> list[Row]:
    """Both claims; each side starts as a new process every time."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "job.yaml")
        config.write_text("optim:\n  learning_rte: 1.0e-5\n", encoding="utf-8")
        return [
            _row("start-up: rft --help", ["--help"], 0, pairs, HELP_LIMIT),
            _row("start-up: config error", ["train", str(config)], 2, pairs, ERROR_LIMIT),
        ]


def _row(name: str, arguments: Sequence[str], code: int, pairs: int, limit: float) -> Row:
    result = pair(
        lambda: cpu_seconds([*RFT, *arguments], expect=code),
        lambda: cpu_seconds([*BARE, *arguments]),
        pairs=pairs,
    )
    detail = (
        f"{result.ours * 1000:.0f} ms against {result.theirs * 1000:.0f} ms of CPU, "
        f"{pairs} pairs, {result.low:.2f} to {result.high:.2f}"
    )
    return Row(name, result.ratio, limit, "lower", detail)


if __name__ == "__main__":
    main(rows)
