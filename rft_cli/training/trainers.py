"""The trainers as the job runs them, one an algorithm.

From the bottom up: TRL's trainer; `BaseTrainer` and `RolloutTrainer` (sampling and scoring); PPO's or sft's own part;
`CheckpointedTrainer` (saving and resuming); `GuardedTrainer` (steps that are not finite).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from trl import GRPOTrainer, RLOOTrainer

from rft_cli.training.hooks.divergence import GuardedTrainer
from rft_cli.training.ppo.trainer import PPOTrainer
from rft_cli.training.rollouts.rollout_trainer import RolloutTrainer
from rft_cli.training.sft.trainer import ReferenceTrainer


class PPOJob(GuardedTrainer, PPOTrainer):
    """algorithm: ppo"""


class WeighedRollouts(RolloutTrainer):
    """Corrects the advantages of TRL's own algorithms where an engine sampled, as PPO's trainer does."""

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        batch = super()._generate_and_score_completions(inputs)
        if self.engine is not None:
            batch["advantages"] = self._weighed(batch)
        return batch

    def _weighed(self, batch: dict[str, Any]) -> Tensor:
        old, mask = batch["old_per_token_logps"], batch["completion_mask"]
        return self._corrected(batch["advantages"].unsqueeze(1), old, mask)


class GRPOJob(GuardedTrainer, WeighedRollouts, GRPOTrainer):
    """algorithm: grpo"""


class RLOOJob(GuardedTrainer, WeighedRollouts, RLOOTrainer):
    """algorithm: rloo"""

    loss_is_mean_of_rows = True
    in_spreads = True
    """Whether the KL's weight is in spreads of the job's rewards; else in raw rewards."""

    @property
    def _asks_for_old(self) -> bool:
        """TRL's RLOOTrainer always asks for them."""
        return True

    def _weighed(self, batch: dict[str, Any]) -> Tensor:
        # Its ratio is a completion's.
        old, mask = batch["old_per_token_logps"], batch["completion_mask"]
        return self._corrected(batch["advantages"], old, mask, whole=True)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        # TRL's RLOOTrainer asks for the completions alone.
        return super()._generate_single_turn(*args, **kwargs)[0]

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        # The spread of the batches so far: in the first one there is no KL yet.
        if self.in_spreads:
            self.beta = self.args.beta * self.spread.value
        batch = super()._generate_and_score_completions(inputs)
        given = self._rewards(self.reward_funcs[0])
        self._observe(given, ~given.isnan())
        return batch


class SFTJob(GuardedTrainer, ReferenceTrainer):
    """algorithm: sft"""
