"""A rollout batch between sampling and training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import pad

from rft_cli.training.rollouts.engines.engine import Sampled
from rft_cli.training.rollouts.rewards import Grading
from rft_cli.training.rollouts.sampling import left_padded


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids `(B, P+T)` of prompts, padded on the left, and completions, padded on the right; `length` is T."""

    ids: Tensor
    attention: Tensor
    length: int

    @property
    def completion_mask(self) -> Tensor:
        """1 where a token is a completion's, `(B, T)`."""
        return self.attention[:, -self.length :]


@dataclass(frozen=True, slots=True)
class Rollout:
    """This process's part of rollout batch `number`: sampled, its grading begun.

    `old_logps` `(B, T)` are the completions' log-probabilities under the weights that sampled them; None where TRL
    takes those of the first pass. `sampled`: what an engine gave, None where the trainer's own model sampled.
    """

    number: int
    rows: Sequence[int]
    prompts: Sequence[Sequence[int]]
    completions: Sequence[Sequence[int]]
    old_logps: Tensor | None
    grading: Grading
    sampled: Sampled | None = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs of it: rows and prompts follow from the number, and grades are made again."""
        return {
            "number": self.number,
            "completions": [list(ids) for ids in self.completions],
            "old_logps": self.old_logps,
            "sampled": None if self.sampled is None else (self.sampled.logps, self.sampled.version),
        }


def tokens_of(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> Tokens:
    """Prompts and completions as TRL pads them."""
    prompt_ids, prompt_mask = left_padded(prompts, pad_id, device)
    ids = [torch.tensor(list(c)) for c in completions]
    completion_ids = pad(ids, padding_value=pad_id).to(device)
    completion_mask = pad([torch.ones_like(i) for i in ids], padding_value=0).to(device)
    return Tokens(
        torch.cat([prompt_ids, completion_ids], dim=1),
        torch.cat([prompt_mask, completion_mask], dim=1),
        completion_ids.size(1),
    )
