"""The `result` of a run, built from its directory alone: run.json keeps it, `rft create --json` prints it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rft_cli.report.estimates import compare, compare_components
from rft_cli.report.outcomes import outcomes
from rft_cli.runs import Run
from rft_cli.runs.hints import longer, quoted
from rft_cli.runs.warnings import texts
from rft_cli.types import Sample

SCHEMA = "rft.result/1"


@dataclass(frozen=True, slots=True)
class Pair:
    """The same rows sampled from the base and from the best checkpoint; `split` is "validation" or "test"."""

    split: str
    before: Sequence[Sample]
    after: Sequence[Sample]


def read_pairs(run: Run, best_step: int) -> list[Pair]:
    """Validation samples of the base and of `best_step`, then the test samples where there are test rows."""
    base = run.read_samples("step-000000")
    best = run.read_samples(f"step-{best_step:06d}") if best_step else base
    pairs = [Pair("validation", base, best)]
    if run.has_samples("test-before"):
        before = run.read_samples("test-before")
        after = run.read_samples("test-after") if best_step and run.has_samples("test-after") else before
        pairs.append(Pair("test", before, after))
    return pairs


def build_result(run: Run, *, status: str = "finished") -> dict[str, Any]:
    """The documented result: estimates before and after, components, training reward, counts, what next.

    `test` is there only with test rows, and `components` are then theirs. Raises RunFailed where no row
    could be graded, FileNotFoundError where the baseline was never sampled.
    """
    info = run.info
    best_step = int(info.get("best_step") or 0)
    metrics = run.metrics()
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "run": str(run.path),
        "status": status,
        "algorithm": info.get("algorithm"),
        "model": info.get("model"),
        "seed": info.get("seed"),
        "best_step": best_step,
        "checkpoints_compared": sum(step > 0 for step in run.validated_steps()),
        "completions_sampled": max((int(row.get("completions") or 0) for row in metrics), default=0),
        "seconds": _seconds(info),
    }
    components = {}
    for pair in read_pairs(run, best_step):
        result[pair.split] = compare(pair.before, pair.after).to_json()
        components = compare_components(pair.before, pair.after)
    result["components"] = {name: comparison.to_json() for name, comparison in components.items()}
    result["training_reward"] = training_reward(metrics)
    result["grader"] = outcomes(run.rollouts())
    result["warnings"] = texts(run)
    result["next"] = next_command(run, best_step, metrics)
    return result


def training_reward(metrics: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Mean training reward in as many steps as the first epoch has, at the job's beginning and at its end.

    At most half of the job's steps; None before the first step.
    """
    rewards = [row["reward"] for row in metrics if isinstance(row.get("reward"), int | float)]
    epoch = sum(_epoch(row) == 1 for row in metrics)
    part = max(1, min(epoch, len(rewards) // 2))
    return {"first": _mean(rewards[:part]), "last": _mean(rewards[-part:])}


def next_command(run: Run, best_step: int, metrics: Sequence[dict[str, Any]]) -> str:
    """What to type next: export what was learned, or train longer where nothing beat the base."""
    if best_step:
        return f"rft export {quoted(run.path)}"
    settings = run.info.get("settings") or {}
    steps = max((int(row.get("step") or 0) for row in metrics), default=1)
    epochs = settings.get("optim.n_epochs", max((_epoch(row) for row in metrics), default=1))
    more = longer(epochs, settings.get("optim.max_steps"), steps)
    return f"rft train {quoted(run.path / 'config.yaml')} {more}"


def _epoch(row: dict[str, Any]) -> int:
    # `epoch` is the fraction of passes done after the step: everything up to 1.0 belongs to the first.
    return max(1, math.ceil(round(float(row.get("epoch") or 0.0), 6)))


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _seconds(info: dict[str, Any]) -> float:
    # The sessions that have ended, and the one that is going on.
    ended = float(info.get("seconds") or 0.0)
    if info.get("status") == "running" and info.get("started"):
        ended += (datetime.now(UTC) - datetime.fromisoformat(info["started"])).total_seconds()
    return round(ended, 3)
