"""Statistics of grades: outcomes, rewards, latency, reasons of failures; and the error where too many fail."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from rft_cli.errors import RunFailed
from rft_cli.types import MOST_COMPONENTS, Grade, GradeError

WINDOW = 512
"""Grades over which the failure rate is taken."""
MIN_GRADES = 64
"""Grades before the failure rate can stop a job."""
_SAMPLE = 4096
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_LONGEST_NAME = 200
"""Letters of a component's name: longer ones are not averaged."""
_FIX = "repair the scorer (rft grade shows each row's error); a scorer that can't grade a completion returns None"
_FIX_JUDGE = (
    "see what the judge's endpoint says above: grader.judge.concurrency, retries and timeout_s spare a server that is "
    "overloaded, and a judge that writes no verdict needs a clearer prompt or another model; verdicts are kept"
)
_REASONS = 200
_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class Reason:
    """One kind of failure with the message that it gave `count` times, and a traceback of one of them."""

    kind: str
    message: str
    count: int
    trace: str


class JudgeCounts(Protocol):
    """What the judges of a grader were asked, read, wrote and cost until now."""

    def to_metrics(self) -> dict[str, float]:
        """Numbers for a line of metrics."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The same for a report, with the parts of each model."""
        ...

    def describe(self) -> str:
        """The same in one line for people."""
        ...


class GraderStats:
    """Counts, means and latencies of the grades it was given; memory does not grow with their number.

    `components_left_out` counts values of components that are not averaged: only the first 100 names are.
    """

    def __init__(self) -> None:
        self.graded = 0
        self.skipped = 0
        self.failures: Counter[str] = Counter()
        self.judges: JudgeCounts | None = None
        self._reward_sum = 0.0
        self._reward_low: float | None = None
        self._reward_high: float | None = None
        self._component_sums: dict[str, float] = {}
        self._component_counts: Counter[str] = Counter()
        self.components_left_out = 0
        self._latencies = _Latencies()
        self._reasons = _Reasons()

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def total(self) -> int:
        return self.graded + self.skipped + self.failed

    @property
    def failure_rate(self) -> float:
        """Failed grades as a share of all; 0 when there are none."""
        return self._share(self.failed)

    @property
    def mean_reward(self) -> float | None:
        """Mean over graded completions, None when there are none."""
        return self._reward_sum / self.graded if self.graded else None

    def add(self, grades: Iterable[Grade]) -> None:
        """Count these grades."""
        for grade in grades:
            self._latencies.add(grade.seconds)
            if grade.error is not None:
                self.failures[grade.error.kind] += 1
                self._reasons.add(grade.error)
            elif grade.reward is None:
                self.skipped += 1
            else:
                self._add_reward(grade.reward)
                for name, value in grade.components.items():
                    self._add_component(name, value)

    def reasons(self) -> list[Reason]:
        """The most frequent failures, most frequent first."""
        return self._reasons.top(_SAMPLES)

    def latency(self, share: float) -> float | None:
        """Seconds within which `share` of the grades came (from a sample of 4096); None without grades."""
        ordered = sorted(self._latencies.kept)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None

    def figures(self) -> dict[str, float | None]:
        """Counts, rates, failures by kind and latencies (in seconds) as one number each, for metrics."""
        return {
            "grader_skipped": self.skipped,
            "grader_failed": self.failed,
            "grader_skipped_rate": self._share(self.skipped),
            "grader_failed_rate": self.failure_rate,
            **{f"grader_failed/{kind}": count for kind, count in sorted(self.failures.items())},
            **{f"grade_seconds_{name}": self.latency(share) for name, share in _PERCENTILES.items()},
        }

    def to_json(self) -> dict[str, Any]:
        """The summary that `rft grade --json` prints and jobs log."""
        components = {
            name: self._component_sums[name] / n for name, n in sorted(self._component_counts.items())
        }
        return {
            "rows": self.total,
            "graded": self.graded,
            "skipped": self.skipped,
            "failed": self.failed,
            "failures": dict(sorted(self.failures.items())),
            "rates": {
                "graded": self._share(self.graded),
                "skipped": self._share(self.skipped),
                "failed": self.failure_rate,
            },
            "reward": {"mean": self.mean_reward, "min": self._reward_low, "max": self._reward_high},
            "components": components,
            "components_left_out": self.components_left_out,
            **({} if self.judges is None else {"judges": self.judges.to_json()}),
            "latency_s": {
                **{name: self.latency(share) for name, share in _PERCENTILES.items()},
                "max": self._latencies.longest if self._latencies.kept else None,
            },
            "reasons": [asdict(reason) for reason in self.reasons()],
        }

    def _share(self, count: int) -> float:
        return count / self.total if self.total else 0.0

    def _add_reward(self, reward: float) -> None:
        self.graded += 1
        self._reward_sum += reward
        if self._reward_low is None or reward < self._reward_low:
            self._reward_low = reward
        if self._reward_high is None or reward > self._reward_high:
            self._reward_high = reward

    def _add_component(self, name: str, value: float) -> None:
        # A scorer may find new names for ever: means of the first ones are kept, so that memory does not grow.
        counts = self._component_counts
        if name not in counts and (len(counts) >= MOST_COMPONENTS or len(name) > _LONGEST_NAME):
            self.components_left_out += 1
            return
        self._component_sums[name] = self._component_sums.get(name, 0.0) + value
        counts[name] += 1


