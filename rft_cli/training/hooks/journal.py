"""A callback of transformers' Trainer that writes metrics.jsonl and rollouts, and emits the events of steps.

Only process 0 writes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import TrainerCallback

from rft_cli.events import OnEvent, Stepped
from rft_cli.grading.stats import FailureMonitor, GraderStats
from rft_cli.report.guard import guard_estimate
from rft_cli.report.pilot import groups_of
from rft_cli.runs import Run
from rft_cli.runs.files import finite
from rft_cli.training.hooks.tripwires import TripwireMonitor
from rft_cli.training.rollouts.rewards import GradedBatch
from rft_cli.types import MOST_COMPONENTS, Sample

RENAMED = {
    "reward": "reward",
    "reward_std": "reward_std",
    "completions/mean_length": "completion_tokens",
    "completions/clipped_ratio": "truncated",
    "clip_ratio/region_mean": "clip_fraction",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "entropy": "entropy",
    "loss": "loss",
}
"""Names of TRL and transformers -> ours; our trainers log ours."""

RENAMED_OF_SFT = {"mean_token_accuracy": "token_accuracy", "num_tokens": "tokens"}
"""More names of SFTTrainer; `tokens` are all that were read so far, prompts included."""

OWN = (
    "kl", "kl_k3", "kl_per_token", "ratio", "clip_fraction", "explained_variance", "value_loss", "policy_loss",
    "return_mean", "return_std", "reward_spread", "rollout_seconds", "sample_seconds", "sync_seconds",
    "rollouts_not_finite", "skipped_steps", "skipped_critic_steps", "rows", "logprob_difference", "importance_weight",
)  # fmt: skip

PER_ROLLOUT = (
    "reward", "reward_std", "constant_groups", "completion_tokens", "truncated", "kl", "kl_k3", "kl_per_token",
    "explained_variance", "value_loss", "return_mean", "return_std", "reward_spread", "rollout_seconds",
    "sample_seconds", "sync_seconds", "rollouts_not_finite", "grade_seconds", "grade_wait_seconds",
    "logprob_difference", "importance_weight",
)  # fmt: skip
"""Measured once a rollout batch; the lines of its later steps repeat them."""


class Journal(TrainerCallback):
    """See the module's docstring. Its counters are part of a checkpoint: `to_json`, `restore`."""

    def __init__(
        self,
        run: Run,
        on_event: OnEvent,
        accelerator: Accelerator,
        max_failure_rate: float,
        monitor: TripwireMonitor,
    ) -> None:
        self._run, self._on_event, self._tripwires = run, on_event, monitor
        self._main = accelerator.is_main_process
        self._monitor = FailureMonitor(max_failure_rate)
        self._per_rollout: dict[str, float | None] = {}
        self._counts: Counter[str] = Counter()
        self._judges_before: dict[str, float] = {}
        self._step = 0
        self._first_step = 0
        self._started = self._last_log = monotonic()

    def to_json(self) -> str:
        """The counters, for a checkpoint."""
        state = {
            "per_rollout": self._per_rollout,
            "counts": self._counts,
            "failures": self._monitor.to_json(),
            "tripwires": self._tripwires.wires.state(),
        }
        return json.dumps(finite(state)) + "\n"

    def restore(self, text: str) -> None:
        """Restore the counters of a checkpoint."""
        state = json.loads(text)
        self._per_rollout, self._counts = state["per_rollout"], Counter(state["counts"])
        self._judges_before = {
            k: v for k, v in self._per_rollout.items() if k.startswith("judge_") and v is not None
        }
        self._monitor.restore(state["failures"])
        self._tripwires.wires.load(state["tripwires"])

    # -- rollouts ----------------------------------------------------------------------------------------------------

    def on_graded(self, batch: GradedBatch) -> None:
        """Count and write one rollout batch's grades; every process calls this once a batch."""
        samples: list[Sample] = gather_object(batch.samples)
        # The same in every process: they stop together.
        self._monitor.observe([s.grade for s in samples])
        self._counts.update(s.grade.status for s in samples)
        graded = [s.grade for s in samples if s.grade.status == "graded"]
        found = {name for g in graded for name in g.components}
        known = {name.removeprefix("reward/") for name in self._per_rollout if name.startswith("reward/")}
        known.update(sorted(found - known)[: max(0, MOST_COMPONENTS - len(known))])
        for name in sorted(found & known):
            values = [g.components[name] for g in graded if name in g.components]
            self._per_rollout[f"reward/{name}"] = sum(values) / len(values)
        stats = GraderStats()
        stats.add(s.grade for s in samples)
        kinds = [name for name in self._per_rollout if name.startswith("grader_failed/")]
        self._per_rollout.update({**dict.fromkeys(kinds, 0), **stats.figures()})
        self._per_rollout["grade_seconds"] = batch.seconds
        self._per_rollout["grade_wait_seconds"] = batch.waited
        # TRL's own share counts a group without grades as one that differs.
        groups = groups_of(samples)
        self._per_rollout["constant_groups"] = groups.constant / groups.total if groups.total else None
        self._per_rollout.update(_added_up([self._judges_before, *gather_object([dict(batch.judges)])]))
        if self._main:
            self._run.write_rollouts(self._step, [s.to_json() for s in samples])

    def on_validated(self, samples: Sequence[Sample]) -> None:
        """Check a validation's grades for failures, and keep the guard's mean; every process calls this with all
        samples."""
        self._monitor.observe([s.grade for s in samples])
        guard = guard_estimate(samples) if self._main else None
        if guard is not None:
            low, high = guard.ci95
            self._per_rollout.update({"guard": guard.mean, "guard_low": low, "guard_high": high})

    # -- steps -------------------------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._step = self._first_step = state.global_step
        self._tripwires.begin(state.global_step)
        self._started = self._last_log = monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # A checkpoint and a validation may come before it.
        self._last_log = monotonic()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Write one line of metrics.jsonl a step; transformers' last log sums up the job."""
        if logs is None or "train_runtime" in logs:
            return
        known = RENAMED | (RENAMED_OF_SFT if "rows" in logs else {})
        named = {ours: logs[theirs] for theirs, ours in known.items() if theirs in logs}
        named |= {name: logs[name] for name in OWN if name in logs}
        self._per_rollout.update({k: v for k, v in named.items() if k in PER_ROLLOUT})
        now = monotonic()
        metrics: dict[str, float | None] = {**self._per_rollout, **named}
        # sft has rows in place of completions.
        if "rows" not in named:
            # The KL of TRL's trainers is a token's already.
            metrics.setdefault("kl_per_token", metrics.get("kl"))
            metrics["completions"] = sum(self._counts.values())
        metrics["step_seconds"] = seconds = now - self._last_log
        metrics["update_seconds"] = seconds - float(named.get("rollout_seconds") or 0.0)
        self._last_log = now
        metrics = finite(metrics)
        epoch = float(state.epoch or 0.0)
        if self._main:
            self._run.append_metrics({"step": state.global_step, "epoch": round(epoch, 4), **metrics})
        done = state.global_step - self._first_step
        left = (now - self._started) / max(done, 1) * (state.max_steps - state.global_step)
        self._on_event(Stepped(state.global_step, state.max_steps, epoch, metrics, left))
        if ("completion_tokens" in named or "rows" in named) and self._tripwires.observe(
            state.global_step, metrics
        ):
            # Then `on_save` ends the job.
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._tripwires.check()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._step = state.global_step


def _added_up(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sum of each number over the parts that have it."""
    names = sorted({name for part in parts for name in part})
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}
