"""Training that comes apart: a step whose loss or gradient is no finite number is skipped, and too many end the job.

A skipped step leaves weights and Adam's moments as they were, so what a checkpoint holds is finite. transformers alone
would log such a loss as 0, step, and save the weights that come of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite
from typing import Any

import torch
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import Trainer

from rft_cli.errors import RunFailed
from rft_cli.runs import Run


class Diverged(RunFailed):
    """Numbers that are not finite, the critic's or the policy's, end the job; `told` adds what to do."""

    def __init__(self, message: str, of_critic: bool = False) -> None:
        super().__init__(message)
        self.of_critic = of_critic


@dataclass(slots=True)
class Skips:
    """Steps that were skipped: in the whole job, and since the last one that was not; `what` was not finite."""

    total: int = 0
    in_a_row: int = 0
    what: str = ""

    def record(self, wrong: Sequence[str]) -> bool:
        """Take in one step: `wrong` names what was not finite in it. Whether the step is to be skipped."""
        self.what = " and ".join(wrong)
        self.total += bool(wrong)
        self.in_a_row = self.in_a_row + 1 if wrong else 0
        return bool(wrong)

    def failure(self, most: int, step: int, of_critic: bool = False) -> Diverged | None:
        """What ends the job, at `step`, once `most` steps in a row were skipped; None before."""
        if self.in_a_row < most:
            return None
        who = "the critic's" if of_critic else "the"
        were = "were" if " and " in self.what else "was"
        times = "a step" if self.in_a_row == 1 else f"{self.in_a_row} steps in a row"
        return Diverged(
            f"training diverged: {who} {self.what} {were} not finite in {times}, the last at step {step}",
            of_critic,
        )


class Guarded(Trainer):
    """Skips steps of the policy that are not finite, on all processes alike; goes first among a trainer's bases.

    Where DeepSpeed runs the backward pass it steps inside of it, and nothing is skipped; the job still ends.
    """

    max_skipped_steps = 3
    """Steps in a row after which the job ends."""
    critic_optimizer: Any
    critic: Any = None
    skipping = False
    _sound: Tensor | None = None  # whether every loss of the step was finite, in this process

    @cached_property
    def _skips(self) -> Skips:
        return Skips()

    def rollout_state(self) -> dict[str, Any]:
        """The counters go where this process's other counters go."""
        state: dict[str, Any] = super().rollout_state()
        return state | {"guard": self.guard_state()}

    def load_rollout_state(self, state: dict[str, Any]) -> None:
        super().load_rollout_state(state)
        self.load_guard_state(state["guard"])

    def guard_state(self) -> dict[str, Any]:
        """The counters that a checkpoint must hold, as plain values."""
        critic = None if self.critic is None else asdict(self.critic_optimizer.skips)
        return {"policy": asdict(self._skips), "critic": critic}

    def load_guard_state(self, state: dict[str, Any]) -> None:
        """Go on counting where `guard_state` was taken."""
        self.__dict__["_skips"] = Skips(**state["policy"])
        if state["critic"] is not None:
            self.critic_optimizer.skips = Skips(**state["critic"])

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """A loss that is not finite is remembered and not added up: it would stay in transformers' sum for ever."""
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        finite = torch.isfinite(loss)
        self._sound = finite if self._sound is None else self._sound & finite
        return torch.where(finite, loss, torch.zeros_like(loss))

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        self.skipping = self._skips.record(self._not_finite(norm))
        if self.skipping:
            self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _not_finite(self, norm: Any) -> list[str]:
        """What was not finite in this step, in any process."""
        whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
        norms = torch.as_tensor(0.0 if whole is None else whole, device=self.args.device)
        sound = torch.isfinite(norms) if self._sound is None else self._sound
        self._sound = None
        wrong = torch.stack([~sound, ~torch.isfinite(norms)]).float()
        found = self.accelerator.reduce(wrong, reduction="sum").tolist()
        return [name for name, count in zip(("loss", "gradient"), found, strict=True) if count > 0]

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """A skipped step's loss is no number: None, never 0. Every line says how many were skipped so far."""
        step = "loss" in logs
        if step:
            logs |= {
                "loss": None if self.skipping else logs["loss"],
                "grad_norm": _number(logs.get("grad_norm")),
                "skipped_steps": self._skips.total,
            }
            if self.critic is not None:
                logs["skipped_critic_steps"] = self.critic_optimizer.skips.total
        super().log(logs, start_time)
        if step:
            self._stop_if_diverged()

    def _stop_if_diverged(self) -> None:
        failure = self._skips.failure(self.max_skipped_steps, self.state.global_step)
        if failure is None and self.critic is not None:
            skips = self.critic_optimizer.skips
            failure = skips.failure(self.max_skipped_steps, self.state.global_step, of_critic=True)
        if failure is not None:
            raise failure


def _number(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def all_finite(model: nn.Module, critic: nn.Module | None) -> bool:
    """Whether every trained parameter, and the critic's scale, is finite in all processes; all must ask."""
    tensors: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    if critic is not None:
        tensors += [*critic.trained_parameters(), *critic.buffers()]  # type: ignore[operator]
    local = [t.to_local() if isinstance(t, DTensor) else t for t in tensors]
    device = local[0].device if local else torch.device("cpu")
    wrong = torch.zeros((), device=device)
    for t in local:
        wrong += (~torch.isfinite(t.detach())).any().to(device)
    return float(reduce(wrong, reduction="sum")) == 0


def check_finite(trainer: Any) -> None:
    """Raise Diverged rather than save weights that are not finite; all processes must call it."""
    if not all_finite(trainer.model, getattr(trainer, "critic", None)):
        raise Diverged(
            f"training diverged: the weights are not finite numbers at step {trainer.state.global_step}, "
            "and are not saved"
        )


@contextmanager
def told(run: Run, learning_rate: float, critic_learning_rate: float) -> Iterator[None]:
    """What ends training inside gets words on what to change and on how to go on from the last checkpoint."""
    try:
        yield
    except Diverged as error:
        change = (
            f"lower ppo.critic_learning_rate (it was {critic_learning_rate:g})"
            if error.of_critic
            else _slower(learning_rate)
        )
        raise RunFailed(error.message, f"{change} in a new run; {how_to_go_on(run)}") from error
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        message = "training diverged: the model's probabilities are not finite numbers any more"
        raise RunFailed(message, f"{_slower(learning_rate)} in a new run; {how_to_go_on(run)}") from error


def _slower(learning_rate: float) -> str:
    return f"lower optim.learning_rate (it was {learning_rate:g}) or raise ppo.kl_coef"


def how_to_go_on(run: Run) -> str:
    """Where the last checkpoint is, and the command that goes on from it."""
    steps = run.checkpoints()
    if not steps:
        return "there is no checkpoint of this one"
    last = run.checkpoint_path(steps[-1])
    return f"the last good checkpoint is {last}, and `rft train --resume {run.path}` goes on from it"
