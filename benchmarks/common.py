"""What benchmarks share: the row of the table, paired measurement, and the command line of a benchmark module.

A benchmark module `benchmarks/NAME.py` has a function `rows() -> list[Row]` and ends with

    if __name__ == "__main__":
        main(rows)

so that `python -m benchmarks.NAME` prints its table, and `--json` one JSON line a row, which is what
`python -m benchmarks.run` reads. `main(rows, full="what it does")` adds a switch `--full`, and calls `rows(full=True)`
where it is given. Each module runs in a process of its own: peak memory is its own, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One claim: `ratio` of what is claimed over what it is compared with, and the `limit` it has to keep.

    `better` says on which side of the limit the ratio must lie; the limit itself is allowed. A ratio of None was
    not measured, and `detail` says why; otherwise `detail` gives both sides in their own units.
    """

    name: str
    ratio: float | None
    limit: float
    better: Literal["lower", "higher"]
    detail: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the limit is kept; None where nothing was measured. A ratio that is no number never is."""
        if self.ratio is None:
            return None
        return self.ratio <= self.limit if self.better == "lower" else self.ratio >= self.limit

    def to_json(self) -> dict[str, Any]:
        row = dataclasses.asdict(self)
        if self.ratio is not None and not math.isfinite(self.ratio):
            row["ratio"] = str(self.ratio)  # JSON has no NaN
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Row:
        values = dict(row)
        if values["ratio"] is not None:
            values["ratio"] = float(values["ratio"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Pairing:
    """`ratio`: median over pairs of ours / theirs, between `low` and `high`; `ours`, `theirs`: the medians."""

    ratio: float
    low: float
    high: float
    ours: float
    theirs: float


def pair(ours: Callable[[], float], theirs: Callable[[], float], *, pairs: int, warmup: int = 1) -> Pairing:
    """Measure both sides `pairs` times each, in turn, so that a busy machine is busy for both.

    Who goes first changes from pair to pair. `warmup` pairs come before and do not count.
    """
    for _ in range(warmup):
        ours()
        theirs()
    measured: list[tuple[float, float]] = []
    for turn in range(pairs):
        if turn % 2 == 0:
            a = ours()
            b = theirs()
        else:
            b = theirs()
            a = ours()
        measured.append((a, b))
    ratios = [a / b for a, b in measured]
    return Pairing(
        ratio=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        ours=statistics.median(a for a, _ in measured),
        theirs=statistics.median(b for _, b in measured),
    )


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu_seconds(command: Sequence[str], *, expect: int = 0, env: Mapping[str, str] | None = None) -> float:
    """CPU time, user and system, of one run of a command and of the children it waited for, in seconds.

    What it prints is thrown away. Raises RuntimeError where it ends with another exit code than `expect`.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != expect:
        raise RuntimeError(f"{' '.join(command)}: ended with {process.returncode} instead of {expect}")
    return usage.ru_utime + usage.ru_stime


def table(rows: Sequence[Row]) -> str:
    """The rows as plain text in columns, with a verdict each."""
    verdicts = {True: "ok", False: "MISSED", None: "not run"}
    cells = [("benchmark", "ratio", "limit", "", "detail")]
    for row in rows:
        ratio = "-" if row.ratio is None else _shown(row.ratio)
        sign = "<=" if row.better == "lower" else ">="
        cells.append((row.name, ratio, f"{sign} {_shown(row.limit)}", verdicts[row.ok], row.detail))
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = []
    for name, ratio, limit, verdict, detail in cells:
        line = f"{name:<{widths[0]}}  {ratio:>{widths[1]}}  {limit:>{widths[2]}}  {verdict:<{widths[3]}}  {detail}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _shown(ratio: float) -> str:
    """With two decimals; a share of few per cent would be no figure without a third."""
    return f"{ratio:.3f}x" if abs(ratio) < 0.1 else f"{ratio:.2f}x"


def main(rows: Callable[..., Sequence[Row]], **switches: str) -> None:
    """The command line of one benchmark module; exits with 1 where a limit is missed.

    `switches` are boolean options and what they do: those that are given are passed to `rows` as True.
    """
    parser = argparse.ArgumentParser(description=sys.modules[rows.__module__].__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a row on standard output")
    for name, effect in switches.items():
        parser.add_argument(f"--{name}", action="store_true", help=effect)
    arguments = vars(parser.parse_args())
    measured = rows(**{name: True for name in switches if arguments[name]})
    if arguments["json"]:
        for row in measured:
            print(json.dumps(row.to_json()))
    else:
        print(table(measured))
    sys.exit(1 if any(row.ok is False for row in measured) else 0)
