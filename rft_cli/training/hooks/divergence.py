"""Divergence: a step whose loss or gradient is not finite is skipped, and too many of them end the job.

A skipped step leaves weights and Adam's moments as they were, so checkpoints stay finite. transformers alone would log
such a loss as 0, step, and save the resulting weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite
from typing import Any

import torch
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rft_cli.errors import RunFailed
from rft_cli.runs import Run
from rft_cli.runs.suggested_commands import resume_command
from rft_cli.training.hooks.checkpointed_trainer import CheckpointedTrainer


class Diverged(RunFailed):
    """Numbers of the policy or the critic are not finite; `explain_divergence` adds what to do."""

    def __init__(self, message: str, of_critic: bool = False) -> None:
        super().__init__(message)
        self.of_critic = of_critic


@dataclass(slots=True)
class Skips:
    """Skipped steps: in the whole job, and since the last step that was taken; `what` was not finite."""

    total: int = 0
    in_a_row: int = 0
    what: str = ""

    def record(self, wrong: Sequence[str]) -> bool:
        """Count one step, in which `wrong` was not finite; whether the step is to be skipped."""
        self.what = " and ".join(wrong)
        self.total += bool(wrong)
        self.in_a_row = self.in_a_row + 1 if wrong else 0
        return bool(wrong)

    def failure(self, most: int, step: int, of_critic: bool = False) -> Diverged | None:
        """The error that ends the job, at `step`, once `most` steps in a row were skipped; None before."""
        if self.in_a_row < most:
            return None
        who, unit = ("the critic's", "update") if of_critic else ("the", "step")
        were = "were" if " and " in self.what else "was"
        one = f"{'an' if of_critic else 'a'} {unit}"
        times = one if self.in_a_row == 1 else f"{self.in_a_row} {unit}s in a row"
        return Diverged(
            f"training diverged: {who} {self.what} {were} not finite in {times}, the last at step {step}",
            of_critic,
        )


class GuardedTrainer(CheckpointedTrainer):
    """Skips steps of the policy that are not finite, in all processes; the first of a trainer's base classes.

    DeepSpeed steps inside its backward pass, so nothing is skipped there; the job still ends.
    """

    max_skipped_steps = 3
    """Steps in a row after which the job ends."""
    skipping = False
    critic_optimizer: Any = None
    """PPO's, where there is a critic."""
    # Whether every loss of the step was finite, in this process.
    _finite: Tensor | None = None

    @cached_property
    def _skips(self) -> Skips:
        return Skips()

    def process_state(self) -> dict[str, Any]:
        """This process's state with the counters of skipped steps."""
        critic = None if self.critic_optimizer is None else asdict(self.critic_optimizer.skips)
        guard = {"policy": asdict(self._skips), "critic": critic}
        return super().process_state() | {"guard": guard}

    def load_process_state(self, state: dict[str, Any]) -> None:
        super().load_process_state(state)
        self._skips = Skips(**state["guard"]["policy"])
        if self.critic_optimizer is not None:
            self.critic_optimizer.skips = Skips(**state["guard"]["critic"])

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Replaces a loss that is not finite by 0, because transformers adds losses up."""
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        finite = torch.isfinite(loss)
        self._finite = finite if self._finite is None else self._finite & finite
        return torch.where(finite, loss, torch.zeros_like(loss))

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        wrong = self._not_finite(norm)
        if wrong == ["gradient"] and self._scale_falls:
            self._skips.total += 1
            self.skipping = True
        else:
            self.skipping = self._skips.record(wrong)
        if self.skipping:
            self.optimizer.zero_grad(set_to_none=True)
        return norm

    @property
    def _scale_falls(self) -> bool:
        """Whether the gradient overflowed in float16 and the scaler lowers its scale; then nothing diverged."""
        scaler = self.accelerator.scaler
        return scaler is not None and scaler.get_scale() > 1.0

    def _not_finite(self, norm: Any) -> list[str]:
        """What was not finite in this step, in any process."""
        whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
        norms = torch.as_tensor(0.0 if whole is None else whole, device=self.args.device)
        sound = torch.isfinite(norms) if self._finite is None else self._finite
        self._finite = None
        wrong = torch.stack([~sound, ~torch.isfinite(norms)]).float()
        found = self.accelerator.reduce(wrong, reduction="sum").tolist()
        return [name for name, count in zip(("loss", "gradient"), found, strict=True) if count > 0]

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Log None for the loss of a skipped step, and how many steps were skipped so far."""
        step = "loss" in logs
        if step:
            logs |= {
                "loss": None if self.skipping else logs["loss"],
                "grad_norm": _number(logs.get("grad_norm")),
                "skipped_steps": self._skips.total,
            }
            if self.critic_optimizer is not None:
                logs["skipped_critic_steps"] = self.critic_optimizer.skips.total
        super().log(logs, start_time)
        if step:
            self._stop_if_diverged()

    def _stop_if_diverged(self) -> None:
        step, most = self.state.global_step, self.max_skipped_steps
        failure = self._skips.failure(most, step)
        if failure is None and self.critic_optimizer is not None:
            failure = self.critic_optimizer.skips.failure(most, step, of_critic=True)
        if failure is not None:
            raise failure


