"""The trainers as the job runs them: TRL's (or PPO on top of it) with our checkpoints, resume and guard."""

from __future__ import annotations

from typing import Any

from transformers import Trainer
from trl import GRPOTrainer, RLOOTrainer, SFTTrainer

from rft_cli.training.hooks.divergence import Guarded
from rft_cli.training.hooks.saving import SavesInto
from rft_cli.training.hooks.training_state import ResumableRollouts
from rft_cli.training.ppo.trainer import PPOTrainer
from rft_cli.training.rollouts.rollout_trainer import ScoredRollouts
from rft_cli.training.rollouts.smaller_passes import SmallerPasses
from rft_cli.training.sft.trainer import ReferenceTrainer


class Counted(Trainer):
    """Says how long the job will be before it starts, and how far it is."""

    def total_steps(self) -> int:
        """Optimizer steps of the whole job."""
        whole = int(self.steps_an_epoch() * self.args.num_train_epochs)
        return whole if self.args.max_steps < 0 else min(whole, self.args.max_steps)

    def steps_an_epoch(self) -> int:
        """Optimizer steps of one pass over the rows."""
        return len(self.get_train_dataloader()) // self.args.gradient_accumulation_steps

    def seen(self) -> str:
        """What was learned from so far, at the end of a rollout batch: completions that were sampled."""
        args: Any = self.args
        a_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        return f"{self.state.global_step * a_step // args.num_iterations:,} completions"


class PPOJob(Guarded, ResumableRollouts, Counted, SavesInto, SmallerPasses, PPOTrainer):
    """algorithm: ppo"""


class GRPOJob(Guarded, ResumableRollouts, Counted, SavesInto, SmallerPasses, ScoredRollouts, GRPOTrainer):
    """algorithm: grpo"""


class RLOOJob(Guarded, ResumableRollouts, Counted, SavesInto, SmallerPasses, ScoredRollouts, RLOOTrainer):
    """algorithm: rloo"""

    loss_is_mean_of_rows = True
    in_spreads = True
    """Whether the KL's weight is in spreads of the job's rewards; else in raw rewards."""

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        # TRL's RLOOTrainer asks for the completions alone.
        return super()._generate_single_turn(*args, **kwargs)[0]

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        trainer: Any = self
        # Of the batches so far: in the first one there is no KL yet.
        if self.in_spreads:
            trainer.beta = trainer.args.beta * self.spread.value
        batch = super()._generate_and_score_completions(inputs)
        given = self._rewards(trainer.reward_funcs[0])
        self._observe(given, ~given.isnan())
        return batch


class SFTJob(Guarded, ReferenceTrainer, Counted, SavesInto, SFTTrainer):
    """algorithm: sft"""
