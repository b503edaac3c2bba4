"""The three trainers as the job runs them: TRL's (or PPO on top of it) with our checkpoints and resume."""

from __future__ import annotations

from transformers import Trainer
from trl import GRPOTrainer, RLOOTrainer

from rft_cli.training.ppo_trainer import PPOTrainer
from rft_cli.training.resume import Resumable
from rft_cli.training.saving import SavesInto


class Counted(Trainer):
    """Says how long the job will be before it starts."""

    def total_steps(self) -> int:
        """Optimizer steps of the whole job."""
        batches = len(self.get_train_dataloader())
        return int(batches // self.args.gradient_accumulation_steps * self.args.num_train_epochs)


class PPOJob(Counted, Resumable, SavesInto, PPOTrainer):
    """algorithm: ppo"""


class GRPOJob(Counted, Resumable, SavesInto, GRPOTrainer):
    """algorithm: grpo"""


class RLOOJob(Counted, Resumable, SavesInto, RLOOTrainer):
    """algorithm: rloo"""
