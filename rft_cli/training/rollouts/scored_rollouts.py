"""Rollouts whose log-probabilities cost little: TRL's GRPOTrainer, its two seams for sampling and scoring overridden.

- `_generate_single_turn`: listened to, for the hidden states that completions were sampled from.
- `_get_per_token_logps_and_entropies`: only the completions' positions go through the language-model head.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from trl import GRPOTrainer

from rft_cli.training.rollouts.backbone import backbone_of
from rft_cli.training.rollouts.scoring import Scores, sampled_states, score, score_states
from rft_cli.training.rollouts.shared_prompts import prompts_sampled_once, splitting_is_exact


class ScoredRollouts(GRPOTrainer):
    """See the module's docstring."""

    model: Any  # transformers says that it may be None; here it never is

    _sampled: Tensor | None = None
    """Hidden states `(B, T, H)` that this rollout's tokens were sampled from."""
    _rolled: Scores | None = None
    """The policy's scores of this rollout."""

    @property
    def _sampling_is_scoring(self) -> bool:
        """Whether sampling token by token gives the log-probabilities that a pass over the whole text gives.

        It does in fp32, to rounding. Half precision rounds the two differently, and other engines differ more.
        """
        return (
            self.accelerator.mixed_precision == "no"
            and self.model.dtype == torch.float32
            and not self.use_vllm
            and not self.use_transformers_continuous_batching
        )

    @cached_property
    def _share(self) -> bool:
        """Whether a group's prompt runs once: tried on the model itself, because caches differ by architecture.

        Not where processes shard parameters: a layer's weights are gathered at each call, so all must call alike.
        """
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return False
        with self.accelerator.autocast():
            works = splitting_is_exact(self.model, self.accelerator.device)
        return bool(
            self._mean_over_processes(torch.tensor(float(works), device=self.accelerator.device)) == 1
        )

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        self._sampled = self._rolled = None
        shared = prompts_sampled_once(self.model) if self._share else nullcontext()
        with sampled_states(self.model) as taken, shared:
            generated = super()._generate_single_turn(*args, **kwargs)
        if self._sampling_is_scoring:
            self._sampled = torch.stack(taken, dim=1)
        return generated

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *_: Any,
        **__: Any,
    ) -> Any:
        """TRL's question for the policy's log-probabilities of a rollout, before any update."""
        self._rolled = self._score_rollout(input_ids, attention_mask, logits_to_keep)
        return self._rolled.logps, self._rolled.entropy, None

    def _take_scores(self, ids: Tensor, attention: Tensor, length: int) -> Scores:
        """The scores that TRL has asked for, or now made; they are of no use after that."""
        scores = self._rolled or self._score_rollout(ids, attention, length)
        self._sampled = self._rolled = None
        return scores

    def _score_rollout(self, ids: Tensor, attention: Tensor, length: int) -> Scores:
        """The policy's own scores: from the states it sampled from, where they are as good."""
        sampled = self._sampled
        if sampled is None or sampled.size(0) != ids.size(0) or sampled.size(1) < length:
            return self._score(self.model, backbone_of(self.model), ids, attention, length, self._share)
        return score_states(self.model, sampled[:, :length], ids, attention)

    def _score(
        self, model: nn.Module, backbone: nn.Module, ids: Tensor, attention: Tensor, length: int, share: bool
    ) -> Scores:
        chunk = self.args.per_device_train_batch_size
        return score(model, backbone, ids, attention, length, chunk, self.accelerator.autocast, share)

    # -- collectives -------------------------------------------------------------------------------------------------

    def _sum_over_processes(self, x: Tensor) -> Tensor:
        return self.accelerator.reduce(x, reduction="sum")

    def _mean_over_processes(self, x: Tensor) -> Tensor:
        return self.accelerator.reduce(x, reduction="mean")

    def _note(self, **values: Tensor | float) -> None:
        """Add to this step's metrics; TRL averages what one step collects."""
        for name, value in values.items():
            self._metrics["train"][name].append(float(value))
