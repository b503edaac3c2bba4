"""A model's greedy completions with their logits, and how far those of two models differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rft_cli.training.generation_config import blank_generation_config
from rft_cli.training.rollouts.sampling import SamplingSettings, cut, left_padded

BATCH = 32


@dataclass(frozen=True, slots=True)
class GreedyCompletions:
    """For each prompt the completion's ids, stop token included, and the logits that chose them: `(T, V)`, CPU."""

    completions: list[list[int]]
    logits: list[Tensor]

    @property
    def finite(self) -> bool:
        """Whether no logit is NaN; minus infinity is how a model rules a token out."""
        return not any(bool(rows.isnan().any()) for rows in self.logits)


@dataclass(frozen=True, slots=True)
class LogitDistance:
    """How far completions are from a reference: `absolute` is the largest difference of two logits, `relative` the same
    over the reference's largest logit, `equal` counts prompts with the same completion."""

    prompts: int
    equal: int
    absolute: float
    relative: float


@torch.no_grad()
def complete(model: Any, prompts: Sequence[Sequence[int]], settings: SamplingSettings) -> GreedyCompletions:
    """Complete every prompt with `settings` (greedy ones), the same batches whatever the model."""
    completions: list[list[int]] = []
    logits: list[Tensor] = []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        ids, attention = left_padded(batch, settings.pad, model.device)
        with blank_generation_config(model):
            output = model.generate(
                input_ids=ids,
                attention_mask=attention,
                generation_config=settings.to_generation_config(),
                return_dict_in_generate=True,
                output_logits=True,
            )
        steps = torch.stack([step.float().cpu() for step in output.logits], dim=1)  # (B, T, V)
        for row, sampled in enumerate(output.sequences[:, ids.size(1) :].tolist()):
            completion = cut(sampled, settings.stop)
            completions.append(completion)
            logits.append(steps[row, : len(completion)].clone())
    return GreedyCompletions(completions, logits)


def distance(reference: GreedyCompletions, other: GreedyCompletions) -> LogitDistance:
    """Compare position by position, up to and with the first token in which two completions differ.

    There both have read the same text, so the logits must agree even where a tie makes completions differ.
    """
    absolute = scale = 0.0
    equal = 0
    for ids, rows, other_ids, other_rows in zip(
        reference.completions, reference.logits, other.completions, other.logits, strict=True
    ):
        equal += ids == other_ids
        if rows.shape[-1] != other_rows.shape[-1]:
            return LogitDistance(len(reference.logits), 0, float("inf"), float("inf"))
        length = _common(ids, other_ids)
        mine, theirs = rows[:length], other_rows[:length]
        apart = torch.where(mine == theirs, 0.0, (mine - theirs).abs()).nan_to_num(nan=float("inf"))
        absolute = max(absolute, float(apart.max()))
        scale = max(scale, float(mine[mine.isfinite()].abs().max()))
    return LogitDistance(len(reference.logits), equal, absolute, absolute / max(scale, 1e-6))


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many positions have the same text before them in both."""
    for position, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return position + 1
    return min(len(first), len(second))
