"""The memory that `rft validate --plan` predicts against what a training process takes, on five model shapes.

Measured: the peak of two rollout batches of rft's own trainer, less what was resident once the model was loaded, and
the weights added. The models are random, so that every completion runs to its limit, as the plan assumes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.common import Row, main
from benchmarks.side import Side
from benchmarks.workload import B0_5, M90, Shape, first_rows, random_model, settings

CLOSE = 1.15
BATCHES = 2
WIDE = Shape("qwen3-wide", 256, 768, 4, 4, 2, 64, 151_936)
DEEP = Shape("qwen3-deep", 320, 960, 32, 5, 5, 64, 4_000)


@dataclass(frozen=True, slots=True)
class Case:
    """A model and the settings that decide over memory."""

    shape: Shape
    lora: bool
    prompts: int
    tokens: int
    checkpointing: bool = False

    @property
    def name(self) -> str:
        kind = "LoRA" if self.lora else "full"
        again = ", checkpointing" if self.checkpointing else ""
        return f"{self.shape.name}, {kind}{again}, {self.prompts} x 8 completions of {self.tokens}"

    def config(self) -> str:
        return settings(
            first_rows(self.prompts),
            model={"path": str(random_model(self.shape)), "gradient_checkpointing": self.checkpointing},
            lora={"enabled": self.lora},
            rollout={
                "prompts_per_batch": self.prompts,
                "group_size": 8,
                "max_completion_tokens": self.tokens,
            },
        )


CASES = (
    Case(M90, False, 4, 60),
    Case(M90, True, 8, 120),
    Case(WIDE, False, 4, 60),
    Case(DEEP, True, 4, 200),
    Case(B0_5, True, 2, 120, checkpointing=True),
)


def rows() -> list[Row]:
    """Two claims a case: the prediction is neither much more nor much less than what was measured."""
    return [row for case in CASES for row in _rows(case)]


def _rows(case: Case) -> list[Row]:
    predicted, weights = _predicted(case)
    measured = _measured(case) + weights
    detail = f"{predicted / 1e6:.0f} MB predicted, {measured / 1e6:.0f} MB measured"
    name, ratio = f"plan: {case.name}", predicted / measured
    return [
        Row(f"{name}: at most", ratio, CLOSE, "lower", detail),
        Row(f"{name}: at least", ratio, 1 / CLOSE, "higher", detail),
    ]


def _predicted(case: Case) -> tuple[int, int]:
    """Bytes of the job and of the model's weights."""
    from rft_cli.config import RunConfig
    from rft_cli.job import load_job
    from rft_cli.training.memory_plan.make_plan import make_plan

    config = RunConfig.model_validate_json(case.config())
    job = load_job(config)
    plan = make_plan(config, job.train.examples, None, 1)
    weights = next(phase.parts["weights"] for phase in plan.phases)
    return plan.peak, weights // (1 if case.lora else 2)


def _measured(case: Case) -> float:
    command = [sys.executable, "-m", "benchmarks.trainers", "ours", case.config()]
    with Side("memory-plan", command) as process:
        for _ in range(BATCHES):
            process.ask("round")
        seen: dict[str, Any] = process.ask("memory")
    return float(seen["peak"] - seen["loaded"])


if __name__ == "__main__":
    main(rows)
