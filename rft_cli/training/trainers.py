"""The trainers as the job runs them, one an algorithm.

From the bottom up: TRL's trainer; `BaseTrainer` and `RolloutTrainer` (sampling and scoring); PPO's or sft's own part;
`CheckpointedTrainer` (saving and resuming); `GuardedTrainer` (steps that are not finite).
"""

from __future__ import annotations

from typing import Any

from trl import GRPOTrainer, RLOOTrainer

from rft_cli.training.hooks.divergence import GuardedTrainer
from rft_cli.training.ppo.trainer import PPOTrainer
from rft_cli.training.rollouts.rollout_trainer import RolloutTrainer
from rft_cli.training.sft.trainer import ReferenceTrainer


class PPOJob(GuardedTrainer, PPOTrainer):
    """algorithm: ppo"""


class GRPOJob(GuardedTrainer, RolloutTrainer, GRPOTrainer):
    """algorithm: grpo"""


class RLOOJob(GuardedTrainer, RolloutTrainer, RLOOTrainer):
    """algorithm: rloo"""

    loss_is_mean_of_rows = True
    in_spreads = True
    """Whether the KL's weight is in spreads of the job's rewards; else in raw rewards."""

    @property
    def _asks_for_old(self) -> bool:
        """TRL's RLOOTrainer always asks for them."""
        return True

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
