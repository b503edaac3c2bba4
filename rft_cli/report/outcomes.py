"""What became of a run's grades: graded, skipped or failed by kind, how long they took, why they failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rft_cli.report.estimates import tally

_SHOWN = 3
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def outcomes(rollouts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts and rates of the three outcomes, failures by kind, latency in seconds, the commonest reasons.

    Rollouts without `seconds` count, and have no part in the latency.
    """
    statuses: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    traces: dict[tuple[str, str], str] = {}
    seconds: list[float] = []
    for row in rollouts:
        grade = row["grade"]
        statuses[grade["status"]] += 1
        if grade.get("seconds") is not None:
            seconds.append(grade["seconds"])
        error = grade.get("error")
        if error is not None:
            reason = (error["kind"], error["message"])
            failures[error["kind"]] += 1
            reasons[reason] += 1
            if error.get("trace"):
                traces.setdefault(reason, error["trace"])
    total = statuses.total()
    counts = tally(statuses.elements())
    return {
        **counts,
        "rates": {name: count / total if total else 0.0 for name, count in counts.items()},
        "failures": dict(sorted(failures.items())),
        "latency_s": _latency(sorted(seconds)),
        "reasons": [
            {"kind": kind, "message": message, "count": count, "trace": traces.get((kind, message), "")}
            for (kind, message), count in reasons.most_common(_SHOWN)
        ],
    }


def _latency(ordered: list[float]) -> dict[str, float | None]:
    last = len(ordered) - 1
    found: dict[str, float | None] = {
        name: ordered[min(int(share * len(ordered)), last)] if ordered else None
        for name, share in _PERCENTILES.items()
    }
    return {**found, "max": ordered[last] if ordered else None}
