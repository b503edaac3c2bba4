"""The parts of one PPO step timed alone: generate, forward, backward, on the trainer's own model at its own shapes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from benchmarks.rounds import now
from rft_cli.job import Job
from rft_cli.training.hf_args import Resolved
from rft_cli.training.rollouts.backbone import backbone_of
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.training.rollouts.sampling import left_padded
from rft_cli.training.rollouts.scoring import Scores, score


class Parts:
    """Times what one rollout batch cannot do without.

    generate: the completions. forward: scoring them without gradients, by the policy and by the reference. backward: a
    forward pass with gradients and its backward pass over the batch, as many times as there are passes. Optimizer
    steps, advantages, grading, logging and the critic are what PPO adds.
    """

    def __init__(
        self, trainer: Any, tokenizer: PreTrainedTokenizerBase, job: Job, resolved: Resolved
    ) -> None:
        self._trainer, self._passes, self._micro = trainer, job.config.ppo.passes, resolved.micro_batch_size
        prompts = PromptEncoder.of(tokenizer, job.config).encode(job.train.examples)[
            : resolved.prompts_per_batch
        ]
        repeated = [ids for ids in prompts for _ in range(job.config.rollout.group_size)]
        self._ids, self._mask = left_padded(repeated, int(tokenizer.pad_token_id))

    def time(self) -> dict[str, Any]:
        """Seconds of each part for one rollout batch."""
        trainer = self._trainer
        model, device = trainer.model, trainer.accelerator.device
        prompt_ids, prompt_mask = self._ids.to(device), self._mask.to(device)
        start = now()
        with torch.no_grad():
            ids = model.generate(
                input_ids=prompt_ids, attention_mask=prompt_mask, generation_config=trainer.generation_config
            )
        generated = now()
        length = ids.size(1) - prompt_ids.size(1)
        mask = torch.cat([prompt_mask, prompt_mask.new_ones(len(ids), length)], dim=1)
        with torch.no_grad():
            for scored in (model, trainer.reference or model):
                for rows in range(0, len(ids), self._micro):
                    part = slice(rows, rows + self._micro)
                    self._score(scored, ids[part], mask[part], length)
        forward = now()
        model.train()
        for _ in range(self._passes):
            for rows in range(0, len(ids), self._micro):
                part = slice(rows, rows + self._micro)
                self._score(model, ids[part], mask[part], length).logps.mean().backward()
        backward = now()
        model.zero_grad(set_to_none=True)
        return {"generate": generated - start, "forward": forward - generated, "backward": backward - forward}

    def _score(self, model: Any, ids: Tensor, mask: Tensor, length: int) -> Scores:
        trainer = self._trainer
        autocast, share = trainer.accelerator.autocast, trainer._share
        return score(model, backbone_of(model), ids, mask, length, len(ids), autocast, share)
