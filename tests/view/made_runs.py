"""Run directories made through `Run`, as a job writes them, of any size and with any text."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rft_cli.runs import Run
from rft_cli.types import Grade, GradeError, Sample

SETTINGS = {"rollout.max_completion_tokens": 64, "ppo.critic": "none", "data.train": "train.jsonl"}


def sample(row: int, reward: float | None, text: str = "text", prompt: str = "", **more: Any) -> Sample:
    """A graded completion of a row; without a reward a failed one."""
    failed = GradeError("raised", "ValueError: no", "Traceback: no")
    grade = (
        Grade("failed", error=failed)
        if reward is None
        else Grade("graded", reward, more.pop("components", {}))
    )
    return Sample(
        row, f"line-{row + 1}", prompt or f"prompt {row}", text, more.pop("tokens", 12), False, grade
    )


def line(step: int, **figures: Any) -> dict[str, Any]:
    """A line of metrics.jsonl; each step is a rollout batch of its own unless `completions` says otherwise."""
    whole = {
        "epoch": step / 10, "reward": 0.5, "kl_per_token": 0.01, "entropy": 1.0, "completion_tokens": 20.0,
        "truncated": 0.0, "constant_groups": 0.1, "grade_seconds": 0.01, "rollout_seconds": 1.0, "step_seconds": 2.0,
        "update_seconds": 1.0, "learning_rate": 1e-5, "completions": 64 * step, "grader_failed_rate": 0.0,
    }  # fmt: skip
    return {"step": step, **whole, **figures}


def make_run(
    folder: Path,
    name: str = "job",
    *,
    lines: Sequence[Mapping[str, Any]] = (),
    validations: Mapping[int, Sequence[Sample]] | None = None,
    rollouts: Mapping[int, Sequence[Sample]] | None = None,
    best_step: int = 0,
    finish: bool = True,
    **info: Any,
) -> Run:
    """A run with these parts; finished with the result that a job builds, unless `finish` is False."""
    record = {
        "model": "builtin/tiny",
        "algorithm": "ppo",
        "seed": 0,
        "settings": SETTINGS,
        "hashes": {},
        **info,
    }
    run = Run.create(
        folder, name, config_yaml="algorithm: ppo\n", info=record, files={"scorer/scorer.py": b"pass\n"}
    )
    for metrics in lines:
        run.append_metrics(metrics)
    for step, samples in (validations or {}).items():
        run.write_samples(f"step-{step:06d}", samples)
    for step, samples in (rollouts or {}).items():
        run.write_rollouts(step, [found.to_json() for found in samples])
    run.update(best_step=best_step)
    if finish:
        from rft_cli.report.result import build_result

        run.finish(build_result(run))
    return run


def large_run(folder: Path, steps: int = 1000, completions: int = 50_000, words: int = 60) -> Run:
    """A finished run of this size with 20 validations of 200 rows."""
    random.seed(0)

    def text(length: int) -> str:
        return " ".join(
            random.choice(("refund", "order", "team", "shipping", '{"a": 1}')) for _ in range(length)
        )

    def graded(row: int) -> Sample:
        reward = random.random()
        return sample(row, reward, text(words), text(40), components={"right": reward, "form": 1.0})

    batches = {
        step: [graded(row % 500) for row in range(completions * 4 // steps)] for step in range(0, steps, 4)
    }
    validations = {step: [graded(row) for row in range(200)] for step in range(0, steps + 1, steps // 20)}
    size = completions * 4 // steps
    lines = [line(step, completions=size * ((step - 1) // 4 + 1)) for step in range(1, steps + 1)]
    return make_run(folder, "large", lines=lines, validations=validations, rollouts=batches, best_step=steps)
