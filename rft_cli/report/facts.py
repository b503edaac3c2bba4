"""What a diagnosis looks at, read from a run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rft_cli.errors import RunFailed
from rft_cli.report.diagnosis import Facts, Finding, diagnose
from rft_cli.report.estimates import compare
from rft_cli.runs import Run
from rft_cli.types import Estimate, Sample


def diagnose_run(run: Run, lines: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """The findings of this run, whose metrics.jsonl has these `lines`."""
    return diagnose(facts_of(run, lines))


def facts_of(run: Run, lines: Sequence[Mapping[str, Any]]) -> Facts:
    """The facts; of a run without validations those of `lines` alone."""
    info, steps = run.info, run.validated_steps()
    best_step = int(info.get("best_step") or 0)
    last_step = steps[-1] if steps else 0
    settings = info.get("settings") or {}
    base = run.read_samples("step-000000") if 0 in steps else []
    best = run.read_samples(f"step-{best_step:06d}") if best_step in steps else base
    last = run.read_samples(f"step-{last_step:06d}") if last_step > best_step > 0 else []
    rewards = [s.grade.reward for s in (*base, *best) if s.grade.reward is not None]
    after = [s.grade.reward for s in best if s.grade.reward is not None]
    return Facts(
        lines=lines,
        settings=settings,
        algorithm=str(info.get("algorithm") or "ppo"),
        limit=_limit(run, settings),
        best_step=best_step,
        last_step=last_step,
        gain=_difference(base, best) if best_step else None,
        slip=_difference(best, last) if last else None,
        top=max(rewards, default=None),
        after=sum(after) / len(after) if after else None,
    )


def _limit(run: Run, settings: Mapping[str, Any]) -> int | None:
    """The length limit of a completion: as set, or as the pilot found it."""
    wanted = settings.get("rollout.max_completion_tokens")
    if isinstance(wanted, int):
        return wanted
    pilot = run.read_pilot()
    return None if pilot is None else int(pilot["max_completion_tokens"])


def _difference(before: Sequence[Sample], after: Sequence[Sample]) -> Estimate | None:
    try:
        return compare(before, after).difference
    except RunFailed:  # no row has a grade on both sides
        return None
