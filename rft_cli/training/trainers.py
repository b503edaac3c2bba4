"""The trainers as the job runs them, one an algorithm.

From the bottom up: TRL's trainer; `BaseTrainer` and `RolloutTrainer` (sampling and scoring); PPO's or sft's own part;
`CheckpointedTrainer` (saving and resuming); `GuardedTrainer` (steps that are not finite).
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
from trl import GRPOTrainer, RLOOTrainer

from rft_cli.training.hooks.divergence import GuardedTrainer
from rft_cli.training.ppo.trainer import PPOTrainer
from rft_cli.training.rollouts.rollout_trainer import RolloutTrainer
from rft_cli.training.rollouts.scoring import Scores
from rft_cli.training.sft.trainer import ReferenceTrainer


class PPOJob(GuardedTrainer, PPOTrainer):
    """algorithm: ppo"""


class TimedRollouts(RolloutTrainer):
    """Measures a rollout batch of TRL's own algorithms, as PPO's trainer does."""

    _first_scores: Scores | None = None

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        started = perf_counter()
        self._first_scores = None
        batch = super()._generate_and_score_completions(inputs)
        if self.engine is not None:
            self._correct(batch)
        self._note(rollout_seconds=perf_counter() - started)
        return batch

    def _keep(self, scores: Scores) -> None:
        self._first_scores = self._first_scores or scores

    def _correct(self, batch: dict[str, Any]) -> None:
        """Weigh the advantages of completions that an engine sampled."""
        old, mask = batch.get("old_per_token_logps"), batch["completion_mask"]
        if old is None:
            ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
            attention = torch.cat([batch["prompt_mask"], mask], dim=1)
            with torch.no_grad():
                old = self._score(self.model, ids, attention, mask.size(1)).logps
            batch["old_per_token_logps"] = old
        advantages = batch["advantages"]
        batch["advantages"] = self._corrected(advantages.unsqueeze(1), old, mask)


class GRPOJob(GuardedTrainer, TimedRollouts, GRPOTrainer):
    """algorithm: grpo"""


class RLOOJob(GuardedTrainer, TimedRollouts, RLOOTrainer):
    """algorithm: rloo"""

    loss_is_mean_of_rows = True
    in_spreads = True
    """Whether the KL's weight is in spreads of the job's rewards; else in raw rewards."""

    def _correct(self, batch: dict[str, Any]) -> None:
        # The policy's are what TRL scores first; its ratio is a completion's.
        assert self._first_scores is not None
        old, mask = self._first_scores.logps, batch["completion_mask"]
        batch["advantages"] = self._corrected(batch["advantages"], old, mask, whole=True)

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
