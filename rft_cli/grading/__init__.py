"""Graders and their worker processes. Torch-free.

Workers import this package too, so its names load what they need on first use, and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rft_cli.grading.open import open_grader
    from rft_cli.grading.pool.scorer_grader import ScorerGrader
    from rft_cli.grading.preflight import PreflightReport, check_grader
    from rft_cli.grading.stats import FailureMonitor, GraderStats

__all__ = [
    "FailureMonitor",
    "GraderStats",
    "PreflightReport",
    "ScorerGrader",
    "check_grader",
    "open_grader",
]

_HOMES = {
    "FailureMonitor": "outcomes",
    "GraderStats": "outcomes",
    "PreflightReport": "preflight",
    "ScorerGrader": "pool.scorer_grader",
    "check_grader": "preflight",
    "open_grader": "open",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