class _Latencies:
    """The longest latency, and a sample of all in which each is with the same chance (reservoir sampling)."""

    def __init__(self) -> None:
        self.kept: list[float] = []
        self.longest = 0.0
        self._seen = 0
        self._random = random.Random(0).random

    def add(self, seconds: float) -> None:
        self._seen += 1
        if seconds > self.longest:
            self.longest = seconds
        if len(self.kept) < _SAMPLE:
            self.kept.append(seconds)
        elif (at := int(self._random() * self._seen)) < _SAMPLE:
            self.kept[at] = seconds


class FailureMonitor:
    """Stops a job whose grader fails too often: more than `max_rate` of the last 512 grades, after at least 64."""

    def __init__(self, max_rate: float, *, window: int = WINDOW, min_grades: int = MIN_GRADES) -> None:
        self.max_rate = max_rate
        self._min_grades = min_grades
        self._recent: deque[GradeError | None] = deque(maxlen=window)

    @property
    def rate(self) -> float:
        """Share of failed grades in the window."""
        return sum(error is not None for error in self._recent) / len(self._recent) if self._recent else 0.0

    def observe(self, grades: Iterable[Grade]) -> None:
        """Count these grades; raises RunFailed with the commonest reasons when the rate is over the limit."""
        self._recent.extend(grade.error for grade in grades)
        if len(self._recent) >= self._min_grades and self.rate > self.max_rate:
            reasons = _Reasons()
            for error in self._recent:
                if error is not None:
                    reasons.add(error)
            raise too_many_failures(self.rate, len(self._recent), self.max_rate, reasons.top(_SAMPLES))

    def to_json(self) -> list[list[str] | None]:
        """The window, oldest first: None for a grade that did not fail, else kind, message and traceback."""
        return [None if e is None else [e.kind, e.message, e.trace] for e in self._recent]

    def restore(self, window: Iterable[Sequence[str] | None]) -> None:
        """Go on with a window that `to_json` gave."""
        self._recent.clear()
        self._recent.extend(None if row is None else GradeError(*row) for row in window)


def too_many_failures(rate: float, grades: int, max_rate: float, reasons: Iterable[Reason]) -> RunFailed:
    """The error that ends a job, with each reason, how often it came, and one traceback."""
    lines = [f"{rate:.0%} of the last {grades:,} grades failed (grader.max_failure_rate is {max_rate:.0%}):"]
    shown = list(reasons)
    lines += [f"  {reason.count} × {reason.kind}: {reason.message}" for reason in shown]
    trace = next((reason.trace for reason in shown if reason.trace), "")
    if trace:
        lines += ["one of them:", *(f"  {line}" for line in trace.rstrip().splitlines()[-12:])]
    by_judge = bool(shown) and all(reason.kind.startswith("judge_") for reason in shown)
    return RunFailed("\n".join(lines), _FIX_JUDGE if by_judge else _FIX)


class _Reasons:
    """Failures counted by kind and message; beyond 200 different ones, by kind."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._traces: dict[tuple[str, str], str] = {}

    def add(self, error: GradeError) -> None:
        key = (error.kind, error.message)
        if key not in self._counts and len(self._counts) >= _REASONS:
            key = (error.kind, "other messages")
        self._counts[key] += 1
        if error.trace and key not in self._traces:
            self._traces[key] = error.trace

    def top(self, count: int) -> list[Reason]:
        return [
            Reason(kind, message, n, self._traces.get((kind, message), ""))
            for (kind, message), n in self._counts.most_common(count)
        ]


def format_duration(seconds: float) -> str:
    """`0.012 ms`, `340 ms`, `1.3 s` or `134 s`: three significant digits."""
    value, unit = (seconds, "s") if seconds >= 0.9995 else (seconds * 1000, "ms")
    return f"{value:.0f} {unit}" if value >= 99.5 else f"{value:.3g} {unit}"
