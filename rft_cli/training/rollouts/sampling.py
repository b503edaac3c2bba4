"""Sampling completions: prompts in, token ids out; the same code in training, in the pilot and in validation.

Completions that have ended leave the batch every few tokens, so that one long completion does not make all others
compute on; a prompt that several rows share runs once (`shared_prompts.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from rft_cli.training.generation_config import blank_generation_config
from rft_cli.training.rollouts.shared_prompts import prompts_sampled_once, splitting_is_exact

SEGMENT = 16
"""Tokens sampled between two checks which completions have ended."""
MOST_ENDED = 7 / 8
"""Share of a batch that must have ended before `patience` counts."""


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """`temperature` 0 is greedy; `stop` are the ids that end a completion; `pad` pads prompts on the left.

    `patience`: once all but an eighth of a batch has ended, the others get this many times the longest length of those;
    None: they get `max_new_tokens`. It counts where rows that have ended leave the batch.
    """

    max_new_tokens: int
    temperature: float
    top_p: float
    stop: tuple[int, ...]
    pad: int
    patience: float | None = None

    def to_generation_config(self, max_new_tokens: int | None = None) -> GenerationConfig:
        sample = self.temperature > 0
        chosen: dict[str, Any] = (
            {"temperature": self.temperature, "top_p": self.top_p, "top_k": 0} if sample else {}
        )
        return GenerationConfig(
            max_new_tokens=max_new_tokens or self.max_new_tokens,
            do_sample=sample,
            eos_token_id=list(self.stop),
            pad_token_id=self.pad,
            repetition_penalty=1.0,
            disable_compile=True,
            return_dict_in_generate=True,
            **chosen,
        )


@torch.no_grad()
def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    seed: int | None,
    synced: bool = False,
    shrink: bool | None = None,
) -> list[list[int]]:
    """One completion (stop token included) for each prompt.

    Args:
        seed: makes a batch repeatable whatever was sampled before it, and leaves the caller's random state as it was;
            None uses the caller's.
        synced: other processes shard this model, keep stepping until all are done.
        shrink: whether rows that have ended leave the batch; None tries whether the model's cache can do it.
    """
    device = model.device
    ids, attention = left_padded(prompts, settings.pad, device)
    devices = [device] if device.type == "cuda" else []
    if shrink is None:
        shrink = not synced and splitting_is_exact(model, device)
    with (
        torch.random.fork_rng(devices=devices, enabled=seed is not None),
        blank_generation_config(model),
        prompts_sampled_once(model) if shrink else nullcontext(),
    ):
        if seed is not None:
            torch.manual_seed(seed)
        rows = _generate(model, ids, attention, settings, synced, shrink)
    return [cut(row, settings.stop) for row in rows.tolist()]


def left_padded(
    prompts: Sequence[Sequence[int]], pad: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask of the prompts, `(B, P)` each."""
    width = max(len(p) for p in prompts)
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=device)
    attention = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids, attention


def _generate(
    model: Any, ids: Tensor, attention: Tensor, settings: SamplingSettings, synced: bool, shrink: bool
) -> Tensor:
    """Completions `(B, T)`, T at most the limit; tokens after a stop token do not count."""
    limit, size = settings.max_new_tokens, ids.size(0)
    found = ids.new_full((size, limit), settings.pad)
    left = torch.arange(size, device=ids.device)
    stop = torch.tensor(settings.stop, device=ids.device)
    done, longest, cache = 0, 0, None
    while True:
        output = model.generate(
            input_ids=ids,
            attention_mask=attention,
            generation_config=settings.to_generation_config(min(SEGMENT, limit - done) if shrink else limit),
            synced_gpus=synced,
            **({} if cache is None else {"past_key_values": cache}),
        )
        new = output.sequences[:, ids.size(1) :]
        found[left, done : done + new.size(1)] = new
        ends = torch.isin(new, stop)
        running = ~ends.any(dim=1)
        if not bool(running.all()):
            longest = done + int(ends[~running].int().argmax(dim=1).max()) + 1
        done += new.size(1)
        if done >= limit or not bool(running.any()):
            return found[:, :done]
        ended = size - int(running.sum())
        if settings.patience and ended >= MOST_ENDED * size and done >= settings.patience * longest:
            return found[:, :done]
        cache = output.past_key_values
        if not bool(running.all()):
            cache.batch_select_indices(running.nonzero().squeeze(1))
        left, ids = left[running], output.sequences[running]
        attention = torch.cat([attention, torch.ones_like(new)], dim=1)[running]


def cut(ids: list[int], stop: Sequence[int]) -> list[int]:
    """Up to and including the first stop token."""
    for position, token in enumerate(ids):
        if token in stop:
            return ids[: position + 1]
    return ids
