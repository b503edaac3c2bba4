"""The `result` of a run, built from its directory alone: run.json keeps it, `rft create --json` prints it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from rft_cli.report.advice import advise, epoch_of
from rft_cli.report.collapse import best_constant, repetition_of
from rft_cli.report.diagnosis import diagnose_run
from rft_cli.report.estimates import compare, compare_components
from rft_cli.report.facts import batches_of
from rft_cli.report.gaming.evidence import read_evidence
from rft_cli.report.gaming.verdict import Gaming, judge
from rft_cli.report.guard import guard_json
from rft_cli.report.outcomes import outcomes
from rft_cli.report.pairs import Pair, read_pairs
from rft_cli.runs import Run
from rft_cli.runs.warnings import texts

SCHEMA = "rft.result/1"


def build_result(run: Run, *, status: str = "finished") -> dict[str, Any]:
    """The documented result: estimates before and after, components, training reward, counts, what next.

    `test` is there only with test rows, and `components` are then theirs. Raises RunFailed if no row
    could be graded, FileNotFoundError if the baseline was never sampled.
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
    pairs = read_pairs(run, best_step)
    for pair in pairs:
        result[pair.split] = {**compare(pair.before, pair.after).to_json(), **answers_json(pair)}
        components = compare_components(pair.before, pair.after)
        guard = guard_json(pair.before, pair.after)
        if guard is not None:
            result.setdefault("guard", {})[pair.split] = guard
    result["components"] = {name: comparison.to_json() for name, comparison in components.items()}
    result["training_reward"] = training_reward(metrics)
    teaches = info.get("algorithm") == "sft"
    if teaches:
        result["training_loss"] = first_and_last(metrics, "loss")
    result["grader"] = outcomes(_sampled(pairs) if teaches else run.rollouts())
    result["warnings"] = texts(run)
    result["diagnosis"] = [found.to_json() for found in diagnose_run(run, metrics)]
    gaming = gaming_of(run, pairs[-1], metrics) if best_step else Gaming("not measured")
    result["gaming"] = gaming.to_json()
    fooled = gaming.verdict == "gamed" or bool(
        (result.get("guard") or {}).get(pairs[-1].split, {}).get("alarm")
    )
    advice = advise(run, best_step, metrics, pairs[-1], fooled)
    result |= {"advice": advice.text, "next": advice.next}
    return result


def gaming_of(run: Run, pair: Pair, metrics: Sequence[dict[str, Any]]) -> Gaming:
    """The verdict on whether the gain on these rows looks gamed."""
    return judge(read_evidence(run, pair, [batch[0] for batch in batches_of(metrics)]))


def answers_json(pair: Pair) -> dict[str, Any]:
    """How the completions differ, and the best single one for all rows where there is any."""
    before, after = repetition_of(pair.before), repetition_of(pair.after)
    constant = best_constant(pair.constants, pair.after)
    return {
        "answers": {
            "before": None if before is None else before.to_json(),
            "after": None if after is None else after.to_json(),
        },
        "constant": None if constant is None else constant.to_json(),
    }


def training_reward(metrics: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Mean training reward in as many steps as the first epoch has, at the job's beginning and at its end.

    At most half of the job's steps; None before the first step.
    """
    return first_and_last(metrics, "reward")


def first_and_last(metrics: Sequence[dict[str, Any]], key: str) -> dict[str, float | None]:
    """Means of a metric over the first and the last steps, as in `training_reward`."""
    values = [row[key] for row in metrics if isinstance(row.get(key), int | float)]
    epoch = sum(epoch_of(row) == 1 for row in metrics)
    part = max(1, min(epoch, len(values) // 2))
    return {"first": _mean(values[:part]), "last": _mean(values[-part:])}


def _sampled(pairs: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    """What was graded in a job without rollouts, as far as the result is about it."""
    for pair in pairs:
        for samples in (pair.before,) if pair.after is pair.before else (pair.before, pair.after):
            yield from (sample.to_json() for sample in samples)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _seconds(info: dict[str, Any]) -> float:
    # The sessions that have ended, and the current one.
    ended = float(info.get("seconds") or 0.0)
    if info.get("status") == "running" and info.get("started"):
        ended += (datetime.now(UTC) - datetime.fromisoformat(info["started"])).total_seconds()
    return round(ended, 3)
