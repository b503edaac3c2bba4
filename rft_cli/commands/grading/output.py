"""What `rft grade` writes to standard error: a scorer's prints, progress on a terminal, the summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rft_cli.commands.grading.json_lines import JsonLines
from rft_cli.commands.grading.options import OutputOptions
from rft_cli.commands.grading.prints import ScorerPrints
from rft_cli.config.suggest import as_word, counted
from rft_cli.grading.protocol import Grader
from rft_cli.grading.rows import GradedRows
from rft_cli.grading.stats import GraderStats, format_duration
from rft_cli.types import MOST_COMPONENTS

if TYPE_CHECKING:
    from rft_cli.console import StatusLine

_TRACE_LINES = 8
_SHOWN_COMPONENTS = 20


class Display:
    """Shows progress and prints while rows are graded. Set `rows` once they are opened: they know their places."""

    def __init__(self, scorer: str, output: OutputOptions) -> None:
        self.rows: GradedRows | None = None
        self._scorer = scorer
        self._line: StatusLine | None = None
        self._events = JsonLines() if output.events else None
        if not output.events and sys.stderr.isatty() and not (output.rows and sys.stdout.isatty()):
            # With rich, which only a terminal needs.
            from rft_cli.console import StatusLine

            self._line = StatusLine(output.quiet)
        self._prints = ScorerPrints(self._tell)
        self._started = time.monotonic()

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wipe()
        self._prints.end()

    def print(self, place: int, output: str) -> None:
        """What the scorer printed, each line after the place of its row."""
        self._wipe()
        rows = self.rows if place >= 0 else None
        self._prints.add(self._scorer if rows is None else rows.where(place), output)

    def note(self, notes: Sequence[str]) -> None:
        """The guesses of the grader."""
        self._wipe()
        for note in notes:
            self._tell(f"scorer: {note}")

    def progress(self, stats: GraderStats, total: int | None = None) -> None:
        """How many rows, and how fast, since the start. `total`: of all, where that is known."""
        if self._events is not None:
            self._events.progress(stats.total, total)
        if self._line is not None and self._line.due:
            rate = stats.total / (time.monotonic() - self._started)
            failed = f", {stats.failed:,} failed" if stats.failed else ""
            self._line.show(f"{counted(stats.total, 'row')}{failed}, {rate:,.0f} a second")

    def summary(self, grader: Grader, max_failure_rate: float) -> None:
        """Counts, rewards, failures, times and what judges cost."""
        if self._events is not None:
            self._events.finished(grader.stats.to_json())
        else:
            _say_summary(grader, max_failure_rate)

    def _tell(self, text: str) -> None:
        if self._events is not None:
            self._events.note(text)
        else:
            _say(_clean(text))

    def _wipe(self) -> None:
        if self._line is not None:
            self._line.wipe()


def _say_summary(grader: Grader, max_failure_rate: float) -> None:
    stats = grader.stats
    counts = (("graded", stats.graded), ("skipped", stats.skipped), ("failed", stats.failed))
    outcomes = ", ".join(f"{count:,} {name}{_share(count, stats.total)}" for name, count in counts)
    _say(f"{_clean(grader.signature)}: {counted(stats.total, 'row')}")
    _say(f"  {outcomes}")
    if stats.total and stats.skipped == stats.total:
        _say(
            "  the scorer returned None for every row: is a return missing? None means that a row can't be graded"
        )
    if stats.mean_reward is not None:
        summary = stats.to_json()
        low, high = summary["reward"]["min"], summary["reward"]["max"]
        _say(f"  mean reward {stats.mean_reward:.4f} (min {low:g}, max {high:g})")
        if summary["components"]:
            means = list(summary["components"].items())
            parts = [f"{as_word(name)} {mean:.4f}" for name, mean in means[:_SHOWN_COMPONENTS]]
            more = len(means) - len(parts)
            _say(f"  components: {', '.join(parts)}{f', and {more} more' if more else ''}")
        if stats.components_left_out:
            _say(
                f"  {stats.components_left_out:,} values of components are in no mean: names beyond the first "
                f"{MOST_COMPONENTS} (or over 200 letters) are not averaged; each row has its own"
            )
    # Above it, the error message has them.
    if stats.failure_rate <= max_failure_rate:
        _say_failures(stats)
    median, slow, slower = (stats.latency(share) for share in (0.5, 0.9, 0.99))
    if median is not None and slow is not None and slower is not None:
        times = (format_duration(seconds) for seconds in (median, slow, slower))
        _say("  a grade took {} (median), {} (90 %), {} (99 %)".format(*times))
    if stats.judges is not None:
        _say(f"  judges: {_clean(stats.judges.describe())}")


def _say_failures(stats: GraderStats) -> None:
    if len(stats.failures) > 1:
        _say("  failures: " + ", ".join(f"{count:,} {kind}" for kind, count in stats.failures.most_common()))
    for reason in stats.reasons():
        _say(_clean(f"  failed {reason.count:,} × {reason.kind}: {reason.message}"))
    trace = next((reason.trace for reason in stats.reasons() if reason.trace), "")
    if trace:
        _say("  one of them:")
        _say("\n".join(f"    {line}" for line in _clean(trace).rstrip().split("\n")[-_TRACE_LINES:]))


def _share(count: int, total: int) -> str:
    return f" ({count / total:.1%})" if 0 < count < total else ""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _clean(text: str) -> str:
    """The text made harmless for a terminal: names, prints and data may hold anything."""
    if text.replace("\n", "").isprintable():
        return text
    # With rich, which most gradings don't need.
    from rft_cli.console.text import clean

    return clean(text)
