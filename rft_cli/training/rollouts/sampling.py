"""Sampling completions for evaluation: prompts in, token ids out. Seeded; one batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria

from rft_cli.training.generation import blank_generation_config

MOST_ENDED = 7 / 8
"""Share of a batch that must have ended before `patience` counts."""


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """`temperature` 0 is greedy; `stop` are the ids that end a completion; `pad` fills up prompts on the left.

    `patience`: once all but an eighth of a batch has ended, the others get this many times the longest length of those;
    None: they get `max_new_tokens`.
    """

    max_new_tokens: int
    temperature: float
    top_p: float
    stop: tuple[int, ...]
    pad: int
    patience: float | None = None

    def to_generation_config(self) -> GenerationConfig:
        sample = self.temperature > 0
        chosen: dict[str, Any] = (
            {"temperature": self.temperature, "top_p": self.top_p, "top_k": 0} if sample else {}
        )
        return GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=sample,
            eos_token_id=list(self.stop),
            pad_token_id=self.pad,
            repetition_penalty=1.0,
            disable_compile=True,
            **chosen,
        )


@torch.no_grad()
def sample(
    model: Any, prompts: Sequence[Sequence[int]], settings: SamplingSettings, seed: int, synced: bool = False
) -> list[list[int]]:
    """One completion (stop token included) for each prompt.

    The seed makes a batch repeatable whatever was sampled before it; the caller's random state is left as it was.
    `synced`: other processes shard this model, keep stepping until all are done.
    """
    width = max(len(p) for p in prompts)
    device = model.device
    ids = torch.tensor([[settings.pad] * (width - len(p)) + list(p) for p in prompts], device=device)
    attention = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), blank_generation_config(model):
        torch.manual_seed(seed)
        output = model.generate(
            input_ids=ids,
            attention_mask=attention,
            generation_config=settings.to_generation_config(),
            synced_gpus=synced,
            stopping_criteria=[]
            if settings.patience is None
            else [_Impatient(settings.stop, width, settings.patience)],
        )
    return [cut(row, settings.stop) for row in output[:, width:].tolist()]


class _Impatient(StoppingCriteria):
    """Ends a batch in which few are left that go on for long: see `SamplingSettings.patience`."""

    def __init__(self, stop: Sequence[int], width: int, patience: float) -> None:
        self._stop, self._width, self._patience = stop, width, patience

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **_: Any) -> torch.BoolTensor:
        sampled = input_ids[:, self._width :]
        ends = torch.isin(sampled, torch.tensor(self._stop, device=sampled.device))
        ended = ends.any(dim=1)
        lengths = ends.int().argmax(dim=1)[ended] + 1
        over = int(ended.sum()) >= MOST_ENDED * len(ended) and sampled.size(1) >= self._patience * int(
            lengths.max()
        )
        done: Any = torch.full((len(ended),), over, device=sampled.device)
        return done


def cut(ids: list[int], stop: Sequence[int]) -> list[int]:
    """Up to and including the first stop token."""
    for position, token in enumerate(ids):
        if token in stop:
            return ids[: position + 1]
    return ids