def _number(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def not_finite(trainer: Any) -> list[str]:
    """Which of the trained weights and Adam's moments are not finite in any process; all processes call this."""
    optimizer = getattr(trainer, "critic_optimizer", None)
    parts: dict[str, Iterable[Tensor]] = {
        WEIGHTS: (p for p in trainer.model.parameters() if p.requires_grad),
        MOMENTS: _moments(trainer.optimizer),
    }
    if optimizer is not None:
        parts[f"the critic's {WEIGHTS}"] = (*optimizer.critic.parameters(), *optimizer.critic.buffers())
        parts[f"the critic's {MOMENTS}"] = _moments(optimizer.inner)
    device = trainer.args.device
    wrong = torch.zeros(len(parts), device=device)
    for number, tensors in enumerate(parts.values()):
        for t in tensors:
            wrong[number] += _has_bad(t).to(device)
    found = reduce(wrong, reduction="sum").tolist()
    return [name for name, count in zip(parts, found, strict=True) if count > 0]


WEIGHTS, MOMENTS = "weights", "moments of Adam"


def _moments(optimizer: Any) -> Iterator[Tensor]:
    """The tensors of the optimizer's `state`; DeepSpeed keeps more elsewhere."""
    for kept in getattr(optimizer, "state", {}).values():
        if isinstance(kept, Mapping):
            yield from (value for value in kept.values() if isinstance(value, Tensor))


def _has_bad(tensor: Tensor) -> Tensor:
    """Whether it has NaN or an infinity: both show in its extremes, which need no memory of its size."""
    # Of a parameter that ZeRO-3 has partitioned, this process's part.
    local = getattr(tensor, "ds_tensor", tensor).detach()
    local = local.to_local() if isinstance(local, DTensor) else local
    # A shard may be empty.
    if local.numel() == 0 or not local.is_floating_point():
        return torch.zeros((), dtype=torch.bool)
    return ~torch.isfinite(torch.stack(local.aminmax())).all()


def check_finite(trainer: Any) -> None:
    """Raise Diverged where a checkpoint would not be finite; all processes call this."""
    found = not_finite(trainer)
    if found:
        who = found if found[0].startswith("the ") else [f"the {found[0]}", *found[1:]]
        raise Diverged(
            f"training diverged: {' and '.join(who)} are not finite numbers at step {trainer.state.global_step}, "
            "and are not saved",
            of_critic=found[0].startswith("the critic's"),
        )


@contextmanager
def explain_divergence(
    run: Run, learning_rate: float, critic_learning_rate: float, teaches: bool = False
) -> Iterator[None]:
    """Add to an error of divergence what to change, and how to resume from the last checkpoint.

    `teaches`: sft, which has no KL to raise.
    """
    try:
        yield
    except Diverged as error:
        change = (
            f"lower ppo.critic_learning_rate (it was {critic_learning_rate:g})"
            if error.of_critic
            else _slower(learning_rate, teaches)
        )
        raise RunFailed(error.message, f"{change} in a new run; {how_to_go_on(run)}") from error
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        message = "training diverged: the model's probabilities are not finite numbers any more"
        raise RunFailed(
            message, f"{_slower(learning_rate, teaches)} in a new run; {how_to_go_on(run)}"
        ) from error


def _slower(learning_rate: float, teaches: bool) -> str:
    return f"lower optim.learning_rate (it was {learning_rate:g}){'' if teaches else ' or raise ppo.kl_coef'}"


def how_to_go_on(run: Run) -> str:
    """Where the last checkpoint is, and the command that resumes from it."""
    steps = run.checkpoints()
    if not steps:
        return f"this one has no checkpoint, and `{resume_command(run.path)}` starts it over"
    last = run.checkpoint_path(steps[-1])
    return f"the last good checkpoint is {last}, and `{resume_command(run.path)}` resumes from it"
